//! What a relay and the sockets below it say to one another while somebody floods a media port.
//!
//! ```text
//!   relay ── Close(socket, expected) ──▶ host     what is not expected is dropped in the kernel, before anybody reads it
//!         ── Count(sockets) ───────────▶          ◀── Dropped, one for each
//!         ── Open(socket) ─────────────▶          everybody is let in again
//! ```
//! A door never keeps out what the relay would have let pass: [`Expected`] is all that it might, as far as the first bytes of
//! a packet tell. So a party that moves, a check of its ICE and a new description's party come in at once, however long a
//! flood lasts. A host that can't close one answers `Close` with `Dropped { over: true }`.

use std::net::{IpAddr, SocketAddr};

use crate::node::SocketId;
use crate::stun;

/// What the relay wants done with the door of a media socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// Let in this alone, from now on.
    Close(SocketId, Expected),
    /// Say how many packets were dropped so far.
    Count(Vec<SocketId>),
    /// Let everybody in again.
    Open(SocketId),
}

/// Packets that a closed door has kept out since it was closed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The socket.
    pub socket: SocketId,
    /// So many.
    pub packets: u64,
    /// It is not closed any more.
    pub over: bool,
}

/// What may be a packet of a socket's parties. Nothing in it: nobody is expected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// From where.
    pub sources: Vec<Source>,
    /// From anywhere: RTP of one of these sources (RFC 3550 §5.1), or RTCP by one (§6.4).
    pub streams: Vec<u32>,
    /// From anywhere: checks of ICE whose USERNAME begins with these (RFC 8445 §7.2.2).
    pub names: Vec<[u8; 4]>,
}

/// A part of the Internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Its address; of a network, one within.
    pub ip: IpAddr,
    /// How many bits of it count.
    pub bits: u32,
    /// `None`: any.
    pub port: Option<u16>,
}

/// Where an RTP packet has its SSRC, and an RTCP packet its sender's.
pub const RTP_SSRC: usize = 8;
/// See [`RTP_SSRC`].
pub const RTCP_SSRC: usize = 4;
/// Attributes of a check that are looked through for its USERNAME (RFC 8489 §14).
pub const ATTRIBUTES: usize = 8;

impl Source {
    /// One address and port.
    pub fn exactly(at: SocketAddr) -> Source {
        Source { port: Some(at.port()), ..Source::within(at.ip(), 32, 128) }
    }

    /// Everybody whose first bits are those of this address: so many of an IPv4 address, so many of an IPv6 address.
    pub fn within(ip: IpAddr, v4: u32, v6: u32) -> Source {
        let ip = ip.to_canonical();
        Source { ip, bits: if ip.is_ipv4() { v4 } else { v6 }, port: None }
    }

    fn has(&self, from: SocketAddr) -> bool {
        let same = match (self.ip, from.ip().to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= self.bits,
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= self.bits,
            _ => false,
        };
        same && self.port.is_none_or(|port| port == from.port())
    }
}

impl Expected {
    /// The same in one order, everything once.
    pub fn in_order(mut self) -> Expected {
        self.sources.sort_unstable();
        self.sources.dedup();
        self.streams.sort_unstable();
        self.streams.dedup();
        self.names.sort_unstable();
        self.names.dedup();
        self
    }

    /// Whether a closed door lets this packet in.
    pub fn lets_in(&self, from: SocketAddr, bytes: &[u8]) -> bool {
        let stream =
            |at| word(bytes, at).is_some_and(|ssrc| self.streams.contains(&u32::from_be_bytes(ssrc)));
        self.sources.iter().any(|source| source.has(from))
            || stream(RTCP_SSRC)
            || stream(RTP_SSRC)
            || !self.names.is_empty() && name_of(bytes).is_some_and(|name| self.names.contains(&name))
    }
}

/// The first bytes of a check's USERNAME.
fn name_of(bytes: &[u8]) -> Option<[u8; 4]> {
    if word(bytes, stun::COOKIE_AT)? != stun::COOKIE.to_be_bytes() {
        return None;
    }
    let mut at = stun::HEADER_LEN;
    for _ in 0..ATTRIBUTES {
        let [kind, length] = [at, at + 2].map(|at| half(bytes, at));
        if kind? == stun::attribute::USERNAME {
            return word(bytes, at + 4);
        }
        at += 4 + usize::from(length?).next_multiple_of(4);
    }
    None
}

fn word(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..at + 4)?.try_into().ok()
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::{Class, Writer, attribute};

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn from(source: Source) -> Expected {
        Expected { sources: vec![source], ..Expected::default() }
    }

    #[test]
    fn a_source_is_its_address_and_port_or_its_network() {
        let party = from(Source::exactly(at("203.0.113.9:4000")));
        let tried = ["203.0.113.9:4000", "[::ffff:203.0.113.9]:4000", "203.0.113.9:4001", "203.0.113.8:4000"];
        assert_eq!(tried.map(|from| party.lets_in(at(from), &[])), [true, true, false, false]);
        let block = from(Source::within("203.0.113.9".parse().unwrap(), 24, 48));
        let tried =
            ["203.0.113.0:1", "203.0.113.255:2", "203.0.112.255:1", "203.0.114.0:1", "[2001:db8::1]:1"];
        assert_eq!(tried.map(|from| block.lets_in(at(from), &[])), [true, true, false, false, false]);
        let six = from(Source::within("2001:db8:1:2::1".parse().unwrap(), 32, 64));
        let tried = ["[2001:db8:1:2:ffff::9]:1", "[2001:db8:1:3::1]:1", "[2001:db8:1:1:ffff::]:1"];
        assert_eq!(tried.map(|from| six.lets_in(at(from), &[])), [true, false, false]);
    }

    #[test]
    fn a_stream_is_known_by_its_ssrc_wherever_it_comes_from() {
        let party = Expected { streams: vec![0x1234_5678], ..Expected::default() };
        let rtp = |ssrc: u32| [&[0x80, 0, 0, 1, 0, 0, 0, 0][..], &ssrc.to_be_bytes()].concat();
        let rtcp = |ssrc: u32| [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes()].concat();
        let lets_in = |bytes: &[u8]| party.lets_in(at("192.0.2.66:9"), bytes);
        assert_eq!([0x1234_5678, 0x1234_5679].map(|ssrc| lets_in(&rtp(ssrc))), [true, false]);
        assert_eq!([0x1234_5678, 0x1234_5679].map(|ssrc| lets_in(&rtcp(ssrc))), [true, false]);
        assert!(!lets_in(&rtp(0x1234_5678)[..11]), "cut off");
    }

    #[test]
    fn a_check_is_known_by_the_name_it_is_for_wherever_it_stands() {
        let party = Expected { names: vec![*b"abcd"], ..Expected::default() };
        let check = |name: &str, before: usize| {
            let before = (0..before).map(|n| vec![n as u8; n]);
            let writer = Writer::new(Class::Request, [7; 12]);
            let writer = before.fold(writer, |writer, value| writer.attribute(0x8055, &value));
            writer.attribute(attribute::USERNAME, name.as_bytes()).sign(b"whatever")
        };
        let lets_in = |bytes: &[u8]| party.lets_in(at("192.0.2.66:9"), bytes);
        assert_eq!(
            [0, 1, 7, 8].map(|before| lets_in(&check("abcdEFGH:x", before))),
            [true, true, true, false]
        );
        assert!(!lets_in(&check("abce:x", 0)));
        let mut other = check("abcdEFGH:x", 0);
        other[7] ^= 1;
        assert!(!lets_in(&other), "no STUN");
    }

    #[test]
    fn nobody_is_let_in_where_nobody_is_expected() {
        let nobody = Expected::default();
        assert!(
            [&[][..], &[0; 12], &[0x80; 200]].iter().all(|bytes| !nobody.lets_in(at("192.0.2.66:9"), bytes))
        );
    }
}
