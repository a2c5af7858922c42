//! BUNDLE (RFC 9143): a browser's sections on one port, where the phone's have ports of their own.
//!
//! The first section's leg is the head: it has the port, the checks, the handshake and the keys, under which all is opened and
//! protected, so that no two sections use one key stream. What has been opened goes to the section whose payload type it
//! has; a report to the one whose source it is of, or about.

use std::time::Instant;

use proto::control::Ask;
use proto::rtp::{Packet, Rtp, classify};
use proto::sdp::{Media, Sdp};

use crate::forward::Use;
use crate::leg::{Channel, Leg, Part};
use crate::relay::Relay;
use crate::session::{Session, index};

/// Which sections share a port, as one of their legs sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bundle {
    /// The leg whose port this one uses.
    pub(crate) head: Option<u32>,
    /// The legs that use this one's.
    pub(crate) members: Vec<u32>,
    /// Payload types of its section, a bit each.
    pub(crate) formats: u128,
}

/// The payload types of a section.
pub(crate) fn formats(media: &Media<'_>) -> u128 {
    let numbers = media.formats.iter().filter_map(|format| format.parse::<u32>().ok());
    numbers.filter(|number| *number < 128).fold(0, |bits, number| bits | 1 << number)
}

impl Relay {
    /// Brings the sections together that a browser's offer has in one group: the ports of all but the first go back.
    pub(crate) fn bundle(&mut self, now: Instant, session: &Session, ask: &Ask, sdp: &Sdp<'_>) {
        if ask.srtp.is_none_or(|keying| keying.answers) {
            return;
        }
        let streams = session.streams.iter().zip(&sdp.media);
        let together = streams.filter(|(_, media)| media.bundled && media.port != 0);
        let together = together.filter_map(|(stream, _)| stream.filter(|stream| !stream.shared));
        let legs = together.map(|stream| stream.legs[index(ask.leg)]);
        let legs: Vec<u32> = legs.filter(|leg| self.is_by_dtls(*leg)).collect();
        let Some((&head, members)) = legs.split_first() else { return };
        if self.bundle_of(head).is_none_or(|bundle| bundle.head.is_some()) {
            return;
        }
        members.iter().for_each(|member| self.join(now, head, *member));
        if let Some(bundle) = self.bundle_mut(head) {
            bundle.members = members.to_vec();
        }
    }

    fn join(&mut self, now: Instant, head: u32, member: u32) {
        let Some(channel) = self.legs.get(head as usize).map(|leg| leg.media) else { return };
        let Some(leg) = self.legs.get_mut(member as usize) else { return };
        let ports: Vec<_> = leg.ports().collect();
        let Some(keys) = &mut leg.keys else { return };
        if keys.terms.bundle.head.replace(head) == Some(head) {
            return;
        }
        (keys.terms.ice, keys.agreed, keys.sender, keys.receiver) = (None, None, None, None);
        leg.media = Channel { signalled: leg.media.signalled, ..channel };
        (leg.rtcp, leg.mux) = (None, true);
        self.associations.remove(&member);
        self.enrol(member);
        ports.into_iter().for_each(|port| self.return_port(now, port));
    }

    /// A leg ends. `true`: its port is another's, or whoever used it goes on with it, and it is not to be given back.
    pub(crate) fn leaves_bundle(&mut self, leg: u32) -> bool {
        let Some(bundle) = self.bundle_mut(leg).map(std::mem::take) else { return false };
        if let Some(head) = bundle.head {
            if let Some(bundle) = self.bundle_mut(head) {
                bundle.members.retain(|member| *member != leg);
            }
            return true;
        }
        let Some((&heir, rest)) = bundle.members.split_first() else { return false };
        let Some(keys) = self.legs.get_mut(leg as usize).and_then(|leg| leg.keys.take()) else {
            return false;
        };
        let Some(inherits) = self.legs.get_mut(heir as usize) else { return false };
        let formats = inherits.keys.as_ref().map_or(0, |keys| keys.terms.bundle.formats);
        let socket = inherits.media.port.socket;
        let keys = inherits.keys.insert(keys);
        keys.terms.bundle = Bundle { head: None, members: rest.to_vec(), formats };
        for member in rest {
            if let Some(bundle) = self.bundle_mut(*member) {
                bundle.head = Some(heir);
            }
        }
        match self.config.one_port {
            true => self.enrol(heir),
            false => self.sockets[socket.0 as usize] = Use::Leg(heir, Part::Media),
        }
        if let Some(association) = self.associations.remove(&leg) {
            self.associations.insert(heir, association);
        }
        true
    }

    /// The section a packet belongs to that has come, and was opened, on this leg's port.
    pub(crate) fn member_for(&self, at: u32, packet: &[u8]) -> u32 {
        let Some(bundle) = self.bundle_of(at).filter(|bundle| !bundle.members.is_empty()) else { return at };
        let all = || std::iter::once(at).chain(bundle.members.iter().copied());
        let found = match classify(packet) {
            Packet::Rtp(rtp) => all().find(|leg| self.has_format(*leg, &rtp)),
            Packet::Rtcp(bytes) => all().find(|leg| self.is_source(*leg, bytes)),
            _ => None,
        };
        found.unwrap_or(at)
    }

    fn has_format(&self, leg: u32, packet: &Rtp<'_>) -> bool {
        self.bundle_of(leg).is_some_and(|bundle| bundle.formats >> packet.payload_type() & 1 == 1)
    }

    /// Whether a report's sender (RFC 3550 §6.4), or whom its first block or feedback (RFC 4585 §6.1) is about, is known here.
    fn is_source(&self, leg: u32, report: &[u8]) -> bool {
        let at = |at: usize| report.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let about = if report.get(1) == Some(&200) { None } else { at(8) };
        let Some(leg) = self.legs.get(leg as usize) else { return false };
        let theirs = self.legs.get(leg.other as usize);
        at(4).is_some_and(|ssrc| leg.tracks.find(ssrc).is_some())
            || about.is_some_and(|ssrc| theirs.is_some_and(|leg| leg.tracks.find(ssrc).is_some()))
    }

    /// The leg whose keys protect what leaves by this one.
    pub(crate) fn head_of(&self, leg: u32) -> u32 {
        self.bundle_of(leg).and_then(|bundle| bundle.head).unwrap_or(leg)
    }

    /// After a restart: who uses a port that another leg of the same party has.
    pub(crate) fn bundle_again(&mut self, session: &Session) {
        for side in 0..2 {
            let legs: Vec<u32> = session.streams().map(|stream| stream.legs[side]).collect();
            let is_head = |leg: u32| self.bundle_of(leg).is_some_and(|bundle| bundle.head.is_none());
            let Some(head) = legs.iter().copied().find(|leg| is_head(*leg)) else { continue };
            let members: Vec<u32> =
                legs.into_iter().filter(|leg| self.legs[*leg as usize].is_member()).collect();
            for member in &members {
                if let Some(bundle) = self.bundle_mut(*member) {
                    bundle.head = Some(head);
                }
            }
            if let Some(bundle) = self.bundle_mut(head) {
                bundle.members = members;
            }
        }
    }

    fn bundle_of(&self, leg: u32) -> Option<&Bundle> {
        self.keys_of(leg).map(|keys| &keys.terms.bundle)
    }

    fn bundle_mut(&mut self, leg: u32) -> Option<&mut Bundle> {
        self.keys_mut(leg).map(|keys| &mut keys.terms.bundle)
    }
}

impl Leg {
    /// Whether its port is another leg's.
    pub(crate) fn is_member(&self) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.terms.bundle.head.is_some())
    }
}
