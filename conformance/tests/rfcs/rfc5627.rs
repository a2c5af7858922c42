//! RFC 5627: a name for one device.

use proto::sip::Message;

use crate::desk::{A, B, C, Desk, register, request, requests, response, statuses};

const INSTANCE: &str = "urn:uuid:f81d4fae-7ced-11d0-a765-00a0c91e6bf6";

fn registered(desk: &mut Desk) -> Message {
    desk.register("bob", C, &format!("<sip:bob@{C}>"));
    let draft = register("bob")
        .branch("z9hG4bKgruu")
        .with("Contact", &format!("<sip:bob@{B}>;+sip.instance=\"<{INSTANCE}>\""))
        .with("Call-ID", "gruu")
        .with("Supported", "gruu");
    response(&desk.hear(B, draft), B)
}

fn gruu(ok: &Message, kind: &str) -> String {
    let contact = ok.contacts().flatten().find(|contact| contact.params.get(kind).is_some()).unwrap();
    contact.params.get(kind).unwrap().trim_matches('"').to_owned()
}

/// §5.1: a device with an instance that supports it is given a public and a temporary GRUU.
#[test]
fn a_device_is_given_two_names() {
    let ok = registered(&mut Desk::open());
    assert_eq!(gruu(&ok, "pub-gruu"), format!("sip:bob@example.com;gr={INSTANCE}"));
    assert!(!gruu(&ok, "temp-gruu").contains("bob"), "§3.1.2: it tells nothing of whose it is");
}

/// §5.3: a request to a GRUU goes to that device alone.
#[test]
fn a_name_of_a_device_leads_there_alone() {
    for kind in ["pub-gruu", "temp-gruu"] {
        let mut desk = Desk::open();
        let ok = registered(&mut desk);
        let sent = desk.hear(A, request("INVITE", &gruu(&ok, kind)));
        let there = requests(&sent, "INVITE");
        assert_eq!((there.len(), there[0].message.request_uri()), (1, &*format!("sip:bob@{B}")), "{kind}");
    }
}

/// §5.3: a GRUU of a device that is away is 480, one we never gave 404.
#[test]
fn a_name_that_leads_nowhere_is_refused() {
    let mut desk = Desk::open();
    desk.register("bob", C, &format!("<sip:bob@{C}>"));
    let sent = desk.hear(A, request("INVITE", &format!("sip:bob@example.com;gr={INSTANCE}")));
    assert!(matches!(statuses(&sent, A).last(), Some(404 | 480)), "{sent:?}");
    let made_up =
        request("INVITE", "sip:tgruu.bWFkZSB1cA@example.com;gr").branch("z9hG4bKx").with("Call-ID", "x");
    assert_eq!(statuses(&desk.hear(A, made_up), A).last(), Some(&404));
}
