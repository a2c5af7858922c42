//! Our reading and rewriting of session descriptions beside that of an independent parser (sdp-rs), on the ones that
//! one takes. It panics on some and drops misplaced lines, so it stands behind a guard and is only shown ordered ones.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::panic::catch_unwind;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use proto::sdp::{Direction, Rewrite, Sdp};
use sdp_rs::lines::Attribute;
use sdp_rs::{MediaDescription, SessionDescription};

/// What both are asked about one description.
#[derive(Debug, PartialEq)]
struct Reading {
    origin: IpAddr,
    media: Vec<Section>,
}

#[derive(Debug, PartialEq)]
struct Section {
    kind: String,
    port: u16,
    protocol: String,
    formats: String,
    ip: Option<IpAddr>,
    direction: Direction,
    clock_rates: BTreeSet<(u8, u32)>,
    rtcp_mux: bool,
}

fn ours(bytes: &[u8]) -> Option<Reading> {
    let sdp = Sdp::parse(bytes).ok()?;
    let section = |m: &proto::sdp::Media<'_>| Section {
        kind: m.media.into(),
        port: m.port,
        protocol: m.protocol.into(),
        formats: m.formats.join(" "),
        ip: m.connection.and_then(|c| c.ip),
        direction: m.direction,
        clock_rates: m.clock_rates.iter().copied().collect(),
        rtcp_mux: m.rtcp_mux,
    };
    Some(Reading {
        origin: sdp.origin_address?.parse().ok()?,
        media: sdp.media.iter().map(section).collect(),
    })
}

fn theirs(text: &str) -> Option<Reading> {
    let sdp = catch_unwind(|| SessionDescription::try_from(text).ok()).ok().flatten()?;
    let section = |m: &MediaDescription| Section {
        kind: m.media.media.to_string(),
        port: m.media.port,
        protocol: m.media.proto.to_string(),
        formats: m.media.fmt.clone(),
        ip: m.connections.first().or(sdp.connection.as_ref()).map(|c| c.connection_address.base),
        direction: direction(&m.attributes).or(direction(&sdp.attributes)).unwrap_or_default(),
        clock_rates: m.attributes.iter().filter_map(clock_rate).collect(),
        rtcp_mux: m.attributes.contains(&Attribute::Other("rtcp-mux".into(), None)),
    };
    Some(Reading {
        origin: sdp.origin.unicast_address,
        media: sdp.media_descriptions.iter().map(section).collect(),
    })
}

fn direction(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().rev().find_map(|attribute| match attribute {
        Attribute::Sendrecv => Some(Direction::SendRecv),
        Attribute::Sendonly => Some(Direction::SendOnly),
        Attribute::Recvonly => Some(Direction::RecvOnly),
        // It misspells the word when it reads ("inacive"), and so leaves it untyped.
        Attribute::Other(name, None) if name == "inactive" => Some(Direction::Inactive),
        _ => None,
    })
}

fn clock_rate(attribute: &Attribute) -> Option<(u8, u32)> {
    let Attribute::Rtpmap(map) = attribute else { return None };
    Some((map.payload_type.try_into().ok()?, map.clock_rate.try_into().ok()?))
}

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        "10\\.[0-9]\\.[0-9]\\.[1-9]",
        Just("0.0.0.0".to_owned()),
        "2001:db8::[1-9a-f]",
        Just("fe80::1".into())
    ]
}

fn connection() -> impl Strategy<Value = String> {
    address().prop_map(|ip| format!("c=IN {} {ip}\r\n", if ip.contains(':') { "IP6" } else { "IP4" }))
}

fn maybe(line: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    proptest::option::of(line).prop_map(Option::unwrap_or_default)
}

fn attribute() -> impl Strategy<Value = String> {
    prop_oneof![
        "a=(sendrecv|sendonly|recvonly|inactive)\r\n",
        "a=rtpmap:(9[6-9]|1[01][0-9]) (PCMA|telephone-event|opus)/(8000|48000)\r\n",
        "a=fmtp:101 0-1[56]\r\n",
        "a=(rtcp-mux|mid:[a-z]|ssrc:[0-9]{4} cname:x)\r\n",
        "a=rtcp:[1-9][0-9]{3}\r\n",
    ]
}

fn section() -> impl Strategy<Value = String> {
    let media = "m=(audio|video|image) (0|[1-9][0-9]{3})(/2)? (RTP/AVP|RTP/SAVP|udptl|UDP/TLS/RTP/SAVPF) (0|8 101|t38)\r\n";
    (
        media,
        maybe(connection()),
        maybe(Just("b=AS:64\r\n".to_owned())),
        proptest::collection::vec(attribute(), 0..5),
    )
        .prop_map(|(media, connection, bandwidth, attributes)| {
            [media, connection, bandwidth, attributes.concat()].concat()
        })
}

/// Every line in RFC 8866's order.
fn description() -> impl Strategy<Value = String> {
    let sections = proptest::collection::vec(section(), 1..4);
    (address(), connection(), proptest::collection::vec(attribute(), 0..3), sections).prop_map(
        |(origin, connection, attributes, sections)| {
            let family = if origin.contains(':') { "IP6" } else { "IP4" };
            let head = format!("v=0\r\no=- 1 2 IN {family} {origin}\r\ns=-\r\n{connection}t=0 0\r\n");
            [head, attributes.concat(), sections.concat()].concat()
        },
    )
}

/// The same descriptions in every run.
fn descriptions(count: usize) -> Vec<String> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = description();
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("no filter to fail").current()).collect()
}

#[test]
fn both_read_the_same_in_what_both_take() {
    let mut taken = 0;
    for text in descriptions(500) {
        let Some(theirs) = theirs(&text) else { continue };
        taken += 1;
        assert_eq!(ours(text.as_bytes()), Some(theirs), "{text}");
    }
    assert!(taken > 400, "the other parser took only {taken} of 500: this test proves little");
}

#[test]
fn the_other_reads_in_a_rewritten_description_what_was_told_and_the_rest_as_it_was() {
    let mut compared = 0;
    for text in descriptions(500) {
        let sdp = Sdp::parse(text.as_bytes()).expect("a description");
        let rewrites: Vec<_> = (0..sdp.media.len()).map(|n| Some(relay(n))).collect();
        let out = String::from_utf8(sdp.rewrite(&rewrites)).expect("text");
        let (Some(before), Some(after)) = (theirs(&text), theirs(&out)) else { continue };
        compared += 1;
        assert_eq!(after.origin, relay(0).rtp.ip(), "{out}");
        for (n, (was, is)) in before.media.into_iter().zip(after.media).enumerate() {
            assert_eq!(is, expected(was, sdp.media[n].is_blackholed(), relay(n)), "{text}\n{out}");
        }
    }
    assert!(compared > 400, "compared only {compared} of 500: this test proves little");
}

fn relay(n: usize) -> Rewrite {
    let rtp: SocketAddr = format!("192.0.2.1:{}", 30_000 + 2 * n).parse().expect("an address");
    Rewrite { rtp, rtcp: Some(SocketAddr::new(rtp.ip(), rtp.port() + 1)) }
}

fn expected(was: Section, held: bool, to: Rewrite) -> Section {
    let rejected = was.port == 0;
    Section {
        port: if rejected { 0 } else { to.rtp.port() },
        ip: if held { was.ip } else { Some(to.rtp.ip()) },
        ..was
    }
}
