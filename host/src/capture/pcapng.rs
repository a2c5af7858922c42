//! pcapng (draft-ietf-opsawg-pcapng), as little of it as recordings need: one section, an interface for each party,
//! enhanced packet blocks. Link type RAW: each packet begins with an IP header, which is made up from the addresses it
//! really had.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// LINKTYPE_RAW: IPv4 or IPv6.
const RAW: u16 = 101;
const OPT_COMMENT: u16 = 1;
const IF_NAME: u16 = 2;

/// The file's beginning: the section, and an interface for each name.
pub fn head(out: &mut Vec<u8>, interfaces: &[&str], comment: &str) {
    let mut body = Vec::new();
    body.extend(BYTE_ORDER.to_le_bytes());
    body.extend([1, 0, 0, 0]);
    body.extend((-1i64).to_le_bytes());
    option(&mut body, OPT_COMMENT, comment);
    block(out, SECTION, &body);
    for name in interfaces {
        let mut body = Vec::new();
        body.extend(RAW.to_le_bytes());
        body.extend([0; 6]);
        option(&mut body, IF_NAME, name);
        block(out, INTERFACE, &body);
    }
}

/// A datagram that came on an interface.
pub fn packet(
    out: &mut Vec<u8>,
    interface: u32,
    at: SystemTime,
    from: SocketAddr,
    to: SocketAddr,
    datagram: &[u8],
) {
    let micros = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
    let raw = with_headers(from, to, datagram);
    let length = raw.len() as u32;
    let mut body = Vec::with_capacity(raw.len() + 24);
    for word in [interface, (micros >> 32) as u32, micros as u32, length, length] {
        body.extend(word.to_le_bytes());
    }
    body.extend(&raw);
    pad(&mut body);
    block(out, PACKET, &body);
}

fn block(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let length = body.len() as u32 + 12;
    out.extend(kind.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(body);
    out.extend(length.to_le_bytes());
}

fn option(body: &mut Vec<u8>, code: u16, text: &str) {
    body.extend(code.to_le_bytes());
    body.extend((text.len() as u16).to_le_bytes());
    body.extend(text.bytes());
    pad(body);
    body.extend([0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// IP and UDP headers before a datagram. An IPv4 address in IPv6's clothes is IPv4.
fn with_headers(from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> Vec<u8> {
    let udp_length = datagram.len() + 8;
    let mut out = Vec::with_capacity(udp_length + 40);
    match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let total = (udp_length + 20) as u16;
            out.extend([0x45, 0]);
            out.extend(total.to_be_bytes());
            out.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
            out.extend(source.octets());
            out.extend(target.octets());
            let sum = checksum(&out);
            out[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (source, target) => {
            let six = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            out.extend([0x60, 0, 0, 0]);
            out.extend((udp_length as u16).to_be_bytes());
            out.extend([17, 64]);
            out.extend(six(source));
            out.extend(six(target));
        }
    }
    for word in [from.port(), to.port(), udp_length as u16, 0] {
        out.extend(word.to_be_bytes());
    }
    out.extend(datagram);
    out
}

fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) as u16 + (folded >> 16) as u16)
}

/// A datagram read back.
#[derive(Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Which interface it came on.
    pub interface: u32,
    /// When, since the Unix epoch.
    pub at: Duration,
    /// Source and destination port.
    pub ports: [u16; 2],
    /// The datagram.
    pub datagram: &'a [u8],
}

/// The datagrams of a recording of ours, in order; `None`: it is none. Whatever is cut off at the end is left out.
pub fn read(bytes: &[u8]) -> Option<Vec<Packet<'_>>> {
    (word(bytes, 0)? == SECTION && word(bytes, 8)? == BYTE_ORDER).then_some(())?;
    let mut packets = Vec::new();
    let mut rest = bytes;
    while let (Some(kind), Some(length)) = (word(rest, 0), word(rest, 4)) {
        let Some((block, behind)) = rest.split_at_checked(length as usize).filter(|_| length >= 12) else {
            break;
        };
        if kind == PACKET {
            packets.extend(read_packet(block));
        }
        rest = behind;
    }
    Some(packets)
}

fn read_packet(block: &[u8]) -> Option<Packet<'_>> {
    let micros = u64::from(word(block, 12)?) << 32 | u64::from(word(block, 16)?);
    let length = word(block, 20)? as usize;
    let raw = block.get(28..28usize.checked_add(length)?)?;
    let header = match raw.first()? >> 4 {
        4 => usize::from(raw[0] & 0x0f) * 4,
        6 => 40,
        _ => return None,
    };
    let udp = raw.get(header..header + 8)?;
    let port = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    Some(Packet {
        interface: word(block, 8)?,
        at: Duration::from_micros(micros),
        ports: [port(0), port(2)],
        datagram: &raw[header + 8..],
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_by_either_family() {
        let mut file = Vec::new();
        head(&mut file, &["caller", "callee"], "a comment");
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        let addresses = ["198.51.100.1:4000", "[2001:db8::1]:30001"].map(|text| text.parse().unwrap());
        packet(&mut file, 0, at, addresses[0], "203.0.113.1:30000".parse().unwrap(), b"one");
        packet(&mut file, 1, at, addresses[1], "[2001:db8::2]:5".parse().unwrap(), b"two22");
        let packets = read(&file).unwrap();
        let seen: Vec<_> = packets.iter().map(|p| (p.interface, p.ports, p.datagram)).collect();
        assert_eq!(seen, [(0, [4000, 30000], &b"one"[..]), (1, [30001, 5], &b"two22"[..])]);
        assert_eq!(packets[0].at, Duration::from_micros(1_700_000_000_123_456));
        assert_eq!(file.len() % 4, 0);
        for cut in 0..file.len() {
            let _ = read(&file[..cut]);
        }
        assert_eq!(read(b"PK"), None);
    }

    #[test]
    fn the_ip_header_adds_up() {
        let raw = with_headers("198.51.100.1:1".parse().unwrap(), "203.0.113.1:2".parse().unwrap(), b"x");
        assert_eq!(checksum(&raw[..20]), 0);
        assert_eq!(raw.len(), 29);
    }
}
