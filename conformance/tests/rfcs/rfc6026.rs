//! RFC 6026: what RFC 3261 had wrong about 2xx responses to INVITE.

use crate::desk::{A, B, Desk, Sent, T1, TICK, invite, requests, statuses};

fn answered(desk: &mut Desk) -> Sent {
    let there = desk.forwarded(invite());
    assert_eq!(statuses(&desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]), A), [200]);
    there
}

/// §7.1, §8.4: a client transaction stays in Accepted after a 2xx, so that its repetitions are forwarded too.
#[test]
fn a_repeated_success_is_forwarded() {
    let mut desk = Desk::open();
    let there = answered(&mut desk);
    desk.pass(10 * T1);
    assert_eq!(statuses(&desk.answer(&there, 200, &[]), A), [200]);
}

/// §8.4: timer M ends that after 64·T1; what comes later is forwarded no more (§8.9).
#[test]
fn a_success_that_comes_too_late_goes_nowhere() {
    let mut desk = Desk::open();
    let there = answered(&mut desk);
    desk.pass(64 * T1 + TICK);
    assert!(desk.answer(&there, 200, &[]).is_empty());
}

/// §7.1, §8.7: a server transaction stays in Accepted: the INVITE that comes again is absorbed, and not forwarded.
#[test]
fn a_repeated_invite_is_absorbed_after_the_success() {
    let mut desk = Desk::open();
    answered(&mut desk);
    assert!(requests(&desk.hear(A, invite()), "INVITE").is_empty());
}

/// §8.7: timer L ends that after 64·T1.
#[test]
fn nothing_is_left_when_timer_l_has_fired() {
    let mut desk = Desk::open();
    answered(&mut desk);
    desk.pass(64 * T1 + TICK);
    assert_eq!(desk.proxy.status().transactions, 0);
}

/// §8.9: a proxy retransmits no 2xx by itself: the callee does, until the ACK reaches it.
#[test]
fn the_proxy_repeats_no_success() {
    let mut desk = Desk::open();
    answered(&mut desk);
    assert!(statuses(&desk.pass(64 * T1), A).is_empty());
}
