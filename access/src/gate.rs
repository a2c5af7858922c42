//! Who logs in: digest SHA-256 (RFC 8760), nothing kept for a challenge that is not answered; or the session's own key.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use proto::digest::{self, Algorithm, Credentials, NonceCheck, Nonces};
use proto::shield::{Deed, Outcome, What};
use proto::sip::{Builder, Message, Name, reply};
use proto::tables::{Secret, Tables, User};

/// What a request proved.
#[derive(Debug)]
pub(crate) enum Verdict {
    Proven(Arc<User>),
    Challenge(Builder),
    /// More wrong passwords than the source's limit: silence.
    Silence,
}

#[derive(Debug)]
pub(crate) struct Gate {
    nonces: Nonces,
    realm: String,
}

/// When and from where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub(crate) now: Instant,
    pub(crate) unix_ms: u64,
    pub(crate) source: IpAddr,
}

impl Gate {
    pub(crate) fn new(realm: &str, nonce_key: [u8; 32]) -> Gate {
        Gate { nonces: Nonces::new(nonce_key), realm: realm.to_owned() }
    }

    pub(crate) fn check(
        &self,
        visit: Visit,
        request: &Message,
        to_tag: &str,
        tables: &mut dyn Tables,
    ) -> Verdict {
        let Some(credentials) = self.credentials(request) else {
            return match judge(visit, "", false, What::Asks, tables) {
                true => self.challenge(visit, request, to_tag, false),
                false => Verdict::Silence,
            };
        };
        let name = credentials.username.unwrap_or_default();
        let user = credentials.username.and_then(|name| tables.user(name));
        let nobody = Secret::Password(String::new());
        let secret = user.as_ref().map_or(&nobody, |user| &user.secret);
        let covered = digest::Request { method: request.method().as_str(), body: request.body() };
        let strong = Algorithm::from_name(credentials.algorithm) == Some(Algorithm::Sha256);
        let proven = credentials.prove(secret, covered) && strong;
        match user.filter(|_| proven) {
            Some(user) if self.is_fresh(visit, &credentials, tables) => {
                judge(visit, name, true, What::Proves, tables);
                Verdict::Proven(user)
            }
            Some(_) => self.challenge(visit, request, to_tag, true),
            None if judge(visit, name, self.is_ours(visit, &credentials), What::Fails, tables) => {
                self.challenge(visit, request, to_tag, false)
            }
            None => Verdict::Silence,
        }
    }

    /// Whether the nonce is one of ours for this source: then it surely came from there.
    fn is_ours(&self, visit: Visit, credentials: &Credentials<'_>) -> bool {
        matches!(self.nonce(visit, credentials), NonceCheck::Fresh(_))
    }

    fn nonce(&self, visit: Visit, credentials: &Credentials<'_>) -> NonceCheck {
        let nonce = credentials.nonce.unwrap_or_default();
        self.nonces.check(visit.unix_ms, &self.realm, visit.source, nonce)
    }

    fn credentials<'a>(&self, request: &'a Message) -> Option<Credentials<'a>> {
        let lines = request.headers().filter(|header| header.name == Name::Authorization);
        let texts = lines.filter_map(|header| std::str::from_utf8(header.value).ok());
        texts.map(Credentials::read).find(|credentials| credentials.realm == Some(&self.realm))
    }

    fn is_fresh(&self, visit: Visit, credentials: &Credentials<'_>, tables: &mut dyn Tables) -> bool {
        let count = credentials.count.and_then(|nc| u32::from_str_radix(nc, 16).ok());
        match (self.nonce(visit, credentials), count) {
            (NonceCheck::Fresh(id), Some(count)) => tables.use_nonce(visit.now, id, count),
            _ => false,
        }
    }

    fn challenge(&self, visit: Visit, request: &Message, to_tag: &str, stale: bool) -> Verdict {
        let nonce = self.nonces.make(visit.unix_ms, &self.realm, visit.source);
        let challenge = digest::challenge(&self.realm, &nonce, Algorithm::Sha256, stale);
        Verdict::Challenge(reply(request, 401, to_tag).header(Name::WwwAuthenticate, challenge))
    }
}

/// Whether the shield lets it pass.
fn judge(visit: Visit, name: &str, real: bool, what: What, tables: &mut dyn Tables) -> bool {
    let deed = Deed { source: visit.source, real, name, what };
    tables.judge(visit.now, &deed).outcome == Outcome::Pass
}
