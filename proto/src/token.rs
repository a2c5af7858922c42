//! Tokens: a few bytes of state, MACed, that travel in the user part of our Record-Route and Contact URIs, so that a
//! restarted proxy, or another with the key, routes what belongs to a dialog it does not remember.

use std::time::Duration;

/// How long a token may serve: as long as a call may.
pub const LIFE: Duration = Duration::from_secs(24 * 3600);

/// The keys tokens are made and checked with: the first makes, all check.
#[derive(Clone)]
pub struct Keys(pub Vec<[u8; 32]>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "Keys({})", self.0.len()) }
}

impl Keys {
    /// Seals up to 24 bytes (purpose separates kinds of tokens): time, payload, a 64-bit MAC (keyed BLAKE3), as at
    /// most 48 characters of `[A-Za-z0-9_-]`.
    pub fn seal(&self, purpose: u8, unix_now: u64, payload: &[u8]) -> String { let _ = (purpose, unix_now, payload); todo!() }
    /// The payload of a token that is whole, ours, of this purpose and not older than [`LIFE`].
    pub fn open(&self, purpose: u8, unix_now: u64, token: &str) -> Option<Vec<u8>> { let _ = (purpose, unix_now, token); todo!() }
    /// 16 bytes derived from a label and data: for identifiers both of us can work out again.
    pub fn derive(&self, label: &str, data: &[u8]) -> [u8; 16] { let _ = (label, data); todo!() }
}
