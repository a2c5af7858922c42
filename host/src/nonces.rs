//! Which counts of which nonces were used (RFC 7616 §3.4, `nc`): the newest are remembered, in two generations.
//!
//! When a generation is full, or so old that no nonce in it is good any more, it becomes the former one, and the one before is
//! forgotten as a whole. They are in order, which is that of their making: those of one moment are neighbours, and nearly all that is
//! used was made just now, so that it is found where the processor has just been.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Nonces of one generation.
const GENERATION: usize = 50_000;
/// How long a used nonce matters: longer than any nonce is good for.
const LIFE: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Debug)]
pub(crate) struct Nonces {
    present: BTreeMap<u64, Used>,
    former: BTreeMap<u64, Used>,
    begun: Instant,
}

/// The counts of one nonce that were used: the highest, and which of the 64 up to it.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    highest: u32,
    mask: u64,
}

impl Nonces {
    /// None was used.
    pub(crate) fn new(now: Instant) -> Nonces {
        Nonces { present: BTreeMap::new(), former: BTreeMap::new(), begun: now }
    }

    /// Marks a count as used; `false` when it was, or is too old to tell.
    pub(crate) fn take(&mut self, now: Instant, nonce: u64, count: u32) -> bool {
        if self.present.len() >= GENERATION || now.saturating_duration_since(self.begun) > LIFE {
            (self.former, self.begun) = (std::mem::take(&mut self.present), now);
        }
        let former = &mut self.former;
        self.present.entry(nonce).or_insert_with(|| former.remove(&nonce).unwrap_or_default()).take(count)
    }
}

impl Used {
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            let shift = count - self.highest;
            self.mask = self.mask.checked_shl(shift).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let bit = 1u64.checked_shl(self.highest - count).unwrap_or(0);
        let fresh = count > 0 && bit != 0 && self.mask & bit == 0;
        self.mask |= bit;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_serves_once_within_its_window() {
        let now = Instant::now();
        let mut nonces = Nonces::new(now);
        let mut take = |nonce, count| nonces.take(now, nonce, count);
        assert!(take(7, 1));
        assert!(!take(7, 1));
        assert!(take(7, 66));
        assert!(take(7, 3), "63 back is inside");
        assert!(!take(7, 2), "64 back is outside");
        assert!(!take(7, 0));
        assert!(take(8, 1), "another nonce counts for itself");
    }

    #[test]
    fn the_newest_generation_is_remembered_and_no_more_than_two() {
        let now = Instant::now();
        let mut nonces = Nonces::new(now);
        let several = 3 * GENERATION as u64;
        assert!((0..several).all(|nonce| nonces.take(now, nonce, 1)));
        assert!(nonces.present.len() + nonces.former.len() <= 2 * GENERATION);
        assert!((several - GENERATION as u64..several).all(|nonce| !nonces.take(now, nonce, 1)));
    }

    #[test]
    fn a_nonce_is_remembered_for_as_long_as_it_may_be_good() {
        let start = Instant::now();
        let mut nonces = Nonces::new(start);
        assert!(nonces.take(start + LIFE, 7, 1));
        assert!(!nonces.take(start + 2 * LIFE, 7, 1));
        nonces.take(start + 5 * LIFE, 8, 1);
        nonces.take(start + 7 * LIFE, 8, 2);
        assert!(nonces.take(start + 7 * LIFE, 7, 1), "forgotten when it has long been stale");
    }
}
