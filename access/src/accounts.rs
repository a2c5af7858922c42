//! Who permits whom, who is online and where, and what waits for those who are not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use proto::node::Flow;
use proto::peer::nat::{Dependence, Verdict};
use proto::peer::reach::{Policy, Side};
use proto::peer::words::{Allows, Login, MAX_BUDDIES, MAX_HOSTS, Sealing, is_reachable};
use proto::sip::Message;

/// All accounts that were heard of.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    accounts: BTreeMap<String, Account>,
    /// Whose session a label names.
    labels: BTreeMap<String, String>,
}

/// One account.
#[derive(Debug, Default)]
pub(crate) struct Account {
    permits: BTreeSet<String>,
    pub(crate) device: Option<Device>,
    pub(crate) mail: VecDeque<Message>,
}

/// A device that is logged in.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// The first channel: the path it logged in by.
    pub(crate) flow: Flow,
    pub(crate) verdict: Verdict,
    pub(crate) hosts: Vec<SocketAddr>,
    pub(crate) key: [u8; 32],
    pub(crate) allows: Allows,
    /// Its mapping at the reflector, proven.
    pub(crate) bound: Option<SocketAddr>,
    pub(crate) session: Sealing,
    /// The number of its last keep-alive: an older one is a replay.
    pub(crate) newest: u64,
    pub(crate) heard: Instant,
}

impl Device {
    /// From a login and the path it came by. What was observed wins: an outside port that differs from what STUN showed
    /// means a mapping for each destination; an address that is none of its own, a NAT.
    pub(crate) fn new(now: Instant, flow: Flow, login: &Login, session: Sealing) -> Device {
        let mut verdict = login.verdict;
        if login.external.is_some_and(|said| said != flow.remote) {
            verdict.mapping = Dependence::AddressAndPort;
            verdict.translated = true;
        }
        if !verdict.translated && !login.hosts.contains(&flow.remote) {
            verdict = Verdict { translated: true, hairpin: false, ..verdict };
            verdict.filtering = Dependence::AddressAndPort;
        }
        let hosts = login.hosts.iter().copied().filter(|host| is_reachable(*host)).take(MAX_HOSTS).collect();
        let (key, allows) = (*login.device, login.allows);
        Device { flow, verdict, hosts, key, allows, bound: None, session, newest: 0, heard: now }
    }

    /// What decides who can reach whom.
    pub(crate) fn side(&self) -> Side {
        let Allows { direct, spray, spray_both } = self.allows;
        let policy = Policy { direct, spray, spray_both, reflector: self.bound.is_some() };
        Side { verdict: self.verdict, ip: self.flow.remote.ip().to_canonical(), policy }
    }
}

impl Accounts {
    /// With these permissions.
    pub(crate) fn new(buddies: &[(String, String)]) -> Accounts {
        let mut accounts = Accounts::default();
        for (one, other) in buddies {
            accounts.permit(one, other, true);
            accounts.permit(other, one, true);
        }
        accounts
    }

    pub(crate) fn entry(&mut self, aor: &str) -> &mut Account {
        self.accounts.entry(aor.to_owned()).or_default()
    }

    pub(crate) fn device(&self, aor: &str) -> Option<&Device> {
        self.accounts.get(aor)?.device.as_ref()
    }

    pub(crate) fn device_mut(&mut self, aor: &str) -> Option<&mut Device> {
        self.accounts.get_mut(aor)?.device.as_mut()
    }

    /// Logs a device in, in place of the one before it.
    pub(crate) fn log_in(&mut self, aor: &str, device: Device) -> Option<Device> {
        self.labels.insert(device.session.label.clone(), aor.to_owned());
        let label = device.session.label.clone();
        let before = self.entry(aor).device.replace(device);
        if let Some(before) = before.as_ref().filter(|before| before.session.label != label) {
            self.labels.remove(&before.session.label);
        }
        before
    }

    pub(crate) fn log_out(&mut self, aor: &str) -> Option<Device> {
        let device = self.accounts.get_mut(aor)?.device.take()?;
        self.labels.remove(&device.session.label);
        Some(device)
    }

    /// Whose session has this name.
    pub(crate) fn named(&self, label: &str) -> Option<&str> {
        self.labels.get(label).map(String::as_str)
    }

    /// Notes a permission, or takes it back; `false`: there are too many.
    pub(crate) fn permit(&mut self, who: &str, whom: &str, permitted: bool) -> bool {
        let permits = &mut self.entry(who).permits;
        match permitted {
            true if permits.len() >= MAX_BUDDIES && !permits.contains(whom) => return false,
            true => permits.insert(whom.to_owned()),
            false => permits.remove(whom),
        };
        true
    }

    /// Whether each permits the other.
    pub(crate) fn are_buddies(&self, one: &str, other: &str) -> bool {
        let permits =
            |who: &str, whom: &str| self.accounts.get(who).is_some_and(|a| a.permits.contains(whom));
        one != other && permits(one, other) && permits(other, one)
    }

    /// Everybody who permits this account and is permitted by it.
    pub(crate) fn buddies(&self, aor: &str) -> Vec<String> {
        let permitted = self.accounts.get(aor).map(|account| &account.permits);
        permitted.into_iter().flatten().filter(|other| self.are_buddies(aor, other)).cloned().collect()
    }

    /// Devices that are logged in.
    pub(crate) fn online(&self) -> usize {
        self.labels.len()
    }
}
