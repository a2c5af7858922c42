//! What a service must know at once: bindings, users, limits, used nonces.
//!
//! `host` implements [`Tables`] over concurrent maps shared by all lanes and keeps the durable part on disk (written
//! behind, within 100 ms); the world implements it over `BTreeMap`. Every method is one atomic operation and returns
//! values, never references. Each service has tables of its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::digest::Algorithm;
use crate::node::Flow;
use crate::shield::{Deed, Ruling};

/// What must be known at once. See the module.
pub trait Tables {
    /// The bindings of an address of record (`user@domain`, canonical), expired ones included, in no order that matters.
    fn bindings(&self, aor: &str) -> Vec<Binding>;

    /// Changes the bindings of one address of record as a single step: no other lane sees or makes a change in
    /// between. An empty list removes it. Durable. Gives back those that are there now.
    fn edit_bindings(&mut self, aor: &str, edit: &mut dyn FnMut(&mut Vec<Binding>)) -> Vec<Binding>;

    /// Every address of record with a binding: what a restarted lane walks through once.
    fn aors(&self) -> Vec<String>;

    /// The account with this digest user name.
    fn user(&self, name: &str) -> Option<Arc<User>>;

    /// The account an address of record belongs to.
    fn owner(&self, aor: &str) -> Option<Arc<User>>;

    /// Counts one event of a kind from a source; `false`: over its limit, so do as little as possible.
    fn admit(&mut self, now: Instant, kind: Limit, source: IpAddr) -> bool;

    /// What the shield says to something a source did. Tables without a shield let everything pass.
    fn judge(&mut self, _now: Instant, _deed: &Deed<'_>) -> Ruling {
        Ruling::PASS
    }

    /// Whether nothing from there is even to be read.
    fn shuts_out(&self, _now: Instant, _source: IpAddr) -> bool {
        false
    }

    /// Marks a nonce's count as used (RFC 7616 §3.4, `nc`). `false`: used before, or older than the 64 newest.
    fn use_nonce(&mut self, now: Instant, nonce: u64, count: u32) -> bool;

    /// Whether relay sessions outlive the process: else nobody needs to write them.
    fn keeps_sessions(&self) -> bool {
        false
    }

    /// Leaves a relay session behind, as its relay writes it; `None`: it has ended. Durable.
    fn keep_session(&mut self, session: u64, record: Option<&[u8]>) {
        let _ = (session, record);
    }

    /// The relay sessions a process before this one left behind.
    fn kept_sessions(&mut self) -> Vec<(u64, Vec<u8>)> {
        Vec::new()
    }

    /// Remembers a fact about a target until the end of the process, so that the next call decides better.
    fn remember(&mut self, fact: Fact, target: &str);

    /// Whether [`Tables::remember`] was told so.
    fn remembers(&self, fact: Fact, target: &str) -> bool;
}

/// Where one device of a user can be reached (RFC 3261 §10.3), and how we came to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The Contact URI as registered, without angle brackets.
    pub contact: String,
    /// Call-ID of the REGISTER that made or refreshed it.
    pub call_id: String,
    /// CSeq of that REGISTER.
    pub cseq: u32,
    /// Preference in thousandths, 0–1000.
    pub q: u16,
    /// When it ends, on the wall clock.
    pub expires: SystemTime,
    /// The path it registered by: the observed source, NATs included.
    pub flow: Flow,
    /// The host and port the device believes to have (topmost Via's sent-by at registration), as written.
    pub sent_by: String,
    /// Whether something between us and the device rewrites addresses (sent-by or Contact differ from the source).
    pub behind_nat: bool,
    /// Route set towards the device (RFC 3327), topmost first.
    pub path: Vec<String>,
    /// `+sip.instance` (RFC 5626), without quotes.
    pub instance: Option<String>,
    /// `reg-id` (RFC 5626).
    pub reg_id: Option<u32>,
    /// User-Agent, for the operator.
    pub agent: Option<String>,
    /// Unanswered keep-alives in a row; 3 make it unreachable until it answers or registers again.
    pub unanswered: u8,
}

/// Unanswered keep-alives that make a binding unreachable.
pub const UNREACHABLE: u8 = 3;

impl Binding {
    /// Whether it still holds at `wall`.
    pub fn is_live(&self, wall: SystemTime) -> bool {
        self.expires > wall
    }

    /// Whether keep-alives say that nobody is there.
    pub fn is_unreachable(&self) -> bool {
        self.unanswered >= UNREACHABLE
    }
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Digest user name.
    pub name: String,
    /// What proves it.
    pub secret: Secret,
    /// Addresses of record it may use in From and register (`user@domain`, canonical; `user@` alone: at any of our
    /// domains).
    pub aors: Vec<String>,
    /// Its own rule for media, if it has one.
    pub anchor: Option<Anchor>,
    /// Its own rule for latching, if it has one.
    pub latch: Option<Latch>,
    /// How its media is protected, if anything is said of it.
    pub srtp: Option<Srtp>,
    /// The digest algorithms it is offered, the preferred one first; empty: those of the listener.
    pub algorithms: Vec<Algorithm>,
}

/// What proves an account (RFC 7616 §3.4.2).
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The password itself.
    Password(String),
    /// `H(user:realm:password)`, lower-case hex, for the algorithms it was made for.
    Hashed {
        /// MD5.
        md5: Option<String>,
        /// SHA-256.
        sha256: Option<String>,
    },
}

impl Secret {
    /// Whether credentials made with this algorithm can be checked by it.
    pub fn can_prove(&self, algorithm: Algorithm) -> bool {
        match (self, algorithm) {
            (Secret::Password(_), _) => true,
            (Secret::Hashed { md5, .. }, Algorithm::Md5) => md5.is_some(),
            (Secret::Hashed { sha256, .. }, Algorithm::Sha256) => sha256.is_some(),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// When media goes through a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Anchor {
    /// Never.
    Never,
    /// When the table of the media decision says so.
    #[default]
    Auto,
    /// Always.
    Always,
}

/// Whom a relay leg accepts as its party's first packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Latch {
    /// The signalled address, or the party's signalling IP (IPv6: its /64).
    #[default]
    Strict,
    /// The same /24 (IPv6: /48).
    Prefix,
    /// Anybody.
    Any,
}

/// How a party's media is protected on its way to a relay of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Srtp {
    /// Its keys are the parties' own affair: packets pass as they come. Towards a party of another kind: plain RTP.
    #[default]
    Pass,
    /// Plain RTP.
    Plain,
    /// SRTP under keys in the SDP (RFC 4568).
    Sdes,
    /// SRTP under keys made by DTLS (RFC 5763), with ICE: a browser.
    Dtls,
}

impl Srtp {
    /// Each with its word in configuration and headers; the first is meant where nothing is said.
    pub const WORDS: [(&'static str, Srtp); 4] =
        [("pass", Srtp::Pass), ("plain", Srtp::Plain), ("sdes", Srtp::Sdes), ("dtls", Srtp::Dtls)];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        Srtp::WORDS.iter().find(|(_, srtp)| *srtp == self).map_or("", |(word, _)| word)
    }

    /// By its word, in lower case.
    pub fn from_name(name: &str) -> Option<Srtp> {
        Srtp::WORDS.iter().find(|(word, _)| *word == name).map(|(_, srtp)| *srtp)
    }
}

/// Kinds of events that are limited per source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    /// Any request outside a dialog.
    Request,
    /// A packet that is not SIP.
    Garbage,
}

/// What is worth remembering of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fact {
    /// Its answer showed, too late, that its media needs a relay: anchor from now on.
    NeedsRelay,
}
