//! The transaction layer (RFC 3261 §17, RFC 6026): retransmissions, timers and matching, so that the service above
//! sees every request and every response once.
//!
//! It is a part of a node, with the node's own shape: told of messages and time, asked for what to send
//! ([`Transactions::poll`]) and when to be woken ([`Transactions::deadline`]).

use std::time::Instant;

use crate::node::{Flow, Output, SendError, Ticket};
use super::Message;

/// A server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u64);

/// A client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// All transactions of one node.
#[derive(Debug)]
pub struct Transactions {}

/// What a received message means to the service above.
#[derive(Clone, Debug)]
pub enum Received {
    /// A new request (any method but ACK and CANCEL). Answer it with [`Transactions::respond`].
    Request { id: ServerId, flow: Flow, message: Message },
    /// A CANCEL, with a server transaction of its own to answer, and the INVITE it matches, if any.
    Cancel { id: ServerId, invite: Option<ServerId>, flow: Flow, message: Message },
    /// An ACK that belongs to no failed INVITE here: the ACK of a 2xx.
    Ack { flow: Flow, message: Message },
    /// A response to what was sent by [`Transactions::request`]. Every provisional one; the final one once; for
    /// INVITE, every 2xx, retransmissions too (RFC 6026 §8.4: they are the TU's business).
    Response { id: ClientId, flow: Flow, message: Message },
    /// A response that matches nothing (RFC 6026: a proxy drops it).
    Stray { flow: Flow, message: Message },
    /// A retransmission, or the ACK of a failure: dealt with.
    Absorbed,
}

/// What happens to transactions by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// No final response came (timers B, F): treat as 408.
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
    pub t1: std::time::Duration,
    /// Longest interval between retransmissions: 4 s.
    pub t2: std::time::Duration,
    /// Longest life of a message in the network: 5 s.
    pub t4: std::time::Duration,
}

impl Transactions {
    /// None yet.
    pub fn new(timers: Timers) -> Transactions { let _ = timers; todo!() }
    /// Takes a message in. Adds `received` and `rport` to the topmost Via of requests (RFC 3261 §18.2.1, RFC 3581 §4)
    /// before handing them up. A 100 is sent for an INVITE when the service has not answered within 200 ms.
    pub fn receive(&mut self, now: Instant, flow: Flow, message: Message) -> Received { let _ = (now, flow, message); todo!() }
    /// Sends a request (whose topmost Via carries a branch unique to it). ACK for 2xx does not go here: send it with
    /// [`Transactions::send`].
    pub fn request(&mut self, now: Instant, flow: Flow, message: Message) -> ClientId { let _ = (now, flow, message); todo!() }
    /// Cancels an INVITE: CANCEL leaves when a provisional response has come (RFC 3261 §9.1), by its own transaction.
    /// The INVITE ends with 487 or another final response, or is given up after 64·T1.
    pub fn cancel(&mut self, now: Instant, id: ClientId, reason: Option<&str>) { let _ = (now, id, reason); todo!() }
    /// Answers a request. Responses go to where the request came from (RFC 3261 §18.2.2, RFC 3581).
    pub fn respond(&mut self, now: Instant, id: ServerId, response: Message) { let _ = (now, id, response); todo!() }
    /// Sends a message outside any transaction.
    pub fn send(&mut self, flow: Flow, message: Message) { let _ = (flow, message); todo!() }
    /// Time has come.
    pub fn wake(&mut self, now: Instant) { let _ = now; todo!() }
    /// A [`Output::Send`] of ours failed.
    pub fn send_failed(&mut self, now: Instant, ticket: Ticket, flow: Flow, error: SendError) { let _ = (now, ticket, flow, error); todo!() }
    /// What to send next.
    pub fn poll(&mut self) -> Option<Output> { todo!() }
    /// What happened by itself.
    pub fn happened(&mut self) -> Option<Happened> { todo!() }
    /// When to call [`Transactions::wake`].
    pub fn deadline(&self) -> Option<Instant> { todo!() }
    /// The request a server transaction was made for; `None` once it is gone.
    pub fn server_request(&self, id: ServerId) -> Option<(&Flow, &Message)> { let _ = id; todo!() }
    /// How many are alive, client and server.
    pub fn len(&self) -> usize { todo!() }
}
