//! RFC 3326: Reason.

use proto::sip::Name;

use crate::desk::{A, B, C, Desk, in_dialog, invite, request, requests, response};

/// §2: a CANCEL keeps the reason its sender gave.
#[test]
fn a_cancel_says_why() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    desk.answer(&there, 180, &[]);
    let reason = "SIP;cause=600;text=\"Busy Everywhere\"";
    let cancel = requests(&desk.hear(A, invite().cancel().with("Reason", reason)), "CANCEL").remove(0);
    assert_eq!(cancel.message.text(Name::Reason), Some(reason));
}

/// §3.1: a branch that is cancelled because another one has answered is told so, with cause 200.
#[test]
fn a_phone_that_lost_shows_no_missed_call() {
    let mut desk = Desk::open();
    desk.register("bob", B, &format!("<sip:bob@{B}>, <sip:bob@{C}>"));
    let rung = requests(&desk.hear(A, request("INVITE", "sip:bob@example.com")), "INVITE");
    desk.answer_tagged(&rung[0], 180, "one", &[]);
    let cancel = requests(&desk.answer_tagged(&rung[1], 200, "two", &[]), "CANCEL").remove(0);
    assert!(cancel.message.text(Name::Reason).is_some_and(|reason| reason.contains("cause=200")));
}

/// §2: Reason in a BYE reaches the other end as it came.
#[test]
fn a_bye_says_why() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let ok = response(&desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]), A);
    let bye = in_dialog("BYE", 2, &ok).with("Reason", "Q.850;cause=16;text=\"Terminated\"");
    let bye = requests(&desk.hear(A, bye), "BYE").remove(0);
    assert_eq!(bye.message.text(Name::Reason), Some("Q.850;cause=16;text=\"Terminated\""));
}
