//! What a leg hears, measured: loss, reordering and interarrival jitter (RFC 3550 §6.4.1, appendix A), and what a
//! listener would make of it (ITU-T G.107).
//!
//! A party may send several streams through one port (BUNDLE, a new source in mid-call): each SSRC is a [`Track`] of its
//! own. The tracks are also what a party that moved is recognised by (see `latch`).

use std::time::Instant;

use proto::event::LegQuality;
use proto::rtp::Rtp;

/// Streams followed at a time on one leg; the one silent longest makes room.
const TRACKS: usize = 4;
/// A jump in sequence numbers larger than this is a new beginning (RFC 3550 appendix A.1, MAX_DROPOUT).
const DROPOUT: u16 = 3000;
/// A packet up to this far behind is late (MAX_MISORDER).
const MISORDER: u16 = 100;
/// Sampling rate assumed when neither the payload type nor the SDP says one.
const DEFAULT_CLOCK: u32 = 90_000;

/// One RTP source as heard.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub(crate) ssrc: u32,
    /// Highest sequence number so far.
    pub(crate) sequence: u16,
    /// Timestamp that came with it.
    pub(crate) timestamp: u32,
    /// When it came.
    pub(crate) heard: Instant,
    /// Sampling rate of the current payload type.
    pub(crate) clock: u32,
    payload_type: u8,
    /// Every payload type it has sent, as bits.
    types: u128,
    expected: u64,
    received: u64,
    reordered: u64,
    transit: u32,
    /// In sixteenths of a timestamp unit.
    jitter: u32,
}

impl Track {
    fn new(now: Instant, packet: &Rtp<'_>, clocks: &Clocks, epoch: Instant) -> Track {
        let clock = clocks.of(packet.payload_type());
        Track {
            ssrc: packet.ssrc(),
            sequence: packet.sequence(),
            timestamp: packet.timestamp(),
            heard: now,
            clock,
            payload_type: packet.payload_type(),
            types: 1 << packet.payload_type(),
            expected: 1,
            received: 1,
            reordered: 0,
            transit: units(now, epoch, clock).wrapping_sub(packet.timestamp()),
            jitter: 0,
        }
    }

    /// Whether this source has ever sent this payload type: comfort noise and telephone events come and go, a forger
    /// has to know one of them.
    pub(crate) fn has_sent(&self, payload_type: u8) -> bool {
        self.types >> payload_type & 1 == 1
    }

    fn hear(&mut self, now: Instant, packet: &Rtp<'_>, clocks: &Clocks, epoch: Instant) {
        let ahead = packet.sequence().wrapping_sub(self.sequence);
        match ahead {
            0 => return,
            1..DROPOUT => self.expected += u64::from(ahead),
            _ if ahead.wrapping_neg() <= MISORDER => {
                self.reordered += 1;
                self.received += 1;
                return;
            }
            _ => self.expected += 1,
        }
        self.received += 1;
        self.sequence = packet.sequence();
        self.heard = now;
        self.time(now, packet, clocks, epoch);
        self.timestamp = packet.timestamp();
    }

    /// RFC 3550 appendix A.8. Packets of one frame share a timestamp and say nothing of jitter.
    fn time(&mut self, now: Instant, packet: &Rtp<'_>, clocks: &Clocks, epoch: Instant) {
        let changed = packet.payload_type() != self.payload_type;
        if changed {
            self.payload_type = packet.payload_type();
            self.types |= 1 << self.payload_type;
            self.clock = clocks.of(self.payload_type);
        }
        let transit = units(now, epoch, self.clock).wrapping_sub(packet.timestamp());
        if !changed && packet.timestamp() != self.timestamp {
            let d = (transit.wrapping_sub(self.transit) as i32).unsigned_abs();
            self.jitter = self.jitter.saturating_add(d).saturating_sub((self.jitter + 8) >> 4);
        }
        self.transit = transit;
    }

    fn jitter_us(&self) -> u32 {
        (u64::from(self.jitter >> 4) * 1_000_000 / u64::from(self.clock)).min(u64::from(u32::MAX)) as u32
    }
}

/// `now` in units of a sampling clock, cut to 32 bits.
fn units(now: Instant, epoch: Instant, clock: u32) -> u32 {
    let micros = now.saturating_duration_since(epoch).as_micros() as u64;
    (micros.wrapping_mul(u64::from(clock)) / 1_000_000) as u32
}

/// The sources of one leg.
#[derive(Clone, Debug)]
pub(crate) struct Tracks {
    slots: [Option<Track>; TRACKS],
    /// What tracks that made room had counted.
    gone: LegQuality,
    epoch: Instant,
}

impl Tracks {
    pub(crate) fn new(epoch: Instant) -> Tracks {
        Tracks { slots: [const { None }; TRACKS], gone: LegQuality::default(), epoch }
    }

    /// The source with this SSRC.
    pub(crate) fn find(&self, ssrc: u32) -> Option<&Track> {
        self.slots.iter().flatten().find(|track| track.ssrc == ssrc)
    }

    /// Counts one packet of the party.
    pub(crate) fn hear(&mut self, now: Instant, packet: &Rtp<'_>, clocks: &Clocks) {
        let ssrc = packet.ssrc();
        match self.slots.iter_mut().flatten().find(|track| track.ssrc == ssrc) {
            Some(track) => track.hear(now, packet, clocks, self.epoch),
            None => self.begin(Track::new(now, packet, clocks, self.epoch)),
        }
    }

    fn begin(&mut self, track: Track) {
        let oldest = self.slots.iter_mut().min_by_key(|slot| slot.as_ref().map(|track| track.heard));
        if let Some(slot) = oldest
            && let Some(gone) = slot.replace(track)
        {
            add(&mut self.gone, &gone);
        }
    }

    /// Sums it up.
    pub(crate) fn quality(&self) -> LegQuality {
        let mut sum = self.gone;
        self.slots.iter().flatten().for_each(|track| add(&mut sum, track));
        if self.slots.iter().any(Option::is_some) {
            let received: u64 = self.slots.iter().flatten().map(|track| track.received).sum();
            sum.mos = mos(sum.lost, received + sum.lost, sum.jitter_us);
        }
        sum
    }
}

fn add(sum: &mut LegQuality, track: &Track) {
    sum.lost += track.expected.saturating_sub(track.received);
    sum.reordered += track.reordered;
    sum.jitter_us = sum.jitter_us.max(track.jitter_us());
}

/// The E-model's mean opinion score in hundredths (ITU-T G.107 §7, B.4) for G.711 with packet loss concealment (G.113
/// appendix I: Ie 0, Bpl 25.1), random loss, and a delay of one packet and a jitter buffer twice the jitter deep.
fn mos(lost: u64, expected: u64, jitter_us: u32) -> u16 {
    let loss = 100.0 * lost as f64 / expected.max(1) as f64;
    let equipment = 95.0 * loss / (loss + 25.1);
    let delay = 20.0 + 2.0 * f64::from(jitter_us) / 1000.0;
    let late = if delay > 177.3 { 0.11 * (delay - 177.3) } else { 0.0 };
    let r = (93.2 - 0.024 * delay - late - equipment).clamp(0.0, 100.0);
    let mos = 1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6;
    (mos.clamp(1.0, 4.5) * 100.0) as u16
}

/// Sampling rates by payload type: the static ones of RFC 3551 §6, and what the party's `a=rtpmap` lines say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clocks(Vec<(u8, u32)>);

impl Clocks {
    /// From the lines of one media section.
    pub(crate) fn read(section: &[u8]) -> Clocks {
        Clocks(section.split(|&byte| byte == b'\n').filter_map(rtpmap).take(32).collect())
    }

    fn of(&self, payload_type: u8) -> u32 {
        let mapped = self.0.iter().find(|(mapped, _)| *mapped == payload_type).map(|&(_, clock)| clock);
        mapped.unwrap_or(match payload_type {
            0 | 3..=5 | 7..=9 | 12 | 13 | 15 | 18 => 8000,
            6 => 16_000,
            10 | 11 => 44_100,
            16 => 11_025,
            17 => 22_050,
            _ => DEFAULT_CLOCK,
        })
    }
}

/// `a=rtpmap:111 opus/48000/2` (RFC 8866 §6.6).
fn rtpmap(line: &[u8]) -> Option<(u8, u32)> {
    let line = str::from_utf8(line.strip_prefix(b"a=rtpmap:")?).ok()?;
    let (payload_type, encoding) = line.trim().split_once(' ')?;
    let clock = encoding.split('/').nth(1)?.parse().ok().filter(|&clock| clock > 0)?;
    Some((payload_type.parse().ok()?, clock))
}
