//! The cast of system 1 in the simulated world: alice's site with proxy P1, bob's site with proxy P2, a relay and a
//! redirect server on the internet. Every story begins with a [`Plot`] and ends with [`Cast::assert_clean`].
//!
//! ```text
//!  alice 10.0.0.2 ─ NAT 198.51.100.1 ─┐   P1 203.0.113.1   P2 203.0.113.2   ┌─ NAT 198.51.100.2 ─ 10.0.0.2 bob
//!  alice 192.0.2.10 (public) ─────────┴── relay .50 ── redirect .60 ────────┴──────── (public) 192.0.2.20 bob
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use endpoint_sim::{Act, After, Answer, Phone, PhoneConfig, Report, Script, Step};
use proto::control::Mode;
use proto::node::Transport;
use proto::node_auth::NodeKey;
use proto::tables::{Secret, Srtp, User};
use proxy::config::{Listener, MediaRange, Siblings};

use crate::world::{Entry, Fate, GatewayId, HostId, INTERNET, NodeId, Realm, Rules, World};

/// P1's address.
pub const P1: &str = "203.0.113.1:5060";
/// P2's address.
pub const P2: &str = "203.0.113.2:5060";
/// The relay's address.
pub const RELAY: &str = "203.0.113.50:5060";
/// The redirect server's address.
pub const REDIRECT: &str = "203.0.113.60:5060";

/// Where a phone lives: in public, or behind a NAT.
pub type Site = Option<Rules>;

/// The five sites, by name.
pub const SITES: [(&str, Site); 5] = [
    ("none", None),
    ("full", Some(Rules::FULL_CONE)),
    ("addr", Some(Rules::ADDRESS_RESTRICTED)),
    ("port", Some(Rules::PORT_RESTRICTED)),
    ("sym", Some(Rules::SYMMETRIC)),
];

/// What is to be played.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What chance decides.
    pub seed: u64,
    /// Where alice and bob live.
    pub sites: [Site; 2],
    /// When alice does what.
    pub alice: Script,
    /// When bob does what.
    pub bob: Script,
    /// Sessions the relay takes at a time.
    pub relay_sessions: usize,
    /// How the phones reach their proxies.
    pub transport: Transport,
    /// How bob does, if otherwise.
    pub bob_by: Option<Transport>,
    /// How many ports a relay session has.
    pub mode: Mode,
    /// The relay has this one port for all calls.
    pub one_port: Option<u16>,
    /// Who of alice and bob talks SRTP alone.
    pub srtp: [bool; 2],
}

impl Default for Plot {
    /// Both behind port-restricted NATs. Alice calls bob two seconds after she has registered, and hangs up three
    /// seconds after he has answered.
    fn default() -> Self {
        Plot {
            seed: 1,
            sites: [Some(Rules::PORT_RESTRICTED); 2],
            alice: alice_calls(3000),
            bob: script(vec![]),
            relay_sessions: 1000,
            transport: Transport::Udp,
            bob_by: None,
            mode: Mode::Split,
            one_port: None,
            srtp: [false; 2],
        }
    }
}

/// Registers, then takes these steps. Phones of the world are patient: their scripts end after an hour.
pub fn script(steps: Vec<Step>) -> Script {
    let mut all = vec![Step::new(Act::Register, After::Start, 0)];
    all.extend(steps);
    Script { answer: Answer { after_ms: 500, ..Answer::default() }, steps: all, until_ms: 3_600_000 }
}

/// Alice calls bob and hangs up so long after he has answered.
pub fn alice_calls(talk_ms: u64) -> Script {
    script(vec![
        Step::call("sip:bob@example.com", After::Registered, 2000),
        Step::new(Act::HangUp, After::Answered, talk_ms),
    ])
}

/// Everybody in place.
#[allow(missing_docs, reason = "the names say it")]
pub struct Cast {
    pub world: World,
    pub p1: NodeId,
    pub p2: NodeId,
    pub relay: NodeId,
    pub redirect: NodeId,
    pub alice: NodeId,
    pub bob: NodeId,
    pub mobile: Option<NodeId>,
    pub hosts: [HostId; 2],
    pub nats: [Option<GatewayId>; 2],
}

impl Plot {
    /// Raises the curtain.
    pub fn begin(self) -> Cast {
        let mut world = World::new(self.seed);
        let mut nats = [None; 2];
        let mut homes = [(INTERNET, "192.0.2.10"), (INTERNET, "192.0.2.20")];
        for (n, external) in ["198.51.100.1", "198.51.100.2"].into_iter().enumerate() {
            if let Some(rules) = self.sites[n] {
                let nat = world.nat(["nat-a", "nat-b"][n], INTERNET, external, rules);
                nats[n] = Some(nat);
                homes[n] = (world.inside(nat), "10.0.0.2");
            }
        }
        let by = |transport, srtp| {
            move |config: &mut PhoneConfig| (config.transport, config.srtp) = (transport, srtp)
        };
        let alice_by = by(self.transport, self.srtp[0]);
        let bob_by = by(self.bob_by.unwrap_or(self.transport), self.srtp[1]);
        let proxy = |at| proxy::Config { relay_mode: self.mode, ..proxy_config(at) };
        let (a, alice) = add_phone_with(&mut world, homes[0], "alice", P1, self.alice, alice_by);
        let p1 = add_proxy_with(&mut world, "P1", P1, proxy(P1));
        let relay = add_relay_with(&mut world, |relay| {
            relay.sessions = self.relay_sessions;
            if let Some(port) = self.one_port {
                relay.one_port = true;
                (relay.ports, relay.all_ports) = (port..=port, port..=port);
            }
        });
        let redirect = add_redirect(&mut world);
        let p2 = add_proxy_with(&mut world, "P2", P2, proxy(P2));
        for (name, proxy) in ["alice", "bob"]
            .into_iter()
            .zip([p1, p2])
            .zip(self.srtp)
            .filter_map(|(who, srtp)| srtp.then_some(who))
        {
            world.tables(proxy).add_user(User { srtp: Some(Srtp::Sdes), ..user(name) });
        }
        let (b, bob) = add_phone_with(&mut world, homes[1], "bob", P2, self.bob, bob_by);
        Cast { world, p1, p2, relay, redirect, alice, bob, mobile: None, hosts: [a, b], nats }
    }

    /// Raises the curtain and plays until alice's call has ended, or never began, and everything is cleared away.
    pub fn play(self) -> Cast {
        let mut cast = self.begin();
        cast.until_alice_is_done();
        cast.assert_clean();
        cast
    }
}

impl Cast {
    /// A second phone of bob's, in public: calls to him fork.
    pub fn add_mobile(&mut self, answer: Answer) -> NodeId {
        self.add_mobile_wanted(answer, 1000)
    }

    /// A second phone of bob's that is wanted so much, in thousandths.
    pub fn add_mobile_wanted(&mut self, answer: Answer, q: u16) -> NodeId {
        let script = Script { answer, ..script(vec![]) };
        let home = (INTERNET, "192.0.2.30");
        let (_, mobile) = add_phone_with(&mut self.world, home, "bob", P2, script, |config| config.q = q);
        self.mobile = Some(mobile);
        mobile
    }

    /// What a phone saw.
    pub fn report(&self, phone: NodeId) -> &Report {
        self.world.node::<Phone>(phone).report()
    }

    /// Runs until alice's call is up.
    pub fn until_answered(&mut self) {
        let alice = self.alice;
        let up = self.world.run_until(|w| w.node::<Phone>(alice).report().answered, Duration::from_secs(60));
        assert!(up, "nobody answered\n{}", self.world.ladder());
    }

    /// Runs until alice's call is over.
    pub fn until_alice_is_done(&mut self) {
        let alice = self.alice;
        let is_over = |w: &World| w.node::<Phone>(alice).report().ended_by.is_some();
        let done = self.world.run_until(is_over, Duration::from_secs(600));
        assert!(done, "alice is never done\n{}", self.world.ladder());
    }

    /// Whether nothing of any call is left: no port lent, no call, no transaction. Three may be under way: keep-alives
    /// to the phones.
    pub fn is_clean(world: &World, relay: NodeId, proxies: [NodeId; 2]) -> bool {
        let relay = world.node::<relay::Relay>(relay).status();
        let idle = |node| {
            let status = world.node::<proxy::Proxy>(node).status();
            (status.calls, status.relay_sessions) == (0, 0) && status.transactions <= 3
        };
        relay.sessions == 0 && relay.ports.leased == 0 && proxies.into_iter().all(idle)
    }

    /// Nothing is left of any call within two minutes.
    pub fn assert_clean(&mut self) {
        self.assert_clean_within(Duration::from_secs(120));
    }

    /// Nothing is left of any call within this time.
    pub fn assert_clean_within(&mut self, limit: Duration) {
        let (relay, proxies) = (self.relay, [self.p1, self.p2]);
        let end = self.world.now() + limit;
        while !Cast::is_clean(&self.world, relay, proxies) && self.world.now() < end {
            self.world.run_for(Duration::from_secs(1));
        }
        let clean = Cast::is_clean(&self.world, relay, proxies);
        let left = || {
            let relay = self.world.node::<relay::Relay>(relay).status();
            let proxies = proxies.map(|node| self.world.node::<proxy::Proxy>(node).status());
            format!("left behind: {relay:?} {proxies:?}")
        };
        assert!(clean, "{}\n{}", left(), self.world.ladder());
    }

    /// Alice and bob heard each other, and nobody else, both ways.
    pub fn assert_audio_both_ways(&self) {
        let (alice, bob) = (self.report(self.alice), self.report(self.bob));
        let fine = alice.heard_only("bob@example.com")
            && bob.heard_only("alice@example.com")
            && alice.audio_both_ways
            && bob.audio_both_ways;
        assert!(fine, "{alice:#?}\n{bob:#?}\n{}", self.world.ladder());
    }

    /// Titles of the SIP messages that arrived from one node at another, in order.
    pub fn between(&self, from: NodeId, to: NodeId) -> Vec<String> {
        let fits = |entry: &&Entry| entry.from == from && entry.receiver() == Some(to);
        self.world.packets().iter().filter(fits).filter_map(Entry::title).collect()
    }

    /// Where the first message of this title from one node to another stands in the record.
    pub fn place(&self, from: NodeId, to: NodeId, title: &str) -> usize {
        let fits = |entry: &Entry| {
            entry.from == from
                && entry.receiver() == Some(to)
                && entry.title().is_some_and(|t| t.starts_with(title))
        };
        let found = self.world.packets().iter().position(fits);
        found.unwrap_or_else(|| panic!("no {title}\n{}", self.world.ladder()))
    }

    /// Whether these words stand in any message that a node received.
    pub fn heard_by(&self, node: NodeId, words: &str) -> bool {
        let contains = |entry: &Entry| entry.bytes.windows(words.len()).any(|w| w == words.as_bytes());
        self.world.packets().iter().any(|entry| entry.receiver() == Some(node) && contains(entry))
    }

    /// Media addresses of the relay that were sent to, in order.
    pub fn relay_ports(&self) -> Vec<SocketAddr> {
        let relay = addr(RELAY).ip();
        let mut ports: Vec<SocketAddr> = Vec::new();
        for entry in self.world.packets().iter().filter(|e| e.transport.is_none() && e.sent.1.ip() == relay) {
            if !ports.contains(&entry.sent.1) {
                ports.push(entry.sent.1);
            }
        }
        ports
    }

    /// Media goes from phones to the relay or the other phone, and from the relay to phones: nowhere else, not even
    /// in vain.
    pub fn assert_no_media_to_strangers(&self) {
        let known = [self.alice, self.bob, self.relay, self.mobile.unwrap_or(self.bob)];
        for entry in self.world.packets().iter().filter(|entry| entry.transport.is_none()) {
            if let Fate::Arrived { to, .. } = &entry.fate {
                assert!(known.contains(to), "media reached a stranger: {entry:?}\n{}", self.world.ladder());
            }
        }
    }
}

/// A ladder with what chance chose taken out, so that it tells the same however often the dice were thrown before:
/// relay sessions' names, and the relay's ports by the order in which they appear.
pub fn without_chance(ladder: &str) -> String {
    let mut ports: Vec<u16> = Vec::new();
    let mut text = String::new();
    for word in ladder.split_inclusive([' ', ':', '@', '[', ']', '|', '-', '=']) {
        let end = word.len() - usize::from(!word.ends_with(|c: char| c.is_alphanumeric()));
        let (core, rest) = word.split_at(end);
        match core.parse::<u16>() {
            Ok(port @ 30_000..=39_999) => {
                let pair = port & !1;
                let place = ports.iter().position(|p| *p == pair).unwrap_or_else(|| {
                    ports.push(pair);
                    ports.len() - 1
                });
                text.push_str(if port == pair { "port" } else { "rtcp" });
                text.push(char::from(b'A' + place as u8 % 26));
            }
            _ if core.len() == 16 && core.bytes().all(|b| b.is_ascii_hexdigit()) => {
                text.push_str("SESSION-OF-MEDIA")
            }
            _ => text.push_str(core),
        }
        text.push_str(rest);
    }
    text
}

/// A phone at `(realm, address)`, with an account at its proxy.
pub fn add_phone(
    world: &mut World,
    home: (Realm, &str),
    user: &str,
    proxy: &str,
    script: Script,
) -> (HostId, NodeId) {
    add_phone_with(world, home, user, proxy, script, |_| ())
}

/// A phone with something else in its settings.
pub fn add_phone_with(
    world: &mut World,
    (realm, ip): (Realm, &str),
    user: &str,
    proxy: &str,
    script: Script,
    set: impl Fn(&mut PhoneConfig),
) -> (HostId, NodeId) {
    let host = world.host(realm, ip);
    let local = SocketAddr::new(ip.parse().unwrap_or_else(|_| panic!("not an address: {ip}")), 5060);
    let mut config = PhoneConfig::new(user, "example.com", local, addr(proxy));
    config.password = Some(format!("{user}'s secret"));
    set(&mut config);
    let listeners = everywhere(local);
    let birth = move |birth| Phone::new(birth, config.clone(), script.clone());
    (host, world.attach(host, user, &listeners.each_ref().map(String::as_str), birth))
}

/// A proxy at an address of the internet.
pub fn add_proxy(world: &mut World, name: &str, at: &str) -> NodeId {
    add_proxy_with(world, name, at, proxy_config(at))
}

/// A proxy with another configuration.
pub fn add_proxy_with(world: &mut World, name: &str, at: &str, config: proxy::Config) -> NodeId {
    let host = world.host(INTERNET, &addr(at).ip().to_string());
    let config = Arc::new(config);
    let listeners = everywhere(addr(at));
    let birth = move |birth| proxy::Proxy::new(config.clone(), birth);
    let node = world.attach(host, name, &listeners.each_ref().map(String::as_str), birth);
    add_users(world, node);
    node
}

/// Listeners for every transport.
fn everywhere(at: SocketAddr) -> [String; 5] {
    ALL.map(|transport| format!("{transport} {at}"))
}

/// Every transport.
pub const ALL: [Transport; 5] =
    [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

/// Accounts of alice, bob and carol.
pub fn add_users(world: &mut World, proxy: NodeId) {
    for name in ["alice", "bob", "carol"] {
        world.tables(proxy).add_user(user(name));
    }
}

fn user(name: &str) -> User {
    User {
        name: name.to_owned(),
        secret: Secret::Password(format!("{name}'s secret")),
        aors: vec![format!("{name}@example.com")],
        anchor: None,
        srtp: None,
        latch: None,
        algorithms: Vec::new(),
    }
}

/// How P1 and P2 are configured.
pub fn proxy_config(at: &str) -> proxy::Config {
    let listener = |transport| Listener {
        network: 0,
        transport,
        bind: addr(at),
        advertise: addr(at),
        authenticate: true,
        anchor: None,
        srtp: None,
        algorithms: Vec::new(),
        standing: Default::default(),
    };
    let media = MediaRange { ip: addr(RELAY).ip(), ports: 30_000..=39_999 };
    proxy::Config {
        listeners: ALL.map(listener).to_vec(),
        domains: vec!["example.com".to_owned()],
        realm: "example.com".to_owned(),
        relays: vec![proxy::config::Relay {
            name: "relay".to_owned(),
            transport: Transport::Udp,
            address: addr(RELAY),
            weight: 1,
            media: vec![media],
        }],
        redirects: vec![proxy::config::Redirect {
            name: "redirect".to_owned(),
            transport: Transport::Udp,
            address: addr(REDIRECT),
        }],
        siblings: Siblings { cidrs: vec!["203.0.113.0/24".parse().expect("a range")], key: Some(KEY) },
        ..proxy::Config::default()
    }
}

/// The relay, for so many sessions at a time.
pub fn add_relay(world: &mut World, sessions: usize) -> NodeId {
    add_relay_with(world, |relay| relay.sessions = sessions)
}

fn add_relay_with(world: &mut World, change: impl FnOnce(&mut relay::Config)) -> NodeId {
    let ip = addr(RELAY).ip();
    let mut config = relay::Config {
        networks: vec![relay::Network { name: "default".to_owned(), bind: ip, advertise: ip }],
        reserve: 4,
        key: Some(KEY),
        ..relay::Config::default()
    };
    change(&mut config);
    let host = world.host(INTERNET, &ip.to_string());
    world.attach(host, "relay", &[&format!("udp {RELAY}")], move |birth| {
        relay::Relay::new(birth, config.clone())
    })
}

fn add_redirect(world: &mut World) -> NodeId {
    let config = redirect::Config { key: Some(KEY), ..redirect::Config::default() };
    let host = world.host(INTERNET, &addr(REDIRECT).ip().to_string());
    let birth = move |birth| redirect::Redirect::new(config.clone(), birth);
    world.attach(host, "redirect", &[&format!("udp {REDIRECT}")], birth)
}

const KEY: NodeKey = NodeKey([7; 32]);

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("not an address and port: {text}"))
}
