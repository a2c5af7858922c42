//! Digest authentication (RFC 7616, RFC 8760, RFC 3261 §22): both ends, nothing stored for unanswered challenges.

use std::net::IpAddr;

use crate::tables::Secret;

/// Hash algorithms, as RFC 8760 names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm { Sha256, Md5 }

impl Algorithm {
    /// `SHA-256`, `MD5`.
    pub fn as_str(self) -> &'static str { todo!() }
    /// Any case; absent means MD5.
    pub fn from_name(name: Option<&str>) -> Option<Algorithm> { let _ = name; todo!() }
}

/// Makes and checks nonces: time ‖ MAC(key, time, realm, source IP), good for 300 s.
#[derive(Clone)]
pub struct Nonces { _key: [u8; 32] }

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("Nonces") }
}

/// What a nonce turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceCheck {
    /// Ours and fresh; the number identifies it for [`crate::tables::Tables::use_nonce`].
    Fresh(u64),
    /// Ours, but too old: challenge again with `stale=true`.
    Stale,
    /// Not ours, or for another realm or source.
    Foreign,
}

impl Nonces {
    /// From a key.
    pub fn new(key: [u8; 32]) -> Nonces { Nonces { _key: key } }
    /// A nonce for this moment (milliseconds since the epoch, so that two challenges differ).
    pub fn make(&self, unix_ms: u64, realm: &str, source: IpAddr) -> String { let _ = (unix_ms, realm, source); todo!() }
    /// Whether it is ours and fresh.
    pub fn check(&self, unix_ms: u64, realm: &str, source: IpAddr, nonce: &str) -> NonceCheck { let _ = (unix_ms, realm, source, nonce); todo!() }
}

/// The value of a WWW-Authenticate or Proxy-Authenticate header.
pub fn challenge(realm: &str, nonce: &str, algorithm: Algorithm, stale: bool) -> String { let _ = (realm, nonce, algorithm, stale); todo!() }

/// What a client's Authorization must say.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The request's method.
    pub method: &'a str,
    /// Its body, for `auth-int` (which we don't offer but may be asked for as a client).
    pub body: &'a [u8],
}

/// Whether the credentials (the value of Authorization or Proxy-Authorization) prove the secret for this request.
/// `uri` is taken from the credentials; the caller checks that it fits the request URI. Constant-time compare.
pub fn verify(credentials: &str, secret: &Secret, request: Request<'_>) -> bool { let _ = (credentials, secret, request); todo!() }

/// The client's side: the Authorization value that answers a challenge. `count` is nc, from 1; `cnonce` is fresh.
/// `None`: the challenge asks for what we can't do (another scheme, algorithm or qop).
pub fn answer(challenge: &str, user: &str, password: &str, uri: &str, request: Request<'_>, count: u32, cnonce: &str) -> Option<String> {
    let _ = (challenge, user, password, uri, request, count, cnonce); todo!()
}

/// The strongest challenge of several that we can answer (RFC 8760 §2.4: the server's order counts).
pub fn choose<'a>(challenges: impl Iterator<Item = &'a str>) -> Option<&'a str> { let _ = challenges.count(); todo!() }
