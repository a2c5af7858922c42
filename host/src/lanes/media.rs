//! How a relay lane moves media: a path opens the ports, waits, and sends on what it is told to.
//!
//! [`EpollPath`] works everywhere, [`UringPath`] where trying it succeeds. Both give the same answers in the same tests,
//! and `postern status` names the one in use.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use proto::node::SocketId;
use relay::Forward;

use super::uring::{Means, UringPath};
use crate::net::batch::{Receiver, Sender};
use crate::net::udp;

/// Datagrams per system call.
const BATCH: usize = 32;
/// The largest media datagram taken: a jumbo frame's.
const DATAGRAM: usize = 9_216;
/// Ready sockets taken from the kernel at a time.
const READY: usize = 256;
/// What the lane's other sources are called in epoll's answers.
const CONTROL: u64 = u64::MAX;

/// What becomes of a datagram: asked for each, with the time of the batch. The slice has room behind the datagram, whose
/// length stands beside it.
pub type Decide<'a> = dyn FnMut(Instant, SocketId, SocketAddr, &mut [u8], usize) -> Forward + 'a;

/// What a turn brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// The lane's other sources (listeners, mailbox) want to be read.
    pub control: bool,
    /// Datagrams received.
    pub received: u64,
    /// Datagrams sent on.
    pub sent: u64,
    /// Datagrams that were cut off, or did not leave.
    pub dropped: u64,
}

/// How a turn waits.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// At most this long; `None`: until something comes.
    pub limit: Option<Duration>,
    /// What comes is let gather for so long, if the path would not let it for longer: the lane's other sources are busy.
    pub gather: Duration,
}

impl Wait {
    /// At most this long, in no hurry to gather anything.
    pub fn at_most(limit: Duration) -> Wait {
        Wait { limit: Some(limit), gather: Duration::ZERO }
    }
}

/// A way to move media. Made with the lane's own epoll, which stands for its listeners and mailbox.
pub trait MediaPath: Send + std::fmt::Debug {
    /// For `postern status` and benchmarks.
    fn name(&self) -> &'static str;
    /// Opens a port. Numbers are small and used again after [`MediaPath::release`].
    fn bind(&mut self, local: SocketAddr) -> io::Result<(SocketId, SocketAddr)>;
    /// Closes a port.
    fn release(&mut self, socket: SocketId);
    /// Throws away what waits on a port.
    fn empty(&mut self, socket: SocketId);
    /// A port's socket.
    fn socket(&self, socket: SocketId) -> Option<&UdpSocket>;
    /// Sends one datagram that did not come through [`MediaPath::turn`].
    fn send(&mut self, socket: SocketId, to: SocketAddr, bytes: &[u8]);
    /// Waits, and carries what is there.
    fn turn(&mut self, wait: Wait, decide: &mut Decide<'_>) -> io::Result<Turn>;
    /// Gives every port away, open, with what waits in it; what has been read already is carried first.
    fn surrender(&mut self, decide: &mut Decide<'_>) -> Vec<UdpSocket>;
}

/// The best path this machine lets us have.
pub fn open(control: &Epoll) -> io::Result<Box<dyn MediaPath>> {
    match tried_apart().and_then(|means| UringPath::new(control, means)) {
        Ok(path) => Ok(Box::new(path)),
        Err(error) => {
            tracing::info!(%error, "no io_uring here: media goes by epoll");
            Ok(Box::new(EpollPath::new(control)?))
        }
    }
}

/// On a thread of its own: when a ring goes, the kernel interrupts whatever the thread that made it is waiting for.
fn tried_apart() -> io::Result<Means> {
    let trial = std::thread::Builder::new().name("io_uring trial".to_owned()).spawn(UringPath::try_out)?;
    trial.join().unwrap_or_else(|_| Err(io::Error::other("the trial panicked")))
}

/// Batched epoll: one `recvmmsg` per ready socket, one `sendmmsg` per run of packets that leave by the same socket.
#[derive(Debug)]
pub struct EpollPath {
    epoll: Epoll,
    sockets: Vec<Option<UdpSocket>>,
    free: Vec<u32>,
    ready: Vec<EpollEvent>,
    receiver: Receiver,
    sender: Sender,
    /// Of the batch in hand: which datagrams go on, by which socket, where to, and how many bytes of them.
    onward: Vec<(usize, SocketId, SocketAddr, usize)>,
}

impl EpollPath {
    /// No ports yet.
    pub fn new(control: &Epoll) -> io::Result<EpollPath> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&control.0, EpollEvent::new(EpollFlags::EPOLLIN, CONTROL))?;
        Ok(EpollPath {
            epoll,
            sockets: Vec::new(),
            free: Vec::new(),
            ready: vec![EpollEvent::empty(); READY],
            receiver: Receiver::new(BATCH, DATAGRAM),
            sender: Sender::new(BATCH),
            onward: Vec::with_capacity(BATCH),
        })
    }

    fn carry(&mut self, now: Instant, from: SocketId, decide: &mut Decide<'_>, turn: &mut Turn) {
        let Some(socket) = self.sockets.get(from.0 as usize).and_then(Option::as_ref) else { return };
        // An error is what the network says about something sent earlier: media has no use for it.
        let Ok(taken) = self.receiver.receive(socket.as_fd()) else { return };
        turn.received += taken as u64;
        self.onward.clear();
        for index in 0..taken {
            let Some((source, slot, len)) = self.receiver.slot(index) else {
                turn.dropped += 1;
                continue;
            };
            if let Forward::Send { socket, to, len } = decide(now, from, source, slot, len) {
                self.onward.push((index, socket, to, len));
            }
        }
        self.send_onward(turn);
    }

    fn send_onward(&mut self, turn: &mut Turn) {
        let mut start = 0;
        while let Some(&(_, by, ..)) = self.onward.get(start) {
            let run = self.onward[start..].iter().take_while(|(_, socket, ..)| *socket == by).count();
            let sent = self.send_run(by, start..start + run);
            turn.sent += sent as u64;
            turn.dropped += (run - sent) as u64;
            start += run;
        }
    }

    /// Sends datagrams that leave by the same socket; what the kernel does not take is lost, as media may be.
    fn send_run(&mut self, by: SocketId, run: std::ops::Range<usize>) -> usize {
        let Some(socket) = self.sockets.get(by.0 as usize).and_then(Option::as_ref) else { return 0 };
        let (mut sent, mut at) = (0, run.start);
        while at < run.end {
            let receiver = &self.receiver;
            let datagrams =
                self.onward[at..run.end].iter().map(|&(index, _, to, len)| (to, receiver.bytes(index, len)));
            match self.sender.send(socket.as_fd(), datagrams) {
                Ok(count) => (sent, at) = (sent + count, at + count.max(1)),
                Err(_) => at += 1,
            }
        }
        sent
    }
}

impl MediaPath for EpollPath {
    fn name(&self) -> &'static str {
        "epoll, recvmmsg"
    }

    fn bind(&mut self, local: SocketAddr) -> io::Result<(SocketId, SocketAddr)> {
        let (socket, local) = udp::media(local)?;
        let number = self.free.pop().unwrap_or(self.sockets.len() as u32);
        let added = self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, u64::from(number)));
        match self.sockets.get_mut(number as usize) {
            Some(place) => *place = Some(socket),
            None => self.sockets.push(Some(socket)),
        }
        match added {
            Ok(()) => Ok((SocketId(number), local)),
            Err(error) => {
                self.release(SocketId(number));
                Err(error.into())
            }
        }
    }

    fn release(&mut self, socket: SocketId) {
        // Closing takes it out of the epoll set.
        if self.sockets.get_mut(socket.0 as usize).is_some_and(|place| place.take().is_some()) {
            self.free.push(socket.0);
        }
    }

    fn empty(&mut self, socket: SocketId) {
        let Some(socket) = self.sockets.get(socket.0 as usize).and_then(Option::as_ref) else { return };
        while self.receiver.receive(socket.as_fd()).is_ok_and(|taken| taken > 0) {}
    }

    fn socket(&self, socket: SocketId) -> Option<&UdpSocket> {
        self.sockets.get(socket.0 as usize)?.as_ref()
    }

    fn send(&mut self, socket: SocketId, to: SocketAddr, bytes: &[u8]) {
        if let Some(socket) = self.socket(socket) {
            // Lost, as media may be.
            let _ = socket.send_to(bytes, to);
        }
    }

    fn turn(&mut self, wait: Wait, decide: &mut Decide<'_>) -> io::Result<Turn> {
        let pause = wait.limit.map_or(wait.gather, |limit| limit.min(wait.gather));
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        let mut ready = std::mem::take(&mut self.ready);
        let count = match self.epoll.wait(&mut ready, epoll_timeout(wait.limit)) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let now = Instant::now();
        let mut turn = Turn::default();
        for event in &ready[..count] {
            match event.data() {
                CONTROL => turn.control = true,
                number => self.carry(now, SocketId(number as u32), decide, &mut turn),
            }
        }
        self.ready = ready;
        Ok(turn)
    }

    /// Nothing is ever read and not carried.
    fn surrender(&mut self, _: &mut Decide<'_>) -> Vec<UdpSocket> {
        self.free.clear();
        std::mem::take(&mut self.sockets).into_iter().flatten().collect()
    }
}

/// In whole milliseconds, rounded up: waking a moment early would only mean waking twice.
pub fn epoll_timeout(wait: Option<Duration>) -> EpollTimeout {
    let Some(wait) = wait else { return EpollTimeout::NONE };
    let millis = (wait + Duration::from_micros(999)).as_millis().min(60_000);
    EpollTimeout::try_from(millis as i32).unwrap_or(EpollTimeout::ZERO)
}

#[cfg(test)]
mod tests;
