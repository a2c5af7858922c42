//! Media ports: opened ahead of demand, lent at random, emptied before and rested after.
//!
//! Ports come in pairs, even and odd (RFC 3550 §11). A stream of RTP takes a pair; one with rtcp-mux, or without RTCP,
//! takes half of one. Each half goes round:
//!
//! ```text
//! Closed ──open──▶ Opening ──bound──▶ Idle ──lease──▶ Leased ──give back──▶ Resting ──quarantine over──▶ Idle
//!                   ▲  └──failed──▶ Failed ──30 s──┐
//!                   └──────────────────────────────┘
//! ```
//!
//! Once open a port stays open: what arrives at one that rests is dropped without an ICMP error, and the next session
//! need not wait for a socket. A pair stands on one shelf at a time, so that drawing at random costs the same in a pool
//! of ten and of ten thousand.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use proto::node::{Dice, Output, SocketId, Ticket};

/// How long a port that could not be opened is left alone.
const RETRY: Duration = Duration::from_secs(30);
/// How much later than it might a port's rest may end when nobody asks: many rests end at one wake-up.
const SLACK: Duration = Duration::from_millis(100);

/// One port of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortId {
    network: u8,
    pair: u16,
    odd: bool,
}

impl PortId {
    fn ticket(self) -> Ticket {
        Ticket(u64::from(self.network) << 32 | u64::from(self.pair) << 1 | u64::from(self.odd))
    }

    fn from_ticket(ticket: Ticket) -> PortId {
        PortId { network: (ticket.0 >> 32) as u8, pair: (ticket.0 >> 1) as u16, odd: ticket.0 & 1 == 1 }
    }

    /// Index of the network it is opened in.
    pub(crate) fn network(self) -> usize {
        usize::from(self.network)
    }
}

/// A port on loan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) id: PortId,
    pub(crate) socket: SocketId,
    /// Its number, the same in the address bound and in the one advertised.
    pub(crate) number: u16,
}

/// What a stream's leg needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// RTP and RTCP beside it.
    Pair,
    /// One port.
    Single,
}

/// What a stream's leg got: one port, or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) rtp: Port,
    pub(crate) rtcp: Option<Port>,
}

/// Why nothing was lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Ports are being opened: ask again when one is.
    Opening,
    /// Every port is lent or resting.
    Exhausted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Opening,
    Idle(SocketId),
    Leased(SocketId),
    Resting(SocketId),
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shelf {
    /// Neither half is open: may be.
    Closed,
    /// Both halves are idle.
    Ready,
    /// One half is idle and the other is in use.
    Half,
    /// Nothing to be had here now.
    Busy,
}

#[derive(Debug)]
struct Pair {
    halves: [State; 2],
    shelf: Shelf,
    /// Where on its shelf it stands.
    place: usize,
}

/// The ports of one network.
#[derive(Debug)]
struct Rack {
    bind: IpAddr,
    first: u16,
    pairs: Vec<Pair>,
    shelves: [Vec<u16>; 4],
    opening: usize,
    leased: usize,
}

/// How many ports are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// On loan to sessions.
    pub leased: usize,
    /// Open and waiting.
    pub reserved: usize,
    /// Resting between two sessions.
    pub quarantined: usize,
    /// Not open yet.
    pub free: usize,
    /// Being opened.
    pub opening: usize,
    /// Could not be opened; tried again later.
    pub failed: usize,
}

/// All ports of a lane.
#[derive(Debug)]
pub(crate) struct Pool {
    racks: Vec<Rack>,
    reserve: usize,
    quarantine: Duration,
    /// Ports that change by themselves: resting and failed ones.
    later: BTreeSet<(Instant, PortId)>,
    dice: Dice,
}

impl Pool {
    /// Nothing is open yet: see [`Pool::refill`].
    pub(crate) fn new(
        binds: impl Iterator<Item = IpAddr>,
        range: RangeInclusive<u16>,
        reserve: usize,
        quarantine: Duration,
        dice: Dice,
    ) -> Pool {
        let racks = binds.map(|bind| Rack::new(bind, range.clone())).collect();
        Pool { racks, reserve, quarantine, later: BTreeSet::new(), dice }
    }

    /// Asks for the sockets that are to be open before anybody needs one.
    pub(crate) fn open_at_start(&mut self, pairs: usize, out: &mut VecDeque<Output>) {
        (0..self.racks.len()).for_each(|network| self.open_until(network, pairs.max(self.reserve), out));
    }

    /// Asks for sockets until the reserve, and `demand` pairs besides, stand ready or are on their way.
    pub(crate) fn refill(&mut self, demand: usize, out: &mut VecDeque<Output>) {
        for network in 0..self.racks.len() {
            let wanted = self.reserve.max(self.racks[network].leased / 16) + demand;
            self.open_until(network, wanted, out);
        }
    }

    fn open_until(&mut self, network: usize, wanted: usize, out: &mut VecDeque<Output>) {
        while self.racks[network].coming() < wanted {
            let Some(pair) = self.draw(network, Shelf::Closed) else { break };
            for odd in [false, true] {
                self.open(PortId { network: network as u8, pair, odd }, out);
            }
        }
    }

    /// A socket is open. `None`: nobody asked for this one.
    pub(crate) fn bound(&mut self, ticket: Ticket, socket: SocketId) -> Option<PortId> {
        let id = self.known(PortId::from_ticket(ticket))?;
        (self.state(id) == State::Opening).then(|| self.set(id, State::Idle(socket)))?;
        Some(id)
    }

    /// A socket could not be opened; another process has it, most likely.
    pub(crate) fn bind_failed(&mut self, now: Instant, ticket: Ticket) {
        if let Some(id) = self.known(PortId::from_ticket(ticket))
            && self.state(id) == State::Opening
        {
            self.set(id, State::Failed);
            self.later.insert((now + RETRY, id));
        }
    }

    /// Lends ports for all wants or for none, and has each emptied first.
    pub(crate) fn lease(
        &mut self,
        wants: &[(usize, Want)],
        out: &mut VecDeque<Output>,
    ) -> Result<Vec<Lease>, Shortage> {
        let mut leases = Vec::with_capacity(wants.len());
        for &(network, want) in wants {
            match self.lease_one(network, want) {
                Some(lease) => leases.push(lease),
                None => {
                    leases.iter().for_each(|lease| self.take_back(lease));
                    return Err(self.shortage(network));
                }
            }
        }
        let ports = leases.iter().flat_map(|lease| [Some(lease.rtp), lease.rtcp]).flatten();
        out.extend(ports.map(|port| Output::Empty { socket: port.socket }));
        Ok(leases)
    }

    /// The port with this number in a network, when it is one of the pool's.
    pub(crate) fn id_of(&self, network: usize, number: u16) -> Option<PortId> {
        let rack = self.racks.get(network)?;
        let above = number.checked_sub(rack.first)?;
        let id = PortId { network: network as u8, pair: above / 2, odd: above % 2 == 1 };
        self.known(id)
    }

    /// Asks for the socket of a port that a session had before the process was killed.
    pub(crate) fn open_again(&mut self, id: PortId, out: &mut VecDeque<Output>) {
        if self.state(id) == State::Closed {
            self.open(id, out);
        }
    }

    /// Lends exactly this port.
    pub(crate) fn lend_again(&mut self, id: PortId) -> Option<Port> {
        self.lend(id)
    }

    /// Which port a ticket is about.
    pub(crate) fn asked_for(&self, ticket: Ticket) -> Option<PortId> {
        self.known(PortId::from_ticket(ticket))
    }

    /// A session is done with a port.
    pub(crate) fn give_back(&mut self, now: Instant, port: Port) {
        debug_assert_eq!(self.state(port.id), State::Leased(port.socket));
        self.set(port.id, State::Resting(port.socket));
        self.later.insert((now + self.quarantine, port.id));
    }

    /// Ends quarantines that are over, and tries failed ports again.
    pub(crate) fn wake(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        while let Some(&(at, id)) = self.later.first()
            && at <= now
        {
            self.later.pop_first();
            match self.state(id) {
                State::Resting(socket) => self.set(id, State::Idle(socket)),
                State::Failed => self.open(id, out),
                _ => {}
            }
        }
    }

    /// When to wake it next: not for each port, since every request that may need one wakes the pool as well.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.later.first().map(|&(at, _)| at + SLACK)
    }

    /// Whether every socket asked for has been answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.racks.iter().all(|rack| rack.opening == 0)
    }

    /// Ports that could be lent now or as soon as they are open.
    pub(crate) fn available(&self) -> usize {
        self.racks.iter().map(Rack::available).sum()
    }

    /// Counts every port.
    pub(crate) fn count(&self) -> Ports {
        Pool::sum(self.racks.iter())
    }

    /// Counts the ports of one network.
    pub(crate) fn count_in(&self, network: usize) -> Ports {
        Pool::sum(self.racks.get(network).into_iter())
    }

    fn sum<'a>(racks: impl Iterator<Item = &'a Rack>) -> Ports {
        let mut ports = Ports::default();
        for state in racks.flat_map(|rack| &rack.pairs).flat_map(|pair| pair.halves) {
            *match state {
                State::Closed => &mut ports.free,
                State::Opening => &mut ports.opening,
                State::Idle(_) => &mut ports.reserved,
                State::Leased(_) => &mut ports.leased,
                State::Resting(_) => &mut ports.quarantined,
                State::Failed => &mut ports.failed,
            } += 1;
        }
        ports
    }

    fn open(&mut self, id: PortId, out: &mut VecDeque<Output>) {
        out.push_back(Output::Bind { ticket: id.ticket(), local: self.local(id) });
        self.set(id, State::Opening);
    }

    fn lease_one(&mut self, network: usize, want: Want) -> Option<Lease> {
        let shelf = match want {
            Want::Single if !self.racks.get(network)?.shelf(Shelf::Half).is_empty() => Shelf::Half,
            _ => Shelf::Ready,
        };
        let pair = self.draw(network, shelf)?;
        let id = |odd| PortId { network: network as u8, pair, odd };
        Some(match want {
            Want::Pair => Lease { rtp: self.lend(id(false))?, rtcp: self.lend(id(true)) },
            Want::Single => Lease { rtp: self.lend(id(false)).or_else(|| self.lend(id(true)))?, rtcp: None },
        })
    }

    fn lend(&mut self, id: PortId) -> Option<Port> {
        let State::Idle(socket) = self.state(id) else { return None };
        self.set(id, State::Leased(socket));
        Some(Port { id, socket, number: self.local(id).port() })
    }

    /// Undoes a loan nobody has heard of: no quarantine.
    fn take_back(&mut self, lease: &Lease) {
        for port in [Some(lease.rtp), lease.rtcp].into_iter().flatten() {
            self.set(port.id, State::Idle(port.socket));
        }
    }

    fn shortage(&self, network: usize) -> Shortage {
        match self.racks.get(network) {
            Some(rack) if rack.opening > 0 || !rack.shelf(Shelf::Closed).is_empty() => Shortage::Opening,
            _ => Shortage::Exhausted,
        }
    }

    /// A pair from a shelf, at random, so that nobody can tell which port comes next.
    fn draw(&mut self, network: usize, shelf: Shelf) -> Option<u16> {
        let shelf = self.racks.get(network)?.shelf(shelf);
        (!shelf.is_empty()).then(|| shelf[self.dice.below(shelf.len() as u64) as usize])
    }

    fn known(&self, id: PortId) -> Option<PortId> {
        let rack = self.racks.get(id.network())?;
        (usize::from(id.pair) < rack.pairs.len()).then_some(id)
    }

    fn local(&self, id: PortId) -> SocketAddr {
        let rack = &self.racks[id.network()];
        SocketAddr::new(rack.bind, rack.first + 2 * id.pair + u16::from(id.odd))
    }

    fn state(&self, id: PortId) -> State {
        self.racks[id.network()].pairs[usize::from(id.pair)].halves[usize::from(id.odd)]
    }

    fn set(&mut self, id: PortId, state: State) {
        self.racks[id.network()].set(id.pair, usize::from(id.odd), state);
    }
}

impl Rack {
    fn new(bind: IpAddr, range: RangeInclusive<u16>) -> Rack {
        let first = range.start().saturating_add(range.start() % 2);
        let count = (u32::from(*range.end()) + 1).saturating_sub(u32::from(first)) / 2;
        let pair = |place| Pair { halves: [State::Closed; 2], shelf: Shelf::Closed, place };
        let shelves = [(0..count as u16).collect(), Vec::new(), Vec::new(), Vec::new()];
        Rack { bind, first, pairs: (0..count as usize).map(pair).collect(), shelves, opening: 0, leased: 0 }
    }

    fn shelf(&self, shelf: Shelf) -> &[u16] {
        &self.shelves[shelf as usize]
    }

    /// Pairs that are ready or will be.
    fn coming(&self) -> usize {
        self.shelf(Shelf::Ready).len() + self.opening.div_ceil(2)
    }

    fn available(&self) -> usize {
        let [closed, ready, half, _] = &self.shelves;
        2 * (closed.len() + ready.len()) + half.len() + self.opening
    }

    fn set(&mut self, pair: u16, half: usize, state: State) {
        let entry = &mut self.pairs[usize::from(pair)];
        let before = std::mem::replace(&mut entry.halves[half], state);
        let shelf = Shelf::of(entry.halves);
        self.count(before, usize::wrapping_sub);
        self.count(state, usize::wrapping_add);
        self.move_to(pair, shelf);
    }

    fn count(&mut self, state: State, change: fn(usize, usize) -> usize) {
        match state {
            State::Opening => self.opening = change(self.opening, 1),
            State::Leased(_) => self.leased = change(self.leased, 1),
            _ => {}
        }
    }

    fn move_to(&mut self, pair: u16, shelf: Shelf) {
        let (from, place) = (self.pairs[usize::from(pair)].shelf, self.pairs[usize::from(pair)].place);
        if from == shelf {
            return;
        }
        let old = &mut self.shelves[from as usize];
        old.swap_remove(place);
        if let Some(&moved) = old.get(place) {
            self.pairs[usize::from(moved)].place = place;
        }
        let new = &mut self.shelves[shelf as usize];
        new.push(pair);
        let entry = &mut self.pairs[usize::from(pair)];
        (entry.shelf, entry.place) = (shelf, new.len() - 1);
    }
}

impl Shelf {
    fn of(halves: [State; 2]) -> Shelf {
        let idle = halves.iter().filter(|half| matches!(half, State::Idle(_))).count();
        match (halves, idle) {
            ([State::Closed, State::Closed], _) => Shelf::Closed,
            (_, 2) => Shelf::Ready,
            // A half whose sibling is still being opened waits for it: it may become a pair.
            ([State::Opening, _] | [_, State::Opening], _) => Shelf::Busy,
            (_, 1) => Shelf::Half,
            _ => Shelf::Busy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::node::{Birth, Lane};

    const QUARANTINE: Duration = Duration::from_secs(5);

    #[allow(clippy::disallowed_methods, reason = "a test needs one Instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    /// A pool and the operating system it asks for sockets.
    struct Bench {
        pool: Pool,
        out: VecDeque<Output>,
        sockets: u32,
        now: Instant,
    }

    fn bench(range: RangeInclusive<u16>, reserve: usize, seed: u8) -> Bench {
        let now = start();
        let wall = std::time::SystemTime::UNIX_EPOCH;
        let dice = Birth { now, wall, seed: [seed; 32], lane: Lane::default() }.dice(0);
        let pool = Pool::new(["192.0.2.1".parse().unwrap()].into_iter(), range, reserve, QUARANTINE, dice);
        let mut bench = Bench { pool, out: VecDeque::new(), sockets: 0, now };
        bench.refill();
        bench
    }

    impl Bench {
        fn refill(&mut self) {
            self.pool.refill(0, &mut self.out);
            while let Some(output) = self.out.pop_front() {
                if let Output::Bind { ticket, .. } = output {
                    self.pool.bound(ticket, SocketId(self.sockets)).unwrap();
                    self.sockets += 1;
                }
            }
        }

        fn lease(&mut self, wants: &[Want]) -> Result<Vec<Lease>, Shortage> {
            let wants: Vec<_> = wants.iter().map(|&want| (0, want)).collect();
            self.pool.lease(&wants, &mut self.out)
        }

        fn give_back(&mut self, lease: &Lease) {
            for port in [Some(lease.rtp), lease.rtcp].into_iter().flatten() {
                self.pool.give_back(self.now, port);
            }
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            self.pool.wake(self.now, &mut self.out);
        }
    }

    #[test]
    fn a_pair_is_even_and_the_odd_port_above_it() {
        let lease = bench(30_001..=30_020, 4, 1).lease(&[Want::Pair]).unwrap()[0];
        assert_eq!(lease.rtp.number % 2, 0);
        assert_eq!(lease.rtcp.unwrap().number, lease.rtp.number + 1);
        assert!((30_002..=30_019).contains(&lease.rtp.number));
    }

    #[test]
    fn keeps_its_reserve_ahead_of_demand() {
        let mut bench = bench(30_000..=30_099, 8, 1);
        assert_eq!(bench.pool.count(), Ports { reserved: 16, free: 84, ..Ports::default() });
        bench.lease(&[Want::Pair, Want::Pair]).unwrap();
        bench.refill();
        assert_eq!(bench.pool.count(), Ports { leased: 4, reserved: 16, free: 80, ..Ports::default() });
    }

    #[test]
    fn what_is_to_be_open_at_the_start_is_and_as_many_again_are_not() {
        let mut bench = bench(30_000..=30_099, 8, 1);
        bench.pool.open_at_start(20, &mut bench.out);
        bench.refill();
        assert_eq!(bench.pool.count(), Ports { reserved: 40, free: 60, ..Ports::default() });
        bench.lease(&[Want::Pair; 12]).unwrap();
        bench.refill();
        assert_eq!(bench.pool.count(), Ports { leased: 24, reserved: 16, free: 60, ..Ports::default() });
    }

    #[test]
    fn lends_all_or_nothing() {
        let mut bench = bench(30_000..=30_005, 3, 1);
        assert_eq!(bench.lease(&[Want::Pair; 4]), Err(Shortage::Exhausted));
        assert_eq!(bench.pool.count().leased, 0);
        assert!(bench.lease(&[Want::Pair; 3]).is_ok());
    }

    #[test]
    fn a_short_reserve_is_no_exhaustion() {
        let mut bench = bench(30_000..=30_009, 1, 1);
        assert_eq!(bench.lease(&[Want::Pair; 2]), Err(Shortage::Opening));
        bench.lease(&[Want::Pair]).unwrap();
    }

    #[test]
    fn two_single_ports_are_the_halves_of_one_pair() {
        let mut bench = bench(30_000..=30_001, 1, 1);
        let leases = bench.lease(&[Want::Single, Want::Single]).unwrap();
        let numbers: BTreeSet<u16> = leases.iter().map(|lease| lease.rtp.number).collect();
        assert_eq!(numbers, BTreeSet::from([30_000, 30_001]));
        assert_eq!(bench.lease(&[Want::Single]), Err(Shortage::Exhausted));
    }

    #[test]
    fn a_port_rests_until_its_quarantine_is_over_and_not_a_millisecond_longer() {
        let mut bench = bench(30_000..=30_001, 1, 1);
        let lease = bench.lease(&[Want::Pair]).unwrap()[0];
        bench.give_back(&lease);
        bench.pass(QUARANTINE - Duration::from_millis(1));
        assert_eq!(bench.lease(&[Want::Pair]), Err(Shortage::Exhausted));
        assert_eq!(bench.pool.deadline(), Some(bench.now + Duration::from_millis(1) + SLACK));
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.lease(&[Want::Pair]).unwrap()[0], lease);
    }

    #[test]
    fn a_port_is_emptied_before_it_is_lent() {
        let mut bench = bench(30_000..=30_001, 1, 1);
        let lease = bench.lease(&[Want::Pair]).unwrap()[0];
        let emptied = bench.out.iter().filter_map(|output| match output {
            Output::Empty { socket } => Some(*socket),
            _ => None,
        });
        assert_eq!(emptied.collect::<Vec<_>>(), [lease.rtp.socket, lease.rtcp.unwrap().socket]);
    }

    #[test]
    fn a_port_that_cannot_be_opened_is_left_alone_for_a_while() {
        let mut bench = bench(30_000..=30_001, 0, 1);
        bench.pool.refill(1, &mut bench.out);
        let bind = |output| match output {
            Output::Bind { ticket, .. } => Some(ticket),
            _ => None,
        };
        let tickets: Vec<_> = bench.out.drain(..).filter_map(bind).collect();
        bench.pool.bind_failed(bench.now, tickets[0]);
        bench.pool.bound(tickets[1], SocketId(0)).unwrap();
        assert_eq!(bench.lease(&[Want::Pair]), Err(Shortage::Exhausted));
        bench.pass(RETRY - Duration::from_millis(1));
        assert_eq!(bench.pool.count().failed, 1);
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.pool.count().opening, 1);
        bench.pool.bound(tickets[0], SocketId(1)).unwrap();
        assert!(bench.lease(&[Want::Pair]).is_ok());
    }

    #[test]
    fn nobody_can_tell_which_port_comes_next() {
        let draw = |seed| bench(30_000..=30_999, 100, seed).lease(&[Want::Pair]).unwrap()[0].rtp.number;
        let drawn: BTreeSet<u16> = (0..20).map(draw).collect();
        assert!(drawn.len() > 15, "{drawn:?}");
    }

    #[test]
    fn answers_nobody_asked_for_change_nothing() {
        let mut bench = bench(30_000..=30_009, 1, 1);
        let before = bench.pool.count();
        assert!(bench.pool.bound(Ticket(u64::MAX), SocketId(9)).is_none());
        assert!(bench.pool.bound(Ticket(0), SocketId(9)).is_none() || before.opening > 0);
        bench.pool.bind_failed(bench.now, Ticket(7 << 32));
        assert_eq!(bench.pool.count(), before);
    }

    proptest! {
        #[test]
        fn no_port_is_lent_twice_and_none_is_lost(steps in proptest::collection::vec(0u8..6, 1..200)) {
            let mut bench = bench(30_000..=30_019, 2, 7);
            let mut held: Vec<Lease> = Vec::new();
            for step in steps {
                match step {
                    0 | 1 => held.extend(bench.lease(&[Want::Pair]).unwrap_or_default()),
                    2 => held.extend(bench.lease(&[Want::Single, Want::Pair]).unwrap_or_default()),
                    3 if !held.is_empty() => {
                        let lease = held.remove(held.len() / 2);
                        bench.give_back(&lease);
                    }
                    4 => bench.pass(Duration::from_secs(1)),
                    _ => bench.refill(),
                }
                let ports: Vec<u16> =
                    held.iter().flat_map(|l| [Some(l.rtp), l.rtcp]).flatten().map(|port| port.number).collect();
                let count = bench.pool.count();
                prop_assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
                prop_assert_eq!(count.leased, ports.len());
                prop_assert_eq!(count.leased + count.reserved + count.quarantined + count.free, 20);
            }
            held.iter().for_each(|lease| bench.give_back(lease));
            bench.pass(QUARANTINE);
            prop_assert_eq!(bench.pool.available(), 20);
        }
    }
}
