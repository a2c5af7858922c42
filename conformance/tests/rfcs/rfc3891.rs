//! RFC 3891: Replaces, which a proxy lets through.

use crate::desk::{B, Desk, request};

/// §6.1: an INVITE with Replaces reaches the device it is for, header and all.
#[test]
fn who_takes_over_a_call_says_which() {
    let replaces = "98732@sip.example.com;from-tag=r33th4x0r;to-tag=ff87ff;early-only";
    let draft =
        request("INVITE", &format!("sip:bob@{B}")).with("Replaces", replaces).with("Require", "replaces");
    let text = String::from_utf8_lossy(Desk::open().forwarded(draft).message.bytes()).into_owned();
    assert!(
        text.contains(&format!("Replaces: {replaces}\r\n")) && text.contains("Require: replaces\r\n"),
        "{text}"
    );
}
