//! How much each destination is to get: token buckets in a table of fixed size, found by a keyed hash.
//!
//! Two destinations in one bucket share its rate; with the key nobody outside can choose whom to share with.

use std::hash::Hasher;
use std::net::IpAddr;

/// The table: 64 Ki buckets of 8 bytes.
#[derive(Debug)]
pub(crate) struct Rates {
    key: u64,
    per_second: u32,
    buckets: Box<[Bucket]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    second: u32,
    taken: u32,
}

const BUCKETS: usize = 1 << 16;

impl Rates {
    pub(crate) fn new(key: u64, per_second: u32) -> Rates {
        Rates { key, per_second, buckets: vec![Bucket::default(); BUCKETS].into() }
    }

    /// Takes one; `false`: this second's are spent.
    pub(crate) fn take(&mut self, to: IpAddr, second: u32) -> bool {
        let bucket = &mut self.buckets[place(self.key, to)];
        if bucket.second != second {
            *bucket = Bucket { second, taken: 0 };
        }
        let free = bucket.taken < self.per_second;
        bucket.taken += u32::from(free);
        free
    }
}

/// A host's place; of IPv6 a /64 counts as one.
fn place(key: u64, to: IpAddr) -> usize {
    let bits = match to {
        IpAddr::V4(ip) => u64::from(u32::from(ip)),
        IpAddr::V6(ip) => (u128::from(ip) >> 64) as u64,
    };
    let mut hash = std::hash::DefaultHasher::new();
    hash.write_u64(key);
    hash.write_u64(bits);
    hash.finish() as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_gets_its_rate_each_second_and_others_theirs() {
        let mut rates = Rates::new(1, 3);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!((0..5).filter(|_| rates.take(one, 7)).count(), 3);
        assert!(rates.take(other, 7));
        assert!(rates.take(one, 8));
    }
}
