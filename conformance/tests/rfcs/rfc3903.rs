//! RFC 3903: PUBLISH, which a proxy lets through.

use proto::sip::Name;

use crate::desk::{A, B, Desk, request, requests, response};

/// §6: a PUBLISH goes to who keeps the state, its body and its entity tag as they came, and makes no dialog.
#[test]
fn what_is_published_arrives_as_it_was_written() {
    let body = "<presence>\u{e4}</presence>";
    let publish = request("PUBLISH", &format!("sip:bob@{B}"))
        .with("Event", "presence")
        .with("SIP-If-Match", "dx200xyz")
        .carrying("application/pidf+xml", body);
    let there = requests(&Desk::open().hear(A, publish), "PUBLISH").remove(0).message;
    let text = String::from_utf8_lossy(there.bytes()).into_owned();
    assert!(text.contains("SIP-If-Match: dx200xyz\r\n") && text.contains("Event: presence\r\n"), "{text}");
    assert_eq!((there.body(), there.values(Name::RecordRoute).count()), (body.as_bytes(), 0));
}

/// §6: the answer's entity tag and expiry reach who published.
#[test]
fn the_entity_tag_comes_back() {
    let mut desk = Desk::open();
    let there = requests(&desk.hear(A, request("PUBLISH", &format!("sip:bob@{B}"))), "PUBLISH").remove(0);
    let ok = response(&desk.answer(&there, 200, &[("SIP-ETag", "kwj449x"), ("Expires", "1800")]), A);
    let text = String::from_utf8_lossy(ok.bytes()).into_owned();
    assert!(text.contains("SIP-ETag: kwj449x\r\n") && text.contains("Expires: 1800\r\n"), "{text}");
}
