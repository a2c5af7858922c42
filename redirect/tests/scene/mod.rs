//! What these tests stand on: a server, tables over maps, a clock moved by hand, messages from text.

#![allow(unreachable_pub, dead_code, reason = "each test file uses its part of this one")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use proto::event::Event;
use proto::node::{Birth, Flow, Input, Lane, Node, Output};
use proto::node_auth::NodeKey;
use proto::sip::{Message, Name};
use proto::tables::{Binding, Fact, Limit, Secret, Tables, User};
use redirect::{Config, Redirect};

/// Where the server listens.
pub const SERVER: &str = "203.0.113.10:5060";
/// Our proxies.
pub const P1: &str = "203.0.113.1:5060";
pub const P2: &str = "203.0.113.2:5060";
/// Somebody.
pub const STRANGER: &str = "198.51.100.66:5060";

/// A server at work.
pub struct Scene {
    pub node: Redirect,
    pub tables: Maps,
    pub key: NodeKey,
    birth: Birth,
    passed: Duration,
    pub events: Vec<Event>,
    sent: Vec<(Flow, Message)>,
    numbers: u32,
}

impl Scene {
    pub fn new() -> Scene {
        Scene::with(|_| {})
    }

    /// With another configuration.
    pub fn with(change: impl FnOnce(&mut Config)) -> Scene {
        let key = NodeKey([9; 32]);
        let mut config = Config { key: Some(key.clone()), ..Config::default() };
        change(&mut config);
        let birth = birth();
        let node = Redirect::new(config, birth);
        Scene {
            node,
            tables: Maps::default(),
            key,
            birth,
            passed: Duration::ZERO,
            events: vec![],
            sent: vec![],
            numbers: 0,
        }
    }

    /// The process dies and comes back, with what was on disk.
    pub fn restart(&mut self) {
        self.birth = Birth { now: self.now(), wall: self.wall(), seed: [8; 32], ..self.birth };
        self.passed = Duration::ZERO;
        let config = Config { key: Some(self.key.clone()), ..Config::default() };
        self.node = Redirect::new(config, self.birth);
    }

    pub fn now(&self) -> Instant {
        self.birth.now + self.passed
    }

    pub fn wall(&self) -> SystemTime {
        self.birth.wall + self.passed
    }

    /// Moves the clock, waking the node whenever it asks to be.
    pub fn pass(&mut self, time: Duration) {
        let end = self.passed + time;
        for _ in 0..10_000 {
            let due = self.node.deadline().map(|at| at.saturating_duration_since(self.birth.now));
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.passed = self.passed.max(due);
            self.give(Input::Wake);
        }
        self.passed = end;
        self.give(Input::Wake);
    }

    pub fn give(&mut self, input: Input) {
        self.node.handle(self.now(), input, &mut self.tables);
        while let Some(output) = self.node.poll(&mut self.tables) {
            match output.on_the_wire() {
                Output::Send { flow, bytes, .. } => {
                    self.sent.push((flow, Message::parse(bytes).expect("the server writes well-formed SIP")));
                }
                Output::Event(event) => self.events.push(event),
                other => panic!("a redirect server does not want {other:?}"),
            }
        }
    }

    /// A message by UDP from there; everything sent because of it.
    pub fn hears(&mut self, from: &str, message: Message) -> Vec<Message> {
        self.sent.clear();
        let flow = Flow::udp(address(SERVER), address(from));
        self.give(Input::Message { flow, message });
        assert!(self.sent.iter().all(|(flow, _)| flow.remote == address(from)), "sent to a stranger");
        self.sent.drain(..).map(|(_, message)| message).collect()
    }

    /// What was sent since by itself.
    pub fn sent(&mut self) -> Vec<Message> {
        self.sent.drain(..).map(|(_, message)| message).collect()
    }

    /// The same message, signed by one of us.
    pub fn signed(&self, message: &Message) -> Message {
        let unix = self.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        self.key.sign(message, unix)
    }

    /// One signed request and its one answer.
    pub fn ask(&mut self, from: &str, request: &Message) -> Message {
        let signed = self.signed(request);
        let mut answers = self.hears(from, signed);
        assert_eq!(answers.len(), 1, "one answer");
        answers.remove(0)
    }

    /// A request with a branch and CSeq of its own.
    pub fn request(&mut self, method: &str, uri: &str, via: &str, headers: &str) -> Message {
        self.numbers += 1;
        let n = self.numbers;
        let to = if headers.contains("To:") { String::new() } else { format!("To: <{uri}>\r\n") };
        message(&format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bK{n}\r\nMax-Forwards: 70\r\n\
             From: <sip:p@example.com>;tag=f\r\n{to}Call-ID: call\r\nCSeq: {n} {method}\r\n{headers}\r\n"
        ))
    }

    /// A proxy says that it serves bob.
    pub fn register(&mut self, from: &str, contact: &str) -> Message {
        let request = self.registration(from, contact);
        self.ask(from, &request)
    }

    /// The same, not yet sent.
    pub fn registration(&mut self, via: &str, contact: &str) -> Message {
        let headers = format!("To: <sip:bob@example.com>\r\nContact: {contact}\r\n");
        self.request("REGISTER", "sip:redirect.example.com", via, &headers)
    }

    /// P1 asks who serves an address; ACK included.
    pub fn invite(&mut self, uri: &str) -> Message {
        let invite = self.request("INVITE", uri, P1, "");
        let answer = self.ask(P1, &invite);
        let cseq = invite.cseq().unwrap().number;
        let branch = invite.via().unwrap().branch().to_owned();
        let ack = message(&format!(
            "ACK {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {P1};branch={branch}\r\nFrom: <sip:p@example.com>;tag=f\r\n\
             To: {}\r\nCall-ID: call\r\nCSeq: {cseq} ACK\r\n\r\n",
            answer.text(Name::To).unwrap()
        ));
        assert!(self.hears(P1, ack).is_empty(), "an ACK is not answered");
        answer
    }

    /// Contacts of P1's answer when it asks for bob.
    pub fn hops(&mut self) -> Vec<String> {
        contacts(&self.invite("sip:bob@example.com"))
    }
}

#[allow(clippy::disallowed_methods, reason = "a test needs one Instant to count from")]
fn birth() -> Birth {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    Birth { now: Instant::now(), wall, seed: [7; 32], lane: Lane::default() }
}

/// A message from text.
pub fn message(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).expect("a test's message is well-formed")
}

/// Contact values as written.
pub fn contacts(message: &Message) -> Vec<String> {
    message.values(Name::Contact).map(str::to_owned).collect()
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// [`Tables`] over maps.
#[derive(Debug, Default)]
pub struct Maps {
    pub bindings: BTreeMap<String, Vec<Binding>>,
    pub users: Vec<String>,
    /// Whether strangers are within their limits.
    pub limited: bool,
}

impl Tables for Maps {
    fn bindings(&self, aor: &str) -> Vec<Binding> {
        self.bindings.get(aor).cloned().unwrap_or_default()
    }

    fn edit_bindings(&mut self, aor: &str, edit: &mut dyn FnMut(&mut Vec<Binding>)) -> Vec<Binding> {
        let list = self.bindings.entry(aor.to_owned()).or_default();
        edit(list);
        let now = list.clone();
        if now.is_empty() {
            self.bindings.remove(aor);
        }
        now
    }

    fn aors(&self) -> Vec<String> {
        self.bindings.keys().cloned().collect()
    }

    fn user(&self, _: &str) -> Option<Arc<User>> {
        None
    }

    fn owner(&self, aor: &str) -> Option<Arc<User>> {
        let user = |aor: &String| User {
            name: aor.clone(),
            secret: Secret::Password(String::new()),
            aors: vec![aor.clone()],
            anchor: None,
            srtp: None,
            latch: None,
            algorithms: Vec::new(),
        };
        self.users.iter().find(|own| *own == aor).map(user).map(Arc::new)
    }

    fn admit(&mut self, _: Instant, _: Limit, _: IpAddr) -> bool {
        !self.limited
    }

    fn use_nonce(&mut self, _: Instant, _: u64, _: u32) -> bool {
        true
    }

    fn remember(&mut self, _: Fact, _: &str) {}

    fn remembers(&self, _: Fact, _: &str) -> bool {
        false
    }
}
