//! Counts of what sources and accounts did, in a table that never grows.
//!
//! A key belongs to a set of eight lines. A new key takes an empty line, else the one that is worth least: never seen to
//! be good, without failures, untouched for longest. So a flood of forged sources drives out forged sources. Columns stand
//! apart, so that eight keys are one cache line, and so that pages nobody has touched cost no memory. The table is made for the
//! first key: most services of a process see none.

/// Lines that a key may take.
const WAYS: usize = 8;
/// Lines in all.
const LINES: usize = 65_536;
/// Buckets of a line.
pub(super) const BUCKETS: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    keys: Vec<u64>,
    /// When a line was last touched, in milliseconds.
    at: Vec<u64>,
    /// How full its buckets are.
    levels: Vec<[f32; BUCKETS]>,
    /// Two sets of names, each by its hash's last six bits, and when they were begun.
    names: Vec<[u64; 2]>,
    begun: Vec<u64>,
    /// Until when it is remembered to be good.
    good: Vec<u64>,
    /// When it was last told about.
    told: Vec<u64>,
}

impl Ledger {
    /// With all its lines.
    fn with_lines() -> Ledger {
        Ledger {
            keys: vec![0; LINES],
            at: vec![0; LINES],
            levels: vec![[0.0; BUCKETS]; LINES],
            names: vec![[0; 2]; LINES],
            begun: vec![0; LINES],
            good: vec![0; LINES],
            told: vec![0; LINES],
        }
    }

    /// The line of a key, if it has one.
    pub(super) fn find(&self, key: u64) -> Option<usize> {
        let set = set_of(key);
        self.keys.get(set..set + WAYS)?.iter().position(|&there| there == key).map(|way| set + way)
    }

    /// The line of a key; a new one, if need be. `rates` is what leaks from each bucket in a second.
    pub(super) fn line(&mut self, now: u64, key: u64, rates: [f32; BUCKETS]) -> usize {
        let line = self.find(key).unwrap_or_else(|| self.take(now, key));
        let passed = now.saturating_sub(self.at[line]) as f32 / 1000.0;
        for (level, rate) in self.levels[line].iter_mut().zip(rates) {
            *level = (*level - passed * rate).max(0.0);
        }
        self.at[line] = now;
        line
    }

    fn take(&mut self, now: u64, key: u64) -> usize {
        if self.keys.is_empty() {
            *self = Ledger::with_lines();
        }
        let set = set_of(key);
        let line = (set..set + WAYS).min_by_key(|&line| self.worth(now, line)).unwrap_or(set);
        self.keys[line] = key;
        (self.levels[line], self.names[line]) = ([0.0; BUCKETS], [0; 2]);
        (self.begun[line], self.good[line], self.told[line], self.at[line]) = (0, 0, 0, now);
        line
    }

    fn worth(&self, now: u64, line: usize) -> (bool, bool, bool, u64) {
        let failed = self.levels[line][super::FAILURES] > 0.0;
        (self.keys[line] != 0, self.good[line] > now, failed, self.at[line])
    }

    /// Puts `cost` into a bucket of this size, if it still fits.
    pub(super) fn fill(&mut self, line: usize, bucket: usize, size: f32, cost: f32) -> bool {
        let level = &mut self.levels[line][bucket];
        let fits = *level + cost <= size;
        if fits {
            *level += cost;
        }
        fits
    }

    /// Empties a bucket.
    pub(super) fn empty(&mut self, line: usize, bucket: usize) {
        self.levels[line][bucket] = 0.0;
    }

    /// Takes something out of a bucket.
    pub(super) fn take_back(&mut self, line: usize, bucket: usize, amount: f32) {
        let level = &mut self.levels[line][bucket];
        *level = (*level - amount).max(0.0);
    }

    /// Notes a name, and tells of how many different ones there have been since the window began: n of them are seen
    /// as 64·(1 − e^(−n/64)).
    pub(super) fn note_name(&mut self, line: usize, now: u64, set: usize, hash: u64, window: u64) -> u32 {
        if now.saturating_sub(self.begun[line]) > window {
            (self.names[line], self.begun[line]) = ([0; 2], now);
        }
        let names = &mut self.names[line][set];
        *names |= 1 << (hash % 64);
        names.count_ones()
    }

    /// It is good, until then.
    pub(super) fn praise(&mut self, line: usize, until: u64) {
        self.good[line] = until;
    }

    /// Whether it has lately been good.
    pub(super) fn is_good(&self, line: usize, now: u64) -> bool {
        self.good[line] > now
    }

    /// Whether it is time to tell of it again, and notes that it was told.
    pub(super) fn tell(&mut self, line: usize, now: u64, pause: u64) -> bool {
        let due = self.told[line] == 0 || now >= self.told[line] + pause;
        if due {
            self.told[line] = now;
        }
        due
    }
}

fn set_of(key: u64) -> usize {
    key as usize % (LINES / WAYS) * WAYS
}

/// A bucket for all together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    at: u64,
    level: f32,
}

impl Bucket {
    /// Counts one, if this second has room for it.
    pub(super) fn fill(&mut self, now: u64, rate: f32) -> bool {
        let passed = now.saturating_sub(self.at) as f32 / 1000.0;
        (self.at, self.level) = (now, (self.level - passed * rate).max(0.0));
        let fits = self.level + 1.0 <= rate;
        self.level += if fits { 1.0 } else { 0.0 };
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: [f32; BUCKETS] = [10.0; BUCKETS];
    /// Keys of one set.
    fn key(number: usize) -> u64 {
        (7 + number * LINES / WAYS) as u64
    }

    #[test]
    fn a_bucket_fills_and_leaks() {
        let mut ledger = Ledger::default();
        let line = ledger.line(1, 7, RATES);
        assert_eq!((0..20).filter(|_| ledger.fill(line, 0, 10.0, 1.0)).count(), 10);
        let line = ledger.line(501, 7, RATES);
        assert_eq!((0..20).filter(|_| ledger.fill(line, 0, 10.0, 1.0)).count(), 5, "half a second later");
    }

    #[test]
    fn who_is_new_drives_out_whom_nobody_knows_before_who_failed_before_who_is_good() {
        let mut ledger = Ledger::default();
        let good = ledger.line(1, key(0), RATES);
        ledger.praise(good, 1_000_000);
        let failed = ledger.line(2, key(1), [0.0; BUCKETS]);
        ledger.fill(failed, super::super::FAILURES, 6.0, 1.0);
        for number in 2..100 {
            ledger.line(3 + number as u64, key(number), [0.0; BUCKETS]);
        }
        assert!(ledger.find(key(0)).is_some() && ledger.find(key(1)).is_some());
        let here = (0..100).filter(|&number| ledger.find(key(number)).is_some()).count();
        assert_eq!(here, WAYS);
    }

    #[test]
    fn names_are_counted_once_each_until_the_window_ends() {
        let mut ledger = Ledger::default();
        let line = ledger.line(1, 7, RATES);
        for hash in [1, 2, 2, 1, 3] {
            ledger.note_name(line, 10, 0, hash, 1000);
        }
        assert_eq!(ledger.note_name(line, 20, 0, 3, 1000), 3);
        assert_eq!(ledger.note_name(line, 20, 1, 3, 1000), 1, "the other set is another");
        assert_eq!(ledger.note_name(line, 5000, 0, 4, 1000), 1);
    }
}
