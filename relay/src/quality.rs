//! What a leg hears, measured: loss, reordering and interarrival jitter of each source, and the opinion score.
//!
//! A party may send several streams through one port (BUNDLE, a new source in mid-call): each SSRC is a [`Track`] of its
//! own. The tracks are also what a party that moved is recognised by (see `latch`).

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use proto::event::LegQuality;
use proto::offload::Carried;
use proto::quality::{Codec, Heard, mos};
use proto::rtp::{Progress, Rtp, Seen, Statistics};
use proto::sdp::{Media, static_clock_rate};

use crate::ng::static_name;

/// Streams followed at a time on one leg; the one silent longest makes room.
const TRACKS: usize = 4;
/// Fastest clock in use: what bounds a party's timestamps when the SDP doesn't say.
const FASTEST: u32 = 96_000;

/// One RTP source as heard.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub(crate) ssrc: u32,
    /// When its newest packet came.
    pub(crate) heard: Instant,
    clock: Option<u32>,
    payload_type: u8,
    /// Every payload type it has sent, as bits.
    types: u128,
    /// Name of its codec; empty: unknown.
    codec: &'static str,
    /// Telephone-events heard, and the timestamp of the last one: an event is several packets with one timestamp.
    digits: u32,
    last_digit: Option<u32>,
    statistics: Statistics,
}

impl Track {
    fn new(now: Instant, packet: Rtp<'_>, clocks: &Clocks) -> Track {
        let payload_type = packet.payload_type();
        let clock = clocks.rate(payload_type);
        let mut statistics = Statistics::new(clock);
        statistics.record(now, packet);
        let mut track = Track {
            ssrc: packet.ssrc(),
            heard: now,
            clock,
            payload_type,
            types: 1 << payload_type,
            codec: clocks.name(payload_type),
            digits: 0,
            last_digit: None,
            statistics,
        };
        if clocks.is_event(payload_type) {
            track.digit(packet.timestamp());
        }
        track
    }

    #[inline]
    fn hear(&mut self, now: Instant, packet: Rtp<'_>, clocks: &Clocks) {
        if packet.payload_type() != self.payload_type {
            self.change_type(packet, clocks);
        }
        if matches!(self.statistics.record(now, packet), Seen::InOrder | Seen::First) {
            self.heard = now;
        }
    }

    /// Telephone-events come in between and change nothing: every one of their packets takes this way.
    #[cold]
    fn change_type(&mut self, packet: Rtp<'_>, clocks: &Clocks) {
        let payload_type = packet.payload_type();
        self.types |= 1 << payload_type;
        if clocks.is_event(payload_type) {
            return self.digit(packet.timestamp());
        }
        self.payload_type = payload_type;
        if !matches!(clocks.name(payload_type), "" | "CN") {
            self.codec = clocks.name(payload_type);
        }
        self.clock = clocks.rate(payload_type);
        self.statistics.set_clock_rate(self.clock);
    }

    fn digit(&mut self, timestamp: u32) {
        if self.last_digit != Some(timestamp) {
            self.last_digit = Some(timestamp);
            self.digits += 1;
        }
    }

    /// Its payload type and clock now, and where it stands.
    pub(crate) fn progress(&self) -> Option<(u8, Option<u32>, Progress)> {
        Some((self.payload_type, self.clock, self.statistics.progress()?))
    }

    /// Its clock, where it is known.
    pub(crate) fn clock(&self) -> Option<u32> {
        self.clock
    }

    /// Packets of it that a path below carried.
    pub(crate) fn carried(&mut self, packets: u64, bytes: u64, heard: Instant, count: &Carried) {
        self.heard = self.heard.max(heard);
        self.statistics.carried(packets, bytes, count.burst, heard, count.progress);
    }

    /// Whether this source has ever sent this payload type: comfort noise and telephone events come and go, a forger
    /// has to know one of them.
    pub(crate) fn has_sent(&self, payload_type: u8) -> bool {
        self.types >> payload_type & 1 == 1
    }

    /// Sequence number and timestamp of its newest packet.
    pub(crate) fn newest(&self) -> Option<(u16, u32)> {
        self.statistics.newest().map(|(_, sequence, timestamp)| (sequence, timestamp))
    }

    /// A time in its clock.
    pub(crate) fn in_microseconds(&self, ticks: u32) -> u32 {
        let rate = u64::from(self.clock.unwrap_or(8000).max(1));
        u32::try_from(u64::from(ticks) * 1_000_000 / rate).unwrap_or(u32::MAX)
    }

    /// How far its timestamps can have gone on in this time.
    pub(crate) fn ticks(&self, passed: Duration) -> u64 {
        passed.as_micros() as u64 * u64::from(self.clock.unwrap_or(FASTEST)) / 1_000_000
    }
}

/// The sources of one leg.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracks {
    /// [`TRACKS`] at most; one that was never heard has none, and costs no room.
    tracks: Vec<Track>,
    /// What tracks that made room had counted, if any have.
    gone: Option<Box<LegQuality>>,
}

impl Tracks {
    /// The source with this SSRC.
    pub(crate) fn find(&self, ssrc: u32) -> Option<&Track> {
        self.tracks.iter().find(|track| track.ssrc == ssrc)
    }

    /// The SSRCs that were heard.
    pub(crate) fn streams(&self) -> impl Iterator<Item = u32> + '_ {
        self.tracks.iter().map(|track| track.ssrc)
    }

    /// The source heard last.
    pub(crate) fn latest(&self) -> Option<&Track> {
        self.tracks.iter().max_by_key(|track| track.heard)
    }

    pub(crate) fn find_mut(&mut self, ssrc: u32) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.ssrc == ssrc)
    }

    /// What its newest source sends.
    pub(crate) fn payload_type(&self) -> Option<u8> {
        self.latest().map(|track| track.payload_type)
    }

    /// Whether nothing but digits and comfort noise has come.
    pub(crate) fn is_without_speech(&self, clocks: &Clocks) -> bool {
        self.tracks.iter().all(|track| clocks.is_silence(track.types))
    }

    /// Counts one packet of the party.
    #[inline]
    pub(crate) fn hear(&mut self, now: Instant, packet: Rtp<'_>, clocks: &Clocks) {
        let ssrc = packet.ssrc();
        match self.tracks.iter_mut().find(|track| track.ssrc == ssrc) {
            Some(track) => track.hear(now, packet, clocks),
            None => self.begin(Track::new(now, packet, clocks)),
        }
    }

    #[cold]
    fn begin(&mut self, track: Track) {
        if self.tracks.len() < TRACKS {
            self.tracks.reserve_exact(1);
            self.tracks.push(track);
        } else if let Some(oldest) = self.tracks.iter_mut().min_by_key(|track| track.heard) {
            let gone = std::mem::replace(oldest, track);
            add(self.gone.get_or_insert_default(), &gone);
        }
    }

    /// Every source that is followed, by its SSRC.
    pub(crate) fn heard(&self) -> impl Iterator<Item = (u32, LegQuality)> + '_ {
        self.tracks.iter().map(|track| {
            let mut quality =
                LegQuality { packets: track.statistics.summary().packets, ..LegQuality::default() };
            add(&mut quality, track);
            (track.ssrc, LegQuality { mos: track.mos(None), codec: track.codec, ..quality })
        })
    }

    /// Sums it up: counts add, jitter is the worst, the score that of the source with most packets.
    pub(crate) fn quality(&self, round_trip: Option<Duration>) -> LegQuality {
        let mut sum = self.gone.as_deref().copied().unwrap_or_default();
        self.tracks.iter().for_each(|track| add(&mut sum, track));
        let main = self.tracks.iter().max_by_key(|track| track.statistics.summary().packets);
        let codec = main.map_or("", |track| track.codec);
        LegQuality { mos: main.map_or(0, |track| track.mos(round_trip)), codec, ..sum }
    }
}

impl Track {
    fn mos(&self, round_trip: Option<Duration>) -> u16 {
        let summary = self.statistics.summary();
        let jitter = Duration::from_micros(u64::from(summary.jitter_us));
        let codec = Codec::of_name(self.codec);
        mos(Heard { loss: summary.loss(), jitter, round_trip, codec })
    }
}

fn add(sum: &mut LegQuality, track: &Track) {
    let summary = track.statistics.summary();
    sum.lost += summary.lost;
    sum.reordered += summary.reordered;
    sum.jitter_us = sum.jitter_us.max(summary.jitter_us);
    sum.burst = sum.burst.max(summary.burst);
    sum.digits += track.digits;
}

/// Clock rates of the payload types a party may send: those the other one's SDP maps, and the static ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clocks {
    rates: Box<[(u8, u32)]>,
    /// Which of them are telephone-events (RFC 4733), as bits.
    events: u128,
    /// Their codecs' names, as far as they are known ones.
    names: Box<[(u8, &'static str)]>,
    /// All that the m= line lists, as bits; 0: that is not known.
    listed: u128,
}

impl Clocks {
    /// Of a party that nothing has been said to yet.
    pub(crate) fn unknown() -> Arc<Clocks> {
        static UNKNOWN: LazyLock<Arc<Clocks>> = LazyLock::new(Arc::default);
        UNKNOWN.clone()
    }

    /// As one media section says.
    pub(crate) fn of(media: &Media<'_>) -> Clocks {
        let is_event = |(_, name): &&(u8, &str)| name.to_ascii_lowercase().starts_with("telephone-event");
        let events =
            media.encodings.iter().filter(is_event).fold(0, |bits, (number, _)| bits | 1 << (number & 127));
        let known = |(number, encoding): &(u8, &str)| {
            let name = encoding.split('/').next().unwrap_or_default();
            let known = NAMES.iter().find(|known| known.eq_ignore_ascii_case(name));
            known.map(|known| (*number, *known))
        };
        let names = media.encodings.iter().filter_map(known).collect();
        let numbers = media.formats.iter().filter_map(|format| format.parse::<u8>().ok());
        let listed = numbers.filter(|number| *number < 128).fold(0, |bits, number| bits | 1 << number);
        Clocks { rates: media.clock_rates.as_slice().into(), events, names, listed }
    }

    /// In words, and from them: what outlives the process.
    pub(crate) fn pack(&self) -> String {
        let line = |(number, rate): &(u8, u32)| {
            let name = if self.is_event(*number) { "telephone-event" } else { self.name(*number) };
            format!("{number} {rate} {name}")
        };
        let listed = format!("listed {:x}", self.listed);
        self.rates.iter().map(line).chain([listed]).collect::<Vec<_>>().join(";")
    }

    /// See [`Clocks::pack`].
    pub(crate) fn unpack(text: &str) -> Clocks {
        let mut clocks = Clocks::default();
        let (mut rates, mut names) = (Vec::new(), Vec::new());
        for line in text.split(';') {
            if let Some(listed) = line.strip_prefix("listed ") {
                clocks.listed = u128::from_str_radix(listed, 16).unwrap_or(0);
            }
            let mut words = line.splitn(3, ' ');
            let (Some(Ok(number)), Some(Ok(rate))) =
                (words.next().map(str::parse::<u8>), words.next().map(str::parse::<u32>))
            else {
                continue;
            };
            rates.push((number, rate));
            let known = NAMES.iter().find(|known| words.clone().next() == Some(known));
            names.extend(known.map(|known| (number, *known)));
            if known == Some(&"telephone-event") {
                clocks.events |= 1 << (number & 127);
            }
        }
        (clocks.rates, clocks.names) = (rates.into(), names.into());
        clocks
    }

    /// Whether this payload type is telephone-events.
    pub(crate) fn is_event(&self, payload_type: u8) -> bool {
        self.events >> (payload_type & 127) & 1 == 1
    }

    /// The number of telephone-events and their clock: of those with this clock if there are any.
    pub(crate) fn event_type(&self, rate: Option<u32>) -> Option<(u8, u32)> {
        let events = || self.rates.iter().copied().filter(|(number, _)| self.is_event(*number));
        events().find(|(_, own)| Some(*own) == rate).or_else(|| events().next())
    }

    /// The number that is listed for a codec with this clock.
    pub(crate) fn number(&self, name: &str, rate: u32) -> Option<u8> {
        let is_it = |number: u8| {
            self.listed >> number & 1 == 1 && self.name(number) == name && self.rate(number) == Some(rate)
        };
        (0..128).find(|number| is_it(*number))
    }

    /// Whether a party that sends this is understood, as far as that is known. Comfort noise may come unasked.
    pub(crate) fn lists(&self, payload_type: u8) -> bool {
        self.listed == 0 || NOISE.contains(&payload_type) || self.listed >> (payload_type & 127) & 1 == 1
    }

    /// Whether these payload types, as bits, are none that carry speech.
    fn is_silence(&self, types: u128) -> bool {
        types & !self.events & !NOISE.iter().fold(0, |bits, number| bits | 1 << number) == 0
    }

    fn name(&self, payload_type: u8) -> &'static str {
        let mapped = self.names.iter().find(|(mapped, _)| *mapped == payload_type).map(|&(_, name)| name);
        mapped.or_else(|| static_name(payload_type)?.split('/').next()).unwrap_or("")
    }

    fn rate(&self, payload_type: u8) -> Option<u32> {
        let mapped = self.rates.iter().find(|(mapped, _)| *mapped == payload_type).map(|&(_, rate)| rate);
        mapped.or_else(|| static_clock_rate(payload_type)).filter(|&rate| rate > 0)
    }
}

/// Comfort noise (RFC 3389), by its number of today and by the one it had before.
const NOISE: [u8; 2] = [13, 19];

/// Codecs that are called by their names.
const NAMES: [&str; 28] = [
    "PCMU",
    "PCMA",
    "G722",
    "G729",
    "G723",
    "GSM",
    "opus",
    "AMR",
    "AMR-WB",
    "iLBC",
    "speex",
    "EVS",
    "L16",
    "G728",
    "G726-16",
    "G726-24",
    "G726-32",
    "G726-40",
    "CN",
    "telephone-event",
    "H263",
    "H264",
    "H265",
    "VP8",
    "VP9",
    "AV1",
    "red",
    "t140",
];
