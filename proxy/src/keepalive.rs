//! Keeps NAT mappings of registered devices open: OPTIONS every 25 s ± jitter to UDP bindings behind a NAT, from the
//! socket they registered on. Three unanswered mark a binding unreachable; an answer clears it (DESIGN §4).
//!
//! A device costs one timer and a few words here; what is known of it stands in the tables, and is read when its time
//! comes. So nothing needs to be undone when a binding goes by another way: its timer finds nothing to do. Each lane
//! pings what it registered; after a restart the lanes share all bindings by a hash of the address of record.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Instant, SystemTime};

use proto::event::{Event, Name};
use proto::node::{Dice, Flow, FlowId, Lane};
use proto::sip::{self, Builder};
use proto::tables::{Binding, Tables};
use proto::timers::{Queue, Timer};

use crate::config::Config;
use crate::moment::Moment;
use crate::part::{Outcome, RequestId, Want};
use crate::registrar;

/// So many keep-alives in a row without an answer, and the device counts as gone.
const LOST_AFTER: u8 = 3;
/// How far keep-alives stray from their interval, in percent: 25 s stays well below the 30 s after which the least
/// patient NATs forget.
const JITTER: u32 = 10;

/// The schedule of keep-alives of one lane.
#[derive(Debug)]
pub struct KeepAlive {
    dice: Dice,
    lane: Lane,
    watched: BTreeMap<Name, Watched>,
    /// Who registered by a connection; names that left it in the meantime do no harm.
    connections: BTreeMap<FlowId, BTreeSet<Name>>,
    alarms: Queue<Alarm>,
    asked: BTreeMap<RequestId, Asked>,
    asked_so_far: u64,
    wants: VecDeque<Want>,
}

/// What is to be done when a time comes.
#[derive(Clone, Debug)]
enum Alarm {
    /// Ping this Contact of this address of record.
    Ping(Name, Name),
    /// A binding of this address of record may be over.
    Expiry(Name),
}

/// An address of record some of whose bindings are ours to look after.
#[derive(Debug, Default)]
struct Watched {
    devices: Vec<Device>,
    expiry: Option<Timer>,
}

#[derive(Debug)]
struct Device {
    contact: Name,
    /// The REGISTER that made the binding; another one means that another lane has taken it over.
    call_id: String,
    cseq: u32,
    timer: Timer,
}

/// A keep-alive under way.
#[derive(Debug)]
struct Asked {
    aor: Name,
    contact: Name,
    flow: Flow,
}

impl KeepAlive {
    /// Nothing scheduled yet.
    pub fn new(dice: Dice) -> KeepAlive {
        KeepAlive {
            dice,
            lane: Lane::default(),
            watched: BTreeMap::new(),
            connections: BTreeMap::new(),
            alarms: Queue::default(),
            asked: BTreeMap::new(),
            asked_so_far: 0,
            wants: VecDeque::new(),
        }
    }

    /// As one of several lanes.
    pub fn of_lane(self, lane: Lane) -> KeepAlive {
        KeepAlive { lane, ..self }
    }

    /// Once after birth: takes up what a former life left in the tables, spread over one interval.
    pub fn resume(&mut self, now: Moment, config: &Config, tables: &dyn Tables) {
        let lane = self.lane;
        for aor in tables.aors().into_iter().filter(|aor| is_of_lane(aor, lane)) {
            let bindings = tables.bindings(&aor);
            self.watch(now, &aor, &bindings, |dice| dice.jitter(config.keep_alive / 2, 100), config);
        }
    }

    /// The bindings of an address of record changed.
    pub fn changed(&mut self, now: Moment, aor: &str, config: &Config, tables: &dyn Tables) {
        let bindings = tables.bindings(aor);
        self.watch(now, aor, &bindings, |dice| dice.jitter(config.keep_alive, JITTER), config);
    }

    /// A connection is gone: the addresses of record that may have a binding made by it.
    pub fn closed(&mut self, flow: &Flow) -> Vec<String> {
        let aors = self.connections.remove(&flow.id).unwrap_or_default();
        aors.iter().map(|aor| aor.to_string()).collect()
    }

    /// Time has come.
    pub fn wake(&mut self, now: Moment, config: &Config, tables: &mut dyn Tables) {
        while let Some(alarm) = self.alarms.pop(now.at) {
            match alarm {
                Alarm::Ping(aor, contact) => self.ping(now, aor, contact, config, tables),
                Alarm::Expiry(aor) => {
                    let told = registrar::expired(now, &aor, tables);
                    self.wants.extend(told.into_iter().map(Want::Event));
                    self.changed(now, &aor, config, tables);
                }
            }
        }
    }

    /// What became of a request.
    pub fn outcome(
        &mut self,
        _now: Moment,
        id: RequestId,
        outcome: Outcome,
        _config: &Config,
        tables: &mut dyn Tables,
    ) {
        let Some(asked) = self.asked.remove(&id) else { return };
        let answered = matches!(outcome, Outcome::Final(_));
        let is_it = |binding: &Binding| *binding.contact == *asked.contact && binding.flow == asked.flow;
        let bindings = tables.bindings(&asked.aor);
        let Some(before) = bindings.iter().find(|binding| is_it(binding)).map(|binding| binding.unanswered)
        else {
            return;
        };
        let after = if answered { 0 } else { before.saturating_add(1).min(LOST_AFTER) };
        if after == before {
            return;
        }
        tables.edit_bindings(&asked.aor, &mut |bindings| {
            bindings
                .iter_mut()
                .filter(|binding| is_it(binding))
                .for_each(|binding| binding.unanswered = after);
        });
        if before.max(after) >= LOST_AFTER {
            let event = Event::Reachable { aor: asked.aor, flow: asked.flow, reachable: answered };
            self.wants.push_back(Want::Event(event));
        }
    }

    /// What it wants next; drained after every call of the above.
    pub fn poll(&mut self) -> Option<Want> {
        self.wants.pop_front()
    }

    /// When to call [`KeepAlive::wake`].
    pub fn deadline(&self) -> Option<Instant> {
        self.alarms.deadline()
    }

    /// Schedules what is new or refreshed, `wait` from now; leaves alone what is scheduled and hasn't changed.
    fn watch(
        &mut self,
        now: Moment,
        aor: &str,
        bindings: &[Binding],
        wait: impl Fn(&mut Dice) -> std::time::Duration,
        config: &Config,
    ) {
        let (aor, mut before) =
            self.watched.remove_entry(aor).unwrap_or_else(|| (aor.into(), Watched::default()));
        let mut devices = vec![];
        for binding in bindings.iter().filter(|binding| needs_pings(binding, now.wall, config)) {
            let same = before.devices.iter().position(|device| device.is_made_by(binding));
            devices.push(match same {
                Some(index) => before.devices.swap_remove(index),
                None => {
                    let contact: Name = binding.contact.as_str().into();
                    let at = now.at + wait(&mut self.dice);
                    let timer = self.alarms.set(at, Alarm::Ping(aor.clone(), contact.clone()));
                    Device { contact, call_id: binding.call_id.clone(), cseq: binding.cseq, timer }
                }
            });
        }
        let stale = before.devices.iter().map(|device| device.timer).chain(before.expiry);
        stale.for_each(|timer| drop(self.alarms.cancel(timer)));
        if bindings.is_empty() {
            return;
        }
        let expiry = self.expiry(now, &aor, bindings);
        for id in bindings.iter().map(|binding| binding.flow.id).filter(|id| id.is_connection()) {
            self.connections.entry(id).or_default().insert(aor.clone());
        }
        self.watched.insert(aor, Watched { devices, expiry });
    }

    /// A timer for the first of these bindings to end.
    fn expiry(&mut self, now: Moment, aor: &Name, bindings: &[Binding]) -> Option<Timer> {
        let first = bindings.iter().map(|binding| binding.expires).min()?;
        let left = first.duration_since(now.wall).unwrap_or_default();
        Some(self.alarms.set(now.at + left, Alarm::Expiry(aor.clone())))
    }

    fn ping(&mut self, now: Moment, aor: Name, contact: Name, config: &Config, tables: &dyn Tables) {
        let Some(watched) = self.watched.get_mut(&aor) else { return };
        let Some(index) = watched.devices.iter().position(|device| device.contact == contact) else { return };
        let bindings = tables.bindings(&aor);
        let device = &mut watched.devices[index];
        let found = bindings
            .iter()
            .find(|binding| device.is_made_by(binding) && needs_pings(binding, now.wall, config));
        let Some(binding) = found else {
            watched.devices.swap_remove(index);
            return;
        };
        let next = now.at + self.dice.jitter(config.keep_alive, JITTER);
        device.timer = self.alarms.set(next, Alarm::Ping(aor.clone(), contact.clone()));
        self.asked_so_far += 1;
        let id = RequestId(self.asked_so_far);
        let message = options(binding, &self.dice.word(20), config);
        self.wants.push_back(Want::Request { flow: binding.flow, message, id });
        self.asked.insert(id, Asked { aor, contact, flow: binding.flow });
    }
}

impl Device {
    fn is_made_by(&self, binding: &Binding) -> bool {
        *binding.contact == *self.contact && binding.call_id == self.call_id && binding.cseq == self.cseq
    }
}

/// Only a UDP mapping dies of silence, and only one on the way from us to the device: behind a Path it is somebody
/// else's to keep.
fn needs_pings(binding: &Binding, wall: SystemTime, config: &Config) -> bool {
    binding.is_live(wall)
        && binding.behind_nat
        && !binding.flow.transport.is_reliable()
        && binding.path.is_empty()
        && !config.keep_alive.is_zero()
}

fn options(binding: &Binding, word: &str, config: &Config) -> sip::Message {
    let listener = config.listener_at(binding.flow.transport, binding.flow.local);
    let us =
        listener.and_then(|index| config.listeners.get(index)).map_or(binding.flow.local, |l| l.advertise);
    Builder::request("OPTIONS", &binding.contact)
        .header(sip::Name::MaxForwards, 70)
        .header(sip::Name::From, format_args!("<sip:{us}>;tag={}", &word[..10]))
        .header(sip::Name::To, format_args!("<{}>", binding.contact))
        .header(sip::Name::CallId, &word[10..])
        .header(sip::Name::CSeq, "1 OPTIONS")
        .finish()
}

/// Which lane looks after an address of record that no lane has registered in this life.
pub(crate) fn is_of_lane(aor: &str, lane: Lane) -> bool {
    let mut hasher = DefaultHasher::new();
    aor.hash(&mut hasher);
    hasher.finish() % u64::from(lane.count.max(1)) == u64::from(lane.index)
}

#[cfg(test)]
#[path = "keepalive_tests.rs"]
mod tests;
