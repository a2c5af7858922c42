//! Which interface a packet for an address leaves by, asked of the kernel (rtnetlink, `RTM_GETROUTE`).

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

const HEAD: usize = 16;
const ROUTE: usize = 12;

/// The number of the interface; `None`: it does not leave this machine, or there is no route.
pub(super) fn interface(from: IpAddr, to: IpAddr) -> io::Result<Option<u32>> {
    let kind = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, kind, SockProtocol::NetlinkRoute)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100))?;
    send(socket.as_raw_fd(), &question(from, to), MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    Ok(answer.get(..length).and_then(read))
}

fn question(from: IpAddr, to: IpAddr) -> Vec<u8> {
    let (family, bits) = if to.is_ipv4() { (libc::AF_INET, 32) } else { (libc::AF_INET6, 128) };
    let mut message = vec![0; HEAD];
    // rtmsg: family, lengths of destination and source in bits; the rest is the kernel's to say.
    message.extend([family as u8, bits, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (name, ip) in [(libc::RTA_DST, to), (libc::RTA_SRC, from)] {
        let octets = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        message.extend((4 + octets.len() as u16).to_ne_bytes());
        message.extend(name.to_ne_bytes());
        message.extend(octets);
    }
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&libc::RTM_GETROUTE.to_ne_bytes());
    message[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message
}

fn read(answer: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let unicast = *answer.get(HEAD + 7)? == libc::RTN_UNICAST;
    if kind != libc::RTM_NEWROUTE || !unicast {
        return None;
    }
    let mut rest = answer.get(HEAD + ROUTE..)?;
    while let Some((head, _)) = rest.split_at_checked(4) {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        if u16::from_ne_bytes([head[2], head[3]]) == libc::RTA_OIF {
            return Some(u32::from_ne_bytes(rest.get(4..8)?.try_into().ok()?));
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_this_machine_leaves_by_no_interface() {
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(interface(here, here).unwrap(), None);
    }

    #[test]
    fn an_answer_that_is_cut_off_names_nothing() {
        let mut answer = vec![0; HEAD + ROUTE];
        answer[4..6].copy_from_slice(&libc::RTM_NEWROUTE.to_ne_bytes());
        answer[HEAD + 7] = libc::RTN_UNICAST;
        answer.extend([8, 0]);
        answer.extend(libc::RTA_OIF.to_ne_bytes());
        assert_eq!(read(&answer), None);
        answer.extend(7u32.to_ne_bytes());
        assert_eq!(read(&answer), Some(7));
    }
}
