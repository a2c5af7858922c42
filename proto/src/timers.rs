//! One queue of timers for a whole node: tens of thousands of them, most cancelled before they fire.
//!
//! A binary heap ordered by time, and a slot for what each timer means. Cancelling empties the slot and leaves the
//! heap's entry to be skipped, so it costs no search; when more entries are empty than not, the heap is built anew.
//! Timers that are due at the same moment fire in the order they were set.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use slotmap::{DefaultKey, SlotMap};

/// A timer that was set. Once it has fired or was cancelled, the name means nothing any more and does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer(DefaultKey);

/// Timers, and what each of them means to its owner.
#[derive(Debug)]
pub struct Queue<T> {
    heap: BinaryHeap<Reverse<Entry>>,
    meanings: SlotMap<DefaultKey, T>,
    set_so_far: u64,
}

/// Ordered by time, then by order of setting; the slot never decides, because no two share `order`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: Instant,
    order: u64,
    slot: DefaultKey,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { heap: BinaryHeap::new(), meanings: SlotMap::new(), set_so_far: 0 }
    }
}

impl<T> Queue<T> {
    /// Sets a timer. O(log n).
    pub fn set(&mut self, at: Instant, meaning: T) -> Timer {
        let slot = self.meanings.insert(meaning);
        self.set_so_far += 1;
        self.heap.push(Reverse(Entry { at, order: self.set_so_far, slot }));
        Timer(slot)
    }

    /// Cancels it; what it meant, if it had not fired. O(1) on average.
    pub fn cancel(&mut self, timer: Timer) -> Option<T> {
        let meaning = self.meanings.remove(timer.0)?;
        if self.heap.len() > 64 && self.heap.len() > 2 * self.meanings.len() {
            let meanings = &self.meanings;
            self.heap.retain(|Reverse(entry)| meanings.contains_key(entry.slot));
        }
        self.skip_cancelled();
        Some(meaning)
    }

    /// The first timer that is due at `now`: call until `None`.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        let Reverse(first) = *self.heap.peek()?;
        if first.at > now {
            return None;
        }
        self.heap.pop();
        let meaning = self.meanings.remove(first.slot);
        self.skip_cancelled();
        meaning
    }

    /// When the first timer is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.meanings.len()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.meanings.is_empty()
    }

    /// Keeps the law that the heap's first entry is a live one, so that `deadline` needs no search.
    fn skip_cancelled(&mut self) {
        while self.heap.peek().is_some_and(|Reverse(entry)| !self.meanings.contains_key(entry.slot)) {
            self.heap.pop();
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn fires_at_its_time_and_not_before() {
        let start = Instant::now();
        let mut timers = Queue::default();
        timers.set(start + 500 * MS, 'a');
        assert_eq!(timers.deadline(), Some(start + 500 * MS));
        assert_eq!(timers.pop(start + 499 * MS), None);
        assert_eq!(timers.pop(start + 500 * MS), Some('a'));
        assert_eq!(timers.pop(start + 500 * MS), None);
        assert_eq!(timers.deadline(), None);
    }

    #[test]
    fn fires_in_order_of_setting_when_due_together() {
        let start = Instant::now();
        let mut timers = Queue::default();
        for n in 0..100 {
            timers.set(start + MS, n);
        }
        let fired: Vec<i32> = std::iter::from_fn(|| timers.pop(start + MS)).collect();
        assert_eq!(fired, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_cancelled_timer_neither_fires_nor_holds_the_deadline() {
        let start = Instant::now();
        let mut timers = Queue::default();
        let early = timers.set(start + MS, 'e');
        timers.set(start + 2 * MS, 'l');
        assert_eq!(timers.cancel(early), Some('e'));
        assert_eq!(timers.cancel(early), None);
        assert_eq!(timers.deadline(), Some(start + 2 * MS));
        assert_eq!(timers.pop(start + 5 * MS), Some('l'));
    }

    #[test]
    fn an_old_name_does_not_cancel_the_timer_that_took_its_slot() {
        let start = Instant::now();
        let mut timers = Queue::default();
        let old = timers.set(start, 1);
        timers.cancel(old);
        timers.set(start, 2);
        assert_eq!(timers.cancel(old), None);
        assert_eq!(timers.pop(start), Some(2));
    }

    #[test]
    fn memory_follows_the_living_and_not_the_cancelled() {
        let start = Instant::now();
        let mut timers = Queue::default();
        timers.set(start, 0);
        for n in 0..100_000 {
            let timer = timers.set(start + Duration::from_secs(32), n);
            timers.cancel(timer);
        }
        assert!(timers.heap.len() <= 66, "{}", timers.heap.len());
    }

    /// Against a model: whatever is set, cancelled and popped, in whatever order.
    #[test]
    fn agrees_with_a_sorted_map() {
        let start = Instant::now();
        let mut timers = Queue::default();
        let mut model: BTreeMap<(Instant, u64), Timer> = BTreeMap::new();
        let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
        let mut now = start;
        for n in 0..20_000_u64 {
            dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = now + Duration::from_micros((dice >> 40) % 50_000);
            match (dice >> 33) % 4 {
                0 | 1 => {
                    model.insert((at, n), timers.set(at, n));
                }
                2 if !model.is_empty() => {
                    let victim = *model.keys().nth((dice >> 20) as usize % model.len()).unwrap();
                    assert_eq!(timers.cancel(model.remove(&victim).unwrap()), Some(victim.1));
                }
                _ => {
                    now += Duration::from_micros((dice >> 50) % 5_000);
                    let due: Vec<u64> = model.range(..=(now, u64::MAX)).map(|((_, n), _)| *n).collect();
                    model.retain(|(at, _), _| *at > now);
                    assert_eq!(std::iter::from_fn(|| timers.pop(now)).collect::<Vec<_>>(), due);
                }
            }
            assert_eq!(timers.deadline(), model.keys().next().map(|(at, _)| *at));
            assert_eq!(timers.len(), model.len());
        }
    }
}
