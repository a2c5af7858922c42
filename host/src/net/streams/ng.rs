//! The relay's control protocol on connections: commands framed as `relay::ng::stream` says over TCP, one in each message
//! over WebSocket. Only who may command is let in at all, and only so many; the relay ends a connection that says anything
//! else. Clients keep connections for later, so that these may be silent from the beginning.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use proto::node::{Flow, Input, Ticket};
use relay::ng::command;
use relay::ng::stream::{Frame, Framer};
use tokio::io::AsyncRead;
use tokio::time::{Instant, sleep, timeout_at};

use super::bytes::{patience, read_piece};
use super::{IDLE, STALL, Streams};

/// Connections at one listener.
const MOST: usize = 256;

impl Streams {
    /// Whether what comes in there are ng commands.
    pub(super) fn takes_commands(&self, flow: &Flow) -> bool {
        self.keys.commanders(flow.transport, flow.local).is_some()
    }

    /// Whether who connects there may command, and there is room.
    pub(super) fn lets_command(&self, path: &Flow) -> bool {
        let ip = path.remote.ip().to_canonical();
        let allow = self.keys.commanders(path.transport, path.local).unwrap_or_default();
        let refused = if !allow.iter().any(|range| range.contains(ip)) {
            "it is not in `relay.ng.allow`"
        } else if self.table().count_at(path.transport, path.local) >= MOST {
            "there are 256 connections already"
        } else {
            return true;
        };
        tracing::warn!(remote = %path.remote, transport = %path.transport, refused, "an ng client was not let in");
        false
    }

    pub(super) async fn read_commands(&self, mut stream: impl AsyncRead + Unpin, flow: Flow) {
        let mut framer = Framer::default();
        let mut due = Instant::now() + IDLE;
        loop {
            let mut begins = framer.is_empty();
            let reading = read_piece(&mut stream, |piece| framer.push(piece));
            let Ok(Ok(1..)) = timeout_at(due, reading).await else { return };
            while let Some(frame) = framer.poll() {
                begins = true;
                match frame {
                    Frame::Command(bytes) => self.deliver_command(flow, bytes),
                    Frame::Broken(bytes) => {
                        self.deliver_command(flow, bytes);
                        // What the relay says of it still leaves; then it closes the connection.
                        return sleep(STALL).await;
                    }
                }
            }
            due = patience(framer.is_empty(), begins).map_or(due, |patience| Instant::now() + patience);
        }
    }

    /// Hands a command to the lane of its call. One that is overrun says so: nobody repeats itself on a connection.
    pub(super) fn deliver_command(&self, flow: Flow, bytes: Bytes) {
        let Some(seats) = self.post.seats(flow.transport, flow.local) else { return };
        let to = self.post.owner_of_other(seats, &bytes);
        if self.post.post(to, Input::Other { flow, bytes: bytes.clone() }).is_err()
            && let Some(refusal) = command::refusal(&bytes, "This relay has too much to do")
        {
            self.send(to, flow, refusal.into(), Ticket(0));
        }
    }
}

/// A command that came without a cookie gets one that no other has: it is no repetition.
pub(super) fn with_cookie(command: &[u8]) -> Bytes {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let cookie = format!("plain-{} ", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut bytes = BytesMut::with_capacity(cookie.len() + command.len());
    bytes.put(cookie.as_bytes());
    bytes.put(command);
    bytes.freeze()
}

pub(super) fn without_cookie(answer: &Bytes) -> Bytes {
    let space = answer.iter().position(|byte| *byte == b' ');
    answer.slice(space.map_or(0, |space| space + 1)..)
}
