//! A request at one glance: what tells new work from old, and what a refusal copies. One walk over its lines, no index.
//!
//! Reading a message whole takes longer than the kernel takes to bring it, and whoever is short of time has none for those
//! it turns away. Only requests written as nearly all are written are known at a glance: a folded line, a header twice, a bare
//! line feed, and the answer is `None`; then it is to be read ([`Message::parse`](super::Message::parse)). Whatever neither decides
//! nor is copied is not looked at: who is refused is not told what else is wrong with its request.

use bytes::Bytes;

use super::index::Names;
use super::lex::{is_lws, near};
use super::{Method, Name, NameAddr, Short, Via, reason_phrase};

/// Lines a response copies at most: To, From, Call-ID, CSeq, and so many Vias but four.
const COPIED: usize = 12;
/// Those that stand once.
const ALONE: [Name; 4] = [Name::From, Name::To, Name::CallId, Name::CSeq];

/// See the module.
#[derive(Clone, Debug)]
pub struct Glance<'a> {
    method: Method<'a>,
    call_id: &'a str,
    branch: &'a str,
    to_tag: &'a str,
    names: Names,
    copied: [&'a str; COPIED],
    count: usize,
    /// Which of them is To.
    to: usize,
}

impl<'a> Glance<'a> {
    /// A look at a datagram.
    pub fn of(bytes: &'a [u8]) -> Option<Glance<'a>> {
        let (first, mut rest) = next_line(bytes)?;
        let mut glance = Glance {
            method: method_of(first)?,
            call_id: "",
            branch: "",
            to_tag: "",
            names: Names::default(),
            copied: [""; COPIED],
            count: 0,
            to: 0,
        };
        loop {
            let (line, after) = next_line(rest)?;
            if line.is_empty() {
                return glance.is_whole().then_some(glance);
            }
            glance.take(line)?;
            rest = after;
        }
    }

    /// Its method.
    pub fn method(&self) -> Method<'a> {
        self.method
    }

    /// Its Call-ID, never empty.
    pub fn call_id(&self) -> &'a str {
        self.call_id
    }

    /// The branch of its topmost Via; "" if there is none.
    pub fn branch(&self) -> &'a str {
        self.branch
    }

    /// Its To tag; "" if there is none.
    pub fn to_tag(&self) -> &'a str {
        self.to_tag
    }

    /// Whether a header line of this name is there.
    pub fn has(&self, name: Name) -> bool {
        self.names.has(name)
    }

    /// A final response that says when to come back: what [`reply`](super::reply) makes of the whole request.
    pub fn refusal(&self, status: u16, to_tag: &str, retry_after: u64) -> Bytes {
        let copied = &self.copied[..self.count];
        let length: usize = copied.iter().map(|line| line.len() + 2).sum();
        let mut out = Vec::with_capacity(length + to_tag.len() + 128);
        let mut put =
            |pieces: &[&str]| pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
        put(&["SIP/2.0 ", &Short::from(u32::from(status)), " ", reason_phrase(status), "\r\n"]);
        for (number, line) in copied.iter().enumerate() {
            let tags = number == self.to && self.to_tag.is_empty();
            put(&[line, if tags { ";tag=" } else { "" }, if tags { to_tag } else { "" }, "\r\n"]);
        }
        let retry_after = Short::from(u32::try_from(retry_after).unwrap_or(u32::MAX));
        put(&["Retry-After: ", &retry_after, "\r\nContent-Length: 0\r\n\r\n"]);
        Bytes::from(out)
    }

    /// Takes what is needed of a header line; `None`: it has to be read by somebody else.
    fn take(&mut self, line: &'a [u8]) -> Option<()> {
        let colon = near(b':', line)?;
        // A line that begins with white space belongs to the one before.
        if is_lws(line[0]) || is_lws(line[colon.checked_sub(1)?]) {
            return None;
        }
        let name = Name::from_token(&line[..colon]);
        let is_first = !self.names.has(name);
        self.names.add(name);
        if !matches!(name, Name::Via | Name::From | Name::To | Name::CallId | Name::CSeq) {
            return Some(());
        }
        let line = std::str::from_utf8(line).ok()?.trim_ascii_end();
        let value = line[colon + 1..].trim_ascii_start();
        if memchr::memchr(b'\r', line.as_bytes()).is_some() || value.is_empty() {
            return None;
        }
        match name {
            Name::Via if is_first => self.branch = topmost_branch(value)?,
            Name::To => (self.to, self.to_tag) = (self.count, NameAddr::parse(value).ok()?.tag()),
            Name::CallId => self.call_id = value,
            _ => {}
        }
        *self.copied.get_mut(self.count)? = line;
        self.count += 1;
        Some(())
    }

    fn is_whole(&self) -> bool {
        self.names.has(Name::Via)
            && ALONE.iter().all(|name| self.names.has(*name) && !self.names.has_several(*name))
            && !self.call_id.bytes().any(is_lws)
    }
}

/// The first line without its line break, and what is behind that.
fn next_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let feed = near(b'\n', bytes)?;
    let line = bytes[..feed].strip_suffix(b"\r")?;
    Some((line, &bytes[feed + 1..]))
}

/// The method of a request line.
fn method_of(line: &[u8]) -> Option<Method<'_>> {
    let line = line.strip_suffix(b" SIP/2.0")?;
    let (method, uri) = line.split_at(near(b' ', line)?);
    let is_uri = uri.len() > 1 && near(b' ', &uri[1..]).is_none();
    let method = std::str::from_utf8(method).ok()?;
    is_uri.then_some(Method::from_token(method))
}

/// The branch in a Via line with one value; "" if there is none.
fn topmost_branch(value: &str) -> Option<&str> {
    let is_alone = memchr::memchr(b',', value.as_bytes()).is_none();
    let via = Via::parse(value).ok().filter(|via| is_alone && via.is_well_formed)?;
    Some(via.branch())
}

#[cfg(test)]
mod tests {
    use super::super::{Message, reply};
    use super::*;

    const INVITE: &str = "INVITE sip:b@x SIP/2.0\r\nv: SIP/2.0/UDP a:5070;rport;branch=z9hG4bK1\r\n\
        Via: SIP/2.0/UDP c;branch=z9hG4bK0,\tSIP/2.0/UDP d\r\nFrom: \"A\" <sip:a@x>;tag=1\r\nt: <sip:b@x>\r\n\
        Call-ID: i@a\r\nCSeq: 1 INVITE\r\nContact: <sip:a@a>\r\nContent-Length: 4\r\n\r\nbody";

    /// With one piece of it changed.
    fn with(from: &str, to: &str) -> String {
        assert!(INVITE.contains(from));
        INVITE.replacen(from, to, 1)
    }

    fn read(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn what_it_sees_is_what_is_read() {
        let texts = [
            INVITE.to_owned(),
            with("t: <sip:b@x>", "To: \"tag=no;tag=no\" <sip:b@x;tag=no>;Tag=2"),
            with("t: <sip:b@x>", "TO:sip:b@x ;tag=3 "),
            with(";branch=z9hG4bK1", ""),
            with("i@a", "i"),
            with("Contact", "Node-Auth: x\r\nContact"),
            INVITE.replace("INVITE", "ACK"),
            INVITE.replace("INVITE", "Odd"),
        ];
        for text in texts {
            let (glance, message) = (Glance::of(text.as_bytes()).expect(&text), read(&text));
            assert_eq!(glance.method(), message.method());
            assert_eq!(glance.call_id(), message.call_id());
            assert_eq!(glance.branch(), message.via().unwrap().branch());
            assert_eq!(glance.to_tag(), message.to_tag());
            assert_eq!(glance.has(Name::NodeAuth), message.has(Name::NodeAuth));
        }
    }

    #[test]
    fn its_refusal_is_what_a_reply_says() {
        for text in [INVITE.to_owned(), with("t: <sip:b@x>", "To: <sip:b@x>;tag=2")] {
            let whole = reply(&read(&text), 503, "full").text(Name::RetryAfter, "17").into_bytes();
            assert_eq!(Glance::of(text.as_bytes()).unwrap().refusal(503, "full", 17), whole);
        }
    }

    #[test]
    fn it_has_room_for_so_many_lines_to_copy() {
        let vias = |more: usize| with("v: ", &("v: SIP/2.0/UDP e\r\n".repeat(more) + "v: "));
        assert!(Glance::of(vias(COPIED - 6).as_bytes()).is_some());
        assert!(Glance::of(vias(COPIED - 5).as_bytes()).is_none());
    }

    #[test]
    fn what_is_written_otherwise_is_to_be_read() {
        let texts = [
            with("t: <sip:b@x>\r\n", "t: <sip:b@x>\r\n ;tag=2\r\n"),
            with("t: <sip:b@x>\r\n", "t: <sip:b@x>\n"),
            with("t: <sip:b@x>", "t: <sip:b@x>\rCSeq: 2"),
            with("t: <sip:b@x>\r\n", ""),
            with("t: <sip:b@x>", "t: <sip:b@x>\r\nTo: <sip:b@x>;tag=2"),
            with("t: ", "t : "),
            with("t: <sip:b@x>", "t:"),
            with("t: <sip:b@x>", "t: <>"),
            with("t: ", ": "),
            with("Contact: <sip:a@a>", "Contact"),
            with("v: ", "v: SIP/2.0/UDP e;branch=2,"),
            with("z9hG4bK1", "z9hG4bK1;;x"),
            with("i@a", "i @a"),
            with("sip:b@x SIP", "sip:b@x  SIP"),
            with("sip:b@x SIP", "SIP"),
            with("SIP/2.0\r\n", "SIP/3.0\r\n"),
            INVITE[..INVITE.len() - 8].to_owned(),
            "SIP/2.0 200 OK\r\n\r\n".to_owned(),
            "\r\n\r\n".to_owned(),
            String::new(),
        ];
        for text in texts {
            assert!(Glance::of(text.as_bytes()).is_none(), "{text}");
        }
    }
}
