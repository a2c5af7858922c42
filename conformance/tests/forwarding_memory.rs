//! A packet on its way through the relay asks for no memory: neither one that goes on, in whichever families, nor a stranger's.
//! Counted by the allocator, on the thread that runs the test.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../../relay/tests/rig/mod.rs"]
#[allow(dead_code)]
mod rig;

use conformance::allocations::{Counting, asked};
use relay::{Forward, Why};
use rig::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PACKETS: u16 = 20_000;
/// Strangers are noted first, and the door is closed to so many (`relay/src/doors.rs`).
const FIRST: u16 = 200;
const STRANGER: &str = "198.51.100.66:666";

fn party(media: &str) -> Phone {
    let network = if media.starts_with('[') { "six" } else { "outside" };
    Phone { network, ..public(media) }
}

#[test]
fn no_packet_asks_for_memory() {
    let (a4, b4) = ("203.0.113.100:4000", "203.0.113.200:7000");
    let (a6, b6) = ("[2001:db8:a::1]:4000", "[2001:db8:b::1]:7000");
    for [a, b] in [[a4, b4], [a4, b6], [a6, b4], [a6, b6]] {
        let mut rig = Rig::new(config());
        let (caller, callee) = (party(a), party(b));
        let caller = Phone { other_network: callee.network, ..caller };
        let callee = Phone { other_network: caller.network, ..callee };
        let call = rig.call(1, &caller, &callee);
        for n in 0..100 {
            rig.packet(a, call.for_a, &rtp(0xa, n)).expect("sent on");
            rig.packet(b, call.for_b, &rtp(0xb, n)).expect("sent on");
        }
        let (socket, from, to) = (rig.sockets[&call.for_a], address(a), address(b));
        let stranger = address(STRANGER);
        let (template, strange) = (rtp(0xa, 0), rtp(0x66, 0));
        let (mut buffer, mut sent) = ([0; 400], 0);
        let mut before = 0;
        for n in 0..PACKETS {
            if n == FIRST {
                (before, sent) = (asked(), 0);
            }
            rig.now += 20 * MS / 100;
            buffer[..template.len()].copy_from_slice(&template);
            buffer[2..4].copy_from_slice(&(100 + n).to_be_bytes());
            match rig.relay.forward(rig.now, socket, from, &mut buffer, template.len()) {
                Forward::Send { to: target, .. } => sent += u32::from(target == to),
                other => panic!("packet {n}: {other:?}"),
            }
            buffer[..template.len()].copy_from_slice(&strange);
            let turned_away = rig.relay.forward(rig.now, socket, stranger, &mut buffer, template.len());
            assert_eq!(turned_away, Forward::Drop(Why::Stranger));
        }
        assert_eq!((sent, asked() - before), (u32::from(PACKETS - FIRST), 0), "from {a} to {b}");
    }
}
