//! The buffers all receives share, and what the kernel writes into them.

use std::alloc::{Layout, handle_alloc_error};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, RecvMsgOut};
use libc::msghdr;

/// Buffers for all ports together; a power of two.
pub(super) const BUFFERS: u16 = 1024;
/// The largest datagram taken, and what the kernel writes before it: a header, and where it came from.
const DATAGRAM: usize = 9_216;
pub(super) const NAME: usize = 28;
const HEAD: usize = 16 + NAME;
const SLOT: usize = (HEAD + DATAGRAM).next_multiple_of(64);
/// Bytes of the buffers, and of the ring they are handed to the kernel by.
const BYTES: usize = BUFFERS as usize * SLOT;
const RING: usize = BUFFERS as usize * size_of::<BufRingEntry>();

/// The buffers all receives share, and the ring they are handed to the kernel by.
pub(super) struct Buffers {
    ring: NonNull<BufRingEntry>,
    bytes: NonNull<u8>,
    tail: u16,
    /// They stay when this goes: the kernel may still write to them.
    pub(super) leak: bool,
}

impl Buffers {
    pub(super) fn new() -> Buffers {
        let (ring, bytes) = (map(RING).cast(), map(BYTES));
        let mut buffers = Buffers { ring, bytes, tail: 0, leak: false };
        (0..BUFFERS).for_each(|buffer| buffers.give_back(buffer));
        buffers
    }

    pub(super) fn ring_address(&self) -> u64 {
        self.ring.as_ptr() as u64
    }

    fn slot(&self, buffer: u16) -> *mut u8 {
        // SAFETY: buffer numbers come from this struct or back from the kernel, and are taken below `BUFFERS`.
        unsafe { self.bytes.as_ptr().add(usize::from(buffer % BUFFERS) * SLOT) }
    }

    /// Hands a buffer to the kernel.
    pub(super) fn give_back(&mut self, buffer: u16) {
        // SAFETY: the index is masked to the ring's length; the kernel reads an entry only once the tail has passed it,
        // which the release store below makes known. The tail lies in the first entry's reserved field, which
        // `set_addr`, `set_len` and `set_bid` do not touch.
        unsafe {
            let entry = &mut *self.ring.as_ptr().add(usize::from(self.tail & (BUFFERS - 1)));
            entry.set_addr(self.slot(buffer) as u64);
            entry.set_len(SLOT as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.ring.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    /// What a receive wrote into a buffer: where from, the datagram with the room behind it, and its length; `None` when
    /// it was cut off.
    pub(super) fn datagram(
        &mut self,
        buffer: u16,
        len: usize,
        template: &msghdr,
    ) -> Option<(SocketAddr, &mut [u8], usize)> {
        // SAFETY: the kernel has handed this buffer back and written `len` bytes of it, the rest were zero or written
        // before; nobody else has it until it is given back, which needs `&mut self`.
        let slot = unsafe { std::slice::from_raw_parts_mut(self.slot(buffer), SLOT) };
        let out = RecvMsgOut::parse(slot.get(..len)?, template).ok()?;
        let (from, cut) = (source(out.name_data())?, out.is_payload_truncated());
        let len = out.payload_data().len();
        (!cut).then(|| slot.get_mut(HEAD..)).flatten().map(|room| (from, room, len))
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if !self.leak {
            // SAFETY: mapped with these lengths, and nothing uses them any more (see `UringPath::drop`).
            unsafe {
                libc::munmap(self.ring.as_ptr().cast(), RING);
                libc::munmap(self.bytes.as_ptr().cast(), BYTES);
            }
        }
    }
}

/// Memory of zeros. Not the allocator's: a page costs nothing until a packet lies in it.
fn map(length: usize) -> NonNull<u8> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, at no particular address, of no file.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0) };
    let at = NonNull::new(at.cast()).filter(|_| at != libc::MAP_FAILED);
    at.unwrap_or_else(|| handle_alloc_error(Layout::array::<u8>(length).unwrap_or(Layout::new::<u8>())))
}

/// A socket address as the kernel writes it.
fn source(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(name.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(name.get(2..4)?.try_into().ok()?);
    let ip = match i32::from(family) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(name.get(4..8)?).ok()?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(name.get(8..24)?).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}
