//! Paths: how bytes travel between a socket of ours and a remote address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How SIP bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// RFC 3261 §18, datagrams.
    Udp,
    /// RFC 3261 §18, a stream framed by Content-Length.
    Tcp,
    /// TCP under TLS.
    Tls,
    /// RFC 7118.
    Ws,
    /// RFC 7118 under TLS.
    Wss,
}

impl Transport {
    /// Whether the transport itself retransmits (RFC 3261 §17): timers A, E, G, D, I, J and K depend on it.
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// Whether it is encrypted.
    pub fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }

    /// The word in a Via header: `UDP`, `TCP`, `TLS`, `WS`, `WSS`.
    pub fn via(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }

    /// The value of a URI's `transport` parameter, lower case.
    pub fn uri_param(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }

    /// From a Via transport or a URI parameter, in any case.
    pub fn from_name(name: &str) -> Option<Transport> {
        [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss]
            .into_iter()
            .find(|t| t.via().eq_ignore_ascii_case(name))
    }

    /// 5060, 5061, 80 or 443.
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.uri_param())
    }
}

/// A connection's identity. 0 means "not any particular connection".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u64);

impl FlowId {
    /// What tells "any connection whose far end proved to be this domain" from a particular connection.
    const PROVING: u64 = 1 << 63;

    /// No connection in particular, but one whose far end proves by certificate to be `domain` (RFC 5922 §7.3). The
    /// shell knows the domain because it was asked to resolve it, or configured with it.
    pub fn proving(domain: &str) -> FlowId {
        let hash = blake3::hash(domain.trim_end_matches('.').to_ascii_lowercase().as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        FlowId(u64::from_be_bytes([a, b, c, d, e, f, g, h]) | FlowId::PROVING)
    }

    /// Whether it names one particular connection.
    pub fn is_connection(self) -> bool {
        self.0 != 0 && self.0 & FlowId::PROVING == 0
    }
}

/// A path between a socket of ours and a remote address.
///
/// For UDP the path *is* `local` and `remote`, and `id` is 0. For a stream, `id` names the connection: sending on a
/// flow whose `id` names one uses that connection or fails; with `id` 0 the shell reuses an open connection from
/// `local`'s address to `remote`, or opens one; with [`FlowId::proving`] one that proved to be that domain. Identities are
/// never used again, not even by the next process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// How bytes travel.
    pub transport: Transport,
    /// Our listening socket's address (for a connection we opened: the listener it belongs to).
    pub local: SocketAddr,
    /// The other side as we see it, NATs included.
    pub remote: SocketAddr,
    /// The connection, for streams.
    pub id: FlowId,
}

impl Flow {
    /// The UDP path from `local` to `remote`.
    pub fn udp(local: SocketAddr, remote: SocketAddr) -> Flow {
        Flow { transport: Transport::Udp, local, remote, id: FlowId(0) }
    }
}

/// The address a host literal names: `192.0.2.1`, `2001:db8::1` or `[2001:db8::1]`.
pub fn literal(host: &str) -> Option<IpAddr> {
    match host.as_bytes().first()? {
        b'0'..=b'9' => dotted(host).map(IpAddr::V4).or_else(|| host.parse().ok()),
        b'[' => host.strip_prefix('[').and_then(|h| h.strip_suffix(']'))?.parse().ok(),
        b':' | b'a'..=b'f' | b'A'..=b'F' if host.contains(':') => host.parse().ok(),
        _ => None,
    }
}

/// Four decimal numbers without leading zeros, as nearly all are written.
fn dotted(host: &str) -> Option<Ipv4Addr> {
    let (mut octets, mut place, mut digits, mut number) = ([0; 4], 0, 0, 0u16);
    for byte in host.bytes() {
        match byte {
            b'0'..=b'9' if digits == 0 || (digits < 3 && number > 0) => {
                number = number * 10 + u16::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 && place < 3 => {
                octets[place] = u8::try_from(number).ok()?;
                (place, digits, number) = (place + 1, 0, 0);
            }
            _ => return None,
        }
    }
    octets[3] = u8::try_from(number).ok()?;
    (place == 3 && digits > 0).then(|| Ipv4Addr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_what_the_standard_library_takes_for_an_address() {
        for host in [
            "192.0.2.1",
            "0.0.0.0",
            "255.255.255.255",
            "256.0.0.1",
            "01.0.0.1",
            "1.2.3",
            "1.2.3.4.5",
            "1..2.3",
            "1.2.3.",
            ".1.2.3",
            "1.2.3.4a",
            "1000.1.1.1",
            "",
            "2001:db8::1",
            "::1",
            "::ffff:192.0.2.1",
            "fe80::1",
            "FE80::1",
            "cafe",
            "1.example.com",
            "example.com",
            "00.0.0.0",
        ] {
            assert_eq!(literal(host), host.parse().ok(), "{host}");
            assert_eq!(literal(&format!("[{host}]")), host.parse().ok(), "[{host}]");
        }
    }
}
