//! What services must know at once ([`proto::tables::Tables`]), shared by all lanes over concurrent maps.
//!
//! Every service has tables of its own (a namespace in the store). Maps that strangers can make grow are bounded: what
//! is old goes when they are full.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use proto::cidr::Cidr;
use proto::shield::{Ban, Deed, Policy, Ruling, Shield};
use proto::tables::{Binding, Fact, Limit, Tables, User};

use crate::shield::Report;
use crate::store::Writer;

/// Nonces that are remembered at most.
const REMEMBERED: usize = 100_000;
/// Facts about targets that are remembered at most.
const FACTS: usize = 100_000;
/// How long a used nonce matters: longer than any nonce is good for.
const NONCE_LIFE: Duration = Duration::from_secs(600);

/// Accounts by digest name and by address of record.
#[derive(Debug, Default)]
struct Accounts {
    by_name: HashMap<String, Arc<User>>,
    by_aor: HashMap<String, Arc<User>>,
}

/// The counts of one nonce that were used: the highest, and which of the 64 up to it.
#[derive(Clone, Copy, Debug)]
struct Used {
    seen: Instant,
    highest: u32,
    mask: u64,
}

/// The tables of one service.
#[derive(Debug)]
pub struct SharedTables {
    bindings: DashMap<String, Vec<Binding>>,
    accounts: RwLock<Arc<Accounts>>,
    shield: Mutex<Shield>,
    /// Whether the shield could shut anybody out at all; every packet asks.
    armed: AtomicBool,
    nonces: DashMap<u64, Used>,
    facts: DashMap<(Fact, String), ()>,
    writer: Option<Writer>,
    /// Relay sessions a process before this one left behind.
    left_behind: Vec<(u64, Vec<u8>)>,
}

impl SharedTables {
    /// Tables that begin with `bindings` and tell `writer` of changes.
    pub fn new(bindings: Vec<(String, Vec<Binding>)>, writer: Option<Writer>) -> Arc<SharedTables> {
        SharedTables::with_sessions(bindings, Vec::new(), writer)
    }

    /// The same with relay sessions that were left behind.
    pub fn with_sessions(
        bindings: Vec<(String, Vec<Binding>)>,
        left_behind: Vec<(u64, Vec<u8>)>,
        writer: Option<Writer>,
    ) -> Arc<SharedTables> {
        Arc::new(SharedTables {
            left_behind,
            bindings: bindings.into_iter().collect(),
            accounts: RwLock::default(),
            shield: Mutex::new(Shield::new(Instant::now(), secret(), Policy::default())),
            armed: AtomicBool::new(false),
            nonces: DashMap::new(),
            facts: DashMap::new(),
            writer,
        })
    }

    /// Other accounts and limits from now on.
    pub fn reconfigure(&self, users: Vec<User>, policy: Policy) {
        let mut accounts = Accounts::default();
        for user in users.into_iter().map(Arc::new) {
            accounts.by_aor.extend(user.aors.iter().map(|aor| (aor.clone(), user.clone())));
            accounts.by_name.insert(user.name.clone(), user);
        }
        *self.accounts.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(accounts);
        self.shield(|shield| shield.reconfigure(policy));
    }

    /// How many addresses of record have a binding.
    pub fn registered(&self) -> usize {
        self.bindings.len()
    }

    fn accounts(&self) -> Arc<Accounts> {
        self.accounts.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn shield<T>(&self, act: impl FnOnce(&mut Shield) -> T) -> T {
        let mut shield = self.shield.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let done = act(&mut shield);
        self.armed.store(!shield.is_idle(Instant::now()), Ordering::Relaxed);
        done
    }

    /// Whether nothing from there is even to be read.
    pub fn shuts_out(&self, now: Instant, source: IpAddr) -> bool {
        self.armed.load(Ordering::Relaxed) && self.shield(|shield| shield.shuts_out(now, source))
    }

    /// Who is banned, and whom the operator lets pass until the next start.
    pub fn banned(&self) -> (Vec<Ban>, Vec<Cidr>) {
        self.shield(|shield| (shield.banned(Instant::now()), shield.allowed().to_vec()))
    }

    /// Shuts a source out; `None`: it is allowed.
    pub fn ban(&self, source: IpAddr, lasts: Duration) -> Option<Ban> {
        self.shield(|shield| shield.ban(Instant::now(), source, lasts))
    }

    /// Lets a range pass until the next start; tells how many bans that lifted. `None`: too many are.
    pub fn allow(&self, range: Cidr) -> Option<usize> {
        self.shield(|shield| shield.allow(range))
    }

    /// How the shield stands.
    pub fn shield_report(&self) -> Report {
        self.shield(|shield| Report::new(shield.banned(Instant::now()).len(), shield.counts()))
    }
}

/// What the shield's hashes are keyed with.
fn secret() -> [u64; 2] {
    let random = crate::keys::random();
    [0, 8].map(|at| u64::from_le_bytes(random[at..at + 8].try_into().expect("8 of 32 bytes")))
}

/// One lane's hold on a service's tables.
#[derive(Clone, Debug)]
pub struct LaneTables(pub Arc<SharedTables>);

impl Tables for LaneTables {
    fn bindings(&self, aor: &str) -> Vec<Binding> {
        self.0.bindings.get(aor).map(|found| found.value().clone()).unwrap_or_default()
    }

    fn keeps_sessions(&self) -> bool {
        self.0.writer.is_some()
    }

    fn keep_session(&mut self, session: u64, record: Option<&[u8]>) {
        self.0.writer.iter().for_each(|writer| writer.session(session, record));
    }

    fn kept_sessions(&mut self) -> Vec<(u64, Vec<u8>)> {
        self.0.left_behind.clone()
    }

    fn edit_bindings(&mut self, aor: &str, edit: &mut dyn FnMut(&mut Vec<Binding>)) {
        // The entry is locked while it changes, and told to the store in the same order.
        let mut entry = self.0.bindings.entry(aor.to_owned()).or_default();
        edit(entry.value_mut());
        if let Some(writer) = &self.0.writer {
            writer.bindings(aor, entry.value());
        }
        let empty = entry.value().is_empty();
        drop(entry);
        if empty {
            self.0.bindings.remove_if(aor, |_, bindings| bindings.is_empty());
        }
    }

    fn aors(&self) -> Vec<String> {
        self.0.bindings.iter().map(|entry| entry.key().clone()).collect()
    }

    fn user(&self, name: &str) -> Option<Arc<User>> {
        self.0.accounts().by_name.get(name).cloned()
    }

    fn owner(&self, aor: &str) -> Option<Arc<User>> {
        let accounts = self.0.accounts();
        let anywhere = || accounts.by_aor.get(&aor[..=aor.rfind('@')?]);
        accounts.by_aor.get(aor).or_else(anywhere).cloned()
    }

    fn admit(&mut self, now: Instant, kind: Limit, source: IpAddr) -> bool {
        self.0.shield(|shield| match kind {
            Limit::Request => shield.request(now, source),
            Limit::Garbage => shield.garbage(now, source),
        })
    }

    fn judge(&mut self, now: Instant, deed: &Deed<'_>) -> Ruling {
        self.0.shield(|shield| shield.judge(now, deed))
    }

    fn shuts_out(&self, now: Instant, source: IpAddr) -> bool {
        self.0.shuts_out(now, source)
    }

    fn use_nonce(&mut self, now: Instant, nonce: u64, count: u32) -> bool {
        make_room(&self.0.nonces, REMEMBERED, |used| now.saturating_duration_since(used.seen) > NONCE_LIFE);
        let mut used = self.0.nonces.entry(nonce).or_insert(Used { seen: now, highest: 0, mask: 0 });
        used.seen = now;
        used.take(count)
    }

    fn remember(&mut self, fact: Fact, target: &str) {
        if self.0.facts.len() < FACTS {
            self.0.facts.insert((fact, target.to_owned()), ());
        }
    }

    fn remembers(&self, fact: Fact, target: &str) -> bool {
        !self.0.facts.is_empty() && self.0.facts.contains_key(&(fact, target.to_owned()))
    }
}

impl Used {
    /// Marks a count as used; `false` when it was, or is too old to tell.
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            let shift = count - self.highest;
            self.mask = self.mask.checked_shl(shift).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let bit = 1u64.checked_shl(self.highest - count).unwrap_or(0);
        let fresh = count > 0 && bit != 0 && self.mask & bit == 0;
        self.mask |= bit;
        fresh
    }
}

/// Lets go of what is old when a map is full; of everything when all of it is young.
fn make_room<K: Eq + Hash, V>(map: &DashMap<K, V>, most: usize, is_old: impl Fn(&V) -> bool) {
    if map.len() < most {
        return;
    }
    map.retain(|_, value| !is_old(value));
    if map.len() >= most {
        map.clear();
    }
}

#[cfg(test)]
mod tests {
    use proto::tables::Secret;

    use super::*;

    fn tables() -> LaneTables {
        LaneTables(SharedTables::new(Vec::new(), None))
    }

    #[test]
    fn a_nonce_count_serves_once_within_its_window() {
        let (mut tables, now) = (tables(), Instant::now());
        assert!(tables.use_nonce(now, 7, 1));
        assert!(!tables.use_nonce(now, 7, 1));
        assert!(tables.use_nonce(now, 7, 66));
        assert!(tables.use_nonce(now, 7, 3), "63 back is inside");
        assert!(!tables.use_nonce(now, 7, 2), "64 back is outside");
        assert!(!tables.use_nonce(now, 7, 0));
        assert!(tables.use_nonce(now, 8, 1), "another nonce counts for itself");
    }

    #[test]
    fn a_source_over_its_limit_waits_for_the_next_second() {
        let (mut tables, now) = (tables(), Instant::now());
        let source: IpAddr = [192, 0, 2, 1].into();
        let admitted = (0..30).filter(|_| tables.admit(now, Limit::Garbage, source)).count();
        assert_eq!(admitted, Policy::default().garbage as usize);
        assert!(tables.admit(now, Limit::Garbage, [192, 0, 2, 2].into()));
        assert!(tables.admit(now + Duration::from_secs(1), Limit::Garbage, source));
    }

    #[test]
    fn an_account_without_a_domain_owns_its_name_at_any() {
        let tables = tables();
        let aors = vec!["alice@".to_owned(), "boss@example.org".to_owned()];
        let secret = Secret::Password("x".into());
        let user = User {
            name: "alice".into(),
            secret,
            aors,
            anchor: None,
            latch: None,
            srtp: None,
            algorithms: Vec::new(),
        };
        tables.0.reconfigure(vec![user], Policy::default());
        assert!(tables.owner("alice@192.0.2.1").is_some());
        assert!(tables.owner("boss@example.org").is_some());
        assert!(tables.owner("boss@example.net").is_none());
        assert!(tables.owner("nonsense").is_none());
    }
}
