//! Stories of callers who don't want to be known (RFC 3323): alice at P1 calls bob at P2, both in public.

use proto::sip::{Message, Name};

use crate::tests::bench::{A, Bench, invite as plain_invite, plain, to};
use crate::tests::net::*;

const BOB: &str = "sip:bob@b.example";
const PERSONAL: [&str; 4] = ["Subject", "User-Agent", "Organization", "Call-Info"];

fn pair() -> (Net, Phone, Phone) {
    let mut net = Net::new();
    let alice = Phone::public("alice", "198.51.100.7:5060", P1);
    let mut bob = Phone::public("bob", "192.0.2.7:5060", P2);
    bob.register(&mut net);
    (net, alice, bob)
}

/// A call with this wish: the INVITE as bob got it, the 200 as alice did.
fn call(net: &mut Net, alice: &mut Phone, bob: &mut Phone, wish: &str) -> (Message, Message) {
    let sdp = alice.sdp().replacen("s=", "i=Alice's own line\r\ns=", 1).replacen("o=", "o=alice", 1);
    let invite = alice.invite(BOB, &sdp);
    let edit = PERSONAL.iter().fold(invite.edit(), |edit, name| edit.append_named(name, "alice's"));
    let invite = edit.append(Name::Privacy, wish).finish();
    let from = invite.text(Name::From).unwrap().to_owned();
    let got = net.say(&alice.seen_at.clone(), P1, invite);
    let invite = asked(&got, bob, "INVITE").expect("bob rings").message;
    let got = net.say(&bob.seen_at.clone(), P2, bob.answer(&invite, 200, &bob.sdp()));
    let ok = told(&got, alice).pop().expect("alice gets an answer");
    assert_eq!((ok.status(), ok.text(Name::From)), (Some(200), Some(&*from)), "as she wrote it herself");
    assert_eq!(ok.vias().count(), 1);
    let ack = alice.in_dialog("ACK", &ok, "");
    let got = net.say(&alice.seen_at.clone(), P1, ack);
    assert_hidden(&asked(&got, bob, "ACK").expect("the ACK reaches bob").message, wish);
    (invite, ok)
}

/// Nothing in a message at bob shows what the wish is about.
#[track_caller]
fn assert_hidden(message: &Message, wish: &str) {
    let text = String::from_utf8_lossy(message.bytes()).into_owned();
    if wish.contains("header") {
        let ours = |value: &str| value.contains("203.0.113.");
        assert!(message.values(Name::Via).all(ours) && message.vias().count() == 1, "{text}");
        assert!(message.values(Name::Contact).all(ours), "{text}");
        assert!(message.values(Name::RecordRoute).all(|route| route.contains("hid~")), "{text}");
    }
    if wish.contains("user") {
        let from = message.text(Name::From).unwrap();
        assert!(from.starts_with("\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag="), "{text}");
        assert!(message.values(Name::Contact).all(|contact| !contact.contains("alice")), "{text}");
        let told = |name: &&str| message.headers().any(|header| header.raw_name == name.as_bytes());
        assert!(!PERSONAL.iter().any(told), "{text}");
    }
    if wish.contains("session") {
        let sdp = sdp_of(message);
        assert!(!sdp.contains("198.51.100.7") && !sdp.contains("alice") && !sdp.contains("Alice"), "{text}");
    }
}

#[test]
fn what_a_caller_wants_hidden_is_hidden_for_as_long_as_the_call_lasts() {
    for wish in ["header", "user", "session", "header;user;session;critical", "user;header"] {
        for restarts in [false, true] {
            let (mut net, mut alice, mut bob) = pair();
            let (invite, ok) = call(&mut net, &mut alice, &mut bob, wish);
            assert_hidden(&invite, wish);
            assert_eq!(invite.text(Name::Privacy), None, "{wish}: it is done");
            if restarts {
                net.restart(P1);
                net.restart(P2);
            }
            // Her phone does not repeat its wish.
            let again = alice.in_dialog("INVITE", &ok, &alice.sdp());
            let got = net.say(&alice.seen_at.clone(), P1, again);
            let again = asked(&got, &bob, "INVITE").expect("the re-INVITE reaches bob").message;
            assert_hidden(&again, wish);
            let got = net.say(&bob.seen_at.clone(), P2, bob.answer(&again, 200, &bob.sdp()));
            let ok = told(&got, &alice).pop().expect("and its answer alice");
            assert!(ok.text(Name::From).unwrap().contains("alice"));
            let bye = bob.in_dialog("BYE", &invite, "");
            let got = net.say(&bob.seen_at.clone(), P2, bye);
            let bye = asked(&got, &alice, "BYE").expect("the BYE reaches alice").message;
            assert_eq!(bye.request_uri(), "sip:alice@198.51.100.7:5060");
            let got = net.say(&alice.seen_at.clone(), P1, alice.answer(&bye, 200, ""));
            assert_eq!(told(&got, &bob).pop().unwrap().status(), Some(200));
        }
    }
}

#[test]
fn who_asks_for_nothing_is_shown_as_it_is() {
    let (mut net, mut alice, mut bob) = pair();
    let (invite, _) = call(&mut net, &mut alice, &mut bob, "none");
    assert!(invite.text(Name::From).unwrap().contains("alice@"));
    assert!(invite.values(Name::Contact).all(|contact| contact.contains("alice@198.51.100.7")));
    assert!(sdp_of(&invite).contains("198.51.100.7"));
    assert_eq!((invite.vias().count(), invite.text(Name::Privacy)), (3, Some("none")));
}

/// §5: what nobody here does is left to the next.
#[test]
fn only_what_was_done_is_taken_off_the_wish() {
    let (mut net, mut alice, mut bob) = pair();
    let (invite, _) = call(&mut net, &mut alice, &mut bob, "user;id;history");
    assert_eq!(invite.text(Name::Privacy), Some("id;history"));
}

/// A callee may want to be unknown, too.
#[test]
fn an_answer_hides_what_its_sender_wants_hidden() {
    let (mut net, mut alice, bob) = pair();
    let invite = alice.invite(BOB, &alice.sdp());
    let got = net.say(&alice.seen_at.clone(), P1, invite);
    let invite = asked(&got, &bob, "INVITE").unwrap().message;
    let answer = bob.answer(&invite, 200, &bob.sdp());
    let answer =
        answer.edit().append(Name::Privacy, "header;user").append(Name::Server, "bob's own").finish();
    let got = net.say(&bob.seen_at.clone(), P2, answer);
    let ok = told(&got, &alice).pop().unwrap();
    let contact = ok.text(Name::Contact).unwrap();
    assert!(!contact.contains("bob") && !contact.contains("192.0.2.7"), "{contact}");
    assert!(
        ok.values(Name::RecordRoute).all(|route| route.contains("hid~")) && ok.text(Name::Server).is_none()
    );
    let bye = alice.in_dialog("BYE", &ok, "");
    let got = net.say(&alice.seen_at.clone(), P1, bye);
    let bye = asked(&got, &bob, "BYE").expect("the BYE finds him").message;
    assert_eq!(bye.request_uri(), "sip:bob@192.0.2.7:5060");
}

/// §5: `critical` asks for no call rather than an open one.
#[test]
fn a_call_that_must_not_be_seen_is_refused_where_nothing_hides_its_media() {
    for (wish, refused) in [("session;critical", true), ("session", false), ("header;critical", false)] {
        let sent =
            Bench::new(plain()).from(A, &format!("{}\nPrivacy: {wish}", plain_invite("sip:b@example.com")));
        let status = to(&sent, A).iter().filter_map(|answer| answer.status()).find(|status| *status >= 200);
        assert_eq!(status == Some(500), refused, "{wish}: {sent:?}");
    }
}
