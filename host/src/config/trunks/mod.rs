//! Trunks and routes as they stand in the file. [`check`] refuses what can't work, [`lower`] makes the proxy's own
//! configuration of it.

pub mod check;
pub mod headers;
pub mod http;
pub mod lower;

use std::time::Duration;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::schema::{Anchor, Latch, RouteTls, Srtp, Transport};
use super::values::{Cidr, Listed, Span};

/// A carrier, a PBX or a peer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Trunk {
    /// Where its calls go.
    pub servers: Listed<Server>,
    /// Transport of servers that name none; none: UDP for an address, what DNS says for a name.
    pub transport: Option<Transport>,
    /// Its calls come in without a login (registrations do not), its 302s are followed, its media is sent to before it speaks.
    pub trusted: bool,
    /// Where its calls come from; none: from those servers that are addresses.
    pub sources: Vec<Cidr>,
    /// Domains in the certificate it shows when it connects to us; none: `sources` is what it is known by.
    pub certificate_names: Vec<String>,
    /// Its own rule for anchoring.
    pub anchor: Option<Anchor>,
    /// Its own rule for latching.
    pub latch: Option<Latch>,
    /// How its media is protected.
    pub srtp: Option<Srtp>,
    /// How often each server is asked with OPTIONS whether it is there; 0: never.
    pub probe: Span,
    /// How long a server may say nothing at all before the next one is tried.
    pub try_timeout: Span,
    /// Calls at once, both ways together; 0: no limit.
    pub max_calls: u32,
    /// Calls begun towards it in a second; 0: no limit.
    pub calls_per_second: u32,
    /// Host of the request URI of calls that go there; none: it stays.
    pub domain: Option<String>,
    /// Who we are to it: its challenges are answered with that.
    pub credentials: Option<Credentials>,
    /// How we register there; none: we don't.
    pub register: Option<Register>,
    /// What is changed in messages from it and to it.
    pub headers: Vec<HeaderRule>,
    /// Certificates towards it.
    pub tls: Option<RouteTls>,
}

impl Default for Trunk {
    fn default() -> Trunk {
        let span = |seconds| Span(Duration::from_secs(seconds));
        Trunk {
            servers: Listed::default(),
            transport: None,
            trusted: true,
            sources: Vec::new(),
            certificate_names: Vec::new(),
            anchor: None,
            srtp: None,
            latch: None,
            probe: span(30),
            try_timeout: span(4),
            max_calls: 0,
            calls_per_second: 0,
            domain: None,
            credentials: None,
            register: None,
            headers: Vec::new(),
            tls: None,
        }
    }
}

/// Phones register through us at a PBX. A trunk's name alone stands for the rest at its defaults.
#[derive(Clone, Debug, Serialize)]
pub struct MidRegistrar {
    /// The PBX.
    pub trunk: String,
    /// For how long the PBX is asked to remember a phone.
    pub expires: Span,
    /// How often a phone behind a NAT has to show up.
    pub behind_nat: Span,
}

/// [`MidRegistrar`] with all its keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct MidTable {
    trunk: String,
    #[serde(default = "hour")]
    expires: Span,
    #[serde(default = "two_minutes")]
    behind_nat: Span,
}

fn hour() -> Span {
    Span(Duration::from_secs(3600))
}

fn two_minutes() -> Span {
    Span(Duration::from_secs(120))
}

impl<'de> Deserialize<'de> for MidRegistrar {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<MidRegistrar, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = MidRegistrar;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a trunk's name, or `{ trunk: NAME, expires: 1h, behind-nat: 2m }`")
            }

            fn visit_str<E: de::Error>(self, trunk: &str) -> Result<MidRegistrar, E> {
                let (expires, behind_nat) = (hour(), two_minutes());
                Ok(MidRegistrar { trunk: trunk.to_owned(), expires, behind_nat })
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<MidRegistrar, M::Error> {
                let table = MidTable::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let MidTable { trunk, expires, behind_nat } = table;
                Ok(MidRegistrar { trunk, expires, behind_nat })
            }
        }
        de.deserialize_any(Either)
    }
}

/// Who we are to a trunk.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Credentials {
    /// Digest user name.
    pub user: String,
    /// Its password.
    #[serde(skip_serializing)]
    pub password: String,
    /// The realm it is for; none: whichever asks.
    #[serde(default)]
    pub realm: Option<String>,
}

/// How we register at a trunk.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Register {
    /// User part of our address there; none: that of the credentials.
    pub user: Option<String>,
    /// Its domain; none: the trunk's `domain`, else the registrar's name.
    pub domain: Option<String>,
    /// Where REGISTER goes; none: the first server.
    pub registrar: Option<String>,
    /// For how long.
    pub expires: Span,
    /// User part of our Contact, whom calls from there are for; none: `user`.
    pub contact: Option<String>,
}

impl Default for Register {
    fn default() -> Register {
        let expires = Span(Duration::from_secs(3600));
        Register { user: None, domain: None, registrar: None, expires, contact: None }
    }
}

/// One change to headers: exactly one of `add`, `remove` and `rewrite`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HeaderRule {
    /// Messages from the trunk, or to it.
    pub on: On,
    /// Methods it is for; none: all.
    #[serde(default)]
    pub methods: Listed<String>,
    /// For responses with this status: `486`, `4xx`, `400-499`; none: for requests.
    #[serde(default)]
    pub status: Option<String>,
    /// A header line: `X-Name: value`.
    #[serde(default)]
    pub add: Option<String>,
    /// A header's name.
    #[serde(default)]
    pub remove: Option<String>,
    /// A header's name, or `request-uri`.
    #[serde(default)]
    pub rewrite: Option<String>,
    /// For `add`: only if this header (or `request-uri`) matches; its captures may stand in the value.
    #[serde(default)]
    pub of: Option<String>,
    /// A regular expression with captures.
    #[serde(default, rename = "match")]
    pub find: Option<String>,
    /// What a match becomes; `$1` is the first capture, `${1}` before a letter or a digit.
    #[serde(default)]
    pub with: Option<String>,
}

/// `in` or `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum On {
    /// From the trunk.
    In,
    /// Towards it.
    Out,
}

/// A server of a trunk: an address or a host name alone, or with its place among the others.
#[derive(Clone, Debug, Serialize)]
pub struct Server {
    /// Address or host name.
    pub to: String,
    /// Lower ones are tried first.
    pub priority: u16,
    /// Share of the calls among servers of the same priority.
    pub weight: u16,
}

/// [`Server`] with all its keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ServerTable {
    to: String,
    #[serde(default)]
    priority: u16,
    #[serde(default = "one")]
    weight: u16,
}

fn one() -> u16 {
    1
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Server, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Server;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a server such as `udp:192.0.2.1:5060`, or `{ to: …, priority: 1, weight: 1 }`")
            }

            fn visit_str<E: de::Error>(self, to: &str) -> Result<Server, E> {
                Ok(Server { to: to.to_owned(), priority: 0, weight: 1 })
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Server, M::Error> {
                let table = ServerTable::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Server { to: table.to, priority: table.priority, weight: table.weight })
            }
        }
        de.deserialize_any(Either)
    }
}

/// Where calls go that no registration answers for.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Route {
    /// Callees it serves: `*`, a domain, `user@domain`, a number, or a prefix of the user part such as `+49*`.
    pub to: String,
    /// Whose calls it serves: `users`, `trunks`, a trunk's name, a listener (`udp:192.0.2.1:5060`) or a network; none:
    /// everybody's.
    pub from: Listed<String>,
    /// So many characters are taken off the front of the number …
    pub strip: usize,
    /// … and these are put there.
    pub prefix: String,
    /// Trunks to go by, the first that works.
    pub trunks: Listed<String>,
    /// DNS is asked by which URI the number is reached (RFC 6116), under this suffix: `e164.arpa`; then `trunks`, if there
    /// are any.
    #[serde(rename = "enum")]
    pub enum_suffix: Option<String>,
    /// A server of ours is asked by HTTP; then `trunks`, if there are any, else the next route.
    pub http: Option<http::Http>,
    /// A user of ours to go to: `alice`, `alice@example.org`, or a SIP URI.
    pub user: Option<String>,
    /// Refused, with this status.
    pub refuse: Option<u16>,
    /// A single next hop, without a trunk: an address, or a host name that is resolved (RFC 3263).
    pub via: Option<String>,
    /// For `via`: its transport; none: UDP for an address, what DNS says for a name.
    pub transport: Option<Transport>,
    /// For `via`: its calls come in without a login, its 302s are followed, its media is sent to before it speaks.
    pub trusted: bool,
    /// For `via`: where calls of a trusted one come from; none: from `via`, when that is an address.
    pub sources: Vec<Cidr>,
    /// For `via`: its own rule for anchoring.
    pub anchor: Option<Anchor>,
    /// For `via`: its own rule for latching.
    pub latch: Option<Latch>,
    /// For `via`: how its media is protected.
    pub srtp: Option<Srtp>,
    /// For `via`: certificates towards it.
    pub tls: Option<RouteTls>,
}

impl Default for Route {
    fn default() -> Route {
        Route {
            to: "*".into(),
            from: Listed::default(),
            strip: 0,
            prefix: String::new(),
            trunks: Listed::default(),
            enum_suffix: None,
            http: None,
            user: None,
            refuse: None,
            via: None,
            transport: None,
            trusted: false,
            sources: Vec::new(),
            anchor: None,
            srtp: None,
            latch: None,
            tls: None,
        }
    }
}

impl Route {
    /// What it does, in a word or two.
    pub fn goal(&self) -> String {
        match self {
            Route { via: Some(via), .. } => via.clone(),
            Route { user: Some(user), .. } => format!("user {user}"),
            Route { enum_suffix: Some(suffix), trunks, .. } if trunks.0.is_empty() => {
                format!("ENUM {suffix}")
            }
            Route { enum_suffix: Some(suffix), trunks, .. } => {
                format!("ENUM {suffix}, {}", trunks.0.join(", "))
            }
            Route { http: Some(http), trunks, .. } => {
                let own = trunks.0.iter().map(String::as_str);
                std::iter::once(http.lookup().server()).chain(own).collect::<Vec<_>>().join(", ")
            }
            Route { refuse: Some(status), .. } => format!("{status}"),
            Route { trunks, .. } => trunks.0.join(", "),
        }
    }
}
