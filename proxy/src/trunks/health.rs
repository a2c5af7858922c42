//! Whether the servers of trunks are there: OPTIONS every so often, and what calls have met with.
//!
//! ```text
//!              answered                       2 probes missed, or a call failed there
//!  unknown ────────────────► up ────────────────────────────────────────────────────► down
//!     └──────────────────────▲──────────────────────────────────────────────────────────┘
//!                             a probe or a call answered
//! ```
//!
//! Any final response but 408, 500, 502, 503 and 504 means that somebody is there. A server that nobody asks, because
//! its trunk has no `probe`, is left alone for [`LEFT_ALONE`] after it failed a call, then tried again.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proto::event::{Event, Name};
use proto::node::{Answer, Dice, Flow};
use proto::sip::{self, Builder, Message};
use proto::timers::{Queue, Timer};

use super::trunk::{Server, Trunk};
use crate::config::{Config, NextHop};
use crate::moment::Moment;
use crate::part::{RequestId, Want};
use crate::routing::target::{Hops, of_next_hop, resolved};

/// Probes in a row that a server may miss before it counts as down.
const MISSES: u8 = 2;
/// After a missed probe the next one comes soon.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a server that nobody probes is tried last after a call failed there.
pub const LEFT_ALONE: Duration = Duration::from_secs(30);

/// The servers of all trunks.
#[derive(Debug)]
pub struct Health {
    dice: Dice,
    watches: BTreeMap<Key, Watch>,
    alarms: Queue<Key>,
    asked: BTreeMap<RequestId, Key>,
    asked_so_far: u64,
    wants: VecDeque<Want>,
}

/// Trunk and server.
type Key = (Name, Name);

/// How a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was heard of it yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// How a server stands, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its name.
    pub name: Name,
    /// How it is.
    pub state: State,
    /// Why.
    pub why: Name,
    /// For how long.
    pub since: Duration,
    /// Its place in the trunk.
    pub priority: u16,
    /// See `priority`.
    pub weight: u16,
}

#[derive(Debug)]
struct Watch {
    next: NextHop,
    probe: Duration,
    patience: Duration,
    state: State,
    why: Name,
    since: Instant,
    misses: u8,
    timer: Option<Timer>,
}

impl Health {
    /// Nobody is watched yet.
    pub fn new(dice: Dice) -> Health {
        Health {
            dice,
            watches: BTreeMap::new(),
            alarms: Queue::default(),
            asked: BTreeMap::new(),
            asked_so_far: 0,
            wants: VecDeque::new(),
        }
    }

    /// Follows the configuration: what is known of servers that stay is kept.
    pub fn follow(&mut self, now: Moment, config: &Config) {
        let mut before = std::mem::take(&mut self.watches);
        for trunk in config.trunks.iter().filter(|trunk| trunk.is_watched()) {
            for server in &trunk.servers {
                let key = (trunk.name.clone(), server.name.clone());
                let old = before.remove(&key);
                let watch = self.watch(now, &key, trunk, server, old);
                self.watches.insert(key, watch);
            }
        }
        let stale = before.into_values().filter_map(|watch| watch.timer);
        stale.for_each(|timer| drop(self.alarms.cancel(timer)));
    }

    fn watch(&mut self, now: Moment, key: &Key, trunk: &Trunk, server: &Server, old: Option<Watch>) -> Watch {
        let old = old.unwrap_or_else(|| Watch::new(now.at));
        old.timer.into_iter().for_each(|timer| drop(self.alarms.cancel(timer)));
        // The first probes of many servers don't leave in one burst.
        let spread = self.dice.jitter(Duration::from_millis(250), 100);
        let wait = match trunk.probe.is_zero() {
            false => Some(spread),
            true => (old.state == State::Down).then_some(LEFT_ALONE),
        };
        let timer = wait.map(|wait| self.alarms.set(now.at + wait, key.clone()));
        Watch { next: server.next.clone(), probe: trunk.probe, patience: trunk.try_timeout, timer, ..old }
    }

    /// Whether a server is known to be down.
    pub fn is_down(&self, trunk: &Name, server: &Name) -> bool {
        // The borrow of a pair of names needs a pair of names: two counters, no text is copied.
        let watch = self.watches.get(&(trunk.clone(), server.clone()));
        watch.is_some_and(|watch| watch.state == State::Down)
    }

    /// How a server stands.
    pub fn status(&self, now: Moment, trunk: &Trunk, server: &Server) -> ServerStatus {
        let watch = self.watches.get(&(trunk.name.clone(), server.name.clone()));
        let known = watch.map(|w| (w.state, w.why.clone(), now.at.saturating_duration_since(w.since)));
        let (state, why, since) = known.unwrap_or((State::Unknown, "not probed".into(), Duration::ZERO));
        let (priority, weight) = (server.priority, server.weight);
        ServerStatus { name: server.name.clone(), state, why, since, priority, weight }
    }

    /// A call failed at a server: nobody answered, or nobody was there.
    pub fn failed(&mut self, now: Moment, trunk: &Trunk, server: usize, why: &str) {
        let Some(server) = trunk.servers.get(server) else { return };
        let key = (trunk.name.clone(), server.name.clone());
        let fresh = || Watch { next: server.next.clone(), ..Watch::new(now.at) };
        self.watches.entry(key.clone()).or_insert_with(fresh);
        let ask_again = if trunk.probe.is_zero() { LEFT_ALONE } else { AGAIN };
        self.turn(now, &key, State::Down, why);
        self.set_timer(now, &key, ask_again);
    }

    /// A call was answered by a server, with whatever: it is there.
    pub fn heard(&mut self, now: Moment, trunk: &Trunk, server: usize) {
        let Some(server) = trunk.servers.get(server) else { return };
        let key = (trunk.name.clone(), server.name.clone());
        if self.watches.get(&key).is_some_and(|watch| watch.state != State::Up) {
            self.turn(now, &key, State::Up, "answered a call");
        }
    }

    /// Time has come.
    pub fn wake(&mut self, now: Moment, config: &Config) {
        while let Some(key) = self.alarms.pop(now.at) {
            let Some(watch) = self.watches.get_mut(&key) else { continue };
            watch.timer = None;
            if watch.probe.is_zero() {
                self.turn(now, &key, State::Unknown, "left alone for a while after a failed call");
                continue;
            }
            // Whatever comes of this probe sets the next timer; if nothing ever does, this one goes on.
            let probe = watch.probe;
            self.set_timer(now, &key, probe.max(AGAIN) * 2);
            match of_next_hop(&self.watches[&key].next, config) {
                Hops::Ready(flows) => self.probe(now, key, &flows, config),
                Hops::Ask(question) => {
                    let id = self.next_id(&key);
                    self.wants.push_back(Want::Ask { question, id });
                }
            }
        }
    }

    /// A name was looked up.
    pub fn resolved(&mut self, now: Moment, id: RequestId, answer: Answer, config: &Config) {
        let Some(key) = self.asked.remove(&id) else { return };
        match answer {
            Answer::Targets(found) => self.probe(now, key, &resolved(&found, config), config),
            Answer::Nothing(why) => self.missed_by(now, &key, &why),
            Answer::Uris(_) | Answer::Advice(_) | Answer::Done(_) => {}
        }
    }

    /// A server has answered a probe.
    pub fn answered(&mut self, now: Moment, id: RequestId, response: &Message) {
        let Some(key) = self.asked.remove(&id) else { return };
        let status = response.status().unwrap_or_default();
        let words = format!("{status} {} to OPTIONS", response.reason());
        if matches!(status, 408 | 500 | 502 | 503 | 504) {
            return self.missed_by(now, &key, &words);
        }
        let Some(watch) = self.watches.get_mut(&key) else { return };
        watch.misses = 0;
        let next = watch.probe;
        self.turn(now, &key, State::Up, &words);
        self.set_timer(now, &key, next);
    }

    /// A probe was not answered: in time (`status` 408), or nobody is there (503).
    pub fn missed(&mut self, now: Moment, id: RequestId, status: u16) {
        let Some(key) = self.asked.remove(&id) else { return };
        let patience = self.watches.get(&key).map_or(0.0, |watch| watch.patience.as_secs_f32());
        let words = match status {
            408 => format!("no answer to OPTIONS within {patience} s"),
            _ => "OPTIONS could not be delivered: refused or unreachable".to_owned(),
        };
        self.missed_by(now, &key, &words);
    }

    /// What it wants next; drained after every call of the above.
    pub fn poll(&mut self) -> Option<Want> {
        self.wants.pop_front()
    }

    /// When to call [`Health::wake`].
    pub fn deadline(&self) -> Option<Instant> {
        self.alarms.deadline()
    }

    fn missed_by(&mut self, now: Moment, key: &Key, why: &str) {
        let Some(watch) = self.watches.get_mut(key) else { return };
        watch.misses = watch.misses.saturating_add(1);
        let enough = watch.misses >= MISSES;
        let next = if enough { watch.probe } else { AGAIN.min(watch.probe) };
        if enough {
            self.turn(now, key, State::Down, why);
        }
        self.set_timer(now, key, next);
    }

    /// Another state, told if it is another one; the reason is kept in any case.
    fn turn(&mut self, now: Moment, key: &Key, state: State, why: &str) {
        let Some(watch) = self.watches.get_mut(key) else { return };
        if *watch.why != *why {
            watch.why = why.into();
        }
        if watch.state == state {
            return;
        }
        (watch.state, watch.since) = (state, now.at);
        let (trunk, server) = key.clone();
        let event = Event::TrunkServer { trunk, server, up: state != State::Down, why: watch.why.clone() };
        self.wants.push_back(Want::Event(event));
    }

    fn set_timer(&mut self, now: Moment, key: &Key, wait: Duration) {
        let wait = self.dice.jitter(wait, 10);
        let Some(watch) = self.watches.get_mut(key) else { return };
        watch.timer.take().into_iter().for_each(|timer| drop(self.alarms.cancel(timer)));
        watch.timer = Some(self.alarms.set(now.at + wait, key.clone()));
    }

    fn probe(&mut self, now: Moment, key: Key, flows: &[Flow], config: &Config) {
        let Some(flow) = flows.first().copied() else {
            return self.missed_by(now, &key, "no listener of ours leads there");
        };
        let Some(watch) = self.watches.get(&key) else { return };
        let (patience, next) = (watch.patience, watch.next.clone());
        let message = options(&next, flow, &self.dice.word(20), config);
        let id = self.next_id(&key);
        self.wants.push_back(Want::Probe { flow, message, id, patience });
    }

    fn next_id(&mut self, key: &Key) -> RequestId {
        self.asked_so_far += 1;
        let id = RequestId(self.asked_so_far);
        self.asked.insert(id, key.clone());
        id
    }
}

impl Watch {
    fn new(now: Instant) -> Watch {
        Watch {
            next: NextHop { host: String::new(), port: None, transport: None },
            probe: Duration::ZERO,
            patience: super::trunk::TRY_TIMEOUT,
            state: State::Unknown,
            why: "nothing heard yet".into(),
            since: now,
            misses: 0,
            timer: None,
        }
    }
}

/// RFC 3261 §11.1: to the server itself.
fn options(next: &NextHop, flow: Flow, word: &str, config: &Config) -> Message {
    let listener = config.listener_at(flow.transport, flow.local);
    let us = listener.and_then(|index| config.listeners.get(index)).map_or(flow.local, |l| l.advertise);
    let host = NextHop { transport: None, ..next.clone() };
    Builder::request("OPTIONS", &format!("sip:{host}"))
        .header(sip::Name::MaxForwards, 70)
        .header(sip::Name::From, format_args!("<sip:postern@{us}>;tag={}", &word[..10]))
        .header(sip::Name::To, format_args!("<sip:{host}>"))
        .header(sip::Name::CallId, &word[10..])
        .header(sip::Name::CSeq, "1 OPTIONS")
        .header(sip::Name::Contact, format_args!("<sip:postern@{us}>"))
        .header(sip::Name::Accept, "application/sdp")
        .finish()
}
