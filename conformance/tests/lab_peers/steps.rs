//! The claims' steps, read from the capture in order and with addresses: scenarios 2a and 2e of US 8,000,325, 3a and 3e of
//! US 8,139,578.

use std::net::SocketAddr;
use std::time::Duration;

use conformance::lab::peers::{FOUR, Hub, Online, in_order, ip_of, told};
use conformance::lab::story::Message;
use conformance::lab::wire::{Packet, Wire};
use proto::peer::nat::Class;
use proto::peer::ticket::{MAGIC, TOKEN, read_reflected};
use proto::peer::words::{LOGIN, Login, NOTICE, PROFILE, Profile, read};
use proto::stun;

use crate::BUSY;

pub(crate) fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// A SIP message with a body of this kind, and the body.
pub(crate) fn carrying<'a>(packet: &'a Packet, kind: &str) -> Option<&'a [u8]> {
    let message = Message::read(&packet.payload)?;
    if message.header("Content-Type") != Some(kind) {
        return None;
    }
    let end = packet.payload.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(&packet.payload[end + 4..])
}

pub(crate) fn is_presence(payload: &[u8], state: &str) -> bool {
    let notify = Message::read(payload).filter(|message| message.is("NOTIFY"));
    notify.is_some_and(|message| message.header("Subscription-State").is_some_and(|s| s.starts_with(state)))
}

pub(crate) fn asks_stun(packet: &Packet) -> bool {
    stun::Message::parse(&packet.payload).is_some_and(|message| message.class() == stun::Class::Request)
}

/// A check of a pair: sealed, under the pair's name.
pub(crate) fn is_check(packet: &Packet) -> bool {
    asks_stun(packet)
        && stun::Message::parse(&packet.payload).is_some_and(|message| message.username().is_some())
}

pub(crate) fn external(report: &serde_json::Value) -> SocketAddr {
    at(report["external"].as_str().expect("it was logged in"))
}

/// What was to be seen of a body of this kind, the last one before the end.
fn last<T: for<'b> minicbor::Decode<'b, ()>>(wire: &Wire, kind: &str, to_or_from: SocketAddr) -> T {
    let of = wire.packets.iter().filter(|packet| packet.to == to_or_from || packet.from == to_or_from);
    let body = of.filter_map(|packet| carrying(packet, kind)).next_back();
    body.and_then(read).unwrap_or_else(|| panic!("no {kind} of {to_or_from}\n{}", told(wire)))
}

#[test]
fn scenario_2a_the_punch_comes_before_the_profile_and_the_notify_after_it_from_its_own_mapping() {
    let sites = "-s home:port-restricted:e1 -s office:port-restricted:e2";
    let Some(hub) = Hub::up(sites, &[("e1", "e2")]) else { return };
    let recorder = hub.lab.capture(&["hub", "e1", "e2"]);
    let mut e2 = hub.peer("e2", "e2", 60, &[]);
    hub.until_online(1);
    let mut e1 = hub.peer("e1", "e1", 60, &["--say", "e2:hello"]);
    hub.until_online(2);
    e1.meets("e2");
    e2.meets("e1");
    recorder.sees("what e1 has to say", |p| p.host == "e2" && p.payload.ends_with(b"hello"));
    e1.leave();
    let e1 = e1.report();
    e2.leave();
    let (e2, wire) = (e2.report(), recorder.stop());
    let (one, two) = (external(&e1), external(&e2));
    let (access, asked) = (at(FOUR.access), at(FOUR.stun[0]));

    in_order(
        &wire,
        &[
            ("step 1 [C]: e1 asks STUN", &|p| {
                p.host == "hub" && p.from == one && p.to == asked && asks_stun(p)
            }),
            ("step 2 [C]: the login, with what STUN said", &|p| {
                let login: Option<Login> = carrying(p, LOGIN).and_then(read);
                p.host == "hub"
                    && (p.from, p.to) == (one, access)
                    && login.is_some_and(|l| l.external == Some(one))
            }),
            ("step 5 [C]: e2 is told to send, by the channel it keeps open", &|p| {
                p.host == "hub" && (p.from, p.to) == (access, two) && carrying(p, NOTICE).is_some()
            }),
            ("step 7 [C]: profile and routing table", &|p| {
                p.host == "hub" && (p.from, p.to) == (access, one) && carrying(p, PROFILE).is_some()
            }),
            ("step 8 [C]: NOTIFY from e1's own mapping, directly", &|p| {
                p.host == "e2" && p.from == one && is_presence(&p.payload, "active")
            }),
        ],
    );
    in_order(
        &wire,
        &[
            ("step 5 reaches e2", &|p| p.host == "e2" && p.from == access && carrying(p, NOTICE).is_some()),
            ("step 6: e2's punch to e1's outside", &|p| p.host == "e2" && p.to == one && is_check(p)),
        ],
    );
    let before = wire.packets.iter().take_while(|p| !(p.from == one && asks_stun(p)));
    assert!(!before.clone().any(|p| p.from == one), "STUN is the first thing e1 says\n{}", told(&wire));
    let profile: Profile = last(&wire, PROFILE, two);
    let keep = profile.keep_alive_ms.expect("step 4 [C]: e2 has been told to keep a channel open");
    assert!(keep <= 20_000, "at least every 20 s, not {keep} ms");
    let profile: Profile = last(&wire, PROFILE, one);
    let buddy = &profile.buddies[0];
    assert_eq!((buddy.aor.as_str(), buddy.external), ("e2@peers.test", Some(two)), "step 7 [C]");
    assert_eq!(buddy.verdict.map(|verdict| verdict.class()), Some(Class::Port), "step 3 [C]: it blocks e1");
    let by_server = |p: &&Packet| p.host == "hub" && is_presence(&p.payload, "active");
    assert_eq!(wire.packets.iter().find(by_server).map(|p| p.to), None, "step 9: no server is needed");
    assert_eq!(e2["messages"][0][1], "hello");
}

#[test]
fn scenario_2e_a_stranger_is_in_no_profile_and_its_direct_request_is_refused() {
    let parties = "-p e2=203.0.113.20 -p e3=203.0.113.30";
    let Some(hub) = Hub::with(parties, &[("e1", "e2")], "e3", FOUR) else { return };
    let mut e2 = hub.peer("e2", "e2", 60, &["--local", "203.0.113.20:5060"]);
    let mut e3 = hub.peer("e3", "e3", 60, &["--local", "203.0.113.30:5060"]);
    hub.until_online(2);
    let socket = hub.lab.udp("e3", "203.0.113.30:5062");
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let forged = "MESSAGE sip:e2@peers.test SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.30:5062;branch=z9hG4bKx\r\n\
        From: <sip:e1@peers.test>;tag=1\r\nTo: <sip:e2@peers.test>\r\nCall-ID: x\r\nCSeq: 1 MESSAGE\r\n\
        Max-Forwards: 70\r\nContent-Length: 5\r\n\r\nhello";
    socket.send_to(forged.as_bytes(), "203.0.113.20:5060").unwrap();
    let mut answer = [0; 2000];
    let (length, from) = socket.recv_from(&mut answer).unwrap();
    let answer = Message::read(&answer[..length]).unwrap();
    assert!(from == at("203.0.113.20:5060") && answer.is("403 MESSAGE"), "{from}: {}", answer.0);
    [&mut e2, &mut e3].into_iter().for_each(Online::leave);
    let [e2, e3] = [e2, e3].map(Online::report);
    assert_eq!(e3["buddies"], serde_json::json!({}), "a stranger never appears");
    assert_eq!((&e2["strangers"], &e2["messages"]), (&1.into(), &serde_json::json!([])));
}

#[test]
fn scenario_3a_e2_is_told_by_the_reflector_and_e3_directly_and_3e_e2_says_itself_that_it_leaves() {
    let sites = "-s home:symmetric:e1 -s office:symmetric:e2 -s shop:full-cone:e3";
    let Some(hub) = Hub::up(sites, &[("e1", "e2"), ("e1", "e3")]) else { return };
    let recorder = hub.lab.capture(&["hub", "e1", "e2", "e3"]);
    let [mut e2, mut e3] = ["e2", "e3"].map(|name| hub.peer(name, name, 60, &[]));
    hub.until_online(2);
    let mut e1 = hub.peer("e1", "e1", 60, &[]);
    hub.until_online(3);
    [&mut e2, &mut e3].into_iter().for_each(|buddy| buddy.meets("e1"));
    ["e2", "e3"].into_iter().for_each(|buddy| e1.meets(buddy));
    e2.leave();
    let e2 = e2.report();
    e1.leave();
    let e1 = e1.report();
    e3.leave();
    let (e3, wire) = (e3.report(), recorder.stop());
    let (access, reflector) = (at(FOUR.access), at(FOUR.reflector));
    let (one, two) = (external(&e1), external(&e2));

    let login: Login = last(&wire.at("hub").filter(|p| p.to == access), LOGIN, one);
    let said = login.external.expect("STUN has told where it is");
    assert_eq!((said.ip(), login.verdict.class()), (one.ip(), Class::Symmetric), "step 1 [C]: IP and type");
    let asked = wire.packets.iter().any(|p| p.host == "hub" && p.from == said && asks_stun(p));
    assert!(asked, "step 1 [C]: the external port, as STUN has seen it\n{}", told(&wire));
    let profile: Profile = last(&wire, PROFILE, one);
    let classes = profile.buddies.iter().map(|buddy| buddy.verdict.unwrap().class());
    assert_eq!(classes.collect::<Vec<_>>(), [Class::Symmetric, Class::Full], "step 2 [C]");
    assert!(profile.buddies.iter().all(|buddy| buddy.online), "step 2 [C]: status");
    let outside: Vec<_> = profile.buddies.iter().map(|buddy| buddy.external).collect();
    assert_eq!(outside, [Some(two), Some(external(&e3))], "step 2 [C]: address and port");

    let reflected =
        |p: &Packet, state| p.payload.starts_with(&MAGIC) && is_presence(&p.payload[TOKEN..], state);
    let passed =
        |p: &Packet, state| read_reflected(&p.payload).is_some_and(|(_, inside)| is_presence(inside, state));
    let found = in_order(
        &wire,
        &[
            ("step 1 [C]: the login", &|p| p.host == "hub" && p.from == one && carrying(p, LOGIN).is_some()),
            ("step 2 [C]: the profile", &|p| {
                p.host == "hub" && p.to == one && carrying(p, PROFILE).is_some()
            }),
            ("step 3 [C]: \"online\", to the reflector", &|p| {
                p.host == "hub" && p.from.ip() == one.ip() && p.to == reflector && reflected(p, "active")
            }),
            ("step 3 [C]: and from it to e2", &|p| {
                p.host == "e2" && p.from == reflector && passed(p, "active")
            }),
            ("step 5 [C]: e2 says that it leaves", &|p| {
                p.host == "hub" && p.from.ip() == two.ip() && p.to == reflector && reflected(p, "terminated")
            }),
            ("step 5 [C]: and e1 hears it", &|p| {
                p.host == "e1" && p.from == reflector && passed(p, "terminated")
            }),
        ],
    );
    assert_eq!(found[2].payload.len(), found[3].payload.len() + 20, "what leaves the reflector is shorter");
    let count =
        wire.packets.iter().filter(|p| p.host == "hub" && p.from.ip() == one.ip() && reflected(p, "active"));
    assert_eq!(count.count(), 1, "exactly one packet for e2\n{}", told(&wire));
    let direct = wire.packets.iter().filter(|p| p.host == "e3" && is_presence(&p.payload, "active"));
    let direct: Vec<_> = direct.map(|p| p.from.ip()).collect();
    assert_eq!(direct, [one.ip()], "step 4 [C]: e3 is told directly\n{}", told(&wire));
    assert_eq!(e1["buddies"]["e2@peers.test"]["online"], false, "step 6 [C]: e1 marks e2 offline");
    let told_so = wire.since(found[4].at).filter(|p| p.host == "e1" && carrying(p, NOTICE).is_some());
    assert!(told_so.is_empty(), "step 6 [C]: the access server is not involved\n{}", told(&told_so));
    assert_ne!(ip_of(FOUR.access), reflector.ip());
}

/// STUN, challenge, login, and half a round trip to the buddy. e1 is 200 ms from everybody each way, and knows its NAT from before.
#[test]
fn a_buddy_is_notified_three_and_a_half_round_trips_after_the_first_packet() {
    let sites = "-s home:port-restricted:e1:delay=200 -s office:port-restricted:e2";
    let Some(hub) = Hub::up(sites, &[("e1", "e2")]) else { return };
    let nat = ["--nat", "port-restricted"];
    let mut e2 = hub.peer("e2", "e2", 90, &nat);
    hub.until_online(1);
    // Routers ask for one another's hardware addresses the first time, by the same slow way.
    let mut before = hub.peer("e1", "e1", 60, &nat);
    hub.until_online(2);
    before.meets("e2");
    before.leave();
    before.report();
    hub.until_online(1);
    let recorder = hub.lab.capture(&["e1", "e2"]);
    let mut e1 = hub.peer("e1", "e1", 60, &nat);
    hub.until_online(2);
    e1.meets("e2");
    let wire = recorder.stop();
    [&mut e1, &mut e2].into_iter().for_each(Online::leave);
    let one = external(&e1.report());
    let found = in_order(
        &wire,
        &[
            ("the first packet", &|p| p.host == "e1" && !p.from.ip().is_loopback()),
            ("its answer", &|p| p.host == "e1" && p.from == at(FOUR.stun[0])),
            ("NOTIFY", &|p| p.host == "e2" && p.from == one && is_presence(&p.payload, "active")),
        ],
    );
    assert!(found[0].to == at(FOUR.stun[0]) && asks_stun(found[0]), "the first is STUN\n{}", told(&wire));
    let (rtt, took) = (found[1].at - found[0].at, found[2].at - found[0].at);
    let trips = took.as_secs_f64() / rtt.as_secs_f64();
    println!("{took:?}, {trips:.2} round trips of {rtt:?}");
    assert!(
        rtt >= Duration::from_millis(400) && took <= rtt * 7 / 2 + BUSY,
        "{trips:.2} of {rtt:?}\n{}",
        told(&wire)
    );
}
