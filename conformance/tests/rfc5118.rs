//! RFC 5118, SIP torture tests for IPv6.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "reads vectors")]

use bytes::Bytes;
use proto::node::literal;
use proto::sip::{Malformed, Message};

fn read(name: &str) -> Result<Message, Malformed> {
    let path = format!("{}/vectors/rfc5118/{name}.sip", env!("CARGO_MANIFEST_DIR"));
    Message::parse(Bytes::from(std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))))
}

fn host_and_port(name: &str) -> (String, Option<u16>) {
    let message = read(name).unwrap();
    let uri = message.uri().unwrap();
    (uri.host.to_string(), uri.port)
}

#[test]
fn s4_1_an_ipv6_reference_is_read() {
    let message = read("ipv6-good").unwrap();
    assert_eq!(message.uri().unwrap().host, "[2001:db8::10]");
    assert!(message.via().unwrap().is_from("[2001:db8::9:1]:5060".parse().unwrap()));
    assert_eq!(message.contacts().next().unwrap().unwrap().uri().unwrap().host, "[2001:db8::1]");
}

#[test]
fn s4_2_an_address_without_brackets_is_refused() {
    assert_eq!(read("ipv6-bad").unwrap_err().status, 400);
}

#[test]
fn s4_3_and_4_4_a_port_stands_outside_the_brackets() {
    assert_eq!(host_and_port("port-ambiguous"), ("[2001:db8::10:5070]".into(), None));
    assert_eq!(host_and_port("port-unambiguous"), ("[2001:db8::10]".into(), Some(5070)));
}

#[test]
fn s4_5_received_is_read_with_and_without_brackets() {
    for name in ["via-received-param-with-delim", "via-received-param-no-delim"] {
        let message = read(name).unwrap();
        let received = message.via().unwrap().params.get("received").and_then(literal);
        assert_eq!(received, Some("2001:db8::9:255".parse().unwrap()), "{name}");
    }
}

#[test]
fn s4_6_and_4_8_and_4_9_sdp_with_ipv6_addresses_is_found_whole() {
    for (name, length) in [("ipv6-in-sdp", 251), ("mult-ip-in-sdp", 189), ("ipv4-mapped-ipv6", 245)] {
        assert_eq!(read(name).unwrap().sdp().unwrap().1.len(), length, "{name}");
    }
}

#[test]
fn s4_7_both_families_mix_in_one_message() {
    let message = read("mult-ip-in-header").unwrap();
    let hosts: Vec<_> = message.vias().map(|via| via.unwrap().host).collect();
    assert_eq!(hosts, ["[2001:db8::9:1]", "192.0.2.1", "[2001:db8::9:255]"]);
}

#[test]
fn s4_10_the_three_colons_of_the_old_grammar_are_read_too() {
    assert_eq!(host_and_port("ipv6-bug-abnf-3-colons").0, "[2001:db8:::192.0.2.1]");
    assert_eq!(host_and_port("ipv6-correct-abnf-2-colons").0, "[2001:db8::192.0.2.1]");
}
