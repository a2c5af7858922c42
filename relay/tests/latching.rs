//! Whom a leg hears, and where it sends (DESIGN §6): each rule on both sides of its bound, in simulated time.

mod rig;

use proto::control::Mode;
use proto::event::{Event, Side};
use proto::tables::Latch;
use relay::Why;
use rig::*;

/// A behind a NAT, B on a public address.
const A_SDP: &str = "192.168.1.10:4000";
const A_PEER: &str = "198.51.100.77:1024";
const A: &str = "198.51.100.77:61000";
const A_RTCP: &str = "198.51.100.77:61001";
const B: &str = "203.0.113.200:7000";
const B_RTCP: &str = "203.0.113.200:7001";
const STRANGER: &str = "192.0.2.66:9";

fn a() -> Phone {
    natted(A_SDP, A_PEER)
}

fn b() -> Phone {
    public(B)
}

fn ready() -> (Rig, Call) {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &a(), &b());
    (rig, call)
}

/// A call in which A has sent packets 0 to 100, one every 20 ms, and B has been heard.
fn talking() -> (Rig, Call) {
    let (mut rig, call) = ready();
    rig.packet(B, call.for_b, &rtp(0xb, 0));
    for n in 0..=100 {
        rig.pass(20 * MS);
        rig.packet(A, call.for_a, &rtp(0xa, n)).expect("passes");
    }
    (rig, call)
}

fn to(sent: Option<Sent>) -> Option<String> {
    sent.map(|sent| sent.to.to_string())
}

#[test]
fn latches_onto_the_first_packet_from_the_partys_signalling_address() {
    let (mut rig, call) = ready();
    let sent = rig.packet(A, call.for_a, &rtp(0xa, 0)).unwrap();
    assert_eq!(sent, Sent { from: call.for_b, to: address(B), bytes: rtp(0xa, 0) });
    let latched = Event::LegLatched {
        session: "0000000000000001".into(),
        leg: Side::Caller,
        from: address(A),
        rebound: false,
    };
    assert_eq!(rig.events.last(), Some(&latched));
}

#[test]
fn sends_to_where_packets_come_from_not_to_where_the_sdp_points() {
    let (mut rig, call) = ready();
    rig.packet(A, call.for_a, &rtp(0xa, 0));
    let sent = rig.packet(B, call.for_b, &rtp(0xb, 0)).unwrap();
    assert_eq!((sent.from, sent.to), (call.for_a, address(A)));
}

#[test]
fn holds_media_for_a_party_behind_a_nat_until_it_is_heard() {
    let (mut rig, call) = ready();
    assert_eq!(rig.packet(B, call.for_b, &rtp(0xb, 0)), None);
    assert_eq!(rig.dropped(Why::Held), 1);
}

#[test]
fn sends_before_the_latch_only_to_the_partys_own_address_or_for_a_trusted_one() {
    let mut rig = Rig::new(config());
    let elsewhere = Phone { peer: Some(address("203.0.113.99:5060")), ..b() };
    let call = rig.call(1, &a(), &elsewhere);
    assert_eq!(rig.packet(A, call.for_a, &rtp(0xa, 0)), None, "signalled where it does not signal from");
    let call = rig.call(2, &a(), &Phone { trusted: true, ..elsewhere });
    assert_eq!(to(rig.packet(A, call.for_a, &rtp(0xa, 0))).as_deref(), Some(B));
}

#[test]
fn a_trusted_party_is_not_believed_a_private_address_behind_a_public_one() {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &b(), &Phone { trusted: true, ..a() });
    assert_eq!(rig.packet(B, call.for_a, &rtp(0xb, 0)), None);
}

#[test]
fn a_stranger_on_a_fresh_port_is_dropped_and_counted_and_latches_nothing() {
    let (mut rig, call) = ready();
    for n in 0..100 {
        assert_eq!(rig.packet(STRANGER, call.for_a, &rtp(0x666, n)), None);
    }
    assert_eq!(rig.dropped(Why::Stranger), 100);
    assert!(rig.packet(A, call.for_a, &rtp(0xa, 0)).is_some(), "the party still may");
    assert_eq!(rig.packet(B, call.for_b, &rtp(0xb, 0)).unwrap().to, address(A));
}

#[test]
fn strangers_are_told_after_two_seconds_unlatched_and_once() {
    let (mut rig, call) = ready();
    rig.packet(STRANGER, call.for_a, &rtp(0x666, 0));
    let told = |rig: &Rig| rig.events.iter().filter(|e| matches!(e, Event::StrangerDropped { .. })).count();
    rig.pass(2 * SECOND - MS);
    assert_eq!(told(&rig), 0);
    rig.pass(MS);
    let event = Event::StrangerDropped {
        session: "0000000000000001".into(),
        leg: Side::Caller,
        from: address(STRANGER),
        expected: address(A_PEER).ip(),
        latch: Latch::Strict,
    };
    assert_eq!(rig.events.last(), Some(&event));
    rig.packet(STRANGER, call.for_a, &rtp(0x666, 1));
    rig.pass(10 * SECOND);
    assert_eq!(told(&rig), 1);
}

#[test]
fn strangers_are_not_told_when_the_party_comes_in_time() {
    let (mut rig, call) = ready();
    rig.packet(STRANGER, call.for_a, &rtp(0x666, 0));
    rig.pass(2 * SECOND - MS);
    rig.packet(A, call.for_a, &rtp(0xa, 0));
    rig.pass(5 * SECOND);
    assert!(!rig.events.iter().any(|event| matches!(event, Event::StrangerDropped { .. })));
}

#[test]
fn after_the_latch_even_the_same_host_is_a_stranger_on_another_port() {
    let (mut rig, call) = talking();
    assert_eq!(rig.packet("198.51.100.77:61002", call.for_a, &rtp(0x666, 101)), None);
    assert_eq!(to(rig.packet(B, call.for_b, &rtp(0xb, 1))).as_deref(), Some(A));
}

#[test]
fn a_party_whose_nat_gives_it_a_new_port_is_back_both_ways_within_120_ms() {
    rebinds("198.51.100.77:61999");
}

#[test]
fn a_party_whose_nat_gives_it_a_new_address_is_back_both_ways_within_120_ms() {
    rebinds("192.0.2.200:333");
}

fn rebinds(new: &str) {
    let (mut rig, call) = talking();
    let mut back = None;
    for n in 101..=110 {
        rig.pass(20 * MS);
        if rig.packet(new, call.for_a, &rtp(0xa, n)).is_some() {
            back.get_or_insert(n);
        }
    }
    assert_eq!(back, Some(105), "100 ms after the last packet from the old port");
    assert_eq!(to(rig.packet(B, call.for_b, &rtp(0xb, 1))).as_deref(), Some(new));
    assert_eq!(rig.packet(A, call.for_a, &rtp(0x666, 111)), None, "the old place is a stranger's now");
    let rebound =
        |e: &Event| matches!(e, Event::LegLatched { rebound: true, from, .. } if *from == address(new));
    assert!(rig.events.iter().any(rebound));
}

#[test]
fn nobody_takes_over_while_the_old_source_is_heard() {
    let (mut rig, call) = talking();
    for n in 101..=120 {
        rig.pass(20 * MS);
        assert!(rig.packet(A, call.for_a, &rtp(0xa, n)).is_some());
        assert_eq!(rig.packet(STRANGER, call.for_a, &rtp(0xa, n + 1)), None, "who has seen every packet");
    }
    assert_eq!(to(rig.packet(B, call.for_b, &rtp(0xb, 1))).as_deref(), Some(A));
}

#[test]
fn a_forger_who_does_not_know_the_stream_gets_nothing_in_or_out_while_the_party_moves() {
    let (mut rig, call) = talking();
    let new = "198.51.100.77:61999";
    for n in 101..=120u16 {
        for guess in 0..20u32 {
            rig.pass(MS);
            let forged = rtp(u32::from(n) * 1000 + guess, n);
            assert_eq!(rig.packet(STRANGER, call.for_a, &forged), None);
        }
        rig.packet(new, call.for_a, &rtp(0xa, n));
    }
    assert_eq!(to(rig.packet(B, call.for_b, &rtp(0xb, 1))).as_deref(), Some(new));
}

#[test]
fn rtcp_comes_from_where_its_media_comes_from() {
    let (mut rig, call) = talking();
    assert_eq!(rig.packet(STRANGER, rtcp(call.for_a), &rtcp_report(0xa)), None, "RTCP bleed");
    let sent = rig.packet(A_RTCP, rtcp(call.for_a), &rtcp_report(0xa)).unwrap();
    assert_eq!((sent.from, sent.to), (rtcp(call.for_b), address(B_RTCP)));
    let back = rig.packet(B_RTCP, rtcp(call.for_b), &rtcp_report(0xb)).unwrap();
    assert_eq!((back.from, back.to), (rtcp(call.for_a), address(A_RTCP)));
}

#[test]
fn rtcp_moves_within_its_medias_address_only_under_a_known_ssrc() {
    let (mut rig, call) = talking();
    rig.packet(A_RTCP, rtcp(call.for_a), &rtcp_report(0xa));
    assert_eq!(rig.packet("198.51.100.77:61005", rtcp(call.for_a), &rtcp_report(0x666)), None);
    assert!(rig.packet("198.51.100.77:61005", rtcp(call.for_a), &rtcp_report(0xa)).is_some());
    assert_eq!(rig.packet("192.0.2.200:5", rtcp(call.for_a), &rtcp_report(0xa)), None, "not from elsewhere");
}

#[test]
fn rtcp_follows_its_media_to_a_new_address() {
    let (mut rig, call) = talking();
    rig.packet(A_RTCP, rtcp(call.for_a), &rtcp_report(0xa));
    for n in 101..=110 {
        rig.pass(20 * MS);
        rig.packet("192.0.2.200:333", call.for_a, &rtp(0xa, n));
    }
    assert_eq!(rig.packet(B_RTCP, rtcp(call.for_b), &rtcp_report(0xb)), None, "not to the old address");
    assert_eq!(rig.packet(A_RTCP, rtcp(call.for_a), &rtcp_report(0xa)), None, "nor from it");
    assert!(rig.packet("192.0.2.200:334", rtcp(call.for_a), &rtcp_report(0xa)).is_some());
    assert_eq!(
        to(rig.packet(B_RTCP, rtcp(call.for_b), &rtcp_report(0xb))).as_deref(),
        Some("192.0.2.200:334")
    );
}

/// A's network changes, and its re-INVITE says so.
fn moved(reset: bool) -> (Rig, Call, &'static str) {
    let (mut rig, call) = talking();
    let new = Phone { reset, ..natted("192.168.5.5:5000", "192.0.2.150:5060") };
    rig.invite(&new.ask(call.session, Side::Caller), &new.sdp(), true);
    (rig, call, "192.0.2.150:50000")
}

#[test]
fn a_new_offer_opens_a_window_for_one_new_source() {
    let (mut rig, call, new) = moved(true);
    assert!(
        rig.packet(A, call.for_a, &rtp(0xa, 101)).is_some(),
        "the old one goes on until the new one comes"
    );
    assert_eq!(rig.packet(STRANGER, call.for_a, &rtp(0x666, 0)), None);
    assert!(rig.packet(new, call.for_a, &rtp(0xcc, 7)).is_some());
    assert_eq!(rig.packet(A, call.for_a, &rtp(0x666, 102)), None);
    assert_eq!(rig.packet("192.0.2.150:50002", call.for_a, &rtp(0x666, 0)), None, "one, not two");
}

#[test]
fn the_window_closes_after_ten_seconds() {
    let (mut rig, call, new) = moved(true);
    rig.pass(10 * SECOND - MS);
    assert!(rig.packet(new, call.for_a, &rtp(0xcc, 7)).is_some());
    let (mut rig, call, new) = moved(true);
    rig.pass(10 * SECOND);
    assert_eq!(rig.packet(new, call.for_a, &rtp(0xcc, 7)), None);
}

#[test]
fn an_offer_that_may_not_move_its_party_opens_no_window() {
    let (mut rig, call, new) = moved(false);
    assert_eq!(rig.packet(new, call.for_a, &rtp(0xcc, 7)), None);
}

#[test]
fn a_party_that_moves_is_sent_to_its_new_address_at_once_and_to_the_old_one_if_it_stays() {
    let (mut rig, call) = talking();
    let new = Phone { reset: true, ..public("203.0.113.200:7777") };
    rig.invite(&new.ask(call.session, Side::Callee), &new.sdp(), true);
    assert_eq!(to(rig.packet(A, call.for_a, &rtp(0xa, 101))).as_deref(), Some("203.0.113.200:7777"));
    rig.pass(SECOND);
    rig.packet(B, call.for_b, &rtp(0xb, 50));
    rig.pass(9 * SECOND);
    assert_eq!(to(rig.packet(A, call.for_a, &rtp(0xa, 102))).as_deref(), Some(B), "it went on from there");
}

#[test]
fn prefix_and_any_let_in_whom_they_say() {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &Phone { latch: Latch::Prefix, ..a() }, &b());
    assert_eq!(rig.packet("198.51.101.1:5", call.for_a, &rtp(0xa, 0)), None);
    assert!(rig.packet("198.51.100.200:5", call.for_a, &rtp(0xa, 0)).is_some());
    let call = rig.call(2, &Phone { latch: Latch::Any, ..a() }, &b());
    assert!(rig.packet("192.0.2.5:5", call.for_a, &rtp(0xa, 0)).is_some());
}

#[test]
fn an_rtp_leg_takes_rtp_rtcp_and_dtls_and_drops_the_rest() {
    let (mut rig, call) = ready();
    for garbage in [&b""[..], b"x", b"GET / HTTP/1.1\r\n", &[0; 20], &[64; 40], &[0xff; 200]] {
        assert_eq!(rig.packet(A, call.for_a, garbage), None);
    }
    assert_eq!(rig.dropped(Why::Invalid), 6);
    assert!(rig.packet(A, call.for_a, &[22; 60]).is_some(), "DTLS");
    assert!(rig.packet(A, call.for_a, &rtp(0xa, 0)).is_some());
    assert_eq!(rig.packet(A, call.for_a, b"garbage"), None, "not from the party either");
    assert_eq!(rig.packet(A_RTCP, rtcp(call.for_a), &rtp(0xa, 1)), None, "no RTP on the RTCP port");
}

#[test]
fn stun_goes_nowhere_while_ice_is_stripped() {
    let (mut rig, call) = ready();
    assert_eq!(rig.packet(STRANGER, call.for_a, &stun()), None);
    assert_eq!(rig.dropped(Why::Stranger), 1);
    assert_eq!(rig.packet(A, call.for_a, &stun()), None);
    assert_eq!(rig.dropped(Why::Stun), 1);
    assert!(rig.packet(A, call.for_a, &rtp(0xa, 0)).is_some());
}

#[test]
fn one_shared_port_tells_its_parties_apart() {
    let mut rig = Rig::new(config());
    let (a, b) = (Phone { mode: Mode::Shared, ..a() }, Phone { mode: Mode::Shared, ..b() });
    let call = rig.call(1, &a, &b);
    assert_eq!(call.for_a, call.for_b);
    assert_eq!(rig.ports().leased, 2);
    let sent = rig.packet(A, call.for_a, &rtp(0xa, 0)).unwrap();
    assert_eq!((sent.from, sent.to), (call.for_a, address(B)));
    let back = rig.packet(B, call.for_a, &rtp(0xb, 0)).unwrap();
    assert_eq!((back.from, back.to), (call.for_a, address(A)));
    assert_eq!(rig.packet(STRANGER, call.for_a, &rtp(0x666, 0)), None);
    assert!(rig.packet(A_RTCP, rtcp(call.for_a), &rtcp_report(0xa)).is_some());
    assert_eq!(rig.bye(call.session), 200);
    assert_eq!((rig.ports().leased, rig.ports().quarantined), (0, 2));
}

#[test]
fn two_parties_behind_one_nat_share_a_port_when_they_keep_their_signalled_ones() {
    let mut rig = Rig::new(config());
    let at = |media: &str| Phone { mode: Mode::Shared, ..public(media) };
    let call = rig.call(1, &at("203.0.113.9:4000"), &at("203.0.113.9:4002"));
    assert_eq!(
        to(rig.packet("203.0.113.9:4002", call.for_a, &rtp(0xb, 0))).as_deref(),
        Some("203.0.113.9:4000")
    );
    assert_eq!(
        to(rig.packet("203.0.113.9:4000", call.for_a, &rtp(0xa, 0))).as_deref(),
        Some("203.0.113.9:4002")
    );
}

#[test]
fn a_shared_port_follows_a_party_that_moves() {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &Phone { mode: Mode::Shared, ..a() }, &Phone { mode: Mode::Shared, ..b() });
    rig.packet(B, call.for_a, &rtp(0xb, 0));
    (0..=10).for_each(|n| {
        rig.pass(20 * MS);
        rig.packet(A, call.for_a, &rtp(0xa, n));
    });
    (11..=20).for_each(|n| {
        rig.pass(20 * MS);
        rig.packet("192.0.2.9:9", call.for_a, &rtp(0xa, n));
    });
    assert_eq!(to(rig.packet(B, call.for_a, &rtp(0xb, 1))).as_deref(), Some("192.0.2.9:9"));
}
