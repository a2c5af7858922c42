//! Many calls on one port (`mode: one-port`): whose a packet is, in simulated time. What names one leg alone is heard as on a
//! port of its own; what might be of several calls is nobody's.

mod rig;

use proto::control::Session;
use proto::event::{Event, OneWay, Side};
use proto::tables::Latch;
use relay::{Config, Why};
use rig::*;

/// Two phones in one office, as the world sees them; and two in public.
const OFFICE: &str = "198.51.100.77";
const A1: &str = "198.51.100.77:61000";
const A2: &str = "198.51.100.77:62000";
const B1: &str = "203.0.113.201:7000";
const B2: &str = "203.0.113.202:7000";
const STRANGER: &str = "192.0.2.66:9";

fn one_port(ports: std::ops::RangeInclusive<u16>) -> Config {
    Config { one_port: true, ports: ports.clone(), all_ports: ports, ..config() }
}

fn rig() -> Rig {
    Rig::new(one_port(40_000..=40_000))
}

fn in_the_office() -> Phone {
    natted("10.0.0.5:4000", &format!("{OFFICE}:1024"))
}

/// A phone in the office calls one in public; neither has been heard.
fn call(rig: &mut Rig, number: u64, b: &str) -> Call {
    rig.call(number, &in_the_office(), &public(b))
}

/// The same, and both have been heard.
fn talk(rig: &mut Rig, number: u64, a: &str, b: &str) -> Call {
    let call = call(rig, number, b);
    rig.packet(a, call.for_a, &rtp(number as u32, 0));
    let back = rig.packet(b, call.for_b, &rtp(0x100 + number as u32, 0)).expect("B is heard");
    assert_eq!(back.to, address(a));
    call
}

fn goes_to(rig: &mut Rig, from: &str, bytes: &[u8]) -> Option<String> {
    let port = address(&format!("{OUTSIDE}:40000"));
    rig.packet(from, port, bytes).map(|sent| sent.to.to_string())
}

#[test]
fn every_call_is_told_the_same_port_and_each_party_hears_its_own() {
    let mut rig = rig();
    let first = talk(&mut rig, 1, A1, B1);
    let second = talk(&mut rig, 2, A2, B2);
    let told = [first.for_a, first.for_b, second.for_a, second.for_b].map(|at| at.port());
    assert_eq!(told, [40_000; 4]);
    for (from, to) in [(A1, B1), (B1, A1), (A2, B2), (B2, A2)] {
        let ssrc = match from {
            A1 => 1,
            A2 => 2,
            B1 => 0x101,
            _ => 0x102,
        };
        assert_eq!(goes_to(&mut rig, from, &rtp(ssrc, 1)).as_deref(), Some(to));
    }
}

#[test]
fn rtcp_comes_to_the_same_port_from_another_and_goes_to_where_rtcp_is_heard() {
    let mut rig = rig();
    let offer = rig.invite(&in_the_office().ask(Session(1), Side::Caller), &in_the_office().sdp(), false);
    let text = String::from_utf8(offer.body().to_vec()).unwrap();
    assert!(text.contains("a=rtcp:40000"), "{text}");
    rig.invite(&public(B1).ask(Session(1), Side::Callee), &public(B1).sdp(), true);
    goes_to(&mut rig, A1, &rtp(1, 0));
    goes_to(&mut rig, B1, &rtp(0x101, 0));
    // A's RTCP comes from a port of its own, as does B's.
    assert_eq!(
        goes_to(&mut rig, "198.51.100.77:61001", &rtcp_report(1)).as_deref(),
        Some("203.0.113.201:7001")
    );
    assert_eq!(
        goes_to(&mut rig, "203.0.113.201:7001", &rtcp_report(0x101)).as_deref(),
        Some("198.51.100.77:61001")
    );
}

#[test]
fn two_unheard_phones_behind_one_nat_are_ambiguous_and_neither_is_guessed() {
    let mut rig = rig();
    call(&mut rig, 1, B1);
    call(&mut rig, 2, B2);
    assert_eq!(goes_to(&mut rig, A1, &rtp(1, 0)), None);
    assert_eq!(goes_to(&mut rig, A2, &rtp(2, 0)), None);
    assert_eq!(rig.dropped(Why::Ambiguous), 2);
}

#[test]
fn once_the_other_is_heard_the_one_that_is_left_is_not_ambiguous() {
    let mut rig = rig();
    talk(&mut rig, 1, A1, B1);
    call(&mut rig, 2, B2);
    goes_to(&mut rig, B2, &rtp(0x102, 0));
    assert_eq!(goes_to(&mut rig, A2, &rtp(2, 0)).as_deref(), Some(B2));
    assert_eq!(rig.dropped(Why::Ambiguous), 0);
}

#[test]
fn what_explain_says_of_a_call_that_could_not_be_told_from_another() {
    let mut rig = rig();
    call(&mut rig, 1, B1);
    call(&mut rig, 2, B2);
    goes_to(&mut rig, A1, &rtp(1, 0));
    rig.pass(11 * SECOND);
    let told = rig
        .events
        .iter()
        .any(|event| matches!(event, Event::OneWay { cause: OneWay::Ambiguous, silent: Side::Caller, .. }));
    assert!(told, "{:?}", rig.events);
}

#[test]
fn with_a_port_more_the_second_phone_waits_at_another_one() {
    let mut rig = Rig::new(one_port(40_000..=40_003));
    let calls = [call(&mut rig, 1, B1), call(&mut rig, 2, B2)];
    let mut told: Vec<u16> = calls.iter().flat_map(|call| [call.for_a.port(), call.for_b.port()]).collect();
    told.sort_unstable();
    assert_eq!(told, [40_000, 40_001, 40_002, 40_003], "four that wait, one at each port");
    for (call, from, to) in [(calls[0], A1, B1), (calls[1], A2, B2)] {
        rig.packet(to, call.for_b, &rtp(9, 0));
        assert_eq!(rig.packet(from, call.for_a, &rtp(1, 0)).map(|sent| sent.to), Some(address(to)));
    }
}

#[test]
fn an_announced_ssrc_tells_two_phones_behind_one_nat_apart() {
    let mut rig = rig();
    for (number, b) in [(1, B1), (2, B2)] {
        let announces = Phone { lines: format!("a=ssrc:{number} cname:x\r\n"), ..in_the_office() };
        rig.call(number, &announces, &public(b));
        goes_to(&mut rig, b, &rtp(0x100 + number as u32, 0));
    }
    assert_eq!(goes_to(&mut rig, A2, &rtp(2, 0)).as_deref(), Some(B2));
    assert_eq!(goes_to(&mut rig, A1, &rtp(1, 0)).as_deref(), Some(B1));
}

#[test]
fn the_address_that_sdp_names_tells_two_phones_on_one_host_apart() {
    let mut rig = rig();
    for (number, a, b) in [(1, "203.0.113.9:4000", B1), (2, "203.0.113.9:4002", B2)] {
        rig.call(number, &public(a), &public(b));
    }
    assert_eq!(goes_to(&mut rig, "203.0.113.9:4002", &rtp(2, 0)).as_deref(), Some(B2));
    assert_eq!(goes_to(&mut rig, "203.0.113.9:4000", &rtp(1, 0)).as_deref(), Some(B1));
}

#[test]
fn strangers_get_nothing_through_and_the_calls_go_on() {
    let mut rig = rig();
    talk(&mut rig, 1, A1, B1);
    call(&mut rig, 2, B2);
    for n in 0..1000 {
        assert_eq!(goes_to(&mut rig, STRANGER, &rtp(n, n as u16)), None);
        assert_eq!(goes_to(&mut rig, STRANGER, &rtp(1, n as u16)), None, "another's SSRC");
        assert_eq!(goes_to(&mut rig, STRANGER, &rtcp_report(1)), None);
        assert_eq!(goes_to(&mut rig, STRANGER, b"\0\x01\0\0\x21\x12\xa4\x42transaction "), None, "a check");
    }
    assert!(!rig.sent.iter().any(|sent| sent.to == address(STRANGER)));
    assert_eq!(goes_to(&mut rig, A1, &rtp(1, 1)).as_deref(), Some(B1));
}

#[test]
fn a_neighbour_of_an_unheard_phone_is_not_heard_in_its_place_under_a_stream_that_ended() {
    let mut rig = rig();
    let first = talk(&mut rig, 1, A1, B1);
    assert_eq!(rig.bye(first.session), 200);
    call(&mut rig, 2, B2);
    assert_eq!(goes_to(&mut rig, A1, &rtp(1, 5)), None, "a straggler of the call that ended");
    assert_eq!(rig.dropped(Why::Idle), 1);
    goes_to(&mut rig, B2, &rtp(0x102, 0));
    assert_eq!(goes_to(&mut rig, A1, &rtp(2, 0)).as_deref(), Some(B2), "a new stream of the same phone");
}

#[test]
fn stragglers_rest_for_as_long_as_a_port_would() {
    for (waited, heard) in [(4_999, false), (5_000, true)] {
        let mut rig = rig();
        let first = talk(&mut rig, 1, A1, B1);
        rig.bye(first.session);
        rig.pass(MS * waited);
        call(&mut rig, 2, B2);
        goes_to(&mut rig, B2, &rtp(0x102, 0));
        assert_eq!(goes_to(&mut rig, A1, &rtp(1, 5)).is_some(), heard, "{waited} ms");
    }
}

#[test]
fn a_phone_whose_nat_re_binds_proves_itself_by_its_stream_though_another_waits() {
    let mut rig = rig();
    talk(&mut rig, 1, A1, B1);
    for n in 1..50 {
        rig.pass(20 * MS);
        goes_to(&mut rig, A1, &rtp(1, n));
    }
    call(&mut rig, 2, B2);
    rig.pass(120 * MS);
    let moved = "198.51.100.77:61999";
    let heard: Vec<bool> = (55..59).map(|n| goes_to(&mut rig, moved, &rtp(1, n)).is_some()).collect();
    assert_eq!(heard, [false, false, true, true], "three packets prove it");
    assert_eq!(goes_to(&mut rig, B1, &rtp(0x101, 1)).as_deref(), Some(moved));
}

#[test]
fn while_a_re_invite_lets_one_phone_move_a_new_source_may_be_that_or_the_waiting_one() {
    let mut rig = rig();
    let first = talk(&mut rig, 1, A1, B1);
    let again = Phone { reset: true, ..in_the_office() };
    rig.invite(&again.ask(first.session, Side::Caller), &again.sdp(), true);
    call(&mut rig, 2, B2);
    assert_eq!(goes_to(&mut rig, A2, &rtp(77, 0)), None);
    assert_eq!(rig.dropped(Why::Ambiguous), 1);
    rig.pass(11 * SECOND);
    goes_to(&mut rig, A1, &rtp(1, 5));
    goes_to(&mut rig, B2, &rtp(0x102, 0));
    assert_eq!(goes_to(&mut rig, A2, &rtp(77, 1)).as_deref(), Some(B2), "the window is over");
}

#[test]
fn a_call_that_takes_media_from_anywhere_takes_no_packet_that_another_may_expect() {
    let mut rig = rig();
    let anywhere = Phone { latch: Latch::Any, ..in_the_office() };
    rig.call(1, &anywhere, &public(B1));
    call(&mut rig, 2, B2);
    assert_eq!(goes_to(&mut rig, A2, &rtp(2, 0)), None, "either may be meant");
    goes_to(&mut rig, B1, &rtp(0x101, 0));
    assert_eq!(goes_to(&mut rig, STRANGER, &rtp(1, 0)).as_deref(), Some(B1), "nobody else expects that");
}

#[test]
fn a_relay_that_was_killed_goes_on_with_every_call_of_the_port() {
    let mut rig = rig();
    talk(&mut rig, 1, A1, B1);
    talk(&mut rig, 2, A2, B2);
    let mut next = Rig::after(rig.config, rig.tables, rig.now, true);
    assert_eq!(next.relay.status().sessions, 2);
    for (from, to) in [(A1, B1), (B1, A1), (A2, B2), (B2, A2)] {
        assert_eq!(goes_to(&mut next, from, &rtp(5, 50)).as_deref(), Some(to));
    }
    assert_eq!((next.bye(Session(1)), next.bye(Session(2))), (200, 200));
}

#[test]
fn a_port_that_is_not_lent_any_more_closes_with_its_last_call() {
    let mut rig = rig();
    let first = talk(&mut rig, 1, A1, B1);
    rig.relay.reconfigure(&one_port(41_000..=41_000));
    rig.tell(proto::node::Input::Wake);
    assert_eq!(goes_to(&mut rig, A1, &rtp(1, 1)).as_deref(), Some(B1), "who is there goes on");
    let second = rig.call(2, &public("203.0.113.9:4000"), &public(B2));
    assert_eq!(second.for_a.port(), 41_000);
    let open = |rig: &Rig| rig.addresses.values().any(|at| *at == address(&format!("{OUTSIDE}:40000")));
    assert!(open(&rig));
    rig.bye(first.session);
    assert!(!open(&rig));
}

#[test]
fn without_an_open_port_a_call_is_refused() {
    let mut rig = Rig::with_binds(one_port(40_000..=40_000), false);
    rig.fail_binds();
    let offer = rig.invite(&in_the_office().ask(Session(1), Side::Caller), &in_the_office().sdp(), false);
    assert_eq!(offer.status(), Some(503));
}
