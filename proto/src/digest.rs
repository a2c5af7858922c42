//! Digest authentication (RFC 7616, RFC 8760, RFC 3261 §22): both ends, nothing stored for unanswered challenges.
//!
//! ```text
//!  response = H( H(user:realm:password) : nonce : nc : cnonce : qop : H(method:uri) )          qop=auth
//!                                                                     H(method:uri:H(body))    qop=auth-int
//!  response = H( H(user:realm:password) : nonce : H(method:uri) )                              no qop (RFC 2069)
//! ```
//!
//! We offer `auth` only. Credentials without qop are taken for MD5, where phones of RFC 2069 still live (RFC 3261
//! §22.4 item 8 keeps them welcome), never for SHA-256; their nonce has no count, so it should serve once. The `-sess`
//! variants are neither offered nor answered.

use sha2::Digest as _;

use crate::sip::Auth;
use crate::tables::Secret;

mod credentials;
mod nonce;
mod quoted;

pub use credentials::Credentials;
pub use nonce::{LIFE, NonceCheck, Nonces};
use quoted::{quote, unquote};

/// Hash algorithms, as RFC 8760 names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// MD5.
    Md5,
}

impl Algorithm {
    /// `SHA-256`, `MD5`.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Md5 => "MD5",
        }
    }

    /// Any case; absent means MD5.
    pub fn from_name(name: Option<&str>) -> Option<Algorithm> {
        let name = name.unwrap_or("MD5");
        [Algorithm::Sha256, Algorithm::Md5].into_iter().find(|a| a.as_str().eq_ignore_ascii_case(name))
    }

    /// The hash of the parts joined by colons.
    fn hash(self, parts: &[&[u8]]) -> Hex {
        // A hasher takes one piece in fewer steps than a dozen.
        let joined = parts.join(&b':');
        match self {
            Algorithm::Sha256 => Hex::of(&sha2::Sha256::digest(joined)),
            Algorithm::Md5 => Hex::of(&md5::Md5::digest(joined)),
        }
    }
}

/// A hash in lower-case hex.
#[derive(Clone, Copy, Debug)]
struct Hex {
    digits: [u8; 64],
    length: usize,
}

impl Hex {
    fn of(hash: &impl AsRef<[u8]>) -> Hex {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = Hex { digits: [b'0'; 64], length: 0 };
        for (pair, byte) in hex.digits.as_chunks_mut::<2>().0.iter_mut().zip(hash.as_ref()) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        hex.length = (2 * hash.as_ref().len()).min(hex.digits.len());
        hex
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[..self.length]).unwrap_or_default()
    }
}

/// What an account's [`Secret::Hashed`] holds for this algorithm: `H(user:realm:password)` in lower-case hex.
pub fn hashed(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> String {
    algorithm.hash(&[user.as_bytes(), realm.as_bytes(), password.as_bytes()]).as_str().to_owned()
}

/// The value of a WWW-Authenticate or Proxy-Authenticate header.
pub fn challenge(realm: &str, nonce: &str, algorithm: Algorithm, stale: bool) -> String {
    let (realm, stale) = (quote(realm), if stale { ", stale=true" } else { "" });
    let algorithm = algorithm.as_str();
    let pieces =
        ["Digest realm=", &realm, ", nonce=\"", nonce, "\", algorithm=", algorithm, ", qop=\"auth\"", stale];
    pieces.concat()
}

/// What a client's Authorization must say.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The request's method.
    pub method: &'a str,
    /// Its body, for `auth-int` (which we don't offer but may be asked for as a client).
    pub body: &'a [u8],
}

/// Whether the credentials (the value of Authorization or Proxy-Authorization) prove the secret for this request: see
/// [`Credentials::prove`].
pub fn verify(credentials: &str, secret: &Secret, request: Request<'_>) -> bool {
    Credentials::read(credentials).prove(secret, request)
}

/// What a response covers beyond the secret, nonce, method and URI.
#[derive(Clone, Copy)]
enum Quality<'a> {
    /// RFC 2069: nothing.
    Absent,
    /// `auth`, or `auth-int` with the body.
    Present { qop: &'a str, count: &'a str, cnonce: &'a str },
}

/// RFC 7616 §3.4.1.
fn response(
    algorithm: Algorithm,
    ha1: &str,
    nonce: &str,
    quality: Quality<'_>,
    uri: &str,
    request: Request<'_>,
) -> Hex {
    let (method, uri) = (request.method.as_bytes(), uri.as_bytes());
    let ha2 = match quality {
        Quality::Present { qop, .. } if qop.eq_ignore_ascii_case("auth-int") => {
            algorithm.hash(&[method, uri, algorithm.hash(&[request.body]).as_str().as_bytes()])
        }
        _ => algorithm.hash(&[method, uri]),
    };
    let ha2 = ha2.as_str();
    match quality {
        Quality::Absent => algorithm.hash(&[ha1, nonce, ha2].map(str::as_bytes)),
        Quality::Present { qop, count, cnonce } => {
            let cnonce = unquote(cnonce);
            algorithm.hash(&[ha1, nonce, count, &cnonce, qop, ha2].map(str::as_bytes))
        }
    }
}

/// The client's side: the Authorization value that answers a challenge. `count` is nc, from 1; `cnonce` is fresh.
/// `None`: the challenge asks for what we can't do (another scheme, algorithm or qop).
pub fn answer(
    challenge: &str,
    user: &str,
    password: &str,
    uri: &str,
    request: Request<'_>,
    count: u32,
    cnonce: &str,
) -> Option<String> {
    let asked = Asked::read(challenge)?;
    let count = format!("{count:08x}");
    let quality = match asked.qop {
        Some(qop) => Quality::Present { qop, count: &count, cnonce },
        None => Quality::Absent,
    };
    let ha1 = hashed(asked.algorithm, user, &unquote(asked.realm), password);
    let response = response(asked.algorithm, &ha1, &unquote(asked.nonce), quality, uri, request);
    Some(asked.credentials(user, uri, response.as_str(), quality))
}

/// The strongest challenge of several that we can answer (RFC 8760 §2.4: the server's order counts).
pub fn choose<'a>(mut challenges: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    challenges.find(|challenge| Asked::read(challenge).is_some())
}

/// A challenge that we can answer. Quoted values are as they came, to go back the same.
struct Asked<'a> {
    realm: &'a str,
    nonce: &'a str,
    opaque: Option<&'a str>,
    algorithm: Algorithm,
    /// Whether it named the algorithm: old servers stumble over one they did not name.
    named: bool,
    qop: Option<&'static str>,
}

impl<'a> Asked<'a> {
    fn read(challenge: &'a str) -> Option<Asked<'a>> {
        let auth = Auth(challenge);
        let qop = match auth.get("qop") {
            Some(offered) => Some(best_qop(offered)?),
            None => None,
        };
        let asked = Asked {
            realm: auth.get("realm")?,
            nonce: auth.get("nonce")?,
            opaque: auth.get("opaque"),
            algorithm: Algorithm::from_name(auth.get("algorithm"))?,
            named: auth.get("algorithm").is_some(),
            qop,
        };
        let whole = [Some(asked.realm), Some(asked.nonce), asked.opaque];
        let repeatable = whole.into_iter().flatten().all(quoted::is_inside);
        (repeatable && auth.scheme().eq_ignore_ascii_case("Digest")).then_some(asked)
    }

    fn credentials(&self, user: &str, uri: &str, response: &str, quality: Quality<'_>) -> String {
        let Asked { realm, nonce, .. } = self;
        let (user, uri) = (quote(user), quote(uri));
        let mut out = format!(
            r#"Digest username={user}, realm="{realm}", nonce="{nonce}", uri={uri}, response="{response}""#
        );
        if self.named {
            out += &format!(", algorithm={}", self.algorithm.as_str());
        }
        if let Quality::Present { qop, count, cnonce } = quality {
            out += &format!(", cnonce={}, qop={qop}, nc={count}", quote(cnonce));
        }
        if let Some(opaque) = self.opaque {
            out += &format!(r#", opaque="{opaque}""#);
        }
        out
    }
}

/// `auth` before `auth-int`; both where the body may be changed on the way (a proxy edits SDP) favour the former.
fn best_qop(offered: &str) -> Option<&'static str> {
    let offers = |qop| offered.split(',').any(|offer| offer.trim().eq_ignore_ascii_case(qop));
    ["auth", "auth-int"].into_iter().find(|qop| offers(qop))
}

#[cfg(test)]
mod tests;
