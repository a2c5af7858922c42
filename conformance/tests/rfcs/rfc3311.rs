//! RFC 3311: UPDATE, which a proxy lets through.

use crate::desk::{A, B, Desk, in_dialog, invite, requests, response};

/// §4, §5: an UPDATE in an early or confirmed dialog goes to the other end, and its answer back.
#[test]
fn an_update_goes_to_the_other_end() {
    for status in [183, 200] {
        let mut desk = Desk::open();
        let there = desk.forwarded(invite());
        let first = response(&desk.answer(&there, status, &[("Contact", &format!("<sip:bob@{B}>"))]), A);
        let update = requests(&desk.hear(A, in_dialog("UPDATE", 2, &first)), "UPDATE").remove(0);
        assert_eq!(update.flow.remote.to_string(), B);
        assert_eq!(response(&desk.answer(&update, 200, &[]), A).status(), Some(200));
    }
}

/// §5.2: an UPDATE that meets another one is refused by the callee (491), and the refusal reaches who sent it.
#[test]
fn a_refusal_of_an_update_comes_back() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let ok = response(&desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]), A);
    let update = requests(&desk.hear(A, in_dialog("UPDATE", 2, &ok)), "UPDATE").remove(0);
    assert_eq!(response(&desk.answer(&update, 491, &[]), A).status(), Some(491));
}
