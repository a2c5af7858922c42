//! Which transaction a message belongs to (RFC 3261 §17.1.3, §17.2.3), as one keyed 64-bit hash.
//!
//! The hash is SipHash with a secret in front, so nobody outside can find two branches that collide; two messages of
//! the same key are then the same transaction but for a chance of 2^-64 each. A request's key holds more than the RFC
//! asks for: the Call-ID too, because phones behind different NATs share private addresses, and simple ones count
//! their branches from 1.

use std::hash::{DefaultHasher, Hash as _, Hasher};

use crate::hashing::{Gathered, mixed};
use crate::node::{Dice, Flow, Transport};
use crate::sip::{Message, Method, Via};

/// A transaction's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) u64);

/// Makes keys.
#[derive(Clone, Debug)]
pub(super) struct Keys(DefaultHasher);

impl Keys {
    pub(super) fn new(dice: &mut Dice) -> Keys {
        let mut hasher = DefaultHasher::new();
        hasher.write(&dice.bytes::<32>());
        Keys(hasher)
    }

    /// The client transaction of a request we send, or of a response that came, by its topmost Via: branch, CSeq method,
    /// and sent-by, for a response whose Via is not ours is none of ours (§18.1.2).
    pub(super) fn client(&self, via: &Via<'_>, method: Method<'_>) -> Key {
        let mut key = Hash::begun(self);
        key.field("client").field(via.branch()).field(method.as_str()).sent_by(via);
        key.finish()
    }

    /// The server transaction of a request that came, as if its method were `method`: ACK and CANCEL look for the
    /// INVITE. `None`: its Via can't be read.
    pub(super) fn server(&self, request: &Message, method: Method<'_>) -> Option<Key> {
        let via = request.via().ok()?;
        let mut key = Hash::begun(self);
        key.field("server").field(method.as_str()).field(request.call_id()).sent_by(&via);
        if has_cookie(via.branch()) {
            key.field(via.branch());
        } else {
            key.before_rfc_3261(request, method, via.branch())?;
        }
        Some(key.finish())
    }

    /// A request as it came: each byte, and from where to where. Only requests of one key are told apart by it, so it need
    /// not withstand anybody: a product for each eight bytes does.
    pub(super) fn mark(&self, flow: &Flow, bytes: &[u8]) -> u64 {
        let mut hash = Hash::begun(self);
        flow.hash(&mut hash.field("mark").0);
        let (eights, rest) = bytes.as_chunks::<8>();
        let fold = |so_far, eight| mixed(so_far, u64::from_le_bytes(eight));
        let mut last = [rest.len() as u8; 8];
        last[..rest.len()].copy_from_slice(rest);
        fold(eights.iter().copied().fold(hash.finish().0, fold), last)
    }

    /// The To tag of a response that is sent without a transaction: the same for every retransmission.
    pub(super) fn stateless_tag(&self, key: Key) -> String {
        let mut hash = Hash::begun(self);
        hash.field("tag").0.write_u64(key.0);
        let (tag, mut hex) = (hash.finish().0, [0; 16]);
        for (place, digit) in hex.iter_mut().rev().enumerate() {
            *digit = b"0123456789abcdef"[(tag >> (4 * place)) as usize & 15];
        }
        str::from_utf8(&hex).unwrap_or_default().to_owned()
    }
}

/// Whether a branch is its request's alone (RFC 3261 §8.1.1.7). A bare cookie identifies nothing.
pub(crate) fn has_cookie(branch: &str) -> bool {
    branch.len() > COOKIE.len()
        && branch.is_char_boundary(COOKIE.len())
        && branch[..COOKIE.len()].eq_ignore_ascii_case(COOKIE)
}

const COOKIE: &str = "z9hG4bK";

struct Hash(Gathered);

impl Hash {
    fn begun(keys: &Keys) -> Hash {
        Hash(Gathered::after(keys.0.clone()))
    }

    /// A field and its end, so that no two fields can trade bytes.
    fn field(&mut self, field: &str) -> &mut Self {
        self.0.write(field.as_bytes());
        self.0.write_u8(0xff);
        self
    }

    fn sent_by(&mut self, via: &Via<'_>) -> &mut Self {
        if via.host.bytes().any(|b| b.is_ascii_uppercase()) {
            self.field(&via.host.to_ascii_lowercase());
        } else {
            self.field(via.host);
        }
        self.0.write_u16(via.port.unwrap_or_else(|| default_port(via)));
        self
    }

    /// RFC 3261 §17.2.3 for peers of RFC 2543, whose branches identify nothing. The To tag counts only where ACK's
    /// can't differ from its INVITE's.
    fn before_rfc_3261(&mut self, request: &Message, method: Method<'_>, branch: &str) -> Option<()> {
        let cseq = request.cseq().ok()?;
        self.field(request.request_uri()).field(request.from_tag()).field(branch);
        self.0.write_u32(cseq.number);
        if method != Method::Invite {
            self.field(request.to_tag());
        }
        Some(())
    }

    fn finish(&self) -> Key {
        Key(self.0.finish())
    }
}

fn default_port(via: &Via<'_>) -> u16 {
    via.known_transport().unwrap_or(Transport::Udp).default_port()
}
