//! First-bytes demultiplexing of media (RFC 7983, RFC 5761), and a view of RTP's fixed header.
//!
//! ```text
//!  first byte    0–3      STUN            0                   1                   2                   3
//!               20–63     DTLS            |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//!               64–79     TURN channel    |                           timestamp                           |
//!              128–191    RTP, RTCP       |                             SSRC                              |
//!  second byte 192–223 there: RTCP        |                 CSRC × CC, extension, payload                 |
//! ```
//!
//! [`write`] makes headers, [`Statistics`] follows a stream's sequence numbers and jitter; reports are in
//! [`crate::rtcp`], the opinion score in [`crate::quality`].

mod statistics;
mod write;

use crate::stun::is_stun;

pub use statistics::{Progress, Seen, Statistics, Summary};
pub use write::{Header, write};

/// What a datagram on a media port is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// STUN, known by first byte 0–3 and magic cookie.
    Stun,
    /// DTLS, first byte 20–63.
    Dtls,
    /// TURN channel data, first byte 64–79.
    Channel,
    /// RTP or SRTP.
    Rtp(Rtp<'a>),
    /// RTCP or SRTCP: payload type byte 192–223.
    Rtcp(&'a [u8]),
    /// None of these.
    Unknown,
}

/// The 12-byte fixed header (RFC 3550 §5.1) of a packet long enough for it and its CSRCs.
///
/// Made by hand from a shorter slice, it reads missing bytes as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtp<'a>(pub &'a [u8]);

impl<'a> Rtp<'a> {
    /// Payload type, 0–127.
    pub fn payload_type(&self) -> u8 {
        self.byte(1) & 0x7f
    }

    /// Marker bit.
    pub fn marker(&self) -> bool {
        self.byte(1) & 0x80 != 0
    }

    /// Sequence number.
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes(self.array(2))
    }

    /// Timestamp, in the payload's clock.
    pub fn timestamp(&self) -> u32 {
        u32::from_be_bytes(self.array(4))
    }

    /// Synchronization source.
    pub fn ssrc(&self) -> u32 {
        u32::from_be_bytes(self.array(8))
    }

    /// Behind CSRCs and extension, padding included; empty when the lengths don't fit.
    pub fn payload(&self) -> &'a [u8] {
        self.header_len().and_then(|len| self.0.get(len..)).unwrap_or_default()
    }

    /// The payload of plain RTP without its padding; the whole [`Rtp::payload`] when the padding does not fit. Means
    /// nothing for SRTP, whose last bytes are a tag.
    pub fn unpadded_payload(&self) -> &'a [u8] {
        let payload = self.payload();
        if self.byte(0) & 0x20 == 0 {
            return payload;
        }
        let padding = payload.last().map_or(0, |&n| usize::from(n));
        payload.len().checked_sub(padding).and_then(|len| payload.get(..len)).unwrap_or(payload)
    }

    /// Fixed header, CSRCs and extension (RFC 3550 §5.3.1) together.
    pub(crate) fn header_len(&self) -> Option<usize> {
        let fixed = HEADER_LEN + 4 * usize::from(self.byte(0) & 0x0f);
        if self.byte(0) & 0x10 == 0 {
            return Some(fixed);
        }
        let words = self.0.get(fixed + 2..fixed + 4)?;
        Some(fixed + 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]])))
    }

    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }
}

/// Tells what a datagram is. No allocation, no copy.
pub fn classify(bytes: &[u8]) -> Packet<'_> {
    match bytes.first() {
        Some(0..=3) if is_stun(bytes) => Packet::Stun,
        Some(20..=63) => Packet::Dtls,
        Some(64..=79) => Packet::Channel,
        Some(128..=191) => real_time(bytes),
        _ => Packet::Unknown,
    }
}

/// RTP or RTCP (RFC 5761 §4: RTP avoids the payload types that, with the marker bit, look like RTCP's 192–223).
fn real_time(bytes: &[u8]) -> Packet<'_> {
    let shortest = HEADER_LEN + 4 * usize::from(bytes[0] & 0x0f);
    match bytes.get(1) {
        Some(192..=223) if bytes.len() >= RTCP_MIN_LEN => Packet::Rtcp(bytes),
        Some(0..=191 | 224..) if bytes.len() >= shortest => Packet::Rtp(Rtp(bytes)),
        _ => Packet::Unknown,
    }
}

/// RFC 3550 §5.1.
const HEADER_LEN: usize = 12;
/// An RTCP header and the SSRC every report begins with.
const RTCP_MIN_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(first: u8, second: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        bytes[0] = first;
        bytes[1] = second;
        bytes
    }

    #[test]
    fn tells_stun_by_its_cookie_and_not_by_its_first_byte_alone() {
        let mut stun = packet(0, 1, 20);
        assert_eq!(classify(&stun), Packet::Unknown);
        stun[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(classify(&stun), Packet::Stun);
        assert_eq!(classify(&stun[..19]), Packet::Unknown);
    }

    #[test]
    fn follows_the_table_of_rfc_7983_for_every_first_byte() {
        for first in 0..=255u8 {
            let bytes = packet(first, 0, 80);
            let expected = match first {
                20..=63 => Packet::Dtls,
                64..=79 => Packet::Channel,
                128..=191 => Packet::Rtp(Rtp(&bytes)),
                _ => Packet::Unknown,
            };
            assert_eq!(classify(&bytes), expected, "first byte {first}");
        }
    }

    #[test]
    fn tells_rtcp_by_its_second_byte() {
        for second in 0..=255u8 {
            let bytes = packet(0x80, second, 12);
            assert_eq!(matches!(classify(&bytes), Packet::Rtcp(_)), (192..=223).contains(&second));
            assert_eq!(matches!(classify(&bytes), Packet::Rtp(_)), !(192..=223).contains(&second));
        }
        assert_eq!(classify(&packet(0x81, 201, 7)), Packet::Unknown);
        assert!(matches!(classify(&packet(0x81, 201, 8)), Packet::Rtcp(_)));
    }

    #[test]
    fn wants_rtp_as_long_as_its_csrcs() {
        assert_eq!(classify(&packet(0x80, 0, 11)), Packet::Unknown);
        assert!(matches!(classify(&packet(0x80, 0, 12)), Packet::Rtp(_)));
        assert_eq!(classify(&packet(0x83, 0, 23)), Packet::Unknown);
        assert!(matches!(classify(&packet(0x83, 0, 24)), Packet::Rtp(_)));
    }

    #[test]
    fn accepts_srtp_whose_last_byte_is_no_padding_length() {
        let mut bytes = packet(0xa0, 0, 20);
        bytes[19] = 250;
        let Packet::Rtp(rtp) = classify(&bytes) else { panic!("not RTP") };
        assert_eq!(rtp.payload().len(), 8);
        assert_eq!(rtp.unpadded_payload().len(), 8);
        bytes[19] = 3;
        assert_eq!(Rtp(&bytes).unpadded_payload().len(), 5);
    }

    #[test]
    fn reads_the_fixed_header_and_skips_csrcs_and_extension() {
        let mut bytes = vec![0x91, 0x88, 0x12, 0x34, 1, 2, 3, 4, 5, 6, 7, 8];
        bytes.extend([0; 4]); // one CSRC
        bytes.extend([0xbe, 0xde, 0, 1, 9, 9, 9, 9]); // an extension of one word
        bytes.extend(b"payload");
        let rtp = Rtp(&bytes);
        assert_eq!((rtp.payload_type(), rtp.marker()), (8, true));
        assert_eq!((rtp.sequence(), rtp.timestamp(), rtp.ssrc()), (0x1234, 0x01020304, 0x05060708));
        assert_eq!(rtp.payload(), b"payload");
        bytes[19] = 200;
        assert_eq!(Rtp(&bytes).payload(), b"");
    }

    proptest! {
        #[test]
        fn never_panics_on_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            classify(&bytes);
            let rtp = Rtp(&bytes);
            let _ = (rtp.payload_type(), rtp.marker(), rtp.sequence(), rtp.timestamp(), rtp.ssrc());
            prop_assert!(rtp.unpadded_payload().len() <= rtp.payload().len());
            prop_assert!(rtp.payload().len() <= bytes.len().saturating_sub(12));
        }
    }
}
