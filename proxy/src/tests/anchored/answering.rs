//! Answers, early, late and bad ones.

use super::*;

/// RFC 3311: the answer in an UPDATE's 200 goes by the relay, and waits for it.
#[test]
fn the_answer_to_an_update_reaches_its_sender_by_way_of_the_relay() {
    let mut bench = Bench::new(always());
    let ok = answered(&mut bench);
    let update = format!("{}\n\n{}", in_dialog("UPDATE", 2, &ok), sdp("10.0.0.1", 4444));
    let sent = bench.from(A, &update);
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let sent = bench.answer(&one(&sent, B, Method::Update), 200, CALLEE, &crlf(&sdp("192.168.0.5", 6666)));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let got = to(&sent, A).into_iter().find(|m| m.status() == Some(200)).expect("A gets the answer");
    assert!(std::str::from_utf8(got.body()).unwrap().contains(RELAYED));
}

/// 1e: late offer. Ports are reserved before the INVITE goes on; the offer is in the 200, the answer in the ACK.
#[test]
fn a_late_offer_is_answered_in_the_ack_by_way_of_the_relay() {
    let mut bench = Bench::new(always());
    let sent = bench.from(A, &invite("sip:b@example.com"));
    let reserve = one(&sent, RELAY, Method::Invite);
    assert!(reserve.message.sdp().is_none());
    let sent = relayed(&mut bench, &reserve);
    let sent = bench.answer(&one(&sent, B, Method::Invite), 200, CALLEE, &crlf(&sdp("192.168.0.5", 6000)));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let ok = to(&sent, A)[0].clone();
    let ack = format!("{}\n\n{}", in_dialog("ACK", 1, &ok), sdp("10.0.0.1", 4000));
    let sent = bench.from(A, &ack);
    let asked = one(&sent, RELAY, Method::Invite);
    assert_eq!(Ask::read(&asked.message).unwrap().leg, Side::Caller);
    let sent = relayed(&mut bench, &asked);
    let ack = one(&sent, B, Method::Ack);
    assert!(std::str::from_utf8(ack.message.body()).unwrap().contains(RELAYED));
}

/// 1e: early media, and a 200 that repeats it without asking the relay again.
#[test]
fn early_media_goes_by_the_relay_once() {
    let mut bench = Bench::new(always());
    let sent = bench.from(A, &offer("sip:b@example.com", "10.0.0.1"));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let forwarded = one(&sent, B, Method::Invite);
    let answer = crlf(&sdp("192.168.0.5", 6000));
    let sent = bench.answer(&forwarded, 183, CALLEE, &answer);
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    assert_eq!(to(&sent, A)[0].status(), Some(183));
    let sent = bench.answer(&forwarded, 200, CALLEE, &answer);
    assert!(to(&sent, RELAY).is_empty());
    assert!(std::str::from_utf8(to(&sent, A)[0].body()).unwrap().contains(RELAYED));
}

/// DESIGN §5: an answer that contradicts its source is too late for this call, and anchors the next.
#[test]
fn an_answer_that_reveals_a_nat_anchors_the_next_call() {
    let mut bench = Bench::new(Config { relays: vec![relay("r", RELAY)], anchor: Anchor::Auto, ..plain() });
    let sent = bench.from(A, &offer("sip:b@example.com", "192.0.2.10"));
    bench.answer(&one(&sent, B, Method::Invite), 200, CALLEE, &crlf(&sdp("192.168.0.5", 6000)));
    assert_eq!(decided(&bench).last().unwrap().rule, Rule::DecidedTooLate);
    let next = offer("sip:b@example.com", "192.0.2.10")
        .replace("Call-ID: c1", "Call-ID: c2")
        .replace("z9hG4bKa1", "z9hG4bKa2");
    one(&bench.from(A, &next), RELAY, Method::Invite);
}

/// A relay that can't take the answer: nobody is left in a call without media.
#[test]
fn an_answer_no_relay_takes_hangs_up_the_callee() {
    let mut bench = Bench::new(always());
    let sent = bench.from(A, &offer("sip:b@example.com", "10.0.0.1"));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let sent = bench.answer(&one(&sent, B, Method::Invite), 200, CALLEE, &crlf(&sdp("192.168.0.5", 6000)));
    let sent = bench.answer(&one(&sent, RELAY, Method::Invite), 488, "", "");
    one(&sent, B, Method::Ack);
    one(&sent, B, Method::Bye);
    assert_eq!(to(&sent, A)[0].status(), Some(488));
    assert_eq!(bench.status().calls, 0);
}

#[test]
fn an_answer_that_names_our_relay_is_refused() {
    let mut bench = Bench::new(Config { anchor: Anchor::Never, ..always() });
    let sent = bench.from(A, &offer("sip:b@example.com", "192.0.2.10"));
    let sent = bench.answer(&one(&sent, B, Method::Invite), 200, CALLEE, &crlf(&sdp(RELAYED, 20_004)));
    assert_eq!(to(&sent, A)[0].status(), Some(488));
    one(&sent, B, Method::Bye);
}
