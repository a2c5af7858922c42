//! What outlives the process: bindings and the secret all keys derive from, in one redb file.
//!
//! Lanes never wait for the disk. A change is handed to the writer's thread, which gathers what comes within 100 ms into
//! one commit; the newest change of an address of record wins. What is secret is sealed (`sealed`).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle, WriteTransaction};

use crate::bindings::Bindings;
use crate::dtls::Identity;
use crate::sealed::{self, Seal};

/// What keys derive from, sealed.
const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sealed-keys");
/// Namespace, a zero byte, the address of record → its bindings, as [`Bindings`] has them.
const BINDINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("bindings");
/// Relay session → what its relay left behind of it, sealed: keys of SRTP are in it.
const SESSIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sealed-relay-sessions");
/// The same two as they were kept before they were sealed.
const CLEAR_KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");
const CLEAR_SESSIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("relay-sessions");
const SECRET: &str = "secret";
const IDENTITY: &str = "dtls";
/// Pages of the file that are kept in memory: it is read once, at the start, and what is written is on its way to the disk.
const CACHE: usize = 16 << 20;
/// The longest a change waits for its commit.
const COMMIT_EVERY: Duration = Duration::from_millis(100);

/// An open store.
#[derive(Debug)]
pub struct Store {
    file: Lender,
    changes: Sender<Change>,
    thread: Option<JoinHandle<()>>,
}

/// What the writer's thread is told.
#[derive(Debug)]
enum Change {
    /// Bindings of an address of record (namespace in front); `None`: there are none any more.
    Bindings(String, Option<Vec<u8>>),
    /// A relay session; `None`: it has ended.
    Session(u64, Option<Vec<u8>>),
    /// Write what is there and close the file; changes wait.
    Lend(Sender<()>),
    /// Somebody has opened the file again.
    Resume,
    /// Write what is there and end.
    Close,
}

impl Store {
    /// Opens or makes the file, and the one its key is in (`None`: beside it).
    pub fn open(path: &Path, key: Option<&Path>) -> Result<Store, redb::Error> {
        let key = key.map_or_else(|| sealed::beside(path), Path::to_owned);
        let (database, seal) = open(path, &key)?;
        let database = Arc::new(Mutex::new(Some(database)));
        let (changes, waiting) = channel();
        let file = Lender { path: path.to_owned(), key, seal, database, changes: changes.clone() };
        let written = file.clone();
        let thread =
            std::thread::Builder::new().name("store".into()).spawn(move || write_behind(&written, &waiting));
        Ok(Store { file, changes, thread: thread.ok() })
    }

    /// Who may lend the file to another process.
    pub fn lender(&self) -> Lender {
        self.file.clone()
    }

    /// The secret all keys derive from: kept from the first start on.
    pub fn secret(&self) -> Result<[u8; 32], redb::Error> {
        let there = self.file.database();
        let write = there.as_ref().ok_or_else(lent)?.begin_write()?;
        let secret = {
            let mut keys = write.open_table(KEYS)?;
            let seal = &self.file.seal;
            let kept = keys.get(SECRET)?.and_then(|value| seal.open(SECRET, value.value()));
            let kept = kept.and_then(|secret| <[u8; 32]>::try_from(secret).ok());
            let secret = kept.unwrap_or_else(crate::keys::random);
            keys.insert(SECRET, seal.seal(SECRET, &secret).as_slice())?;
            secret
        };
        write.commit()?;
        Ok(secret)
    }

    /// The certificate for DTLS-SRTP: kept from the first start on.
    pub fn identity(&self) -> Result<Result<Identity, String>, redb::Error> {
        let there = self.file.database();
        let write = there.as_ref().ok_or_else(lent)?.begin_write()?;
        let identity = {
            let mut keys = write.open_table(KEYS)?;
            let seal = &self.file.seal;
            let kept = keys.get(IDENTITY)?.and_then(|value| seal.open(IDENTITY, value.value()));
            let kept = kept.and_then(|record| serde_json::from_slice(&record).ok());
            let identity = kept.map_or_else(Identity::new, Ok);
            if let Ok(record) = identity.as_ref().map(serde_json::to_vec) {
                keys.insert(IDENTITY, seal.seal(IDENTITY, &record.unwrap_or_default()).as_slice())?;
            }
            identity
        };
        write.commit()?;
        Ok(identity)
    }

    /// Every binding of a namespace. Records that can't be read are left out, and logged.
    pub fn bindings(&self, namespace: &str) -> Result<Bindings, redb::Error> {
        let there = self.file.database();
        let read = there.as_ref().ok_or_else(lent)?.begin_read()?;
        let table = read.open_table(BINDINGS)?;
        let bindings = Bindings::default();
        // The zero byte behind the namespace is the least there is, so a one ends what begins with it.
        for entry in table.range(format!("{namespace}\0").as_str()..format!("{namespace}\u{1}").as_str())? {
            let (key, record) = entry?;
            let aor = &key.value()[namespace.len() + 1..];
            if !bindings.restore(aor, record.value()) {
                tracing::warn!(
                    "a stored registration can't be read and is left out: its phone will register anew"
                );
            }
        }
        Ok(bindings)
    }

    /// Every relay session that was left behind. Records that can't be opened are left out, and logged.
    pub fn sessions(&self) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
        let there = self.file.database();
        let read = there.as_ref().ok_or_else(lent)?.begin_read()?;
        let table = read.open_table(SESSIONS)?;
        let mut sessions = Vec::new();
        for entry in table.iter()? {
            let (session, record) = entry?;
            match self.file.seal.open(&name_of(session.value()), record.value()) {
                Some(record) => sessions.push((session.value(), record)),
                None => tracing::warn!("a stored relay session can't be opened and is left out"),
            }
        }
        Ok(sessions)
    }

    /// What tables of this namespace tell their changes to.
    pub fn writer(&self, namespace: &'static str) -> Writer {
        Writer { namespace, changes: self.changes.clone() }
    }
}

impl Drop for Store {
    /// What is still waiting is written before the file is closed.
    fn drop(&mut self) {
        let _ = self.changes.send(Change::Close);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(path: &Path, key: &Path) -> Result<(Database, Seal), redb::Error> {
    let mut database = Database::builder().set_cache_size(CACHE).create_file(private(path)?)?;
    let begin = database.begin_write()?;
    begin.open_table(BINDINGS)?;
    begin.open_table(SESSIONS)?;
    let kept = begin.open_table(KEYS)?.get(SECRET)?.map(|value| value.value().to_vec());
    let seal = Seal::from_file(key, kept.is_some())?;
    if kept.is_some_and(|sealed| seal.open(SECRET, &sealed).is_none()) {
        let what = format!("it was sealed with another key than {}: put that file back", key.display());
        return Err(io::Error::other(what).into());
    }
    let was_clear = seal_what_was_clear(&begin, &seal)?;
    begin.commit()?;
    if was_clear {
        // What was freed goes: it held keys in clear.
        database.compact()?;
    }
    Ok((database, seal))
}

/// A store of before is sealed; whether it was one.
fn seal_what_was_clear(write: &WriteTransaction, seal: &Seal) -> Result<bool, redb::Error> {
    let clear = [CLEAR_KEYS.name(), CLEAR_SESSIONS.name()];
    if !write.list_tables()?.any(|table| clear.contains(&table.name())) {
        return Ok(false);
    }
    let mut keys = write.open_table(KEYS)?;
    for entry in write.open_table(CLEAR_KEYS)?.iter()? {
        let (name, record) = entry?;
        keys.insert(name.value(), seal.seal(name.value(), record.value()).as_slice())?;
    }
    let mut sessions = write.open_table(SESSIONS)?;
    for entry in write.open_table(CLEAR_SESSIONS)?.iter()? {
        let (session, record) = entry?;
        let sealed = seal.seal(&name_of(session.value()), record.value());
        sessions.insert(session.value(), sealed.as_slice())?;
    }
    write.delete_table(CLEAR_KEYS)?;
    write.delete_table(CLEAR_SESSIONS)?;
    Ok(true)
}

/// What the record of a relay session is called when it is sealed.
fn name_of(session: u64) -> String {
    format!("relay session {session}")
}

fn lent() -> redb::Error {
    redb::Error::Io(std::io::Error::other("the store is lent to another process"))
}

/// The file, for its owner's eyes only: who is registered, and who calls, is in it. One that others could read so far is
/// closed to them.
fn private(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    sealed::close_to_others(&file, path, "the store")?;
    Ok(file)
}

/// Lends the file of a store to another process: only one may have it open.
#[derive(Clone, Debug)]
pub struct Lender {
    path: PathBuf,
    key: PathBuf,
    seal: Seal,
    database: Arc<Mutex<Option<Database>>>,
    changes: Sender<Change>,
}

impl Lender {
    fn database(&self) -> MutexGuard<'_, Option<Database>> {
        self.database.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Everything is on disk and the file closed when this returns; later changes wait.
    pub fn lend(&self) {
        let (to, closed) = channel();
        if self.changes.send(Change::Lend(to)).is_ok() {
            let _ = closed.recv();
        }
    }

    /// Takes it back, and writes what has waited.
    pub fn take_back(&self) {
        match open(&self.path, &self.key) {
            Ok((database, _)) => *self.database() = Some(database),
            Err(error) => tracing::error!(%error, "the store can't be opened again: restart this process"),
        }
        let _ = self.changes.send(Change::Resume);
    }
}

/// Tells the store of changes, without waiting.
#[derive(Clone, Debug)]
pub struct Writer {
    namespace: &'static str,
    changes: Sender<Change>,
}

impl Writer {
    /// This is the record of the bindings now; an empty one: there are none.
    pub fn bindings(&self, aor: &str, record: &[u8]) {
        let key = format!("{}\0{aor}", self.namespace);
        let value = (!record.is_empty()).then(|| record.to_vec());
        // Only fails when the process is on its way out.
        let _ = self.changes.send(Change::Bindings(key, value));
    }
}

impl Writer {
    /// This is the relay session now; `None`: it has ended.
    pub fn session(&self, session: u64, record: Option<&[u8]>) {
        // Only fails when the process is on its way out.
        let _ = self.changes.send(Change::Session(session, record.map(<[u8]>::to_vec)));
    }
}

/// What is to be committed: the newest change of each record.
#[derive(Debug, Default)]
struct Changes {
    bindings: BTreeMap<String, Option<Vec<u8>>>,
    sessions: BTreeMap<u64, Option<Vec<u8>>>,
    /// Who is told that the file is closed.
    closed: Option<Sender<()>>,
}

fn write_behind(file: &Lender, waiting: &Receiver<Change>) {
    let (mut open, mut changes) = (true, Changes::default());
    while open {
        // Nothing to write: wait for as long as it takes. Something: what else comes soon gathers, and wakes nobody.
        open = gather(waiting.recv().ok(), &mut changes);
        if open && changes.closed.is_none() {
            std::thread::sleep(COMMIT_EVERY);
        }
        while open && let Ok(change) = waiting.try_recv() {
            open = gather(Some(change), &mut changes);
        }
        write(file, &mut changes);
    }
}

/// Writes what is there, unless the file is lent: then it waits.
fn write(file: &Lender, changes: &mut Changes) {
    let mut database = file.database();
    if let Some(there) = &*database {
        if let Err(error) = commit(there, &file.seal, changes) {
            tracing::error!(%error, registrations = changes.bindings.len(), sessions = changes.sessions.len(), "changes could not be written to the store");
        }
        (changes.bindings, changes.sessions) = Default::default();
    }
    if let Some(closed) = changes.closed.take() {
        *database = None;
        let _ = closed.send(());
    }
}

/// Adds a change; `false`: it was the end.
fn gather(change: Option<Change>, changes: &mut Changes) -> bool {
    match change {
        Some(Change::Lend(to)) => changes.closed = Some(to),
        Some(Change::Resume) => {}
        Some(Change::Bindings(key, value)) => drop(changes.bindings.insert(key, value)),
        Some(Change::Session(session, record)) => drop(changes.sessions.insert(session, record)),
        Some(Change::Close) | None => return false,
    }
    true
}

fn commit(database: &Database, seal: &Seal, changes: &Changes) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let mut table = write.open_table(BINDINGS)?;
        for (key, value) in &changes.bindings {
            match value {
                Some(value) => drop(table.insert(key.as_str(), value.as_slice())?),
                None => drop(table.remove(key.as_str())?),
            }
        }
        let mut table = write.open_table(SESSIONS)?;
        for (session, record) in &changes.sessions {
            match record {
                Some(record) => {
                    drop(table.insert(*session, seal.seal(&name_of(*session), record).as_slice())?)
                }
                None => drop(table.remove(*session)?),
            }
        }
    }
    Ok(write.commit()?)
}

#[cfg(test)]
mod tests;
