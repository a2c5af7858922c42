//! Many datagrams per system call (`recvmmsg`, `sendmmsg`), with buffers made once.
//!
//! Every pointer handed to the kernel points into a `Vec` owned by the same struct,
//! is written anew right before the call, and is not kept by the kernel after it returns.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_void, iovec, mmsghdr, sockaddr_in, sockaddr_in6, sockaddr_storage};

/// Datagrams that are asked for at least.
const FEW: usize = 8;

/// Buffers for a batch of received datagrams.
pub struct Receiver {
    size: usize,
    bytes: Vec<u8>,
    names: Vec<sockaddr_storage>,
    vectors: Vec<iovec>,
    headers: Vec<mmsghdr>,
    /// How many datagrams the next call asks for: where few come, few headers need to be written.
    ask: usize,
    /// Whether the last call got all it asked for.
    full: bool,
}

// SAFETY: the raw pointers inside `vectors` and `headers` point into this struct's own `Vec`s and are only read between
// being written and the end of the same `receive` call, which borrows the struct exclusively.
unsafe impl Send for Receiver {}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receiver({}×{})", self.headers.len(), self.size)
    }
}

impl Receiver {
    /// For up to `count` datagrams of up to `size` bytes each.
    pub fn new(count: usize, size: usize) -> Receiver {
        Receiver {
            size,
            bytes: vec![0; count * size],
            names: vec![zeroed(); count],
            vectors: vec![iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; count],
            headers: vec![zeroed_header(); count],
            ask: FEW.min(count),
            full: false,
        }
    }

    /// Whether there may be more where the last call read: it got as many datagrams as it asked for.
    pub fn may_have_more(&self) -> bool {
        self.full
    }

    /// Takes what waits on a socket, without waiting for more.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        for (index, chunk) in self.bytes.chunks_exact_mut(self.size).take(self.ask).enumerate() {
            self.vectors[index] =
                iovec { iov_base: chunk.as_mut_ptr().cast::<c_void>(), iov_len: chunk.len() };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast::<c_void>();
            header.msg_namelen = size_of::<sockaddr_storage>() as u32;
            header.msg_iov = &raw mut self.vectors[index];
            header.msg_iovlen = 1;
            header.msg_flags = 0;
        }
        // SAFETY: the first `ask` headers are initialised, and their pointers (set above) lead into vectors of this struct
        // that are borrowed exclusively until the call returns; lengths are those of the pointed-to memory. `ask` is at
        // most the number of headers.
        let taken = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.ask as u32,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if taken < 0 {
            self.full = false;
            return Err(io::Error::last_os_error());
        }
        self.learn(taken as usize);
        Ok(taken as usize)
    }

    /// Asks for twice as many when all were there, for half when few were.
    fn learn(&mut self, taken: usize) {
        let most = self.headers.len();
        self.full = taken == self.ask;
        self.ask = match taken {
            _ if self.full => (2 * self.ask).min(most),
            few if few < self.ask / 4 => (self.ask / 2).max(FEW).min(most),
            _ => self.ask,
        };
    }

    /// The datagram at `index` of the last call: where from, and its bytes; `None` when it was cut off.
    pub fn datagram(&mut self, index: usize) -> Option<(SocketAddr, &mut [u8])> {
        let (from, slot, len) = self.slot(index)?;
        Some((from, &mut slot[..len]))
    }

    /// The same with the room behind it, and its length.
    pub fn slot(&mut self, index: usize) -> Option<(SocketAddr, &mut [u8], usize)> {
        let header = &self.headers[index];
        if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            return None;
        }
        let from = from_storage(&self.names[index])?;
        let len = (header.msg_len as usize).min(self.size);
        let start = index * self.size;
        Some((from, &mut self.bytes[start..start + self.size], len))
    }
}

impl Receiver {
    /// The first bytes of a slot that [`Receiver::slot`] gave out.
    pub fn bytes(&self, index: usize, len: usize) -> &[u8] {
        let start = index * self.size;
        &self.bytes[start..start + len.min(self.size)]
    }
}

/// Headers for a batch of datagrams to send.
pub struct Sender {
    names: Vec<sockaddr_storage>,
    vectors: Vec<iovec>,
    headers: Vec<mmsghdr>,
}

// SAFETY: as for `Receiver`: pointers are only read within the `send` call that wrote them.
unsafe impl Send for Sender {}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sender({})", self.headers.len())
    }
}

impl Sender {
    /// For up to `count` datagrams a call.
    pub fn new(count: usize) -> Sender {
        Sender {
            names: vec![zeroed(); count],
            vectors: vec![iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; count],
            headers: vec![zeroed_header(); count],
        }
    }

    /// Sends the first of `datagrams`, as many as fit into one call. Gives back how many left; an error is that of the
    /// first one, which did not.
    pub fn send<'a, I>(&mut self, socket: BorrowedFd<'_>, datagrams: I) -> io::Result<usize>
    where
        I: Iterator<Item = (SocketAddr, &'a [u8])>,
    {
        let mut count = 0;
        for (index, (to, bytes)) in datagrams.take(self.headers.len()).enumerate() {
            let namelen = to_storage(to, &mut self.names[index]);
            // The kernel only reads from here, though the type says otherwise.
            self.vectors[index] =
                iovec { iov_base: bytes.as_ptr().cast_mut().cast::<c_void>(), iov_len: bytes.len() };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast::<c_void>();
            header.msg_namelen = namelen;
            header.msg_iov = &raw mut self.vectors[index];
            header.msg_iovlen = 1;
            count = index + 1;
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: the first `count` headers were initialised above; names and vectors belong to this struct, and the
        // datagrams' bytes are borrowed for `'a`, which outlives this call. `sendmmsg` does not write to them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT as _,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }
}

/// One error the network reported for something sent before (`IP_RECVERR`): its number, and where that was going.
pub fn take_error(socket: BorrowedFd<'_>) -> Option<(i32, SocketAddr)> {
    let mut name = zeroed();
    let mut bytes = [0u8; 64];
    let mut control = [0u64; 64];
    let mut vector = iovec { iov_base: bytes.as_mut_ptr().cast::<c_void>(), iov_len: bytes.len() };
    let mut header = zeroed_header().msg_hdr;
    header.msg_name = (&raw mut name).cast::<c_void>();
    header.msg_namelen = size_of::<sockaddr_storage>() as u32;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast::<c_void>();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: every pointer leads to a local above that outlives the calls, with its true length; the control buffer is
    // aligned for `cmsghdr` (u64), and the CMSG functions stay within what the kernel says it wrote.
    unsafe {
        if libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) < 0 {
            return None;
        }
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while !message.is_null() {
            let (level, kind) = ((*message).cmsg_level, (*message).cmsg_type);
            let v4 = level == libc::IPPROTO_IP && kind == libc::IP_RECVERR;
            let v6 = level == libc::IPPROTO_IPV6 && kind == libc::IPV6_RECVERR;
            if v4 || v6 {
                let error =
                    std::ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::sock_extended_err>());
                return Some((error.ee_errno as i32, from_storage(&name)?));
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    None
}

/// An address of zeros: of no family.
pub(crate) fn zeroed() -> sockaddr_storage {
    // SAFETY: plain numbers; all zeros is `AF_UNSPEC`.
    unsafe { std::mem::zeroed() }
}

fn zeroed_header() -> mmsghdr {
    // SAFETY: null pointers with zero lengths: an empty header.
    unsafe { std::mem::zeroed() }
}

/// Writes an address in the kernel's form; gives back its length.
pub(crate) fn to_storage(address: SocketAddr, storage: &mut sockaddr_storage) -> u32 {
    match address {
        SocketAddr::V4(v4) => {
            let mut raw: sockaddr_in = from_zeros();
            raw.sin_family = libc::AF_INET as _;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            // SAFETY: a `sockaddr_storage` is at least as large and as aligned as any other socket address.
            unsafe { std::ptr::write((&raw mut *storage).cast::<sockaddr_in>(), raw) };
            size_of::<sockaddr_in>() as u32
        }
        SocketAddr::V6(v6) => {
            let mut raw: sockaddr_in6 = from_zeros();
            raw.sin6_family = libc::AF_INET6 as _;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_scope_id = v6.scope_id();
            // SAFETY: as above.
            unsafe { std::ptr::write((&raw mut *storage).cast::<sockaddr_in6>(), raw) };
            size_of::<sockaddr_in6>() as u32
        }
    }
}

/// A socket address of zeros.
fn from_zeros<T: Copy>() -> T {
    // SAFETY: only called for `sockaddr_in` and `sockaddr_in6`, which are plain numbers.
    unsafe { std::mem::zeroed() }
}

fn from_storage(storage: &sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel wrote a `sockaddr_in` here.
            let raw = unsafe { &*(&raw const *storage).cast::<sockaddr_in>() };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(raw.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the kernel wrote a `sockaddr_in6` here.
            let raw = unsafe { &*(&raw const *storage).cast::<sockaddr_in6>() };
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            Some(SocketAddr::new(IpAddr::V6(ip), u16::from_be(raw.sin6_port)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    fn pair(ip: &str) -> (UdpSocket, UdpSocket) {
        (UdpSocket::bind((ip, 0)).unwrap(), UdpSocket::bind((ip, 0)).unwrap())
    }

    #[test]
    fn a_batch_arrives_whole_and_says_where_from() {
        for ip in ["127.0.0.1", "::1"] {
            let (here, there) = pair(ip);
            let to = there.local_addr().unwrap();
            let words: Vec<Vec<u8>> = (0..5u8).map(|n| vec![n; usize::from(n) + 1]).collect();
            let sent = Sender::new(8).send(here.as_fd(), words.iter().map(|word| (to, word.as_slice())));
            assert_eq!(sent.unwrap(), 5);

            let mut receiver = Receiver::new(8, 2048);
            assert_eq!(receiver.receive(there.as_fd()).unwrap(), 5);
            for (index, word) in words.iter().enumerate() {
                let (from, bytes) = receiver.datagram(index).unwrap();
                assert_eq!((from, &*bytes), (here.local_addr().unwrap(), word.as_slice()));
            }
        }
    }

    #[test]
    fn what_is_more_than_was_asked_for_comes_with_the_next_calls() {
        let (here, there) = pair("127.0.0.1");
        let to = there.local_addr().unwrap();
        for number in 0..70u8 {
            here.send_to(&[number], to).unwrap();
        }
        let mut receiver = Receiver::new(32, 64);
        let (mut heard, mut calls) = (Vec::new(), Vec::new());
        loop {
            let taken = receiver.receive(there.as_fd()).unwrap();
            calls.push(taken);
            heard.extend((0..taken).map(|index| receiver.datagram(index).unwrap().1[0]));
            if !receiver.may_have_more() {
                break;
            }
        }
        assert_eq!(heard, (0..70).collect::<Vec<u8>>());
        assert_eq!(calls, [8, 16, 32, 14]);
        for _ in 0..4 {
            assert!(receiver.receive(there.as_fd()).is_err() && !receiver.may_have_more(), "nothing is left");
        }
        here.send_to(&[7], to).unwrap();
        assert_eq!(receiver.receive(there.as_fd()).unwrap(), 1);
    }

    #[test]
    fn a_datagram_that_was_cut_off_is_not_given_out() {
        let (here, there) = pair("127.0.0.1");
        here.send_to(&[7; 100], there.local_addr().unwrap()).unwrap();
        let mut receiver = Receiver::new(1, 64);
        assert_eq!(receiver.receive(there.as_fd()).unwrap(), 1);
        assert!(receiver.datagram(0).is_none());
    }
}
