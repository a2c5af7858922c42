//! Which packet this is, counted over all roll-overs of the sequence number, and whether it came before
//! (RFC 3711 §3.3.1, §3.3.2, Appendix A).

use super::{MAX_STREAMS, Refused};

/// Packets behind the newest that may still come.
const WINDOW: u64 = 128;

/// Positions are noted down every 2^14 packets: half of what a roll-over counter can still be guessed from, so that what is
/// noted may be as old again.
const NOTED: u32 = 14;

/// The newest index and which of those behind it were seen: bit 0 is the newest itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    newest: Option<u64>,
    bits: u128,
}

impl Seen {
    /// As after a packet of this index, of which nothing behind it may come any more.
    pub(super) fn resumed(newest: u64) -> Seen {
        Seen { newest: Some(newest), bits: u128::MAX }
    }

    /// The newest index.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Whether this index lies so far beyond the newest one that whoever wants to go on from there should note it down.
    pub(super) fn is_far(&self, index: u64) -> bool {
        self.newest.is_none_or(|newest| newest >> NOTED < index >> NOTED)
    }

    /// The 48-bit index that a sequence number most likely means.
    pub(super) fn guess(&self, sequence: u16) -> Result<u64, Refused> {
        let Some(newest) = self.newest else { return Ok(u64::from(sequence)) };
        let (roc, last) = (newest >> 16, newest as u16);
        let roc = if last < 0x8000 && sequence > last && sequence - last > 0x8000 {
            roc.checked_sub(1).ok_or(Refused::Replayed)?
        } else if last >= 0x8000 && sequence < last - 0x8000 {
            roc + 1
        } else {
            roc
        };
        if roc > u64::from(u32::MAX) {
            return Err(Refused::Exhausted);
        }
        Ok(roc << 16 | u64::from(sequence))
    }

    /// Whether an index is new and not too old.
    pub(super) fn is_new(&self, index: u64) -> bool {
        match self.newest.and_then(|newest| newest.checked_sub(index)) {
            None => true,
            Some(behind) => behind < WINDOW && self.bits >> behind & 1 == 0,
        }
    }

    /// Remembers an index that proved to be right.
    pub(super) fn note(&mut self, index: u64) {
        let newest = self.newest.unwrap_or(index);
        if index >= newest {
            self.bits = u32::try_from(index - newest)
                .ok()
                .and_then(|ahead| self.bits.checked_shl(ahead))
                .unwrap_or(0)
                | 1;
            self.newest = Some(index);
        } else if newest - index < WINDOW {
            self.bits |= 1 << (newest - index);
        }
    }
}

/// One state for every SSRC, the one that was met last in front: a leg has a few, and one or two at a time. None is ever
/// forgotten: an SSRC that came back would begin at index 0 again, under a key that has used it.
#[derive(Clone, Debug)]
pub(super) struct PerSsrc<T>(Vec<(u32, T)>);

impl<T: Copy + Default> PerSsrc<T> {
    pub(super) fn new() -> PerSsrc<T> {
        PerSsrc(Vec::new())
    }

    /// A copy of the state, fresh for an SSRC not met yet.
    pub(super) fn state(&self, ssrc: u32) -> Result<T, Refused> {
        match self.0.iter().find(|(known, _)| *known == ssrc) {
            Some((_, state)) => Ok(*state),
            None if self.0.len() < MAX_STREAMS => Ok(T::default()),
            None => Err(Refused::TooManyStreams),
        }
    }

    /// Every SSRC with its state.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, T)> + '_ {
        self.0.iter().copied()
    }

    /// Puts the state back. Only what is authentic gets here, so a stranger opens no streams.
    pub(super) fn keep(&mut self, ssrc: u32, state: T) {
        let at = self.0.iter().position(|(known, _)| *known == ssrc).unwrap_or_else(|| {
            self.0.push((ssrc, state));
            self.0.len() - 1
        });
        self.0[..=at].rotate_right(1);
        self.0[0] = (ssrc, state);
    }
}
