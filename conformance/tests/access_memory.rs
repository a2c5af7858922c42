//! What an endpoint that is online costs its access server in memory: counted in bytes the allocator has lent out, which no
//! other load on the machine changes. Its permissions, its session, its lease, and what its login leaves behind.
#![allow(unsafe_code, clippy::disallowed_methods)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::{Duration, Instant};

use conformance::crowd::{Crowd, name, password};
use conformance::world::WorldTables;
use proto::tables::{Secret, User};

/// The system's allocator, and how much it has lent out.
struct Counting;

static LENT: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call is handed to the system's allocator as it came; only numbers are kept.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LENT.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LENT.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: `at` came from `alloc` above with the same layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn lent() -> isize {
    LENT.load(Ordering::Relaxed)
}

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
