//! Keep-alives under way, a few words each.
//!
//! A client transaction holds its request and its timers for 64·T1 (RFC 3261 §17.1.2), which is longer than the interval
//! of keep-alives: of a hundred thousand phones that don't answer, a hundred thousand requests would be held at all times.
//! Here nothing is held but whose ping it is. What is sent again is written again, and is the same, for every word of it
//! that must be unique follows from its number and a secret. So does the branch its answer is known by, which nobody can
//! name who has not seen the ping:
//!
//! ```text
//! z9hG4bK-ping-LANE-NUMBER-MAC      all in hex; an answer may be read by another lane, which passes it on
//! ```

use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use proto::event::Name;
use proto::node::Lane;
use proto::timers::Queue;

use crate::hashing::{Keyed, Map};

/// After so many T1 since the last time a ping is sent again.
const AGAIN: [u32; 4] = [1, 2, 4, 8];
/// A ping is given up so many T1 after it was first sent; one that is sent only once sooner, by the time of the others.
const PATIENCE: u32 = 32;
const PREFIX: &str = "z9hG4bK-ping-";

/// Those of one lane.
#[derive(Debug)]
pub(crate) struct Pings {
    secret: Keyed,
    lane: Lane,
    asked: Map<u64, Asked>,
    due: Queue<Repeat>,
    so_far: u64,
}

/// Whose ping it is: an address of record, and what made the binding.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) aor: Name,
    pub(crate) made_by: u64,
}

/// When a ping is looked at again.
#[derive(Clone, Copy, Debug)]
struct Repeat {
    number: u64,
    /// How often it has been sent; more often than it ever is: it has been given up.
    sent: usize,
}

/// What is to be done about a ping that has no answer yet.
#[derive(Debug)]
pub(crate) enum Due {
    /// Send it again.
    Again(u64, Asked),
    /// It is given up.
    Silent(Asked),
}

/// The words of a ping that are its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) branch: String,
    pub(crate) tag: String,
    pub(crate) call_id: String,
}

impl Pings {
    /// None yet.
    pub(crate) fn new(secret: Keyed) -> Pings {
        let (asked, due) = (Map::with_hasher(secret.clone()), Queue::default());
        Pings { secret, lane: Lane::default(), asked, due, so_far: 0 }
    }

    /// As one of several lanes.
    pub(crate) fn of_lane(self, lane: Lane) -> Pings {
        Pings { lane, ..self }
    }

    /// Another ping; its number. Whoever has been silent for long is asked once only.
    pub(crate) fn begin(&mut self, now: Instant, asked: Asked, once: bool, t1: Duration) -> u64 {
        self.so_far += 1;
        self.asked.insert(self.so_far, asked);
        let sent = if once { AGAIN.len() + 1 } else { 1 };
        self.look_again(now, Repeat { number: self.so_far, sent }, t1);
        self.so_far
    }

    /// What is due by now: call until `None`.
    pub(crate) fn due(&mut self, now: Instant, t1: Duration) -> Option<Due> {
        while let Some(Repeat { number, sent }) = self.due.pop(now) {
            let Some(asked) = self.asked.get(&number).cloned() else { continue };
            if sent > AGAIN.len() {
                self.asked.remove(&number);
                return Some(Due::Silent(asked));
            }
            self.look_again(now, Repeat { number, sent: sent + 1 }, t1);
            return Some(Due::Again(number, asked));
        }
        None
    }

    fn look_again(&mut self, now: Instant, repeat: Repeat, t1: Duration) {
        let so_far: u32 = AGAIN.iter().sum();
        let rest = if repeat.sent > AGAIN.len() { PATIENCE - so_far } else { AGAIN[repeat.sent - 1] };
        self.due.set(now + t1 * rest, repeat);
    }

    /// Its answer has come, or nobody wants it any more.
    pub(crate) fn end(&mut self, number: u64) -> Option<Asked> {
        self.asked.remove(&number)
    }

    /// When [`Pings::due`] is to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.deadline()
    }

    /// The words of a ping.
    pub(crate) fn words(&self, number: u64) -> Words {
        let [mac, tag, call_id] =
            ["branch", "tag", "call"].map(|word| format!("{:016x}", self.secret.hash_one((word, number))));
        let branch = format!("{PREFIX}{:x}-{number:x}-{mac}", self.lane.index);
        Words { branch, tag, call_id }
    }

    /// Which lane's ping an answer with this branch may be for.
    pub(crate) fn lane_of(branch: &str) -> Option<u16> {
        let (lane, _) = branch.strip_prefix(PREFIX)?.split_once('-')?;
        u16::from_str_radix(lane, 16).ok()
    }

    /// Which of ours it is for.
    pub(crate) fn number_of(&self, branch: &str) -> Option<u64> {
        let (number, _) = branch.strip_prefix(PREFIX)?.split_once('-')?.1.split_once('-')?;
        let number = u64::from_str_radix(number, 16).ok()?;
        (self.words(number).branch == branch).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::testing::Clock;

    const T1: Duration = Duration::from_millis(500);

    fn pings() -> (Pings, Instant) {
        let clock = Clock::new();
        (Pings::new(Keyed::new(&mut clock.dice())), clock.now().at)
    }

    fn asked() -> Asked {
        Asked { aor: "alice@example.com".into(), made_by: 1 }
    }

    /// When each is sent again, in T1 after its begin, and when it is given up.
    fn course(once: bool) -> (Vec<u128>, u128) {
        let (mut pings, start) = pings();
        pings.begin(start, asked(), once, T1);
        let mut again = vec![];
        while let Some(at) = pings.deadline() {
            let passed = (at - start).as_millis() / T1.as_millis();
            match pings.due(at, T1) {
                Some(Due::Again(1, _)) => again.push(passed),
                Some(Due::Silent(_)) => return (again, passed),
                other => panic!("{other:?}"),
            }
        }
        panic!("never given up")
    }

    #[test]
    fn one_without_an_answer_is_sent_five_times_and_given_up_after_sixteen_seconds() {
        assert_eq!(course(false), (vec![1, 3, 7, 15], 32));
    }

    #[test]
    fn whoever_has_been_silent_for_long_is_asked_once() {
        assert_eq!(course(true), (vec![], 17));
    }

    #[test]
    fn one_that_is_answered_is_not_sent_again_and_leaves_nothing() {
        let (mut pings, start) = pings();
        let number = pings.begin(start, asked(), false, T1);
        assert!(pings.end(number).is_some() && pings.end(number).is_none());
        assert!(pings.due(start + T1, T1).is_none());
        assert_eq!((pings.deadline(), pings.asked.len()), (None, 0));
    }

    #[test]
    fn its_words_are_the_same_each_time_and_nobody_elses() {
        let (pings, _) = pings();
        assert_eq!(pings.words(7), pings.words(7));
        assert_ne!(pings.words(7), pings.words(8));
        let branch = pings.words(7).branch;
        assert_eq!((pings.number_of(&branch), Pings::lane_of(&branch)), (Some(7), Some(0)));
        let forged = branch.replace("-7-", "-8-");
        for other in [&forged[..], "z9hG4bK-ping-0-7-", "z9hG4bK-ping-0-7", "z9hG4bK7", ""] {
            assert_eq!(pings.number_of(other), None, "{other}");
        }
    }
}
