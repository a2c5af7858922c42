//! A call between A and B that an ng client made, in which something is said or played in a party's place.

use std::net::SocketAddr;

use proto::node::{Flow, Input, Transport};
use proto::offload::{Offload, Rule};
use proto::rtp::{Packet, Rtp, classify};
use relay::Config;
use relay::ng::bencode;
use relay::ng::value::{Dict, Value};

use super::*;

pub const A: &str = "198.51.100.10:4000";
pub const B: &str = "198.51.100.20:5000";
pub const EVENTS: &str = "a=rtpmap:101 telephone-event/8000\r\n";

pub fn ng_config() -> Config {
    let ng =
        relay::ng::Config { listen: vec![(Transport::Udp, address(NG))], ..relay::ng::Config::default() };
    Config { ng: Some(ng), ..super::config() }
}

pub fn sdp(media: &str, lines: &str) -> String {
    let at = address(media);
    let (ip, port) = (at.ip(), at.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 101\r\n{lines}"
    )
}

pub struct Played {
    pub rig: Rig,
    pub for_a: SocketAddr,
    pub for_b: SocketAddr,
    pub cookies: u32,
}

impl Played {
    /// A call in which B takes what `lines` say.
    pub fn begin(config: Config, lines: &str) -> Played {
        let zero = address("0.0.0.0:0");
        let mut played = Played { rig: Rig::new(config), for_a: zero, for_b: zero, cookies: 0 };
        let offer = [("command", "offer"), ("from-tag", "a"), ("sdp", &sdp(A, EVENTS))];
        played.for_b = port_in(&played.command(&offer));
        let answer = [("command", "answer"), ("from-tag", "a"), ("to-tag", "b"), ("sdp", &sdp(B, lines))];
        played.for_a = port_in(&played.command(&answer));
        played
    }

    pub fn command(&mut self, keys: &[(&str, &str)]) -> Dict<'static> {
        self.cookies += 1;
        let dict = |dict: Dict<'static>, (key, value): &(&str, &str)| dict.with(*key, Value::text(*value));
        let cookie = format!("c{}", self.cookies);
        self.send(&cookie, keys.iter().fold(Dict::default(), dict)).expect("an answer")
    }

    /// A command about the call, under this cookie; what it is answered by now.
    pub fn send(&mut self, cookie: &str, dict: Dict<'_>) -> Option<Dict<'static>> {
        let mut bytes = format!("{cookie} ").into_bytes();
        bencode::write(&Value::Dict(dict.with("call-id", Value::text("call"))), &mut bytes);
        let flow = Flow::udp(address(NG), address(CLIENT));
        self.rig.tell(Input::Other { flow, bytes: bytes.into() });
        self.answer()
    }

    pub fn answer(&mut self) -> Option<Dict<'static>> {
        let answer = self.rig.ng.pop()?;
        let body = answer.splitn(2, |byte| *byte == b' ').nth(1).unwrap();
        Some(bencode::read(body).unwrap().as_dict().unwrap().owned())
    }

    pub fn play(&mut self, code: &str) -> Dict<'static> {
        self.command(&[("command", "play DTMF"), ("from-tag", "a"), ("code", code)])
    }

    /// A says its packets number `from` to `to`, 20 ms each.
    pub fn talk(&mut self, from: u16, to: u16) {
        for n in from..to {
            self.rig.packet(A, self.for_a, &rtp(0xa, n));
            self.rig.pass(20 * MS);
        }
    }

    /// A call of which the path below carries what A says: 30 packets more than anybody has counted yet.
    pub fn carried_below() -> (Played, Rule) {
        let mut played = Played::begin(Config { offload: true, ..ng_config() }, EVENTS);
        played.rig.packet(B, played.for_b, &rtp(0xb, 0));
        played.rig.sent.clear();
        let rule = played.hand_down();
        played.heard();
        played.rig.pass(600 * MS);
        played.rig.offloads.clear();
        (played, rule)
    }

    /// A talks until the path below is told to carry that.
    fn hand_down(&mut self) -> Rule {
        for n in 0..200 {
            self.talk(n, n + 1);
            let begun = self.rig.offloads.drain(..).find_map(|offload| match offload {
                Offload::Begin(rule) => Some(rule),
                _ => None,
            });
            if let Some(rule) = begun {
                return rule;
            }
        }
        panic!("it is never handed down");
    }

    /// Whether the path below was told to carry it no more.
    pub fn has_taken_back(&self, rule: &Rule) -> bool {
        let is_end = |offload: &Offload| matches!(offload, Offload::End(socket) if *socket == rule.socket);
        self.rig.offloads.iter().any(is_end)
    }

    /// What B got since last asked.
    pub fn heard(&mut self) -> Vec<Heard> {
        let sent = std::mem::take(&mut self.rig.sent);
        assert!(sent.iter().all(|sent| sent.to == address(B) && sent.from == self.for_b), "{sent:?}");
        sent.iter().map(|sent| Heard::of(&sent.bytes)).collect()
    }
}

pub fn port_in(answer: &Dict<'_>) -> SocketAddr {
    let sdp = answer.text("sdp").unwrap_or_else(|| panic!("{answer:?}"));
    let line = sdp.lines().find(|line| line.starts_with("m=audio ")).unwrap();
    address(&format!("{OUTSIDE}:{}", line.split(' ').nth(1).unwrap()))
}

#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    pub payload_type: u8,
    pub marker: bool,
    pub payload: Vec<u8>,
}

impl Heard {
    pub fn of(bytes: &[u8]) -> Heard {
        let Packet::Rtp(rtp) = classify(bytes) else { panic!("not RTP: {bytes:?}") };
        let (ssrc, sequence, timestamp) = (rtp.ssrc(), rtp.sequence(), rtp.timestamp());
        let payload = Rtp(bytes).payload().to_vec();
        Heard { ssrc, sequence, timestamp, payload_type: rtp.payload_type(), marker: rtp.marker(), payload }
    }

    pub fn is_digit(&self) -> bool {
        self.payload_type == 101
    }
}

/// One stream to whoever hears it: numbers that only grow, a little more than by one at most where something was dropped.
pub fn is_one_stream(heard: &[Heard]) {
    for pair in heard.windows(2) {
        let [a, b] = pair else { unreachable!() };
        assert_eq!(a.ssrc, b.ssrc);
        let step = b.sequence.wrapping_sub(a.sequence);
        assert!((1..=4).contains(&step), "{a:?} {b:?}");
        let same_digit = a.is_digit() && b.is_digit();
        assert!(b.timestamp > a.timestamp || same_digit && b.timestamp == a.timestamp, "{a:?} {b:?}");
    }
}
