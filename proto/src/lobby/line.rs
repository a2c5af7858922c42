//! Those of one kind who wait, oldest first, and how long whoever comes now would have to.
//!
//! How long the oldest has waited says too little: when that is too long, all who wait behind it came while it was not yet,
//! and will have to wait longer still. To refuse by it alone is to let in a crowd, to refuse everybody until that is gone, and to
//! begin anew. So it is how many wait that is kept short, by how many were served lately.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::marks::Mark;
use super::{Arrival, ROOM};

/// Who was served in this time tells how long those who wait have to: five periods of a CPU quota.
const WINDOW: Duration = Duration::from_millis(500);
/// How long what was learned in a window is believed once the line is empty.
const BELIEF: Duration = Duration::from_secs(2);

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) since: Instant,
    /// Its INVITE's, for those behind an INVITE too.
    pub(super) mark: Mark,
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
    /// How many were served in the last full window, and when that ended.
    served: Option<(u32, Instant)>,
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
            let now = guest.since;
            self.window = Some((now, 0));
            self.served = self.served.filter(|(_, at)| now.saturating_duration_since(*at) < BELIEF);
        }
        self.guests.push_back(guest);
    }

    pub(super) fn pop(&mut self, now: Instant) -> Option<Guest> {
        let guest = self.guests.pop_front()?;
        let (since, served) = self.window.map_or((now, 1), |(since, served)| (since, served + 1));
        let passed = now.saturating_duration_since(since);
        self.window = Some((since, served));
        if passed >= WINDOW {
            let in_one = u128::from(served) * WINDOW.as_micros() / passed.as_micros();
            self.served = Some((in_one as u32, now));
            self.window = Some((now, 0));
        }
        Some(guest)
    }

    /// Whether whoever comes now would have to wait too long; as long as nobody knows, whether the oldest has.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        let waiting = self.guests.len();
        let is_long = match (self.served, self.guests.front()) {
            (_, None) => false,
            (Some((served, _)), _) => WINDOW * waiting as u32 > self.most * served,
            (None, Some(oldest)) => now.saturating_duration_since(oldest.since) > self.most,
        };
        is_long || waiting >= ROOM
    }
}
