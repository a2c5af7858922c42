//! Scenarios 1a to 1d: who needs a relay, and which proxy asks for it.

use super::*;

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
