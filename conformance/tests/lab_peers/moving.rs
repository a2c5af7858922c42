//! A NAT that binds anew in the middle of a call, on real NATs that let in nobody they were not asked for: who is behind it is heard
//! on, without a proxy by the path that the access server has the other open, with one by its relay meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use conformance::lab::peers::{FOUR, Hub, Online, ip_of, told};
use conformance::lab::wire::{Packet, Wire};

use crate::cells::is_media;

/// Until a call is up and has found its path.
const BEFORE: Duration = Duration::from_secs(6);
/// Until it has found it again.
const AFTER: Duration = Duration::from_secs(5);
/// What a lost moment may be at most. How short it is the world says, where no other work takes time
/// (`world_peer_calls`).
const SILENCE: Duration = Duration::from_secs(1);

/// The media that comes to a host from outside.
fn heard<'a>(wire: &'a Wire, host: &'a str) -> impl Iterator<Item = &'a Packet> {
    let is_inside = |packet: &Packet| packet.to.ip().to_string().starts_with("192.168.");
    wire.packets.iter().filter(move |packet| packet.host == host && is_inside(packet) && is_media(packet))
}

/// The longest time nothing came.
fn silence(wire: &Wire, host: &str) -> Duration {
    let at: Vec<Duration> = heard(wire, host).map(|packet| packet.at).collect();
    at.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(Duration::MAX)
}

#[test]
fn a_call_goes_on_when_a_nat_binds_anew_with_a_proxy_and_without() {
    let sites = "-s home:port-restricted:e1,e3 -s office:port-restricted:e2,e4";
    let Some(hub) = Hub::up(sites, &[("e1", "e2"), ("e3", "e4")]) else { return };
    let recorder = hub.lab.capture(&["e1", "e2", "e3", "e4"]);
    let by_proxy = ["--proxy", FOUR.proxy];
    let mut peers = vec![hub.peer("e2", "e2", 90, &[]), hub.peer("e4", "e4", 90, &by_proxy)];
    hub.until_online(2);
    peers.push(hub.peer("e1", "e1", 90, &["--call", "e2"]));
    peers.push(hub.peer("e3", "e3", 90, &[&by_proxy[..], &["--call", "e4"]].concat()));
    hub.until_online(4);
    std::thread::sleep(BEFORE);
    hub.lab.rebind("home", None);
    std::thread::sleep(AFTER);
    peers[2..].iter_mut().for_each(Online::leave);
    peers[..2].iter_mut().for_each(Online::leave);
    let reports: Vec<serde_json::Value> = peers.into_iter().map(Online::report).collect();
    let wire = recorder.stop();
    for (host, report) in [("e2", &reports[2]), ("e4", &reports[3])] {
        assert_eq!(report["call"]["path"], "direct", "{report:#}");
        let now: SocketAddr = report["external"].as_str().expect("logged in").parse().expect("an address");
        let relay = ip_of(FOUR.proxy);
        let direct = heard(&wire, host).filter(|packet| packet.from.ip() != relay);
        let mut from: Vec<SocketAddr> = direct.map(|packet| packet.from).collect();
        assert_eq!(from.last(), Some(&now), "the last word came from the new mapping\n{}", told(&wire));
        from.dedup();
        assert!(from.iter().any(|before| *before != now), "and the first from another: {from:?}");
    }
    for host in ["e1", "e2", "e3", "e4"] {
        let longest = silence(&wire, host);
        println!("{host} heard nothing for {longest:?} at most");
        assert!(longest < SILENCE, "{host} heard nothing for {longest:?}");
    }
}
