//! What may happen to a call of peers on real NATs: its path dies one way only, the access server is gone, its NATs spoil what comes too
//! early.

use std::time::Duration;

use conformance::lab::peers::{FOUR, Hub, Online};
use serde_json::Value;

use crate::moving::{heard, silence};

const SECOND: Duration = Duration::from_secs(1);
/// Until a call is up and has found its path.
const BEFORE: Duration = Duration::from_secs(6);
const BY_PROXY: [&str; 2] = ["--proxy", FOUR.proxy];

/// `b` is online, `a` comes and calls it; what is the matter with it, a while later.
fn call(hub: &Hub, pairs: &[(&str, &str, &[&str])]) -> Vec<Online> {
    let mut peers: Vec<Online> = pairs.iter().map(|(_, b, more)| hub.peer(b, b, 90, more)).collect();
    hub.until_online(pairs.len() as u64);
    peers.extend(pairs.iter().map(|(a, b, more)| hub.peer(a, a, 90, &[more, &["--call", b][..]].concat())));
    hub.until_online(2 * pairs.len() as u64);
    std::thread::sleep(BEFORE);
    peers
}

/// Ends the callers first.
fn reports(mut peers: Vec<Online>) -> Vec<Value> {
    peers.iter_mut().rev().for_each(Online::leave);
    peers.into_iter().map(Online::report).collect()
}

/// Each site is 6 ms away from everybody: what one says reaches the other after 12 ms, directly and by the relay.
#[test]
fn a_path_that_dies_one_way_only_costs_no_packet_and_less_than_100_ms() {
    let sites = "-s home:port-restricted:e1:delay=6,addr=203.0.113.101 -s office:port-restricted:e2:delay=6";
    let Some(hub) = Hub::up(sites, &[("e1", "e2")]) else { return };
    let recorder = hub.lab.capture(&["e1", "e2"]);
    let peers = call(&hub, &[("e1", "e2", &BY_PROXY)]);
    hub.lab.deafen("office", "203.0.113.101");
    std::thread::sleep(4 * SECOND);
    let reports = reports(peers);
    let wire = recorder.stop();
    for report in &reports {
        let call = &report["call"];
        assert_eq!(
            (&call["path"], &call["upgrades"], &call["falls"]),
            (&"relay".into(), &1.into(), &1.into())
        );
        assert_eq!(call["phone"]["lost"], 0, "{report:#}");
    }
    // From when both are up: the first words wait for the call to be answered.
    let begun = heard(&wire, "e2").nth(100).expect("they talk").at;
    let longest = ["e2", "e1"].map(|host| silence(&wire, host, begun));
    println!("e2, whose NAT keeps e1 out, heard nothing for {:?}; e1 for {:?}", longest[0], longest[1]);
    assert!(longest.iter().all(|longest| *longest < SECOND / 10), "{longest:?}");
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
        assert_eq!(
            (&report["call"]["path"], &report["call"]["phone"]["lost"]),
            (&"direct".into(), &0.into())
        );
    }
}

/// NATs that keep ports, and where what comes in too early spoils the mapping that its answer would have made.
#[test]
fn between_nats_that_what_comes_too_early_spoils_calls_are_direct_with_a_proxy_and_without() {
    let sites =
        "-s home:eim+apdf:e1,e3:ports=preserve,poisons=1 -s office:eim+apdf:e2,e4:ports=preserve,poisons=1";
    let Some(hub) = Hub::up(sites, &[("e1", "e2"), ("e3", "e4")]) else { return };
    let peers = call(&hub, &[("e1", "e2", &[]), ("e3", "e4", &BY_PROXY)]);
    for report in reports(peers) {
        let call = &report["call"];
        assert_eq!(
            (&call["path"], &call["phone"]["audio-both-ways"]),
            (&"direct".into(), &true.into()),
            "{report:#}"
        );
        assert!(call["phone"]["received"].as_u64() > Some(50), "{report:#}");
    }
}
