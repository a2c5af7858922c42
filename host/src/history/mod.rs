//! What the process remembers of calls: bounded, newest kept, for `postern calls`, `postern explain` and `status`.

mod newest;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use proto::event::{CallEnded, Event, Live, MediaDecided, Name};
use serde::{Deserialize, Serialize};

use self::newest::Newest;
use crate::capture::rules::Rules;
use crate::events::Stamped;

/// Calls that are remembered, and relay sessions.
const CALLS: usize = 5_000;

/// Events that are remembered of a relay session.
const SESSION_EVENTS: usize = 32;

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
    /// What the relay told of its sessions, if that relay runs in this process.
    pub heard: Vec<Event>,
    /// How its sessions are at this moment, when it was asked about.
    pub now: Vec<Live>,
    /// Its end.
    pub ended: Option<CallEnded>,
}

impl CallRecord {
    /// Its relay sessions, each once.
    pub fn sessions(&self) -> impl Iterator<Item = &Name> {
        let named = |at: usize| self.decisions[at].session.as_ref();
        let is_first = move |at: &usize| (0..*at).all(|before| named(before) != named(*at));
        (0..self.decisions.len()).filter(is_first).filter_map(named)
    }
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
    /// Times that only one party of a call was heard.
    #[serde(default)]
    pub one_way: u64,
    /// Legs whose media was answered by ICMP for a while, once a minute each.
    #[serde(default)]
    pub undelivered: u64,
    /// Sessions a relay had no ports for.
    pub exhausted: u64,
    /// How often a lane was overloaded.
    pub overloads: u64,
    /// Details that were dropped because nobody read them in time.
    pub overwritten: u64,
    /// Records of ended calls that were lost; anything but 0 is a fault.
    pub lost: u64,
}

/// What the shield did lately.
const SHIELDED: usize = 1000;

#[derive(Debug)]
struct Inner {
    shielded: VecDeque<Stamped>,
    calls: Newest<CallRecord>,
    /// What relays told, by session: a leg may latch before its call's decision is told.
    sessions: Newest<Vec<Event>>,
    counts: Counts,
}

impl Default for Inner {
    fn default() -> Inner {
        Inner {
            shielded: VecDeque::new(),
            calls: Newest::new(CALLS),
            sessions: Newest::new(CALLS),
            counts: Counts::default(),
        }
    }
}

/// Shared between the collector, which writes, and the admin socket, which reads.
#[derive(Debug, Default)]
pub struct History(Mutex<Inner>, Rules);

impl History {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Which calls are recorded without being asked for.
    pub fn rules(&self) -> &Rules {
        &self.1
    }

    /// Remembers an event.
    pub fn take(&self, stamped: Stamped) {
        self.1.take(&stamped.event);
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
        inner.calls.names().filter_map(|call| inner.told(call)).take(most).collect()
    }

    /// What the shield did about a source, the newest last.
    pub fn about_source(&self, wanted: IpAddr) -> Vec<Stamped> {
        let is_about =
            |told: &&Stamped| matches!(told.event, Event::Shielded { source, .. } if source == wanted);
        self.inner().shielded.iter().filter(is_about).cloned().collect()
    }

    /// The call with this Call-ID or a beginning of it, newest first; `last`: the newest.
    pub fn find(&self, wanted: &str) -> Option<CallRecord> {
        let inner = self.inner();
        let fits = |call: &&Name| wanted == "last" || call.starts_with(wanted);
        inner.calls.names().find(fits).and_then(|call| inner.told(call))
    }
}

impl Inner {
    fn take(&mut self, Stamped { at, event }: Stamped) {
        self.count(&event);
        match event {
            Event::Shielded { .. } => {
                if self.shielded.len() >= SHIELDED {
                    self.shielded.pop_front();
                }
                self.shielded.push_back(Stamped { at, event });
            }
            Event::CallBegun { call, from, to, .. } => self.record(&call, at).parties = Some((from, to)),
            Event::CallAnswered { call, setup } => self.record(&call, at).setup = Some(setup),
            Event::MediaDecided(decided) => self.decided(*decided, at),
            Event::CallEnded(ended) => {
                let call = ended.call.clone();
                self.record(&call, at).ended = Some(*ended);
            }
            Event::Refused { ref call, .. } | Event::Redirected { ref call, .. } => {
                self.record(&call.clone(), at).turns.push(event);
            }
            Event::LegLatched { ref session, .. }
            | Event::LegSilent { ref session, .. }
            | Event::OneWay { ref session, .. }
            | Event::StrangerDropped { ref session, .. }
            | Event::Undelivered { ref session, .. }
            | Event::Flood { ref session, .. }
            | Event::RelayReleased { ref session, .. } => self.heard(&session.clone(), event),
            _ => {}
        }
    }

    /// A decision, or the same one again with its relay's addresses.
    fn decided(&mut self, decided: MediaDecided, at: SystemTime) {
        let decisions = &mut self.record(&decided.call.clone(), at).decisions;
        let same = |known: &&mut MediaDecided| {
            known.relay.is_none()
                && (known.side, known.rule, &known.seen) == (decided.side, decided.rule, &decided.seen)
        };
        match decisions.iter_mut().find(same) {
            Some(known) => *known = decided,
            None => {
                // Most calls have one, and room for four would be a kilobyte.
                decisions.reserve_exact(1);
                decisions.push(decided);
            }
        }
    }

    fn heard(&mut self, session: &Name, event: Event) {
        let events = self.sessions.of(session, Vec::new);
        if events.len() == SESSION_EVENTS {
            events.remove(0);
        }
        // Most sessions tell of one thing or two, and there are thousands.
        events.reserve_exact(1);
        events.push(event);
    }

    /// A call with what its relay sessions told.
    fn told(&self, call: &Name) -> Option<CallRecord> {
        let mut record = self.calls.get(call)?.clone();
        record.heard =
            record.sessions().filter_map(|session| self.sessions.get(session)).flatten().cloned().collect();
        Some(record)
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
            Event::Overload { begins: true, .. } => counts.overloads += 1,
            Event::StrangerDropped { .. } => counts.strangers += 1,
            Event::OneWay { .. } => counts.one_way += 1,
            Event::Undelivered { .. } => counts.undelivered += 1,
            Event::RelayExhausted { .. } => counts.exhausted += 1,
            _ => {}
        }
    }

    fn record(&mut self, call: &Name, at: SystemTime) -> &mut CallRecord {
        self.calls.of(call, || CallRecord {
            call: call.clone(),
            parties: None,
            begun: at,
            setup: None,
            decisions: Vec::new(),
            turns: Vec::new(),
            heard: Vec::new(),
            now: Vec::new(),
            ended: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proto::event::{Rule, Side, Sighting};
    use proto::tables::Anchor;

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
    fn decided(call: &str, relay: bool) -> Event {
        Event::MediaDecided(Box::new(MediaDecided {
            call: call.into(),
            side: Side::Caller,
            seen: [Sighting::BySibling(None), Sighting::Unknown],
            anchor: Anchor::Auto,
            rule: Rule::SourceDiffers,
            anchored: true,
            session: relay.then(|| "s1".into()),
            relay: relay.then(|| ["192.0.2.1:4000".parse().unwrap(), "192.0.2.1:4002".parse().unwrap()]),
        }))
    }

    #[test]
    fn a_leg_that_latches_before_the_relay_is_told_belongs_to_its_call_all_the_same() {
        let history = History::default();
        let from = "198.51.100.1:4000".parse().unwrap();
        let latched = Event::LegLatched { session: "s1".into(), leg: Side::Caller, from, rebound: false };
        for event in [decided("c1", false), latched.clone(), decided("c1", true)] {
            history.take(Stamped { at: SystemTime::UNIX_EPOCH, event });
        }
        let call = history.find("c1").unwrap();
        assert_eq!(call.decisions.len(), 1, "the second telling is the same decision: {:?}", call.decisions);
        assert_eq!(call.heard, [latched]);
    }
}
