//! What the SIP face answers: every message signed, a 200 to an INVITE again until it is acknowledged.

use std::time::{Duration, Instant};

use proto::control;
use proto::event::{Release, Side};
use proto::node::Flow;
use proto::sip::transaction::ServerId;
use proto::sip::{Builder, Message, Method, Name, reply};

use super::{ALLOW, NO_PORTS};
use crate::describe::Refusal;
use crate::relay::Relay;

/// What a 503 asks for.
const RETRY_AFTER: u32 = 5;
/// First and longest interval between repetitions of a 2xx, and how long it is repeated (RFC 3261 §13.3.1.4).
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const GIVE_UP: Duration = Duration::from_secs(32);

/// A 200 to an INVITE that has not been acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Unacked {
    id: ServerId,
    response: Message,
    cseq: u32,
    pub(crate) next: Instant,
    interval: Duration,
    until: Instant,
    /// It made the session: without an ACK there is no dialog.
    first: bool,
}

impl Relay {
    /// Ports could not be opened in time.
    pub(super) fn give_up(&mut self, now: Instant, place: (ServerId, Flow), message: &Message) {
        if let Some(session) = control::Session::from_name(message.call_id()) {
            self.tell_exhausted(session);
        }
        self.refuse(now, place, message, NO_PORTS);
    }

    pub(super) fn acknowledged(&mut self, ack: &Message) {
        let cseq = ack.cseq().map_or(0, |cseq| cseq.number);
        if let Some(id) = control::Session::from_name(ack.call_id())
            && self.unacked.get(&id.0).is_some_and(|unacked| unacked.cseq == cseq)
        {
            self.unacked.remove(&id.0);
        }
    }

    pub(super) fn respond(
        &mut self,
        now: Instant,
        (id, flow): (ServerId, Flow),
        request: &Message,
        response: Builder,
    ) {
        let response = self.sign(now, &flow, response.finish());
        self.transactions.respond(now, id, response.clone());
        let session = control::Session::from_name(request.call_id());
        if let (Method::Invite, Some(session), Ok(cseq)) = (request.method(), session, request.cseq()) {
            let first = request.to_tag().is_empty();
            let (next, until, cseq) = (now + T1, now + GIVE_UP, cseq.number);
            let unacked = Unacked { id, response, cseq, next, interval: T1, until, first };
            self.unacked.insert(session.0, unacked);
        }
    }

    pub(super) fn refuse(
        &mut self,
        now: Instant,
        (id, flow): (ServerId, Flow),
        request: &Message,
        refusal: Refusal,
    ) {
        // Who proved nothing is answered and forgotten (RFC 3261 §26.3.2.4).
        let forget = refusal.status == 403;
        let tag = if forget { self.transactions.stateless_tag(id) } else { self.own_tag(request) };
        let response = reply(request, refusal.status, &tag)
            .header(Name::Warning, format_args!("399 postern \"{}\"", refusal.why));
        let response = match refusal.status {
            503 => response.header(Name::RetryAfter, RETRY_AFTER),
            405 => response.header(Name::Allow, ALLOW),
            415 => response.header(Name::Accept, "application/sdp"),
            _ => response,
        };
        let response = self.sign(now, &flow, response.finish());
        match forget {
            true => self.transactions.answer_and_forget(id, response),
            false => self.transactions.respond(now, id, response),
        }
    }

    /// 2xx responses are repeated until acknowledged, by the service and not by its transaction (RFC 3261 §13.3.1.4).
    pub(crate) fn repeat_unacked(&mut self, now: Instant) {
        let due: Vec<u64> = self.unacked.iter().filter(|(_, u)| u.next <= now).map(|(&id, _)| id).collect();
        for id in due {
            let Some(unacked) = self.unacked.get_mut(&id) else { continue };
            if now < unacked.until {
                unacked.interval = (2 * unacked.interval).min(T2);
                unacked.next = now + unacked.interval;
                self.transactions.respond(now, unacked.id, unacked.response.clone());
            } else if let Some(Unacked { first: true, .. }) = self.unacked.remove(&id) {
                self.release(now, control::Session(id), Release::Abandoned);
            }
        }
    }

    /// Who is on this machine needs no proof from us, as we need none from it ([`Relay::believe`]).
    pub(super) fn sign(&self, now: Instant, flow: &Flow, message: Message) -> Message {
        match &self.config.key {
            Some(key) if !flow.remote.ip().is_loopback() => key.sign(&message, self.birth.unix_at(now)),
            _ => message,
        }
    }

    /// To tag of a response: the session's, or any.
    pub(super) fn own_tag(&mut self, request: &Message) -> String {
        match control::Session::from_name(request.call_id()) {
            Some(id) => control::tag(id, Side::Callee).to_string(),
            None => self.dice.word(12),
        }
    }
}
