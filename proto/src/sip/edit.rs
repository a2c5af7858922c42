//! Changes to a message as splices: everything untouched leaves as the same bytes.

use std::ops::Range;

use bytes::Bytes;

use super::index::Line;
use super::reindex::{self, is_tidy};
use super::{Message, Name, lex};

/// A set of changes to one message, applied at once by [`Edit::finish`].
///
/// Methods chain; each sees the message as it was, not as changed so far, except that several `push_front` of one
/// name stack up (the last one pushed ends topmost) and several `pop_front` of one name take one value each. Where
/// two changes meet in the same bytes, the one that takes more of them wins.
///
/// Line breaks in values become spaces, so that no value can forge a header.
#[derive(Debug)]
pub struct Edit<'m> {
    message: &'m Message,
    splices: Vec<Splice>,
    /// New text of all splices.
    text: Vec<u8>,
    body: Option<NewBody>,
}

/// Replace `cut` of the message by `text` of [`Edit::text`].
#[derive(Clone, Debug)]
pub(super) struct Splice {
    pub(super) cut: Range<usize>,
    pub(super) text: Range<usize>,
    /// Among splices at one place: the later pushed before the earlier, then appended ones, then replacements.
    rank: i32,
    /// The header line it puts in, told from the begin of `text`.
    pub(super) line: Option<Line>,
    /// The index can't be told without reading the message again.
    pub(super) odd: bool,
}

/// What replaces a range of the body.
#[derive(Debug)]
struct NewBody {
    cut: Range<usize>,
    bytes: Vec<u8>,
}

/// A comma-separated value: its line's number, its place, and where its right sibling in the line begins.
struct Value {
    line: usize,
    at: Range<usize>,
    next: Option<usize>,
}

impl<'m> Edit<'m> {
    pub(super) fn new(message: &'m Message) -> Edit<'m> {
        Edit { message, splices: Vec::with_capacity(8), text: Vec::with_capacity(512), body: None }
    }

    /// Another request URI (nothing happens to a response).
    pub fn request_uri(mut self, uri: &str) -> Self {
        if self.message.is_request() {
            let (from, to) = self.message.index.start.second;
            let from_text = self.text.len();
            self.text.extend(uri.bytes().filter(|b| !b.is_ascii_whitespace()));
            self.replace(from as usize..to as usize, from_text, self.text.len() == from_text);
        }
        self
    }

    /// A new header line before all of its name (before all headers when there is none).
    pub fn push_front(mut self, name: Name, value: &str) -> Self {
        let lines = self.message.index.lines();
        let first = lines.iter().find(|line| line.name == name).or(lines.first());
        let at = first.map_or(self.message.index.head_end, |line| line.at) as usize;
        let rank = -1 - self.splices.len() as i32;
        self.insert_line(at, rank, name, value);
        self
    }

    /// A new header line after all others.
    pub fn append(mut self, name: Name, value: &str) -> Self {
        let rank = self.splices.len() as i32;
        self.insert_line(self.message.index.head_end as usize, rank, name, value);
        self
    }

    /// Replaces the value of the first line of this name, or appends one.
    pub fn set(mut self, name: Name, value: &str) -> Self {
        let Some(line) = self.message.lines(name).next() else { return self.append(name, value) };
        let cut = line.value as usize..line.value_end as usize;
        self.replace_value(cut, value);
        self
    }

    /// Replaces the first comma-separated value of this name (topmost Via, topmost Route), leaving its siblings.
    /// Nothing happens when there is none.
    pub fn set_first(mut self, name: Name, value: &str) -> Self {
        if let Some(first) = self.value(name, 0) {
            self.replace_value(first.at, value);
        }
        self
    }

    /// Removes the first comma-separated value of this name, its line too when it was the only one.
    pub fn pop_front(mut self, name: Name) -> Self {
        let before = self.splices.iter().filter(|splice| splice.rank == popped(name)).count();
        let Some(value) = self.value(name, before) else { return self };
        let cut = match value.next {
            Some(next) => value.at.start..next,
            None => self.line_span(value.line),
        };
        self.cut(cut, popped(name));
        self
    }

    /// Removes every line of this name.
    pub fn remove(self, name: Name) -> Self {
        self.remove_lines(name, |_| true)
    }

    /// Removes the lines of this name whose value `which` picks (lines that are not UTF-8 stay).
    pub fn remove_where(self, name: Name, mut which: impl FnMut(&str) -> bool) -> Self {
        self.remove_lines(name, |value| std::str::from_utf8(value).is_ok_and(&mut which))
    }

    fn remove_lines(mut self, name: Name, mut which: impl FnMut(&[u8]) -> bool) -> Self {
        for (number, line) in self.message.index.lines().iter().enumerate() {
            if line.name == name && which(self.message.raw(line)) {
                let cut = self.line_span(number);
                self.cut(cut, REPLACED);
            }
        }
        self
    }

    /// A new header line after all others, by a name we may have no word for.
    pub fn append_named(mut self, name: &str, value: &str) -> Self {
        let rank = self.splices.len() as i32;
        let from_text = self.text.len();
        self.text.extend(name.bytes().filter(|&byte| lex::is_token(byte)));
        self.text.extend_from_slice(b": ");
        push_flat(&mut self.text, value);
        self.text.extend_from_slice(b"\r\n");
        let at = self.message.index.head_end as usize;
        let text = from_text..self.text.len();
        self.splices.push(Splice { cut: at..at, text, rank, line: None, odd: true });
        self
    }

    /// Goes through the lines of a header by its name, known to us or not: `None` keeps a line, `Some(None)` removes it,
    /// `Some(value)` is its new value. Lines that are not UTF-8 stay.
    pub fn rewrite_named(mut self, name: &str, mut to: impl FnMut(&str) -> Option<Option<String>>) -> Self {
        let known = Name::from_token(name.as_bytes());
        for (number, line) in self.message.index.lines().iter().enumerate() {
            let written = &self.message.bytes[line.at as usize..][..usize::from(line.name_len)];
            let same = match known {
                Name::Other => written.eq_ignore_ascii_case(name.as_bytes()),
                known => line.name == known,
            };
            let value = self.message.line_text(line).filter(|_| same);
            match value.and_then(&mut to) {
                None => {}
                Some(None) => {
                    let cut = self.line_span(number);
                    self.cut(cut, REPLACED);
                }
                Some(Some(value)) => self.replace_value(line.value as usize..line.value_end as usize, &value),
            }
        }
        self
    }

    /// Another body; Content-Length follows (added when there was none).
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = Some(NewBody { cut: 0..self.message.body().len(), bytes: body.to_vec() });
        self
    }

    /// Another SDP where [`Message::sdp`] found one: inside a multipart body everything else stays. Nothing happens
    /// when there is none.
    pub fn sdp(mut self, sdp: &[u8]) -> Self {
        if let Some((cut, _)) = self.message.sdp() {
            self.body = Some(NewBody { cut, bytes: sdp.to_vec() });
        }
        self
    }

    /// The changed message, with its index.
    pub fn finish(mut self) -> Message {
        if let Some(new) = self.body.take() {
            self = self.with_body(&new);
        }
        // Stable: equal keys stay in the order of calls.
        self.splices.sort_by_key(|splice| (splice.cut.start, splice.rank));
        let mut out = Vec::with_capacity(self.message.bytes.len() + self.text.len());
        let (mut at, mut overlap) = (0, false);
        for splice in &self.splices {
            let inside = splice.cut.start < at;
            if !inside {
                out.extend_from_slice(&self.message.bytes[at..splice.cut.start]);
                out.extend_from_slice(&self.text[splice.text.clone()]);
            }
            at = at.max(splice.cut.end);
            overlap |= inside;
        }
        out.extend_from_slice(&self.message.bytes[at..]);
        let kept = if overlap { None } else { reindex::after(&self.message.index, &self.splices) };
        let index = reindex::or_scanned(kept, &out);
        Message::of(Bytes::from(out), index)
    }

    /// Splices the body and says its new length.
    fn with_body(mut self, new: &NewBody) -> Self {
        let old = self.message.body().len();
        let length = old - new.cut.len() + new.bytes.len();
        let offset = self.message.bytes.len() - old;
        let from_text = self.text.len();
        self.text.extend_from_slice(&new.bytes);
        self.replace(offset + new.cut.start..offset + new.cut.end, from_text, false);
        self.set(Name::ContentLength, &length.to_string())
    }

    /// The `n`-th comma-separated value of a header. A line that is not UTF-8 is one value.
    fn value(&self, name: Name, mut n: usize) -> Option<Value> {
        let lines = self.message.index.lines().iter().enumerate().filter(|(_, line)| line.name == name);
        for (number, line) in lines {
            let start = line.value as usize;
            let text = self.message.line_text(line).unwrap_or("x");
            let mut values =
                lex::list(text).map(|v| (start + lex::offset_in(text, v), v.len())).skip(n).peekable();
            if let Some((at, length)) = values.next() {
                let next = values.peek().map(|next| next.0);
                return Some(Value { line: number, at: at..at + length, next });
            }
            n -= lex::list(text).count();
        }
        None
    }

    fn line_span(&self, number: usize) -> Range<usize> {
        let (at, end) = self.message.index.span(number);
        at..end
    }

    fn insert_line(&mut self, at: usize, rank: i32, name: Name, value: &str) {
        let from_text = self.text.len();
        self.text.extend_from_slice(name.as_str().as_bytes());
        self.text.extend_from_slice(b": ");
        let from_value = self.text.len();
        push_flat(&mut self.text, value);
        let line = reindex::written(name, 0, &self.text[from_value..]);
        self.text.extend_from_slice(b"\r\n");
        let odd = line.is_none();
        self.splices.push(Splice { cut: at..at, text: from_text..self.text.len(), rank, line, odd });
    }

    fn replace_value(&mut self, cut: Range<usize>, value: &str) {
        let from_text = self.text.len();
        push_flat(&mut self.text, value);
        let odd = cut.is_empty() || !is_tidy(&self.text[from_text..]);
        self.replace(cut, from_text, odd);
    }

    fn replace(&mut self, cut: Range<usize>, from_text: usize, odd: bool) {
        let text = from_text..self.text.len();
        self.splices.push(Splice { cut, text, rank: REPLACED, line: None, odd });
    }

    fn cut(&mut self, cut: Range<usize>, rank: i32) {
        self.splices.push(Splice { cut, text: 0..0, rank, line: None, odd: false });
    }
}

/// Replacements come after insertions at the same place.
const REPLACED: i32 = i32::MAX;

/// The rank of a `pop_front`, by which the next one of the same name knows it.
fn popped(name: Name) -> i32 {
    REPLACED - 1 - name as i32
}

/// Appends a value with its line breaks as spaces.
pub(super) fn push_flat(out: &mut Vec<u8>, value: &str) {
    let mut from = out.len();
    out.extend_from_slice(value.as_bytes());
    while let Some(length) = lex::first_below(0x10, &out[from..]) {
        from += length;
        if matches!(out[from], b'\r' | b'\n') {
            out[from] = b' ';
        }
        from += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "INVITE sip:b@x SIP/2.0\r\n\
        Via: SIP/2.0/UDP a;branch=1,\r\n SIP/2.0/UDP b;branch=2\r\n\
        v: SIP/2.0/UDP c;branch=3\r\n\
        From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\nCall-ID: i\r\nCSeq: 1 INVITE\r\n\
        X-Odd:   kept  as it   came \r\n\
        Content-Type: application/sdp\r\nl:  3\r\n\r\nv=0";

    fn edited(edit: impl FnOnce(Edit<'_>) -> Edit<'_>) -> String {
        let message = Message::parse(Bytes::from_static(TEXT.as_bytes())).unwrap();
        let out = edit(message.edit()).finish();
        let again = Message::parse(out.bytes().clone()).unwrap();
        assert_eq!(again.headers().count(), out.headers().count());
        String::from_utf8(out.bytes().to_vec()).unwrap()
    }

    #[test]
    fn without_changes_nothing_changes() {
        assert_eq!(edited(|e| e), TEXT);
    }

    #[test]
    fn a_hop_is_a_few_splices() {
        let out = edited(|e| {
            e.push_front(Name::Via, "SIP/2.0/UDP p")
                .push_front(Name::RecordRoute, "<sip:p;lr>")
                .request_uri("sip:b@y")
        });
        let want = TEXT.replace("sip:b@x SIP", "sip:b@y SIP").replacen(
            "Via: ",
            "Record-Route: <sip:p;lr>\r\nVia: SIP/2.0/UDP p\r\nVia: ",
            1,
        );
        assert_eq!(out, want);
    }

    #[test]
    fn the_last_pushed_is_topmost_and_the_last_appended_is_last() {
        let out = edited(|e| {
            e.push_front(Name::Via, "1")
                .push_front(Name::Via, "SIP/2.0/UDP 2")
                .append(Name::Date, "3")
                .append(Name::Date, "4")
        });
        let want = TEXT
            .replacen("Via: ", "Via: SIP/2.0/UDP 2\r\nVia: 1\r\nVia: ", 1)
            .replace("l:  3\r\n", "l:  3\r\nDate: 3\r\nDate: 4\r\n");
        assert_eq!(out, want);
    }

    #[test]
    fn popping_takes_one_value_each() {
        let first = TEXT.replace("SIP/2.0/UDP a;branch=1,\r\n ", "");
        assert_eq!(edited(|e| e.pop_front(Name::Via)), first);
        let second = TEXT.replace("Via: SIP/2.0/UDP a;branch=1,\r\n SIP/2.0/UDP b;branch=2\r\n", "");
        assert_eq!(edited(|e| e.pop_front(Name::Via).pop_front(Name::Via)), second);
        let message = Message::parse(Bytes::from_static(TEXT.as_bytes())).unwrap();
        let none = (0..5).fold(message.edit(), |e, _| e.pop_front(Name::Via)).finish();
        assert_eq!(none.vias().count(), 0);
    }

    #[test]
    fn set_first_leaves_the_siblings() {
        let out = edited(|e| e.set_first(Name::Via, "SIP/2.0/UDP a;branch=1;received=192.0.2.1"));
        assert_eq!(out, TEXT.replace("branch=1", "branch=1;received=192.0.2.1"));
    }

    #[test]
    fn set_replaces_or_appends() {
        let out = edited(|e| {
            e.set(Name::To, "<sip:c@x>").set(Name::MaxForwards, "69").set_first(Name::Route, "none")
        });
        assert_eq!(
            out,
            TEXT.replace("To: <sip:b@x>", "To: <sip:c@x>")
                .replace("l:  3\r\n", "l:  3\r\nMax-Forwards: 69\r\n")
        );
    }

    #[test]
    fn removal_takes_lines_with_their_folds() {
        let out = edited(|e| e.remove(Name::Via).push_front(Name::Via, "SIP/2.0/UDP p"));
        assert!(out.starts_with("INVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP p\r\nFrom:"), "{out}");
        let out = edited(|e| e.remove_where(Name::Via, |value| value.contains("branch=3")));
        assert_eq!(out, TEXT.replace("v: SIP/2.0/UDP c;branch=3\r\n", ""));
    }

    #[test]
    fn content_length_follows_the_body() {
        let long = TEXT.replace("l:  3", "l:  10").replace("v=0", "0123456789");
        assert_eq!(edited(|e| e.body(b"0123456789")), long);
        assert_eq!(edited(|e| e.sdp(b"0123456789")), long);
        let none = TEXT.replace("l:  3\r\n", "");
        let message = Message::parse(Bytes::from(none)).unwrap();
        assert!(message.edit().body(b"").finish().bytes().ends_with(b"Content-Length: 0\r\n\r\n"));
    }

    #[test]
    fn no_value_can_forge_a_header() {
        let out = edited(|e| e.append(Name::Subject, "x\r\nRoute: <sip:evil>").request_uri("sip:a\r\n b"));
        assert!(
            out.contains("Subject: x  Route: <sip:evil>\r\n") && out.starts_with("INVITE sip:ab SIP/2.0\r\n")
        );
    }
}
