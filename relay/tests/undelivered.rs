//! What ICMP says of media, true and forged (RFC 5927).

mod rig;

use proto::event::{Event, OneWay, Side};
use proto::icmp::{Undelivered, Unreachable};
use proto::node::Input;
use rig::*;

const A: &str = "203.0.113.100:4000";
const B: &str = "203.0.113.200:7000";

fn call() -> (Rig, Call) {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &public(A), &public(B));
    rig.packet(B, call.for_b, &rtp(0xb, 0));
    (rig, call)
}

/// What B's host says of the packet that A sent last.
fn of(call: &Call, head: &[u8]) -> Undelivered {
    let (from, to) = (call.for_b, address(B));
    Undelivered { from, to, why: Unreachable::Port, head: head.to_vec().into() }
}

/// A talks, and once a second what `says` makes of its packet comes back.
fn talk(rig: &mut Rig, call: &Call, seconds: u16, says: impl Fn(&[u8]) -> Undelivered) {
    let spoken = (rig.now - rig.born).as_millis() as u16 / 20;
    for n in spoken..spoken + seconds * 50 {
        let packet = rtp(0xa, n);
        assert!(rig.packet(A, call.for_a, &packet).is_some(), "it always goes on");
        if (n - spoken).is_multiple_of(50) {
            rig.tell(Input::Undelivered(says(&packet)));
        }
        rig.pass(20 * MS);
    }
}

fn told(rig: &Rig) -> Vec<(Side, u32)> {
    let told = |event: &Event| match event {
        Event::Undelivered { leg, times, to, why: Unreachable::Port, .. } if *to == address(B) => {
            Some((*leg, *times))
        }
        _ => None,
    };
    rig.events.iter().filter_map(told).collect()
}

fn troubles(rig: &Rig, call: &Call) -> [Option<OneWay>; 2] {
    rig.relay.live(rig.now, &call.session.to_string()).unwrap().parties.map(|party| party.trouble)
}

#[test]
fn a_closed_port_is_told_of_once_it_lasts_and_once_a_minute_after_that() {
    let (mut rig, call) = call();
    talk(&mut rig, &call, 2, |packet| of(&call, packet));
    assert_eq!(told(&rig), [], "a phone that hangs up says as much");
    talk(&mut rig, &call, 1, |packet| of(&call, packet));
    assert_eq!(told(&rig), [(Side::Callee, 3)]);
    talk(&mut rig, &call, 59, |packet| of(&call, packet));
    assert_eq!(told(&rig).len(), 1);
    talk(&mut rig, &call, 2, |packet| of(&call, packet));
    assert_eq!(told(&rig).len(), 2);
    assert_eq!(rig.bye(call.session), 200);
    let Some(Event::RelayReleased { legs, .. }) = rig.events.last() else { panic!() };
    assert_eq!(legs.each_ref().map(|leg| leg.undelivered), [0, 64]);
}

#[test]
fn it_is_why_a_party_can_t_be_heard_and_no_longer_than_it_goes_on() {
    let (mut rig, call) = call();
    talk(&mut rig, &call, 12, |packet| of(&call, packet));
    assert_eq!(
        troubles(&rig, &call),
        [Some(OneWay::Undelivered(Unreachable::Port)), Some(OneWay::Gone(Unreachable::Port))]
    );
    let silent =
        |event: &Event| matches!(event, Event::OneWay { silent: Side::Callee, cause: OneWay::Gone(_), .. });
    assert!(rig.events.iter().any(silent));
    for n in 600..1200 {
        rig.packet(A, call.for_a, &rtp(0xa, n));
        rig.pass(20 * MS);
    }
    assert_eq!(troubles(&rig, &call), [None, Some(OneWay::Stopped)]);
}

#[test]
fn what_was_never_sent_is_not_believed() {
    let (mut rig, call) = call();
    rig.packet(A, call.for_a, &rtp(0xa, 0));
    let forgeries: [(&str, &dyn Fn(&[u8]) -> Undelivered); 6] = [
        ("another stream", &|_| of(&call, &rtp(0x66, 0))),
        ("an old number", &|packet| {
            let mut packet = packet.to_vec();
            packet[2] ^= 0x40;
            of(&call, &packet)
        }),
        ("eight bytes, which tell nothing", &|_| of(&call, &[])),
        ("another address", &|packet| Undelivered { to: address("203.0.113.200:7002"), ..of(&call, packet) }),
        ("another port of ours", &|packet| Undelivered { from: rtcp(call.for_b), ..of(&call, packet) }),
        ("the other leg's", &|packet| Undelivered { from: call.for_a, ..of(&call, packet) }),
    ];
    for (forged, says) in forgeries {
        talk(&mut rig, &call, 12, says);
        assert_eq!(told(&rig), [], "{forged}");
    }
    assert_eq!(troubles(&rig, &call)[0], None);
}

#[test]
fn nothing_moves_by_it_however_many_come() {
    let (mut rig, call) = call();
    for n in 0..500 {
        let packet = rtp(0xa, n);
        let sent = rig.packet(A, call.for_a, &packet).unwrap();
        assert_eq!((sent.from, sent.to), (call.for_b, address(B)));
        for _ in 0..20 {
            rig.tell(Input::Undelivered(of(&call, &packet)));
        }
        let sent = rig.packet(B, call.for_b, &rtp(0xb, n + 1)).unwrap();
        assert_eq!(sent.to, address(A));
        rig.pass(20 * MS);
    }
    assert_eq!(told(&rig).len(), 1);
    assert_eq!(rig.relay.status().sessions, 1);
}

#[test]
fn a_closed_port_for_reports_alone_is_nobody_s_trouble() {
    let (mut rig, call) = call();
    let said = |_: &[u8]| Undelivered {
        from: rtcp(call.for_b),
        to: address("203.0.113.200:7001"),
        ..of(&call, &rtcp_report(0xa))
    };
    rig.packet("203.0.113.100:4001", rtcp(call.for_a), &rtcp_report(0xa));
    talk(&mut rig, &call, 5, said);
    assert_eq!(told(&rig), []);
}

#[test]
fn legs_that_share_a_port_are_told_apart_by_where_it_was_sent() {
    let mut rig = Rig::new(relay::Config { one_port: true, ports: 30_000..=30_000, ..config() });
    let call = rig.call(1, &public(A), &public(B));
    let other = rig.call(2, &public("203.0.113.101:4000"), &public("203.0.113.201:7000"));
    assert_eq!(call.for_b, other.for_b);
    rig.packet(B, call.for_b, &rtp(0xb, 0));
    talk(&mut rig, &call, 3, |packet| of(&call, packet));
    assert_eq!(told(&rig).len(), 1);
    assert_eq!(troubles(&rig, &other), [None, None]);
}
