//! What an operator may say about a redirect server, as plain values. Every field has a default that works.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proto::cidr::Cidr;
use proto::node_auth::NodeKey;
use proto::sip::transaction::Timers;

/// Everything a redirect server is configured with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The key all our nodes share. Without one only [`Config::trusted`] is believed.
    pub key: Option<NodeKey>,
    /// Who is believed without proof, by loopback or TLS only: anybody can forge an address over UDP.
    pub trusted: Vec<Cidr>,
    /// Whether an INVITE from somebody we can't believe is refused. Off, anybody may ask who serves whom.
    pub require_proof: bool,
    /// How long a registration may last.
    pub expiries: Expiries,
    /// How long an address that nobody serves any more is still known.
    pub memory: Duration,
    /// Proxies that may serve one address of record.
    pub bindings: usize,
    /// Transactions at a time; what comes beyond is refused with 503.
    pub transactions: usize,
    /// Timers of RFC 3261 table 4.
    pub timers: Timers,
}

/// How long a registration may last, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiries {
    /// Shorter ones are refused with 423.
    pub min: u32,
    /// When the request says nothing.
    pub default: u32,
    /// Longer ones are cut to this.
    pub max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            key: None,
            trusted: vec![
                Cidr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8),
                Cidr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
            ],
            require_proof: true,
            expiries: Expiries { min: 10, default: 3600, max: 86_400 },
            memory: Duration::from_secs(24 * 3600),
            bindings: 16,
            transactions: 100_000,
            timers: Timers::default(),
        }
    }
}
