//! The SIP face: relay INVITE, re-INVITE, BYE and OPTIONS, as `proto::control` describes them.
//!
//! An INVITE is answered at once: its 200, or a refusal. The one exception is a burst that outruns the reserve: while
//! ports are being opened the request waits, and is answered when they are, or after [`PATIENCE`] with 503.

mod answers;

use std::time::{Duration, Instant};

use proto::control::{self, Ask};
use proto::event::{Event, Release, Side};
use proto::node::Flow;
use proto::node_auth::Proof;
use proto::sdp::{Sdp, with_bundled_ports};
use proto::sip::transaction::{ClientId, Happened, Received, ServerId};
use proto::sip::{Builder, Message, Method, Name, NameAddr, Short, reply};

use crate::describe::{Not, Refusal};
use crate::relay::Relay;
use crate::session::{Dialog, Party, Session, index};

pub(crate) use self::answers::Unacked;

/// How long an INVITE waits for ports that are being opened.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many may wait.
const WAITING: usize = 1024;

const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE";

/// A request that waits for ports to be opened.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) until: Instant,
    /// Pairs of ports it needs.
    pub(crate) pairs: usize,
    id: ServerId,
    flow: Flow,
    message: Message,
}

impl Relay {
    /// A SIP message has come.
    pub(crate) fn receive(&mut self, now: Instant, flow: Flow, message: Message) {
        self.pool.wake(now, &mut self.outputs);
        match self.transactions.receive(now, flow, message) {
            Received::Request { id, flow, message } => self.request(now, id, flow, message),
            Received::Cancel { id, invite, message, .. } => self.cancel(now, id, invite, &message),
            Received::Ack { message, .. } => self.acknowledged(&message),
            Received::Response { id, message, .. } => self.answered(now, id, message.status().unwrap_or(0)),
            Received::Stray { .. } | Received::Again { .. } | Received::Absorbed => {}
        }
    }

    fn request(&mut self, now: Instant, id: ServerId, flow: Flow, message: Message) {
        match self.answer(now, &flow, &message) {
            Ok(response) => self.respond(now, (id, flow), &message, response),
            Err(Not::Yet(pairs)) if self.waiting.len() < WAITING => {
                self.waiting.push_back(Waiting { until: now + PATIENCE, pairs, id, flow, message });
            }
            Err(Not::Yet(_)) => self.give_up(now, (id, flow), &message),
            Err(Not::Refused(refusal)) => self.refuse(now, (id, flow), &message, refusal),
        }
    }

    /// Requests that wait: ports may be open now, or the wait too long.
    pub(crate) fn try_again(&mut self, now: Instant) {
        self.try_commands_again(now);
        for _ in 0..self.waiting.len() {
            let Some(Waiting { until, id, flow, message, .. }) = self.waiting.pop_front() else { return };
            match self.answer(now, &flow, &message) {
                Ok(response) => self.respond(now, (id, flow), &message, response),
                Err(Not::Yet(pairs)) if now < until => {
                    self.waiting.push_front(Waiting { until, pairs, id, flow, message });
                    return;
                }
                Err(Not::Yet(_)) => self.give_up(now, (id, flow), &message),
                Err(Not::Refused(refusal)) => self.refuse(now, (id, flow), &message, refusal),
            }
        }
    }

    fn answer(&mut self, now: Instant, flow: &Flow, message: &Message) -> Result<Builder, Not> {
        self.believe(now, flow, message)?;
        match message.method() {
            Method::Invite | Method::Update => self.set_up(now, flow, message),
            Method::Bye => self.tear_down(now, message),
            Method::Options => Ok(self.capabilities(now, message)),
            _ => refused(405, "a relay takes INVITE, UPDATE, BYE and OPTIONS"),
        }
    }

    /// Source addresses over UDP are forgeable: only proof counts, or a way that nobody else can come by.
    fn believe(&self, now: Instant, flow: &Flow, message: &Message) -> Result<(), Not> {
        let ip = flow.remote.ip().to_canonical();
        let listed = self.config.control.iter().any(|range| range.contains(ip));
        let near = ip.is_loopback() || flow.transport.is_secure() && listed;
        let unix = self.birth.unix_at(now);
        let proof = self.config.key.as_ref().map_or(Proof::Absent, |key| key.check(message, unix));
        match proof {
            Proof::Proven if near || listed || self.config.control.is_empty() => Ok(()),
            Proof::Absent if near => Ok(()),
            Proof::Proven => refused(403, "not from an address that may control this relay"),
            Proof::Absent => refused(403, "no proof (Node-Auth) that one of our nodes sent this"),
            Proof::False => refused(403, "Node-Auth is wrong: another key, or clocks more than 60 s apart"),
        }
    }

    /// INVITE, re-INVITE, UPDATE.
    fn set_up(&mut self, now: Instant, flow: &Flow, message: &Message) -> Result<Builder, Not> {
        let mut ask = Ask::read(message).or_else(|why| refused(400, why))?;
        if message.text(Name::RelayPolicy).is_none() {
            ask.latch = self.config.latch;
        }
        let cseq = message.cseq().map_or(0, |cseq| cseq.number);
        self.check_dialog(message, ask.session)?;
        let known = self.sessions.contains_key(&ask.session.0);
        if !known && (!message.to_tag().is_empty() || message.method() == Method::Update) {
            return refused(481, "no such session");
        }
        if !known && self.ended.contains(now, ask.session.0) {
            return refused(481, "this session has ended");
        }
        let body = match known {
            true => self.change(now, &ask, message, cseq)?,
            false => self.begin(now, flow, &ask, message)?,
        };
        self.refresh(now, ask.session, flow, message, cseq);
        self.changed.insert(ask.session.0);
        self.watch(ask.session);
        Ok(self.accept(flow, ask.session, message, body))
    }

    fn accept(&self, flow: &Flow, id: control::Session, message: &Message, body: Option<Vec<u8>>) -> Builder {
        let refresh = Short::from(u32::try_from(self.config.refresh.as_secs()).unwrap_or(u32::MAX));
        let response = reply(message, 200, &control::tag(id, Side::Callee))
            .joined(Name::Contact, &["<sip:relay@", &Short::from(flow.local), ">"])
            .text(Name::Allow, ALLOW)
            .text(Name::Supported, "timer")
            .joined(Name::SessionExpires, &[&refresh, ";refresher=uac"]);
        match body {
            Some(body) => response.body("application/sdp", &body),
            None => response,
        }
    }

    /// The dialog's identifiers derive from the session's name (see `proto::control`).
    fn check_dialog(&self, message: &Message, id: control::Session) -> Result<(), Not> {
        if message.call_id() != id.name() {
            return refused(400, "Call-ID is not the session's name");
        }
        let ours = message.to_tag().is_empty() || message.to_tag() == control::tag(id, Side::Callee);
        match ours && message.from_tag() == control::tag(id, Side::Caller) {
            true => Ok(()),
            false => refused(481, "tags are not this session's"),
        }
    }

    /// A new session: all its ports, or none and no session.
    fn begin(
        &mut self,
        now: Instant,
        flow: &Flow,
        ask: &Ask,
        message: &Message,
    ) -> Result<Option<Vec<u8>>, Not> {
        let begun = self.blank(now, flow, ask, message).and_then(|mut session| {
            let body = self.shape(now, &mut session, ask, message)?;
            Ok((session, body))
        });
        if let Err(Not::Refused(Refusal { status: 503, .. })) = begun {
            self.tell_exhausted(ask.session);
        }
        let (session, body) = begun?;
        self.sessions.insert(ask.session.0, Box::new(session));
        self.tell_allocated(ask.session, 0);
        self.capture_if_next(ask.session);
        Ok(body)
    }

    /// A session without streams.
    fn blank(&self, now: Instant, flow: &Flow, ask: &Ask, message: &Message) -> Result<Session, Not> {
        if self.draining {
            return refused(503, "this relay takes no new sessions: it is being stopped");
        }
        if self.sessions.len() >= self.config.sessions {
            return refused(503, "this relay has as many sessions as it may");
        }
        let contact = contact(message).unwrap_or_else(|| format!("sip:{}", flow.remote));
        let dialog = Some(Box::new(Dialog { flow: *flow, contact, cseq: 0, own_cseq: 0 }));
        let parties = [self.party(ask, Side::Caller)?, self.party(ask, Side::Callee)?];
        Ok(Session { dialog, ..Session::new(ask.session, ask.mode, parties, now) })
    }

    fn party(&self, ask: &Ask, side: Side) -> Result<Party, Not> {
        let peer = ask.peer.filter(|_| ask.leg == side);
        let name = &ask.networks[index(side)];
        let (name, six) = name.strip_suffix(control::SIX).map_or((&**name, false), |name| (name, true));
        let ipv4 = !six && peer.is_none_or(|peer| peer.to_canonical().is_ipv4());
        let network = self.config.network(name, ipv4);
        let Some(network) = network else { return refused(400, "Relay-Network names an unknown network") };
        let own = ask.leg == side;
        let latch = if own { ask.latch } else { self.config.latch };
        Ok(Party { network, peer, latch, trusted: own && ask.trusted, chained: own && ask.chained })
    }

    /// A request for a session that is there. A refusal leaves it as it was.
    fn change(
        &mut self,
        now: Instant,
        ask: &Ask,
        message: &Message,
        cseq: u32,
    ) -> Result<Option<Vec<u8>>, Not> {
        let Some(mut session) = self.sessions.remove(&ask.session.0) else {
            return refused(481, "no such session");
        };
        let before = self.port_count(&session);
        // A repetition is the transaction's; the same CSeq in another one was overheard.
        let last = session.dialog.as_ref().map_or(u32::MAX, |dialog| dialog.cseq);
        let body = match cseq <= last {
            true => refused(500, "CSeq is not higher than the last one"),
            false => self.shape(now, &mut session, ask, message),
        };
        let grown = self.port_count(&session) > before;
        self.sessions.insert(ask.session.0, session);
        match body {
            Ok(_) if grown => self.tell_allocated(ask.session, before),
            Err(Not::Refused(Refusal { status: 503, .. })) => self.tell_exhausted(ask.session),
            _ => {}
        }
        body
    }

    /// Applies a request's facts and SDP to a session.
    fn shape(
        &mut self,
        now: Instant,
        session: &mut Session,
        ask: &Ask,
        message: &Message,
    ) -> Result<Option<Vec<u8>>, Not> {
        let Some((_, sdp)) = message.sdp() else {
            if !message.body().is_empty() {
                return refused(415, "the body is not SDP");
            }
            self.reserve(session)?;
            self.learn(session, ask);
            return Ok(None);
        };
        let sdp = Sdp::parse(sdp).or_else(|malformed| refused(400, malformed.0))?;
        // Of a bundle the relay makes streams of their own, if it looks at keys at all.
        let Some(apart) = ask.srtp.and_then(|_| with_bundled_ports(&sdp)) else {
            return self.describe(now, session, ask, &sdp).map(Some);
        };
        let sdp = Sdp::parse(&apart).or_else(|malformed| refused(400, malformed.0))?;
        self.describe(now, session, ask, &sdp).map(Some)
    }

    fn refresh(&mut self, now: Instant, id: control::Session, flow: &Flow, message: &Message, cseq: u32) {
        if let Some(session) = self.sessions.get_mut(&id.0) {
            session.refreshed = now;
            let Some(dialog) = &mut session.dialog else { return };
            dialog.flow = *flow;
            dialog.cseq = dialog.cseq.max(cseq);
            if let Some(contact) = contact(message) {
                dialog.contact = contact;
            }
        }
    }

    fn tear_down(&mut self, now: Instant, message: &Message) -> Result<Builder, Not> {
        let known =
            control::Session::from_name(message.call_id()).filter(|id| self.sessions.contains_key(&id.0));
        let Some(id) = known else { return refused(481, "no such session") };
        self.check_dialog(message, id)?;
        self.release(now, id, Release::Bye);
        self.ended.insert(now, id.0);
        Ok(reply(message, 200, &control::tag(id, Side::Callee)))
    }

    /// OPTIONS: what this relay understands. Inside a session's dialog it refreshes the session.
    fn capabilities(&mut self, now: Instant, message: &Message) -> Builder {
        let known = control::Session::from_name(message.call_id());
        if let Some(session) = known.and_then(|id| self.sessions.get_mut(&id.0)) {
            session.refreshed = now;
            let id = session.id;
            self.watch(id);
        }
        let tag = self.own_tag(message);
        reply(message, 200, &tag).header(Name::Allow, ALLOW).header(Name::Accept, "application/sdp")
    }

    fn cancel(&mut self, now: Instant, id: ServerId, invite: Option<ServerId>, message: &Message) {
        let tag = self.own_tag(message);
        let known = if invite.is_some() { 200 } else { 481 };
        self.transactions.respond(now, id, reply(message, known, &tag).finish());
        if let Some(at) = self.waiting.iter().position(|waiting| Some(waiting.id) == invite)
            && let Some(Waiting { id, flow, message, .. }) = self.waiting.remove(at)
        {
            self.refuse(now, (id, flow), &message, Refusal { status: 487, why: "cancelled" });
        }
    }

    /// Tells the proxy that both parties have fallen silent: BYE in the session's dialog, with the reason.
    pub(crate) fn report_silence(&mut self, now: Instant, id: control::Session) {
        let Some(session) = self.sessions.get_mut(&id.0) else { return };
        session.quiet_until = Some(now + self.config.media_timeout);
        let Some(dialog) = &mut session.dialog else { return self.release(now, id, Release::Silent) };
        dialog.own_cseq += 1;
        let local = dialog.flow.local;
        let (flow, branch) = (dialog.flow, self.dice.word(16));
        let seconds = self.config.media_timeout.as_secs();
        let bye = Builder::request("BYE", &dialog.contact)
            .header(
                Name::Via,
                format_args!("SIP/2.0/{} {local};branch=z9hG4bK{branch}", flow.transport.via()),
            )
            .header(Name::MaxForwards, 70)
            .header(Name::From, format_args!("<sip:relay@{local}>;tag={}", control::tag(id, Side::Callee)))
            .header(Name::To, format_args!("<{}>;tag={}", dialog.contact, control::tag(id, Side::Caller)))
            .header(Name::CallId, id)
            .header(Name::CSeq, format_args!("{} BYE", dialog.own_cseq))
            .header(Name::Reason, format_args!("SIP;cause=408;text=\"No media for {seconds} s\""))
            .finish();
        let bye = self.sign(now, &flow, bye);
        let client = self.transactions.request(now, flow, bye);
        if let Some(session) = self.sessions.get_mut(&id.0) {
            session.bye = Some(client);
            self.byes.insert(client, id);
        }
    }

    /// The proxy's answer to our BYE: it has ended the call, or knows nothing of it.
    fn answered(&mut self, now: Instant, client: ClientId, status: u16) {
        if status < 200 {
            return;
        }
        let Some(id) = self.byes.remove(&client) else { return };
        let Some(session) = self.sessions.get_mut(&id.0) else { return };
        session.bye = None;
        match status {
            200..300 => self.release(now, id, Release::Silent),
            _ => self.watch(id),
        }
    }

    /// What happened to transactions by themselves.
    pub(crate) fn settle(&mut self, now: Instant) {
        while let Some(happened) = self.transactions.happened() {
            if let Happened::TimedOut(client) | Happened::Failed(client, _) = happened {
                self.answered(now, client, 408);
            }
        }
    }

    pub(crate) fn port_count(&self, session: &Session) -> usize {
        let of_leg = |leg: u32| self.legs.get(leg as usize).map_or(0, |leg| leg.ports().count());
        let of_stream = |stream: &crate::session::Stream| match stream.shared {
            true => of_leg(stream.legs[0]),
            false => stream.legs.into_iter().map(of_leg).sum(),
        };
        session.streams().map(of_stream).sum()
    }

    pub(crate) fn tell_allocated(&mut self, id: control::Session, before: usize) {
        let Some(session) = self.sessions.get(&id.0) else { return };
        let ports = self.port_count(session).saturating_sub(before) as u16;
        let (session, free) = (session.name.clone(), self.pool.available() as u32);
        self.tell(Event::RelayAllocated { session, ports, free });
    }

    pub(crate) fn tell_exhausted(&mut self, id: control::Session) {
        let limit = self.config.sessions as u32;
        self.tell(Event::RelayExhausted { session: id.to_string().into(), limit });
    }
}

const NO_PORTS: Refusal = Refusal { status: 503, why: "media ports could not be opened in time" };

fn refused<T>(status: u16, why: &'static str) -> Result<T, Not> {
    Err(Not::Refused(Refusal { status, why }))
}

/// The URI its next request from us goes to.
fn contact(message: &Message) -> Option<String> {
    let contact: NameAddr<'_> = message.contacts().next()?.ok()?;
    Some(contact.raw_uri.to_owned())
}
