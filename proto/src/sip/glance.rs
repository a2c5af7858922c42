//! A request at one glance: what tells new work from old, and what a refusal copies. One walk over its lines, no index.
//!
//! Reading a message whole takes longer than the kernel takes to bring it, and whoever is short of time has none for those
//! it turns away. Only requests written as nearly all are written are known at a glance: a folded line, a header twice, a bare
//! line feed, and the answer is `None`; then it is to be read ([`Message::parse`](super::Message::parse)). Whatever neither decides
//! nor is copied is not looked at: who is refused is not told what else is wrong with its request.

use std::net::SocketAddr;

use bytes::Bytes;

use super::index::{Names, Set};
use super::lex::{self, is_lws, near};
use super::transaction::{Stamp, stamp};
use super::{Method, Name, NameAddr, Short, Via, reason_phrase};

/// Lines a response copies at most: To, From, Call-ID, CSeq, and so many Vias but four.
const COPIED: usize = 12;
/// Those that stand once.
const ALONE: Set = Set::of(&[Name::From, Name::To, Name::CallId, Name::CSeq]);

/// See the module.
#[derive(Clone, Debug)]
pub struct Glance<'a> {
    method: Method<'a>,
    call_id: &'a str,
    to_tag: &'a str,
    names: Names,
    copied: [Line<'a>; COPIED],
    count: usize,
    /// Which of them is To.
    to: usize,
    /// The topmost Via, and which of them it is.
    via: Option<(usize, Via<'a>)>,
}

/// A header line.
#[derive(Clone, Copy, Debug, Default)]
struct Line<'a> {
    /// As written.
    name: &'a str,
    value: &'a str,
}

impl<'a> Glance<'a> {
    /// A look at a datagram.
    pub fn of(bytes: &'a [u8]) -> Option<Glance<'a>> {
        let (first, mut rest) = next_line(bytes)?;
        let mut glance = Glance {
            method: method_of(first)?,
            call_id: "",
            to_tag: "",
            names: Names::default(),
            copied: [Line::default(); COPIED],
            count: 0,
            to: 0,
            via: None,
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
        self.via.map_or("", |(_, via)| via.branch())
    }

    /// Its To tag; "" if there is none.
    pub fn to_tag(&self) -> &'a str {
        self.to_tag
    }

    /// Whether a header line of this name is there.
    pub fn has(&self, name: Name) -> bool {
        self.names.has(name)
    }

    /// A final response that says when to come back, and where its request came from: what
    /// [`Reply`](super::Reply) makes of the whole request.
    pub fn refusal(&self, source: SocketAddr, status: u16, to_tag: &str, retry_after: u64) -> Bytes {
        let copied = &self.copied[..self.count];
        let length: usize = copied.iter().map(|line| line.name.len() + line.value.len() + 4).sum();
        let mut out = Vec::with_capacity(length + to_tag.len() + 192);
        let mut put =
            |pieces: &[&str]| pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
        put(&["SIP/2.0 ", &Short::from(u32::from(status)), " ", reason_phrase(status), "\r\n"]);
        for (number, line) in copied.iter().enumerate() {
            put(&[line.name, ": "]);
            match self.via.filter(|(topmost, _)| *topmost == number) {
                Some((_, via)) => put_stamped(line.value, &via, source, &mut put),
                None => put(&[line.value]),
            }
            let tags = number == self.to && self.to_tag.is_empty();
            put(&[if tags { ";tag=" } else { "" }, if tags { to_tag } else { "" }, "\r\n"]);
        }
        let retry_after = Short::from(u32::try_from(retry_after).unwrap_or(u32::MAX));
        put(&["Retry-After: ", &retry_after, "\r\nContent-Length: 0\r\n\r\n"]);
        Bytes::from(out)
    }

    /// Takes what is needed of a header line; `None`: it has to be read by somebody else.
    fn take(&mut self, line: &'a [u8]) -> Option<()> {
        let colon = near(b':', line)?;
        // A line that begins with white space belongs to the one before.
        if is_lws(line[0]) || line[colon.checked_sub(1)?].is_ascii_whitespace() {
            return None;
        }
        let name = Name::from_token(&line[..colon]);
        let is_first = !self.names.has(name);
        self.names.add(name);
        if !matches!(name, Name::Via | Name::From | Name::To | Name::CallId | Name::CSeq) {
            return Some(());
        }
        let line = std::str::from_utf8(line).ok()?;
        let value = lex::trim(&line[colon + 1..]);
        if memchr::memchr(b'\r', line.as_bytes()).is_some() || value.is_empty() {
            return None;
        }
        match name {
            Name::Via if is_first => self.via = Some((self.count, only_via(value)?)),
            Name::To => (self.to, self.to_tag) = (self.count, NameAddr::parse(value).ok()?.tag()),
            Name::CallId => self.call_id = value,
            _ => {}
        }
        *self.copied.get_mut(self.count)? = Line { name: &line[..colon], value };
        self.count += 1;
        Some(())
    }

    fn is_whole(&self) -> bool {
        self.names.has(Name::Via)
            && self.names.has_all(ALONE)
            && !self.names.has_several_of(ALONE)
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
    let method = std::str::from_utf8(method).ok().filter(|method| lex::is_token_word(method.as_bytes()))?;
    is_uri.then_some(Method::from_token(method))
}

/// A Via line's only value.
fn only_via(value: &str) -> Option<Via<'_>> {
    let is_alone = memchr::memchr(b',', value.as_bytes()).is_none();
    Via::parse(value).ok().filter(|via| is_alone && via.is_well_formed)
}

/// A topmost Via's value with where its request came from (RFC 3261 §18.2.1, RFC 3581 §4).
fn put_stamped(value: &str, via: &Via<'_>, source: SocketAddr, put: &mut dyn FnMut(&[&str])) {
    match Stamp::of(via, source) {
        None => put(&[value]),
        Some(Stamp::Tail(tail)) => {
            let params = lex::offset_in(value, via.params.0);
            put(&[&value[..params + tail.at]]);
            put(&tail.pieces());
            put(&[&value[params + via.params.0.len()..]]);
        }
        Some(Stamp::Anew) => put(&[stamp(value, via, source).as_deref().unwrap_or(value)]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Message, Reply};
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

    const SOURCE: &str = "198.51.100.7:40000";

    /// What is refused as a whole, and at a glance.
    fn refusals(text: &str) -> [Bytes; 2] {
        let (request, source) = (read(text), SOURCE.parse().unwrap());
        let whole =
            Reply { to_tag: "full", source: Some(source) }.to(&request, 503).text(Name::RetryAfter, "17");
        [whole.into_bytes(), Glance::of(text.as_bytes()).expect(text).refusal(source, 503, "full", 17)]
    }

    #[test]
    fn its_refusal_is_what_a_reply_says() {
        let texts = [
            INVITE.to_owned(),
            with("t: <sip:b@x>", "To: <sip:b@x>;tag=2"),
            with("t: <sip:b@x>", "t:\t<sip:b@x> "),
            with("v: SIP", "VIA:SIP"),
        ];
        for text in texts {
            let [whole, glance] = refusals(&text);
            assert_eq!(glance, whole, "{text}");
        }
    }

    #[test]
    fn its_refusal_says_where_the_request_came_from() {
        let vias = [
            // It asks for the port; it was sent from elsewhere; both; neither.
            ("198.51.100.7;rport;branch=b", "198.51.100.7;rport=40000;branch=b;received=198.51.100.7"),
            ("10.0.0.2:5070;branch=b", "10.0.0.2:5070;branch=b;received=198.51.100.7"),
            ("a;branch=b;rport", "a;branch=b;rport=40000;received=198.51.100.7"),
            ("198.51.100.7:5070;branch=b", "198.51.100.7:5070;branch=b"),
            // No parameters, a comment, and what is not written as nearly all are.
            ("10.0.0.2", "10.0.0.2;received=198.51.100.7"),
            ("10.0.0.2;rport (x)", "10.0.0.2;rport=40000;received=198.51.100.7 (x)"),
            ("10.0.0.2;branch=b (x)", "10.0.0.2;branch=b;received=198.51.100.7 (x)"),
            ("10.0.0.2 ; branch=b ; rport", "10.0.0.2;branch=b;rport=40000;received=198.51.100.7"),
            ("198.51.100.7;received=192.0.2.9;branch=b", "198.51.100.7;branch=b"),
        ];
        for (via, stamped) in vias {
            let [whole, glance] = refusals(&with("a:5070;rport;branch=z9hG4bK1", via));
            assert_eq!(glance, whole, "{via}");
            let text = String::from_utf8(glance.to_vec()).unwrap();
            assert!(text.contains(&format!("v: SIP/2.0/UDP {stamped}\r\nVia: SIP/2.0/UDP c;")), "{text}");
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
            format!("\r{INVITE}"),
            "SIP/2.0 200 OK\r\n\r\n".to_owned(),
            "\r\n\r\n".to_owned(),
            String::new(),
        ];
        for text in texts {
            assert!(Glance::of(text.as_bytes()).is_none(), "{text}");
        }
    }
}
