//! Who can reach whom: the table of [`proto::peer::reach`], cell by cell against NATs of RFC 4787, counted on the wire.
//!
//! Two endpoints learn their outside addresses from a STUN server; then each plays its part in the opening, and the
//! initiator sends a message as soon as it knows where to.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use access::StunServer;
use bytes::Bytes;
use conformance::company::verdict;
use conformance::world::{Dependence, Fate, INTERNET, NodeId, Ports, Rules, World};
use endpoint_sim::peer::opening::{Opening, PairKey, Part, Plan, SPRAY};
use proto::node::{Birth, Dice, Flow, Input, Node, Output, Ticket};
use proto::peer::nat::{self, Verdict};
use proto::peer::reach::{Path, Policy, Reach, Side, reach};
use proto::stun::{self, Server, Writer};
use proto::tables::Tables;

const STUN: &str = "203.0.113.10:3478";
const MS: Duration = Duration::from_millis(1);

/// One endpoint with a main socket.
struct Prober {
    local: SocketAddr,
    dice: Dice,
    now: Instant,
    external: Option<SocketAddr>,
    opening: Option<Opening>,
    /// When the message is sent once more.
    repeat: VecDeque<Instant>,
    heard: Vec<(SocketAddr, Instant)>,
    out: VecDeque<Output>,
}

const MESSAGE: &[u8] = b"\xffonline";

impl Prober {
    fn new(birth: Birth, local: SocketAddr) -> Prober {
        let mut prober = Prober {
            local,
            dice: birth.dice(1),
            now: birth.now,
            external: None,
            opening: None,
            repeat: VecDeque::new(),
            heard: Vec::new(),
            out: VecDeque::new(),
        };
        let bytes = Writer::request([1; 12]).finish().into();
        let flow = Flow::udp(local, STUN.parse().unwrap());
        prober.out.push_back(Output::Send { flow, bytes, ticket: Ticket(0) });
        prober
    }

    fn begin(&mut self, now: Instant, plan: Plan) {
        if plan.part == Part::Initiator {
            self.repeat = [0, 100, 300, 700, 1500, 2000].map(|ms| now + ms * MS).into();
        }
        let mut opening = Opening::new(now, plan);
        opening.wake(now, &mut self.dice, &mut self.out);
        self.opening = Some(opening);
    }

    /// Sends the message if it is due and it is known where to.
    fn say(&mut self) {
        while self.repeat.front().is_some_and(|at| *at <= self.now) {
            self.repeat.pop_front();
            let Some(way) = self.opening.as_ref().and_then(Opening::way) else { continue };
            let bytes = Bytes::from_static(MESSAGE);
            let flow = Flow::udp(self.local, way.remote);
            self.out.push_back(match way.socket {
                Some(socket) => Output::SendMedia { socket, to: way.remote, bytes },
                None => Output::Send { flow, bytes, ticket: Ticket(0) },
            });
        }
    }

    fn receive(&mut self, by: Option<proto::node::SocketId>, from: SocketAddr, bytes: &[u8]) {
        if bytes == MESSAGE {
            return self.heard.push((from, self.now));
        }
        let Some(opening) = &mut self.opening else {
            self.external = stun::Message::parse(bytes).and_then(|message| message.mapped());
            return;
        };
        assert!(opening.receive(by, from, bytes, &mut self.dice, &mut self.out), "not of this pair");
    }
}

impl Node for Prober {
    fn handle(&mut self, now: Instant, input: Input, _: &mut dyn Tables) {
        self.now = now;
        match input {
            Input::Other { flow, bytes } => self.receive(None, flow.remote, &bytes),
            Input::Media { socket, from, bytes } => self.receive(Some(socket), from, &bytes),
            Input::Bound { socket, .. } => {
                self.opening.as_mut().unwrap().bound(socket, &mut self.dice, &mut self.out)
            }
            _ => {}
        }
        if let Some(opening) = &mut self.opening {
            opening.wake(now, &mut self.dice, &mut self.out);
        }
        self.say();
    }

    fn poll(&mut self, _: &mut dyn Tables) -> Option<Output> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        let opening = self.opening.as_ref().and_then(Opening::deadline);
        opening.into_iter().chain(self.repeat.front().copied()).min()
    }
}

/// Two endpoints in place, their outside addresses known.
struct Scene {
    world: World,
    nodes: [NodeId; 2],
    sides: [Side; 2],
    externals: [SocketAddr; 2],
    hosts: [SocketAddr; 2],
    /// Until both had a proven path.
    took: Duration,
}

fn is_open(world: &World, node: NodeId) -> bool {
    world.node::<Prober>(node).opening.as_ref().and_then(Opening::opened).is_some()
}

fn add_stun(world: &mut World) {
    let host = world.host(INTERNET, "203.0.113.10");
    world.attach(host, "stun", &[&format!("udp {STUN}")], |_| StunServer::new(Server::single()));
}

fn prober(world: &mut World, realm: conformance::world::Realm, name: &str, at: &str) -> NodeId {
    let host = world.host(realm, &at.parse::<SocketAddr>().unwrap().ip().to_string());
    let local = at.parse().unwrap();
    world.attach(host, name, &[&format!("udp {at}")], move |birth| Prober::new(birth, local))
}

impl Scene {
    fn new(seed: u64, sites: [Option<Rules>; 2]) -> Scene {
        let mut world = World::new(seed);
        add_stun(&mut world);
        let mut hosts = ["192.0.2.10:5060", "192.0.2.20:5060"];
        let nodes = [0, 1].map(|n| {
            let realm = match sites[n] {
                Some(rules) => {
                    hosts[n] = ["10.0.0.2:5060", "10.0.0.3:5070"][n];
                    let nat = world.nat("nat", INTERNET, ["198.51.100.1", "198.51.100.2"][n], rules);
                    world.inside(nat)
                }
                None => INTERNET,
            };
            prober(&mut world, realm, ["e1", "e2"][n], hosts[n])
        });
        Scene::of(world, nodes, sites.map(verdict), hosts)
    }

    fn of(mut world: World, nodes: [NodeId; 2], verdicts: [Verdict; 2], hosts: [&str; 2]) -> Scene {
        world.run_for(100 * MS);
        let externals = nodes.map(|node| world.node::<Prober>(node).external.expect("STUN was answered"));
        let policy = Policy { spray_both: true, ..Policy::default() };
        let side = |n: usize| Side { verdict: verdicts[n], ip: externals[n].ip(), policy };
        let hosts = hosts.map(|text| text.parse().unwrap());
        Scene { world, nodes, sides: [side(0), side(1)], externals, hosts, took: Duration::ZERO }
    }

    fn reach(&self) -> Reach {
        reach(&self.sides[0], &self.sides[1])
    }

    fn plan(&self, n: usize, reach: Reach) -> Plan {
        let other = 1 - n;
        Plan {
            part: [Part::Initiator, Part::Responder][n],
            reach,
            local: self.hosts[n],
            ours: self.sides[n].verdict,
            theirs: self.sides[other].verdict,
            external: self.externals[other],
            hosts: vec![self.hosts[other]],
            pair: PairKey { label: "pair".to_owned(), key: [7; 32] },
        }
    }

    fn begin(&mut self, n: usize, reach: Reach) {
        let plan = self.plan(n, reach);
        self.world.with(self.nodes[n], |prober: &mut Prober, now| prober.begin(now, plan));
    }

    /// Responder first, initiator a little later, as an access server's words reach them.
    fn play(&mut self) {
        let reach = self.reach();
        if reach.needs_punch() || reach.neighbours {
            self.begin(1, reach);
        }
        self.world.run_for(2 * MS);
        self.begin(0, reach);
        let begun = self.world.now();
        self.world.run_until(|world| self.nodes.iter().all(|node| is_open(world, *node)), 2500 * MS);
        self.took = self.world.now() - begun;
        self.world.run_for(2500 * MS - self.took);
    }

    fn is_heard(&self) -> bool {
        !self.world.node::<Prober>(self.nodes[1]).heard.is_empty()
    }

    /// Whether the initiator's very first message was heard.
    fn first_is_heard(&self) -> bool {
        let mut sent = self.world.packets().iter().filter(|entry| entry.bytes == MESSAGE);
        sent.next().is_some_and(|entry| matches!(entry.fate, Fate::Arrived { .. }))
    }

    fn packets(&self) -> usize {
        self.world.packets().len()
    }
}

const FIVE: [(&str, Option<Rules>); 5] = conformance::cast::SITES;

/// A spray has met by then.
const SPRAYED: Duration = Duration::from_millis(1500);
/// Runs of every cell.
const RUNS: u64 = 1000;

/// Every cell whose path is one of these, so many times; what went wrong.
fn sweep(is_meant: impl Fn(&str, Path) -> bool, runs: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    for (from, rules) in FIVE {
        for (to, other) in FIVE {
            let expected = reach(&side(rules, "192.0.2.1"), &side(other, "192.0.2.2"));
            if !is_meant(from, expected.path) {
                continue;
            }
            for seed in 0..runs {
                let mut scene = Scene::new(seed, [rules, other]);
                scene.play();
                let learns = expected.path == Path::Spray || verdict(other).class() == nat::Class::Symmetric;
                let late = expected.path == Path::Spray && scene.took >= SPRAYED;
                if !scene.is_heard() || late || (!learns && !scene.first_is_heard()) {
                    wrong.push(format!(
                        "{from} → {to}, seed {seed}: not heard, or after {:?}\n{}",
                        scene.took,
                        scene.world.ladder()
                    ));
                }
            }
        }
    }
    wrong
}

fn side(rules: Option<Rules>, ip: &str) -> Side {
    let ip: IpAddr = ip.parse().unwrap();
    Side { verdict: verdict(rules), ip, policy: Policy::default() }
}

#[test]
fn twenty_two_cells_of_the_table_are_certain() {
    let wrong = sweep(|_, path| !matches!(path, Path::Spray | Path::Reflect), RUNS);
    assert!(wrong.is_empty(), "{} of {}: {}", wrong.len(), 22 * RUNS, wrong[0]);
}

/// 770 by 770 of 64,512 ports miss one another once in ten thousand times.
fn assert_sprays_meet(from: &str) {
    let wrong = sweep(|site, path| site == from && path == Path::Spray, RUNS);
    assert!(wrong.len() <= 1, "{} of {RUNS}: {}", wrong.len(), wrong[0]);
}

#[test]
fn a_spray_at_one_unknown_port_meets_in_999_of_a_thousand_within_a_second_and_a_half() {
    assert_sprays_meet("port");
}

#[test]
fn a_spray_from_one_unknown_port_meets_in_999_of_a_thousand_within_a_second_and_a_half() {
    assert_sprays_meet("sym");
}

#[test]
fn without_its_punch_a_cell_that_needs_one_fails() {
    for (from, rules) in FIVE {
        for (to, other) in FIVE {
            let mut scene = Scene::new(1, [rules, other]);
            let reach = scene.reach();
            scene.begin(0, reach);
            scene.world.run_for(2500 * MS);
            assert_eq!(scene.is_heard(), !reach.needs_punch(), "{from} → {to}\n{}", scene.world.ladder());
        }
    }
}

#[test]
fn a_spray_is_bounded() {
    let mut scene = Scene::new(1, [Some(Rules::PORT_RESTRICTED), Some(Rules::SYMMETRIC)]);
    scene.play();
    assert!(scene.packets() < 4 * usize::from(SPRAY), "{} packets", scene.packets());
    let sockets = scene.nodes.map(|node| scene.world.media_sockets(node));
    assert_eq!(sockets, [0, 1], "all sockets but the one that met are given back");
}

#[test]
fn a_poisoning_nat_is_opened_without_being_poisoned() {
    for other in [Rules::PORT_RESTRICTED, Rules::PORT_RESTRICTED.poisoned()] {
        for seed in 0..20 {
            let mut scene = Scene::new(seed, [Some(Rules::PORT_RESTRICTED.poisoned()), Some(other)]);
            scene.play();
            assert!(scene.first_is_heard(), "{}", scene.world.ladder());
        }
    }
    // The control: the same punch, not pinned, arrives early and spoils it.
    let mut scene = Scene::new(1, [Some(Rules::PORT_RESTRICTED.poisoned()), Some(Rules::PORT_RESTRICTED)]);
    let mut reach = scene.reach();
    reach.pinned = false;
    scene.begin(1, reach);
    scene.world.run_for(200 * MS);
    scene.begin(0, reach);
    scene.world.run_for(2500 * MS);
    assert!(!scene.is_heard(), "{}", scene.world.ladder());
}

#[test]
fn ports_that_are_counted_or_come_from_a_block_are_met_too() {
    for ports in [Ports::Sequential, Ports::Block(1024)] {
        for seed in 0..5 {
            let other = Rules::SYMMETRIC.ports(ports);
            let mut scene = Scene::new(seed, [Some(Rules::PORT_RESTRICTED), Some(other)]);
            scene.play();
            assert!(scene.is_heard(), "{ports:?}, seed {seed}");
        }
    }
}

#[test]
fn mappings_by_address_alone_are_opened_like_symmetric_ones() {
    let by_address = Rules { mapping: Dependence::Address, ..Rules::ADDRESS_RESTRICTED };
    for (_, other) in FIVE {
        for sites in [[Some(by_address), other], [other, Some(by_address)]] {
            let mut scene = Scene::new(3, sites);
            if matches!(scene.reach().path, Path::SprayBoth | Path::Reflect) {
                continue;
            }
            scene.play();
            assert!(scene.is_heard(), "{sites:?}\n{}", scene.world.ladder());
        }
    }
}

/// Both behind one NAT; `same_lan`: in one realm, else behind an inner NAT each.
fn neighbours(outer: Rules, inner: Option<Rules>) -> Scene {
    let mut world = World::new(1);
    add_stun(&mut world);
    let gateway = world.nat("carrier", INTERNET, "198.51.100.1", outer);
    let middle = world.inside(gateway);
    let hosts = ["10.0.0.2:5060", "10.0.0.3:5070"];
    let nodes = [0, 1].map(|n| {
        let realm = match inner {
            Some(rules) => {
                let home = world.nat("home", middle, ["100.64.0.2", "100.64.0.3"][n], rules);
                world.inside(home)
            }
            None => middle,
        };
        prober(&mut world, realm, ["e1", "e2"][n], hosts[n])
    });
    Scene::of(world, nodes, [verdict(Some(outer)); 2], hosts)
}

#[test]
fn neighbours_in_one_network_use_their_own_addresses() {
    for rules in [Rules::PORT_RESTRICTED, Rules::PORT_RESTRICTED.hairpin(), Rules::SYMMETRIC] {
        let mut scene = neighbours(rules, None);
        assert!(scene.reach().neighbours);
        scene.play();
        assert!(scene.is_heard(), "{rules:?}\n{}", scene.world.ladder());
        assert_eq!(scene.world.node::<Prober>(scene.nodes[1]).heard[0].0, scene.hosts[0]);
    }
}

#[test]
fn neighbours_behind_a_second_nat_need_the_first_one_to_hairpin() {
    let homes = Some(Rules::PORT_RESTRICTED);
    let mut scene = neighbours(Rules::PORT_RESTRICTED.hairpin(), homes);
    scene.play();
    assert!(scene.is_heard(), "{}", scene.world.ladder());
    let mut scene = neighbours(Rules::PORT_RESTRICTED, homes);
    assert_eq!(scene.reach().path, Path::Reflect);
    scene.play();
    assert!(!scene.is_heard());
}

#[test]
fn a_double_nat_is_as_closed_as_the_tighter_of_the_two() {
    let mut world = World::new(1);
    add_stun(&mut world);
    let carrier = world.nat("carrier", INTERNET, "198.51.100.1", Rules::PORT_RESTRICTED);
    let middle = world.inside(carrier);
    let home = world.nat("home", middle, "100.64.0.2", Rules::FULL_CONE);
    let e1 = world.inside(home);
    let e2 = world.nat("nat", INTERNET, "198.51.100.2", Rules::PORT_RESTRICTED);
    let e2 = world.inside(e2);
    let hosts = ["10.0.0.2:5060", "10.0.0.3:5070"];
    let nodes = [prober(&mut world, e1, "e1", hosts[0]), prober(&mut world, e2, "e2", hosts[1])];
    let mut scene = Scene::of(world, nodes, [verdict(Some(Rules::PORT_RESTRICTED)); 2], hosts);
    scene.play();
    assert!(scene.first_is_heard(), "{}", scene.world.ladder());
}

#[test]
fn two_ipv6_firewalls_are_opened_by_one_punch() {
    let mut world = World::new(1);
    let host = world.host(INTERNET, "2001:db8::10");
    world.attach(host, "stun", &["udp [2001:db8::10]:3478"], |_| StunServer::new(Server::single()));
    let hosts = ["[2001:db8:1::2]:5060", "[2001:db8:2::2]:5060"];
    let nodes = [0, 1].map(|n| {
        let wall = world.firewall(["wall-1", "wall-2"][n], INTERNET, Duration::from_secs(30));
        let inside = world.inside(wall);
        prober(&mut world, inside, ["e1", "e2"][n], hosts[n])
    });
    for (n, node) in nodes.into_iter().enumerate() {
        world.with(node, |prober: &mut Prober, _| prober.external = Some(hosts[n].parse().unwrap()));
    }
    let wall = nat::Dependence::AddressAndPort;
    let wall = Verdict { translated: false, ..Verdict::nat(nat::Dependence::Endpoint, wall) };
    let mut scene = Scene::of(world, nodes, [wall; 2], hosts);
    assert_eq!(scene.reach().path, Path::Punch);
    scene.play();
    assert!(scene.first_is_heard(), "{}", scene.world.ladder());
}
