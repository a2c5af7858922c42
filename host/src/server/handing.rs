//! A running process gives away what it has, a step at a time (see [`crate::succession`]).

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use proto::node::Transport;

use super::Handle;
use crate::dtls::Identity;
use crate::lanes::seat::Command;
use crate::net::outside::Errand;
use crate::store::Lender;
use crate::succession::{Ending, Gift};

/// How long lanes may take to give everything away.
const PATIENCE: Duration = Duration::from_secs(5);

/// What only a successor asks for.
#[derive(Debug, Default)]
pub(super) struct Belongings {
    /// What the keys derive from.
    pub(super) secret: [u8; 32],
    pub(super) identity: Option<Identity>,
    pub(super) lender: Option<Lender>,
    /// Listeners for connections: the runtime's are copies of these.
    pub(super) doors: Doors,
    pub(super) ending: Ending,
}

/// Listeners for connections, by where they are.
#[derive(Debug, Default)]
pub(super) struct Doors(Mutex<BTreeMap<(Transport, SocketAddr), TcpListener>>);

impl Doors {
    fn all(&self) -> MutexGuard<'_, BTreeMap<(Transport, SocketAddr), TcpListener>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Keeps a copy. Without one, connections to this listener are not handed over.
    pub(super) fn keep(&self, at: (Transport, SocketAddr), listener: &TcpListener) {
        match listener.try_clone() {
            Ok(copy) => drop(self.all().insert(at, copy)),
            Err(error) => tracing::warn!(%error, local = %at.1, "a listener could not be copied"),
        }
    }

    /// It is closed.
    pub(super) fn forget(&self, at: (Transport, SocketAddr)) {
        self.all().remove(&at);
    }
}

impl Handle {
    /// Whether and how this process ends because of a successor.
    pub fn ending(&self) -> &Ending {
        &self.belongings.ending
    }

    /// The configuration it runs by.
    pub(crate) fn file(&self) -> &std::path::Path {
        &self.file
    }

    pub(crate) fn secret(&self) -> [u8; 32] {
        self.belongings.secret
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.belongings.identity.clone()
    }

    /// Reads no more SIP. It waits in its sockets, and connections before their doors.
    pub(crate) fn freeze(&self) {
        self.post.mailboxes().for_each(|mailbox| mailbox.command(Command::Freeze));
        for &(transport, local) in self.belongings.doors.all().keys() {
            self.errand(Errand::Refuse { transport, local });
        }
    }

    /// Reads it again, and has the store back.
    pub(crate) fn thaw(&self) {
        self.belongings.lender.iter().for_each(Lender::take_back);
        self.post.mailboxes().for_each(|mailbox| mailbox.command(Command::Thaw));
        for (&(transport, local), listener) in self.belongings.doors.all().iter() {
            match listener.try_clone() {
                Ok(listener) => self.errand(Errand::Listen { transport, local, listener }),
                Err(error) => tracing::error!(%error, %local, "no connections are taken in: restart"),
            }
        }
    }

    /// The store's file is closed when this returns.
    pub(crate) fn lend_store(&self) {
        self.belongings.lender.iter().for_each(Lender::lend);
    }

    /// Bindings that are in no store: service, address of record, record.
    pub(crate) fn unstored_bindings(&self) -> Vec<(&'static str, String, Vec<u8>)> {
        let of = |(&service, tables): (&&'static str, _)| {
            let tables: &std::sync::Arc<crate::tables::SharedTables> = tables;
            tables.unstored().into_iter().map(move |(aor, record)| (service, aor, record))
        };
        self.tables.iter().flat_map(of).collect()
    }

    /// Copies of the listeners for connections.
    pub(crate) fn doors(&self) -> Vec<TcpListener> {
        self.belongings.doors.all().values().filter_map(|listener| listener.try_clone().ok()).collect()
    }

    /// Every lane gives away what it has, and ends.
    pub(crate) fn surrender(&self) -> Vec<Gift> {
        let (to, gifts) = channel();
        self.post.mailboxes().for_each(|mailbox| mailbox.command(Command::Surrender(to.clone())));
        drop(to);
        let until = Instant::now() + PATIENCE;
        let next = || gifts.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
        std::iter::from_fn(next).collect()
    }
}
