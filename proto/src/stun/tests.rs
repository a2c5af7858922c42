//! RFC 8489, RFC 5769 and RFC 5780, a sentence each.

use proptest::prelude::*;

use super::*;

const A: &str = "203.0.113.10:3478";
const B: &str = "203.0.113.11:3479";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn request(change: Change) -> Vec<u8> {
    Writer::request([7; 12]).change(change).finish()
}

/// RFC 5769 §2.2, the IPv4 response, with its padding of spaces, HMAC-SHA1 and FINGERPRINT.
const RFC5769_RESPONSE: &[u8] = b"\x01\x01\x00\x3c\x21\x12\xa4\x42\
    \xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20\
    \x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\
    \x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7\
    \x80\x28\x00\x04\xc0\x7d\x4c\x96";

#[test]
fn reads_the_vector_of_rfc_5769() {
    let message = Message::parse(RFC5769_RESPONSE).unwrap();
    assert_eq!(message.class(), Class::Success);
    assert_eq!(message.mapped(), Some(addr("192.0.2.1:32853")));
    assert_eq!(message.attribute(attribute::SOFTWARE), Some(&b"test vector"[..]));
}

#[test]
fn every_flipped_bit_spoils_the_fingerprint_or_hides_it() {
    for bit in 0..RFC5769_RESPONSE.len() * 8 {
        let mut bytes = RFC5769_RESPONSE.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let passes = Message::parse(&bytes).is_some_and(|m| m.attribute(attribute::FINGERPRINT).is_some());
        assert!(!passes, "bit {bit}");
    }
}

#[test]
fn an_answer_says_where_the_request_was_seen_from_and_by_what() {
    for from in ["198.51.100.1:40000", "[2001:db8::7]:1"] {
        let answer = Server::single().answer(&request(Change::default()), addr(from), addr(A)).unwrap();
        let message = Message::parse(&answer.bytes).unwrap();
        assert_eq!((message.mapped(), message.origin()), (Some(addr(from)), Some(addr(A))));
        assert_eq!((answer.from, message.other()), (addr(A), None));
        assert_eq!(message.transaction(), [7; 12]);
    }
}

#[test]
fn an_answer_comes_from_where_it_is_asked_to() {
    let server = Server::pair(addr(A), addr(B));
    for (ip, port, expected) in [
        (false, false, A),
        (false, true, "203.0.113.10:3479"),
        (true, false, "203.0.113.11:3478"),
        (true, true, B),
    ] {
        let answer = server.answer(&request(Change { ip, port }), addr("198.51.100.1:1"), addr(A)).unwrap();
        assert_eq!(answer.from, addr(expected));
        assert_eq!(Message::parse(&answer.bytes).unwrap().other(), Some(addr(B)));
    }
}

#[test]
fn every_socket_of_a_pair_names_its_opposite() {
    let server = Server::pair(addr(A), addr(B));
    let others = server.sockets().into_iter().map(|local| {
        let answer = server.answer(&request(Change::default()), addr("198.51.100.1:1"), local).unwrap();
        Message::parse(&answer.bytes).unwrap().other().unwrap().to_string()
    });
    assert_eq!(others.collect::<Vec<_>>(), [B, "203.0.113.11:3478", "203.0.113.10:3479", A]);
}

#[test]
fn a_server_with_one_address_does_not_pretend_to_have_two() {
    let asked = request(Change { ip: true, port: true });
    assert_eq!(Server::single().answer(&asked, addr("198.51.100.1:1"), addr(A)), None);
}

#[test]
fn what_must_be_understood_and_is_not_gets_420() {
    let bytes = Writer::request([1; 12]).attribute(0x7abc, b"x").finish();
    let answer = Server::single().answer(&bytes, addr("198.51.100.1:1"), addr(A)).unwrap();
    let message = Message::parse(&answer.bytes).unwrap();
    assert_eq!((message.class(), message.error()), (Class::Error, Some(420)));
    assert_eq!(message.attribute(attribute::UNKNOWN_ATTRIBUTES), Some(&[0x7a, 0xbc][..]));
    let optional = Writer::request([1; 12]).attribute(0x8abc, b"x").finish();
    let answer = Server::single().answer(&optional, addr("198.51.100.1:1"), addr(A)).unwrap();
    assert_eq!(Message::parse(&answer.bytes).unwrap().class(), Class::Success);
}

#[test]
fn an_answer_goes_to_another_port_of_the_same_host_if_asked_to() {
    let bytes = Writer::request([1; 12]).attribute(attribute::RESPONSE_PORT, &[0x9c, 0x40, 0, 0]).finish();
    let answer = Server::single().answer(&bytes, addr("198.51.100.1:1"), addr(A)).unwrap();
    assert_eq!(answer.to, addr("198.51.100.1:40000"));
    assert_eq!(Message::parse(&answer.bytes).unwrap().mapped(), Some(addr("198.51.100.1:1")));
}

#[test]
fn responses_and_indications_are_not_answered() {
    for class in [Class::Success, Class::Error, Class::Indication] {
        let bytes = Writer::new(class, [1; 12]).finish();
        assert_eq!(Server::single().answer(&bytes, addr("198.51.100.1:1"), addr(A)), None);
    }
}

#[test]
fn a_seal_proves_its_key_and_every_byte_before_it() {
    let bytes = Writer::request([3; 12]).attribute(attribute::USERNAME, b"a:b").seal(b"key");
    let message = Message::parse(&bytes).unwrap();
    assert!(message.is_sealed_with(b"key") && !message.is_sealed_with(b"kez"));
    assert_eq!(message.username(), Some("a:b"));
    let other = Writer::request([3; 12]).attribute(attribute::USERNAME, b"a:c").finish();
    let forged = [&other[..28], &bytes[28..bytes.len() - 8]].concat();
    let mut forged = Writer { bytes: forged, transaction: [3; 12] }.finish();
    assert!(!Message::parse(&forged).unwrap().is_sealed_with(b"key"));
    forged.truncate(0);
}

#[test]
fn what_stands_behind_the_seal_is_not_read() {
    let sealed = Writer::request([3; 12]);
    let seal = seal_of(b"key", &sealed.bytes);
    let bytes = sealed
        .attribute(attribute::MESSAGE_INTEGRITY_SHA256, &seal)
        .attribute(attribute::USERNAME, b"mallory")
        .finish();
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.is_sealed_with(b"key"), message.username()), (true, None));
}

#[test]
fn a_crowd_of_attributes_is_refused() {
    let with = |n| (0..n).fold(Writer::request([1; 12]), |w, _| w.attribute(0x8000, b"")).finish();
    assert!(Message::parse(&with(MAX_ATTRIBUTES - 1)).is_some());
    assert!(Message::parse(&with(MAX_ATTRIBUTES)).is_none());
}

proptest! {
    #[test]
    fn nothing_that_is_sent_brings_it_down(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        length in 0u16..60,
    ) {
        if bytes.len() >= HEADER_LEN {
            bytes.truncate(HEADER_LEN + usize::from(length) * 4);
            let length = (bytes.len() - HEADER_LEN) as u16;
            bytes[..2].copy_from_slice(&[0, 1]);
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes[4..8].copy_from_slice(&COOKIE.to_be_bytes());
        }
        if let Some(message) = Message::parse(&bytes) {
            let _ = (message.mapped(), message.origin(), message.other(), message.change(), message.error());
            let _ = (message.username(), message.is_sealed_with(b"k"), message.not_understood().count());
        }
        let _ = Server::pair(addr(A), addr(B)).answer(&bytes, addr("192.0.2.1:1"), addr(A));
    }

    #[test]
    fn what_is_written_is_read(port in any::<u16>(), ip in any::<u128>(), id in any::<[u8; 12]>()) {
        let address = SocketAddr::new(Ipv6Addr::from(ip).into(), port);
        let bytes = Writer::new(Class::Success, id).mapped(address).finish();
        prop_assert_eq!(Message::parse(&bytes).unwrap().mapped(), Some(address));
    }
}

/// RFC 5769 §2.1: a check of ICE as an independent implementation wrote it.
#[test]
fn a_check_of_rfc_5769_proves_its_password_and_no_other() {
    let request = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
\x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\
\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\
\x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
\x80\x28\x00\x04\xe5\x7a\x3b\xcf";
    let message = Message::parse(request).unwrap();
    assert_eq!(message.username(), Some("evtj:h6vY"));
    assert!(message.is_signed_with(b"VOkJxbRl1RmTxUk/WvJxBt"));
    assert!(!message.is_signed_with(b"VOkJxbRl1RmTxUk/WvJxBu"));
    let signed = Writer::request([1; 12]).attribute(attribute::USERNAME, b"a:b").sign(b"key");
    assert!(Message::parse(&signed).unwrap().is_signed_with(b"key"));
    assert!(!Message::parse(&Writer::request([1; 12]).finish()).unwrap().is_signed_with(b"key"));
}
