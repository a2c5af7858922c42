//! What an endpoint that is online costs its access server in memory: counted in bytes the allocator has lent out, which no
//! other load on the machine changes. Its permissions, its session, its lease, and what its login leaves behind.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use conformance::allocations::{Counting, lent};
use conformance::crowd::{Crowd, name, password};
use conformance::world::WorldTables;
use proto::tables::{Secret, User};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PEERS: usize = 4_000;
/// 100,000 are to take less than 200 MB, accounts and the process itself included.
const MOST: isize = 1_400;

#[test]
fn an_endpoint_with_20_buddies_takes_less_than_1400_bytes_online() {
    let now = Instant::now();
    let mut tables = WorldTables::default();
    for number in 0..PEERS {
        tables.add_user(User {
            name: name(number),
            secret: Secret::Password(password(number)),
            aors: vec![format!("{}@example.com", name(number))],
            anchor: None,
            srtp: None,
            latch: None,
            algorithms: Vec::new(),
        });
    }
    let before = lent();
    let mut crowd = Crowd::new(PEERS, now, stopped_clock);
    let accounts = (lent() - before) / PEERS as isize;
    for number in 0..PEERS {
        crowd.log_in(number, &mut tables);
        // A hundred a second: what a login leaves behind for repetitions is a small part of it.
        crowd.wait(Duration::from_millis(10), &mut tables);
    }
    let each = (lent() - before) / PEERS as isize;
    println!("{each} bytes, {accounts} of them while it is offline");
    assert_eq!(crowd.access.status().online, PEERS);
    assert!((crowd.told as f64 / PEERS as f64) < 5.0, "{} were told", crowd.told);
    assert!(each < MOST, "{each} bytes");
}

/// Nobody looks at how long it takes.
fn stopped_clock() -> Instant {
    use std::sync::OnceLock;
    static ONCE: OnceLock<Instant> = OnceLock::new();
    *ONCE.get_or_init(Instant::now)
}
