//! The transaction layer (RFC 3261 §17, RFC 6026): retransmissions, timers and matching, so that the service above
//! sees every request and every response once.
//!
//! It is a part of a node, with the node's own shape: told of messages and time, asked for what to send
//! ([`Transactions::poll`]) and when to be woken ([`Transactions::deadline`]). The four machines are one file each,
//! pure tables of `(state, event)`; this layer carries out what they ask for.
//!
//! What the service above (the RFC's TU) can rely on:
//!
//! - Every request comes up once, its topmost Via stamped with where it came from. Whoever is not answered may be
//!   [`Transactions::ignore`]d; nobody is remembered for more than 64·T1 without the service's doing, except an INVITE
//!   that is still being answered.
//! - Responses go where the request came from: over UDP to the observed source, over streams on the same connection,
//!   and to the Via's port at the observed address when that connection is gone (RFC 3261 §18.2.2).
//! - Every [`ClientId`] ends in exactly one of: a final response, [`Happened::TimedOut`], [`Happened::Failed`]. More
//!   2xx of a forked INVITE may follow for 64·T1.
//! - The layer's own tickets are 2^32 and above: a service that counts its tickets from 1 never meets them.
//!
//! Memory: a transaction keeps its request only until the final response, then the bytes to repeat. Their number is
//! bounded; beyond the bound a request is refused by a 503 that leaves nothing behind.

mod at_once;
mod client;
mod client_invite;
mod client_non_invite;
mod derived;
mod matching;
mod recalled;
mod server;
mod server_invite;
mod server_non_invite;
mod stamp;
mod timer;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slotmap::{Key as _, KeyData, SlotMap, new_key_type};

use super::Message;
use crate::node::{Dice, Flow, FlowId, Output, SendError, Ticket, Transport};
use crate::timers::Queue;
pub use at_once::AtOnce;
use client::Client;
pub(crate) use matching::has_cookie;
use matching::{Key, Keys};
use recalled::Recalled;
use server::Server;
pub(super) use stamp::{Stamp, stamp, stamp_of};
use timer::Timer;

/// A server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u64);

/// A client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// All transactions of one node.
#[derive(Debug)]
pub struct Transactions {
    timers: Timers,
    limit: usize,
    keys: Keys,
    index: HashMap<Key, Place, BuildHasherDefault<AlreadyHashed>>,
    clients: SlotMap<ClientKey, Client>,
    servers: SlotMap<ServerKey, Server>,
    recalled: Recalled,
    queue: Queue<Fire>,
    outputs: VecDeque<Output>,
    happened: VecDeque<Happened>,
    /// Connections that closed lately, newest [`GONE`] of them.
    gone: BTreeSet<FlowId>,
    /// Paths that reported an error without saying for what; dealt with together.
    broken: BTreeSet<Flow>,
}

/// What a received message means to the service above. `flow` is the path it came by.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the variants say it all")]
pub enum Received {
    /// A new request (any method but ACK and CANCEL). Answer it with [`Transactions::respond`].
    Request { id: ServerId, flow: Flow, message: Message },
    /// A CANCEL, with a server transaction of its own to answer, and the INVITE it matches, if any. An INVITE that
    /// has its final response already is named too; answering it again has no effect (RFC 3261 §9.2).
    Cancel { id: ServerId, invite: Option<ServerId>, flow: Flow, message: Message },
    /// An ACK that belongs to no failed INVITE here: the ACK of a 2xx.
    Ack { flow: Flow, message: Message },
    /// A response to what was sent by [`Transactions::request`]. Every provisional one; the final one once; for
    /// INVITE, every 2xx, retransmissions too (RFC 6026 §8.4: they are the TU's business).
    Response { id: ClientId, flow: Flow, message: Message },
    /// A response that matches nothing (RFC 6026: a proxy drops it), or a request whose Via can't be read, which
    /// nobody could be answered for.
    Stray { flow: Flow, message: Message },
    /// The retransmission of a request that was answered by [`Transactions::answer_and_recall`]: answer it again by
    /// [`Transactions::send`], with this To tag, and change nothing.
    Again { flow: Flow, message: Message, tag: String },
    /// A retransmission, the ACK of a failure, or a refused request: dealt with.
    Absorbed,
}

/// What happens to transactions by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// No final response came (timers B, F, or 64·T1 after a CANCEL): treat as 408.
    TimedOut(ClientId),
    /// The request did not leave: treat as 503 (RFC 3261 §8.1.3.1), or try the next target.
    Failed(ClientId, SendError),
    /// The final response of an INVITE was never acknowledged (timer H), or did not leave.
    NotAcknowledged(ServerId),
}

/// Timer base values (RFC 3261 §17.1.1.1 and table 4).
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// Round-trip estimate: 500 ms.
    pub t1: Duration,
    /// Longest interval between retransmissions: 4 s.
    pub t2: Duration,
    /// Longest life of a message in the network: 5 s.
    pub t4: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Timers { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

new_key_type! {
    struct ClientKey;
    struct ServerKey;
}

/// Where the index leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Client(ClientKey),
    Server(ServerKey),
    /// A hash of the request that was answered.
    Answered(u64),
}

/// What a timer of the queue is for.
#[derive(Clone, Copy, Debug)]
enum Fire {
    Client(ClientKey, Timer),
    Server(ServerKey, Timer),
    Broken,
}

impl Transactions {
    /// None yet. At most `limit` will live at a time, not counting what the service itself sends; the last eighth of
    /// them is kept for requests inside dialogs, so that calls can end when no more can begin. The dice key the
    /// index, so that nobody outside can choose branches that collide.
    pub fn new(timers: Timers, limit: usize, dice: &mut Dice) -> Transactions {
        Transactions {
            timers,
            limit,
            keys: Keys::new(dice),
            index: HashMap::default(),
            clients: SlotMap::with_key(),
            servers: SlotMap::with_key(),
            recalled: Recalled::new(),
            queue: Queue::default(),
            outputs: VecDeque::new(),
            happened: VecDeque::new(),
            gone: BTreeSet::new(),
            broken: BTreeSet::new(),
        }
    }

    /// Takes a message in. Adds `received` and `rport` to the topmost Via of requests where they are needed (RFC 3261
    /// §18.2.1, RFC 3581 §4) before handing them up. A 100 is sent for an INVITE when the service has not answered
    /// within 200 ms.
    pub fn receive(&mut self, now: Instant, flow: Flow, message: Message) -> Received {
        if message.is_request() {
            self.receive_request(now, flow, message)
        } else {
            self.receive_response(now, flow, message)
        }
    }

    /// Sends a message outside any transaction: the ACK of a 2xx.
    pub fn send(&mut self, flow: Flow, message: Message) {
        self.outputs.push_back(Output::Message { flow, message, ticket: Ticket(0) });
    }

    /// Time has come.
    pub fn wake(&mut self, now: Instant) {
        self.forget_recalled(now);
        while let Some(fire) = self.queue.pop(now) {
            match fire {
                Fire::Client(key, timer) => self.client_timer(now, key, timer),
                Fire::Server(key, timer) => self.server_timer(now, key, timer),
                Fire::Broken => self.fail_broken(now),
            }
        }
    }

    /// An [`Output::Send`] failed. `Ticket(0)` fails every request under way on that path, within [`BROKEN_WAIT`];
    /// tickets of others do nothing.
    pub fn send_failed(&mut self, now: Instant, ticket: Ticket, flow: Flow, error: SendError) {
        match Place::of_ticket(ticket) {
            Some(Place::Client(key)) => self.client_unsent(now, key, error),
            Some(Place::Server(key)) => self.server_unsent(now, key),
            Some(Place::Answered(_)) => {}
            None if ticket == Ticket(0) => {
                if self.broken.is_empty() {
                    self.queue.set(now + BROKEN_WAIT, Fire::Broken);
                }
                self.broken.insert(flow);
            }
            None => {}
        }
    }

    /// A connection is gone ([`crate::node::Input::Closed`]): responses that were to go by it go to the Via instead.
    pub fn closed(&mut self, flow: &Flow) {
        if self.gone.len() >= GONE {
            self.gone.pop_first();
        }
        self.gone.insert(flow.id);
    }

    /// What to send next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What happened by itself.
    pub fn happened(&mut self) -> Option<Happened> {
        self.happened.pop_front()
    }

    /// When to call [`Transactions::wake`].
    pub fn deadline(&self) -> Option<Instant> {
        self.queue.deadline()
    }

    /// How many are alive, client and server.
    pub fn len(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    /// How many are alive that speak from this socket of ours.
    pub fn at(&self, transport: Transport, local: SocketAddr) -> usize {
        let here = |flow: &&Flow| (flow.transport, flow.local) == (transport, local);
        let clients = self.clients.values().map(Client::flow).filter(here).count();
        clients + self.servers.values().map(Server::flow).filter(here).count()
    }

    /// Whether none is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One pass for all paths that broke since the last: a dead trunk reports an error for each of thousands of
    /// requests.
    fn fail_broken(&mut self, now: Instant) {
        let broken = std::mem::take(&mut self.broken);
        let hit: Vec<ClientKey> =
            self.clients.iter().filter(|(_, c)| broken.contains(c.flow())).map(|(key, _)| key).collect();
        for key in hit {
            self.client_unsent(now, key, SendError::Refused);
        }
    }

    /// Leaves the index, unless another transaction has taken the same key since.
    fn forget(&mut self, key: Key, place: Place) {
        if self.index.get(&key) == Some(&place) {
            self.index.remove(&key);
        }
    }
}

/// How many closed connections are remembered.
const GONE: usize = 1024;

/// How long errors without a ticket are gathered before they are dealt with.
const BROKEN_WAIT: Duration = Duration::from_millis(20);

/// Slot indices stay far below this bit, which tells clients' tickets from servers'.
const CLIENT_BIT: u64 = 1 << 31;

impl Place {
    fn ticket(self) -> Ticket {
        match self {
            Place::Client(key) => Ticket(key.data().as_ffi() | CLIENT_BIT),
            Place::Server(key) => Ticket(key.data().as_ffi()),
            Place::Answered(_) => Ticket(0),
        }
    }

    fn of_ticket(Ticket(ticket): Ticket) -> Option<Place> {
        let data = KeyData::from_ffi(ticket & !CLIENT_BIT);
        let place =
            if ticket & CLIENT_BIT == 0 { Place::Server(data.into()) } else { Place::Client(data.into()) };
        (ticket >> 32 != 0).then_some(place)
    }
}

impl ServerId {
    fn key(self) -> ServerKey {
        KeyData::from_ffi(self.0).into()
    }
}

impl ClientId {
    fn key(self) -> ClientKey {
        KeyData::from_ffi(self.0).into()
    }
}

impl From<ServerKey> for ServerId {
    fn from(key: ServerKey) -> Self {
        ServerId(key.data().as_ffi())
    }
}

impl From<ClientKey> for ClientId {
    fn from(key: ClientKey) -> Self {
        ClientId(key.data().as_ffi())
    }
}

/// The index's keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests;
