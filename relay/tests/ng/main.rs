//! The ng face: what rtpengine's clients send, and what they are told.

#[path = "../rig/mod.rs"]
mod rig;

mod exchanges;
mod lasting;
mod messages;
mod switching;
mod words;

use std::time::Duration;

use proto::event::{Event, Side};
use proto::node::{Capture, Flow, FlowId, Input, Transport};
use proto::tables::Latch;
use relay::ng::bencode;
use relay::ng::value::{Dict, Value};
use relay::{Config, Why};
use rig::{CLIENT, MS, NG, OUTSIDE, Rig, SECOND, address, rtp};

const ALICE: &str = "v=0\r\no=alice 1 1 IN IP4 198.51.100.10\r\ns=-\r\nc=IN IP4 198.51.100.10\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n";
const BOB: &str = "v=0\r\no=bob 9 9 IN IP4 198.51.100.20\r\ns=call\r\nc=IN IP4 198.51.100.20\r\nt=0 0\r\n\
    m=audio 5000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";
const A: &str = "198.51.100.10:4000";
const B: &str = "198.51.100.20:5000";

fn config() -> Config {
    let ng =
        relay::ng::Config { listen: vec![(Transport::Udp, address(NG))], ..relay::ng::Config::default() };
    Config { ng: Some(ng), latch: Latch::Strict, ..rig::config() }
}

fn rig() -> Rig {
    Rig::new(config())
}

trait Commands {
    fn say(&mut self, from: &str, bytes: &[u8]) -> Option<Vec<u8>>;
    fn command(&mut self, entries: &[(&str, Value<'static>)]) -> Dict<'static>;
    fn ng_offer(&mut self, sdp: &str, flags: &[(&str, Value<'static>)]) -> String;
    fn ng_answer(&mut self, sdp: &str, flags: &[(&str, Value<'static>)]) -> String;
    fn ng_call(&mut self) -> [u16; 2];
}

impl Commands for Rig {
    fn say(&mut self, from: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let flow = Flow::udp(address(NG), address(from));
        self.tell(Input::Other { flow, bytes: bytes.to_vec().into() });
        self.ng.pop()
    }

    fn command(&mut self, entries: &[(&str, Value<'static>)]) -> Dict<'static> {
        let mut bytes =
            format!("cookie{}-{} ", self.now.duration_since(self.born).as_micros(), self.emptied.len())
                .into_bytes();
        let dict = entries.iter().fold(Dict::default(), |dict, (key, value)| dict.with(*key, value.clone()));
        bencode::write(&Value::Dict(dict), &mut bytes);
        self.pass(MS);
        let answer = self.say(CLIENT, &bytes).expect("an answer");
        let body = answer.splitn(2, |byte| *byte == b' ').nth(1).expect("a body").to_vec();
        bencode::read(&body).expect("bencoding").as_dict().expect("a dictionary").owned()
    }

    fn ng_offer(&mut self, sdp: &str, flags: &[(&str, Value<'static>)]) -> String {
        let mut entries = vec![
            ("command", text("offer")),
            ("call-id", text("c1")),
            ("from-tag", text("a")),
            ("sdp", text(sdp)),
        ];
        entries.extend_from_slice(flags);
        said(&self.command(&entries))
    }

    fn ng_answer(&mut self, sdp: &str, flags: &[(&str, Value<'static>)]) -> String {
        let tags = [("from-tag", text("a")), ("to-tag", text("b"))];
        let mut entries = vec![("command", text("answer")), ("call-id", text("c1")), ("sdp", text(sdp))];
        entries.extend(tags);
        entries.extend_from_slice(flags);
        said(&self.command(&entries))
    }

    /// The ports for B and for A.
    fn ng_call(&mut self) -> [u16; 2] {
        let ports = [self.ng_offer(ALICE, &[]), self.ng_answer(BOB, &[])];
        ports.map(|sdp| port(&sdp))
    }
}

fn text(text: &str) -> Value<'static> {
    Value::text(text)
}

fn list(words: &[&str]) -> Value<'static> {
    Value::List(words.iter().map(|word| text(word)).collect())
}

fn said(answer: &Dict<'_>) -> String {
    assert_eq!(answer.text("result"), Some("ok"), "{answer:?}");
    answer.text("sdp").expect("SDP").to_owned()
}

fn port(sdp: &str) -> u16 {
    let line = sdp.lines().find(|line| line.starts_with("m=")).expect("an m= line");
    line.split(' ').nth(1).and_then(|port| port.parse().ok()).expect("a port")
}

fn outside(port: u16) -> std::net::SocketAddr {
    address(&format!("{OUTSIDE}:{port}"))
}
