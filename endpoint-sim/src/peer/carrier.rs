//! Which way the media of a call takes: by the relay, directly, or both ways while that is not clear.
//!
//! The relay's way is kept warm, so that going back to it costs nothing but a decision:
//!
//! ```text
//!  relay   ── the direct path is proven: for two seconds both ways ── 5 in a row heard directly ──▶ direct
//!  direct  ── what is due is late: both ways, and what was sent lately is sent again by the relay ── it comes ──▶ direct
//!          ── the other side misses something: the same, for 100 ms ──▶ direct
//!          ── nothing for 60 ms ──▶ relay; the path is asked about; when it answers, it is tried again
//! ```
//!
//! Due is, after each packet, a beat at a third and at two thirds of the way to the next one: a header without a payload. So a path
//! that dies is suspected 8 ms after the last word, not 21, and two packets at most come late where the relay's way is no more than
//! 32 ms. Late is what comes a millisecond after it is due where packets come evenly, and four times their jitter later where they
//! don't; 30 ms after the one before it in any case.
//!
//! Where a path carries one way only, the side that hears nothing says so at once, by both ways: a generic NACK (RFC 4585 §6.2.1) that
//! names the first packet it has not heard. The other one says everything from there on again by the relay, so nothing is lost; it is
//! late by the way of the NACK and the relay's, which no speaker can do better that has nothing but the word of its hearer. What
//! comes twice is known by its sequence number.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::rtp::{Packet, classify};

/// How one packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Relay,
    Direct,
    Both,
}

/// The ways of one call.
#[derive(Debug, Default)]
pub(super) struct Carrier {
    direct: bool,
    /// What is due is late.
    suspected: bool,
    /// The other side has missed something: until when both ways are taken.
    missed_until: Option<Instant>,
    /// When a packet or a beat came directly, and when a packet.
    heard: Option<Instant>,
    packet: Option<Instant>,
    /// The other side sends beats.
    beaten: bool,
    /// How much the time between two packets varies (RFC 3550 §6.4.1).
    jitter: Jitter,
    in_a_row: u8,
    /// It is to be tried from the next packet on: there may be none to try it with yet.
    to_try: bool,
    trying_until: Option<Instant>,
    /// What went directly alone lately.
    recent: VecDeque<Bytes>,
    /// The packet of the stream that went directly last.
    last: Bytes,
    /// When our next beat is due, and how many there are to come.
    beat: Option<(Instant, u8)>,
    count: u32,
    pub(super) upgrades: u32,
    pub(super) falls: u32,
}

/// The time between two packets.
const PACKET: Duration = Duration::from_millis(20);
/// Beats after each packet, and the time between two of them.
const BEATS: u8 = 2;
const BEAT: Duration = Duration::from_micros(20_000 / (BEATS as u64 + 1));
/// One and a half packet times: the next packet is late, and perhaps will never come.
const LATE: Duration = Duration::from_millis(30);
/// Three packets: so unevenly nothing comes on a path that carries.
const DEAD: Duration = Duration::from_millis(60);
/// Who misses something for longer leaves the path, and that is heard.
const MISSED: Duration = Duration::from_millis(100);
/// As much later than it is due is late where nothing varies.
const SLACK: Duration = Duration::from_millis(1);
const IN_A_ROW: u8 = 5;
/// How long both ways are taken to find out whether the direct one carries: who answers speaks two ways through the servers
/// before the caller does, which may be most of a second.
const TRIAL: Duration = Duration::from_secs(2);
/// What may be under way when a path is found dead, be it through half the world: 640 ms of it.
const RECENT: usize = 32;
/// One packet of so many goes by the relay as well, which keeps its latch and the mappings on the way to it.
const WARM: u32 = 50;

impl Carrier {
    /// A packet of the other side came directly.
    pub(super) fn hear(&mut self, now: Instant) {
        let in_time = self.packet.is_some_and(|before| now <= before + LATE);
        if let Some(before) = self.packet.filter(|_| in_time) {
            self.jitter.take(now.saturating_duration_since(before).abs_diff(PACKET));
        }
        self.in_a_row = if in_time { self.in_a_row.saturating_add(1) } else { 1 };
        (self.packet, self.heard, self.suspected) = (Some(now), Some(now), false);
        if !self.direct && self.in_a_row >= IN_A_ROW {
            (self.direct, self.to_try, self.trying_until) = (true, false, None);
            self.upgrades += 1;
        }
    }

    /// A beat of the other side's came.
    pub(super) fn hear_beat(&mut self, now: Instant) {
        (self.heard, self.beaten, self.suspected) = (Some(now), true, false);
    }

    /// The direct path has answered a check.
    pub(super) fn proven(&mut self) {
        self.to_try = !self.direct;
    }

    /// How the next packet goes.
    pub(super) fn next(&mut self, now: Instant, packet: &Bytes) -> By {
        self.count = self.count.wrapping_add(1);
        if std::mem::take(&mut self.to_try) {
            self.trying_until = Some(now + TRIAL);
        }
        let trying = self.trying_until.is_some_and(|until| now < until);
        match (self.direct, trying) {
            (true, _) if self.suspected || self.is_missed(now) || self.count.is_multiple_of(WARM) => By::Both,
            (true, _) => {
                self.recent.truncate(RECENT - 1);
                self.recent.push_front(packet.clone());
                By::Direct
            }
            (false, true) => By::Both,
            (false, false) => By::Relay,
        }
    }

    /// A packet of the stream has gone directly, which beats follow.
    pub(super) fn sent(&mut self, now: Instant, packet: &Bytes) {
        (self.last, self.beat) = (packet.clone(), self.direct.then_some((now + BEAT, BEATS)));
    }

    /// A beat is due: the packet it follows.
    pub(super) fn beats(&mut self, now: Instant) -> Option<Bytes> {
        let (at, left) = self.beat.filter(|(at, _)| self.direct && *at <= now)?;
        self.beat = (left > 1).then_some((at + BEAT, left - 1));
        Some(self.last.clone())
    }

    /// Whether what is due on the direct path has just become late; what is to go by the relay, too.
    pub(super) fn suspect(&mut self, now: Instant) -> Option<Vec<Bytes>> {
        if !self.direct || self.suspected || !self.has_heard_nothing_for(self.patience(), now) {
            return None;
        }
        self.suspected = true;
        Some(self.recent.drain(..).rev().collect())
    }

    /// The other side has not heard our packet of this number, nor any since; what is to go by the relay, too.
    pub(super) fn missed(&mut self, now: Instant, first: u16) -> Vec<Bytes> {
        if !self.direct {
            return Vec::new();
        }
        self.missed_until = Some(now + MISSED);
        let was_heard = |packet: &Bytes| match classify(packet) {
            Packet::Rtp(rtp) => rtp.sequence().wrapping_sub(first) >= 0x8000,
            _ => false,
        };
        self.recent.drain(..).rev().filter(|packet| !was_heard(packet)).collect()
    }

    fn is_missed(&self, now: Instant) -> bool {
        self.missed_until.is_some_and(|until| now < until)
    }

    /// Whether the direct path has just died; what is to go by the relay again.
    pub(super) fn fall(&mut self, now: Instant, open: bool) -> Option<Vec<Bytes>> {
        if !self.direct || open && !self.has_heard_nothing_for(DEAD, now) {
            return None;
        }
        (self.direct, self.suspected, self.in_a_row) = (false, false, 0);
        self.missed_until = None;
        self.falls += 1;
        Some(self.recent.drain(..).rev().collect())
    }

    fn has_heard_nothing_for(&self, time: Duration, now: Instant) -> bool {
        self.heard.is_none_or(|heard| heard + time < now)
    }

    /// How long after something was heard the next is late.
    fn patience(&self) -> Duration {
        let due = if self.beaten { BEAT } else { PACKET };
        (due + SLACK + self.jitter.0 * 4).min(LATE)
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let patience = if self.suspected { DEAD } else { self.patience() };
        let late = self.heard.map(|heard| heard + patience + Duration::from_micros(1));
        let beat = self.beat.map(|(at, _)| at);
        late.into_iter().chain(beat).min().filter(|_| self.direct)
    }

    /// The source of our stream (RFC 3550 §5.1), once something of it has gone directly.
    pub(super) fn source(&self) -> Option<u32> {
        match classify(&self.last) {
            Packet::Rtp(rtp) => Some(rtp.ssrc()),
            _ => None,
        }
    }

    pub(super) fn is_direct(&self) -> bool {
        self.direct
    }
}

/// How much the time between two packets varies; until that is known, rather much.
#[derive(Debug)]
struct Jitter(Duration);

impl Default for Jitter {
    fn default() -> Jitter {
        Jitter(LATE - PACKET)
    }
}

impl Jitter {
    fn take(&mut self, difference: Duration) {
        self.0 = (self.0 * 15 + difference) / 16;
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn hears(carrier: &mut Carrier, from: Instant, packets: u32) -> Instant {
        (0..packets).for_each(|n| carrier.hear(from + MS * 20 * n));
        from + MS * 20 * (packets - 1)
    }

    #[test]
    fn a_proven_path_is_tried_and_taken_when_it_carries() {
        let (mut carrier, now, packet) = (Carrier::default(), Instant::now(), Bytes::from_static(b"x"));
        assert_eq!(carrier.next(now, &packet), By::Relay);
        carrier.proven();
        assert_eq!(carrier.next(now, &packet), By::Both);
        let last = hears(&mut carrier, now, u32::from(IN_A_ROW) - 1);
        assert_eq!(carrier.next(last, &packet), By::Both);
        carrier.hear(last + MS * 20);
        assert_eq!(carrier.next(last + MS * 20, &packet), By::Direct);
    }

    #[test]
    fn a_trial_without_an_echo_ends_by_itself() {
        let (mut carrier, now, packet) = (Carrier::default(), Instant::now(), Bytes::from_static(b"x"));
        carrier.proven();
        assert_eq!(carrier.next(now, &packet), By::Both);
        assert_eq!(carrier.next(now + TRIAL - MS, &packet), By::Both);
        assert_eq!(carrier.next(now + TRIAL, &packet), By::Relay);
    }

    #[test]
    fn a_path_that_was_proven_while_it_rang_is_tried_when_there_is_something_to_send() {
        let (mut carrier, now, packet) = (Carrier::default(), Instant::now(), Bytes::from_static(b"x"));
        carrier.proven();
        let answered = now + TRIAL * 3;
        assert_eq!(carrier.next(answered, &packet), By::Both);
        assert_eq!(carrier.next(answered + TRIAL, &packet), By::Relay);
    }

    #[test]
    fn where_packets_come_evenly_a_millisecond_is_late_and_where_they_do_not_ten() {
        let (mut even, mut uneven, now) = (Carrier::default(), Carrier::default(), Instant::now());
        let last = hears(&mut even, now, 100);
        let patience = even.patience();
        assert!(PACKET + SLACK <= patience && patience < PACKET + 2 * SLACK, "{patience:?}");
        assert_eq!(even.suspect(last + PACKET + SLACK), None);
        assert!(even.suspect(last + PACKET + 2 * SLACK).is_some());
        (0..100).for_each(|n| uneven.hear(now + MS * (20 * n + 9 * (n % 2))));
        assert_eq!(uneven.patience(), LATE);
    }

    #[test]
    fn a_path_that_falls_silent_is_left_after_60_ms_and_what_was_under_way_goes_again() {
        let (mut carrier, now, packet) = (Carrier::default(), Instant::now(), Bytes::from_static(b"x"));
        carrier.proven();
        let last = hears(&mut carrier, now, 10);
        (0..40).for_each(|_| assert_ne!(carrier.next(last, &packet), By::Relay));
        assert_eq!(carrier.fall(last + DEAD, true), None);
        assert_eq!(carrier.fall(last + DEAD + MS, true).map(|again| again.len()), Some(RECENT));
        assert_eq!(carrier.next(last + DEAD + MS, &packet), By::Relay, "until the path has answered again");
        carrier.proven();
        assert_eq!(carrier.next(last + DEAD + MS, &packet), By::Both);
    }

    #[test]
    fn a_path_without_its_beats_is_suspected_and_both_ways_are_taken_until_it_is_heard_again() {
        let (mut carrier, now, packet) = (Carrier::default(), Instant::now(), Bytes::from_static(b"x"));
        let last = hears(&mut carrier, now, 200);
        (0..4).for_each(|_| assert_eq!(carrier.next(last, &packet), By::Direct));
        carrier.hear_beat(last + BEAT);
        assert_eq!(carrier.suspect(last + BEAT * 2 + SLACK), None);
        let late = last + BEAT * 2 + 2 * SLACK;
        assert_eq!(carrier.suspect(late).map(|again| again.len()), Some(4));
        assert_eq!(carrier.next(late, &packet), By::Both);
        assert_eq!(carrier.suspect(late + MS), None, "it is already");
        carrier.hear(last + MS * 20);
        assert_eq!(carrier.next(last + MS * 20, &packet), By::Direct);
        assert_eq!(carrier.suspect(last + MS * 40).map(|again| again.len()), Some(1), "nothing goes twice");
        assert_eq!((carrier.fall(last + MS * 80, true), carrier.falls), (None, 0));
        assert!(carrier.fall(last + MS * 81, true).is_some_and(|again| again.is_empty()));
    }

    fn numbered(number: u16) -> Bytes {
        let mut packet = [0; 172];
        packet[0] = 0x80;
        packet[2..4].copy_from_slice(&number.to_be_bytes());
        Bytes::copy_from_slice(&packet)
    }

    #[test]
    fn what_the_other_side_missed_is_said_again_and_for_100_ms_both_ways_are_taken() {
        let (mut carrier, now) = (Carrier::default(), Instant::now());
        assert!(carrier.missed(now, 0).is_empty(), "it goes by the relay anyway");
        let last = hears(&mut carrier, now, 10);
        for number in 0xfffc..=0x1_0002_u32 {
            assert_eq!(carrier.next(last, &numbered(number as u16)), By::Direct);
        }
        let again = carrier.missed(last, 0xffff);
        assert_eq!(again, [0xffff, 0, 1, 2].map(numbered), "in order, and over the end of the numbers");
        carrier.hear(last);
        assert_eq!(carrier.next(last + MISSED - MS, &numbered(3)), By::Both, "though it is heard itself");
        assert_eq!(carrier.next(last + MISSED, &numbered(4)), By::Direct);
        assert_eq!(carrier.missed(last + MISSED, 0), [numbered(4)], "nothing goes twice");
    }

    #[test]
    fn two_beats_follow_each_packet_that_goes_directly() {
        let (mut carrier, now) = (Carrier::default(), Instant::now());
        let (one, other) = (Bytes::from_static(b"1"), Bytes::from_static(b"2"));
        carrier.sent(now, &one);
        assert_eq!(carrier.beats(now + PACKET), None, "on trial");
        let now = hears(&mut carrier, now, 10);
        carrier.sent(now, &one);
        assert_eq!((carrier.beats(now + BEAT - MS), carrier.beats(now + BEAT)), (None, Some(one.clone())));
        assert_eq!((carrier.beats(now + BEAT * 2), carrier.beats(now + BEAT * 3)), (Some(one), None));
        carrier.sent(now + PACKET, &other);
        assert_eq!(carrier.beats(now + PACKET + BEAT), Some(other));
    }
}
