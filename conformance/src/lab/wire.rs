//! What was on the wire: captures of several hosts, read into packets in the order of time.
//!
//! Reads the classic pcap format with nanoseconds and Ethernet frames, as `natcap` writes it: IPv4 (fragments are put
//! together) and IPv6, UDP and TCP (streams are put in order). Everything else is left out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// How a packet travelled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A segment, in the order of its stream.
    Tcp,
}

/// One packet with a payload, as one host saw it.
#[derive(Clone, Debug)]
pub struct Packet {
    /// When, by the one clock of all captures.
    pub at: Duration,
    /// Where it was seen.
    pub host: String,
    /// How it travelled.
    pub transport: Transport,
    /// Its source as seen there.
    pub from: SocketAddr,
    /// Its destination as seen there.
    pub to: SocketAddr,
    /// What it carried.
    pub payload: Vec<u8>,
}

/// Packets in the order of time.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    /// All of them.
    pub packets: Vec<Packet>,
}

impl Wire {
    /// Reads `FOLDER/HOST.pcap` of these hosts.
    pub fn read(folder: &Path, hosts: &[String]) -> Wire {
        let mut packets = Vec::new();
        for host in hosts {
            let path = folder.join(format!("{host}.pcap"));
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            packets.extend(packets_of(host, &bytes));
        }
        packets.sort_by_key(|packet| packet.at);
        Wire { packets }
    }

    /// What one host saw.
    pub fn at(&self, host: &str) -> Wire {
        self.filter(|packet| packet.host == host)
    }

    /// The packets for which `keep` holds.
    pub fn filter(&self, keep: impl Fn(&Packet) -> bool) -> Wire {
        Wire { packets: self.packets.iter().filter(|packet| keep(packet)).cloned().collect() }
    }

    /// What happened after a moment.
    pub fn since(&self, moment: Duration) -> Wire {
        self.filter(|packet| packet.at >= moment)
    }

    /// How many packets.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there is no packet.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether any payload contains these bytes, or any header this address.
    pub fn mentions(&self, address: IpAddr) -> bool {
        let text = address.to_string();
        self.packets
            .iter()
            .any(|p| p.from.ip() == address || p.to.ip() == address || contains(&p.payload, text.as_bytes()))
    }
}

/// Whether an address stands in a text by itself, not as the beginning of a longer one.
fn contains(text: &[u8], address: &[u8]) -> bool {
    let part = |byte: Option<&u8>| {
        byte.is_some_and(|b| b.is_ascii_hexdigit() || *b == b':' && address.contains(&b':'))
    };
    text.windows(address.len()).enumerate().any(|(at, window)| {
        window == address
            && !part(text.get(at + address.len()))
            && !part(at.checked_sub(1).and_then(|before| text.get(before)))
    })
}

// ---------------------------------------------------------------- frames

fn packets_of(host: &str, pcap: &[u8]) -> Vec<Packet> {
    let (mut whole, mut streams) = (Fragments::default(), Streams::default());
    let mut packets = Vec::new();
    for (at, frame) in frames(pcap) {
        let Some((source, destination, protocol, body)) = whole.ip(frame) else { continue };
        let Some((from, to)) = ports(source, destination, &body) else { continue };
        let packet = |transport, payload: &[u8]| Packet {
            at,
            host: host.into(),
            transport,
            from,
            to,
            payload: payload.to_vec(),
        };
        match protocol {
            17 if body.len() > 8 => packets.push(packet(Transport::Udp, &body[8..])),
            6 => packets
                .extend(streams.ordered(from, to, &body).map(|payload| packet(Transport::Tcp, &payload))),
            _ => {}
        }
    }
    packets
}

/// The records of a pcap file: nanosecond stamps, Ethernet.
fn frames(pcap: &[u8]) -> impl Iterator<Item = (Duration, &[u8])> {
    assert!(pcap.len() >= 24 && pcap[..4] == 0xa1b2_3c4d_u32.to_ne_bytes(), "not a capture of natcap's");
    let mut rest = &pcap[24..];
    std::iter::from_fn(move || {
        let (record, after) = rest.split_at_checked(16)?;
        let word = |at: usize| u32::from_ne_bytes(record[at..at + 4].try_into().expect("four bytes"));
        let (frame, after) = after.split_at_checked(word(8) as usize)?;
        rest = after;
        Some((Duration::new(u64::from(word(0)), word(4)), frame))
    })
}

fn ports(source: IpAddr, destination: IpAddr, body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let port = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    Some((SocketAddr::new(source, port(0)?), SocketAddr::new(destination, port(2)?)))
}

/// IPv4 fragments that wait for the rest, by source, destination, identification and protocol.
#[derive(Default)]
struct Fragments(BTreeMap<(Ipv4Addr, Ipv4Addr, u16, u8), Vec<Fragment>>);

/// Its offset, whether more follow, and its bytes.
type Fragment = (usize, bool, Vec<u8>);

impl Fragments {
    /// Source, destination, protocol and body of a frame's IP packet, if it is one and complete.
    fn ip(&mut self, frame: &[u8]) -> Option<(IpAddr, IpAddr, u8, Vec<u8>)> {
        match frame.get(12..14)? {
            [0x08, 0x00] => self.v4(&frame[14..]),
            [0x86, 0xdd] => v6(&frame[14..]),
            _ => None,
        }
    }

    fn v4(&mut self, packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, Vec<u8>)> {
        let word = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
        let (source, destination, protocol) = (address(12)?, address(16)?, packet[9]);
        let body =
            packet.get(usize::from(packet[0] & 15) * 4..usize::from(word(2)?).min(packet.len()))?.to_vec();
        let (more, offset) = (word(6)? & 0x2000 != 0, usize::from(word(6)? & 0x1fff) * 8);
        if !more && offset == 0 {
            return Some((source.into(), destination.into(), protocol, body));
        }
        let key = (source, destination, word(4)?, protocol);
        let parts = self.0.entry(key).or_default();
        parts.push((offset, more, body));
        let body = put_together(parts)?;
        self.0.remove(&key);
        Some((source.into(), destination.into(), protocol, body))
    }
}

fn put_together(parts: &mut [Fragment]) -> Option<Vec<u8>> {
    parts.sort_by_key(|part| part.0);
    let mut whole = Vec::new();
    for (offset, _, body) in parts.iter() {
        if *offset != whole.len() {
            return None;
        }
        whole.extend_from_slice(body);
    }
    parts.last().is_some_and(|last| !last.1).then_some(whole)
}

fn v6(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, Vec<u8>)> {
    let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
    Some((address(8)?.into(), address(24)?.into(), packet[6], packet.get(40..)?.to_vec()))
}

/// TCP streams: where each direction stands, and what came early.
#[derive(Default)]
struct Streams(BTreeMap<(SocketAddr, SocketAddr), (u32, Early)>);

/// Segments by their sequence numbers.
type Early = BTreeMap<u32, Vec<u8>>;

impl Streams {
    /// The new bytes that this segment makes readable, in order.
    fn ordered(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        segment: &[u8],
    ) -> impl Iterator<Item = Vec<u8>> + use<> {
        let mut ready = Vec::new();
        if segment.len() >= 20 {
            let number = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
            let (syn, body) =
                (segment[13] & 2 != 0, segment.get(usize::from(segment[12] >> 4) * 4..).unwrap_or_default());
            if syn {
                self.0.insert((from, to), (number.wrapping_add(1), BTreeMap::new()));
            } else if !body.is_empty() {
                let stream = self.0.entry((from, to)).or_insert((number, BTreeMap::new()));
                stream.1.insert(number, body.to_vec());
                ready = in_order(&mut stream.0, &mut stream.1);
            }
        }
        ready.into_iter()
    }
}

fn in_order(next: &mut u32, early: &mut Early) -> Vec<Vec<u8>> {
    let mut ready = Vec::new();
    while let Some(&number) = early.keys().find(|number| next.wrapping_sub(**number) < 1 << 31) {
        let body = early.remove(&number).unwrap_or_default();
        let known = next.wrapping_sub(number) as usize;
        if let Some(fresh) = body.get(known..).filter(|fresh| !fresh.is_empty()) {
            *next = next.wrapping_add(fresh.len() as u32);
            ready.push(fresh.to_vec());
        }
    }
    ready
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_in_order_whatever_order_it_came_in() {
        let (mut next, mut early) = (10, BTreeMap::new());
        early.insert(13, b"def".to_vec());
        assert!(in_order(&mut next, &mut early).is_empty());
        early.insert(10, b"abc".to_vec());
        assert_eq!(in_order(&mut next, &mut early).concat(), b"abcdef");
        early.insert(13, b"defg".to_vec()); // sent again, with one byte more
        assert_eq!(in_order(&mut next, &mut early).concat(), b"g");
    }

    #[test]
    fn a_datagram_in_fragments_counts_once_and_whole() {
        let mut parts = vec![(8, false, b"tail".to_vec())];
        assert_eq!(put_together(&mut parts), None);
        parts.push((0, true, b"headhead".to_vec()));
        assert_eq!(put_together(&mut parts).as_deref(), Some(&b"headheadtail"[..]));
    }

    #[test]
    fn an_address_is_found_in_a_header_and_in_a_payload() {
        let packet = Packet {
            at: Duration::ZERO,
            host: "bob".into(),
            transport: Transport::Udp,
            from: "198.51.100.20:5060".parse().unwrap(),
            to: "198.51.100.30:5060".parse().unwrap(),
            payload: b"c=IN IP4 192.168.1.10\r\n".to_vec(),
        };
        let wire = Wire { packets: vec![packet] };
        assert!(
            wire.mentions("198.51.100.30".parse().unwrap()) && wire.mentions("192.168.1.10".parse().unwrap())
        );
        assert!(
            !wire.mentions("192.168.1.11".parse().unwrap()) && !wire.mentions("192.168.1.1".parse().unwrap())
        );
    }
}
