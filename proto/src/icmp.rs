//! ICMP errors about UDP datagrams (RFC 792, RFC 4443): which one was not delivered, and why.
//!
//! ```text
//!  0        1        2                4                8
//!  | type 3 | code   | checksum       | unused         | the datagram it is about, IP header first, cut off somewhere |
//!  | or 1   |
//! ```
//!
//! Nothing proves who sent one (RFC 5927): it is a hint, and what it quotes must be held against what was really sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

/// A datagram that did not arrive, as somebody says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// Where it was sent from: an address of ours.
    pub from: SocketAddr,
    /// Where to.
    pub to: SocketAddr,
    /// Why it did not arrive.
    pub why: Unreachable,
    /// What is quoted of its payload.
    pub head: Bytes,
}

/// Why a datagram did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The host is there, and nobody listens at the port.
    Port,
    /// The host does not answer.
    Host,
    /// There is no way to its network.
    Network,
    /// A firewall forbids it.
    Prohibited,
}

impl Unreachable {
    /// In words that follow “ICMP: ”.
    pub fn words(self) -> &'static str {
        match self {
            Unreachable::Port => "port unreachable",
            Unreachable::Host => "host unreachable",
            Unreachable::Network => "network unreachable",
            Unreachable::Prohibited => "prohibited by a firewall",
        }
    }

    fn of_v4(code: u8) -> Option<Unreachable> {
        match code {
            0 | 6 | 11 => Some(Unreachable::Network),
            1 | 7 | 8 | 12 => Some(Unreachable::Host),
            3 => Some(Unreachable::Port),
            9 | 10 | 13 => Some(Unreachable::Prohibited),
            _ => None,
        }
    }

    fn of_v6(code: u8) -> Option<Unreachable> {
        match code {
            0 => Some(Unreachable::Network),
            2 | 3 => Some(Unreachable::Host),
            4 => Some(Unreachable::Port),
            1 | 5 | 6 => Some(Unreachable::Prohibited),
            _ => None,
        }
    }
}

const HEADER: usize = 8;
const UDP: u8 = 17;

/// An ICMP message with its IPv4 header in front; `None`: it is about something else.
pub fn read_v4(packet: &[u8]) -> Option<Undelivered> {
    let message = packet.get(4 * usize::from(packet.first()? & 0x0f)..)?;
    let (&[3, code, ..], quoted) = message.split_at_checked(HEADER)? else { return None };
    let first = *quoted.first()?;
    let unfragmented = u16::from_be_bytes(array(quoted, 6)?) & 0x1fff == 0;
    if first >> 4 != 4 || *quoted.get(9)? != UDP || !unfragmented {
        return None;
    }
    let ips = [array(quoted, 12)?, array(quoted, 16)?].map(|ip| Ipv4Addr::from(ip).into());
    undelivered(ips, quoted.get(4 * usize::from(first & 0x0f)..)?, Unreachable::of_v4(code)?)
}

/// An ICMPv6 message; `None`: it is about something else.
pub fn read_v6(message: &[u8]) -> Option<Undelivered> {
    let (&[1, code, ..], quoted) = message.split_at_checked(HEADER)? else { return None };
    if quoted.first()? >> 4 != 6 || *quoted.get(6)? != UDP {
        return None;
    }
    let ips = [array(quoted, 8)?, array(quoted, 24)?].map(|ip| Ipv6Addr::from(ip).into());
    undelivered(ips, quoted.get(40..)?, Unreachable::of_v6(code)?)
}

fn undelivered([from, to]: [IpAddr; 2], datagram: &[u8], why: Unreachable) -> Option<Undelivered> {
    let [from_port, to_port] = [array(datagram, 0)?, array(datagram, 2)?].map(u16::from_be_bytes);
    Some(Undelivered {
        from: SocketAddr::new(from, from_port),
        to: SocketAddr::new(to, to_port),
        why,
        head: Bytes::copy_from_slice(datagram.get(8..).unwrap_or_default()),
    })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What 192.0.2.9 says of a datagram from 192.0.2.1:30000 to 192.0.2.9:4000.
    fn v4(code: u8, protocol: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 9, 192, 0, 2, 1];
        packet.extend([3, code, 0, 0, 0, 0, 0, 0]);
        packet.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 63, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 9]);
        packet.extend([0x75, 0x30, 0x0f, 0xa0, 0, 20, 0, 0]);
        packet.extend(*b"\x80\x00rtp");
        packet
    }

    fn v6(code: u8) -> Vec<u8> {
        let (a, b): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "2001:db8::9".parse().unwrap());
        let mut packet = vec![1, code, 0, 0, 0, 0, 0, 0, 0x60, 0, 0, 0, 0, 20, UDP, 63];
        packet.extend(a.octets().iter().chain(&b.octets()));
        packet.extend([0x75, 0x30, 0x0f, 0xa0, 0, 20, 0, 0]);
        packet.extend(*b"\x80\x00rtp");
        packet
    }

    #[test]
    fn a_closed_port_is_read_with_the_datagram_it_is_about() {
        let read = read_v4(&v4(3, UDP)).unwrap();
        assert_eq!(
            (read.from.to_string(), read.to.to_string()),
            ("192.0.2.1:30000".into(), "192.0.2.9:4000".into())
        );
        assert_eq!((read.why, &read.head[..]), (Unreachable::Port, &b"\x80\x00rtp"[..]));
        let read = read_v6(&v6(4)).unwrap();
        assert_eq!(read.from, "[2001:db8::1]:30000".parse().unwrap());
        assert_eq!(read.to, "[2001:db8::9]:4000".parse().unwrap());
        assert_eq!((read.why, &read.head[..]), (Unreachable::Port, &b"\x80\x00rtp"[..]));
    }

    #[test]
    fn codes_are_read_as_the_rfcs_have_them() {
        let v4_table = [(0, Some(Unreachable::Network)), (1, Some(Unreachable::Host)), (4, None)];
        for (code, why) in v4_table.into_iter().chain([(13, Some(Unreachable::Prohibited))]) {
            assert_eq!(read_v4(&v4(code, UDP)).map(|read| read.why), why, "{code}");
        }
        let v6_table = [
            (0, Some(Unreachable::Network)),
            (1, Some(Unreachable::Prohibited)),
            (3, Some(Unreachable::Host)),
        ];
        for (code, why) in v6_table {
            assert_eq!(read_v6(&v6(code)).map(|read| read.why), why, "{code}");
        }
    }

    #[test]
    fn what_is_cut_off_or_about_something_else_is_nothing() {
        assert_eq!(read_v4(&v4(3, 6)), None, "TCP");
        for (whole, read) in [(v4(3, UDP), read_v4 as fn(&[u8]) -> Option<Undelivered>), (v6(4), read_v6)] {
            let payload = 5;
            for len in 0..whole.len() - payload - 4 {
                assert_eq!(read(&whole[..len]), None, "{len}");
            }
            assert!(read(&whole[..whole.len() - payload]).unwrap().head.is_empty());
        }
        let mut later_fragment = v4(3, UDP);
        later_fragment[20 + 8 + 7] = 9;
        assert_eq!(read_v4(&later_fragment), None);
    }
}
