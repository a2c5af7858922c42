//! Media ports that this machine may give to somebody else, and those that somebody has already.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::owner;
use crate::config::values::Ports;

/// The part of a range that outgoing connections of this machine may be given, and how to keep it.
pub(super) fn given_away(ports: Ports) -> Option<String> {
    let read = |name: &str| std::fs::read_to_string(Path::new("/proc/sys/net/ipv4").join(name));
    let range = read("ip_local_port_range").ok()?;
    unreserved(ports, &range, &read("ip_local_reserved_ports").unwrap_or_default())
}

fn unreserved(ports: Ports, range: &str, reserved: &str) -> Option<String> {
    let mut words = range.split_whitespace().map(str::parse::<u16>);
    let (first, last) = (words.next()?.ok()?, words.next()?.ok()?);
    let kept: Vec<Ports> = reserved.trim().split(',').filter_map(read_range).collect();
    let given = (ports.first.max(first)..=ports.last.min(last))
        .filter(|port| !kept.iter().any(|range| range.contains(*port)))
        .count();
    let others = reserved.trim();
    let with_others = if others.is_empty() { String::new() } else { format!("{others},") };
    (given > 0).then(|| {
        format!(
            "{given} of the media ports {ports} may be given to outgoing connections of this machine ({first}-{last}): \
             sysctl -w net.ipv4.ip_local_reserved_ports={with_others}{ports}, or choose other `relay.ports`"
        )
    })
}

/// `a` or `a-b`.
fn read_range(words: &str) -> Option<Ports> {
    let (first, last) = words.split_once('-').unwrap_or((words, words));
    Some(Ports { first: first.parse().ok()?, last: last.parse().ok()? })
}

/// Media ports at these addresses that other sockets have: how many, and whose the first one is.
pub fn taken(ports: Ports, binds: &[IpAddr]) -> Option<(usize, SocketAddr, String)> {
    let tables = ["udp", "udp6"].map(|name| std::fs::read_to_string(Path::new("/proc/net").join(name)));
    let sockets = tables.into_iter().flatten().flat_map(|table| addresses(&table));
    let in_the_way = |at: &SocketAddr| {
        let everywhere = at.ip().is_unspecified() && binds.iter().any(|bind| at.is_ipv6() || bind.is_ipv4());
        ports.contains(at.port()) && (everywhere || binds.contains(&at.ip()))
    };
    let found: BTreeSet<SocketAddr> = sockets.filter(in_the_way).collect();
    let first = *found.first()?;
    let ports: BTreeSet<u16> = found.iter().map(SocketAddr::port).collect();
    let whose = owner(true, first).unwrap_or_else(|| "another process".to_owned());
    Some((ports.len(), first, whose))
}

/// The local addresses of a table of sockets in /proc/net.
fn addresses(table: &str) -> Vec<SocketAddr> {
    let lines = table.lines().skip(1);
    lines.filter_map(|line| read_address(line.split_whitespace().nth(1)?)).collect()
}

/// An address as /proc/net has it: words of 32 bits in this machine's order, and the port, in hexadecimal.
pub(super) fn read_address(words: &str) -> Option<SocketAddr> {
    let (ip, port) = words.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(8 * at..8 * at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let all = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(all).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn media_ports_up_to_the_first_of_outgoing_connections_are_our_own() {
        let range = "32768\t60999\n";
        assert_eq!(unreserved(Ports { first: 30_000, last: 32_767 }, range, "\n"), None);
        let words = unreserved(Ports { first: 30_000, last: 32_768 }, range, "\n").unwrap();
        assert!(words.starts_with("1 of the media ports 30000-32768"), "{words}");
        assert!(words.contains("ip_local_reserved_ports=30000-32768,"), "{words}");
    }

    #[test]
    fn reserved_ports_in_several_pieces_count_together_and_stay_in_the_remedy() {
        let (ports, range) = (Ports { first: 40_000, last: 40_009 }, "32768 60999");
        assert_eq!(unreserved(ports, range, "40000-40004,40005-40009"), None);
        let words = unreserved(ports, range, "8080,40000-40004,40006-40009").unwrap();
        assert!(words.starts_with("1 of the media ports"), "{words}");
        assert!(words.contains("=8080,40000-40004,40006-40009,40000-40009,"), "{words}");
    }

    #[test]
    fn a_media_port_that_somebody_has_is_found_with_its_owner() {
        for bind in ["127.0.0.1", "::1"] {
            let socket = UdpSocket::bind((bind, 0)).unwrap();
            let at = socket.local_addr().unwrap();
            let ports = Ports { first: at.port(), last: at.port() };
            let (count, first, whose) = taken(ports, &[at.ip()]).unwrap();
            assert_eq!((count, first), (1, at));
            assert!(whose.contains(&format!("process {}", std::process::id())), "{whose}");
            assert_eq!(taken(ports, &["192.0.2.1".parse().unwrap()]), None);
        }
    }
}
