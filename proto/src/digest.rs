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

use constant_time_eq::constant_time_eq;
use sha2::Digest as _;

use crate::sip::Auth;
use crate::tables::Secret;

mod nonce;
mod quoted;

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

    /// The hash of the parts joined by colons, in lower-case hex.
    fn hash(self, parts: &[&[u8]]) -> String {
        let joined = parts.join(&b':');
        match self {
            Algorithm::Sha256 => hex(&sha2::Sha256::digest(joined)),
            Algorithm::Md5 => hex(&md5::Md5::digest(joined)),
        }
    }
}

/// What an account's [`Secret::Hashed`] holds for this algorithm: `H(user:realm:password)` in lower-case hex.
pub fn hashed(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> String {
    algorithm.hash(&[user.as_bytes(), realm.as_bytes(), password.as_bytes()])
}

/// The value of a WWW-Authenticate or Proxy-Authenticate header.
pub fn challenge(realm: &str, nonce: &str, algorithm: Algorithm, stale: bool) -> String {
    let (realm, stale) = (quote(realm), if stale { ", stale=true" } else { "" });
    format!(r#"Digest realm={realm}, nonce="{nonce}", algorithm={}, qop="auth"{stale}"#, algorithm.as_str())
}

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
pub fn verify(credentials: &str, secret: &Secret, request: Request<'_>) -> bool {
    expected(Auth(credentials), secret, request).is_some_and(|expected| {
        let given = Auth(credentials).get("response").unwrap_or_default().to_ascii_lowercase();
        constant_time_eq(expected.as_bytes(), given.as_bytes())
    })
}

/// The response these credentials should carry; `None` when they lack something or ask for what we don't do.
fn expected(credentials: Auth<'_>, secret: &Secret, request: Request<'_>) -> Option<String> {
    let is_digest = credentials.scheme().eq_ignore_ascii_case("Digest");
    let algorithm = Algorithm::from_name(credentials.get("algorithm")).filter(|_| is_digest)?;
    let value = |name| credentials.get(name).map(unquote);
    let ha1 = secret_hash(secret, algorithm, &value("username")?, &value("realm")?)?;
    let quality = Quality::of_credentials(credentials, algorithm)?;
    Some(response(algorithm, &ha1, &value("nonce")?, quality, &value("uri")?, request))
}

/// `H(user:realm:password)`.
fn secret_hash(secret: &Secret, algorithm: Algorithm, user: &str, realm: &str) -> Option<String> {
    match (secret, algorithm) {
        (Secret::Password(password), _) => Some(hashed(algorithm, user, realm, password)),
        (Secret::Hashed { md5, .. }, Algorithm::Md5) => md5.as_ref().map(|hash| hash.to_ascii_lowercase()),
        (Secret::Hashed { sha256, .. }, Algorithm::Sha256) => {
            sha256.as_ref().map(|hash| hash.to_ascii_lowercase())
        }
    }
}

/// What a response covers beyond the secret, nonce, method and URI.
#[derive(Clone, Copy)]
enum Quality<'a> {
    /// RFC 2069: nothing.
    Absent,
    /// `auth`, or `auth-int` with the body.
    Present { qop: &'a str, count: &'a str, cnonce: &'a str },
}

impl<'a> Quality<'a> {
    fn of_credentials(credentials: Auth<'a>, algorithm: Algorithm) -> Option<Quality<'a>> {
        let Some(qop) = credentials.get("qop") else {
            return (algorithm == Algorithm::Md5).then_some(Quality::Absent);
        };
        let known = ["auth", "auth-int"].iter().any(|known| known.eq_ignore_ascii_case(qop));
        let (count, cnonce) = (credentials.get("nc")?, credentials.get("cnonce")?);
        known.then_some(Quality::Present { qop, count, cnonce })
    }
}

/// RFC 7616 §3.4.1.
fn response(
    algorithm: Algorithm,
    ha1: &str,
    nonce: &str,
    quality: Quality<'_>,
    uri: &str,
    request: Request<'_>,
) -> String {
    let mut a2 = vec![request.method.as_bytes(), uri.as_bytes()];
    let body = algorithm.hash(&[request.body]);
    if matches!(quality, Quality::Present { qop, .. } if qop.eq_ignore_ascii_case("auth-int")) {
        a2.push(body.as_bytes());
    }
    let ha2 = algorithm.hash(&a2);
    match quality {
        Quality::Absent => algorithm.hash(&[ha1.as_bytes(), nonce.as_bytes(), ha2.as_bytes()]),
        Quality::Present { qop, count, cnonce } => {
            let cnonce = unquote(cnonce);
            algorithm.hash(&[ha1, nonce, count, &cnonce, qop, &ha2].map(str::as_bytes))
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
    Some(asked.credentials(user, uri, &response, quality))
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

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

#[cfg(test)]
mod tests;
