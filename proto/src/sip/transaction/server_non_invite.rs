//! The non-INVITE server transaction (RFC 3261 §17.2.2, figure 8).
//!
//! ```text
//!                                  |Request received
//!                                  |pass to TU
//!                                  V
//!                            +-----------+
//!                            |           |-------------+
//!                            | Trying    |             |
//!                            |           |             |
//!                            +-----------+             |200-699 from TU
//!                                  |                   |send response
//!                                  |1xx from TU        |
//!                                  |send response      |
//!                                  |                   |
//!               Request            V      1xx from TU  |
//!               send response+-----------+send response|
//!                   +--------|           |--------+    |
//!                   |        | Proceeding|        |    |
//!                   +------->|           |<-------+    |
//!                            +-----------+             |
//!                  200-699   |     |  Transport Err.   |
//!                  from TU   |     |  inform TU        |
//!                  send resp.|     +------------+      |
//!               Request      V                  |      |
//!               send resp. +-----------+        |      |
//!                   +------|           |<-------|------+
//!                   |      | Completed |        |
//!                   +----->|           |------->+ Transport Err.
//!                          +-----------+        | inform TU
//!                                | Timer J fires|
//!                                V              V
//!                          +------------------------+
//!                          |       Terminated       |
//!                          +------------------------+
//! ```
//!
//! Beyond the figure: a request that has no final response after 64·T1 is forgotten, because its client has given up
//! by then (timer F) and a later answer would do harm (RFC 4320 §1.2). A lost response tells nobody: the client asks
//! again.

use super::server::{Do, Event};
use super::timer::Timer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

pub(super) const START: (State, &[Do]) = (State::Trying, &[Do::Start(Timer::F)]);

pub(super) fn step(state: State, event: Event) -> (State, &'static [Do]) {
    use Event::{Again, Failure, Fired, Provisional, Success, Undelivered};
    use State::{Completed, Proceeding, Terminated, Trying};
    match (state, event) {
        (Trying | Proceeding, Provisional) => (Proceeding, &[Do::Send]),
        (Trying | Proceeding, Success | Failure) => (Completed, &[Do::Send, Do::Start(Timer::J)]),
        (Trying | Proceeding, Fired(Timer::F)) => (Terminated, &[]),
        (Proceeding | Completed, Again) => (state, &[Do::SendAgain]),
        (Proceeding | Completed, Undelivered) => (Terminated, &[]),
        (Completed, Fired(Timer::J)) => (Terminated, &[]),
        (state, _) => (state, &[]),
    }
}
