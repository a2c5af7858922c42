//! A phone that a story speaks for.

use bytes::Bytes;
use proto::sip::{Message, Name, reply};

use crate::tests::testing::address;

use super::*;

/// A phone: where the world sees it, and where it believes to be.
#[derive(Clone, Debug)]
pub(crate) struct Phone {
    pub(crate) user: &'static str,
    pub(crate) seen_at: String,
    pub(crate) believes: String,
    pub(crate) proxy: &'static str,
    pub(crate) domain: &'static str,
    /// Whether its Via has `rport` (RFC 3581).
    pub(crate) asks_rport: bool,
    cseq: u32,
}

fn domain_at(proxy: &str) -> &'static str {
    if proxy == P2 { "b.example" } else { "a.example" }
}

impl Phone {
    /// A phone that is where it believes to be.
    pub(crate) fn public(user: &'static str, at: &str, proxy: &'static str) -> Phone {
        Phone {
            user,
            seen_at: at.into(),
            believes: at.into(),
            proxy,
            domain: domain_at(proxy),
            asks_rport: false,
            cseq: 0,
        }
    }

    /// A phone in a private network.
    pub(crate) fn behind_nat(
        user: &'static str,
        seen_at: &str,
        believes: &str,
        proxy: &'static str,
    ) -> Phone {
        Phone {
            user,
            seen_at: seen_at.into(),
            believes: believes.into(),
            proxy,
            domain: domain_at(proxy),
            asks_rport: false,
            cseq: 0,
        }
    }

    /// What tells its dialogs from those of another device of the same user.
    fn tag(&self) -> String {
        format!("{}{}", self.user, address(&self.believes).port())
    }

    fn ip(&self) -> std::net::IpAddr {
        address(&self.believes).ip()
    }

    /// An SDP with one audio stream at its own idea of its address.
    pub(crate) fn sdp(&self) -> String {
        let (ip, kind) = (self.ip(), if self.ip().is_ipv6() { "IP6" } else { "IP4" });
        format!(
            "v=0\r\no={} 1 1 IN {kind} {ip}\r\ns=-\r\nc=IN {kind} {ip}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=sendrecv\r\n",
            self.user
        )
    }

    /// Registers at its proxy.
    pub(crate) fn register(&mut self, net: &mut Net) {
        let request = self.register_request();
        let got = net.say(&self.seen_at.clone(), self.proxy, request);
        assert_eq!(got.last().and_then(|p| p.message.status()), Some(200), "{got:?}");
    }

    /// A REGISTER for an hour.
    pub(crate) fn register_request(&mut self) -> Message {
        let domain = self.domain;
        let aor = format!("sip:{}@{domain}", self.user);
        let head = format!("Contact: <sip:{}@{}>\r\nExpires: 3600\r\n", self.user, self.believes);
        self.request("REGISTER", &format!("sip:{domain}"), &aor, &aor, "", &head, "")
    }

    /// An INVITE outside of dialogs.
    pub(crate) fn invite(&mut self, to: &str, sdp: &str) -> Message {
        let from = format!("sip:{}@{}", self.user, self.domain);
        let head = format!("Contact: <sip:{}@{}>\r\n", self.user, self.believes);
        self.request("INVITE", to, &from, to, "", &head, sdp)
    }

    /// A request in the dialog that `seed` (a 2xx to our INVITE, or an INVITE we took with our tag) made.
    pub(crate) fn in_dialog(&mut self, method: &str, seed: &Message, sdp: &str) -> Message {
        let as_caller = !seed.is_request();
        let text = |name| seed.text(name).unwrap_or_default().to_string();
        let mut routes: Vec<String> = seed.values(Name::RecordRoute).map(str::to_string).collect();
        if as_caller {
            routes.reverse();
        }
        let route: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        let target = seed.contacts().next().unwrap().unwrap().raw_uri.to_string();
        let tagged =
            |value: String| if value.contains("tag=") { value } else { value + ";tag=" + &self.tag() };
        let (from, to) = match as_caller {
            true => (text(Name::From), text(Name::To)),
            false => (tagged(text(Name::To)), text(Name::From)),
        };
        let head = format!("{route}Contact: <sip:{}@{}>\r\n", self.user, self.believes);
        let call_id = seed.call_id().to_string();
        if method != "ACK" {
            self.cseq += 1;
        }
        let number = if method == "ACK" { seed.cseq().unwrap().number } else { self.cseq };
        self.write(method, number, &target, &from, &to, &call_id, &head, sdp)
    }

    #[allow(clippy::too_many_arguments)]
    fn request(
        &mut self,
        method: &str,
        uri: &str,
        from: &str,
        to: &str,
        to_tag: &str,
        head: &str,
        sdp: &str,
    ) -> Message {
        self.cseq += 1;
        let (from, to) = (format!("<{from}>;tag={}", self.tag()), format!("<{to}>{to_tag}"));
        let call_id = format!("{}-{}", self.tag(), method.to_ascii_lowercase());
        self.write(method, self.cseq, uri, &from, &to, &call_id, head, sdp)
    }

    #[allow(clippy::too_many_arguments)]
    fn write(
        &self,
        method: &str,
        cseq: u32,
        uri: &str,
        from: &str,
        to: &str,
        call_id: &str,
        head: &str,
        sdp: &str,
    ) -> Message {
        let rport = if self.asks_rport { ";rport" } else { "" };
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {}{rport};branch=z9hG4bK{}{method}{cseq}\r\nMax-Forwards: 70\r\n\
             From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{head}{kind}\
             Content-Length: {}\r\n\r\n{sdp}",
            self.believes,
            self.tag(),
            sdp.len()
        );
        Message::parse(Bytes::from(text)).expect("a phone speaks SIP")
    }

    /// Its answer to a request it got.
    pub(crate) fn answer(&self, request: &Message, status: u16, sdp: &str) -> Message {
        let contact = format!("<sip:{}@{}>", self.user, self.believes);
        let answer = reply(request, status, &self.tag()).header(Name::Contact, contact);
        if sdp.is_empty() { answer.finish() } else { answer.body("application/sdp", sdp.as_bytes()).finish() }
    }
}
