//! RFC 5621: bodies in several parts.

use crate::desk::{Desk, invite};

/// §3: a body of several parts that we have no part in goes on byte for byte.
#[test]
fn parts_are_left_as_they_are() {
    let body = "--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n--b\r\nContent-Type: application/isup\r\n\r\n\u{1}\u{2}\r\n--b--\r\n";
    let there = Desk::open().forwarded(invite().carrying("multipart/mixed;boundary=b", body)).message;
    assert_eq!(there.body(), body.as_bytes());
}

/// §8: Content-Disposition is for the callee.
#[test]
fn what_a_body_is_for_is_no_business_of_ours() {
    let draft = invite()
        .carrying("application/x-unknown", "anything")
        .with("Content-Disposition", "session;handling=required");
    let text = String::from_utf8_lossy(Desk::open().forwarded(draft).message.bytes()).into_owned();
    assert!(text.contains("Content-Disposition: session;handling=required\r\n"));
}
