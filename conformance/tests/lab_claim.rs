//! System 1, the claim, on real NATs and sockets: scenarios 1a to 1d. Its steps are read from the capture, in order and
//! with addresses.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use conformance::lab::domains::{Call, P1, P2, REDIRECT, RELAY, TwoDomains, ip, told};
use conformance::lab::phone::{Phone, Voice};
use conformance::lab::story::in_order;
use conformance::lab::wire::Wire;

/// How long the parties talk: 100 packets each.
const TALK: Duration = Duration::from_secs(2);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A phone each for alice and bob, and where they speak and hear.
struct Parties {
    alice: Phone,
    bob: Phone,
    a: SocketAddr,
    b: SocketAddr,
    ears_a: Voice,
    ears_b: Voice,
}

impl Parties {
    fn at(stage: &TwoDomains, alice: &str, bob: &str) -> Parties {
        let (a, b) = (format!("{alice}:4000"), format!("{bob}:4000"));
        Parties {
            alice: stage.phone("alice", &format!("{alice}:5060")),
            bob: stage.phone("bob", &format!("{bob}:5060")),
            ears_a: stage.voice("alice", &a, 0xa),
            ears_b: stage.voice("bob", &b, 0xb),
            a: address(&a),
            b: address(&b),
        }
    }

    /// Alice calls; both speak to where the signalling told them for a while, and the call is ended. Returns how many
    /// packets A and B heard of each other.
    fn call_and_talk(&mut self) -> (Call, (usize, usize)) {
        let mut call = Call::place(&mut self.alice, &mut self.bob, self.a, self.b);
        let began = Instant::now();
        self.ears_a.speak_to(Some(told(&call.ok)));
        self.ears_b.speak_to(Some(told(&call.invite)));
        std::thread::sleep(TALK);
        let heard = (self.ears_a.count(self.ears_b.ssrc, began), self.ears_b.count(self.ears_a.ssrc, began));
        call.hang_up(&mut self.alice, &mut self.bob);
        (call, heard)
    }
}

/// At least nine of ten packets came through, from the first second on.
fn heard_well((a, b): (usize, usize), wire: &Wire) {
    assert!(a >= 90 && b >= 90, "A heard {a}, B heard {b} of 100 packets\n{}", wire.ladder());
}

fn whoever_heard(voice: &Voice, ssrc: u32) -> Vec<SocketAddr> {
    let mut sources: Vec<_> = voice.heard().iter().filter(|h| h.ssrc == ssrc).map(|h| h.from).collect();
    sources.sort();
    sources.dedup();
    sources
}

#[test]
fn scenario_1a_a_caller_behind_a_nat_reaches_a_public_callee_by_the_claims_steps() {
    let Some(stage) = TwoDomains::up("-s home:port-restricted:alice -p bob=203.0.113.10") else { return };
    let recorder = stage.lab.capture(&["alice", "p1", "p2", "relay", "redirect", "bob"]);
    let mut parties = Parties::at(&stage, "192.168.1.10", "203.0.113.10");
    let (call, heard) = parties.call_and_talk();
    stage.nothing_stays_lent();

    let wire = recorder.stop();
    heard_well(heard, &wire);
    let at_p1 = wire.at("p1").sip();
    let (nat, bobs) = ("203.0.113.100", "203.0.113.10");
    let steps = in_order(
        &wire,
        &at_p1,
        &[
            ("step 1: A registers from its NAT's address", &|s| s.is("REGISTER", nat, P1)),
            ("step 1: P1 registers A at the redirect server", &|s| {
                s.is("REGISTER", P1, REDIRECT) && s.message.0.contains("alice@one.test")
            }),
            ("step 2: A's INVITE with the address assigned to A", &|s| {
                s.is("INVITE", nat, P1) && s.message.audio() == Some(parties.a)
            }),
            ("step 5: P1's relay INVITE", &|s| s.is("INVITE", P1, RELAY)),
            ("step 6: the relay's address and port", &|s| {
                s.is("200 INVITE", RELAY, P1) && told(&s.message).ip() == ip(RELAY)
            }),
            ("step 7: the redirect INVITE with B's identity", &|s| {
                s.is("INVITE", P1, REDIRECT) && s.message.uri().contains("bob@two.test")
            }),
            ("step 8: the address of P2", &|s| {
                s.is("302 INVITE", REDIRECT, P1) && s.message.contact().is_some_and(|c| c.contains(P2))
            }),
            ("step 9: the forwarding INVITE", &|s| {
                s.is("INVITE", P1, P2) && s.message.uri().contains("bob@two.test")
            }),
            ("step 10: P2's OK", &|s| s.is("200 INVITE", P2, P1)),
            ("step 11: A's OK", &|s| s.is("200 INVITE", P1, nat)),
            ("the end: A's BYE", &|s| s.is("BYE", nat, P1)),
            ("step 12: the ports are given back", &|s| s.is("BYE", P1, RELAY)),
            ("step 12: and the relay agrees", &|s| s.is("200 BYE", RELAY, P1)),
        ],
    );
    let (asked, lookup, found, forward, answer) = (steps[2], steps[5], steps[6], steps[7], steps[9]);
    assert!(lookup.message.media().is_empty(), "the redirect INVITE carries SDP:\n{}", lookup.message.0);
    assert!(
        lookup.message.header("Authorization").or(lookup.message.header("Proxy-Authorization")).is_none()
    );
    assert!(found.message.contact().unwrap().contains(";lr"), "{}", found.message.0);
    assert_eq!(told(&forward.message).ip(), ip(RELAY), "the forwarding INVITE names the relay");
    assert_eq!(told(&answer.message).ip(), ip(RELAY), "A's OK names the relay");
    assert!(
        !answer.message.body().contains(bobs),
        "B's own address appears in A's OK:\n{}",
        answer.message.0
    );
    assert_eq!(told(&call.invite).ip(), ip(RELAY), "B's INVITE names only the relay");
    assert!(!call.invite.body().contains("192.168.1.10"), "A's address appears in B's INVITE");
    let growth = call.invite.0.len() as i64 - asked.message.0.len() as i64;
    assert!(
        (0..=600).contains(&growth),
        "the INVITE grew by {growth} bytes at two proxies:
{}",
        call.invite.0
    );
    assert_eq!(whoever_heard(&parties.ears_a, 0xb), [told(&call.ok)]);
    assert_eq!(whoever_heard(&parties.ears_b, 0xa), [told(&call.invite)]);
}

#[test]
fn scenario_1b_two_symmetric_nats_are_bridged_by_the_relay_and_keep_their_secrets() {
    // The callee's private address is the caller's neighbour's: the ranges overlap.
    let parties = "-s home:symmetric:neighbour,alice -s office:symmetric:bob";
    let Some(stage) = TwoDomains::up(parties) else { return };
    let recorder = stage.lab.capture(&["alice", "p1", "p2", "relay", "bob"]);
    let mut parties = Parties::at(&stage, "192.168.1.11", "192.168.1.10");
    let (call, heard) = parties.call_and_talk();
    stage.nothing_stays_lent();

    let wire = recorder.stop();
    heard_well(heard, &wire);
    assert_eq!((told(&call.ok).ip(), told(&call.invite).ip()), (ip(RELAY), ip(RELAY)));
    let media = wire
        .at("bob")
        .filter(|packet| !packet.payload.starts_with(b"SIP") && !packet.payload.ends_with(b"\n"));
    assert!(!media.mentions(parties.a.ip()), "A's private address reached B by media");
    for story in wire.at("bob").sip() {
        // Via is the way back for responses, and stays (DEVIATIONS, RFC 3261 §16.12).
        let mut lines = story.message.0.lines().filter(|line| !line.starts_with("Via:"));
        assert!(
            lines.all(|line| !line.contains("192.168.1.11")),
            "A's private address is in a message for B:\n{}",
            story.message.0
        );
    }
    let relay = wire.at("relay").sip();
    in_order(
        &wire,
        &relay,
        &[
            ("P1's INVITE", &|s| s.is("INVITE", P1, RELAY)),
            ("a BYE", &|s| s.is("BYE", "", RELAY)),
            ("its answer", &|s| s.is("200 BYE", RELAY, "")),
        ],
    );
    let once = relay
        .iter()
        .filter(|s| s.is("200 INVITE", RELAY, ""))
        .map(|s| s.message.header("Call-ID"))
        .collect::<std::collections::BTreeSet<_>>();
    assert_eq!(once.len(), 1, "one relay session for the call:\n{}", wire.at("relay").ladder());
}

#[test]
fn scenario_1c_two_public_parties_talk_directly_and_no_relay_hears_of_it() {
    let Some(stage) = TwoDomains::up("-p alice=203.0.113.11 -p bob=203.0.113.10") else { return };
    let recorder = stage.lab.capture(&["alice", "p1", "p2", "relay", "bob"]);
    let mut parties = Parties::at(&stage, "203.0.113.11", "203.0.113.10");
    let (call, heard) = parties.call_and_talk();

    let wire = recorder.stop();
    heard_well(heard, &wire);
    assert!(wire.at("relay").is_empty(), "the relay heard of it:\n{}", wire.at("relay").ladder());
    assert_eq!((told(&call.ok), told(&call.invite)), (parties.b, parties.a));
    assert_eq!(
        (whoever_heard(&parties.ears_a, 0xb), whoever_heard(&parties.ears_b, 0xa)),
        (vec![parties.b], vec![parties.a])
    );
    let offered =
        wire.at("alice").sip().iter().find(|s| s.is("INVITE", "", P1)).unwrap().message.body().to_owned();
    assert_eq!(call.invite.body(), offered, "an SDP that needs no change leaves byte for byte");
}

#[test]
fn scenario_1d_when_only_the_callee_is_behind_a_nat_its_own_proxy_anchors() {
    let Some(stage) = TwoDomains::up("-p alice=203.0.113.11 -s office:port-restricted:bob") else { return };
    let recorder = stage.lab.capture(&["alice", "p1", "p2", "relay", "bob"]);
    let mut parties = Parties::at(&stage, "203.0.113.11", "192.168.1.10");
    let (call, heard) = parties.call_and_talk();
    stage.nothing_stays_lent();

    let wire = recorder.stop();
    heard_well(heard, &wire);
    let relay = wire.at("relay").sip();
    in_order(
        &wire,
        &relay,
        &[("P2's relay INVITE", &|s| s.is("INVITE", P2, RELAY)), ("its BYE", &|s| s.is("BYE", P2, RELAY))],
    );
    assert!(
        !relay.iter().any(|s| s.is("INVITE", P1, RELAY)),
        "P1 had no reason to ask a relay:\n{}",
        wire.at("relay").ladder()
    );
    assert_eq!((told(&call.ok).ip(), told(&call.invite).ip()), (ip(RELAY), ip(RELAY)));
    assert!(!call.ok.body().contains("192.168.1.10"), "B's private address reached A:\n{}", call.ok.0);
}
