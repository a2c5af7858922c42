//! Credentials and challenges: made up ones prove nothing, and the answer to any challenge we can answer is right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::digest::{NonceCheck, Nonces, Request, answer, verify};
use proto::sip::Auth;
use proto::tables::Secret;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let request = || Request { method: "INVITE", body: b"v=0" };
    for secret in
        [Secret::Password("a password nobody guesses".into()), Secret::Hashed { md5: None, sha256: None }]
    {
        assert!(!verify(text, &secret, request()), "{text}");
    }
    let nonces = Nonces::new([7; 32]);
    let source = std::net::IpAddr::from([192, 0, 2, 1]);
    let nonce = Auth(text).get("nonce").unwrap_or(text);
    let check = nonces.check(1_767_225_600_000, "example.com", source, nonce);
    assert!(!matches!(check, NonceCheck::Fresh(_)), "{nonce}");
    if let Some(credentials) = answer(text, "alice", "secret", "sip:bob@example.com", request(), 1, "0a4f") {
        // A server that names SHA-256 and no qop is answered, while we as a server insist on qop (RFC 8760 §2.6).
        let given = Auth(&credentials);
        let insisted = given.get("qop").is_some()
            || given.get("algorithm").is_none_or(|a| a.eq_ignore_ascii_case("MD5"));
        let right = Secret::Password("secret".into());
        assert_eq!(verify(&credentials, &right, request()), insisted, "{text}\n{credentials}");
    }
});
