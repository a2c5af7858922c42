//! The INVITE client transaction (RFC 3261 §17.1.1, redrawn by RFC 6026 figure 5).
//!
//! ```text
//!                                    |INVITE from TU
//!                  Timer A fires     |INVITE sent      Timer B fires
//!                  Reset A,          V                 or Transport Err.
//!                  INVITE sent +-----------+           inform TU
//!                    +---------|           |--------------------------+
//!                    |         |  Calling  |                          |
//!                    +-------->|           |-----------+              |
//!   300-699                    +-----------+ 2xx       |              |
//!   ACK sent                      |  |       2xx to TU |              |
//!   resp. to TU                   |  |1xx              |              |
//!   +-----------------------------+  |1xx to TU        |              |
//!   |                                |                 |              |
//!   |                1xx             V                 |              |
//!   |                1xx to TU +-----------+           |              |
//!   |                +---------|           |           |              |
//!   |                |         |Proceeding |           |              |
//!   |                +-------->|           |           |              |
//!   |                          +-----------+ 2xx       |              |
//!   |         300-699             |    |     2xx to TU |              |
//!   |         ACK sent,  +--------+    +---------------+              |
//!   |         resp. to TU|                             |              |
//!   |                    |                             V              |
//!   |                    V                       +-----------+        |
//!   |              +-----------+                 |           |        |
//!   +------------->|           | Transport Err.  | Accepted  |---+2xx |
//!   300-699  +-----| Completed |                 |           |<--+to TU
//!   ACK sent +---->|           |-------+         +-----------+        |
//!                  +-----------+       |                | Timer M     |
//!                     | Timer D        |                | fires       |
//!                     V                V                V             |
//!                  +-----------------------------------------+        |
//!                  |               Terminated                |<-------+
//!                  +-----------------------------------------+
//! ```
//!
//! Beyond the figure: a CANCEL that was sent gives the INVITE 64·T1 to end (RFC 3261 §9.1). A transport error after
//! the final response tells nobody, for the TU has its answer already.

use super::client::{Do, Event};
use super::timer::Timer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Calling,
    Proceeding,
    Accepted,
    Completed,
    Terminated,
}

pub(super) const START: (State, &[Do]) =
    (State::Calling, &[Do::Send, Do::Start(Timer::A), Do::Start(Timer::B)]);

pub(super) fn step(state: State, event: Event) -> (State, &'static [Do]) {
    use Event::{Cancelled, Failure, Fired, Provisional, Success, Unsent};
    use State::{Accepted, Calling, Completed, Proceeding, Terminated};
    match (state, event) {
        (Calling, Fired(Timer::A)) => (Calling, &[Do::Send, Do::Start(Timer::A)]),
        (Calling, Fired(Timer::B)) => (Terminated, &[Do::TimedOut]),
        (Calling, Unsent) => (Terminated, &[Do::Failed]),
        (Calling, Provisional) => (Proceeding, &[Do::Up, Do::Stop(Timer::A), Do::Stop(Timer::B)]),
        (Calling | Proceeding, Success) => (Accepted, &[Do::Up, Do::Stop(Timer::A), Do::Start(Timer::M)]),
        (Calling | Proceeding, Failure) => {
            (Completed, &[Do::Ack, Do::Up, Do::Stop(Timer::A), Do::Start(Timer::D)])
        }
        (Proceeding, Provisional) => (Proceeding, &[Do::Up]),
        (Proceeding, Cancelled) => (Proceeding, &[Do::Start(Timer::GivenUp)]),
        (Proceeding, Fired(Timer::GivenUp)) => (Terminated, &[Do::TimedOut]),
        (Accepted, Success) => (Accepted, &[Do::Up]),
        (Accepted, Fired(Timer::M)) => (Terminated, &[]),
        (Completed, Failure) => (Completed, &[Do::AckAgain]),
        (Completed, Unsent) => (Terminated, &[]),
        (Completed, Fired(Timer::D)) => (Terminated, &[]),
        (state, _) => (state, &[]),
    }
}
