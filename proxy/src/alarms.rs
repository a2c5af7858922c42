//! What is to happen at a time, in the proxy's own queue of timers.

use proto::control::Session;
use proto::event::Name;
use proto::sip::transaction::{ClientId, ServerId};

/// What is to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// Timer C of an INVITE (RFC 3261 §16.8).
    TimerC(ServerId),
    /// An answered INVITE has waited long enough for repetitions of its 2xx (RFC 6026 §8.7: 64·T1).
    Linger(ServerId),
    /// A redirect server or a relay has been silent for too long.
    Silent(ClientId),
    /// A server of a trunk has said nothing for as long as it may.
    Untold(ClientId),
    /// A call is older than a call may get.
    CallLife(Name),
    /// A relay session wants its refresh.
    Refresh(Session),
}
