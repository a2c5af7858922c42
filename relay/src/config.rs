//! What one relay lane is told at birth.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use proto::cidr::Cidr;
use proto::node_auth::NodeKey;
use proto::tables::Latch;

use crate::why::Why;

/// One lane's configuration. [`Config::default`] has every value but the networks and the key.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where parties are met. The first one is meant when a request names none.
    pub networks: Vec<Network>,
    /// Those that ports are lent in, by their index, in the order in which one is meant; empty: all as they stand. Sessions
    /// may be met in others still.
    pub lent: Vec<usize>,
    /// This lane's own slice of media ports, in every network.
    pub ports: RangeInclusive<u16>,
    /// The ports of all lanes: what counts as one of ours when somebody's SDP names it.
    pub all_ports: RangeInclusive<u16>,
    /// Every port serves any number of legs at once; see `crowd`. Then [`Config::ports`] are few, and any number of them will do.
    pub one_port: bool,
    /// Port pairs kept open per network ahead of demand.
    pub reserve: usize,
    /// Port pairs opened per network before the first session; less than the reserve means the reserve.
    pub open_at_start: usize,
    /// Sessions at a time; the next one is refused with 503.
    pub sessions: usize,
    /// No media for this long is silence that may end a session.
    pub media_timeout: Duration,
    /// No media from one party for this long is told as an Event.
    pub silence: Duration,
    /// Session-Expires of a session: refreshed by any request in its dialog.
    pub refresh: Duration,
    /// Whom a leg accepts first when the request says nothing of it.
    pub latch: Latch,
    /// How long a port rests between two sessions.
    pub quarantine: Duration,
    /// Who may speak to the relay at all; empty: anybody with proof. Loopback always may.
    pub control: Vec<Cidr>,
    /// Whether latched streams are handed to the path below ([`proto::offload`]).
    pub offload: bool,
    /// What ends DTLS-SRTP here; `None`: nothing does.
    pub dtls: Option<std::sync::Arc<dyn crate::dtls::Handshakes>>,
    /// The ng protocol; `None`: not spoken.
    pub ng: Option<crate::ng::Config>,
    /// What proves requests; `None`: only loopback (or TLS from `control`) is believed.
    pub key: Option<NodeKey>,
}

/// An address media ports are opened at, and the one parties are told.
#[derive(Clone, Debug)]
pub struct Network {
    /// As proxies name it in `Relay-Network`. A name may stand twice: once for each address family.
    pub name: String,
    /// Where ports are opened.
    pub bind: IpAddr,
    /// What SDP says: differs from `bind` behind a one-to-one NAT.
    pub advertise: IpAddr,
}

impl Network {
    /// Whether media may go from a port here to this address at all: never to what nobody can be reached at, never
    /// to loopback unless the network itself is loopback, never to the other address family.
    pub(crate) fn may_send_to(&self, to: SocketAddr) -> bool {
        use proto::sdp::{Reach, reach};
        let ip = to.ip().to_canonical();
        let reachable = match reach(ip) {
            Reach::Public | Reach::Private => true,
            Reach::Loopback => self.bind.is_loopback() || self.advertise.is_loopback(),
            Reach::Unusable => false,
        };
        reachable && to.port() != 0 && ip.is_ipv4() == self.advertise.is_ipv4()
    }
}

impl Config {
    /// Whether an address is one of this relay's own media ports, in any lane.
    pub(crate) fn is_own(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let here = |network: &Network| network.advertise == ip || network.bind == ip;
        self.all_ports.contains(&address.port()) && self.networks.iter().any(here)
    }

    /// Whether media may come from there to a port of a network, and go back: never from a port of ours, which would be a
    /// loop, unless the party is `chained` to another session; nor from where nothing may be sent.
    pub(crate) fn admits(&self, network: usize, from: SocketAddr, chained: bool) -> Result<(), Why> {
        match self.is_own(from) && !chained {
            true => Err(Why::Loop),
            false if self.networks[network].may_send_to(from) => Ok(()),
            false => Err(Why::Stranger),
        }
    }

    /// The network of this name, of this family if there are two; an empty name means the first.
    pub(crate) fn network(&self, name: &str, ipv4: bool) -> Option<usize> {
        let named = |at: &usize| name.is_empty() || self.networks[*at].name == name;
        let fits = |at: &usize| named(at) && self.networks[*at].advertise.is_ipv4() == ipv4;
        self.lent().find(fits).or_else(|| self.lent().find(named))
    }

    /// The networks ports are lent in.
    pub(crate) fn lent(&self) -> impl Iterator<Item = usize> + '_ {
        let all = if self.lent.is_empty() { self.networks.len() } else { 0 };
        self.lent.iter().copied().chain(0..all)
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            networks: Vec::new(),
            lent: Vec::new(),
            ports: 30_000..=39_999,
            all_ports: 30_000..=39_999,
            one_port: false,
            reserve: 64,
            open_at_start: 0,
            sessions: 10_000,
            media_timeout: Duration::from_secs(120),
            silence: Duration::from_secs(10),
            refresh: Duration::from_secs(1800),
            latch: Latch::Strict,
            quarantine: Duration::from_secs(5),
            control: Vec::new(),
            offload: false,
            dtls: None,
            ng: None,
            key: None,
        }
    }
}
