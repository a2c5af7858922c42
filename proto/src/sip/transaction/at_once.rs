//! Requests that are answered as soon as they are here (RFC 3261 §8.2.7): no transaction is made for them, and they are left as
//! they came. The answer alone says where from ([`Reply::source`](crate::sip::Reply::source)).

use std::time::Instant;

use super::matching::Key;
use super::{Place, Received, ServerId, Transactions};
use crate::node::Flow;
use crate::sip::Message;

/// A request that is answered at once.
#[derive(Clone, Copy, Debug)]
pub struct AtOnce {
    key: Key,
    /// What is recalled of a request with this key that was answered.
    answered: Option<u64>,
}

impl Transactions {
    /// Takes a request that its service can answer at once. `None`: a transaction has it already, or its Via can't be read:
    /// then it is for [`Transactions::receive`].
    pub fn at_once(&mut self, now: Instant, request: &Message) -> Option<AtOnce> {
        self.forget_recalled(now);
        let key = self.keys.server(request, request.method())?;
        match self.index.get(&key) {
            None => Some(AtOnce { key, answered: None }),
            Some(Place::Answered(mark)) => Some(AtOnce { key, answered: Some(*mark) }),
            Some(Place::Server(_) | Place::Client(_)) => None,
        }
    }

    /// The To tag of its answers, the same for every retransmission.
    pub fn tag_at_once(&self, request: AtOnce) -> String {
        self.keys.stateless_tag(request.key)
    }

    /// Whether it is the retransmission of one that was answered and recalled: the same bytes by the same path.
    pub fn was_answered(&self, at_once: AtOnce, flow: &Flow, request: &Message) -> bool {
        at_once.answered.is_some_and(|mark| mark == self.keys.mark(flow, request.bytes()))
    }

    /// It has been answered; its retransmissions can be, too, without doing anything again.
    pub fn recall(&mut self, now: Instant, at_once: AtOnce, flow: &Flow, request: &Message) {
        if !flow.transport.is_reliable() {
            let mark = self.keys.mark(flow, request.bytes());
            self.note_answered(now, at_once.key, mark);
        }
    }

    /// Makes a transaction after all, for an answer that is to be kept. `None`: there are too many.
    pub fn keep(&mut self, now: Instant, at_once: AtOnce, flow: Flow, request: Message) -> Option<ServerId> {
        if self.is_full(&request) {
            return None;
        }
        match self.accept(now, flow, at_once.key, request) {
            Received::Request { id, .. } => Some(id),
            _ => None,
        }
    }
}
