//! Answers given lately, by who asked and with which cookie: a repetition gets the same answer and changes nothing.
//!
//! Over UDP who asks is an address and a port. A client whose connection broke repeats itself on another, from another
//! port, so that there it is the address alone, and what it said: two clients behind one address may use the same cookies.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proto::node::{Flow, FlowId, Transport};

use super::command::{Command, Envelope};
use super::value::Value;

/// How long an answer is kept: clients give up long before.
const LIFE: Duration = Duration::from_secs(30);
/// How much longer one may stay, so that many are forgotten at a time.
const LINGER: Duration = Duration::from_secs(5);
/// Answers and their cookies lie side by side in pieces of memory so large: between what sessions keep they would leave holes
/// behind. For the same reason nothing else is allocated for one of them alone.
const PIECE: usize = 64 << 10;
/// Answers kept at most; their bytes are bounded by it, too.
const MOST: usize = 20_000;

/// Who asked, and with which cookie.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asker {
    flow: Flow,
    cookie: Bytes,
    said: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Cookies {
    answers: HashMap<Asker, Bytes>,
    order: VecDeque<(Instant, Asker)>,
    /// What is left of the newest piece.
    piece: BytesMut,
}

impl Asker {
    /// Of a message. What changes nothing is asked anew on each connection: its answer is news.
    pub(crate) fn of(flow: Flow, envelope: &Envelope<'_>, bytes: &[u8]) -> Asker {
        let cookie = Bytes::copy_from_slice(envelope.cookie);
        if flow.transport == Transport::Udp || !changes(envelope) {
            return Asker { flow, cookie, said: 0 };
        }
        let mut said = DefaultHasher::new();
        bytes.hash(&mut said);
        let remote = SocketAddr::new(flow.remote.ip(), 0);
        Asker { flow: Flow { remote, id: FlowId(0), ..flow }, cookie, said: said.finish() }
    }
}

fn changes(envelope: &Envelope<'_>) -> bool {
    let dict = envelope.body.as_ref().and_then(Value::as_dict);
    dict.and_then(|dict| Command::read(dict).ok()).is_some_and(|command| match command {
        Command::Offer(_)
        | Command::Answer(_)
        | Command::Delete(..)
        | Command::PlayDtmf(..)
        | Command::PlayMedia(_)
        | Command::StopMedia(_)
        | Command::Set(..) => true,
        Command::Ping | Command::Query(_) | Command::List(_) | Command::Statistics => false,
    })
}

impl Cookies {
    /// The answer to a repetition.
    pub(crate) fn known(&mut self, now: Instant, asker: &Asker) -> Option<Bytes> {
        self.forget(now);
        self.answers.get(asker).cloned()
    }

    /// Remembers an answer.
    pub(crate) fn keep(&mut self, now: Instant, asker: Asker, answer: &[u8]) {
        let cookie = self.lay(&asker.cookie);
        let (asker, answer) = (Asker { cookie, ..asker }, self.lay(answer));
        if self.answers.insert(asker.clone(), answer).is_none() {
            self.order.push_back((now, asker));
        }
    }

    fn lay(&mut self, bytes: &[u8]) -> Bytes {
        if self.piece.capacity() < bytes.len() {
            self.piece = BytesMut::with_capacity(bytes.len().max(PIECE));
        }
        self.piece.extend_from_slice(bytes);
        self.piece.split().freeze()
    }

    /// When some can be forgotten.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.order.front().map(|(at, _)| *at + LIFE + LINGER)
    }

    /// What nobody asks for again leaves no room behind either.
    pub(crate) fn forget(&mut self, now: Instant) {
        while let Some((at, _)) = self.order.front()
            && (now.saturating_duration_since(*at) > LIFE || self.order.len() > MOST)
            && let Some((_, asker)) = self.order.pop_front()
        {
            self.answers.remove(&asker);
        }
        if self.order.capacity() > 4 * self.order.len() + 64 {
            self.order.shrink_to_fit();
            self.answers.shrink_to_fit();
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "one Instant to count from")]
mod tests {
    use super::*;

    const OFFER: &str = "c d7:call-id1:a7:command5:offer8:from-tag1:f3:sdp0:e";

    fn flow(transport: Transport, port: u16, id: u64) -> Flow {
        let (local, remote) = (([127, 0, 0, 1], 2223).into(), ([127, 0, 0, 1], port).into());
        Flow { transport, local, remote, id: FlowId(id) }
    }

    fn asker(flow: Flow, said: &str) -> Asker {
        Asker::of(flow, &Envelope::read(said.as_bytes()).unwrap(), said.as_bytes())
    }

    #[test]
    fn an_answer_is_kept_for_half_a_minute_and_no_longer() {
        let now = Instant::now();
        let udp = |port| asker(flow(Transport::Udp, port, 0), OFFER);
        let mut cookies = Cookies::default();
        cookies.keep(now, udp(1), b"yes");
        assert_eq!(cookies.known(now + LIFE, &udp(1)).as_deref(), Some(&b"yes"[..]));
        assert_eq!(cookies.known(now + LIFE, &udp(2)), None, "another client's");
        assert_eq!(cookies.known(now + LIFE + Duration::from_millis(1), &udp(1)), None);
    }

    #[test]
    fn a_client_that_connects_again_is_known_by_what_it_said() {
        let other = OFFER.replace("7:call-id1:a", "7:call-id1:b");
        for transport in [Transport::Tcp, Transport::Ws] {
            let (first, second) = (flow(transport, 1, 7), flow(transport, 2, 8));
            assert_eq!(asker(first, OFFER), asker(second, OFFER));
            assert_ne!(asker(first, OFFER), asker(second, &other), "another client's, with the same cookie");
            let list = "c d7:command4:liste";
            assert_ne!(asker(first, list), asker(second, list), "a list is news");
            assert_eq!(asker(first, list), asker(first, list));
        }
    }
}
