//! SIP over a stream of bytes, plain or encrypted: framing by Content-Length (RFC 3261 §18.3).
//!
//! Two line breaks are answered with one (RFC 5626 §3.5.1), whatever else is unreadable goes to the service once, and then
//! the connection is closed: a stream that lost its framing can't be trusted again. An idle connection holds no buffer.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use proto::node::{Flow, SendError};
use proto::sip::{Frame, Framer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout, timeout_at};

use super::table::{Asked, Parcel};
use super::{FIRST_WORD, IDLE, PONG, STALL, Streams, WHOLE};

/// What is read at once.
const PIECE: usize = 8 * 1024;

impl Streams {
    /// Carries both directions until one of them ends. Gives the requests that may be unanswered, as far as it has asked
    /// the table for them.
    pub(super) async fn carry_bytes(
        &self,
        stream: impl AsyncRead + AsyncWrite,
        flow: Flow,
        waiting: Receiver<Parcel>,
    ) -> VecDeque<Asked> {
        let (read, write) = tokio::io::split(stream);
        let mut writing = pin!(self.write_bytes(write, flow, waiting));
        let reading = async {
            match self.takes_commands(&flow) {
                true => self.read_commands(read, flow).await,
                false => self.read_bytes(read, flow).await,
            }
        };
        tokio::select! {
            () = reading => {}
            () = &mut writing => return VecDeque::new(),
        }
        let asked = self.table().remove(flow.id);
        // The last answer still leaves; the writer ends when its queue does.
        let _ = timeout(STALL, writing).await;
        asked
    }

    async fn read_bytes(&self, mut stream: impl AsyncRead + Unpin, flow: Flow) {
        let mut framer = Framer::default();
        let mut due = Instant::now() + FIRST_WORD;
        loop {
            let mut begins = framer.is_empty();
            let reading = read_piece(&mut stream, |piece| framer.push(piece));
            let Ok(Ok(1..)) = timeout_at(due, reading).await else { return };
            while let Some(frame) = framer.poll() {
                begins = true;
                if !self.take(flow, frame) {
                    return;
                }
            }
            due = patience(framer.is_empty(), begins).map_or(due, |patience| Instant::now() + patience);
        }
    }

    /// Hands a frame on; `false`: it was the last one.
    fn take(&self, flow: Flow, frame: Frame) -> bool {
        match frame {
            Frame::Message(bytes) => self.deliver(flow, bytes),
            Frame::Packet(bytes) => {
                self.deliver_other(flow, bytes);
                return self.keys.takes_packets(flow.transport, flow.local);
            }
            Frame::Ping => {
                self.answer_ping(flow);
                // Two pongs with no message between them look like this.
                if self.is_a_phones {
                    self.deliver_other(flow, PONG);
                }
            }
            // A phone asked whether its flow is alive (RFC 5626 §4.4.1); a server never asks.
            Frame::Pong if self.is_a_phones => self.deliver_other(flow, PONG),
            Frame::Pong => {}
            Frame::Broken { bytes, .. } => {
                self.deliver_other(flow, bytes);
                return false;
            }
        }
        true
    }

    async fn write_bytes(
        &self,
        mut stream: impl AsyncWrite + Unpin,
        flow: Flow,
        mut waiting: Receiver<Parcel>,
    ) {
        while let Some(parcel) = waiting.recv().await {
            let error = match timeout(STALL, write_whole(&mut stream, &parcel.bytes)).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => SendError::Closed,
                Err(_) => SendError::TimedOut,
            };
            self.failed(parcel.from, flow, parcel.ticket, error);
            return self.give_up(waiting, flow, SendError::Closed).await;
        }
        // TLS says goodbye.
        let _ = timeout(STALL, stream.shutdown()).await;
    }
}

async fn write_whole(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Reads what is there into a framer, by a buffer that lives as long as the read; gives how much it was.
pub(super) async fn read_piece(
    stream: &mut (impl AsyncRead + Unpin),
    mut push: impl FnMut(&[u8]),
) -> io::Result<usize> {
    poll_fn(|context| {
        let mut room = [MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut piece))?;
        push(piece.filled());
        Poll::Ready(Ok(piece.filled().len()))
    })
    .await
}

/// How long a connection may take to say the next thing after a piece was read: `None`, as long as it had before.
pub(super) fn patience(nothing_waits: bool, a_message_begins: bool) -> Option<Duration> {
    match (nothing_waits, a_message_begins) {
        (true, _) => Some(IDLE),
        (false, true) => Some(WHOLE),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_has_begun_gets_no_more_time_however_often_a_byte_of_it_comes() {
        assert_eq!(patience(false, true), Some(WHOLE), "from its first byte on");
        assert_eq!(patience(false, false), None, "another byte of it");
        assert_eq!(patience(true, true), Some(IDLE), "its last");
    }
}
