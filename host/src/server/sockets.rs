//! Opens the sockets a process listens on, and says why one can't be had.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use proto::node::Transport;

use super::StartError;
use crate::config::values::SipAddress;
use crate::config::{Settings, lower};
use crate::limits;
use crate::net::udp;
use crate::succession::inherited;

/// One socket for each lane. Several share the address; that another process has it is found out first.
pub(crate) fn open_udp(
    address: SipAddress,
    count: usize,
) -> Result<Vec<(UdpSocket, SocketAddr)>, StartError> {
    let mut local = address.addr;
    if let Some(sockets) = inherited::datagrams(local, count) {
        return Ok(sockets.into_iter().map(|socket| (socket, local)).collect());
    }
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
    if let Some(listener) = inherited::streams(address.addr) {
        return Ok(listener);
    }
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

/// Why an address can't be had, and what to do: the cause is looked for, since the system's words name it by halves.
pub(super) fn cannot_listen(address: SipAddress, error: &std::io::Error) -> StartError {
    let (cause, remedy) = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            match limits::owner(address.transport == Transport::Udp, address.addr) {
                Some(whose) => {
                    (format!("{whose} has it"), "stop that one, or choose another port".to_owned())
                }
                None => (
                    "another process has it".to_owned(),
                    "`ss -lnp` as root names it: stop that one, or choose another port".to_owned(),
                ),
            }
        }
        std::io::ErrorKind::PermissionDenied => {
            let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
            let first = first.map_or_else(|_| "1024".to_owned(), |words| words.trim().to_owned());
            (
                format!("ports below {first} are for the privileged"),
                format!(
                    "give it CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=), or a port from {first} on"
                ),
            )
        }
        std::io::ErrorKind::AddrNotAvailable => (
            format!("{} is not an address of this machine", address.addr.ip()),
            "choose one that `ip address` shows; one that comes later (VRRP, DHCP) needs sysctl \
             net.ipv4.ip_nonlocal_bind=1"
                .to_owned(),
        ),
        _ => (error.to_string(), "choose an address that `ip address` shows".to_owned()),
    };
    StartError { what: format!("cannot listen on {address}: {cause} ({error})"), remedy, at: Some(address) }
}

/// Media ports at which the relay can't be met, since others have them: a warning, or, when it is all of them, an error.
pub(super) fn media_ports(settings: &Settings) -> Result<Option<String>, StartError> {
    let Some(relay) = &settings.file.relay else { return Ok(None) };
    let binds: Vec<_> = lower::relay_networks(settings, relay).map(|(_, network)| network.bind).collect();
    let Some((count, first, whose)) = limits::taken(relay.ports, &binds) else { return Ok(None) };
    let what = format!("{count} of the media ports {} are somebody else's: {whose} has {first}", relay.ports);
    if count < relay.ports.count() as usize {
        return Ok(Some(format!("{what}; they are left out: choose other `relay.ports`, or stop that one")));
    }
    Err(StartError { what, remedy: "choose other `relay.ports`, or stop that one".to_owned(), at: None })
}
