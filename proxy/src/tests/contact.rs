//! The name a hidden party leaves in its Contact (`contact`), in stories of two proxies: RFC 3261 §8.1.1.8, §12; RFC 3515
//! §2.1 and RFC 3891 §3 for what others do with it.

use std::time::Duration;

use proto::sip::{Message, Name};

use crate::config::{Listener, Pattern, Trunk};
use crate::tests::bench::{everything_by, next};
use crate::tests::net::*;
use crate::tests::testing::address;

const BOB: &str = "sip:bob@b.example";
const NAT_A: &str = "198.51.100.1:40001";
const NAT_B: &str = "192.0.2.1:50001";
const INNER: &str = "10.0.0.2:5060";

fn hidden_alice() -> Phone {
    Phone::behind_nat("alice", NAT_A, INNER, P1)
}

fn hidden_bob() -> Phone {
    Phone::behind_nat("bob", NAT_B, INNER, P2)
}

fn bob() -> Phone {
    Phone::public("bob", "192.0.2.7:5060", P2)
}

fn contact(message: &Message) -> String {
    message.contacts().next().unwrap().unwrap().raw_uri.to_string()
}

/// Both registered; alice's INVITE as bob got it, bob's 200 as alice got it.
fn call(net: &mut Net, alice: &mut Phone, bob: &mut Phone) -> (Message, Message) {
    alice.register(net);
    bob.register(net);
    let invite = alice.invite(BOB, &alice.sdp());
    answered(net, alice, bob, invite)
}

fn answered(net: &mut Net, alice: &mut Phone, bob: &mut Phone, invite: Message) -> (Message, Message) {
    let got = net.say(&alice.seen_at.clone(), P1, invite);
    let invite = asked(&got, bob, "INVITE").unwrap_or_else(|| panic!("{:#?}", net.steps())).message;
    let got = net.say(&bob.seen_at, P2, bob.answer(&invite, 200, &bob.sdp()));
    let ok = told(&got, alice).pop().unwrap();
    let ack = alice.in_dialog("ACK", &ok, "");
    net.say(&alice.seen_at.clone(), P1, ack);
    (invite, ok)
}

/// Where `phone` gets it, a request of this method whose URI is `uri` arrives.
fn arrives(net: &mut Net, from: &Phone, request: Message, phone: &Phone, uri: &str) -> Message {
    let method = request.method().as_str().to_string();
    let got = net.say(&from.seen_at, from.proxy, request);
    let arrived = asked(&got, phone, &method).unwrap_or_else(|| panic!("{:#?}", net.steps())).message;
    assert_eq!(arrived.request_uri(), uri);
    arrived
}

fn without_vias(message: &Message) -> String {
    let text = String::from_utf8_lossy(message.bytes()).into_owned();
    text.lines().filter(|line| !line.starts_with("Via:")).collect::<Vec<_>>().join("\n")
}

#[test]
fn neither_partys_inner_address_reaches_the_other_outside_of_via() {
    let (mut net, mut alice) = (Net::new(), hidden_alice());
    let mut bob = Phone::behind_nat("bob", NAT_B, "10.9.9.9:5060", P2);
    let (invite, ok) = call(&mut net, &mut alice, &mut bob);
    assert!(contact(&invite).contains("@203.0.113.1:5060;aor=alice/a.example"), "{}", contact(&invite));
    assert!(contact(&ok).contains("@203.0.113.2:5060;aor=bob/b.example"), "{}", contact(&ok));
    for packet in net.wire {
        let text = without_vias(&packet.message);
        assert!(packet.to != address(NAT_B) || !text.contains("10.0.0.2"), "{text}");
        assert!(packet.to != address(NAT_A) || !text.contains("10.9.9.9"), "{text}");
    }
}

#[test]
fn a_token_fits_where_a_user_name_fits() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    let (invite, _) = call(&mut net, &mut alice, &mut bob);
    let uri = contact(&invite);
    let user = uri.strip_prefix("sip:").unwrap().split('@').next().unwrap();
    assert!(user.len() <= 48, "{user}");
}

/// RFC 3261 §12.2.1.1: the remote target of the other party's requests is the name; ours are the owner's own words.
#[test]
fn requests_in_the_dialog_reach_the_owner_with_the_contact_it_wrote() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), hidden_bob());
    let (invite, ok) = call(&mut net, &mut alice, &mut bob);
    let info = bob.in_dialog("INFO", &invite, "");
    let info = arrives(&mut net, &bob, info, &alice, "sip:alice@10.0.0.2:5060");
    assert!(info.text(Name::Route).is_none());
    let bye = alice.in_dialog("BYE", &ok, "");
    arrives(&mut net, &alice, bye, &bob, "sip:bob@10.0.0.2:5060");
}

#[test]
fn a_restarted_proxy_knows_the_contact_from_the_binding() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    let (invite, _) = call(&mut net, &mut alice, &mut bob);
    net.restart(P1);
    let bye = bob.in_dialog("BYE", &invite, "");
    arrives(&mut net, &bob, bye, &alice, "sip:alice@10.0.0.2:5060");
}

#[test]
fn of_an_unregistered_caller_it_knows_at_least_where_it_was_seen() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    bob.register(&mut net);
    let invite = alice.invite(BOB, &alice.sdp());
    let (invite, _) = answered(&mut net, &mut alice, &mut bob, invite);
    assert!(contact(&invite).ends_with(";u=alice"), "{}", contact(&invite));
    net.restart(P1);
    let bye = bob.in_dialog("BYE", &invite, "");
    arrives(&mut net, &bob, bye, &alice, "sip:alice@198.51.100.1:40001");
}

/// RFC 3840 §9, RFC 5627 §4.4: feature tags, the instance, and `gr` are kept.
#[test]
fn what_stands_beside_the_uri_stays() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    alice.register(&mut net);
    bob.register(&mut net);
    let rich = "\"Al\" <sip:alice@10.0.0.2:5060;gr=urn:uuid:7>;isfocus;+sip.instance=\"<urn:uuid:7>\"";
    let invite = alice.invite(BOB, "").edit().set(Name::Contact, rich).finish();
    let got = net.say(NAT_A, P1, invite);
    let value = asked(&got, &bob, "INVITE").unwrap().message.text(Name::Contact).unwrap().to_string();
    assert!(value.starts_with("\"Al\" <sip:"), "{value}");
    assert!(value.ends_with(";gr=urn:uuid:7>;isfocus;+sip.instance=\"<urn:uuid:7>\""), "{value}");
}

#[test]
fn who_can_be_reached_keeps_its_contact_byte_for_byte() {
    let mut alice = Phone::public("alice", "192.0.2.8:5060", P1);
    let (mut net, mut bob) = (Net::new(), bob());
    let (invite, ok) = call(&mut net, &mut alice, &mut bob);
    assert_eq!(invite.text(Name::Contact), Some("<sip:alice@192.0.2.8:5060>"));
    assert_eq!(ok.text(Name::Contact), Some("<sip:bob@192.0.2.7:5060>"));
}

#[test]
fn neighbours_in_one_private_network_keep_theirs() {
    let mut net = Net::new();
    let mut alice = Phone::public("alice", "10.0.0.3:5060", P1);
    let bob = Phone::public("bob", "10.0.0.4:5060", P1);
    bob.clone().register(&mut net);
    let invite = alice.invite("sip:bob@a.example", &alice.sdp());
    let got = net.say("10.0.0.3:5060", P1, invite);
    let invite = asked(&got, &bob, "INVITE").unwrap().message;
    assert_eq!(invite.text(Name::Contact), Some("<sip:alice@10.0.0.3:5060>"));
}

/// A carrier's answer may name another of its hosts; that is to be believed (RFC 3261 §12.1.2).
#[test]
fn a_trunks_contact_at_another_public_address_stays() {
    let mut net = Net::new();
    net.configure(P1, |config| {
        let sources = vec!["192.0.2.99".parse().unwrap()];
        let carrier = Trunk { trusted: true, sources, ..Trunk::to("carrier", next("192.0.2.99", 5060)) };
        everything_by(config, carrier);
        config.routes[0].user = Pattern::Prefix("+".into());
    });
    let (mut alice, carrier) = (hidden_alice(), Phone::public("+49", "192.0.2.99:5060", P1));
    let invite = alice.invite("sip:+49@a.example", &alice.sdp());
    let got = net.say(NAT_A, P1, invite);
    let invite = asked(&got, &carrier, "INVITE").unwrap().message;
    let mut other = carrier.clone();
    other.believes = "192.0.2.98:5060".into();
    let got = net.say("192.0.2.99:5060", P1, other.answer(&invite, 200, &carrier.sdp()));
    assert_eq!(contact(&told(&got, &alice).pop().unwrap()), "sip:+49@192.0.2.98:5060");
}

/// A proxy before us has its own ideas of its phones' Contacts, and its own Record-Route.
#[test]
fn a_contact_that_came_by_another_proxy_is_that_ones_matter() {
    let (mut net, mut alice, bob) = (Net::new(), hidden_alice(), bob());
    bob.clone().register(&mut net);
    let invite = alice.invite(BOB, &alice.sdp());
    let invite = invite
        .edit()
        .push_front(Name::Via, "SIP/2.0/UDP 198.51.100.1:40001;branch=z9hG4bKupstream")
        .push_front(Name::RecordRoute, "<sip:198.51.100.1:40001;lr>")
        .finish();
    let got = net.say(NAT_A, P1, invite);
    let invite = asked(&got, &bob, "INVITE").unwrap().message;
    assert_eq!(contact(&invite), "sip:alice@10.0.0.2:5060");
}

/// RFC 3323 §4.1.1.3: who calls anonymously is not named by us either.
#[test]
fn an_anonymous_callers_contact_names_nobody() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    alice.register(&mut net);
    bob.register(&mut net);
    let invite = alice.invite(BOB, &alice.sdp()).edit().append(Name::Privacy, "id").finish();
    let (invite, _) = answered(&mut net, &mut alice, &mut bob, invite);
    assert!(contact(&invite).ends_with("@203.0.113.1:5060"), "{}", contact(&invite));
    let bye = bob.in_dialog("BYE", &invite, "");
    arrives(&mut net, &bob, bye, &alice, "sip:alice@10.0.0.2:5060");
}

/// §12.2: a target refresh replaces the remote target.
#[test]
fn a_contact_that_changes_in_the_call_is_the_one_that_counts() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    let (invite, ok) = call(&mut net, &mut alice, &mut bob);
    alice.believes = "10.0.0.2:5999".into();
    let again = alice.in_dialog("INVITE", &ok, &alice.sdp());
    let got = net.say(NAT_A, P1, again);
    let again = asked(&got, &bob, "INVITE").unwrap().message;
    assert!(!without_vias(&again).contains("10.0.0.2:5999"), "{again:?}");
    net.say(&bob.seen_at, P2, bob.answer(&again, 200, &bob.sdp()));
    let bye = bob.in_dialog("BYE", &invite, "");
    arrives(&mut net, &bob, bye, &alice, "sip:alice@10.0.0.2:5999");
}

/// Carol at P2 was told to call alice by the name that bob knows her by (RFC 3515 §2.4.2), and to replace his call (RFC 3891
/// §3). Alice's NAT has moved since.
#[test]
fn a_third_party_that_is_referred_to_the_name_reaches_the_present_path_with_media_of_its_own() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    let (invite, ok) = call(&mut net, &mut alice, &mut bob);
    alice.seen_at = "198.51.100.1:41234".into();
    alice.register(&mut net);
    let mut carol = Phone::behind_nat("carol", "192.0.2.3:50003", "10.0.0.9:5060", P2);
    let begun = net.relay.begun;
    let replaces = format!("{};to-tag={};from-tag={}", ok.call_id(), ok.to_tag(), ok.from_tag());
    let refer_to = contact(&invite);
    let call = carol.invite(&refer_to, &carol.sdp());
    let call = call.edit().append(Name::Replaces, &replaces).append(Name::Require, "replaces").finish();
    let call = arrives(&mut net, &carol, call, &alice, "sip:alice@10.0.0.2:5060");
    assert_eq!(call.text(Name::Replaces), Some(&*replaces));
    assert_eq!(net.relay.begun, begun + 1, "{:#?}", net.steps());
    assert!(sdp_of(&call).contains(MEDIA));
    let got = net.say("198.51.100.1:41234", P1, alice.answer(&call, 200, &alice.sdp()));
    let ok = told(&got, &carol).pop().unwrap();
    assert!(ok.status() == Some(200) && sdp_of(&ok).contains(MEDIA), "{:#?}", net.steps());
    let bye = carol.in_dialog("BYE", &ok, "");
    arrives(&mut net, &carol, bye, &alice, "sip:alice@10.0.0.2:5060");
}

#[test]
fn a_name_outlives_the_call_but_not_a_day_and_no_letter_of_it_may_change() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    let (invite, _) = call(&mut net, &mut alice, &mut bob);
    let uri = contact(&invite);
    let forged = uri.replacen("sip:A", "sip:B", 1).replacen("sip:a", "sip:b", 1);
    let forged = if forged == uri { uri.replacen("sip:", "sip:A", 1) } else { forged };
    let mut carol = Phone::public("carol", "192.0.2.3:5060", P1);
    let mut outcome = |net: &mut Net, uri: &str, branch: &str| {
        let call = carol.invite(uri, &carol.sdp());
        let call_id = format!("call-{branch}");
        let via = format!("SIP/2.0/UDP 192.0.2.3:5060;branch=z9hG4bK{branch}");
        let call = call.edit().set(Name::CallId, &call_id).set(Name::Via, &via).finish();
        let got = net.say("192.0.2.3:5060", P1, call);
        let refused = told(&got, &carol).last().and_then(Message::status);
        (refused, asked(&got, &alice, "INVITE").is_some())
    };
    assert_eq!(outcome(&mut net, &forged, "forged"), (Some(404), false));
    assert_eq!(outcome(&mut net, &uri, "good"), (None, true));
    net.pass(Duration::from_secs(86_400 + 60));
    assert_eq!(outcome(&mut net, &uri, "old"), (Some(404), false));
}

/// RFC 7118 §5: a browser's Contact leads nowhere, whatever it says; we know the connection.
#[test]
fn a_browsers_contact_is_a_name_at_us() {
    use proto::node::{Flow, FlowId, Transport};
    let mut config = crate::tests::bench::plain();
    config.listeners.push(Listener { transport: Transport::Ws, ..config.listeners[0].clone() });
    let mut bench = crate::tests::bench::Bench::new(config);
    let text = crate::tests::bench::invite("sip:b@example.com")
        .replace("192.0.2.10:5060>", "192.0.2.10;transport=ws>");
    let at = Flow {
        transport: Transport::Ws,
        id: FlowId(7),
        ..Flow::udp(address(crate::tests::bench::PROXY), address("192.0.2.10:40000"))
    };
    let sent = bench.by(at, crate::tests::bench::message(&text));
    let leg = sent.iter().find(|s| s.flow.remote == address(crate::tests::bench::B)).unwrap();
    assert!(contact(&leg.message).contains("@203.0.113.1:5060"), "{}", contact(&leg.message));
}

/// RFC 3261 §8.1.1.8, §12.1.1: a Contact in sips stays one, at the listener that keeps the promise.
#[test]
fn a_secure_contact_stays_secure() {
    use proto::node::{Flow, FlowId, Transport};
    let mut config = crate::tests::bench::plain();
    let tls = Listener { transport: Transport::Tls, ..config.listeners[0].clone() };
    config.listeners.push(Listener {
        bind: address("203.0.113.1:5061"),
        advertise: address("203.0.113.1:5061"),
        ..tls
    });
    crate::tests::bench::trunk(&mut config).servers[0].next.transport = Some(Transport::Tls);
    let mut bench = crate::tests::bench::Bench::new(config);
    let text = crate::tests::bench::invite("sips:b@example.com")
        .replace("sip:a@192.0.2.10:5060", "sips:a@10.0.0.5:5061");
    let at = Flow {
        transport: Transport::Tls,
        id: FlowId(7),
        ..Flow::udp(address("203.0.113.1:5061"), address("192.0.2.10:40000"))
    };
    let sent = bench.by(at, crate::tests::bench::message(&text));
    let leg = sent.iter().find(|s| s.message.is_request()).unwrap_or_else(|| panic!("{sent:?}"));
    let contact = contact(&leg.message);
    assert!(contact.starts_with("sips:") && contact.contains("@203.0.113.1:5061"), "{contact}");
}
