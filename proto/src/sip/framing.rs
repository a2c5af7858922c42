//! Messages out of a byte stream (RFC 3261 §18.3, §7.5) and the keep-alives between them (RFC 5626 §3.5.1).
//!
//! A stream that has lost its framing cannot be brought back into step: what follows a message of unknown length may
//! be anything, also a message that a stranger put into a body. So a broken frame is the last one, and the
//! connection is to be closed after answering it.

use bytes::{Bytes, BytesMut};

use super::check::MAX_MESSAGE;
use super::index::scan;
use super::{Malformed, Name, lex};
use crate::peer::channel;
use crate::stun;

/// What a stream brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One whole message, for [`Message::parse`](super::Message::parse).
    Message(Bytes),
    /// A STUN message (RFC 8489 §6.2.2) or ChannelData (RFC 8656 §12.5): only an access server and its peers say such between
    /// messages; to anybody else the framing is lost.
    Packet(Bytes),
    /// Two line breaks: the other side asks whether we are there. Answer with one line break.
    Ping,
    /// One line break: the answer to a ping of ours. (A ping that comes in two pieces shows as this and then as
    /// [`Frame::Ping`].)
    Pong,
    /// No message can be found any more. Nothing comes after this.
    Broken {
        /// As much of it as there is, for [`Message::answerable`](super::Message::answerable).
        bytes: Bytes,
        /// Why, and the status to answer with.
        malformed: Malformed,
    },
}

/// Cuts one direction of a connection into frames: [`Framer::push`] what was read, then [`Framer::poll`] until
/// `None`. Holds at most one message and one push.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// Bytes already searched for the end of the head.
    searched: usize,
    /// Length of the message at the front, once its head is there.
    length: Option<usize>,
    /// The last frame was one line break.
    after_break: bool,
    broken: bool,
}

impl Framer {
    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.broken {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Whether nothing waits for the rest of it: no message has begun.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next frame, if a whole one is there.
    pub fn poll(&mut self) -> Option<Frame> {
        if let Some(frame) = self.line_break() {
            return Some(frame);
        }
        if let Some(length) = self.packet_length() {
            return (self.buffer.len() >= length).then(|| self.packet(length));
        }
        if self.may_be_packet() {
            return None;
        }
        match self.message_length() {
            Ok(length) => self.take(length?),
            Err(malformed) => Some(self.break_off(malformed)),
        }
    }

    /// A line break where a message could begin.
    fn line_break(&mut self) -> Option<Frame> {
        let length = match self.buffer.as_ref() {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            _ => return None,
        };
        let _ = self.buffer.split_to(length);
        self.after_break = !self.after_break;
        let two = !self.after_break;
        if !two && self.buffer.starts_with(b"\r\n") {
            return self.line_break();
        }
        Some(if two { Frame::Ping } else { Frame::Pong })
    }

    /// The length of what is no SIP at the front; both kinds begin with a byte that no message begins with.
    fn packet_length(&self) -> Option<usize> {
        if self.length.is_some() || self.broken {
            return None;
        }
        stun::length_in_stream(&self.buffer).or_else(|| channel::length_in_stream(&self.buffer))
    }

    /// The beginning of a packet too short to tell: in it line breaks end no head.
    fn may_be_packet(&self) -> bool {
        let begins = || stun::may_begin(&self.buffer) || channel::may_begin(&self.buffer);
        self.length.is_none() && !self.broken && begins()
    }

    fn packet(&mut self, length: usize) -> Frame {
        (self.searched, self.after_break) = (0, false);
        Frame::Packet(self.buffer.split_to(length).freeze())
    }

    /// The length of the message at the front; `None` while its head is not there.
    fn message_length(&mut self) -> Result<Option<usize>, Malformed> {
        if self.length.is_none() {
            self.length = match self.head_length() {
                Some(head) => {
                    Some(head + content_length(&self.buffer[..head], MAX_MESSAGE.saturating_sub(head))?)
                }
                None if self.buffer.len() > MAX_MESSAGE => {
                    return Err(Malformed { status: 513, why: "a head over 65535 bytes" });
                }
                None => None,
            };
        }
        Ok(self.length)
    }

    /// Where the head ends, its empty line included.
    fn head_length(&mut self) -> Option<usize> {
        let found = memchr::memchr_iter(b'\n', &self.buffer[self.searched..])
            .map(|lf| self.searched + lf + 1)
            .find_map(|at| match &self.buffer[at..] {
                [b'\n', ..] => Some(at + 1),
                [b'\r', b'\n', ..] => Some(at + 2),
                _ => None,
            });
        // The empty line may come in pieces of up to three bytes.
        self.searched = self.buffer.len().saturating_sub(3);
        found
    }

    fn take(&mut self, length: usize) -> Option<Frame> {
        if self.buffer.len() < length {
            return None;
        }
        (self.searched, self.length, self.after_break) = (0, None, false);
        Some(Frame::Message(self.buffer.split_to(length).freeze()))
    }

    fn break_off(&mut self, malformed: Malformed) -> Frame {
        (self.broken, self.searched) = (true, 0);
        Frame::Broken { bytes: std::mem::take(&mut self.buffer).freeze(), malformed }
    }
}

/// The one Content-Length of a head. In a stream it is mandatory (RFC 3261 §20.14).
fn content_length(head: &[u8], at_most: usize) -> Result<usize, Malformed> {
    let (index, _) = scan(head);
    let mut lengths = index.lines().iter().filter(|line| line.name == Name::ContentLength);
    let line = lengths.next().ok_or(Malformed::bad("no Content-Length in a stream"))?;
    if lengths.next().is_some() {
        return Err(Malformed::bad("more than one Content-Length"));
    }
    let value = &head[line.value as usize..line.value_end as usize];
    let length = std::str::from_utf8(value).ok().and_then(lex::decimal::<usize>);
    match length.ok_or(Malformed::bad("Content-Length is not a number"))? {
        length if length > at_most => Err(Malformed { status: 413, why: "a message over 65535 bytes" }),
        length => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_BODY: &str = "INFO sip:a SIP/2.0\r\nContent-Length: 4\r\n\r\nab\r\n";
    const EMPTY: &str = "SIP/2.0 200 OK\r\nl:0\r\n\r\n";

    fn frames(framer: &mut Framer) -> Vec<Frame> {
        std::iter::from_fn(|| framer.poll()).collect()
    }

    fn message(text: &'static str) -> Frame {
        Frame::Message(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn messages_come_out_however_the_stream_is_cut() {
        let stream = [WITH_BODY, EMPTY, WITH_BODY].concat();
        for piece in 1..stream.len() {
            let mut framer = Framer::default();
            let mut seen = Vec::new();
            for bytes in stream.as_bytes().chunks(piece) {
                framer.push(bytes);
                seen.extend(frames(&mut framer));
            }
            assert_eq!(seen, [message(WITH_BODY), message(EMPTY), message(WITH_BODY)], "pieces of {piece}");
        }
    }

    #[test]
    fn packets_between_messages_come_out_however_the_stream_is_cut() {
        let question = stun::Writer::request([7; 12]).finish();
        let said = channel::wrap(channel::FIRST, b"hello");
        // Channel and length are line feeds, as at the end of a head.
        let feeds = channel::wrap(0x400a, &[b'\n'; 0x0a0a]);
        let stream = [EMPTY.as_bytes(), &question, &said, &feeds, WITH_BODY.as_bytes(), &question].concat();
        for piece in 1..stream.len() {
            let mut framer = Framer::default();
            let mut seen = Vec::new();
            for bytes in stream.chunks(piece) {
                framer.push(bytes);
                seen.extend(frames(&mut framer));
            }
            let packet = |bytes: &[u8]| Frame::Packet(Bytes::copy_from_slice(bytes));
            let all = [
                message(EMPTY),
                packet(&question),
                packet(&said),
                packet(&feeds),
                message(WITH_BODY),
                packet(&question),
            ];
            assert_eq!(seen, all, "pieces of {piece}");
        }
    }

    #[test]
    fn two_line_breaks_are_a_ping_and_one_is_a_pong() {
        let mut framer = Framer::default();
        framer.push(b"\r\n\r\n");
        assert_eq!(frames(&mut framer), [Frame::Ping]);
        framer.push(b"\r\n");
        assert_eq!(frames(&mut framer), [Frame::Pong]);
        framer.push(EMPTY.as_bytes());
        framer.push(b"\r\n\r\n");
        assert_eq!(frames(&mut framer), [message(EMPTY), Frame::Ping]);
    }

    #[test]
    fn a_ping_in_two_pieces_is_still_a_ping() {
        let mut framer = Framer::default();
        framer.push(b"\r");
        assert_eq!(frames(&mut framer), []);
        framer.push(b"\n\r");
        assert_eq!(frames(&mut framer), [Frame::Pong]);
        framer.push(b"\n");
        assert_eq!(frames(&mut framer), [Frame::Ping]);
    }

    #[test]
    fn without_a_length_the_stream_is_broken_for_good() {
        for (head, status) in [
            ("INFO sip:a SIP/2.0\r\n\r\n", 400),
            ("INFO sip:a SIP/2.0\r\nl: 1\r\nl: 1\r\n\r\n", 400),
            ("INFO sip:a SIP/2.0\r\nl: -1\r\n\r\n", 400),
            ("INFO sip:a SIP/2.0\r\nl: 65536\r\n\r\n", 413),
        ] {
            let mut framer = Framer::default();
            framer.push(head.as_bytes());
            let seen = frames(&mut framer);
            assert!(
                matches!(&seen[..], [Frame::Broken { malformed, .. }] if malformed.status == status),
                "{head}: {seen:?}"
            );
            framer.push(EMPTY.as_bytes());
            assert_eq!(frames(&mut framer), []);
        }
    }

    #[test]
    fn a_head_without_end_is_broken_off_at_the_limit() {
        let mut framer = Framer::default();
        framer.push(&vec![b'x'; MAX_MESSAGE]);
        assert_eq!(frames(&mut framer), []);
        framer.push(b"x");
        assert!(
            matches!(&frames(&mut framer)[..], [Frame::Broken { malformed, .. }] if malformed.status == 513)
        );
    }
}
