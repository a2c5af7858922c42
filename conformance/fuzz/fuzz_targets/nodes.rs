//! What our own nodes tell one another, from somebody else: relay requests without a proof, and made up tokens.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use proto::control::Ask;
use proto::node_auth::{NodeKey, Proof};
use proto::sip::{Builder, Message, Name};
use proto::token::Keys;

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = Message::parse(Bytes::copy_from_slice(data)) {
        let _ = Ask::read(&message);
        assert_ne!(NodeKey([5; 32]).check(&message, 1_767_225_600), Proof::Proven);
        let signed = NodeKey([5; 32]).sign(&message, 1_767_225_600);
        if Message::parse(signed.bytes().clone()).is_ok() {
            assert_eq!(NodeKey([5; 32]).check(&signed, 1_767_225_600), Proof::Proven);
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert_eq!(Keys(vec![[1; 32]]).open(b'D', 1_767_225_600, text), None);
    if let Ok(ask) = Ask::read(&with_headers(text)) {
        let written = ask.write(Builder::request("INVITE", "sip:relay").header(Name::CallId, "c")).finish();
        // Networks' names are tokens when we write them, whatever somebody else wrote.
        let again = Ask::read(&written).expect("what we write");
        let plain = Ask { networks: again.networks.clone(), ..ask };
        assert_eq!(again, plain);
    }
});

/// A relay request whose headers are the lines of a text.
fn with_headers(text: &str) -> Message {
    let names = [Name::RelaySession, Name::RelayLeg, Name::RelayPeer, Name::RelayNetwork, Name::RelayPolicy, Name::RelaySrtp];
    let lines = text.split('\n').map(|line| line.trim().replace('\r', " "));
    let request = Builder::request("INVITE", "sip:relay").header(Name::CallId, "c");
    names.into_iter().zip(lines).fold(request, |request, (name, value)| request.header(name, value)).finish()
}
