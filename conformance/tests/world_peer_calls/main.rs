//! Calls of peers in the simulated world: directly where NATs let them, by the relay where not, from one to the other and
//! back while they talk; and between a peer and a plain phone.

mod paths;

use std::time::Duration;

use conformance::cast::{P1, SITES, add_phone, script};
use conformance::company::{Company, Guest};
use conformance::world::{Dependence, Entry, INTERNET, Mute, Ports, Rules, World};
use endpoint_sim::peer::{CallReport, Peer, PeerReport};
use endpoint_sim::{After, Phone, Step};
use proto::peer::media::TAG;

const SECOND: Duration = Duration::from_secs(1);
const NAMES: [&str; 2] = ["e1@example.com", "e2@example.com"];

/// Both are online and see one another.
fn meet(mut company: Company, sites: [Option<Rules>; 2]) -> (Company, [Guest; 2]) {
    let e2 = company.add("e2", sites[1]);
    company.until_logged_in(e2);
    company.world.run_for(2 * SECOND);
    let e1 = company.add("e1", sites[0]);
    company.until_sees(e1, "e2", true, 10 * SECOND);
    company.until_sees(e2, "e1", true, 10 * SECOND);
    company.world.run_for(2 * SECOND);
    (company, [e1, e2])
}

fn call(company: &mut Company, from: Guest, whom: &str) {
    company.world.with(from.node, |peer: &mut Peer, now| peer.call(now, whom));
}

fn calls(company: &Company, guests: [Guest; 2]) -> [CallReport; 2] {
    guests.map(|guest| company.report(guest).call)
}

fn assert_heard(company: &Company, guests: [Guest; 2]) {
    for (call, other) in calls(company, guests).iter().zip([NAMES[1], NAMES[0]]) {
        let fine = call.phone.heard_only(other) && call.phone.audio_both_ways;
        assert!(fine, "{call:#?}\n{}", company.world.ladder());
    }
}

/// Every packet came, and two at most came late: nobody heard nothing for longer than until the third.
fn assert_no_gap(company: &Company, guests: [Guest; 2], what: &str) {
    for call in calls(company, guests) {
        assert!(call.phone.lost == 0, "{what}: {} lost\n{call:#?}", call.phone.lost);
        assert!(call.phone.largest_gap_ms <= 60, "{what}: {} ms", call.phone.largest_gap_ms);
    }
}

fn is_media(entry: &Entry) -> bool {
    // Directly it has a tag.
    entry.bytes.first() == Some(&0x80) && [172, 172 + TAG].contains(&entry.bytes.len())
}

/// Whether a spray is needed.
fn apart(one: Option<Rules>, other: Option<Rules>) -> bool {
    let unknown = |r: Option<Rules>| r.is_some_and(|r| r.mapping != Dependence::Endpoint);
    let closed = |r: Option<Rules>| r.is_some_and(|r| r.filtering == Dependence::AddressAndPort);
    unknown(one) && closed(other) || closed(one) && unknown(other)
}

#[test]
fn buddies_with_an_open_path_call_without_any_server() {
    for (from, rules) in SITES {
        for (to, other) in SITES {
            let (mut company, guests) = meet(Company::with_reflector(1, &[("e1", "e2")]), [rules, other]);
            company.world.kill(company.access);
            company.world.kill(company.stun);
            let begun = company.world.packets().len();
            call(&mut company, guests[0], NAMES[1]);
            company.world.run_for(5 * SECOND);
            if apart(rules, other) {
                assert_eq!(calls(&company, guests)[0].phone.call_status, Some(480), "{from} → {to}");
                assert!(!company.world.packets()[begun..].iter().any(is_media), "{from} → {to}");
                continue;
            }
            assert_heard(&company, guests);
            assert_no_gap(&company, guests, &format!("{from} → {to}"));
            company.world.with(guests[1].node, |peer: &mut Peer, now| peer.hang_up(now));
            company.world.run_for(SECOND);
            let ended = calls(&company, guests).map(|call| call.phone.ended_by.is_some());
            assert_eq!(ended, [true; 2], "{from} → {to}\n{}", company.world.ladder());
        }
    }
}

/// Without a proxy a call waits until the path it needs is open, and is given up at once where none can be.
#[test]
fn who_calls_a_buddy_whose_port_is_unknown_has_a_path_opened_first() {
    for (from, rules) in SITES {
        for (to, other) in SITES.into_iter().filter(|(_, other)| apart(rules, *other)) {
            let (mut company, guests) = meet(Company::with_reflector(1, &[("e1", "e2")]), [rules, other]);
            let both_unknown =
                [rules, other].iter().all(|r| r.is_some_and(|r| r.mapping != Dependence::Endpoint));
            call(&mut company, guests[0], NAMES[1]);
            company.world.run_for(if both_unknown { SECOND / 10 } else { 4 * SECOND });
            let status = calls(&company, guests)[0].phone.call_status;
            if both_unknown {
                assert_eq!(status, Some(480), "{from} → {to}");
                continue;
            }
            assert_eq!(status, Some(200), "{from} → {to}\n{:#?}", company.report(guests[0]));
            assert_heard(&company, guests);
            assert_no_gap(&company, guests, &format!("{from} → {to}"));
            company.world.with(guests[0].node, |peer: &mut Peer, now| peer.hang_up(now));
            company.world.run_for(SECOND);
            company.world.with(guests[1].node, |peer: &mut Peer, now| peer.leave(now));
            company.world.run_for(SECOND);
            let paths = calls(&company, guests).map(|call| call.path);
            assert_eq!(paths, ["direct"; 2], "how it went is known afterwards");
        }
    }
}

/// Somebody who can't be met any more is not called for ever.
#[test]
fn a_call_waits_for_its_path_for_some_seconds() {
    let sites = [Some(Rules::PORT_RESTRICTED), Some(Rules::SYMMETRIC)];
    let (mut company, guests) = meet(Company::with_reflector(1, &[("e1", "e2")]), sites);
    company.world.kill(guests[1].node);
    call(&mut company, guests[0], NAMES[1]);
    company.world.run_for(3 * SECOND);
    assert_eq!(company.report(guests[0]).call.phone.call_status, None);
    company.world.run_for(2 * SECOND);
    assert_eq!(company.report(guests[0]).call.phone.call_status, Some(480));
}

#[test]
fn every_pair_of_nats_talks_by_the_relay_and_then_directly_where_that_can_be_and_back_when_the_path_dies() {
    for (from, rules) in SITES {
        for (to, other) in SITES {
            let name = format!("{from} → {to}");
            let (mut company, guests) = meet(Company::with_proxy(1, &[("e1", "e2")]), [rules, other]);
            call(&mut company, guests[0], NAMES[1]);
            company.world.run_for(6 * SECOND);
            assert_heard(&company, guests);
            assert_no_gap(&company, guests, &name);
            let both_unknown =
                [rules, other].iter().all(|r| r.is_some_and(|r| r.mapping != Dependence::Endpoint));
            let path = calls(&company, guests).map(|call| call.path);
            if both_unknown {
                assert_eq!(path, ["relay"; 2], "{name}");
                continue;
            }
            assert_eq!(path, ["direct"; 2], "{name}\n{:#?}", company.report(guests[0]));
            let begun = company.world.packets().len();
            company.world.run_for(2 * SECOND);
            let relay = company.proxy.map(|[_, relay]| relay);
            let sent = company.world.packets()[begun..].iter().filter(|entry| is_media(entry));
            let (by_relay, directly): (Vec<_>, Vec<_>) =
                sent.partition(|entry| Some(entry.from) == relay || entry.receiver() == relay);
            let (directly, by_relay) = (directly.len(), by_relay.len());
            assert!(
                directly >= 190 && by_relay <= 10,
                "{name}: kept warm by {by_relay}, {directly} directly"
            );
            cut(&mut company, guests, true);
            company.world.run_for(2 * SECOND);
            assert_eq!(calls(&company, guests).map(|call| call.path), ["relay"; 2], "{name}");
            assert_no_gap(&company, guests, &name);
            let before = calls(&company, guests).map(|call| call.phone.received);
            company.world.run_for(5 * SECOND);
            let after = calls(&company, guests).map(|call| call.phone.received);
            assert!((0..2).all(|n| after[n] >= before[n] + 240), "{name}: {before:?} {after:?}");
            assert_no_gap(&company, guests, &name);
        }
    }
}

/// Nothing passes directly between the two any more.
fn cut(company: &mut Company, guests: [Guest; 2], is_cut: bool) {
    let outside = guests.map(|guest| company.report(guest).external.expect("logged in").ip().to_string());
    for [from, to] in [[0, 1], [1, 0]] {
        company.world.cut(&outside[from], &outside[to], is_cut);
    }
}

fn jitter(company: &mut Company, guests: [Guest; 2], jitter: Duration) {
    guests.iter().for_each(|guest| company.world.link(guest.host).jitter = jitter);
}

/// Two ways lead from one to the other, in their network and by their NAT's outside, and each may have found another one.
#[test]
fn neighbours_hear_one_another_whichever_way_each_has_found() {
    for seed in 0..20 {
        for by_proxy in [false, true] {
            let pairs = [("e1", "e2")];
            let mut company = match by_proxy {
                true => Company::with_proxy(seed, &pairs),
                false => Company::with_reflector(seed, &pairs),
            };
            let e2 = company.add("e2", Some(Rules::PORT_RESTRICTED.hairpin()));
            company.until_logged_in(e2);
            let e1 = company.add_beside("e1", e2);
            // Words overtake one another while ways are looked for.
            jitter(&mut company, [e1, e2], Duration::from_millis(8));
            company.until_sees(e1, "e2", true, 10 * SECOND);
            company.until_sees(e2, "e1", true, 10 * SECOND);
            company.world.run_for(2 * SECOND);
            jitter(&mut company, [e1, e2], Duration::ZERO);
            call(&mut company, e1, NAMES[1]);
            company.world.run_for(4 * SECOND);
            assert_heard(&company, [e1, e2]);
            for call in calls(&company, [e1, e2]) {
                assert_eq!((call.path, call.falls), ("direct", 0), "seed {seed}: {call:#?}");
            }
        }
    }
}

#[test]
fn a_plain_phone_calls_a_peer_and_is_called() {
    // Where UDP does not pass the access server lends a port.
    let shut = ("no UDP", Some(Rules::PORT_RESTRICTED.without_udp()));
    for (from, rules) in SITES.into_iter().chain([shut]) {
        for peer_calls in [true, false] {
            let mut company = Company::with_proxy(1, &[]);
            let e1 = company.add("e1", rules);
            company.until_logged_in(e1);
            company.world.run_for(SECOND);
            let nat = company.world.nat("nat-alice", INTERNET, "198.51.100.99", Rules::PORT_RESTRICTED);
            let home = (company.world.inside(nat), "10.0.0.2");
            let steps = match peer_calls {
                true => vec![],
                false => vec![Step::call("sip:e1@example.com", After::Registered, 2000)],
            };
            let (_, alice) = add_phone(&mut company.world, home, "alice", P1, script(steps));
            company.world.run_for(2 * SECOND);
            if peer_calls {
                call(&mut company, e1, "alice@example.com");
            }
            company.world.run_for(5 * SECOND);
            let PeerReport { call, .. } = company.report(e1);
            let fine = call.phone.heard_only("alice@example.com") && call.phone.audio_both_ways;
            assert!(fine && call.path == "relay", "{from}: {call:#?}\n{}", company.world.ladder());
            let alice = company.world.node::<Phone>(alice).report();
            assert!(alice.heard_only("e1@example.com") && alice.audio_both_ways, "{from}: {alice:#?}");
        }
    }
}

/// Whoever is no buddy can't ring without the proxy.
#[test]
fn a_stranger_does_not_make_a_peer_ring() {
    let mut company = Company::with_reflector(1, &[]);
    let e1 = company.add("e1", None);
    company.until_logged_in(e1);
    let e2 = company.add("e2", None);
    company.until_logged_in(e2);
    let invite = "INVITE sip:e1@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bKx\r\n\
                  From: <sip:e2@example.com>;tag=1\r\nTo: <sip:e1@example.com>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\
                  Max-Forwards: 70\r\nContact: <sip:e2@192.0.2.20>\r\nContent-Length: 0\r\n\r\n";
    company.world.inject(e2.node, "192.0.2.20:5060", "192.0.2.10:5060", invite.as_bytes());
    company.world.run_for(SECOND);
    let report = company.report(e1);
    assert_eq!((report.strangers, report.call.phone.call_status), (1, None), "{}", company.world.ladder());
}

/// Two in a call; every way of a peer to a server or to another peer takes half of `rtt`.
fn talking(mut company: Company, sites: [Option<Rules>; 2], rtt: Duration) -> (Company, [Guest; 2]) {
    let servers = [company.access, company.stun].into_iter().chain(company.reflector);
    for server in servers.chain(company.proxy.into_iter().flatten()).collect::<Vec<_>>() {
        company.world.link_of(server).latency = rtt / 4;
    }
    let mut guests = [None; 2];
    for n in [1, 0] {
        let guest = company.add(["e1", "e2"][n], sites[n]);
        company.world.link(guest.host).latency = if guest.nat.is_some() { rtt / 8 } else { rtt / 4 };
        if let Some(nat) = guest.nat {
            company.world.gateway_link(nat).latency = rtt / 8;
        }
        company.until_logged_in(guest);
        company.world.run_for(2 * SECOND);
        guests[n] = Some(guest);
    }
    let guests = guests.map(|guest| guest.expect("both are there"));
    company.until_sees(guests[0], "e2", true, 10 * SECOND);
    company.until_sees(guests[1], "e1", true, 10 * SECOND);
    company.world.run_for(2 * SECOND);
    call(&mut company, guests[0], NAMES[1]);
    company.world.run_for(8 * SECOND);
    assert_heard(&company, guests);
    (company, guests)
}

/// e1's NAT gives its socket another port; how long until e2 hears what was said since, and for how long e1 heard nothing.
fn rebind(company: &mut Company, guests: [Guest; 2], rtt: Duration) -> [Duration; 2] {
    let received = |world: &World, guest: Guest| world.node::<Peer>(guest.node).report().call.phone.received;
    let begun = company.world.now();
    company.world.rebind(guests[0].nat.expect("it is behind one"), None);
    // What was under way has arrived.
    company.world.run_for(rtt / 2);
    let mut took = [Duration::MAX; 2];
    let before = guests.map(|guest| received(&company.world, guest));
    for n in [1, 0] {
        let hears = |world: &World| received(world, guests[n]) > before[n];
        assert!(company.world.run_until(hears, 5 * SECOND), "deaf\n{}", company.world.ladder());
        took[n] = company.world.now() - begun;
    }
    took
}

/// A NAT that gives another port each time, and answers to nobody the inside has not sent to.
const MOVES: Rules = Rules::PORT_RESTRICTED.ports(Ports::Random);
const RTTS: [u64; 6] = [8, 24, 40, 100, 240, 400];

const PACKET: Duration = Duration::from_millis(20);
/// Where the other's NAT lets in what comes from elsewhere it takes one way and a packet. Where it does not, whoever moved has to
/// miss something first, and then is heard by the relay, or directly when the access server has had the other's NAT opened: within
/// a round trip of the path by that one and 20 ms, which here is two round trips between the two.
#[test]
fn whose_nat_binds_anew_is_heard_within_a_round_trip_and_20_ms() {
    for rtt in RTTS.map(Duration::from_millis) {
        for (to, other) in SITES {
            let lets_in = other.is_none_or(|rules| rules.filtering != Dependence::AddressAndPort);
            let company = Company::with_proxy(1, &[("e1", "e2")]);
            let (mut company, guests) = talking(company, [Some(MOVES), other], rtt);
            let took = rebind(&mut company, guests, rtt)[1];
            let most = if lets_in { rtt / 2 } else { rtt * 2 } + PACKET;
            println!("{rtt:?} to {to}, with a relay: {took:?}");
            assert!(took <= most, "{rtt:?} to {to}, with a relay: {took:?}");
            if !apart(Some(MOVES), other) {
                let company = Company::with_reflector(1, &[("e1", "e2")]);
                let (mut company, guests) = talking(company, [Some(MOVES), other], rtt);
                let took = rebind(&mut company, guests, rtt)[1];
                println!("{rtt:?} to {to}: {took:?}");
                assert!(took <= most, "{rtt:?} to {to}: {took:?}");
            }
        }
    }
}

/// A stranger that sees what e1 sends, and says it again from elsewhere: before e2 has heard it, after, or changed.
#[test]
fn who_repeats_a_packet_of_a_moved_peer_is_sent_no_media() {
    const STRANGER: &str = "203.0.113.66:4000";
    let sites = [Some(Rules::FULL_CONE), None];
    let rtt = Duration::from_millis(40);
    let (mut company, guests) = talking(Company::with_reflector(1, &[("e1", "e2")]), sites, rtt);
    let host = company.world.host(INTERNET, "203.0.113.66");
    let stranger = company.world.attach(host, "stranger", &[&format!("udp {STRANGER}")], |_| Mute::default());
    let e2 = "192.0.2.10:5060";
    let begun = company.world.packets().len();
    let outside = company.report(guests[0]).external.expect("logged in").ip().to_string();
    for is_cut in [false, true] {
        company.world.cut(&outside, "192.0.2.10", is_cut);
        for _ in 0..25 {
            let before = company.world.packets().len();
            company.world.run_for(PACKET);
            let sent = &company.world.packets()[before..];
            let said = sent.iter().rev().find(|entry| is_media(entry) && entry.from == guests[0].node);
            let mut bytes = said.expect("it talks").bytes.to_vec();
            company.world.inject(stranger, STRANGER, e2, &bytes);
            bytes[100] ^= 1;
            company.world.inject(stranger, STRANGER, e2, &bytes);
        }
    }
    let sent: Vec<&Entry> = company.world.packets()[begun..]
        .iter()
        .filter(|entry| entry.from == guests[1].node && entry.receiver() == Some(stranger))
        .collect();
    assert!(!sent.iter().any(|entry| is_media(entry)), "{}", company.world.ladder());
    let asked = sent.len();
    assert!((1..=4).contains(&asked), "{asked} checks, each shorter than what it answers");
    let heard = calls(&company, guests)[1].phone.heard_only(NAMES[0]);
    assert!(heard, "and what was changed is not played");
}
