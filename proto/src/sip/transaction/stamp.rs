//! `received` and `rport` in the topmost Via of a request: where it really came from (RFC 3261 §18.2.1, RFC 3581 §4).

use std::net::SocketAddr;
use std::ops::Range;

use crate::node::literal;
use crate::sip::headers::without_comment;
use crate::sip::reads::Span;
use crate::sip::{Message, Name, Short, Via, lex};

/// The request with its topmost Via stamped; as it came when the Via tells the truth and asks for nothing.
pub(super) fn stamped(request: Message, source: SocketAddr) -> Message {
    match stamp_of(&request, source) {
        Some((cut, text)) => request.rewritten(cut, &text),
        None => request,
    }
}

/// Which bytes of the request to replace, and what by; `None`: none.
pub(in crate::sip) fn stamp_of(request: &Message, source: SocketAddr) -> Option<(Range<usize>, String)> {
    let via = request.via().ok()?;
    match Stamp::of(&via, source)? {
        Stamp::Tail(tail) => {
            let params = Span::of(request.bytes(), via.params.0);
            let cut = params.from as usize + tail.at..params.to as usize;
            Some((cut, tail.pieces().concat()))
        }
        Stamp::Anew => {
            let written = request.values(Name::Via).next()?;
            let mut stamp = stamp(written, &via, source)?;
            let cut = Span::of(request.bytes(), written);
            // What is the same at the begin is left alone, and so is what was read of it.
            let same =
                written.bytes().zip(stamp.bytes()).take_while(|(before, after)| before == after).count();
            let same = stamp.floor_char_boundary(same);
            stamp.drain(..same);
            Some((cut.from as usize + same..cut.to as usize, stamp))
        }
    }
}

/// What is to be done to a topmost Via.
pub(in crate::sip) enum Stamp<'a> {
    /// One like nearly all: its parameters end otherwise.
    Tail(Tail<'a>),
    /// To be written anew, by [`stamp`].
    Anew,
}

/// What is to stand in the place of the end of a Via's parameters.
pub(in crate::sip) struct Tail<'a> {
    /// Where in the parameters it begins.
    pub(in crate::sip) at: usize,
    /// Goes to `rport`, which stands right before it.
    port: Option<Short>,
    /// What has stood there so far.
    behind: &'a str,
    ip: Short,
}

impl Tail<'_> {
    /// One behind the other.
    pub(in crate::sip) fn pieces(&self) -> [&str; 5] {
        let port = self.port.as_deref();
        [port.map_or("", |_| "="), port.unwrap_or(""), self.behind, RECEIVED, &self.ip]
    }
}

impl<'a> Stamp<'a> {
    /// What [`stamp`] says, seen in one walk over plain parameters without `received`, and with `rport` without a value or
    /// not at all; `None`: the Via tells the truth and asks for nothing.
    pub(in crate::sip) fn of(via: &Via<'a>, source: SocketAddr) -> Option<Stamp<'a>> {
        let (all, mut params, mut after_rport) = (via.params.0, via.params.plain(), None);
        for (name, value) in &mut params {
            let is_rport = name.eq_ignore_ascii_case("rport");
            if name.eq_ignore_ascii_case("received") || is_rport && (value.is_some() || after_rport.is_some())
            {
                return Some(Stamp::Anew);
            }
            if is_rport {
                after_rport = Some(lex::offset_in(all, name) + name.len());
            }
        }
        if all.is_empty() || params.is_cut_short || !via.is_well_formed {
            return Some(Stamp::Anew);
        }
        let ip = source.ip().to_canonical();
        if after_rport.is_none() && literal(via.host) == Some(ip) {
            return None;
        }
        let at = after_rport.unwrap_or(all.len());
        let port = after_rport.map(|_| Short::from(u32::from(source.port())));
        Some(Stamp::Tail(Tail { at, port, behind: &all[at..], ip: Short::from(ip) }))
    }
}

const RECEIVED: &str = ";received=";

/// The Via value anew, or `None` when there is nothing to add. Whatever `received` the sender wrote itself goes.
pub(in crate::sip) fn stamp(written: &str, via: &Via<'_>, source: SocketAddr) -> Option<String> {
    let ip = source.ip().to_canonical();
    let is_true = literal(via.host) == Some(ip);
    let asks = |param: &str| param.eq_ignore_ascii_case("rport");
    let params = || lex::list_of(via.params.0, b';');
    let asks_rport = params().any(asks);
    if !asks_rport && is_true && via.params.get("received").is_none() {
        return None;
    }
    let mut stamped = String::with_capacity(written.len() + 48);
    let (value, comment) = written.split_at(without_comment(written).len());
    stamped.push_str(lex::trim(lex::before_first(value, b';')));
    for param in params().filter(|param| !names(param, "received")) {
        stamped.push(';');
        stamped.push_str(param);
        if asks(param) {
            stamped.push('=');
            lex::push_decimal(&mut stamped, u32::from(source.port()));
        }
    }
    if asks_rport || !is_true {
        stamped.push_str(RECEIVED);
        stamped.push_str(&Short::from(ip));
    }
    stamped.push_str(comment);
    Some(stamped)
}

/// Whether a parameter has this name.
fn names(param: &str, name: &str) -> bool {
    lex::trim(lex::before_first(param, b'=')).eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Reply, reply};

    fn stamp_from(via: &str, source: &str) -> Option<String> {
        stamp(via, &Via::parse(via).unwrap(), source.parse().unwrap())
    }

    #[test]
    fn leaves_a_truthful_via_alone() {
        assert_eq!(stamp_from("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1", "192.0.2.1:5060"), None);
        assert_eq!(stamp_from("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", "192.0.2.1:31000"), None);
        assert_eq!(stamp_from("SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bK1", "[2001:0db8::1]:5060"), None);
    }

    #[test]
    fn adds_received_when_the_address_differs_or_is_a_name() {
        assert_eq!(
            stamp_from("SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK1", "198.51.100.7:40000").unwrap(),
            "SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK1;received=198.51.100.7"
        );
        assert_eq!(
            stamp_from("SIP/2.0/UDP phone.example;branch=z9hG4bK1", "[2001:db8::9]:5060").unwrap(),
            "SIP/2.0/UDP phone.example;branch=z9hG4bK1;received=2001:db8::9"
        );
    }

    #[test]
    fn fills_rport_in_where_it_stands_and_always_with_received() {
        assert_eq!(
            stamp_from("SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK1", "192.0.2.1:5060").unwrap(),
            "SIP/2.0/UDP 192.0.2.1:5060;rport=5060;branch=z9hG4bK1;received=192.0.2.1"
        );
    }

    #[test]
    fn a_received_written_by_the_sender_does_not_survive() {
        assert_eq!(
            stamp_from("SIP/2.0/UDP 192.0.2.1;received=203.0.113.66;branch=z9hG4bK1", "192.0.2.1:5060")
                .unwrap(),
            "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1"
        );
    }

    #[test]
    fn a_comment_stays_the_last() {
        assert_eq!(
            stamp_from("SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK1 (Acme; rport)", "192.0.2.1:5060").unwrap(),
            "SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK1;received=192.0.2.1 (Acme; rport)"
        );
    }

    #[test]
    fn a_stamped_via_is_read_as_it_is_written() {
        let source = "198.51.100.7:40000".parse().unwrap();
        for via in [
            "SIP/2.0/UDP 10.0.0.2",
            "SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK1",
            "SIP/2.0/UDP 10.0.0.2;rport;branch=z9hG4bK1",
            "SIP/2.0/UDP 10.0.0.2:5070;branch=z9hG4bK1;rport",
            "SIP/2.0/UDP 10.0.0.2 ; received=1.2.3.4 ; branch=z9hG4bK1 (Acme)",
            "SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK1;rport, SIP/2.0/TCP b;branch=z9hG4bK2",
        ] {
            let text = format!(
                "OPTIONS sip:b@x SIP/2.0\r\nFrom: <sip:a@x>;tag=1\r\nVia: {via}\r\nTo: <sip:b@x>\r\nCall-ID: i\r\n\
                 CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            );
            let message = Message::parse(text.into()).unwrap();
            let whole = stamp(message.values(Name::Via).next().unwrap(), &message.via().unwrap(), source);
            let stamped = stamped(message, source);
            assert_eq!(stamped.values(Name::Via).next().map(str::to_owned), whole, "{via}");
            let afresh = Message::parse(stamped.bytes().clone()).unwrap();
            let read = |message: &Message| {
                let via = message.via().unwrap();
                let params = via.params.0.to_owned();
                (
                    via.host.to_owned(),
                    via.port,
                    params,
                    via.branch().to_owned(),
                    message.from_tag().to_owned(),
                )
            };
            assert_eq!(read(&stamped), read(&afresh), "{via}");
            assert_eq!(stamped.via().unwrap().params.get("received"), Some("198.51.100.7"), "{via}");
        }
    }

    #[test]
    fn an_answer_is_stamped_as_if_its_request_had_been() {
        for via in [
            "SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK1",
            "SIP/2.0/UDP 10.0.0.2",
            "SIP/2.0/UDP 10.0.0.2:5070;branch=z9hG4bK1;rport",
            "SIP/2.0/UDP 10.0.0.2;rport;branch=z9hG4bK1, SIP/2.0/TCP b;branch=z9hG4bK2",
            "SIP/2.0/UDP 10.0.0.2 ; received=2001:db8::1:2:3:4 ; branch=z9hG4bK1",
        ] {
            let text = format!(
                "REGISTER sip:x SIP/2.0\r\nFrom: <sip:a@x>;tag=1\r\nv:  {via}\r\nVia: SIP/2.0/TCP c\r\nTo: <sip:a@x>\r\n\
                 Call-ID: i\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n"
            );
            let (request, source) =
                (Message::parse(text.into()).unwrap(), "198.51.100.7:40000".parse().unwrap());
            let late = Reply { to_tag: "t", source: Some(source) }.to(&request, 200).header(Name::Expires, 1);
            let soon = reply(&stamped(request, source), 200, "t").header(Name::Expires, 1);
            assert_eq!(late.clone().into_bytes(), soon.into_bytes(), "{via}");
            assert_eq!(late.finish().expires(), Some(1));
        }
    }

    #[test]
    fn quoted_semicolons_cut_nothing() {
        let via = r#"SIP/2.0/UDP 10.0.0.2 ; x="a;rport\";b" ; branch=z9hG4bK1"#;
        assert_eq!(
            stamp_from(via, "192.0.2.1:5060").unwrap(),
            r#"SIP/2.0/UDP 10.0.0.2;x="a;rport\";b";branch=z9hG4bK1;received=192.0.2.1"#
        );
    }
}
