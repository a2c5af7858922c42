//! A bench for stories of two proxies: [`Net`] carries their messages to one another, to a relay and a redirect server
//! that keep to the contract of `proto::control` and no more, and to phones that a story speaks for.

mod phone;
mod servers;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use proto::event::Event;
use proto::node::{Answer, Birth, Flow, Input, Lane, Node, Output, Question, Transport};
use proto::node_auth::NodeKey;
use proto::sip::Message;

use crate::config::{Config, Listener, MediaRange, Redirect, Relay, Siblings};
use crate::tests::testing::{Maps, address};
use crate::{Proxy, Status};

pub(crate) use phone::Phone;
pub(crate) use servers::{RedirectScript, RelayScript};

/// The proxy of a.example.
pub(crate) const P1: &str = "203.0.113.1:5060";
/// The proxy of b.example.
pub(crate) const P2: &str = "203.0.113.2:5060";
/// The relay both use.
pub(crate) const RELAY: &str = "203.0.113.9:5070";
/// The redirect server both use.
pub(crate) const REDIRECT: &str = "203.0.113.8:5060";
/// Where the relay's media comes from.
pub(crate) const MEDIA: &str = "203.0.113.9";

/// What our nodes prove themselves with.
pub(crate) const KEY: NodeKey = NodeKey([5; 32]);

/// Two proxies, a relay, a redirect server, phones.
pub(crate) struct Net {
    pub(crate) stations: BTreeMap<SocketAddr, Station>,
    pub(crate) relay: RelayScript,
    pub(crate) redirect: RedirectScript,
    /// Further addresses of a proxy.
    aliases: BTreeMap<SocketAddr, SocketAddr>,
    /// Names and where they lead, by UDP.
    pub(crate) dns: BTreeMap<String, SocketAddr>,
    /// Everything that left anybody, in order.
    pub(crate) wire: Vec<Packet>,
    pub(crate) events: Vec<(SocketAddr, Event)>,
    queue: VecDeque<Packet>,
    start: Instant,
    now: Instant,
}

/// A proxy and its tables.
pub(crate) struct Station {
    pub(crate) proxy: Proxy,
    pub(crate) tables: Maps,
}

/// One message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) message: Message,
}

/// A proxy of `domain` at `at`, that knows the other, the relay and the redirect server.
pub(crate) fn proxy_of(domain: &str, at: &str) -> Config {
    let listener = Listener {
        network: 0,
        transport: Transport::Udp,
        bind: address(at),
        advertise: address(at),
        authenticate: false,
        anchor: None,
        srtp: None,
        algorithms: Vec::new(),
        standing: Default::default(),
    };
    let media = MediaRange { ip: MEDIA.parse().unwrap(), ports: 20000..=29999 };
    let relay = Relay {
        name: "relay".into(),
        transport: Transport::Udp,
        address: address(RELAY),
        weight: 1,
        media: vec![media],
    };
    let redirect =
        Redirect { name: "redirect".into(), transport: Transport::Udp, address: address(REDIRECT) };
    Config {
        listeners: vec![listener],
        domains: vec![domain.into()],
        realm: domain.into(),
        relays: vec![relay],
        redirects: vec![redirect],
        siblings: Siblings {
            cidrs: vec!["203.0.113.1".parse().unwrap(), "203.0.113.2".parse().unwrap()],
            key: Some(KEY),
        },
        ..Config::default()
    }
}

impl Net {
    /// P1 and P2 as [`proxy_of`] makes them.
    #[expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    pub(crate) fn new() -> Net {
        let start = Instant::now();
        let mut net = Net {
            stations: BTreeMap::new(),
            relay: RelayScript::default(),
            redirect: RedirectScript::default(),
            aliases: BTreeMap::new(),
            dns: BTreeMap::new(),
            wire: Vec::new(),
            events: Vec::new(),
            queue: VecDeque::new(),
            start,
            now: start,
        };
        net.place(P1, proxy_of("a.example", P1), Maps::default(), 1);
        net.place(P2, proxy_of("b.example", P2), Maps::default(), 2);
        net
    }

    fn place(&mut self, at: &str, config: Config, tables: Maps, seed: u8) {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600) + (self.now - self.start);
        let birth = Birth { now: self.now, wall, seed: [seed; 32], lane: Lane::default() };
        let proxy = Proxy::new(Arc::new(config), birth);
        self.stations.insert(address(at), Station { proxy, tables });
    }

    /// Changes a proxy's configuration before the story begins.
    pub(crate) fn configure(&mut self, at: &str, change: impl FnOnce(&mut Config)) {
        let mut config = (*self.stations[&address(at)].proxy.config).clone();
        change(&mut config);
        self.place(at, config, Maps::default(), 3);
    }

    /// Kills a proxy and starts it again: its tables stay, nothing else.
    pub(crate) fn restart(&mut self, at: &str) {
        let station = self.stations.remove(&address(at)).unwrap();
        self.place(at, (*station.proxy.config).clone(), station.tables, 9);
    }

    /// A proxy has another listener.
    pub(crate) fn also_at(&mut self, at: &str, proxy: &str) {
        self.aliases.insert(address(at), address(proxy));
    }

    pub(crate) fn status(&self, at: &str) -> Status {
        self.stations[&address(at)].proxy.status()
    }

    /// A phone says something, and everybody else reacts until nothing moves any more. What phones got on the way.
    pub(crate) fn say(&mut self, from: &str, to: &str, message: Message) -> Vec<Packet> {
        self.queue.push_back(Packet { from: address(from), to: address(to), message });
        self.settle()
    }

    /// Lets time pass. What phones got on the way.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Packet> {
        let until = self.now + time;
        let mut got = vec![];
        while let Some((at, who)) = self.next_deadline().filter(|(at, _)| *at <= until) {
            self.now = self.now.max(at);
            self.input(who, Input::Wake);
            got.extend(self.settle());
        }
        self.now = until;
        got
    }

    fn next_deadline(&self) -> Option<(Instant, SocketAddr)> {
        self.stations.iter().filter_map(|(at, station)| Some((station.proxy.deadline()?, *at))).min()
    }

    fn settle(&mut self) -> Vec<Packet> {
        let mut phones = vec![];
        while let Some(packet) = self.queue.pop_front() {
            self.wire.push(packet.clone());
            assert!(self.wire.len() < 20_000, "messages go round in circles");
            let station = self.aliases.get(&packet.to).copied().unwrap_or(packet.to);
            let answer = match packet.to {
                to if self.stations.contains_key(&station) => {
                    let flow = Flow::udp(to, packet.from);
                    self.input(station, Input::Message { flow, message: packet.message });
                    continue;
                }
                to if to == address(RELAY) => self.relay.answer(&packet.message, unix(self.start, self.now)),
                to if to == address(REDIRECT) => {
                    let answer = self.redirect.answer(&packet.message);
                    answer.map(|answer| KEY.sign(&answer, unix(self.start, self.now)))
                }
                _ => {
                    phones.push(packet);
                    continue;
                }
            };
            let back = |message| Packet { from: packet.to, to: packet.from, message };
            self.queue.extend(answer.map(back));
        }
        phones
    }

    fn input(&mut self, at: SocketAddr, input: Input) {
        let mut answers = vec![];
        let station = self.stations.get_mut(&at).unwrap();
        station.proxy.handle(self.now, input, &mut station.tables);
        while let Some(output) = station.proxy.poll(&mut station.tables) {
            match output.on_the_wire() {
                Output::Send { flow, bytes, .. } => {
                    // What came broken in a part we don't look at leaves so.
                    let Ok(message) = Message::parse(bytes) else {
                        assert!(self.relay.lenient, "what we send is SIP");
                        continue;
                    };
                    self.queue.push_back(Packet { from: flow.local, to: flow.remote, message });
                }
                Output::Event(event) => self.events.push((at, event)),
                Output::Ask { ticket, question: Question::Resolve { host, .. } } => {
                    let answer = match self.dns.get(&host) {
                        Some(found) => Answer::Targets(vec![(Transport::Udp, *found)]),
                        None => Answer::Nothing("no such name".into()),
                    };
                    answers.push(Input::Answer { ticket, answer });
                }
                other => panic!("a proxy does not {other:?} here"),
            }
        }
        answers.into_iter().for_each(|answer| self.input(at, answer));
    }

    /// Who asked whom what, in order: `P1 INVITE relay`, `P1 200 1.2.3.4:5`.
    pub(crate) fn steps(&self) -> Vec<String> {
        let name = |at: SocketAddr| match at.to_string().as_str() {
            P1 => "P1".to_string(),
            P2 => "P2".to_string(),
            RELAY => "relay".to_string(),
            REDIRECT => "redirect".to_string(),
            phone => phone.to_string(),
        };
        let what = |m: &Message| m.status().map_or(m.method().as_str().to_string(), |s| s.to_string());
        let told = |p: &Packet| format!("{} {} {}", name(p.from), what(&p.message), name(p.to));
        self.wire.iter().map(told).collect()
    }
}

/// The wall clock of a [`Net`].
fn unix(start: Instant, now: Instant) -> u64 {
    1_767_225_600 + (now - start).as_secs()
}

/// The first request of this method that reached `phone`.
pub(crate) fn asked(got: &[Packet], phone: &Phone, method: &str) -> Option<Packet> {
    let to = address(&phone.seen_at);
    let is_it = |p: &&Packet| p.to == to && p.message.is_request() && p.message.method().as_str() == method;
    got.iter().find(is_it).cloned()
}

/// The responses that reached `phone`.
pub(crate) fn told(got: &[Packet], phone: &Phone) -> Vec<Message> {
    let to = address(&phone.seen_at);
    got.iter().filter(|p| p.to == to && !p.message.is_request()).map(|p| p.message.clone()).collect()
}

/// The SDP of a message as text; "" when it has none.
pub(crate) fn sdp_of(message: &Message) -> String {
    message.sdp().map(|(_, sdp)| String::from_utf8_lossy(sdp).into_owned()).unwrap_or_default()
}
