//! ChannelData (RFC 8656 §12.4, §12.5): what two buddies say to one another through their access server where UDP does not pass
//! for one of them, each by the path it has to the server.
//!
//! ```text
//!  0                   1                   2                   3
//!  |  0x40, channel's low byte     |            length             |
//!  | what is said: SIP, STUN, RTP, padded to 4 bytes | …
//! ```
//!
//! The last channel is a line: what is said by it begins with an address (16 bytes, IPv4 mapped, and 2 of port) that it is to go to,
//! or has come from, as Send and Data indications do it in RFC 8656.
//!
//! A channel's number is one end's own. All begin with 0x40, `@`, which no SIP message and no STUN message begins with, so that
//! the three share a connection.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The first channel.
pub const FIRST: u16 = 0x4000;
/// Channels of one endpoint to buddies, at most.
pub const CHANNELS: usize = 255;
/// The one that leads to proxies and relays.
pub const LINE: u16 = FIRST + CHANNELS as u16;
/// The first byte of all.
pub const MARK: u8 = (FIRST >> 8) as u8;
const HEADER: usize = 4;

/// What is said by a channel, as it goes over a stream or in a datagram.
pub fn wrap(channel: u16, said: &[u8]) -> Vec<u8> {
    let length = said.len().min(usize::from(u16::MAX));
    let mut bytes = Vec::with_capacity(HEADER + length.next_multiple_of(4));
    bytes.extend(channel.to_be_bytes());
    bytes.extend((length as u16).to_be_bytes());
    bytes.extend(&said[..length]);
    bytes.resize(HEADER + length.next_multiple_of(4), 0);
    bytes
}

/// The channel, and what is said by it; `None`: it is something else.
pub fn unwrap(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let [MARK, low, high_length, low_length, ..] = *bytes else { return None };
    let length = usize::from(u16::from_be_bytes([high_length, low_length]));
    Some((FIRST | u16::from(low), bytes.get(HEADER..HEADER + length)?))
}

/// What is said by a line.
pub fn wrap_line(address: SocketAddr, said: &[u8]) -> Vec<u8> {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    wrap(LINE, &[&ip.octets()[..], &address.port().to_be_bytes(), said].concat())
}

/// Where to or where from, and what, of what a line brought.
pub fn read_line(said: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (ip, rest) = said.split_first_chunk::<16>()?;
    let (port, said) = rest.split_first_chunk::<2>()?;
    let ip = IpAddr::V6(Ipv6Addr::from(*ip)).to_canonical();
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), said))
}

/// How long what begins so is in a stream, its padding included; `None`: too little is there, or it is something else.
pub fn length_in_stream(bytes: &[u8]) -> Option<usize> {
    let [MARK, _, high, low, ..] = *bytes else { return None };
    Some(HEADER + usize::from(u16::from_be_bytes([high, low])).next_multiple_of(4))
}

/// Whether these few bytes are the beginning of what is said on a channel, whose length they don't tell yet.
pub fn may_begin(bytes: &[u8]) -> bool {
    bytes.len() < HEADER && bytes.first() == Some(&MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wrapped_is_unwrapped_and_padded_to_four_bytes() {
        for length in 0..9 {
            let said = vec![7; length];
            let bytes = wrap(FIRST + 5, &said);
            assert_eq!((bytes.len() % 4, length_in_stream(&bytes)), (0, Some(bytes.len())));
            assert_eq!(unwrap(&bytes), Some((FIRST + 5, &said[..])));
        }
    }

    #[test]
    fn a_line_brings_an_address_of_either_family() {
        for at in ["192.0.2.1:5060", "[2001:db8::1]:20000"] {
            let at: SocketAddr = at.parse().unwrap();
            let bytes = wrap_line(at, b"said");
            let (channel, inside) = unwrap(&bytes).unwrap();
            assert_eq!((channel, read_line(inside)), (LINE, Some((at, &b"said"[..]))));
        }
        assert_eq!(read_line(&[0; 17]), None);
    }

    #[test]
    fn nothing_else_is_taken_for_it() {
        for bytes in
            [&b"INVITE sip:a SIP/2.0"[..], &[0, 1, 0, 0], b"@", &[0x40, 0, 0, 9, 1], &[0x41, 0, 0, 0]]
        {
            assert_eq!(unwrap(bytes), None, "{bytes:?}");
        }
    }
}
