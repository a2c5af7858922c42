//! Addresses and numbers as text that stands in a few bytes of its own: what `Display` writes, for nearly all of them without
//! the machinery of formatting, which takes a thousand instructions for an address.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;

/// The longest is a socket address of IPv6 with a scope: 58 characters.
const ROOM: usize = 64;

/// See the module. Reads as text.
#[derive(Clone, Copy)]
pub struct Short {
    text: [u8; ROOM],
    len: usize,
}

impl Short {
    const EMPTY: Short = Short { text: [0; ROOM], len: 0 };

    fn push(&mut self, text: &[u8]) -> bool {
        let room = self.text.get_mut(self.len..self.len + text.len());
        let fits = room.map(|room| room.copy_from_slice(text)).is_some();
        self.len += if fits { text.len() } else { 0 };
        fits
    }

    fn push_number(&mut self, number: u32) {
        if number >= 10 {
            self.push_number(number / 10);
        }
        self.push(&[b'0' + (number % 10) as u8]);
    }

    fn push_ip(&mut self, ip: IpAddr) {
        let IpAddr::V4(ip) = ip else { return self.push_any(&ip) };
        for (place, octet) in ip.octets().into_iter().enumerate() {
            if place > 0 {
                self.push(b".");
            }
            self.push_number(u32::from(octet));
        }
    }

    fn push_any(&mut self, value: &dyn fmt::Display) {
        // There is room for what this file gives it.
        let _ = write!(self, "{value}");
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes()).then_some(()).ok_or(fmt::Error)
    }
}

impl From<u32> for Short {
    fn from(number: u32) -> Short {
        let mut short = Short::EMPTY;
        short.push_number(number);
        short
    }
}

impl From<IpAddr> for Short {
    fn from(ip: IpAddr) -> Short {
        let mut short = Short::EMPTY;
        short.push_ip(ip);
        short
    }
}

impl From<SocketAddr> for Short {
    fn from(address: SocketAddr) -> Short {
        let mut short = Short::EMPTY;
        match address {
            SocketAddr::V4(_) => {
                short.push_ip(address.ip());
                short.push(b":");
                short.push_number(u32::from(address.port()));
            }
            SocketAddr::V6(_) => short.push_any(&address),
        }
        short
    }
}

impl Deref for Short {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.text[..self.len]).unwrap_or_default()
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_display_writes() {
        for number in [0, 7, 10, 5060, u32::MAX] {
            assert_eq!(*Short::from(number), number.to_string());
        }
        for ip in ["0.0.0.0", "192.0.2.255", "::", "2001:db8::1", "::ffff:192.0.2.1"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(*Short::from(ip), ip.to_string());
        }
        let longest = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535";
        for address in ["0.0.0.0:0", "192.0.2.1:5060", "255.255.255.255:65535", "[2001:db8::1]:5060", longest]
        {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(*Short::from(address), address.to_string());
        }
    }
}
