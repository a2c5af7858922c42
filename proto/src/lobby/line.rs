//! Those of one kind who wait, oldest first, and how long whoever comes now would have to.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Arrival, ROOM};

/// Who was served in this time tells how long those who wait have to: five periods of a CPU quota.
const WINDOW: Duration = Duration::from_millis(500);

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) since: Instant,
    /// Its INVITE's, for those behind an INVITE too.
    pub(super) mark: u64,
    pub(super) item: Arrival,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    /// How long anybody may have to wait.
    most: Duration,
    guests: VecDeque<Guest>,
    /// Since when there has always been somebody, or a [`WINDOW`] ended; and how many were served since then.
    window: Option<(Instant, u32)>,
    /// How many were served in the last full window.
    served: Option<u32>,
}

impl Line {
    /// An empty one in which nobody is to wait longer than that.
    pub(super) fn new(most: Duration) -> Line {
        Line { most, guests: VecDeque::new(), window: None, served: None }
    }

    pub(super) fn len(&self) -> usize {
        self.guests.len()
    }

    pub(super) fn push(&mut self, guest: Guest) {
        if self.guests.is_empty() {
            (self.window, self.served) = (Some((guest.since, 0)), None);
        }
        self.guests.push_back(guest);
    }

    pub(super) fn pop(&mut self, now: Instant) -> Option<Guest> {
        let guest = self.guests.pop_front()?;
        let (since, served) = self.window.map_or((now, 1), |(since, served)| (since, served + 1));
        let passed = now.saturating_duration_since(since);
        self.window = Some((since, served));
        if passed >= WINDOW {
            self.served = Some((u128::from(served) * WINDOW.as_micros() / passed.as_micros()) as u32);
            self.window = Some((now, 0));
        }
        Some(guest)
    }

    /// Whether its oldest has waited too long, or whoever comes now would have to.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        let waiting = self.guests.len();
        waiting >= ROOM
            || self
                .guests
                .front()
                .is_some_and(|oldest| now.saturating_duration_since(oldest.since) > self.most)
            || self.served.is_some_and(|served| WINDOW * waiting as u32 > self.most * served)
    }
}
