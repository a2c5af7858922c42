//! When to look at which address of record: a binding runs out, or a dead one is forgotten.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use proto::event::{Event, Registration};
use proto::tables::{Binding, Tables};
use proto::timers::{Queue, Timer};

use crate::register::told;

/// One timer for each address of record with a binding.
#[derive(Debug)]
pub(crate) struct Expiry {
    memory: Duration,
    queue: Queue<String>,
    watched: BTreeMap<String, Watch>,
}

#[derive(Debug)]
struct Watch {
    timer: Timer,
    /// What ran out up to this moment has been told.
    told: SystemTime,
}

impl Expiry {
    /// Nobody watched. `memory`: how long a dead binding stays.
    pub(crate) fn new(memory: Duration) -> Expiry {
        Expiry { memory, queue: Queue::default(), watched: BTreeMap::new() }
    }

    /// Takes up everything a former life left in the tables.
    pub(crate) fn resume(&mut self, now: Instant, wall: SystemTime, tables: &dyn Tables) {
        for aor in tables.aors() {
            self.watch(now, wall, &aor, tables);
        }
    }

    /// The bindings of an address of record are as they shall be at this moment: when to look again.
    pub(crate) fn watch(&mut self, now: Instant, wall: SystemTime, aor: &str, tables: &dyn Tables) {
        if let Some(old) = self.watched.remove(aor) {
            self.queue.cancel(old.timer);
        }
        let next = tables.bindings(aor).iter().map(|binding| self.turn(binding, wall)).min();
        if let Some(next) = next {
            let at = now + next.duration_since(wall).unwrap_or_default();
            let timer = self.queue.set(at, aor.to_owned());
            self.watched.insert(aor.to_owned(), Watch { timer, told: wall });
        }
    }

    /// Time has come: what is lost is told, what is forgotten goes.
    pub(crate) fn wake(&mut self, now: Instant, wall: SystemTime, tables: &mut dyn Tables) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(aor) = self.queue.pop(now) {
            let since = self.watched.remove(&aor).map_or(wall, |watch| watch.told);
            let lost = |binding: &Binding| !binding.is_live(wall) && binding.expires > since;
            let gone = tables.bindings(&aor).into_iter().filter(lost);
            events.extend(gone.map(|binding| told(&aor, &binding, Registration::Lost)));
            tables.edit_bindings(&aor, &mut |bindings| {
                bindings.retain(|binding| binding.expires + self.memory > wall);
            });
            self.watch(now, wall, &aor, tables);
        }
        events
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.queue.deadline()
    }

    /// When a binding's state changes next.
    fn turn(&self, binding: &Binding, wall: SystemTime) -> SystemTime {
        if binding.is_live(wall) { binding.expires } else { binding.expires + self.memory }
    }
}
