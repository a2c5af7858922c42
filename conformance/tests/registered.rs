//! What a phone that registers costs in memory: counted in bytes the allocator has lent out, which no other load on the machine
//! changes. Its account, its binding, and all that a proxy remembers of it, when it is new and after refreshes.
#![allow(clippy::disallowed_methods)]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use conformance::allocations::{Counting, lent};
use host::accounts::Accounts;
use host::bindings::Bindings;
use host::config::{Settings, lower};
use host::keys::Keyring;
use host::tables::{LaneTables, SharedTables};
use proto::digest;
use proto::node::{Birth, Flow, Input, Lane, Node, Output};
use proto::shield::Policy;
use proto::sip::{Message, Name};
use proto::tables::Tables;
use proxy::Proxy;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes are lent to the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const PROXY: &str = "127.0.0.1:5060";
const PHONES: usize = 5_000;

struct Scene {
    proxy: Proxy,
    tables: LaneTables,
    now: Instant,
}

fn name(phone: usize) -> String {
    format!("phone{phone:06}")
}

/// What `conformance/bench` runs with, and the bytes its accounts take.
fn scene() -> (Scene, isize) {
    let mut text = String::from(
        "listeners: [{ address: \"127.0.0.1:5060\" }]\ndomains: [bench.test]\nproxy: {}\nusers:\n",
    );
    for phone in 0..PHONES {
        writeln!(text, "- {{ name: {}, password: secret }}", name(phone)).unwrap();
    }
    let settings = Settings::from_text(Path::new("bench.yaml"), &text).unwrap();
    let config = lower::proxy(&settings, &Keyring::from_secret(&[7; 32], None)).unwrap();
    let before = lent();
    let accounts = Arc::new(Accounts::new(lower::users(&settings)));
    let accounts_take = lent() - before;
    let tables = LaneTables(SharedTables::new(Bindings::default(), None));
    tables.0.reconfigure(&accounts, Policy { enabled: false, ..Policy::default() });
    let now = Instant::now();
    let birth = Birth { now, wall: SystemTime::now(), seed: [7; 32], lane: Lane::default() };
    (Scene { proxy: Proxy::new(Arc::new(config), birth), tables, now }, accounts_take)
}

impl Scene {
    fn register_from(&mut self, source: SocketAddr, phone: usize, cseq: u32, authorization: &str) -> Message {
        let (name, branch) = (name(phone), format!("z9hG4bK{phone}-{cseq}"));
        let text = format!(
            "REGISTER sip:bench.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5081;branch={branch};rport\r\n\
             From: <sip:{name}@bench.test>;tag=h{phone}\r\nTo: <sip:{name}@bench.test>\r\nCall-ID: hold-{phone}\r\n\
             CSeq: {cseq} REGISTER\r\nContact: <sip:{name}@127.0.0.1:5081>\r\nExpires: 3600\r\nMax-Forwards: 70\r\n\
             User-Agent: Example Phone 1.2.3\r\n{authorization}Content-Length: 0\r\n\r\n"
        );
        self.now += Duration::from_micros(100);
        let message = Message::parse(Bytes::from(text)).unwrap();
        let flow = Flow::udp(PROXY.parse().unwrap(), source);
        self.proxy.handle(self.now, Input::Message { flow, message }, &mut self.tables);
        let outputs: Vec<Output> = std::iter::from_fn(|| self.proxy.poll(&mut self.tables)).collect();
        let sent = outputs.into_iter().find_map(|output| match output.on_the_wire() {
            Output::Send { bytes, .. } => Some(bytes),
            _ => None,
        });
        Message::parse(sent.expect("an answer")).unwrap()
    }

    /// All phones register under one nonce.
    fn all(&mut self, cseq: u32) {
        self.all_from(SocketAddr::from(([127, 0, 0, 1], 5081)), cseq);
    }

    fn all_from(&mut self, source: SocketAddr, cseq: u32) {
        let challenged = self.register_from(source, 0, 1, "");
        let challenge = challenged.text(Name::WwwAuthenticate).expect("a challenge").to_owned();
        for phone in 0..PHONES {
            let covered = digest::Request { method: "REGISTER", body: b"" };
            let count = phone as u32 + 1;
            let proof =
                digest::answer(&challenge, &name(phone), "secret", "sip:bench.test", covered, count, "0123");
            let proof = format!("Authorization: {}\r\n", proof.unwrap());
            let answer = self.register_from(source, phone, cseq, &proof);
            assert_eq!(answer.status(), Some(200), "phone {phone}");
        }
    }
}

/// The most that is lent while time passes and nobody answers, and how many datagrams leave.
fn unanswered(scene: &mut Scene, time: Duration) -> (isize, usize) {
    let (end, mut most, mut sent) = (scene.now + time, lent(), 0);
    while let Some(at) = scene.proxy.deadline().filter(|at| *at <= end) {
        scene.now = scene.now.max(at);
        scene.proxy.handle(scene.now, Input::Wake, &mut scene.tables);
        while let Some(output) = scene.proxy.poll(&mut scene.tables) {
            sent += usize::from(matches!(output.on_the_wire(), Output::Send { .. }));
        }
        most = most.max(lent());
    }
    (most, sent)
}

#[test]
fn a_phone_behind_a_nat_that_never_answers_takes_200_bytes_more() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut scene, _) = scene();
    // Its Contact and Via name another port than it is seen at.
    scene.all_from(SocketAddr::from(([127, 0, 0, 1], 61_000)), 2);
    let before = lent();
    let (most, sent) = unanswered(&mut scene, Duration::from_secs(300));
    let each = (most - before) / PHONES as isize;
    println!("bytes a phone that never answers: {each} more; datagrams {}", sent / PHONES);
    assert!(sent >= 10 * PHONES, "{sent} datagrams: nobody was pinged");
    assert!(each <= 200, "{each} bytes more");
}

#[test]
fn an_account_takes_70_bytes_and_a_phone_450_however_often_it_registers() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut scene, accounts) = scene();
    let each = |bytes: isize| bytes / PHONES as isize;
    let before = lent();
    scene.all(2);
    let fresh = lent() - before;
    assert_eq!(scene.tables.aors().len(), PHONES);
    assert_eq!(scene.proxy.status().transactions, 0);
    for cseq in 3..6 {
        // Longer than the answers are recalled, and than a nonce is good.
        scene.now += Duration::from_secs(301);
        scene.all(cseq);
    }
    let refreshed = lent() - before;
    println!("bytes: account {}, phone {}, after refreshes {}", each(accounts), each(fresh), each(refreshed));
    assert!(each(accounts) <= 70, "{} bytes an account", each(accounts));
    assert!(each(fresh) <= 450, "{} bytes a phone", each(fresh));
    assert!(refreshed <= fresh + 4096, "{} bytes more a phone by refreshes", each(refreshed - fresh));
}
