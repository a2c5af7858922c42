//! What a phone is told about itself.

use std::net::{IpAddr, SocketAddr};

use proto::node::{Flow, FlowId, Transport};

use crate::outbound::Outbound;

/// A phone's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhoneConfig {
    /// User part of its address of record.
    pub user: String,
    /// Domain of its address of record; also whom it registers with.
    pub domain: String,
    /// Digest user name; the user part when `None`.
    pub auth_user: Option<String>,
    /// Digest password; without one a challenge is a refusal.
    pub password: Option<String>,
    /// How it reaches its proxy.
    pub transport: Transport,
    /// Its own SIP address, as it knows it (behind a NAT: the inner one).
    pub local: SocketAddr,
    /// Where everything is sent.
    pub proxy: SocketAddr,
    /// Its own media address.
    pub media_ip: IpAddr,
    /// First media port to try; even, RTCP takes the next one.
    pub media_port: u16,
    /// Whether it offers and takes RTCP on the RTP port (RFC 5761).
    pub rtcp_mux: bool,
    /// Whether it talks SRTP under keys in its descriptions (RFC 4568), and nothing else.
    pub srtp: bool,
    /// Wanted life of a registration, in seconds.
    pub expires: u32,
    /// How much this device is wanted among those of its user, in thousandths (RFC 3261 §10.2.1.2).
    pub q: u16,
    /// Several flows at a time, each kept alive (RFC 5626); `None`: one registration, and NATs are the proxy's affair.
    pub outbound: Option<Outbound>,
}

impl PhoneConfig {
    /// A UDP phone `user@domain` at `local` behind `proxy`, with media on the same address from port 40000.
    pub fn new(user: &str, domain: &str, local: SocketAddr, proxy: SocketAddr) -> PhoneConfig {
        PhoneConfig {
            user: user.to_string(),
            domain: domain.to_string(),
            auth_user: None,
            password: None,
            transport: Transport::Udp,
            local,
            proxy,
            media_ip: local.ip(),
            media_port: 40_000,
            rtcp_mux: false,
            srtp: false,
            expires: 300,
            q: 1000,
            outbound: None,
        }
    }

    /// Its address of record as a URI.
    pub(crate) fn uri(&self) -> String {
        format!("sip:{}@{}", self.user, self.domain)
    }

    /// Its name in markers and reports.
    pub(crate) fn name(&self) -> String {
        format!("{}@{}", self.user, self.domain)
    }

    /// Its Contact, for who reaches it by this transport. With `ob` its flow is what counts (RFC 5626 §4.3, §5.3).
    pub(crate) fn contact_by(&self, transport: Transport) -> String {
        let by = match transport {
            Transport::Udp => String::new(),
            // Contacts of both say `ws` (RFC 7118 §5.2.2).
            Transport::Ws | Transport::Wss => ";transport=ws".to_owned(),
            other => format!(";transport={other}"),
        };
        let ob = if self.outbound.is_some() { ";ob" } else { "" };
        format!("<sip:{}@{}{by}{ob}>", self.user, self.sent_by(transport))
    }

    /// What it calls itself in Via and Contact. A browser knows no address of its own (RFC 7118 §5).
    pub(crate) fn sent_by(&self, transport: Transport) -> String {
        match transport {
            Transport::Ws | Transport::Wss => format!("{}.invalid", self.user),
            _ => self.local.to_string(),
        }
    }

    /// Its ways to its proxies, which have to prove its domain where that can be proven. The first is the one of old.
    pub(crate) fn flows(&self) -> Vec<Flow> {
        let edges = self.outbound.iter().flat_map(|outbound| outbound.edges.iter().copied());
        let flow = |(transport, remote): (Transport, SocketAddr)| {
            let id = match proto::node::literal(&self.domain) {
                None if transport.is_secure() => FlowId::proving(&self.domain),
                _ => FlowId(0),
            };
            Flow { transport, local: self.local, remote, id }
        };
        std::iter::once((self.transport, self.proxy)).chain(edges).map(flow).collect()
    }
}
