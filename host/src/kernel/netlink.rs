//! What the kernel knows of routes, neighbours and interfaces (rtnetlink(7)): asked, and heard when it changes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// Bytes of `nlmsghdr`, `rtmsg`, `ndmsg` and `ifinfomsg`.
const HEAD: usize = 16;
const ROUTE: usize = 12;
const NEIGHBOUR: usize = 12;
const LINK: usize = 16;
/// The largest message taken.
const MESSAGE: usize = 32_768;
/// Of an attribute's type: what is not the name.
const NAME: u16 = 0x3fff;
const IFLA_ADDRESS: u16 = 1;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;

/// Where a packet goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hop {
    /// The interface it leaves by.
    pub(super) interface: u32,
    /// Who takes it there; `None`: a gateway of the other family.
    pub(super) next: Option<IpAddr>,
}

/// An address on the Ethernet.
pub(super) type Ethernet = [u8; 6];

/// What is needed of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) address: Ethernet,
    /// One end of a virtual cable (veth, netkit) whose other end is in another network namespace.
    pub(super) cable: bool,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A neighbour's address; `None`: it is not known any more.
    Neighbour(Hop, Option<Ethernet>),
    /// Routes, rules or interfaces: what was asked may not be true any more.
    Ways,
}

/// Where a packet for `to` goes; `None`: it does not leave this machine, or there is no route.
pub(super) fn hop(from: IpAddr, to: IpAddr) -> io::Result<Option<Hop>> {
    let (family, bits) = if to.is_ipv4() { (libc::AF_INET, 32) } else { (libc::AF_INET6, 128) };
    // rtmsg: family, lengths of destination and source in bits; the rest is the kernel's to say.
    let mut body = vec![family as u8, bits, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    attribute(&mut body, libc::RTA_DST, to);
    attribute(&mut body, libc::RTA_SRC, from);
    Ok(messages(&ask(libc::RTM_GETROUTE, &body)?).find_map(|(kind, body)| read_hop(kind, body, to)))
}

/// A neighbour's address, if the kernel knows one.
pub(super) fn neighbour(hop: Hop) -> Option<Ethernet> {
    let next = hop.next?;
    let mut body = vec![0; NEIGHBOUR];
    body[0] = if next.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
    body[4..8].copy_from_slice(&hop.interface.to_ne_bytes());
    attribute(&mut body, libc::NDA_DST, next);
    let answer = ask(libc::RTM_GETNEIGH, &body).ok()?;
    let found = messages(&answer).find_map(|(kind, body)| read_neighbour(kind, body))?;
    found.1.filter(|_| found.0 == hop)
}

/// An Ethernet interface, by its number.
pub(super) fn link(number: u32) -> Option<Link> {
    let mut body = vec![0; LINK];
    body[4..8].copy_from_slice(&number.to_ne_bytes());
    let answer = ask(libc::RTM_GETLINK, &body).ok()?;
    messages(&answer).find_map(|(kind, body)| read_link(kind, body))
}

/// A subscription to all that changes.
#[derive(Debug)]
pub(super) struct Watch(OwnedFd);

impl Watch {
    pub(super) fn new() -> io::Result<Watch> {
        let socket = open()?;
        let groups = libc::RTMGRP_LINK
            | libc::RTMGRP_NEIGH
            | libc::RTMGRP_IPV4_ROUTE
            | libc::RTMGRP_IPV6_ROUTE
            | libc::RTMGRP_IPV4_RULE
            | 1 << (libc::RTNLGRP_IPV6_RULE - 1);
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups as u32))?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(1))?;
        Ok(Watch(socket))
    }

    /// Waits a second at most. Who misses something takes it that all has changed.
    pub(super) fn next(&self) -> io::Result<Vec<Change>> {
        let mut bytes = vec![0; MESSAGE];
        match recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            Ok(length) => {
                let heard = messages(bytes.get(..length).unwrap_or_default());
                Ok(heard.filter_map(|(kind, body)| change(kind, body)).collect())
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(Vec::new()),
            Err(nix::Error::ENOBUFS) => Ok(vec![Change::Ways]),
            Err(error) => Err(error.into()),
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let kind = SockFlag::SOCK_CLOEXEC;
    Ok(socket(AddressFamily::Netlink, SockType::Raw, kind, SockProtocol::NetlinkRoute)?)
}

fn ask(kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
    let socket = open()?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100))?;
    let mut question = vec![0; HEAD];
    question.extend(body);
    let length = question.len() as u32;
    question[..4].copy_from_slice(&length.to_ne_bytes());
    question[4..6].copy_from_slice(&kind.to_ne_bytes());
    question[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    send(socket.as_raw_fd(), &question, MsgFlags::empty())?;
    let mut answer = vec![0; MESSAGE];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

fn attribute(body: &mut Vec<u8>, name: u16, ip: IpAddr) {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    body.extend((4 + octets.len() as u16).to_ne_bytes());
    body.extend(name.to_ne_bytes());
    body.extend(octets);
}

/// Kinds and bodies.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = u32_at(rest, 0)? as usize;
        let message = (u16_at(rest, 4)?, rest.get(HEAD..length)?);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Names and values.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let attribute = (u16_at(rest, 2)? & NAME, rest.get(4..length)?);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(attribute)
    })
}

fn read_hop(kind: u16, body: &[u8], to: IpAddr) -> Option<Hop> {
    if kind != libc::RTM_NEWROUTE || *body.get(7)? != libc::RTN_UNICAST {
        return None;
    }
    let mut hop = Hop { interface: 0, next: Some(to) };
    for (name, value) in attributes(body.get(ROUTE..)?) {
        match name {
            libc::RTA_OIF => hop.interface = u32_at(value, 0)?,
            libc::RTA_GATEWAY => hop.next = ip(value),
            libc::RTA_VIA => hop.next = None,
            _ => {}
        }
    }
    (hop.interface != 0).then_some(hop)
}

fn read_neighbour(kind: u16, body: &[u8]) -> Option<(Hop, Option<Ethernet>)> {
    if !matches!(kind, libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH) {
        return None;
    }
    let usable =
        libc::NUD_REACHABLE | libc::NUD_STALE | libc::NUD_DELAY | libc::NUD_PROBE | libc::NUD_PERMANENT;
    let known = kind == libc::RTM_NEWNEIGH && u16_at(body, 8)? & usable != 0;
    let (mut next, mut address) = (None, None);
    for (name, value) in attributes(body.get(NEIGHBOUR..)?) {
        match name {
            libc::NDA_DST => next = ip(value),
            libc::NDA_LLADDR => address = Ethernet::try_from(value).ok(),
            _ => {}
        }
    }
    Some((Hop { interface: u32_at(body, 4)?, next: Some(next?) }, address.filter(|_| known)))
}

fn read_link(kind: u16, body: &[u8]) -> Option<Link> {
    if kind != libc::RTM_NEWLINK {
        return None;
    }
    let (mut address, mut cable, mut elsewhere) = (None, false, false);
    for (name, value) in attributes(body.get(LINK..)?) {
        match name {
            IFLA_ADDRESS => address = Ethernet::try_from(value).ok(),
            IFLA_LINK_NETNSID => elsewhere = true,
            IFLA_LINKINFO => {
                let kind = attributes(value).find(|(name, _)| *name == IFLA_INFO_KIND);
                cable = kind.is_some_and(|(_, kind)| matches!(kind, b"veth\0" | b"netkit\0"));
            }
            _ => {}
        }
    }
    Some(Link { address: address?, cable: cable && elsewhere })
}

fn change(kind: u16, body: &[u8]) -> Option<Change> {
    match kind {
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => {
            read_neighbour(kind, body).map(|(hop, address)| Change::Neighbour(hop, address))
        }
        libc::RTM_NEWROUTE
        | libc::RTM_DELROUTE
        | libc::RTM_NEWRULE
        | libc::RTM_DELRULE
        | libc::RTM_NEWLINK
        | libc::RTM_DELLINK => Some(Change::Ways),
        _ => None,
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))).ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLADDR: Ethernet = [2, 0, 0, 0, 0, 9];

    fn attribute_of(name: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(name.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn what_is_for_this_machine_leaves_by_no_interface() {
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(hop(here, here).unwrap(), None);
    }

    #[test]
    fn a_route_leads_to_its_gateway_or_to_the_party_itself() {
        let to: IpAddr = "203.0.113.5".parse().unwrap();
        let mut body = vec![0; ROUTE];
        body[7] = libc::RTN_UNICAST;
        assert_eq!(read_hop(libc::RTM_NEWROUTE, &body, to), None, "by no interface");
        body.extend(attribute_of(libc::RTA_OIF, &7u32.to_ne_bytes()));
        let direct = Hop { interface: 7, next: Some(to) };
        assert_eq!(read_hop(libc::RTM_NEWROUTE, &body, to), Some(direct));
        let mut by_gateway = body.clone();
        by_gateway.extend(attribute_of(libc::RTA_GATEWAY, &[192, 0, 2, 1]));
        let gateway = Hop { interface: 7, next: Some("192.0.2.1".parse().unwrap()) };
        assert_eq!(read_hop(libc::RTM_NEWROUTE, &by_gateway, to), Some(gateway));
        body.extend(attribute_of(libc::RTA_VIA, &[10, 0, 0xfe, 0x80]));
        assert_eq!(
            read_hop(libc::RTM_NEWROUTE, &body, to),
            Some(Hop { interface: 7, next: None }),
            "of the other family"
        );
        body[7] = libc::RTN_LOCAL;
        assert_eq!(read_hop(libc::RTM_NEWROUTE, &body, to), None);
    }

    fn neighbour_message(state: u16, address: Option<Ethernet>) -> Vec<u8> {
        let mut body = vec![0; NEIGHBOUR];
        body[4..8].copy_from_slice(&7u32.to_ne_bytes());
        body[8..10].copy_from_slice(&state.to_ne_bytes());
        body.extend(attribute_of(libc::NDA_DST, &[192, 0, 2, 1]));
        address.iter().for_each(|address| body.extend(attribute_of(libc::NDA_LLADDR, address)));
        body
    }

    #[test]
    fn a_neighbour_has_an_address_while_the_kernel_would_send_to_it() {
        let hop = Hop { interface: 7, next: Some("192.0.2.1".parse().unwrap()) };
        let heard = |kind, state, address| change(kind, &neighbour_message(state, address));
        for state in [libc::NUD_REACHABLE, libc::NUD_STALE, libc::NUD_PROBE, libc::NUD_PERMANENT] {
            let known = Some(Change::Neighbour(hop, Some(LLADDR)));
            assert_eq!(heard(libc::RTM_NEWNEIGH, state, Some(LLADDR)), known);
        }
        let unknown = Some(Change::Neighbour(hop, None));
        assert_eq!(heard(libc::RTM_NEWNEIGH, libc::NUD_FAILED, Some(LLADDR)), unknown);
        assert_eq!(heard(libc::RTM_NEWNEIGH, libc::NUD_INCOMPLETE, None), unknown);
        assert_eq!(heard(libc::RTM_DELNEIGH, libc::NUD_STALE, Some(LLADDR)), unknown);
    }

    #[test]
    fn a_cable_is_one_that_leads_to_another_namespace() {
        let link = |kind: &[u8], elsewhere: bool| {
            let mut body = vec![0; LINK];
            body.extend(attribute_of(IFLA_ADDRESS, &LLADDR));
            body.extend(attribute_of(IFLA_LINKINFO | 0x8000, &attribute_of(IFLA_INFO_KIND, kind)));
            if elsewhere {
                body.extend(attribute_of(IFLA_LINK_NETNSID, &0u32.to_ne_bytes()));
            }
            read_link(libc::RTM_NEWLINK, &body).unwrap()
        };
        assert_eq!(link(b"veth\0", true), Link { address: LLADDR, cable: true });
        assert!(!link(b"veth\0", false).cable);
        assert!(!link(b"macvlan\0", true).cable);
    }

    #[test]
    fn what_is_cut_off_says_nothing() {
        let whole = neighbour_message(libc::NUD_REACHABLE, Some(LLADDR));
        for length in 0..NEIGHBOUR + 8 {
            assert_eq!(change(libc::RTM_NEWNEIGH, &whole[..length]), None, "{length} bytes");
        }
        assert_eq!(messages(&[200, 0, 0, 0, 28, 0, 0, 0]).count(), 0);
    }
}
