//! Hashing of what strangers choose (Call-IDs): SipHash behind a secret from the node's own dice, so that nobody can
//! aim at one bucket and the same seed gives the same run. What we number ourselves needs no secret.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};

use proto::hashing::mixed;
use proto::node::Dice;

/// A hash map that is never iterated.
pub(crate) type Map<K, V> = HashMap<K, V, Keyed>;

/// The same, of keys that are numbers we have given out.
pub(crate) type Numbered<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

/// A hasher that begins with a secret.
#[derive(Clone, Debug)]
pub(crate) struct Keyed(DefaultHasher);

impl Keyed {
    /// With a secret from these dice.
    pub(crate) fn new(dice: &mut Dice) -> Keyed {
        let mut begun = DefaultHasher::new();
        begun.write_u64(dice.u64());
        begun.write_u64(dice.u64());
        Keyed(begun)
    }
}

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        self.0.clone()
    }
}

/// Spreads numbers that count up over all bits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mixed(self.0, number ^ ODD);
    }
}

/// So that 0 is a number like others.
const ODD: u64 = 0xd1b5_4a32_d192_ed03;
