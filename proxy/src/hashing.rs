//! Hashing of what strangers choose (Call-IDs): SipHash behind a secret from the node's own dice, so that nobody can
//! aim at one bucket and the same seed gives the same run.

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher};

use proto::node::Dice;

/// A hash map that is never iterated.
pub(crate) type Map<K, V> = HashMap<K, V, Keyed>;

/// A hasher that begins with a secret.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed(u64, u64);

impl Keyed {
    /// With a secret from these dice.
    pub(crate) fn new(dice: &mut Dice) -> Keyed {
        Keyed(dice.u64(), dice.u64())
    }
}

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher.write_u64(self.1);
        hasher
    }
}
