//! A lane's latest freed blocks, by size class, newest first.
//!
//! mimalloc hands out every block of a page before it takes one twice, so that what a lane allocates for a message is memory
//! it has not touched for thousands of messages: each block is a miss of the second-level cache, and costs as much as the
//! parsing of a header. The newest block is still in the first.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;

use libmimalloc_sys::mi_free;

/// Size classes up to this one have a place here.
pub const LARGEST: usize = 2048;
/// Classes: 16 to 128 by 16, then four to each doubling, as mimalloc's own.
const CLASSES: usize = 8 + 4 * 4;
/// Blocks of a class that an open cache keeps.
const KEPT: u32 = 16;

/// The blocks of one class: a stack, linked through their first words.
#[derive(Debug)]
struct Shelf {
    newest: Cell<*mut Block>,
    /// How many more it takes; none while the cache is closed.
    room: Cell<u32>,
}

struct Block {
    older: *mut Block,
}

thread_local! {
    static SHELVES: [Shelf; CLASSES] =
        const { [const { Shelf { newest: Cell::new(null_mut()), room: Cell::new(0) } }; CLASSES] };
}

/// Index and block size of the class that `size` (1 to [`LARGEST`]) falls into.
#[inline]
pub fn class_of(size: usize) -> (usize, usize) {
    if size <= 128 {
        let class = size.saturating_sub(1) / 16;
        return (class, (class + 1) * 16);
    }
    // In 2^k < size <= 2^(k+1) there are four steps of 2^(k-2).
    let doubling = (size - 1).ilog2();
    let step = 1 << (doubling - 2);
    let steps = (size - 1 - (1 << doubling)) / step;
    (8 + 4 * (doubling as usize - 7) + steps, (1 << doubling) + (steps + 1) * step)
}

/// The newest block of this class, if there is one.
#[inline]
pub fn take(class: usize) -> Option<*mut u8> {
    SHELVES.with(|shelves| shelves[class].pop())
}

/// Keeps a block of this class; `false`: there is no room for it.
///
/// # Safety
///
/// The block is mimalloc's, of the size of its class at least, aligned to 16, and nobody uses it any more.
#[inline]
#[expect(unsafe_code, reason = "an allocator is handed memory by address")]
pub unsafe fn keep(class: usize, block: *mut u8) -> bool {
    // SAFETY: as the caller says.
    SHELVES.with(|shelves| unsafe { shelves[class].push(block.cast()) })
}

impl Shelf {
    #[inline]
    #[expect(unsafe_code, reason = "an allocator's free blocks are linked through themselves")]
    fn pop(&self) -> Option<*mut u8> {
        let newest = self.newest.get();
        if newest.is_null() {
            return None;
        }
        // SAFETY: what is on the shelf was linked by `push`, and belongs to nobody else.
        self.newest.set(unsafe { (*newest).older });
        self.room.set(self.room.get() + 1);
        Some(newest.cast())
    }

    /// # Safety
    ///
    /// As for [`keep`].
    #[inline]
    #[expect(unsafe_code, reason = "an allocator's free blocks are linked through themselves")]
    unsafe fn push(&self, block: *mut Block) -> bool {
        let room = self.room.get();
        if room == 0 {
            return false;
        }
        // SAFETY: the block is free, aligned, and has room for a pointer.
        unsafe { (*block).older = self.newest.get() };
        self.newest.set(block);
        self.room.set(room - 1);
        true
    }
}

/// A thread's cache while it is open. Dropping it closes the cache: its blocks are given back.
#[derive(Debug)]
pub struct Open(());

/// Opens this thread's cache.
pub fn open() -> Open {
    SHELVES.with(|shelves| shelves.iter().for_each(|shelf| shelf.room.set(KEPT)));
    Open(())
}

impl Drop for Open {
    #[expect(unsafe_code, reason = "an allocator's free blocks go back where they came from")]
    fn drop(&mut self) {
        SHELVES.with(|shelves| {
            for shelf in shelves {
                while let Some(block) = shelf.pop() {
                    // SAFETY: every block here is mimalloc's, and free.
                    unsafe { mi_free(block.cast::<c_void>()) }
                }
                shelf.room.set(0);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_its_sizes_and_wastes_a_quarter_at_most() {
        let mut last = (0, 0);
        for size in 1..=LARGEST {
            let (class, block) = class_of(size);
            assert!(block >= size && (block - size < 16 || 4 * (block - size) <= size), "{size}: {block}");
            assert!(
                (class, block) == last || class == last.0 + 1 || size == 1,
                "{size}: {class} after {last:?}"
            );
            assert!(class < CLASSES && block % 16 == 0, "{size}: {class}");
            last = (class, block);
        }
        assert_eq!(last, (CLASSES - 1, LARGEST));
        assert_eq!(class_of(0).1, 16);
    }
}
