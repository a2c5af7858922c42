//! Phones on a wire: a clock, 10 ms of latency, a little loss if wanted, and a registrar that forwards calls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use endpoint_sim::{Phone, PhoneConfig, Report, Script};
use proto::digest::{self, Algorithm};
use proto::event::Event;
use proto::node::{Birth, Flow, Input, Lane, Node, Output, SocketId};
use proto::sip::{Message, Method, Name, reply};
use proto::tables::{Binding, Fact, Limit, Secret, Tables, User};

/// Where the registrar is.
pub(crate) const REGISTRAR: &str = "192.0.2.100:5060";
const LATENCY: Duration = Duration::from_millis(10);

/// Everything that is.
pub(crate) struct Wire {
    pub(crate) now: Instant,
    phones: Vec<(SocketAddr, Phone)>,
    flying: BTreeMap<(Instant, u64), Datagram>,
    sockets: BTreeMap<SocketAddr, (usize, SocketId)>,
    flown: u64,
    /// Every n-th datagram is lost.
    pub(crate) loses: Option<u64>,
    /// What registering takes: algorithm and password.
    pub(crate) secret: Option<(Algorithm, &'static str)>,
    /// Whether no port can be opened.
    pub(crate) forbids_ports: bool,
    /// Media ports that something arrived on.
    pub(crate) ports_heard: BTreeSet<u16>,
    /// SIP messages that arrived, by their first words.
    pub(crate) ladder: Vec<String>,
    events: Vec<(usize, Event)>,
}

struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Bytes,
}

impl Wire {
    #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    pub(crate) fn new() -> Wire {
        Wire {
            now: Instant::now(),
            phones: Vec::new(),
            flying: BTreeMap::new(),
            sockets: BTreeMap::new(),
            flown: 0,
            loses: None,
            secret: None,
            forbids_ports: false,
            ports_heard: BTreeSet::new(),
            ladder: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A phone `name@x` at `192.0.2.n`.
    pub(crate) fn phone(
        &mut self,
        name: &str,
        n: u8,
        configure: impl FnOnce(&mut PhoneConfig),
        script: Script,
    ) -> usize {
        let local = SocketAddr::from(([192, 0, 2, n], 5060));
        let mut config = PhoneConfig::new(name, "x", local, REGISTRAR.parse().unwrap());
        configure(&mut config);
        let birth =
            Birth { now: self.now, wall: SystemTime::UNIX_EPOCH, seed: [n; 32], lane: Lane::default() };
        self.phones.push((local, Phone::new(birth, config, script)));
        self.phones.len() - 1
    }

    pub(crate) fn report(&self, phone: usize) -> &Report {
        self.phones[phone].1.report()
    }

    pub(crate) fn is_done(&self, phone: usize) -> bool {
        self.phones[phone].1.is_done()
    }

    /// Ports that are open.
    pub(crate) fn open_ports(&self) -> usize {
        self.sockets.len()
    }

    /// Whether such a message arrived.
    pub(crate) fn saw(&self, words: &str) -> bool {
        self.ladder.iter().any(|line| line.starts_with(words))
    }

    /// What a phone told as it happened, in short.
    pub(crate) fn told(&self, phone: usize) -> Vec<String> {
        let own = self.events.iter().filter(|(whose, _)| *whose == phone);
        own.map(|(_, event)| match event {
            Event::PhoneRegistered { registered, status, .. } => format!("registered: {registered} {status}"),
            Event::PhoneCall { with, turn, .. } => format!("{with}: {turn:?}"),
            other => panic!("a phone does not tell {other:?}"),
        })
        .collect()
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for phone in 0..self.phones.len() {
            self.tell(phone, Input::Wake);
        }
        for _ in 0..1_000_000 {
            let arrival = self.flying.keys().next().map(|key| key.0);
            let wakes = self.phones.iter().filter_map(|(_, phone)| phone.deadline());
            let Some(next) = wakes.chain(arrival).min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            match self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
                Some(entry) => {
                    let datagram = entry.remove();
                    self.arrive(datagram);
                }
                None => {
                    let due = |(_, p): &(SocketAddr, Phone)| p.deadline().is_some_and(|at| at <= self.now);
                    let Some(phone) = self.phones.iter().position(due) else { continue };
                    self.tell(phone, Input::Wake);
                }
            }
        }
        self.now = end;
    }

    fn tell(&mut self, phone: usize, input: Input) {
        self.phones[phone].1.handle(self.now, input, &mut NoTables);
        let outputs: Vec<Output> = std::iter::from_fn(|| self.phones[phone].1.poll(&mut NoTables)).collect();
        outputs.into_iter().for_each(|output| self.carry_out(phone, output));
    }

    fn carry_out(&mut self, phone: usize, output: Output) {
        match output.on_the_wire() {
            Output::Send { flow, bytes, .. } => self.fly(flow.local, flow.remote, bytes),
            Output::SendMedia { socket, to, bytes } => {
                let from = self.sockets.iter().find(|(_, at)| **at == (phone, socket)).map(|(addr, _)| *addr);
                self.fly(from.expect("it sends from an open port"), to, bytes);
            }
            Output::Bind { ticket, local } if self.forbids_ports => {
                self.tell(phone, Input::BindFailed { ticket, local, why: "forbidden".into() });
            }
            Output::Bind { ticket, local } => {
                assert!(!self.sockets.contains_key(&local), "the port is free");
                let socket = SocketId(u32::from(local.port()));
                self.sockets.insert(local, (phone, socket));
                self.tell(phone, Input::Bound { ticket, socket, local });
            }
            Output::Release { socket } => {
                let before = self.sockets.len();
                self.sockets.retain(|_, at| *at != (phone, socket));
                assert_eq!(self.sockets.len() + 1, before, "it releases what it has");
            }
            Output::Event(event) => self.events.push((phone, event)),
            other => panic!("a phone has no use for {other:?}"),
        }
    }

    fn fly(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        self.flown += 1;
        if self.loses.is_none_or(|n| !self.flown.is_multiple_of(n)) {
            self.flying.insert((self.now + LATENCY, self.flown), Datagram { from, to, bytes });
        }
    }

    fn arrive(&mut self, Datagram { from, to, bytes }: Datagram) {
        if let Some(&(phone, socket)) = self.sockets.get(&to) {
            self.ports_heard.insert(to.port());
            return self.tell(phone, Input::Media { socket, from, bytes });
        }
        let Ok(message) = Message::parse(bytes) else { return };
        let text = String::from_utf8_lossy(message.bytes()).into_owned();
        if to == REGISTRAR.parse().unwrap() {
            return self.register_or_forward(from, message);
        }
        let Some(phone) = self.phones.iter().position(|(local, _)| *local == to) else { return };
        self.ladder.push(text.lines().next().unwrap_or("").to_string());
        self.tell(phone, Input::Message { flow: Flow::udp(to, from), message });
    }

    fn register_or_forward(&mut self, from: SocketAddr, message: Message) {
        let registrar = REGISTRAR.parse().unwrap();
        if message.method() == Method::Register {
            let response = self.register(&message);
            return self.fly(registrar, from, response.bytes().clone());
        }
        if !message.is_request() {
            let message = message.edit().pop_front(Name::Via).finish();
            let to = message.via().unwrap().sent_by().parse().unwrap();
            return self.fly(registrar, to, message.bytes().clone());
        }
        let branch = message.via().unwrap().branch().to_string();
        for (n, to) in self.targets(from, &message).into_iter().enumerate() {
            let via = format!("SIP/2.0/UDP {REGISTRAR};branch={branch}x{n}");
            let forwarded = message.edit().push_front(Name::Via, &via).finish();
            self.fly(registrar, to, forwarded.bytes().clone());
        }
    }

    /// Every phone of that user; in a dialog the request URI names one.
    fn targets(&self, from: SocketAddr, message: &Message) -> Vec<SocketAddr> {
        let uri = message.uri().unwrap();
        let named: Vec<_> =
            self.phones.iter().map(|(at, _)| *at).filter(|at| uri.host == at.ip().to_string()).collect();
        let of_user = |phone: &&(SocketAddr, Phone)| phone.1.report().name == format!("{}@x", uri.user);
        let users = self.phones.iter().filter(of_user).map(|(at, _)| *at);
        if named.is_empty() { users.filter(|at| *at != from).collect() } else { named }
    }

    fn register(&self, request: &Message) -> Message {
        let Some((algorithm, password)) = self.secret else { return granted(request) };
        let covered = digest::Request { method: "REGISTER", body: b"" };
        let proof = request.text(Name::Authorization);
        if proof.is_some_and(|proof| digest::verify(proof, &Secret::Password(password.into()), covered)) {
            return granted(request);
        }
        let challenge = digest::challenge("x", "abc", algorithm, false);
        reply(request, 401, "r").header(Name::WwwAuthenticate, challenge).finish()
    }
}

fn granted(request: &Message) -> Message {
    let expires = request.expires().unwrap_or(0).min(20);
    let contact = request.text(Name::Contact).unwrap();
    reply(request, 200, "r").header(Name::Contact, format_args!("{contact};expires={expires}")).finish()
}

/// A phone asks no tables.
struct NoTables;

impl Tables for NoTables {
    fn bindings(&self, _: &str) -> Vec<Binding> {
        unreachable!()
    }
    fn edit_bindings(&mut self, _: &str, _: &mut dyn FnMut(&mut Vec<Binding>)) -> Vec<Binding> {
        unreachable!()
    }
    fn aors(&self) -> Vec<String> {
        unreachable!()
    }
    fn user(&self, _: &str) -> Option<Arc<User>> {
        unreachable!()
    }
    fn owner(&self, _: &str) -> Option<Arc<User>> {
        unreachable!()
    }
    fn admit(&mut self, _: Instant, _: Limit, _: IpAddr) -> bool {
        unreachable!()
    }
    fn use_nonce(&mut self, _: Instant, _: u64, _: u32) -> bool {
        unreachable!()
    }
    fn remember(&mut self, _: Fact, _: &str) {
        unreachable!()
    }
    fn remembers(&self, _: Fact, _: &str) -> bool {
        unreachable!()
    }
}
