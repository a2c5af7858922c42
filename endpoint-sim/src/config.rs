//! What a phone is told about itself.

use std::net::{IpAddr, SocketAddr};

use proto::node::{Flow, FlowId, Transport};

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

    /// Its Contact in REGISTER.
    pub(crate) fn registered_contact(&self) -> String {
        match self.q {
            1000 => self.contact(),
            q => format!("{};q=0.{q:03}", self.contact()),
        }
    }

    pub(crate) fn contact(&self) -> String {
        let transport = match self.transport {
            Transport::Udp => String::new(),
            // Contacts of both say `ws` (RFC 7118 §5.2.4).
            Transport::Ws | Transport::Wss => ";transport=ws".to_owned(),
            other => format!(";transport={other}"),
        };
        format!("<sip:{}@{}{transport}>", self.user, self.sent_by())
    }

    /// What it calls itself in Via and Contact. A browser knows no address of its own (RFC 7118 §5).
    pub(crate) fn sent_by(&self) -> String {
        match self.transport {
            Transport::Ws | Transport::Wss => format!("{}.invalid", self.user),
            _ => self.local.to_string(),
        }
    }

    /// Its way to the proxy, which has to prove its domain where that can be proven.
    pub(crate) fn flow(&self) -> Flow {
        let id = match proto::node::literal(&self.domain) {
            None if self.transport.is_secure() => FlowId::proving(&self.domain),
            _ => FlowId(0),
        };
        Flow { transport: self.transport, local: self.local, remote: self.proxy, id }
    }
}
