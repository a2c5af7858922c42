//! The parts of a proxy that act by themselves, keep-alives and registrations at the redirect server, and what they
//! ask of the core: send a request, tell me what became of it.

use std::time::Duration;

use proto::event::Event;
use proto::node::{Flow, Question};
use proto::sip::Message;

/// A part's own name for a request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What a part wants.
#[derive(Debug)]
pub enum Want {
    /// Send this request, whole, but for the topmost Via, which the core pushes. Its outcome comes back with `id`.
    Request {
        /// By this path.
        flow: Flow,
        /// The request.
        message: Message,
        /// Comes back with the outcome.
        id: RequestId,
    },
    /// Send this request, whole, but for the topmost Via, once and without waiting for anything. Its part knows an
    /// answer by the branch.
    Ping {
        /// By this path.
        flow: Flow,
        /// The request.
        message: Message,
        /// Of the topmost Via.
        branch: String,
    },
    /// Send this request as [`Want::Request`], and wait for so long.
    Probe {
        /// By this path.
        flow: Flow,
        /// The request.
        message: Message,
        /// Comes back with the outcome.
        id: RequestId,
        /// How long its answer is waited for.
        patience: Duration,
    },
    /// Ask this; the answer comes back with `id`.
    Ask {
        /// What.
        question: Question,
        /// Comes back with the answer.
        id: RequestId,
    },
    /// Tell this.
    Event(Event),
}

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// A final response.
    Final(Message),
    /// None came in time, or the request did not leave.
    Silence,
}
