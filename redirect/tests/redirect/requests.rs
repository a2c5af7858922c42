//! What RFC 3261 asks of any server: methods, extensions, transactions.

use crate::*;

#[test]
fn other_methods_are_not_allowed() {
    let mut scene = Scene::new();
    for method in ["BYE", "SUBSCRIBE", "MESSAGE", "UPDATE", "FOO"] {
        let request = scene.request(method, "sip:bob@example.com", P1, "");
        let answer = scene.ask(P1, &request);
        assert_eq!(
            (status(&answer), answer.text(Name::Allow)),
            (405, Some("INVITE, ACK, CANCEL, OPTIONS, REGISTER"))
        );
    }
}

#[test]
fn options_says_what_is_allowed_to_anybody() {
    let mut scene = Scene::new();
    let options = scene.request("OPTIONS", "sip:203.0.113.10", STRANGER, "");
    let answer = scene.hears(STRANGER, options).remove(0);
    assert_eq!(
        (status(&answer), answer.text(Name::Allow)),
        (200, Some("INVITE, ACK, CANCEL, OPTIONS, REGISTER"))
    );
}

#[test]
fn required_extensions_are_named_as_unsupported() {
    let mut scene = Scene::new();
    for method in ["INVITE", "REGISTER"] {
        let request = scene.request(method, "sip:bob@example.com", P1, "Require: path, 100rel\r\n");
        let answer = scene.ask(P1, &request);
        assert_eq!((status(&answer), answer.text(Name::Unsupported)), (420, Some("path, 100rel")));
    }
}

#[test]
fn max_forwards_must_be_a_number_and_may_be_zero() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    for (value, expected) in [("0", 302), ("many", 400)] {
        let invite = scene.request("INVITE", "sip:bob@example.com", P1, "");
        let invite = invite.edit().set(Name::MaxForwards, value).finish();
        assert_eq!(status(&scene.ask(P1, &invite)), expected);
    }
}

#[test]
fn an_invite_inside_a_dialog_is_481() {
    let mut scene = Scene::new();
    let invite = scene.request("INVITE", "sip:bob@example.com", P1, "To: <sip:bob@example.com>;tag=x\r\n");
    assert_eq!(status(&scene.ask(P1, &invite)), 481);
}

#[test]
fn a_retransmitted_invite_gets_the_same_answer_and_is_told_once() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    scene.events.clear();
    let invite = scene.request("INVITE", "sip:bob@example.com", P1, "");
    let invite = scene.signed(&invite);
    let first = scene.hears(P1, invite.clone()).remove(0);
    let again = scene.hears(P1, invite).remove(0);
    assert_eq!(first.bytes(), again.bytes());
    assert_eq!(scene.events.len(), 1);
}

#[test]
fn an_unacknowledged_302_is_repeated_until_timer_h_and_an_acknowledged_one_is_not() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    scene.invite("sip:bob@example.com");
    scene.pass(MINUTE);
    assert!(scene.sent().is_empty());
    let invite = scene.request("INVITE", "sip:bob@example.com", P1, "");
    scene.ask(P1, &invite);
    scene.pass(MINUTE);
    assert_eq!(scene.sent().len(), 10);
}

#[test]
fn a_cancel_after_the_answer_is_ok_and_one_for_nothing_is_481() {
    let mut scene = Scene::new();
    let invite = scene.request("INVITE", "sip:bob@example.com", P1, "");
    scene.ask(P1, &invite);
    let cancel = |branch: &str| {
        message(&format!(
            "CANCEL sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {P1};branch={branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:p@example.com>;tag=f\r\nTo: <sip:bob@example.com>\r\nCall-ID: call\r\nCSeq: 1 CANCEL\r\n\r\n"
        ))
    };
    assert_eq!(status(&scene.hears(P1, cancel("z9hG4bK1"))[0]), 200);
    assert_eq!(status(&scene.hears(P1, cancel("z9hG4bK77"))[0]), 481);
}

#[test]
fn a_draining_server_takes_nothing_new() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    scene.give(Input::Drain);
    assert_eq!(status(&scene.invite("sip:bob@example.com")), 503);
    assert_eq!(status(&scene.register(P2, P2_LR)), 503);
}
