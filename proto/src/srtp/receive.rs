//! Opening what arrives (RFC 3711 §3.3, §3.4; RFC 7714 §8, §9). Nothing is remembered of a packet whose tag is wrong.

use constant_time_eq::constant_time_eq;

use super::index::{PerSsrc, Seen};
use super::keys::{Cipher, GCM_TAG, Of, authenticate};
use super::{Master, Position, Refused, positions, read_rtp, ssrc_at};

/// Opens one direction.
#[derive(Clone)]
pub struct Receiver {
    pub(super) rtp: Cipher,
    pub(super) rtcp: Cipher,
    streams: PerSsrc<Seen>,
    reports: PerSsrc<Seen>,
    moved: bool,
}

impl Receiver {
    /// Under this key, from the beginning.
    pub fn new(master: &Master) -> Receiver {
        Receiver {
            rtp: Cipher::new(master, Of::Rtp),
            rtcp: Cipher::new(master, Of::Rtcp),
            streams: PerSsrc::new(),
            reports: PerSsrc::new(),
            moved: false,
        }
    }

    /// Where it stands, for [`Receiver::resume`].
    pub fn position(&self) -> Vec<Position> {
        let reports = self.reports.all().filter_map(|(ssrc, seen)| Some((ssrc, seen.newest()?)));
        positions(&self.streams, reports)
    }

    /// Whether a position noted down before is too old to go on from; asked once, it is not any more.
    pub fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Goes on from a position that may be somewhat older than where it really stood.
    pub fn resume(&mut self, position: &[Position]) {
        for at in position {
            at.packet.into_iter().for_each(|newest| self.streams.keep(at.ssrc, Seen::resumed(newest)));
            at.report.into_iter().for_each(|newest| self.reports.keep(at.ssrc, Seen::resumed(newest)));
        }
    }

    /// Opens an SRTP packet in place; gives the length of the RTP packet it was.
    pub fn rtp(&mut self, packet: &mut [u8]) -> Result<usize, Refused> {
        let (header, ssrc, sequence) = read_rtp(packet)?;
        let mut seen = self.streams.state(ssrc)?;
        let index = seen.guess(sequence)?;
        if !seen.is_new(index) {
            return Err(Refused::Replayed);
        }
        let end = open_rtp(&self.rtp, packet, header, ssrc, index)?;
        self.moved |= seen.is_far(index);
        seen.note(index);
        self.streams.keep(ssrc, seen);
        Ok(end)
    }

    /// Opens an SRTCP packet in place; gives the length of the RTCP packet it was.
    pub fn rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Refused> {
        let ssrc = ssrc_at(packet, 4).ok_or(Refused::Malformed)?;
        let behind = if let Cipher::CounterMode { tag, .. } = &self.rtcp { *tag } else { 0 };
        let at = packet.len().checked_sub(behind + 4).filter(|&at| at >= 8).ok_or(Refused::Malformed)?;
        let word = ssrc_at(packet, at).ok_or(Refused::Malformed)?;
        if word >> 31 == 0 {
            return Err(Refused::Unencrypted);
        }
        let index = u64::from(word & 0x7fff_ffff);
        let mut seen = self.reports.state(ssrc)?;
        if !seen.is_new(index) {
            return Err(Refused::Replayed);
        }
        let end = open_rtcp(&self.rtcp, packet, at, ssrc, index)?;
        seen.note(index);
        self.reports.keep(ssrc, seen);
        Ok(end)
    }
}

fn open_rtp(
    cipher: &Cipher,
    packet: &mut [u8],
    header: usize,
    ssrc: u32,
    index: u64,
) -> Result<usize, Refused> {
    let tag_len = if let Cipher::CounterMode { tag, .. } = cipher { *tag } else { GCM_TAG };
    let end = packet.len().checked_sub(tag_len).filter(|&end| end >= header).ok_or(Refused::Malformed)?;
    let (body, tag) = packet.split_at_mut(end);
    if let Cipher::CounterMode { aes, salt, hmac, .. } = cipher {
        let made = authenticate(hmac, body, &((index >> 16) as u32).to_be_bytes());
        if !constant_time_eq(&made[..tag_len], tag) {
            return Err(Refused::Forged);
        }
        Cipher::stream(aes, salt, ssrc, index, &mut body[header..]);
        return Ok(end);
    }
    let (aad, data) = body.split_at_mut(header);
    cipher.open(ssrc, index, aad, data, tag)?;
    Ok(end)
}

/// `at` is where E and index stand.
fn open_rtcp(cipher: &Cipher, packet: &mut [u8], at: usize, ssrc: u32, index: u64) -> Result<usize, Refused> {
    if let Cipher::CounterMode { aes, salt, hmac, tag } = cipher {
        let made = authenticate(hmac, &packet[..at + 4], &[]);
        if !constant_time_eq(&made[..*tag], &packet[at + 4..]) {
            return Err(Refused::Forged);
        }
        Cipher::stream(aes, salt, ssrc, index, &mut packet[8..at]);
        return Ok(at);
    }
    let end = at.checked_sub(GCM_TAG).filter(|&end| end >= 8).ok_or(Refused::Malformed)?;
    let mut aad = [0; 12];
    aad[..8].copy_from_slice(&packet[..8]);
    aad[8..].copy_from_slice(&packet[at..at + 4]);
    let (body, rest) = packet.split_at_mut(end);
    cipher.open(ssrc, index, &aad, &mut body[8..], &rest[..GCM_TAG])?;
    Ok(end)
}
