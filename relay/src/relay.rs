//! The node: its parts, and how it is told and asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use proto::control;
use proto::event::{Event, Release};
use proto::node::{Birth, Dice, Input, Node, Output, SocketId};
use proto::sip::transaction::{ClientId, Timers, Transactions};
use proto::srtp::MAX_GROWTH;
use proto::tables::Tables;

use crate::config::{Config, Network};
use crate::control::{Unacked, Waiting};
use crate::crowd::Crowd;
use crate::doors::Doors;
use crate::dtls::Association;
use crate::ended::Ended;
use crate::forward::{Forward, Traffic, Use};
use crate::insert::Insert;
use crate::kept::Restoring;
use crate::leg::{Leg, Part};
use crate::ng::Ng;
use crate::offload::Offloads;
use crate::ports::{Pool, Port, Ports};
use crate::quality::Clocks;
use crate::recent::Recent;
use crate::session::{Session, Stream};

/// One relay lane. See the crate.
#[derive(Debug)]
pub struct Relay {
    pub(crate) config: Config,
    pub(crate) birth: Birth,
    pub(crate) dice: Dice,
    pub(crate) pool: Pool,
    /// What parties' descriptions say of payload types.
    pub(crate) clocks: Recent<Clocks>,
    /// What each socket is used for, by its number.
    pub(crate) sockets: Vec<Use>,
    pub(crate) legs: Vec<Leg>,
    /// Whose a packet is, where legs share their ports.
    pub(crate) crowd: Crowd,
    free_legs: Vec<u32>,
    pub(crate) sessions: BTreeMap<u64, Box<Session>>,
    /// When sessions are looked at (see `silence`).
    pub(crate) watches: BTreeSet<(Instant, u64)>,
    pub(crate) transactions: Transactions,
    pub(crate) waiting: VecDeque<Waiting>,
    pub(crate) unacked: BTreeMap<u64, Unacked>,
    pub(crate) ended: Ended,
    /// Our BYEs under way.
    pub(crate) byes: BTreeMap<ClientId, control::Session>,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) traffic: Traffic,
    pub(crate) draining: bool,
    pub(crate) ng: Ng,
    /// Sessions to leave behind anew: see `kept`.
    pub(crate) changed: BTreeSet<u64>,
    pub(crate) restoring: Restoring,
    /// Streams that a path below carries.
    pub(crate) offloads: Offloads,
    /// Sockets that are flooded.
    pub(crate) doors: Doors,
    /// Handshakes under way, by leg.
    pub(crate) associations: BTreeMap<u32, Association>,
    /// When one of them wants to be woken, at the earliest.
    pub(crate) next_handshake: Option<Instant>,
    /// Their turns so far.
    pub(crate) turns: u64,
    /// What is said to legs' parties in the other party's place, by leg.
    pub(crate) inserts: BTreeMap<u32, Insert>,
    /// Those of them to whom something is yet to be said; the others only have their numbers shifted.
    pub(crate) speaking: BTreeSet<u32>,
    /// Sessions yet to begin that are to be recorded.
    pub(crate) record_next: usize,
}

/// What a lane is doing right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Sessions alive.
    pub sessions: usize,
    /// Ports by state.
    pub ports: Ports,
    /// Packets by what became of them.
    pub traffic: Traffic,
    /// Ports whose door is closed, for they are flooded.
    pub flooded: usize,
}

impl Relay {
    /// A lane that asks for its reserve of ports at once: poll it, and answer its `Bind`s.
    pub fn new(birth: Birth, config: Config) -> Relay {
        let binds = config.networks.iter().map(|network| network.bind);
        let mut pool =
            Pool::new(binds, config.ports.clone(), config.reserve, config.quarantine, birth.dice(PORT_DICE));
        if config.one_port {
            pool = pool.of_common_ports(config.ports.clone());
        }
        let mut dice = birth.dice(NAME_DICE);
        let mut relay = Relay {
            birth,
            pool,
            clocks: Recent::default(),
            sockets: Vec::new(),
            legs: Vec::new(),
            crowd: Crowd::default(),
            free_legs: Vec::new(),
            sessions: BTreeMap::new(),
            watches: BTreeSet::new(),
            transactions: Transactions::new(Timers::default(), TRANSACTIONS, &mut dice),
            dice,
            waiting: VecDeque::new(),
            unacked: BTreeMap::new(),
            ended: Ended::default(),
            byes: BTreeMap::new(),
            outputs: VecDeque::new(),
            traffic: Traffic::default(),
            draining: false,
            ng: Ng::default(),
            record_next: 0,
            inserts: BTreeMap::new(),
            speaking: BTreeSet::new(),
            changed: BTreeSet::new(),
            restoring: Restoring::default(),
            offloads: Offloads::default(),
            doors: Doors::default(),
            associations: BTreeMap::new(),
            next_handshake: None,
            turns: 0,
            config,
        };
        relay.pool.open_at_start(relay.config.open_at_start, &mut relay.outputs);
        relay
    }

    /// Which lane it is, from 0.
    pub fn lane(&self) -> usize {
        self.birth.lane.index.into()
    }

    /// From now on, all this, but what rests and waits ([`Config::reserve`], [`Config::quarantine`]). Sessions keep the
    /// ports they have; those that are not lent any more are closed when they are given back. Poll it afterwards.
    pub fn reconfigure(&mut self, config: &Config) {
        let mut networks = std::mem::take(&mut self.config.networks);
        let mut lent = Vec::new();
        for today in config.lent().map(|at| &config.networks[at]) {
            let same = |other: &Network| (&other.name, other.bind) == (&today.name, today.bind);
            match networks.iter().position(same) {
                Some(at) => {
                    networks[at].advertise = today.advertise;
                    lent.push(at);
                }
                None if networks.len() < MOST_NETWORKS => {
                    lent.push(networks.len());
                    networks.push(today.clone());
                    self.pool.add(today.bind, config.ports.clone());
                }
                None => {}
            }
        }
        for network in 0..networks.len() {
            let range = lent.contains(&network).then(|| config.ports.clone());
            self.pool.lend_within(network, range, &mut self.outputs);
        }
        let (reserve, quarantine, one_port) =
            (self.config.reserve, self.config.quarantine, self.config.one_port);
        self.config = Config { networks, lent, reserve, quarantine, one_port, ..config.clone() };
    }

    /// How many ports its sessions have that are not lent any more.
    pub fn lingering(&self) -> usize {
        self.pool.lingering()
    }

    /// Whether the reserve is open (or can't be): the lane is ready to serve.
    pub fn is_ready(&self) -> bool {
        self.pool.is_settled()
    }

    /// What it is doing right now.
    pub fn status(&self) -> Status {
        Status {
            sessions: self.sessions.len(),
            ports: self.pool.count(),
            traffic: self.traffic,
            flooded: self.doors.closed(),
        }
    }

    fn media(&mut self, now: Instant, socket: SocketId, from: std::net::SocketAddr, bytes: &[u8]) {
        let len = bytes.len();
        let mut bytes = bytes.to_vec();
        bytes.resize(len + MAX_GROWTH, 0);
        if let Forward::Send { socket, to, len } = self.forward(now, socket, from, &mut bytes, len) {
            bytes.truncate(len);
            self.outputs.push_back(Output::SendMedia { socket, to, bytes: bytes.into() });
        }
    }

    fn bound(&mut self, now: Instant, ticket: proto::node::Ticket, socket: SocketId) {
        let Some(port) = self.pool.bound(ticket, socket) else {
            self.outputs.push_back(Output::Release { socket });
            return;
        };
        let at = socket.0 as usize;
        if self.sockets.len() <= at {
            self.sockets.resize(at + 1, Use::Closed);
        }
        self.sockets[at] = if self.config.one_port { Use::Many } else { Use::Idle };
        if !self.is_awaited(now, port) {
            self.try_again(now);
        }
    }

    fn bind_failed(&mut self, now: Instant, ticket: proto::node::Ticket) {
        self.pool.bind_failed(now, ticket);
        if let Some(port) = self.pool.asked_for(ticket) {
            self.give_up_on(now, port);
        }
        self.try_again(now);
    }

    fn wake(&mut self, now: Instant) {
        self.transactions.wake(now);
        self.pool.wake(now, &mut self.outputs);
        self.repeat_unacked(now);
        self.look(now);
        self.delete_due(now);
        self.tend_offloads(now);
        self.tend_doors(now);
        self.wake_handshakes(now);
        self.speak(now);
        self.try_again(now);
    }

    pub(crate) fn refill(&mut self) {
        if !self.draining {
            let waiting: usize = self.waiting.iter().map(|waiting| waiting.pairs).sum();
            let demand = waiting + self.commands_demand();
            self.pool.refill(demand, &mut self.outputs);
        }
    }

    /// Gives a leg a place.
    pub(crate) fn seat(&mut self, leg: Leg) -> u32 {
        match self.free_legs.pop() {
            Some(at) => {
                self.legs[at as usize] = leg;
                at
            }
            None => {
                self.legs.push(leg);
                (self.legs.len() - 1) as u32
            }
        }
    }

    /// Points a stream's sockets at its legs.
    pub(crate) fn connect(&mut self, stream: &Stream) {
        for leg in stream.legs {
            if self.config.one_port {
                self.enrol(leg);
                continue;
            }
            if self.legs[leg as usize].is_member() {
                continue;
            }
            for part in [Part::Media, Part::Rtcp] {
                let Some(channel) = self.legs[leg as usize].way_in(part) else { continue };
                let job = if stream.shared { Use::Shared(stream.legs, part) } else { Use::Leg(leg, part) };
                let socket = channel.port.socket;
                self.sockets[socket.0 as usize] = job;
                self.doors.has_changed(socket);
            }
        }
    }

    /// Ends the stream of one m= section, if there is one.
    pub(crate) fn close(&mut self, now: Instant, session: &mut Session, at: usize) {
        let Some(stream) = session.streams.get_mut(at).and_then(Option::take) else { return };
        for (side, leg) in stream.legs.into_iter().enumerate() {
            if !self.closes_below(session, side, leg) {
                let quality = self.legs[leg as usize].quality(session.born);
                session.add_ended(side, quality);
            }
            self.strike_off(now, leg);
            if !self.leaves_bundle(leg) && (side == 0 || !stream.shared) {
                self.legs[leg as usize].ports().for_each(|port| self.return_port(now, port));
            }
            self.associations.remove(&leg);
            self.inserts.remove(&leg);
            self.legs[leg as usize].keys = None;
            self.free_legs.push(leg);
        }
    }

    pub(crate) fn return_port(&mut self, now: Instant, port: Port) {
        self.doors.has_changed(port.socket);
        match self.config.one_port {
            true if self.crowd.is_in_use(port.socket) => {}
            true => self.pool.give_back_common(port, &mut self.outputs),
            false => {
                self.sockets[port.socket.0 as usize] = Use::Idle;
                self.pool.give_back(now, port, &mut self.outputs);
            }
        }
    }

    /// Ends a session: every port goes back.
    pub(crate) fn release(&mut self, now: Instant, id: control::Session, why: Release) {
        let Some(mut session) = self.sessions.remove(&id.0) else { return };
        self.changed.insert(id.0);
        (0..session.streams.len()).for_each(|at| self.close(now, &mut session, at));
        if let Some(watch) = session.watch {
            self.watches.remove(&(watch, id.0));
        }
        self.unacked.remove(&id.0);
        if session.recorded {
            self.end_recording(session.name.clone());
        }
        let has_dialog = session.dialog.is_some();
        self.tell_released(&session, why);
        if !has_dialog {
            self.forget_dialog(now, id, why);
        }
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

impl Node for Relay {
    fn handle(&mut self, now: Instant, input: Input, tables: &mut dyn Tables) {
        self.take_up(tables);
        match input {
            Input::Other { flow, bytes } if self.is_ng(&flow) => self.command(now, flow, bytes),
            Input::Passed { flow, bytes, gathered } => self.passed(now, flow, bytes, &gathered),
            Input::Message { flow, .. } if self.is_ng(&flow) => {}
            Input::Message { flow, message } => self.receive(now, flow, message),
            Input::Media { socket, from, bytes } => self.media(now, socket, from, &bytes),
            Input::Bound { ticket, socket, .. } => self.bound(now, ticket, socket),
            Input::BindFailed { ticket, .. } => self.bind_failed(now, ticket),
            Input::SendFailed { ticket, flow, error } => {
                self.transactions.send_failed(now, ticket, flow, error);
            }
            Input::Closed { flow } => self.transactions.closed(&flow),
            Input::Carried(counts) => self.carried(now, &counts),
            Input::Dropped(counts) => self.kept_out(now, &counts),
            Input::Undelivered(undelivered) => self.undelivered(now, &undelivered),
            Input::Wake => self.wake(now),
            Input::Drain => self.draining = true,
            Input::Answer { ticket, answer } if self.ng.awaits(ticket) => self.has_read(now, ticket, &answer),
            Input::Answer { ticket, answer } => self.worked(now, ticket, &answer),
            Input::Other { .. } | Input::Proven { .. } => {}
        }
        self.settle(now);
        self.plan_offloads(now);
        self.refill();
    }

    fn poll(&mut self, tables: &mut dyn Tables) -> Option<Output> {
        if !self.changed.is_empty() {
            self.take_back_changed();
            self.doors_changed();
            self.keep_changed(tables);
        }
        self.renew_doors();
        self.outputs.pop_front().or_else(|| self.transactions.poll())
    }

    fn deadline(&self) -> Option<Instant> {
        let watch = self.watches.first().map(|&(at, _)| at);
        let waiting = self.waiting.front().map(|waiting| waiting.until);
        let unacked = self.unacked.values().map(|unacked| unacked.next).min();
        [
            self.transactions.deadline(),
            self.pool.deadline(),
            watch,
            waiting,
            unacked,
            self.commands_deadline(),
            self.offloads.next,
            self.doors.next,
            self.next_handshake,
            self.speaks_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// Networks in the life of a lane, those that are gone included: a port's identity has a byte for its own.
const MOST_NETWORKS: usize = 256;

const PORT_DICE: u64 = 1;
const NAME_DICE: u64 = 2;

/// Transactions at a time.
const TRANSACTIONS: usize = 100_000;
