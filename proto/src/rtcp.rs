//! RTCP reports (RFC 3550 §6.4–6.6): what an endpoint writes, and what a relay reads of what passes.
//!
//! ```text
//!  |V=2|P|  RC   |   PT 200–203  |   length in words − 1    |   a compound packet is several of these in a row
//!  |                         SSRC                           |
//!  SR: NTP (8), RTP timestamp (4), packets (4), bytes (4)   |   then RC report blocks of 24 bytes
//! ```

use std::time::{Duration, SystemTime};

/// One report block: what its sender hears of one source (§6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The source reported on.
    pub ssrc: u32,
    /// Share lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost in all; negative when duplicates outweigh. 24 bits on the wire, cut to that.
    pub lost: i32,
    /// Extended highest sequence number.
    pub highest: u32,
    /// Interarrival jitter in the source's clock.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the source's last SR; 0: none came.
    pub last_report: u32,
    /// Delay since that SR, in 1/65536 s.
    pub delay: u32,
}

/// What a sender says of itself (§6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// 64-bit NTP timestamp ([`ntp`]).
    pub ntp: u64,
    /// The same moment in the stream's clock.
    pub timestamp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub bytes: u32,
}

/// One packet of a compound one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// SR.
    Sender {
        /// Who reports.
        ssrc: u32,
        /// What it sent.
        sender: Sender,
        /// What it hears.
        blocks: Vec<Block>,
    },
    /// RR.
    Receiver {
        /// Who reports.
        ssrc: u32,
        /// What it hears.
        blocks: Vec<Block>,
    },
    /// BYE.
    Bye {
        /// Who leaves.
        sources: Vec<u32>,
    },
    /// SDES, APP, feedback …
    Other {
        /// Its packet type.
        packet_type: u8,
    },
}

/// The packets of a compound packet in the clear (SRTCP has only its first 8 bytes in the clear), up to the first one
/// whose length does not fit.
pub fn read(bytes: &[u8]) -> Vec<Report> {
    let mut rest = bytes;
    std::iter::from_fn(|| {
        let (packet, behind) = split(rest)?;
        rest = behind;
        Some(report(packet))
    })
    .collect()
}

/// A sender report with a CNAME (§6.1: every compound packet has one).
pub fn sender_report(ssrc: u32, sender: Sender, blocks: &[Block], cname: &str) -> Vec<u8> {
    let mut body = ssrc.to_be_bytes().to_vec();
    body.extend(sender.ntp.to_be_bytes());
    for word in [sender.timestamp, sender.packets, sender.bytes] {
        body.extend(word.to_be_bytes());
    }
    compound(SENDER, body, ssrc, blocks, cname)
}

/// A receiver report with a CNAME.
pub fn receiver_report(ssrc: u32, blocks: &[Block], cname: &str) -> Vec<u8> {
    compound(RECEIVER, ssrc.to_be_bytes().to_vec(), ssrc, blocks, cname)
}

/// The compound packet a leaving source sends: an empty receiver report, then BYE (§6.6).
pub fn bye(ssrc: u32) -> Vec<u8> {
    let mut out = Vec::new();
    packet(&mut out, RECEIVER, 0, &ssrc.to_be_bytes());
    packet(&mut out, BYE, 1, &ssrc.to_be_bytes());
    out
}

/// A generic NACK (RFC 4585 §6.2.1): `from` has not heard this packet of `source`, nor the sixteen after it.
pub fn nack(from: u32, source: u32, missed: u16) -> Vec<u8> {
    let mut body = [from.to_be_bytes(), source.to_be_bytes()].concat();
    body.extend(missed.to_be_bytes());
    body.extend(u16::MAX.to_be_bytes());
    let mut out = Vec::new();
    packet(&mut out, FEEDBACK, NACK, &body);
    out
}

/// The source, and the first packet of its that was missed, if this is a generic NACK.
pub fn read_nack(bytes: &[u8]) -> Option<(u32, u16)> {
    let (packet, _) = split(bytes)?;
    let is_one = (packet[0] & 0x1f, packet[1]) == (NACK, FEEDBACK);
    is_one.then(|| Some((word(packet, 8)?, (word(packet, 12)? >> 16) as u16))).flatten()
}

/// A moment as a 64-bit NTP timestamp (RFC 5905 §6): seconds since 1900 and their fraction.
pub fn ntp(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs().wrapping_add(SECONDS_1900_TO_1970) << 32) | fraction
}

/// The middle 32 bits of an NTP timestamp, as LSR wants them.
pub fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// Round trip from a block that reports on us, received at `at` (§6.4.1, figure 2): `A − LSR − DLSR`. `None` when the
/// block's sender has not heard an SR of ours, or the numbers make no sense.
pub fn round_trip(block: &Block, at: SystemTime) -> Option<Duration> {
    if block.last_report == 0 {
        return None;
    }
    let units = middle(ntp(at)).wrapping_sub(block.last_report).wrapping_sub(block.delay);
    let trip = Duration::from_secs_f64(f64::from(units) / 65536.0);
    (trip < LONGEST_ROUND_TRIP).then_some(trip)
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let header = bytes.get(..4)?;
    let len = 4 * (usize::from(u16::from_be_bytes([header[2], header[3]])) + 1);
    (header[0] >> 6 == 2).then(|| bytes.split_at_checked(len)).flatten()
}

fn report(packet: &[u8]) -> Report {
    let (count, packet_type) = (usize::from(packet[0] & 0x1f), packet[1]);
    let parsed = match packet_type {
        SENDER => read_sender(packet, count),
        RECEIVER => {
            word(packet, 4).map(|ssrc| Report::Receiver { ssrc, blocks: read_blocks(packet, 8, count) })
        }
        BYE => Some(Report::Bye { sources: (0..count).map_while(|n| word(packet, 4 + 4 * n)).collect() }),
        _ => None,
    };
    parsed.unwrap_or(Report::Other { packet_type })
}

fn read_sender(packet: &[u8], count: usize) -> Option<Report> {
    let sender = Sender {
        ntp: u64::from(word(packet, 8)?) << 32 | u64::from(word(packet, 12)?),
        timestamp: word(packet, 16)?,
        packets: word(packet, 20)?,
        bytes: word(packet, 24)?,
    };
    Some(Report::Sender { ssrc: word(packet, 4)?, sender, blocks: read_blocks(packet, 28, count) })
}

fn read_blocks(packet: &[u8], start: usize, count: usize) -> Vec<Block> {
    (0..count).map_while(|n| read_block(packet.get(start + 24 * n..)?)).collect()
}

fn read_block(bytes: &[u8]) -> Option<Block> {
    let losses = word(bytes, 4)?;
    Some(Block {
        ssrc: word(bytes, 0)?,
        fraction_lost: (losses >> 24) as u8,
        lost: ((losses << 8) as i32) >> 8,
        highest: word(bytes, 8)?,
        jitter: word(bytes, 12)?,
        last_report: word(bytes, 16)?,
        delay: word(bytes, 20)?,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

fn compound(packet_type: u8, mut body: Vec<u8>, ssrc: u32, blocks: &[Block], cname: &str) -> Vec<u8> {
    let blocks = &blocks[..blocks.len().min(31)];
    blocks.iter().for_each(|block| write_block(&mut body, block));
    let mut out = Vec::new();
    packet(&mut out, packet_type, blocks.len() as u8, &body);
    packet(&mut out, SDES, 1, &sdes(ssrc, cname));
    out
}

fn write_block(out: &mut Vec<u8>, block: &Block) {
    let lost = block.lost.clamp(-(1 << 23), (1 << 23) - 1) as u32 & 0x00ff_ffff;
    let losses = u32::from(block.fraction_lost) << 24 | lost;
    for word in [block.ssrc, losses, block.highest, block.jitter, block.last_report, block.delay] {
        out.extend(word.to_be_bytes());
    }
}

/// One chunk with a CNAME item, ended by at least one zero byte and filled to a word (§6.5).
fn sdes(ssrc: u32, cname: &str) -> Vec<u8> {
    let name = &cname.as_bytes()[..cname.len().min(255)];
    let mut out = ssrc.to_be_bytes().to_vec();
    out.extend([1, name.len() as u8]);
    out.extend(name);
    out.resize(out.len() / 4 * 4 + 4, 0);
    out
}

/// `body` is a whole number of words.
fn packet(out: &mut Vec<u8>, packet_type: u8, count: u8, body: &[u8]) {
    out.extend([0x80 | count, packet_type]);
    out.extend(((body.len() / 4) as u16).to_be_bytes());
    out.extend(body);
}

const SENDER: u8 = 200;
const RECEIVER: u8 = 201;
const SDES: u8 = 202;
const BYE: u8 = 203;
/// Transport layer feedback, and the format of a generic NACK (RFC 4585 §6.1).
const FEEDBACK: u8 = 205;
const NACK: u8 = 1;
const SECONDS_1900_TO_1970: u64 = 2_208_988_800;
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::{Packet, classify};
    use proptest::prelude::*;

    const BLOCK: Block =
        Block { ssrc: 7, fraction_lost: 12, lost: -3, highest: 70_000, jitter: 5, last_report: 9, delay: 11 };

    #[test]
    fn a_sender_report_reads_back() {
        let sender = Sender { ntp: 0x0123_4567_89ab_cdef, timestamp: 160, packets: 3, bytes: 480 };
        let bytes = sender_report(1, sender, &[BLOCK], "postern");
        assert!(matches!(classify(&bytes), Packet::Rtcp(_)));
        let expected = Report::Sender { ssrc: 1, sender, blocks: vec![BLOCK] };
        assert_eq!(read(&bytes), [expected, Report::Other { packet_type: 202 }]);
    }

    #[test]
    fn a_goodbye_is_a_compound_packet_that_begins_with_a_report() {
        let expected = [Report::Receiver { ssrc: 5, blocks: vec![] }, Report::Bye { sources: vec![5] }];
        assert_eq!(read(&bye(5)), expected);
    }

    #[test]
    fn a_nack_names_the_source_and_the_first_of_what_was_missed() {
        let bytes = nack(1, 0x0203_0405, 0xfffe);
        // RFC 4585, figures 3 and 4.
        assert_eq!(bytes, [0x81, 205, 0, 3, 0, 0, 0, 1, 2, 3, 4, 5, 0xff, 0xfe, 0xff, 0xff]);
        assert!(matches!(classify(&bytes), Packet::Rtcp(_)));
        assert_eq!(read_nack(&bytes), Some((0x0203_0405, 0xfffe)));
        assert_eq!(read_nack(&bytes[..15]), None, "cut");
        assert_eq!((read_nack(&bye(1)), read_nack(&[0x82, 205, 0, 0])), (None, None), "something else");
    }

    #[test]
    fn every_packet_is_whole_words_whatever_the_name() {
        for len in 0..300 {
            let bytes = receiver_report(1, &[], &"x".repeat(len));
            assert_eq!((bytes.len() % 4, bytes.last()), (0, Some(&0)), "a chunk ends in a zero byte (§6.5)");
            assert_eq!(read(&bytes).len(), 2, "name of {len}");
        }
    }

    #[test]
    fn a_length_that_does_not_fit_ends_the_reading() {
        let bytes = receiver_report(1, &[BLOCK], "n");
        assert_eq!(read(&bytes[..bytes.len() - 1]).len(), 1);
        assert_eq!(read(&bytes[..7]), []);
    }

    #[test]
    fn a_block_count_beyond_the_packet_gives_only_the_blocks_that_are_there() {
        let mut bytes = receiver_report(1, &[BLOCK], "n");
        bytes[0] = 0x80 | 31;
        assert_eq!(read(&bytes)[0], Report::Receiver { ssrc: 1, blocks: vec![BLOCK] });
    }

    #[test]
    fn the_round_trip_is_that_of_figure_2() {
        // RFC 3550 §6.4.1: A = 0xb710:8000, LSR = 0xb705:2000, DLSR = 0x0005:4000 give 6.125 s.
        let at = SystemTime::UNIX_EPOCH
            + Duration::from_secs(0xb44d_b710 - SECONDS_1900_TO_1970)
            + Duration::from_millis(500);
        let block = Block { last_report: 0xb705_2000, delay: 0x0005_4000, ..BLOCK };
        assert_eq!(round_trip(&block, at), Some(Duration::from_millis(6125)));
        assert_eq!(round_trip(&Block { last_report: 0, ..block }, at), None);
        assert_eq!(round_trip(&Block { delay: 0x000c_0000, ..block }, at), None);
    }

    proptest! {
        #[test]
        fn never_panics_on_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes);
            read_nack(&bytes);
        }
    }
}
