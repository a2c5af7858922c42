//! A relay and a redirect server that keep to the contract of `proto::control` and no more.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proto::control::{Ask, Session};
use proto::event::Side;
use proto::node_auth::Proof;
use proto::sdp::{Rewrite, Sdp};
use proto::sip::{Message, Method, Name, reply};

use super::{KEY, MEDIA};

/// A relay that lends ports and does nothing with them.
#[derive(Default)]
pub(crate) struct RelayScript {
    /// Sessions held, with every request that was taken for each.
    pub(crate) sessions: BTreeMap<Session, Vec<Ask>>,
    pub(crate) begun: usize,
    pub(crate) full: bool,
    /// What can't be read or proven is passed over in silence, instead of failing the story.
    pub(crate) lenient: bool,
    pub(crate) silent: bool,
}

/// A redirect server: who is served where.
#[derive(Default)]
pub(crate) struct RedirectScript {
    pub(crate) served: BTreeMap<String, String>,
    /// Named before the one that serves.
    pub(crate) first: Option<String>,
    pub(crate) silent: bool,
}

impl RelayScript {
    pub(super) fn answer(&mut self, request: &Message, unix: u64) -> Option<Message> {
        if self.silent || !request.is_request() || request.method() == Method::Ack {
            return None;
        }
        let proven = KEY.check(request, unix) == Proof::Proven;
        if self.lenient && !proven {
            return None;
        }
        assert_eq!(KEY.check(request, unix), Proof::Proven, "a relay hears nobody without proof");
        let session = Session::from_name(request.call_id()).expect("the Call-ID names the session");
        match request.method() {
            Method::Bye => {
                let status = if self.sessions.remove(&session).is_some() { 200 } else { 481 };
                Some(reply(request, status, "relay").finish())
            }
            Method::Invite => Some(self.invite(request, session)),
            _ => Some(reply(request, 200, "relay").finish()),
        }
    }

    fn invite(&mut self, request: &Message, session: Session) -> Message {
        let ask = Ask::read(request).expect("a relay INVITE says what it wants");
        assert_eq!(ask.session, session);
        let is_new = !self.sessions.contains_key(&session);
        if is_new && self.full {
            return reply(request, 503, "relay").header(Name::RetryAfter, 30).finish();
        }
        if is_new {
            self.begun += 1;
        }
        // The other party's leg: a port of its own, by session and side.
        let order = self.sessions.keys().position(|s| *s == session).unwrap_or(self.begun) as u16;
        let port = 20000 + order * 4 + if ask.leg == Side::Caller { 2 } else { 0 };
        let answer = reply(request, 200, &proto::control::tag(session, Side::Callee));
        let body = request.sdp().map(|(_, sdp)| through(sdp, port));
        if body == Some(None) {
            return reply(request, 488, "relay").finish();
        }
        self.sessions.entry(session).or_default().push(ask);
        match body.flatten() {
            Some(sdp) => answer.body("application/sdp", &sdp).finish(),
            None => answer.finish(),
        }
    }
}

/// An SDP with every stream at the relay.
fn through(sdp: &[u8], port: u16) -> Option<Vec<u8>> {
    let sdp = Sdp::parse(sdp).ok()?;
    let rtp = SocketAddr::new(MEDIA.parse().unwrap(), port);
    let sections: Vec<_> = sdp.media.iter().map(|_| Some(Rewrite { rtp, rtcp: None })).collect();
    Some(sdp.rewrite(&sections))
}

impl RedirectScript {
    pub(super) fn answer(&mut self, request: &Message) -> Option<Message> {
        if self.silent || !request.is_request() || request.method() == Method::Ack {
            return None;
        }
        if !matches!(request.method(), Method::Register | Method::Invite) {
            return Some(reply(request, 405, "redirect").finish());
        }
        let uri = match request.method() {
            Method::Register => request.to().and_then(|to| to.uri()),
            _ => request.uri(),
        };
        let Some(aor) = uri.ok().and_then(|uri| uri.aor()) else {
            return Some(reply(request, 400, "redirect").finish());
        };
        if request.method() == Method::Register {
            let contact = request.contacts().flatten().next().map(|contact| contact.raw_uri.to_string());
            match contact.filter(|_| request.expires() != Some(0)) {
                None => self.served.remove(&aor),
                Some(contact) => self.served.insert(aor, contact),
            };
            return Some(reply(request, 200, "redirect").finish());
        }
        assert!(request.body().is_empty(), "the redirect INVITE carries no SDP");
        Some(match self.served.get(&aor) {
            Some(contact) => {
                let first = self.first.iter().map(|first| format!("<{first}>"));
                let contacts: Vec<_> = first.chain([format!("<{contact}>")]).collect();
                reply(request, 302, "redirect").header(Name::Contact, contacts.join(", ")).finish()
            }
            None => reply(request, 404, "redirect").finish(),
        })
    }
}
