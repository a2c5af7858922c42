//! The data path: one datagram in, where it goes out.
//!
//! The lane's thread calls [`Relay::forward`] for every packet; [`proto::node::Input::Media`] leads here too, so that the
//! simulated world runs the same code. A packet of a latched party costs two array lookups, a comparison of addresses
//! and the counting of one RTP header: nothing is allocated, hashed or formatted.

use std::net::SocketAddr;
use std::time::Instant;

use proto::event::Event;
use proto::node::{Output, SocketId};
use proto::rtp::{Packet, classify};
use proto::sdp::Kind;

use crate::leg::{Change, Leg, Part};
use crate::relay::Relay;
use crate::switches::Silence;
use crate::why::Why;

/// What to do with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// Send it on, as it now is.
    Send {
        /// From this socket.
        socket: SocketId,
        /// To here.
        to: SocketAddr,
        /// So many bytes of it: a tag may have come or gone.
        len: usize,
    },
    /// Throw it away. It has been counted.
    Drop(Why),
    /// It was for the relay itself, which has dealt with it: `poll` for what comes of it.
    Control,
}

/// Who a socket works for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// No socket has this number.
    Closed,
    /// Open, and lent to nobody.
    Idle,
    /// One leg.
    Leg(u32, Part),
    /// Both legs of a stream.
    Shared([u32; 2], Part),
    /// Many legs; see `crowd`.
    Many,
}

/// Packets by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sent on.
    pub forwarded: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Dropped, by [`Why`] as a number: `dropped[Why::Stranger as usize]`.
    pub dropped: [u64; Why::ALL.len()],
}

/// Where a packet goes.
pub(crate) struct Way {
    pub(crate) socket: SocketId,
    pub(crate) to: SocketAddr,
    /// So many bytes of the buffer.
    pub(crate) len: usize,
    /// The leg it leaves by.
    pub(crate) leg: u32,
    pub(crate) is_rtcp: bool,
}

impl Relay {
    /// Takes the datagram in the first `len` bytes of `buffer`, which came from `from` on `socket`. It is changed in place;
    /// [`proto::srtp::MAX_GROWTH`] bytes behind it are room for a tag, or packets that need one are dropped. After a
    /// batch, `poll` the node: a packet that made a leg latch has raised an Event.
    #[inline]
    pub fn forward(
        &mut self,
        now: Instant,
        socket: SocketId,
        from: SocketAddr,
        buffer: &mut [u8],
        len: usize,
    ) -> Forward {
        match self.route(now, socket, from, buffer, len) {
            Ok(None) => Forward::Control,
            Ok(Some(Way { socket, to, len, .. })) => {
                self.traffic.forwarded += 1;
                self.traffic.bytes += len as u64;
                Forward::Send { socket, to, len }
            }
            Err(why) => {
                self.traffic.dropped[why as usize] += 1;
                self.turned_away(now, socket, from, buffer.get(..len).unwrap_or_default());
                Forward::Drop(why)
            }
        }
    }

    /// Both legs of a stream have keys or neither has: one look tells which way a packet takes.
    #[inline]
    fn route(
        &mut self,
        now: Instant,
        socket: SocketId,
        from: SocketAddr,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<Option<Way>, Why> {
        let bytes = buffer.get(..len).ok_or(Why::Invalid)?;
        let (at, part) = match self.sockets.get(socket.0 as usize).copied().unwrap_or(Use::Closed) {
            Use::Leg(leg, part) => (leg, part),
            Use::Shared(legs, part) => (self.whose(legs, part, from, &classify(bytes)), part),
            Use::Many => self.whose_in_crowd(now, socket, from, bytes)?,
            Use::Idle => return Err(Why::Idle),
            Use::Closed => return Err(Why::Unknown),
        };
        match self.legs.get(at as usize).ok_or(Why::Idle)?.keys.is_some() {
            true => self.carry_keyed(now, at, part, from, buffer, len),
            false => {
                let way = self.carry(now, at, part, from, buffer, len)?;
                // Nothing leaves open where it should not, whatever else went wrong.
                if self.keys_of(way.leg).is_some() { Err(Why::Unkeyed) } else { Ok(Some(way)) }
            }
        }
    }

    /// A packet that is open, from its leg to the other one.
    #[inline]
    pub(crate) fn carry(
        &mut self,
        now: Instant,
        at: u32,
        part: Part,
        from: SocketAddr,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<Way, Why> {
        let bytes = buffer.get(..len).ok_or(Why::Invalid)?;
        let packet = classify(bytes);
        let leg = self.legs.get_mut(at as usize).ok_or(Why::Idle)?;
        let (config, network, chained) = (&self.config, leg.media.port.id.network(), leg.rule.chained);
        let change =
            leg.accept(now, part, from, bytes, &packet, |from| config.admits(network, from, chained));
        let (other, rtp) = (leg.other, leg.kind == Kind::Rtp);
        let switched = leg.switches.any();
        if !matches!(change, Ok(Change::None)) || leg.told_silent {
            self.note(now, at, part, from, change);
        }
        change?;
        let silence = match switched {
            true => self.switched(now, at, part, from, bytes, &packet)?,
            false => None,
        };
        if rtp && packet == Packet::Stun {
            return Err(Why::Stun);
        }
        let is_rtcp = part == Part::Rtcp || rtp && matches!(packet, Packet::Rtcp(_));
        if is_rtcp {
            self.hear_report(now, at, other, bytes);
        }
        if let Some(silence) = silence {
            silence.fill(&mut buffer[..len]);
        }
        if switched {
            self.fit_in(now, other, &mut buffer[..len])?;
        }
        let leg = self.legs.get(other as usize).ok_or(Why::Held)?;
        let out = leg.way_out(is_rtcp).ok_or(Why::Held)?;
        Ok(Way { socket: out.port.socket, to: out.target.ok_or(Why::Held)?, len, leg: other, is_rtcp })
    }

    /// Which of the two parties that share a port sent this: the one heard from there; else the one that said it would;
    /// else the one whose stream it is; else the first that is still expected and may come from there.
    fn whose(&self, legs: [u32; 2], part: Part, from: SocketAddr, packet: &Packet<'_>) -> u32 {
        let leg = |at: &u32| self.legs.get(*at as usize);
        let channel = |leg: &Leg| leg.way_in(part).copied();
        let is = |test: &dyn Fn(&Leg) -> bool| legs.iter().copied().find(|at| leg(at).is_some_and(test));
        is(&|leg| channel(leg).is_some_and(|channel| channel.latched == Some(from)))
            .or_else(|| is(&|leg| channel(leg).is_some_and(|channel| channel.signalled == Some(from))))
            .or_else(|| is(&|leg| matches!(packet, Packet::Rtp(rtp) if leg.sends(rtp))))
            .or_else(|| {
                is(&|leg| channel(leg).is_some_and(|c| c.latched.is_none()) && leg.rule.admits(from.ip()))
            })
            .unwrap_or(legs[0])
    }

    /// The slow way of a leg something is switched on.
    #[cold]
    fn switched(
        &mut self,
        now: Instant,
        at: u32,
        part: Part,
        from: SocketAddr,
        bytes: &[u8],
        packet: &Packet<'_>,
    ) -> Result<Option<Silence>, Why> {
        if self.legs[at as usize].switches.records() {
            self.keep_copy(now, at, part, from, bytes);
        }
        self.legs[at as usize].switched(packet)
    }

    /// Tells what a packet changed, and looks at the session anew.
    #[cold]
    pub(crate) fn note(
        &mut self,
        now: Instant,
        at: u32,
        part: Part,
        from: SocketAddr,
        change: Result<Change, Why>,
    ) {
        let Some(leg) = self.legs.get(at as usize) else { return };
        let (whose, heard) = (leg.whose, change.is_ok());
        let Some(name) = self.sessions.get(&whose.session.0).map(|session| session.name.clone()) else {
            return;
        };
        if matches!(change, Ok(Change::Latched | Change::Moved)) {
            self.changed.insert(whose.session.0);
            self.enrol(at);
        }
        if part == Part::Media && matches!(change, Ok(Change::Latched | Change::Moved)) {
            let rebound = change == Ok(Change::Moved);
            let event = Event::LegLatched { session: name, leg: whose.side, from, rebound };
            self.outputs.push_back(Output::Event(event));
        }
        if heard {
            self.hears_again(now, at);
        }
        let first_stranger = change == Err(Why::Stranger)
            && self.legs[at as usize].stranger.as_ref().is_some_and(|first| first.0 == now);
        self.count_if_asked(at);
        if heard || first_stranger {
            self.watch(whose.session);
        }
    }
}
