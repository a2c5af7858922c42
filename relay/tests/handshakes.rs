//! A handshake of DTLS-SRTP is worked on elsewhere: what the relay does meanwhile, and with what comes of it. The handshake here
//! is one of two messages and no secrets; the real one is the host's.

#![allow(clippy::disallowed_methods, reason = "one Instant that nothing depends on")]

mod rig;

use std::sync::Arc;
use std::time::Instant;

use proto::control::{Keying, Session};
use proto::event::{Event, Side};
use proto::node::{Answer, Dice, Input};
use proto::srtp::{MAX_GROWTH, Master, Profile, Sender, fingerprint};
use proto::tables::Srtp;
use relay::dtls::{Handshake, Handshakes, Step};
use rig::*;

const A: &str = "203.0.113.100:4000";
const B: &str = "203.0.113.200:7000";
const C: &str = "203.0.113.110:4000";
const D: &str = "203.0.113.210:7000";
const CERTIFICATE: &[u8] = b"a certificate";

/// Ours and theirs.
fn masters() -> [Master; 2] {
    let birth = proto::node::Birth {
        now: Instant::now(),
        wall: std::time::SystemTime::UNIX_EPOCH,
        seed: [9; 32],
        lane: proto::node::Lane::default(),
    };
    let mut dice: Dice = birth.dice(0);
    [(); 2].map(|()| Master::draw(Profile::Aes128CmSha1_80, &mut dice))
}

#[derive(Debug)]
struct Maker;

impl Handshakes for Maker {
    fn fingerprint(&self) -> &str {
        "sha-256 AA"
    }

    fn begin(&self, _now: Instant, _active: bool) -> Box<dyn Handshake> {
        Box::<TwoMessages>::default()
    }
}

/// The first datagram is answered, the second brings the keys; further ones are counted in answers.
#[derive(Debug, Default)]
struct TwoMessages {
    heard: u8,
    steps: Vec<Step>,
}

impl Handshake for TwoMessages {
    fn handle(&mut self, _now: Instant, datagram: &[u8]) {
        self.heard += 1;
        match self.heard {
            2 => {
                self.steps.push(Step::Peer(CERTIFICATE.to_vec()));
                self.steps.push(Step::Keys(masters()));
            }
            _ => self.steps.push(Step::Send(vec![22, datagram[0], self.heard])),
        }
    }

    fn wake(&mut self, _now: Instant) {}

    fn poll(&mut self) -> Option<Step> {
        (!self.steps.is_empty()).then(|| self.steps.remove(0))
    }
}

/// A handshake record; `1` is a ClientHello.
fn record(kind: u8) -> Vec<u8> {
    let mut bytes = vec![0; 40];
    (bytes[0], bytes[1], bytes[2], bytes[13]) = (22, 254, 253, kind);
    bytes
}

/// A begins DTLS, B has plain RTP; and beside them C and D, whose call has no keys.
fn stage() -> (Rig, Call, Call) {
    let mut rig = Rig::new(relay::Config { dtls: Some(Arc::new(Maker)), ..config() });
    rig.holds_work = true;
    let keying = |answers| Some(Keying { parties: [Srtp::Dtls, Srtp::Plain], answers });
    let lines = format!("a=setup:active\r\na=fingerprint:{}\r\na=rtcp-mux\r\n", fingerprint::of(CERTIFICATE));
    let a = Phone { srtp: keying(false), lines, ..public(A) };
    let b = Phone { srtp: keying(true), ..public(B) };
    let offer = a.sdp().replace("RTP/AVP", "UDP/TLS/RTP/SAVP");
    let offer = rig.invite(&a.ask(Session(1), Side::Caller), &offer, false);
    let answer = rig.invite(&b.ask(Session(1), Side::Callee), &b.sdp(), true);
    let secret = Call { session: Session(1), for_a: media_of(&answer), for_b: media_of(&offer) };
    let open = rig.call(2, &public(C), &public(D));
    (rig, secret, open)
}

#[test]
fn other_calls_go_on_while_a_handshake_is_worked_on() {
    let (mut rig, secret, open) = stage();
    assert_eq!(rig.packet(A, secret.for_a, &record(1)), None, "nothing is answered on the spot");
    assert_eq!(rig.work.len(), 1);
    for n in 0..50 {
        assert!(
            rig.packet(C, open.for_a, &rtp(3, n)).is_some_and(|sent| sent.to == address(D)),
            "packet {n}"
        );
        assert!(
            rig.packet(D, open.for_b, &rtp(4, n)).is_some_and(|sent| sent.to == address(C)),
            "packet {n}"
        );
        rig.pass(20 * MS);
    }
    assert_eq!(rig.work.len(), 1, "it is still being worked on");
    let before = rig.sent.len();
    rig.do_work();
    let flight: Vec<&Sent> = rig.sent[before..].iter().collect();
    assert_eq!((flight.len(), flight[0].to, flight[0].from), (1, address(A), secret.for_a));
}

#[test]
fn keys_that_come_back_open_what_comes_from_then_on() {
    let (mut rig, secret, _) = stage();
    let mut sender = Sender::new(&masters()[1]);
    let mut sealed = |n| {
        let (mut bytes, len) = (rtp(7, n), rtp(7, n).len());
        bytes.resize(len + MAX_GROWTH, 0);
        let len = sender.rtp(&mut bytes, len).unwrap();
        bytes.truncate(len);
        bytes
    };
    rig.packet(A, secret.for_a, &record(1));
    rig.do_work();
    rig.packet(A, secret.for_a, &record(16));
    assert_eq!(rig.packet(A, secret.for_a, &sealed(1)), None, "nobody has its key yet");
    assert_eq!(rig.dropped(relay::Why::Unkeyed), 1);
    rig.do_work();
    let sent = rig.packet(A, secret.for_a, &sealed(2)).expect("sent on");
    assert_eq!((sent.to, sent.bytes), (address(B), rtp(7, 2)));
}

#[test]
fn what_comes_meanwhile_waits_for_one_next_turn_and_is_bounded() {
    let (mut rig, secret, _) = stage();
    rig.packet(A, secret.for_a, &record(1));
    for _ in 0..100 {
        rig.packet(A, secret.for_a, &record(1));
    }
    assert_eq!(rig.work.len(), 1, "one turn at a time");
    assert_eq!(rig.do_work(), 1);
    let before = rig.sent.len();
    assert_eq!(rig.do_work(), 1, "the next one");
    assert_eq!(rig.sent.len() - before, 15, "of sixteen datagrams, of which the first brought the keys");
    assert_eq!(rig.do_work(), 0);
}

#[test]
fn work_that_comes_to_nothing_ends_the_handshake_with_a_word() {
    for vanishes in [false, true] {
        let (mut rig, secret, _) = stage();
        rig.packet(A, secret.for_a, &record(1));
        let (ticket, _) = rig.work.remove(0);
        match vanishes {
            true => rig.pass(11 * SECOND),
            false => rig.tell(Input::Answer { ticket, answer: Answer::Nothing("it panicked".into()) }),
        }
        let told = |event: &&Event| matches!(event, Event::Warning { why, .. } if why.starts_with("DTLS: "));
        assert_eq!(rig.events.iter().filter(told).count(), 1, "{:?}", rig.events);
        rig.packet(A, secret.for_a, &record(1));
        assert_eq!(rig.work.len(), 1, "the next ClientHello begins anew");
    }
}

#[test]
fn what_comes_back_to_a_call_that_has_ended_is_nobodys() {
    let (mut rig, secret, _) = stage();
    rig.packet(A, secret.for_a, &record(1));
    assert_eq!(rig.bye(secret.session), 200);
    let before = rig.sent.len();
    rig.do_work();
    assert_eq!((rig.sent.len(), rig.work.len()), (before, 0));
}
