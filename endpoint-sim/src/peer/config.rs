//! What a peer is told about itself, and what it tells.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use proto::peer::nat::Verdict;
use proto::peer::words::Allows;
use serde::Serialize;

use crate::Report;

/// A peer's settings.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// User part of its address of record, and digest user name.
    pub user: String,
    /// Domain of it.
    pub domain: String,
    /// Digest password.
    pub password: String,
    /// Its own address.
    pub local: SocketAddr,
    /// The access server.
    pub server: SocketAddr,
    /// Where that listens for TLS, for when UDP does not pass.
    pub tls: Option<SocketAddr>,
    /// The STUN server.
    pub stun: SocketAddr,
    /// The reflector, if there is one.
    pub reflector: Option<SocketAddr>,
    /// The SIP proxy its calls go by, if there is one.
    pub proxy: Option<SocketAddr>,
    /// Its device key's secret.
    pub secret: [u8; 32],
    /// What it allows others.
    pub allows: Allows,
    /// What it knows of its NAT from an earlier time here; `None`: it finds out before it logs in.
    pub remembered: Option<Verdict>,
    /// Whether it measures how long its NAT's mappings live, which takes a minute, so that its keep-alives come in time.
    pub measures_life: bool,
    /// Whether it keeps channels open, as it is told to.
    pub keeps_alive: bool,
    /// How long it stays; `None`: until it is told to leave.
    pub stay: Option<Duration>,
    /// What it says to a buddy once that one is online: to whom, and what.
    pub say: Vec<(String, String)>,
    /// Whom it calls: a buddy once that one is online, anybody else at once.
    pub call: Option<String>,
}

impl PeerConfig {
    /// `user@domain` at `local`.
    pub fn new(
        user: &str,
        domain: &str,
        local: SocketAddr,
        server: SocketAddr,
        stun: SocketAddr,
    ) -> PeerConfig {
        PeerConfig {
            user: user.to_owned(),
            domain: domain.to_owned(),
            password: String::new(),
            local,
            server,
            tls: None,
            stun,
            reflector: None,
            proxy: None,
            secret: [0; 32],
            allows: Allows::default(),
            remembered: None,
            measures_life: false,
            keeps_alive: true,
            stay: None,
            say: Vec::new(),
            call: None,
        }
    }

    /// Its address of record.
    pub fn aor(&self) -> String {
        format!("{}@{}", self.user, self.domain)
    }
}

/// What a peer knows and has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PeerReport {
    /// Its address of record.
    pub name: String,
    /// Its NAT, in words.
    pub nat: String,
    /// Where its access server sees it.
    pub external: Option<SocketAddr>,
    /// Whether it is logged in.
    pub logged_in: bool,
    /// Final status of the last login.
    pub login_status: Option<u16>,
    /// Its buddies.
    pub buddies: BTreeMap<String, BuddyReport>,
    /// Messages heard: from whom, and what.
    pub messages: Vec<(String, String)>,
    /// Requests of strangers, refused.
    pub strangers: u32,
    /// Packets given to the reflector.
    pub reflected: u32,
    /// Punches asked for by the access server.
    pub punches: u32,
    /// Its last call.
    pub call: CallReport,
}

/// A call, as a peer sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CallReport {
    /// Media goes `direct`, by `relay`, by `tunnel` (through the access server, for want of UDP), or by `none`.
    pub path: &'static str,
    /// How often it went from the relay to the direct path.
    pub upgrades: u32,
    /// How often it went back.
    pub falls: u32,
    /// What was heard and said.
    pub phone: Report,
}

/// One buddy, as a peer sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BuddyReport {
    /// Whether it is online, by its own word.
    pub online: bool,
    /// `direct`, `reflector`, `server`, or `tunnel`: media, too, goes through the server, by TLS.
    pub path: &'static str,
    /// Where it is, if the path is direct.
    pub address: Option<SocketAddr>,
    /// Why this path.
    pub why: String,
}
