//! What services must know at once ([`proto::tables::Tables`]), shared by all lanes over concurrent maps.
//!
//! Every service has tables of its own (a namespace in the store). Maps that strangers can make grow are bounded: what
//! is old goes when they are full.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use proto::tables::{Binding, Fact, Limit, Tables, User};

use crate::store::Writer;

/// Sources and nonces that are remembered at most.
const REMEMBERED: usize = 100_000;
/// Facts about targets that are remembered at most.
const FACTS: usize = 100_000;
/// How long a used nonce matters: longer than any nonce is good for.
const NONCE_LIFE: Duration = Duration::from_secs(600);

/// How much one source may do in a second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Requests outside dialogs; 0: any number.
    pub requests: u32,
    /// Failed logins.
    pub failures: u32,
    /// Packets that are not SIP.
    pub garbage: u32,
}

impl Default for Rates {
    fn default() -> Rates {
        Rates { requests: 0, failures: 10, garbage: 20 }
    }
}

/// Accounts by digest name and by address of record.
#[derive(Debug, Default)]
struct Accounts {
    by_name: HashMap<String, Arc<User>>,
    by_aor: HashMap<String, Arc<User>>,
}

/// One second of one source.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    count: u32,
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
    windows: DashMap<(Limit, IpAddr), Window>,
    nonces: DashMap<u64, Used>,
    facts: DashMap<(Fact, String), ()>,
    rates: RwLock<Rates>,
    writer: Option<Writer>,
}

impl SharedTables {
    /// Tables that begin with `bindings` and tell `writer` of changes.
    pub fn new(bindings: Vec<(String, Vec<Binding>)>, writer: Option<Writer>) -> Arc<SharedTables> {
        Arc::new(SharedTables {
            bindings: bindings.into_iter().collect(),
            accounts: RwLock::default(),
            windows: DashMap::new(),
            nonces: DashMap::new(),
            facts: DashMap::new(),
            rates: RwLock::default(),
            writer,
        })
    }

    /// Other accounts and limits from now on.
    pub fn reconfigure(&self, users: Vec<User>, rates: Rates) {
        let mut accounts = Accounts::default();
        for user in users.into_iter().map(Arc::new) {
            accounts.by_aor.extend(user.aors.iter().map(|aor| (aor.clone(), user.clone())));
            accounts.by_name.insert(user.name.clone(), user);
        }
        *self.accounts.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(accounts);
        *self.rates.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = rates;
    }

    /// How many addresses of record have a binding.
    pub fn registered(&self) -> usize {
        self.bindings.len()
    }

    fn accounts(&self) -> Arc<Accounts> {
        self.accounts.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn rate(&self, kind: Limit) -> u32 {
        let rates = *self.rates.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        match kind {
            Limit::Request => rates.requests,
            Limit::AuthFailure => rates.failures,
            Limit::Garbage => rates.garbage,
        }
    }
}

/// One lane's hold on a service's tables.
#[derive(Clone, Debug)]
pub struct LaneTables(pub Arc<SharedTables>);

impl Tables for LaneTables {
    fn bindings(&self, aor: &str) -> Vec<Binding> {
        self.0.bindings.get(aor).map(|found| found.value().clone()).unwrap_or_default()
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
        let rate = self.0.rate(kind);
        if rate == 0 {
            return true;
        }
        make_room(&self.0.windows, REMEMBERED, |window| {
            now.saturating_duration_since(window.since).as_secs() >= 1
        });
        let mut window = self.0.windows.entry((kind, source)).or_insert(Window { since: now, count: 0 });
        if now.saturating_duration_since(window.since).as_secs() >= 1 {
            *window = Window { since: now, count: 0 };
        }
        window.count = window.count.saturating_add(1);
        window.count <= rate
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
        assert_eq!(admitted, Rates::default().garbage as usize);
        assert!(tables.admit(now, Limit::Garbage, [192, 0, 2, 2].into()));
        assert!(tables.admit(now + Duration::from_secs(1), Limit::Garbage, source));
    }

    #[test]
    fn an_account_without_a_domain_owns_its_name_at_any() {
        let tables = tables();
        let aors = vec!["alice@".to_owned(), "boss@example.org".to_owned()];
        let secret = Secret::Password("x".into());
        let user =
            User { name: "alice".into(), secret, aors, anchor: None, latch: None, algorithms: Vec::new() };
        tables.0.reconfigure(vec![user], Rates::default());
        assert!(tables.owner("alice@192.0.2.1").is_some());
        assert!(tables.owner("boss@example.org").is_some());
        assert!(tables.owner("boss@example.net").is_none());
        assert!(tables.owner("nonsense").is_none());
    }
}
