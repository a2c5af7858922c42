//! One party's end of one media stream: where it is heard from, where it is sent to, and how well it is heard.
//!
//! A leg has a channel for media and, unless RTCP shares that port, one for RTCP. Each channel latches by itself; RTCP is
//! bound to the address its media was heard from.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::event::LegQuality;
use proto::rtp::{Packet, Rtp};
use proto::sdp::{Direction, Kind};
use proto::tables::Latch;

use crate::keys::Keys;
use crate::latch::{Guard, Rule};
use crate::offload::Below;
use crate::ports::{Lease, Port};
use crate::quality::{Clocks, Tracks};
use crate::reports::Reports;
use crate::session::Whose;
use crate::switches::Switches;
use crate::undelivered::Refusals;
use crate::why::Why;

/// How long a new offer or answer lets its party come from elsewhere without proof.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// Which of a leg's two channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Media,
    Rtcp,
}

/// What an accepted packet did to its leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// The party was heard on this channel for the first time.
    Latched,
    /// The party was heard from elsewhere, with proof or in a window.
    Moved,
}

/// One port of a leg.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channel {
    pub(crate) port: Port,
    /// Where the party is heard from.
    pub(crate) latched: Option<SocketAddr>,
    /// Where its SDP wants it.
    pub(crate) signalled: Option<SocketAddr>,
    /// Where to send.
    pub(crate) target: Option<SocketAddr>,
}

/// What a description or a request says of a party's end of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Described {
    pub(crate) kind: Kind,
    /// Where the SDP wants media, and where RTCP.
    pub(crate) signalled: [Option<SocketAddr>; 2],
    /// The same, where we may send before we hear.
    pub(crate) early: [Option<SocketAddr>; 2],
    pub(crate) held: bool,
    /// Whether the party may come from elsewhere now.
    pub(crate) reset: bool,
}

/// One party's end of one stream. What every packet touches stands first.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    pub(crate) media: Channel,
    /// Index of the other party's leg.
    pub(crate) other: u32,
    pub(crate) kind: Kind,
    /// RTCP shares the media port: agreed on by both parties.
    pub(crate) mux: bool,
    /// Its silence was told: say so when it is heard again.
    pub(crate) told_silent: bool,
    /// What a controller switched; see `switches`.
    pub(crate) switches: Switches,
    /// How its packets are protected; `None`: that is the parties' own affair. See `keys`.
    pub(crate) keys: Option<Box<Keys>>,
    /// Media goes where the SDP says, wherever it is heard from.
    pub(crate) pinned: bool,
    pub(crate) window: Option<Instant>,
    /// When anything was accepted from the party.
    pub(crate) heard: Option<Instant>,
    /// When media was.
    pub(crate) media_heard: Option<Instant>,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Of the packets, those that were RTCP.
    pub(crate) rtcp_packets: u64,
    pub(crate) strangers: u64,
    /// Of them, those that never came up; see `doors`.
    pub(crate) kept_out: u64,
    /// What ICMP says of packets for its party, once it says anything.
    pub(crate) refusals: Option<Box<Refusals>>,
    /// Packets that might have been its party's or another's; see `crowd`.
    pub(crate) ambiguous: u64,
    pub(crate) rtcp: Option<Channel>,
    pub(crate) tracks: Tracks,
    pub(crate) clocks: Arc<Clocks>,
    pub(crate) whose: Whose,
    pub(crate) rule: Rule,
    /// Watches whoever claims to be its party from elsewhere, once somebody has.
    guard: Option<Box<Guard>>,
    /// The first stranger while unlatched; `told` once the Event was raised.
    pub(crate) stranger: Option<Box<(Instant, SocketAddr)>>,
    pub(crate) told_stranger: bool,
    /// Since when it is silent, once that was told.
    pub(crate) silent_since: Option<Instant>,
    pub(crate) held: bool,
    /// When its party first said where it wants media.
    pub(crate) described: Option<Instant>,
    /// When its media was heard first.
    pub(crate) first_heard: Option<Instant>,
    /// That the other party can't hear it was told, or judged to be no news.
    pub(crate) told_one_way: bool,
    /// What RTCP that passed shows of it, once any has.
    pub(crate) reports: Option<Box<Reports>>,
    /// What a path below carries of it, once one looked at its packets; see `offload`.
    pub(crate) below: Option<Box<Below>>,
    /// When it last was taken off hold: silence counts from there.
    pub(crate) resumed: Option<Instant>,
    /// What the party's own SDP says of rtcp-mux, once it has been seen.
    pub(crate) wants_mux: Option<bool>,
    /// SSRCs that the party's SDP announces (RFC 5576).
    pub(crate) announced: Box<[u32]>,
}

impl Leg {
    pub(crate) fn new(whose: Whose, kind: Kind, lease: &Lease, rule: Rule) -> Leg {
        Leg {
            media: Channel::new(lease.rtp),
            other: u32::MAX,
            kind,
            mux: false,
            told_silent: false,
            switches: Switches::default(),
            keys: None,
            pinned: false,
            window: None,
            heard: None,
            media_heard: None,
            packets: 0,
            bytes: 0,
            rtcp_packets: 0,
            strangers: 0,
            kept_out: 0,
            refusals: None,
            ambiguous: 0,
            rtcp: lease.rtcp.map(Channel::new),
            tracks: Tracks::default(),
            clocks: Clocks::unknown(),
            whose,
            rule,
            guard: None,
            stranger: None,
            told_stranger: false,
            silent_since: None,
            described: None,
            first_heard: None,
            told_one_way: false,
            reports: None,
            below: None,
            held: false,
            resumed: None,
            wants_mux: None,
            announced: Box::default(),
        }
    }

    /// The party has described its end anew.
    pub(crate) fn describe(&mut self, now: Instant, said: &Described) {
        self.kind = said.kind;
        if said.signalled[0].is_some() {
            self.described.get_or_insert(now);
        }
        if self.held && !said.held {
            self.resumed = Some(now);
            self.told_one_way = false;
        }
        self.held = said.held;
        let moved = said.signalled[0].is_some() && said.signalled[0] != self.media.signalled;
        self.media.describe(said.signalled[0], said.early[0], moved && said.reset);
        if let Some(rtcp) = &mut self.rtcp {
            rtcp.describe(said.signalled[1], said.early[1], moved && said.reset);
        }
        if let Some(signalled) = said.signalled[0] {
            self.rule.signalled = Some(signalled.ip());
        }
        if said.reset && self.media.latched.is_some() {
            self.window = Some(now + WINDOW);
        }
    }

    /// The window is over. Who did not move is sent to where he is heard.
    pub(crate) fn close_window(&mut self) {
        let Some(until) = self.window.take() else { return };
        let opened = until.checked_sub(WINDOW);
        if self.heard >= opened && !self.pinned {
            for channel in [Some(&mut self.media), self.rtcp.as_mut()].into_iter().flatten() {
                channel.target = channel.latched.or(channel.target);
            }
        }
    }

    /// Decides whether a packet on one of this leg's ports is its party's, and counts it. `may` says whether media may
    /// go to an address at all.
    #[inline]
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        part: Part,
        from: SocketAddr,
        bytes: &[u8],
        packet: &Packet<'_>,
        may: impl FnOnce(SocketAddr) -> Result<(), Why>,
    ) -> Result<Change, Why> {
        if !self.is_valid(part, packet) {
            return Err(Why::Invalid);
        }
        let known = match part {
            Part::Media => self.media.latched == Some(from),
            Part::Rtcp => self.rtcp.as_ref().is_some_and(|rtcp| rtcp.latched == Some(from)),
        };
        let change = if known { Change::None } else { self.meet(now, part, from, packet, may)? };
        self.count(now, part, bytes, packet);
        Ok(change)
    }

    /// What the m= line lets through (RFC 7983 tells them apart).
    fn is_valid(&self, part: Part, packet: &Packet<'_>) -> bool {
        match (self.kind, packet) {
            (Kind::Datagram, _) => part == Part::Media,
            (_, Packet::Rtp(_)) => part == Part::Media,
            (_, Packet::Rtcp(_) | Packet::Dtls | Packet::Stun) => true,
            _ => false,
        }
    }

    fn count(&mut self, now: Instant, part: Part, bytes: &[u8], packet: &Packet<'_>) {
        self.packets += 1;
        self.bytes += bytes.len() as u64;
        self.heard = Some(now);
        match packet {
            Packet::Rtcp(_) => self.rtcp_packets += 1,
            Packet::Stun => {}
            _ if part == Part::Media => self.media_heard = Some(now),
            _ => {}
        }
        if let (Packet::Rtp(rtp), Kind::Rtp) = (packet, self.kind) {
            self.tracks.hear(now, *rtp, &self.clocks);
        }
    }

    /// A source this channel is not latched to.
    #[cold]
    fn meet(
        &mut self,
        now: Instant,
        part: Part,
        from: SocketAddr,
        packet: &Packet<'_>,
        may: impl FnOnce(SocketAddr) -> Result<(), Why>,
    ) -> Result<Change, Why> {
        let change = match part {
            Part::Media => self.meet_media(now, from, packet),
            Part::Rtcp => self.meet_rtcp(now, from, packet),
        };
        let verdict = change.ok_or(Why::Stranger).and_then(|change| may(from).map(|()| change));
        match verdict {
            Ok(_) => self.latch(now, part, from),
            Err(_) => self.turn_away(now, from),
        }
        verdict
    }

    fn meet_media(&mut self, now: Instant, from: SocketAddr, packet: &Packet<'_>) -> Option<Change> {
        if self.media.latched.is_none() {
            return self.rule.admits(from.ip()).then_some(Change::Latched);
        }
        let open = self.window.is_some_and(|until| now < until) && self.rule.admits(from.ip());
        // Proof is judged by where the stream stands now, not where it stood when it was counted last.
        if !open && self.below.as_mut().is_some_and(|below| below.asks_first(now)) {
            return None;
        }
        (open || self.is_proven(now, from, packet)).then_some(Change::Moved)
    }

    fn is_proven(&mut self, now: Instant, from: SocketAddr, packet: &Packet<'_>) -> bool {
        match (packet, self.kind, self.media_heard.or(self.heard)) {
            (Packet::Rtp(rtp), Kind::Rtp, Some(heard)) => {
                self.guard.get_or_insert_default().proves(now, from, rtp, &self.tracks, heard)
            }
            _ => false,
        }
    }

    /// RTCP follows its media: once that is heard, RTCP comes from the same address (or from exactly where the SDP
    /// said), and moves within it only under an SSRC that has been heard.
    fn meet_rtcp(&mut self, now: Instant, from: SocketAddr, packet: &Packet<'_>) -> Option<Change> {
        let rtcp = self.rtcp.as_ref()?;
        let admitted = self.rule.admits(from.ip());
        let with_media = match self.media.latched {
            Some(media) => media.ip() == from.ip(),
            None => admitted,
        };
        let elsewhere = admitted && (rtcp.signalled == Some(from) || self.rule.latch == Latch::Prefix);
        if rtcp.latched.is_none() {
            return (with_media || elsewhere).then_some(Change::Latched);
        }
        let open = admitted && self.window.is_some_and(|until| now < until);
        (open || with_media && self.is_its_rtcp(packet)).then_some(Change::Moved)
    }

    /// Whether an RTCP packet's sender (RFC 3550 §6.4: bytes 4 to 7) is one of the party's sources.
    pub(crate) fn is_its_rtcp(&self, packet: &Packet<'_>) -> bool {
        let Packet::Rtcp(bytes) = packet else { return false };
        let sender = bytes.get(4..8).and_then(|ssrc| ssrc.try_into().ok()).map(u32::from_be_bytes);
        sender.is_some_and(|ssrc| self.tracks.find(ssrc).is_some())
    }

    pub(crate) fn latch(&mut self, now: Instant, part: Part, from: SocketAddr) {
        match part {
            Part::Rtcp => {
                if let Some(rtcp) = &mut self.rtcp {
                    rtcp.latch(from, self.pinned);
                }
            }
            Part::Media => {
                let before = self.media.latched;
                self.first_heard.get_or_insert(now);
                self.told_one_way = false;
                self.media.latch(from, self.pinned);
                self.window = None;
                self.stranger = None;
                self.guard = None;
                if let (Some(before), Some(rtcp)) = (before, &mut self.rtcp)
                    && before.ip() != from.ip()
                {
                    (rtcp.latched, rtcp.target) = (None, None);
                }
            }
        }
    }

    pub(crate) fn turn_away(&mut self, now: Instant, from: SocketAddr) {
        self.strangers += 1;
        if self.media.latched.is_none() {
            self.stranger.get_or_insert_with(|| Box::new((now, from)));
        }
    }

    /// Whoever doesn't know its party's streams is kept out from now on.
    pub(crate) fn forgive(&mut self) {
        self.guard.iter_mut().for_each(|guard| guard.forgive());
    }

    /// Whether this is the party's stream, by its SSRC: tells two parties apart that share one port.
    pub(crate) fn sends(&self, packet: &Rtp<'_>) -> bool {
        self.tracks.find(packet.ssrc()).is_some()
    }

    /// The channel its packets come in by.
    #[inline]
    pub(crate) fn way_in(&self, part: Part) -> Option<&Channel> {
        match part {
            Part::Media => Some(&self.media),
            Part::Rtcp => self.rtcp.as_ref(),
        }
    }

    /// The channel RTCP for the party leaves by, or media.
    #[inline]
    pub(crate) fn way_out(&self, rtcp: bool) -> Option<&Channel> {
        match rtcp && !self.mux {
            true => self.rtcp.as_ref(),
            false => Some(&self.media),
        }
    }

    /// Its own ports.
    pub(crate) fn ports(&self) -> impl Iterator<Item = Port> + use<> {
        let media = (!self.is_member()).then_some(self.media.port);
        [media, self.rtcp.as_ref().map(|rtcp| rtcp.port)].into_iter().flatten()
    }

    /// What it saw.
    pub(crate) fn quality(&self, born: Instant) -> LegQuality {
        let reports = self.reports();
        let since = |at: Instant| at.saturating_duration_since(born);
        let heard = self.first_heard.zip(self.media_heard.or(self.first_heard));
        LegQuality {
            packets: self.packets,
            bytes: self.bytes,
            strangers: self.strangers,
            kept_out: self.kept_out,
            undelivered: self.refusals.as_ref().map_or(0, |refusals| refusals.times),
            round_trip_us: reports.round_trip.map_or(0, |trip| trip.as_micros() as u32),
            reported_lost: reports.lost,
            reported_jitter_us: reports.jitter_us,
            heard: heard.map(|(first, last)| [since(first), since(last)]),
            ..self.tracks.quality(reports.round_trip)
        }
    }
}

impl Channel {
    pub(crate) fn new(port: Port) -> Channel {
        Channel { port, latched: None, signalled: None, target: None }
    }

    /// `pinned`: it goes where the SDP says all the same.
    pub(crate) fn latch(&mut self, from: SocketAddr, pinned: bool) {
        self.latched = Some(from);
        if !pinned || self.target.is_none() {
            self.target = Some(from);
        }
    }

    /// Before the latch the SDP decides where to send; afterwards only a party that moves does.
    fn describe(&mut self, signalled: Option<SocketAddr>, early: Option<SocketAddr>, moves: bool) {
        self.signalled = signalled.or(self.signalled);
        if self.latched.is_none() && signalled.is_some() || moves && early.is_some() {
            self.target = early;
        }
    }
}

/// Whether a direction keeps media from flowing both ways.
pub(crate) fn is_held(direction: Direction) -> bool {
    direction != Direction::SendRecv
}
