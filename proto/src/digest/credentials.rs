//! What a client says of itself in Authorization or Proxy-Authorization, read once, and what it should have said.

use std::borrow::Cow;

use constant_time_eq::constant_time_eq;

use super::quoted::unquote;
use super::{Algorithm, Hex, Quality, Request, response};
use crate::sip::Auth;
use crate::tables::Secret;

/// Credentials. Values are without their quotes, escapes left; of a parameter that comes twice the first one counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// Whether the scheme is Digest.
    pub is_digest: bool,
    /// The account.
    pub username: Option<&'a str>,
    /// Where the account is one.
    pub realm: Option<&'a str>,
    /// The challenge that is answered.
    pub nonce: Option<&'a str>,
    /// The request URI, as the client saw it.
    pub uri: Option<&'a str>,
    /// As written; absent means MD5.
    pub algorithm: Option<&'a str>,
    /// The nonce count, in hex.
    pub count: Option<&'a str>,
    response: Option<&'a str>,
    qop: Option<&'a str>,
    cnonce: Option<&'a str>,
}

impl<'a> Credentials<'a> {
    /// Reads the value of a header.
    pub fn read(value: &'a str) -> Credentials<'a> {
        let auth = Auth(value);
        let mut read =
            Credentials { is_digest: auth.scheme().eq_ignore_ascii_case("Digest"), ..Credentials::default() };
        for (name, value) in auth.params() {
            if let Some(place) = read.place(name) {
                place.get_or_insert(value);
            }
        }
        read
    }

    fn place(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        Some(match name.len() {
            8 if is("username") => &mut self.username,
            5 if is("realm") => &mut self.realm,
            5 if is("nonce") => &mut self.nonce,
            3 if is("uri") => &mut self.uri,
            9 if is("algorithm") => &mut self.algorithm,
            2 if is("nc") => &mut self.count,
            8 if is("response") => &mut self.response,
            3 if is("qop") => &mut self.qop,
            6 if is("cnonce") => &mut self.cnonce,
            _ => return None,
        })
    }

    /// Whether they prove the secret for this request. The URI is taken from the credentials; the caller checks that it
    /// fits the request's. Constant-time compare.
    pub fn prove(&self, secret: &Secret, request: Request<'_>) -> bool {
        self.expected(secret, request).is_some_and(|expected| {
            let given = lower(self.response.unwrap_or_default());
            constant_time_eq(expected.as_str().as_bytes(), given.as_bytes())
        })
    }

    /// The response they should carry; `None` when they lack something or ask for what we don't do.
    fn expected(&self, secret: &Secret, request: Request<'_>) -> Option<Hex> {
        let algorithm = Algorithm::from_name(self.algorithm).filter(|_| self.is_digest)?;
        let (user, realm) = (unquote(self.username?), unquote(self.realm?));
        let quality = self.quality(algorithm)?;
        let (nonce, uri) = (unquote(self.nonce?), unquote(self.uri?));
        let respond = |ha1: &str| response(algorithm, ha1, &nonce, quality, &uri, request);
        Some(match (secret, algorithm) {
            (Secret::Password(password), _) => {
                let parts = [user.as_bytes(), realm.as_bytes(), password.as_bytes()];
                respond(algorithm.hash(&parts).as_str())
            }
            (Secret::Hashed { md5, .. }, Algorithm::Md5) => respond(&lower(md5.as_ref()?)),
            (Secret::Hashed { sha256, .. }, Algorithm::Sha256) => respond(&lower(sha256.as_ref()?)),
        })
    }

    fn quality(&self, algorithm: Algorithm) -> Option<Quality<'a>> {
        let Some(qop) = self.qop else {
            return (algorithm == Algorithm::Md5).then_some(Quality::Absent);
        };
        let known = ["auth", "auth-int"].iter().any(|known| known.eq_ignore_ascii_case(qop));
        let (count, cnonce) = (self.count?, self.cnonce?);
        known.then_some(Quality::Present { qop, count, cnonce })
    }
}

/// Hex in lower case; most of it is.
fn lower(hex: &str) -> Cow<'_, str> {
    match hex.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(hex.to_ascii_lowercase()),
        false => Cow::Borrowed(hex),
    }
}
