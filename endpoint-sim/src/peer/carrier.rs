//! Which way the media of a call takes: by the relay, directly, or both ways while that is not clear.
//!
//! The relay's way is kept warm, so that going back to it costs nothing but a decision:
//!
//! ```text
//!  relay   ── the direct path is proven: for a second both ways ── 5 in a row heard directly ──▶ direct
//!  direct  ── the next packet is late: what was sent lately is sent again by the relay ──▶ relay
//!             the path is asked about; when it answers, it is tried again
//! ```
//!
//! Late is what comes a millisecond after it is due where packets come evenly, and four times their jitter later where they
//! don't; 30 ms after the one before it in any case.
//!
//! A path that carries one way only makes the side that hears nothing stop sending by it, so the other side hears nothing
//! either and goes back, too. What comes twice is known by its sequence number.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

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
    heard: Option<Instant>,
    /// How much the time between two packets varies (RFC 3550 §6.4.1).
    jitter: Jitter,
    in_a_row: u8,
    /// It is to be tried from the next packet on: there may be none to try it with yet.
    to_try: bool,
    trying_until: Option<Instant>,
    recent: VecDeque<Bytes>,
    sent: u32,
    pub(super) upgrades: u32,
    pub(super) falls: u32,
}

/// The time between two packets.
const PACKET: Duration = Duration::from_millis(20);
/// One and a half packet times: the next packet is late, and perhaps will never come.
const LATE: Duration = Duration::from_millis(30);
/// As much later than it is due is late where nothing varies.
const SLACK: Duration = Duration::from_millis(1);
const IN_A_ROW: u8 = 5;
/// How long both ways are taken to find out whether the direct one carries.
const TRIAL: Duration = Duration::from_secs(1);
/// What may be under way when a path is found dead: 160 ms of it.
const RECENT: usize = 8;
/// One packet of so many goes by the relay as well, which keeps its latch and the mappings on the way to it.
const WARM: u32 = 50;

impl Carrier {
    /// A packet of the other side came directly.
    pub(super) fn hear(&mut self, now: Instant) {
        let in_time = self.heard.is_some_and(|heard| now <= heard + LATE);
        if let Some(heard) = self.heard.filter(|_| in_time) {
            self.jitter.take(now.saturating_duration_since(heard).abs_diff(PACKET));
        }
        self.in_a_row = if in_time { self.in_a_row.saturating_add(1) } else { 1 };
        self.heard = Some(now);
        if !self.direct && self.in_a_row >= IN_A_ROW {
            (self.direct, self.to_try, self.trying_until) = (true, false, None);
            self.upgrades += 1;
        }
    }

    /// The direct path has answered a check.
    pub(super) fn proven(&mut self) {
        self.to_try = !self.direct;
    }

    /// How the next packet goes.
    pub(super) fn next(&mut self, now: Instant, packet: &Bytes) -> By {
        self.sent = self.sent.wrapping_add(1);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(packet.clone());
        if std::mem::take(&mut self.to_try) {
            self.trying_until = Some(now + TRIAL);
        }
        let trying = self.trying_until.is_some_and(|until| now < until);
        match (self.direct, trying) {
            (true, _) if self.sent.is_multiple_of(WARM) => By::Both,
            (true, _) => By::Direct,
            (false, true) => By::Both,
            (false, false) => By::Relay,
        }
    }

    /// Whether the direct path has just died; what is to go by the relay again.
    pub(super) fn fall(&mut self, now: Instant, open: bool) -> Option<VecDeque<Bytes>> {
        let late = self.heard.is_none_or(|heard| heard + self.jitter.patience() < now);
        if !self.direct || open && !late {
            return None;
        }
        (self.direct, self.in_a_row) = (false, 0);
        self.falls += 1;
        Some(std::mem::take(&mut self.recent))
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let late = self.heard.map(|heard| heard + self.jitter.patience() + Duration::from_micros(1));
        late.filter(|_| self.direct)
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

    /// How long after a packet the next one is late.
    fn patience(&self) -> Duration {
        (PACKET + SLACK + self.0 * 4).min(LATE)
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
        let patience = even.jitter.patience();
        assert!(PACKET + SLACK <= patience && patience < PACKET + 2 * SLACK, "{patience:?}");
        assert_eq!(even.fall(last + PACKET + SLACK, true), None);
        assert!(even.fall(last + PACKET + 2 * SLACK, true).is_some());
        (0..100).for_each(|n| uneven.hear(now + MS * (20 * n + 9 * (n % 2))));
        assert_eq!(uneven.jitter.patience(), LATE);
    }

    #[test]
    fn a_path_that_falls_silent_is_left_after_30_ms_and_what_was_under_way_goes_again() {
        let (mut carrier, now, packet) = (Carrier::default(), Instant::now(), Bytes::from_static(b"x"));
        carrier.proven();
        let last = hears(&mut carrier, now, 10);
        (0..20).for_each(|_| assert_ne!(carrier.next(last, &packet), By::Relay));
        assert_eq!(carrier.fall(last + LATE, true), None);
        assert_eq!(carrier.fall(last + LATE + MS, true).map(|again| again.len()), Some(RECENT));
        assert_eq!(carrier.next(last + LATE + MS, &packet), By::Relay, "until the path has answered again");
        carrier.proven();
        assert_eq!(carrier.next(last + LATE + MS, &packet), By::Both);
    }
}
