//! The command's allocator: mimalloc, asked the short way.
//!
//! A call is some two hundred small allocations, most of them given back within the same round. The C library's allocator
//! serves threads other than the first from arenas that grow by a page and a system call at a time. Nothing that is ordinary
//! needs to say how it is to be aligned, and is had for half the instructions so. A lane keeps the blocks it freed last at
//! hand ([`thread_cache`]).

pub mod thread_cache;

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Allocator;

/// Whether a block is aligned as wanted in any case: mimalloc aligns to 16 bytes what has as many, to 8 what has fewer.
fn is_ordinary(size: usize, align: usize) -> bool {
    align <= 8 || align <= 16 && size >= 16
}

/// Index and block size of the class a thread's cache has for this layout, if any.
#[inline]
fn cached(size: usize, align: usize) -> Option<(usize, usize)> {
    (size <= thread_cache::LARGEST && is_ordinary(size, align)).then(|| thread_cache::class_of(size))
}

#[expect(unsafe_code, reason = "an allocator gives out memory by address")]
// SAFETY: mimalloc keeps the contract of `GlobalAlloc`: blocks are of the size and alignment asked for (see [`is_ordinary`]), a
// failure is a null pointer, and every block is freed or moved by the allocator it came from, whichever way it was asked for.
// A layout that has a class is given a block of the class's size, from the cache or from mimalloc, so that one will do for
// the other.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        match cached(size, align) {
            // SAFETY: any size will do.
            Some((class, size)) => {
                thread_cache::take(class).unwrap_or_else(|| unsafe { mi_malloc(size).cast() })
            }
            // SAFETY: any size will do.
            None if is_ordinary(size, align) => unsafe { mi_malloc(size).cast() },
            // SAFETY: a layout's alignment is a power of two.
            None => unsafe { mi_malloc_aligned(size, align).cast() },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        match cached(size, align) {
            Some((class, of_class)) => match thread_cache::take(class) {
                // SAFETY: the block is `of_class` bytes large, which are no fewer than `size`.
                Some(block) => unsafe {
                    block.write_bytes(0, size);
                    block
                },
                // SAFETY: any size will do.
                None => unsafe { mi_zalloc(of_class).cast() },
            },
            // SAFETY: any size will do.
            None if is_ordinary(size, align) => unsafe { mi_zalloc(size).cast() },
            // SAFETY: a layout's alignment is a power of two.
            None => unsafe { mi_zalloc_aligned(size, align).cast() },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller has the block from this allocator by this layout, and so it is of the size of its class.
        let kept = cached(layout.size(), layout.align())
            .is_some_and(|(class, _)| unsafe { thread_cache::keep(class, block) });
        if !kept {
            // SAFETY: the caller has the block from this allocator.
            unsafe { mi_free(block.cast::<c_void>()) }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (before, align) = (layout.size(), layout.align());
        match (cached(before, align), cached(size, align)) {
            (Some(same), Some(wanted)) if same == wanted => block,
            (_, Some(_)) => {
                // SAFETY: the new layout is the caller's, and the old block is the caller's until it is freed.
                unsafe {
                    let larger = self.alloc(Layout::from_size_align_unchecked(size, align));
                    if !larger.is_null() {
                        larger.copy_from_nonoverlapping(block, before.min(size));
                        self.dealloc(block, layout);
                    }
                    larger
                }
            }
            // SAFETY: the caller has the block from this allocator.
            (_, None) if is_ordinary(size, align) => unsafe { mi_realloc(block.cast(), size).cast() },
            // SAFETY: the same, and a layout's alignment is a power of two.
            (_, None) => unsafe { mi_realloc_aligned(block.cast(), size, align).cast() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "an allocator gives out memory by address")]
    fn blocks_are_aligned_as_wanted_and_keep_what_is_in_them() {
        for align in [1, 2, 4, 8, 16, 32, 64, 4096] {
            for size in (1..200).chain([1000, 1024, 5000, 1 << 20]) {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the block is used within its size and given back once.
                unsafe {
                    let block = Allocator.alloc(layout);
                    assert_eq!(block as usize % align, 0, "{size} bytes by {align}");
                    block.write_bytes(7, size);
                    let larger = Allocator.realloc(block, layout, 2 * size);
                    assert_eq!(larger as usize % align, 0, "{size} bytes by {align}, grown");
                    assert!((0..size).all(|at| larger.add(at).read() == 7));
                    larger.write_bytes(9, 2 * size);
                    let double = Layout::from_size_align(2 * size, align).unwrap();
                    let same = Allocator.realloc(larger, double, size);
                    assert!((0..size).all(|at| same.add(at).read() == 9), "{size} bytes by {align}, shrunk");
                    Allocator.dealloc(same, layout);
                    let zeroed = Allocator.alloc_zeroed(layout);
                    assert_eq!(zeroed as usize % align, 0, "{size} bytes by {align}, zeroed");
                    assert!((0..size).all(|at| zeroed.add(at).read() == 0));
                    Allocator.dealloc(zeroed, layout);
                }
            }
        }
    }
    #[test]
    #[expect(unsafe_code, reason = "an allocator gives out memory by address")]
    fn a_lane_is_given_the_block_it_freed_last_while_its_cache_is_open() {
        let (asked, as_large) = ([100, 105].map(layout), layout(112));
        // SAFETY: blocks are given back once, by layouts of their class.
        let freed_last = || unsafe {
            let [first, second] = asked.map(|layout| Allocator.alloc(layout));
            Allocator.dealloc(first, asked[0]);
            Allocator.dealloc(second, asked[1]);
            let again = Allocator.alloc(as_large);
            Allocator.dealloc(again, as_large);
            again == second
        };
        let open = thread_cache::open();
        assert!(freed_last());
        drop(open);
        assert!(thread_cache::take(thread_cache::class_of(100).0).is_none(), "all was given back");
    }

    #[test]
    #[expect(unsafe_code, reason = "an allocator gives out memory by address")]
    fn what_one_lane_freed_too_much_of_goes_back_and_another_may_free_it() {
        let _open = thread_cache::open();
        let size = layout(64);
        // SAFETY: blocks are given back once, by the layout they were asked for with.
        let blocks: Vec<usize> = (0..100).map(|_| unsafe { Allocator.alloc(size) } as usize).collect();
        let other = std::thread::spawn(move || {
            let _open = thread_cache::open();
            blocks.iter().for_each(|block| unsafe { Allocator.dealloc(*block as *mut u8, size) });
            let class = thread_cache::class_of(64).0;
            std::iter::from_fn(|| thread_cache::take(class)).count()
        });
        assert_eq!(other.join().unwrap(), 16);
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }
}
