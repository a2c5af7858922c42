//! RFC 3515: REFER, which a proxy lets through.

use proto::sip::Name;

use crate::desk::{A, B, Desk, in_dialog, invite, request, requests, response};

/// §2.4.1: a REFER in a dialog reaches the other end with its Refer-To as it came.
#[test]
fn a_transfer_reaches_the_other_end() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let ok = response(&desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]), A);
    let refer = in_dialog("REFER", 2, &ok).with("Refer-To", "<sip:carol@example.com>");
    let refer = requests(&desk.hear(A, refer), "REFER").remove(0);
    let text = String::from_utf8_lossy(refer.message.bytes()).into_owned();
    assert!(text.contains("Refer-To: <sip:carol@example.com>\r\n"), "{text}");
    assert_eq!(response(&desk.answer(&refer, 202, &[]), A).status(), Some(202));
}

/// §4.1: a REFER outside of dialogs makes one: it is given a Record-Route.
#[test]
fn a_refer_may_begin_a_dialog() {
    let sent = Desk::open().hear(A, request("REFER", &format!("sip:bob@{B}")).with("Refer-To", "<sip:c@d>"));
    assert_eq!(requests(&sent, "REFER")[0].message.values(Name::RecordRoute).count(), 1);
}

/// §2.4.4: the NOTIFY of how it went comes back in the same dialog.
#[test]
fn the_referrer_hears_how_it_went() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]);
    let notify = request("NOTIFY", &format!("sip:alice@{A}"))
        .with("Via", &format!("SIP/2.0/UDP {B};branch=z9hG4bKn"))
        .with("From", "<sip:bob@example.com>;tag=callee")
        .with("To", "<sip:alice@example.com>;tag=caller")
        .with("Route", there.message.text(Name::RecordRoute).unwrap())
        .with("Event", "refer")
        .carrying("message/sipfrag", "SIP/2.0 200 OK");
    let notify = requests(&desk.hear(B, notify), "NOTIFY").remove(0);
    assert_eq!((notify.flow.remote.to_string(), notify.message.body()), (A.into(), &b"SIP/2.0 200 OK"[..]));
}
