//! RFC 5658: Record-Route where a proxy has two faces.

use proto::sip::Name;

use crate::desk::{A, B, Desk, invite, requests, tcp};

/// §3: a proxy that changes the transport puts two Record-Routes, one for either side, the callee's on top.
#[test]
fn each_side_is_shown_its_own_transport() {
    let mut desk = Desk::open();
    let draft = invite().with("Via", &format!("SIP/2.0/TCP {A};branch=z9hG4bKt"));
    let there = requests(&desk.hear_by(tcp(A), draft), "INVITE").remove(0).message;
    let routes: Vec<&str> = there.values(Name::RecordRoute).collect();
    assert_eq!(routes.len(), 2);
    assert!(!routes[0].contains("transport=") && routes[1].contains(";transport=tcp"), "{routes:?}");
}

/// §5: both carry lr, and both are taken off a request that comes back with them.
#[test]
fn both_are_taken_off_again() {
    let mut desk = Desk::open();
    let draft = invite().with("Via", &format!("SIP/2.0/TCP {A};branch=z9hG4bKt"));
    let there = requests(&desk.hear_by(tcp(A), draft), "INVITE").remove(0);
    let routes: Vec<&str> = there.message.values(Name::RecordRoute).collect();
    assert!(routes.iter().all(|route| route.ends_with(";lr>")), "{routes:?}");
    let ok = desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]).remove(0).message;
    let bye = crate::desk::in_dialog("BYE", 2, &ok);
    let bye = requests(&desk.hear_by(tcp(A), bye), "BYE").remove(0);
    assert_eq!((bye.message.routes().count(), bye.flow.remote.to_string()), (0, B.into()));
}
