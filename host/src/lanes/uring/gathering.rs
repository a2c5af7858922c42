//! How long packets gather before they are read. Being woken costs more than carrying a packet does, so where many come, few
//! wake-ups are worth a moment; where few come, each is carried at once. What came in one [`WINDOW`] decides for the next, and
//! a rate must fall by a quarter before less is waited for, so that nothing swings.

use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_millis(20);

/// How a turn waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pace {
    /// For the first packet.
    AtOnce,
    /// A little.
    Calm,
    /// Longer: so many come that a turn's own work is what counts.
    Rush,
}

/// Packets a second from which on a pace is kept to.
const CALM: u64 = 10_000;
const RUSH: u64 = 64_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Gathering {
    began: Instant,
    packets: u64,
    pace: Pace,
}

impl Gathering {
    /// Nothing is known yet.
    pub(super) fn new(now: Instant) -> Gathering {
        Gathering { began: now, packets: 0, pace: Pace::Calm }
    }

    /// So many packets a turn should find, unless so many microseconds pass first.
    pub(super) fn wait(&self) -> (usize, u32) {
        match self.pace {
            Pace::AtOnce => (1, 0),
            Pace::Calm => (64, 500),
            Pace::Rush => (256, 1_000),
        }
    }

    /// A turn has brought so many.
    pub(super) fn took(&mut self, now: Instant, packets: u64) {
        self.packets += packets;
        let passed = now.saturating_duration_since(self.began);
        if passed >= WINDOW {
            let rate = self.packets * 1_000_000 / passed.as_micros() as u64;
            (self.began, self.packets, self.pace) = (now, 0, self.pace.at(rate));
        }
    }
}

impl Pace {
    fn at(self, rate: u64) -> Pace {
        let holds = |pace: Pace, from: u64| rate >= if self >= pace { from - from / 4 } else { from };
        match () {
            _ if holds(Pace::Rush, RUSH) => Pace::Rush,
            _ if holds(Pace::Calm, CALM) => Pace::Calm,
            _ => Pace::AtOnce,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_packets_are_carried_at_once_and_many_gather() {
        let up = [9_999, 10_000, 63_999, 64_000].map(|rate| Pace::AtOnce.at(rate));
        assert_eq!(up, [Pace::AtOnce, Pace::Calm, Pace::Calm, Pace::Rush]);
    }

    #[test]
    fn a_rate_falls_by_a_quarter_before_less_is_waited_for() {
        let down = [48_000, 47_999, 7_500, 7_499].map(|rate| Pace::Rush.at(rate));
        assert_eq!(down, [Pace::Rush, Pace::Calm, Pace::Calm, Pace::AtOnce]);
        assert_eq!(Pace::Calm.at(48_000), Pace::Calm);
    }

    #[test]
    fn a_window_decides_for_the_next() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut gathering = Gathering::new(start);
        gathering.took(at(19), 10);
        assert_eq!(gathering.pace, Pace::Calm, "nothing is known yet");
        gathering.took(at(20), 10);
        assert_eq!(gathering.pace, Pace::AtOnce);
        gathering.took(at(30), 150);
        gathering.took(at(40), 50);
        assert_eq!(gathering.pace, Pace::Calm);
        gathering.took(at(2_000), 1);
        assert_eq!(gathering.pace, Pace::AtOnce, "long ago");
    }
}
