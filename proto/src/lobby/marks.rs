//! Requests that wait, were let in or were refused lately, by their hashes: so that nothing is refused after it was taken, and nothing
//! taken after it was refused.
//!
//! Tables of fixed size. Each hash has a set of eight places; who comes as the ninth takes that of the one that has been let in
//! for longest. With a single place, another request would have it soon: of those that are sent again half a second
//! later one in a hundred would no longer be known at a few hundred calls a second, and be refused although its call is up.

use std::hash::{DefaultHasher, Hasher};

use crate::hashing::Gathered;
use crate::sip::transaction::has_cookie;

/// Together with [`WAYS`]: as many as are let in in half a minute at two thousand a second.
const SETS: usize = 8192;
/// Places in a set: as many as one look into memory brings.
const WAYS: usize = 8;
/// The bit of a mark that says so.
const LET_IN: u64 = 1;

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waits,
    LetIn,
    Refused,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Marks {
    taken: Table,
    /// Apart, for they may be many times as many. None as long as nobody ever was.
    refused: Option<Table>,
    secret: u64,
}

/// A request's own mark, which an INVITE's CANCEL and ACK and every retransmission share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Never 0, and never with [`LET_IN`].
    hash: u64,
    /// Whether another request may have the same: one by RFC 2543, which has no branch of its own.
    is_shared: bool,
}

impl Mark {
    /// One of so many shares, by chance and always the same.
    pub(super) fn share_of(self, shares: u64) -> u64 {
        share_of(self.hash, shares)
    }
}

impl Marks {
    /// None yet; the secret keys the hashes.
    pub(super) fn new(secret: u64) -> Marks {
        Marks { taken: Table::new(), refused: None, secret }
    }

    /// The mark of a request.
    pub(super) fn of(&self, call_id: &str, branch: &str) -> Mark {
        let mut hasher = Gathered::after(DefaultHasher::new());
        hasher.write_u64(self.secret);
        hasher.write(call_id.as_bytes());
        hasher.write_u8(0xff);
        hasher.write(branch.as_bytes());
        Mark { hash: (hasher.finish() | 2) & !LET_IN, is_shared: !has_cookie(branch) }
    }

    /// How far this one has come, if it is known.
    pub(super) fn stage(&self, mark: Mark) -> Option<Stage> {
        match self.taken.find(mark.hash) {
            Some(there) if there & LET_IN == 0 => Some(Stage::Waits),
            Some(_) => Some(Stage::LetIn),
            None => self.was_refused(mark).then_some(Stage::Refused),
        }
    }

    /// It waits from now on.
    pub(super) fn waits(&mut self, mark: Mark) {
        self.taken.put(mark.hash);
    }

    /// It waits no more.
    pub(super) fn let_in(&mut self, mark: Mark) {
        match self.taken.find_mut(mark.hash) {
            Some(there) => *there |= LET_IN,
            None => self.taken.put(mark.hash | LET_IN),
        }
    }

    /// It is refused, and so is whatever of it comes again; the next request of one who has no branches may be let in. Whether
    /// that is news.
    pub(super) fn refused(&mut self, mark: Mark) -> bool {
        let is_known = self.was_refused(mark);
        if !mark.is_shared && !is_known {
            self.refused.get_or_insert_with(Table::new).put(mark.hash | LET_IN);
        }
        !is_known
    }

    fn was_refused(&self, mark: Mark) -> bool {
        self.refused.as_ref().is_some_and(|refused| refused.find(mark.hash).is_some())
    }
}

/// Who came last is the first in its set; 0: nobody.
#[derive(Debug)]
struct Table(Vec<Set>);

/// A line of the processor's cache.
#[repr(align(64))]
#[derive(Clone, Copy, Debug)]
struct Set([u64; WAYS]);

impl Table {
    fn new() -> Table {
        Table(vec![Set([0; WAYS]); SETS])
    }

    fn find(&self, hash: u64) -> Option<u64> {
        self.0[set_of(hash)].0.iter().copied().find(|there| there & !LET_IN == hash)
    }

    fn find_mut(&mut self, hash: u64) -> Option<&mut u64> {
        self.0[set_of(hash)].0.iter_mut().find(|there| **there & !LET_IN == hash)
    }

    fn put(&mut self, mark: u64) {
        let Set(set) = &mut self.0[set_of(mark)];
        // Who waits keeps its place, unless all of them do.
        let gives_way = |there: &u64| *there == 0 || there & LET_IN != 0;
        let last = set.iter().rposition(gives_way).unwrap_or(WAYS - 1);
        set.copy_within(..last, 1);
        set[0] = mark;
    }
}

/// The two lowest bits are the same in all of them.
fn share_of(hash: u64, shares: u64) -> u64 {
    (hash >> 2) % shares
}

fn set_of(hash: u64) -> usize {
    share_of(hash, SETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks of one set.
    fn of_one_set(count: u64) -> Vec<Mark> {
        (1..=count).map(|n| Mark { hash: (n * SETS as u64) << 2 | 2, is_shared: false }).collect()
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
    fn of_those_refused_the_first_of_a_set_gives_way_and_nobody_who_was_taken_does() {
        let mut marks = Marks::new(7);
        let all = of_one_set(WAYS as u64 + 2);
        marks.let_in(all[0]);
        assert!(all[1..].iter().all(|mark| marks.refused(*mark)) && !marks.refused(all[2]));
        let stages: Vec<_> = all.iter().map(|mark| marks.stage(*mark)).collect();
        assert_eq!((stages[0], stages[1]), (Some(Stage::LetIn), None));
        assert!(stages[2..].iter().all(|stage| *stage == Some(Stage::Refused)), "{stages:?}");
    }

    #[test]
    fn marks_use_every_set() {
        let marks = Marks::new(7);
        let sets = (0..200_000).map(|n| set_of(marks.of(&n.to_string(), "").hash));
        assert_eq!(sets.collect::<std::collections::BTreeSet<_>>().len(), SETS);
    }
}
