//! UDP sockets of listeners and media ports: how they are opened, and how the network's complaints are read.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use proto::node::SendError;
use socket2::{Domain, Protocol, Socket, Type};

use super::door;
use crate::succession::inherited;

/// What the kernel may queue for a SIP listener: bursts of registrations after a power cut are long.
const SIP_BUFFER: usize = 4 << 20;
/// What the kernel may queue for a media port: a second of several streams.
const MEDIA_BUFFER: usize = 256 << 10;

/// Opens a SIP listener. `shared`: other lanes of this process listen at the same address.
pub fn listen(local: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = open(local)?;
    socket.set_reuse_port(shared)?;
    let _ = socket.set_recv_buffer_size(SIP_BUFFER);
    let _ = socket.set_send_buffer_size(SIP_BUFFER);
    report_errors(&socket, local.is_ipv6())?;
    socket.bind(&local.into())?;
    Ok(socket.into())
}

/// Opens a media port, and says where: the kernel is only asked when it was to choose.
pub fn media(local: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    if let Some(socket) = inherited::media(local) {
        // It may have been flooded; if it still is, its door will be closed again.
        door::open(socket.as_fd())?;
        return Ok((socket, local));
    }
    let socket = open(local)?;
    let _ = socket.set_recv_buffer_size(MEDIA_BUFFER);
    socket.bind(&local.into())?;
    let socket = UdpSocket::from(socket);
    let local = if local.port() == 0 { socket.local_addr()? } else { local };
    Ok((socket, local))
}

fn open(local: SocketAddr) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking();
    let socket = Socket::new(Domain::for_address(local), kind, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Asks for ICMP errors to be queued with the address they are about (ip(7), `IP_RECVERR`).
fn report_errors(socket: &Socket, v6: bool) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    match v6 {
        true => setsockopt(&socket.as_fd(), sockopt::Ipv6RecvErr, &true)?,
        false => setsockopt(&socket.as_fd(), sockopt::Ipv4RecvErr, &true)?,
    }
    Ok(())
}

/// What an error number of a socket means to the sender; `None`: try again.
pub fn send_error(number: i32) -> Option<SendError> {
    match number {
        libc::EAGAIN | libc::EINTR => None,
        libc::ECONNREFUSED => Some(SendError::Refused),
        libc::EMSGSIZE => Some(SendError::TooLarge),
        libc::ENOBUFS | libc::ENOMEM => Some(SendError::Busy),
        libc::ETIMEDOUT => Some(SendError::TimedOut),
        _ => Some(SendError::Unreachable),
    }
}
