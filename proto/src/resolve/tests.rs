//! Bounds and chance; what RFC 3263 and RFC 2782 ask for is in `conformance/tests/rfcs/rfc3263`.

use super::*;
use crate::node::{Birth, Lane};
use Transport::*;

#[allow(clippy::disallowed_methods)]
fn seeded(seed: u8) -> Dice {
    let (now, wall) = (std::time::Instant::now(), std::time::SystemTime::UNIX_EPOCH);
    Birth { now, wall, seed: [seed; 32], lane: Lane::default() }.dice(0)
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
    Srv { priority, weight, port, target: target.into() }
}

#[test]
fn a_thousand_records_make_a_bounded_list() {
    let many: Vec<_> = (0..1000).map(|n| srv(n, 0, 5060, &format!("192.0.2.{}", n % 250))).collect();
    let mut resolution = Resolution::new("example.com", None, Some(Udp), false, &[Udp]);
    let mut dice = seeded(7);
    let Step::Ask(lookups) = resolution.step(&mut dice) else { panic!("a name is asked for") };
    lookups.into_iter().for_each(|lookup| resolution.answer(lookup, Found::Srv(many.clone())));
    let Step::Done(targets) = resolution.step(&mut dice) else { panic!("addresses are no question") };
    assert_eq!(targets.len(), MAX_TARGETS);
    assert_eq!(targets[0], (Udp, "192.0.2.0:5060".parse().unwrap()));
}

#[test]
fn the_same_seed_gives_the_same_order() {
    let records: Vec<_> = (1..20).map(|n| srv(0, n, n, "h")).collect();
    assert_eq!(by_weight(&records, &mut seeded(1)), by_weight(&records, &mut seeded(1)));
    assert_ne!(by_weight(&records, &mut seeded(1)), by_weight(&records, &mut seeded(2)));
}
