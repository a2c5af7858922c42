//! Commands on a stream of bytes, as rtpengine's TCP listener takes them: cookie, space, one dictionary, and the next one
//! right behind it. There is no length in front: the dictionary itself says where it ends.
//!
//! ```text
//! 5_1 d7:command4:pinge5_2 {"command":"ping"}\n
//! ```
//!
//! Every byte is looked at once, however small the pieces it comes in, and bencoded strings are leapt over. Line breaks
//! between commands are left out. What is no command is given out once ([`Frame::Broken`]), and nothing after it.

use bytes::{Bytes, BytesMut};

use super::command::{COOKIE, LARGEST};
use super::value::DEPTH;

/// What a stream was cut into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A cookie and a dictionary, as long as its brackets say; what is in it may still be unreadable.
    Command(Bytes),
    /// The framing is lost: everything that came since the last command.
    Broken(Bytes),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Framer {
    held: BytesMut,
    /// How much of it has been looked at.
    seen: usize,
    at: At,
    depth: usize,
    is_broken: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default)]
enum At {
    #[default]
    Cookie,
    /// `d` or `{`.
    Body,
    /// Bencoding: the first byte of a value, or the end of one.
    Value,
    Integer,
    /// The digits of a string's length, and what they have come to.
    Length(usize),
    /// JSON: outside of strings …
    Json,
    /// … inside …
    Quoted,
    /// … and behind a backslash.
    Escaped,
}

/// What a byte did.
enum Step {
    More,
    Leap(usize),
    Done,
    Wrong,
}

impl Framer {
    /// More has come.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.is_broken {
            self.held.extend_from_slice(bytes);
        }
    }

    /// Whether no command has begun.
    pub fn is_empty(&self) -> bool {
        self.held.iter().all(u8::is_ascii_whitespace)
    }

    /// The next command that is whole.
    pub fn poll(&mut self) -> Option<Frame> {
        while let Some(&byte) = self.held.get(self.seen) {
            if self.seen == 0 && byte.is_ascii_whitespace() {
                let _ = self.held.split_to(1);
                continue;
            }
            self.seen += 1;
            match self.step(byte) {
                Step::Wrong => return Some(self.broken()),
                // What is leapt over may not have come yet.
                Step::Leap(length) => self.seen += length,
                Step::Done if self.seen <= LARGEST => return Some(Frame::Command(self.cut())),
                Step::Done | Step::More => {}
            }
            if self.seen > LARGEST {
                return Some(self.broken());
            }
        }
        None
    }

    fn step(&mut self, byte: u8) -> Step {
        match (self.at, byte) {
            (At::Cookie, b' ') => self.go(At::Body),
            (At::Cookie, _) if self.seen > COOKIE => Step::Wrong,
            (At::Body, b'd') => self.deeper(At::Value),
            (At::Body, b'{') => self.deeper(At::Json),
            (At::Body, _) => Step::Wrong,
            (At::Value, b'd' | b'l') => self.deeper(At::Value),
            (At::Value | At::Json, b'e' | b'}' | b']') if self.closes(byte) => {
                self.depth -= 1;
                if self.depth == 0 { Step::Done } else { Step::More }
            }
            (At::Value, b'i') => self.go(At::Integer),
            (At::Value, b'0'..=b'9') => self.go(At::Length(usize::from(byte - b'0'))),
            (At::Value, _) => Step::Wrong,
            (At::Integer, b'e') => self.go(At::Value),
            (At::Integer, b'-' | b'0'..=b'9') => Step::More,
            (At::Integer, _) => Step::Wrong,
            (At::Length(length), b'0'..=b'9') if length < LARGEST => {
                self.go(At::Length(length * 10 + usize::from(byte - b'0')))
            }
            (At::Length(length), b':') => {
                self.at = At::Value;
                Step::Leap(length)
            }
            (At::Length(_), _) => Step::Wrong,
            (At::Json, b'{' | b'[') => self.deeper(At::Json),
            (At::Json, b'"') | (At::Escaped, _) => self.go(At::Quoted),
            (At::Quoted, b'\\') => self.go(At::Escaped),
            (At::Quoted, b'"') => self.go(At::Json),
            (At::Cookie | At::Json | At::Quoted, _) => Step::More,
        }
    }

    fn go(&mut self, at: At) -> Step {
        self.at = at;
        Step::More
    }

    fn deeper(&mut self, at: At) -> Step {
        self.depth += 1;
        if self.depth > DEPTH { Step::Wrong } else { self.go(at) }
    }

    /// Whether this byte is an end in the encoding that is being read.
    fn closes(&self, byte: u8) -> bool {
        matches!(self.at, At::Value) == (byte == b'e')
    }

    fn cut(&mut self) -> Bytes {
        let command = self.held.split_to(self.seen).freeze();
        (self.seen, self.at, self.depth) = (0, At::Cookie, 0);
        command
    }

    fn broken(&mut self) -> Frame {
        self.is_broken = true;
        self.seen = 0;
        Frame::Broken(std::mem::take(&mut self.held).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ng::command::{Encoding, Envelope, seal};
    use crate::ng::value::{Dict, Value};
    use proptest::prelude::*;

    /// All that comes of these pieces.
    fn cut(pieces: &[&[u8]]) -> Vec<Frame> {
        let mut framer = Framer::default();
        let mut frames = Vec::new();
        for piece in pieces {
            framer.push(piece);
            frames.extend(std::iter::from_fn(|| framer.poll()));
        }
        frames
    }

    fn command(bytes: &[u8]) -> Frame {
        Frame::Command(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn commands_follow_one_another_in_either_encoding_and_line_breaks_between_them_are_nothing() {
        let stream = b"5_1 d7:command4:pinge5_2 {\"a\":\"}\\\"{\",\"b\":[{}]}\r\n\n5_3 d1:ai-3e1:bl0:dee";
        let whole: [&[u8]; 3] =
            [b"5_1 d7:command4:pinge", b"5_2 {\"a\":\"}\\\"{\",\"b\":[{}]}", b"5_3 d1:ai-3e1:bl0:deee"];
        assert_eq!(cut(&[stream]), whole[..2].iter().copied().map(command).collect::<Vec<_>>());
        assert_eq!(cut(&[stream, b"e\n"]), whole.map(command), "the last one waited for its end");
    }

    #[test]
    fn what_is_no_command_is_given_out_once_and_nothing_after_it() {
        let broken: [&[u8]; 7] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"c x",
            b"c dx",
            b"c d1:ai1x",
            b"c d99999999999:",
            b"c d1:a70000:",
            b"c dlllllllllllll",
        ];
        for bytes in broken {
            let found = cut(&[b"1 de", bytes, b"2 de"]);
            assert_eq!(found[0], command(b"1 de"));
            assert!(matches!(found[1..], [Frame::Broken(_)]), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(matches!(cut(&[&[b'c'; COOKIE + 1]])[..], [Frame::Broken(_)]), "a cookie without end");
        assert_eq!(cut(&[&[b'c'; COOKIE]]), []);
    }

    #[test]
    fn a_command_may_be_as_large_as_a_datagram_and_no_larger() {
        let sized = |size: usize| {
            let head = format!("c d1:a{}:", size - 13);
            [head.as_bytes(), &vec![b'x'; size - head.len() - 1], b"e"].concat()
        };
        let largest = sized(LARGEST);
        assert_eq!(largest.len(), LARGEST);
        let is_whole = |bytes: &[u8]| Envelope::read(bytes).unwrap().body.is_some();
        assert!(matches!(&cut(&[&largest])[..], [Frame::Command(bytes)] if is_whole(bytes)));
        assert!(matches!(&cut(&[&sized(LARGEST + 1)])[..], [Frame::Broken(_)]));
    }

    fn text() -> impl Strategy<Value = Value<'static>> {
        "[ -~\\r\\n]{0,30}".prop_map(Value::text)
    }

    fn value() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![text(), any::<i64>().prop_map(Value::Int)].prop_recursive(3, 20, 4, |inner| {
            let entry =
                ("[a-z]{1,9}", inner.clone()).prop_map(|(key, value)| (key.into_bytes().into(), value));
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::List),
                proptest::collection::vec(entry, 0..4).prop_map(|entries| Value::Dict(Dict(entries))),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_commands(
            values in proptest::collection::vec((value(), any::<bool>(), any::<bool>()), 1..6),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut stream = Vec::new();
            let mut sealed = Vec::new();
            for (number, (value, json, line)) in values.into_iter().enumerate() {
                let encoding = if json { Encoding::Json } else { Encoding::Bencode };
                let bytes = seal(format!("9_{number}").as_bytes(), encoding, Dict::default().with("v", value));
                stream.extend(&bytes);
                stream.extend(line.then_some(b'\n'));
                sealed.push(command(&bytes));
            }
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect();
            prop_assert_eq!(cut(&pieces), sealed);
        }

        #[test]
        fn whatever_comes_never_panics_and_comes_out_the_same_byte_by_byte(
            bytes in proptest::collection::vec(prop_oneof![
                Just(b'd'), Just(b'l'), Just(b'e'), Just(b'i'), Just(b':'), Just(b' '), Just(b'{'), Just(b'}'),
                Just(b'"'), Just(b'\\'), b'0'..=b'9', any::<u8>(),
            ], 0..200),
        ) {
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let commands = |frames: Vec<Frame>| -> Vec<Frame> {
                frames.into_iter().filter(|frame| matches!(frame, Frame::Command(_))).collect()
            };
            prop_assert_eq!(commands(cut(&[&bytes])), commands(cut(&single)));
        }
    }
}
