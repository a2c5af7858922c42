//! Scenario 1j: a PBX on a private LAN, Postern with a foot in the LAN and one in a DMZ whose address the router translates
//! one to one, a phone behind a NAT far away. Its private range is the LAN's own: nobody may mistake one for the other.
//!
//! ```text
//!   pbx 192.168.1.10 ── LAN ── 192.168.1.11 edge 10.9.9.10 ── DMZ, 1:1 ── 203.0.113.101 ── internet ── NAT ── alice 192.168.1.10
//! ```
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use conformance::lab::Lab;
use conformance::lab::domains::{Call, ip, told};
use conformance::lab::phone::{Phone, Voice};
use conformance::lab::story::Message;

const OUTSIDE: &str = "203.0.113.101";
const INSIDE: &str = "192.168.1.11";
const SITES: &str =
    "-s office:lan:pbx,edge -s dmz:port-restricted:edge:lan=10.9.9,dmz=edge -s home:symmetric:alice";
const CONFIG: &str = "\
networks:
  inside: { bind: 192.168.1.11, cidr: [192.168.1.0/24] }
  outside: { bind: 10.9.9.10, advertise: 203.0.113.101, cidr: [0.0.0.0/0] }
listeners:
  - { address: udp:192.168.1.11:5060, network: inside }
  - { address: udp:10.9.9.10:5060, network: outside }
domains: [pbx.test]
users:
  - { name: alice, password: pw-alice }
proxy:
  routes:
    - { to: \"*\", via: udp:192.168.1.10:5060, trusted: true }
relay:
  address: udp:192.168.1.11:5090
  ports: 20000-20999
  networks: [inside, outside]
";

struct Stage {
    alice: Phone,
    pbx: Phone,
    ears_alice: Voice,
    ears_pbx: Voice,
    postern: conformance::lab::Process,
    lab: Lab,
}

fn stage() -> Option<Stage> {
    stage_with(CONFIG)
}

fn stage_with(config: &str) -> Option<Stage> {
    let lab = Lab::up(SITES)?;
    let postern = lab.service("edge", config);
    let mut alice =
        Phone::new(&lab, "alice", "192.168.1.10:5060", "alice", "pbx.test", &format!("{OUTSIDE}:5060"));
    let mut pbx = Phone::new(&lab, "pbx", "192.168.1.10:5060", "100", "pbx.test", &format!("{INSIDE}:5060"));
    pbx.trusted = true;
    let answer = alice.register(300);
    assert!(answer.is("200 REGISTER"), "{}", answer.0);
    let (ears_alice, ears_pbx) = (
        Voice::new(lab.udp("alice", "192.168.1.10:4000"), 0xa),
        Voice::new(lab.udp("pbx", "192.168.1.10:4000"), 0xb),
    );
    Some(Stage { alice, pbx, ears_alice, ears_pbx, postern, lab })
}

fn media() -> SocketAddr {
    "192.168.1.10:4000".parse().unwrap()
}

fn both_hear(a: &Voice, b: &Voice, to_a: SocketAddr, to_b: SocketAddr) {
    a.speak_to(Some(to_a));
    b.speak_to(Some(to_b));
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    let heard = (a.count(b.ssrc, began), b.count(a.ssrc, began));
    assert!(heard.0 >= 45 && heard.1 >= 45, "{heard:?} of 50");
}

/// What Postern wrote of itself for one side names its address there: the topmost Via and Record-Route (the second
/// Record-Route is for the other side's requests), and every stream.
fn speaks_as(message: &Message, own: &str, others: &[&str]) {
    for name in ["Via", "Record-Route"] {
        let top = message.header(name).unwrap_or_default();
        assert!(top.contains(own), "{name} is not of this side's network:\n{}", message.0);
    }
    let named = others.iter().find(|other| message.body().contains(*other));
    assert_eq!(named, None, "an address of another network is in the SDP:\n{}", message.0);
}

#[test]
fn scenario_1j_a_phone_outside_calls_the_pbx() {
    let Some(mut s) = stage() else { return };
    let mut call = Call::place(&mut s.alice, &mut s.pbx, media(), media());
    assert_eq!((told(&call.ok).ip(), told(&call.invite).ip()), (ip(OUTSIDE), ip(INSIDE)));
    speaks_as(&call.invite, INSIDE, &[OUTSIDE, "10.9.9.10", "192.168.1.10"]);
    assert!(!call.ok.body().contains("10.9.9.10") && !call.ok.body().contains(INSIDE), "{}", call.ok.0);
    both_hear(&s.ears_alice, &s.ears_pbx, told(&call.ok), told(&call.invite));
    call.hang_up(&mut s.alice, &mut s.pbx);
    drop(s.lab);
}

#[test]
fn scenario_1j_the_pbx_calls_a_phone_outside() {
    let Some(mut s) = stage() else { return };
    let mut call = Call::place(&mut s.pbx, &mut s.alice, media(), media());
    assert_eq!((told(&call.ok).ip(), told(&call.invite).ip()), (ip(INSIDE), ip(OUTSIDE)));
    speaks_as(&call.invite, OUTSIDE, &[INSIDE, "10.9.9.10", "192.168.1.10"]);
    assert!(
        !call.invite.body().contains(INSIDE) && !call.invite.body().contains("192.168.1.10"),
        "{}",
        call.invite.0
    );
    both_hear(&s.ears_pbx, &s.ears_alice, told(&call.ok), told(&call.invite));
    call.hang_up(&mut s.pbx, &mut s.alice);
    drop(s.lab);
}

/// What is to show the way of a message, and who wrote it, names the outside of Postern and nothing else.
fn hides_the_lan(message: &Message) {
    for name in ["Via", "Record-Route", "Contact"] {
        for value in message.headers(name) {
            let ours = value.contains(OUTSIDE) && (name == "Via" || value.contains("<sip:hid~"));
            let own = name == "Via" && value.contains("received=");
            assert!(ours || own, "{name}: {value} says more than it should:\n{}", message.0);
        }
    }
}

/// What the Call-ID of a message is.
fn call_id(message: &Message) -> &str {
    message.header("Call-ID").expect("every message has one")
}

#[test]
fn a_phone_outside_sees_nothing_of_the_lan_where_topology_is_hidden() {
    let config = hiding();
    let Some(mut s) = stage_with(&config) else { return };
    let mut call = Call::place(&mut s.pbx, &mut s.alice, media(), media());
    hides_the_lan(&call.invite);
    assert_eq!(call.invite.headers("Via").len(), 1, "{}", call.invite.0);
    assert!(call_id(&call.invite).starts_with("hid~") && !call_id(&call.ok).contains("hid~"));
    both_hear(&s.ears_pbx, &s.ears_alice, told(&call.ok), told(&call.invite));
    call.hang_up(&mut s.pbx, &mut s.alice);
    let mut call = Call::place(&mut s.alice, &mut s.pbx, media(), media());
    hides_the_lan(&call.ok);
    assert!(call_id(&call.invite).ends_with(call_id(&call.ok)), "{}", call.invite.0);
    call.hang_up(&mut s.alice, &mut s.pbx);
    drop(s.lab);
}

/// Nothing of what is hidden is remembered: the next process, with the same key, reads every name the killed one gave.
#[test]
fn hidden_calls_go_on_when_the_proxy_was_killed_in_their_midst() {
    let config = hiding();
    let Some(mut s) = stage_with(&config) else { return };
    for outside_calls in [false, true] {
        let (a, b) = if outside_calls { (&mut s.alice, &mut s.pbx) } else { (&mut s.pbx, &mut s.alice) };
        for caller_hangs_up in [true, false] {
            let mut call = Call::place(a, b, media(), media());
            s.postern.kill();
            s.postern = s.lab.service("edge", &config);
            match caller_hangs_up {
                true => call.hang_up(a, b),
                false => call.hung_up(a, b),
            }
            // The phone's registration went with the process: it has no store.
            let phone = if outside_calls { &mut *a } else { &mut *b };
            assert!(phone.register(300).is("200 REGISTER"));
        }
    }
    drop(s.lab);
}

/// The stage with the inside hidden, several lanes, and a key that outlives the process.
fn hiding() -> String {
    let config = CONFIG.replace("cidr: [0.0.0.0/0] }", "cidr: [0.0.0.0/0], hide-topology: true }");
    assert_ne!(config, CONFIG);
    config.replace("proxy:\n", "node-key: the-key-of-this-laboratory-only\nproxy:\n  lanes: 3\n")
}
