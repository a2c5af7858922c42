//! `a=fingerprint` (RFC 8122 §5): the hash of the certificate a party will show, so that the signalling vouches for it.

use sha2::{Digest, Sha256, Sha384, Sha512};

/// What stands behind `a=fingerprint:` for a certificate of ours.
pub fn of(certificate: &[u8]) -> String {
    format!("sha-256 {}", hex(&Sha256::digest(certificate)))
}

/// Whether a certificate is one of those that were named. SHA-1 and what is weaker vouches for nothing.
pub fn is_named(certificate: &[u8], lines: &[String]) -> bool {
    lines.iter().any(|line| is(certificate, line))
}

fn is(certificate: &[u8], line: &str) -> bool {
    let Some((hash, value)) = line.trim().split_once(' ') else { return false };
    let ours = match hash.to_ascii_lowercase().as_str() {
        "sha-256" => hex(&Sha256::digest(certificate)),
        "sha-384" => hex(&Sha384::digest(certificate)),
        "sha-512" => hex(&Sha512::digest(certificate)),
        _ => return false,
    };
    ours.eq_ignore_ascii_case(value.trim())
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_known_by_any_strong_hash_in_any_case() {
        let line = of(b"abc");
        assert!(line.starts_with("sha-256 BA:78:16:BF:8F:01:CF:EA:41:41:40:DE"), "FIPS 180-2 B.1: {line}");
        assert!(is_named(b"abc", &["sha-1 00".into(), line.to_ascii_lowercase()]));
        assert!(!is_named(b"abd", std::slice::from_ref(&line)));
        let sha1 = "sha-1 A9:99:3E:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D";
        assert!(!is_named(b"abc", &[sha1.into()]), "SHA-1 vouches for nothing");
        assert!(!is_named(b"abc", &[]));
    }
}
