//! RFC 6665: subscriptions, which a proxy lets through.

use proto::sip::Name;

use crate::desk::{A, B, C, Desk, guarded, in_dialog, register, request, requests, response, statuses};

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

/// §4.1.2.2, §4.1.2.3: what refreshes and what ends a subscription goes to where it was made, by the same way.
#[test]
fn a_refresh_and_an_end_go_the_same_way() {
    let mut desk = Desk::open();
    let there = requests(&desk.hear(A, subscribe()), "SUBSCRIBE").remove(0);
    let ok = desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>")), ("Expires", "600")]);
    let ok = response(&ok, A);
    for (number, expires) in [(2, "600"), (3, "0")] {
        let again = in_dialog("SUBSCRIBE", number, &ok).with("Event", "presence").with("Expires", expires);
        let again = requests(&desk.hear(A, again), "SUBSCRIBE").remove(0);
        assert_eq!(
            (again.flow.remote.to_string(), again.message.text(Name::Expires)),
            (B.into(), Some(expires))
        );
        assert_eq!(response(&desk.answer(&again, 200, &[("Expires", expires)]), A).status(), Some(200));
    }
}

/// §4.2.1.1, §4.2.1.2: what the notifier refuses comes back as it said: 423 with Min-Expires, 489 with Allow-Events.
#[test]
fn a_refusal_comes_back_with_its_reasons() {
    for (status, name, value) in [(423, "Min-Expires", "3600"), (489, "Allow-Events", "presence, dialog")] {
        let mut desk = Desk::open();
        let there = requests(&desk.hear(A, subscribe()), "SUBSCRIBE").remove(0);
        let refused = response(&desk.answer(&there, status, &[(name, value)]), A);
        let text = String::from_utf8_lossy(refused.bytes()).into_owned();
        assert_eq!(refused.status(), Some(status));
        assert!(text.contains(&format!("{name}: {value}\r\n")), "{text}");
    }
}

/// §4.4.1: of a SUBSCRIBE that was forked one 200 goes back, and the NOTIFY of every device that took it.
#[test]
fn every_device_may_notify() {
    let mut desk = Desk::open();
    desk.register("bob", B, &format!("<sip:bob@{B}>"));
    let other = register("bob").branch("z9hG4bKother").with("Call-ID", "other");
    desk.hear(C, other.with("Contact", &format!("<sip:bob@{C}>")));
    let both = requests(&desk.hear(A, subscribe().to_uri("sip:bob@example.com")), "SUBSCRIBE");
    assert_eq!(both.len(), 2);
    let mut granted = 0;
    for (number, there) in both.iter().enumerate() {
        let at = there.flow.remote.to_string();
        let contact = format!("<sip:bob@{at}>");
        let sent = desk.answer_tagged(there, 200, &at.replace([':', '.'], ""), &[("Contact", &contact)]);
        granted += statuses(&sent, A).len();
        let notify = request("NOTIFY", &format!("sip:alice@{A}"))
            .with("Via", &format!("SIP/2.0/UDP {at};branch=z9hG4bKn{number}"))
            .with("From", &format!("<sip:bob@example.com>;tag={}", at.replace([':', '.'], "")))
            .with("To", "<sip:alice@example.com>;tag=caller")
            .with("Route", there.message.text(Name::RecordRoute).unwrap())
            .with("Event", "presence")
            .with("Subscription-State", "active;expires=600");
        let notify = requests(&desk.hear(&at, notify), "NOTIFY").remove(0);
        assert_eq!(notify.flow.remote.to_string(), A, "{at}");
    }
    assert_eq!(granted, 1);
}

/// §4.1.3: what stands in Subscription-State, and the body, are the subscriber's to read.
#[test]
fn a_notify_arrives_as_it_was_written() {
    let state = "terminated;reason=deactivated;retry-after=5";
    let body = "<?xml version=\"1.0\"?><presence/>";
    let notify = request("NOTIFY", &format!("sip:bob@{B}"))
        .with("Event", "presence")
        .with("Subscription-State", state)
        .carrying("application/pidf+xml", body);
    let there = requests(&Desk::open().hear(A, notify), "NOTIFY").remove(0).message;
    let text = String::from_utf8_lossy(there.bytes()).into_owned();
    assert!(text.contains(&format!("Subscription-State: {state}\r\n")) && text.ends_with(body), "{text}");
}

/// §4.2.1.3: whoever subscribes has to prove who that is, as any caller.
#[test]
fn a_subscriber_is_asked_for_a_password() {
    assert_eq!(response(&Desk::new(guarded()).hear(A, subscribe()), A).status(), Some(407));
}
