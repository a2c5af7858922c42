//! Where we stand and listen: networks and sockets for SIP.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::certificates::ListenerTls;
use super::media::{Anchor, Srtp};
use super::users::Algorithm;
use crate::config::values::{Cidr, SipAddress};

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
    /// What leaves towards it tells nothing of the other networks: Via, Record-Route, Path, Contact and Call-ID are hidden.
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
    pub standing: ::proxy::config::Standing,
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
