//! What each kind of NAT and firewall does (RFC 4787), a sentence each.

use super::*;
use proto::node::{Birth, Lane};

const NAT: &str = "198.51.100.1";
const INSIDE: &str = "10.0.0.2:5060";

fn dice() -> Dice {
    let (now, wall) = (std::time::Instant::now(), std::time::SystemTime::UNIX_EPOCH);
    Birth { now, wall, seed: [7; 32], lane: Lane::default() }.dice(1)
}

fn at(seconds: u64, src: &str, dst: SocketAddr) -> Passing {
    let now = Duration::from_secs(seconds);
    Passing { now, protocol: Protocol::Udp, src: src.parse().unwrap(), dst }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn nat(rules: Rules) -> Nat {
    Nat::new(NAT.parse().unwrap(), rules)
}

/// Sends to one remote, then tries the three kinds of return: that endpoint, its other port, somebody else.
fn returns(rules: Rules) -> [bool; 3] {
    let mut nat = nat(rules);
    let external = nat.outbound(at(0, INSIDE, addr("203.0.113.1:1000")), &mut dice()).unwrap();
    ["203.0.113.1:1000", "203.0.113.1:2000", "203.0.113.2:1000"]
        .map(|from| nat.inbound(at(1, from, external)) == Ok(addr(INSIDE)))
}

#[test]
fn filtering_is_that_of_each_type() {
    assert_eq!(returns(Rules::FULL_CONE), [true, true, true]);
    assert_eq!(returns(Rules::ADDRESS_RESTRICTED), [true, true, false]);
    assert_eq!(returns(Rules::PORT_RESTRICTED), [true, false, false]);
    assert_eq!(returns(Rules::SYMMETRIC), [true, false, false]);
}

#[test]
fn only_a_symmetric_nat_maps_by_destination() {
    for (rules, same) in [(Rules::PORT_RESTRICTED, true), (Rules::FULL_CONE, true), (Rules::SYMMETRIC, false)]
    {
        let (mut nat, mut dice) = (nat(rules), dice());
        let first = nat.outbound(at(0, INSIDE, addr("203.0.113.1:1000")), &mut dice).unwrap();
        let second = nat.outbound(at(0, INSIDE, addr("203.0.113.2:1000")), &mut dice).unwrap();
        assert_eq!(first == second, same, "{rules:?}");
    }
}

#[test]
fn preserves_the_port_unless_a_neighbour_has_it() {
    let (mut nat, mut dice) = (nat(Rules::PORT_RESTRICTED), dice());
    let remote = addr("203.0.113.1:1000");
    assert_eq!(nat.outbound(at(0, INSIDE, remote), &mut dice).unwrap().port(), 5060);
    assert_eq!(nat.outbound(at(0, "10.0.0.3:5060", remote), &mut dice).unwrap().port(), 5061);
}

#[test]
fn a_mapping_lives_until_its_timeout_and_not_longer() {
    for (second, alive) in [(29, true), (30, false)] {
        let mut nat = nat(Rules::FULL_CONE.timeout(Duration::from_secs(30)));
        let external = nat.outbound(at(0, INSIDE, addr("203.0.113.1:1000")), &mut dice()).unwrap();
        assert_eq!(nat.inbound(at(second, "203.0.113.1:1000", external)).is_ok(), alive);
    }
}

#[test]
fn inbound_packets_alone_do_not_keep_a_mapping_alive() {
    let mut nat = nat(Rules::FULL_CONE.timeout(Duration::from_secs(30)));
    let external = nat.outbound(at(0, INSIDE, addr("203.0.113.1:1000")), &mut dice()).unwrap();
    assert!(nat.inbound(at(20, "203.0.113.1:1000", external)).is_ok());
    assert!(nat.inbound(at(40, "203.0.113.1:1000", external)).is_err());
}

#[test]
fn an_early_packet_spoils_the_mapping_of_a_nat_that_is_poisoned() {
    for (rules, same) in [(Rules::PORT_RESTRICTED, true), (Rules::PORT_RESTRICTED.poisoned(), false)] {
        let (mut nat, mut dice) = (nat(rules), dice());
        let external = nat.outbound(at(0, INSIDE, addr("203.0.113.1:1000")), &mut dice).unwrap();
        let peer = "203.0.113.2:1000";
        assert_eq!(nat.inbound(at(1, peer, external)), Err("filtered"));
        let towards_peer = nat.outbound(at(2, INSIDE, addr(peer)), &mut dice).unwrap();
        assert_eq!(towards_peer == external, same);
        assert_eq!(nat.inbound(at(3, peer, towards_peer)), Ok(addr(INSIDE)));
    }
}

#[test]
fn ports_come_one_after_another_or_from_a_block() {
    let mut dice = dice();
    let mut ports = |rules: Rules| {
        let mut nat = nat(rules);
        (0..20u16)
            .map(|n| nat.outbound(at(0, INSIDE, ([203, 0, 113, 1], n).into()), &mut dice).unwrap().port())
            .collect::<Vec<_>>()
    };
    let sequential = ports(Rules::SYMMETRIC.ports(Ports::Sequential));
    assert!(sequential.is_sorted_by(|a, b| a + 1 == *b), "{sequential:?}");
    let block = ports(Rules::SYMMETRIC.ports(Ports::Block(512)));
    assert!(block.iter().all(|port| port / 512 == block[0] / 512) && !block.is_sorted(), "{block:?}");
}

#[test]
fn without_udp_nothing_of_it_passes() {
    let mut nat = nat(Rules::FULL_CONE.without_udp());
    assert!(nat.outbound(at(0, INSIDE, addr("203.0.113.1:1000")), &mut dice()).is_err());
}

#[test]
fn a_firewall_lets_only_answers_in() {
    let mut gateway = Gateway::Firewall(Firewall::new(Duration::from_secs(30)));
    let (inside, remote) = (addr("203.0.113.50:5060"), addr("203.0.113.1:1000"));
    assert!(gateway.inbound(at(0, "203.0.113.1:1000", inside)).is_err());
    assert_eq!(gateway.outbound(at(0, "203.0.113.50:5060", remote), &mut dice()), Ok(inside));
    assert_eq!(gateway.inbound(at(29, "203.0.113.1:1000", inside)), Ok(inside));
    assert!(gateway.inbound(at(30, "203.0.113.1:1000", inside)).is_err());
    assert!(gateway.inbound(at(1, "203.0.113.1:2000", inside)).is_err());
}
