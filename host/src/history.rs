//! What the process remembers of calls: bounded, newest kept, for `postern calls`, `postern explain` and `status`.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use proto::event::{CallEnded, Event, MediaDecided, Name};
use serde::{Deserialize, Serialize};

use crate::events::Stamped;

/// Calls that are remembered.
const CALLS: usize = 5_000;

/// One call, as far as events told of it.
#[derive(Clone, Debug)]
pub struct CallRecord {
    /// Call-ID.
    pub call: Name,
    /// Caller's and callee's addresses of record.
    pub parties: Option<(Name, Name)>,
    /// When it was first heard of.
    pub begun: SystemTime,
    /// How long it rang, once answered.
    pub setup: Option<Duration>,
    /// Every media decision about it.
    pub decisions: Vec<MediaDecided>,
    /// Refusals and redirections, in the order they came.
    pub turns: Vec<Event>,
    /// Its end.
    pub ended: Option<CallEnded>,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Counts {
    /// Calls begun.
    pub begun: u64,
    /// Calls answered.
    pub answered: u64,
    /// Calls ended.
    pub ended: u64,
    /// Of those, the ones that were never answered.
    pub failed: u64,
    /// Of those, the ones through a relay.
    pub anchored: u64,
    /// Requests we refused.
    pub refused: u64,
    /// New registrations.
    pub registered: u64,
    /// Packets from strangers reported by relays.
    pub strangers: u64,
    /// Sessions a relay had no ports for.
    pub exhausted: u64,
    /// Details that were dropped because nobody read them in time.
    pub overwritten: u64,
    /// Records of ended calls that were lost; anything but 0 is a fault.
    pub lost: u64,
}

#[derive(Debug, Default)]
struct Inner {
    calls: HashMap<Name, CallRecord>,
    order: VecDeque<Name>,
    counts: Counts,
}

/// Shared between the collector, which writes, and the admin socket, which reads.
#[derive(Debug, Default)]
pub struct History(Mutex<Inner>);

impl History {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Remembers an event.
    pub fn take(&self, stamped: Stamped) {
        self.inner().take(stamped);
    }

    /// Notes how much the rings dropped so far.
    pub fn note_drops(&self, overwritten: u64, lost: u64) {
        let counts = &mut self.inner().counts;
        (counts.overwritten, counts.lost) = (overwritten, lost);
    }

    /// Totals.
    pub fn counts(&self) -> Counts {
        self.inner().counts
    }

    /// The newest calls, newest first.
    pub fn newest(&self, most: usize) -> Vec<CallRecord> {
        let inner = self.inner();
        inner.order.iter().rev().filter_map(|call| inner.calls.get(call)).take(most).cloned().collect()
    }

    /// The call with this Call-ID or a beginning of it, newest first; `last`: the newest.
    pub fn find(&self, wanted: &str) -> Option<CallRecord> {
        let inner = self.inner();
        let fits = |call: &&Name| wanted == "last" || call.starts_with(wanted);
        inner.order.iter().rev().find(fits).and_then(|call| inner.calls.get(call)).cloned()
    }
}

impl Inner {
    fn take(&mut self, Stamped { at, event }: Stamped) {
        self.count(&event);
        match event {
            Event::CallBegun { call, from, to, .. } => self.record(&call, at).parties = Some((from, to)),
            Event::CallAnswered { call, setup } => self.record(&call, at).setup = Some(setup),
            Event::MediaDecided(decided) => self.record(&decided.call.clone(), at).decisions.push(*decided),
            Event::CallEnded(ended) => {
                let call = ended.call.clone();
                self.record(&call, at).ended = Some(*ended);
            }
            Event::Refused { ref call, .. } | Event::Redirected { ref call, .. } => {
                self.record(&call.clone(), at).turns.push(event);
            }
            _ => {}
        }
    }

    fn count(&mut self, event: &Event) {
        let counts = &mut self.counts;
        match event {
            Event::CallBegun { .. } => counts.begun += 1,
            Event::CallAnswered { .. } => counts.answered += 1,
            Event::CallEnded(ended) => {
                counts.ended += 1;
                counts.failed += u64::from(ended.status >= 300);
                counts.anchored += u64::from(ended.anchored);
            }
            Event::Refused { .. } => counts.refused += 1,
            Event::Registered { change: proto::event::Registration::New, .. } => counts.registered += 1,
            Event::StrangerDropped { .. } => counts.strangers += 1,
            Event::RelayExhausted { .. } => counts.exhausted += 1,
            _ => {}
        }
    }

    fn record(&mut self, call: &Name, at: SystemTime) -> &mut CallRecord {
        if !self.calls.contains_key(call) {
            while self.order.len() >= CALLS
                && let Some(oldest) = self.order.pop_front()
            {
                self.calls.remove(&oldest);
            }
            self.order.push_back(call.clone());
        }
        self.calls.entry(call.clone()).or_insert_with(|| CallRecord {
            call: call.clone(),
            parties: None,
            begun: at,
            setup: None,
            decisions: Vec::new(),
            turns: Vec::new(),
            ended: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(call: &str) -> Stamped {
        Stamped {
            at: SystemTime::UNIX_EPOCH,
            event: Event::CallAnswered { call: call.into(), setup: Duration::ZERO },
        }
    }

    #[test]
    fn the_oldest_call_is_forgotten_first() {
        let history = History::default();
        for number in 0..CALLS + 1 {
            history.take(answered(&format!("call-{number}")));
        }
        assert!(history.find("call-0").is_none_or(|found| &*found.call != "call-0"));
        assert_eq!(history.newest(usize::MAX).len(), CALLS);
        assert_eq!(history.find("last").map(|found| found.call.to_string()), Some(format!("call-{CALLS}")));
        assert_eq!(history.counts().answered, CALLS as u64 + 1);
    }
}
