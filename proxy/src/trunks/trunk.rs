//! What an operator may say about a trunk, as plain values.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::cidr::Cidr;
use proto::event::Name;
use proto::node::Transport;
use proto::tables::{Anchor, Latch, Srtp};

use super::login::Credentials;
use super::rules::Rule;
use crate::config::NextHop;

/// A carrier, a PBX or a peer: where its calls go to and come from, and how they are treated.
#[derive(Clone, Debug)]
pub struct Trunk {
    /// Its name: for routes, events and the operator.
    pub name: Name,
    /// Where calls go, see [`Server`]. Never empty.
    pub servers: Vec<Server>,
    /// We know the party: the relay may send to it before it was heard, requests from [`Trunk::sources`] need no
    /// credentials, and its 3xx are followed.
    pub trusted: bool,
    /// Where its requests come from.
    pub sources: Vec<Cidr>,
    /// Domains of which its certificate proves at least one; empty: it is known by [`Trunk::sources`]. Lower case.
    pub certificates: Vec<String>,
    /// Its media rule.
    pub anchor: Option<Anchor>,
    /// Its latch rule.
    pub latch: Option<Latch>,
    /// How its media is protected.
    pub srtp: Option<Srtp>,
    /// How often each server is asked with OPTIONS whether it is there; zero: never.
    pub probe: Duration,
    /// How long a server may say nothing at all before the next one is tried.
    pub try_timeout: Duration,
    /// How much it takes.
    pub caps: Caps,
    /// Host of the request URI of calls that go there; `None`: it stays.
    pub domain: Option<String>,
    /// Who we are to it: its challenges are answered with that.
    pub credentials: Option<Credentials>,
    /// How we register there.
    pub register: Option<Registering>,
    /// What is changed in messages from it and to it.
    pub rules: Vec<Rule>,
}

/// How we register at a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registering {
    /// User part of our address of record there.
    pub user: String,
    /// Its domain, and the request URI.
    pub domain: String,
    /// Where REGISTER goes.
    pub registrar: NextHop,
    /// For how long, in seconds.
    pub expires: u32,
    /// User part of our Contact: whom its calls are for.
    pub contact: String,
}

/// One server of a trunk.
#[derive(Clone, Debug)]
pub struct Server {
    /// As the operator sees it.
    pub name: Name,
    /// Where it is.
    pub next: NextHop,
    /// Lower ones are tried first.
    pub priority: u16,
    /// Share of the calls among servers of the same priority.
    pub weight: u16,
}

/// How much a trunk takes; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Calls at once, both ways together.
    pub calls: Option<u32>,
    /// Calls begun towards it in a second.
    pub per_second: Option<u32>,
}

/// See [`Trunk::try_timeout`]: three retransmissions of an INVITE over UDP fit in.
pub const TRY_TIMEOUT: Duration = Duration::from_secs(4);

impl Trunk {
    /// A trunk with nothing but a name.
    pub fn named(name: &str) -> Trunk {
        Trunk {
            name: name.into(),
            servers: Vec::new(),
            trusted: false,
            sources: Vec::new(),
            certificates: Vec::new(),
            anchor: None,
            srtp: None,
            latch: None,
            probe: Duration::ZERO,
            try_timeout: TRY_TIMEOUT,
            caps: Caps::default(),
            domain: None,
            credentials: None,
            register: None,
            rules: Vec::new(),
        }
    }

    /// A trunk of a single server, as a route with `via` means it.
    pub fn to(name: &str, next: NextHop) -> Trunk {
        Trunk { servers: vec![Server::new(next)], ..Trunk::named(name) }
    }

    /// Whether its requests come from this address, and that proves who it is.
    pub fn sends_from(&self, ip: IpAddr) -> bool {
        self.certificates.is_empty() && self.sources.iter().any(|range| range.contains(ip))
    }

    /// Whether this is the address and port of one of its servers.
    pub fn has_server_at(&self, at: SocketAddr) -> bool {
        self.addresses().any(|server| server == at)
    }

    /// Where its servers are, of those that are written by address.
    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.servers.iter().map(|server| &server.next).filter_map(|next| {
            let port = next.port.unwrap_or(next.transport.unwrap_or(Transport::Udp).default_port());
            Some(SocketAddr::new(proto::node::literal(&next.host)?, port))
        })
    }

    /// Whether one of its servers is written by this name.
    pub fn has_server_named(&self, host: &str) -> bool {
        self.servers.iter().any(|server| server.next.host.eq_ignore_ascii_case(host))
    }

    /// Whether a certificate for these domains is its own.
    pub fn is_proven_by(&self, domains: &[String]) -> bool {
        self.certificates.iter().any(|own| domains.contains(own))
    }

    /// Whether this is an address of it: its requests come from there, or a server of it is there.
    pub fn is_at(&self, ip: IpAddr) -> bool {
        self.sends_from(ip) || self.addresses().any(|server| server.ip() == ip)
    }

    /// Whether it matters how its servers are doing: they are asked, or there is another one to go to.
    pub fn is_watched(&self) -> bool {
        !self.probe.is_zero() || self.servers.len() > 1
    }
}

impl Server {
    /// The only one.
    pub fn new(next: NextHop) -> Server {
        Server { name: next.to_string().into(), next, priority: 0, weight: 1 }
    }

    /// At an address or name.
    pub fn at(host: &str, port: Option<u16>, transport: Option<proto::node::Transport>) -> Server {
        Server::new(NextHop { host: host.into(), port, transport })
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(transport) = self.transport {
            write!(f, "{transport}:")?;
        }
        match (self.host.contains(':'), self.port) {
            (true, Some(port)) => write!(f, "[{}]:{port}", self.host),
            (_, Some(port)) => write!(f, "{}:{port}", self.host),
            (_, None) => f.write_str(&self.host),
        }
    }
}
