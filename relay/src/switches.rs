//! What a controller may switch on a leg: its media or its telephone-events stopped, its sound turned into silence, a copy
//! kept. Packets of a leg with any of these take the slow way; all others don't notice.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use proto::control::Session;
use proto::event::{Name, Side};
use proto::node::{Capture, Captured, Output};
use proto::rtp::Packet;

use crate::leg::{Leg, Part};
use crate::ng::command::Switch;
use crate::relay::Relay;
use crate::session::index;
use crate::why::Why;

/// The switches of one leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Switches(u8);

/// Its media is dropped.
const MEDIA: u8 = 1;
/// Its telephone-events are.
const DTMF: u8 = 2;
/// It is sent on as silence.
const SILENCE: u8 = 4;
/// It is recorded.
const RECORD: u8 = 8;
/// Something is said in its party's place; see `insert`. Not kept for the next process.
const INSERT: u8 = 16;

impl Switches {
    /// As one number, and from it.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// See [`Switches::bits`].
    pub(crate) fn of_bits(bits: u8) -> Switches {
        Switches(bits & (MEDIA | DTMF | SILENCE | RECORD))
    }

    /// Whether any of them is on.
    #[inline]
    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether a copy is kept.
    pub(crate) fn records(self) -> bool {
        self.0 & RECORD != 0
    }

    pub(crate) fn set_recorded(&mut self, on: bool) {
        self.set(RECORD, on);
    }

    pub(crate) fn set_inserting(&mut self, on: bool) {
        self.set(INSERT, on);
    }

    fn set(&mut self, bit: u8, on: bool) {
        self.0 = if on { self.0 | bit } else { self.0 & !bit };
    }
}

impl Relay {
    /// Switches something for one party of a session, or for both. `on` is in the command's sense: media is on unless it
    /// is blocked.
    pub(crate) fn switch_legs(&mut self, id: Session, side: Option<Side>, switch: Switch, on: bool) {
        let Some(session) = self.sessions.get(&id.0) else { return };
        let sides = side.map_or(vec![0, 1], |side| vec![index(side)]);
        let legs = session.streams().flat_map(|stream| sides.iter().map(|at| stream.legs[*at]));
        let legs: Vec<u32> = legs.collect();
        self.changed.insert(id.0);
        for leg in legs {
            let Some(leg) = self.legs.get_mut(leg as usize) else { continue };
            match switch {
                Switch::Media => leg.switches.set(MEDIA, !on),
                Switch::Dtmf => leg.switches.set(DTMF, !on),
                Switch::Silence => leg.switches.set(SILENCE, !on),
                Switch::Record | Switch::Pause => leg.switches.set(RECORD, on),
            }
        }
    }

    /// Keeps a copy of what both parties of a session send, in streams yet to come, too.
    pub(crate) fn record(&mut self, id: Session, on: bool) {
        let Some(session) = self.sessions.get_mut(&id.0) else { return };
        let was = std::mem::replace(&mut session.recorded, on);
        self.changed.insert(id.0);
        let session = session.name.clone();
        self.switch_legs(id, None, Switch::Record, on);
        if was && !on {
            self.end_recording(session);
        }
    }

    /// Records a session by its name, or stops; `false`: it is not here.
    pub fn capture(&mut self, session: &str, on: bool) -> bool {
        let id = Session::from_name(session).filter(|id| self.sessions.contains_key(&id.0));
        id.iter().for_each(|id| self.record(*id, on));
        id.is_some()
    }

    /// Records the next sessions that begin.
    pub fn capture_next(&mut self, sessions: usize) {
        self.record_next = sessions;
    }

    /// A session begins: is it one of those that were asked for?
    pub(crate) fn capture_if_next(&mut self, id: Session) {
        if let Some(left) = self.record_next.checked_sub(1) {
            self.record_next = left;
            self.record(id, true);
        }
    }

    /// A copy of a packet that was accepted.
    #[cold]
    pub(crate) fn keep_copy(&mut self, now: Instant, at: u32, part: Part, from: SocketAddr, bytes: &[u8]) {
        let Some(leg) = self.legs.get(at as usize) else { return };
        let Some(session) = self.sessions.get(&leg.whose.session.0) else { return };
        let Some(channel) = leg.way_in(part) else { return };
        let bind = self.config.networks[channel.port.id.network()].bind;
        let what = Capture::Packet {
            at: self.birth.wall_at(now),
            side: leg.whose.side,
            from,
            to: SocketAddr::new(bind, channel.port.number),
            bytes: Bytes::copy_from_slice(bytes),
        };
        let copy = Captured { session: session.name.clone(), what };
        self.outputs.push_back(Output::Capture(Box::new(copy)));
    }

    pub(crate) fn end_recording(&mut self, session: Name) {
        self.outputs.push_back(Output::Capture(Box::new(Captured { session, what: Capture::End })));
    }
}

impl Leg {
    /// What its switches make of a packet it has heard.
    #[cold]
    pub(crate) fn switched(&self, packet: &Packet<'_>) -> Result<Option<Silence>, Why> {
        let Packet::Rtp(rtp) = packet else { return Ok(None) };
        let blocked = self.switches.0 & MEDIA != 0
            || self.switches.0 & DTMF != 0 && self.clocks.is_event(rtp.payload_type());
        match blocked {
            true => Err(Why::Blocked),
            false if self.switches.0 & SILENCE == 0 => Ok(None),
            false => Silence::of(rtp.payload_type()).map(Some).ok_or(Why::Blocked),
        }
    }
}

/// The byte that is silence in a codec whose packets can be overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silence(u8);

impl Silence {
    /// For G.711; no other codec's silence is as simple.
    fn of(payload_type: u8) -> Option<Silence> {
        match payload_type {
            0 => Some(Silence(0xff)),
            8 => Some(Silence(0xd5)),
            _ => None,
        }
    }

    /// Overwrites what a packet says, not its header.
    pub(crate) fn fill(self, packet: &mut [u8]) {
        let header = 12 + 4 * usize::from(packet.first().map_or(0, |first| first & 0x0f));
        if let Some(payload) = packet.get_mut(header..) {
            payload.fill(self.0);
        }
    }
}
