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
    /// Sends one datagram that did not come through [`MediaPath::turn`].
    fn send(&mut self, socket: SocketId, to: SocketAddr, bytes: &[u8]);
    /// Waits, at most this long (`None`: until something comes), and carries what is there.
    fn turn(&mut self, wait: Option<Duration>, decide: &mut Decide<'_>) -> io::Result<Turn>;
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

    fn socket(&self, socket: SocketId) -> Option<&UdpSocket> {
        self.sockets.get(socket.0 as usize)?.as_ref()
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

    fn send(&mut self, socket: SocketId, to: SocketAddr, bytes: &[u8]) {
        if let Some(socket) = self.socket(socket) {
            // Lost, as media may be.
            let _ = socket.send_to(bytes, to);
        }
    }

    fn turn(&mut self, wait: Option<Duration>, decide: &mut Decide<'_>) -> io::Result<Turn> {
        let mut ready = std::mem::take(&mut self.ready);
        let count = match self.epoll.wait(&mut ready, epoll_timeout(wait)) {
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
mod tests {
    use super::*;

    /// Paths that must give the same answers.
    fn paths() -> Vec<(Epoll, Box<dyn MediaPath>)> {
        let control = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let path = EpollPath::new(&control).unwrap();
        let mut paths: Vec<(Epoll, Box<dyn MediaPath>)> = vec![(control, Box::new(path))];
        // Not every machine lets us, or has all means.
        let best = UringPath::try_out().ok();
        for means in best.into_iter().flat_map(|best| [best, Means::FEWEST]) {
            let control = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
            let path = UringPath::new(&control, means).unwrap();
            paths.push((control, Box::new(path)));
        }
        paths
    }

    fn peer() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    #[test]
    fn a_packet_leaves_by_the_socket_and_to_the_address_that_was_decided() {
        for (_control, mut path) in paths() {
            let (alice, bob) = (peer(), peer());
            let (in_port, in_addr) = path.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let (out_port, out_addr) = path.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            for word in ["one", "two", "three"] {
                alice.send_to(word.as_bytes(), in_addr).unwrap();
            }
            let to = bob.local_addr().unwrap();
            let mut sent = 0;
            while sent < 2 {
                let turn = path.turn(Some(Duration::from_secs(5)), &mut |_, socket, from, slot, len| {
                    assert_eq!((socket, from), (in_port, alice.local_addr().unwrap()));
                    match &slot[..len] {
                        b"two" => Forward::Drop(relay::Why::Stranger),
                        _ => Forward::Send { socket: out_port, to, len },
                    }
                });
                sent += turn.unwrap().sent;
            }
            let mut buffer = [0; 16];
            for word in ["one", "three"] {
                let (length, from) = bob.recv_from(&mut buffer).unwrap();
                assert_eq!((&buffer[..length], from), (word.as_bytes(), out_addr));
            }
        }
    }

    /// A burst as video has them: datagrams of one size to one party, the last one shorter, and another party's in between.
    #[test]
    fn a_burst_arrives_whole_in_order_and_cut_as_it_was() {
        for (_control, mut path) in paths() {
            let (alice, bob, carol) = (peer(), peer(), peer());
            let (in_port, in_addr) = path.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let (out_port, out_addr) = path.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let [to_bob, to_carol] = [&bob, &carol].map(|party| party.local_addr().unwrap());
            let burst: Vec<Vec<u8>> = (0..100u8)
                .map(|number| {
                    vec![number; if number % 20 == 19 { 500 } else { 1_000 + usize::from(number / 50) }]
                })
                .collect();
            for datagram in &burst {
                alice.send_to(datagram, in_addr).unwrap();
            }
            let (mut sent, until) = (0, Instant::now() + Duration::from_secs(10));
            while sent < burst.len() as u64 && Instant::now() < until {
                let turn = path.turn(Some(Duration::from_secs(1)), &mut |_, socket, _, slot, len| {
                    assert_eq!(socket, in_port);
                    let to = if slot[0] % 10 == 5 { to_carol } else { to_bob };
                    Forward::Send { socket: out_port, to, len }
                });
                sent += turn.unwrap().sent;
            }
            let mut buffer = [0; 4096];
            for datagram in &burst {
                let party = if datagram[0] % 10 == 5 { &carol } else { &bob };
                let (length, from) = party.recv_from(&mut buffer).unwrap();
                assert_eq!((&buffer[..length], from), (datagram.as_slice(), out_addr));
            }
        }
    }

    /// Media ports don't ask for ICMP errors: whoever forges one would cost a packet.
    #[test]
    fn a_party_whose_port_is_closed_costs_nobody_else_a_packet() {
        for (_control, mut path) in paths() {
            let (in_port, in_addr) = path.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let (out_port, _) = path.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let closed = peer().local_addr().unwrap();
            let (alice, bob) = (peer(), peer());
            let open = bob.local_addr().unwrap();
            for number in 0..20u8 {
                alice.send_to(&[number], in_addr).unwrap();
                let mut carried = false;
                while !carried {
                    let turn = path.turn(Some(Duration::from_secs(5)), &mut |_, socket, _, slot, len| {
                        assert_eq!(socket, in_port);
                        carried = true;
                        let to = if slot[0] % 2 == 0 { closed } else { open };
                        Forward::Send { socket: out_port, to, len }
                    });
                    assert_eq!(turn.unwrap().dropped, 0);
                }
            }
            for number in (1..20u8).step_by(2) {
                let mut buffer = [0; 16];
                let (length, _) = bob.recv_from(&mut buffer).unwrap();
                assert_eq!(buffer[..length], [number]);
            }
        }
    }

    #[test]
    fn a_released_port_is_free_again_and_its_number_used_again() {
        for (_control, mut path) in paths() {
            let (socket, local) = path.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            assert!(UdpSocket::bind(local).is_err());
            path.release(socket);
            assert!(UdpSocket::bind(local).is_ok());
            assert_eq!(path.bind("127.0.0.1:0".parse().unwrap()).unwrap().0, socket);
        }
    }

    #[test]
    fn a_port_that_is_given_away_loses_nothing_that_came_before_or_comes_after() {
        for (_control, mut path) in paths() {
            let (socket, local) = path.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let (talker, mut heard) = (peer(), 0);
            let mut count = |_, at, _, _: &mut [u8], _| {
                assert_eq!(at, socket);
                heard += 1;
                Forward::Drop(relay::Why::Idle)
            };
            talker.send_to(b"first", local).unwrap();
            path.turn(Some(Duration::from_secs(5)), &mut count).unwrap();
            for _ in 0..10 {
                talker.send_to(b"while it is given away", local).unwrap();
            }
            let given = path.surrender(&mut count);
            assert_eq!(given.len(), 1);
            drop(path);
            talker.send_to(b"last", local).unwrap();
            given[0].set_nonblocking(true).unwrap();
            while given[0].recv(&mut [0; 64]).is_ok() {
                heard += 1;
            }
            assert_eq!(heard, 12);
        }
    }

    #[test]
    fn what_waited_before_a_port_was_emptied_is_not_carried() {
        for (_control, mut path) in paths() {
            let (socket, local) = path.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            peer().send_to(b"old", local).unwrap();
            path.empty(socket);
            let turn =
                path.turn(Some(Duration::ZERO), &mut |_, _, _, _, _| panic!("nothing is left")).unwrap();
            assert_eq!(turn.received, 0);
        }
    }
}
