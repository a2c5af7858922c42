//! Streams that a path below the relay carries (the kernel: `proto::offload` has the words), and what is kept true while
//! it does: counts, quality, silence, and whom a leg hears.
//!
//! Once a second every leg is looked at. One that is latched, undisturbed and busy is handed down, as one stream: source,
//! payload type, and where it stands. What is carried is counted at the same beat and added to the leg as if it had come
//! through here. A rule goes as soon as anything it was made of changes: the latch, where the other party is, a switch, a
//! new description, the session's end; also when the stream pauses or another one takes its place, so that whatever
//! comes next is met here.
//!
//! A session that ends says so only when the last counts of its streams are in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::event::{Event, LegQuality, Name, Release};
use proto::node::{Output, SocketId};
use proto::offload::{Carried, Offload, Rule};
use proto::sdp::Kind;

use crate::leg::{Channel, Leg};
use crate::relay::Relay;
use crate::session::{Session, sum};

/// How often legs are looked at and streams counted.
const BEAT: Duration = Duration::from_secs(1);
/// Packets in a beat that make a leg worth handing down, or show that a rule does not fit it any more.
const BUSY: u64 = 20;
/// How old a count may be when somebody claims to be a party that moved.
const FRESH: Duration = Duration::from_millis(50);
/// How long a leg the path refused is left alone.
const REFUSED: Duration = Duration::from_secs(30);

/// What a leg knows of the path below.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Below {
    /// The leg's packets at the last beat.
    packets: u64,
    /// When what is carried was counted last; `None`: nothing is.
    counted: Option<Instant>,
    /// It is to be counted at once.
    asked: bool,
    refused: Option<Instant>,
}

impl Below {
    /// Whether the stream has to be counted before anybody can be judged by it.
    pub(crate) fn asks_first(&mut self, now: Instant) -> bool {
        let stale = self.counted.is_some_and(|at| now.saturating_duration_since(at) > FRESH);
        self.asked |= stale;
        stale
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Offloads {
    /// The next beat.
    pub(crate) next: Option<Instant>,
    /// By the number of the socket they come in by.
    rules: BTreeMap<u32, Carrying>,
    /// Legs that are gone but for their last count, by the same.
    closing: BTreeMap<u32, Closing>,
    /// Sessions that ended and wait for it.
    released: BTreeMap<u64, Released>,
}

#[derive(Debug)]
struct Carrying {
    rule: Rule,
    leg: u32,
    since: Instant,
    /// Packets and bytes that were added to the leg.
    counted: (u64, u64),
    /// It was taken back, and the last count is on its way.
    ending: bool,
}

#[derive(Debug)]
struct Closing {
    session: u64,
    side: usize,
    leg: Leg,
    born: Instant,
}

#[derive(Debug)]
struct Released {
    name: Name,
    why: Release,
    ended: [LegQuality; 2],
}

impl Relay {
    /// Sets the next beat while there is anything to look at.
    pub(crate) fn plan_offloads(&mut self, now: Instant) {
        let wanted = self.config.offload && !self.sessions.is_empty() || !self.offloads.rules.is_empty();
        match self.offloads.next {
            None if wanted => self.offloads.next = Some(now + BEAT),
            Some(_) if !wanted => self.offloads.next = None,
            _ => {}
        }
    }

    /// The beat: counts what is carried, hands down what is worth it.
    pub(crate) fn tend_offloads(&mut self, now: Instant) {
        if self.offloads.next.is_none_or(|next| now < next) {
            return;
        }
        self.offloads.next = None;
        let carried = self.offloads.rules.iter().filter(|(_, carrying)| !carrying.ending);
        let sockets: Vec<SocketId> = carried.map(|(socket, _)| SocketId(*socket)).collect();
        if !sockets.is_empty() {
            self.below(Offload::Count(sockets));
        }
        let streams =
            self.sessions.values().flat_map(|session| session.streams()).filter(|stream| !stream.shared);
        let legs: Vec<u32> = streams.flat_map(|stream| stream.legs).collect();
        legs.into_iter().for_each(|leg| self.consider(now, leg));
    }

    fn below(&mut self, offload: Offload) {
        self.outputs.push_back(Output::Offload(Box::new(offload)));
    }

    fn consider(&mut self, now: Instant, at: u32) {
        let wanted = self.config.offload;
        let Some(leg) = self.legs.get_mut(at as usize) else { return };
        let grown = leg.packets - leg.below.as_ref().map_or(0, |below| below.packets);
        if grown > 0 {
            leg.below.get_or_insert_default().packets = leg.packets;
        }
        let refused = leg.below.as_ref().and_then(|below| below.refused).is_some_and(|until| now < until);
        let socket = leg.media.port.socket;
        if self.offloads.rules.contains_key(&socket.0) {
            // Its packets come here all the same: it is another stream now.
            if grown >= BUSY || !wanted {
                self.take_back(socket);
            }
        } else if let Some(rule) = self.rule(now, at).filter(|_| wanted && grown >= BUSY && !refused) {
            self.legs[at as usize].below.get_or_insert_default().counted = Some(now);
            let carrying = Carrying { rule, leg: at, since: now, counted: (0, 0), ending: false };
            self.offloads.rules.insert(socket.0, carrying);
            self.below(Offload::Begin(rule));
        }
    }

    /// What may be handed down of a leg; `None`: it has to be seen here.
    fn rule(&self, now: Instant, at: u32) -> Option<Rule> {
        let leg = self.legs.get(at as usize)?;
        let track = leg.tracks.latest().filter(|track| now.saturating_duration_since(track.heard) < BEAT)?;
        let (payload_type, clock, progress) = track.progress()?;
        let (from, to) = self.ends(leg)?;
        let other = self.legs.get(leg.other as usize)?;
        let (here, via) = (self.local(&leg.media), self.local(&other.media));
        let socket = leg.media.port.socket;
        Some(Rule { socket, here, from, via, to, ssrc: track.ssrc, payload_type, clock, progress })
    }

    /// Where a leg's media comes from and goes to, if nothing else happens to it on the way.
    fn ends(&self, leg: &Leg) -> Option<(SocketAddr, SocketAddr)> {
        let other = self.legs.get(leg.other as usize)?;
        let (from, to) = (leg.media.latched?, other.media.target?);
        let undisturbed = leg.kind == Kind::Rtp && leg.window.is_none() && !self.config.is_own(to);
        (undisturbed && disturbance(leg, other, from, to).is_none()).then_some((from, to))
    }

    /// Streams that are not handed down though their parties are met, by what keeps them here.
    pub fn kept_above(&self) -> BTreeMap<&'static str, usize> {
        let mut kept = BTreeMap::new();
        let streams =
            self.sessions.values().filter(|_| self.config.offload).flat_map(|session| session.streams());
        for (stream, leg) in streams.flat_map(|stream| stream.legs.map(|leg| (stream, leg))) {
            let Some(why) = self.why_above(stream.shared, leg) else { continue };
            *kept.entry(why).or_default() += 1;
        }
        kept
    }

    fn why_above(&self, shared: bool, leg: u32) -> Option<&'static str> {
        let leg = self.legs.get(leg as usize)?;
        let other = self.legs.get(leg.other as usize)?;
        let (from, to) = (leg.media.latched?, other.media.target?);
        if shared { Some("by one pair of ports") } else { disturbance(leg, other, from, to) }
    }

    fn local(&self, channel: &Channel) -> SocketAddr {
        SocketAddr::new(self.config.networks[channel.port.id.network()].bind, channel.port.number)
    }

    /// Whether packets of a leg are carried below, or the last of them are yet to be counted.
    pub(crate) fn is_carried_below(&self, at: u32) -> bool {
        let leg = self.legs.get(at as usize);
        leg.is_some_and(|leg| self.offloads.rules.contains_key(&leg.media.port.socket.0))
    }

    fn take_back(&mut self, socket: SocketId) {
        let Some(carrying) = self.offloads.rules.get_mut(&socket.0) else { return };
        if !std::mem::replace(&mut carrying.ending, true) {
            self.below(Offload::End(socket));
        }
    }

    /// Takes back the rules of changed sessions that are not true any more.
    pub(crate) fn take_back_changed(&mut self) {
        if self.offloads.rules.is_empty() {
            return;
        }
        let changed = self.changed.iter().filter_map(|id| self.sessions.get(id));
        let legs: Vec<u32> = changed.flat_map(|session| session.legs()).collect();
        for leg in legs {
            let Some(leg) = self.legs.get(leg as usize) else { continue };
            let socket = leg.media.port.socket;
            let Some(carrying) = self.offloads.rules.get(&socket.0) else { continue };
            if self.ends(leg) != Some((carrying.rule.from, carrying.rule.to)) {
                self.take_back(socket);
            }
        }
    }

    /// Somebody claims to be a leg's party that moved: where does its stream stand?
    pub(crate) fn count_if_asked(&mut self, at: u32) {
        let Some(leg) = self.legs.get_mut(at as usize) else { return };
        if leg.below.as_mut().is_some_and(|below| std::mem::take(&mut below.asked)) {
            let socket = leg.media.port.socket;
            self.below(Offload::Count(vec![socket]));
        }
    }

    /// What the path below has carried.
    pub(crate) fn carried(&mut self, now: Instant, counts: &[Carried]) {
        counts.iter().for_each(|count| self.add_carried(now, count));
    }

    fn add_carried(&mut self, now: Instant, count: &Carried) {
        let Some(carrying) = self.offloads.rules.get_mut(&count.socket.0) else { return };
        let before = carrying.counted;
        let new = (count.packets.saturating_sub(before.0), count.bytes.saturating_sub(before.1));
        carrying.counted = (before.0 + new.0, before.1 + new.1);
        let (leg, ssrc, last) = (carrying.leg, carrying.rule.ssrc, count.heard.unwrap_or(carrying.since));
        let refused = count.over && !carrying.ending;
        if count.over {
            self.offloads.rules.remove(&count.socket.0);
        }
        self.traffic.forwarded += new.0;
        self.traffic.bytes += new.1;
        match self.offloads.closing.get_mut(&count.socket.0) {
            Some(closing) => closing.leg.carried(now, ssrc, new, count),
            None => {
                let Some(leg) = self.legs.get_mut(leg as usize) else { return };
                leg.carried(now, ssrc, new, count);
                // A stream that pauses comes back to where it is looked at.
                leg.below.get_or_insert_default().refused = refused.then(|| now + REFUSED);
                if now.saturating_duration_since(last) > BEAT {
                    self.take_back(count.socket);
                }
            }
        }
        if count.over {
            self.close_counted(count.socket);
        }
    }

    /// Whether a leg's numbers are yet to come in; if so they are added to its session when they are.
    pub(crate) fn closes_below(&mut self, session: &Session, side: usize, leg: u32) -> bool {
        let leg = &self.legs[leg as usize];
        let socket = leg.media.port.socket;
        if !self.offloads.rules.contains_key(&socket.0) {
            return false;
        }
        let closing = Closing { session: session.id.0, side, leg: leg.clone(), born: session.born };
        self.offloads.closing.insert(socket.0, closing);
        self.take_back(socket);
        true
    }

    fn close_counted(&mut self, socket: SocketId) {
        let Some(closing) = self.offloads.closing.remove(&socket.0) else { return };
        let quality = closing.leg.quality(closing.born);
        if let Some(Released { ended, .. }) = self.offloads.released.get_mut(&closing.session) {
            ended[closing.side] = sum(ended[closing.side], quality);
        } else if let Some(session) = self.sessions.get_mut(&closing.session) {
            session.add_ended(closing.side, quality);
        }
        if !self.is_closing(closing.session)
            && let Some(Released { name, why, ended }) = self.offloads.released.remove(&closing.session)
        {
            self.tell(Event::RelayReleased { session: name, why, legs: Box::new(ended) });
        }
    }

    fn is_closing(&self, session: u64) -> bool {
        self.offloads.closing.values().any(|closing| closing.session == session)
    }

    /// A session is over: tells it, now or when everything is counted.
    pub(crate) fn tell_released(&mut self, session: &Session, why: Release) {
        let (name, ended) = (session.name.clone(), session.ended());
        match self.is_closing(session.id.0) {
            true => drop(self.offloads.released.insert(session.id.0, Released { name, why, ended })),
            false => self.tell(Event::RelayReleased { session: name, why, legs: Box::new(ended) }),
        }
    }
}

/// What the path below can't do for a leg's packets.
fn disturbance(leg: &Leg, other: &Leg, from: SocketAddr, to: SocketAddr) -> Option<&'static str> {
    match () {
        _ if from.is_ipv4() != to.is_ipv4() => Some("between IPv4 and IPv6"),
        _ if leg.keys.is_some() || other.keys.is_some() => Some("opened here"),
        _ if leg.switches.any() => Some("recorded or switched"),
        _ => None,
    }
}

impl Leg {
    /// Adds what was carried for it: packets and bytes that are new in this count.
    fn carried(&mut self, now: Instant, ssrc: u32, (packets, bytes): (u64, u64), count: &Carried) {
        self.packets += packets;
        self.bytes += bytes;
        let below = self.below.get_or_insert_default();
        below.packets += packets;
        below.counted = (!count.over).then_some(now);
        let Some(heard) = count.heard.filter(|_| packets > 0) else { return };
        let heard = heard.min(now);
        self.heard = self.heard.max(Some(heard));
        self.media_heard = self.media_heard.max(Some(heard));
        if let Some(track) = self.tracks.find_mut(ssrc) {
            track.carried(packets, bytes, heard, count);
        }
    }
}
