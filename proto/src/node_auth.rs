//! Proof between our own nodes: the `Node-Auth` header, because source addresses over UDP are forgeable.
//!
//! `Node-Auth: 1767225600 <12 characters>`: the time, and keyed BLAKE3 (72 bits, base64url), good for ± 60 s, over
//!
//! - method and request URI, or status and the method in CSeq;
//! - the time;
//! - From, To, Call-ID, CSeq, Contact, Expires and Route, and all `Relay-*` headers, with their values as they stand;
//! - the body.
//!
//! What changes on the way of a single hop (Via) or says nothing that we act on is left out. Requests carry it, and so
//! do responses whose Relay-* headers or Contact matter (a 302). Each of our nodes signs what it sends: the proof says
//! "the neighbour who sent this is ours", not who wrote it first. 72 bits are enough for what must be guessed online, one
//! message a guess, and a guess is worth a minute; they keep an INVITE short.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use constant_time_eq::constant_time_eq;

use crate::sip::{Message, Name};

/// The key our nodes share.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeKey(pub [u8; 32]);

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey")
    }
}

/// How a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// One of ours sent exactly this.
    Proven,
    /// It claims nothing.
    Absent,
    /// It claims to be ours and is not, or is too old or too new.
    False,
}

impl NodeKey {
    /// The message with its proof added (an older one replaced).
    pub fn sign(&self, message: &Message, unix_now: u64) -> Message {
        let mac = URL_SAFE_NO_PAD.encode(self.mac(message, unix_now));
        let value = format!("{unix_now} {mac}");
        message.edit().remove(Name::NodeAuth).append(Name::NodeAuth, &value).finish()
    }

    /// How the message stands.
    pub fn check(&self, message: &Message, unix_now: u64) -> Proof {
        if !message.has(Name::NodeAuth) {
            return Proof::Absent;
        }
        let proven = message.text(Name::NodeAuth).and_then(read).is_some_and(|(time, mac)| {
            time.abs_diff(unix_now) <= WINDOW_S && constant_time_eq(&self.mac(message, time), &mac)
        });
        if proven { Proof::Proven } else { Proof::False }
    }

    /// What is covered is laid out first and hashed in one go: a hasher fed field by field costs twice as much.
    fn mac(&self, message: &Message, time: u64) -> [u8; MAC_LEN] {
        let mut covered = Vec::with_capacity(message.bytes().len() + ROOM);
        covered.extend_from_slice(b"postern node\0");
        covered.extend_from_slice(&time.to_be_bytes());
        covered.extend_from_slice(&message.status().unwrap_or(0).to_be_bytes());
        let mut field = |bytes: &[u8]| {
            covered.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            covered.extend_from_slice(bytes);
        };
        field(message.method().as_str().as_bytes());
        field(message.request_uri().as_bytes());
        for header in message.headers().filter(|header| is_covered(header.name)) {
            field(header.name.as_str().as_bytes());
            field(header.value);
        }
        field(b""); // no header has an empty name: here the headers end
        field(message.body());
        let hash = blake3::keyed_hash(&self.0, &covered);
        std::array::from_fn(|at| hash.as_bytes()[at])
    }
}

fn is_covered(name: Name) -> bool {
    use Name::*;
    matches!(
        name,
        From | To
            | CallId
            | CSeq
            | Contact
            | Expires
            | Route
            | RelayLeg
            | RelayNetwork
            | RelayPeer
            | RelayPolicy
            | RelaySession
            | RelaySrtp
            | RelayVerdict
    )
}

/// Time and MAC of a header's value.
fn read(value: &str) -> Option<(u64, Vec<u8>)> {
    let (time, mac) = value.split_once(' ')?;
    Some((time.parse().ok()?, URL_SAFE_NO_PAD.decode(mac.trim()).ok()?))
}

const MAC_LEN: usize = 9;
/// For the lengths of the fields, and the few names that are shorter on the wire.
const ROOM: usize = 384;
/// How far two of our clocks may be apart, the message's way included.
const WINDOW_S: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    const NOW: u64 = 1_767_225_600;

    const REGISTER: &str = "REGISTER sip:redirect.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
        From: <sip:p1.example.com>;tag=1\r\nTo: <sip:alice@example.com>\r\nCall-ID: c1\r\nCSeq: 7 REGISTER\r\n\
        Contact: <sip:p1.example.com;lr>\r\nExpires: 60\r\nRelay-Verdict: direct\r\nContent-Length: 4\r\n\r\nbody";

    fn message(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn key() -> NodeKey {
        NodeKey([5; 32])
    }

    fn text(message: &Message) -> String {
        String::from_utf8(message.bytes().to_vec()).unwrap()
    }

    #[test]
    fn what_is_signed_is_proven_and_otherwise_unchanged() {
        let signed = key().sign(&message(REGISTER), NOW);
        assert_eq!(key().check(&signed, NOW), Proof::Proven);
        let plain = signed.edit().remove(Name::NodeAuth).finish();
        assert_eq!(text(&plain), REGISTER);
        let value = signed.text(Name::NodeAuth).unwrap();
        assert!(value.starts_with("1767225600 ") && value.len() == 11 + 12, "{value}");
    }

    #[test]
    fn what_claims_nothing_is_absent_and_another_key_is_false() {
        assert_eq!(key().check(&message(REGISTER), NOW), Proof::Absent);
        assert_eq!(NodeKey([6; 32]).check(&key().sign(&message(REGISTER), NOW), NOW), Proof::False);
    }

    #[test]
    fn it_is_good_for_60_seconds_either_way() {
        let signed = key().sign(&message(REGISTER), NOW);
        for (now, proof) in [
            (NOW + 60, Proof::Proven),
            (NOW + 61, Proof::False),
            (NOW - 60, Proof::Proven),
            (NOW - 61, Proof::False),
        ] {
            assert_eq!(key().check(&signed, now), proof, "{now}");
        }
    }

    #[test]
    fn no_covered_part_can_be_changed() {
        let signed = text(&key().sign(&message(REGISTER), NOW));
        let changes = [
            ("REGISTER sip:redirect", "REGISTER sip:rediract"),
            ("<sip:p1.example.com>", "<sip:p2.example.com>"),
            ("alice", "carol"),
            ("Call-ID: c1", "Call-ID: c2"),
            ("CSeq: 7", "CSeq: 8"),
            ("<sip:p1.example.com;lr>", "<sip:evil.example.com;lr>"),
            ("Expires: 60", "Expires: 61"),
            ("Relay-Verdict: direct", "Relay-Session: direct"),
            ("Relay-Verdict: direct", "Relay-Verdict: direct\r\nContact: <sip:evil.example.com>"),
            ("Relay-Verdict: direct\r\n", ""),
            ("Auth: 1767225600", "Auth: 1767225601"),
            ("\r\n\r\nbody", "\r\n\r\nbodx"),
        ];
        for (from, to) in changes {
            let forged = signed.replacen(from, to, 1);
            assert_ne!(forged, signed);
            assert_eq!(key().check(&message(&forged), NOW), Proof::False, "{to}");
        }
    }

    #[test]
    fn a_via_that_changes_on_the_way_does_no_harm() {
        let signed = text(&key().sign(&message(REGISTER), NOW));
        let received = signed.replacen("branch=z9hG4bK1", "branch=z9hG4bK1;received=192.0.2.9", 1);
        assert_eq!(key().check(&message(&received), NOW), Proof::Proven);
    }

    #[test]
    fn a_response_is_proven_with_its_status_and_contact() {
        let response = "SIP/2.0 302 Moved Temporarily\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\n\
            To: <sip:b@x>;tag=2\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nContact: <sip:p2;lr>\r\nContent-Length: 0\r\n\r\n";
        let signed = text(&key().sign(&message(response), NOW));
        assert_eq!(key().check(&message(&signed), NOW), Proof::Proven);
        for (from, to) in [("302", "301"), ("sip:p2", "sip:p3"), ("1 INVITE", "1 BYE")] {
            assert_eq!(key().check(&message(&signed.replacen(from, to, 1)), NOW), Proof::False, "{to}");
        }
    }

    #[test]
    fn signing_again_replaces_the_proof() {
        let twice = key().sign(&key().sign(&message(REGISTER), NOW - 500), NOW);
        assert_eq!(key().check(&twice, NOW), Proof::Proven);
        assert_eq!(text(&twice).matches("Node-Auth").count(), 1);
    }

    proptest! {
        #[test]
        fn a_damaged_message_that_still_proves_itself_says_the_same(at in any::<prop::sample::Index>(), byte: u8) {
            let signed = key().sign(&message(REGISTER), NOW);
            let mut bytes = signed.bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let Ok(damaged) = Message::parse(Bytes::from(bytes)) else { return Ok(()) };
            if key().check(&damaged, NOW) == Proof::Proven {
                prop_assert_eq!((damaged.method(), damaged.request_uri()), (signed.method(), signed.request_uri()));
                for name in [Name::From, Name::To, Name::CallId, Name::CSeq, Name::Contact, Name::Expires] {
                    prop_assert_eq!(damaged.text(name), signed.text(name));
                }
                prop_assert_eq!(damaged.body(), signed.body());
            }
        }

        #[test]
        fn no_made_up_proof_passes(value in "[ -~]{0,60}|1767225600 [A-Za-z0-9_-]{12}") {
            let forged = message(REGISTER).edit().append(Name::NodeAuth, &value).finish();
            prop_assert_eq!(key().check(&forged, NOW), Proof::False);
        }
    }
}
