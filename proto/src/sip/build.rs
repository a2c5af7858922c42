//! Messages of our own: responses made from requests, and requests made from nothing.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::ops::Range;

use bytes::Bytes;

use super::edit::push_flat;
use super::index::{Index, Line, ROOM, start_line};
use super::transaction::stamp_of;
use super::{Message, Method, Name, Short, lex, reason_phrase, reindex};

/// A response to `request` (RFC 3261 §8.2.6): Via, From, To, Call-ID and CSeq copied byte for byte, all Record-Route
/// too when it may make a dialog (2xx and 101–199 to INVITE …), Timestamp in a 100. `to_tag` is added to To when it
/// has none and the status is not 100. Add more with the returned builder.
pub fn reply(request: &Message, status: u16, to_tag: &str) -> Builder {
    Reply::tagged(to_tag).to(request, status)
}

/// How a request is answered.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// For To, when it has no tag.
    pub to_tag: &'a str,
    /// Where the request came from, unless it says so itself: a transaction stamps it, but what is answered at once stays
    /// as it came. Goes to the topmost Via (RFC 3261 §18.2.1, RFC 3581 §4).
    pub source: Option<SocketAddr>,
}

impl<'a> Reply<'a> {
    /// With this tag, for a request that says where it came from.
    pub fn tagged(to_tag: &'a str) -> Reply<'a> {
        Reply { to_tag, source: None }
    }

    /// See [`reply`].
    pub fn to(self, request: &Message, status: u16) -> Builder {
        let mut builder = Builder::with_capacity(request.bytes().len() + MORE);
        builder.status_line(status);
        let routes = makes_dialog(request.method(), status);
        let mut stamp = self.source.and_then(|source| stamp_of(request, source));
        for line in request.index.lines() {
            match line.name {
                Name::To => builder.copy_to(request, line, if status == 100 { "" } else { self.to_tag }),
                Name::Via => match stamp.take() {
                    Some((cut, text)) => builder.copy_cut(request, line, &cut, &text),
                    None => builder.copy(request, line, &[]),
                },
                Name::From | Name::CallId | Name::CSeq => builder.copy(request, line, &[]),
                Name::RecordRoute if routes => builder.copy(request, line, &[]),
                Name::Other if status == 100 && request.raw_name(line).eq_ignore_ascii_case(b"Timestamp") => {
                    builder.copy(request, line, &[])
                }
                _ => {}
            }
        }
        builder
    }
}

/// What a response usually has beyond what it copies: two challenges, or a device's Contact with its parameters.
const MORE: usize = 384;

/// Whether a response of this status to this method may create a dialog (RFC 3261 §12.1, RFC 6665 §4.1, RFC 3515).
fn makes_dialog(method: Method<'_>, status: u16) -> bool {
    matches!(method, Method::Invite | Method::Subscribe | Method::Refer | Method::Notify)
        && matches!(status, 101..=299)
}

/// Writes a message line by line, and its index with it.
#[derive(Clone, Debug)]
pub struct Builder {
    head: Vec<u8>,
    body: Vec<u8>,
    /// Of what was written so far.
    lines: Vec<Line>,
    /// Something was written whose place in the index only reading tells.
    odd: bool,
}

impl Builder {
    fn with_capacity(bytes: usize) -> Builder {
        let lines = Vec::with_capacity(ROOM);
        Builder { head: Vec::with_capacity(bytes), body: Vec::new(), lines, odd: false }
    }

    /// `METHOD uri SIP/2.0`.
    pub fn request(method: &str, uri: &str) -> Builder {
        let mut builder = Builder::with_capacity(1024);
        builder.head.extend(method.bytes().filter(|&b| lex::is_token(b)));
        builder.head.push(b' ');
        builder.head.extend(uri.bytes().filter(|b| !b.is_ascii_whitespace()));
        builder.head.extend_from_slice(b" SIP/2.0\r\n");
        builder
    }

    /// A header line, in the order of calls.
    pub fn header(self, name: Name, value: impl fmt::Display) -> Builder {
        // Writing to a Vec cannot fail; a Display that fails leaves its line short.
        self.named(name, |head| {
            let _ = Flat(head).write_fmt(format_args!("{value}"));
        })
    }

    /// The same of a value that is text already.
    pub fn text(self, name: Name, value: &str) -> Builder {
        self.named(name, |head| push_flat(head, value))
    }

    /// The same of pieces that are text already, one behind the other.
    pub fn joined(self, name: Name, pieces: &[&str]) -> Builder {
        self.named(name, |head| pieces.iter().for_each(|piece| push_flat(head, piece)))
    }

    fn named(mut self, name: Name, write: impl FnOnce(&mut Vec<u8>)) -> Builder {
        let at = self.head.len();
        self.head.extend_from_slice(name.as_str().as_bytes());
        self.head.extend_from_slice(b": ");
        let from_value = self.head.len();
        write(&mut self.head);
        let line = reindex::written(name, at, &self.head[from_value..]);
        self.head.extend_from_slice(b"\r\n");
        self.note(line);
        self
    }

    /// A header line by a name we have no word for.
    pub fn raw_header(mut self, name: &str, value: impl fmt::Display) -> Builder {
        self.head.extend(name.bytes().filter(|&b| lex::is_token(b)));
        self.head.extend_from_slice(b": ");
        self.line(format_args!("{value}"));
        self.odd = true;
        self
    }

    /// Content-Type and body; Content-Length is written by [`Builder::finish`] in any case.
    pub fn body(mut self, content_type: &str, body: &[u8]) -> Builder {
        self.body = body.to_vec();
        self.header(Name::ContentType, content_type)
    }

    /// The message as it goes on the wire. Line breaks in values are replaced by spaces, so that no value can forge a header.
    pub fn into_bytes(self) -> Bytes {
        let (head, _, _) = self.whole();
        Bytes::from(head.head)
    }

    /// Head and body in one, and where the head ends and the body begins.
    fn whole(self) -> (Builder, usize, usize) {
        let length = Short::from(self.body.len() as u32);
        let mut done = self.text(Name::ContentLength, &length);
        let head_end = done.head.len();
        done.head.extend_from_slice(b"\r\n");
        let body = done.head.len();
        done.head.append(&mut done.body);
        (done, head_end, body)
    }

    /// The same with its index.
    pub fn finish(self) -> Message {
        let (done, head_end, body) = self.whole();
        let first = memchr::memchr(b'\r', &done.head).unwrap_or(0);
        let start = start_line(&done.head[..first]).0;
        let (head_end, body) = (head_end as u32, body as u32);
        let index = Index::of(start, done.lines, head_end, body);
        let index = reindex::or_scanned((!done.odd).then_some(index), &done.head);
        Message::of(Bytes::from(done.head), index)
    }

    fn note(&mut self, line: Option<Line>) {
        match line {
            Some(line) => self.lines.push(line),
            None => self.odd = true,
        }
    }

    fn status_line(&mut self, status: u16) {
        let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
        for piece in [b"SIP/2.0 ", &digits[..], b" ", reason_phrase(status).as_bytes(), b"\r\n"] {
            self.head.extend_from_slice(piece);
        }
    }

    /// The rest of a line.
    fn line(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a Vec cannot fail; a Display that fails leaves its line short.
        let _ = Flat(&mut self.head).write_fmt(text);
        self.head.extend_from_slice(b"\r\n");
    }

    /// A header line by its name and value, and what is to stand after that.
    fn copy(&mut self, request: &Message, line: &Line, more: &[&str]) {
        self.copy_value(request, line, |head| {
            head.extend_from_slice(request.raw(line));
            more.iter().for_each(|more| push_flat(head, more));
        });
    }

    /// The same with `text` in the place of `cut`, a piece of the request in its value.
    fn copy_cut(&mut self, request: &Message, line: &Line, cut: &Range<usize>, text: &str) {
        self.copy_value(request, line, |head| {
            head.extend_from_slice(&request.bytes()[line.value as usize..cut.start]);
            push_flat(head, text);
            head.extend_from_slice(&request.bytes()[cut.end..line.value_end as usize]);
        });
    }

    fn copy_value(&mut self, request: &Message, line: &Line, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.head.len();
        self.head.extend_from_slice(request.raw_name(line));
        self.head.extend_from_slice(b": ");
        let value = self.head.len();
        write(&mut self.head);
        let value_end = self.head.len();
        self.head.extend_from_slice(b"\r\n");
        let line = Line { at: at as u32, value: value as u32, value_end: value_end as u32, ..*line };
        self.note(reindex::is_tidy(&self.head[value..value_end]).then_some(line));
    }

    fn copy_to(&mut self, request: &Message, to: &Line, tag: &str) {
        match tag.is_empty() || !request.to_tag().is_empty() {
            true => self.copy(request, to, &[]),
            false => self.copy(request, to, &[";tag=", tag]),
        }
    }
}

/// Writes text with its line breaks as spaces.
struct Flat<'a>(&'a mut Vec<u8>);

impl fmt::Write for Flat<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        push_flat(self.0, text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str) -> Message {
        let text = format!(
            "{method} sip:b@x SIP/2.0\r\nv: SIP/2.0/UDP a;branch=1,\r\n SIP/2.0/UDP b\r\nRecord-Route: <sip:p;lr>\r\n\
             Via: SIP/2.0/UDP c\r\nf: <sip:a@x>;tag=1\r\nTo: sip:b@x\r\nCall-ID: i\r\nCSeq: 1 {method}\r\n\
             Timestamp: 54\r\nSubject: s\r\n\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn text(message: &Message) -> &str {
        std::str::from_utf8(message.bytes()).unwrap()
    }

    #[test]
    fn a_reply_copies_what_the_rfc_says() {
        let reply = reply(&request("INVITE"), 180, "t").header(Name::Server, "x").finish();
        assert_eq!(
            text(&reply),
            "SIP/2.0 180 Ringing\r\nv: SIP/2.0/UDP a;branch=1,\r\n SIP/2.0/UDP b\r\nRecord-Route: <sip:p;lr>\r\n\
             Via: SIP/2.0/UDP c\r\nf: <sip:a@x>;tag=1\r\nTo: sip:b@x;tag=t\r\nCall-ID: i\r\nCSeq: 1 INVITE\r\n\
             Server: x\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(reply.to_tag(), "t");
    }

    #[test]
    fn a_reply_that_makes_no_dialog_has_no_record_route() {
        for (method, status) in [("INVITE", 486), ("INVITE", 100), ("OPTIONS", 200)] {
            let reply = reply(&request(method), status, "t").finish();
            assert_eq!(reply.values(Name::RecordRoute).count(), 0, "{method} {status}");
        }
    }

    #[test]
    fn trying_has_no_tag_but_the_timestamp() {
        let reply = reply(&request("INVITE"), 100, "t").finish();
        assert!(reply.to_tag().is_empty() && text(&reply).contains("Timestamp: 54\r\n"));
    }

    #[test]
    fn what_is_copied_is_written_as_we_write() {
        let odd = "OPTIONS sip:b@x SIP/2.0\nVia:SIP/2.0/UDP a;branch=1\nFrom :<sip:a@x>;tag=1 \r\nt:\tsip:b@x\r\n\
                   Call-ID: i\nCSeq: 1 OPTIONS \r\n\r\n";
        let message = reply(&Message::parse(Bytes::from(odd)).unwrap(), 200, "t").finish();
        assert_eq!(
            text(&message),
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=1\r\nFrom: <sip:a@x>;tag=1\r\nt: sip:b@x;tag=t\r\n\
             Call-ID: i\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_tag_that_is_there_stays() {
        let request = request("BYE").edit().set(Name::To, "<sip:b@x>;tag=z").finish();
        assert_eq!(reply(&request, 200, "t").finish().to_tag(), "z");
    }

    #[test]
    fn a_request_is_written_line_by_line_and_nothing_forged() {
        let message = Builder::request("INFO\r\n", "sip:a b")
            .header(Name::Subject, "x\r\nEvil: y")
            .joined(Name::Contact, &["<sip:", "a\r\nEvil: z", ">"])
            .raw_header("X-A: \r\n", 7)
            .body("text/plain", b"hi\r\n")
            .finish();
        assert_eq!(
            text(&message),
            "INFO sip:ab SIP/2.0\r\nSubject: x  Evil: y\r\nContact: <sip:a  Evil: z>\r\nX-A: 7\r\nContent-Type: text/plain\r\n\
             Content-Length: 4\r\n\r\nhi\r\n"
        );
        assert_eq!(message.body(), b"hi\r\n");
    }
}
