//! RFC 6665: subscriptions, which a proxy lets through.

use proto::sip::Name;

use crate::desk::{A, B, Desk, request, requests, response};

fn subscribe() -> crate::desk::Draft {
    request("SUBSCRIBE", &format!("sip:bob@{B}")).with("Event", "presence").with("Expires", "600")
}

/// §4.3: a proxy that stays on the path of a subscription puts a Record-Route into the SUBSCRIBE.
#[test]
fn a_subscription_comes_by_us() {
    let there = requests(&Desk::open().hear(A, subscribe()), "SUBSCRIBE").remove(0).message;
    assert_eq!((there.values(Name::RecordRoute).count(), there.text(Name::Expires)), (1, Some("600")));
}

/// §4.3: a NOTIFY may begin the dialog, too (it can overtake the 200): it gets a Record-Route as well.
#[test]
fn a_notify_comes_by_us_in_the_dialog() {
    let mut desk = Desk::open();
    let there = requests(&desk.hear(A, subscribe()), "SUBSCRIBE").remove(0);
    desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>")), ("Expires", "600")]);
    let notify = request("NOTIFY", &format!("sip:alice@{A}"))
        .with("Via", &format!("SIP/2.0/UDP {B};branch=z9hG4bKn"))
        .with("From", "<sip:bob@example.com>;tag=callee")
        .with("To", "<sip:alice@example.com>;tag=caller")
        .with("Route", there.message.text(Name::RecordRoute).unwrap())
        .with("Event", "presence")
        .with("Subscription-State", "active;expires=600");
    let notify = requests(&desk.hear(B, notify), "NOTIFY").remove(0);
    assert_eq!(notify.flow.remote.to_string(), A);
    assert_eq!(response(&desk.answer(&notify, 200, &[]), B).status(), Some(200));
}

/// §4.1.2.1: events nobody here knows are no business of a proxy.
#[test]
fn an_unknown_event_goes_on() {
    let sent = Desk::open().hear(A, subscribe().with("Event", "phase-of-the-moon;q=full"));
    let text = String::from_utf8_lossy(requests(&sent, "SUBSCRIBE")[0].message.bytes()).into_owned();
    assert!(text.contains("Event: phase-of-the-moon;q=full\r\n"));
}
