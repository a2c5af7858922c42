//! Events on their way out: a bounded ring per lane, one collector that logs, counts and remembers.
//!
//! A full ring drops its oldest detail and counts it. Ended calls have a queue of their own; if even that is full, an
//! alarm is logged and counted, never passed over.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, SystemTime};

use crossbeam_queue::{ArrayQueue, SegQueue};
use proto::event::Event;

use crate::history::History;

/// Events a ring holds.
const DETAILS: usize = 8_192;
/// Ended calls a ring holds.
const ENDED: usize = 65_536;
/// How long the collector lets events gather: being woken costs as much as a dozen of them.
const GATHER: Duration = Duration::from_millis(50);

/// An event, and when it was raised.
#[derive(Clone, Debug)]
pub struct Stamped {
    /// Wall-clock time.
    pub at: SystemTime,
    /// What happened.
    pub event: Event,
}

/// One lane's way to the collector.
#[derive(Debug)]
pub struct Ring {
    /// Boxed: every slot is touched when the queue is made, and there are many.
    details: ArrayQueue<Box<Stamped>>,
    /// [`ENDED`] at most, with room for those alone that are there.
    ended: SegQueue<Box<Stamped>>,
    overwritten: AtomicU64,
    lost: AtomicU64,
    bell: Arc<Bell>,
}

impl Ring {
    fn new(bell: Arc<Bell>) -> Ring {
        Ring {
            details: ArrayQueue::new(DETAILS),
            ended: SegQueue::new(),
            overwritten: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            bell,
        }
    }

    /// Takes an event; never waits.
    pub fn raise(&self, event: Event) {
        let stamped = Box::new(Stamped { at: SystemTime::now(), event });
        if matches!(stamped.event, Event::CallEnded(_)) {
            match self.ended.len() < ENDED {
                true => self.ended.push(stamped),
                false => drop(self.lost.fetch_add(1, Ordering::Relaxed)),
            }
        } else if self.details.force_push(stamped).is_some() {
            self.overwritten.fetch_add(1, Ordering::Relaxed);
        }
        self.bell.ring();
    }
}

/// Wakes the collector, once for many events.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    stop: AtomicBool,
    sleeper: Mutex<Option<Thread>>,
}

impl Bell {
    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Some(thread) = &*self.sleeper.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
        {
            thread.unpark();
        }
    }
}

/// Who is told of events as they come, beside the log.
pub type Listener = Box<dyn FnMut(&Stamped) + Send>;

/// Reads all rings on a thread of its own.
#[derive(Debug)]
pub struct Collector {
    bell: Arc<Bell>,
    rings: Vec<Arc<Ring>>,
    history: Arc<History>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Starts it, with a ring for each lane.
    pub fn start(lanes: usize) -> std::io::Result<Collector> {
        Collector::telling(lanes, Box::new(|_| ()))
    }

    /// The same; `listener` is told of every event.
    pub fn telling(lanes: usize, listener: Listener) -> std::io::Result<Collector> {
        let bell = Arc::new(Bell::default());
        let rings: Vec<_> = (0..lanes).map(|_| Arc::new(Ring::new(bell.clone()))).collect();
        let history = Arc::new(History::default());
        let round = Round {
            bell: bell.clone(),
            rings: rings.clone(),
            history: history.clone(),
            listener,
            alarmed: 0,
        };
        let thread = std::thread::Builder::new().name("events".into()).spawn(move || round.run())?;
        *bell.sleeper.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(thread.thread().clone());
        bell.ring();
        Ok(Collector { bell, rings, history, thread: Some(thread) })
    }

    /// The ring of a lane.
    pub fn ring(&self, lane: usize) -> Arc<Ring> {
        self.rings[lane].clone()
    }

    /// What it remembers.
    pub fn history(&self) -> Arc<History> {
        self.history.clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.bell.stop.store(true, Ordering::Release);
        self.bell.rung.store(false, Ordering::Release);
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Round {
    bell: Arc<Bell>,
    rings: Vec<Arc<Ring>>,
    history: Arc<History>,
    listener: Listener,
    alarmed: u64,
}

impl Round {
    fn run(mut self) {
        loop {
            while !self.bell.rung.load(Ordering::Acquire) && !self.stopping() {
                std::thread::park();
            }
            if !self.stopping() {
                std::thread::sleep(GATHER);
            }
            self.bell.rung.store(false, Ordering::Release);
            self.collect();
            if self.stopping() {
                return;
            }
        }
    }

    fn stopping(&self) -> bool {
        self.bell.stop.load(Ordering::Acquire)
    }

    fn collect(&mut self) {
        for ring in &self.rings {
            while let Some(stamped) = ring.details.pop().or_else(|| ring.ended.pop()) {
                crate::journal::log(&stamped.event);
                (self.listener)(&stamped);
                self.history.take(*stamped);
            }
        }
        let sum = |count: fn(&Ring) -> &AtomicU64| {
            self.rings.iter().map(|r| count(r).load(Ordering::Relaxed)).sum()
        };
        let lost: u64 = sum(|ring| &ring.lost);
        self.history.note_drops(sum(|ring| &ring.overwritten), lost);
        if lost > self.alarmed {
            tracing::error!(lost, "records of ended calls were lost: the collector can't keep up");
            self.alarmed = lost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_keeps_the_newest_and_counts_the_rest() {
        let ring = Ring::new(Arc::default());
        for limit in 0..DETAILS as u32 + 3 {
            ring.raise(Event::RelayExhausted { session: "s".into(), limit });
        }
        assert_eq!(ring.overwritten.load(Ordering::Relaxed), 3);
        let oldest = ring.details.pop().map(|stamped| stamped.event);
        assert_eq!(oldest, Some(Event::RelayExhausted { session: "s".into(), limit: 3 }));
    }
}
