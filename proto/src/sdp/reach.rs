//! What an address is, for the media decision (IANA special-purpose registries, RFC 6890).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is, for the media decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Reachable from anywhere (documentation ranges count: laboratories live there).
    Public,
    /// RFC 1918, ULA, CGNAT 100.64/10; also site-local, benchmarking and the addresses 464XLAT gives to handsets.
    Private,
    /// Loopback.
    Loopback,
    /// Link-local, multicast, unspecified, broadcast, reserved.
    Unusable,
}

/// What this address is (IPv4-mapped IPv6 counts as IPv4).
pub fn reach(ip: IpAddr) -> Reach {
    match ip.to_canonical() {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => reach_v6(ip),
    }
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        [127, ..] => Reach::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Reach::Private,
        [100, 64..=127, ..] => Reach::Private,
        [198, 18..=19, ..] | [192, 0, 0, _] => Reach::Private, // RFC 2544; RFC 7335
        [0, ..] | [169, 254, ..] | [224..=255, ..] => Reach::Unusable,
        _ => Reach::Public,
    }
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Loopback,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Reach::Private, // RFC 4193; RFC 3879
        [0x64, 0xff9b, 1, ..] => Reach::Private,                         // RFC 8215
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x2000..=0x3fff, ..] => Reach::Public, // RFC 6052; RFC 4291
        _ => Reach::Unusable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_begins_and_ends_where_its_rfc_says() {
        use Reach::*;
        let table = [
            ("0.0.0.0", Unusable),
            ("0.255.255.255", Unusable),
            ("1.0.0.0", Public),
            ("9.255.255.255", Public),
            ("10.0.0.0", Private),
            ("10.255.255.255", Private),
            ("11.0.0.0", Public),
            ("100.63.255.255", Public),
            ("100.64.0.0", Private),
            ("100.127.255.255", Private),
            ("100.128.0.0", Public),
            ("126.255.255.255", Public),
            ("127.0.0.0", Loopback),
            ("127.255.255.255", Loopback),
            ("128.0.0.0", Public),
            ("169.253.255.255", Public),
            ("169.254.0.0", Unusable),
            ("169.254.255.255", Unusable),
            ("169.255.0.0", Public),
            ("172.15.255.255", Public),
            ("172.16.0.0", Private),
            ("172.31.255.255", Private),
            ("172.32.0.0", Public),
            ("192.0.0.4", Private),
            ("192.0.1.0", Public),
            ("192.0.2.0", Public),
            ("192.0.2.255", Public),
            ("192.167.255.255", Public),
            ("192.168.0.0", Private),
            ("192.168.255.255", Private),
            ("192.169.0.0", Public),
            ("198.17.255.255", Public),
            ("198.18.0.0", Private),
            ("198.19.255.255", Private),
            ("198.20.0.0", Public),
            ("198.51.100.1", Public),
            ("203.0.113.1", Public),
            ("223.255.255.255", Public),
            ("224.0.0.0", Unusable),
            ("239.255.255.255", Unusable),
            ("240.0.0.0", Unusable),
            ("255.255.255.255", Unusable),
            ("::", Unusable),
            ("::1", Loopback),
            ("::2", Unusable),
            ("::ffff:10.0.0.1", Private),
            ("::ffff:203.0.113.1", Public),
            ("::ffff:127.0.0.1", Loopback),
            ("64:ff9b::192.0.2.1", Public),
            ("64:ff9b:1::1", Private),
            ("100::1", Unusable),
            ("1fff:ffff::", Unusable),
            ("2000::", Public),
            ("2001:db8::1", Public),
            ("3fff::1", Public),
            ("4000::", Unusable),
            ("fbff::", Unusable),
            ("fc00::", Private),
            ("fdff:ffff::", Private),
            ("fe00::", Unusable),
            ("fe80::1", Unusable),
            ("febf::1", Unusable),
            ("fec0::1", Private),
            ("ff02::1", Unusable),
        ];
        for (ip, expected) in table {
            assert_eq!(reach(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
