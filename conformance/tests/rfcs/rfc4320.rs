//! RFC 4320: what a non-INVITE transaction must not do.

use std::time::Duration;

use crate::desk::{A, B, Desk, T1, request, requests, statuses};

fn message() -> crate::desk::Draft {
    request("MESSAGE", &format!("sip:bob@{B}"))
}

/// §4.1: no provisional response but 100 is sent to a request that is no INVITE; a callee's is passed on no further.
#[test]
fn a_message_is_not_ringing() {
    let mut desk = Desk::open();
    let there = requests(&desk.hear(A, message()), "MESSAGE").remove(0);
    assert!(statuses(&desk.answer(&there, 100, &[]), A).is_empty());
}

/// §4.2: a proxy sends no 408 to a request that is no INVITE: it would come too late to be of use.
#[test]
fn silence_is_answered_with_silence() {
    let mut desk = Desk::open();
    desk.hear(A, message());
    assert!(statuses(&desk.pass(70 * T1), A).is_empty());
    assert_eq!(desk.proxy.status().transactions, 0);
}

/// §4.2: a 408 that comes from downstream is not passed on either.
#[test]
fn a_callee_s_own_408_goes_no_further() {
    let mut desk = Desk::open();
    let there = requests(&desk.hear(A, message()), "MESSAGE").remove(0);
    desk.pass(Duration::from_secs(1));
    assert!(desk.answer(&there, 408, &[]).is_empty());
}

/// §4.3: a response that comes after its transaction has ended is not forwarded.
#[test]
fn an_answer_that_is_too_late_goes_nowhere() {
    let mut desk = Desk::open();
    let there = requests(&desk.hear(A, message()), "MESSAGE").remove(0);
    desk.pass(70 * T1);
    assert!(desk.answer(&there, 200, &[]).is_empty());
}
