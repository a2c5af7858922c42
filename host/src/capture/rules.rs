//! Which calls are recorded without being asked for each time: the rules of `relay.record.rules`, held against what the
//! process's own proxy tells of its calls.
//!
//! A rule is decided once, when a call begins; what its relay sessions are is known a moment later, before anybody answers.
//! Chance is the Call-ID's: the same call is recorded, or not, at every node that has the rule.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};

use proto::cidr::Cidr;
use proto::event::{Event, Name};

use crate::lanes::post::PostOffice;
use crate::lanes::seat::{CaptureOrder, Command};

/// Calls that are followed at a time; the oldest make room.
const CALLS: usize = 5_000;

/// One rule: all that it says must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// User part of the caller's or the callee's address; with a `*` at its end: what begins so.
    pub user: Option<String>,
    /// Domain of either, the same one's where there is a user.
    pub domain: Option<String>,
    /// Where the call comes from: a phone, a trunk's server, a network.
    pub source: Vec<Cidr>,
    /// How many calls, from when the rule came into force; `None`: all.
    pub calls: Option<u32>,
    /// How many of a hundred.
    pub share: u8,
}

impl Rule {
    fn fits(&self, call: &str, parties: [&str; 2], source: IpAddr) -> bool {
        let party = |aor: &str| {
            let aor = aor.strip_prefix("sips:").or(aor.strip_prefix("sip:")).unwrap_or(aor);
            let (user, domain) = aor.split_once('@').unwrap_or(("", aor));
            self.user.as_deref().is_none_or(|wanted| is_user(wanted, user))
                && self.domain.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(domain))
        };
        let from_there = self.source.is_empty() || self.source.iter().any(|range| range.contains(source));
        from_there && parties.into_iter().any(party) && chance(call) < self.share
    }
}

fn is_user(wanted: &str, user: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => user.starts_with(beginning),
        None => user == wanted,
    }
}

/// 0 to 99, the same for the same call.
fn chance(call: &str) -> u8 {
    let mut hasher = DefaultHasher::new();
    call.hash(&mut hasher);
    (hasher.finish() % 100) as u8
}

#[derive(Debug, Default)]
struct Inner {
    configured: Vec<Rule>,
    /// Calls that are left to each of them.
    left: Vec<u32>,
    wanted: HashSet<Name>,
    order: VecDeque<Name>,
}

/// The rules of now, and the calls they are about. Shared between who listens and who reloads.
#[derive(Debug, Default)]
pub struct Rules(Mutex<Inner>, OnceLock<Arc<PostOffice>>);

impl Rules {
    /// With these to begin with.
    pub fn new(rules: Vec<Rule>) -> Rules {
        let all = Rules::default();
        all.swap(rules);
        all
    }

    /// The lanes that record what is wanted.
    pub fn order_from(&self, post: Arc<PostOffice>) {
        let _ = self.1.set(post);
    }

    /// Listens to an event, and has a relay session recorded if a rule wants it.
    pub fn take(&self, event: &Event) {
        let (Some(session), Some(post)) = (self.hear(event), self.1.get()) else { return };
        let order = CaptureOrder::Sessions(vec![session.to_string()], true);
        // Whose session it is tells by recording it; nobody waits for the count.
        let (to, _) = channel();
        post.mailboxes().for_each(|mailbox| mailbox.command(Command::Capture(order.clone(), to.clone())));
    }

    /// Others from now on. One that is there as it was goes on counting.
    pub fn swap(&self, rules: Vec<Rule>) {
        let mut inner = self.inner();
        let left = |rule: &Rule| {
            let before = inner.configured.iter().position(|known| known == rule);
            before.map_or(rule.calls.unwrap_or(u32::MAX), |at| inner.left[at])
        };
        let left: Vec<u32> = rules.iter().map(left).collect();
        (inner.left, inner.configured) = (left, rules);
    }

    /// The relay session that is to be recorded from now on, after this event.
    fn hear(&self, event: &Event) -> Option<Name> {
        match event {
            Event::CallBegun { call, from, to, flow } => {
                self.inner().begins(call, [from, to], flow.remote.ip().to_canonical());
                None
            }
            Event::MediaDecided(decided) => {
                decided.session.clone().filter(|_| self.inner().wanted.contains(&decided.call))
            }
            Event::CallEnded(ended) => {
                self.inner().wanted.remove(&ended.call);
                None
            }
            _ => None,
        }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    fn begins(&mut self, call: &Name, parties: [&str; 2], source: IpAddr) {
        let all = self.configured.iter().zip(&mut self.left);
        let mut fitting = all.filter(|(rule, left)| **left > 0 && rule.fits(call, parties, source));
        let Some((rule, left)) = fitting.next() else { return };
        if rule.calls.is_some() {
            *left -= 1;
        }
        if self.wanted.insert(call.clone()) {
            self.order.push_back(call.clone());
        }
        while self.order.len() > CALLS
            && let Some(oldest) = self.order.pop_front()
        {
            self.wanted.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::event::{MediaDecided, Rule as Decision, Side, Sighting};
    use proto::node::Flow;
    use proto::tables::Anchor;

    use super::*;

    fn begins(rules: &Rules, call: &str, from: &str, to: &str, source: &str) -> bool {
        let flow = Flow::udp(([192, 0, 2, 1], 5060).into(), format!("{source}:5060").parse().unwrap());
        rules.hear(&Event::CallBegun { call: call.into(), from: from.into(), to: to.into(), flow });
        rules.hear(&decided(call)) == Some("s1".into())
    }

    fn decided(call: &str) -> Event {
        Event::MediaDecided(Box::new(MediaDecided {
            call: call.into(),
            side: Side::Caller,
            seen: [Sighting::Unknown, Sighting::Unknown],
            anchor: Anchor::Auto,
            rule: Decision::SourceDiffers,
            anchored: true,
            session: Some("s1".into()),
            relay: None,
        }))
    }

    fn rule() -> Rule {
        Rule { share: 100, ..Rule::default() }
    }

    #[test]
    fn all_that_a_rule_says_must_hold_of_one_party() {
        let wanted = Rule {
            user: Some("alice".into()),
            domain: Some("a.example".into()),
            source: vec!["198.51.100.0/24".parse().unwrap()],
            ..rule()
        };
        let rules = Rules::new(vec![wanted]);
        let (alice, bob) = ("alice@A.example", "bob@b.example");
        assert!(begins(&rules, "1", alice, bob, "198.51.100.7"));
        assert!(begins(&rules, "2", bob, "sip:alice@a.example", "198.51.100.7"), "as the callee, too");
        assert!(!begins(&rules, "3", alice, bob, "203.0.113.7"));
        assert!(
            !begins(&rules, "4", "alice@b.example", "bob@a.example", "198.51.100.7"),
            "two halves of two parties"
        );
        let begins_so = Rules::new(vec![Rule { user: Some("49*".into()), ..rule() }]);
        assert!(
            begins(&begins_so, "5", "4930@x", bob, "192.0.2.9")
                && !begins(&begins_so, "6", alice, bob, "192.0.2.9")
        );
    }

    #[test]
    fn a_rule_for_so_many_calls_ends_and_a_reload_that_leaves_it_alone_does_not_begin_it_anew() {
        let wanted = Rule { calls: Some(2), ..rule() };
        let rules = Rules::new(vec![wanted.clone()]);
        let begins = |call| begins(&rules, call, "a@x", "b@x", "192.0.2.9");
        assert_eq!(["1", "2", "3"].map(begins), [true, true, false]);
        rules.swap(vec![Rule { user: Some("z".into()), ..rule() }, wanted]);
        assert!(!begins("4"));
        rules.swap(vec![Rule { calls: Some(1), ..rule() }]);
        assert_eq!(["5", "6"].map(begins), [true, false]);
    }

    #[test]
    fn a_share_of_the_calls_is_by_their_names() {
        let of = |share| {
            let rules = Rules::new(vec![Rule { share, ..rule() }]);
            (0..1000).filter(|n| begins(&rules, &format!("call-{n}"), "a@x", "b@x", "192.0.2.9")).count()
        };
        assert_eq!((of(0), of(100)), (0, 1000));
        assert!((150..250).contains(&of(20)), "{}", of(20));
    }

    #[test]
    fn a_call_that_is_over_is_forgotten() {
        let rules = Rules::new(vec![rule()]);
        assert!(begins(&rules, "1", "a@x", "b@x", "192.0.2.9"));
        for n in 0..2 * CALLS {
            begins(&rules, &format!("call-{n}"), "a@x", "b@x", "192.0.2.9");
        }
        assert_eq!(rules.inner().wanted.len(), CALLS);
        assert_eq!(rules.hear(&decided("1")), None);
    }
}
