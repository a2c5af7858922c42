//! Nodes in the world: born, told things, asked what they want, killed, and born again.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use proto::door::{Door, Dropped, Expected};
use proto::node::{
    Answer, Birth, Flow, Input, Lane, Node, Output, Question, SendError, SocketId, Ticket, Transport,
};
use proto::resolve::{Found, Resolution, Step};
use proto::tables::Tables;

use super::net::HostId;
use super::record::Fate;
use super::tables::WorldTables;
use super::toil::Toil;
use super::tongue::Tongue;
use super::{HOPS, Happening, NodeId, World, addr};

/// A node that can be looked at again as what it is.
pub trait Actor: Node {
    /// Itself.
    fn as_any(&self) -> &dyn Any;
    /// Itself.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Node + 'static> Actor for T {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

pub(super) struct Attached {
    pub(super) name: String,
    pub(super) host: HostId,
    pub(super) life: u32,
    listeners: Vec<(Transport, SocketAddr)>,
    birth: Box<dyn FnMut(Birth) -> Box<dyn Actor>>,
    /// `None` while it is dead.
    actor: Option<Box<dyn Actor>>,
    tables: WorldTables,
    /// How many seconds the wall clock of its machine is ahead.
    clock: i64,
    wake_at: Option<Duration>,
    /// Wakes since time last moved.
    spins: u32,
    media: BTreeMap<SocketId, SocketAddr>,
    /// Closed doors of media sockets, and how many packets each has kept out.
    doors: BTreeMap<SocketId, (Expected, u64)>,
    sockets_so_far: u32,
    pub(super) tongue: Option<Tongue>,
    /// When its work takes time.
    pub(super) toil: Option<Toil>,
}

impl Attached {
    /// Whether this is where one of its media sockets is.
    pub(super) fn opened(&self, at: SocketAddr) -> bool {
        self.media.values().any(|local| *local == at)
    }
}

/// An open UDP socket: a listener, or a media socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Socket {
    pub(super) node: NodeId,
    pub(super) media: Option<SocketId>,
}

/// How long the DNS takes.
const DNS_LATENCY: Duration = Duration::from_millis(20);
/// What is done elsewhere takes about as long as a signature.
const WORK_LATENCY: Duration = Duration::from_millis(1);

/// More wakes than this at one moment is a node that never lets time pass.
const MAX_SPINS: u32 = 1000;

impl World {
    /// Brings a node to life on a host. `listeners` are like `udp 203.0.113.1:5060`; `birth` makes the node, now and
    /// at every restart.
    pub fn attach<N: Node + 'static>(
        &mut self,
        host: HostId,
        name: &str,
        listeners: &[&str],
        mut birth: impl FnMut(Birth) -> N + 'static,
    ) -> NodeId {
        let node = NodeId(self.nodes.len());
        self.nodes.push(Attached {
            name: name.to_owned(),
            host,
            life: 0,
            listeners: listeners.iter().map(|text| listener(text)).collect(),
            birth: Box::new(move |b| Box::new(birth(b))),
            actor: None,
            tables: WorldTables::default(),
            clock: 0,
            wake_at: None,
            spins: 0,
            media: BTreeMap::new(),
            doors: BTreeMap::new(),
            sockets_so_far: 0,
            tongue: None,
            toil: None,
        });
        self.be_born(node);
        node
    }

    /// The node's process ends at once, as by kill -9: sockets and connections close, what it knew is gone, except
    /// what its tables keep.
    pub fn kill(&mut self, node: NodeId) {
        self.close_all_of(node);
        self.sockets.retain(|_, socket| socket.node != node);
        let attached = &mut self.nodes[node.0];
        attached.actor = None;
        attached.life += 1;
        attached.wake_at = None;
        attached.media.clear();
    }

    /// The wall clock of a node's machine is set so many seconds ahead of the world's. Its process reads it at its next start.
    pub fn set_clock(&mut self, node: NodeId, seconds: i64) {
        self.nodes[node.0].clock = seconds;
    }

    /// A killed node's process starts again, with the tables that survived.
    pub fn restart(&mut self, node: NodeId) {
        self.kill(node);
        self.nodes[node.0].tables.restarted();
        self.be_born(node);
    }

    /// The node, as what it is.
    pub fn node<N: Node + 'static>(&self, node: NodeId) -> &N {
        let actor = self.nodes[node.0].actor.as_ref().expect("the node is alive");
        (**actor).as_any().downcast_ref().expect("the node is of this kind")
    }

    /// Does something to a node from outside (a user presses a key), and lets it say what it wants.
    pub fn with<N: Node + 'static, R>(&mut self, node: NodeId, what: impl FnOnce(&mut N, Instant) -> R) -> R {
        let now = self.start + self.now;
        let actor = self.nodes[node.0].actor.as_mut().expect("the node is alive");
        let result = what((**actor).as_any_mut().downcast_mut().expect("the node is of this kind"), now);
        self.drain(node);
        result
    }

    /// Whether it is a proxy, and lives.
    pub(super) fn is_a_proxy(&self, node: NodeId) -> bool {
        self.nodes[node.0].actor.as_ref().is_some_and(|actor| (**actor).as_any().is::<proxy::Proxy>())
    }

    /// The node's tables.
    pub fn tables(&mut self, node: NodeId) -> &mut WorldTables {
        &mut self.nodes[node.0].tables
    }

    /// Tells a node something, now.
    pub fn tell(&mut self, node: NodeId, input: Input) {
        let now = self.start + self.now;
        let attached = &mut self.nodes[node.0];
        if !matches!(input, Input::Wake) {
            attached.spins = 0;
        }
        let Some(actor) = attached.actor.as_mut() else { return };
        let input = match attached.tongue {
            Some(tongue) => tongue.input(input),
            None => input,
        };
        actor.handle(now, input, &mut attached.tables);
        self.drain(node);
    }

    /// How many media sockets a node holds.
    pub fn media_sockets(&self, node: NodeId) -> usize {
        self.nodes[node.0].media.len()
    }

    fn be_born(&mut self, node: NodeId) {
        let clock = self.nodes[node.0].clock;
        let ahead = Duration::from_secs(clock.unsigned_abs());
        let wall = SystemTime::UNIX_EPOCH + FIRST_DAY + self.now;
        let birth = Birth {
            now: self.start + self.now,
            wall: if clock < 0 { wall - ahead } else { wall + ahead },
            seed: self.seeds.bytes(),
            lane: Lane::default(),
        };
        let attached = &mut self.nodes[node.0];
        attached.actor = Some((attached.birth)(birth));
        for (transport, at) in attached.listeners.clone() {
            if transport == Transport::Udp {
                self.sockets.insert((self.nodes[node.0].host, at), Socket { node, media: None });
            }
        }
        self.tell_later(self.now, node, Input::Wake);
    }

    pub(super) fn wake(&mut self, node: NodeId) {
        let attached = &mut self.nodes[node.0];
        if attached.wake_at != Some(self.now) {
            return;
        }
        attached.wake_at = None;
        attached.spins += 1;
        assert!(
            attached.spins < MAX_SPINS,
            "{} wants to be woken again and again at one moment",
            attached.name
        );
        self.tell(node, Input::Wake);
    }

    /// Polls a node until it has said all, does what it wants, and notes when to wake it.
    fn drain(&mut self, node: NodeId) {
        let attached = &mut self.nodes[node.0];
        let Some(actor) = attached.actor.as_mut() else { return };
        let outputs: Vec<Output> =
            std::iter::from_fn(|| actor.poll(&mut attached.tables as &mut dyn Tables)).collect();
        let deadline = actor.deadline().map(|at| at.saturating_duration_since(self.start).max(self.now));
        if deadline.is_some_and(|at| at > self.now) {
            attached.spins = 0;
        }
        if attached.wake_at != deadline {
            attached.wake_at = deadline;
            let life = attached.life;
            if let Some(at) = deadline {
                self.schedule(at, Happening::Wake { node, life });
            }
        }
        let tongue = self.nodes[node.0].tongue;
        for output in outputs {
            let output = match tongue {
                Some(tongue) => tongue.output(output),
                None => output,
            };
            self.perform(node, output);
        }
    }

    pub(super) fn perform(&mut self, node: NodeId, output: Output) {
        match output {
            Output::Message { flow, message, ticket } => self.send(node, flow, message.into_bytes(), ticket),
            Output::Send { flow, bytes, ticket } => self.send(node, flow, bytes, ticket),
            Output::Probe { flow, bytes, hops } => {
                let ends = (flow.local, flow.remote);
                self.send_datagram(node, Some(Transport::Udp), ends, bytes, hops);
            }
            Output::Close { flow } => self.close_flow(node, &flow),
            Output::SendMedia { socket, to, bytes } => {
                if let Some(from) = self.nodes[node.0].media.get(&socket).copied() {
                    self.send_datagram(node, None, (from, to), bytes, HOPS);
                }
            }
            Output::Bind { ticket, local } => self.bind(node, ticket, local),
            Output::Release { socket } => {
                self.nodes[node.0].doors.remove(&socket);
                if let Some(local) = self.nodes[node.0].media.remove(&socket) {
                    self.sockets.remove(&(self.nodes[node.0].host, local));
                }
            }
            // A node of the world is the only lane of its service.
            Output::Pass { flow, bytes, gathered, .. } => {
                self.tell_later(self.now, node, Input::Passed { flow, bytes, gathered });
            }
            // Nothing ever waits on a socket here: a packet is handed over as it arrives.
            Output::Empty { .. } | Output::Capture(_) | Output::Offload(_) => {}
            Output::Door(door) => self.obey_door(node, *door),
            Output::Ask { ticket, question: Question::Work(work) } => {
                work.run();
                let answer = Answer::Done(work);
                self.tell_later(self.now + WORK_LATENCY, node, Input::Answer { ticket, answer });
            }
            Output::Ask { ticket, question } => {
                let answer = self.resolve(&question);
                self.tell_later(self.now + DNS_LATENCY, node, Input::Answer { ticket, answer });
            }
            Output::Event(event) => self.events.push((self.now, node, event)),
        }
    }

    /// As the kernel does it.
    fn obey_door(&mut self, node: NodeId, door: Door) {
        let doors = &mut self.nodes[node.0].doors;
        match door {
            Door::Close(socket, expected) => doors.entry(socket).or_default().0 = expected,
            Door::Open(socket) => drop(doors.remove(&socket)),
            Door::Count(sockets) => {
                let count = |socket| Dropped {
                    socket,
                    packets: doors.get(&socket).map_or(0, |door| door.1),
                    over: !doors.contains_key(&socket),
                };
                let counts = sockets.into_iter().map(count).collect();
                self.tell_later(self.now, node, Input::Dropped(counts));
            }
        }
    }

    /// Whether a closed door keeps a packet out.
    pub(super) fn keeps_out(
        &mut self,
        node: NodeId,
        socket: SocketId,
        from: SocketAddr,
        bytes: &[u8],
    ) -> bool {
        let Some((expected, dropped)) = self.nodes[node.0].doors.get_mut(&socket) else { return false };
        let keeps_out = !expected.lets_in(from, bytes);
        *dropped += u64::from(keeps_out);
        keeps_out
    }

    fn send(&mut self, node: NodeId, flow: Flow, bytes: Bytes, ticket: Ticket) {
        let listens = self.nodes[node.0].listeners.contains(&(flow.transport, flow.local));
        if !listens && !flow.id.is_connection() {
            let entry = self.note(node, Some(flow.transport), (flow.local, flow.remote), &bytes);
            if let Some(entry) = self.record.get_mut(entry) {
                entry.fate = Fate::Dropped("no such listener".to_owned());
            }
            return self.tell_failure(node, ticket, flow, SendError::Unreachable);
        }
        match flow.transport {
            Transport::Udp => {
                self.send_datagram(node, Some(Transport::Udp), (flow.local, flow.remote), bytes, HOPS)
            }
            _ => self.send_on_stream(node, flow, bytes, ticket),
        }
    }

    fn bind(&mut self, node: NodeId, ticket: Ticket, local: SocketAddr) {
        let host = self.nodes[node.0].host;
        let local = if local.port() == 0 { self.free_port(host, local) } else { local };
        let ours = self.net.realm_of(host, local.ip()).is_some();
        let input = if !ours || self.sockets.contains_key(&(host, local)) {
            let why = if ours { "address in use" } else { "cannot assign requested address" };
            Input::BindFailed { ticket, local, why: why.to_owned() }
        } else {
            let attached = &mut self.nodes[node.0];
            let socket = SocketId(attached.sockets_so_far);
            attached.sockets_so_far += 1;
            attached.media.insert(socket, local);
            self.sockets.insert((host, local), Socket { node, media: Some(socket) });
            Input::Bound { ticket, socket, local }
        };
        self.tell_later(self.now, node, input);
    }

    /// The one above the highest that is open.
    fn free_port(&self, host: HostId, local: SocketAddr) -> SocketAddr {
        let at = |port| SocketAddr::new(local.ip(), port);
        let open = self.sockets.range((host, at(32_768))..=(host, at(u16::MAX)));
        let highest = open.map(|((_, at), _)| at.port()).next_back();
        at(highest.map_or(32_768, |port| port.saturating_add(1)))
    }

    fn resolve(&mut self, question: &Question) -> Answer {
        let (host, port, transport, secure) = match question {
            Question::Resolve { host, port, transport, secure } => (host, port, transport, secure),
            Question::Enum { domain, .. } => {
                let known = self.numbers.get(domain).cloned();
                return known.map_or(Answer::Nothing(format!("{domain}: no such name")), Answer::Uris);
            }
            Question::Http { url, .. } => {
                let said = self.pages.get(url).cloned();
                return said.map_or(Answer::Nothing(format!("{url}: 404")), Answer::Advice);
            }
            Question::Work(work) => return Answer::Done(work.clone()),
        };
        const SUPPORTED: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];
        let mut resolution = Resolution::new(host, *port, *transport, *secure, &SUPPORTED);
        loop {
            match resolution.step(&mut self.dice) {
                Step::Ask(lookups) => lookups.into_iter().for_each(|lookup| {
                    let found = self.dns.get(&lookup).cloned().unwrap_or(Found::Nothing);
                    resolution.answer(lookup, found);
                }),
                Step::Done(targets) if targets.is_empty() => {
                    return Answer::Nothing(format!("{host}: no such name"));
                }
                Step::Done(targets) => return Answer::Targets(targets),
            }
        }
    }

    /// Who listens for connections there.
    pub(super) fn listener(&self, host: HostId, transport: Transport, at: SocketAddr) -> Option<NodeId> {
        let listens =
            |n: &Attached| n.host == host && n.actor.is_some() && n.listeners.contains(&(transport, at));
        self.nodes.iter().position(listens).map(NodeId)
    }
}

/// The wall clock at the beginning of every world: 2026-01-01.
const FIRST_DAY: Duration = Duration::from_secs(1_767_225_600);

fn listener(text: &str) -> (Transport, SocketAddr) {
    let (name, at) = text.split_once(' ').unwrap_or(("udp", text));
    (Transport::from_name(name).unwrap_or_else(|| panic!("not a transport: {name}")), addr(at))
}

/// A node that says nothing and remembers what it hears: a bystander, a victim, the host of a forger.
#[derive(Debug, Default)]
pub struct Mute {
    /// What it heard.
    pub heard: Vec<Input>,
}

impl Node for Mute {
    fn handle(&mut self, _now: Instant, input: Input, _tables: &mut dyn Tables) {
        if !matches!(input, Input::Wake) {
            self.heard.push(input);
        }
    }

    fn poll(&mut self, _tables: &mut dyn Tables) -> Option<Output> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}
