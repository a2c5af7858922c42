//! A relay between a browser (ICE, DTLS-SRTP, one port) and a phone that knows none of it, with real handshakes on a machine
//! without sockets: who is heard, who is sent to, and until when.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../../../relay/tests/rig/mod.rs"]
mod rig;

mod bundle;
mod calls;
mod ng;

use std::net::SocketAddr;
use std::sync::Arc;

use host::dtls::Maker;
use proto::control::{Keying, Session};
use proto::event::{Event, Side};
use proto::node::{Flow, Input, Transport};
use proto::sdp::Sdp;
use proto::srtp::{MAX_GROWTH, Receiver, Sender, fingerprint};
use proto::stun::{Class, Message as Stun, Writer, attribute};
use proto::tables::Srtp;
use relay::Why;
use relay::dtls::{Handshake, Handshakes, Step};
use rig::*;

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
