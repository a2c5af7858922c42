//! How many calls a trunk carries, and whether it takes one more.
//!
//! Each lane counts its own: a limit is shared out among the lanes.

use std::collections::BTreeMap;
use std::time::Instant;

use proto::event::Name;
use proto::node::Lane;

use super::trunk::Trunk;

/// The calls of all trunks on this lane.
#[derive(Debug)]
pub(crate) struct Loads {
    lane: Lane,
    by_trunk: BTreeMap<Name, Load>,
}

#[derive(Debug, Default)]
struct Load {
    calls: u32,
    full: u64,
    bucket: Option<Bucket>,
}

/// Calls that may begin now, in thousandths; one second's worth at most.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: u64,
    at: Instant,
}

impl Loads {
    /// Nothing is up.
    pub(crate) fn new(lane: Lane) -> Loads {
        Loads { lane, by_trunk: BTreeMap::new() }
    }

    /// Calls up on a trunk, and how many found it full.
    pub(crate) fn of(&self, trunk: &str) -> (u32, u64) {
        self.by_trunk.get(trunk).map_or((0, 0), |load| (load.calls, load.full))
    }

    /// This lane's share of a trunk's limit.
    pub(crate) fn most(&self, trunk: &Trunk) -> Option<u32> {
        trunk.caps.calls.map(|all| share(all, self.lane))
    }

    /// A call begins on a trunk; `outward`: towards it, so that its rate counts. `false`: it is full.
    pub(crate) fn begin(&mut self, now: Instant, trunk: &Trunk, outward: bool) -> bool {
        let most = self.most(trunk);
        let rate = trunk.caps.per_second.filter(|_| outward).map(|all| share(all, self.lane));
        let load = self.by_trunk.entry(trunk.name.clone()).or_default();
        let fits = most.is_none_or(|most| load.calls < most) && rate.is_none_or(|rate| load.take(now, rate));
        match fits {
            true => load.calls += 1,
            false => load.full += 1,
        }
        fits
    }

    /// A call has left a trunk.
    pub(crate) fn end(&mut self, trunk: &str) {
        if let Some(load) = self.by_trunk.get_mut(trunk) {
            load.calls = load.calls.saturating_sub(1);
        }
    }
}

impl Load {
    fn take(&mut self, now: Instant, rate: u32) -> bool {
        let most = u64::from(rate) * 1000;
        let bucket = self.bucket.get_or_insert(Bucket { level: most, at: now });
        let passed = now.saturating_duration_since(bucket.at).as_millis() as u64;
        bucket.level = (bucket.level + passed.saturating_mul(u64::from(rate))).min(most);
        bucket.at = now;
        let fits = bucket.level >= 1000;
        bucket.level -= if fits { 1000 } else { 0 };
        fits
    }
}

/// A lane's share: what is left over goes to the first lanes.
fn share(all: u32, lane: Lane) -> u32 {
    let count = u32::from(lane.count.max(1));
    all / count + u32::from(u32::from(lane.index) < all % count)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tests::testing::Clock;
    use crate::trunks::Caps;

    #[test]
    fn a_trunk_takes_so_many_calls_and_no_more_until_one_ends() {
        let mut loads = Loads::new(Lane::default());
        let trunk = Trunk { caps: Caps { calls: Some(2), per_second: None }, ..Trunk::named("a") };
        let now = Clock::new().now().at;
        let begun: Vec<bool> = (0..3).map(|_| loads.begin(now, &trunk, false)).collect();
        assert_eq!(begun, [true, true, false]);
        loads.end("a");
        assert!(loads.begin(now, &trunk, true));
        assert_eq!(loads.of("a"), (2, 1));
    }

    #[test]
    fn calls_towards_a_trunk_begin_at_its_rate() {
        let mut loads = Loads::new(Lane::default());
        let trunk = Trunk { caps: Caps { calls: None, per_second: Some(2) }, ..Trunk::named("a") };
        let now = Clock::new().now().at;
        let at = |ms| now + Duration::from_millis(ms);
        let begun: Vec<bool> = [0, 0, 0, 499, 500].map(|ms| loads.begin(at(ms), &trunk, true)).into();
        assert_eq!(begun, [true, true, false, false, true]);
    }

    #[test]
    fn lanes_share_a_limit() {
        let shares = (0..3).map(|index| share(10, Lane { index, count: 3 }));
        assert_eq!(shares.collect::<Vec<_>>(), [4, 3, 3]);
    }
}
