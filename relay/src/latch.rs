//! Whom a leg hears (DESIGN §6): the rule for the first packet, and the proof that moves a leg afterwards.
//!
//! A NAT that forgets a mapping gives the party a new port, or a new address, in mid-call. The party cannot tell us, but it
//! keeps sending the same stream, and only it (and who sees its packets) knows the stream's SSRC, where its sequence
//! numbers stand, and where its clock stands. Three packets in a row that fit all of these, while the old source is
//! silent, move the leg. Who has to guess has some 2⁵⁰ to go through.
//!
//! Wrong guesses close the window *for the address they come from*, so that a forger who sprays a port does not keep its
//! party from moving; when too many addresses guess wrong at once, it closes for all.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proto::rtp::Rtp;
use proto::tables::Latch;

use crate::quality::{Track, Tracks};

/// Packets in a row that prove a party.
const PROOF: u8 = 3;
/// How far the sequence may have gone on, from one packet to the next.
const STRIDE: u16 = 50;
/// How long the old source must have been silent.
const SILENT: Duration = Duration::from_millis(100);
/// So many wrong guesses …
const GUESSES: u8 = 5;
/// … in this time …
const PER: Duration = Duration::from_secs(1);
/// … close the window for this long.
const CLOSED: Duration = Duration::from_secs(5);
/// Addresses remembered for wrong guesses; one more closes the window for all.
const GUESSERS: usize = 4;
/// What a party's clock may be ahead, at the sampling rate, of what has passed here.
const SLACK: Duration = Duration::from_secs(1);

/// Whom a leg accepts as its party's first packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) latch: Latch,
    /// Where the party's SDP wants media.
    pub(crate) signalled: Option<IpAddr>,
    /// Where its signalling comes from.
    pub(crate) signalling: Option<IpAddr>,
    /// It may be a port of ours: the party stands behind another session.
    pub(crate) chained: bool,
}

impl Rule {
    /// Whether a first packet from this address is the party's. Any port will do: behind a NAT nobody knows it
    /// beforehand.
    pub(crate) fn admits(&self, from: IpAddr) -> bool {
        let known = || [self.signalled, self.signalling].into_iter().flatten();
        match self.latch {
            Latch::Strict => known().any(|ip| same(ip, from, 32, 64)),
            Latch::Prefix => known().any(|ip| same(ip, from, 24, 48)),
            Latch::Any => true,
        }
    }

    /// The address to name when somebody else came.
    pub(crate) fn expected(&self) -> Option<IpAddr> {
        self.signalling.or(self.signalled)
    }
}

/// Whether two addresses share their first bits.
fn same(a: IpAddr, b: IpAddr, v4: u32, v6: u32) -> bool {
    match (a.to_canonical(), b.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= v4,
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= v6,
        _ => false,
    }
}

/// Watches who claims to be a latched party that moved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    claim: Option<Claim>,
    guessers: [Option<Guesser>; GUESSERS],
    closed: Option<Instant>,
}

/// Packets in a row, from one source, that fit the stream.
#[derive(Clone, Copy, Debug)]
struct Claim {
    from: SocketAddr,
    ssrc: u32,
    sequence: u16,
    run: u8,
}

/// An address that has guessed wrong.
#[derive(Clone, Copy, Debug)]
struct Guesser {
    ip: IpAddr,
    since: Instant,
    wrong: u8,
    closed: Option<Instant>,
}

impl Guard {
    /// Looks at one RTP packet from somewhere else than the latched source, which was last heard at `heard`; `tracks`
    /// are its streams. `true`: it is the party, and has moved.
    pub(crate) fn proves(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &Rtp<'_>,
        tracks: &Tracks,
        heard: Instant,
    ) -> bool {
        if self.is_closed(now, from.ip()) {
            return false;
        }
        let claim = self.claim.filter(|claim| claim.from == from && claim.ssrc == packet.ssrc());
        let track = tracks.find(packet.ssrc());
        if !track.is_some_and(|track| fits(now, packet, track, claim)) {
            // What the party has said before proves nothing, and is no guess: who has moved may say it again.
            if !track.is_some_and(|track| is_old(packet, track, claim)) {
                self.wrong(now, from);
            }
            return false;
        }
        let run = claim.map_or(1, |claim| claim.run.saturating_add(1));
        self.claim = Some(Claim { from, ssrc: packet.ssrc(), sequence: packet.sequence(), run });
        let proven = run >= PROOF && now.saturating_duration_since(heard) >= SILENT;
        if proven {
            *self = Guard::default();
        }
        proven
    }

    /// Whoever guesses at a stream is kept out from now on: the window need not be closed to anybody.
    pub(crate) fn forgive(&mut self) {
        *self = Guard { claim: self.claim, ..Guard::default() };
    }

    fn is_closed(&self, now: Instant, ip: IpAddr) -> bool {
        let closed = |until: Option<Instant>| until.is_some_and(|until| now < until);
        closed(self.closed) || self.guessers.iter().flatten().any(|g| g.ip == ip && closed(g.closed))
    }

    /// Counts a wrong guess, and forgets what the source had right before.
    fn wrong(&mut self, now: Instant, from: SocketAddr) {
        if self.claim.is_some_and(|claim| claim.from == from) {
            self.claim = None;
        }
        let ip = from.ip();
        let Some(place) = self.place(now, ip) else {
            self.closed = Some(now + CLOSED);
            return;
        };
        let fresh = Guesser { ip, since: now, wrong: 0, closed: None };
        let guesser = place.get_or_insert(fresh);
        if guesser.is_stale(now) {
            *guesser = fresh;
        }
        guesser.wrong += 1;
        if guesser.wrong >= GUESSES {
            *guesser = Guesser { closed: Some(now + CLOSED), wrong: 0, ..fresh };
        }
    }

    /// Where this address is remembered or can be; `None` when others fill every place.
    fn place(&mut self, now: Instant, ip: IpAddr) -> Option<&mut Option<Guesser>> {
        let its = |place: &Option<Guesser>| place.is_some_and(|g| g.ip == ip);
        let free = |place: &Option<Guesser>| place.is_none_or(|g| g.is_stale(now));
        let at = self.guessers.iter().position(its).or_else(|| self.guessers.iter().position(free))?;
        self.guessers.get_mut(at)
    }
}

impl Guesser {
    fn is_stale(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) > PER && self.closed.is_none_or(|until| now >= until)
    }
}

/// Whether a packet goes on where the party's stream, or the claim so far, stands, in sequence and in time.
fn fits(now: Instant, packet: &Rtp<'_>, track: &Track, claim: Option<Claim>) -> bool {
    let Some((sequence, timestamp)) = track.newest() else { return false };
    let before = claim.map_or(sequence, |claim| claim.sequence);
    let ahead = packet.sequence().wrapping_sub(before);
    let passed = now.saturating_duration_since(track.heard) + SLACK;
    let in_step = u64::from(packet.timestamp().wrapping_sub(timestamp)) <= track.ticks(passed);
    (1..=STRIDE).contains(&ahead) && track.has_sent(packet.payload_type()) && in_step
}

/// Whether a packet's number is one that the party, or whoever claims to be it, has just used.
fn is_old(packet: &Rtp<'_>, track: &Track, claim: Option<Claim>) -> bool {
    let newest = claim.map(|claim| claim.sequence).or(track.newest().map(|newest| newest.0));
    newest.is_some_and(|newest| newest.wrapping_sub(packet.sequence()) < STRIDE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::Clocks;
    use proto::rtp::{Header, write};

    const SSRC: u32 = 0x1234_5678;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn rule(latch: Latch) -> Rule {
        Rule { latch, signalled: Some(ip("10.0.0.5")), signalling: Some(ip("203.0.113.9")), chained: false }
    }

    #[test]
    fn strict_admits_the_signalled_and_the_signalling_address_only() {
        let admitted = ["203.0.113.9", "10.0.0.5", "203.0.113.8", "::ffff:203.0.113.9"];
        assert_eq!(admitted.map(|from| rule(Latch::Strict).admits(ip(from))), [true, true, false, true]);
    }

    #[test]
    fn strict_admits_the_64_of_an_ipv6_party() {
        let rule = Rule { signalling: Some(ip("2001:db8:1:2::1")), ..Rule::default() };
        assert!(rule.admits(ip("2001:db8:1:2:ffff::9")));
        assert!(!rule.admits(ip("2001:db8:1:3::1")));
        assert!(!rule.admits(ip("203.0.113.9")));
    }

    #[test]
    fn prefix_admits_a_24_and_no_neighbour_of_it() {
        let admitted = ["203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0"];
        assert_eq!(admitted.map(|from| rule(Latch::Prefix).admits(ip(from))), [true, true, false, false]);
    }

    #[test]
    fn any_admits_anybody_and_without_facts_strict_admits_nobody() {
        assert!(rule(Latch::Any).admits(ip("198.51.100.1")));
        assert!(!Rule::default().admits(ip("198.51.100.1")));
    }

    /// A party that has sent packets 0 … 100, one every 20 ms, and then moved.
    struct Bench {
        guard: Guard,
        tracks: Tracks,
        last: Instant,
    }

    #[allow(clippy::disallowed_methods, reason = "a test needs one Instant to count from")]
    fn bench() -> Bench {
        let (start, mut tracks) = (Instant::now(), Tracks::default());
        for n in 0..=100u16 {
            let now = start + Duration::from_millis(20) * u32::from(n);
            tracks.hear(now, Rtp(&packet(SSRC, 0, n, u32::from(n) * 160)), &Clocks::default());
        }
        Bench { guard: Guard::default(), tracks, last: start + Duration::from_secs(2) }
    }

    fn packet(ssrc: u32, payload_type: u8, sequence: u16, timestamp: u32) -> Vec<u8> {
        write(Header { payload_type, marker: false, sequence, timestamp, ssrc }, &[0; 160])
    }

    impl Bench {
        /// A packet `ms` after the last one of the old source.
        fn hears(&mut self, ms: u64, from: &str, bytes: &[u8]) -> bool {
            let now = self.last + Duration::from_millis(ms);
            self.guard.proves(now, from.parse().unwrap(), &Rtp(bytes), &self.tracks, self.last)
        }

        /// The party's packet `n` from its new address, on time.
        fn moves(&mut self, n: u16) -> bool {
            self.hears(u64::from(n - 100) * 20, NEW, &packet(SSRC, 0, n, u32::from(n) * 160))
        }

        /// A forger's guess at this time.
        fn guess(&mut self, ms: u64) -> bool {
            self.hears(ms, FORGER, &packet(7, 0, 101, 101 * 160))
        }
    }

    const NEW: &str = "203.0.113.9:40001";
    const FORGER: &str = "198.51.100.66:666";

    #[test]
    fn three_packets_in_a_row_prove_once_the_old_source_is_silent() {
        let mut bench = bench();
        assert_eq!([101, 102, 103, 104].map(|n| bench.moves(n)), [false; 4]);
        assert!(bench.moves(105), "100 ms after the old source's last packet");
    }

    #[test]
    fn two_packets_prove_nothing() {
        let mut bench = bench();
        assert!(!bench.moves(110));
        assert!(!bench.moves(111));
        assert!(bench.moves(112));
    }

    #[test]
    fn a_sequence_may_go_on_by_fifty_and_no_more() {
        let mut near = bench();
        assert_eq!([150, 200, 250].map(|n| near.moves(n)), [false, false, true]);
        let mut far = bench();
        assert_eq!([151, 152, 153].map(|n| far.moves(n)), [false, false, false]);
    }

    #[test]
    fn another_payload_type_or_clock_is_no_proof() {
        let mut bench = bench();
        for n in 110..113u16 {
            assert!(!bench.hears(200, NEW, &packet(SSRC, 8, n, u32::from(n) * 160)));
        }
        let mut bench = super::tests::bench();
        for n in 110..113u16 {
            assert!(!bench.hears(200, NEW, &packet(SSRC, 0, n, 900_000 + u32::from(n) * 160)));
        }
    }

    #[test]
    fn a_replayed_packet_is_no_proof() {
        let mut bench = bench();
        for n in [98u16, 99, 100] {
            assert!(!bench.hears(200, NEW, &packet(SSRC, 0, n, u32::from(n) * 160)));
        }
    }

    #[test]
    fn what_was_said_before_and_comes_again_is_no_wrong_guess() {
        let mut bench = bench();
        for n in 90..=100u16 {
            assert!(!bench.hears(180, NEW, &packet(SSRC, 0, n, u32::from(n) * 160)));
        }
        let next = |n: u16| packet(SSRC, 0, n, u32::from(n) * 160);
        assert!(!bench.hears(200, NEW, &next(120)), "the first of a claim");
        for n in 110..120 {
            assert!(!bench.hears(200, NEW, &next(n)), "behind it");
        }
        assert_eq!([121, 122].map(|n| bench.hears(200, NEW, &next(n))), [false, true]);
    }

    #[test]
    fn five_wrong_guesses_in_a_second_close_the_window_for_five() {
        let mut bench = bench();
        for at in [0, 200, 400, 600, 800] {
            assert!(!bench.guess(at));
        }
        let right = |n: u16| packet(SSRC, 0, n, u32::from(n) * 160);
        for (at, n) in [(900, 110), (920, 111), (5799, 112)] {
            assert!(!bench.hears(at, FORGER, &right(n)), "closed at {at}");
        }
        assert!(!bench.hears(5800, FORGER, &right(120)));
        assert!(!bench.hears(5820, FORGER, &right(121)));
        assert!(bench.hears(5840, FORGER, &right(122)), "open again after five seconds");
    }

    #[test]
    fn four_wrong_guesses_a_second_do_not_close_it() {
        let mut bench = bench();
        for at in [0, 300, 600, 900, 1200, 1500] {
            bench.guess(at);
        }
        let right = |n: u16| packet(SSRC, 0, n, u32::from(n) * 160);
        assert!(!bench.hears(1600, FORGER, &right(140)));
        assert!(!bench.hears(1620, FORGER, &right(141)));
        assert!(bench.hears(1640, FORGER, &right(142)));
    }

    #[test]
    fn a_forger_who_sprays_does_not_keep_the_party_from_moving() {
        let mut bench = bench();
        (0..500).for_each(|_| assert!(!bench.guess(10)));
        let proven: Vec<u16> = (101..110).filter(|&n| bench.guess(1) | bench.moves(n)).collect();
        assert_eq!(proven.first(), Some(&105));
    }

    #[test]
    fn many_forgers_at_once_close_the_window_for_all() {
        let mut bench = bench();
        for host in 1..=5 {
            bench.hears(10, &format!("198.51.100.{host}:5"), &packet(7, 0, 101, 0));
        }
        assert!((101..120).all(|n| !bench.moves(n)));
    }
}
