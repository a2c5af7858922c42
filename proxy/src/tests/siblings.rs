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

// 1a, 1b: the caller behind a NAT.

#[test]
fn the_relay_answers_before_the_redirect_server_is_asked_before_the_callee_rings() {
    let up = call(hidden_alice(), bob());
    let order = [
        "P1 INVITE relay",
        "relay 200 P1",
        "P1 INVITE redirect",
        "redirect 302 P1",
        "P1 INVITE P2",
        "P2 INVITE 192.0.2.7:5060",
    ];
    let places: Vec<_> = order.iter().map(|step| position(&up.net, step)).collect();
    assert!(places.is_sorted(), "{places:?} {:#?}", up.net.steps());
    assert_eq!(rules(&up.net, P1)[0], (Side::Caller, Rule::UnreachableAddress, true));
}

#[test]
fn each_party_sees_only_the_relay_and_one_session_serves_both() {
    for bob in [bob(), hidden_bob()] {
        let up = call(hidden_alice(), bob);
        names_only_the_relay(&sdp_of(&up.invite));
        names_only_the_relay(&sdp_of(&up.ok));
        assert_eq!((up.net.relay.begun, up.net.relay.sessions.len()), (1, 1));
        assert_eq!(rules(&up.net, P2), [(Side::Caller, Rule::SiblingDecided, true)]);
    }
}

/// Where P2 listens for phones with IPv6.
const V6: &str = "[2001:db8::2]:5060";

/// P2 has IPv6, too, and bob is there. Alice is behind her NAT.
fn bob_by_ipv6() -> (Net, Phone, Phone) {
    let mut net = Net::new();
    net.configure(P2, |config| {
        let (bind, advertise) = (address(V6), address(V6));
        config.listeners.push(Listener { bind, advertise, ..config.listeners[0].clone() });
    });
    net.also_at(V6, P2);
    let mut bob = Phone::public("bob", "[2001:db8::50]:5060", V6);
    bob.domain = "b.example";
    (net, hidden_alice(), bob)
}

/// The session that P1 made meets the callee by IPv4, as the way to P2 does; a callee with IPv6 needs another.
#[test]
fn a_callee_of_another_family_gets_a_session_of_its_own() {
    let (mut net, mut alice, mut bob) = bob_by_ipv6();
    let sdp = alice.sdp();
    let invite = ring(&mut net, &mut alice, &mut bob, &sdp).message;
    let own = net
        .relay
        .sessions
        .values()
        .find(|asks| asks[0].networks[1].ends_with("~6"))
        .expect("P2 asks for IPv6");
    assert_eq!((own[0].peer, own[0].leg), (Some(address(NAT_A).ip()), Side::Caller));
    assert_eq!(net.relay.sessions.len(), 2);

    let answer = bob.answer(&invite, 200, &bob.sdp());
    let got = net.say(&bob.seen_at, V6, answer);
    let ok = told(&got, &alice).pop().expect("Alice gets an answer");
    names_only_the_relay(&sdp_of(&ok));
    net.pass(Duration::from_secs(33));
    assert_eq!(net.relay.sessions.len(), 1, "nobody answered in P1's");
    let bye = alice.in_dialog("BYE", &ok, "");
    let got = net.say(&alice.seen_at, P1, bye);
    let bye = asked(&got, &bob, "BYE").expect("the BYE reaches Bob").message;
    let done = bob.answer(&bye, 200, "");
    net.say(&bob.seen_at, V6, done);
    assert_eq!(net.relay.sessions.len(), 0);
}

/// The same before anybody has described any media.
#[test]
fn a_late_offer_of_a_callee_of_another_family_is_answered_in_that_family() {
    let (mut net, mut alice, mut bob) = bob_by_ipv6();
    let invite = ring(&mut net, &mut alice, &mut bob, "").message;
    let by_ipv6 = |asks: &Vec<proto::control::Ask>| asks[0].networks[1].ends_with("~6");
    assert!(net.relay.sessions.values().any(by_ipv6), "P2 asks for IPv6: {:#?}", net.steps());
    let answer = bob.answer(&invite, 200, &bob.sdp());
    let got = net.say(&bob.seen_at, V6, answer);
    let ok = told(&got, &alice).pop().expect("Alice gets an offer");
    names_only_the_relay(&sdp_of(&ok));
    let ack = alice.in_dialog("ACK", &ok, &alice.sdp());
    let got = net.say(NAT_A, P1, ack);
    let ack = asked(&got, &bob, "ACK").expect("the ACK reaches Bob").message;
    names_only_the_relay(&sdp_of(&ack));
    let asked = net.relay.sessions.values().find(|asks| by_ipv6(asks)).unwrap();
    assert!(
        asked.iter().any(|ask| ask.leg == Side::Callee) && asked.iter().any(|ask| ask.leg == Side::Caller)
    );
}

#[test]
fn the_relay_hears_of_both_parties_where_they_are_seen() {
    let up = call(hidden_alice(), hidden_bob());
    let asks = up.net.relay.sessions.values().next().unwrap();
    let peer_of = |leg| asks.iter().rev().find(|ask| ask.leg == leg).and_then(|ask| ask.peer);
    assert_eq!(peer_of(Side::Caller), Some(address(NAT_A).ip()));
    assert_eq!(peer_of(Side::Callee), Some(address(NAT_B).ip()), "P2 tells P1 where Bob is seen");
}

#[test]
fn no_private_word_leaves_the_house() {
    let up = call(hidden_alice(), hidden_bob());
    for packet in &up.net.wire {
        let to_phone = [address(NAT_A), address(NAT_B)].contains(&packet.to);
        let text = String::from_utf8_lossy(packet.message.bytes()).into_owned();
        assert!(!to_phone || !text.contains("Relay-") && !text.contains("Node-Auth"), "{text}");
    }
}

// 1c: nobody behind a NAT.

#[test]
fn two_public_parties_need_no_relay_at_all() {
    let up = call(alice(), bob());
    assert_eq!(up.net.relay.begun, 0);
    assert!(!up.net.steps().iter().any(|step| step.contains("relay")), "{:#?}", up.net.steps());
    assert_eq!(sdp_of(&up.invite), up.alice.sdp());
    assert_eq!(sdp_of(&up.ok), up.bob.sdp());
    assert_eq!(rules(&up.net, P1), [(Side::Caller, Rule::BothPublic, false)]);
    assert_eq!(rules(&up.net, P2), [(Side::Callee, Rule::BothPublic, false)]);
}

// 1d: only the callee behind a NAT.

#[test]
fn a_callee_behind_a_nat_is_anchored_by_its_own_proxy() {
    let up = call(alice(), hidden_bob());
    names_only_the_relay(&sdp_of(&up.invite));
    names_only_the_relay(&sdp_of(&up.ok));
    assert_eq!(up.net.relay.begun, 1);
    assert!(!up.net.steps().contains(&"P1 INVITE relay".to_string()), "{:#?}", up.net.steps());
    assert!(position(&up.net, "P2 INVITE relay") < position(&up.net, &format!("P2 INVITE {NAT_B}")));
    assert_eq!(rules(&up.net, P1), [(Side::Caller, Rule::BothPublic, false)]);
    assert_eq!(rules(&up.net, P2), [(Side::Callee, Rule::SignsOfNat, true)]);
}

#[test]
fn two_phones_behind_one_nat_are_found_out_by_the_second_proxy() {
    let honest_alice = Phone::public("alice", "192.0.2.1:40000", P1);
    let up = call(honest_alice, hidden_bob());
    assert_eq!(rules(&up.net, P2), [(Side::Callee, Rule::SameNat, true)]);
}

// The end of a call.

#[test]
fn a_bye_from_either_side_frees_the_relay() {
    for (alice, bob) in [(hidden_alice(), bob()), (alice(), hidden_bob()), (hidden_alice(), hidden_bob())] {
        let mut up = call(alice.clone(), bob.clone());
        up.hang_up();
        assert_eq!(up.net.relay.sessions.len(), 0, "{:#?}", up.net.steps());

        let mut up = call(alice, bob);
        let got = up.bob_says("BYE", "");
        let bye = asked(&got, &up.alice, "BYE").expect("the BYE reaches Alice");
        up.alice_answers(&bye, "");
        assert_eq!(up.net.relay.sessions.len(), 0, "{:#?}", up.net.steps());
        up.net.pass(Duration::from_secs(60));
        for status in [P1, P2].map(|proxy| up.net.status(proxy)) {
            assert_eq!((status.calls, status.relay_sessions), (0, 0));
            assert!(status.transactions <= 2, "keep-alives that Bob does not answer, and nothing else");
        }
    }
}

#[test]
fn proxies_that_were_killed_in_mid_call_route_the_bye_and_free_the_relay() {
    for (alice, bob) in [(hidden_alice(), bob()), (alice(), hidden_bob())] {
        let mut up = call(alice, bob);
        up.net.restart(P1);
        up.net.restart(P2);
        up.net.pass(Duration::from_secs(5));
        up.hang_up();
        assert_eq!(up.net.relay.sessions.len(), 0, "{:#?}", up.net.steps());
        for proxy in [P1, P2] {
            let ended: Vec<_> = up
                .net
                .events
                .iter()
                .filter_map(|(at, event)| match event {
                    Event::CallEnded(ended) if *at == address(proxy) => Some(ended),
                    _ => None,
                })
                .collect();
            assert_eq!(ended.len(), 1, "each proxy records the call it does not remember");
            assert_eq!((&*ended[0].from, &*ended[0].to), ("alice@a.example", "bob@b.example"));
            assert_eq!((ended[0].duration, ended[0].by), (Duration::from_secs(5), EndedBy::Caller));
        }
    }
}

/// Both parties hang up at once, and one of them once more.
#[test]
fn a_call_of_a_former_life_is_recorded_once() {
    let mut up = call(hidden_alice(), hidden_bob());
    up.net.restart(P1);
    let asks = [up.alice_says("BYE", ""), up.alice_says("BYE", ""), up.bob_says("BYE", "")];
    for (got, by_alice) in asks.iter().zip([true, true, false]) {
        match by_alice {
            true => drop(asked(got, &up.bob, "BYE").map(|bye| up.bob_answers(&bye, ""))),
            false => drop(asked(got, &up.alice, "BYE").map(|bye| up.alice_answers(&bye, ""))),
        }
    }
    let ended = |(at, event): &&(std::net::SocketAddr, Event)| {
        *at == address(P1) && matches!(event, Event::CallEnded(_))
    };
    assert_eq!(up.net.events.iter().filter(ended).count(), 1);
}

#[test]
fn a_killed_proxy_carries_a_re_invite_through_the_session_it_does_not_remember() {
    let mut up = call(hidden_alice(), hidden_bob());
    up.net.restart(P1);
    up.net.pass(Duration::from_secs(5));
    let got = up.alice_says("INVITE", &up.alice.sdp());
    let again = asked(&got, &up.bob, "INVITE").expect("the re-INVITE reaches Bob");
    names_only_the_relay(&sdp_of(&again.message));
    let ok = up.bob_answers(&again, &up.bob.sdp()).pop().unwrap();
    names_only_the_relay(&sdp_of(&ok));
    assert_eq!(up.net.relay.sessions.len(), 1);
}

#[test]
fn a_cancelled_call_frees_the_relay() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), hidden_bob());
    let sdp = alice.sdp();
    let invite = ring(&mut net, &mut alice, &mut bob, &sdp).message;
    let ringing = bob.answer(&invite, 180, "");
    net.say(NAT_B, P2, ringing);
    let original = net.wire.iter().find(|p| p.from == address(NAT_A)).unwrap().message.clone();
    let text = String::from_utf8_lossy(original.bytes()).into_owned();
    let (head, _) = text.split_once("\r\nContent-Type").unwrap();
    let head = head.replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL");
    let cancel = crate::tests::testing::message(&head);
    let got = net.say(NAT_A, P1, cancel);
    let cancel = asked(&got, &bob, "CANCEL").expect("the CANCEL reaches Bob");
    net.say(NAT_B, P2, bob.answer(&cancel.message, 200, ""));
    let got = net.say(NAT_B, P2, bob.answer(&invite, 487, ""));
    assert_eq!(told(&got, &alice).pop().unwrap().status(), Some(487));
    assert_eq!(net.relay.sessions.len(), 0, "{:#?}", net.steps());
}

// 1e: in mid-call.

#[test]
fn hold_and_resume_keep_the_session_and_their_direction() {
    let mut up = call(hidden_alice(), hidden_bob());
    for direction in ["sendonly", "inactive", "sendrecv"] {
        let offer = up.alice.sdp().replace("a=sendrecv", &format!("a={direction}"));
        let got = up.alice_says("INVITE", &offer);
        let hold = asked(&got, &up.bob, "INVITE").expect("the re-INVITE reaches Bob");
        let sdp = sdp_of(&hold.message);
        names_only_the_relay(&sdp);
        assert!(sdp.contains(&format!("a={direction}")));
        let ok = up.bob_answers(&hold, &up.bob.sdp()).pop().unwrap();
        names_only_the_relay(&sdp_of(&ok));
        up.ok = ok;
        up.alice_says("ACK", "");
    }
    assert_eq!((up.net.relay.begun, up.net.relay.sessions.len()), (1, 1));
}

#[test]
fn a_re_invite_of_the_callee_goes_through_the_same_session() {
    for (alice, bob) in [(hidden_alice(), bob()), (alice(), hidden_bob())] {
        let mut up = call(alice, bob);
        let got = up.bob_says("INVITE", &up.bob.sdp());
        let again = asked(&got, &up.alice, "INVITE").expect("the re-INVITE reaches Alice");
        names_only_the_relay(&sdp_of(&again.message));
        let ok = up.alice_answers(&again, &up.alice.sdp()).pop().unwrap();
        names_only_the_relay(&sdp_of(&ok));
        assert_eq!((up.net.relay.begun, up.net.relay.sessions.len()), (1, 1));
    }
}

#[test]
fn t38_takes_the_place_of_audio_through_the_same_session() {
    let mut up = call(hidden_alice(), hidden_bob());
    let fax = |phone: &Phone| phone.sdp().replace("m=audio 4000 RTP/AVP 0", "m=image 4000 udptl t38");
    let got = up.bob_says("INVITE", &fax(&up.bob.clone()));
    let again = asked(&got, &up.alice, "INVITE").expect("the re-INVITE reaches Alice");
    let sdp = sdp_of(&again.message);
    names_only_the_relay(&sdp);
    assert!(sdp.contains("m=image 2") && sdp.contains("udptl t38"), "{sdp}");
    let ok = up.alice_answers(&again, &fax(&up.alice.clone())).pop().unwrap();
    names_only_the_relay(&sdp_of(&ok));
}

#[test]
fn early_media_goes_through_the_relay() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), hidden_bob());
    let sdp = alice.sdp();
    let invite = ring(&mut net, &mut alice, &mut bob, &sdp).message;
    let early = bob.answer(&invite, 183, &bob.sdp());
    let got = net.say(NAT_B, P2, early);
    let early = told(&got, &alice).pop().unwrap();
    assert_eq!(early.status(), Some(183));
    names_only_the_relay(&sdp_of(&early));
}

#[test]
fn a_late_offer_is_relayed_from_the_200_to_the_ack() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), hidden_bob());
    let invite = ring(&mut net, &mut alice, &mut bob, "").message;
    assert_eq!((net.relay.begun, sdp_of(&invite).as_str()), (1, ""), "ports are reserved before");
    let answer = bob.answer(&invite, 200, &bob.sdp());
    let got = net.say(NAT_B, P2, answer);
    let ok = told(&got, &alice).pop().unwrap();
    names_only_the_relay(&sdp_of(&ok));
    let ack = alice.in_dialog("ACK", &ok, &alice.sdp());
    let got = net.say(NAT_A, P1, ack);
    let ack = asked(&got, &bob, "ACK").expect("the ACK reaches Bob");
    names_only_the_relay(&sdp_of(&ack.message));
}

// In-dialog routing.

#[test]
fn a_bye_reaches_the_callee_where_it_registered_last() {
    let mut up = call(hidden_alice(), hidden_bob());
    up.bob.seen_at = "192.0.2.1:50999".into();
    let bob = up.bob.clone();
    up.bob.register(&mut up.net);
    let got = up.alice_says("BYE", "");
    assert!(asked(&got, &bob, "BYE").is_some(), "{:#?}", up.net.steps());
}

// 1f: nobody there.

#[test]
fn a_callee_nobody_serves_is_404_and_holds_no_ports() {
    let (mut net, mut alice) = (Net::new(), hidden_alice());
    let invite = alice.invite(BOB, &alice.sdp());
    let got = net.say(NAT_A, P1, invite);
    assert_eq!(told(&got, &alice).pop().unwrap().status(), Some(404));
    assert_eq!((net.relay.begun, net.relay.sessions.len()), (1, 0), "{:#?}", net.steps());
}

#[test]
fn a_foreign_name_that_no_proxy_of_ours_serves_is_found_by_dns() {
    let (mut net, mut alice) = (Net::new(), alice());
    let carol = Phone::public("carol", "192.0.2.99:5060", P2);
    net.dns.insert("elsewhere.example".into(), address("192.0.2.99:5060"));
    let invite = alice.invite("sip:carol@elsewhere.example", &alice.sdp());
    let got = net.say(&alice.seen_at, P1, invite);
    let invite = asked(&got, &carol, "INVITE").expect("Carol is called");
    assert!(position(&net, "redirect 404 P1") < position(&net, "P1 INVITE 192.0.2.99:5060"));
    assert_eq!(sdp_of(&invite.message), alice.sdp());
}

#[test]
fn a_redirect_server_that_names_us_is_404() {
    let (mut net, mut alice) = (Net::new(), hidden_alice());
    net.redirect.served.insert("bob@b.example".into(), format!("sip:{P1};transport=udp;lr"));
    let invite = alice.invite(BOB, &alice.sdp());
    let got = net.say(NAT_A, P1, invite);
    assert_eq!(told(&got, &alice).pop().unwrap().status(), Some(404));
}

#[test]
fn a_silent_redirect_server_is_408_and_holds_no_ports() {
    let (mut net, mut alice) = (Net::new(), hidden_alice());
    net.redirect.silent = true;
    let invite = alice.invite(BOB, &alice.sdp());
    net.say(NAT_A, P1, invite);
    let got = net.pass(Duration::from_secs(40));
    assert_eq!(told(&got, &alice).pop().unwrap().status(), Some(408));
    assert_eq!(net.relay.sessions.len(), 0, "{:#?}", net.steps());
}

// 1g: no ports.

#[test]
fn a_full_relay_is_503_with_retry_after_and_nobody_rings() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    bob.register(&mut net);
    net.relay.full = true;
    let invite = alice.invite(BOB, &alice.sdp());
    let got = net.say(NAT_A, P1, invite);
    let answer = told(&got, &alice).pop().unwrap();
    assert_eq!(answer.status(), Some(503));
    assert!(answer.text(Name::RetryAfter).is_some());
    assert!(asked(&got, &bob, "INVITE").is_none());
}

#[test]
fn a_silent_relay_is_503_in_time() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    bob.register(&mut net);
    net.relay.silent = true;
    let invite = alice.invite(BOB, &alice.sdp());
    net.say(NAT_A, P1, invite);
    let got = net.pass(Duration::from_secs(6));
    assert_eq!(told(&got, &alice).pop().map(|m| m.status()), Some(Some(503)));
}

// Abuse.

#[test]
fn a_stranger_who_speaks_like_a_sibling_is_compared_like_anybody() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    bob.register(&mut net);
    let invite = alice.invite(BOB, &alice.sdp());
    let forged = invite
        .edit()
        .append(Name::RelayVerdict, "direct")
        .append(Name::RelayPeer, "198.51.100.9:1")
        .append(Name::NodeAuth, "1767225600 AAAAAAAAAAAA")
        .finish();
    let got = net.say(NAT_A, P1, forged);
    let invite = asked(&got, &bob, "INVITE").expect("Bob is called");
    names_only_the_relay(&sdp_of(&invite.message));
    assert!(invite.message.text(Name::RelayVerdict).is_none());
    assert!(invite.message.text(Name::NodeAuth).is_none());
}

#[test]
fn a_sibling_without_proof_is_not_believed() {
    let mut net = Net::new();
    let (mut alice, mut bob) = (hidden_alice(), bob());
    bob.register(&mut net);
    // Forged from P1's address, straight to P2.
    let invite = alice.invite(BOB, &alice.sdp()).edit().append(Name::RelayVerdict, "direct").finish();
    let got = net.say(P1, P2, invite);
    let invite = asked(&got, &bob, "INVITE").expect("Bob is called");
    names_only_the_relay(&sdp_of(&invite.message));
}

/// P2 has anchored Bob's side: its answer names our relay, and P1 believes that of nobody but a proven sibling.
#[test]
fn an_answer_may_name_our_relay_only_under_a_siblings_proof() {
    for (change, status) in [("", 200), ("Node-Auth", 488), ("body", 488)] {
        let (mut net, mut alice, mut bob) = (Net::new(), alice(), hidden_bob());
        let sdp = alice.sdp();
        let invite = ring(&mut net, &mut alice, &mut bob, &sdp).message;
        let at_p2 =
            net.wire.iter().find(|p| p.to == address(P2) && p.message.text(Name::RelayVerdict).is_some());
        let at_p2 = at_p2.unwrap().message.clone();
        let (_, there) = invite.sdp().expect("P2 anchors what it sends to Bob");
        let there = Bytes::copy_from_slice(there);
        let unix = 1_767_225_600;
        let answer = proto::sip::reply(&at_p2, 200, "bob")
            .header(Name::Contact, "<sip:bob@10.0.0.2:5060>")
            .header(Name::RelayVerdict, "direct")
            .body("application/sdp", &there)
            .finish();
        let answer = KEY.sign(&answer, unix);
        let answer = match change {
            "" => answer,
            "body" => answer.edit().body(&[&there[..], b"a=x\r\n"].concat()).finish(),
            _ => answer.edit().remove(Name::NodeAuth).finish(),
        };
        let got = net.say(P2, P1, answer);
        let told = told(&got, &alice).pop().unwrap();
        assert_eq!(told.status(), Some(status), "{change}: {told:?}");
        if status == 200 {
            names_only_the_relay(&sdp_of(&told));
        } else {
            assert!(!sdp_of(&told).contains(MEDIA));
        }
    }
}

#[test]
fn an_sdp_that_names_our_relay_is_refused() {
    let (mut net, mut alice, mut bob) = (Net::new(), alice(), bob());
    bob.register(&mut net);
    let sdp = alice.sdp().replace("198.51.100.7", MEDIA).replace("m=audio 4000", "m=audio 20000");
    let invite = alice.invite(BOB, &sdp);
    let got = net.say("198.51.100.7:5060", P1, invite);
    let answer = told(&got, &alice).pop().unwrap();
    assert!(matches!(answer.status(), Some(400..=499)), "{:?}", answer.status());
    assert_eq!(net.relay.begun, 0);
    assert!(asked(&got, &bob, "INVITE").is_none());
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
