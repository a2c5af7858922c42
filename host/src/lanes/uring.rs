//! Media by io_uring: every port has one receive that never ends and takes its buffers from a ring shared by all, so
//! that a turn is one system call to wait and one to send, however many ports were ready.
//!
//! Packets leave from the buffer they came in ([`leaving`]): a send does not wait, and the kernel carries it out while it
//! takes the submission, so the buffer is free when [`IoUring::submit`] returns. Where many come, batches fill by waiting for a
//! number of packets or a moment, whichever is first ([`gathering`]; kernels before 6.12 wake for each packet).
#![allow(unsafe_code)]

mod buffers;
mod gathering;
mod leaving;
mod trial;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use libc::msghdr;
use nix::sys::epoll::Epoll;
use proto::node::SocketId;
use relay::Forward;

use self::buffers::{BUFFERS, Buffers, NAME};
use self::gathering::Gathering;
use self::leaving::Leaving;
pub use self::leaving::Means;
use super::media::{Decide, MediaPath, Turn, Wait};
use crate::net::udp;

/// Submissions at a time.
const ENTRIES: u32 = 1024;
const GROUP: u16 = 0;

/// What a completion belongs to: kind, generation and number of the port.
const RECEIVE: u64 = 1 << 62;
const SEND: u64 = 2 << 62;
const TRAIN: u64 = SEND | 1;
const CANCEL: u64 = SEND | 2;
const CONTROL: u64 = 3 << 62;

#[derive(Debug)]
struct Port {
    socket: UdpSocket,
    /// Tells its completions from those of an earlier port of the same number.
    tag: u64,
    /// Its receive is under way: what comes is in the ring, not in the socket.
    armed: bool,
    /// The turn it last sent in, and by which message.
    sent: (u64, usize),
}

/// See the module.
pub struct UringPath {
    // The ring goes first, the memory it points to afterwards (and see `Drop`).
    ring: IoUring,
    buffers: Buffers,
    template: Box<msghdr>,
    means: Means,
    leaving: Leaving,
    /// Buffers whose packets wait to be submitted.
    pushed: Vec<u16>,
    turns: u64,
    gathering: Gathering,
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
    pub fn new(control: &Epoll, means: Means) -> io::Result<UringPath> {
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
        Ok(UringPath {
            ring,
            buffers,
            template,
            means,
            leaving: Leaving::new(),
            pushed: Vec::with_capacity(usize::from(BUFFERS)),
            turns: 0,
            gathering: Gathering::new(Instant::now()),
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
        // move: the template (boxed), the messages that leave (boxed) and the buffers.
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
        for buffer in self.pushed.drain(..) {
            self.buffers.give_back(buffer);
        }
        Ok(())
    }

    /// Sends what this turn's packets became.
    fn depart(&mut self) -> io::Result<()> {
        for number in 0..self.leaving.len() {
            let tag = if self.leaving.count(number) > 1 { TRAIN } else { SEND };
            let entry = self.leaving.entry(number, self.means.addressed, tag);
            self.push(&entry)?;
            self.pushed.extend(self.leaving.buffers(number));
        }
        self.submit()?;
        self.leaving.clear();
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

    /// Waits for a batch.
    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        if wait.limit.is_some_and(|wait| wait.is_zero()) || !self.backlog.is_empty() {
            self.submit()?;
            self.ring.submit()?;
            return Ok(());
        }
        let limit = wait.limit.unwrap_or(Duration::from_secs(60));
        let limit = Timespec::new().sec(limit.as_secs()).nsec(limit.subsec_nanos());
        let args = SubmitArgs::new().timespec(&limit);
        let (packets, micros) = self.gathering.wait();
        let (packets, micros) = match wait.gather.as_micros() as u32 {
            0 => (packets, micros),
            gather => (packets.max(64), micros.max(gather)),
        };
        let waited = match self.fills && micros > 0 {
            true => self.ring.submitter().submit_with_args(packets, &args.min_wait_usec(micros)),
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
        let left = onward.is_some_and(|(socket, to, at, len)| self.send_from(buffer, socket, to, at, len));
        match left {
            true => turn.sent += 1,
            false => self.buffers.give_back(buffer),
        }
    }

    /// Queues a datagram to leave from the buffer it came in.
    fn send_from(&mut self, buffer: u16, by: SocketId, to: SocketAddr, at: *mut u8, len: usize) -> bool {
        let Some(port) = self.ports.get_mut(by.0 as usize).and_then(Option::as_mut) else { return false };
        let (turn, number) = port.sent;
        let coupled = (turn == self.turns && self.means.trains).then_some(number);
        let number = self.leaving.add(buffer, port.socket.as_raw_fd(), (by, to), (at, len), coupled);
        port.sent = (self.turns, number);
        true
    }

    /// A message did not leave: where trains can't, what comes next leaves singly.
    fn failed(&mut self, (tag, result, _): (u64, i32, u32), turn: &mut Turn) {
        turn.dropped += u64::from(tag != CANCEL);
        self.means.trains &= tag != TRAIN || !matches!(-result, libc::EIO | libc::EINVAL | libc::EMSGSIZE);
    }

    /// Ends every receive: one by one by its name, since ending all at once has the kernel look for each among all.
    fn end_all(&mut self) -> io::Result<()> {
        if !self.started {
            return Ok(());
        }
        let armed = self.ports.iter().flatten().filter(|port| port.armed);
        for tag in armed.map(|port| port.tag).collect::<Vec<u64>>() {
            self.push(&cancel(tag))?;
        }
        self.submit()?;
        self.ring.submit()?;
        self.reap();
        match self.ring.submitter().register_sync_cancel(None, CancelBuilder::any()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn cancel(tag: u64) -> squeue::Entry {
    opcode::AsyncCancel::new(tag).build().flags(squeue::Flags::SKIP_SUCCESS).user_data(CANCEL)
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
        let port = Some(Port { socket, tag, armed: false, sent: (0, 0) });
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
        // The receive holds the socket open until it has ended, which the second submission sees to.
        let _ = self.push(&cancel(port.tag)).and_then(|()| self.submit()).and_then(|()| self.ring.submit());
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

    fn socket(&self, socket: SocketId) -> Option<&UdpSocket> {
        Some(&self.ports.get(socket.0 as usize)?.as_ref()?.socket)
    }

    fn send(&mut self, socket: SocketId, to: SocketAddr, bytes: &[u8]) {
        if let Some(port) = self.ports.get(socket.0 as usize).and_then(Option::as_ref) {
            // Lost, as media may be.
            let _ = port.socket.send_to(bytes, to);
        }
    }

    fn turn(&mut self, wait: Wait, decide: &mut Decide<'_>) -> io::Result<Turn> {
        self.start()?;
        self.arm()?;
        self.wait(wait)?;
        self.reap();
        self.turns += 1;
        let (now, mut turn) = (Instant::now(), Turn::default());
        for _ in 0..self.backlog.len() {
            let Some(completion) = self.backlog.pop_front() else { break };
            match completion.0 >> 62 {
                1 => self.received(now, completion, decide, &mut turn),
                2 => self.failed(completion, &mut turn),
                _ => (turn.control, self.control_armed) = (true, false),
            }
        }
        self.depart()?;
        self.gathering.took(now, turn.received);
        Ok(turn)
    }

    /// Ends every receive; what it took from its socket until then stands in the ring, and is carried.
    fn surrender(&mut self, decide: &mut Decide<'_>) -> Vec<UdpSocket> {
        let mut turn = Turn::default();
        let _ = self.end_all();
        loop {
            let _ = self.submit().and_then(|()| self.ring.submit());
            self.reap();
            self.turns += 1;
            if self.backlog.is_empty() {
                break;
            }
            while let Some(completion) = self.backlog.pop_front() {
                if completion.0 >> 62 == 1 {
                    self.received(Instant::now(), completion, decide, &mut turn);
                }
            }
            let _ = self.depart();
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
        if self.end_all().is_err() {
            self.buffers.leak = true;
        }
    }
}
