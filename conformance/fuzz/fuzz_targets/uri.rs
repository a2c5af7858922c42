//! Two URIs: each is itself, and being equivalent is mutual (RFC 3261 §19.1.4).
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::sip::Uri;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (one, other) = text.split_once('\n').unwrap_or((text, text));
    let (Ok(one), Ok(other)) = (Uri::parse(one), Uri::parse(other)) else { return };
    assert!(one.is_equivalent(&one) && other.is_equivalent(&other), "{text}");
    assert_eq!(one.is_equivalent(&other), other.is_equivalent(&one), "{text}");
    let _ = (one.transport(), one.has_lr());
    if let Some(aor) = one.aor() {
        assert!(!aor.contains([' ', '\r', '\n']), "{aor}");
    }
});
