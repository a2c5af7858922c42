//! Nonces that carry their own proof, so that a challenge costs no memory.
//!
//! ```text
//!  base64url of:  | milliseconds since the epoch, 6 bytes | lane 6 bits, count 10 bits | MAC, 10 bytes |       24 characters
//!                   when it was made                        tells two of one moment      keyed BLAKE3 over all that,
//!                                                           apart                        source IP and realm
//! ```

use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use constant_time_eq::constant_time_eq;

/// How long a nonce is good.
pub const LIFE: Duration = Duration::from_secs(300);

/// Makes and checks nonces: time ‖ MAC(key, time, realm, source IP), good for 300 s.
#[derive(Clone)]
pub struct Nonces {
    key: [u8; 32],
    lane: u16,
    count: Cell<u16>,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonces")
    }
}

/// What a nonce turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceCheck {
    /// Ours and fresh; the number identifies it for [`crate::tables::Tables::use_nonce`].
    Fresh(u64),
    /// Ours, but too old: challenge again with `stale=true`.
    Stale,
    /// Not ours, or for another realm or source.
    Foreign,
}

impl Nonces {
    /// From a key.
    pub fn new(key: [u8; 32]) -> Nonces {
        Nonces { key, lane: 0, count: Cell::new(0) }
    }

    /// The same for one of several lanes that share a key: none makes a nonce that another makes, too.
    pub fn of_lane(self, lane: u16) -> Nonces {
        Nonces { lane, ..self }
    }

    /// A nonce for this moment (milliseconds since the epoch). No two of one `Nonces` are the same.
    pub fn make(&self, unix_ms: u64, realm: &str, source: IpAddr) -> String {
        let count = self.count.replace(self.count.get().wrapping_add(1));
        let twin = self.lane << COUNT_BITS | count & ((1 << COUNT_BITS) - 1);
        let when = (unix_ms << 16 | u64::from(twin)).to_be_bytes();
        let mut nonce = [0; WHEN_LEN + MAC_LEN];
        nonce[..WHEN_LEN].copy_from_slice(&when);
        nonce[WHEN_LEN..].copy_from_slice(&self.mac(when, realm, source));
        URL_SAFE_NO_PAD.encode(nonce)
    }

    /// Whether it is ours and fresh. One that a clock set back makes seem from the future is fresh for as long.
    pub fn check(&self, unix_ms: u64, realm: &str, source: IpAddr, nonce: &str) -> NonceCheck {
        let Some((when, mac)) = decode(nonce) else { return NonceCheck::Foreign };
        if !constant_time_eq(&self.mac(when, realm, source), &mac) {
            return NonceCheck::Foreign;
        }
        let made = u64::from_be_bytes(when) >> 16;
        match u128::from(made.abs_diff(unix_ms)) <= LIFE.as_millis() {
            true => NonceCheck::Fresh(u64::from_be_bytes(mac[..8].try_into().expect("8 of 10 bytes"))),
            false => NonceCheck::Stale,
        }
    }

    fn mac(&self, when: [u8; WHEN_LEN], realm: &str, source: IpAddr) -> [u8; MAC_LEN] {
        let source = match source.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let covered = [b"postern nonce\0", &when[..], &source.octets(), realm.as_bytes()].concat();
        let hash = blake3::keyed_hash(&self.key, &covered);
        hash.as_bytes().first_chunk().copied().expect("10 of 32 bytes")
    }
}

fn decode(nonce: &str) -> Option<([u8; WHEN_LEN], [u8; MAC_LEN])> {
    let bytes = (nonce.len() == CHARS).then(|| URL_SAFE_NO_PAD.decode(nonce).ok()).flatten()?;
    let (when, mac) = bytes.split_first_chunk()?;
    Some((*when, mac.try_into().ok()?))
}

const COUNT_BITS: u32 = 10;
const WHEN_LEN: usize = 8;
const MAC_LEN: usize = 10;
const CHARS: usize = (WHEN_LEN + MAC_LEN) * 4 / 3;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_767_225_600_123;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn nonces() -> Nonces {
        Nonces::new([7; 32])
    }

    #[test]
    fn is_fresh_for_300_seconds_and_then_stale() {
        let nonce = nonces().make(NOW, "example.com", ip("192.0.2.1"));
        let at = |later| nonces().check(NOW + later, "example.com", ip("192.0.2.1"), &nonce);
        assert!(matches!(at(300_000), NonceCheck::Fresh(_)));
        assert_eq!(at(300_001), NonceCheck::Stale);
    }

    #[test]
    fn a_clock_set_back_does_not_make_it_immortal() {
        let nonce = nonces().make(NOW, "example.com", ip("192.0.2.1"));
        let at = |earlier| nonces().check(NOW - earlier, "example.com", ip("192.0.2.1"), &nonce);
        assert!(matches!(at(300_000), NonceCheck::Fresh(_)));
        assert_eq!(at(300_001), NonceCheck::Stale);
    }

    #[test]
    fn is_foreign_elsewhere_for_another_realm_or_with_another_key() {
        let nonce = nonces().make(NOW, "example.com", ip("192.0.2.1"));
        assert_eq!(nonces().check(NOW, "example.com", ip("192.0.2.2"), &nonce), NonceCheck::Foreign);
        assert_eq!(nonces().check(NOW, "example.org", ip("192.0.2.1"), &nonce), NonceCheck::Foreign);
        assert_eq!(
            Nonces::new([8; 32]).check(NOW, "example.com", ip("192.0.2.1"), &nonce),
            NonceCheck::Foreign
        );
    }

    #[test]
    fn a_source_is_the_same_seen_through_a_dual_stack_socket() {
        let nonce = nonces().make(NOW, "x", ip("192.0.2.1"));
        assert!(matches!(nonces().check(NOW, "x", ip("::ffff:192.0.2.1"), &nonce), NonceCheck::Fresh(_)));
    }

    #[test]
    fn two_of_one_moment_differ_and_are_told_apart() {
        let nonces = nonces();
        let [one, two] = [(); 2].map(|()| nonces.make(NOW, "x", ip("192.0.2.1")));
        let id = |nonce: &str| nonces.check(NOW, "x", ip("192.0.2.1"), nonce);
        assert_ne!(one, two);
        assert_ne!(id(&one), id(&two));
        assert_eq!(id(&one), id(&one));
    }

    #[test]
    fn lanes_that_share_a_key_never_make_the_same_one() {
        let lanes = [0, 1, 63].map(|lane| nonces().of_lane(lane));
        let made = lanes.iter().flat_map(|nonces| (0..1024).map(|_| nonces.make(NOW, "x", ip("192.0.2.1"))));
        assert_eq!(made.collect::<std::collections::HashSet<_>>().len(), 3 * 1024);
    }

    proptest! {
        #[test]
        fn nothing_made_up_is_ours(nonce in "[A-Za-z0-9_-]{24}|.{0,40}") {
            prop_assert_eq!(nonces().check(NOW, "x", ip("192.0.2.1"), &nonce), NonceCheck::Foreign);
        }
    }
}
