//! The command's allocator: mimalloc, asked the short way.
//!
//! A call is some two hundred small allocations, most of them given back within the same round. The C library's allocator
//! serves threads other than the first from arenas that grow by a page and a system call at a time. Nothing that is ordinary
//! needs to say how it is to be aligned, and is had for half the instructions so.

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

#[expect(unsafe_code, reason = "an allocator gives out memory by address")]
// SAFETY: mimalloc keeps the contract of `GlobalAlloc`: blocks are of the size and alignment asked for (see [`is_ordinary`]), a
// failure is a null pointer, and every block is freed or moved by the allocator it came from, whichever way it was asked for.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        match is_ordinary(size, align) {
            // SAFETY: any size will do.
            true => unsafe { mi_malloc(size).cast() },
            // SAFETY: a layout's alignment is a power of two.
            false => unsafe { mi_malloc_aligned(size, align).cast() },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        match is_ordinary(size, align) {
            // SAFETY: any size will do.
            true => unsafe { mi_zalloc(size).cast() },
            // SAFETY: a layout's alignment is a power of two.
            false => unsafe { mi_zalloc_aligned(size, align).cast() },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller has the block from this allocator.
        unsafe { mi_free(block.cast::<c_void>()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        match is_ordinary(size, align) {
            // SAFETY: the caller has the block from this allocator.
            true => unsafe { mi_realloc(block.cast(), size).cast() },
            // SAFETY: the same, and a layout's alignment is a power of two.
            false => unsafe { mi_realloc_aligned(block.cast(), size, align).cast() },
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
                    Allocator.dealloc(larger, Layout::from_size_align(2 * size, align).unwrap());
                    let zeroed = Allocator.alloc_zeroed(layout);
                    assert_eq!(zeroed as usize % align, 0, "{size} bytes by {align}, zeroed");
                    assert!((0..size).all(|at| zeroed.add(at).read() == 0));
                    Allocator.dealloc(zeroed, layout);
                }
            }
        }
    }
}
