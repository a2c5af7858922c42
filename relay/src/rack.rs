//! The ports of one network, in pairs on shelves. Who asks for them, and when, is the pool's business ([`crate::ports`]).
//!
//! A pair is known by half its ports' number, whatever is lent today: so a range can be changed under sessions that have
//! ports of the former one.

use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};

use proto::node::SocketId;

/// Where one port is on its way round (see [`crate::ports`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Closed,
    Opening,
    Idle(SocketId),
    Leased(SocketId),
    Resting(SocketId),
    Failed,
    /// Not of the range, though its other half is.
    Outside,
}

/// Where a pair stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shelf {
    /// Neither half is open: may be.
    Closed,
    /// Both halves are idle.
    Ready,
    /// One half is idle and the other is in use.
    Half,
    /// Nothing to be had here now.
    Busy,
    /// Not lent any more.
    Out,
}

#[derive(Debug)]
struct Pair {
    halves: [State; 2],
    shelf: Shelf,
    /// Where on its shelf it stands.
    place: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Rack {
    pub(crate) bind: IpAddr,
    /// What is lent.
    lent: Range<u16>,
    /// Ports are lent one by one: the range may begin or end with half a pair.
    single: bool,
    /// The first of `pairs`, which are all that are lent, and what is still in use of those that were.
    base: u16,
    pairs: Vec<Pair>,
    shelves: [Vec<u16>; 5],
    pub(crate) opening: usize,
    pub(crate) leased: usize,
}

impl Rack {
    /// Every port of a range is closed, and to be lent.
    pub(crate) fn new(bind: IpAddr, range: RangeInclusive<u16>) -> Rack {
        Rack::lending(bind, range, false)
    }

    /// The same, of ports that are lent one by one.
    pub(crate) fn of_single_ports(bind: IpAddr, range: RangeInclusive<u16>) -> Rack {
        Rack::lending(bind, range, true)
    }

    fn lending(bind: IpAddr, range: RangeInclusive<u16>, single: bool) -> Rack {
        let mut rack = Rack {
            bind,
            lent: 0..0,
            single,
            base: 0,
            pairs: Vec::new(),
            shelves: Default::default(),
            opening: 0,
            leased: 0,
        };
        rack.lend_within(Some(range));
        rack
    }

    /// The pairs that are lent.
    pub(crate) fn pairs_lent(&self) -> Range<u16> {
        self.lent.clone()
    }

    /// From now on these ports are lent, and no others. Gives the sockets that nobody uses any more.
    pub(crate) fn lend_within(&mut self, range: Option<RangeInclusive<u16>>) -> Vec<SocketId> {
        let pairs = if self.single { touched_by } else { pairs_of };
        let lent = range.clone().map_or(0..0, pairs);
        let mut closed = Vec::new();
        let mut stay: Vec<(u16, [State; 2])> = Vec::new();
        for (number, pair) in (self.base..).zip(&self.pairs) {
            let mut halves =
                pair.halves.map(|half| if half == State::Outside { State::Closed } else { half });
            if !lent.contains(&number) {
                halves.iter_mut().for_each(|half| closed.extend(half.close()));
            }
            if halves != [State::Closed; 2] {
                stay.push((number, halves));
            }
        }
        self.rebuild(lent, &stay);
        if let Some(range) = range.filter(|_| self.single) {
            self.cut_to(&range);
        }
        closed
    }

    /// Of the first and the last pair, only what is of the range.
    fn cut_to(&mut self, range: &RangeInclusive<u16>) {
        for pair in self.lent.clone() {
            for half in [0, 1] {
                let outside = !range.contains(&(2 * pair + half));
                if outside && self.state(pair, usize::from(half)) == State::Closed {
                    self.set(pair, usize::from(half), State::Outside);
                }
            }
        }
    }

    fn rebuild(&mut self, lent: Range<u16>, stay: &[(u16, [State; 2])]) {
        let ends = stay.iter().map(|&(number, _)| number..number + 1).chain([lent.clone()]);
        let ends = ends.filter(|range| !range.is_empty());
        let span = ends.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
        let fresh = |_| Pair { halves: [State::Closed; 2], shelf: Shelf::Out, place: 0 };
        (self.lent, self.base) = (lent, span.start);
        self.pairs = span.clone().map(fresh).collect();
        for &(number, halves) in stay {
            self.pairs[usize::from(number - span.start)].halves = halves;
        }
        self.shelves = Default::default();
        for number in span {
            let shelf = self.shelf_of(number);
            let place = self.shelves[shelf as usize].len();
            self.shelves[shelf as usize].push(number);
            let pair = &mut self.pairs[usize::from(number - self.base)];
            (pair.shelf, pair.place) = (shelf, place);
        }
    }

    /// Whether a pair is lent today.
    pub(crate) fn lends(&self, pair: u16) -> bool {
        self.lent.contains(&pair)
    }

    /// Whether a pair is known here.
    pub(crate) fn has(&self, pair: u16) -> bool {
        pair.checked_sub(self.base).is_some_and(|at| usize::from(at) < self.pairs.len())
    }

    /// The pairs on a shelf.
    pub(crate) fn shelf(&self, shelf: Shelf) -> &[u16] {
        &self.shelves[shelf as usize]
    }

    /// Pairs that are ready or will be.
    pub(crate) fn coming(&self) -> usize {
        self.shelf(Shelf::Ready).len() + self.opening.div_ceil(2)
    }

    /// Ports that could be lent now or as soon as they are open.
    pub(crate) fn available(&self) -> usize {
        let [closed, ready, half, ..] = &self.shelves;
        2 * (closed.len() + ready.len()) + half.len() + self.opening
    }

    /// Ports that are not lent any more, and still in use.
    pub(crate) fn lingering(&self) -> usize {
        let out = self.shelf(Shelf::Out).iter().flat_map(|&pair| self.halves(pair));
        out.filter(|half| matches!(half, State::Leased(_))).count()
    }

    /// How every port to be lent stands, and every other that is in use.
    pub(crate) fn states(&self) -> impl Iterator<Item = State> + '_ {
        let counts = |(number, pair): &(u16, &Pair)| {
            self.lends(*number) || pair.halves.iter().any(|half| *half != State::Closed)
        };
        (self.base..).zip(&self.pairs).filter(counts).flat_map(|(_, pair)| pair.halves)
    }

    fn halves(&self, pair: u16) -> [State; 2] {
        self.pairs[usize::from(pair - self.base)].halves
    }

    /// How a port stands; one that is not known is closed.
    pub(crate) fn state(&self, pair: u16, half: usize) -> State {
        if self.has(pair) { self.halves(pair)[half] } else { State::Closed }
    }

    /// A port of a known pair stands otherwise now.
    pub(crate) fn set(&mut self, pair: u16, half: usize, state: State) {
        let before = std::mem::replace(&mut self.pairs[usize::from(pair - self.base)].halves[half], state);
        self.count(before, usize::wrapping_sub);
        self.count(state, usize::wrapping_add);
        self.move_to(pair, self.shelf_of(pair));
    }

    fn shelf_of(&self, pair: u16) -> Shelf {
        if self.lends(pair) { Shelf::of(self.halves(pair)) } else { Shelf::Out }
    }

    fn count(&mut self, state: State, change: fn(usize, usize) -> usize) {
        match state {
            State::Opening => self.opening = change(self.opening, 1),
            State::Leased(_) => self.leased = change(self.leased, 1),
            _ => {}
        }
    }

    fn move_to(&mut self, pair: u16, shelf: Shelf) {
        let at = usize::from(pair - self.base);
        let (from, place) = (self.pairs[at].shelf, self.pairs[at].place);
        if from == shelf {
            return;
        }
        let old = &mut self.shelves[from as usize];
        old.swap_remove(place);
        if let Some(&moved) = old.get(place) {
            self.pairs[usize::from(moved - self.base)].place = place;
        }
        let new = &mut self.shelves[shelf as usize];
        new.push(pair);
        (self.pairs[at].shelf, self.pairs[at].place) = (shelf, new.len() - 1);
    }
}

impl State {
    /// A port that is not to be lent any more is closed unless somebody uses or awaits it. Gives its socket.
    fn close(&mut self) -> Option<SocketId> {
        match *self {
            State::Idle(socket) | State::Resting(socket) => {
                *self = State::Closed;
                Some(socket)
            }
            State::Failed => {
                *self = State::Closed;
                None
            }
            State::Closed | State::Opening | State::Leased(_) | State::Outside => None,
        }
    }
}

impl Shelf {
    fn of(halves: [State; 2]) -> Shelf {
        let idle = halves.iter().filter(|half| matches!(half, State::Idle(_))).count();
        match (halves, idle) {
            ([State::Closed, State::Closed | State::Outside] | [State::Outside, State::Closed], _) => {
                Shelf::Closed
            }
            (_, 2) => Shelf::Ready,
            // A half whose sibling is still being opened waits for it: it may become a pair.
            ([State::Opening, _] | [_, State::Opening], _) => Shelf::Busy,
            (_, 1) => Shelf::Half,
            _ => Shelf::Busy,
        }
    }
}

/// The whole pairs of a range of ports.
fn pairs_of(range: RangeInclusive<u16>) -> Range<u16> {
    let first = range.start().div_ceil(2);
    let end = u32::from(*range.end()).div_ceil(2);
    first..(end as u16).max(first)
}

/// The pairs that a range of ports touches.
fn touched_by(range: RangeInclusive<u16>) -> Range<u16> {
    match range.is_empty() {
        true => 0..0,
        false => range.start() / 2..range.end() / 2 + 1,
    }
}
