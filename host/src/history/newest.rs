//! The newest of something, by name: so many, the oldest forgotten first.
//!
//! Its memory is what it begins with, touched as it fills: values lie side by side in the order they came and only their
//! numbers are found by name, in a map that is never more than half full, so that it is tidied where it lies instead of moving
//! to one of twice the size when many have come and gone.

use std::collections::{HashMap, VecDeque};

use proto::event::Name;

/// See the module.
#[derive(Debug)]
pub(super) struct Newest<T> {
    most: usize,
    /// The number of the oldest; those behind it count on.
    first: u64,
    values: VecDeque<(Name, T)>,
    numbers: HashMap<Name, u64>,
}

impl<T> Newest<T> {
    /// For so many.
    pub(super) fn new(most: usize) -> Newest<T> {
        let (values, numbers) = (VecDeque::with_capacity(most), HashMap::with_capacity(2 * most));
        Newest { most, first: 0, values, numbers }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).map(|number| (number - self.first) as usize)
    }

    /// The one of this name.
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.index(name).map(|index| &self.values[index].1)
    }

    /// The one of this name; a new one takes the place of the oldest.
    pub(super) fn of(&mut self, name: &Name, new: impl FnOnce() -> T) -> &mut T {
        let index = self.index(name).unwrap_or_else(|| {
            if self.values.len() == self.most
                && let Some((oldest, _)) = self.values.pop_front()
            {
                self.numbers.remove(&oldest);
                self.first += 1;
            }
            self.numbers.insert(name.clone(), self.first + self.values.len() as u64);
            self.values.push_back((name.clone(), new()));
            self.values.len() - 1
        });
        &mut self.values[index].1
    }

    /// All names, the newest first.
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.values.iter().rev().map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 100;

    fn name(number: usize) -> Name {
        format!("call-{number}").into()
    }

    #[test]
    fn the_oldest_is_forgotten_first_and_the_others_keep_their_values() {
        let mut newest = Newest::new(MOST);
        for number in 0..MOST + 7 {
            *newest.of(&name(number), || 0) += number;
            *newest.of(&name(number), || panic!("it is there")) += 1;
        }
        let kept: Vec<Name> = newest.names().cloned().collect();
        assert_eq!(kept, (7..MOST + 7).rev().map(name).collect::<Vec<Name>>());
        assert!((0..7).all(|number| newest.get(&name(number)).is_none()));
        assert!((7..MOST + 7).all(|number| newest.get(&name(number)) == Some(&(number + 1))));
    }

    #[test]
    fn however_many_come_and_go_it_needs_no_more_memory_than_at_first() {
        let mut newest = Newest::new(MOST);
        let room = |newest: &Newest<usize>| (newest.values.capacity(), newest.numbers.capacity());
        let at_first = newest.values.capacity();
        for number in 0..MOST {
            newest.of(&name(number), || number);
        }
        let full = room(&newest);
        assert_eq!(full.0, at_first);
        for number in MOST..1_000 * MOST {
            newest.of(&name(number), || number);
            // Of a map, it is what has room and is not taken by what was removed: it sinks, and is won back, never doubled.
            assert!(room(&newest) <= full, "after {number}");
        }
    }
}
