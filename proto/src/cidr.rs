//! Address ranges: `192.0.2.0/24`, `2001:db8::/32`; an address alone is the range of itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses. Host bits are cleared, so that equal ranges compare equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// `prefix` is cut to the family's length.
    pub fn new(ip: IpAddr, prefix: u8) -> Cidr {
        let prefix = prefix.min(width(ip));
        Cidr { network: masked(ip, prefix), prefix }
    }

    /// Whether the address is in the range (IPv4-mapped IPv6 counts as IPv4).
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.network.is_ipv4() && masked(ip, self.prefix) == self.network
    }

    /// Its first address.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// Length of the fixed part in bits: of two ranges that contain an address, the longer one is meant.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl FromStr for Cidr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Cidr, &'static str> {
        let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
        let ip: IpAddr = ip.parse().map_err(|_| "not an IP address")?;
        let prefix = prefix.map_or(Ok(width(ip)), str::parse).map_err(|_| "prefix length is not a number")?;
        if prefix > width(ip) {
            return Err("prefix length is longer than the address");
        }
        Ok(Cidr::new(ip, prefix))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_its_first_and_last_address_and_not_their_neighbours() {
        let range: Cidr = "192.0.2.64/26".parse().unwrap();
        let holds = |ip: &str| range.contains(ip.parse().unwrap());
        assert_eq!(
            ["192.0.2.63", "192.0.2.64", "192.0.2.127", "192.0.2.128"].map(holds),
            [false, true, true, false]
        );
        assert!(holds("::ffff:192.0.2.65"));
    }

    #[test]
    fn the_empty_prefix_holds_one_whole_family() {
        let range: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(range.contains("255.255.255.255".parse().unwrap()));
        assert!(!range.contains("::1".parse().unwrap()));
    }

    #[test]
    fn refuses_what_is_no_range() {
        for text in ["", "1.2.3", "1.2.3.4/33", "::/129", "1.2.3.4/x"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        assert_eq!("10.1.2.3/8".parse::<Cidr>().unwrap().to_string(), "10.0.0.0/8");
    }
}
