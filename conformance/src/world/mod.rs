//! The simulated world: nodes on hosts, behind NATs, joined by lines that lose, delay and reorder, on one seeded clock.
//!
//! The very machines that production runs are attached here through [`Node`]; a call of minutes passes in
//! milliseconds, and the same seed tells the same story, packet for packet.
//!
//! ```
//! use conformance::world::{INTERNET, Mute, Rules, World};
//! use std::time::Duration;
//!
//! let mut world = World::new(1);
//! let site = world.nat("nat", INTERNET, "198.51.100.1", Rules::PORT_RESTRICTED);
//! let inside = world.host(world.inside(site), "10.0.0.2");
//! let outside = world.host(INTERNET, "203.0.113.1");
//! let phone = world.attach(inside, "phone", &["udp 10.0.0.2:5060"], |_| Mute::default());
//! let server = world.attach(outside, "server", &["udp 203.0.113.1:5060"], |_| Mute::default());
//! world.inject(phone, "10.0.0.2:5060", "203.0.113.1:5060", b"hello");
//! world.run_for(Duration::from_secs(1));
//! assert_eq!(world.node::<Mute>(server).heard.len(), 1);
//! ```
//!
//! Assumptions: a connection's way back is as long as its way there; TLS is not simulated; what a node sends to its
//! own host takes [`LOOPBACK`] and is never lost.

mod building;
mod ladder;
mod nat;
mod net;
mod nodes;
mod record;
mod streams;
mod tables;
mod toil;
mod tongue;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use proto::event::Event;
use proto::icmp::{Undelivered, Unreachable};
use proto::lookup::Advice;
use proto::node::{Birth, Dice, Flow, FlowId, Input, Lane, SendError, Ticket, Transport};
use proto::resolve::{Found, Lookup};
use proto::sip::Message;
use proto::stun;

pub use nat::{Dependence, Ports, Rules};
pub use net::{GatewayId, HostId, INTERNET, Link, Realm};
pub use nodes::{Actor, Mute};
pub use record::{Entry, Fate};
pub use tables::WorldTables;
pub use toil::Pace;
pub use tongue::Tongue;

use nat::Protocol;
use net::{Net, Packet, Step};
use nodes::{Attached, Socket};
use streams::{Conn, ConnId};

/// A node attached to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(usize);

/// Routers a packet may pass, unless its sender says otherwise.
const HOPS: u8 = 64;

/// How long a packet takes to its own host.
pub const LOOPBACK: Duration = Duration::from_micros(50);

/// The world. See the module.
pub struct World {
    start: Instant,
    now: Duration,
    dice: Dice,
    seeds: Dice,
    queue: BTreeMap<(Duration, u64), Happening>,
    order: u64,
    net: Net,
    nodes: Vec<Attached>,
    sockets: BTreeMap<(HostId, SocketAddr), Socket>,
    conns: Vec<Conn>,
    flows: u64,
    stream_loss: u32,
    dns: BTreeMap<Lookup, Found>,
    numbers: BTreeMap<String, Vec<String>>,
    pages: BTreeMap<String, Advice>,
    record: Vec<Entry>,
    /// Whether packets are noted.
    records: bool,
    events: Vec<(Duration, NodeId, Event)>,
}

/// What waits in the queue.
#[derive(Debug)]
enum Happening {
    /// A packet is in a realm.
    Hop {
        realm: Realm,
        packet: Packet,
    },
    /// A packet has passed the line of its host.
    Arrival {
        host: HostId,
        packet: Packet,
    },
    /// A node of this life is told something.
    Tell {
        node: NodeId,
        life: u32,
        input: Box<Input>,
    },
    /// A node of this life wanted to be woken.
    Wake {
        node: NodeId,
        life: u32,
    },
    /// A node of this life is done with a piece of work.
    Toil {
        node: NodeId,
        life: u32,
    },
    Knock {
        conn: ConnId,
        attempt: usize,
    },
    Opened {
        conn: ConnId,
    },
    Refused {
        conn: ConnId,
    },
    Piece {
        conn: ConnId,
        end: usize,
        bytes: Bytes,
    },
}

impl World {
    /// An empty internet. Everything that chance decides is decided by the seed.
    pub fn new(seed: u64) -> World {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let start = Instant::now();
        let birth = Birth { now: start, wall: SystemTime::UNIX_EPOCH, seed: key, lane: Lane::default() };
        World {
            start,
            now: Duration::ZERO,
            dice: birth.dice(0),
            seeds: birth.dice(1),
            queue: BTreeMap::new(),
            order: 0,
            net: Net::new(),
            nodes: Vec::new(),
            sockets: BTreeMap::new(),
            conns: Vec::new(),
            flows: 0,
            stream_loss: 0,
            dns: BTreeMap::new(),
            numbers: BTreeMap::new(),
            pages: BTreeMap::new(),
            record: Vec::new(),
            records: true,
            events: Vec::new(),
        }
    }

    /// Time since the beginning.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(|_| false, time);
    }

    /// Lets time pass until something is so; `false`: it was not within the limit.
    pub fn run_until(&mut self, mut is_so: impl FnMut(&World) -> bool, limit: Duration) -> bool {
        let end = self.now + limit;
        loop {
            if is_so(self) {
                return true;
            }
            match self.queue.first_key_value() {
                Some(((at, _), _)) if *at <= end => self.happen(),
                _ => {
                    self.now = end;
                    return false;
                }
            }
        }
    }

    /// Every packet so far.
    pub fn packets(&self) -> &[Entry] {
        &self.record
    }

    /// From now on no packet is noted (streams still are): for crowds whose packets nobody looks at.
    pub fn stop_recording(&mut self) {
        self.records = false;
    }

    /// Every event so far, and who raised it when.
    pub fn events(&self) -> &[(Duration, NodeId, Event)] {
        &self.events
    }

    /// The record as a ladder.
    pub fn ladder(&self) -> String {
        self.ladder_of(Duration::ZERO..=Duration::MAX)
    }

    /// What was sent within a time, as a ladder.
    pub fn ladder_of(&self, span: RangeInclusive<Duration>) -> String {
        let names: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        let first = self.record.partition_point(|entry| entry.at < *span.start());
        let end = self.record.partition_point(|entry| entry.at <= *span.end());
        ladder::draw(&names, &self.record[first..end])
    }

    /// Sends a datagram by a node's host from any address, true or forged.
    pub fn inject(&mut self, node: NodeId, from: &str, to: &str, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        let transport = Message::parse(bytes.clone()).is_ok().then_some(Transport::Udp);
        self.send_datagram(node, transport, (addr(from), addr(to)), bytes, HOPS);
    }

    fn happen(&mut self) {
        let Some(((at, _), happening)) = self.queue.pop_first() else { return };
        self.now = at;
        match happening {
            Happening::Hop { realm, packet } => self.hop(realm, packet),
            Happening::Arrival { host, packet } => self.arrived(host, packet),
            Happening::Tell { node, life, input } if self.nodes[node.0].life == life => {
                self.tell(node, *input)
            }
            Happening::Wake { node, life } if self.nodes[node.0].life == life => self.wake(node),
            Happening::Toil { node, life } if self.nodes[node.0].life == life => self.toil(node),
            Happening::Tell { .. } | Happening::Wake { .. } | Happening::Toil { .. } => {}
            Happening::Knock { conn, attempt } => self.knock(conn, attempt),
            Happening::Opened { conn } => self.opened(conn),
            Happening::Refused { conn } => self.fail_opening(conn, SendError::Refused),
            Happening::Piece { conn, end, bytes } => self.piece_arrived(conn, end, &bytes),
        }
    }

    fn send_datagram(
        &mut self,
        node: NodeId,
        transport: Option<Transport>,
        (src, dst): (SocketAddr, SocketAddr),
        bytes: Bytes,
        hops: u8,
    ) {
        let entry = self.note(node, transport, (src, dst), &bytes);
        let (protocol, opens, passed) = (Protocol::Udp, None, vec![]);
        let packet = Packet { entry, protocol, src, dst, bytes, opens, passed, hops };
        self.launch(self.nodes[node.0].host, packet);
    }

    /// Puts a packet on its host's line, or hands it over when it stays on the host.
    fn launch(&mut self, host: HostId, packet: Packet) {
        if self.net.realm_of(host, packet.dst.ip()).is_some() {
            return self.schedule(self.now + LOOPBACK, Happening::Arrival { host, packet });
        }
        // A forged source leaves by the host's first address.
        let Some(realm) = self.net.realm_of(host, packet.src.ip()).or_else(|| self.net.first_realm(host))
        else {
            return self.drop_packet(&packet, "no such address here");
        };
        let link = *self.net.host_link(host);
        self.pass_line(link, packet, |packet| Happening::Hop { realm, packet });
    }

    fn hop(&mut self, realm: Realm, mut packet: Packet) {
        match self.net.step(self.now, realm, &mut packet, &mut self.dice) {
            Step::AtHost(host) => {
                let link = *self.net.host_link(host);
                self.pass_line(link, packet, |packet| Happening::Arrival { host, packet });
            }
            Step::Onward(realm) => {
                let link = packet.passed.last().map(|id| *self.net.gateway_link(*id)).unwrap_or_default();
                self.pass_line(link, packet, |packet| Happening::Hop { realm, packet });
            }
            Step::Dropped(why) => self.drop_packet(&packet, &why),
        }
    }

    /// What a line does to a packet: lose it, delay it, double it.
    fn pass_line(&mut self, link: Link, packet: Packet, then: impl Fn(Packet) -> Happening) {
        if self.chance(link.loss) {
            return self.drop_packet(&packet, "lost");
        }
        let copies = if self.chance(link.duplication) { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = Duration::from_micros(self.dice.below(link.jitter.as_micros() as u64 + 1));
            self.schedule(self.now + link.latency + jitter, then(packet.clone()));
        }
    }

    fn chance(&mut self, of_a_thousand: u32) -> bool {
        of_a_thousand > 0 && self.dice.below(1000) < u64::from(of_a_thousand)
    }

    fn arrived(&mut self, host: HostId, packet: Packet) {
        if let Some(conn) = packet.opens {
            return self.opening_arrived(host, &packet, conn);
        }
        let Some(socket) = self.sockets.get(&(host, packet.dst)).copied() else {
            self.answer_by_icmp(&packet);
            return self.drop_packet(&packet, "nobody there");
        };
        let (at, to) = (self.now, socket.node);
        if let Some(entry) = self.record.get_mut(packet.entry) {
            entry.fate = Fate::Arrived { at, to, seen: (packet.src, packet.dst) };
        }
        if socket.media.is_none() && self.answers_stun(to, &packet) {
            return;
        }
        if let Some(socket) = socket.media
            && self.keeps_out(to, socket, packet.src, &packet.bytes)
        {
            return self.drop_packet(&packet, "kept out of a flooded port");
        }
        let input = match socket.media {
            Some(socket) => Input::Media { socket, from: packet.src, bytes: packet.bytes },
            None => sip_input(Flow::udp(packet.dst, packet.src), packet.bytes),
        };
        self.come_to(to, input);
    }

    /// A host says that nobody listens at a port: NATs on the way translate what it quotes, too. Only media sockets are told,
    /// and only of packets that are noted.
    fn answer_by_icmp(&mut self, packet: &Packet) {
        let Some(entry) = self.record.get(packet.entry).filter(|entry| entry.transport.is_none()) else {
            return;
        };
        let ((from, to), node, head) = (entry.sent, entry.from, entry.bytes.clone());
        let took = self.now.saturating_sub(entry.at);
        if self.nodes[node.0].opened(from) {
            let said = Undelivered { from, to, why: Unreachable::Port, head };
            self.tell_later(self.now + took, node, Input::Undelivered(said));
        }
    }

    /// What production's lane does before a proxy sees anything.
    fn answers_stun(&mut self, node: NodeId, packet: &Packet) -> bool {
        if !stun::is_stun(&packet.bytes) || !self.is_a_proxy(node) {
            return false;
        }
        if let Some(answer) = stun::Server::single().answer(&packet.bytes, packet.src, packet.dst) {
            let ends = (packet.dst, answer.to);
            self.send_datagram(node, Some(Transport::Udp), ends, answer.bytes.into(), HOPS);
        }
        true
    }

    /// A copy that arrived counts more than one that was lost.
    fn drop_packet(&mut self, packet: &Packet, why: &str) {
        if let Some(entry) = self.record.get_mut(packet.entry)
            && entry.fate == Fate::UnderWay
        {
            entry.fate = Fate::Dropped(why.to_owned());
        }
    }

    fn note(
        &mut self,
        from: NodeId,
        transport: Option<Transport>,
        sent: (SocketAddr, SocketAddr),
        bytes: &Bytes,
    ) -> usize {
        if !self.records && transport.is_none_or(|transport| transport == Transport::Udp) {
            return usize::MAX;
        }
        let fate = Fate::UnderWay;
        self.record.push(Entry { at: self.now, from, transport, sent, bytes: bytes.clone(), fate });
        self.record.len() - 1
    }

    fn schedule(&mut self, at: Duration, happening: Happening) {
        Self::schedule_in(&mut self.queue, &mut self.order, at, happening);
    }

    fn schedule_in(
        queue: &mut BTreeMap<(Duration, u64), Happening>,
        order: &mut u64,
        at: Duration,
        happening: Happening,
    ) {
        *order += 1;
        queue.insert((at, *order), happening);
    }

    fn tell_later(&mut self, at: Duration, node: NodeId, input: Input) {
        let life = self.nodes[node.0].life;
        self.schedule(at, Happening::Tell { node, life, input: Box::new(input) });
    }

    fn tell_failure(&mut self, node: NodeId, ticket: Ticket, flow: Flow, error: SendError) {
        if ticket != Ticket(0) {
            self.tell_later(self.now, node, Input::SendFailed { ticket, flow, error });
        }
    }

    fn new_flow_id(&mut self) -> FlowId {
        self.flows += 1;
        FlowId(self.flows)
    }
}

/// What production's dispatcher makes of received bytes.
fn sip_input(flow: Flow, bytes: Bytes) -> Input {
    match Message::parse(bytes.clone()) {
        Ok(message) => Input::Message { flow, message },
        Err(_) => Input::Other { flow, bytes },
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("not an address: {text}"))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("not an address and port: {text}"))
}
