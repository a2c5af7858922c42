//! What outlives the process: bindings and the secret all keys derive from, in one redb file.
//!
//! Lanes never wait for the disk. A change is handed to the writer's thread, which gathers what comes within 100 ms into
//! one commit; the newest change of an address of record wins.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::bindings::Bindings;
use crate::dtls::Identity;

const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");
/// Namespace, a zero byte, the address of record → its bindings, as [`Bindings`] has them.
const BINDINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("bindings");
/// Relay session → what its relay left behind of it.
const SESSIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("relay-sessions");
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
    /// Opens or makes the file.
    pub fn open(path: &Path) -> Result<Store, redb::Error> {
        let database = Arc::new(Mutex::new(Some(open(path)?)));
        let (changes, waiting) = channel();
        let file = Lender { path: path.to_owned(), database, changes: changes.clone() };
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
            let kept = keys.get("secret")?.and_then(|value| <[u8; 32]>::try_from(value.value()).ok());
            let secret = kept.unwrap_or_else(crate::keys::random);
            keys.insert("secret", secret.as_slice())?;
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
            let kept = keys.get("dtls")?.and_then(|value| serde_json::from_slice(value.value()).ok());
            let identity = kept.map_or_else(Identity::new, Ok);
            if let Ok(record) = identity.as_ref().map(serde_json::to_vec) {
                keys.insert("dtls", record.unwrap_or_default().as_slice())?;
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

    /// Every relay session that was left behind.
    pub fn sessions(&self) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
        let there = self.file.database();
        let read = there.as_ref().ok_or_else(lent)?.begin_read()?;
        let table = read.open_table(SESSIONS)?;
        let entries =
            table.iter()?.map(|entry| entry.map(|(key, value)| (key.value(), value.value().to_vec())));
        Ok(entries.collect::<Result<_, _>>()?)
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

fn open(path: &Path) -> Result<Database, redb::Error> {
    let database = Database::builder().set_cache_size(CACHE).create_file(private(path)?)?;
    let begin = database.begin_write()?;
    begin.open_table(KEYS)?;
    begin.open_table(BINDINGS)?;
    begin.open_table(SESSIONS)?;
    begin.commit()?;
    Ok(database)
}

fn lent() -> redb::Error {
    redb::Error::Io(std::io::Error::other("the store is lent to another process"))
}

/// The file, for its owner's eyes only: keys of calls and certificates are in it. One that others could read so far is
/// closed to them.
fn private(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        match file.set_permissions(Permissions::from_mode(0o600)) {
            Ok(()) => {
                tracing::warn!(path = %path.display(), "others could read the store: its owner alone can now")
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "others can read the store: chmod 600 it")
            }
        }
    }
    Ok(file)
}

/// Lends the file of a store to another process: only one may have it open.
#[derive(Clone, Debug)]
pub struct Lender {
    path: PathBuf,
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
        match open(&self.path) {
            Ok(database) => *self.database() = Some(database),
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
        if let Err(error) = commit(there, changes) {
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

fn commit(database: &Database, changes: &Changes) -> Result<(), redb::Error> {
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
                Some(record) => drop(table.insert(*session, record.as_slice())?),
                None => drop(table.remove(*session)?),
            }
        }
    }
    Ok(write.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::tables::Binding;

    use crate::bindings::tests::binding;

    #[test]
    fn what_changes_while_the_file_is_lent_is_written_when_it_is_back() {
        let folder = std::env::temp_dir().join(format!("postern-store-lent-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("test.redb");
        let store = Store::open(&file).unwrap();
        let writer = store.writer("relay");
        writer.session(1, Some(b"before"));
        store.lender().lend();
        let other = Store::open(&file).unwrap();
        assert_eq!(other.sessions().unwrap(), [(1, b"before".to_vec())]);
        writer.session(2, Some(b"meanwhile"));
        assert!(store.sessions().is_err(), "it is lent");
        drop(other);
        store.lender().take_back();
        drop(store);
        let kept = Store::open(&file).unwrap().sessions().unwrap();
        assert_eq!(kept, [(1, b"before".to_vec()), (2, b"meanwhile".to_vec())]);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn its_owner_alone_can_read_it_even_one_that_others_could() {
        let folder = std::env::temp_dir().join(format!("postern-store-private-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("test.redb");
        for before in [None, Some(0o644)] {
            before.into_iter().for_each(|mode| {
                std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            });
            drop(Store::open(&file).unwrap());
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{before:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn bindings_and_the_secret_outlive_the_process() {
        let folder = std::env::temp_dir().join(format!("postern-store-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("test.redb");
        let store = Store::open(&file).unwrap();
        let secret = store.secret().unwrap();
        let certificate = format!("{:?}", store.identity().unwrap().unwrap());
        let (bindings, alice) = (Bindings::default(), [binding("sip:a@10.0.0.1")]);
        let put = |aor: &str, some: &[Binding]| {
            let writer = store.writer("proxy");
            bindings.edit(aor, &mut |there| *there = some.to_vec(), |record| writer.bindings(aor, record));
        };
        put("alice@example.org", &alice);
        put("bob@example.org", &[binding("sip:b@10.0.0.1")]);
        put("bob@example.org", &[]);
        drop(store);

        let store = Store::open(&file).unwrap();
        assert_eq!(store.secret().unwrap(), secret);
        assert_eq!(format!("{:?}", store.identity().unwrap().unwrap()), certificate);
        let kept = store.bindings("proxy").unwrap();
        assert_eq!(
            (kept.aors(), kept.of("alice@example.org")),
            (vec!["alice@example.org".into()], alice.into())
        );
        assert!(["redirect", "prox", "proxy2"].iter().all(|other| store.bindings(other).unwrap().is_empty()));
        drop(store);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
