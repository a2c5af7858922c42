//! One moment on both clocks: the monotonic one that timers run by, and the wall's that expiries and tokens name.

use std::time::{Instant, SystemTime};

use proto::node::Birth;

/// Now. Made once per `handle`.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Monotonic.
    pub at: Instant,
    /// Wall clock.
    pub wall: SystemTime,
}

impl Moment {
    /// `at` as a node born so sees it.
    pub fn new(birth: &Birth, at: Instant) -> Moment {
        Moment { at, wall: birth.wall_at(at) }
    }

    /// Seconds since the Unix epoch.
    pub fn unix(&self) -> u64 {
        self.unix_ms() / 1000
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_ms(&self) -> u64 {
        self.wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }
}
