//! TLS (RFC 3261 §26.3.1, RFC 5922): what we show ([`shown`]), whom we believe ([`believed`]), and the files both are
//! read from ([`files`]). Everything is read and checked whole before anything is used, and swapped whole at a reload:
//! connections that are up keep what they were made with.

pub mod believed;
pub mod files;
pub mod shown;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use proto::cidr::Cidr;
use proto::node::Transport;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ServerConfig};

/// The cryptography behind it all: ring, which builds in seconds.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What one configuration says of who may connect, and what they are shown.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// For who connects to us, by the listener's address.
    pub servers: HashMap<SocketAddr, Arc<ServerConfig>>,
    /// For whom we connect to, where `peers` says nothing; none: this process makes no TLS connections.
    pub client: Option<Arc<ClientConfig>>,
    /// For particular hosts, by the name or address their route says.
    pub peers: BTreeMap<String, Arc<ClientConfig>>,
    /// Web pages that may open a WebSocket here, by the listener's address (RFC 6455 §10.2); none or empty: all.
    pub origins: HashMap<SocketAddr, Arc<[String]>>,
    /// Listeners where ng commands come in instead of SIP, and from whom.
    pub commanders: HashMap<(Transport, SocketAddr), Arc<[Cidr]>>,
    /// Where STUN and ChannelData may stand between SIP messages: at access servers and peers.
    pub packets: HashSet<(Transport, SocketAddr)>,
}

/// The credentials of now. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Keyroom(Arc<RwLock<Arc<Credentials>>>);

impl Keyroom {
    /// With these to begin with.
    pub fn new(credentials: Credentials) -> Keyroom {
        Keyroom(Arc::new(RwLock::new(Arc::new(credentials))))
    }

    /// Others from now on; connections that are up stay as they are.
    pub fn swap(&self, credentials: Credentials) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(credentials);
    }

    /// For a connection that comes in at this listener.
    pub fn server(&self, local: SocketAddr) -> Option<Arc<ServerConfig>> {
        self.now().servers.get(&local).cloned()
    }

    /// For a connection to this host, which is a name or an address.
    pub fn client(&self, host: &str) -> Option<Arc<ClientConfig>> {
        let now = self.now();
        now.peers.get(&host.to_ascii_lowercase()).or(now.client.as_ref()).cloned()
    }

    /// Who may open a WebSocket at this listener; empty: everybody.
    pub fn origins(&self, local: SocketAddr) -> Arc<[String]> {
        self.now().origins.get(&local).cloned().unwrap_or_default()
    }

    /// Who may command by ng at this listener; `None`: it is one for SIP.
    pub fn commanders(&self, transport: Transport, local: SocketAddr) -> Option<Arc<[Cidr]>> {
        self.now().commanders.get(&(transport, local)).cloned()
    }

    /// Whether STUN and ChannelData may stand between SIP messages there.
    pub fn takes_packets(&self, transport: Transport, local: SocketAddr) -> bool {
        self.now().packets.contains(&(transport, local))
    }

    fn now(&self) -> Arc<Credentials> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
