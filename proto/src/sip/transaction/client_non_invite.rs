//! The non-INVITE client transaction (RFC 3261 §17.1.2, figure 6).
//!
//! ```text
//!                                    |Request from TU
//!                                    |send request
//!                Timer E             V
//!                send request  +-----------+
//!                    +---------|           |-------------------+
//!                    |         |  Trying   |  Timer F          |
//!                    +-------->|           |  or Transport Err.|
//!                              +-----------+  inform TU        |
//!                 200-699         |  |                         |
//!                 resp. to TU     |  |1xx                      |
//!                 +---------------+  |resp. to TU              |
//!                 |                  |                         |
//!                 |   Timer E        V       Timer F           |
//!                 |   send req +-----------+ or Transport Err. |
//!                 |  +---------|           | inform TU         |
//!                 |  |         |Proceeding |------------------>|
//!                 |  +-------->|           |-----+             |
//!                 |            +-----------+     |1xx          |
//!                 |              |      ^        |resp. to TU  |
//!                 | 200-699      |      +--------+             |
//!                 | resp. to TU  |                             |
//!                 |              V                             |
//!                 |            +-----------+                   |
//!                 +----------->| Completed |                   |
//!                              +-----------+                   |
//!                                    | Timer K                 |
//!                                    V                         |
//!                              +-----------+                   |
//!                              |Terminated |<------------------+
//!                              +-----------+
//! ```

use super::client::{Do, Event};
use super::timer::Timer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

pub(super) const START: (State, &[Do]) =
    (State::Trying, &[Do::Send, Do::Start(Timer::E), Do::Start(Timer::F)]);

pub(super) fn step(state: State, event: Event) -> (State, &'static [Do]) {
    use Event::{Failure, Fired, Provisional, Success, Unsent};
    use State::{Completed, Proceeding, Terminated, Trying};
    match (state, event) {
        (Trying, Fired(Timer::E)) => (Trying, &[Do::Send, Do::Start(Timer::E)]),
        (Trying | Proceeding, Provisional) => (Proceeding, &[Do::Up]),
        (Proceeding, Fired(Timer::E | Timer::SlowE)) => (Proceeding, &[Do::Send, Do::Start(Timer::SlowE)]),
        (Trying | Proceeding, Fired(Timer::F)) => (Terminated, &[Do::TimedOut]),
        (Trying | Proceeding, Unsent) => (Terminated, &[Do::Failed]),
        (Trying | Proceeding, Success | Failure) => {
            (Completed, &[Do::Up, Do::Stop(Timer::E), Do::Start(Timer::K)])
        }
        (Completed, Fired(Timer::K)) => (Terminated, &[]),
        (state, _) => (state, &[]),
    }
}
