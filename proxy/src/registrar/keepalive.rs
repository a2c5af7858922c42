//! Keeps NAT mappings of registered devices open: OPTIONS every 25 s ± jitter to UDP bindings behind a NAT, from the
//! socket they registered on. Three unanswered mark a binding unreachable; an answer clears it (DESIGN §4).
//!
//! A device costs a timer and a few words here; what is known of it stands in the tables, and is read when its time
//! comes. So nothing needs to be undone when a binding goes by another way: its timer finds nothing to do. A refresh leaves
//! the time at which its address of record is looked at as it is: the look then finds when the next is due. Each lane
//! pings what it registered; after a restart the lanes share all bindings by a hash of the address of record.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant, SystemTime};

use proto::event::{Event, Name};
use proto::node::{Dice, Flow, FlowId, Lane};
use proto::sip::{self, Builder};
use proto::tables::{Binding, Tables};
use proto::timers::{Queue, Timer};

use crate::config::Config;
use crate::hashing::{Keyed, Map};
use crate::moment::Moment;
use crate::part::Want;
use crate::registrar::bindings;
use crate::registrar::pings::{Asked, Due, Pings, Words};

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
    watched: Map<Name, Watched>,
    /// Who registered by a connection; names that left it in the meantime do no harm.
    connections: BTreeSet<(FlowId, Name)>,
    /// When a binding of an address of record may be over; what its [`Watched`] doesn't know of is passed over.
    expiries: BinaryHeap<Reverse<(Instant, Name)>>,
    pings: Queue<Ping>,
    under_way: Pings,
    wants: VecDeque<Want>,
}

/// Whom to ping when a time comes.
#[derive(Clone, Debug)]
struct Ping {
    aor: Name,
    made_by: u64,
}

/// An address of record some of whose bindings are ours to look after.
#[derive(Debug, Default)]
struct Watched {
    expiry: Option<Instant>,
    devices: Box<[Device]>,
}

#[derive(Clone, Copy, Debug)]
struct Device {
    made_by: u64,
    timer: Timer,
}

impl KeepAlive {
    /// Nothing scheduled yet.
    pub(crate) fn new(dice: Dice, keyed: Keyed) -> KeepAlive {
        KeepAlive {
            dice,
            lane: Lane::default(),
            watched: Map::with_hasher(keyed.clone()),
            connections: BTreeSet::new(),
            expiries: BinaryHeap::new(),
            pings: Queue::default(),
            under_way: Pings::new(keyed),
            wants: VecDeque::new(),
        }
    }

    /// As one of several lanes.
    pub fn of_lane(self, lane: Lane) -> KeepAlive {
        KeepAlive { lane, under_way: self.under_way.of_lane(lane), ..self }
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
        self.changed_to(now, aor, &tables.bindings(aor), config);
    }

    /// The bindings of an address of record changed, and are these now.
    pub fn changed_to(&mut self, now: Moment, aor: &str, bindings: &[Binding], config: &Config) {
        self.watch(now, aor, bindings, |dice| dice.jitter(config.keep_alive, JITTER), config);
    }

    /// A connection is gone: the addresses of record that may have a binding made by it.
    pub fn closed(&mut self, flow: &Flow) -> Vec<String> {
        let there = self.connections.range((flow.id, Name::from(""))..).take_while(|(id, _)| *id == flow.id);
        let there: Vec<_> = there.cloned().collect();
        for entry in &there {
            self.connections.remove(entry);
        }
        there.into_iter().map(|(_, aor)| aor.to_string()).collect()
    }

    /// Time has come.
    pub fn wake(&mut self, now: Moment, config: &Config, tables: &mut dyn Tables) {
        while let Some(Reverse((at, aor))) = self.expiries.peek().filter(|next| next.0.0 <= now.at).cloned() {
            self.expiries.pop();
            let Some(watched) = self.watched.get_mut(&aor).filter(|watched| watched.expiry == Some(at))
            else {
                continue;
            };
            watched.expiry = None;
            let told = bindings::expired(now, &aor, tables);
            self.wants.extend(told.into_iter().map(Want::Event));
            self.changed(now, &aor, config, tables);
        }
        while let Some(ping) = self.pings.pop(now.at) {
            self.ping(now, ping, config, tables);
        }
        while let Some(due) = self.under_way.due(now.at, config.timers.t1) {
            match due {
                Due::Again(number, asked) => self.ping_again(now, number, &asked, config, tables),
                Due::Silent(asked) => self.outcome(asked, false, tables),
            }
        }
    }

    /// An answer has come for a ping: whatever it says, the device is there. A lane whose ping it is, if that is another.
    pub fn answered(&mut self, branch: &str, tables: &mut dyn Tables) -> Option<u16> {
        let lane = Pings::lane_of(branch)?;
        if lane != self.lane.index {
            return Some(lane).filter(|lane| *lane < self.lane.count);
        }
        let asked = self.under_way.number_of(branch).and_then(|number| self.under_way.end(number));
        asked.into_iter().for_each(|asked| self.outcome(asked, true, tables));
        None
    }

    /// What became of a ping.
    fn outcome(&mut self, asked: Asked, answered: bool, tables: &mut dyn Tables) {
        let is_it = |binding: &Binding| maker(binding) == asked.made_by;
        let Some(binding) = tables.bindings(&asked.aor).into_iter().find(is_it) else { return };
        let before = binding.unanswered;
        let after = if answered { 0 } else { before.saturating_add(1).min(LOST_AFTER) };
        if after == before {
            return;
        }
        tables.edit_bindings(&asked.aor, &mut |bindings| {
            let it = bindings.iter_mut().find(|binding| is_it(binding));
            it.into_iter().for_each(|binding| binding.unanswered = after);
        });
        if before.max(after) >= LOST_AFTER {
            let event = Event::Reachable { aor: asked.aor, flow: binding.flow, reachable: answered };
            self.wants.push_back(Want::Event(event));
        }
    }

    /// What it wants next; drained after every call of the above.
    pub fn poll(&mut self) -> Option<Want> {
        self.wants.pop_front()
    }

    /// When to call [`KeepAlive::wake`].
    pub fn deadline(&self) -> Option<Instant> {
        let expiry = self.expiries.peek().map(|Reverse((at, _))| *at);
        [expiry, self.pings.deadline(), self.under_way.deadline()].into_iter().flatten().min()
    }

    /// Schedules what is new or refreshed, `wait` from now; leaves alone what is scheduled and hasn't changed.
    fn watch(
        &mut self,
        now: Moment,
        aor: &str,
        bindings: &[Binding],
        wait: impl Fn(&mut Dice) -> Duration,
        config: &Config,
    ) {
        let (aor, mut watched) =
            self.watched.remove_entry(aor).unwrap_or_else(|| (aor.into(), Watched::default()));
        let mut before = std::mem::take(&mut watched.devices).into_vec();
        let mut devices = vec![];
        for binding in bindings.iter().filter(|binding| needs_pings(binding, now.wall, config)) {
            let made_by = maker(binding);
            let same = before.iter().position(|device| device.made_by == made_by);
            devices.push(match same {
                Some(index) => before.swap_remove(index),
                None => {
                    let at = now.at + wait(&mut self.dice);
                    Device { made_by, timer: self.pings.set(at, Ping { aor: aor.clone(), made_by }) }
                }
            });
        }
        before.into_iter().for_each(|device| drop(self.pings.cancel(device.timer)));
        watched.devices = devices.into();
        self.look_again(now, &aor, &mut watched, bindings);
        for id in bindings.iter().map(|binding| binding.flow.id).filter(|id| id.is_connection()) {
            self.connections.insert((id, aor.clone()));
        }
        if watched.expiry.is_some() {
            self.watched.insert(aor, watched);
        }
    }

    /// Sees to it that the address of record is looked at when the first of these bindings ends, at the latest.
    fn look_again(&mut self, now: Moment, aor: &Name, watched: &mut Watched, bindings: &[Binding]) {
        let Some(first) = bindings.iter().map(|binding| binding.expires).min() else { return };
        let at = now.at + first.duration_since(now.wall).unwrap_or_default();
        if watched.expiry.is_none_or(|expiry| at < expiry) {
            watched.expiry = Some(at);
            self.expiries.push(Reverse((at, aor.clone())));
        }
    }

    fn ping(&mut self, now: Moment, ping: Ping, config: &Config, tables: &dyn Tables) {
        let Some(watched) = self.watched.get_mut(&ping.aor) else { return };
        let is_it = |device: &Device| device.made_by == ping.made_by;
        let Some(index) = watched.devices.iter().position(is_it) else { return };
        let made =
            |binding: &Binding| maker(binding) == ping.made_by && needs_pings(binding, now.wall, config);
        let Some(binding) = tables.bindings(&ping.aor).into_iter().find(made) else {
            watched.devices = watched.devices.iter().filter(|device| !is_it(device)).copied().collect();
            return;
        };
        let next = now.at + self.dice.jitter(config.keep_alive, JITTER);
        watched.devices[index].timer = self.pings.set(next, ping.clone());
        let (asked, once) = (Asked { aor: ping.aor, made_by: ping.made_by }, binding.is_unreachable());
        let number = self.under_way.begin(now.at, asked, once, config.timers.t1);
        self.send(number, &binding, config);
    }

    /// The same again, unless the device has gone or come by another way in the meantime.
    fn ping_again(&mut self, now: Moment, number: u64, asked: &Asked, config: &Config, tables: &dyn Tables) {
        let made =
            |binding: &Binding| maker(binding) == asked.made_by && needs_pings(binding, now.wall, config);
        match tables.bindings(&asked.aor).into_iter().find(made) {
            Some(binding) => self.send(number, &binding, config),
            None => drop(self.under_way.end(number)),
        }
    }

    fn send(&mut self, number: u64, binding: &Binding, config: &Config) {
        let words = self.under_way.words(number);
        let message = options(binding, &words, config);
        self.wants.push_back(Want::Ping { flow: binding.flow, message, branch: words.branch });
    }
}

/// The REGISTER that made a binding, and the device; another REGISTER means that another lane may have taken it over.
fn maker(binding: &Binding) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&binding.contact, &binding.call_id, binding.cseq).hash(&mut hasher);
    hasher.finish()
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

fn options(binding: &Binding, words: &Words, config: &Config) -> sip::Message {
    let listener = config.listener_at(binding.flow.transport, binding.flow.local);
    let us =
        listener.and_then(|index| config.listeners.get(index)).map_or(binding.flow.local, |l| l.advertise);
    Builder::request("OPTIONS", &binding.contact)
        .header(sip::Name::MaxForwards, 70)
        .header(sip::Name::From, format_args!("<sip:{us}>;tag={}", words.tag))
        .header(sip::Name::To, format_args!("<{}>", binding.contact))
        .header(sip::Name::CallId, &words.call_id)
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
