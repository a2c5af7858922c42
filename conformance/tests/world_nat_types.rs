//! The classifier against every type of NAT the world has: it must be right about all of them.

use std::time::Duration;

use access::StunServer;
use conformance::world::{Dependence, INTERNET, Ports, Rules, World};
use endpoint_sim::peer::Surveyor;
use endpoint_sim::peer::classifier::Findings;
use proto::peer::nat::{self, Allocation, Verdict};
use proto::stun::Server;

const A: &str = "203.0.113.10:3478";
const B: &str = "203.0.113.11:3479";

fn add_server(world: &mut World) {
    let server = Server::pair(A.parse().unwrap(), B.parse().unwrap());
    let host = world.host(INTERNET, "203.0.113.10");
    world.address(host, INTERNET, "203.0.113.11");
    let listeners: Vec<String> = server.sockets().iter().map(|at| format!("udp {at}")).collect();
    let listeners: Vec<&str> = listeners.iter().map(String::as_str).collect();
    world.attach(host, "stun", &listeners, move |_| StunServer::new(server));
}

fn survey(seed: u64, loss: u32, rules: Option<Rules>, life: bool) -> Findings {
    let mut world = World::new(seed);
    add_server(&mut world);
    let (realm, at) = match rules {
        Some(rules) => {
            let nat = world.nat("nat", INTERNET, "198.51.100.1", rules);
            (world.inside(nat), "10.0.0.2:5060")
        }
        None => (INTERNET, "192.0.2.10:5060"),
    };
    survey_at(world, realm, at, loss, life)
}

fn survey_at(
    mut world: World,
    realm: conformance::world::Realm,
    at: &str,
    loss: u32,
    life: bool,
) -> Findings {
    let local: std::net::SocketAddr = at.parse().unwrap();
    let host = world.host(realm, &local.ip().to_string());
    world.link(host).loss = loss;
    let birth = move |birth| Surveyor::new(birth, local, A.parse().unwrap(), life);
    let node = world.attach(host, "e1", &[&format!("udp {at}")], birth);
    let limit = Duration::from_secs(if life { 1000 } else { 10 });
    let known = world.run_until(|world| world.node::<Surveyor>(node).findings().is_some(), limit);
    assert!(known, "it never knew\n{}", world.ladder());
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.media_sockets(node), 0, "scratch sockets are given back");
    world.node::<Surveyor>(node).findings().unwrap()
}

fn dependence(of: Dependence) -> nat::Dependence {
    match of {
        Dependence::Endpoint => nat::Dependence::Endpoint,
        Dependence::Address => nat::Dependence::Address,
        Dependence::AddressAndPort => nat::Dependence::AddressAndPort,
    }
}

/// What can be known of it from inside.
fn truth(rules: Rules) -> Verdict {
    let (mapping, filtering) = (dependence(rules.mapping), dependence(rules.filtering));
    let (known, filters) = (rules.mapping == Dependence::Endpoint, rules.filtering != Dependence::Endpoint);
    let allocation = match rules.ports {
        Ports::Preserve => Allocation::Preserving,
        Ports::Random => Allocation::Random,
        Ports::Sequential => Allocation::Sequential,
        Ports::Block(_) => Allocation::Block,
    };
    // Only what is kept out can come too early, and only a mapping that is otherwise the same shows it.
    let poisons = rules.poisons && known && filters;
    // Neighbours meet outside if they know where, and the filter lets them in; where each one's first packet spoils the
    // other's mapping, they don't.
    let spoils = poisons && rules.filtering == Dependence::AddressAndPort;
    let hairpin = rules.hairpin && (!filters || known && !spoils);
    Verdict { allocation, hairpin, poisons, ..Verdict::nat(mapping, filtering) }
}

const DEPENDENCES: [Dependence; 3] = [Dependence::Endpoint, Dependence::Address, Dependence::AddressAndPort];
const PORTS: [Ports; 4] = [Ports::Preserve, Ports::Random, Ports::Sequential, Ports::Block(512)];

/// Every combination of what a NAT of the world can do.
fn every_type() -> Vec<Rules> {
    let mut all = Vec::new();
    for mapping in DEPENDENCES {
        for filtering in DEPENDENCES {
            for ports in PORTS {
                for (hairpin, poisons) in [(false, false), (true, false), (false, true), (true, true)] {
                    all.push(Rules { mapping, filtering, ports, hairpin, poisons, ..Rules::FULL_CONE });
                }
            }
        }
    }
    all
}

#[test]
fn it_is_right_about_every_type() {
    let mut wrong = Vec::new();
    for rules in every_type() {
        for seed in 0..5 {
            let found = survey(seed, 0, Some(rules), false).verdict;
            if found != truth(rules) {
                wrong.push(format!("seed {seed} {rules:?}\n  found {found:?}\n  is    {:?}", truth(rules)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn without_a_nat_nothing_is_translated() {
    let found = survey(1, 0, None, false);
    assert_eq!(
        found,
        Findings { verdict: Verdict::OPEN, external: Some("192.0.2.10:5060".parse().unwrap()) }
    );
}

#[test]
fn a_firewall_filters_and_does_not_translate() {
    let mut world = World::new(1);
    add_server(&mut world);
    let wall = world.firewall("wall", INTERNET, Duration::from_secs(30));
    let inside = world.inside(wall);
    let found = survey_at(world, inside, "192.0.2.10:5060", 0, false);
    let wall = Verdict::nat(nat::Dependence::Endpoint, nat::Dependence::AddressAndPort);
    assert_eq!(found.verdict, Verdict { translated: false, hairpin: true, ..wall });
}

#[test]
fn without_an_answer_udp_counts_as_blocked() {
    let found = survey(1, 0, Some(Rules::PORT_RESTRICTED.without_udp()), false);
    assert_eq!(found, Findings { verdict: Verdict::BLOCKED, external: None });
}

#[test]
fn two_nats_in_a_row_are_the_tighter_of_both() {
    let mut world = World::new(1);
    add_server(&mut world);
    let carrier = world.nat("carrier", INTERNET, "198.51.100.1", Rules::SYMMETRIC);
    let middle = world.inside(carrier);
    let home = world.nat("home", middle, "100.64.0.2", Rules::FULL_CONE);
    let inside = world.inside(home);
    let found = survey_at(world, inside, "10.0.0.2:5060", 0, false);
    assert_eq!(found.verdict.class(), nat::Class::Symmetric);
}

#[test]
fn one_packet_in_thirty_lost_misleads_it_about_almost_none() {
    let (mut right, mut all) = (0, 0);
    for rules in [Rules::FULL_CONE, Rules::ADDRESS_RESTRICTED, Rules::PORT_RESTRICTED, Rules::SYMMETRIC] {
        for seed in 0..50 {
            all += 1;
            let found = survey(seed, 33, Some(rules), false).verdict;
            right += u32::from(found.class() == truth(rules).class());
        }
    }
    assert!(right >= all - 1, "{right} of {all}");
}

#[test]
fn the_life_of_a_mapping_is_measured_and_never_taken_for_longer_than_it_is() {
    let short = [(1, Some(0)), (4, Some(3_000)), (6, Some(5_000)), (9, Some(7_000)), (12, Some(10_000))];
    let long = [(30, Some(28_000)), (65, Some(60_000)), (120, Some(90_000)), (400, None)];
    for (seconds, known) in short.into_iter().chain(long) {
        let rules = Rules::PORT_RESTRICTED.timeout(Duration::from_secs(seconds));
        let found = survey(1, 0, Some(rules), true);
        assert_eq!(found.verdict.life_ms, known, "{seconds} s");
    }
}
