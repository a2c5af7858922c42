//! What answers Binding requests (RFC 8489 §6.3, RFC 5780 §6): who asks is told where it was seen, from the address and
//! port it asks the answer to come from.

use std::net::{IpAddr, SocketAddr};

use super::{Change, Class, Message, Writer, attribute};

/// A STUN server's addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Its second address and port (RFC 5780 §6): with them it answers at all four combinations.
    pub pair: Option<[SocketAddr; 2]>,
}

/// An answer, and the socket it is to leave by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// From where.
    pub from: SocketAddr,
    /// Where to.
    pub to: SocketAddr,
}

impl Server {
    /// With one address: mapping can be seen, filtering can't.
    pub fn single() -> Server {
        Server::default()
    }

    /// With two addresses that differ in host and port.
    pub fn pair(primary: SocketAddr, alternate: SocketAddr) -> Server {
        Server { pair: Some([primary, alternate]) }
    }

    /// Every socket it needs.
    pub fn sockets(&self) -> Vec<SocketAddr> {
        let Some([a, b]) = self.pair else { return Vec::new() };
        vec![a, SocketAddr::new(a.ip(), b.port()), SocketAddr::new(b.ip(), a.port()), b]
    }

    /// The answer to a Binding request that came to `local`; `None` for anything else, and for what cannot be
    /// answered as asked: an answer from the wrong place would be a lie about the NAT.
    pub fn answer(&self, bytes: &[u8], from: SocketAddr, local: SocketAddr) -> Option<Answer> {
        self.answer_with(bytes, from, local, |writer| writer)
    }

    /// The same with more in it.
    pub fn answer_with(
        &self,
        bytes: &[u8],
        from: SocketAddr,
        local: SocketAddr,
        more: impl FnOnce(Writer) -> Writer,
    ) -> Option<Answer> {
        let request = Message::parse(bytes).filter(|message| message.class() == Class::Request)?;
        if request.not_understood().next().is_some() {
            return Some(Answer { bytes: refusal(&request), from: local, to: from });
        }
        let source = self.source(local, request.change())?;
        let mut writer = Writer::new(Class::Success, request.transaction())
            .mapped(SocketAddr::new(from.ip().to_canonical(), from.port()))
            .address(attribute::RESPONSE_ORIGIN, source);
        if let Some(other) = self.opposite(local) {
            writer = writer.address(attribute::OTHER_ADDRESS, other);
        }
        // Another port of the same host (RFC 5780 §7.5): nobody else can be aimed at.
        let to = request.response_port().map_or(from, |port| SocketAddr::new(from.ip(), port));
        Some(Answer { bytes: more(writer).finish(), from: source, to })
    }

    /// RFC 5780 §6.1, table 1.
    fn source(&self, local: SocketAddr, change: Change) -> Option<SocketAddr> {
        if change == Change::default() {
            return Some(local);
        }
        let other = self.opposite(local)?;
        let ip: IpAddr = if change.ip { other.ip() } else { local.ip() };
        Some(SocketAddr::new(ip, if change.port { other.port() } else { local.port() }))
    }

    /// The address that differs from `local` in host and port.
    fn opposite(&self, local: SocketAddr) -> Option<SocketAddr> {
        let [a, b] = self.pair?;
        let ip = if local.ip() == a.ip() { b.ip() } else { a.ip() };
        let port = if local.port() == a.port() { b.port() } else { a.port() };
        self.sockets().contains(&local).then(|| SocketAddr::new(ip, port))
    }
}

/// 420 (RFC 8489 §6.3.1).
fn refusal(request: &Message<'_>) -> Vec<u8> {
    let unknown: Vec<u8> = request.not_understood().take(8).flat_map(u16::to_be_bytes).collect();
    Writer::new(Class::Error, request.transaction())
        .error(420, "Unknown Attribute")
        .attribute(attribute::UNKNOWN_ATTRIBUTES, &unknown)
        .finish()
}
