//! A reflector remembers no flow: a million of them, and the allocator has lent out nothing, not for a moment.
#![allow(clippy::disallowed_methods)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Instant, SystemTime};

use conformance::allocations::{Counting, asked};
use proto::node::{Birth, Lane};
use proto::peer::ticket::{Class, Keys, REFLECTED, TOKEN};
use reflector::{Config, Reflected, Reflector};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NOW: u32 = 1_767_225_600;
const FLOWS: u32 = 1_000_000;

#[test]
fn a_million_flows_take_no_memory_and_come_out_shorter() {
    let birth =
        Birth { now: Instant::now(), wall: SystemTime::UNIX_EPOCH, seed: [1; 32], lane: Lane::default() };
    let keys = Keys::from_secret([7; 32], NOW);
    let mut reflector = Reflector::new(Config { per_second: u32::MAX, ..Config::new(keys.clone()) }, birth);
    let mut packet = [b'x'; TOKEN + 400];
    let before = asked();
    let (mut passed, mut forged) = (0, 0);
    for flow in 0..FLOWS {
        let from = SocketAddr::from((Ipv4Addr::from(0xcb00_7100 + flow), 5060));
        let to = SocketAddr::from((Ipv4Addr::from(0xc633_6400 ^ flow), 5060));
        packet[..TOKEN].copy_from_slice(&keys.mint(from, to, Class::Message, NOW).unwrap());
        // Every tenth is a forgery: those take no memory either.
        packet[TOKEN - 1] ^= u8::from(flow % 10 == 0);
        match reflector.reflect(NOW, from, &mut packet) {
            Reflected::Send { start, .. } if packet.len() - start == REFLECTED + 400 => passed += 1,
            Reflected::Send { .. } => panic!("as long as it came"),
            Reflected::Drop(_) => forged += 1,
        }
    }
    let asked = asked() - before;
    assert_eq!((passed, forged, asked), (FLOWS / 10 * 9, FLOWS / 10, 0));
}
