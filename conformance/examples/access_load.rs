//! What logging in costs an access server: the machine alone, on one core, with a crowd before it.
//!
//! ```text
//! access_load [ENDPOINTS]       20,000 when nothing is said; prints one JSON line
//! ```
//!
//! Everybody logs in once, then everybody once more (a restart: the server knows nobody). A login is a REGISTER with digest
//! SHA-256 and a device signature, the profile of 20 buddies, and up to 5 who are told to punch and answer. A message of
//! theirs comes every 100 µs, and 100 logins are under way at a time. What the crowd does, signing above all, is not counted.
#![allow(clippy::disallowed_methods)]

use std::time::Instant;

use conformance::crowd::{Crowd, user};
use conformance::world::WorldTables;

/// The command's own.
#[global_allocator]
static ALLOCATOR: host::allocator::Allocator = host::allocator::Allocator;

const UNDER_WAY: usize = 100;

fn main() {
    // As a lane has it.
    let _at_hand = host::allocator::thread_cache::open();
    let count = std::env::args().nth(1).map_or(20_000, |text| text.parse().expect("access_load [ENDPOINTS]"));
    let mut tables = WorldTables::default();
    for number in 0..count {
        tables.add_user(user(number));
    }
    let mut crowd = Crowd::new(count, Instant::now(), Instant::now);
    let mut round = |crowd: &mut Crowd| {
        let (spent, told) = (crowd.spent, crowd.told);
        for first in (0..count).step_by(UNDER_WAY) {
            crowd.log_in_together(first..count.min(first + UNDER_WAY), &mut tables);
        }
        let (spent, told) = (crowd.spent - spent, crowd.told - told);
        (count as f64 / spent.as_secs_f64(), told as f64 / count as f64)
    };
    let (first, told) = round(&mut crowd);
    crowd.restart();
    let (again, _) = round(&mut crowd);
    println!(
        "{{\"endpoints\":{count},\"logins_per_second\":{first:.0},\"after_a_restart\":{again:.0},\"told_to_punch_each\":{told:.2},\"online\":{},\"resident_mb\":{}}}",
        crowd.access.status().online,
        resident_mb()
    );
}

/// Of this process: the server with everybody online, and their accounts.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has memory");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number");
    kib * 1024 / 1_000_000
}
