//! What services must know at once ([`proto::tables::Tables`]), shared by all lanes over concurrent maps.
//!
//! Every service has tables of its own (a namespace in the store). Maps that strangers can make grow are bounded: what
//! is old goes when they are full.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant, SystemTime};

use dashmap::DashMap;
use proto::cidr::Cidr;
use proto::shield::{Ban, Deed, Policy, Ruling, Shield};
use proto::tables::{Binding, Fact, Limit, Tables, User};

use crate::accounts::Accounts;
use crate::bindings::Bindings;
use crate::nonces::Nonces;
use crate::shield::Report;
use crate::store::Writer;

/// Facts about targets that are remembered at most.
const FACTS: usize = 100_000;
/// The tables of one service.
#[derive(Debug)]
pub struct SharedTables {
    bindings: Bindings,
    accounts: RwLock<Arc<Accounts>>,
    shield: Mutex<Shield>,
    /// Whether the shield could shut anybody out at all; every packet asks.
    armed: AtomicBool,
    nonces: Mutex<Nonces>,
    facts: DashMap<(Fact, String), ()>,
    writer: Option<Writer>,
    /// Relay sessions a process before this one left behind.
    left_behind: Vec<(u64, Vec<u8>)>,
}

impl SharedTables {
    /// Tables that begin with `bindings` and tell `writer` of changes.
    pub fn new(bindings: Bindings, writer: Option<Writer>) -> Arc<SharedTables> {
        SharedTables::with_sessions(bindings, Vec::new(), writer)
    }

    /// The same with relay sessions that were left behind.
    pub fn with_sessions(
        bindings: Bindings,
        left_behind: Vec<(u64, Vec<u8>)>,
        writer: Option<Writer>,
    ) -> Arc<SharedTables> {
        Arc::new(SharedTables {
            left_behind,
            bindings,
            accounts: RwLock::default(),
            shield: Mutex::new(Shield::new(Instant::now(), secret(), Policy::default())),
            armed: AtomicBool::new(false),
            nonces: Mutex::new(Nonces::new(Instant::now())),
            facts: DashMap::new(),
            writer,
        })
    }

    /// Other accounts and limits from now on.
    pub fn reconfigure(&self, accounts: &Arc<Accounts>, policy: Policy) {
        let mut there = self.accounts.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        *there = accounts.clone();
        drop(there);
        self.shield(|shield| shield.reconfigure(policy));
    }

    /// Who is registered.
    pub(crate) fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// How many addresses of record have a binding whose time is not over.
    pub fn registered(&self, wall: SystemTime) -> usize {
        self.bindings.live(wall)
    }

    /// Every binding, where no store has them.
    pub(crate) fn unstored(&self) -> Vec<(String, Vec<u8>)> {
        if self.writer.is_some() { Vec::new() } else { self.bindings.records() }
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
        self.0.bindings.of(aor)
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

    fn edit_bindings(&mut self, aor: &str, edit: &mut dyn FnMut(&mut Vec<Binding>)) -> Vec<Binding> {
        let tell = |record: &[u8]| self.0.writer.iter().for_each(|writer| writer.bindings(aor, record));
        self.0.bindings.edit(aor, edit, tell)
    }

    fn aors(&self) -> Vec<String> {
        self.0.bindings.aors()
    }

    fn user(&self, name: &str) -> Option<Arc<User>> {
        self.0.accounts().named(name)
    }

    fn owner(&self, aor: &str) -> Option<Arc<User>> {
        let accounts = self.0.accounts();
        let anywhere = || accounts.owner(&aor[..=aor.rfind('@')?]);
        accounts.owner(aor).or_else(anywhere)
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
        let mut nonces = self.0.nonces.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        nonces.take(now, nonce, count)
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

#[cfg(test)]
mod tests {
    use proto::tables::Secret;

    use super::*;

    fn tables() -> LaneTables {
        LaneTables(SharedTables::new(Bindings::default(), None))
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
        tables.0.reconfigure(&Arc::new(Accounts::new([user].into_iter())), Policy::default());
        assert!(tables.owner("alice@192.0.2.1").is_some());
        assert!(tables.owner("boss@example.org").is_some());
        assert!(tables.owner("boss@example.net").is_none());
        assert!(tables.owner("nonsense").is_none());
    }
}
