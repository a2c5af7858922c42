//! Opens the sockets a process listens on, and says why one can't be had.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::StartError;
use crate::config::values::SipAddress;
use crate::net::udp;

/// One socket for each lane. Several share the address; that another process has it is found out first.
pub(crate) fn open_udp(
    address: SipAddress,
    count: usize,
) -> Result<Vec<(UdpSocket, SocketAddr)>, StartError> {
    let mut local = address.addr;
    if count > 1 && local.port() != 0 {
        udp::listen(local, false).map_err(|error| cannot_listen(address, &error))?;
    }
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = udp::listen(local, count > 1).map_err(|error| cannot_listen(address, &error))?;
        local = socket.local_addr().map_err(|error| cannot_listen(address, &error))?;
        sockets.push((socket, local));
    }
    Ok(sockets)
}

pub(super) fn open_tcp(address: SipAddress) -> Result<TcpListener, StartError> {
    let open = || {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(address.addr), socket2::Type::STREAM, None)?;
        if address.addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.addr.into())?;
        socket.listen(1024)?;
        Ok(socket.into())
    };
    open().map_err(|error| cannot_listen(address, &error))
}

pub(super) fn cannot_listen(address: SipAddress, error: &std::io::Error) -> StartError {
    let remedy = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another process has it (`ss -lnp` names it): stop that one, or choose another port"
        }
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one"
        }
        _ => "choose an address that `ip address` shows",
    };
    StartError { what: format!("cannot listen on {address}: {error}"), remedy: remedy.into() }
}

/// As many open files as this process may have: each media port is one.
pub(super) fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
