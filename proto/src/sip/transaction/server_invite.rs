//! The INVITE server transaction (RFC 3261 §17.2.1, redrawn by RFC 6026 figure 7).
//!
//! ```text
//!                                     |INVITE
//!                                     |pass INV to TU
//!                  INVITE             V send 100 if TU won't in 200 ms
//!                  send response+------------+
//!                      +--------|            |--------+ 101-199 from TU
//!                      |        | Proceeding |        | send response
//!                      +------->|            |<-------+
//!                               +------------+
//!                  300-699 from TU |    |2xx from TU
//!                  send response   |    |send response
//!                   +--------------+    +-----------+
//!                   |                               |
//!    INVITE         V          Timer G fires        |
//!    send response +-----------+ send response      |
//!         +--------|           |--------+           |
//!         |        | Completed |        |           |
//!         +------->|           |<-------+      INVITE, Transport Err.
//!                  +-----------+               -, inform TU
//!                     |     |                    +-----+
//!                 ACK |     |Timer H fires       |     V
//!                 -   |     |or Transport Err. +-----------+
//!                     V     |inform TU         |           |---+ ACK to TU
//!               +-----------+                  | Accepted  |   |
//!               | Confirmed |                  |           |<--+ 2xx from TU,
//!               +-----------+                  +-----------+     send response
//!       Timer I fires |     |                         | Timer L fires
//!                     V     V                         V
//!                  +-----------------------------------------+
//!                  |               Terminated                |
//!                  +-----------------------------------------+
//! ```
//!
//! Beyond the figure: a request the TU chooses not to answer ends in Accepted, where retransmissions are absorbed.

use super::server::{Do, Event};
use super::timer::Timer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Proceeding,
    Accepted,
    Completed,
    Confirmed,
    Terminated,
}

pub(super) const START: (State, &[Do]) = (State::Proceeding, &[Do::Start(Timer::Trying)]);

pub(super) fn step(state: State, event: Event) -> (State, &'static [Do]) {
    use Event::{Ack, Again, Failure, Fired, Ignored, Provisional, Success, Undelivered};
    use State::{Accepted, Completed, Confirmed, Proceeding, Terminated};
    match (state, event) {
        (Proceeding, Again) => (Proceeding, &[Do::SendAgain]),
        (Proceeding, Fired(Timer::Trying)) => (Proceeding, &[Do::SendTrying]),
        (Proceeding, Provisional) => (Proceeding, &[Do::Send, Do::Stop(Timer::Trying)]),
        (Proceeding, Success) => (Accepted, &[Do::Send, Do::Stop(Timer::Trying), Do::Start(Timer::L)]),
        (Proceeding, Failure) => {
            (Completed, &[Do::Send, Do::Stop(Timer::Trying), Do::Start(Timer::G), Do::Start(Timer::H)])
        }
        (Proceeding, Ignored) => (Accepted, &[Do::Stop(Timer::Trying), Do::Start(Timer::L)]),
        (Accepted, Success) => (Accepted, &[Do::Send]),
        (Accepted, Ack) => (Accepted, &[Do::Up]),
        (Accepted, Undelivered) => (Accepted, &[Do::NotAcknowledged]),
        (Accepted, Fired(Timer::L)) => (Terminated, &[]),
        (Completed, Again) => (Completed, &[Do::SendAgain]),
        (Completed, Fired(Timer::G)) => (Completed, &[Do::SendAgain, Do::Start(Timer::G)]),
        (Completed, Fired(Timer::H)) => (Terminated, &[Do::NotAcknowledged]),
        (Completed, Undelivered) => (Terminated, &[Do::NotAcknowledged]),
        (Completed, Ack) => (Confirmed, &[Do::Stop(Timer::G), Do::Start(Timer::I)]),
        (Confirmed, Fired(Timer::I)) => (Terminated, &[]),
        (state, _) => (state, &[]),
    }
}
