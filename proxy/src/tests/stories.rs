//! Stories that go wrong, or go on for long: passwords, phones that move, relays and servers that are late.

use std::time::Duration;

use proto::digest;
use proto::event::{EndedBy, Event, Rule, Side};
use proto::sip::{Builder, Message, Name};

use crate::tests::net::*;
use crate::tests::testing::{address, user};

const BOB: &str = "sip:bob@b.example";
const NAT_A: &str = "198.51.100.1:40001";
const NAT_B: &str = "192.0.2.1:50001";

fn hidden_alice() -> Phone {
    Phone::behind_nat("alice", NAT_A, "10.0.0.2:5060", P1)
}

fn bob() -> Phone {
    Phone::public("bob", "192.0.2.7:5060", P2)
}

fn hidden_bob() -> Phone {
    Phone::behind_nat("bob", NAT_B, "10.0.0.2:5060", P2)
}

fn ring(net: &mut Net, alice: &mut Phone, bob: &Phone) -> Option<Packet> {
    let invite = alice.invite(BOB, &alice.sdp());
    let got = net.say(&alice.seen_at.clone(), P1, invite);
    asked(&got, bob, "INVITE")
}

/// A call that is up: the INVITE as Bob got it, the 200 as Alice got it.
fn call(net: &mut Net, alice: &mut Phone, bob: &mut Phone) -> (Message, Message) {
    bob.register(net);
    let invite = ring(net, alice, bob).unwrap_or_else(|| panic!("{:#?}", net.steps())).message;
    let got = net.say(&bob.seen_at, P2, bob.answer(&invite, 200, &bob.sdp()));
    let ok = told(&got, alice).pop().unwrap();
    let ack = alice.in_dialog("ACK", &ok, "");
    net.say(&alice.seen_at.clone(), P1, ack);
    (invite, ok)
}

fn count(net: &Net, step: &str) -> usize {
    net.steps().iter().filter(|s| *s == step).count()
}

// Passwords (RFC 3261 §22).

/// Both proxies ask for credentials.
fn guarded() -> Net {
    let mut net = Net::new();
    for proxy in [P1, P2] {
        net.configure(proxy, |config| config.listeners[0].authenticate = true);
        let tables = &mut net.stations.get_mut(&address(proxy)).unwrap().tables;
        tables.users = [user("alice", &["alice@"]), user("bob", &["bob@"])].map(Into::into).into();
    }
    net
}

/// Says it, and again with credentials when it is challenged.
fn authorized(net: &mut Net, phone: &Phone, request: &Message) -> Vec<Packet> {
    let got = net.say(&phone.seen_at, phone.proxy, request.clone());
    let challenged = told(&got, phone).pop().expect("an answer");
    let (asked, given) = match challenged.status() {
        Some(401) => (Name::WwwAuthenticate, Name::Authorization),
        Some(407) => (Name::ProxyAuthenticate, Name::ProxyAuthorization),
        other => panic!("{other:?} is no challenge"),
    };
    let challenge = challenged.text(asked).unwrap();
    let method = request.method().as_str();
    let what = digest::Request { method, body: request.body() };
    let uri = request.request_uri();
    let answer = digest::answer(challenge, phone.user, "secret", uri, what, 1, "cn").unwrap();
    let number = request.cseq().unwrap().number + 1;
    let via = request.text(Name::Via).unwrap().replace("z9hG4bK", "z9hG4bKauth");
    let again = request
        .edit()
        .set(Name::CSeq, &format!("{number} {method}"))
        .set(Name::Via, &via)
        .append(given, &answer)
        .finish();
    net.say(&phone.seen_at, phone.proxy, again)
}

#[test]
fn a_call_between_guarded_proxies_needs_each_password_once_and_shows_it_to_nobody() {
    let (mut net, mut alice, bob) = (guarded(), hidden_alice(), bob());
    let request = bob.clone().register_request();
    assert_eq!(told(&authorized(&mut net, &bob, &request), &bob).pop().unwrap().status(), Some(200));
    let invite = alice.invite(BOB, &alice.sdp());
    let got = authorized(&mut net, &alice, &invite);
    let invite = asked(&got, &bob, "INVITE").expect("P2 believes P1").message;
    assert!(invite.text(Name::ProxyAuthorization).is_none());
    let to_redirect = net.wire.iter().filter(|p| p.to == address(REDIRECT));
    assert!(to_redirect.into_iter().all(|p| p.message.text(Name::ProxyAuthorization).is_none()));
}

#[test]
fn a_call_without_a_password_costs_nothing() {
    let (mut net, mut alice) = (guarded(), hidden_alice());
    let invite = alice.invite(BOB, &alice.sdp());
    for _ in 0..100 {
        let got = net.say(NAT_A, P1, invite.clone());
        assert_eq!(told(&got, &alice).pop().unwrap().status(), Some(407));
    }
    assert_eq!((net.relay.begun, net.status(P1).calls), (0, 0));
}

#[test]
fn a_caller_whose_nat_moved_is_reached_where_it_registered_last() {
    let (mut net, mut alice, mut bob) = (guarded(), hidden_alice(), bob());
    let request = alice.register_request();
    authorized(&mut net, &alice, &request);
    let request = bob.register_request();
    authorized(&mut net, &bob, &request);
    let invite = alice.invite(BOB, &alice.sdp());
    let got = authorized(&mut net, &alice, &invite);
    let invite = asked(&got, &bob, "INVITE").unwrap().message;
    net.say(&bob.seen_at, P2, bob.answer(&invite, 200, &bob.sdp()));
    alice.seen_at = "198.51.100.1:49999".into();
    let request = alice.register_request();
    let got = authorized(&mut net, &alice, &request);
    assert_eq!(told(&got, &alice).pop().unwrap().status(), Some(200));
    let bye = bob.in_dialog("BYE", &invite, "");
    let got = net.say(&bob.seen_at, P2, bye);
    assert!(asked(&got, &alice, "BYE").is_some(), "{:#?}", net.steps());
}

// Names and addresses.

#[test]
fn whoever_dials_our_address_reaches_the_name_it_stands_for() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    for proxy in [P1, P2] {
        net.configure(proxy, |config| config.domains = vec!["example.com".into()]);
    }
    bob.domain = "203.0.113.2";
    bob.register(&mut net);
    let invite = alice.invite("sip:bob@203.0.113.1", &alice.sdp());
    let got = net.say(NAT_A, P1, invite);
    assert!(asked(&got, &bob, "INVITE").is_some(), "{:#?}", net.steps());
    assert!(net.redirect.served.contains_key("bob@example.com"));
}

// Late and lost.

#[test]
fn a_cancel_while_the_relay_is_asked_leaves_nothing_behind() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    bob.register(&mut net);
    net.relay.silent = true;
    let invite = alice.invite(BOB, &alice.sdp());
    net.say(NAT_A, P1, invite.clone());
    let got = net.say(NAT_A, P1, cancel_of(&invite));
    let statuses: Vec<_> = told(&got, &alice).iter().map(|m| m.status().unwrap()).collect();
    assert!(statuses.contains(&200) && statuses.contains(&487), "{statuses:?}");
    net.relay.silent = false;
    let got = net.pass(Duration::from_secs(70));
    assert!(asked(&got, &bob, "INVITE").is_none());
    assert_eq!(net.relay.sessions.len(), 0, "{:#?}", net.steps());
    assert_eq!(net.status(P1), Default::default());
}

/// RFC 3261 §9.1: same request URI, topmost Via, Call-ID, From, To and CSeq number.
fn cancel_of(invite: &Message) -> Message {
    let text = |name| invite.text(name).unwrap();
    let number = invite.cseq().unwrap().number;
    Builder::request("CANCEL", invite.request_uri())
        .header(Name::Via, text(Name::Via))
        .header(Name::MaxForwards, 70)
        .header(Name::From, text(Name::From))
        .header(Name::To, text(Name::To))
        .header(Name::CallId, text(Name::CallId))
        .header(Name::CSeq, format_args!("{number} CANCEL"))
        .finish()
}

#[test]
fn a_cancel_while_the_redirect_server_is_asked_frees_the_relay() {
    let (mut net, mut alice) = (Net::new(), hidden_alice());
    net.redirect.silent = true;
    let invite = alice.invite(BOB, &alice.sdp());
    net.say(NAT_A, P1, invite.clone());
    let got = net.say(NAT_A, P1, cancel_of(&invite));
    assert_eq!(told(&got, &alice).pop().unwrap().status(), Some(487));
    net.pass(Duration::from_secs(70));
    assert_eq!((net.relay.sessions.len(), net.status(P1)), (0, Default::default()), "{:#?}", net.steps());
}

#[test]
fn a_dead_proxy_among_several_is_passed_over() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    bob.register(&mut net);
    net.redirect.first = Some("sip:203.0.113.66:5060;transport=udp;lr".into());
    assert!(ring(&mut net, &mut alice, &bob).is_none(), "the dead one is tried first");
    let got = net.pass(Duration::from_secs(33));
    assert!(asked(&got, &bob, "INVITE").is_some(), "{:#?}", net.steps());
}

#[test]
fn a_callee_that_never_answers_leaves_nothing_behind() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    bob.register(&mut net);
    ring(&mut net, &mut alice, &bob).unwrap();
    let got = net.pass(Duration::from_secs(120));
    assert_eq!(told(&got, &alice).pop().unwrap().status(), Some(408));
    assert_eq!(net.relay.sessions.len(), 0);
    assert_eq!((net.status(P1), net.status(P2)), (Default::default(), Default::default()));
}

#[test]
fn a_repeated_200_is_told_again_without_asking_the_relay_again() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    let (invite, ok) = call(&mut net, &mut alice, &mut bob);
    let before = count(&net, "P1 INVITE relay");
    let got = net.say(&bob.seen_at, P2, bob.answer(&invite, 200, &bob.sdp()));
    let again = told(&got, &alice).pop().expect("the 200 goes back again (RFC 6026)");
    assert_eq!(sdp_of(&again), sdp_of(&ok));
    assert_eq!(count(&net, "P1 INVITE relay"), before);
}

// Long calls.

#[test]
fn a_long_call_keeps_its_ports() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    call(&mut net, &mut alice, &mut bob);
    let before = net.wire.len();
    net.pass(Duration::from_secs(1900));
    let refreshes = net.wire[before..].iter().filter(|p| p.to == address(RELAY)).count();
    assert!(refreshes >= 3, "{refreshes} requests in its dialog in 1900 s");
    assert_eq!(net.relay.sessions.len(), 1);
}

#[test]
fn prack_and_update_carry_their_sdp_through_the_relay() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), hidden_bob());
    let (_, ok) = call(&mut net, &mut alice, &mut bob);
    for method in ["UPDATE", "PRACK"] {
        let request = alice.in_dialog(method, &ok, &alice.sdp());
        let got = net.say(NAT_A, P1, request);
        let request = asked(&got, &bob, method).expect("it reaches Bob").message;
        assert!(sdp_of(&request).contains(MEDIA), "{method}");
        let got = net.say(NAT_B, P2, bob.answer(&request, 200, &bob.sdp()));
        assert!(sdp_of(told(&got, &alice).last().unwrap()).contains(MEDIA), "{method}");
    }
}

/// RFC 3515, RFC 5589: a transfer is the parties' business; its words pass as they are.
#[test]
fn a_refer_and_its_notify_pass_untouched() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), hidden_bob());
    let (invite, ok) = call(&mut net, &mut alice, &mut bob);
    let sessions = net.relay.sessions.clone();
    let refer_to = "<sip:carol@b.example?Replaces=1%40a%3Bto-tag%3D2>";
    let refer = alice.in_dialog("REFER", &ok, "").edit().append(Name::ReferTo, refer_to).finish();
    let got = net.say(NAT_A, P1, refer);
    let refer = asked(&got, &bob, "REFER").expect("the REFER reaches Bob").message;
    assert_eq!(refer.text(Name::ReferTo), Some(refer_to));
    let got = net.say(NAT_B, P2, bob.answer(&refer, 202, ""));
    assert_eq!(told(&got, &alice).last().unwrap().status(), Some(202));
    let state = "SIP/2.0 100 Trying\r\n";
    let notify = bob.in_dialog("NOTIFY", &invite, "");
    let notify = notify.edit().set(Name::ContentType, "message/sipfrag");
    let got = net.say(NAT_B, P2, notify.body(state.as_bytes()).finish());
    let notify = asked(&got, &alice, "NOTIFY").expect("the NOTIFY reaches Alice").message;
    assert_eq!(notify.body(), state.as_bytes());
    net.say(NAT_A, P1, alice.answer(&notify, 200, ""));
    assert_eq!((&net.relay.sessions, net.status(P1).calls), (&sessions, 1));
}

// The answer tells what nobody could know.

#[test]
fn what_the_answer_reveals_is_remembered_for_the_next_call() {
    let (mut net, mut alice, mut bob) = (Net::new(), Phone::public("alice", "198.51.100.7:5060", P1), bob());
    bob.register(&mut net);
    let invite = ring(&mut net, &mut alice, &bob).unwrap().message;
    let odd = bob.sdp().replace("192.0.2.7", "192.168.7.7");
    let got = net.say(&bob.seen_at, P2, bob.answer(&invite, 200, &odd));
    assert_eq!(sdp_of(told(&got, &alice).last().unwrap()), odd, "too late for this call");
    let late = net.events.iter().any(|(at, event)| {
        matches!(event, Event::MediaDecided(told)
            if *at == address(P2) && told.rule == Rule::DecidedTooLate && told.side == Side::Callee)
    });
    assert!(late, "{:#?}", net.events);
    let bye = alice.in_dialog("BYE", told(&got, &alice).last().unwrap(), "");
    let got = net.say(&alice.seen_at.clone(), P1, bye);
    let bye = asked(&got, &bob, "BYE").unwrap().message;
    net.say(&bob.seen_at, P2, bob.answer(&bye, 200, ""));
    net.pass(Duration::from_secs(40));
    let mut again = alice.clone();
    again.believes = "198.51.100.7:5060".into();
    let invite = again.invite(BOB, &again.sdp()).edit().set(Name::CallId, "another-call").finish();
    let got = net.say(&again.seen_at, P1, invite);
    let invite = asked(&got, &bob, "INVITE").expect("Bob is called again").message;
    assert!(sdp_of(&invite).contains(MEDIA), "{:#?}", net.steps());
}

// RFC 4320 §4.2.

#[test]
fn a_request_other_than_invite_that_finds_no_answer_is_not_answered_408() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    bob.register(&mut net);
    let text = String::from_utf8_lossy(alice.invite(BOB, "").bytes()).replace("INVITE", "MESSAGE");
    let got = net.say(NAT_A, P1, crate::tests::testing::message(&text));
    assert!(asked(&got, &bob, "MESSAGE").is_some());
    let got = net.pass(Duration::from_secs(60));
    assert!(told(&got, &alice).is_empty(), "it would come too late for anybody");
    assert_eq!(net.status(P1), Default::default());
}

// Session timers (RFC 4028).

/// A call whose 200 says so.
fn call_that_expires(anchored: bool) -> (Net, Phone, Phone, Message) {
    let mut net = Net::new();
    let mut alice = if anchored { hidden_alice() } else { Phone::public("alice", "198.51.100.7:5060", P1) };
    let mut bob = bob();
    bob.register(&mut net);
    let invite = ring(&mut net, &mut alice, &bob).unwrap().message;
    let got = net.say(&bob.seen_at, P2, expiring(&bob.answer(&invite, 200, &bob.sdp())));
    let ok = told(&got, &alice).pop().unwrap();
    let ack = alice.in_dialog("ACK", &ok, "");
    net.say(&alice.seen_at, P1, ack);
    (net, alice, bob, ok)
}

fn expiring(answer: &Message) -> Message {
    answer.edit().append(Name::SessionExpires, "300;refresher=uac").finish()
}

#[test]
fn a_call_that_is_not_refreshed_ends_when_its_session_timer_says() {
    for anchored in [true, false] {
        let (mut net, ..) = call_that_expires(anchored);
        net.pass(Duration::from_secs(299));
        assert_eq!(
            [net.status(P1).calls, net.status(P2).calls, net.relay.sessions.len()],
            [1, 1, usize::from(anchored)]
        );
        net.pass(Duration::from_secs(1));
        assert_eq!([net.status(P1).calls, net.status(P2).calls, net.relay.sessions.len()], [0, 0, 0]);
        let by_timer = |(_, event): &&(std::net::SocketAddr, Event)| matches!(event, Event::CallEnded(ended) if ended.by == EndedBy::Timeout && ended.status == 200);
        assert_eq!(net.events.iter().filter(by_timer).count(), 2);
    }
}

#[test]
fn a_refresh_keeps_a_call_up_and_one_without_a_timer_ends_the_timer() {
    for timer in [true, false] {
        let (mut net, mut alice, bob, ok) = call_that_expires(true);
        net.pass(Duration::from_secs(200));
        let update = alice.in_dialog("UPDATE", &ok, "");
        let got = net.say(&alice.seen_at, P1, update);
        let update = asked(&got, &bob, "UPDATE").unwrap().message;
        let answer = bob.answer(&update, 200, "");
        net.say(&bob.seen_at, P2, if timer { expiring(&answer) } else { answer });
        net.pass(Duration::from_secs(299));
        assert_eq!(net.status(P1).calls, 1);
        net.pass(Duration::from_secs(400));
        assert_eq!(net.status(P1).calls, usize::from(!timer));
    }
}
