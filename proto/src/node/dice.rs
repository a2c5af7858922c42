//! A node's randomness: all of it follows from the seed the node is born with.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A seeded, cryptographically strong source of randomness (ChaCha12).
#[derive(Clone, Debug)]
pub struct Dice(ChaCha12Rng);

impl Dice {
    pub(crate) fn new(seed: [u8; 32], stream: u64) -> Dice {
        let mut rng = ChaCha12Rng::from_seed(seed);
        rng.set_stream(stream);
        Dice(rng)
    }

    /// 64 random bits.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// 32 random bits.
    pub fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Uniform in `0..bound`; `bound` must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Fills an array with random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.0.fill_bytes(&mut out);
        out
    }

    /// `len` characters of `[a-z0-9]`: for tags, branches and Call-IDs (5.17 bits each).
    pub fn word(&mut self, len: usize) -> String {
        const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        (0..len).map(|_| char::from(ALPHABET[self.below(36) as usize])).collect()
    }

    /// `base` ± up to `percent` of it.
    pub fn jitter(&mut self, base: Duration, percent: u32) -> Duration {
        let span = base.as_micros() as u64 * u64::from(percent) / 100;
        base - Duration::from_micros(span) + Duration::from_micros(self.below(2 * span + 1))
    }
}
