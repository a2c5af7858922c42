//! Doors: what becomes of a port that is flooded.
//!
//! Whoever has more packets than a lane can read need not get past the latch to harm a call: the port's queue in the kernel
//! overflows, and the party's own packets are lost with the rest. So when more than [`SOME`] packets in a second were turned away
//! at a socket, its door is closed: the host tells the kernel whom to let in ([`proto::door`]), and the rest costs the lane
//! nothing. Where a whole lane gets more than [`MANY`], a few at one socket are enough. The door opens again when [`CALM`]
//! seconds have passed with little dropped.
//!
//! **Who is let in** is everybody the leg's own rules might hear, never less ([`Leg::expects`]): the latched address; the
//! addresses of a description, while the leg waits for its party or may be moved by one; the party's streams, from anywhere,
//! for it may have moved; checks of its ICE. When any of this changes, the door does, before another packet is read.
//!
//! **What it can't do.** Who forges the party's own address, or knows its SSRC, is let in. A leg that waits with `latch: any`
//! hears anybody, so its door stays open. A port of very many calls may expect more than the kernel looks through; then the
//! host refuses, and is asked again after [`REFUSED`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::door::{Door, Dropped, Expected, Source};
use proto::event::Event;
use proto::node::{Output, SocketId};
use proto::tables::Latch;

use crate::forward::Use;
use crate::latch::Rule;
use crate::leg::{Leg, Part};
use crate::relay::Relay;
use crate::why::Why;

/// Packets turned away at one socket in a second that make it flooded …
const SOME: u32 = 100;
/// … and when the whole lane has turned away so many in that second …
const MANY: u32 = 10_000;
/// … so many of one socket do.
const FEW: u32 = 5;
/// How often what was dropped is counted.
const BEAT: Duration = Duration::from_secs(1);
/// A second with fewer dropped is calm …
const LITTLE: u64 = SOME as u64 / 4;
/// … and so many of them in a row open the door.
const CALM: u32 = 5;
/// How long the host is left alone that can't close a door.
const REFUSED: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    /// The next beat.
    pub(crate) next: Option<Instant>,
    /// What was turned away, by the number of the socket: as long as any packet ever made it.
    knocks: Vec<Knocks>,
    all: Knocks,
    closed: BTreeMap<u32, Closed>,
    refused: BTreeMap<u32, Instant>,
    /// Closed doors that may have to let in somebody else now.
    stale: BTreeSet<u32>,
}

/// Packets turned away in one second of the relay's life.
#[derive(Clone, Copy, Debug, Default)]
struct Knocks {
    second: u32,
    count: u32,
}

#[derive(Debug)]
struct Closed {
    expected: Expected,
    /// Who was told of it, if anybody.
    told: Option<(u32, SocketAddr)>,
    dropped: u64,
    /// Calm beats in a row.
    calm: u32,
}

impl Knocks {
    fn count(&mut self, second: u32) -> u32 {
        if self.second != second {
            *self = Knocks { second, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

impl Doors {
    pub(crate) fn closed(&self) -> usize {
        self.closed.len()
    }

    /// Others may be expected at a socket than before.
    pub(crate) fn has_changed(&mut self, socket: SocketId) {
        if self.closed.contains_key(&socket.0) {
            self.stale.insert(socket.0);
        }
    }

    /// Counts a packet that was turned away; whether they are too many.
    fn is_flooded(&mut self, second: u32, socket: SocketId) -> bool {
        let at = socket.0 as usize;
        if self.knocks.len() <= at {
            self.knocks.resize(at + 1, Knocks::default());
        }
        let limit = if self.all.count(second) > MANY { FEW } else { SOME };
        self.knocks[at].count(second) > limit
    }
}

impl Relay {
    /// A packet went nowhere.
    #[cold]
    pub(crate) fn turned_away(&mut self, now: Instant, socket: SocketId, from: SocketAddr, bytes: &[u8]) {
        if socket.0 as usize >= self.sockets.len() {
            return;
        }
        let second = now.saturating_duration_since(self.birth.now).as_secs() as u32;
        if !self.doors.is_flooded(second, socket) || self.doors.closed.contains_key(&socket.0) {
            return;
        }
        // It is looked at only so often.
        self.doors.knocks[socket.0 as usize].count = 0;
        let refused = self.doors.refused.get(&socket.0).is_some_and(|until| now < *until);
        if let Some(expected) = self.expected_at(socket).filter(|_| !refused)
            && !expected.lets_in(from, bytes)
        {
            self.close_door(now, socket, from, expected);
        }
    }

    fn close_door(&mut self, now: Instant, socket: SocketId, from: SocketAddr, expected: Expected) {
        self.doors.refused.remove(&socket.0);
        self.doors.next.get_or_insert(now + BEAT);
        self.door(Door::Close(socket, expected.clone()));
        let leg = self.leg_at(socket);
        leg.and_then(|leg| self.legs.get_mut(leg as usize)).into_iter().for_each(Leg::forgive);
        let told = leg.map(|leg| (leg, from));
        self.tell_of_flood(told, false, 0);
        self.doors.closed.insert(socket.0, Closed { expected, told, dropped: 0, calm: 0 });
    }

    fn door(&mut self, door: Door) {
        self.outputs.push_back(Output::Door(Box::new(door)));
    }

    fn tell_of_flood(&mut self, told: Option<(u32, SocketAddr)>, over: bool, dropped: u64) {
        if let Some((leg, from)) = told {
            self.tell_leg(leg, |session, leg| Event::Flood { session, leg, from, over, dropped });
        }
    }

    /// The one leg that a socket works for.
    fn leg_at(&self, socket: SocketId) -> Option<u32> {
        match self.sockets.get(socket.0 as usize)? {
            Use::Leg(leg, _) => Some(*leg),
            Use::Shared(..) | Use::Many | Use::Idle | Use::Closed => None,
        }
    }

    /// Whoever may be heard at a socket; `None`: anybody.
    pub fn expected_at(&self, socket: SocketId) -> Option<Expected> {
        let mut expected = Expected::default();
        let mut add = |leg: u32, part| {
            let leg = self.legs.get(leg as usize);
            leg.is_none_or(|leg| leg.expects(part, &mut expected))
        };
        let known = match *self.sockets.get(socket.0 as usize)? {
            Use::Leg(leg, part) => add(leg, part),
            Use::Shared(legs, part) => legs.into_iter().all(|leg| add(leg, part)),
            Use::Many => self.crowd.seats_at(socket).all(|(leg, part)| add(leg, part)),
            Use::Idle => true,
            Use::Closed => false,
        };
        known.then(|| expected.in_order())
    }

    /// Doors of sessions that changed may be wrong.
    pub(crate) fn doors_changed(&mut self) {
        if self.doors.closed.is_empty() {
            return;
        }
        let changed = self.changed.iter().filter_map(|id| self.sessions.get(id));
        let legs = changed.flat_map(|session| session.legs()).filter_map(|leg| self.legs.get(leg as usize));
        let ports = legs.flat_map(|leg| [Some(leg.media.port), leg.rtcp.map(|rtcp| rtcp.port)]).flatten();
        let sockets: Vec<SocketId> = ports.map(|port| port.socket).collect();
        sockets.into_iter().for_each(|socket| self.doors.has_changed(socket));
    }

    /// Has closed doors let in whoever is expected now.
    pub(crate) fn renew_doors(&mut self) {
        while let Some(socket) = self.doors.stale.pop_first().map(SocketId) {
            match self.expected_at(socket) {
                None => self.open_door(socket),
                Some(expected) => self.renew_door(socket, expected),
            }
        }
    }

    fn renew_door(&mut self, socket: SocketId, expected: Expected) {
        let whose = self.leg_at(socket);
        let Some(closed) = self.doors.closed.get_mut(&socket.0) else { return };
        // What is told at the end is told of the leg that it began with.
        closed.told = closed.told.filter(|(leg, _)| Some(*leg) == whose);
        if closed.expected != expected {
            closed.expected = expected.clone();
            self.door(Door::Close(socket, expected));
        }
    }

    fn open_door(&mut self, socket: SocketId) {
        if let Some(closed) = self.doors.closed.remove(&socket.0) {
            self.tell_of_flood(closed.told, true, closed.dropped);
            self.door(Door::Open(socket));
        }
    }

    /// The beat: what was dropped is counted, and whom doors let in is looked at anew (windows close, streams begin).
    pub(crate) fn tend_doors(&mut self, now: Instant) {
        if self.doors.next.is_none_or(|next| now < next) {
            return;
        }
        let sockets: Vec<SocketId> = self.doors.closed.keys().copied().map(SocketId).collect();
        self.doors.next = (!sockets.is_empty()).then(|| now + BEAT);
        self.doors.stale.extend(sockets.iter().map(|socket| socket.0));
        if !sockets.is_empty() {
            self.door(Door::Count(sockets));
        }
    }

    /// What closed doors have kept out so far.
    pub(crate) fn kept_out(&mut self, now: Instant, counts: &[Dropped]) {
        let mut all = 0;
        for count in counts {
            all += self.add_kept_out(now, count);
        }
        if all < u64::from(MANY) {
            let is_calm =
                |(socket, closed): (&u32, &Closed)| (closed.calm >= CALM).then_some(SocketId(*socket));
            let calm: Vec<SocketId> = self.doors.closed.iter().filter_map(is_calm).collect();
            calm.into_iter().for_each(|socket| self.open_door(socket));
        }
    }

    /// How many of them are new.
    fn add_kept_out(&mut self, now: Instant, count: &Dropped) -> u64 {
        let leg = self.leg_at(count.socket);
        let Some(closed) = self.doors.closed.get_mut(&count.socket.0) else { return 0 };
        let new = count.packets.saturating_sub(closed.dropped);
        closed.dropped += new;
        closed.calm = if new < LITTLE { closed.calm + 1 } else { 0 };
        let (told, dropped) = (closed.told, closed.dropped);
        if count.over {
            self.doors.closed.remove(&count.socket.0);
            self.doors.refused.insert(count.socket.0, now + REFUSED);
            self.tell_of_flood(told, true, dropped);
        }
        self.traffic.dropped[Why::Flood as usize] += new;
        if let Some(leg) = leg.and_then(|leg| self.legs.get_mut(leg as usize)) {
            leg.strangers += new;
            leg.kept_out += new;
        }
        new
    }
}

impl Leg {
    /// Adds whoever may be heard by one of its channels; `false`: anybody may.
    fn expects(&self, part: Part, expected: &mut Expected) -> bool {
        let Some(channel) = self.way_in(part) else { return true };
        expected.sources.extend(channel.latched.map(Source::exactly));
        let ice = self.keys.as_ref().and_then(|keys| keys.terms.ice.as_ref());
        let name = |ufrag: &str| ufrag.as_bytes().first_chunk().copied();
        expected.names.extend(ice.and_then(|ice| name(&ice.ufrag)));
        if self.does_ice() {
            return true;
        }
        match part {
            Part::Media => expected.streams.extend(self.tracks.streams()),
            Part::Rtcp => {
                let media = self.media.latched.map(|media| Source::within(media.ip(), 32, 128));
                expected.sources.extend(media);
            }
        }
        let waits = channel.latched.is_none() || self.window.is_some();
        !waits || self.rule.expects(expected)
    }
}

impl Rule {
    /// Adds whoever it admits; `false`: anybody.
    fn expects(&self, expected: &mut Expected) -> bool {
        let (v4, v6) = match self.latch {
            Latch::Any => return false,
            Latch::Strict => (32, 64),
            Latch::Prefix => (24, 48),
        };
        let known = [self.signalled, self.signalling].into_iter().flatten();
        expected.sources.extend(known.map(|ip| Source::within(ip, v4, v6)));
        true
    }
}
