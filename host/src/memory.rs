//! Memory that was needed for a short while goes back to the system.
//!
//! A file of a hundred thousand accounts takes some thirty megabytes to read and six to keep. The allocator gives back what was
//! freed when it is asked for more, a second later; a process that waits for phones never asks.

/// After something large is done.
#[expect(
    unsafe_code,
    reason = "the allocator is a C library; this takes no pointers and may be called at any time"
)]
pub(crate) fn give_back() {
    // SAFETY: no arguments but a flag, and no state of ours.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
