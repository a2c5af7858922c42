//! Paths in words, the same wherever a person reads them.

use std::net::SocketAddr;

/// How messages go to a buddy ([`super::BuddyReport::path`]).
pub fn way(path: &str, at: Option<SocketAddr>) -> String {
    match (path, at) {
        ("direct", Some(at)) => format!("directly at {at}"),
        ("direct", None) => "directly".to_owned(),
        ("reflector", _) => "by the reflector".to_owned(),
        ("tunnel", _) => "through the access server, by TLS".to_owned(),
        _ => "by the access server".to_owned(),
    }
}

/// How media goes ([`super::CallReport::path`]).
pub fn line(path: &str) -> &'static str {
    match path {
        "direct" => "directly",
        "relay" => "by the relay",
        "tunnel" => "through the access server, by TLS",
        _ => "by no path",
    }
}

/// What was heard of a call.
pub fn heard(received: u64, lost: u64, silence_ms: u64) -> String {
    let packets = if received == 1 { "packet" } else { "packets" };
    format!("{received} {packets} heard, {lost} lost, longest silence {silence_ms} ms")
}
