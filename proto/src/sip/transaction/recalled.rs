//! Requests that were answered and can be answered anew (RFC 3261 §8.2.7): of each, a hash is kept for 64·T1 instead of its
//! answer. It covers every byte and the path it came by, so that nothing but the retransmission of what was served is taken for
//! it.

use std::collections::VecDeque;
use std::time::Instant;

use super::matching::Key;
use super::stamp::stamped;
use super::{Place, Received, ServerId, Transactions};
use crate::node::Flow;
use crate::sip::Message;

/// How many are kept at most; the oldest go first, for a client asks again soon or not at all.
const RECALLED: usize = 100_000;

/// Those that are kept, oldest first, and until when.
pub(super) type Recalled = VecDeque<(Instant, Key)>;

impl Transactions {
    /// Answers a request that the service can answer anew: its retransmissions come up as [`Received::Again`]. Not after a
    /// 1xx, and the To tag must be [`Transactions::stateless_tag`].
    pub fn answer_and_recall(&mut self, now: Instant, id: ServerId, response: Message) {
        let Some(server) = self.servers.get(id.key()) else { return };
        let (key, flow) = (server.key(), *server.flow());
        let mark = server.request().map(|request| self.keys.mark(&flow, request.bytes()));
        self.answer_and_forget(id, response);
        if let Some(mark) = mark.filter(|_| !flow.transport.is_reliable()) {
            self.note_answered(now, key, mark);
        }
    }

    pub(super) fn note_answered(&mut self, now: Instant, key: Key, mark: u64) {
        self.index.insert(key, Place::Answered(mark));
        self.recalled.push_back((now + 64 * self.timers.t1, key));
        self.forget_recalled(now);
    }

    /// The retransmission of a request that was answered so.
    pub(super) fn again(
        &mut self,
        now: Instant,
        flow: Flow,
        key: Key,
        message: &Message,
    ) -> Option<Received> {
        self.forget_recalled(now);
        let Some(Place::Answered(mark)) = self.index.get(&key) else { return None };
        let message = stamped(message.clone(), flow.remote);
        let is_it = *mark == self.keys.mark(&flow, message.bytes());
        is_it.then(|| Received::Again { flow, message, tag: self.keys.stateless_tag(key) })
    }

    pub(super) fn forget_recalled(&mut self, now: Instant) {
        while let Some((until, key)) = self.recalled.front().copied() {
            if until > now && self.recalled.len() <= RECALLED {
                return;
            }
            self.recalled.pop_front();
            if let Some(Place::Answered(_)) = self.index.get(&key) {
                self.index.remove(&key);
            }
        }
    }
}
