//! Who proves nothing leaves nothing behind: after twenty thousand strangers have been challenged, not a byte more is
//! held than before, whatever address, name and Call-ID each of them had.
#![allow(clippy::disallowed_methods)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use conformance::allocations::{Counting, lent};
use host::bindings::Bindings;
use host::tables::{LaneTables, SharedTables};
use proto::node::{Birth, Flow, Input, Lane, Node, Output, Transport};
use proto::sip::Message;
use proxy::Proxy;
use proxy::config::Listener;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PROXY: &str = "203.0.113.1:5060";

struct Scene {
    proxy: Proxy,
    tables: LaneTables,
    now: Instant,
    challenged: u32,
}

impl Scene {
    fn new() -> Scene {
        let bind: SocketAddr = PROXY.parse().unwrap();
        let listener = Listener {
            network: 0,
            transport: Transport::Udp,
            bind,
            advertise: bind,
            authenticate: true,
            anchor: None,
            srtp: None,
            algorithms: Vec::new(),
            standing: Default::default(),
        };
        let config = proxy::Config {
            listeners: vec![listener],
            domains: vec!["example.com".into()],
            realm: "example.com".into(),
            ..proxy::Config::default()
        };
        let now = Instant::now();
        let birth = Birth { now, wall: SystemTime::now(), seed: [7; 32], lane: Lane::default() };
        let tables = LaneTables(SharedTables::new(Bindings::default(), None));
        Scene { proxy: Proxy::new(Arc::new(config), birth), tables, now, challenged: 0 }
    }

    /// A stranger with a new address, name and Call-ID asks, once a millisecond.
    fn stranger(&mut self, number: u32) {
        let source = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number * 7), 5060));
        let (method, uri) = match number % 3 {
            0 => ("REGISTER", "sip:example.com".to_owned()),
            1 => ("INVITE", format!("sip:callee{number}@example.com")),
            _ => ("OPTIONS", format!("sip:callee{number}@example.com")),
        };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {source};branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:user{number}@example.com>;tag={number}\r\nTo: <{uri}>\r\nCall-ID: call-{number}\r\n\
             CSeq: 1 {method}\r\nContact: <sip:user{number}@{source}>\r\nContent-Length: 0\r\n\r\n"
        );
        let message = Message::parse(Bytes::from(text)).unwrap();
        let flow = Flow::udp(PROXY.parse().unwrap(), source);
        self.now += Duration::from_millis(1);
        self.proxy.handle(self.now, Input::Message { flow, message }, &mut self.tables);
        while let Some(output) = self.proxy.poll(&mut self.tables) {
            if let Output::Send { bytes, .. } = output.on_the_wire() {
                self.challenged += u32::from(bytes.starts_with(b"SIP/2.0 40"));
            }
        }
    }
}

#[test]
fn strangers_who_are_challenged_leave_not_a_byte_behind() {
    const MANY: u32 = 20_000;
    let mut scene = Scene::new();
    (0..MANY).for_each(|number| scene.stranger(number));
    let before = lent();
    (MANY..2 * MANY).for_each(|number| scene.stranger(number));
    let grown = lent() - before;
    assert_eq!(scene.challenged, 2 * MANY, "each was answered");
    assert_eq!(scene.proxy.status().transactions, 0);
    assert!(grown <= 1024, "{grown} bytes are still held for {MANY} strangers");
}
