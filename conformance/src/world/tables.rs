//! What a service of the world knows at once: [`Tables`] over `BTreeMap`s.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use proto::shield::{Deed, Policy, Ruling, Shield};
use proto::tables::{Binding, Fact, Limit, Tables, User};

/// The tables of one service. Bindings survive a restart of its node; the rest does not.
#[derive(Debug, Default)]
pub struct WorldTables {
    users: BTreeMap<String, Arc<User>>,
    bindings: BTreeMap<String, Vec<Binding>>,
    nonces: BTreeMap<u64, BTreeSet<u32>>,
    facts: BTreeSet<(Fact, String)>,
    counts: BTreeMap<(Limit, IpAddr), u32>,
    policy: Option<Policy>,
    /// Made with the first deed, for it needs to know the time.
    shield: Option<Shield>,
    limits: BTreeMap<Limit, u32>,
}

impl WorldTables {
    /// Adds or replaces an account.
    pub fn add_user(&mut self, user: User) {
        self.users.insert(user.name.clone(), Arc::new(user));
    }

    /// Lets every source do this so many times, and no more.
    pub fn limit(&mut self, kind: Limit, times: u32) {
        self.limits.insert(kind, times);
    }

    /// Stands behind a shield from now on.
    pub fn guard(&mut self, policy: Policy) {
        self.policy = Some(policy);
    }

    /// The shield, if there is one.
    pub fn shield(&mut self) -> Option<&mut Shield> {
        self.shield.as_mut()
    }

    /// What a new process starts with: accounts and what is durable.
    pub(super) fn restarted(&mut self) {
        self.nonces.clear();
        self.facts.clear();
        self.counts.clear();
    }
}

impl Tables for WorldTables {
    fn bindings(&self, aor: &str) -> Vec<Binding> {
        self.bindings.get(aor).cloned().unwrap_or_default()
    }

    fn edit_bindings(&mut self, aor: &str, edit: &mut dyn FnMut(&mut Vec<Binding>)) -> Vec<Binding> {
        let bindings = self.bindings.entry(aor.to_owned()).or_default();
        edit(bindings);
        let now = bindings.clone();
        if now.is_empty() {
            self.bindings.remove(aor);
        }
        now
    }

    fn aors(&self) -> Vec<String> {
        self.bindings.keys().cloned().collect()
    }

    fn user(&self, name: &str) -> Option<Arc<User>> {
        self.users.get(name).cloned()
    }

    fn owner(&self, aor: &str) -> Option<Arc<User>> {
        let at_any_domain = aor.split_once('@').map(|(user, _)| format!("{user}@"));
        let owns =
            |user: &&Arc<User>| user.aors.iter().any(|own| own == aor || Some(own) == at_any_domain.as_ref());
        self.users.values().find(owns).cloned()
    }

    fn admit(&mut self, _now: Instant, kind: Limit, source: IpAddr) -> bool {
        let count = self.counts.entry((kind, source)).or_default();
        *count += 1;
        self.limits.get(&kind).is_none_or(|limit| *count <= *limit)
    }

    fn judge(&mut self, now: Instant, deed: &Deed<'_>) -> Ruling {
        let Some(policy) = &self.policy else { return Ruling::PASS };
        self.shield.get_or_insert_with(|| Shield::new(now, [1, 2], policy.clone())).judge(now, deed)
    }

    fn shuts_out(&self, now: Instant, source: IpAddr) -> bool {
        self.shield.as_ref().is_some_and(|shield| shield.shuts_out(now, source))
    }

    fn use_nonce(&mut self, _now: Instant, nonce: u64, count: u32) -> bool {
        let used = self.nonces.entry(nonce).or_default();
        let newest = used.last().copied().unwrap_or(0);
        count + 64 > newest && used.insert(count)
    }

    fn remember(&mut self, fact: Fact, target: &str) {
        self.facts.insert((fact, target.to_owned()));
    }

    fn remembers(&self, fact: Fact, target: &str) -> bool {
        self.facts.contains(&(fact, target.to_owned()))
    }
}
