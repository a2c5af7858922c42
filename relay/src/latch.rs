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
            self.wrong(now, from);
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

/// Whether a packet goes on where the party's stream, or the claim so far, stands.
fn fits(now: Instant, packet: &Rtp<'_>, track: &Track, claim: Option<Claim>) -> bool {
    let before = claim.map_or(track.sequence, |claim| claim.sequence);
    let ahead = packet.sequence().wrapping_sub(before);
    (1..=STRIDE).contains(&ahead) && track.has_sent(packet.payload_type()) && is_in_step(now, packet, track)
}

/// Whether the timestamp has gone on by no more than time has.
fn is_in_step(now: Instant, packet: &Rtp<'_>, track: &Track) -> bool {
    let passed = now.saturating_duration_since(track.heard) + SLACK;
    let most = passed.as_micros().saturating_mul(u128::from(track.clock)) / 1_000_000;
    u128::from(packet.timestamp().wrapping_sub(track.timestamp)) <= most
}
