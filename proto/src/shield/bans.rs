//! The list of bans: bounded, each growing on the one before it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::Policy;

/// Bans that are remembered at most; the one that ends first makes room.
const MOST: usize = 8192;
/// Characters of an account's name that are kept.
const NAME: usize = 64;
/// Bans in a row that make a ban longer.
const STRIKES: u32 = 16;

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The source: an IPv4 address, or the first of an IPv6 /64.
    pub source: IpAddr,
    /// The account that is not heard from there; "" for everybody.
    pub account: Box<str>,
    /// Why.
    pub why: &'static str,
    /// How long it still lasts, when it was asked for.
    pub left: Duration,
    /// How many there were in a row, this one included.
    pub strikes: u32,
    /// Whether the operator said so: then it is for everybody there, good or not.
    pub by_operator: bool,
    began: u64,
    ends: u64,
}

impl Ban {
    pub(super) fn new(source: IpAddr, account: &str, why: &'static str) -> Ban {
        let (left, account) = (Duration::ZERO, account.chars().take(NAME).collect());
        Ban { source, account, why, left, strikes: 0, by_operator: false, began: 0, ends: 0 }
    }

    pub(super) fn by_operator(self) -> Ban {
        Ban { by_operator: true, ..self }
    }
}

/// See the module. Keys are the shield's.
#[derive(Debug, Default)]
pub(super) struct Bans {
    all: BTreeMap<u64, Ban>,
    /// When the last of them ends.
    last: u64,
}

impl Bans {
    /// Whether none holds any more.
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.last <= now
    }

    /// The ban that holds.
    pub(super) fn find(&self, now: u64, key: u64) -> Option<&Ban> {
        self.all.get(&key).filter(|ban| ban.ends > now)
    }

    /// Bans for as long as the policy says; gives back how long that is.
    pub(super) fn add(&mut self, now: u64, key: u64, ban: Ban, policy: &Policy) -> Duration {
        let memory = policy.longest_ban.as_millis() as u64;
        let before = self.all.get(&key).filter(|before| before.ends + memory > now);
        let strikes = before.map_or(1, |before| (before.strikes + 1).min(STRIKES));
        let lasts = policy.ban.saturating_mul(1 << (strikes - 1)).min(policy.longest_ban);
        self.forget(now, memory);
        self.put(now, key, Ban { strikes, ..ban }, lasts).left
    }

    /// Bans for so long.
    pub(super) fn put(&mut self, now: u64, key: u64, ban: Ban, lasts: Duration) -> Ban {
        let first_to_end =
            |bans: &BTreeMap<u64, Ban>| bans.iter().min_by_key(|(_, ban)| ban.ends).map(|(key, _)| *key);
        if self.all.len() >= MOST
            && let Some(first) = first_to_end(&self.all)
        {
            self.all.remove(&first);
        }
        let ban = Ban { began: now, ends: now + lasts.as_millis() as u64, left: lasts, ..ban };
        self.last = self.last.max(ban.ends);
        self.all.insert(key, ban.clone());
        ban
    }

    /// What ended so long ago that it counts no more.
    fn forget(&mut self, now: u64, memory: u64) {
        self.all.retain(|_, ban| ban.ends + memory > now);
    }

    /// Lifts every ban that is not to stay; tells how many those were.
    pub(super) fn retain(&mut self, stays: impl Fn(&Ban) -> bool) -> usize {
        let before = self.all.len();
        self.all.retain(|_, ban| stays(ban));
        self.last = self.all.values().map(|ban| ban.ends).max().unwrap_or(0);
        before - self.all.len()
    }

    /// Those that hold, the newest first.
    pub(super) fn list(&self, now: u64) -> Vec<Ban> {
        let holds = self.all.values().filter(|ban| ban.ends > now);
        let left = |ban: &Ban| Duration::from_millis(ban.ends - now);
        let mut bans: Vec<Ban> = holds.map(|ban| Ban { left: left(ban), ..ban.clone() }).collect();
        bans.sort_by_key(|ban| std::cmp::Reverse(ban.began));
        bans
    }
}
