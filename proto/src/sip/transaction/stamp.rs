//! `received` and `rport` in the topmost Via of a request: where it really came from (RFC 3261 §18.2.1, RFC 3581 §4).

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::node::literal;
use crate::sip::{Message, Name};

/// The request with its topmost Via stamped; as it came when the Via tells the truth and asks for nothing.
pub(super) fn stamped(request: Message, source: SocketAddr) -> Message {
    let Some(via) = request.values(Name::Via).next() else { return request };
    match stamp(via, source) {
        Some(stamped) => request.edit().set_first(Name::Via, &stamped).finish(),
        None => request,
    }
}

/// The Via value anew, or `None` when there is nothing to add. Whatever `received` the sender wrote itself goes.
fn stamp(via: &str, source: SocketAddr) -> Option<String> {
    let mut parts = Parts(via);
    let sent_by = parts.next()?;
    let params: Vec<&str> = parts.collect();
    let asks_rport = params.iter().any(|p| p.eq_ignore_ascii_case("rport"));
    let forged = params.iter().any(|p| names(p, "received"));
    let ip = source.ip().to_canonical();
    if !asks_rport && !forged && host_of(sent_by) == Some(ip) {
        return None;
    }
    let mut stamped = String::with_capacity(via.len() + 48);
    stamped.push_str(sent_by);
    for param in params.iter().filter(|p| !names(p, "received")) {
        stamped.push(';');
        stamped.push_str(param);
        if param.eq_ignore_ascii_case("rport") {
            let _ = write!(stamped, "={}", source.port());
        }
    }
    if asks_rport || host_of(sent_by) != Some(ip) {
        let _ = write!(stamped, ";received={ip}");
    }
    Some(stamped)
}

/// Whether a parameter has this name.
fn names(param: &str, name: &str) -> bool {
    param.split('=').next().is_some_and(|n| n.trim().eq_ignore_ascii_case(name))
}

/// The address in `SIP/2.0/UDP 192.0.2.1:5060`, if it is one.
fn host_of(sent_by: &str) -> Option<IpAddr> {
    let host_port = sent_by.split_whitespace().next_back()?;
    let host = match host_port.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => host_port.split(':').next()?,
    };
    literal(host)
}

/// A value cut at the semicolons outside quotes, each part trimmed.
struct Parts<'a>(&'a str);

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = self.0.bytes().position(|byte| {
            let cut = byte == b';' && !quoted;
            quoted ^= byte == b'"' && !escaped;
            escaped = byte == b'\\' && quoted && !escaped;
            cut
        });
        let (part, rest) = end.map_or((self.0, ""), |end| (&self.0[..end], &self.0[end + 1..]));
        self.0 = rest;
        Some(part.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp_from(via: &str, source: &str) -> Option<String> {
        stamp(via, source.parse().unwrap())
    }

    #[test]
    fn leaves_a_truthful_via_alone() {
        assert_eq!(stamp_from("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1", "192.0.2.1:5060"), None);
        assert_eq!(stamp_from("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", "192.0.2.1:31000"), None);
        assert_eq!(stamp_from("SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bK1", "[2001:0db8::1]:5060"), None);
    }

    #[test]
    fn adds_received_when_the_address_differs_or_is_a_name() {
        assert_eq!(
            stamp_from("SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK1", "198.51.100.7:40000").unwrap(),
            "SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK1;received=198.51.100.7"
        );
        assert_eq!(
            stamp_from("SIP/2.0/UDP phone.example;branch=z9hG4bK1", "[2001:db8::9]:5060").unwrap(),
            "SIP/2.0/UDP phone.example;branch=z9hG4bK1;received=2001:db8::9"
        );
    }

    #[test]
    fn fills_rport_in_where_it_stands_and_always_with_received() {
        assert_eq!(
            stamp_from("SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK1", "192.0.2.1:5060").unwrap(),
            "SIP/2.0/UDP 192.0.2.1:5060;rport=5060;branch=z9hG4bK1;received=192.0.2.1"
        );
    }

    #[test]
    fn a_received_written_by_the_sender_does_not_survive() {
        assert_eq!(
            stamp_from("SIP/2.0/UDP 192.0.2.1;received=203.0.113.66;branch=z9hG4bK1", "192.0.2.1:5060")
                .unwrap(),
            "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1"
        );
    }

    #[test]
    fn quoted_semicolons_cut_nothing() {
        let via = r#"SIP/2.0/UDP 10.0.0.2 ; x="a;rport\";b" ; branch=z9hG4bK1"#;
        assert_eq!(
            stamp_from(via, "192.0.2.1:5060").unwrap(),
            r#"SIP/2.0/UDP 10.0.0.2;x="a;rport\";b";branch=z9hG4bK1;received=192.0.2.1"#
        );
    }
}
