//! What the relay says to a party itself, in the other party's place: digits (RFC 4733), and tunes (`play`).
//!
//! For whoever hears it nothing begins or ends: it goes out under the SSRC that party hears already, its sequence numbers follow
//! on, and its timestamps go on with the clock (RFC 3550 §5.1). What the other party sends meanwhile is dropped. When that
//! one is heard again its packets are fitted in behind: as they are where their numbers have kept step, as those of a phone that
//! talks on do; else shifted, from then on.
//!
//! ```text
//!  from the other party   n   n+1 │ n+2   n+3   n+4   n+5 │ n+6   n+7
//!  to the one that hears  n   n+1 │ digit digit digit end │ n+6   n+7      a digit's packets: one every 20 ms, the last thrice
//! ```
//!
//! The source's leg has a switch on meanwhile, so that its packets come the slow way and no path below carries them. Nothing of this
//! hears or latches anybody: what is said goes where the party's media goes, or nowhere.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto::node::Output;
use proto::rtp::{Header, Packet, classify, write};
use proto::srtp::MAX_GROWTH;

use crate::crowd::stream_of;
use crate::forward::Way;
use crate::play::Playing;
use crate::relay::Relay;
use crate::why::Why;

/// A packet goes out so often.
pub(crate) const BEAT: Duration = Duration::from_millis(20);
pub(crate) const BEATS: u32 = 50;
/// How often the end of a digit is told (RFC 4733 §2.5.1.4).
const ENDS: u32 = 3;
/// How far ahead a source may be for its packets to go on as they are: what was dropped looks like a packet or two lost.
const STEP: std::ops::RangeInclusive<i16> = 1..=4;
/// How many packets after it was shifted a late one may still come.
const LATE: u16 = 64;
/// Digits that may wait for one party.
const QUEUE: usize = 64;
/// The clock of telephone-events nobody gave another.
const USUAL: u32 = 8000;

/// One digit to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digit {
    /// Its number (RFC 4733 §3.2): 0 to 9, 10 for `*`, 11 for `#`, 12 to 15 for A to D.
    pub code: u8,
    /// How long it lasts.
    pub duration: Duration,
    /// How long nothing is said behind it before the next one.
    pub pause: Duration,
    /// Its volume, in dBm0 below zero: 0 to 63.
    pub volume: u8,
}

/// What is said to one leg's party.
#[derive(Clone, Debug)]
pub(crate) struct Insert {
    waiting: VecDeque<Digit>,
    saying: Option<Saying>,
    /// What is played when no digit is said.
    pub(crate) playing: Option<Box<Playing>>,
    /// Where the stream it hears stands; `None`: that is found out when something is said.
    pub(crate) stream: Option<Stream>,
    /// When the next packet is due.
    pub(crate) next: Instant,
}

/// A stream as its hearer has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) ssrc: u32,
    pub(crate) rate: u32,
    /// The newest packet's number, and the newest moment of the clock that was spoken for.
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    /// When that moment was.
    pub(crate) at: Instant,
    /// What is added to the source's own numbers.
    shift: (u16, u32),
    /// The source's next packet is to be fitted in, from then on: our last one has its place as long.
    joins: Option<Instant>,
    /// Our last packet's number, once it was shifted: what comes late from before is of no use.
    floor: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
struct Saying {
    digit: Digit,
    payload_type: u8,
    start: u32,
    sent: u32,
}

impl Saying {
    /// How long it is in the stream's clock, and how many packets say so.
    fn length(&self, rate: u32) -> (u32, u32) {
        let ticks =
            (self.digit.duration.as_millis() as u64 * u64::from(rate) / 1000).min(u64::from(u16::MAX)) as u32;
        (ticks, ticks.div_ceil(rate / BEATS))
    }
}

impl Stream {
    /// The clock now, a whole packet on at least.
    pub(crate) fn clock(&self, now: Instant) -> u32 {
        let beats = now.saturating_duration_since(self.at).as_millis().div_ceil(BEAT.as_millis()).max(1);
        self.timestamp.wrapping_add((beats as u32).wrapping_mul(self.rate / BEATS))
    }
}

impl Relay {
    /// Says a digit to the party of a leg, behind those that wait already.
    pub(crate) fn say(&mut self, now: Instant, at: u32, digit: Digit) -> Result<(), &'static str> {
        let source = self.source_of(at).ok_or(NO_MEDIA)?;
        if self.legs[source as usize].clocks.event_type(None).is_none() {
            return Err(NO_EVENTS);
        }
        let insert = self.insert_for(now, at)?;
        if insert.waiting.len() >= QUEUE {
            return Err("Too many DTMF events are waiting already");
        }
        insert.waiting.push_back(digit);
        self.inserts_into(at);
        Ok(())
    }

    /// What is said to the party of a leg, from now on at the earliest.
    pub(crate) fn insert_for(&mut self, now: Instant, at: u32) -> Result<&mut Insert, &'static str> {
        self.source_of(at).ok_or(NO_MEDIA)?;
        let new =
            || Insert { waiting: VecDeque::new(), saying: None, playing: None, stream: None, next: now };
        let insert = self.inserts.entry(at).or_insert_with(new);
        if !insert.is_busy() {
            insert.next = insert.next.max(now);
        }
        Ok(insert)
    }

    /// The packets of whom a leg's party hears come the slow way from now on.
    pub(crate) fn inserts_into(&mut self, at: u32) {
        let Some(source) = self.source_of(at) else { return };
        let leg = &mut self.legs[source as usize];
        leg.switches.set_inserting(true);
        self.changed.insert(leg.whose.session.0);
        self.speaking.insert(at);
    }

    /// Whose packets a leg's party hears.
    pub(crate) fn source_of(&self, at: u32) -> Option<u32> {
        let source = self.legs.get(at as usize)?.other;
        self.legs.get(source as usize).map(|_| source)
    }

    /// Sends what is due.
    pub(crate) fn speak(&mut self, now: Instant) {
        for at in self.speaking.iter().copied().collect::<Vec<u32>>() {
            while self.inserts.get(&at).is_some_and(|insert| insert.is_due(now)) {
                self.say_next(now, at);
            }
            if !self.inserts.get(&at).is_some_and(Insert::is_busy) {
                self.speaking.remove(&at);
            }
        }
    }

    /// When that is.
    pub(crate) fn speaks_at(&self) -> Option<Instant> {
        let speaking = self.speaking.iter().filter_map(|at| self.inserts.get(at));
        speaking.filter(|insert| insert.is_busy()).map(|insert| insert.next).min()
    }

    fn say_next(&mut self, now: Instant, at: u32) {
        let Some(source) = self.source_of(at) else { return self.stop_saying(at) };
        // Where the stream stands is known once what a path below carried of it has been counted.
        let is_known = self.inserts.get(&at).is_some_and(|insert| insert.stream.is_some());
        let found = match is_known || self.is_carried_below(source) {
            true => None,
            false => Some(self.found(now, source)),
        };
        let events = |rate| self.legs[source as usize].clocks.event_type(Some(rate));
        let Some(insert) = self.inserts.get_mut(&at) else { return };
        insert.stream = insert.stream.or(found);
        let Some(stream) = &mut insert.stream else {
            insert.next = now + BEAT;
            return;
        };
        let saying = match insert.saying {
            Some(saying) => saying,
            None => {
                let Some(digit) = insert.waiting.pop_front() else { return self.play_next(now, at) };
                let Some((payload_type, rate)) = events(stream.rate) else { return };
                stream.rate = rate.max(BEATS);
                insert.playing.iter_mut().for_each(|playing| playing.pause());
                let saying = Saying { digit, payload_type, start: stream.clock(now), sent: 0 };
                // In step with the source, whose packets are dropped from now on.
                if now < stream.at + BEAT {
                    (insert.saying, insert.next) = (Some(saying), stream.at + BEAT);
                    return;
                }
                saying
            }
        };
        let packet = insert.packet(saying);
        self.send_own(now, at, packet);
    }

    /// Where the stream that a source sends stands; one that sent nothing gets one of our own.
    fn found(&mut self, now: Instant, source: u32) -> Stream {
        let leg = &self.legs[source as usize];
        let newest = leg.tracks.latest().and_then(|track| Some((track, track.newest()?)));
        let rate = newest.and_then(|(track, _)| track.clock()).unwrap_or(USUAL);
        let usable = leg.clocks.event_type(Some(rate)).map_or(USUAL, |(_, rate)| rate).max(BEATS);
        let (ssrc, sequence, timestamp, at) = match newest {
            Some((track, (sequence, timestamp))) => (track.ssrc, sequence, timestamp, track.heard),
            None => {
                let drawn = self.dice.u64();
                (drawn as u32, (drawn >> 32) as u16, (drawn >> 16) as u32, now)
            }
        };
        let (shift, joins, floor) = ((0, 0), None, None);
        Stream { ssrc, rate: usable, sequence, timestamp, at, shift, joins, floor }
    }

    pub(crate) fn stop_saying(&mut self, at: u32) {
        self.inserts.remove(&at);
        let Some(source) = self.source_of(at) else { return };
        let leg = &mut self.legs[source as usize];
        leg.switches.set_inserting(false);
    }

    /// A packet of our own to a leg's party, protected as that party wants it.
    pub(crate) fn send_own(&mut self, now: Instant, at: u32, mut packet: Vec<u8>) {
        let Some(leg) = self.legs.get(at as usize) else { return };
        let (socket, Some(to)) = (leg.media.port.socket, leg.media.target) else { return };
        let len = packet.len();
        packet.resize(len + MAX_GROWTH, 0);
        let way = Way { socket, to, len, leg: at, is_rtcp: false };
        let keyed = self.keys_of(at).is_some();
        let sealed = if keyed { self.protect(now, &way, &mut packet) } else { Ok(len) };
        let Ok(len) = sealed else { return };
        packet.truncate(len);
        self.traffic.forwarded += 1;
        self.traffic.bytes += len as u64;
        self.outputs.push_back(Output::SendMedia { socket, to, bytes: packet.into() });
    }

    /// A packet of the other party on its way to a leg that something was said to: dropped, as it is, or shifted.
    pub(crate) fn fit_in(&mut self, now: Instant, at: u32, bytes: &mut [u8]) -> Result<(), Why> {
        let Some(insert) = self.inserts.get_mut(&at) else { return Ok(()) };
        match classify(bytes) {
            Packet::Rtp(_) if insert.is_speaking() => return Err(Why::Blocked),
            Packet::Rtp(rtp) => {
                let header = (rtp.ssrc(), rtp.sequence(), rtp.timestamp());
                let (sequence, timestamp) = insert.fit(now, header)?;
                bytes[2..4].copy_from_slice(&sequence.to_be_bytes());
                bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
            }
            packet @ Packet::Rtcp(_) => {
                let sender = stream_of(&packet);
                insert.fit_report(sender, bytes);
            }
            _ => {}
        }
        if insert.is_over() {
            self.stop_saying(at);
        }
        Ok(())
    }
}

impl Insert {
    /// Something is being said, or is to be.
    fn is_busy(&self) -> bool {
        self.saying.is_some() || !self.waiting.is_empty() || self.playing.is_some()
    }

    /// The source is not heard meanwhile.
    fn is_speaking(&self) -> bool {
        self.saying.is_some() || self.playing.as_ref().is_some_and(|playing| playing.is_begun())
    }

    /// Nothing was said, and nothing is to be.
    pub(crate) fn is_unused(&self) -> bool {
        !self.is_busy() && self.stream.is_none()
    }

    /// The source goes on where our last packet ends.
    pub(crate) fn lets_join(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.joins = Some(stream.at + BEAT / 2);
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.is_busy() && self.next <= now
    }

    /// Nothing is left to do here: the source's packets go on as they are.
    fn is_over(&self) -> bool {
        !self.is_busy() && self.stream.is_some_and(|stream| stream.joins.is_none() && stream.shift == (0, 0))
    }

    /// The next packet of a digit, and what comes after it.
    fn packet(&mut self, saying: Saying) -> Vec<u8> {
        let Some(stream) = &mut self.stream else { return Vec::new() };
        let (length, packets) = saying.length(stream.rate);
        let sent = saying.sent + 1;
        let duration = length.min(sent * (stream.rate / BEATS));
        let is_end = sent >= packets;
        stream.sequence = stream.sequence.wrapping_add(1);
        let header = Header {
            payload_type: saying.payload_type,
            marker: sent == 1,
            sequence: stream.sequence,
            timestamp: saying.start,
            ssrc: stream.ssrc,
        };
        let volume = saying.digit.volume.min(63) | if is_end { 0x80 } else { 0 };
        let [high, low] = (duration as u16).to_be_bytes();
        let packet = write(header, &[saying.digit.code, volume, high, low]);
        let spoken = BEAT * saying.sent;
        let told = Duration::from_millis(u64::from(duration) * 1000 / u64::from(stream.rate));
        stream.timestamp = saying.start.wrapping_add(duration);
        stream.at = (self.next + told).checked_sub(spoken).unwrap_or(self.next);
        if sent < packets + ENDS - 1 {
            self.saying = Some(Saying { sent, ..saying });
            self.next += BEAT;
        } else {
            (self.saying, stream.joins) = (None, Some(self.next + BEAT / 2));
            self.next += (saying.digit.duration + saying.digit.pause).saturating_sub(spoken).max(BEAT);
        }
        packet
    }

    /// The numbers a packet of the source gets.
    fn fit(&mut self, now: Instant, (ssrc, sequence, timestamp): (u32, u16, u32)) -> Result<(u16, u32), Why> {
        let Some(stream) = &mut self.stream else { return Ok((sequence, timestamp)) };
        if ssrc != stream.ssrc {
            // Another source: it begins where it wants.
            let (shift, joins, floor) = ((0, 0), None, None);
            *stream = Stream { ssrc, sequence, timestamp, at: now, shift, joins, floor, ..*stream };
        }
        if let Some(from) = stream.joins {
            if now < from {
                return Err(Why::Blocked);
            }
            stream.joins = None;
            let ahead = sequence.wrapping_add(stream.shift.0).wrapping_sub(stream.sequence) as i16;
            let later = timestamp.wrapping_add(stream.shift.1).wrapping_sub(stream.timestamp) as i32;
            if !STEP.contains(&ahead) || later < 0 {
                let clock = stream.clock(now);
                stream.floor = Some(stream.sequence);
                stream.shift =
                    (stream.sequence.wrapping_add(1).wrapping_sub(sequence), clock.wrapping_sub(timestamp));
            }
        }
        let fitted = (sequence.wrapping_add(stream.shift.0), timestamp.wrapping_add(stream.shift.1));
        let is_late = |floor: u16| (floor.wrapping_sub(fitted.0) as i16) >= 0;
        if stream.floor.is_some_and(is_late) {
            return Err(Why::Blocked);
        }
        if (fitted.0.wrapping_sub(stream.sequence) as i16) > 0 {
            stream.floor = stream.floor.filter(|floor| fitted.0.wrapping_sub(*floor) < LATE);
            (stream.sequence, stream.timestamp, stream.at) = (fitted.0, fitted.1, now);
        }
        Ok(fitted)
    }

    /// A sender report names a moment in the source's own clock (RFC 3550 §6.4.1).
    fn fit_report(&self, sender: Option<u32>, bytes: &mut [u8]) {
        let Some(stream) = self.stream.filter(|stream| stream.shift.1 != 0) else { return };
        if bytes.len() >= 20 && bytes[1] == SENDER_REPORT && sender == Some(stream.ssrc) {
            let named = u32::from_be_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
            bytes[16..20].copy_from_slice(&named.wrapping_add(stream.shift.1).to_be_bytes());
        }
    }
}

const SENDER_REPORT: u8 = 200;

pub(crate) const NO_MEDIA: &str = "Monologue has no audio that anything can be injected into";
const NO_EVENTS: &str = "The receiving party takes no telephone-event, and this relay makes no tones";
