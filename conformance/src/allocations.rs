//! The system's allocator, and what it was asked for: a test that makes [`Counting`] its `#[global_allocator]` states memory in
//! bytes, which no other load on the machine changes.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

/// Hands everything to the system's allocator, and counts.
#[derive(Debug)]
pub struct Counting;

static LENT: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// Bytes that are lent out, to all threads.
pub fn lent() -> isize {
    LENT.load(Ordering::Relaxed)
}

/// How often this thread has asked for memory: the one that runs the tests asks, too.
pub fn asked() -> u64 {
    ASKED.get()
}

// SAFETY: every call is handed to the system's allocator as it came; only numbers are kept.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LENT.fetch_add(layout.size() as isize, Ordering::Relaxed);
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LENT.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: `at` came from `alloc` above with the same layout.
        unsafe { System.dealloc(at, layout) }
    }
}
