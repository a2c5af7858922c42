//! Keys in SDP: `a=crypto` (RFC 4568).
//!
//! ```text
//!  1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20 KDR=0
//!  tag, suite, one key and its lifetime, session parameters
//! ```
//!
//! The lifetime is read, not counted: the ciphers stop by themselves at what the RFC allows.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Master, Profile};

/// One `a=crypto` line that we can serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crypto {
    /// Which of the offer's lines an answer takes.
    pub tag: u32,
    /// The key of whoever wrote the line.
    pub master: Master,
}

/// Why a line can't be taken; another one of the same offer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Not as the RFC writes it.
    Malformed,
    /// A suite that is not one of [`Profile::ALL`].
    UnknownSuite,
    /// Base64 is broken, or the length is not the suite's.
    BadKey,
    /// More than one key, or a master key identifier: we follow neither.
    KeyIdentifier,
    /// A session parameter that changes what is on the wire, or that nobody knows.
    SessionParameter,
}

impl Crypto {
    /// Reads what stands behind `a=crypto:`.
    pub fn parse(value: &str) -> Result<Crypto, Unusable> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next().filter(|tag| tag.len() <= 9 && tag.bytes().all(|byte| byte.is_ascii_digit()));
        let tag = tag.and_then(|tag| tag.parse().ok()).ok_or(Unusable::Malformed)?;
        let suite = words.next().ok_or(Unusable::Malformed)?;
        let profile = Profile::ALL.into_iter().find(|profile| profile.name().eq_ignore_ascii_case(suite));
        let profile = profile.ok_or(Unusable::UnknownSuite)?;
        let master = key(profile, words.next().ok_or(Unusable::Malformed)?)?;
        match words.all(harmless) {
            true => Ok(Crypto { tag, master }),
            false => Err(Unusable::SessionParameter),
        }
    }
}

impl std::fmt::Display for Crypto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = STANDARD.encode(self.master.key_and_salt());
        write!(f, "{} {} inline:{key}", self.tag, self.master.profile().name())
    }
}

fn key(profile: Profile, parameters: &str) -> Result<Master, Unusable> {
    let (method, info) = parameters.split_at_checked(7).ok_or(Unusable::Malformed)?;
    if !method.eq_ignore_ascii_case("inline:") {
        return Err(Unusable::Malformed);
    }
    if info.contains(';') {
        return Err(Unusable::KeyIdentifier);
    }
    let mut parts = info.split('|');
    let bytes = STANDARD.decode(parts.next().unwrap_or_default()).map_err(|_| Unusable::BadKey)?;
    for part in parts {
        let digits = part.strip_prefix("2^").unwrap_or(part);
        if part.contains(':') {
            return Err(Unusable::KeyIdentifier);
        }
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Unusable::Malformed);
        }
    }
    Master::new(profile, &bytes).ok_or(Unusable::BadKey)
}

/// A hint about the window, no re-derivation, and what is marked as optional (RFC 4568 §6.3).
fn harmless(parameter: &str) -> bool {
    parameter.starts_with('-') || parameter.starts_with("WSH=") || parameter == "KDR=0"
}
