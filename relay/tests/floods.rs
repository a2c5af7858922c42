//! A port that is flooded: when its door is closed and opened, whom it lets in meanwhile, and that nobody who may be heard ever
//! is kept out (which `rig` asserts of every packet of every test). Each rule on both sides of its bound.

mod rig;

use std::net::SocketAddr;

use proto::event::{Event, Side};
use proto::tables::Latch;
use relay::{Config, Why};
use rig::*;

const A: &str = "203.0.113.100:4000";
const B: &str = "203.0.113.200:7000";
const STRANGER: &str = "192.0.2.66:9";
/// What `doors` calls SOME, MANY and FEW.
const SOME: usize = 100;
const MANY: usize = 10_000;
const FEW: usize = 5;

/// A call whose parties have been heard, and that begins a second of its own.
fn talking() -> (Rig, Call) {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &public(A), &public(B));
    for n in 0..50 {
        assert!(speaks(&mut rig, &call, n));
    }
    (rig, call)
}

/// Twenty milliseconds of both parties; whether both are heard.
fn speaks(rig: &mut Rig, call: &Call, n: u16) -> bool {
    rig.pass(20 * MS);
    let there = rig.packet(A, call.for_a, &rtp(0xa, n)).map(|sent| sent.to);
    let back = rig.packet(B, call.for_b, &rtp(0xb, n)).map(|sent| sent.to);
    (there, back) == (Some(address(B)), Some(address(A)))
}

fn flood(rig: &mut Rig, at: SocketAddr, packets: usize) {
    for n in 0..packets {
        let from = format!("192.0.2.{}:9", 1 + n % 200);
        assert_eq!(rig.packet(&from, at, &rtp(0x666, n as u16)), None);
    }
}

fn is_closed(rig: &Rig, at: SocketAddr) -> bool {
    rig.doors.contains_key(&rig.sockets[&at])
}

fn floods(rig: &Rig) -> Vec<(Side, bool, u64)> {
    let flood = |event: &Event| match event {
        Event::Flood { leg, over, dropped, .. } => Some((*leg, *over, *dropped)),
        _ => None,
    };
    rig.events.iter().filter_map(flood).collect()
}

#[test]
fn a_hundred_strangers_in_a_second_close_no_door_and_one_more_does() {
    let (mut rig, call) = talking();
    for _ in 0..5 {
        flood(&mut rig, call.for_a, SOME);
        assert!(!is_closed(&rig, call.for_a));
        rig.pass(SECOND);
    }
    flood(&mut rig, call.for_a, SOME + 1);
    assert!(is_closed(&rig, call.for_a));
    assert!(!is_closed(&rig, call.for_b), "nobody knocks there");
    assert_eq!(floods(&rig), [(Side::Caller, false, 0)]);
}

#[test]
fn what_is_kept_out_is_counted_and_the_call_hears_nothing_of_it() {
    let (mut rig, call) = talking();
    let before = rig.dropped(Why::Stranger);
    for n in 50..200 {
        flood(&mut rig, call.for_a, 1_000);
        assert!(speaks(&mut rig, &call, n));
    }
    rig.pass(SECOND);
    let read = rig.dropped(Why::Stranger) - before;
    assert_eq!(read, SOME as u64 + 1, "no more had to be looked at");
    assert_eq!(rig.dropped(Why::Flood), 150_000 - read);
    assert_eq!(rig.bye(call.session), 200);
    let legs = rig.events.iter().find_map(|event| match event {
        Event::RelayReleased { legs, .. } => Some(**legs),
        _ => None,
    });
    let leg = legs.unwrap()[0];
    assert_eq!((leg.strangers, leg.kept_out, leg.lost), (150_000, 150_000 - read, 0));
}

#[test]
fn the_door_opens_after_five_calm_seconds_and_not_after_four() {
    let (mut rig, call) = talking();
    flood(&mut rig, call.for_a, 5_000);
    let closed_after = |rig: &mut Rig, each: usize| {
        let still = |_: &usize| {
            rig.pass(SECOND);
            flood(rig, call.for_a, each);
            is_closed(rig, call.for_a)
        };
        (0..20).take_while(still).count()
    };
    // Of the first second there is the flood's rest to count.
    assert_eq!(closed_after(&mut rig, 24), 5);
    assert_eq!(floods(&rig).last(), Some(&(Side::Caller, true, 5_000 - SOME as u64 - 1 + 24 * 5)));
    flood(&mut rig, call.for_a, 5_000);
    assert_eq!(closed_after(&mut rig, 25), 20, "a second with so many is not calm");
}

#[test]
fn a_party_that_moves_meanwhile_is_followed_as_ever() {
    let (mut rig, call) = talking();
    flood(&mut rig, call.for_a, 1_000);
    rig.pass(100 * MS);
    let elsewhere = "198.51.100.9:1234";
    let moved = [50, 51, 52].map(|n| rig.packet(elsewhere, call.for_a, &rtp(0xa, n)).is_some());
    assert_eq!(moved, [false, false, true], "three packets in a row prove it");
    flood(&mut rig, call.for_a, 1_000);
    assert_eq!(rig.packet(A, call.for_a, &rtp(0xfe, 1)), None, "the old place is a stranger's now");
    let (expected, dropped) = &rig.doors[&rig.sockets[&call.for_a]];
    assert!(*dropped > 1_000 && !expected.lets_in(address(A), &rtp(0xfe, 1)));
    assert!(rig.packet(elsewhere, call.for_a, &rtp(0xfe, 1)).is_some(), "with another stream, too");
}

#[test]
fn a_new_stream_of_the_party_may_move_a_second_later() {
    let (mut rig, call) = talking();
    flood(&mut rig, call.for_a, 1_000);
    for n in 0..60 {
        rig.pass(20 * MS);
        rig.packet(A, call.for_a, &rtp(0xaa, n));
    }
    rig.pass(100 * MS);
    let elsewhere = "198.51.100.9:1234";
    let moved = [60, 61, 62].map(|n| rig.packet(elsewhere, call.for_a, &rtp(0xaa, n)).is_some());
    assert_eq!(moved, [false, false, true]);
}

#[test]
fn a_leg_that_waits_is_flooded_and_hears_its_party_all_the_same() {
    for latch in [Latch::Strict, Latch::Prefix] {
        let mut rig = Rig::new(config());
        let call = rig.call(1, &Phone { latch, ..natted("10.0.0.9:4000", A) }, &public(B));
        flood(&mut rig, call.for_a, 1_000);
        assert!(is_closed(&rig, call.for_a));
        let own = "203.0.113.100:61000";
        assert_eq!(rig.packet(own, call.for_a, &rtp(0xa, 0)).map(|sent| sent.to), Some(address(B)));
        let neighbour = "203.0.113.101:4000";
        assert_eq!(rig.packet(neighbour, call.for_a, &rtp(0xbad, 0)), None, "it is latched now");
        assert!(!rig.doors[&rig.sockets[&call.for_a]].0.lets_in(address(neighbour), &rtp(0xbad, 0)));
    }
}

/// Whoever comes first is its party, as the operator wants it; then nobody else is.
#[test]
fn a_leg_that_hears_anybody_has_no_door_until_it_has_heard_somebody() {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &Phone { latch: Latch::Any, ..public(A) }, &public(B));
    for _ in 0..1_000 {
        assert_eq!(rig.packet(STRANGER, call.for_a, b"noise"), None);
    }
    assert!(!is_closed(&rig, call.for_a));
    rig.packet(A, call.for_a, &rtp(0xa, 0));
    flood(&mut rig, call.for_a, 1_000);
    assert!(is_closed(&rig, call.for_a));
}

#[test]
fn a_description_that_moves_its_party_opens_the_door_for_it_and_closes_it_behind() {
    let (mut rig, call) = talking();
    flood(&mut rig, call.for_a, 1_000);
    let moved = Phone { reset: true, ..public("198.51.100.5:4000") };
    rig.invite(&moved.ask(call.session, Side::Caller), &moved.sdp(), true);
    let lets_in = |rig: &Rig, from: &str, ssrc| {
        let expected = &rig.doors[&rig.sockets[&call.for_a]].0;
        expected.lets_in(address(from), &rtp(ssrc, 9))
    };
    assert!(lets_in(&rig, "198.51.100.5:4000", 0xc));
    assert!(!lets_in(&rig, STRANGER, 0xc));
    for _ in 0..12 {
        flood(&mut rig, call.for_a, 1_000);
        rig.pass(SECOND);
    }
    assert!(!lets_in(&rig, "198.51.100.5:4000", 0xc), "ten seconds are over, and it did not come");
    assert!(lets_in(&rig, A, 0xc));
}

#[test]
fn a_port_that_is_lent_to_nobody_lets_nobody_in_until_it_is_lent() {
    let mut rig = Rig::new(Config {
        quarantine: SECOND,
        ports: 30_000..=30_003,
        all_ports: 30_000..=30_003,
        ..config()
    });
    let call = rig.call(1, &public(A), &public(B));
    rig.bye(call.session);
    flood(&mut rig, call.for_a, 1_000);
    assert!(is_closed(&rig, call.for_a));
    assert_eq!(floods(&rig), [], "it is nobody's call");
    assert!(!rig.doors[&rig.sockets[&call.for_a]].0.lets_in(address(A), &rtp(0xa, 0)));
    rig.pass(SECOND);
    let next = rig.call(2, &public(A), &public(B));
    assert!([next.for_a, next.for_b].contains(&call.for_a), "it is lent again");
    let (at, from) = if next.for_a == call.for_a { (next.for_a, A) } else { (next.for_b, B) };
    assert!(rig.packet(from, at, &rtp(0xa, 0)).is_some());
}

/// RTCP comes from its media's address, and so does a flood of a neighbour behind the same NAT; nobody else's does.
#[test]
fn a_port_for_rtcp_is_flooded_and_reports_still_come() {
    let (mut rig, call) = talking();
    let at = rtcp(call.for_a);
    for _ in 0..=SOME {
        assert_eq!(rig.packet(STRANGER, at, &rtcp_report(0x666)), None);
    }
    assert!(is_closed(&rig, at));
    for from in ["203.0.113.100:4001", "203.0.113.100:61001"] {
        assert_eq!(
            rig.packet(from, at, &rtcp_report(0xa)).map(|sent| sent.to),
            Some(rtcp(address(B))),
            "{from}"
        );
    }
}

/// A thousand ports with a few packets each are as much work as one with all of them.
#[test]
fn where_a_whole_lane_is_flooded_a_few_packets_close_a_door() {
    let (mut rig, call) = talking();
    let other = rig.call(2, &public("203.0.113.101:4000"), &public("203.0.113.201:7000"));
    rig.has_doors = false;
    rig.pass(SECOND);
    flood(&mut rig, other.for_a, MANY);
    rig.has_doors = true;
    flood(&mut rig, call.for_a, FEW);
    assert!(!is_closed(&rig, call.for_a));
    flood(&mut rig, call.for_a, 1);
    assert!(is_closed(&rig, call.for_a));
}

#[test]
fn a_host_that_can_t_close_doors_is_asked_again_after_half_a_minute() {
    let (mut rig, call) = talking();
    rig.has_doors = false;
    flood(&mut rig, call.for_a, 1_000);
    rig.has_doors = true;
    rig.pass(29 * SECOND);
    flood(&mut rig, call.for_a, 1_000);
    assert!(!is_closed(&rig, call.for_a));
    rig.pass(SECOND);
    flood(&mut rig, call.for_a, 1_000);
    assert!(is_closed(&rig, call.for_a));
}

#[test]
fn a_party_that_sends_what_can_t_be_used_is_not_shut_out() {
    let (mut rig, call) = talking();
    for _ in 0..1_000 {
        assert_eq!(rig.packet(A, call.for_a, &stun()), None);
    }
    assert_eq!(rig.doors_closed, 0);
}

/// All that any of the calls at a common port may be is let in.
#[test]
fn a_common_port_lets_in_the_parties_of_all_its_calls() {
    let one = Config { one_port: true, ports: 40_000..=40_000, all_ports: 40_000..=40_000, ..config() };
    let mut rig = Rig::new(one);
    let talks = rig.call(1, &public(A), &public(B));
    rig.packet(A, talks.for_a, &rtp(0xa, 0));
    flood(&mut rig, talks.for_a, 1_000);
    assert!(is_closed(&rig, talks.for_a));
    let late = rig.call(2, &public("203.0.113.101:4000"), &public("203.0.113.201:7000"));
    assert_eq!(late.for_a, talks.for_a);
    rig.packet("203.0.113.101:4000", late.for_a, &rtp(0xc, 0));
    assert!(rig.packet("203.0.113.201:7000", late.for_b, &rtp(0xd, 0)).is_some());
    assert!(rig.packet(B, talks.for_b, &rtp(0xb, 0)).is_some());
    rig.bye(talks.session);
    flood(&mut rig, late.for_a, 1_000);
    assert!(!rig.doors[&rig.sockets[&late.for_a]].0.lets_in(address(A), &rtp(0xa, 1)), "its call has ended");
}
