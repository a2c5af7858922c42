//! Our STUN beside another implementation's: each reads what the other writes.

use std::net::SocketAddr;

use proto::stun::{self, Change, Class, Server, Writer, attribute};
use stun_types::attribute::{Software, Username, XorMappedAddress};
use stun_types::message::{BINDING, Message, MessageClass, MessageWrite, MessageWriteExt, MessageWriteVec};

fn addresses() -> [SocketAddr; 2] {
    ["203.0.113.9:40000", "[2001:db8::9]:65535"].map(|text| text.parse().unwrap())
}

#[test]
fn they_read_our_answers() {
    for from in addresses() {
        let mut request = Message::builder_request(BINDING, MessageWriteVec::new());
        request.add_fingerprint().unwrap();
        let answer = Server::single().answer(&request.finish(), from, from).unwrap();
        let response = Message::from_bytes(&answer.bytes).unwrap();
        let seen: XorMappedAddress = response.attribute().unwrap();
        assert_eq!(response.class(), MessageClass::Success);
        assert_eq!(seen.addr(response.transaction_id()), from);
    }
}

#[test]
fn we_read_theirs() {
    for from in addresses() {
        let mut request = Message::builder_request(BINDING, MessageWriteVec::new());
        request.add_fingerprint().unwrap();
        let request = request.finish();
        let request = Message::from_bytes(&request).unwrap();
        let mut response = Message::builder_success(&request, MessageWriteVec::new());
        response.add_attribute(&XorMappedAddress::new(from, request.transaction_id())).unwrap();
        response.add_attribute(&Software::new("theirs").unwrap()).unwrap();
        response.add_attribute(&Username::new("a:b").unwrap()).unwrap();
        response.add_fingerprint().unwrap();
        let bytes = response.finish();
        let ours = stun::Message::parse(&bytes).unwrap();
        assert_eq!((ours.class(), ours.mapped(), ours.username()), (Class::Success, Some(from), Some("a:b")));
        assert_eq!(ours.attribute(attribute::SOFTWARE), Some(&b"theirs"[..]));
    }
}

#[test]
fn they_accept_our_seal() {
    use stun_types::message::{MessageIntegrityCredentials, ShortTermCredentials};
    let bytes = Writer::request([9; 12]).change(Change { ip: true, port: false }).seal(b"key");
    let message = Message::from_bytes(&bytes).unwrap();
    let key = MessageIntegrityCredentials::ShortTerm(ShortTermCredentials::new("key".to_owned()));
    message.validate_integrity(&key).unwrap();
}
