//! Who sent this request (RFC 3261 §22, RFC 8760), before anything is allocated for it.
//!
//! Nothing is stored for a challenge that is not answered. A wrong password, an unknown user and a user who forgot
//! everything get the same answer after the same work. A right password under a nonce that has aged or has been used,
//! and anything under a nonce that we never made for that address, gets `stale=true`, so that the phone tries again
//! without asking anybody: whoever does not get our challenges can't try passwords, nor make another seem to.
//!
//! What each of these means for its source is the shield's to say ([`proto::shield`]).

use std::sync::Arc;

use proto::digest::{self, Algorithm, NonceCheck, Nonces};
use proto::event::Event;
use proto::node::Flow;
use proto::node_auth::Proof;
use proto::shield::{Deed, Outcome, Ruling, What};
use proto::sip::{Builder, Message, Method, Name, NameAddr, Reply, Uri};
use proto::tables::{Secret, Tables, User};

use crate::config::{Config, Listener};
use crate::gate::scanners::Scanners;
use crate::gate::{beside, validate};
use crate::moment::Moment;
use crate::registrar::aor;

/// Credentials for our realm beyond these are not looked at.
const MAX_CREDENTIALS: usize = 4;

/// Which of the two challenges: 407 with Proxy-Authenticate, or 401 with WWW-Authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// For what we forward.
    Proxy,
    /// For REGISTER.
    Registrar,
}

/// What a request proved.
#[derive(Debug)]
pub enum Verdict {
    /// Go on; the account, when it is one of ours.
    Accepted(Option<Arc<User>>),
    /// Answer with this: 401 or 407.
    Challenge(Builder),
    /// Answer with this status, and an event that says why.
    Refuse {
        /// Status.
        status: u16,
        /// For the operator.
        why: &'static str,
    },
    /// The shield says no: 503 to whom has proven itself (`later`), not a word to others.
    Shielded {
        /// Whether it may come back later.
        later: bool,
        /// For the operator.
        why: &'static str,
        /// What the shield did, if that is news.
        event: Option<Event>,
    },
}

/// Checks requests.
#[derive(Debug)]
pub struct Gate {
    nonces: Nonces,
    /// What an unknown user's credentials are checked against: as much work as a known one's.
    nobody: Secret,
    scanners: Scanners,
}

/// One request at the gate.
struct Visit<'a> {
    now: Moment,
    flow: &'a Flow,
    request: &'a Message,
    face: Face,
    reply: Reply<'a>,
    config: &'a Config,
}

/// What the credentials of a request are worth.
enum Credentials {
    /// They prove this account, freshly.
    Proven(Arc<User>),
    /// They prove an account, but the nonce has aged or was used.
    Stale,
    /// Their nonce was never ours, or another's: whether they prove anything is not looked at.
    Foreign,
    /// The shield won't have them.
    Shielded(Verdict),
    /// They prove nothing.
    Wrong,
    /// There are none for our realm.
    Absent,
    /// They were made for another request.
    Misplaced,
}

impl Gate {
    /// By the configuration's realm, algorithms and nonce key, on the lane of this index.
    pub fn new(config: &Config, lane: u16) -> Gate {
        let hash = |algorithm| Some(digest::hashed(algorithm, "", "", ""));
        let nobody = Secret::Hashed { md5: hash(Algorithm::Md5), sha256: hash(Algorithm::Sha256) };
        let nonces = Nonces::new(config.nonce_key).of_lane(lane);
        Gate { nonces, nobody, scanners: Scanners::new(&config.scanners) }
    }

    /// Whether this request may be served. Trusted trunks and proven siblings need no credentials and have no limit; a
    /// listener without authentication asks for none, but counts. What comes from this very machine is not counted.
    /// From must belong to the account. Called once per request outside of transactions of old, never
    /// for ACK and CANCEL, nor for requests that carry a token of ours. `reply` is for the challenge.
    #[allow(clippy::too_many_arguments)]
    pub fn check(
        &self,
        now: Moment,
        flow: &Flow,
        request: &Message,
        face: Face,
        reply: Reply<'_>,
        config: &Config,
        tables: &mut dyn Tables,
    ) -> Verdict {
        let visit = Visit { now, flow, request, face, reply, config };
        if visit.is_known() {
            return Verdict::Accepted(None);
        }
        if visit.is_from_trunk(tables) {
            return match self.credentials(&visit, tables) {
                Credentials::Proven(user) if visit.pretends(&user).is_none() => Verdict::Accepted(Some(user)),
                _ => Verdict::Accepted(None),
            };
        }
        let first = if self.scanners.are_named_in(visit.request) {
            Some(What::Scans)
        } else {
            (visit.is_open_listener() || visit.is_probe()).then_some(What::Uses)
        };
        if let Some(what) = first {
            return visit.judge(what, "", tables).unwrap_or(Verdict::Accepted(None));
        }
        match self.credentials(&visit, tables) {
            Credentials::Proven(user) => visit.identity(user),
            Credentials::Absent => self.stranger(&visit, false, tables),
            Credentials::Foreign => self.stranger(&visit, true, tables),
            Credentials::Stale => self.challenge(&visit, true, visit.claimed(tables).as_deref()),
            Credentials::Wrong => self.challenge(&visit, false, visit.claimed(tables).as_deref()),
            Credentials::Misplaced => {
                Verdict::Refuse { status: 400, why: "credentials were made for another request URI" }
            }
            Credentials::Shielded(verdict) => verdict,
        }
    }

    /// The first credentials for our realm that prove an account decide; if none do, the last ones.
    fn credentials(&self, visit: &Visit<'_>, tables: &mut dyn Tables) -> Credentials {
        let mut outcome = Credentials::Absent;
        for credentials in visit.credentials().take(MAX_CREDENTIALS) {
            outcome = self.one_credential(visit, &credentials, tables);
            if matches!(outcome, Credentials::Proven(_) | Credentials::Misplaced | Credentials::Shielded(_)) {
                break;
            }
        }
        outcome
    }

    /// The nonce first: without one of ours for this source, nothing else of them matters.
    fn one_credential(
        &self,
        visit: &Visit<'_>,
        credentials: &digest::Credentials<'_>,
        tables: &mut dyn Tables,
    ) -> Credentials {
        let (name, nonce) = (credentials.username.unwrap_or_default(), credentials.nonce);
        let Some(nonce) = nonce.filter(|nonce| !nonce.is_empty()) else { return Credentials::Absent };
        let check = self.nonces.check(visit.now.unix_ms(), &visit.config.realm, visit.source(), nonce);
        if check == NonceCheck::Foreign {
            return Credentials::Foreign;
        }
        if let Some(verdict) = visit.judge(What::Tries, name, tables) {
            return Credentials::Shielded(verdict);
        }
        match visit.account(credentials, name, &self.nobody, tables) {
            Some(_) if !visit.is_for_this_uri(credentials) => Credentials::Misplaced,
            Some(user) if is_fresh(visit, check, credentials, tables) => visit
                .judge(What::Proves, name, tables)
                .map_or(Credentials::Proven(user), Credentials::Shielded),
            Some(_) => Credentials::Stale,
            None => visit.judge(What::Fails, name, tables).map_or(Credentials::Wrong, Credentials::Shielded),
        }
    }

    /// Somebody we have no proof of: challenged, unless that has been asked too often.
    fn stranger(&self, visit: &Visit<'_>, stale: bool, tables: &mut dyn Tables) -> Verdict {
        let claimed = visit.claimed(tables);
        let user = || visit.request.from().ok().and_then(|from| from.uri().ok()).map_or("", |uri| uri.user);
        let name = claimed.as_deref().map_or_else(user, |user| &user.name);
        let refused = visit.judge(What::Asks, name, tables);
        refused.unwrap_or_else(|| self.challenge(visit, stale, claimed.as_deref()))
    }

    /// RFC 8760 §2.4: a challenge for each algorithm, the preferred one first. Whose algorithms those are, From says; an
    /// account with some of its own can be told from a stranger by that.
    fn challenge(&self, visit: &Visit<'_>, stale: bool, claimed: Option<&User>) -> Verdict {
        let realm = &visit.config.realm;
        let nonce = self.nonces.make(visit.now.unix_ms(), realm, visit.source());
        let (status, name) = match visit.face {
            Face::Proxy => (407, Name::ProxyAuthenticate),
            Face::Registrar => (401, Name::WwwAuthenticate),
        };
        let offered = visit.algorithms(claimed);
        let response = offered.fold(visit.reply.to(visit.request, status), |response, algorithm| {
            response.text(name, &digest::challenge(realm, &nonce, algorithm, stale))
        });
        Verdict::Challenge(response)
    }
}

impl<'a> Visit<'a> {
    fn source(&self) -> std::net::IpAddr {
        self.flow.remote.ip()
    }

    /// What the shield says to it, unless it says nothing. A connection is as good a proof of a source as a nonce is.
    fn judge(&self, what: What, name: &str, tables: &mut dyn Tables) -> Option<Verdict> {
        let knows_nonce = matches!(what, What::Tries | What::Fails | What::Proves);
        let real = self.flow.transport.is_reliable() || knows_nonce;
        let deed = Deed { source: self.source(), real, name, what };
        shielded(&deed, tables.judge(self.now.at, &deed))
    }

    /// The account that From says it is.
    fn claimed(&self, tables: &dyn Tables) -> Option<Arc<User>> {
        let from = self.request.from().ok().and_then(|from| aor::canonical(&from.uri().ok()?, self.config));
        from.and_then(|aor| tables.owner(&aor))
    }

    /// The account these credentials prove. An unknown one costs as much work as a wrong password.
    fn account(
        &self,
        credentials: &digest::Credentials<'_>,
        name: &str,
        nobody: &Secret,
        tables: &dyn Tables,
    ) -> Option<Arc<User>> {
        let user = tables.user(name);
        let secret = user.as_ref().map_or(nobody, |user| &user.secret);
        let (method, body) = (self.request.method(), self.request.body());
        let request = digest::Request { method: method.as_str(), body };
        let proven = credentials.prove(secret, request);
        user.filter(|user| proven && self.offers(credentials, Some(user)))
    }

    /// ACK and CANCEL can't be answered with a challenge (RFC 3261 §22.1); the others here are known by other means.
    fn is_known(&self) -> bool {
        matches!(self.request.method(), Method::Ack | Method::Cancel)
            || beside::is_server(self.flow, self.config)
            || self.is_proven_sibling()
    }

    /// A trusted trunk sends it, unless credentials prove that somebody beside the trunk does (see [`beside`]).
    fn is_from_trunk(&self, tables: &dyn Tables) -> bool {
        self.face == Face::Proxy
            && self.config.trunk_from(self.source()).is_some()
            && !beside::is_phone(self.request.from().ok(), self.flow, self.config, tables)
    }

    /// A listener we don't know asks for credentials: better than to forget to.
    fn is_open_listener(&self) -> bool {
        self.listener().is_some_and(|listener| !listener.authenticate)
    }

    /// OPTIONS that asks after us and goes no further (RFC 3261 §11): trunks and operators see by it whether we live. It
    /// costs what a challenge costs.
    fn is_probe(&self) -> bool {
        self.request.method() == Method::Options
            && self.request.text(Name::Route).is_none()
            && validate::is_for_us(self.request, self.config)
    }

    fn is_proven_sibling(&self) -> bool {
        let key = self.config.siblings.key.as_ref().filter(|_| self.config.is_sibling(self.source()));
        key.is_some_and(|key| key.check(self.request, self.now.unix()) == Proof::Proven)
    }

    /// The credentials this request brings for our realm.
    fn credentials(&self) -> impl Iterator<Item = digest::Credentials<'a>> {
        let name = match self.face {
            Face::Proxy => Name::ProxyAuthorization,
            Face::Registrar => Name::Authorization,
        };
        let realm = self.config.realm.as_str();
        let all = self.request.texts(name).map(digest::Credentials::read);
        all.filter(move |credentials| credentials.is_digest && credentials.realm == Some(realm))
    }

    /// Whether the credentials use an algorithm we offer: a weaker one is not let in by asking for it.
    fn offers(&self, credentials: &digest::Credentials<'_>, user: Option<&User>) -> bool {
        let used = Algorithm::from_name(credentials.algorithm);
        used.is_some_and(|used| self.algorithms(user).any(|offered| offered == used))
    }

    /// What this account is offered: its own algorithms, else the listener's, else everybody's; of these what its
    /// secret can prove, or, if that is none, whatever its secret can.
    fn algorithms<'u>(&'u self, user: Option<&'u User>) -> impl Iterator<Item = Algorithm> + 'u {
        const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Md5];
        let listener = self.listener().map_or(&[][..], |listener| &listener.algorithms);
        let own = user.map_or(&[][..], |user| &user.algorithms);
        let chosen = [own, listener].into_iter().find(|choice| !choice.is_empty());
        let chosen = chosen.unwrap_or(&self.config.algorithms);
        let provable = move |algorithm: &Algorithm| user.is_none_or(|user| user.secret.can_prove(*algorithm));
        let those = if chosen.iter().any(provable) { chosen } else { &ALL };
        those.iter().copied().filter(provable)
    }

    fn listener(&self) -> Option<&'a Listener> {
        let index = self.config.listener_at(self.flow.transport, self.flow.local)?;
        self.config.listeners.get(index)
    }

    /// RFC 7616 §3.4.6. Some phones write only the domain, or our address; another user is another call.
    fn is_for_this_uri(&self, credentials: &digest::Credentials<'_>) -> bool {
        let written = credentials.uri.unwrap_or_default();
        if written == self.request.request_uri() {
            return true;
        }
        let (Ok(written), Ok(actual)) = (Uri::parse(written), self.request.uri()) else { return false };
        let same_host = written.host.eq_ignore_ascii_case(actual.host);
        ((written.user.is_empty() || written.user == actual.user)
            && (same_host || self.config.is_ours(written.host, None)))
            || written.is_equivalent(&actual)
    }

    /// The account is proven; now what it calls itself (From), and whom it registers (To), must be its own. Nobody
    /// registers anonymously, but may call so (RFC 3323 §4.1.1.3).
    fn identity(&self, user: Arc<User>) -> Verdict {
        match self.pretends(&user) {
            Some(why) => Verdict::Refuse { status: 403, why },
            None => Verdict::Accepted(Some(user)),
        }
    }

    /// In what a request claims another's identity than this account's.
    fn pretends(&self, user: &User) -> Option<&'static str> {
        let owns = |address: Result<NameAddr<'_>, _>| {
            let uri = address.ok().and_then(|address| address.uri().ok());
            uri.and_then(|uri| aor::canonical(&uri, self.config))
                .is_some_and(|aor| aor::belongs(user, &aor, self.config))
        };
        let registers = self.request.method() == Method::Register;
        let (from, to) = (self.request.from(), self.request.to());
        if !owns(from) && (registers || !self.is_anonymous()) {
            return Some("From does not belong to the account");
        }
        let is_same = from.is_ok_and(|from| to.is_ok_and(|to| from.raw_uri == to.raw_uri));
        (registers && !is_same && !owns(to)).then_some("the account may not register this address")
    }

    fn is_anonymous(&self) -> bool {
        let from = self.request.from().ok().and_then(|from| from.uri().ok());
        from.is_some_and(|uri| uri.host.eq_ignore_ascii_case("anonymous.invalid"))
    }
}

/// What is to be done when the shield does not let pass.
fn shielded(deed: &Deed<'_>, ruling: Ruling) -> Option<Verdict> {
    let event = ruling.notice.map(|measure| Event::Shielded {
        source: deed.source,
        account: deed.name.into(),
        measure,
        why: ruling.why,
    });
    match ruling.outcome {
        Outcome::Pass => None,
        outcome => Some(Verdict::Shielded { later: outcome == Outcome::Later, why: ruling.why, event }),
    }
}

/// Whether the nonce is young, and this count of it was never seen. Only asked for credentials that prove an account,
/// so that nobody else makes us remember nonces.
fn is_fresh(
    visit: &Visit<'_>,
    check: NonceCheck,
    credentials: &digest::Credentials<'_>,
    tables: &mut dyn Tables,
) -> bool {
    match (check, count(credentials)) {
        (NonceCheck::Fresh(id), Some(count)) => tables.use_nonce(visit.now.at, id, count),
        _ => false,
    }
}

/// The nonce count; 1 for credentials of RFC 2069, which have none: their nonce serves once. `None`: unreadable.
fn count(credentials: &digest::Credentials<'_>) -> Option<u32> {
    match credentials.count {
        Some(nc) => u32::from_str_radix(nc, 16).ok(),
        None => Some(1),
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
