//! Stories of system 1 (SYSTEMS §1) with a relay and a redirect server played by the test.

mod answering;
mod asking;
mod lasting;

use std::time::Duration;

use proto::control::{Ask, Session};
use proto::event::{Event, MediaDecided, Rule, Side};
use proto::node::Transport;
use proto::node_auth::{NodeKey, Proof};
use proto::sip::{Message, Method, Name};
use proto::tables::Anchor;

use crate::Config;
use crate::config::{MediaRange, Redirect, Relay, Siblings};
use crate::tests::bench::{A, B, Bench, PROXY, Sent, in_dialog, invite, open, plain, to};
use crate::tests::testing::address;

const RELAY: &str = "203.0.113.50:5060";
const RELAY_2: &str = "203.0.113.51:5060";
const REDIRECT: &str = "203.0.113.60:5060";
const P2: &str = "203.0.113.2:5060";
const CALLEE: &str = "Contact: <sip:b@198.51.100.20:5070>";
/// What the scripted relay puts into any SDP: its own address.
const RELAYED: &str = "203.0.113.50";
const BIRTH: u64 = 1_767_225_600;

fn key() -> NodeKey {
    NodeKey([9; 32])
}

fn relay(name: &str, at: &str) -> Relay {
    let media = MediaRange { ip: address(at).ip(), ports: 20_000..=29_999 };
    Relay {
        name: name.into(),
        transport: Transport::Udp,
        address: address(at),
        weight: 1,
        media: vec![media],
    }
}

/// One relay, one redirect server, one sibling.
fn claim() -> Config {
    Config {
        relays: vec![relay("r", RELAY)],
        redirects: vec![Redirect { name: "d".into(), transport: Transport::Udp, address: address(REDIRECT) }],
        siblings: Siblings { cidrs: vec!["203.0.113.2/32".parse().unwrap()], key: Some(key()) },
        ..open()
    }
}

/// Everything to B by way of the relay.
fn always() -> Config {
    Config { anchor: Anchor::Always, relays: vec![relay("r", RELAY)], ..plain() }
}

fn sdp(ip: &str, port: u16) -> String {
    format!("v=0\no=- 1 1 IN IP4 {ip}\ns=-\nc=IN IP4 {ip}\nt=0 0\nm=audio {port} RTP/AVP 0\n")
}

fn crlf(sdp: &str) -> String {
    sdp.replace('\n', "\r\n")
}

fn offer(uri: &str, ip: &str) -> String {
    format!("{}\n\n{}", invite(uri), sdp(ip, 4000))
}

fn one(sent: &[Sent], remote: &str, method: Method<'_>) -> Sent {
    let found = sent
        .iter()
        .find(|s| s.flow.remote == address(remote) && s.message.method() == method && s.message.is_request());
    found.unwrap_or_else(|| panic!("no {method:?} to {remote} in {sent:#?}")).clone()
}

/// The relay answers as a relay does: the same SDP, naming itself. Callers' media comes out at port 20000, callees'
/// at 20002.
fn relayed(bench: &mut Bench, asked: &Sent) -> Vec<Sent> {
    let ask = Ask::read(&asked.message).expect("a relay INVITE says what it asks");
    bench.session = Some(ask.session.to_string());
    let port = if ask.leg == Side::Caller { 20_000 } else { 20_002 };
    let body = if asked.message.sdp().is_some() { crlf(&sdp(RELAYED, port)) } else { String::new() };
    bench.answer(asked, 200, "Contact: <sip:relay@203.0.113.50>", &body)
}

/// A call through [`always`], answered; what the caller got.
fn answered(bench: &mut Bench) -> Message {
    let sent = bench.from(A, &offer("sip:b@example.com", "10.0.0.1"));
    let sent = relayed(bench, &one(&sent, RELAY, Method::Invite));
    let forwarded = one(&sent, B, Method::Invite);
    let sent = bench.answer(&forwarded, 200, CALLEE, &crlf(&sdp("192.168.0.5", 6000)));
    let sent = relayed(bench, &one(&sent, RELAY, Method::Invite));
    to(&sent, A).into_iter().find(|m| m.status() == Some(200)).expect("the caller gets the answer").clone()
}

fn decided(bench: &Bench) -> Vec<&MediaDecided> {
    let mut decided = Vec::new();
    for event in &bench.events {
        if let Event::MediaDecided(media) = event {
            decided.push(&**media);
        }
    }
    decided
}
