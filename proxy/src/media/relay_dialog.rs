//! The dialog with a relay about one session: names, CSeq and requests, as `proto::control` describes them.
//!
//! A session's name says when it was born: 18 bits of seconds (they wrap after three days, a token lives one), then 46
//! random ones. So whoever holds the name, a restarted proxy too, knows the session's age and with it the next CSeq.

use std::time::Duration;

use proto::control::{Ask, Session, cseq, tag};
use proto::event::Side;
use proto::node::{Dice, Flow, Transport};
use proto::sip::{self, Builder, Message, Name, Short};

use crate::moment::Moment;

const SECONDS: u64 = 1 << 18;

/// A name for a session that begins now.
pub(crate) fn new_session(now: Moment, dice: &mut Dice) -> Session {
    Session((now.unix() % SECONDS) << 46 | dice.u64() >> 18)
}

/// How old a session is.
pub(crate) fn age(session: Session, now: Moment) -> Duration {
    let wrap = SECONDS * 1000;
    let born = (session.0 >> 46) * 1000;
    Duration::from_millis((now.unix_ms() % wrap + wrap - born) % wrap)
}

/// The user part where no call is named.
const NOBODY: &str = "postern";

/// The Call-ID that a request URI of ours names, as the relay says it back.
pub(crate) fn call_named(request: &Message) -> Option<String> {
    let uri = request.uri().ok()?;
    if uri.user.is_empty() || uri.user == NOBODY {
        return None;
    }
    sip::unescaped(uri.user)
}

/// What one end of the dialog needs to know to speak in it.
#[derive(Clone, Debug)]
pub(crate) struct RelayDialog {
    /// Which session.
    pub(crate) session: Session,
    /// The way to the relay.
    pub(crate) flow: Flow,
    /// The last CSeq.
    pub(crate) cseq: u32,
    /// The relay has accepted the session.
    pub(crate) confirmed: bool,
}

impl RelayDialog {
    /// INVITE or re-INVITE with this ask. The user part of Contact names the call, for the relay says it back when it
    /// ends the session: a restarted proxy knows by that whose end it is.
    pub(crate) fn invite(
        &mut self,
        now: Moment,
        ask: &Ask,
        sdp: Option<&[u8]>,
        (call, contact): (Option<&str>, &str),
    ) -> Message {
        let user = call.map_or(NOBODY.into(), |call| sip::escaped(call, b""));
        let request = self.request("INVITE", now).joined(Name::Contact, &["<sip:", &user, "@", contact, ">"]);
        let request = ask.write(request);
        match sdp {
            Some(sdp) => request.body("application/sdp", sdp).finish(),
            None => request.finish(),
        }
    }

    /// BYE, or OPTIONS for a refresh.
    pub(crate) fn plain(&mut self, method: &str, now: Moment) -> Message {
        self.request(method, now).finish()
    }

    /// The ACK of a 2xx.
    pub(crate) fn ack(&self, number: u32) -> Message {
        self.begin("ACK", number).finish()
    }

    fn request(&mut self, method: &str, now: Moment) -> Builder {
        self.cseq = cseq(age(self.session, now)).max(self.cseq + 1);
        self.begin(method, self.cseq)
    }

    fn begin(&self, method: &str, number: u32) -> Builder {
        let session = self.session.name();
        let [local, relay] = [self.flow.local, self.flow.remote].map(Short::from);
        let uri = ["sip:", &session, "@", &relay, transport_param(self.flow.transport)].concat();
        let (from_tag, to_tag) = (tag(self.session, Side::Caller), tag(self.session, Side::Callee));
        let request = Builder::request(method, &uri)
            .text(Name::MaxForwards, "70")
            .joined(Name::From, &["<sip:postern@", &local, ">;tag=", &from_tag]);
        let request = match self.confirmed {
            true => request.joined(Name::To, &["<sip:", &session, "@", &relay, ">;tag=", &to_tag]),
            false => request.joined(Name::To, &["<sip:", &session, "@", &relay, ">"]),
        };
        request.text(Name::CallId, &session).joined(Name::CSeq, &[&Short::from(number), " ", method])
    }
}

fn transport_param(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
        Transport::Tls => ";transport=tls",
        Transport::Ws => ";transport=ws",
        Transport::Wss => ";transport=wss",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::testing::Clock;

    #[test]
    fn a_session_tells_its_age_to_whoever_holds_its_name() {
        let mut clock = Clock::new();
        let session = new_session(clock.now(), &mut clock.dice());
        clock.pass(3600.0);
        assert_eq!(age(session, clock.now()), Duration::from_secs(3600));
        clock.pass(72_000.0);
        assert_eq!(age(session, clock.now()), Duration::from_secs(75_600));
    }

    #[test]
    fn a_call_id_survives_the_way_to_the_relay_and_back() {
        for call in ["a84b4c76e66710@pc33.example.com", "~!.%*_+`'()<>:\\\"/[]?{}-@x", "postern@x"] {
            let bye = format!(
                "BYE sip:{}@192.0.2.1 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\nFrom: <sip:r>;tag=1\n\
                 To: <sip:p>;tag=2\nCall-ID: s\nCSeq: 1 BYE",
                sip::escaped(call, b"")
            );
            assert_eq!(call_named(&crate::tests::bench::message(&bye)).as_deref(), Some(call));
        }
    }

    #[test]
    fn two_sessions_of_one_second_have_two_names() {
        let clock = Clock::new();
        let mut dice = clock.dice();
        assert_ne!(new_session(clock.now(), &mut dice), new_session(clock.now(), &mut dice));
    }
}
