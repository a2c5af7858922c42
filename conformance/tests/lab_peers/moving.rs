//! A NAT that binds anew in the middle of a call, on real NATs that let in nobody they were not asked for: who is behind it is heard
//! on, without a proxy by the path that the access server has the other open, with one by its relay meanwhile. How long that takes is
//! read from captures and held against the round trip read there, too.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use conformance::lab::peers::{FOUR, Hub, Online, ip_of};
use conformance::lab::wire::{Packet, Wire};
use proto::peer::nat::Class;
use proto::stun;

use crate::BUSY;
use crate::cells::is_media;
use crate::steps::{asks_stun, external, is_check, is_presence};

/// Until a call is up and has found its path.
const BEFORE: Duration = Duration::from_secs(8);
/// Until it has found it again.
const AFTER: Duration = Duration::from_secs(5);
/// What may come on top of a round trip until who has moved is heard.
const PACKET: Duration = Duration::from_millis(20);
/// How long who has moved may hear nothing: the other side has to learn of it first.
const SILENCE: Duration = Duration::from_secs(1);

fn is_inside(packet: &Packet) -> bool {
    packet.to.ip().to_string().starts_with("192.168.")
}

/// The media that comes to a host from outside.
pub(crate) fn heard<'a>(wire: &'a Wire, host: &'a str) -> impl Iterator<Item = &'a Packet> {
    wire.packets.iter().filter(move |packet| packet.host == host && is_inside(packet) && is_media(packet))
}

/// The longest time nothing came, from a moment on.
fn silence(wire: &Wire, host: &str, since: Duration) -> Duration {
    let at: Vec<Duration> = heard(wire, host).map(|packet| packet.at).filter(|at| *at >= since).collect();
    at.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(Duration::MAX)
}

/// The shortest time from a check that a host sends to the other NAT to its answer. One that is sent again has its time from the first.
fn round_trip(wire: &Wire, host: &str, other: IpAddr) -> Duration {
    let (mut asked, mut shortest) = (BTreeMap::new(), Duration::MAX);
    for packet in wire.packets.iter().filter(|packet| packet.host == host) {
        let Some(message) = stun::Message::parse(&packet.payload) else { continue };
        if packet.to.ip() == other && is_check(packet) {
            asked.entry(message.transaction()).or_insert(packet.at);
        } else if let Some(at) =
            asked.get(&message.transaction()).filter(|_| message.class() == stun::Class::Success)
        {
            shortest = shortest.min(packet.at - *at);
        }
    }
    shortest
}

/// From a newcomer's first word, which asks where it is seen, until its buddy hears that it is there.
fn notified(wire: &Wire, newcomer: &str, buddy: &str) -> Duration {
    let asked = wire.packets.iter().find(|packet| packet.host == newcomer && asks_stun(packet));
    let told = wire
        .packets
        .iter()
        .find(|packet| packet.host == buddy && is_inside(packet) && is_presence(&packet.payload, "active"));
    told.expect("a NOTIFY").at - asked.expect("a question").at
}

/// Both sites are 100 ms away from everybody, each way.
#[test]
fn a_call_goes_on_within_a_round_trip_and_20_ms_when_a_nat_binds_anew_with_a_proxy_and_without() {
    let sites = "-s home:port-restricted:e1,e3:delay=100 -s office:port-restricted:e2,e4:delay=100";
    let Some(hub) = Hub::up(sites, &[("e1", "e2"), ("e3", "e4")]) else { return };
    let recorder = hub.lab.capture(&["e1", "e2", "e3", "e4"]);
    let by_proxy = ["--proxy", FOUR.proxy];
    let known = ["--nat", Class::Port.word()];
    let mut peers = vec![hub.peer("e2", "e2", 90, &[]), hub.peer("e4", "e4", 90, &by_proxy)];
    hub.until_online(2);
    peers.push(hub.peer("e1", "e1", 90, &[&known[..], &["--call", "e2"]].concat()));
    peers.push(hub.peer("e3", "e3", 90, &[&known[..], &by_proxy, &["--call", "e4"]].concat()));
    hub.until_online(4);
    peers.iter_mut().for_each(Online::has_called);
    std::thread::sleep(BEFORE);
    hub.lab.rebind("home", None);
    std::thread::sleep(AFTER);
    peers.iter_mut().for_each(Online::talks_directly);
    peers[2..].iter_mut().for_each(Online::leave);
    peers[..2].iter_mut().for_each(Online::leave);
    let reports: Vec<serde_json::Value> = peers.into_iter().map(Online::report).collect();
    let wire = recorder.stop();
    for (mover, stayer, report, other) in
        [("e1", "e2", &reports[2], &reports[0]), ("e3", "e4", &reports[3], &reports[1])]
    {
        assert_eq!(report["call"]["path"], "direct", "{report:#}");
        let (now, relay) = (external(report), ip_of(FOUR.proxy));
        let mut direct: Vec<(SocketAddr, Duration)> = heard(&wire, stayer)
            .filter(|packet| packet.from.ip() != relay)
            .map(|packet| (packet.from, packet.at))
            .collect();
        assert_eq!(direct.last().map(|last| last.0), Some(now), "the last word came from the new mapping");
        direct.retain(|(from, _)| *from != now);
        let (_, moved) = direct.last().expect("and the first from another");
        let rtt = round_trip(&wire, mover, external(other).ip());
        let took = notified(&wire, mover, stayer);
        println!("{stayer} was notified {took:?} after the first word of {mover}");
        assert!(took <= rtt * 7 / 2 + BUSY, "{took:?}");
        let longest = silence(&wire, stayer, *moved);
        println!("{mover} was not heard for {longest:?}; a round trip takes {rtt:?}");
        assert!((400..1000).contains(&rtt.as_millis()), "{rtt:?}");
        assert!(longest <= rtt + PACKET + BUSY, "{mover} was not heard for {longest:?}, with {rtt:?}");
        let deaf = silence(&wire, mover, *moved);
        println!("and heard nothing for {deaf:?}");
        assert!(deaf < SILENCE + BUSY, "{mover} heard nothing for {deaf:?}");
    }
}
