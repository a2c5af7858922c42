//! A proxy that devices keep flows to, and whose registrar is elsewhere: § 5.

use std::time::Duration;

use proto::node::{Flow, SendError, Transport};
use proto::sip::{Message, Name};

use super::{PHONE, registration};
use crate::desk::{
    A, B, C, Desk, Draft, Sent, connection, in_dialog, open, request, requests, response, statuses, udp,
};

/// The registrar.
const REGISTRAR: &str = C;

/// The REGISTER as it leaves for the registrar.
fn passed_on(desk: &mut Desk, flow: Flow, draft: Draft) -> Message {
    requests(&desk.hear_by(flow, draft.to_domain(REGISTRAR)), "REGISTER").remove(0).message
}

/// The Path that a registration by this flow leaves with.
fn path(desk: &mut Desk, flow: Flow) -> String {
    passed_on(desk, flow, registration(1, 1)).text(Name::Path).expect("a Path").to_owned()
}

/// The registrar sends a call by it.
fn incoming(desk: &mut Desk, path: &str) -> Vec<Sent> {
    let invite = request("INVITE", "sip:bob@10.0.0.9:5060;transport=tcp;ob").with("Route", path);
    desk.hear(REGISTRAR, invite)
}

/// §5.1: a REGISTER by outbound leaves with a Path that leads to us, and says with `ob` that we keep its flow.
#[test]
fn a_registration_leaves_with_a_path_that_names_its_flow() {
    let path = path(&mut Desk::open(), connection(PHONE, 7));
    assert!(path.starts_with("<sip:") && path.ends_with("@203.0.113.1:5060;lr;ob>"), "{path}");
}

/// §5.1: only the first hop keeps the flow: who gets it from another proxy adds no such Path.
#[test]
fn a_registration_from_another_proxy_gets_no_flow_of_ours() {
    let vias = format!("SIP/2.0/UDP {B};branch=z9hG4bKe, SIP/2.0/TCP 10.0.0.9;branch=z9hG4bKo");
    let edges = format!("<sip:flow@{B};lr;ob>");
    let draft = registration(1, 1).with("Via", &vias).with("Path", &edges);
    let there = passed_on(&mut Desk::open(), udp(B), draft);
    assert_eq!(there.values(Name::Path).collect::<Vec<_>>(), [edges]);
}

/// §5.2: a token names one flow: two connections of one device have two, and each is met by its own.
#[test]
fn a_token_names_one_flow() {
    let mut desk = Desk::open();
    let paths = [7, 8].map(|id| passed_on(&mut desk, connection(PHONE, id), registration(id, 1)));
    for (id, register) in [7, 8].into_iter().zip(paths) {
        let path = register.text(Name::Path).unwrap();
        let invite = request("INVITE", "sip:bob@10.0.0.9").with("Route", path);
        let invite = invite.branch(&format!("z9hG4bK{id}")).with("Call-ID", &format!("to{id}"));
        assert_eq!(requests(&desk.hear(REGISTRAR, invite), "INVITE")[0].flow, connection(PHONE, id));
    }
}

/// §5.3.1: what comes back by it goes by that very flow, without the Route, its request URI as it was.
#[test]
fn what_comes_back_by_the_path_goes_by_the_flow() {
    for flow in [connection(PHONE, 7), udp(PHONE)] {
        let mut desk = Desk::open();
        let path = path(&mut desk, flow);
        let there = requests(&incoming(&mut desk, &path), "INVITE").remove(0);
        assert_eq!(there.flow, flow);
        assert_eq!(there.message.request_uri(), "sip:bob@10.0.0.9:5060;transport=tcp;ob");
        assert_eq!(there.message.values(Name::Route).count(), 0);
    }
}

/// §5.3.1: the requests of that dialog go by the flow as well.
#[test]
fn a_dialog_that_came_by_the_path_stays_on_the_flow() {
    let mut desk = Desk::open();
    let path = path(&mut desk, udp(PHONE));
    let there = requests(&incoming(&mut desk, &path), "INVITE").remove(0);
    let ok = desk.answer(&there, 200, &[("Contact", "<sip:bob@10.0.0.9:5060;ob>")]);
    let ok = response(&ok, REGISTRAR);
    let bye = requests(&desk.hear(REGISTRAR, in_dialog("BYE", 2, &ok)), "BYE").remove(0);
    assert_eq!(bye.flow, udp(PHONE));
}

/// §5.3.1: a flow that is gone is 430, at once; nobody connects to where the device was.
#[test]
fn a_flow_that_is_gone_is_430() {
    for (flow, error) in [(connection(PHONE, 7), SendError::Closed), (udp(PHONE), SendError::Refused)] {
        let mut desk = Desk::open();
        let path = path(&mut desk, flow);
        let there = requests(&incoming(&mut desk, &path), "INVITE").remove(0);
        let sent = desk.fails(&there, error);
        assert_eq!((statuses(&sent, REGISTRAR), requests(&sent, "INVITE").len()), (vec![430], 0));
    }
}

/// §5.3.1: a token that was tampered with is refused with 403.
/// Not met: it is 430. An edge whose keys are new after a restart can't tell such a token from one of its own before, and
/// 430 sends the registrar to the device's next flow. The Contact behind it is not tried.
#[test]
fn a_token_nobody_knows_is_430() {
    let mut desk = Desk::open();
    let path = path(&mut desk, connection(PHONE, 7));
    let forged = path.replacen(&path[8..12], "AAAA", 1);
    let sent = incoming(&mut desk, &forged);
    assert_eq!((statuses(&sent, REGISTRAR).last(), requests(&sent, "INVITE").len()), (Some(&430), 0));
    let mut config = open();
    config.token_keys = proto::token::Keys(vec![[9; 32]]);
    desk.restart(config, Duration::from_secs(5));
    let sent = incoming(&mut desk, &path);
    assert_eq!((statuses(&sent, REGISTRAR).last(), requests(&sent, "INVITE").len()), (Some(&430), 0));
}

/// §5.3.1: an edge that was restarted with its keys still knows the flows over UDP.
#[test]
fn a_path_outlives_a_restart() {
    let mut desk = Desk::open();
    let path = path(&mut desk, udp(PHONE));
    desk.restart(open(), Duration::from_secs(60));
    assert_eq!(requests(&incoming(&mut desk, &path), "INVITE")[0].flow, udp(PHONE));
}

/// §5.3.2: a request that comes by the very flow its Route names is on its way out, and does not come back to its sender.
#[test]
fn who_names_its_own_flow_is_on_its_way_out() {
    for flow in [connection(PHONE, 7), udp(PHONE)] {
        let mut desk = Desk::open();
        let path = path(&mut desk, flow);
        let sent = desk.hear_by(flow, request("INVITE", &format!("sip:carol@{B}")).with("Route", &path));
        let there = requests(&sent, "INVITE").remove(0);
        assert_eq!((there.flow.remote.to_string(), there.message.values(Name::Route).count()), (B.into(), 0));
    }
}

/// §5.3.2: the requests of a dialog that the device began come back to it by where it is seen, whatever its Contact says.
#[test]
fn a_dialog_that_the_device_began_comes_back_by_its_flow() {
    let mut desk = Desk::open();
    let invite = request("INVITE", &format!("sip:carol@{B}"))
        .with("Via", "SIP/2.0/TCP 10.0.0.9;branch=z9hG4bKout")
        .with("Contact", "<sip:bob@10.0.0.9:5060;transport=tcp;ob>");
    let there = requests(&desk.hear_by(connection(PHONE, 7), invite), "INVITE").remove(0);
    desk.answer(&there, 200, &[("Contact", &format!("<sip:carol@{B}>"))]);
    let routes: Vec<_> = there.message.values(Name::RecordRoute).collect();
    let bye = request("BYE", there.message.contacts().next().unwrap().unwrap().raw_uri)
        .with("Via", &format!("SIP/2.0/UDP {B};branch=z9hG4bKbye"))
        .with("From", "<sip:bob@example.com>;tag=callee")
        .with("To", "<sip:alice@example.com>;tag=caller")
        .with("Route", &routes.join(", "));
    let bye = requests(&desk.hear(B, bye), "BYE").remove(0);
    assert_eq!((bye.flow.transport, bye.flow.remote.to_string()), (Transport::Tcp, PHONE.into()));
    assert_eq!(bye.message.request_uri(), "sip:bob@10.0.0.9:5060;transport=tcp;ob");
}

/// §5.4, §3.5.1: a double CRLF is answered by a single one, by whichever transport.
#[test]
fn a_ping_is_answered() {
    for flow in [udp(A), connection(A, 7)] {
        let mut desk = Desk::open();
        desk.hear_bytes(flow, "\r\n\r\n");
        assert_eq!(desk.broken, ["\r\n"]);
    }
}
