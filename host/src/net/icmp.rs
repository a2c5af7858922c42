//! What ICMP says of media: one raw socket for each address family and process, whatever the number of media ports.
//!
//! Media ports themselves don't ask the kernel for ICMP errors ([`super::udp`]): an error that waits on a socket fails the
//! next packet's sending, whoever it is for, and ends a receive, so that a forger could cost packets. A raw socket hears them
//! beside the media path and costs it nothing, also for what the kernel path carries. It needs CAP_NET_RAW; without it
//! nothing is lost but the hint, and `postern status` says so. What the socket lets through are errors about UDP, so many at a
//! time; a flood is dropped in the kernel.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::icmp::{Undelivered, read_v4, read_v6};
use proto::node::Input;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::lanes::post::{PostOffice, Seats};

/// Errors that are read at a time, and how long the next ones wait then: 640 a second.
const AT_A_TIME: usize = 64;
const PAUSE: Duration = Duration::from_millis(100);
/// What may wait meanwhile; the rest is dropped.
const BUFFER: usize = 64 << 10;
/// What is read of one: all that it must quote, and more.
const LARGEST: usize = 576;

/// How one kind of error is read.
type Read = fn(&[u8]) -> Option<Undelivered>;

/// The process's ear for ICMP.
#[derive(Debug, Default)]
pub struct Icmp {
    /// Why it hears nothing, if so.
    off: Option<String>,
    heard: AtomicU64,
}

/// What it hears with.
#[derive(Debug)]
pub struct Ears {
    icmp: Arc<Icmp>,
    sockets: Vec<(UdpSocket, Read)>,
    relays: Seats,
}

impl Icmp {
    /// For the relay's lanes. Never fatal.
    pub fn open(relays: Seats) -> (Arc<Icmp>, Ears) {
        let v4 = raw(Domain::IPV4, Protocol::ICMPV4, &about_udp_v4()).map(|socket| (socket, read_v4 as Read));
        let v6 = raw(Domain::IPV6, Protocol::ICMPV6, &about_udp_v6()).map(|socket| (socket, read_v6 as Read));
        let off = v4.as_ref().err().map(io::Error::to_string);
        // A machine without IPv6 is none the worse for it.
        let sockets = [v4, v6].into_iter().flatten().collect();
        let icmp = Arc::new(Icmp { off, heard: AtomicU64::new(0) });
        (icmp.clone(), Ears { icmp, sockets, relays })
    }

    /// For `postern status`.
    pub fn report(&self) -> String {
        match &self.off {
            None => {
                format!("heard: {} errors about datagrams sent from here", self.heard.load(Ordering::Relaxed))
            }
            Some(why) => format!(
                "not heard ({why}): a party that has closed its port is known by its silence alone; CAP_NET_RAW lets \
                 the relay hear of it"
            ),
        }
    }
}

impl Ears {
    /// Passes on what is heard, as long as the runtime lives.
    pub fn listen(self, post: &Arc<PostOffice>) {
        for (socket, read) in self.sockets {
            let (icmp, post, relays) = (self.icmp.clone(), post.clone(), self.relays.clone());
            match tokio::net::UdpSocket::from_std(socket) {
                Ok(socket) => drop(tokio::spawn(hear(socket, read, icmp, post, relays))),
                Err(error) => tracing::warn!(%error, "ICMP can't be heard"),
            }
        }
    }
}

async fn hear(
    socket: tokio::net::UdpSocket,
    read: Read,
    icmp: Arc<Icmp>,
    post: Arc<PostOffice>,
    relays: Seats,
) {
    let mut packet = [0; LARGEST];
    loop {
        for _ in 0..AT_A_TIME {
            let Ok(len) = socket.recv(&mut packet).await else { break };
            let Some(said) = read(&packet[..len]) else { continue };
            icmp.heard.fetch_add(1, Ordering::Relaxed);
            // Which lane has the port is for the lanes to say. One that is overrun has more to do than this.
            relays.iter().for_each(|seat| drop(post.post(*seat, Input::Undelivered(said.clone()))));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn raw(domain: Domain, protocol: Protocol, filter: &[SockFilter]) -> io::Result<UdpSocket> {
    let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))?;
    socket.attach_filter(filter)?;
    let _ = socket.set_recv_buffer_size(BUFFER);
    Ok(socket.into())
}

/// Classic BPF: `load byte`, `skip if equal`, `return`.
fn load(at: u32) -> SockFilter {
    SockFilter::new((libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16, 0, 0, at)
}

/// The same, behind an IPv4 header of whatever length.
fn load_behind_header(at: u32) -> SockFilter {
    SockFilter::new((libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16, 0, 0, at)
}

fn unless(value: u32, skip: u8) -> SockFilter {
    SockFilter::new((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, skip, value)
}

fn take(bytes: u32) -> SockFilter {
    SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, bytes)
}

/// Destination unreachable (3), about UDP (17); a raw socket sees the IPv4 header as well.
fn about_udp_v4() -> [SockFilter; 7] {
    let header = SockFilter::new((libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16, 0, 0, 0);
    let (everything, nothing) = (take(LARGEST as u32), take(0));
    [header, load_behind_header(0), unless(3, 3), load_behind_header(17), unless(17, 1), everything, nothing]
}

/// Destination unreachable (1), about UDP; of an ICMPv6 message alone.
fn about_udp_v6() -> [SockFilter; 6] {
    [load(0), unless(1, 3), load(14), unless(17, 1), take(LARGEST as u32), take(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filter is the kernel's to run: a datagram to a closed port of loopback brings back the true thing.
    #[test]
    fn a_closed_port_is_heard_of_and_other_icmp_is_not() {
        let families =
            [("127.0.0.1:0", Domain::IPV4, Protocol::ICMPV4), ("[::1]:0", Domain::IPV6, Protocol::ICMPV6)];
        for (local, domain, protocol) in families {
            let v4 = domain == Domain::IPV4;
            let ear = match v4 {
                true => raw(domain, protocol, &about_udp_v4()),
                false => raw(domain, protocol, &about_udp_v6()),
            };
            let (Ok(ear), Ok(sender)) = (ear, UdpSocket::bind(local)) else {
                eprintln!("skipped: no raw socket for {local} here (CAP_NET_RAW)");
                continue;
            };
            ear.set_nonblocking(false).unwrap();
            ear.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let closed = UdpSocket::bind(local).unwrap().local_addr().unwrap();
            sender.send_to(b"\x80\x00 a packet of some length", closed).unwrap();
            let said = loop {
                let mut packet = [0; LARGEST];
                let len = ear.recv(&mut packet).unwrap();
                let said = if v4 { read_v4(&packet[..len]) } else { read_v6(&packet[..len]) };
                // Other tests of this machine meet closed ports, too; nothing else passes the filter.
                let said = said.expect("what passes the filter can be read");
                if said.to == closed {
                    break said;
                }
            };
            assert_eq!((said.from, said.why), (sender.local_addr().unwrap(), proto::icmp::Unreachable::Port));
            assert_eq!(&said.head[..], b"\x80\x00 a packet of some length");
        }
    }
}
