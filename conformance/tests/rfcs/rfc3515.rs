//! RFC 3515: REFER, which a proxy lets through.

use proto::sip::Name;

use crate::desk::{A, B, Desk, guarded, in_dialog, invite, request, requests, response};

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

/// §2.4.2: whether it is taken (202) or refused, the referrer hears so.
#[test]
fn a_refusal_of_a_transfer_comes_back() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let ok = response(&desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]), A);
    let refer = in_dialog("REFER", 2, &ok).with("Refer-To", "<sip:carol@example.com>");
    let refer = requests(&desk.hear(A, refer), "REFER").remove(0);
    assert_eq!(response(&desk.answer(&refer, 603, &[]), A).status(), Some(603));
}

/// §2.4.2: a REFER without a Refer-To, or with two, is for the callee to refuse.
#[test]
fn an_odd_refer_is_the_callee_s_affair() {
    let plain = request("REFER", &format!("sip:bob@{B}"));
    let two = plain.clone().adding("Refer-To", "<sip:c@d>").adding("Refer-To", "<sip:e@f>");
    for (refer, count) in [(plain, 0), (two, 2)] {
        let there = requests(&Desk::open().hear(A, refer), "REFER").remove(0);
        let refer_to = there.message.headers().filter(|header| header.raw_name == b"Refer-To").count();
        assert_eq!(refer_to, count);
    }
}

/// §2.1: what Refer-To names need be no SIP, and has headers of its own: it is left as it is.
#[test]
fn refer_to_may_name_anything() {
    for target in ["<https://example.com/a?b=c>", "<sip:c@d;method=SUBSCRIBE?Accept-Contact=*%3bx>"] {
        let refer = request("REFER", &format!("sip:bob@{B}")).with("Refer-To", target);
        let there = requests(&Desk::open().hear(A, refer), "REFER").remove(0).message;
        let text = String::from_utf8_lossy(there.bytes()).into_owned();
        assert!(text.contains(&format!("Refer-To: {target}\r\n")), "{text}");
    }
}

/// §2.4.4: the NOTIFY may come before the answer to the REFER that made its dialog.
#[test]
fn a_notify_may_overtake_the_answer() {
    let mut desk = Desk::open();
    let refer = request("REFER", &format!("sip:bob@{B}")).with("Refer-To", "<sip:c@d>");
    let there = requests(&desk.hear(A, refer), "REFER").remove(0);
    let notify = request("NOTIFY", &format!("sip:alice@{A}"))
        .with("Via", &format!("SIP/2.0/UDP {B};branch=z9hG4bKn"))
        .with("From", "<sip:bob@example.com>;tag=callee")
        .with("To", "<sip:alice@example.com>;tag=caller")
        .with("Route", there.message.text(Name::RecordRoute).unwrap())
        .with("Event", "refer")
        .carrying("message/sipfrag", "SIP/2.0 100 Trying");
    let notify = requests(&desk.hear(B, notify), "NOTIFY").remove(0);
    assert_eq!(notify.flow.remote.to_string(), A);
    assert_eq!(response(&desk.answer(&notify, 200, &[]), B).status(), Some(200));
    assert_eq!(response(&desk.answer(&there, 202, &[]), A).status(), Some(202));
}

/// §5.2: whoever refers outside of dialogs has to prove who that is, as any caller.
#[test]
fn a_referrer_is_asked_for_a_password() {
    let refer = request("REFER", &format!("sip:bob@{B}")).with("Refer-To", "<sip:c@d>");
    assert_eq!(response(&Desk::new(guarded()).hear(A, refer), A).status(), Some(407));
}
