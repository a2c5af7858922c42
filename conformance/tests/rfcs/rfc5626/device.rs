//! The device: § 4.

use std::time::Duration;

use bytes::Bytes;
use proto::node::{Input, Transport};
use proto::sip::{Message, Name};
use proto::stun;

use crate::desk::at;
use crate::handset::{EDGES, Handset, Heard, INSTANCE, flow, messages};

const TCP: [Transport; 2] = [Transport::Tcp, Transport::Tcp];
const UDP: [Transport; 2] = [Transport::Udp, Transport::Udp];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A parameter of a REGISTER's Contact.
fn parameter(register: &Message, name: &str) -> String {
    let contact = register.contacts().next().unwrap().unwrap();
    contact.params.get(name).unwrap_or_else(|| panic!("no {name} in {register:?}")).to_owned()
}

/// §4.1: the instance is a URN in angle brackets, the same in every registration.
#[test]
fn a_device_has_one_name() {
    for register in Handset::new(TCP).registers() {
        assert_eq!(parameter(&register, "+sip.instance"), format!("<{INSTANCE}>"));
    }
}

/// §4.2.1: each flow is a registration with a reg-id of its own, and says what the device can do.
#[test]
fn each_flow_has_a_number() {
    let registers = Handset::new([Transport::Udp, Transport::Tcp]).registers();
    assert_eq!(registers.each_ref().map(|register| parameter(register, "reg-id")), ["1", "2"]);
    for register in &registers {
        assert!(
            register.has_token(Name::Supported, "outbound") && register.has_token(Name::Supported, "path")
        );
        assert_eq!(register.contacts().count(), 1);
    }
    assert_ne!(registers[0].call_id(), registers[1].call_id());
}

/// §4.2.2: a refresh has the instance and the reg-id of the flow it goes by, and the flow's Call-ID.
#[test]
fn a_refresh_is_the_same_flow() {
    let mut handset = Handset::new(TCP);
    let first = handset.granted(&[]);
    let heard = handset.pass(seconds(1801));
    let again: Vec<_> = messages(&heard, "REGISTER").map(|(_, register)| register).collect();
    for (before, after) in first.iter().zip(&again) {
        for name in ["reg-id", "+sip.instance"] {
            assert_eq!(parameter(before, name), parameter(after, name));
        }
        assert_eq!(before.call_id(), after.call_id());
        assert_eq!(after.cseq().unwrap().number, before.cseq().unwrap().number + 1);
    }
}

/// §4.3: a request that begins a dialog goes by a flow that stands, and asks with `ob` for the dialog to stay on it.
#[test]
fn a_call_goes_by_a_flow_that_stands() {
    let mut handset = Handset::new(TCP);
    handset.granted(&[]);
    handset.input(Input::Closed { flow: flow(Transport::Tcp, 0, 1) });
    let there = handset.calls();
    assert_eq!(there.flow.remote, at(EDGES[1]));
    let invite = there.message("INVITE").unwrap();
    assert!(invite.contacts().next().unwrap().unwrap().uri().unwrap().params.get("ob").is_some());
}

/// §4.3: a request that is answered 430 is sent by another flow.
#[test]
fn a_430_sends_a_request_by_another_flow() {
    let mut handset = Handset::new(TCP);
    handset.granted(&[]);
    let first = handset.calls();
    let invite = first.message("INVITE").unwrap();
    let sent = handset.answer((0, 1), &invite, 430, &[]);
    let second = sent.iter().find(|heard| heard.is("INVITE")).expect("another INVITE");
    assert_eq!((first.flow.remote, second.flow.remote), (at(EDGES[0]), at(EDGES[1])));
    assert_eq!(handset.report().flow_failures, 1);
}

/// §4.4.1: a connection is pinged by a double CRLF within 80 to 100 % of the Flow-Timer, 120 s without one.
#[test]
fn a_connection_is_pinged_as_the_flow_timer_says() {
    for (timer, least, most) in [(Some("60"), 48, 60), (None, 96, 120)] {
        let mut handset = Handset::new(TCP);
        let timer: Vec<_> = timer.into_iter().map(|timer| (Name::FlowTimer, timer)).collect();
        handset.granted(&timer);
        let heard = handset.pass(seconds(most));
        let pings: Vec<_> = heard.iter().filter(|heard| &heard.bytes[..] == b"\r\n\r\n").collect();
        assert_eq!(pings.len(), 2, "one by each flow: {heard:?}");
        assert!(pings.iter().all(|ping| ping.after >= seconds(least)), "{pings:?}");
    }
}

/// §4.4.1: a ping without a pong for ten seconds is the end of the flow, and of no other.
#[test]
fn no_pong_is_the_end_of_a_flow() {
    let mut handset = Handset::new(TCP);
    handset.granted(&[(Name::FlowTimer, "60")]);
    let is_ping = |heard: &Heard| &heard.bytes[..] == b"\r\n\r\n";
    let pings = [handset.until(seconds(60), is_ping), handset.until(seconds(12), is_ping)];
    assert_ne!(pings[0].flow.remote, pings[1].flow.remote, "one by each flow");
    let pong = Bytes::from_static(b"\r\n");
    handset.input(Input::Other { flow: flow(Transport::Tcp, 1, 2), bytes: pong });
    handset.pass(seconds(11));
    assert_eq!((handset.report().flows, handset.report().flow_failures), (1, 1));
}

/// §4.4.2: over UDP a Binding request leaves within 80 to 100 % of 29 s; an answer that shows another address than before
/// is the end of the flow.
#[test]
fn a_flow_over_udp_is_probed_by_stun() {
    let mut handset = Handset::new(UDP);
    handset.granted(&[]);
    let probed = |handset: &mut Handset, seen: &str| {
        let heard = handset.pass(seconds(29));
        let probes: Vec<_> = heard.into_iter().filter(|heard| stun::is_stun(&heard.bytes)).collect();
        for edge in 0..2 {
            let by_it = |heard: &&Heard| heard.flow.remote == at(EDGES[edge]);
            let probe = probes.iter().find(by_it).expect("a probe by each flow");
            assert!(probe.after >= Duration::from_millis(23_200), "{probe:?}");
            let seen = if edge == 0 { seen } else { "198.51.100.1:1024" };
            let answer = stun::Server::single().answer(&probe.bytes, at(seen), probe.flow.remote).unwrap();
            handset.input(Input::Other { flow: flow(Transport::Udp, edge, 0), bytes: answer.bytes.into() });
        }
        handset.report().flows
    };
    assert_eq!(probed(&mut handset, "198.51.100.1:1024"), 2);
    assert_eq!(probed(&mut handset, "198.51.100.1:1025"), 1);
}

/// §4.5: a flow that failed is tried again after half to all of 30 s when none stands, of 90 s when another does.
#[test]
fn a_failed_flow_waits_longer_where_another_stands() {
    for (lost, least, most) in [(&[0][..], 45, 90), (&[0, 1], 15, 30)] {
        let mut handset = Handset::new(TCP);
        handset.granted(&[]);
        for edge in lost {
            handset.input(Input::Closed { flow: flow(Transport::Tcp, *edge, *edge as u64 + 1) });
        }
        let heard = handset.pass(seconds(most));
        let last = *lost.last().unwrap();
        let again = heard.iter().find(|heard| heard.is("REGISTER") && heard.flow.remote == at(EDGES[last]));
        let after = again.expect("another REGISTER").after;
        assert!(after >= seconds(least), "{lost:?}: {after:?}");
    }
}

/// §4.5: each failure in a row doubles the wait, up to half an hour.
#[test]
fn each_failure_doubles_the_wait() {
    let mut handset = Handset::new(TCP);
    handset.granted(&[]);
    for edge in [1, 0] {
        handset.input(Input::Closed { flow: flow(Transport::Tcp, edge, edge as u64 + 1) });
    }
    for bound in [30, 60, 120, 240, 480, 960, 1800, 1800] {
        let first = |heard: &Heard| heard.is("REGISTER") && heard.flow.remote == at(EDGES[0]);
        let again = handset.until(seconds(bound), first);
        assert!(again.after >= seconds(bound / 2), "{bound}: {again:?}");
        handset.answer((0, 9), &again.message("REGISTER").unwrap(), 503, &[]);
    }
}
