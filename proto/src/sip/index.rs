//! Where things are in a message: one pass over the head, which most heads need one allocation for.
//!
//! The scan never fails. It makes an index of whatever is there and says what was wrong first, so that a broken
//! request can still be answered and an edited message always has an index.
//!
//! A line ends with CRLF or with LF alone: many parsers take a bare LF as a line end, so a header hidden behind one
//! must be seen by us as well. A bare CR ends no line for anybody we know of, and is a flaw.

use bytestring::ByteString;

use super::lex::{first_below, is_lws, is_token_word, near};
use super::reads::Reads;
use super::{Malformed, Name};

/// Header lines there is room for at first.
pub(super) const ROOM: usize = 16;
/// Header lines a received message may have.
const MAX_LINES: usize = 256;
/// Bytes one header line may have, folds included.
const MAX_LINE: usize = 16 * 1024;
/// Folds one header line may have.
const MAX_FOLDS: usize = 64;

/// One header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it begins.
    pub(super) at: u32,
    /// Where its value begins, white space skipped.
    pub(super) value: u32,
    /// Where its value ends, white space skipped.
    pub(super) value_end: u32,
    /// Length of the name as written.
    pub(super) name_len: u16,
    /// Which.
    pub(super) name: Name,
}

/// The start line (RFC 3261 §7.1, §7.2): where its middle element stands, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// 0 for requests.
    pub(super) status: u16,
    /// End of the first element: method or version.
    pub(super) first_end: u32,
    /// Second element: request URI or status code.
    pub(super) second: (u32, u32),
    /// End of the line's text.
    pub(super) end: u32,
}

/// The index of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) start: Start,
    pub(super) lines: Vec<Line>,
    /// Most that are asked for do not stand in it.
    pub(super) names: Names,
    /// Where the empty line begins: the end of the last header line.
    pub(super) head_end: u32,
    /// Where the body begins.
    pub(super) body: u32,
    /// The head as text; empty when it is not UTF-8. Set when a [`Message`](super::Message) is made.
    pub(super) text: ByteString,
    pub(super) reads: Reads,
}

/// Which names stand in a head, and which more than once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    present: u64,
    repeated: u64,
}

const _: () = assert!((Name::Other as u32) < u64::BITS, "one bit for each name");

impl Names {
    /// One more line.
    pub(super) fn add(&mut self, name: Name) {
        let bit = 1 << name as u32;
        self.repeated |= self.present & bit;
        self.present |= bit;
    }

    /// Whether a line of this name is there.
    pub(super) fn has(self, name: Name) -> bool {
        self.has_all(Set::of(&[name]))
    }

    /// Whether a line of each of these is there.
    pub(super) fn has_all(self, names: Set) -> bool {
        self.present & names.0 == names.0
    }

    /// Whether there are several lines of one of these.
    pub(super) fn has_several_of(self, names: Set) -> bool {
        self.repeated & names.0 != 0
    }
}

/// Some names, asked for in one question.
#[derive(Clone, Copy)]
pub(super) struct Set(u64);

impl Set {
    pub(super) const fn of(names: &[Name]) -> Set {
        let (mut all, mut at) = (0, 0);
        while at < names.len() {
            all |= 1 << names[at] as u32;
            at += 1;
        }
        Set(all)
    }
}

/// Indexes `bytes`, which begin with a start line; says what was wrong first.
pub(super) fn scan(bytes: &[u8]) -> (Index, Option<Malformed>) {
    let first = text_line(bytes, 0);
    let (start, mut flaw) = start_line(&bytes[..first.end]);
    let mut lines = Vec::with_capacity(ROOM);
    let (mut at, mut bare_return) = (first.next, None);
    loop {
        let line = text_line(bytes, at);
        if line.end == at {
            flaw = flaw.or(bare_return).or((line.next == at).then_some(OPEN));
            return (Index::of(start, lines, at as u32, line.next as u32), flaw);
        }
        let (last, folds) = fold(bytes, line);
        if last.has_bare_return {
            bare_return = Some(BARE_RETURN);
        }
        let (entry, wrong) = header_line(bytes, at, line, (last, folds));
        if wrong.is_some() || lines.len() >= MAX_LINES {
            flaw = flaw.or(wrong).or((lines.len() >= MAX_LINES).then_some(TOO_MANY));
        }
        lines.push(entry);
        at = last.next;
    }
}

const OPEN: Malformed = Malformed::bad("the head does not end with an empty line");
const TOO_MANY: Malformed = Malformed { status: 513, why: "too many header lines" };
const BARE_RETURN: Malformed = Malformed::bad("a carriage return without a line feed in the head");

/// One line of text: where it ends without its line break, and where the next begins.
#[derive(Clone, Copy)]
struct TextLine {
    end: usize,
    next: usize,
    /// There is a carriage return in it that ends no line.
    has_bare_return: bool,
}

/// The line that begins at `at`. Nearly always the first control character is the one that ends it.
fn text_line(bytes: &[u8], at: usize) -> TextLine {
    let (mut end, mut has_bare_return) = (at, false);
    while let Some(length) = first_below(0x10, &bytes[end..]) {
        end += length;
        match bytes[end..] {
            [b'\r', b'\n', ..] => return TextLine { end, next: end + 2, has_bare_return },
            [b'\n', ..] => return TextLine { end, next: end + 1, has_bare_return },
            [other, ..] => has_bare_return |= other == b'\r',
            [] => {}
        }
        end += 1;
    }
    TextLine { end: bytes.len(), next: bytes.len(), has_bare_return }
}

/// Reads the header line that begins at `at`: its entry, and what is wrong with it. `ends` is its last text line, and how
/// many folds there are up to it.
fn header_line(
    bytes: &[u8],
    at: usize,
    first: TextLine,
    ends: (TextLine, usize),
) -> (Line, Option<Malformed>) {
    let ((last, folds), mut flaw) = (ends, None);
    let colon = near(b':', &bytes[at..first.end]);
    let raw_name = bytes[at..at + colon.unwrap_or(0)].trim_ascii_end();
    let name = Name::from_token(raw_name);
    if colon.is_none() || (name == Name::Other && !is_token_word(raw_name)) {
        flaw = Some(Malformed::bad("a header line does not begin with a name and a colon"));
    }
    if folds > MAX_FOLDS || last.next - at > MAX_LINE {
        flaw = flaw.or(Some(Malformed { status: 513, why: "a header line is too long" }));
    }
    let (value, value_end) = trimmed(bytes, colon.map_or(at, |c| at + c + 1), last.end);
    let name_len = raw_name.len().min(usize::from(u16::MAX)) as u16;
    (Line { at: at as u32, value, value_end, name_len, name }, flaw)
}

/// Follows the folds of a header line: its last text line, which has what is bare in any of them, and how many folds there
/// were.
fn fold(bytes: &[u8], first: TextLine) -> (TextLine, usize) {
    let (mut last, mut folds) = (first, 0);
    while matches!(bytes.get(last.next), Some(b' ' | b'\t')) {
        let next = text_line(bytes, last.next);
        last = TextLine { has_bare_return: last.has_bare_return || next.has_bare_return, ..next };
        folds += 1;
    }
    (last, folds)
}

/// `from..to` without surrounding white space; empty at `from` when there is nothing else.
fn trimmed(bytes: &[u8], from: usize, to: usize) -> (u32, u32) {
    let value = &bytes[from..to];
    // As nearly all are written: one space before it, none behind it.
    if let [b' ', first, .., last] = value
        && !is_lws(*first)
        && !is_lws(*last)
    {
        return (from as u32 + 1, to as u32);
    }
    let Some(first) = value.iter().position(|&b| !is_lws(b)) else { return (from as u32, from as u32) };
    let last = value.iter().rposition(|&b| !is_lws(b)).unwrap_or(first);
    ((from + first) as u32, (from + last + 1) as u32)
}

/// Reads a start line: single spaces between three elements.
pub(super) fn start_line(line: &[u8]) -> (Start, Option<Malformed>) {
    let first_end = near(b' ', line).unwrap_or(line.len());
    let second_at = (first_end + 1).min(line.len());
    if line.get(..4).is_some_and(|version| version.eq_ignore_ascii_case(b"SIP/")) {
        return status_line(line, first_end, second_at);
    }
    let second_end = line.iter().rposition(|&b| b == b' ').unwrap_or(0).max(second_at);
    let start = start(0, first_end, second_at, second_end, line.len());
    let version = line.get(second_end + 1..).unwrap_or(b"");
    (start, request_line_flaw(&line[..first_end], &line[second_at..second_end], version))
}

fn request_line_flaw(method: &[u8], uri: &[u8], version: &[u8]) -> Option<Malformed> {
    if !is_token_word(method) {
        return Some(Malformed { status: 0, why: "the start line does not begin with a method" });
    }
    if version.len() < 4 || !version[..4].eq_ignore_ascii_case(b"SIP/") {
        return Some(Malformed::bad("the request line does not end with SIP/2.0"));
    }
    if &version[4..] != b"2.0" {
        let digits = version[4..].iter().all(|b| b.is_ascii_digit() || *b == b'.');
        return Some(Malformed { status: if digits { 505 } else { 400 }, why: "the version is not SIP/2.0" });
    }
    // Whoever reads the URI sees what else may be wrong with it.
    uri.is_empty().then_some(Malformed::bad("the request URI is not a URI"))
}

fn status_line(line: &[u8], first_end: usize, second_at: usize) -> (Start, Option<Malformed>) {
    let rest = &line[second_at..];
    let second_end = second_at + near(b' ', rest).unwrap_or(rest.len());
    let digits = &line[second_at..second_end];
    let code = std::str::from_utf8(digits).ok().filter(|d| d.len() == 3).and_then(super::lex::decimal::<u16>);
    let start = start(code.unwrap_or(999), first_end, second_at, second_end, line.len());
    let valid =
        line[..first_end].eq_ignore_ascii_case(b"SIP/2.0") && code.is_some_and(|c| (100..700).contains(&c));
    (start, (!valid).then_some(Malformed { status: 0, why: "the status line is not SIP/2.0 and a status" }))
}

fn start(status: u16, first_end: usize, second_at: usize, second_end: usize, end: usize) -> Start {
    let second = (second_at as u32, second_end as u32);
    Start { status, first_end: first_end as u32, second, end: end as u32 }
}

impl Index {
    /// Of a start line and these header lines, with the places where head and body end and begin.
    pub(super) fn of(start: Start, lines: Vec<Line>, head_end: u32, body: u32) -> Index {
        let mut names = Names::default();
        lines.iter().for_each(|line| names.add(line.name));
        let (text, reads) = (ByteString::new(), Reads::default());
        Index { start, lines, names, head_end, body, text, reads }
    }

    /// All header lines in order.
    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Whether a line of this name is there.
    pub(super) fn has(&self, name: Name) -> bool {
        self.names.has(name)
    }

    /// Where a line begins and where the next one does.
    pub(super) fn span(&self, number: usize) -> (usize, usize) {
        let lines = self.lines();
        let end = lines.get(number + 1).map_or(self.head_end, |next| next.at);
        (lines.get(number).map_or(end, |line| line.at) as usize, end as usize)
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
