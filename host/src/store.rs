//! What outlives the process: bindings and the secret all keys derive from, in one redb file.
//!
//! Lanes never wait for the disk. A change is handed to the writer's thread, which gathers what comes within 100 ms into
//! one commit; the newest change of an address of record wins.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use proto::node::{Flow, FlowId, Transport};
use proto::tables::{Binding, UNREACHABLE};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");
/// Namespace, a zero byte, the address of record → its bindings as JSON.
const BINDINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("bindings");
/// Relay session → what its relay left behind of it.
const SESSIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("relay-sessions");
/// The longest a change waits for its commit.
const COMMIT_EVERY: Duration = Duration::from_millis(100);

/// An open store.
#[derive(Debug)]
pub struct Store {
    database: Arc<Database>,
    changes: Sender<Change>,
    thread: Option<JoinHandle<()>>,
}

/// What the writer's thread is told.
#[derive(Debug)]
enum Change {
    /// Bindings of an address of record (namespace in front) as JSON; `None`: there are none any more.
    Bindings(String, Option<Vec<u8>>),
    /// A relay session; `None`: it has ended.
    Session(u64, Option<Vec<u8>>),
    /// Write what is there and end.
    Close,
}

impl Store {
    /// Opens or makes the file.
    pub fn open(path: &Path) -> Result<Store, redb::Error> {
        let database = Arc::new(Database::create(path)?);
        let begin = database.begin_write()?;
        begin.open_table(KEYS)?;
        begin.open_table(BINDINGS)?;
        begin.open_table(SESSIONS)?;
        begin.commit()?;
        let (changes, waiting) = channel();
        let written = database.clone();
        let thread =
            std::thread::Builder::new().name("store".into()).spawn(move || write_behind(&written, &waiting));
        Ok(Store { database, changes, thread: thread.ok() })
    }

    /// The secret all keys derive from: kept from the first start on.
    pub fn secret(&self) -> Result<[u8; 32], redb::Error> {
        let write = self.database.begin_write()?;
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

    /// Every binding of a namespace. Records that can't be read are left out, and logged.
    pub fn bindings(&self, namespace: &str) -> Result<Vec<(String, Vec<Binding>)>, redb::Error> {
        let read = self.database.begin_read()?;
        let table = read.open_table(BINDINGS)?;
        let mut found = Vec::new();
        for entry in table.iter()? {
            let (key, value) = entry?;
            let Some(aor) = key.value().strip_prefix(namespace).and_then(|rest| rest.strip_prefix('\0'))
            else {
                continue;
            };
            match serde_json::from_slice::<Vec<Stored>>(value.value()) {
                Ok(stored) => found
                    .push((aor.to_owned(), stored.into_iter().filter_map(Stored::into_binding).collect())),
                Err(error) => tracing::warn!(%error, "a stored registration can't be read and is left out"),
            }
        }
        Ok(found)
    }

    /// Every relay session that was left behind.
    pub fn sessions(&self) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
        let read = self.database.begin_read()?;
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

/// Tells the store of changes, without waiting.
#[derive(Clone, Debug)]
pub struct Writer {
    namespace: &'static str,
    changes: Sender<Change>,
}

impl Writer {
    /// These are the bindings now.
    pub fn bindings(&self, aor: &str, bindings: &[Binding]) {
        let key = format!("{}\0{aor}", self.namespace);
        let stored: Vec<Stored> = bindings.iter().map(Stored::from_binding).collect();
        let value = if stored.is_empty() { None } else { serde_json::to_vec(&stored).ok() };
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
}

fn write_behind(database: &Database, waiting: &Receiver<Change>) {
    let mut open = true;
    while open {
        let mut changes = Changes::default();
        // Nothing to write: wait for as long as it takes. Something: gather what else comes soon.
        open = gather(waiting.recv().ok(), &mut changes);
        let until = Instant::now() + COMMIT_EVERY;
        while open {
            match waiting.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) => break,
                change => open = gather(change.ok(), &mut changes),
            }
        }
        if let Err(error) = commit(database, &changes) {
            tracing::error!(%error, registrations = changes.bindings.len(), sessions = changes.sessions.len(), "changes could not be written to the store");
        }
    }
}

/// Adds a change; `false`: it was the end.
fn gather(change: Option<Change>, changes: &mut Changes) -> bool {
    match change {
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

/// A binding as it lies on disk.
#[derive(Deserialize, Serialize)]
struct Stored {
    contact: String,
    call_id: String,
    cseq: u32,
    q: u16,
    /// Milliseconds since the epoch.
    expires: u64,
    transport: String,
    local: SocketAddr,
    remote: SocketAddr,
    flow: u64,
    sent_by: String,
    behind_nat: bool,
    path: Vec<String>,
    instance: Option<String>,
    reg_id: Option<u32>,
    agent: Option<String>,
}

impl Stored {
    fn from_binding(binding: &Binding) -> Stored {
        let expires = binding.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Stored {
            contact: binding.contact.clone(),
            call_id: binding.call_id.clone(),
            cseq: binding.cseq,
            q: binding.q,
            expires: expires.as_millis() as u64,
            transport: binding.flow.transport.to_string(),
            local: binding.flow.local,
            remote: binding.flow.remote,
            flow: binding.flow.id.0,
            sent_by: binding.sent_by.clone(),
            behind_nat: binding.behind_nat,
            path: binding.path.clone(),
            instance: binding.instance.clone(),
            reg_id: binding.reg_id,
            agent: binding.agent.clone(),
        }
    }

    /// As it was; but whoever registered by a connection is unreachable until it registers again, for connections end
    /// with the process, and their identities are never given out again.
    fn into_binding(self) -> Option<Binding> {
        let transport = Transport::from_name(&self.transport)?;
        let unanswered = if self.flow == 0 { 0 } else { UNREACHABLE };
        Some(Binding {
            contact: self.contact,
            call_id: self.call_id,
            cseq: self.cseq,
            q: self.q,
            expires: SystemTime::UNIX_EPOCH + Duration::from_millis(self.expires),
            flow: Flow { transport, local: self.local, remote: self.remote, id: FlowId(self.flow) },
            sent_by: self.sent_by,
            behind_nat: self.behind_nat,
            path: self.path,
            instance: self.instance,
            reg_id: self.reg_id,
            agent: self.agent,
            unanswered,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(contact: &str) -> Binding {
        Binding {
            contact: contact.into(),
            call_id: "c".into(),
            cseq: 1,
            q: 1000,
            expires: SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000),
            flow: Flow::udp(([192, 0, 2, 1], 5060).into(), ([198, 51, 100, 7], 1024).into()),
            sent_by: "10.0.0.1:5060".into(),
            behind_nat: true,
            path: vec!["<sip:edge.example;lr>".into()],
            instance: Some("urn:uuid:1".into()),
            reg_id: Some(1),
            agent: None,
            unanswered: 0,
        }
    }

    #[test]
    fn whoever_registered_by_a_connection_is_unreachable_in_the_next_life() {
        let by = |id| Binding {
            flow: Flow { transport: Transport::Tcp, id: FlowId(id), ..binding("sip:a@10.0.0.1").flow },
            ..binding("sip:a@10.0.0.1")
        };
        let again = |binding: &Binding| Stored::from_binding(binding).into_binding().unwrap();
        assert!(again(&by(7)).is_unreachable());
        assert_eq!(again(&by(0)), by(0));
    }

    #[test]
    fn bindings_and_the_secret_outlive_the_process() {
        let folder = std::env::temp_dir().join(format!("postern-store-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("test.redb");
        let store = Store::open(&file).unwrap();
        let secret = store.secret().unwrap();
        let writer = store.writer("proxy");
        writer.bindings("alice@example.org", &[binding("sip:a@10.0.0.1")]);
        writer.bindings("bob@example.org", &[binding("sip:b@10.0.0.1")]);
        writer.bindings("bob@example.org", &[]);
        drop(writer);
        drop(store);

        let store = Store::open(&file).unwrap();
        assert_eq!(store.secret().unwrap(), secret);
        let alice = vec![("alice@example.org".to_owned(), vec![binding("sip:a@10.0.0.1")])];
        assert_eq!(store.bindings("proxy").unwrap(), alice);
        assert_eq!(store.bindings("redirect").unwrap(), Vec::new());
        drop(store);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
