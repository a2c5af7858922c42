//! The registrar and the proxy in front of it: §§ 6, 7.

use std::time::Duration;

use proto::node::{FlowId, Input, SendError};
use proto::sip::{Message, Name};

use super::{PHONE, contact, registration};
use crate::desk::{A, B, C, Desk, Sent, connection, request, requests, response, statuses, udp};

/// By a connection that has the flow's number.
fn registered(desk: &mut Desk, reg_id: u64, number: u32) -> Message {
    response(&desk.hear_by(connection(PHONE, reg_id), registration(reg_id, number)), PHONE)
}

/// A desk that knows two flows of bob's device.
fn two_flows() -> Desk {
    let mut desk = Desk::open();
    registered(&mut desk, 1, 1);
    desk.pass(Duration::from_secs(1));
    registered(&mut desk, 2, 1);
    desk
}

fn call(desk: &mut Desk) -> Vec<Sent> {
    desk.hear(A, request("INVITE", "sip:bob@example.com"))
}

/// The connections that INVITEs left by.
fn taken(sent: &[Sent]) -> Vec<FlowId> {
    requests(sent, "INVITE").iter().map(|invite| invite.flow.id).collect()
}

/// §6: a registrar that does outbound says so in Require, and how often a connection should be used.
#[test]
fn a_registration_by_outbound_is_confirmed() {
    let ok = registered(&mut Desk::open(), 1, 1);
    assert_eq!(ok.status(), Some(200));
    assert_eq!((ok.text(Name::Require), ok.text(Name::FlowTimer)), (Some("outbound"), Some("120")));
}

/// §6: over UDP there is no Flow-Timer: the NAT sets the pace there (§4.4.2).
#[test]
fn a_flow_over_udp_has_no_timer() {
    let ok = response(&Desk::open().hear_by(udp(PHONE), registration(1, 1)), PHONE);
    assert_eq!((ok.text(Name::Require), ok.text(Name::FlowTimer)), (Some("outbound"), None));
}

/// §6: a device that does not name `outbound` in Supported is registered as RFC 3261 has it; its reg-id means nothing.
#[test]
fn without_the_option_tag_a_reg_id_means_nothing() {
    let mut desk = Desk::open();
    for reg_id in [1, 2] {
        let plain = registration(reg_id, 1).with("Supported", "path");
        let ok = response(&desk.hear_by(connection(PHONE, reg_id), plain), PHONE);
        assert_eq!((ok.status(), ok.text(Name::Require), ok.contacts().count()), (Some(200), None, 1));
        assert!(!ok.text(Name::Contact).unwrap().contains("reg-id"), "{ok:?}");
    }
}

/// §6: so it does without an instance.
#[test]
fn without_an_instance_a_reg_id_means_nothing() {
    let plain = registration(1, 1).with("Contact", "<sip:bob@10.0.0.9;transport=tcp>;reg-id=1");
    let ok = response(&Desk::open().hear_by(connection(PHONE, 1), plain), PHONE);
    assert_eq!((ok.status(), ok.text(Name::Require)), (Some(200), None));
}

/// §6: one instance and reg-id are one binding, whatever the Contact says; the new one takes the place of the old.
#[test]
fn the_same_flow_registered_again_is_one_binding() {
    let mut desk = Desk::open();
    registered(&mut desk, 1, 1);
    let moved = registration(1, 2).with("Contact", &contact(1).replace("10.0.0.9", "10.0.0.77"));
    let ok = response(&desk.hear_by(connection(PHONE, 9), moved), PHONE);
    let contacts: Vec<_> = ok.contacts().flatten().map(|contact| contact.raw_uri.to_owned()).collect();
    assert_eq!(contacts, ["sip:bob@10.0.0.77:5060;transport=tcp;ob"]);
    assert_eq!(taken(&call(&mut desk)), [FlowId(9)]);
}

/// §6: another reg-id of the same instance is another binding, with the same Contact too.
#[test]
fn another_flow_is_another_binding() {
    let mut desk = Desk::open();
    registered(&mut desk, 1, 1);
    assert_eq!(registered(&mut desk, 2, 1).contacts().count(), 2);
}

/// §6: where a proxy stands between the device and us whose Path lacks `ob`, the flow would be lost: 439.
#[test]
fn a_first_hop_that_keeps_no_flows_is_439() {
    let by_proxy = |path: &str| {
        let via = "SIP/2.0/UDP 198.51.100.30:5070;branch=z9hG4bKe, SIP/2.0/TCP 10.0.0.9;branch=z9hG4bKo";
        let register = registration(1, 1).with("Via", via).with("Path", path);
        response(&Desk::open().hear(C, register), C)
    };
    assert_eq!(by_proxy("<sip:198.51.100.30:5070;lr>").status(), Some(439));
    let ok = by_proxy("<sip:flow@198.51.100.30:5070;lr;ob>");
    assert_eq!((ok.status(), ok.text(Name::Require)), (Some(200), Some("outbound")));
}

/// §7: a request to the binding goes by the flow it registered by, whatever the Contact says.
#[test]
fn a_call_goes_by_the_flow() {
    let mut desk = Desk::open();
    registered(&mut desk, 1, 1);
    let there = requests(&call(&mut desk), "INVITE").remove(0);
    assert_eq!(there.flow, connection(PHONE, 1));
    assert_eq!(there.message.request_uri(), "sip:bob@10.0.0.9:5060;transport=tcp;ob");
}

/// §7: a request is never sent by two flows of one instance at once; the one that was registered last comes first.
#[test]
fn one_flow_of_a_device_at_a_time() {
    assert_eq!(taken(&call(&mut two_flows())), [FlowId(2)]);
}

/// §7: when a flow fails, the request goes by the next; when none is left, the device is away.
#[test]
fn a_flow_that_fails_gives_way_to_the_next() {
    let mut desk = two_flows();
    let first = requests(&call(&mut desk), "INVITE").remove(0);
    let second = requests(&desk.fails(&first, SendError::Closed), "INVITE").remove(0);
    assert_eq!(second.flow.id, FlowId(1));
    assert_eq!(statuses(&desk.fails(&second, SendError::Closed), A), [480]);
}

/// §7, §11.5: so it does for a 430 of an edge; no 430 goes any further.
#[test]
fn a_430_is_between_edge_and_registrar() {
    let mut desk = two_flows();
    let first = requests(&call(&mut desk), "INVITE").remove(0);
    let second = requests(&desk.answer(&first, 430, &[]), "INVITE").remove(0);
    assert_eq!(second.flow.id, FlowId(1));
    assert_eq!(statuses(&desk.answer(&second, 430, &[]), A), [480]);
}

/// §7: a refusal of the device's is no failure of its flow.
#[test]
fn a_refusal_tries_no_other_flow() {
    let mut desk = two_flows();
    let first = requests(&call(&mut desk), "INVITE").remove(0);
    let sent = desk.answer(&first, 486, &[]);
    assert_eq!((statuses(&sent, A), taken(&sent)), (vec![486], vec![]));
}

/// §7: a flow that says nothing for four seconds gives way as well; its 487, when it comes, misleads nobody.
#[test]
fn a_silent_flow_gives_way_to_the_next() {
    let mut desk = two_flows();
    let first = requests(&call(&mut desk), "INVITE").remove(0);
    assert_eq!(taken(&desk.pass(Duration::from_millis(3999))), []);
    let second = requests(&desk.pass(Duration::from_millis(1)), "INVITE").remove(0);
    assert_eq!(second.flow.id, FlowId(1));
    assert!(statuses(&desk.answer(&first, 487, &[]), A).is_empty());
    let ok = desk.answer(&second, 200, &[("Contact", &format!("<sip:bob@{B}>"))]);
    assert_eq!(statuses(&ok, A), [200]);
}

/// §7: behind an edge, the edge's own 100 says nothing of the device: its silence is silence.
#[test]
fn trying_is_the_word_of_an_edge_alone() {
    let by_edge = |desk: &mut Desk, reg_id: u64, edge: &str| {
        let via = format!("SIP/2.0/UDP {edge};branch=z9hG4bKe{reg_id}, SIP/2.0/TCP 10.0.0.9;branch=z9hG4bKo");
        let path = format!("<sip:flow@{edge};lr;ob>");
        desk.hear(edge, registration(reg_id, 1).with("Via", &via).with("Path", &path));
    };
    for (status, others) in [(100, 1), (180, 0)] {
        let mut desk = Desk::open();
        by_edge(&mut desk, 1, B);
        desk.pass(Duration::from_secs(1));
        by_edge(&mut desk, 2, C);
        let first = requests(&call(&mut desk), "INVITE").remove(0);
        assert_eq!(first.flow, udp(C));
        desk.answer(&first, status, &[]);
        let next = requests(&desk.pass(Duration::from_secs(4)), "INVITE");
        assert_eq!(next.iter().filter(|invite| invite.flow == udp(B)).count(), others, "{status}");
    }
}

/// §7: the phone itself may take its time once it has said 100 by its flow.
#[test]
fn trying_by_the_flow_itself_is_a_sign_of_life() {
    let mut desk = two_flows();
    let first = requests(&call(&mut desk), "INVITE").remove(0);
    desk.answer(&first, 100, &[]);
    assert_eq!(taken(&desk.pass(Duration::from_secs(20))), []);
}

/// §7: when a connection is gone, so is its binding, and no other; nobody opens a connection to the device.
#[test]
fn a_flow_that_is_gone_takes_its_binding() {
    let mut desk = two_flows();
    desk.tell(Input::Closed { flow: connection(PHONE, 2) });
    assert_eq!(taken(&call(&mut desk)), [FlowId(1)]);
    desk.tell(Input::Closed { flow: connection(PHONE, 1) });
    let again = request("INVITE", "sip:bob@example.com").branch("z9hG4bKagain").with("Call-ID", "again");
    let sent = desk.hear(A, again);
    assert_eq!((taken(&sent), response(&sent, A).status()), (vec![], Some(480)));
}
