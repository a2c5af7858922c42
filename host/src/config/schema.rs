//! What may stand in the configuration file. Every key has a default that works; an unknown one is refused.
//!
//! This is the file as written. [`super::check`] holds what no single value can tell (clashes, limits of the machine),
//! [`super::lower`] makes the services' own configurations of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::peers::{Access, Reflector};
use super::session_timer::SessionTimer;
use super::shield::Shield;
use super::trunks::{MidRegistrar, Route, Trunk};
use super::values::{Cidr, Ports, SipAddress, Span};

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct File {
    /// Where we stand, by name; none: one network, named `default`, around the listeners' addresses.
    pub networks: BTreeMap<String, Network>,
    /// Where the proxy (and a redirect server of the same process) listens.
    pub listeners: Vec<Listener>,
    /// Certificates, and whom we believe.
    pub tls: Tls,
    /// What is ours besides the listeners' addresses.
    pub domains: Vec<String>,
    /// Accounts.
    pub users: Users,
    /// How accounts prove themselves.
    pub auth: Auth,
    /// Carriers, PBXs and peers, by name.
    pub trunks: BTreeMap<String, Trunk>,
    /// Serves calls.
    pub proxy: Option<Proxy>,
    /// Lends media ports.
    pub relay: Option<Relay>,
    /// Tells who serves whom.
    pub redirect: Option<Redirect>,
    /// Where peers log in, and learn how to reach one another.
    pub access: Option<Access>,
    /// Passes on first messages of peers that keep one another out.
    pub reflector: Option<Reflector>,
    /// What our own nodes prove themselves with; the same on all of them.
    pub node_key: Option<String>,
    /// What sources and accounts may do before they are slowed down or banned.
    pub shield: Shield,
    /// The socket of `postern status` and the like; none: beside the store, else in the run-time folder.
    pub control: Option<PathBuf>,
    /// Where bindings and keys are kept; none: in memory only.
    pub store: Option<PathBuf>,
    /// What is logged.
    pub log: Log,
}

/// One network we have an address in.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Network {
    /// Our address in it.
    pub bind: IpAddr,
    /// What others see it as (one-to-one NAT); none: `bind`.
    #[serde(default)]
    pub advertise: Option<IpAddr>,
    /// Who is in it; none: everybody who is in no other.
    #[serde(default)]
    pub cidr: Vec<Cidr>,
    /// What leaves towards it tells nothing of the other networks: Via, Record-Route, Path and Contact are hidden.
    #[serde(default)]
    pub hide_topology: bool,
    /// It is gone from the file, and a listener in it still has calls.
    #[serde(skip)]
    pub closing: bool,
}

/// One socket for SIP.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Listener {
    /// Transport, address and port. `0.0.0.0` and `[::]` stand for every address of this machine.
    pub address: SipAddress,
    /// In which network it stands; none: the one with its address.
    #[serde(default)]
    pub network: Option<String>,
    /// When media of calls that come in here is anchored; none: as the proxy says.
    #[serde(default)]
    pub anchor: Option<Anchor>,
    /// How media of parties met here is protected; none: as the proxy says, for WS and WSS `dtls`.
    #[serde(default)]
    pub srtp: Option<Srtp>,
    /// Digest algorithms offered here, in this order; none: as `auth` says.
    #[serde(default)]
    pub algorithms: Vec<Algorithm>,
    /// For TLS and WSS: what is different here from the file's `tls`.
    #[serde(default)]
    pub tls: ListenerTls,
    /// For WS and WSS: the web pages that may connect, such as `https://phone.example.org`; none: all.
    #[serde(default)]
    pub origins: Vec<String>,
    /// The address as written, before a wildcard became this machine's addresses and port 0 a port.
    #[serde(skip)]
    pub written: Option<SipAddress>,
    /// What it is there for: one that is gone from the file closes when nothing needs it any more.
    #[serde(skip)]
    pub standing: proxy::config::Standing,
}

impl Listener {
    /// With every key as it is when it is left out.
    pub fn at(address: SipAddress) -> Listener {
        Listener {
            address,
            network: None,
            anchor: None,
            srtp: None,
            algorithms: Vec::new(),
            tls: ListenerTls::default(),
            origins: Vec::new(),
            written: None,
            standing: Default::default(),
        }
    }
}

/// Certificates, and whom we believe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Tls {
    /// What TLS and WSS listeners show, chosen by the name a client asks for; the first when it asks for none. The first
    /// is also what we show to servers that ask.
    pub certificates: Vec<Certificate>,
    /// Authorities of the servers we connect to; none: those of this machine.
    pub authorities: Option<PathBuf>,
    /// Authorities of the clients that connect to us.
    pub client_authorities: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_certificates: ClientCertificates,
    /// Whether `*.example.org` in a server's certificate counts for `sip.example.org`. RFC 5922 says no.
    pub wildcards: bool,
}

/// What a listener does otherwise; what is not said is as in the file's `tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ListenerTls {
    /// What it shows.
    pub certificates: Vec<Certificate>,
    /// Authorities of its clients.
    pub client_authorities: Option<PathBuf>,
    /// Whether its clients show a certificate.
    pub client_certificates: Option<ClientCertificates>,
}

/// What we show to a trunk, and how it proves itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RouteTls {
    /// The certificate we show; none: the first of the file's `tls`.
    pub certificate: Option<Certificate>,
    /// Authorities of its certificate; none: as the file's `tls` says.
    pub authorities: Option<PathBuf>,
}

/// A certificate and its key, as PEM files (relative to the configuration).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Certificate {
    /// The certificate, and its issuers after it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `none`, `optional` or `required`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    None,
    /// They may show one, which must be good.
    Optional,
    /// They must show one.
    Required,
}

/// `never`, `auto` or `always`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anchor {
    /// Media goes directly, whatever is seen.
    Never,
    /// By the table of the media decision.
    #[default]
    Auto,
    /// Media goes through a relay, whatever is seen.
    Always,
}

/// `strict`, `prefix` or `any`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Latch {
    /// The signalled address or the party's signalling address.
    #[default]
    Strict,
    /// Its /24 (IPv6: /48).
    Prefix,
    /// Whoever comes first.
    Any,
}

/// `pass`, `plain`, `sdes` or `dtls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Srtp {
    /// Keys are the parties' own affair.
    #[default]
    Pass,
    /// Plain RTP.
    Plain,
    /// SRTP under keys in the SDP.
    Sdes,
    /// SRTP under keys made by DTLS, with ICE: a browser.
    Dtls,
}

/// Accounts: a list, or the name of a file with one (relative to the configuration).
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Users {
    /// Written here.
    Inline(Vec<User>),
    /// In a file of their own, read again at every reload.
    File(PathBuf),
}

impl Default for Users {
    fn default() -> Users {
        Users::Inline(Vec::new())
    }
}

impl<'de> Deserialize<'de> for Users {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Users, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Users;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of users or the name of a file with one")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<Users, E> {
                Ok(Users::File(path.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Users, A::Error> {
                let mut users = Vec::new();
                while let Some(user) = seq.next_element()? {
                    users.push(user);
                }
                Ok(Users::Inline(users))
            }
        }
        de.deserialize_any(Either)
    }
}

/// One account.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct User {
    /// Digest user name.
    pub name: String,
    /// Its password …
    #[serde(default)]
    pub password: Option<String>,
    /// … or `H(name:realm:password)`, so that the file does not give it away.
    #[serde(default)]
    pub ha1: Option<Ha1>,
    /// Addresses of record it may use; none: its name at any of our domains.
    #[serde(default)]
    pub aors: Vec<String>,
    /// Its own rule for anchoring.
    #[serde(default)]
    pub anchor: Option<Anchor>,
    /// Its own rule for latching.
    #[serde(default)]
    pub latch: Option<Latch>,
    /// How its media is protected.
    #[serde(default)]
    pub srtp: Option<Srtp>,
    /// Digest algorithms offered to it, in this order; none: as the listener says.
    #[serde(default)]
    pub algorithms: Vec<Algorithm>,
}

/// Hashed passwords, lower-case hex (RFC 7616 §3.4.2).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Ha1 {
    /// MD5.
    pub md5: Option<String>,
    /// SHA-256.
    pub sha_256: Option<String>,
}

/// How accounts prove themselves.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Auth {
    /// Whether callers and registrations must.
    pub required: bool,
    /// The realm; none: the first domain.
    pub realm: Option<String>,
    /// Offered in this order (RFC 8760). MD5 alone unless said otherwise: phones from before RFC 8760 give up when any
    /// challenge names another algorithm, in whatever order (baresip 1.0 of Debian 12: "Function not implemented").
    pub algorithms: Vec<Algorithm>,
}

impl Default for Auth {
    fn default() -> Auth {
        Auth { required: true, realm: None, algorithms: vec![Algorithm::Md5] }
    }
}

/// A digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Algorithm {
    /// SHA-256.
    #[serde(rename = "sha-256")]
    Sha256,
    /// MD5.
    #[serde(rename = "md5")]
    Md5,
}

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

/// What to do with two parties behind one public address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SameNat {
    /// Anchor: their NAT may not let them meet.
    #[default]
    Anchor,
    /// Trust that they meet on their LAN.
    Direct,
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

/// The relay.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Relay {
    /// Where proxies reach it.
    pub address: SipAddress,
    /// Media ports, in each network.
    pub ports: Ports,
    /// Networks it lends ports in; none: all.
    pub networks: Vec<String>,
    /// Threads that carry media. 0: the proxy's own thread does, which spares each call a few wake-ups and suits a small
    /// site; much signalling then delays media.
    pub threads: u16,
    /// A port for each party, or one for both.
    pub mode: RelayMode,
    /// How long no media may come before a call counts as dead.
    pub media_timeout: Span,
    /// Sessions at once; more are refused with 503. 0: as many as there are ports.
    pub max_sessions: u32,
    /// Where calls are recorded when that is asked for, and how much of them is kept.
    pub record: Record,
    /// Pairs of ports each thread opens in each network at the start; more are opened when they are needed. A port rests
    /// for 5 s between two sessions, so ten times the calls a second spare every call the opening of its ports.
    pub open_at_start: u32,
    /// Whether streams of latched parties go on in the kernel, past this host's own firewall rules. Needs CAP_BPF and
    /// CAP_NET_ADMIN, Linux 6.6 or later, and Ethernet interfaces; without them media goes its ordinary way.
    pub kernel_path: bool,
    /// rtpengine's control protocol, for Kamailio, OpenSIPS and others; none: not spoken.
    pub ng: Option<Ng>,
}

impl Relay {
    /// Where it listens: for proxies, then for ng clients.
    pub fn addresses(&self) -> impl Iterator<Item = SipAddress> + '_ {
        std::iter::once(self.address).chain(self.ng.iter().flat_map(|ng| ng.listen.iter().copied()))
    }
}

impl Default for Relay {
    fn default() -> Relay {
        Relay {
            address: SipAddress::udp(([127, 0, 0, 1], 5090).into()),
            ports: Ports { first: 20_000, last: 29_999 },
            networks: Vec::new(),
            threads: 1,
            mode: RelayMode::default(),
            media_timeout: Span(std::time::Duration::from_secs(120)),
            max_sessions: 0,
            record: Record::default(),
            open_at_start: 64,
            kernel_path: false,
            ng: None,
        }
    }
}

/// Recordings.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Record {
    /// Their folder; none: `recordings` beside the store, else in the folder for temporary files.
    pub folder: Option<PathBuf>,
    /// How large one may grow.
    pub megabytes: u32,
    /// How many are kept; the oldest go first.
    pub files: u32,
}

impl Default for Record {
    fn default() -> Record {
        Record { folder: None, megabytes: 100, files: 100 }
    }
}

/// Where ng commands come in, and from whom. One address, or several, may be written alone.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ng {
    /// Addresses it listens on.
    pub listen: Vec<SipAddress>,
    /// Who may command: the protocol proves nothing, so that an address is all there is to go by.
    pub allow: Vec<Cidr>,
    /// Whom a leg accepts first.
    pub latch: Latch,
}

impl Ng {
    fn at(listen: Vec<SipAddress>) -> Ng {
        let loopback = ["127.0.0.0/8", "::1/128"].iter().filter_map(|range| range.parse().ok());
        Ng { listen, allow: loopback.collect(), latch: Latch::Strict }
    }
}

/// The same written out: a list needs no brackets when it has one entry.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct NgInFull {
    listen: OneOrMore<SipAddress>,
    allow: Option<OneOrMore<Cidr>>,
    #[serde(default)]
    latch: Latch,
}

impl<'de> Deserialize<'de> for Ng {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Ng, D::Error> {
        struct Shape;
        impl<'de> Visitor<'de> for Shape {
            type Value = Ng;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "an address such as `udp:127.0.0.1:2223`, a list of them, or a mapping with `listen`",
                )
            }

            fn visit_str<E: de::Error>(self, address: &str) -> Result<Ng, E> {
                address.parse().map(|address| Ng::at(vec![address])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Ng, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Ng::at)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Ng, A::Error> {
                let full = NgInFull::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let ng = Ng { latch: full.latch, ..Ng::at(full.listen.0) };
                Ok(Ng { allow: full.allow.map_or(ng.allow, |allow| allow.0), ..ng })
            }
        }
        de.deserialize_any(Shape)
    }
}

/// A value, or a list of them.
struct OneOrMore<T>(Vec<T>);

impl<'de, T: Deserialize<'de> + std::str::FromStr<Err = String>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<OneOrMore<T>, D::Error> {
        struct Shape<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de> + std::str::FromStr<Err = String>> Visitor<'de> for Shape<T> {
            type Value = OneOrMore<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value, or a list of them")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<OneOrMore<T>, E> {
                word.parse().map(|value| OneOrMore(vec![value])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OneOrMore<T>, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(OneOrMore)
            }
        }
        de.deserialize_any(Shape(std::marker::PhantomData))
    }
}

/// `split` or `shared`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelayMode {
    /// A port pair for each party.
    #[default]
    Split,
    /// One pair for both.
    Shared,
}

/// The redirect server.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Redirect {
    /// Where proxies reach it.
    pub address: SipAddress,
}

impl Default for Redirect {
    fn default() -> Redirect {
        Redirect { address: SipAddress::udp(([127, 0, 0, 1], 5080).into()) }
    }
}

/// What is logged: `error`, `warn`, `info`, `debug` or `trace`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Log {
    /// Broken.
    Error,
    /// Odd but working.
    Warn,
    /// A call begins or ends.
    #[default]
    Info,
    /// Small turns; the only level, with `trace`, that shows users' names.
    Debug,
    /// Every packet.
    Trace,
}
