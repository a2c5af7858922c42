//! A relay between a browser (ICE, DTLS-SRTP, one port) and a phone that knows none of it, with real handshakes on a machine
//! without sockets: who is heard, who is sent to, and until when.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../../relay/tests/rig/mod.rs"]
mod rig;

use std::net::SocketAddr;
use std::sync::Arc;

use host::dtls::Maker;
use proto::control::{Keying, Session};
use proto::event::{Event, Side};
use proto::sdp::Sdp;
use proto::srtp::{MAX_GROWTH, Receiver, Sender, fingerprint};
use proto::stun::{Class, Message as Stun, Writer, attribute};
use proto::tables::Srtp;
use relay::Why;
use relay::dtls::{Handshake, Handshakes, Step};
use rig::*;

use proto::node::{Flow, Input, Transport};
use relay::ng::bencode;
use relay::ng::value::{Dict, Value};

const A: &str = "203.0.113.100:4000";
const B: &str = "203.0.113.200:7000";

fn relay() -> Rig {
    Rig::new(relay::Config { dtls: Some(Arc::new(Maker::new().unwrap())), ..config() })
}

/// A browser's end of one call.
struct Browser {
    maker: Maker,
    shake: Option<Box<dyn Handshake>>,
    at: &'static str,
    /// What it reads of the relay: where, credentials, fingerprint, and who begins.
    relay: SocketAddr,
    ufrag: String,
    pwd: String,
    named: Vec<String>,
    peer: Option<Vec<u8>>,
    keys: Option<(Sender, Receiver)>,
    ice: bool,
}

impl Browser {
    fn new(at: &'static str) -> Browser {
        Browser {
            maker: Maker::new().unwrap(),
            shake: None,
            at,
            relay: address("0.0.0.0:9"),
            ufrag: String::new(),
            pwd: String::new(),
            named: Vec::new(),
            peer: None,
            keys: None,
            ice: true,
        }
    }

    fn sdp(&self, setup: &str) -> String {
        let (at, print) = (address(self.at), self.maker.fingerprint());
        let (ip, port) = (at.ip(), at.port());
        let ice = match self.ice {
            true => format!(
                "a=ice-ufrag:brow\r\na=ice-pwd:browserbrowserbrowserbrow\r\na=ice-options:trickle\r\n\
                 a=candidate:1 1 udp 2122260223 {ip} {port} typ host generation 0\r\n"
            ),
            false => String::new(),
        };
        format!(
            "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=extmap-allow-mixed\r\n\
             a=msid-semantic: WMS s\r\nm=audio {port} UDP/TLS/RTP/SAVPF 111 0 101\r\nc=IN IP4 {ip}\r\n\
             a=rtcp:9 IN IP4 0.0.0.0\r\n{ice}a=fingerprint:{print}\r\na=setup:{setup}\r\na=mid:0\r\n\
             a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=sendrecv\r\na=msid:s t\r\na=rtcp-mux\r\n\
             a=rtcp-rsize\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=ssrc:1 cname:x\r\n"
        )
    }

    fn phone(&self) -> Phone {
        public(self.at)
    }

    /// What the relay's description says of itself.
    fn read(&mut self, sdp: &str) {
        let sdp = Sdp::parse(sdp.as_bytes()).unwrap();
        let media = &sdp.media[0];
        assert_eq!((media.protocol, media.rtcp_mux, media.mid), ("UDP/TLS/RTP/SAVPF", true, Some("0")));
        self.relay = media.address().unwrap();
        if self.ice {
            (self.ufrag, self.pwd) = (media.ice_ufrag.unwrap().into(), media.ice_pwd.unwrap().into());
        }
        self.named = media.fingerprints.iter().map(ToString::to_string).collect();
    }

    /// A check as a controlling browser sends it.
    fn check(&self, pwd: &str, nominate: bool) -> Vec<u8> {
        let name = format!("{}:brow", self.ufrag);
        let check = Writer::request([7; 12])
            .attribute(attribute::USERNAME, name.as_bytes())
            .attribute(attribute::ICE_CONTROLLING, &[1; 8])
            .attribute(attribute::PRIORITY, &[0x6e, 0, 1, 0xff]);
        let check = if nominate { check.attribute(attribute::USE_CANDIDATE, &[]) } else { check };
        check.sign(pwd.as_bytes())
    }

    /// Nominates the pair from `from`; the relay's answer must prove that it is the relay's.
    fn nominate(&self, rig: &mut Rig, from: &str) {
        let answer = rig.packet(from, self.relay, &self.check(&self.pwd, true)).expect("an answer");
        let answer = Stun::parse(&answer.bytes).unwrap();
        assert_eq!((answer.class(), answer.mapped()), (Class::Success, Some(address(from))));
        assert!(answer.is_signed_with(self.pwd.as_bytes()));
    }

    /// Shakes hands until nothing more is said; it has keys afterwards if all went well.
    fn shake(&mut self, rig: &mut Rig, active: bool) {
        let mut shake = self.maker.begin(rig.now, active);
        for _ in 0..20 {
            let mut said = Vec::new();
            while let Some(step) = shake.poll() {
                match step {
                    Step::Send(bytes) => said.push(bytes),
                    Step::Peer(certificate) => self.peer = Some(certificate),
                    Step::Keys([ours, theirs]) => {
                        self.keys = Some((Sender::new(&ours), Receiver::new(&theirs)))
                    }
                    Step::WakeAt(_) | Step::Over => {}
                }
            }
            for bytes in said {
                rig.packet(self.at, self.relay, &bytes);
            }
            let heard = std::mem::take(&mut rig.sent);
            for sent in heard.iter().filter(|sent| (20..64).contains(&sent.bytes[0])) {
                assert_eq!((sent.from, sent.to), (self.relay, address(self.at)));
                shake.handle(rig.now, &sent.bytes);
            }
        }
        if let Some(peer) = &self.peer {
            assert!(fingerprint::is_named(peer, &self.named), "the relay shows the certificate it named");
        }
        self.shake = Some(shake);
    }

    fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let (sender, _) = self.keys.as_mut().expect("keys");
        let mut buffer = packet.to_vec();
        buffer.resize(packet.len() + MAX_GROWTH, 0);
        let sealed = match packet[1] >= 192 {
            true => sender.rtcp(&mut buffer, packet.len()),
            false => sender.rtp(&mut buffer, packet.len()),
        };
        buffer.truncate(sealed.unwrap());
        buffer
    }

    fn open(&mut self, sent: Option<Sent>) -> Vec<u8> {
        let sent = sent.expect("sent on");
        assert_eq!((sent.from, sent.to), (self.relay, address(self.at)), "one port for everything");
        let mut bytes = sent.bytes;
        let (_, receiver) = self.keys.as_mut().expect("keys");
        let opened = if bytes[1] >= 192 { receiver.rtcp(&mut bytes) } else { receiver.rtp(&mut bytes) };
        bytes.truncate(opened.expect("opens under the exported keys"));
        bytes
    }
}

fn keying(parties: [Srtp; 2], answers: bool) -> Option<Keying> {
    Some(Keying { parties, answers })
}

fn said(rig: &mut Rig, phone: &Phone, side: Side, sdp: &str, srtp: Option<Keying>, inside: bool) -> String {
    let phone = Phone { srtp, ..phone.clone() };
    let answer = rig.invite(&phone.ask(Session(1), side), sdp, inside);
    let (_, sdp) = answer.sdp().unwrap_or_else(|| panic!("{:?}", answer.bytes()));
    String::from_utf8(sdp.to_vec()).unwrap()
}

/// Where the first section of a description wants media.
fn first(sdp: &str) -> SocketAddr {
    Sdp::parse(sdp.as_bytes()).unwrap().media[0].address().unwrap()
}

const CALLS: [Srtp; 2] = [Srtp::Dtls, Srtp::Plain];

/// A browser has called a phone and been answered; nobody has spoken. Where the phone is to send.
fn called(rig: &mut Rig, browser: &mut Browser) -> SocketAddr {
    let offer =
        said(rig, &browser.phone(), Side::Caller, &browser.sdp("actpass"), keying(CALLS, false), false);
    let phone = public(B);
    let answer = said(rig, &phone, Side::Callee, &phone.sdp(), keying(CALLS, true), true);
    assert!(answer.contains("a=setup:passive\r\n"), "{answer}");
    browser.read(&answer);
    first(&offer)
}

/// The same, and they can talk.
fn talking() -> (Rig, Browser, SocketAddr) {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let for_b = called(&mut rig, &mut browser);
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    assert!(browser.keys.is_some(), "{:?}", rig.events);
    (rig, browser, for_b)
}

fn both_ways(rig: &mut Rig, browser: &mut Browser, for_b: SocketAddr, n: u16) {
    let there = rig.packet(browser.at, browser.relay, &browser.seal(&rtp(0xa, n))).expect("sent on");
    assert_eq!((there.from, there.to, there.bytes), (for_b, address(B), rtp(0xa, n)));
    let back = rig.packet(B, for_b, &rtp(0xb, n));
    assert_eq!(browser.open(back), rtp(0xb, n));
}

#[test]
fn a_phone_reads_nothing_that_only_browsers_say_and_the_browser_all_it_needs() {
    let (mut rig, browser) = (relay(), Browser::new(A));
    let offer =
        said(&mut rig, &browser.phone(), Side::Caller, &browser.sdp("actpass"), keying(CALLS, false), false);
    let port = first(&offer).port();
    let ours = OUTSIDE;
    assert_eq!(
        offer,
        format!(
            "v=0\r\no=- 1 2 IN IP4 {ours}\r\ns=-\r\nt=0 0\r\nm=audio {port} RTP/AVP 111 0 101\r\nc=IN IP4 {ours}\r\n\
             a=rtcp:{} IN IP4 {ours}\r\na=sendrecv\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n",
            port + 1
        )
    );
    let phone = public(B);
    let answer = said(&mut rig, &phone, Side::Callee, &phone.sdp(), keying(CALLS, true), true);
    for line in [
        "a=ice-lite\r\nm=",
        "a=mid:0\r\n",
        "a=rtcp-mux\r\n",
        "a=setup:passive\r\n",
        "a=end-of-candidates\r\n",
    ] {
        assert!(answer.contains(line), "{line} is missing in\n{answer}");
    }
    let candidate =
        format!("a=candidate:1 1 UDP 2130706431 {OUTSIDE} {} typ host\r\n", first(&answer).port());
    assert!(answer.contains(&candidate), "{answer}");
}

#[test]
fn a_browser_calls_a_phone_and_both_hear_each_other_on_one_port_and_on_two() {
    let (mut rig, mut browser, for_b) = talking();
    for n in 0..50 {
        both_ways(&mut rig, &mut browser, for_b, n);
    }
    let report = browser.seal(&rtcp_report(0xa));
    let there = rig.packet(A, browser.relay, &report).expect("sent on");
    assert_eq!(
        (there.from, there.to),
        (rtcp(for_b), rtcp(address(B))),
        "a phone's reports have a port of their own"
    );
    assert_eq!(there.bytes, rtcp_report(0xa));
    let back = rig.packet("203.0.113.200:7001", rtcp(for_b), &rtcp_report(0xb));
    assert_eq!(browser.open(back), rtcp_report(0xb));
    assert_eq!(rig.ports().leased, 3);
    assert_eq!(rig.bye(Session(1)), 200);
    assert_eq!(rig.ports().leased, 0);
}

#[test]
fn a_phone_calls_a_browser() {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let parties = [Srtp::Pass, Srtp::Dtls];
    let phone = public(B);
    let offer = said(&mut rig, &phone, Side::Caller, &phone.sdp(), keying(parties, false), false);
    assert!(offer.contains("a=setup:actpass\r\n"), "{offer}");
    browser.read(&offer);
    let answer =
        said(&mut rig, &browser.phone(), Side::Callee, &browser.sdp("active"), keying(parties, true), true);
    assert!(answer.contains(" RTP/AVP ") && !answer.contains("fingerprint"), "{answer}");
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, first(&answer), 1);
}

/// RFC 8840: at first nothing is known of where it is, and nothing needs to be: its checks show it.
#[test]
fn a_browser_that_trickles_is_where_its_checks_come_from() {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let full = browser.sdp("actpass");
    let whole = |line: &&str| !line.starts_with("a=candidate");
    let sdp: String = full.lines().filter(whole).map(|line| format!("{line}\r\n")).collect();
    let sdp = sdp.replace("m=audio 4000", "m=audio 9").replace("c=IN IP4 203.0.113.100", "c=IN IP4 0.0.0.0");
    let offer = said(&mut rig, &browser.phone(), Side::Caller, &sdp, keying(CALLS, false), false);
    let phone = public(B);
    let answer = said(&mut rig, &phone, Side::Callee, &phone.sdp(), keying(CALLS, true), true);
    browser.read(&answer);
    assert!(!offer.contains("0.0.0.0"), "{offer}");
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, first(&offer), 1);
}

/// RFC 3261 §13.2.1: the one who is called makes the offer, in its 200.
#[test]
fn a_browser_that_is_called_without_an_offer_makes_one() {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let parties = [Srtp::Plain, Srtp::Dtls];
    let phone = Phone { srtp: keying(parties, false), ..public(B) };
    assert_eq!(rig.invite(&phone.ask(Session(1), Side::Caller), "", false).status(), Some(200));
    let browsers = browser.sdp("actpass");
    let offer = said(&mut rig, &browser.phone(), Side::Callee, &browsers, keying(parties, false), true);
    assert!(offer.contains(" RTP/AVP ") && !offer.contains("fingerprint"), "{offer}");
    let answer = said(&mut rig, &phone, Side::Caller, &phone.sdp(), keying(parties, true), true);
    browser.read(&answer);
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, first(&offer), 1);
}

/// RFC 8839 §4.4.1.1.1: an offer with other credentials gets other ones of ours.
#[test]
fn a_browser_that_restarts_ice_gets_new_credentials_and_keeps_its_keys() {
    let (mut rig, mut browser, for_b) = talking();
    both_ways(&mut rig, &mut browser, for_b, 1);
    let old = (browser.ufrag.clone(), browser.pwd.clone());
    let again = browser.sdp("actpass").replace("ice-ufrag:brow", "ice-ufrag:anew");
    said(&mut rig, &browser.phone(), Side::Caller, &again, keying(CALLS, false), true);
    let phone = public(B);
    let answer = said(&mut rig, &phone, Side::Callee, &phone.sdp(), keying(CALLS, true), true);
    browser.read(&answer);
    assert!(browser.ufrag != old.0 && browser.pwd != old.1, "{answer}");
    browser.at = "192.0.2.7:6000";
    browser.nominate(&mut rig, browser.at);
    both_ways(&mut rig, &mut browser, for_b, 2);
}

#[test]
fn a_browser_that_checks_and_shakes_hands_before_its_answer_has_come_is_heard_once_it_has() {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let parties = [Srtp::Plain, Srtp::Dtls];
    let phone = public(B);
    let offer = said(&mut rig, &phone, Side::Caller, &phone.sdp(), keying(parties, false), false);
    browser.read(&offer);
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    assert_eq!(rig.packet(A, browser.relay, &browser.seal(&rtp(0xa, 0))), None, "nobody has vouched for it");
    assert_eq!(rig.dropped(Why::Unkeyed), 1);
    let answer =
        said(&mut rig, &browser.phone(), Side::Callee, &browser.sdp("active"), keying(parties, true), true);
    both_ways(&mut rig, &mut browser, first(&answer), 1);
}

#[test]
fn a_party_that_wants_to_be_asked_is_asked() {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let parties = [Srtp::Plain, Srtp::Dtls];
    let phone = public(B);
    let offer = said(&mut rig, &phone, Side::Caller, &phone.sdp(), keying(parties, false), false);
    browser.read(&offer);
    let answer =
        said(&mut rig, &browser.phone(), Side::Callee, &browser.sdp("passive"), keying(parties, true), true);
    assert!(rig.sent.is_empty(), "nothing is sent before the pair is nominated");
    let before = rig.sent.len();
    browser.nominate(&mut rig, A);
    let hello = rig.sent.get(before + 1).cloned().expect("a ClientHello behind the answer to the check");
    assert_eq!((hello.bytes[0], hello.to), (22, address(A)));
    rig.sent.retain(|sent| sent.bytes[0] == 22);
    browser.shake(&mut rig, false);
    both_ways(&mut rig, &mut browser, first(&answer), 1);
}

#[test]
fn another_certificate_than_the_one_that_was_named_gets_no_keys() {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let for_b = called(&mut rig, &mut browser);
    browser.nominate(&mut rig, A);
    browser.maker = Maker::new().unwrap();
    browser.shake(&mut rig, true);
    let told = |event: &Event| matches!(event, Event::Warning { why, .. } if why.contains("certificate"));
    assert!(rig.events.iter().any(told), "{:?}", rig.events);
    assert_eq!(rig.packet(B, for_b, &rtp(0xb, 1)), None);
    assert_eq!(rig.dropped(Why::Unkeyed), 1);
}

#[test]
fn a_check_without_our_password_is_answered_by_nothing_and_moves_nobody() {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let for_b = called(&mut rig, &mut browser);
    for from in [A, "192.0.2.66:1"] {
        assert_eq!(rig.packet(from, browser.relay, &browser.check("wrongwrongwrongwrongwrong", true)), None);
        assert_eq!(rig.packet(from, browser.relay, &Writer::request([1; 12]).finish()), None);
    }
    assert_eq!(rig.dropped(Why::Stun), 4);
    assert_eq!(rig.packet(A, browser.relay, &[22; 40]), None, "no handshake before a pair is nominated");
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, for_b, 1);
    assert_eq!(rig.packet("192.0.2.66:1", browser.relay, &browser.seal(&rtp(0xa, 2))), None);
    assert_eq!(
        rig.packet("192.0.2.66:1", browser.relay, &browser.check("wrongwrongwrongwrongwrong", true)),
        None
    );
    both_ways(&mut rig, &mut browser, for_b, 3);
}

#[test]
fn a_check_that_nominates_nothing_is_answered_and_moves_nobody() {
    let (mut rig, mut browser, for_b) = talking();
    let elsewhere = rig.packet("203.0.113.100:5555", browser.relay, &browser.check(&browser.pwd, false));
    assert!(elsewhere.is_some());
    both_ways(&mut rig, &mut browser, for_b, 1);
}

#[test]
fn a_browser_that_moves_nominates_its_new_pair_and_is_there_at_once() {
    let (mut rig, mut browser, for_b) = talking();
    both_ways(&mut rig, &mut browser, for_b, 1);
    browser.at = "192.0.2.7:6000";
    assert_eq!(
        rig.packet(browser.at, browser.relay, &browser.seal(&rtp(0xa, 2))),
        None,
        "not without a check"
    );
    browser.nominate(&mut rig, browser.at);
    both_ways(&mut rig, &mut browser, for_b, 3);
}

#[test]
fn consent_ends_thirty_seconds_after_the_last_check_and_comes_back_with_the_next() {
    let (mut rig, browser, for_b) = talking();
    rig.pass(20 * SECOND);
    browser.nominate(&mut rig, A);
    rig.pass(30 * SECOND);
    assert!(rig.packet(B, for_b, &rtp(0xb, 1)).is_some());
    rig.pass(MS);
    assert_eq!(rig.packet(B, for_b, &rtp(0xb, 2)), None);
    assert_eq!(rig.dropped(Why::Unwanted), 1);
    browser.nominate(&mut rig, A);
    assert!(rig.packet(B, for_b, &rtp(0xb, 3)).is_some());
}

#[test]
fn two_browsers_hear_each_other_each_under_keys_of_its_own() {
    let (mut rig, mut a, mut b) = (relay(), Browser::new(A), Browser::new(B));
    let parties = [Srtp::Dtls; 2];
    let offer = said(&mut rig, &a.phone(), Side::Caller, &a.sdp("actpass"), keying(parties, false), false);
    b.read(&offer);
    let answer = said(&mut rig, &b.phone(), Side::Callee, &b.sdp("active"), keying(parties, true), true);
    a.read(&answer);
    for browser in [&mut a, &mut b] {
        browser.nominate(&mut rig, browser.at);
        browser.shake(&mut rig, true);
    }
    let there = rig.packet(A, a.relay, &a.seal(&rtp(0xa, 1)));
    assert_eq!(b.open(there), rtp(0xa, 1));
    let back = rig.packet(B, b.relay, &b.seal(&rtcp_report(0xb)));
    assert_eq!(a.open(back), rtcp_report(0xb));
}

#[test]
fn a_phone_with_dtls_and_without_ice_is_latched_like_any_phone() {
    let (mut rig, mut browser) = (relay(), Browser { ice: false, ..Browser::new(A) });
    let for_b = called(&mut rig, &mut browser);
    assert_eq!(rig.packet("192.0.2.66:1", browser.relay, &[22; 40]), None);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, for_b, 1);
}

#[test]
fn a_relay_that_was_killed_goes_on_with_a_browser() {
    let (mut rig, mut browser, for_b) = talking();
    both_ways(&mut rig, &mut browser, for_b, 1);
    let (tables, config, now) = (rig.tables, rig.config, rig.now);
    let mut next = Rig::after(config, tables, now, true);
    both_ways(&mut next, &mut browser, for_b, 2);
    next.pass(29 * SECOND);
    browser.nominate(&mut next, A);
    both_ways(&mut next, &mut browser, for_b, 3);
}

#[test]
fn a_re_invite_of_either_side_changes_no_keys() {
    let (mut rig, mut browser, for_b) = talking();
    both_ways(&mut rig, &mut browser, for_b, 1);
    let phone = public(B);
    let offer = said(&mut rig, &phone, Side::Callee, &phone.sdp(), keying(CALLS, false), true);
    let before = (browser.ufrag.clone(), browser.relay);
    browser.read(&offer);
    assert_eq!((browser.ufrag.clone(), browser.relay), before);
    said(&mut rig, &browser.phone(), Side::Caller, &browser.sdp("active"), keying(CALLS, true), true);
    both_ways(&mut rig, &mut browser, for_b, 2);
    said(&mut rig, &browser.phone(), Side::Caller, &browser.sdp("actpass"), keying(CALLS, false), true);
    let answer = said(&mut rig, &phone, Side::Callee, &phone.sdp(), keying(CALLS, true), true);
    browser.read(&answer);
    both_ways(&mut rig, &mut browser, for_b, 3);
    assert_eq!(rig.ports().leased, 3);
}

/// An ng command about one call; the SDP it is answered with.
fn ng(rig: &mut Rig, command: &str, sdp: &str, more: &[(&str, &str)]) -> String {
    let fixed = [("command", command), ("call-id", "c1"), ("from-tag", "a"), ("to-tag", "b"), ("sdp", sdp)];
    let entries = fixed.iter().chain(more).filter(|(key, _)| command == "answer" || *key != "to-tag");
    let dict = entries.fold(Dict::default(), |dict, (key, value)| dict.with(*key, Value::text(*value)));
    let mut bytes = format!("{command}{} ", sdp.len()).into_bytes();
    bencode::write(&Value::Dict(dict), &mut bytes);
    rig.tell(Input::Other { flow: Flow::udp(address(NG), address(CLIENT)), bytes: bytes.into() });
    let answer = rig.ng.pop().expect("an answer");
    let body = answer.splitn(2, |byte| *byte == b' ').nth(1).expect("a body");
    let read = bencode::read(body).expect("bencoding");
    let dict = read.as_dict().expect("a dictionary");
    dict.text("sdp").unwrap_or_else(|| panic!("{dict:?}")).to_owned()
}

/// As Kamailio asks for it on the way from WebSocket to UDP and back.
#[test]
fn an_ng_client_bridges_a_browser_and_a_phone_in_both_directions() {
    let to_phone = [("transport-protocol", "RTP/AVP"), ("ICE", "remove"), ("rtcp-mux", "demux")];
    let to_browser = [("transport-protocol", "UDP/TLS/RTP/SAVPF"), ("ICE", "force"), ("rtcp-mux", "offer")];
    let listens = relay::ng::Config {
        listen: vec![(Transport::Udp, address(NG))],
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        latch: proto::tables::Latch::Strict,
        media: None,
    };
    let with_ng = || {
        let dtls: Option<Arc<dyn Handshakes>> = Some(Arc::new(Maker::new().unwrap()));
        Rig::new(relay::Config { dtls, ng: Some(listens.clone()), ..config() })
    };

    let (mut rig, mut browser) = (with_ng(), Browser::new(A));
    let offer = ng(&mut rig, "offer", &browser.sdp("actpass"), &to_phone);
    for word in ["ice-", "fingerprint", "setup", "rtcp-mux", "candidate", "SAVP"] {
        assert!(!offer.contains(word), "{word} in\n{offer}");
    }
    let answer = ng(&mut rig, "answer", &public(B).sdp(), &to_browser);
    browser.read(&answer);
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, first(&offer), 1);

    let (mut rig, mut browser) = (with_ng(), Browser::new(A));
    let offer = ng(&mut rig, "offer", &public(B).sdp(), &to_browser);
    browser.read(&offer);
    let answer = ng(&mut rig, "answer", &browser.sdp("active"), &to_phone);
    assert!(answer.contains(" RTP/AVP "), "{answer}");
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, first(&answer), 1);
    let report = browser.seal(&rtcp_report(0xa));
    let there = rig.packet(A, browser.relay, &report).expect("sent on");
    assert_eq!((there.to, there.bytes), (rtcp(address(B)), rtcp_report(0xa)));
}

/// Audio and video; with `alone` the video is offered in the bundle alone (`max-bundle`).
fn with_video(browser: &Browser, alone: bool) -> String {
    let audio = browser.sdp("actpass").replace("BUNDLE 0", "BUNDLE 0 1");
    let keys = audio.split("a=rtcp:9").nth(1).unwrap().split("a=mid:0").next().unwrap();
    let keys = keys.split_once("\r\n").unwrap().1;
    let (port, c, only) =
        if alone { (0, "0.0.0.0", "a=bundle-only\r\n") } else { (4002, "203.0.113.100", "") };
    let keys = if alone { String::new() } else { keys.to_owned() };
    // Alone in the bundle it says nothing of keys, address or reports: its first section has (RFC 9143 §7.1.3).
    let mux = if alone { "" } else { "a=rtcp-mux\r\n" };
    format!(
        "{audio}m=video {port} UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 {c}\r\n{keys}a=mid:1\r\na=sendrecv\r\n{mux}{only}\
         a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\n"
    )
}

/// A phone with audio and video on ports of their own; port 0 rejects.
fn phones(audio: u16, video: u16) -> String {
    public(B).head()
        + &format!("m=audio {audio} RTP/AVP 0\r\nm=video {video} RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n")
}

fn sections(sdp: &str) -> Vec<Option<SocketAddr>> {
    Sdp::parse(sdp.as_bytes()).unwrap().media.iter().map(|media| media.address()).collect()
}

/// Packet `n` of a video stream.
fn video(ssrc: u32, n: u16) -> Vec<u8> {
    let mut packet = rtp(ssrc, n);
    packet[1] = 96;
    packet
}

/// They talk on one port; where the phone is to send audio and video.
fn bundled(alone: bool) -> (Rig, Browser, [SocketAddr; 2]) {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let sdp = with_video(&browser, alone);
    let offer = said(&mut rig, &browser.phone(), Side::Caller, &sdp, keying(CALLS, false), false);
    assert!(
        !offer.contains("BUNDLE") && !offer.contains("0.0.0.0") && !offer.contains("bundle-only"),
        "{offer}"
    );
    let answer = said(&mut rig, &public(B), Side::Callee, &phones(7000, 7002), keying(CALLS, true), true);
    assert!(answer.contains("a=group:BUNDLE 0 1\r\n"), "{answer}");
    browser.read(&answer);
    assert_eq!(sections(&answer), vec![Some(browser.relay); 2], "{answer}");
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    let [Some(audio), Some(video)] = sections(&offer)[..] else { panic!("{offer}") };
    assert_ne!(audio, video);
    (rig, browser, [audio, video])
}

fn sees(rig: &mut Rig, browser: &mut Browser, for_b: SocketAddr, n: u16) {
    let there = rig.packet(A, browser.relay, &browser.seal(&video(0x1a, n))).expect("sent on");
    assert_eq!((there.from, there.to, there.bytes), (for_b, address("203.0.113.200:7002"), video(0x1a, n)));
    let back = rig.packet("203.0.113.200:7002", for_b, &video(0x1b, n));
    assert_eq!(browser.open(back), video(0x1b, n));
}

#[test]
fn a_browsers_bundle_is_one_port_there_and_a_port_for_each_section_at_the_phone() {
    for alone in [false, true] {
        let (mut rig, mut browser, [audio, video]) = bundled(alone);
        assert_eq!(rig.ports().leased, 5, "one for the browser, two pairs for the phone");
        for n in 0..20 {
            both_ways(&mut rig, &mut browser, audio, n);
            sees(&mut rig, &mut browser, video, n);
        }
        // Reports go where their source is known, feedback where whom it is about is.
        let there = rig.packet(A, browser.relay, &browser.seal(&rtcp_report(0x1a))).expect("sent on");
        assert_eq!(there.to, address("203.0.113.200:7003"));
        let there = rig.packet(A, browser.relay, &browser.seal(&rtcp_report(0xa))).expect("sent on");
        assert_eq!(there.to, address("203.0.113.200:7001"));
        let mut pli = vec![0x81, 206, 0, 2, 0, 0, 0, 1];
        pli.extend(0x1bu32.to_be_bytes());
        let there = rig.packet(A, browser.relay, &browser.seal(&pli)).expect("sent on");
        assert_eq!((there.to, there.bytes), (address("203.0.113.200:7003"), pli));
        assert_eq!(rig.bye(Session(1)), 200);
        assert_eq!(rig.ports().leased, 0);
    }
}

#[test]
fn a_bundle_outlives_a_section_that_is_rejected_even_its_first() {
    let (mut rig, mut browser, [audio, _]) = bundled(false);
    said(&mut rig, &public(B), Side::Callee, &phones(7000, 0), keying(CALLS, false), true);
    both_ways(&mut rig, &mut browser, audio, 1);
    assert_eq!(rig.ports().leased, 3);
    assert_eq!((rig.bye(Session(1)), rig.ports().leased), (200, 0));

    let (mut rig, mut browser, [_, video]) = bundled(false);
    sees(&mut rig, &mut browser, video, 1);
    said(&mut rig, &public(B), Side::Callee, &phones(0, 7002), keying(CALLS, false), true);
    sees(&mut rig, &mut browser, video, 2);
    browser.nominate(&mut rig, A);
    assert_eq!(rig.ports().leased, 3);
    assert_eq!((rig.bye(Session(1)), rig.ports().leased), (200, 0));
}

#[test]
fn a_bundle_goes_on_after_a_kill_and_through_re_invites() {
    let (mut rig, mut browser, [audio, video]) = bundled(true);
    both_ways(&mut rig, &mut browser, audio, 1);
    sees(&mut rig, &mut browser, video, 1);
    let (tables, config, now) = (rig.tables, rig.config, rig.now);
    let mut rig = Rig::after(config, tables, now, true);
    assert_eq!(rig.ports().leased, 5);
    both_ways(&mut rig, &mut browser, audio, 2);
    sees(&mut rig, &mut browser, video, 2);
    let offer = said(&mut rig, &public(B), Side::Callee, &phones(7000, 7002), keying(CALLS, false), true);
    assert!(offer.contains("a=group:BUNDLE 0 1\r\n"), "{offer}");
    assert_eq!(sections(&offer), vec![Some(browser.relay); 2]);
    let again = with_video(&browser, false).replace("m=video 4002", "m=video 4000");
    said(&mut rig, &browser.phone(), Side::Caller, &again, keying(CALLS, true), true);
    said(&mut rig, &browser.phone(), Side::Caller, &again, keying(CALLS, false), true);
    let answer = said(&mut rig, &public(B), Side::Callee, &phones(7000, 7002), keying(CALLS, true), true);
    assert_eq!(sections(&answer), vec![Some(browser.relay); 2], "{answer}");
    both_ways(&mut rig, &mut browser, audio, 3);
    sees(&mut rig, &mut browser, video, 3);
    assert_eq!(rig.ports().leased, 5);
}
