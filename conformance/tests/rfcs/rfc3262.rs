//! RFC 3262: reliable provisional responses, which a proxy lets through.

use crate::desk::{A, B, Desk, in_dialog, invite, requests, response};

/// §3: 100rel in Supported and Require concerns the ends: both reach the callee as they came.
#[test]
fn the_option_tag_reaches_the_callee() {
    let there =
        Desk::open().forwarded(invite().with("Supported", "100rel").with("Require", "100rel")).message;
    let text = String::from_utf8_lossy(there.bytes()).into_owned();
    assert!(text.contains("Supported: 100rel\r\n") && text.contains("Require: 100rel\r\n"), "{text}");
}

/// §3: a reliable provisional response keeps its RSeq and Require.
#[test]
fn a_reliable_answer_keeps_its_number() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let back = desk.answer(&there, 183, &[("RSeq", "988789"), ("Require", "100rel")]);
    let text = String::from_utf8_lossy(response(&back, A).bytes()).into_owned();
    assert!(text.contains("RSeq: 988789\r\n") && text.contains("Require: 100rel\r\n"), "{text}");
}

/// §4: a PRACK is a request in the early dialog: it goes by our Record-Route to the callee, and its answer back.
#[test]
fn a_prack_finds_the_early_dialog() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let contact = format!("<sip:bob@{B}>");
    let ringing = response(&desk.answer(&there, 183, &[("Contact", &contact), ("RSeq", "1")]), A);
    let prack = in_dialog("PRACK", 2, &ringing).with("RAck", "1 1 INVITE");
    let prack = requests(&desk.hear(A, prack), "PRACK").remove(0);
    assert_eq!(
        (prack.flow.remote.to_string(), prack.message.request_uri()),
        (B.into(), &*format!("sip:bob@{B}"))
    );
    assert_eq!(response(&desk.answer(&prack, 200, &[]), A).status(), Some(200));
}
