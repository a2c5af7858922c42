//! SRTP under keys in the descriptions (RFC 3711, RFC 4568): each side tells the key of what it sends.

use proto::node::Dice;
use proto::rtp::{Packet, classify};
use proto::srtp::sdes::Crypto;
use proto::srtp::{MAX_GROWTH, Master, Receiver, Sender};

use crate::offer::SUITE;

/// The keys of one call.
pub(crate) struct Keys {
    /// What we send is protected with this.
    pub(crate) own: Crypto,
    sender: Sender,
    theirs: Option<(Crypto, Receiver)>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({:?})", self.own)
    }
}

impl Keys {
    pub(crate) fn new(dice: &mut Dice) -> Keys {
        let own = Crypto { tag: 1, master: Master::draw(SUITE, dice) };
        Keys { sender: Sender::new(&own.master), own, theirs: None }
    }

    /// The other side's key; the same one again changes nothing.
    pub(crate) fn follow(&mut self, theirs: &Crypto) {
        if self.theirs.as_ref().is_none_or(|(known, _)| known.master != theirs.master) {
            self.theirs = Some((theirs.clone(), Receiver::new(&theirs.master)));
        }
    }

    pub(crate) fn seal(&mut self, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        let len = packet.len();
        let is_rtcp = matches!(classify(&packet), Packet::Rtcp(_));
        packet.resize(len + MAX_GROWTH, 0);
        let sealed =
            if is_rtcp { self.sender.rtcp(&mut packet, len) } else { self.sender.rtp(&mut packet, len) };
        packet.truncate(sealed.ok()?);
        Some(packet)
    }

    pub(crate) fn open(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let (_, receiver) = self.theirs.as_mut()?;
        let mut packet = packet.to_vec();
        let opened = match classify(&packet) {
            Packet::Rtcp(_) => receiver.rtcp(&mut packet),
            _ => receiver.rtp(&mut packet),
        };
        packet.truncate(opened.ok()?);
        Some(packet)
    }
}
