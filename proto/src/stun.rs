//! STUN (RFC 8489), as far as NATs need it: Binding, the attributes of RFC 5780 (behaviour discovery), the checks of
//! RFC 8445 under a shared key, and one attribute of ours.
//!
//! ```text
//!  0                   1                   2                   3
//!  |0 0|   message type (14)       |        message length         |
//!  |                  magic cookie 0x2112A442                      |
//!  |                                                               |
//!  |                  transaction ID (96 bits)                     |
//!  |                                                               |
//!  | attribute type | length | value, padded to 4 bytes | …
//! ```
//!
//! [`Message::parse`] borrows and refuses whatever does not add up: wrong lengths, more than [`MAX_ATTRIBUTES`], a wrong
//! FINGERPRINT. [`Writer`] builds; [`Server`] is what answers Binding requests. Nothing is allocated to refuse.

mod server;
mod write;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use constant_time_eq::constant_time_eq;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

pub use server::{Answer, Server};
pub use write::Writer;

/// The magic cookie (RFC 8489 §5).
pub const COOKIE: u32 = 0x2112_a442;
/// Where it begins.
pub const COOKIE_AT: usize = 4;
/// A message's length without its attributes (RFC 8489 §5).
pub const HEADER_LEN: usize = 20;
/// More attributes than this are nobody's honest message.
pub const MAX_ATTRIBUTES: usize = 24;
/// A message is not longer.
pub const MAX_LEN: usize = 1280;

/// What ties a response to its request.
pub type TransactionId = [u8; 12];

/// The class of a message (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Asks.
    Request,
    /// Asks for nothing.
    Indication,
    /// Answers.
    Success,
    /// Refuses.
    Error,
}

/// Attribute types.
pub mod attribute {
    #![allow(missing_docs, reason = "the RFCs' own names")]
    pub const MAPPED_ADDRESS: u16 = 0x0001;
    pub const CHANGE_REQUEST: u16 = 0x0003;
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const PRIORITY: u16 = 0x0024;
    pub const USE_CANDIDATE: u16 = 0x0025;
    pub const RESPONSE_PORT: u16 = 0x0027;
    pub const SOFTWARE: u16 = 0x8022;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const ICE_CONTROLLED: u16 = 0x8029;
    pub const ICE_CONTROLLING: u16 = 0x802a;
    pub const RESPONSE_ORIGIN: u16 = 0x802b;
    pub const OTHER_ADDRESS: u16 = 0x802c;
    /// Ours, of the range that whoever does not know it passes over (RFC 8489 §18.3): a reflector's proof that the
    /// mapped address of its answer hears what is sent there.
    pub const BIND_TICKET: u16 = 0xc0b1;
}

/// Method Binding.
const BINDING: u16 = 0x001;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Whether bytes are STUN, by first bits and cookie (RFC 7983).
pub fn is_stun(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_LEN && bytes[0] < 4 && bytes[4..8] == COOKIE.to_be_bytes()
}

/// How long the STUN message that begins so is in a stream (RFC 8489 §6.2.2); `None`: too little is there, or it is something
/// else.
pub fn length_in_stream(bytes: &[u8]) -> Option<usize> {
    let begins =
        bytes.first().is_some_and(|first| *first < 4) && bytes.get(4..8) == Some(&COOKIE.to_be_bytes());
    begins.then(|| HEADER_LEN + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])))
}

/// Whether these few bytes may be the beginning of a STUN message in a stream, whose length they don't tell yet.
pub fn may_begin(bytes: &[u8]) -> bool {
    let cookie = bytes.get(4..).unwrap_or_default();
    bytes.len() < 8
        && bytes.first().is_some_and(|first| *first < 4)
        && COOKIE.to_be_bytes().starts_with(cookie)
}

/// A Binding message, borrowed from its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    class: Class,
}

impl<'a> Message<'a> {
    /// Reads one; `None`: not STUN, another method than Binding, or malformed.
    pub fn parse(bytes: &'a [u8]) -> Option<Message<'a>> {
        let fits = is_stun(bytes) && bytes.len() <= MAX_LEN && bytes.len().is_multiple_of(4);
        let kind = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
        let length = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
        let class = class_of(kind).filter(|_| fits && length + HEADER_LEN == bytes.len())?;
        let message = Message { bytes, class };
        (message.is_whole() && message.fingerprint_fits()).then_some(message)
    }

    /// What kind it is.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The transaction's identity.
    pub fn transaction(&self) -> TransactionId {
        let mut id = [0; 12];
        id.copy_from_slice(&self.bytes[8..HEADER_LEN]);
        id
    }

    /// The first attribute of a type. What stands behind a MESSAGE-INTEGRITY of either kind does not count (RFC 8489 §14.5,
    /// §14.6), but the other kind and FINGERPRINT.
    pub fn attribute(&self, kind: u16) -> Option<&'a [u8]> {
        let mut sealed = false;
        for (at, found, value) in self.attributes() {
            let always = matches!(kind, attribute::FINGERPRINT | attribute::MESSAGE_INTEGRITY_SHA256);
            if found == kind && (!sealed || always) {
                return self.bytes.get(at + 4..at + 4 + value.len());
            }
            sealed |= matches!(found, attribute::MESSAGE_INTEGRITY | attribute::MESSAGE_INTEGRITY_SHA256);
        }
        None
    }

    /// Where the sender of a request was seen: XOR-MAPPED-ADDRESS, else MAPPED-ADDRESS.
    pub fn mapped(&self) -> Option<SocketAddr> {
        match self.attribute(attribute::XOR_MAPPED_ADDRESS) {
            Some(value) => address(value, Some(&self.transaction())),
            None => self.plain_address(attribute::MAPPED_ADDRESS),
        }
    }

    /// Where the answer was sent from (RFC 5780 §7.3).
    pub fn origin(&self) -> Option<SocketAddr> {
        self.plain_address(attribute::RESPONSE_ORIGIN)
    }

    /// The server's other address and port (RFC 5780 §7.4).
    pub fn other(&self) -> Option<SocketAddr> {
        self.plain_address(attribute::OTHER_ADDRESS)
    }

    /// From where the answer is asked to come (RFC 5780 §7.2).
    pub fn change(&self) -> Change {
        let flags = self.attribute(attribute::CHANGE_REQUEST).and_then(|value| value.last()).copied();
        Change { ip: flags.is_some_and(|f| f & 4 != 0), port: flags.is_some_and(|f| f & 2 != 0) }
    }

    /// The port the answer is to go to (RFC 5780 §7.5).
    pub fn response_port(&self) -> Option<u16> {
        let value = self.attribute(attribute::RESPONSE_PORT)?;
        Some(u16::from_be_bytes([*value.first()?, *value.get(1)?])).filter(|port| *port != 0)
    }

    /// The status of an error response.
    pub fn error(&self) -> Option<u16> {
        let value = self.attribute(attribute::ERROR_CODE)?;
        let (hundreds, rest) = (*value.get(2)? & 7, *value.get(3)?);
        Some(u16::from(hundreds) * 100 + u16::from(rest))
    }

    /// Who it says to be, as text.
    pub fn username(&self) -> Option<&'a str> {
        std::str::from_utf8(self.attribute(attribute::USERNAME)?).ok()
    }

    /// Whether MESSAGE-INTEGRITY-SHA256 proves this key (RFC 8489 §14.6). Constant-time compare.
    pub fn is_sealed_with(&self, key: &[u8]) -> bool {
        let seal = self.attributes().find(|(_, kind, _)| *kind == attribute::MESSAGE_INTEGRITY_SHA256);
        let Some((at, _, value)) = seal.filter(|(_, _, value)| value.len() == SEAL) else { return false };
        constant_time_eq(value, &seal_of(key, &self.bytes[..at]))
    }

    /// Whether MESSAGE-INTEGRITY proves this key (RFC 8489 §14.5): what ICE's checks carry (RFC 8445 §7.1). Constant-time
    /// compare.
    pub fn is_signed_with(&self, key: &[u8]) -> bool {
        let signed = self.attributes().find(|(_, kind, _)| *kind == attribute::MESSAGE_INTEGRITY);
        signed.is_some_and(|(at, _, value)| constant_time_eq(value, &signature_of(key, &self.bytes[..at])))
    }

    /// Attributes that must be understood and are not (RFC 8489 §6.3.1).
    pub fn not_understood(&self) -> impl Iterator<Item = u16> + use<'a> {
        use attribute::*;
        const KNOWN: [u16; 11] = [
            MAPPED_ADDRESS,
            CHANGE_REQUEST,
            USERNAME,
            MESSAGE_INTEGRITY,
            ERROR_CODE,
            UNKNOWN_ATTRIBUTES,
            MESSAGE_INTEGRITY_SHA256,
            XOR_MAPPED_ADDRESS,
            PRIORITY,
            USE_CANDIDATE,
            RESPONSE_PORT,
        ];
        self.attributes().map(|(_, kind, _)| kind).filter(|kind| *kind < 0x8000 && !KNOWN.contains(kind))
    }

    fn plain_address(&self, kind: u16) -> Option<SocketAddr> {
        address(self.attribute(kind)?, None)
    }

    fn attributes(&self) -> Attributes<'a> {
        Attributes { bytes: self.bytes, at: HEADER_LEN }
    }

    /// Whether the attributes fill the message exactly.
    fn is_whole(&self) -> bool {
        let mut attributes = self.attributes();
        let count = attributes.by_ref().take(MAX_ATTRIBUTES + 1).count();
        count <= MAX_ATTRIBUTES && attributes.at == self.bytes.len()
    }

    /// FINGERPRINT, if it is there, stands last and is right (RFC 8489 §14.7).
    fn fingerprint_fits(&self) -> bool {
        let found = self.attributes().find(|(_, kind, _)| *kind == attribute::FINGERPRINT);
        found.is_none_or(|(at, _, value)| {
            at + 8 == self.bytes.len() && value == fingerprint(&self.bytes[..at]).to_be_bytes()
        })
    }
}

/// From where an answer is asked to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// From the other address.
    pub ip: bool,
    /// From the other port.
    pub port: bool,
}

/// Attributes in order: where each begins, its type and value. Ends early, with `at` short of the end, at one that
/// does not fit.
struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (usize, u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let head = self.bytes.get(self.at..self.at + 4)?;
        let (kind, length) = (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]]));
        let (from, length) = (self.at + 4, usize::from(length));
        let end = from + length.next_multiple_of(4);
        let value = self.bytes.get(from..end)?.get(..length)?;
        let at = std::mem::replace(&mut self.at, end);
        Some((at, kind, value))
    }
}

/// RFC 8489 §5: the class's two bits stand at 4 and 8 of the type.
fn class_of(kind: u16) -> Option<Class> {
    match kind {
        0x0001 => Some(Class::Request),
        0x0011 => Some(Class::Indication),
        0x0101 => Some(Class::Success),
        0x0111 => Some(Class::Error),
        _ => None,
    }
}

fn type_of(class: Class) -> u16 {
    BINDING
        | match class {
            Class::Request => 0x000,
            Class::Indication => 0x010,
            Class::Success => 0x100,
            Class::Error => 0x110,
        }
}

/// RFC 8489 §14.1, §14.2: family, port, address; the two latter XORed with cookie and transaction.
fn address(value: &[u8], transaction: Option<&TransactionId>) -> Option<SocketAddr> {
    let (head, rest) = value.split_at_checked(4)?;
    let mask = transaction.map_or([0; 16], mask);
    let port = u16::from_be_bytes([head[2] ^ mask[0], head[3] ^ mask[1]]);
    let ip = match (head[1], rest.len()) {
        (1, 4) => IpAddr::V4(Ipv4Addr::from(xored::<4>(rest, &mask)?)),
        (2, 16) => IpAddr::V6(Ipv6Addr::from(xored::<16>(rest, &mask)?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn xored<const N: usize>(bytes: &[u8], mask: &[u8; 16]) -> Option<[u8; N]> {
    let mut out: [u8; N] = bytes.try_into().ok()?;
    out.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    Some(out)
}

fn mask(transaction: &TransactionId) -> [u8; 16] {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(transaction);
    mask
}

/// Length of MESSAGE-INTEGRITY-SHA256; ours is never cut short.
const SEAL: usize = 32;

/// The HMAC over a message's bytes so far, its length field saying that the seal is there.
fn seal_of(key: &[u8], before: &[u8]) -> [u8; SEAL] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    update_with_length(before, SEAL, |part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Length of MESSAGE-INTEGRITY.
const SIGNATURE: usize = 20;

/// The same for MESSAGE-INTEGRITY.
fn signature_of(key: &[u8], before: &[u8]) -> [u8; SIGNATURE] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes a key of any length");
    update_with_length(before, SIGNATURE, |part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn fingerprint(before: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    update_with_length(before, 4, |part| crc.update(part));
    crc.finalize() ^ FINGERPRINT_XOR
}

/// The bytes with the length they will have once an attribute of `more` bytes stands behind them.
fn update_with_length(before: &[u8], more: usize, mut update: impl FnMut(&[u8])) {
    let length = (before.len() - HEADER_LEN + 4 + more) as u16;
    update(&before[..2]);
    update(&length.to_be_bytes());
    update(&before[4..]);
}

#[cfg(test)]
mod tests;
