//! The data path of a leg that has keys: what comes is opened before anything else looks at it, what leaves is protected last.

use std::net::SocketAddr;
use std::time::Instant;

use proto::rtp::{Packet, classify};
use proto::sdp::{Kind, Protection};
use proto::srtp::Refused;

use crate::forward::Way;
use crate::ice::CONSENT;
use crate::keys::Keys;
use crate::leg::{Change, Leg, Part};
use crate::relay::Relay;
use crate::why::Why;

impl Relay {
    /// Takes a packet on a leg that has keys to the other one, which has some, too.
    #[inline(never)]
    pub(crate) fn carry_keyed(
        &mut self,
        now: Instant,
        at: u32,
        part: Part,
        from: SocketAddr,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<Option<Way>, Why> {
        let Some((len, at)) = self.unprotect(now, at, part, from, buffer, len)? else { return Ok(None) };
        let mut way = self.carry(now, at, part, from, buffer, len)?;
        way.len = self.protect(now, &way, buffer)?;
        Ok(Some(way))
    }

    /// Opens a packet; gives its length as plain RTP or RTCP, and the leg it is of. `None`: it was for us.
    fn unprotect(
        &mut self,
        now: Instant,
        at: u32,
        part: Part,
        from: SocketAddr,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<Option<(usize, u32)>, Why> {
        let bytes = buffer.get_mut(..len).ok_or(Why::Invalid)?;
        let packet = classify(bytes);
        let leg = self.legs.get_mut(at as usize).ok_or(Why::Idle)?;
        let Some(keys) = leg.keys_in_use() else { return Ok(Some((len, at))) };
        let is_rtcp = part == Part::Rtcp || matches!(packet, Packet::Rtcp(_));
        match packet {
            Packet::Stun if keys.terms.ice.is_some() => {
                return self.checked(now, at, part, from, bytes).map(|()| None);
            }
            Packet::Dtls if keys.protection == Protection::Dtls => {
                return self.shake_hands(now, at, part, from, bytes).map(|()| None);
            }
            Packet::Rtp(_) | Packet::Rtcp(_) => {}
            _ if is_rtcp => {}
            _ => return Ok(Some((len, at))),
        }
        if !leg.listens_to(now, part, from, &packet) {
            leg.turn_away(now, from);
            return Err(Why::Stranger);
        }
        let receiver = leg.keys.as_mut().and_then(|keys| keys.receiver.as_mut()).ok_or(Why::Unkeyed)?;
        let opened = if is_rtcp { receiver.rtcp(bytes) } else { receiver.rtp(bytes) };
        if receiver.has_moved() {
            self.changed.insert(leg.whose.session.0);
        }
        let len = opened.map_err(refused)?;
        Ok(Some((len, self.member_for(at, buffer.get(..len).unwrap_or_default()))))
    }

    /// A DTLS datagram counts where its party is heard; where nobody is yet, it may be what shows where it is.
    fn shake_hands(
        &mut self,
        now: Instant,
        at: u32,
        part: Part,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Why> {
        let leg = self.legs.get_mut(at as usize).ok_or(Why::Idle)?;
        if !leg.listens_to(now, part, from, &Packet::Dtls) {
            leg.turn_away(now, from);
            return Err(Why::Stranger);
        }
        if !leg.does_ice() {
            let (config, network) = (&self.config, leg.media.port.id.network());
            let may = |from| config.admits(network, from, false);
            let change = leg.accept(now, part, from, bytes, &Packet::Dtls, may)?;
            if change != Change::None {
                self.note(now, at, part, from, Ok(change));
            }
        }
        self.handshake(now, at, part, from, bytes)
    }

    /// Protects a packet for the party it goes to; gives its new length.
    pub(crate) fn protect(&mut self, now: Instant, way: &Way, buffer: &mut [u8]) -> Result<usize, Why> {
        let head = self.head_of(way.leg);
        let leg = self.legs.get_mut(head as usize).ok_or(Why::Idle)?;
        let session = leg.whose.session.0;
        let Some(keys) = leg.keys_in_use() else { return Ok(way.len) };
        if let Some(ice) = &keys.terms.ice
            && ice.checked.is_none_or(|at| now.saturating_duration_since(at) > CONSENT)
        {
            return Err(Why::Unwanted);
        }
        let sender = keys.sender.as_mut().ok_or(Why::Unkeyed)?;
        let sealed = if way.is_rtcp { sender.rtcp(buffer, way.len) } else { sender.rtp(buffer, way.len) };
        if sender.has_moved() {
            self.changed.insert(session);
        }
        sealed.map_err(refused)
    }
}

impl Leg {
    /// Its keys, where packets are opened and protected under some.
    fn keys_in_use(&mut self) -> Option<&mut Keys> {
        let is_rtp = self.kind == Kind::Rtp;
        self.keys.as_deref_mut().filter(|keys| is_rtp && keys.protection != Protection::Plain)
    }

    /// Whether a packet from here is worth the work of checking its tag: the party is heard from there, or may be, or
    /// it claims one of its streams.
    pub(crate) fn listens_to(&self, now: Instant, part: Part, from: SocketAddr, packet: &Packet<'_>) -> bool {
        let channel = self.way_in(part);
        let latched = channel.and_then(|channel| channel.latched);
        if self.does_ice() {
            return latched == Some(from);
        }
        let open = latched.is_none() || self.window.is_some_and(|until| now < until);
        latched == Some(from)
            || open && (self.rule.admits(from.ip()) || part == Part::Rtcp)
            || matches!(packet, Packet::Rtp(rtp) if self.sends(rtp))
            || self.is_its_rtcp(packet)
    }

    /// Whether the party's checks alone say where it is.
    pub(crate) fn does_ice(&self) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.terms.ice.is_some()) || self.is_member()
    }

    /// The party has nominated where it is.
    pub(crate) fn nominate(&mut self, now: Instant, from: SocketAddr) {
        self.heard = Some(now);
        self.latch(now, Part::Media, from);
    }
}

fn refused(why: Refused) -> Why {
    match why {
        Refused::Forged | Refused::Replayed | Refused::Unencrypted => Why::Forged,
        Refused::Malformed => Why::Invalid,
        Refused::NoRoom | Refused::TooManyStreams | Refused::Exhausted => Why::Unkeyed,
    }
}
