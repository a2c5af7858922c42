//! Datagrams that die after a few routers (the IPv4 TTL, the IPv6 hop limit), from a socket whose others don't.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

/// Sends one.
pub fn send(socket: BorrowedFd<'_>, to: SocketAddr, bytes: &[u8], hops: u8) -> io::Result<()> {
    let hops = i32::from(hops);
    let limit = match to {
        SocketAddr::V4(_) => ControlMessage::Ipv4Ttl(&hops),
        SocketAddr::V6(_) => ControlMessage::Ipv6HopLimit(&hops),
    };
    let to = SockaddrStorage::from(to);
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], &[limit], MsgFlags::MSG_DONTWAIT, Some(&to))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use nix::sys::socket::{ControlMessageOwned, recvmsg, setsockopt, sockopt};

    use super::*;

    /// The TTL the next datagram arrived with.
    fn arrived_with(socket: &UdpSocket) -> Option<i32> {
        let (mut bytes, mut space) = ([0; 64], nix::cmsg_space!(i32));
        let mut into = [std::io::IoSliceMut::new(&mut bytes)];
        let message =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut into, Some(&mut space), MsgFlags::empty());
        message.unwrap().cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::Ipv4Ttl(ttl) => Some(ttl),
            _ => None,
        })
    }

    #[test]
    fn only_the_probe_is_short_lived() {
        let [here, there] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        setsockopt(&there, sockopt::Ipv4RecvTtl, &true).unwrap();
        let to = there.local_addr().unwrap();
        send(here.as_fd(), to, b"probe", 3).unwrap();
        here.send_to(b"other", to).unwrap();
        assert_eq!(arrived_with(&there), Some(3));
        assert!(arrived_with(&there) > Some(3));
    }
}
