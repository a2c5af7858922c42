//! What the tests of this crate stand on: a configuration, tables over maps, a clock moved by hand, messages from text.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use proto::node::{Birth, Dice, Flow, Lane, Transport};
use proto::shield::{Deed, Policy, Ruling, Shield, What};
use proto::sip::Message;
use proto::tables::{Binding, Fact, Limit, Secret, Tables, User};

use crate::config::{Config, Listener};
use crate::moment::Moment;

/// `example.com` and `second.example` at 203.0.113.1, UDP and TCP, with authentication.
pub(crate) fn config() -> Config {
    let listener = |transport| Listener {
        network: 0,
        transport,
        bind: address("203.0.113.1:5060"),
        advertise: address("203.0.113.1:5060"),
        authenticate: true,
        anchor: None,
        srtp: None,
        algorithms: Vec::new(),
        standing: Default::default(),
    };
    Config {
        listeners: vec![listener(Transport::Udp), listener(Transport::Tcp)],
        domains: vec!["example.com".into(), "second.example".into()],
        realm: "example.com".into(),
        ..Config::default()
    }
}

/// An account whose password is `secret`.
pub(crate) fn user(name: &str, aors: &[&str]) -> User {
    User {
        name: name.into(),
        secret: Secret::Password("secret".into()),
        aors: aors.iter().map(|aor| aor.to_string()).collect(),
        anchor: None,
        srtp: None,
        latch: None,
        algorithms: Vec::new(),
    }
}

/// `192.0.2.1:5060`.
pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The UDP path from the listener of [`config`] to `remote`.
pub(crate) fn udp(remote: &str) -> Flow {
    Flow::udp(address("203.0.113.1:5060"), address(remote))
}

/// A binding at `192.0.2.50:5060`.
pub(crate) fn binding(contact: &str, expires: SystemTime) -> Binding {
    Binding {
        contact: contact.into(),
        call_id: "call".into(),
        cseq: 1,
        q: 1000,
        expires,
        flow: udp("192.0.2.50:5060"),
        sent_by: String::new(),
        behind_nat: false,
        path: vec![],
        instance: None,
        reg_id: None,
        agent: None,
        unanswered: 0,
    }
}

/// A message from text with plain line ends.
pub(crate) fn message(text: &str) -> Message {
    let text = text.trim().lines().map(str::trim).collect::<Vec<_>>().join("\r\n");
    let whole = if text.contains("\r\n\r\n") { text } else { text + "\r\n\r\n" };
    Message::parse(Bytes::from(whole)).expect("a test's message is well-formed")
}

/// A clock that moves when it is told to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    birth: Birth,
    passed: Duration,
}

impl Clock {
    /// 2026-01-01 00:00:00 UTC, a Thursday.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn new() -> Clock {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let birth = Birth { now: Instant::now(), wall, seed: [7; 32], lane: Lane::default() };
        Clock { birth, passed: Duration::ZERO }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::new(&self.birth, self.birth.now + self.passed)
    }

    pub(crate) fn pass(&mut self, seconds: f64) {
        self.passed += Duration::from_secs_f64(seconds);
    }

    /// Moves on to `at`, if that is later.
    pub(crate) fn until(&mut self, at: Instant) {
        self.passed = self.passed.max(at.saturating_duration_since(self.birth.now));
    }

    pub(crate) fn dice(&self) -> Dice {
        self.birth.dice(0)
    }
}

/// [`Tables`] over maps, with a shield when a test wants one. Limits let `allowed` events of a kind through, then none.
#[derive(Debug, Default)]
pub(crate) struct Maps {
    pub(crate) bindings: BTreeMap<String, Vec<Binding>>,
    pub(crate) users: Vec<Arc<User>>,
    pub(crate) allowed: Option<usize>,
    pub(crate) asked: Vec<(Limit, IpAddr)>,
    pub(crate) shield: Option<Shield>,
    pub(crate) judged: Vec<What>,
    pub(crate) edits: usize,
    used: BTreeSet<(u64, u32)>,
    facts: BTreeSet<(Fact, String)>,
}

impl Maps {
    pub(crate) fn with_users(users: impl IntoIterator<Item = User>) -> Maps {
        Maps { users: users.into_iter().map(Arc::new).collect(), ..Maps::default() }
    }

    /// From now on behind a shield.
    pub(crate) fn guard(&mut self, now: Instant, policy: Policy) {
        self.shield = Some(Shield::new(now, [1, 2], policy));
    }
}

impl Tables for Maps {
    fn bindings(&self, aor: &str) -> Vec<Binding> {
        self.bindings.get(aor).cloned().unwrap_or_default()
    }

    fn edit_bindings(&mut self, aor: &str, edit: &mut dyn FnMut(&mut Vec<Binding>)) -> Vec<Binding> {
        self.edits += 1;
        let list = self.bindings.entry(aor.to_string()).or_default();
        edit(list);
        let now = list.clone();
        if now.is_empty() {
            self.bindings.remove(aor);
        }
        now
    }

    fn aors(&self) -> Vec<String> {
        self.bindings.keys().cloned().collect()
    }

    fn user(&self, name: &str) -> Option<Arc<User>> {
        self.users.iter().find(|user| user.name == name).cloned()
    }

    fn owner(&self, aor: &str) -> Option<Arc<User>> {
        self.users.iter().find(|user| user.aors.iter().any(|own| own == aor)).cloned()
    }

    fn admit(&mut self, _now: Instant, kind: Limit, source: IpAddr) -> bool {
        let before = self.asked.iter().filter(|asked| **asked == (kind, source)).count();
        self.asked.push((kind, source));
        self.allowed.is_none_or(|allowed| before < allowed)
    }

    fn judge(&mut self, now: Instant, deed: &Deed<'_>) -> Ruling {
        self.judged.push(deed.what);
        self.shield.as_mut().map_or(Ruling::PASS, |shield| shield.judge(now, deed))
    }

    fn shuts_out(&self, now: Instant, source: IpAddr) -> bool {
        self.shield.as_ref().is_some_and(|shield| shield.shuts_out(now, source))
    }

    fn use_nonce(&mut self, _now: Instant, nonce: u64, count: u32) -> bool {
        self.used.insert((nonce, count))
    }

    fn remember(&mut self, fact: Fact, target: &str) {
        self.facts.insert((fact, target.to_string()));
    }

    fn remembers(&self, fact: Fact, target: &str) -> bool {
        self.facts.contains(&(fact, target.to_string()))
    }
}
