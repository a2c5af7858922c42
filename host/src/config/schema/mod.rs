//! What may stand in the configuration file. Every key has a default that works; an unknown one is refused.
//!
//! This is the file as written, a room for each of its parts. [`super::check`] holds what no single value can tell
//! (clashes, limits of the machine), [`super::lower`] makes the services' own configurations of it.

mod certificates;
mod listeners;
mod media;
mod ng;
mod proxy;
mod relay;
mod users;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::certificates::{Certificate, ClientCertificates, ListenerTls, RouteTls, Tls};
pub use self::listeners::{Listener, Network};
pub use self::media::{Anchor, Latch, SameNat, Srtp};
pub use self::ng::Ng;
pub use self::proxy::{Proxy, Registrations, Timers, Transport};
pub use self::relay::{Record, RecordRule, Relay, RelayMode};
pub use self::users::{Algorithm, Auth, Ha1, User, Users};
use super::peers::{Access, Reflector};
use super::shield::Shield;
use super::trunks::Trunk;
use super::values::SipAddress;

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
    /// The file of the key that what is secret in the store is sealed with; none: beside the store, with `.key` behind its name.
    pub store_key: Option<PathBuf>,
    /// What is logged.
    pub log: Log,
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
