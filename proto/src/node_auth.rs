//! Proof between our own nodes: the `Node-Auth` header, because source addresses over UDP are forgeable.
//!
//! `Node-Auth: time=1767225600, mac=<22 characters>`: keyed BLAKE3 over method or status, Call-ID, CSeq, time, the
//! Relay-* headers and the body; good for ± 60 s. Requests carry it, and so do responses whose Relay-* headers matter.

use crate::sip::Message;

/// The key our nodes share.
#[derive(Clone)]
pub struct NodeKey(pub [u8; 32]);

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("NodeKey") }
}

/// How a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// One of ours sent exactly this.
    Proven,
    /// It claims nothing.
    Absent,
    /// It claims to be ours and is not, or is too old or too new.
    False,
}

impl NodeKey {
    /// The message with its proof added (an older one replaced).
    pub fn sign(&self, message: &Message, unix_now: u64) -> Message { let _ = (message, unix_now); todo!() }
    /// How the message stands.
    pub fn check(&self, message: &Message, unix_now: u64) -> Proof { let _ = (message, unix_now); todo!() }
}
