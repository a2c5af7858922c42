//! A new process takes over from the one that runs: its sockets with what waits in them, its relay's sessions, its store.
//! No packet is lost, since every socket stays open and is only read by somebody else from some moment on.
//!
//! The new one connects to the control socket, shown to be the same user (or root) by the kernel. Then, in turn:
//!
//! ```text
//! new: hand-over            old reads no more SIP (it waits in its sockets; media goes on), closes the store
//! old: Offer                new reads store, accounts and certificates, as every start does
//! new: sockets              old stops reading media, takes note of every session
//! old: Estate, sockets      new starts its threads
//! new: done                 old ends
//! ```
//!
//! Whoever breaks off before the end leaves the old one as it was: it reads on, or starts anew with its own estate.
//! What isn't handed over: connections (they close, and clients connect again), SIP transactions (as after a restart), what
//! was counted of sessions that go on, bans and used nonces.

mod giving;
pub mod inherited;
pub mod systemd;
mod taking;
mod upgrading;
mod wire;

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::bindings::Bindings;
use crate::config::Settings;
use crate::config::values::SipAddress;
use crate::dtls::Identity;

pub(crate) use self::giving::give;
pub use self::giving::{Ending, Outcome};
pub use self::taking::Predecessor;
pub(crate) use self::upgrading::upgrade;

/// What one lane had.
#[derive(Debug, Default)]
pub struct Gift {
    /// Its listeners.
    pub listeners: Vec<UdpSocket>,
    /// Its media ports.
    pub media: Vec<UdpSocket>,
    /// Its relay's sessions, as they are left behind.
    pub sessions: Vec<(u64, Vec<u8>)>,
}

/// What a socket was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Datagrams of a listener.
    Datagrams,
    /// Connections of a listener.
    Streams,
    /// A media port.
    Media,
}

/// A socket on its way.
#[derive(Debug)]
pub struct Heirloom {
    purpose: Purpose,
    local: SocketAddr,
    socket: OwnedFd,
}

impl AsFd for Heirloom {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// All that goes over at the last moment.
#[derive(Debug, Default)]
pub struct Estate {
    /// Sockets.
    pub sockets: Vec<Heirloom>,
    /// Relay sessions.
    pub sessions: Vec<(u64, Vec<u8>)>,
}

/// What a process leaves behind besides sockets and sessions.
#[derive(Default)]
pub struct Remains {
    /// Where it listened.
    listening: Vec<SipAddress>,
    /// What its keys derive from.
    secret: [u8; 32],
    /// Its certificate for DTLS-SRTP.
    identity: Option<Identity>,
    /// Without a store: service, address of record and record of each.
    bindings: Vec<(String, String, Vec<u8>)>,
}

impl std::fmt::Debug for Remains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remains({} bindings)", self.bindings.len())
    }
}

impl Remains {
    pub(crate) fn secret(&self) -> [u8; 32] {
        self.secret
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity.clone()
    }

    /// A configuration with the ports that were given where the file leaves the choice.
    pub(crate) fn same_ports(&self, settings: &Settings) -> Settings {
        settings.listening_on(&self.listening)
    }

    /// A service's bindings, where there is no store.
    pub(crate) fn bindings(&self, service: &str) -> Bindings {
        let bindings = Bindings::default();
        for (_, aor, record) in self.bindings.iter().filter(|(of, ..)| of == service) {
            bindings.restore(aor, record);
        }
        bindings
    }
}

/// What goes over first, while media still flows through the old process.
#[derive(Deserialize, Serialize)]
pub struct Offer {
    /// Of the protocol: another one is not understood.
    version: u32,
    /// The old process.
    pid: u32,
    /// Where it listens.
    listening: Vec<String>,
    /// The secret its keys derive from.
    secret: [u8; 32],
    /// Its certificate for DTLS-SRTP.
    identity: Option<Identity>,
    /// Without a store: how many bindings follow.
    bindings: Vec<BindingHead>,
}

/// One address of record; its record follows.
#[derive(Debug, Deserialize, Serialize)]
struct BindingHead {
    service: String,
    aor: String,
    length: usize,
}

/// What this page says. Goes up when it changes.
const VERSION: u32 = 1;
