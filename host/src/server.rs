//! Everything put together: a checked configuration becomes sockets, lanes and threads; nothing starts unless all can.

mod cores;
mod handing;
mod handle;
mod plan;
mod reloading;
mod sockets;
mod starting;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

pub use self::handle::{Handle, Recordings, StatusReport};
pub(crate) use self::sockets::open_udp;
use self::starting::Starting;
use crate::config::Settings;
use crate::config::values::SipAddress;
use crate::dtls::Identity;
use crate::events::Collector;
use crate::keys::{self, Keyring};
use crate::lanes::seat::Command;
use crate::limits;
use crate::store::Store;
use crate::succession::{Predecessor, Remains};

/// Why a process did not start.
#[derive(Debug)]
pub struct StartError {
    /// What was tried, and the operating system's words.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// The address that can't be had, if it is about one: [`Settings::place_of`] finds it in the file.
    pub at: Option<SipAddress>,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.what, self.remedy)
    }
}

impl std::error::Error for StartError {}

/// A running process.
#[derive(Debug)]
pub struct Server {
    lanes: Vec<JoinHandle<()>>,
    outside: JoinHandle<()>,
    handle: Arc<Handle>,
    // Ends after the lanes, so that their last events are read; the store after everybody who writes to it.
    recordings: Option<JoinHandle<()>>,
    _collector: Collector,
    _store: Option<Store>,
}

impl Server {
    /// Opens every socket, then starts every thread.
    pub fn start(settings: &Settings) -> Result<Server, StartError> {
        Server::begin(settings, From::Nothing)
    }

    /// The same with sockets and sessions of another process, which are asked for when everything else is ready.
    pub fn take_over(settings: &Settings, predecessor: &Predecessor) -> Result<Server, StartError> {
        Server::begin(&predecessor.remains().same_ports(settings), From::Predecessor(predecessor))
    }

    /// The same after a successor gave up: these sessions go on, their sockets are [`crate::succession::inherited`].
    pub fn start_again(
        settings: &Settings,
        remains: Remains,
        sessions: Vec<(u64, Vec<u8>)>,
    ) -> Result<Server, StartError> {
        Server::begin(&remains.same_ports(settings), From::Itself(remains, sessions))
    }

    fn begin(settings: &Settings, from: From<'_>) -> Result<Server, StartError> {
        limits::raise_files();
        let key = settings.file.store_key.as_deref();
        let store = settings.file.store.as_deref().map(|path| open_store(path, key)).transpose()?;
        let secret = match (&store, &from) {
            (Some(store), _) => store.secret().map_err(|error| store_error(settings, &error))?,
            (None, from) => from.remains().map_or_else(keys::random, Remains::secret),
        };
        let identity = match &store {
            Some(store) => store.identity().map_err(|error| store_error(settings, &error))?,
            None => from.remains().and_then(Remains::identity).map_or_else(Identity::new, Ok),
        };
        let known = identity.clone().ok();
        let keys = Keyring::with_identity(&secret, settings.file.node_key.as_deref(), identity);
        Starting { settings, keys, secret, identity: known, store, from }.start()
    }

    /// What others may ask of it.
    pub fn handle(&self) -> Arc<Handle> {
        self.handle.clone()
    }

    /// Ends every thread, then closes the store.
    pub fn stop(self) {
        self.handle.post.mailboxes().for_each(|mailbox| mailbox.command(Command::Stop));
        for lane in self.lanes {
            let _ = lane.join();
        }
        // They held the way to the recordings, too.
        self.recordings.into_iter().for_each(|writer| drop(writer.join()));
        // The lanes held the last errands; without them the runtime ends.
        let _ = self.outside.join();
    }
}

/// Where a start has sockets and sessions from.
#[derive(Debug)]
enum From<'a> {
    Nothing,
    Predecessor(&'a Predecessor),
    Itself(Remains, Vec<(u64, Vec<u8>)>),
}

impl From<'_> {
    fn remains(&self) -> Option<&Remains> {
        match self {
            From::Nothing => None,
            From::Predecessor(predecessor) => Some(predecessor.remains()),
            From::Itself(remains, _) => Some(remains),
        }
    }
}

fn open_store(path: &Path, key: Option<&Path>) -> Result<Store, StartError> {
    Store::open(path, key).map_err(|error| StartError {
        what: format!("cannot open the store {}: {error}", path.display()),
        remedy: "make its folder, let this user write there, and stop any other process that has it open"
            .into(),
        at: None,
    })
}

fn store_error(settings: &Settings, error: &redb::Error) -> StartError {
    let path = settings.file.store.as_deref().unwrap_or(Path::new(""));
    StartError {
        what: format!("cannot read the store {}: {error}", path.display()),
        remedy: "restore it from a backup, or move it away: phones register anew within minutes".into(),
        at: None,
    }
}

pub(crate) fn no_threads(error: &dyn fmt::Display) -> StartError {
    let what = format!("cannot start a thread: {error}");
    StartError { what, remedy: "raise the limits of this user (ulimit -u, ulimit -n)".into(), at: None }
}
