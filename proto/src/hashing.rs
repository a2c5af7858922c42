//! Hashes that are made for nearly every message.

use std::hash::{DefaultHasher, Hasher};

/// Bytes that are gathered: most of what tells a request from others fits.
const ROOM: usize = 192;

/// 2^64 divided by the golden ratio, made odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads two numbers over all bits of one. It withstands nobody who knows one of them and chooses the other.
pub fn mixed(one: u64, other: u64) -> u64 {
    let product = u128::from(one ^ other) * u128::from(GOLDEN);
    (product >> 64) as u64 ^ product as u64
}

/// A hash of many small pieces, which are gathered first: SipHash takes a long piece in far fewer steps than many short ones. Gives
/// what its hasher would have given for the same pieces.
pub(crate) struct Gathered {
    hasher: DefaultHasher,
    pieces: [u8; ROOM],
    length: usize,
}

impl Gathered {
    /// What comes is hashed after what `hasher` has had.
    pub(crate) fn after(hasher: DefaultHasher) -> Gathered {
        Gathered { hasher, pieces: [0; ROOM], length: 0 }
    }
}

impl Hasher for Gathered {
    fn write(&mut self, piece: &[u8]) {
        if self.length + piece.len() > ROOM {
            self.hasher.write(&self.pieces[..self.length]);
            self.length = 0;
        }
        match self.pieces.get_mut(self.length..self.length + piece.len()) {
            Some(place) => {
                place.copy_from_slice(piece);
                self.length += piece.len();
            }
            None => self.hasher.write(piece),
        }
    }

    fn finish(&self) -> u64 {
        let mut hasher = self.hasher.clone();
        hasher.write(&self.pieces[..self.length]);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_one_hash_gathered_or_not() {
        for lengths in [&[0][..], &[1, 2, 3], &[191, 1, 1], &[192, 192], &[100, 100, 500, 8], &[1000]] {
            let (mut gathered, mut plain) = (Gathered::after(DefaultHasher::new()), DefaultHasher::new());
            for (number, length) in lengths.iter().enumerate() {
                let piece = vec![number as u8; *length];
                gathered.write(&piece);
                plain.write(&piece);
            }
            assert_eq!(gathered.finish(), plain.finish(), "{lengths:?}");
        }
    }
}
