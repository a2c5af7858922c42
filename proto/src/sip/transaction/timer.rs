//! The named timers of RFC 3261 table 4 and RFC 6026, and how long each runs.

use std::time::{Duration, Instant};

use super::{Fire, Timers};
use crate::timers::{Queue, Timer as Armed};

/// A timer of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// INVITE request retransmission, doubling, UDP only.
    A,
    /// INVITE transaction timeout.
    B,
    /// Wait for retransmissions of a final failure of INVITE.
    D,
    /// Non-INVITE request retransmission, doubling up to T2, UDP only.
    E,
    /// E once a provisional response has come: every T2.
    SlowE,
    /// Non-INVITE transaction timeout.
    F,
    /// INVITE final failure retransmission, doubling up to T2, UDP only.
    G,
    /// Wait for ACK.
    H,
    /// Wait for retransmissions of ACK.
    I,
    /// Wait for retransmissions of a non-INVITE request.
    J,
    /// Wait for retransmissions of a non-INVITE response.
    K,
    /// Wait for retransmissions of an accepted INVITE (RFC 6026 §8.7).
    L,
    /// Wait for retransmissions of a 2xx (RFC 6026 §8.4).
    M,
    /// An INVITE that nobody has answered yet is told 100 (RFC 3261 §17.2.1).
    Trying,
    /// A cancelled INVITE without a final response is given up (RFC 3261 §9.1).
    GivenUp,
}

/// The timers a transaction has running: at most one that sends again, and one that ends a state.
#[derive(Debug, Default)]
pub(super) struct Running {
    resend: Option<Armed>,
    end: Option<Armed>,
    /// How often the sending one has fired since it was stopped.
    rounds: u8,
}

impl Running {
    /// Starts a timer in place of the one that has its part. `true`: its length is zero, so it fires here and now.
    pub(super) fn start(&mut self, queue: &mut Queue<Fire>, base: &Timers, from: Start, fire: Fire) -> bool {
        self.halt(queue, from.timer);
        match from.timer.length(base, from.reliable, self.rounds) {
            Some(Duration::ZERO) => return true,
            Some(length) => *self.part(from.timer) = Some(queue.set(from.now + length, fire)),
            None => {}
        }
        false
    }

    /// Stops whichever timer has this one's part, and counts rounds anew.
    pub(super) fn stop(&mut self, queue: &mut Queue<Fire>, timer: Timer) {
        self.halt(queue, timer);
        self.rounds = 0;
    }

    /// Stops both.
    pub(super) fn stop_all(&mut self, queue: &mut Queue<Fire>) {
        self.halt(queue, Timer::A);
        self.halt(queue, Timer::B);
    }

    /// Takes note that a timer has fired.
    pub(super) fn fired(&mut self, timer: Timer) {
        *self.part(timer) = None;
        if timer.sends() {
            self.rounds = self.rounds.saturating_add(1);
        }
    }

    fn halt(&mut self, queue: &mut Queue<Fire>, timer: Timer) {
        if let Some(armed) = self.part(timer).take() {
            queue.cancel(armed);
        }
    }

    fn part(&mut self, timer: Timer) -> &mut Option<Armed> {
        if timer.sends() { &mut self.resend } else { &mut self.end }
    }
}

/// Which timer starts when, on what kind of transport.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) now: Instant,
    pub(super) timer: Timer,
    pub(super) reliable: bool,
}

impl Timer {
    /// Whether it sends something again, rather than ending a state.
    fn sends(self) -> bool {
        matches!(self, Timer::A | Timer::E | Timer::SlowE | Timer::G | Timer::Trying)
    }

    /// How long it runs, having fired `rounds` times before; `None`: not at all on this transport.
    fn length(self, base: &Timers, reliable: bool, rounds: u8) -> Option<Duration> {
        let doubled = || base.t1.saturating_mul(1 << rounds.min(16));
        let unless_reliable = |length| if reliable { Duration::ZERO } else { length };
        match self {
            Timer::A => (!reliable).then(doubled),
            Timer::E | Timer::G => (!reliable).then(|| doubled().min(base.t2)),
            Timer::SlowE => (!reliable).then_some(base.t2),
            Timer::B | Timer::F | Timer::H | Timer::L | Timer::M | Timer::GivenUp => Some(64 * base.t1),
            Timer::D | Timer::J => Some(unless_reliable(64 * base.t1)),
            Timer::I | Timer::K => Some(unless_reliable(base.t4)),
            Timer::Trying => Some(TRYING),
        }
    }
}

/// RFC 3261 §17.2.1: 100 unless the service answers within 200 ms.
const TRYING: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn run(timer: Timer, reliable: bool) -> Vec<Option<u128>> {
        (0..5).map(|n| timer.length(&Timers::default(), reliable, n).map(|d| d.as_millis())).collect()
    }

    #[test]
    fn retransmissions_double_and_only_a_passes_t2() {
        assert_eq!(run(Timer::A, false), [500, 1000, 2000, 4000, 8000].map(Some));
        assert_eq!(run(Timer::E, false), [500, 1000, 2000, 4000, 4000].map(Some));
        assert_eq!(run(Timer::G, false), [500, 1000, 2000, 4000, 4000].map(Some));
        assert_eq!(run(Timer::SlowE, false), [4000; 5].map(Some));
    }

    #[test]
    fn nothing_is_retransmitted_on_a_reliable_transport() {
        for timer in [Timer::A, Timer::E, Timer::SlowE, Timer::G] {
            assert_eq!(run(timer, true), [None; 5]);
        }
    }

    #[test]
    fn waits_are_those_of_table_4() {
        for (timer, udp, tcp) in [
            (Timer::B, 32_000, 32_000),
            (Timer::D, 32_000, 0),
            (Timer::F, 32_000, 32_000),
            (Timer::H, 32_000, 32_000),
            (Timer::I, 5_000, 0),
            (Timer::J, 32_000, 0),
            (Timer::K, 5_000, 0),
            (Timer::L, 32_000, 32_000),
            (Timer::M, 32_000, 32_000),
        ] {
            assert_eq!((run(timer, false)[0], run(timer, true)[0]), (Some(udp), Some(tcp)), "{timer:?}");
        }
    }
}
