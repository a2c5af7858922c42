//! RFC 5627: a name for one device.

use proto::sip::{Message, Name};

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

/// §5.1: the public one is the same at every refresh; each refresh is given another temporary one, and the older ones hold.
#[test]
fn a_refresh_keeps_the_public_name() {
    let mut desk = Desk::open();
    let first = registered(&mut desk);
    let again = register("bob")
        .branch("z9hG4bKagain")
        .with("Contact", &format!("<sip:bob@{B}>;+sip.instance=\"<{INSTANCE}>\""))
        .with("Call-ID", "gruu")
        .with("CSeq", "2 REGISTER")
        .with("Supported", "gruu");
    let second = response(&desk.hear(B, again), B);
    assert_eq!(gruu(&first, "pub-gruu"), gruu(&second, "pub-gruu"));
    let [old, new] = [gruu(&first, "temp-gruu"), gruu(&second, "temp-gruu")];
    assert_ne!(old, new);
    for name in [old, new] {
        let draft = request("INVITE", &name)
            .branch(&format!("z9hG4bK{}", &name[10..20]))
            .with("Call-ID", &name[10..20]);
        assert_eq!(requests(&desk.hear(A, draft), "INVITE").len(), 1, "{name}");
    }
}

/// §5.1: a device that does not say `gruu`, or names no instance, is given none.
#[test]
fn who_does_not_ask_is_given_none() {
    let instance = format!("<sip:bob@{B}>;+sip.instance=\"<{INSTANCE}>\"");
    for (contact, supported) in [(instance, "path"), (format!("<sip:bob@{B}>"), "gruu")] {
        let draft = register("bob").with("Contact", &contact).with("Supported", supported);
        let ok = response(&Desk::open().hear(B, draft), B);
        assert_eq!(ok.status(), Some(200));
        assert!(!ok.text(Name::Contact).unwrap().contains("gruu="), "{contact}: {ok:?}");
    }
}

/// §5.3: the request URI becomes the device's Contact, as for any binding, and its GRUU is in the History of nobody.
#[test]
fn a_device_is_asked_by_its_contact() {
    let mut desk = Desk::open();
    let ok = registered(&mut desk);
    let there = requests(&desk.hear(A, request("INVITE", &gruu(&ok, "pub-gruu"))), "INVITE").remove(0);
    assert_eq!(
        (there.flow.remote.to_string(), there.message.request_uri()),
        (B.into(), &*format!("sip:bob@{B}"))
    );
}

/// §4.4: a GRUU that a device uses as its Contact is passed on as it is: it leads to it from anywhere.
#[test]
fn a_gruu_in_contact_is_left_alone() {
    let mut desk = Desk::open();
    let ok = registered(&mut desk);
    let contact = format!("<{}>", gruu(&ok, "pub-gruu"));
    let draft = request("INVITE", &format!("sip:carol@{C}")).with("Contact", &contact);
    let there = requests(&desk.hear(B, draft), "INVITE").remove(0);
    assert_eq!(there.message.text(Name::Contact), Some(&*contact));
}
