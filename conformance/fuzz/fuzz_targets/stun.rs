//! A STUN datagram (RFC 8489, RFC 5780): read everything, answer it, and hold what must hold.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use proto::stun::{Message, Server, is_stun};

fuzz_target!(|data: &[u8]| {
    let (from, local) = (SocketAddr::from(([192, 0, 2, 1], 4000)), SocketAddr::from(([203, 0, 113, 1], 3478)));
    if let Some(message) = Message::parse(data) {
        assert!(is_stun(data));
        let _ = (message.mapped(), message.origin(), message.other(), message.change(), message.response_port());
        let _ = (message.error(), message.username(), message.not_understood().count());
        assert!(!message.is_sealed_with(b"a key nobody guesses"));
    }
    let other = SocketAddr::from(([203, 0, 113, 2], 3479));
    for server in [Server::single(), Server::pair(local, other)] {
        if let Some(answer) = server.answer(data, from, local) {
            let answered = Message::parse(&answer.bytes).expect("what we answer is STUN");
            assert_eq!(answered.transaction(), Message::parse(data).expect("so was the question").transaction());
        }
    }
});
