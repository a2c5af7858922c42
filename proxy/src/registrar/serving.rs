//! Tells the redirect servers whom we serve (SYSTEMS §1 step 1), by REGISTER with `Node-Auth`, and keeps them told.
//!
//! Each user has an [`Entry`] at each redirect server: what the server believes, and what is under way. Everything that
//! happens (a binding came or went, an answer came, time passed) ends in the same question, [`Serving::consider`]: does
//! the server believe what the tables say, and for long enough? If not, the user stands in line. A line moves as
//! answers come in, [`WINDOW`] requests at once; at a server that is silent, one at a time and ever more slowly.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::event::{Event, Name};
use proto::node::{Dice, Flow, FlowId, Lane};
use proto::sip::{self, Builder, Message};
use proto::tables::Tables;
use proto::timers::{Queue, Timer};

use crate::config::{Config, Redirect};
use crate::moment::Moment;
use crate::part::{Outcome, RequestId, Want};
use crate::registrar::keepalive::is_of_lane;

/// For how long a redirect server is told, in seconds. Told again at half of it.
const LIFETIME: u32 = 3600;
/// Requests under way at one server.
const WINDOW: usize = 32;
/// Between two users of a former life: 500 a second.
const PACE: Duration = Duration::from_millis(2);
/// How long a silent server is left alone: from this, doubling …
const PATIENCE: Duration = Duration::from_secs(1);
/// … to this.
const MAX_PATIENCE: Duration = Duration::from_secs(60);

/// The registrations at the redirect servers.
#[derive(Debug)]
pub struct Serving {
    dice: Dice,
    lane: Lane,
    lines: Vec<Line>,
    alarms: Queue<Alarm>,
    asked: BTreeMap<RequestId, Asked>,
    asked_so_far: u64,
    wants: VecDeque<Want>,
}

/// What is to be done when a time comes.
#[derive(Clone, Debug)]
enum Alarm {
    /// Consider this user at this server.
    Consider(Name, usize),
    /// The server has been left alone for long enough.
    Retry(usize),
}

/// One redirect server.
#[derive(Debug)]
struct Line {
    redirect: Redirect,
    entries: BTreeMap<Name, Entry>,
    waiting: VecDeque<Name>,
    under_way: usize,
    /// Failures in a row.
    failures: u32,
    /// Left alone for a while.
    closed: bool,
    lifetime: u32,
}

/// One user at one redirect server.
#[derive(Debug)]
struct Entry {
    call_id: String,
    cseq: u32,
    /// When the server is to be told again; `None`: it believes that we don't serve this user. At first it may
    /// believe anything, from a former life of ours or from another lane, so that is over at once.
    told_until: Option<Instant>,
    /// The server refused this user: not again before then.
    refused_until: Option<Instant>,
    /// In line, or under way.
    busy: bool,
    timer: Option<Timer>,
}

/// A REGISTER under way.
#[derive(Debug)]
struct Asked {
    aor: Name,
    line: usize,
    /// 0: removes the user.
    lifetime: u32,
}

impl Serving {
    /// Nobody served yet.
    pub fn new(dice: Dice) -> Serving {
        Serving {
            dice,
            lane: Lane::default(),
            lines: Vec::new(),
            alarms: Queue::default(),
            asked: BTreeMap::new(),
            asked_so_far: 0,
            wants: VecDeque::new(),
        }
    }

    /// As one of several lanes.
    pub fn of_lane(self, lane: Lane) -> Serving {
        Serving { lane, ..self }
    }

    /// Once after birth: takes up what a former life left in the tables, a few at a time.
    pub fn resume(&mut self, now: Moment, config: &Config, tables: &dyn Tables) {
        self.follow(config);
        let lane = self.lane;
        let mine = tables.aors().into_iter().filter(|aor| is_of_lane(aor, lane));
        for (aor, n) in mine.zip(0..) {
            let (aor, at) = (Name::from(aor), now.at + PACE * n);
            for line in 0..self.lines.len() {
                self.alarms.set(at, Alarm::Consider(aor.clone(), line));
            }
        }
    }

    /// The bindings of an address of record changed.
    pub fn changed(&mut self, now: Moment, aor: &str, config: &Config, tables: &dyn Tables) {
        self.follow(config);
        if self.lines.is_empty() {
            return;
        }
        let aor = Name::from(aor);
        for line in 0..self.lines.len() {
            self.consider(now, &aor, line, tables);
            self.advance(now, line, config, tables);
        }
    }

    /// Time has come.
    pub fn wake(&mut self, now: Moment, config: &Config, tables: &mut dyn Tables) {
        while let Some(alarm) = self.alarms.pop(now.at) {
            match alarm {
                Alarm::Consider(aor, line) => {
                    self.consider(now, &aor, line, tables);
                    self.advance(now, line, config, tables);
                }
                Alarm::Retry(line) => {
                    self.lines.get_mut(line).into_iter().for_each(|line| line.closed = false);
                    self.advance(now, line, config, tables);
                }
            }
        }
    }

    /// What became of a request.
    pub fn outcome(
        &mut self,
        now: Moment,
        id: RequestId,
        outcome: Outcome,
        config: &Config,
        tables: &mut dyn Tables,
    ) {
        let Some(asked) = self.asked.remove(&id) else { return };
        let Some(line) = self.lines.get_mut(asked.line) else { return };
        line.under_way = line.under_way.saturating_sub(1);
        line.entries.get_mut(&asked.aor).into_iter().for_each(|entry| entry.busy = false);
        match outcome {
            Outcome::Final(response) => self.answered(now, &asked, &response),
            Outcome::Silence => self.failed(now, &asked, "the redirect server does not answer"),
        }
        self.consider(now, &asked.aor, asked.line, tables);
        self.advance(now, asked.line, config, tables);
    }

    /// What it wants next; drained after every call of the above.
    pub fn poll(&mut self) -> Option<Want> {
        self.wants.pop_front()
    }

    /// When to call [`Serving::wake`].
    pub fn deadline(&self) -> Option<Instant> {
        self.alarms.deadline()
    }

    /// Follows the configuration: a server that is new at its place knows nobody of ours yet.
    fn follow(&mut self, config: &Config) {
        self.lines.truncate(config.redirects.len());
        for (index, redirect) in config.redirects.iter().enumerate() {
            match self.lines.get(index) {
                Some(line) if line.redirect == *redirect => {}
                Some(_) => self.lines[index] = Line::new(redirect),
                None => self.lines.push(Line::new(redirect)),
            }
        }
    }

    /// Whether the server must be told of this user now; else, when to ask again.
    fn consider(&mut self, now: Moment, aor: &Name, line: usize, tables: &dyn Tables) {
        let Some(line_) = self.lines.get_mut(line) else { return };
        let bindings = tables.bindings(aor);
        let ends = bindings.iter().filter(|b| b.is_live(now.wall)).map(|b| b.expires).max();
        let entry = line_.entries.entry(aor.clone()).or_insert_with(|| Entry::new(now, &mut self.dice));
        entry.timer.take().into_iter().for_each(|timer| drop(self.alarms.cancel(timer)));
        if entry.busy {
            return;
        }
        if let Some(until) = entry.refused_until.filter(|&until| until > now.at) {
            entry.timer = Some(self.alarms.set(until, Alarm::Consider(aor.clone(), line)));
            return;
        }
        match (ends, entry.told_until) {
            (Some(ends), Some(until)) if until > now.at => {
                let over = now.at + ends.duration_since(now.wall).unwrap_or_default();
                entry.timer = Some(self.alarms.set(until.min(over), Alarm::Consider(aor.clone(), line)));
            }
            (None, None) => drop(line_.entries.remove(aor)),
            _ => {
                entry.busy = true;
                line_.waiting.push_back(aor.clone());
            }
        }
    }

    /// Sends for those in line, as many as the server may have at once.
    fn advance(&mut self, now: Moment, line: usize, config: &Config, tables: &dyn Tables) {
        while let Some(aor) = self.lines.get_mut(line).and_then(Line::next) {
            let serves = tables.bindings(&aor).iter().any(|binding| binding.is_live(now.wall));
            self.send(now, line, aor, serves, config);
        }
    }

    fn send(&mut self, now: Moment, index: usize, aor: Name, serves: bool, config: &Config) {
        let line = &mut self.lines[index];
        let lifetime = if serves { line.lifetime } else { 0 };
        let Some(entry) = line.entries.get_mut(&aor) else { return };
        let Some((flow, us)) = path(&line.redirect, config) else {
            entry.busy = false;
            return self.warn(index, "no listener of ours reaches the redirect server");
        };
        entry.cseq += 1;
        line.under_way += 1;
        let message = register(&aor, entry, flow.remote, us, flow, lifetime, &self.dice.word(10));
        let message = match &config.siblings.key {
            Some(key) => key.sign(&message, now.unix()),
            None => message,
        };
        self.asked_so_far += 1;
        let id = RequestId(self.asked_so_far);
        self.asked.insert(id, Asked { aor, line: index, lifetime });
        self.wants.push_back(Want::Request { flow, message, id });
    }

    fn answered(&mut self, now: Moment, asked: &Asked, response: &Message) {
        let line = &mut self.lines[asked.line];
        let Some(entry) = line.entries.get_mut(&asked.aor) else { return };
        match response.status().unwrap_or_default() {
            200..=299 if asked.lifetime == 0 => entry.told_until = None,
            200..=299 => {
                let half = Duration::from_secs(u64::from(granted(response, asked.lifetime))) / 2;
                entry.told_until = Some(now.at + self.dice.jitter(half, 10));
            }
            423 => {
                let least = response.text(sip::Name::MinExpires).and_then(|least| least.parse().ok());
                line.lifetime = least.unwrap_or(LIFETIME).clamp(LIFETIME, 24 * LIFETIME);
                return self.failed(now, asked, "the redirect server wants longer registrations");
            }
            403 => {
                return self.failed(
                    now,
                    asked,
                    "the redirect server does not take us for a proxy of its own",
                );
            }
            400..=499 => entry.refused_until = Some(now.at + MAX_PATIENCE),
            _ => return self.failed(now, asked, "the redirect server can't take registrations"),
        }
        let line = &mut self.lines[asked.line];
        line.failures = 0;
    }

    /// Leaves the server alone for a while; said once, when it begins. What fails together counts once.
    fn failed(&mut self, now: Moment, asked: &Asked, why: &'static str) {
        let line = &mut self.lines[asked.line];
        if line.closed {
            return;
        }
        if line.failures == 0 {
            let about = line.redirect.name.as_str().into();
            self.wants.push_back(Want::Event(Event::Warning { about, why }));
        }
        let patience = PATIENCE.saturating_mul(1 << line.failures.min(6)).min(MAX_PATIENCE);
        line.failures += 1;
        line.closed = true;
        self.alarms.set(now.at + self.dice.jitter(patience, 20), Alarm::Retry(asked.line));
    }

    fn warn(&mut self, line: usize, why: &'static str) {
        let about = self.lines[line].redirect.name.as_str().into();
        self.wants.push_back(Want::Event(Event::Warning { about, why }));
    }
}

impl Line {
    fn new(redirect: &Redirect) -> Line {
        Line {
            redirect: redirect.clone(),
            entries: BTreeMap::new(),
            waiting: VecDeque::new(),
            under_way: 0,
            failures: 0,
            closed: false,
            lifetime: LIFETIME,
        }
    }

    /// The next in line, if the server may have one more now.
    fn next(&mut self) -> Option<Name> {
        let window = if self.failures > 0 { 1 } else { WINDOW };
        let open = !self.closed && self.under_way < window;
        if open { self.waiting.pop_front() } else { None }
    }
}

impl Entry {
    fn new(now: Moment, dice: &mut Dice) -> Entry {
        let call_id = dice.word(20);
        Entry { call_id, cseq: 0, told_until: Some(now.at), refused_until: None, busy: false, timer: None }
    }
}

/// Our way to a redirect server, and how we advertise ourselves there.
fn path(redirect: &Redirect, config: &Config) -> Option<(Flow, SocketAddr)> {
    let listener = config.listeners.get(config.listener_towards(redirect.transport, redirect.address)?)?;
    let (transport, local, remote) = (redirect.transport, listener.bind, redirect.address);
    Some((Flow { transport, local, remote, id: FlowId(0) }, listener.advertise))
}

/// RFC 3261 §10.2: the user at our next-hop URI, which a 302 of the redirect server will name (DESIGN §4).
fn register(
    aor: &str,
    entry: &Entry,
    server: SocketAddr,
    us: SocketAddr,
    flow: Flow,
    lifetime: u32,
    tag: &str,
) -> Message {
    Builder::request("REGISTER", &format!("sip:{server}"))
        .header(sip::Name::MaxForwards, 70)
        .header(sip::Name::From, format_args!("<sip:{aor}>;tag={tag}"))
        .header(sip::Name::To, format_args!("<sip:{aor}>"))
        .header(sip::Name::CallId, &entry.call_id)
        .header(sip::Name::CSeq, format_args!("{} REGISTER", entry.cseq))
        .header(sip::Name::Contact, format_args!("<sip:{us};transport={};lr>", flow.transport))
        .header(sip::Name::Expires, lifetime)
        .finish()
}

/// How long the server will remember: what it says, but no longer than asked.
fn granted(response: &Message, asked: u32) -> u32 {
    let contacts = response.contacts().flatten().filter_map(|contact| contact.expires());
    contacts.chain(response.expires()).filter(|&seconds| seconds > 0).min().unwrap_or(asked).min(asked)
}

#[cfg(test)]
#[path = "serving_tests.rs"]
mod tests;
