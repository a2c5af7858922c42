//! Sessions behind one another: a browser's keys end in the session of its own proxy, and whatever the callee's proxy has to
//! translate is a session behind that, of the same relay or another.

mod rig;

use proto::control::Session;
use proto::event::Side;
use rig::*;

const A: &str = "203.0.113.100:4000";
const B: &str = "203.0.113.200:7000";

/// A party that is met at a port of ours, or that a proxy says is.
fn at(port: std::net::SocketAddr, chained: bool) -> Phone {
    Phone { chained, peer: None, ..public(&port.to_string()) }
}

#[test]
fn media_goes_through_two_sessions_of_one_relay_and_back() {
    let mut rig = Rig::new(config());
    let (a, b) = (public(A), public(B));
    let first = media_of(&rig.invite(&a.ask(Session(1), Side::Caller), &a.sdp(), false));
    let near = at(first, true);
    let for_b = media_of(&rig.invite(&near.ask(Session(2), Side::Caller), &near.sdp(), false));
    let second = media_of(&rig.invite(&b.ask(Session(2), Side::Callee), &b.sdp(), true));
    let far = at(second, true);
    let for_a = media_of(&rig.invite(&far.ask(Session(1), Side::Callee), &far.sdp(), true));
    for n in 0..100 {
        rig.pass(20 * MS);
        let between = rig.packet(A, for_a, &rtp(0xa, n)).expect("to the second session");
        assert_eq!((between.from, between.to), (first, second));
        let out = rig.packet(&first.to_string(), second, &between.bytes).expect("to the callee");
        assert_eq!((out.from, out.to, out.bytes), (for_b, address(B), rtp(0xa, n)));
        let between = rig.packet(B, for_b, &rtp(0xb, n)).expect("to the first session");
        assert_eq!((between.from, between.to), (second, first));
        let out = rig.packet(&second.to_string(), first, &between.bytes).expect("to the caller");
        assert_eq!((out.from, out.to, out.bytes), (for_a, address(A), rtp(0xb, n)));
    }
}

#[test]
fn nobody_else_is_met_at_a_port_of_ours() {
    let mut rig = Rig::new(config());
    let a = public(A);
    let first = media_of(&rig.invite(&a.ask(Session(1), Side::Caller), &a.sdp(), false));
    let near = at(first, false);
    let refused = rig.invite(&near.ask(Session(2), Side::Caller), &near.sdp(), false);
    assert_eq!(refused.status(), Some(488));
    let open = rig.call(3, &public("203.0.113.101:4000"), &public("203.0.113.201:4000"));
    assert_eq!(rig.packet(&first.to_string(), open.for_a, &rtp(0xa, 1)), None);
}
