//! The proxy's part of the file.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::media::{Anchor, Latch, SameNat, Srtp};
use crate::config::session_timer::SessionTimer;
use crate::config::trunks::{MidRegistrar, Route};
use crate::config::values::{SipAddress, Span};

/// The proxy.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Proxy {
    /// When media is anchored, where listener, trunk and user say nothing.
    pub anchor: Anchor,
    /// Whom relay legs accept first.
    pub latch: Latch,
    /// How media is protected, where user, trunk and listener say nothing.
    pub srtp: Srtp,
    /// Two parties behind one public address.
    pub same_nat: SameNat,
    /// Relays to ask, in this order; none: the one in this file, if there is one.
    pub relays: Vec<SipAddress>,
    /// The redirect server to ask; none: the one in this file, if there is one.
    pub redirect: Option<SipAddress>,
    /// Addresses of our other proxies, whose proven verdicts count.
    pub siblings: Vec<IpAddr>,
    /// Phones register through us at a PBX, which keeps the accounts.
    pub mid_registrar: Option<MidRegistrar>,
    /// Where calls go that no registration answers for, first match.
    pub routes: Vec<Route>,
    /// How often a phone behind a NAT is sent OPTIONS; 0: never.
    pub keep_alive: Span,
    /// Threads that share the calls.
    pub lanes: u16,
    /// Calls at once; more are refused with 503.
    pub max_calls: u32,
    /// Registrations.
    pub registrations: Registrations,
    /// Session timers to ask for; none: what the ends agree on is theirs alone.
    pub session_timer: Option<SessionTimer>,
    /// Whether accounts are named to trunks by P-Asserted-Identity (RFC 3325).
    pub asserted_identity: bool,
    /// Timers.
    pub timers: Timers,
}

impl Default for Proxy {
    fn default() -> Proxy {
        Proxy {
            anchor: Anchor::default(),
            latch: Latch::default(),
            srtp: Srtp::default(),
            same_nat: SameNat::default(),
            relays: Vec::new(),
            redirect: None,
            siblings: Vec::new(),
            mid_registrar: None,
            routes: Vec::new(),
            keep_alive: Span(std::time::Duration::from_secs(25)),
            lanes: 1,
            max_calls: 100_000,
            registrations: Registrations::default(),
            session_timer: None,
            asserted_identity: false,
            timers: Timers::default(),
        }
    }
}

/// `udp`, `tcp` or `tls`. Nobody is called over a WebSocket he did not open (RFC 7118 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
    /// Encrypted streams.
    Tls,
}

/// How long registrations last.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Registrations {
    /// The shortest we grant (423 below).
    pub min: Span,
    /// The longest we grant.
    pub max: Span,
    /// What we grant when nothing is asked for.
    pub default: Span,
}

impl Default for Registrations {
    fn default() -> Registrations {
        let span = |secs| Span(std::time::Duration::from_secs(secs));
        Registrations { min: span(60), max: span(3600), default: span(3600) }
    }
}

/// Timers an operator may want to change.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Timers {
    /// How long a call may ring (RFC 3261 §16.6, timer C).
    pub ringing: Span,
    /// How long the relay and the redirect server may take to answer.
    pub lookup: Span,
    /// How long a call may last without a session timer.
    pub call_life: Span,
}

impl Default for Timers {
    fn default() -> Timers {
        let span = |secs| Span(std::time::Duration::from_secs(secs));
        Timers { ringing: span(185), lookup: span(3), call_life: span(24 * 3600) }
    }
}
