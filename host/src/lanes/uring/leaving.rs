//! What leaves in a turn, from the buffers it came in.
//!
//! Datagrams of one port to one place that have the same size leave as a train: one message, which the kernel cuts into
//! datagrams again after all it does once a message (UDP_SEGMENT of udp(7), Linux 4.18). Video comes in bursts that make
//! trains; audio hardly ever does.

use std::net::SocketAddr;
use std::os::fd::RawFd;

use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use libc::{c_void, cmsghdr, iovec, msghdr, sockaddr_storage};
use proto::node::SocketId;

use super::buffers::BUFFERS;
use crate::net::batch::{to_storage, zeroed};

/// Datagrams in a train at most (`UDP_MAX_SEGMENTS` of older kernels).
const LONGEST: u16 = 64;
/// The largest datagram that may be part of one: it passes every IPv6 link whole, with its headers.
const LARGEST: usize = 1_232;
/// No buffer.
const NONE: u16 = u16::MAX;

/// What the kernel can do here beyond what every one with these rings can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// Sending to an address without a message header (Linux 6.2).
    pub(super) addressed: bool,
    /// Trains.
    pub(super) trains: bool,
}

impl Means {
    /// All of it.
    pub const ALL: Means = Means { addressed: true, trains: true };
    /// None of it.
    pub const FEWEST: Means = Means { addressed: false, trains: false };
}

/// One datagram, by its buffer.
struct Car {
    at: *mut u8,
    len: usize,
    /// The next one of its train.
    next: u16,
}

/// A message: one datagram or several.
struct Train {
    fd: RawFd,
    socket: SocketId,
    to: SocketAddr,
    first: u16,
    last: u16,
    count: u16,
    size: usize,
    /// More of it may come.
    open: bool,
}

/// Memory of a message while the kernel takes it.
struct Message {
    name: sockaddr_storage,
    header: msghdr,
    segment: Segment,
}

/// A control message with the size of a train's datagrams.
#[repr(C)]
struct Segment {
    head: cmsghdr,
    size: u16,
}

/// See the module.
pub(super) struct Leaving {
    cars: Box<[Car]>,
    trains: Vec<Train>,
    messages: Box<[Message]>,
    vectors: Box<[iovec]>,
    /// Vectors that trains of this turn have taken.
    taken: usize,
}

impl Leaving {
    pub(super) fn new() -> Leaving {
        let message = || Message {
            name: zeroed(),
            // SAFETY: plain numbers and null pointers.
            header: unsafe { std::mem::zeroed() },
            segment: Segment { head: segment_head(), size: 0 },
        };
        let car = || Car { at: std::ptr::null_mut(), len: 0, next: NONE };
        let vector = || iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Leaving {
            cars: (0..BUFFERS).map(|_| car()).collect(),
            trains: Vec::with_capacity(usize::from(BUFFERS)),
            messages: (0..BUFFERS).map(|_| message()).collect(),
            vectors: (0..BUFFERS).map(|_| vector()).collect(),
            taken: 0,
        }
    }

    /// How many messages wait to be pushed.
    pub(super) fn len(&self) -> usize {
        self.trains.len()
    }

    /// All messages have been pushed.
    pub(super) fn clear(&mut self) {
        self.trains.clear();
        self.taken = 0;
    }

    /// A datagram leaves from its buffer by this socket; `coupled`: the message this turn that left by it last. Gives the
    /// number of the message it is in.
    pub(super) fn add(
        &mut self,
        buffer: u16,
        fd: RawFd,
        (socket, to): (SocketId, SocketAddr),
        (at, len): (*mut u8, usize),
        coupled: Option<usize>,
    ) -> usize {
        self.cars[usize::from(buffer)] = Car { at, len, next: NONE };
        let trains = self.trains.len();
        let train = coupled.and_then(|number| Some((number, self.trains.get_mut(number)?)));
        if let Some((number, train)) = train.filter(|(_, train)| train.takes(socket, to, len)) {
            self.cars[usize::from(train.last)].next = buffer;
            (train.last, train.count) = (buffer, train.count + 1);
            // Only the last may be shorter.
            train.open = len == train.size && train.count < LONGEST;
            return number;
        }
        let open = (1..=LARGEST).contains(&len);
        self.trains.push(Train { fd, socket, to, first: buffer, last: buffer, count: 1, size: len, open });
        trains
    }

    /// The submission of a message. What it points to stays as it is until [`Leaving::clear`].
    pub(super) fn entry(&mut self, number: usize, addressed: bool, tag: u64) -> squeue::Entry {
        let (train, message) = (&self.trains[number], &mut self.messages[number]);
        let length = to_storage(train.to, &mut message.name);
        let (fd, flags) = (Fd(train.fd), libc::MSG_DONTWAIT);
        if addressed && train.count == 1 {
            let Car { at, len, .. } = self.cars[usize::from(train.first)];
            let send = opcode::Send::new(fd, at, len as u32).flags(flags);
            let send = send.dest_addr((&raw const message.name).cast()).dest_addr_len(length);
            return send.build().flags(squeue::Flags::SKIP_SUCCESS).user_data(tag);
        }
        let vectors = &mut self.vectors[self.taken..self.taken + usize::from(train.count)];
        self.taken += vectors.len();
        let mut buffer = train.first;
        for vector in &mut *vectors {
            let car = &self.cars[usize::from(buffer)];
            *vector = iovec { iov_base: car.at.cast::<c_void>(), iov_len: car.len };
            buffer = car.next;
        }
        message.header.msg_name = (&raw mut message.name).cast();
        message.header.msg_namelen = length;
        message.header.msg_iov = vectors.as_mut_ptr();
        message.header.msg_iovlen = vectors.len() as _;
        message.segment.size = train.size as u16;
        let (control, length) = match train.count {
            1 => (std::ptr::null_mut(), 0),
            _ => ((&raw mut message.segment).cast::<c_void>(), size_of::<Segment>()),
        };
        (message.header.msg_control, message.header.msg_controllen) = (control, length as _);
        let send = opcode::SendMsg::new(fd, &raw const message.header).flags(flags as u32);
        send.build().flags(squeue::Flags::SKIP_SUCCESS).user_data(tag)
    }

    /// How many datagrams a message has.
    pub(super) fn count(&self, number: usize) -> u16 {
        self.trains[number].count
    }

    /// The buffers of a message.
    pub(super) fn buffers(&self, number: usize) -> impl Iterator<Item = u16> + '_ {
        let train = &self.trains[number];
        let next = |buffer: &u16| Some(self.cars[usize::from(*buffer)].next);
        std::iter::successors(Some(train.first), next).take(usize::from(train.count))
    }
}

impl Train {
    fn takes(&self, socket: SocketId, to: SocketAddr, len: usize) -> bool {
        self.open && self.socket == socket && self.to == to && (1..=self.size).contains(&len)
    }
}

fn segment_head() -> cmsghdr {
    // SAFETY: plain numbers; some C libraries have padding among them.
    let mut head: cmsghdr = unsafe { std::mem::zeroed() };
    (head.cmsg_level, head.cmsg_type) = (libc::SOL_UDP, libc::UDP_SEGMENT);
    head.cmsg_len = (size_of::<cmsghdr>() + size_of::<u16>()) as _;
    head
}
