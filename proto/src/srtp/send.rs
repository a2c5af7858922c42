//! Protecting what leaves (RFC 3711 §3.3, §3.4; RFC 7714 §8, §9).

use super::index::{PerSsrc, Seen};
use super::keys::{Cipher, GCM_TAG, Of, authenticate};
use super::{Master, Position, Refused, positions, read_rtp, ssrc_at};

/// Protects one direction. No index is used twice, whatever the sequence numbers do: the same key stream over two
/// payloads would tell both.
#[derive(Clone)]
pub struct Sender {
    pub(super) rtp: Cipher,
    pub(super) rtcp: Cipher,
    streams: PerSsrc<Seen>,
    pub(super) reports: PerSsrc<u32>,
    moved: bool,
}

impl Sender {
    /// Under this key, from the beginning.
    pub fn new(master: &Master) -> Sender {
        Sender {
            rtp: Cipher::new(master, Of::Rtp),
            rtcp: Cipher::new(master, Of::Rtcp),
            streams: PerSsrc::new(),
            reports: PerSsrc::new(),
            moved: false,
        }
    }

    /// Where it stands, for [`Sender::resume`]: SSRC, newest packet, newest report.
    pub fn position(&self) -> Vec<Position> {
        positions(&self.streams, self.reports.all().map(|(ssrc, index)| (ssrc, u64::from(index))))
    }

    /// Whether a position noted down before is too old to go on from; asked once, it is not any more.
    pub fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Goes on from a position that may be somewhat older than where it really stood. Reports leap over all that may have
    /// been used meanwhile: no index is used twice.
    pub fn resume(&mut self, position: &[Position]) {
        for at in position {
            at.packet.into_iter().for_each(|newest| self.streams.keep(at.ssrc, Seen::resumed(newest)));
            let report = at.report.map(|index| u32::try_from(index).unwrap_or(u32::MAX).saturating_add(LEAP));
            report.into_iter().for_each(|index| self.reports.keep(at.ssrc, index));
        }
    }

    /// Protects the RTP packet in the first `len` bytes; gives its new length.
    pub fn rtp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, Refused> {
        let (header, ssrc, sequence) = read_rtp(buffer.get(..len).ok_or(Refused::Malformed)?)?;
        let mut seen = self.streams.state(ssrc)?;
        let index = seen.guess(sequence)?;
        if !seen.is_new(index) {
            return Err(Refused::Replayed);
        }
        let end = seal_rtp(&self.rtp, buffer, (header, len), ssrc, index)?;
        self.moved |= seen.is_far(index);
        seen.note(index);
        self.streams.keep(ssrc, seen);
        Ok(end)
    }

    /// Protects the RTCP packet, compound or not, in the first `len` bytes; gives its new length.
    pub fn rtcp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, Refused> {
        let ssrc = buffer.get(..len).and_then(|packet| ssrc_at(packet, 4)).ok_or(Refused::Malformed)?;
        let index = self.reports.state(ssrc)? + 1;
        if index >> 31 != 0 {
            return Err(Refused::Exhausted);
        }
        let end = seal_rtcp(&self.rtcp, buffer, len, ssrc, index)?;
        self.moved |= index.is_multiple_of(LEAP / 2);
        self.reports.keep(ssrc, index);
        Ok(end)
    }
}

/// Reports that may be sent between two notes of a position, twice over.
const LEAP: u32 = 1 << 14;

fn seal_rtp(
    cipher: &Cipher,
    buffer: &mut [u8],
    (header, len): (usize, usize),
    ssrc: u32,
    index: u64,
) -> Result<usize, Refused> {
    if let Cipher::CounterMode { aes, salt, hmac, tag } = cipher {
        let room = buffer.get_mut(..len + tag).ok_or(Refused::NoRoom)?;
        Cipher::stream(aes, salt, ssrc, index, &mut room[header..len]);
        let made = authenticate(hmac, &room[..len], &((index >> 16) as u32).to_be_bytes());
        room[len..].copy_from_slice(&made[..*tag]);
        return Ok(len + tag);
    }
    let room = buffer.get_mut(..len + GCM_TAG).ok_or(Refused::NoRoom)?;
    let (aad, rest) = room.split_at_mut(header);
    let (data, tag) = rest.split_at_mut(len - header);
    tag.copy_from_slice(&cipher.seal(ssrc, index, aad, data)?);
    Ok(len + GCM_TAG)
}

fn seal_rtcp(
    cipher: &Cipher,
    buffer: &mut [u8],
    len: usize,
    ssrc: u32,
    index: u32,
) -> Result<usize, Refused> {
    let word = (index | 1 << 31).to_be_bytes();
    if let Cipher::CounterMode { aes, salt, hmac, tag } = cipher {
        let room = buffer.get_mut(..len + 4 + tag).ok_or(Refused::NoRoom)?;
        Cipher::stream(aes, salt, ssrc, u64::from(index), &mut room[8..len]);
        room[len..len + 4].copy_from_slice(&word);
        let made = authenticate(hmac, &room[..len + 4], &[]);
        room[len + 4..].copy_from_slice(&made[..*tag]);
        return Ok(len + 4 + tag);
    }
    let room = buffer.get_mut(..len + GCM_TAG + 4).ok_or(Refused::NoRoom)?;
    let mut aad = [0; 12];
    aad[..8].copy_from_slice(&room[..8]);
    aad[8..].copy_from_slice(&word);
    let made = cipher.seal(ssrc, u64::from(index), &aad, &mut room[8..len])?;
    room[len..len + GCM_TAG].copy_from_slice(&made);
    room[len + GCM_TAG..].copy_from_slice(&word);
    Ok(len + GCM_TAG + 4)
}
