//! Sessions that a BYE has ended, for as long as an overheard request of theirs could still prove itself: twice the
//! window of Node-Auth, since its clock may be ahead of ours by one and behind by another.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

const MEMORY: Duration = Duration::from_secs(120);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    names: BTreeSet<u64>,
    order: VecDeque<(Instant, u64)>,
}

impl Ended {
    /// Remembers one, and forgets those whose time is over.
    pub(crate) fn insert(&mut self, now: Instant, session: u64) {
        self.forget(now);
        if self.names.insert(session) {
            self.order.push_back((now, session));
        }
    }

    /// Whether it ended lately.
    pub(crate) fn contains(&mut self, now: Instant, session: u64) -> bool {
        self.forget(now);
        self.names.contains(&session)
    }

    fn forget(&mut self, now: Instant) {
        while let Some(&(at, session)) = self.order.front()
            && now.saturating_duration_since(at) > MEMORY
        {
            self.order.pop_front();
            self.names.remove(&session);
        }
    }
}
