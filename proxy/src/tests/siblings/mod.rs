//! Stories of two proxies with a relay and a redirect server (SYSTEMS §1): who asks whom in which order, and what each
//! party gets to see.

use proto::event::{EndedBy, Event, Rule, Side};
use proto::sip::{Method, Name};

use std::time::Duration;

use bytes::Bytes;

use proto::sip::Message;

use crate::config::Listener;
use crate::tests::net::*;
use crate::tests::testing::address;

const BOB: &str = "sip:bob@b.example";
const NAT_A: &str = "198.51.100.1:40001";
const NAT_B: &str = "192.0.2.1:50001";

fn alice() -> Phone {
    Phone::public("alice", "198.51.100.7:5060", P1)
}

fn bob() -> Phone {
    Phone::public("bob", "192.0.2.7:5060", P2)
}

fn hidden_alice() -> Phone {
    Phone::behind_nat("alice", NAT_A, "10.0.0.2:5060", P1)
}

fn hidden_bob() -> Phone {
    Phone::behind_nat("bob", NAT_B, "10.0.0.2:5060", P2)
}

mod decision;
mod dialog;
mod refused;

/// A call that is up.
struct Up {
    net: Net,
    alice: Phone,
    bob: Phone,
    /// The INVITE as Bob got it.
    invite: Message,
    /// The 200 as Alice got it.
    ok: Message,
}

impl Up {
    fn alice_says(&mut self, method: &str, sdp: &str) -> Vec<Packet> {
        let request = self.alice.in_dialog(method, &self.ok, sdp);
        self.net.say(&self.alice.seen_at, P1, request)
    }

    fn bob_says(&mut self, method: &str, sdp: &str) -> Vec<Packet> {
        let request = self.bob.in_dialog(method, &self.invite, sdp);
        self.net.say(&self.bob.seen_at, P2, request)
    }

    /// Bob answers what he was asked; what Alice got.
    fn bob_answers(&mut self, asked: &Packet, sdp: &str) -> Vec<Message> {
        let answer = self.bob.answer(&asked.message, 200, sdp);
        let got = self.net.say(&self.bob.seen_at, P2, answer);
        told(&got, &self.alice)
    }

    fn alice_answers(&mut self, asked: &Packet, sdp: &str) -> Vec<Message> {
        let answer = self.alice.answer(&asked.message, 200, sdp);
        let got = self.net.say(&self.alice.seen_at, P1, answer);
        told(&got, &self.bob)
    }

    fn hang_up(&mut self) {
        let got = self.alice_says("BYE", "");
        let bye = asked(&got, &self.bob, "BYE").expect("the BYE reaches Bob");
        assert_eq!(self.bob_answers(&bye, "").last().unwrap().status(), Some(200));
    }
}

/// Rings Bob: the INVITE as he gets it.
fn ring(net: &mut Net, alice: &mut Phone, bob: &mut Phone, sdp: &str) -> Packet {
    bob.register(net);
    net.wire.clear();
    let invite = alice.invite(BOB, sdp);
    let got = net.say(&alice.seen_at, P1, invite);
    asked(&got, bob, "INVITE").unwrap_or_else(|| panic!("Bob is not called: {:?}", net.steps()))
}

fn call(alice: Phone, bob: Phone) -> Up {
    let sdp = alice.sdp();
    call_with(Net::new(), alice, bob, &sdp)
}

fn call_with(mut net: Net, mut alice: Phone, mut bob: Phone, sdp: &str) -> Up {
    let invite = ring(&mut net, &mut alice, &mut bob, sdp).message;
    let answer = bob.answer(&invite, 200, &bob.sdp());
    let got = net.say(&bob.seen_at, P2, answer);
    let ok = told(&got, &alice).pop().expect("Alice gets an answer");
    assert_eq!(ok.status(), Some(200));
    let mut up = Up { net, alice, bob, invite, ok };
    let got = up.alice_says("ACK", "");
    assert!(asked(&got, &up.bob, "ACK").is_some(), "the ACK reaches Bob");
    up
}

fn position(net: &Net, step: &str) -> usize {
    let steps = net.steps();
    steps.iter().position(|s| s == step).unwrap_or_else(|| panic!("no {step} in {steps:#?}"))
}

/// What a proxy decided. An anchored call is told twice: when it is decided, and when the relay's addresses are known.
fn rules(net: &Net, at: &str) -> Vec<(Side, Rule, bool)> {
    let rule = |event: &(std::net::SocketAddr, Event)| match &event.1 {
        Event::MediaDecided(told) if event.0 == address(at) => Some((told.side, told.rule, told.anchored)),
        _ => None,
    };
    let mut rules: Vec<_> = net.events.iter().filter_map(rule).collect();
    rules.dedup();
    rules
}

#[track_caller]
fn names_only_the_relay(sdp: &str) {
    assert!(sdp.contains(&format!("c=IN IP4 {MEDIA}")), "{sdp}");
    assert!(!sdp.contains("10.0.0.2") && !sdp.contains("198.51.100") && !sdp.contains("192.0.2."), "{sdp}");
}

// Registration at the redirect server.

#[test]
fn a_phones_registration_reaches_the_redirect_server_and_its_end_does_too() {
    let (mut net, mut bob) = (Net::new(), hidden_bob());
    bob.register(&mut net);
    let served = net.redirect.served.get("bob@b.example").cloned();
    assert_eq!(served, Some(format!("sip:{P2};transport=udp;lr")));
    net.pass(Duration::from_secs(3601));
    assert!(net.redirect.served.is_empty(), "its time ran out");
}

#[test]
fn the_keep_alive_goes_out_and_its_answer_is_heard() {
    let (mut net, mut bob) = (Net::new(), hidden_bob());
    bob.register(&mut net);
    let got = net.pass(Duration::from_secs(31));
    let ping = asked(&got, &bob, "OPTIONS").expect("an OPTIONS within 30 s");
    assert_eq!(ping.message.method(), Method::Options);
    let pong = bob.answer(&ping.message, 200, "");
    net.say(NAT_B, P2, pong);
    let got = net.pass(Duration::from_secs(4));
    assert!(asked(&got, &bob, "OPTIONS").is_none(), "no retransmission");
}

// DESIGN §4: what a proxy adds.

/// How many bytes longer the INVITE that left this proxy last was than the one it got: without its Contact, and that.
fn growth(net: &Net, at: &str) -> (usize, usize) {
    let invites =
        || net.wire.iter().filter(|p| p.message.method() == Method::Invite && p.message.is_request());
    let with_sdp = || invites().filter(|p| !p.message.body().is_empty() && p.message.to_tag().is_empty());
    let parties = |p: &&Packet| p.from != address(RELAY) && p.to != address(RELAY);
    let came = with_sdp().filter(parties).find(|p| p.to == address(at)).expect("an INVITE came");
    let left = with_sdp().filter(parties).find(|p| p.from == address(at)).expect("an INVITE left");
    let contact = |p: &Packet| p.message.text(Name::Contact).map_or(0, str::len);
    let named = contact(left) - contact(came);
    (left.message.bytes().len() - came.message.bytes().len() - named, named)
}

/// Via, Record-Route, verdict and proof; the `received` that RFC 3261 §18.2.1 wants; and the relay's address in SDP. A Contact
/// that is replaced comes on top of it, once.
#[test]
fn an_invite_grows_by_at_most_300_bytes_at_each_of_two_siblings() {
    for (mut alice, bob) in [(alice(), bob()), (hidden_alice(), bob()), (hidden_alice(), hidden_bob())] {
        let mut net = Net::new();
        // Registered, so that its binding is in the token; and asking for rport, which then says the port.
        alice.register(&mut net);
        alice.asks_rport = true;
        let sdp = alice.sdp();
        let up = call_with(net, alice, bob, &sdp);
        let grown = [P1, P2].map(|at| growth(&up.net, at));
        assert!(grown.iter().all(|(bytes, _)| *bytes <= 300), "{grown:?}");
        assert!(grown[0].1 <= 50 && grown[1].1 == 0, "{grown:?}");
    }
}
