//! What may happen to a call of peers on real NATs: its direct path dies one way or both ways and comes back, every server is gone,
//! its NATs spoil what comes too early.

use std::collections::BTreeMap;
use std::time::Duration;

use conformance::lab::peers::{FOUR, Hub, Online};
use conformance::lab::wire::Wire;
use proto::rtp::{self, classify};
use serde_json::Value;

use crate::cells::is_media;
use crate::moving::heard;

const SECOND: Duration = Duration::from_secs(1);
/// Until a call is up and has found its path.
const BEFORE: Duration = Duration::from_secs(6);
/// What a phone usually holds back, to play evenly.
const BUFFER: Duration = Duration::from_millis(60);
const BY_PROXY: [&str; 2] = ["--proxy", FOUR.proxy];

/// The second of each pair is online; the first comes and calls it. Callers come last, as they must be ended first.
fn call(hub: &Hub, pairs: &[(&str, &str, &[&str])]) -> Vec<Online> {
    let mut peers: Vec<Online> = pairs.iter().map(|(_, b, more)| hub.peer(b, b, 90, more)).collect();
    hub.until_online(pairs.len() as u64);
    peers.extend(pairs.iter().map(|(a, b, more)| hub.peer(a, a, 90, &[more, &["--call", b][..]].concat())));
    hub.until_online(2 * pairs.len() as u64);
    peers.iter_mut().for_each(Online::has_called);
    std::thread::sleep(BEFORE);
    peers
}

fn reports(mut peers: Vec<Online>) -> Vec<Value> {
    peers.iter_mut().rev().for_each(Online::leave);
    peers.into_iter().map(Online::report).collect()
}

/// For each packet that one host has said, by its number: how long after it was said the other heard it first.
fn delays(wire: &Wire, from: &str, to: &str) -> BTreeMap<(u32, u16), Option<Duration>> {
    let number = |payload: &[u8]| match classify(payload) {
        rtp::Packet::Rtp(rtp) => Some((rtp.ssrc(), rtp.sequence())),
        _ => None,
    };
    let (mut said, mut came) = (BTreeMap::new(), BTreeMap::new());
    for packet in wire.packets.iter().filter(|packet| packet.host == from && is_media(packet)) {
        if let Some(number) =
            number(&packet.payload).filter(|_| packet.from.ip().to_string().starts_with("192.168."))
        {
            said.entry(number).or_insert(packet.at);
        }
    }
    for packet in heard(wire, to) {
        if let Some(number) = number(&packet.payload) {
            came.entry(number).or_insert(packet.at);
        }
    }
    said.into_iter().map(|(number, at)| (number, came.get(&number).map(|came| *came - at))).collect()
}

/// The most packets in a row that are not there when a phone with a buffer has come to play them, and the longest any took.
fn gap(delays: &BTreeMap<(u32, u16), Option<Duration>>) -> (usize, Duration) {
    let usual = delays.values().flatten().min().copied().unwrap_or_default();
    let longest = delays.values().flatten().max().copied().unwrap_or_default();
    let (mut most, mut row) = (0, 0);
    for delay in delays.values() {
        row = if delay.is_some_and(|delay| delay <= usual + BUFFER) { 0 } else { row + 1 };
        most = most.max(row);
    }
    (most, longest - usual)
}

/// Each site is 6 ms away from everybody: what one says reaches the other after 12 ms, directly and by the relay. The path dies
/// for one, for the other, and for both, and comes back each time. How late packets come is printed;
/// `world_peer_calls` holds it to the millisecond.
#[test]
fn a_direct_path_that_dies_one_way_or_both_ways_costs_no_packet_and_is_taken_again_when_it_is_back() {
    let [home, office] = ["203.0.113.110", "203.0.113.111"];
    let sites = format!(
        "-s home:port-restricted:e1:delay=6,addr={home} -s office:port-restricted:e2:delay=6,addr={office}"
    );
    let Some(hub) = Hub::up(&sites, &[("e1", "e2")]) else { return };
    let recorder = hub.lab.capture(&["e1", "e2"]);
    let mut peers = call(&hub, &[("e1", "e2", &BY_PROXY)]);
    let (to_office, to_home) = (("office", home), ("home", office));
    for cuts in [&[to_office][..], &[to_home], &[to_office, to_home]] {
        cuts.iter().for_each(|(site, from)| hub.lab.deafen(site, from));
        std::thread::sleep(2 * SECOND);
        cuts.iter().for_each(|(site, _)| hub.lab.undeafen(site));
        std::thread::sleep(12 * SECOND);
        peers.iter_mut().for_each(Online::talks_directly);
    }
    let reports = reports(peers);
    let wire = recorder.stop();
    for report in &reports {
        let call = &report["call"];
        // A machine with other work may have it fall besides.
        let [upgrades, falls] = ["upgrades", "falls"].map(|name| call[name].as_u64().unwrap_or(0));
        assert!(falls >= 3 && upgrades == falls + 1, "{report:#}");
        assert_eq!(call["phone"]["lost"], 0, "{report:#}");
    }
    assert_eq!(reports[1]["call"]["path"], "direct", "whoever calls says so as it ends it: {:#}", reports[1]);
    for (from, to) in [("e1", "e2"), ("e2", "e1")] {
        let (late, longest) = gap(&delays(&wire, from, to));
        println!("{from} to {to}: {late} packets in a row too late for {BUFFER:?}, {longest:?} the latest");
    }
}

#[test]
fn buddies_talk_on_when_every_server_is_gone() {
    let sites = "-s home:port-restricted:e1 -s office:port-restricted:e2";
    let Some(mut hub) = Hub::up(sites, &[("e1", "e2")]) else { return };
    let peers = call(&hub, &[("e1", "e2", &[])]);
    hub.postern.kill();
    std::thread::sleep(SECOND);
    let recorder = hub.lab.capture(&["e1", "e2"]);
    std::thread::sleep(4 * SECOND);
    let wire = recorder.stop();
    for (host, report) in ["e2", "e1"].into_iter().zip(reports(peers)) {
        let count = heard(&wire, host).count();
        println!("{host} has heard {count} packets in 4 s without any server");
        assert!(count > 100, "{host} has heard {count} packets\n{report:#}");
        assert_eq!(report["call"]["phone"]["lost"], 0, "{report:#}");
    }
}

/// NATs that keep ports, each of one peer, where what comes in too early spoils the mapping that its answer would have made. Whoever
/// calls sits 50 ms behind its NAT, so the other's punch is there first, and would spoil it if it did not die on the way. The
/// control is a way so short that it does not: the call stays at the relay.
#[test]
fn between_nats_that_what_comes_too_early_spoils_a_call_is_direct_since_the_punch_dies_on_the_way() {
    let site = |caller: &str, called: &str, hops: u8| {
        let spoilt = format!("ports=preserve,poisons=1,hops={hops}");
        format!(
            "-s wan-{caller}:port-restricted::{spoilt},lan=100.64.0 \
             -s lan-{caller}:port-restricted:{caller}:ports=preserve,delay=50,behind=wan-{caller} \
             -s wan-{called}:port-restricted:{called}:{spoilt} "
        )
    };
    let sites = site("e1", "e2", 4) + &site("e3", "e4", 4) + &site("e5", "e6", 0);
    let Some(hub) = Hub::up(&sites, &[("e1", "e2"), ("e3", "e4"), ("e5", "e6")]) else { return };
    let peers = call(&hub, &[("e1", "e2", &[]), ("e3", "e4", &BY_PROXY), ("e5", "e6", &BY_PROXY)]);
    let reports = reports(peers);
    for report in &reports {
        assert_eq!(report["nat"], "port-restricted, spoilt by what comes early", "{report:#}");
    }
    for (report, path) in reports[3..].iter().zip(["direct", "direct", "relay"]) {
        let (call, phone) = (&report["call"], &report["call"]["phone"]);
        assert_eq!((&call["path"], &phone["audio-both-ways"]), (&path.into(), &true.into()), "{report:#}");
        assert!(phone["received"].as_u64() > Some(50), "{report:#}");
    }
}
