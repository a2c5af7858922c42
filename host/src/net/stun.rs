//! STUN on the SIP port (RFC 5389 §7.3.1, RFC 5626 §4.4.2): a Binding request is told where it came from.

use std::net::SocketAddr;

use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageClass, MessageWrite, MessageWriteExt, MessageWriteVec};

/// STUN's magic cookie (RFC 5389 §6), at bytes 4 to 7.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Whether bytes are STUN, by first byte and cookie (RFC 7983).
pub fn is_stun(bytes: &[u8]) -> bool {
    bytes.len() >= 20 && bytes[0] < 4 && bytes[4..8] == COOKIE
}

/// The answer to a Binding request; `None` for anything else.
pub fn answer(bytes: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let request = Message::from_bytes(bytes).ok()?;
    if request.class() != MessageClass::Request || request.method() != BINDING {
        return None;
    }
    let mut response = Message::builder_success(&request, MessageWriteVec::new());
    response.add_attribute(&XorMappedAddress::new(from, request.transaction_id())).ok()?;
    response.add_fingerprint().ok()?;
    Some(response.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_request_learns_where_it_came_from() {
        let mut request = Message::builder_request(BINDING, MessageWriteVec::new());
        request.add_fingerprint().unwrap();
        let bytes = request.finish();
        assert!(is_stun(&bytes));
        let from: SocketAddr = "203.0.113.9:40000".parse().unwrap();
        let response = answer(&bytes, from).unwrap();
        let response = Message::from_bytes(&response).unwrap();
        let seen: XorMappedAddress = response.attribute().unwrap();
        assert_eq!(seen.addr(response.transaction_id()), from);
    }

    #[test]
    fn a_response_is_not_answered() {
        assert!(
            answer(
                &[1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                ([192, 0, 2, 1], 1).into()
            )
            .is_none()
        );
        assert!(!is_stun(b"REGISTER sip:example.org SIP/2.0"));
    }
}
