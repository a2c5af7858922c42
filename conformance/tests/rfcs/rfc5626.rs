//! RFC 5626: connections that the client keeps.

use proto::node::Input;
use proto::sip::Name;

use crate::desk::{A, Desk, register, request, requests, response, tcp, udp};

const CONTACT: &str = "<sip:bob@10.0.0.9:5060;transport=tcp>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\";reg-id=";
const PHONE: &str = "192.0.2.44:40000";

fn registered(desk: &mut Desk, number: u32) -> proto::sip::Message {
    let draft = register("bob")
        .with("Via", &format!("SIP/2.0/TCP 10.0.0.9;branch=z9hG4bKo{number}"))
        .with("Contact", &format!("{CONTACT}1"))
        .with("Call-ID", "o1")
        .with("CSeq", &format!("{number} REGISTER"))
        .with("Supported", "path, outbound");
    response(&desk.hear_by(tcp(PHONE), draft), PHONE)
}

/// §4.4.1: a double CRLF is answered by a single one.
#[test]
fn a_ping_is_answered() {
    let mut desk = Desk::open();
    desk.hear_bytes(udp(PHONE), "\r\n\r\n");
    assert_eq!(desk.broken, ["\r\n"]);
}

/// §6: a registrar that does outbound says so in Require, and how often the flow should be used.
#[test]
fn a_registration_by_outbound_is_confirmed() {
    let ok = registered(&mut Desk::open(), 1);
    assert_eq!(ok.status(), Some(200));
    assert!(ok.has_token(Name::Require, "outbound") && ok.text(Name::FlowTimer).is_some());
}

/// §6: one instance and reg-id are one binding, whatever the Contact says.
#[test]
fn the_same_flow_registered_again_is_one_binding() {
    let mut desk = Desk::open();
    registered(&mut desk, 1);
    assert_eq!(registered(&mut desk, 2).contacts().count(), 1);
}

/// §5.3: a request to the binding goes by the flow it registered by, whatever the Contact says.
#[test]
fn a_call_goes_by_the_flow() {
    let mut desk = Desk::open();
    registered(&mut desk, 1);
    let there = requests(&desk.hear(A, request("INVITE", "sip:bob@example.com")), "INVITE").remove(0);
    assert_eq!(there.flow, tcp(PHONE));
}

/// §5.3: when the flow is gone, so is the binding, and nobody opens a connection to the device.
#[test]
fn a_flow_that_is_gone_takes_its_binding() {
    let mut desk = Desk::open();
    registered(&mut desk, 1);
    desk.tell(Input::Closed { flow: tcp(PHONE) });
    let sent = desk.hear(A, request("INVITE", "sip:bob@example.com"));
    assert!(requests(&sent, "INVITE").is_empty());
    assert_eq!(response(&sent, A).status(), Some(480));
}
