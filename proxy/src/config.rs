//! What an operator may say about a proxy, as plain values. `host` makes them from YAML and checks them; every field
//! has a default that works.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use proto::cidr::Cidr;
use proto::control::Mode;
use proto::digest::Algorithm;
use proto::node::Transport;
use proto::node_auth::NodeKey;
use proto::sip::transaction::Timers;
use proto::tables::{Anchor, Latch, Srtp};
use proto::token::Keys;

pub use crate::registrar::mid_registrar::MidRegistrar;
pub use crate::routing::routes::{Goes, Origin, Route};
pub use crate::trunks::{Caps, Server, Trunk};

/// Everything a proxy is configured with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The networks we stand in. An address belongs to the network with the longest prefix that contains it; to the
    /// first network when none does. Never empty.
    pub networks: Vec<Network>,
    /// Where we listen. A flow belongs to the listener whose transport and `bind` it has.
    pub listeners: Vec<Listener>,
    /// Domains we are responsible for, lower case. Bind and advertise addresses of the listeners always are, too.
    pub domains: Vec<String>,
    /// Realm of our challenges, and the domain of accounts that name none.
    pub realm: String,
    /// Digest algorithms offered, the preferred one first (RFC 8760 §2.4).
    pub algorithms: Vec<Algorithm>,
    /// When media goes through a relay, unless listener, trunk or user say otherwise.
    pub anchor: Anchor,
    /// Whom a relay leg accepts first, unless trunk or user say otherwise.
    pub latch: Latch,
    /// How media is protected, unless user, trunk or listener say otherwise.
    pub srtp: Srtp,
    /// Two parties behind one public address talk directly.
    pub same_nat_direct: bool,
    /// Relays, tried in order of weight and health.
    pub relays: Vec<Relay>,
    /// A port for each party, or one for both.
    pub relay_mode: Mode,
    /// How often a relay session is refreshed while its dialog is in memory.
    pub relay_refresh: Duration,
    /// Redirect servers, tried in order.
    pub redirects: Vec<Redirect>,
    /// Our other proxies, and how they prove themselves.
    pub siblings: Siblings,
    /// Carriers, PBXs and peers.
    pub trunks: Vec<Arc<Trunk>>,
    /// Phones register through us, at a PBX behind us.
    pub mid_registrar: Option<MidRegistrar>,
    /// Where requests go that no binding answers, first match first.
    pub routes: Vec<Route>,
    /// Interval of keep-alives towards UDP bindings behind a NAT, jittered by ± 10 %; zero: none.
    pub keep_alive: Duration,
    /// Timers of RFC 3261 table 4.
    pub timers: Timers,
    /// Longest wait for a final response after a provisional one (RFC 3261 §16.6 step 11: more than 3 minutes).
    pub timer_c: Duration,
    /// How long we wait for a redirect server, and for each relay.
    pub lookup_timeout: Duration,
    /// Limits.
    pub limits: Limits,
    /// Session timers we ask for (RFC 4028 §8); `None`: what the ends agree on is theirs alone.
    pub session_timer: Option<SessionTimer>,
    /// Whether accounts that have logged in are named to trunks and siblings by P-Asserted-Identity (RFC 3325).
    pub asserted_identity: bool,
    /// Words in a User-Agent, lower case, that get no answer: [`SCANNERS`] unless said otherwise.
    pub scanners: Vec<String>,
    /// Expiries a registration may have.
    pub expiries: Expiries,
    /// Keys of the tokens in Record-Route.
    pub token_keys: Keys,
    /// Key of the nonces of our challenges.
    pub nonce_key: [u8; 32],
}

/// A part of the world with addresses of its own: inside, outside …
#[derive(Clone, Debug)]
pub struct Network {
    /// Its name, as relays know it, too.
    pub name: String,
    /// Its addresses.
    pub cidrs: Vec<Cidr>,
    /// Whether what leaves towards it tells nothing of the other side: Via, Record-Route, Path, Contact and
    /// Call-ID are hidden.
    pub hides: bool,
}

/// A socket we listen on.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Index into [`Config::networks`].
    pub network: usize,
    /// How bytes travel.
    pub transport: Transport,
    /// The socket's address.
    pub bind: SocketAddr,
    /// What Via, Record-Route and Contact say (one-to-one NAT); the same as `bind` if nothing is between.
    pub advertise: SocketAddr,
    /// Whether requests from unknown sources need credentials.
    pub authenticate: bool,
    /// The media rule for parties met here.
    pub anchor: Option<Anchor>,
    /// How media of parties met here is protected.
    pub srtp: Option<Srtp>,
    /// Digest algorithms offered here, the preferred one first; empty: those of [`Config::algorithms`].
    pub algorithms: Vec<Algorithm>,
    /// Whether it is there for everything.
    pub standing: Standing,
}

/// What a listener is there for. Tokens in calls that are up name listeners by their index, so one that was taken out keeps
/// its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Everything.
    #[default]
    Open,
    /// What is under way there.
    Closing,
    /// Nothing: it is gone.
    Closed,
}

/// A relay's control face and where it sends media from.
#[derive(Clone, Debug)]
pub struct Relay {
    /// For the operator.
    pub name: String,
    /// How to reach it.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
    /// Share of new sessions, beside the other relays; 0: only when the others fail.
    pub weight: u32,
    /// Its media addresses: SDP that names one, and comes from anybody but a sibling, is refused.
    pub media: Vec<MediaRange>,
}

/// Ports media of ours comes from.
#[derive(Clone, Debug)]
pub struct MediaRange {
    /// As SDP names it (advertised).
    pub ip: IpAddr,
    /// The ports.
    pub ports: RangeInclusive<u16>,
}

/// A redirect server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// For the operator.
    pub name: String,
    /// How to reach it.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
}

/// Proxies of our own.
#[derive(Clone, Debug, Default)]
pub struct Siblings {
    /// Their addresses.
    pub cidrs: Vec<Cidr>,
    /// The key all our nodes share: siblings, relays, redirect servers. Without one there are no siblings.
    pub key: Option<NodeKey>,
}

/// What a route is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pattern {
    /// Anything.
    #[default]
    Any,
    /// Exactly this (domains: any case).
    Exact(String),
    /// Anything that begins so.
    Prefix(String),
}

/// A next hop as configured; names are resolved by RFC 3263.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Address or name.
    pub host: String,
    /// Port, if fixed.
    pub port: Option<u16>,
    /// Transport, if fixed.
    pub transport: Option<Transport>,
}

/// What we hold at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls at the same time; more are answered 503.
    pub calls: usize,
    /// Branches of one request.
    pub branches: usize,
    /// Bindings of one address of record.
    pub bindings: usize,
    /// Longest life of a call without a session timer.
    pub call_life: Duration,
}

/// Lifetimes of registrations, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Expiries {
    /// Less is answered 423.
    pub min: u32,
    /// When the device asks for nothing.
    pub default: u32,
    /// More is cut to this.
    pub max: u32,
}

/// Programs that look for victims, and the names they give themselves.
pub const SCANNERS: [&str; 11] = [
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sipcli",
    "sip-scan",
    "sipsak-scan",
    "pplsip",
    "vaxsipuseragent",
    "sundayddr",
    "iwar",
    "smap",
];

impl Default for Config {
    fn default() -> Config {
        Config {
            networks: vec![Network { name: "default".into(), cidrs: Vec::new(), hides: false }],
            listeners: Vec::new(),
            domains: Vec::new(),
            realm: "postern".into(),
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            anchor: Anchor::Auto,
            latch: Latch::Strict,
            srtp: Srtp::Pass,
            same_nat_direct: false,
            relays: Vec::new(),
            relay_mode: Mode::Split,
            relay_refresh: Duration::from_secs(600),
            redirects: Vec::new(),
            siblings: Siblings::default(),
            trunks: Vec::new(),
            mid_registrar: None,
            routes: Vec::new(),
            keep_alive: Duration::from_secs(25),
            timers: default_timers(),
            timer_c: Duration::from_secs(185),
            lookup_timeout: Duration::from_secs(3),
            limits: Limits::default(),
            session_timer: None,
            asserted_identity: false,
            scanners: SCANNERS.map(str::to_owned).to_vec(),
            expiries: Expiries::default(),
            token_keys: Keys(vec![[0; 32]]),
            nonce_key: [0; 32],
        }
    }
}

/// Session timers, as a proxy wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimer {
    /// The longest a call may go without a refresh.
    pub expires: Duration,
    /// The shortest that may be asked for.
    pub min: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { calls: 100_000, branches: 16, bindings: 10, call_life: proto::token::LIFE }
    }
}

impl Default for Expiries {
    fn default() -> Expiries {
        Expiries { min: 60, default: 3600, max: 7200 }
    }
}

impl Config {
    /// The index of the listener a flow belongs to.
    pub fn listener_at(&self, transport: Transport, local: SocketAddr) -> Option<usize> {
        let is_there = |l: &Listener| l.standing != Standing::Closed;
        self.listeners.iter().position(|l| l.transport == transport && l.bind == local && is_there(l))
    }

    /// The index of the network an address belongs to.
    pub fn network_of(&self, ip: IpAddr) -> usize {
        let best = |network: &Network| {
            network.cidrs.iter().filter(|c| c.contains(ip)).map(|c| i16::from(c.prefix())).max().unwrap_or(-1)
        };
        // `max_by_key` takes the last of equals, we want the first.
        (0..self.networks.len()).rev().max_by_key(|&i| best(&self.networks[i])).unwrap_or(0)
    }

    /// The listener to send from: of this transport and the remote's family, in the remote's network if there is one.
    pub fn listener_towards(&self, transport: Transport, remote: SocketAddr) -> Option<usize> {
        let network = self.network_of(remote.ip());
        let fits =
            |l: &&(usize, &Listener)| l.1.transport == transport && l.1.bind.is_ipv4() == remote.is_ipv4();
        let open = |l: &(usize, &Listener)| l.1.standing == Standing::Open;
        let all: Vec<_> = self.listeners.iter().enumerate().filter(open).collect();
        let mut fitting = all.iter().filter(fits);
        let first = fitting.clone().next();
        fitting.find(|l| l.1.network == network).or(first).map(|l| l.0)
    }

    /// Whether a host (of a URI, as written) is one of ours.
    pub fn is_ours(&self, host: &str, port: Option<u16>) -> bool {
        match proto::node::literal(host) {
            Some(ip) => self.listeners.iter().any(|l| l.standing != Standing::Closed && l.is_at(ip, port)),
            None => self.domains.iter().any(|d| d.eq_ignore_ascii_case(host)),
        }
    }

    /// Whether a sibling proxy may send from this address; proof is a matter of its own.
    pub fn is_sibling(&self, ip: IpAddr) -> bool {
        self.siblings.key.is_some() && self.siblings.cidrs.iter().any(|c| c.contains(ip))
    }

    /// The trusted trunk that sends from this address.
    pub fn trunk_from(&self, ip: IpAddr) -> Option<&Arc<Trunk>> {
        self.trunks.iter().find(|trunk| trunk.trusted && trunk.sends_from(ip))
    }
}

impl Listener {
    /// Whether this address and port reach us here. Without a port any listener at the address does, since a phone
    /// that registers as `user@192.0.2.1` may come by any transport.
    fn is_at(&self, ip: IpAddr, port: Option<u16>) -> bool {
        let meets = |at: SocketAddr| at.ip() == ip && port.is_none_or(|p| p == at.port());
        meets(self.advertise) || meets(self.bind)
    }
}

impl Pattern {
    /// Whether a user part or (in any case) a domain is one of those meant.
    pub fn fits(&self, text: &str, any_case: bool) -> bool {
        let same = |a: &str, b: &str| if any_case { a.eq_ignore_ascii_case(b) } else { a == b };
        match self {
            Pattern::Any => true,
            Pattern::Exact(all) => same(all, text),
            Pattern::Prefix(start) => text.get(..start.len()).is_some_and(|begin| same(begin, start)),
        }
    }
}

fn default_timers() -> Timers {
    Timers { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, cidrs: &[&str]) -> Network {
        Network { name: name.into(), cidrs: cidrs.iter().map(|c| c.parse().unwrap()).collect(), hides: false }
    }

    #[test]
    fn an_address_belongs_to_the_network_with_the_longest_prefix() {
        let networks = vec![network("outside", &["0.0.0.0/0"]), network("inside", &["10.0.0.0/8"])];
        let config = Config { networks, ..Config::default() };
        assert_eq!(config.network_of("10.1.1.1".parse().unwrap()), 1);
        assert_eq!(config.network_of("192.0.2.1".parse().unwrap()), 0);
        assert_eq!(config.network_of("2001:db8::1".parse().unwrap()), 0);
    }

    #[test]
    fn patterns_fit_whole_or_from_the_start() {
        assert!(Pattern::Prefix("+49".into()).fits("+4930123", false));
        assert!(!Pattern::Prefix("+49".into()).fits("+4", false));
        assert!(Pattern::Exact("Example.COM".into()).fits("example.com", true));
        assert!(!Pattern::Exact("alice".into()).fits("Alice", false));
    }
}
