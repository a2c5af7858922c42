//! Requests that wait or were let in lately, by their hashes: so that nothing is refused after it was taken.
//!
//! A table of fixed size. Each hash has a set of eight places; who comes as the ninth takes that of the one that has been let in
//! for longest. With a single place, another request would have it soon: of those that are sent again half a second
//! later one in a hundred would no longer be known at a few hundred calls a second, and be refused although its call is up.

use std::hash::{DefaultHasher, Hasher};

/// Together with [`WAYS`]: as many as are let in in half a minute at two thousand a second.
const SETS: usize = 8192;
/// Places in a set: as many as one look into memory brings.
const WAYS: usize = 8;
/// The bit that says so.
const LET_IN: u64 = 1;

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waits,
    LetIn,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Marks {
    /// Who came last is the first in its set; 0: nobody.
    sets: Vec<[u64; WAYS]>,
    secret: u64,
}

impl Marks {
    /// None yet; the secret keys the hashes.
    pub(super) fn new(secret: u64) -> Marks {
        Marks { sets: vec![[0; WAYS]; SETS], secret }
    }

    /// A request's own mark, which an INVITE's CANCEL and ACK and every retransmission share. Never 0, and never with
    /// [`LET_IN`].
    pub(super) fn of(&self, call_id: &str, branch: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.secret);
        hasher.write(call_id.as_bytes());
        hasher.write_u8(0xff);
        hasher.write(branch.as_bytes());
        (hasher.finish() | 2) & !LET_IN
    }

    /// How far this one has come, if it is known.
    pub(super) fn stage(&self, mark: u64) -> Option<Stage> {
        let there = self.sets[set_of(mark)].iter().find(|there| **there & !LET_IN == mark)?;
        Some(if there & LET_IN == 0 { Stage::Waits } else { Stage::LetIn })
    }

    /// It waits from now on.
    pub(super) fn waits(&mut self, mark: u64) {
        self.put(mark);
    }

    /// It waits no more.
    pub(super) fn let_in(&mut self, mark: u64) {
        match self.sets[set_of(mark)].iter_mut().find(|there| **there & !LET_IN == mark) {
            Some(there) => *there |= LET_IN,
            None => self.put(mark | LET_IN),
        }
    }

    fn put(&mut self, mark: u64) {
        let set = &mut self.sets[set_of(mark)];
        // Who waits keeps its place, unless all of them do.
        let gives_way = |there: &u64| *there == 0 || there & LET_IN != 0;
        let last = set.iter().rposition(gives_way).unwrap_or(WAYS - 1);
        set.copy_within(..last, 1);
        set[0] = mark;
    }
}

/// A part of the hash that does not depend on the two lowest bits, which are fixed.
pub(super) fn share_of(mark: u64, shares: u64) -> u64 {
    (mark >> 2) % shares
}

fn set_of(mark: u64) -> usize {
    share_of(mark, SETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks of one set.
    fn of_one_set(count: u64) -> Vec<u64> {
        (1..=count).map(|n| (n * SETS as u64) << 2 | 2).collect()
    }

    #[test]
    fn in_a_full_set_the_one_that_was_let_in_first_gives_way_and_nobody_who_waits() {
        let mut marks = Marks::new(7);
        let all = of_one_set(WAYS as u64 + 1);
        all[..WAYS].iter().for_each(|mark| marks.waits(*mark));
        [2, 5, 3].into_iter().for_each(|place| marks.let_in(all[place]));
        marks.waits(all[WAYS]);
        assert_eq!(marks.stage(all[2]), None, "of those let in it came first");
        for (place, mark) in all.iter().enumerate().filter(|(place, _)| *place != 2) {
            let stage = if [3, 5].contains(&place) { Stage::LetIn } else { Stage::Waits };
            assert_eq!(marks.stage(*mark), Some(stage), "{place}");
        }
    }

    #[test]
    fn where_all_wait_the_oldest_gives_way_and_is_known_again_once_it_is_let_in() {
        let mut marks = Marks::new(7);
        let all = of_one_set(WAYS as u64 + 1);
        all.iter().for_each(|mark| marks.waits(*mark));
        assert_eq!((marks.stage(all[0]), marks.stage(all[1])), (None, Some(Stage::Waits)));
        marks.let_in(all[0]);
        assert_eq!(marks.stage(all[0]), Some(Stage::LetIn));
    }

    #[test]
    fn marks_use_every_set() {
        let marks = Marks::new(7);
        let sets = (0..200_000).map(|n| set_of(marks.of(&n.to_string(), "")));
        assert_eq!(sets.collect::<std::collections::BTreeSet<_>>().len(), SETS);
    }
}
