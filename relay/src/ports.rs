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
//! need not wait for a socket. Only when its range or its network is taken out ([`Pool::lend_within`]) it is closed: at
//! once if nobody uses it, else when its session gives it back. A pair stands on one shelf at a time, so that drawing at
//! random costs the same in a pool of ten and of ten thousand.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use proto::node::{Dice, Output, SocketId, Ticket};

use crate::rack::{Rack, Shelf, State};

/// How long a port that could not be opened is left alone.
const RETRY: Duration = Duration::from_secs(30);
/// How much later than it might a port's rest may end when nobody asks: many rests end at one wake-up.
const SLACK: Duration = Duration::from_millis(100);

/// One port of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortId {
    network: u8,
    /// Half the port's number: the same whatever is lent today.
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
    /// One port: the other half of this one's pair if it is idle, for parties that don't read `a=rtcp` (RFC 3605).
    Beside(PortId),
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
    /// A port serves any number of legs: all are open, and none rests.
    common: bool,
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
        Pool { racks, reserve, quarantine, later: BTreeSet::new(), dice, common: false }
    }

    /// The same, of ports that legs share: all of them, whole pairs or not.
    pub(crate) fn of_common_ports(mut self, range: RangeInclusive<u16>) -> Pool {
        self.common = true;
        self.reserve = usize::MAX;
        self.racks = self.racks.iter().map(|rack| Rack::of_single_ports(rack.bind, range.clone())).collect();
        self
    }

    /// The open ports of a network that legs share.
    pub(crate) fn common(&self, network: usize) -> impl Iterator<Item = Port> + '_ {
        let pairs = self.racks.get(network).into_iter().flat_map(Rack::pairs_lent);
        let ids =
            pairs.flat_map(move |pair| [false, true].map(|odd| PortId { network: network as u8, pair, odd }));
        ids.filter_map(|id| match self.state(id) {
            State::Idle(socket) | State::Leased(socket) => Some(self.port(id, socket)),
            _ => None,
        })
    }

    /// A leg has a port that others may have, too.
    pub(crate) fn hold(&mut self, id: PortId) {
        if let State::Idle(socket) = self.state(id) {
            self.set(id, State::Leased(socket));
        }
    }

    /// Asks for the sockets that are to be open before anybody needs one.
    pub(crate) fn open_at_start(&mut self, pairs: usize, out: &mut VecDeque<Output>) {
        (0..self.racks.len()).for_each(|network| self.open_until(network, pairs.max(self.reserve), out));
    }

    /// Asks for sockets until the reserve, and `demand` pairs besides, stand ready or are on their way.
    pub(crate) fn refill(&mut self, demand: usize, out: &mut VecDeque<Output>) {
        for network in 0..self.racks.len() {
            let wanted = self.reserve.max(self.racks[network].leased / 16).saturating_add(demand);
            self.open_until(network, wanted, out);
        }
    }

    fn open_until(&mut self, network: usize, wanted: usize, out: &mut VecDeque<Output>) {
        while self.racks[network].coming() < wanted {
            let Some(pair) = self.draw(network, Shelf::Closed) else { break };
            for odd in [false, true] {
                let id = PortId { network: network as u8, pair, odd };
                if self.state(id) == State::Closed {
                    self.open(id, out);
                }
            }
        }
    }

    /// A socket is open. `None`: nobody asked for this one.
    pub(crate) fn bound(&mut self, ticket: Ticket, socket: SocketId) -> Option<PortId> {
        let id = self.known(PortId::from_ticket(ticket))?;
        let wanted = self.racks[id.network()].lends(id.pair);
        match self.state(id) {
            State::Opening if wanted => self.set(id, State::Idle(socket)),
            State::Opening => {
                self.set(id, State::Closed);
                return None;
            }
            _ => return None,
        }
        Some(id)
    }

    /// A socket could not be opened; another process has it, most likely.
    pub(crate) fn bind_failed(&mut self, now: Instant, ticket: Ticket) {
        if let Some(id) = self.known(PortId::from_ticket(ticket))
            && self.state(id) == State::Opening
        {
            let wanted = self.racks[id.network()].lends(id.pair);
            self.set(id, if wanted { State::Failed } else { State::Closed });
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
        let id = PortId { network: network as u8, pair: number / 2, odd: number % 2 == 1 };
        self.known(id).filter(|id| self.racks[network].lends(id.pair))
    }

    /// The socket of a port that is on loan.
    pub(crate) fn leased(&self, network: usize, number: u16) -> Option<SocketId> {
        let id = PortId { network: network as u8, pair: number / 2, odd: number % 2 == 1 };
        match self.state(self.known(id)?) {
            State::Leased(socket) => Some(socket),
            _ => None,
        }
    }

    /// Asks for the socket of a port that a session had before the process was killed.
    pub(crate) fn open_again(&mut self, id: PortId, out: &mut VecDeque<Output>) {
        if self.state(id) == State::Closed {
            self.open(id, out);
        }
    }

    /// Lends exactly this port.
    pub(crate) fn lend_again(&mut self, id: PortId) -> Option<Port> {
        match self.state(id) {
            State::Leased(socket) if self.common => Some(self.port(id, socket)),
            _ => self.lend(id),
        }
    }

    /// Which port a ticket is about.
    pub(crate) fn asked_for(&self, ticket: Ticket) -> Option<PortId> {
        self.known(PortId::from_ticket(ticket))
    }

    /// A session is done with a port.
    pub(crate) fn give_back(&mut self, now: Instant, port: Port, out: &mut VecDeque<Output>) {
        debug_assert_eq!(self.state(port.id), State::Leased(port.socket));
        if !self.racks[port.id.network()].lends(port.id.pair) {
            return self.close(port, out);
        }
        self.set(port.id, State::Resting(port.socket));
        self.later.insert((now + self.quarantine, port.id));
    }

    /// No leg has a common port any more: there it needs no rest.
    pub(crate) fn give_back_common(&mut self, port: Port, out: &mut VecDeque<Output>) {
        match self.state(port.id) {
            State::Leased(socket) if self.racks[port.id.network()].lends(port.id.pair) => {
                self.set(port.id, State::Idle(socket));
            }
            State::Leased(_) => self.close(port, out),
            _ => {}
        }
    }

    /// A port that is not lent any more has served.
    fn close(&mut self, port: Port, out: &mut VecDeque<Output>) {
        self.set(port.id, State::Closed);
        out.push_back(Output::Release { socket: port.socket });
    }

    /// Ends quarantines that are over, and tries failed ports again.
    pub(crate) fn wake(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        while let Some(&(at, id)) = self.later.first()
            && at <= now
        {
            self.later.pop_first();
            match self.state(id) {
                State::Resting(socket) => self.set(id, State::Idle(socket)),
                State::Failed if self.racks[id.network()].lends(id.pair) => self.open(id, out),
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
        for state in racks.flat_map(Rack::states) {
            *match state {
                State::Closed => &mut ports.free,
                State::Opening => &mut ports.opening,
                State::Idle(_) => &mut ports.reserved,
                State::Leased(_) => &mut ports.leased,
                State::Resting(_) => &mut ports.quarantined,
                State::Failed => &mut ports.failed,
                State::Outside => continue,
            } += 1;
        }
        ports
    }

    /// A network more; its ports are opened by and by.
    pub(crate) fn add(&mut self, bind: IpAddr, range: RangeInclusive<u16>) {
        let rack = if self.common { Rack::of_single_ports } else { Rack::new };
        self.racks.push(rack(bind, range));
    }

    /// From now on these ports of a network are lent (`None`: none), and no others. What nobody uses is closed.
    pub(crate) fn lend_within(
        &mut self,
        network: usize,
        range: Option<RangeInclusive<u16>>,
        out: &mut VecDeque<Output>,
    ) {
        let Some(rack) = self.racks.get_mut(network) else { return };
        let closed = rack.lend_within(range);
        out.extend(closed.into_iter().map(|socket| Output::Release { socket }));
    }

    /// How many ports that are not lent any more are still in use.
    pub(crate) fn lingering(&self) -> usize {
        self.racks.iter().map(Rack::lingering).sum()
    }

    fn open(&mut self, id: PortId, out: &mut VecDeque<Output>) {
        out.push_back(Output::Bind { ticket: id.ticket(), local: self.local(id) });
        self.set(id, State::Opening);
    }

    fn lease_one(&mut self, network: usize, want: Want) -> Option<Lease> {
        if let Want::Beside(id) = want
            && let Some(rtp) = self.known(PortId { odd: !id.odd, ..id }).and_then(|id| self.lend(id))
        {
            return Some(Lease { rtp, rtcp: None });
        }
        let shelf = match want {
            Want::Single | Want::Beside(_) if !self.racks.get(network)?.shelf(Shelf::Half).is_empty() => {
                Shelf::Half
            }
            _ => Shelf::Ready,
        };
        let pair = self.draw(network, shelf)?;
        let id = |odd| PortId { network: network as u8, pair, odd };
        Some(match want {
            Want::Pair => Lease { rtp: self.lend(id(false))?, rtcp: self.lend(id(true)) },
            Want::Single | Want::Beside(_) => {
                Lease { rtp: self.lend(id(false)).or_else(|| self.lend(id(true)))?, rtcp: None }
            }
        })
    }

    fn lend(&mut self, id: PortId) -> Option<Port> {
        let State::Idle(socket) = self.state(id) else { return None };
        self.set(id, State::Leased(socket));
        Some(self.port(id, socket))
    }

    fn port(&self, id: PortId, socket: SocketId) -> Port {
        Port { id, socket, number: self.local(id).port() }
    }

    /// Undoes a loan nobody has heard of: no quarantine.
    fn take_back(&mut self, lease: &Lease) {
        for port in [Some(lease.rtp), lease.rtcp].into_iter().flatten() {
            self.set(port.id, State::Idle(port.socket));
        }
    }

    pub(crate) fn shortage(&self, network: usize) -> Shortage {
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
        self.racks.get(id.network())?.has(id.pair).then_some(id)
    }

    fn local(&self, id: PortId) -> SocketAddr {
        SocketAddr::new(self.racks[id.network()].bind, 2 * id.pair + u16::from(id.odd))
    }

    fn state(&self, id: PortId) -> State {
        self.racks[id.network()].state(id.pair, usize::from(id.odd))
    }

    fn set(&mut self, id: PortId, state: State) {
        self.racks[id.network()].set(id.pair, usize::from(id.odd), state);
    }
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
