//! Who permits whom, who is online and where, and what waits for those who are not.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use proto::node::Flow;
use proto::peer::nat::{Dependence, Verdict};
use proto::peer::reach::{Policy, Side};
use proto::peer::words::{Allows, Login, MAX_BUDDIES, MAX_HOSTS, Sealing, is_reachable};
use proto::sip::Message;
use proto::timers::Timer;

/// All accounts that were heard of. Each has a number, so that naming it takes four bytes wherever that is kept.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    numbers: BTreeMap<Arc<str>, Number>,
    accounts: Vec<Account>,
    /// Numbers whose account nobody needs any more.
    free: Vec<Number>,
    /// Whose session a label names.
    labels: BTreeMap<Box<str>, Number>,
}

/// An account's place.
pub(crate) type Number = u32;

/// One account.
#[derive(Debug, Default)]
struct Account {
    name: Arc<str>,
    /// In order.
    permits: Vec<Number>,
    /// How many others permit it.
    permitted_by: u32,
    device: Option<Box<Device>>,
    mail: VecDeque<Message>,
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
    /// When it is looked whether something was heard.
    pub(crate) lease: Option<Timer>,
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
        Device { flow, verdict, hosts, key, allows, bound: None, session, newest: 0, heard: now, lease: None }
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
        accounts.accounts.iter_mut().for_each(|account| account.permits.shrink_to_fit());
        accounts
    }

    /// The number of an account that is known.
    pub(crate) fn number(&self, aor: &str) -> Option<Number> {
        self.numbers.get(aor).copied()
    }

    /// The account with this number.
    pub(crate) fn name(&self, number: Number) -> &str {
        &self.accounts[number as usize].name
    }

    fn account_mut(&mut self, aor: &str) -> Option<&mut Account> {
        let number = self.number(aor)?;
        Some(&mut self.accounts[number as usize])
    }

    /// The number of an account, known or not.
    fn numbered(&mut self, aor: &str) -> Number {
        if let Some(number) = self.number(aor) {
            return number;
        }
        let account = Account { name: aor.into(), ..Account::default() };
        let name = account.name.clone();
        let number = match self.free.pop() {
            Some(number) => {
                self.accounts[number as usize] = account;
                number
            }
            None => {
                self.accounts.push(account);
                self.accounts.len() as Number - 1
            }
        };
        self.numbers.insert(name, number);
        number
    }

    /// Names that somebody made up don't stay.
    fn forget_unless_needed(&mut self, number: Number) {
        let account = &mut self.accounts[number as usize];
        let is_needed = account.permitted_by > 0
            || !account.permits.is_empty()
            || account.device.is_some()
            || !account.mail.is_empty();
        if !is_needed && let Some(number) = self.numbers.remove(&account.name) {
            *account = Account::default();
            self.free.push(number);
        }
    }

    /// What waits for an account.
    pub(crate) fn mail(&mut self, aor: &str) -> &mut VecDeque<Message> {
        let number = self.numbered(aor);
        &mut self.accounts[number as usize].mail
    }

    pub(crate) fn take_mail(&mut self, aor: &str) -> VecDeque<Message> {
        self.account_mut(aor).map(|account| std::mem::take(&mut account.mail)).unwrap_or_default()
    }

    pub(crate) fn device(&self, aor: &str) -> Option<&Device> {
        self.device_of(self.number(aor)?)
    }

    /// The device of the account with this number.
    pub(crate) fn device_of(&self, number: Number) -> Option<&Device> {
        self.accounts[number as usize].device.as_deref()
    }

    pub(crate) fn device_mut(&mut self, number: Number) -> Option<&mut Device> {
        self.accounts[number as usize].device.as_deref_mut()
    }

    /// Logs a device in; gives the account's number, and the device whose place it takes.
    pub(crate) fn log_in(&mut self, aor: &str, device: Device) -> (Number, Option<Device>) {
        let number = self.numbered(aor);
        let label = device.session.label.clone();
        let before = self.accounts[number as usize].device.replace(Box::new(device));
        if let Some(before) = before.as_ref().filter(|before| before.session.label != label) {
            self.labels.remove(before.session.label.as_str());
        }
        self.labels.insert(label.into(), number);
        (number, before.map(|before| *before))
    }

    pub(crate) fn log_out(&mut self, aor: &str) -> Option<Device> {
        let number = self.number(aor)?;
        let device = self.accounts[number as usize].device.take()?;
        self.labels.remove(device.session.label.as_str());
        self.forget_unless_needed(number);
        Some(*device)
    }

    /// Whose session has this name.
    pub(crate) fn named(&self, label: &str) -> Option<Number> {
        self.labels.get(label).copied()
    }

    /// Notes a permission, or takes it back; `false`: there are too many.
    pub(crate) fn permit(&mut self, who: &str, whom: &str, permitted: bool) -> bool {
        let (who, whom) = (self.numbered(who), self.numbered(whom));
        let permits = &mut self.accounts[who as usize].permits;
        let fits = !permitted || permits.len() < MAX_BUDDIES || permits.contains(&whom);
        match (permits.binary_search(&whom), permitted) {
            (Err(place), true) if fits => {
                permits.insert(place, whom);
                self.accounts[whom as usize].permitted_by += 1;
            }
            (Ok(place), false) => {
                permits.remove(place);
                self.accounts[whom as usize].permitted_by -= 1;
            }
            _ => {}
        }
        self.forget_unless_needed(whom);
        if who != whom {
            self.forget_unless_needed(who);
        }
        fits
    }

    fn permits(&self, who: Number, whom: Number) -> bool {
        self.accounts[who as usize].permits.binary_search(&whom).is_ok()
    }

    pub(crate) fn are_mutual(&self, one: Number, other: Number) -> bool {
        one != other && self.permits(one, other) && self.permits(other, one)
    }

    /// The numbers of two who permit one another.
    pub(crate) fn pair(&self, one: &str, other: &str) -> Option<(Number, Number)> {
        self.number(one).zip(self.number(other)).filter(|(one, other)| self.are_mutual(*one, *other))
    }

    /// Everybody who permits this account and is permitted by it.
    pub(crate) fn buddies(&self, own: Number) -> Vec<Number> {
        let permitted = self.accounts[own as usize].permits.iter().copied();
        permitted.filter(|other| self.are_mutual(own, *other)).collect()
    }

    /// Devices that are logged in.
    pub(crate) fn online(&self) -> usize {
        self.labels.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_were_made_up_and_taken_back_leave_nothing_behind() {
        let mut accounts = Accounts::new(&[("alice".to_owned(), "bob".to_owned())]);
        for n in 0..1000 {
            let nobody = format!("nobody{n}");
            assert!(accounts.permit("alice", &nobody, true));
            assert!(accounts.permit("alice", &nobody, false));
        }
        assert_eq!((accounts.numbers.len(), accounts.accounts.len()), (2, 3));
        assert!(accounts.pair("alice", "bob").is_some() && accounts.pair("bob", "alice").is_some());
    }

    #[test]
    fn one_permission_too_many_is_refused_and_leaves_nothing_behind() {
        let mut accounts = Accounts::default();
        for n in 0..MAX_BUDDIES {
            assert!(accounts.permit("alice", &n.to_string(), true));
        }
        assert!(accounts.permit("alice", "7", true), "it is one of them");
        assert!(!accounts.permit("alice", "one more", true));
        assert_eq!(accounts.number("one more"), None);
    }

    #[test]
    fn permitting_oneself_makes_no_buddy() {
        let mut accounts = Accounts::default();
        accounts.permit("alice", "alice", true);
        assert!(accounts.pair("alice", "alice").is_none());
        assert!(accounts.buddies(accounts.number("alice").unwrap()).is_empty());
        accounts.permit("alice", "alice", false);
        assert_eq!(accounts.number("alice"), None);
    }
}
