//! Messages that are broken, forged or sent again at the wrong moment: nothing dies, nothing is held for them, and the
//! call that is up does not notice.

use std::time::Duration;

use bytes::Bytes;
use proto::node::{Birth, Dice, Flow, Lane};
use proto::sip::{Message, Name};

use crate::tests::bench::{A, Bench, PROXY, open};
use crate::tests::net::*;
use crate::tests::testing::{Clock, address};

const NAT_A: &str = "198.51.100.1:40001";
const NAT_B: &str = "192.0.2.1:50001";
const STRANGER: &str = "192.0.2.66:6666";

/// A call between two phones behind NATs, and everything that was said in it.
fn call() -> (Net, Phone, Phone, Message) {
    let mut net = Net::new();
    let mut alice = Phone::behind_nat("alice", NAT_A, "10.0.0.2:5060", P1);
    let mut bob = Phone::behind_nat("bob", NAT_B, "10.0.0.2:5060", P2);
    bob.register(&mut net);
    let invite = alice.invite("sip:bob@b.example", &alice.sdp());
    let got = net.say(NAT_A, P1, invite);
    let invite = asked(&got, &bob, "INVITE").unwrap().message;
    let got = net.say(NAT_B, P2, bob.answer(&invite, 200, &bob.sdp()));
    let ok = told(&got, &alice).pop().unwrap();
    let ack = alice.in_dialog("ACK", &ok, "");
    net.say(NAT_A, P1, ack);
    (net, alice, bob, ok)
}

fn hang_up(net: &mut Net, alice: &mut Phone, bob: &Phone, ok: &Message) {
    let bye = alice.in_dialog("BYE", ok, "");
    let got = net.say(NAT_A, P1, bye);
    let bye = asked(&got, bob, "BYE").expect("the BYE of the call still reaches Bob");
    let got = net.say(NAT_B, P2, bob.answer(&bye.message, 200, ""));
    assert_eq!(told(&got, alice).pop().unwrap().status(), Some(200));
}

/// Some bytes changed, cut, doubled, or a line taken from another message.
fn mutated(dice: &mut Dice, corpus: &[Bytes]) -> Option<Message> {
    let mut bytes = corpus[dice.below(corpus.len() as u64) as usize].to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len().max(1) as u64) as usize;
        match dice.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = dice.u32() as u8),
            2 => {
                let end = (at + dice.below(40) as usize).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => bytes.extend_from_within(at..),
            _ => {
                let other = &corpus[dice.below(corpus.len() as u64) as usize];
                let lines: Vec<_> = other.split_inclusive(|byte| *byte == b'\n').collect();
                let line = lines[dice.below(lines.len() as u64) as usize];
                let here = bytes.iter().take(at).rposition(|byte| *byte == b'\n').map_or(0, |n| n + 1);
                bytes.splice(here..here, line.iter().copied());
            }
        }
    }
    Message::parse(Bytes::from(bytes)).ok()
}

fn dice(seed: u8) -> Dice {
    let now = Clock::new().now();
    Birth { now: now.at, wall: now.wall, seed: [seed; 32], lane: Lane::default() }.dice(0)
}

#[test]
fn mutated_messages_from_anywhere_kill_nothing_and_are_forgotten() {
    for seed in 0..4 {
        let (mut net, mut alice, bob, ok) = call();
        let corpus: Vec<Bytes> = net.wire.iter().map(|packet| packet.message.bytes().clone()).collect();
        let mut dice = dice(seed);
        let sources = [NAT_A, NAT_B, STRANGER, P1, P2, RELAY, REDIRECT];
        net.relay.lenient = true;
        for _ in 0..400 {
            let Some(message) = mutated(&mut dice, &corpus) else { continue };
            let from = sources[dice.below(7) as usize];
            let to = [P1, P2][dice.below(2) as usize];
            if from != to {
                net.say(from, to, message);
            }
            net.wire.clear();
        }
        // BYEs among them may have ended the call rightly: they carried its token.
        if net.status(P1).calls == 1 && net.status(P2).calls == 1 && net.relay.sessions.len() == 1 {
            hang_up(&mut net, &mut alice, &bob, &ok);
        }
        net.wire.clear();
        for _ in 0..60 {
            net.pass(Duration::from_secs(10));
            net.wire.clear();
        }
        for status in [P1, P2].map(|proxy| net.status(proxy)) {
            assert!(status.transactions <= 4, "seed {seed}: {status:?}");
        }
    }
}

#[test]
fn a_stranger_without_a_token_cannot_end_or_change_a_call() {
    let (mut net, mut alice, bob, ok) = call();
    let forged = |text: String| {
        let plain = text.replace("198.51.100.1", "192.0.2.66").replace("z9hG4bK", "z9hG4bKforged");
        Message::parse(Bytes::from(plain)).unwrap().edit().remove(Name::Route).finish()
    };
    for method in ["BYE", "INVITE", "UPDATE", "INFO"] {
        let sdp = if method == "BYE" { String::new() } else { alice.sdp() };
        let request = alice.clone().in_dialog(method, &ok, &sdp);
        let request = forged(String::from_utf8_lossy(request.bytes()).into_owned());
        let got = net.say(STRANGER, P1, request);
        assert!(got.iter().all(|packet| packet.message.status() == Some(481)), "{method}: {got:?}");
    }
    assert_eq!(net.relay.sessions.len(), 1);
    hang_up(&mut net, &mut alice, &bob, &ok);
}

#[test]
fn a_token_of_one_call_does_not_end_another() {
    let (mut net, mut alice, bob, ok) = call();
    // The stranger has a call of its own, and a token that is whole and ours.
    let mut mallory = Phone::public("mallory", STRANGER, P1);
    let invite = mallory.invite("sip:bob@b.example", &mallory.sdp());
    let got = net.say(STRANGER, P1, invite);
    let invite = asked(&got, &bob, "INVITE").unwrap().message;
    let got = net.say(NAT_B, P2, bob.answer(&invite, 200, &bob.sdp()));
    let own = told(&got, &mallory).pop().unwrap();
    let routes: Vec<_> = own.values(Name::RecordRoute).collect::<Vec<_>>().into_iter().rev().collect();
    let bye = mallory.in_dialog("BYE", &ok, "");
    let bye = bye.edit().remove(Name::Route).push_front(Name::Route, &routes.join(", ")).finish();
    let sessions = net.relay.sessions.clone();
    let got = net.say(STRANGER, P1, bye);
    assert!(got.iter().all(|packet| packet.message.status() == Some(481)), "{got:?}");
    assert_eq!(net.relay.sessions, sessions);
    assert_eq!(net.status(P1).calls, 2);
    hang_up(&mut net, &mut alice, &bob, &ok);
}

/// Whoever listens on the wire knows Call-ID and tags; an INVITE that repeats them must not buy a token for the call.
#[test]
fn an_invite_that_borrows_call_id_and_tag_buys_no_power_over_the_call() {
    let (mut net, mut alice, bob, ok) = call();
    let mut mallory = Phone::public("mallory", STRANGER, P1);
    let invite = mallory.invite("sip:bob@b.example", &mallory.sdp());
    let invite = invite
        .edit()
        .set(Name::CallId, ok.call_id())
        .set(Name::From, &format!("<sip:mallory@a.example>;tag={}", ok.from_tag()))
        .finish();
    let before = net.relay.sessions.clone();
    let got = net.say(STRANGER, P1, invite);
    let invite = asked(&got, &bob, "INVITE").unwrap().message;
    let got = net.say(NAT_B, P2, bob.answer(&invite, 200, &bob.sdp()));
    let own = told(&got, &mallory).pop().unwrap();
    let bye = mallory.in_dialog("BYE", &own, "");
    let bye =
        bye.edit().set(Name::From, ok.text(Name::From).unwrap()).set(Name::To, ok.text(Name::To).unwrap());
    let got = net.say(STRANGER, P1, bye.finish());
    if let Some(bye) = asked(&got, &bob, "BYE") {
        net.say(NAT_B, P2, bob.answer(&bye.message, 200, ""));
    }
    assert_eq!([net.status(P1).calls, net.status(P2).calls], [1, 1]);
    for session in before.keys() {
        assert!(net.relay.sessions.contains_key(session));
    }
    hang_up(&mut net, &mut alice, &bob, &ok);
}

/// A 481 ends a dialog when it answers a request of that dialog, not one that borrows its names.
#[test]
fn a_481_to_an_invite_that_borrows_call_id_and_tag_ends_nothing() {
    let (mut net, mut alice, bob, ok) = call();
    let mut mallory = Phone::public("mallory", STRANGER, P1);
    let invite = mallory.invite("sip:bob@b.example", &mallory.sdp());
    let from = format!("<sip:mallory@a.example>;tag={}", ok.to_tag());
    let invite = invite.edit().set(Name::CallId, ok.call_id()).set(Name::From, &from).finish();
    let got = net.say(STRANGER, P1, invite);
    let invite = asked(&got, &bob, "INVITE").unwrap().message;
    net.say(NAT_B, P2, bob.answer(&invite, 481, ""));
    assert_eq!([net.status(P1).calls, net.status(P2).calls], [1, 1]);
    hang_up(&mut net, &mut alice, &bob, &ok);
}

/// RFC 4475 §3.3.1 and its like: answered by what there is, without a transaction, and not for ever.
#[test]
fn a_broken_request_is_told_so_statelessly_as_long_as_its_sender_stays_within_the_limit() {
    let mut bench = Bench::new(open());
    let flow = Flow::udp(address(PROXY), address(A));
    let insuf = "INVITE sip:user@example.com SIP/2.0\r\nMax-Forwards: 6\r\nCSeq: 193942 INVITE\r\n\
                 Via: SIP/2.0/UDP 10.0.0.9:5070;rport;branch=z9hG4bK.kd\r\nl: 0\r\n\r\n";
    let sent = bench.bytes(flow, insuf);
    let answer = std::str::from_utf8(&sent[0].1).unwrap();
    assert!(sent.len() == 1 && sent[0].0 == flow && answer.starts_with("SIP/2.0 400 "), "{answer}");
    assert!(answer.contains("rport=5060;branch=z9hG4bK.kd;received=192.0.2.10"), "{answer}");
    assert_eq!(bench.bytes(flow, insuf), sent, "the same answer again");
    assert_eq!(bench.status(), Default::default());
    assert!(bench.bytes(flow, &insuf.replace("INVITE", "ACK")).is_empty());
    assert!(bench.bytes(flow, "nonsense").is_empty());
    bench.tables.allowed = Some(0);
    assert!(bench.bytes(flow, insuf).is_empty());
}
