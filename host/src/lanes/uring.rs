//! Media by io_uring: every port has one receive that never ends and takes its buffers from a ring shared by all, so
//! that a turn is one system call to wait and one to send, however many ports were ready.
//!
//! Packets leave from the buffer they came in: a send is a `sendmsg` that does not wait, which the kernel carries out
//! while it takes the submission, so the buffer is free when [`IoUring::submit`] returns. Batches fill by waiting for
//! [`BATCH`] packets or half a millisecond, whichever is first ([`MIN_WAIT`]; kernels before 6.12 wake for each packet).
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use libc::{c_void, iovec, msghdr, sockaddr_storage};
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use proto::node::SocketId;
use relay::Forward;

use super::media::{Decide, MediaPath, Turn};
use crate::net::batch::{to_storage, zeroed};
use crate::net::udp;

/// Packets a turn waits for …
const BATCH: usize = 64;
/// … unless this passes first.
const MIN_WAIT: Duration = Duration::from_micros(500);
/// How long a packet may take to come back when the path is tried out.
const TRIAL: Duration = Duration::from_millis(200);
/// Buffers for all ports together; a power of two.
const BUFFERS: u16 = 1024;
/// The largest datagram taken, and what the kernel writes before it: a header, and where it came from.
const DATAGRAM: usize = 9_216;
const NAME: usize = 28;
const HEAD: usize = 16 + NAME;
const SLOT: usize = (HEAD + DATAGRAM).next_multiple_of(64);
/// Submissions at a time.
const ENTRIES: u32 = 1024;
const GROUP: u16 = 0;

/// What a completion belongs to: kind, generation and number of the port.
const RECEIVE: u64 = 1 << 62;
const SEND: u64 = 2 << 62;
const CONTROL: u64 = 3 << 62;

#[derive(Debug)]
struct Port {
    socket: UdpSocket,
    /// Tells its completions from those of an earlier port of the same number.
    tag: u64,
    /// Its receive is under way: what comes is in the ring, not in the socket.
    armed: bool,
}

/// See the module.
pub struct UringPath {
    // The ring goes first, the memory it points to afterwards (and see `Drop`).
    ring: IoUring,
    buffers: Buffers,
    template: Box<msghdr>,
    sends: Box<[Outbound]>,
    /// Buffers whose packets wait to be submitted.
    leaving: Vec<u16>,
    control: OwnedFd,
    control_armed: bool,
    started: bool,
    /// Whether the kernel can wait for a batch.
    fills: bool,
    ports: Vec<Option<Port>>,
    free: Vec<u32>,
    /// Ports without a receive under way.
    unarmed: Vec<u32>,
    born: u64,
    backlog: VecDeque<(u64, i32, u32)>,
}

/// A message on its way out, by the buffer it leaves from.
struct Outbound {
    name: sockaddr_storage,
    vector: iovec,
    header: msghdr,
}

// SAFETY: the raw pointers inside lead into memory owned by the same struct, which moves between threads as a whole
// and is used by one at a time.
unsafe impl Send for UringPath {}

impl std::fmt::Debug for UringPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UringPath({} ports)", self.ports.len() - self.free.len())
    }
}

impl UringPath {
    /// No ports yet. An error: this kernel, or its administrator, doesn't let us.
    pub fn new(control: &Epoll) -> io::Result<UringPath> {
        let ring = IoUring::builder()
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(4 * ENTRIES)
            .build(ENTRIES)?;
        let buffers = Buffers::new();
        // SAFETY: the ring of buffers lives in `buffers`, which outlives the io_uring (see `Drop`).
        unsafe { ring.submitter().register_buf_ring_with_flags(buffers.ring_address(), BUFFERS, GROUP, 0)? };
        // SAFETY: plain numbers and null pointers.
        let mut template: Box<msghdr> = Box::new(unsafe { std::mem::zeroed() });
        template.msg_namelen = NAME as u32;
        let blank = || Outbound {
            name: zeroed(),
            vector: iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
            // SAFETY: as above.
            header: unsafe { std::mem::zeroed() },
        };
        Ok(UringPath {
            ring,
            buffers,
            template,
            sends: (0..BUFFERS).map(|_| blank()).collect(),
            leaving: Vec::with_capacity(usize::from(BUFFERS)),
            control: control.0.try_clone()?,
            control_armed: false,
            started: false,
            fills: true,
            ports: Vec::new(),
            free: Vec::new(),
            unarmed: Vec::new(),
            born: 0,
            backlog: VecDeque::with_capacity(4 * ENTRIES as usize),
        })
    }

    /// Sends one packet round, to see whether everything this path is made of works here.
    pub fn try_out() -> io::Result<()> {
        let control = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut path = UringPath::new(&control)?;
        let (socket, local) = path.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        path.send(socket, local, b"knock");
        let mut heard = false;
        let until = Instant::now() + TRIAL;
        while !heard && Instant::now() < until {
            path.turn(Some(TRIAL), &mut |_, _, from, slot, len| {
                heard |= from == local && slot[..len] == *b"knock";
                Forward::Drop(relay::Why::Idle)
            })?;
        }
        heard.then_some(()).ok_or(io::Error::other("a packet sent to itself did not come back"))
    }

    /// Belongs to the thread that calls this first: the lane's.
    fn start(&mut self) -> io::Result<()> {
        if !self.started {
            self.ring.submitter().register_enable_rings()?;
            self.started = true;
        }
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: every entry's file descriptor is open, and its pointers lead into memory of this struct that does not
        // move: the template (boxed), the outbound messages (boxed) and the buffers.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.submit()?;
        }
        Ok(())
    }

    /// Submits what was pushed; sends are done with their buffers then.
    fn submit(&mut self) -> io::Result<()> {
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => self.reap(),
                Err(error) => return Err(error),
            }
        }
        for buffer in self.leaving.drain(..) {
            self.buffers.give_back(buffer);
        }
        Ok(())
    }

    fn arm(&mut self) -> io::Result<()> {
        while let Some(number) = self.unarmed.pop() {
            let Some(port) = self.ports.get_mut(number as usize).and_then(Option::as_mut) else { continue };
            port.armed = true;
            let receive =
                opcode::RecvMsgMulti::new(Fd(port.socket.as_raw_fd()), &raw const *self.template, GROUP);
            let receive = receive.build().user_data(port.tag);
            self.push(&receive)?;
        }
        if !self.control_armed {
            let poll = opcode::PollAdd::new(Fd(self.control.as_raw_fd()), libc::POLLIN as u32);
            self.push(&poll.build().user_data(CONTROL))?;
            self.control_armed = true;
        }
        Ok(())
    }

    /// Waits for a batch, at most this long.
    fn wait(&mut self, wait: Option<Duration>) -> io::Result<()> {
        if wait.is_some_and(|wait| wait.is_zero()) || !self.backlog.is_empty() {
            self.submit()?;
            self.ring.submit()?;
            return Ok(());
        }
        let limit = wait.unwrap_or(Duration::from_secs(60));
        let limit = Timespec::new().sec(limit.as_secs()).nsec(limit.subsec_nanos());
        let args = SubmitArgs::new().timespec(&limit);
        let waited = match self.fills {
            true => self
                .ring
                .submitter()
                .submit_with_args(BATCH, &args.min_wait_usec(MIN_WAIT.as_micros() as u32)),
            false => self.ring.submitter().submit_with_args(1, &args),
        };
        match waited {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => {
                Ok(())
            }
            Err(error) if self.fills && error.raw_os_error() == Some(libc::EINVAL) => {
                self.fills = false;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn reap(&mut self) {
        let entries = self.ring.completion();
        self.backlog.extend(entries.map(|entry| (entry.user_data(), entry.result(), entry.flags())));
    }

    /// A datagram, or the end of a port's receive.
    fn received(
        &mut self,
        now: Instant,
        completion: (u64, i32, u32),
        decide: &mut Decide<'_>,
        turn: &mut Turn,
    ) {
        let (tag, result, flags) = completion;
        let number = tag as u32;
        let port =
            self.ports.get_mut(number as usize).and_then(Option::as_mut).filter(|port| port.tag == tag);
        let current = port.is_some();
        if let Some(port) = port.filter(|_| !cqueue::more(flags)) {
            port.armed = false;
            self.unarmed.push(number);
        }
        let Some(buffer) = cqueue::buffer_select(flags) else { return };
        let mut onward = None;
        if current && result > 0 {
            turn.received += 1;
            match self.buffers.datagram(buffer, result as usize, &self.template) {
                Some((from, slot, len)) => {
                    let decided = decide(now, SocketId(number), from, slot, len);
                    if let Forward::Send { socket, to, len } = decided {
                        onward = Some((socket, to, slot.as_mut_ptr(), len.min(slot.len())));
                    }
                }
                None => turn.dropped += 1,
            }
        }
        let left =
            onward.is_some_and(|(socket, to, at, len)| self.send_from(buffer, socket, to, at, len).is_ok());
        match left {
            true => turn.sent += 1,
            false => self.buffers.give_back(buffer),
        }
    }

    /// Queues a datagram to leave from the buffer it came in.
    fn send_from(
        &mut self,
        buffer: u16,
        by: SocketId,
        to: SocketAddr,
        at: *mut u8,
        len: usize,
    ) -> io::Result<()> {
        let port = self.ports.get(by.0 as usize).and_then(Option::as_ref).ok_or(io::ErrorKind::NotFound)?;
        let fd = Fd(port.socket.as_raw_fd());
        let outbound = &mut self.sends[usize::from(buffer)];
        outbound.vector = iovec { iov_base: at.cast::<c_void>(), iov_len: len };
        outbound.header.msg_namelen = to_storage(to, &mut outbound.name);
        outbound.header.msg_name = (&raw mut outbound.name).cast::<c_void>();
        outbound.header.msg_iov = &raw mut outbound.vector;
        outbound.header.msg_iovlen = 1;
        let send = opcode::SendMsg::new(fd, &raw const outbound.header).flags(libc::MSG_DONTWAIT as u32);
        let send = send.build().flags(squeue::Flags::SKIP_SUCCESS).user_data(SEND);
        self.push(&send)?;
        self.leaving.push(buffer);
        Ok(())
    }
}

impl MediaPath for UringPath {
    fn name(&self) -> &'static str {
        if self.fills { "io_uring" } else { "io_uring, waking per packet" }
    }

    /// Its receive is armed with the next turn's, in one submission: what comes before waits in the socket.
    fn bind(&mut self, local: SocketAddr) -> io::Result<(SocketId, SocketAddr)> {
        self.start()?;
        let (socket, local) = udp::media(local)?;
        let number = self.free.pop().unwrap_or(self.ports.len() as u32);
        self.born = (self.born + 1) & 0x3fff_ffff;
        let tag = RECEIVE | self.born << 32 | u64::from(number);
        let port = Some(Port { socket, tag, armed: false });
        match self.ports.get_mut(number as usize) {
            Some(place) => *place = port,
            None => self.ports.push(port),
        }
        self.unarmed.push(number);
        Ok((SocketId(number), local))
    }

    fn release(&mut self, socket: SocketId) {
        let Some(port) = self.ports.get_mut(socket.0 as usize).and_then(Option::take) else { return };
        self.free.push(socket.0);
        let cancel =
            opcode::AsyncCancel::new(port.tag).build().flags(squeue::Flags::SKIP_SUCCESS).user_data(SEND);
        // The receive holds the socket open until it has ended, which the second submission sees to.
        let _ = self.push(&cancel).and_then(|()| self.submit()).and_then(|()| self.ring.submit());
        self.reap();
    }

    /// Most ports have nothing: the kernel says in shared memory whether it has anything for us, and a system call is
    /// made only then, or when the port's receive is not under way.
    fn empty(&mut self, socket: SocketId) {
        let Some(port) = self.ports.get(socket.0 as usize).and_then(Option::as_ref) else { return };
        let tag = port.tag;
        if !port.armed {
            while port.socket.recv_from(&mut [0]).is_ok() {}
        }
        if !self.ring.submission().is_empty() || self.ring.submission().taskrun() {
            let _ = self.submit();
            let _ = self.ring.submit();
        }
        self.reap();
        for completion in &mut self.backlog {
            if completion.0 == tag
                && completion.1 > 0
                && let Some(buffer) = cqueue::buffer_select(completion.2)
            {
                self.buffers.give_back(buffer);
                // Without its buffer it only says whether the receive goes on.
                *completion = (tag, 0, completion.2 & 0xffff & !1);
            }
        }
    }

    fn send(&mut self, socket: SocketId, to: SocketAddr, bytes: &[u8]) {
        if let Some(port) = self.ports.get(socket.0 as usize).and_then(Option::as_ref) {
            // Lost, as media may be.
            let _ = port.socket.send_to(bytes, to);
        }
    }

    fn turn(&mut self, wait: Option<Duration>, decide: &mut Decide<'_>) -> io::Result<Turn> {
        self.start()?;
        self.arm()?;
        self.wait(wait)?;
        self.reap();
        let (now, mut turn) = (Instant::now(), Turn::default());
        for _ in 0..self.backlog.len() {
            let Some(completion) = self.backlog.pop_front() else { break };
            match completion.0 >> 62 {
                1 => self.received(now, completion, decide, &mut turn),
                2 => turn.dropped += 1,
                _ => (turn.control, self.control_armed) = (true, false),
            }
        }
        self.submit()?;
        Ok(turn)
    }

    /// Ends every receive; what it took from its socket until then stands in the ring, and is carried.
    fn surrender(&mut self, decide: &mut Decide<'_>) -> Vec<UdpSocket> {
        let mut turn = Turn::default();
        let _ = self.start().and_then(|()| self.submit());
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        loop {
            let _ = self.submit().and_then(|()| self.ring.submit());
            self.reap();
            let Some(completion) = self.backlog.pop_front() else { break };
            if completion.0 >> 62 == 1 {
                self.received(Instant::now(), completion, decide, &mut turn);
            }
        }
        (self.control_armed, self.started) = (false, true);
        self.unarmed.clear();
        self.free.clear();
        std::mem::take(&mut self.ports).into_iter().flatten().map(|port| port.socket).collect()
    }
}

impl Drop for UringPath {
    fn drop(&mut self) {
        // What is under way must not write to buffers that are gone; when it can't be ended, the buffers stay.
        let ended = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        let nothing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        if self.started && ended.is_err_and(|error| !nothing(&error)) {
            self.buffers.leak = true;
        }
    }
}

/// The buffers all receives share, and the ring they are handed to the kernel by.
struct Buffers {
    ring: NonNull<BufRingEntry>,
    bytes: NonNull<u8>,
    tail: u16,
    leak: bool,
}

impl Buffers {
    fn new() -> Buffers {
        let (ring, bytes) = (allocate(Buffers::ring_layout()).cast(), allocate(Buffers::bytes_layout()));
        let mut buffers = Buffers { ring, bytes, tail: 0, leak: false };
        (0..BUFFERS).for_each(|buffer| buffers.give_back(buffer));
        buffers
    }

    fn ring_layout() -> Layout {
        Layout::array::<[u8; 16]>(usize::from(BUFFERS))
            .and_then(|l| l.align_to(4096))
            .unwrap_or(Layout::new::<u128>())
    }

    fn bytes_layout() -> Layout {
        Layout::array::<[u8; SLOT]>(usize::from(BUFFERS))
            .and_then(|l| l.align_to(64))
            .unwrap_or(Layout::new::<u128>())
    }

    fn ring_address(&self) -> u64 {
        self.ring.as_ptr() as u64
    }

    fn slot(&self, buffer: u16) -> *mut u8 {
        // SAFETY: buffer numbers come from this struct or back from the kernel, and are taken below `BUFFERS`.
        unsafe { self.bytes.as_ptr().add(usize::from(buffer % BUFFERS) * SLOT) }
    }

    /// Hands a buffer to the kernel.
    fn give_back(&mut self, buffer: u16) {
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
    fn datagram(
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
            // SAFETY: allocated with these layouts, and nothing uses them any more (see `UringPath::drop`).
            unsafe {
                dealloc(self.ring.as_ptr().cast(), Buffers::ring_layout());
                dealloc(self.bytes.as_ptr(), Buffers::bytes_layout());
            }
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no layout here has size 0.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
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
