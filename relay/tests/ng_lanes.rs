//! The ng face of a relay with several lanes: what is about all of them is answered for all of them, whoever was asked.
#![allow(clippy::disallowed_methods)]

mod rig;

use std::time::Instant;

use proto::node::{Flow, Input, Lane, Transport};
use relay::Config;
use relay::ng::bencode;
use relay::ng::value::{Dict, Value};
use rig::{CLIENT, KeptTables, NG, OUTSIDE, Rig, address, rtp};

const ALICE: &str = "v=0\r\no=alice 1 1 IN IP4 198.51.100.10\r\ns=-\r\nc=IN IP4 198.51.100.10\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 0\r\n";
const BOB: &str = "v=0\r\no=bob 9 9 IN IP4 198.51.100.20\r\ns=-\r\nc=IN IP4 198.51.100.20\r\nt=0 0\r\n\
    m=audio 5000 RTP/AVP 0\r\n";
const LANES: u16 = 3;

/// Three lanes, each with a hundred ports of its own.
struct Lanes(Vec<Rig>);

impl Lanes {
    fn new() -> Lanes {
        let now = Instant::now();
        let ng =
            relay::ng::Config { listen: vec![(Transport::Udp, address(NG))], ..relay::ng::Config::default() };
        let lane = |index: u16| {
            let first = 30_000 + index * 100;
            let config = Config { ports: first..=first + 99, ng: Some(ng.clone()), ..rig::config() };
            Rig::lane(config, KeptTables::default(), now, true, Lane { index, count: LANES })
        };
        Lanes((0..LANES).map(lane).collect())
    }

    /// A command read by one lane; what comes back, whoever gives it.
    fn say(&mut self, lane: usize, cookie: &str, entries: &[(&str, &str)]) -> Option<Dict<'static>> {
        let entry = |dict: Dict<'static>, (key, value): &(&str, &str)| dict.with(*key, Value::text(*value));
        let mut bytes = format!("{cookie} ").into_bytes();
        bencode::write(&Value::Dict(entries.iter().fold(Dict::default(), entry)), &mut bytes);
        let flow = Flow::udp(address(NG), address(CLIENT));
        self.0[lane].tell(Input::Other { flow, bytes: bytes.into() });
        while let Some((to, input)) = self.0.iter_mut().find_map(|rig| rig.passed.pop()) {
            self.0[usize::from(to)].tell(input);
        }
        let answer = self.0.iter_mut().find_map(|rig| rig.ng.pop())?;
        let body = answer.strip_prefix(format!("{cookie} ").as_bytes()).expect("its cookie");
        Some(bencode::read(body).expect("bencoding").as_dict().expect("a dictionary").owned())
    }

    /// A call of this name on a lane; the port its caller sends to.
    fn call(&mut self, lane: usize, name: &str) -> u16 {
        let tags = [("call-id", name), ("from-tag", "a"), ("to-tag", "b")];
        let offer = [&tags[..2], &[("command", "offer"), ("sdp", ALICE)]].concat();
        self.say(lane, &format!("offer-{name}"), &offer).expect("an answer");
        let answer = [&tags[..], &[("command", "answer"), ("sdp", BOB)]].concat();
        let answer = self.say(lane, &format!("answer-{name}"), &answer).expect("an answer");
        let sdp = answer.text("sdp").expect("SDP");
        let line = sdp.lines().find(|line| line.starts_with("m=")).expect("an m= line");
        line.split(' ').nth(1).and_then(|port| port.parse().ok()).expect("a port")
    }

    fn names(&mut self, lane: usize, cookie: &str, limit: &str) -> Vec<String> {
        let listed = self.say(lane, cookie, &[("command", "list"), ("limit", limit)]).expect("an answer");
        assert_eq!(listed.text("result"), Some("ok"));
        let Some(Value::List(calls)) = listed.value("calls") else { panic!("{listed:?}") };
        let mut names: Vec<String> = calls.iter().filter_map(Value::as_text).map(str::to_owned).collect();
        names.sort();
        names
    }
}

fn of(answer: &Dict<'_>, group: &str, key: &str) -> Option<i64> {
    answer.value("statistics")?.as_dict()?.value(group)?.as_dict()?.value(key)?.as_int()
}

#[test]
fn a_list_names_the_calls_of_all_lanes_whichever_is_asked() {
    let mut lanes = Lanes::new();
    for (lane, name) in [(0, "zero"), (1, "one"), (2, "two"), (2, "another")] {
        lanes.call(lane, name);
    }
    for lane in 0..3 {
        let names = lanes.names(lane, &format!("list-{lane}"), "32");
        assert_eq!(names, ["another", "one", "two", "zero"], "asked of lane {lane}");
    }
}

#[test]
fn a_list_is_as_long_as_its_limit_and_no_longer() {
    let mut lanes = Lanes::new();
    for number in 0..9 {
        lanes.call(number % 3, &format!("call-{number}"));
    }
    for limit in [1, 3, 4, 8, 9] {
        assert_eq!(lanes.names(1, &format!("list-{limit}"), &limit.to_string()).len(), limit);
    }
    assert_eq!(lanes.names(1, "list-all", "10").len(), 9);
}

#[test]
fn statistics_add_up_over_all_lanes() {
    let mut lanes = Lanes::new();
    for lane in 0..3 {
        let port = lanes.call(lane, &format!("call-{lane}"));
        for number in 0..=lane as u16 {
            let at = address(&format!("{OUTSIDE}:{port}"));
            lanes.0[lane].packet("198.51.100.10:4000", at, &rtp(1, number)).expect("sent on");
        }
    }
    let answer = lanes.say(2, "statistics", &[("command", "statistics")]).expect("an answer");
    assert_eq!(of(&answer, "currentstatistics", "sessionstotal"), Some(3));
    assert_eq!(of(&answer, "totalstatistics", "relayedpackets"), Some(1 + 2 + 3));
    assert_eq!(of(&answer, "controlstatistics", "totaloffercount"), Some(3));
    assert_eq!(of(&answer, "controlstatistics", "totalstatisticscount"), Some(1), "it is one command");
    let Some(Value::List(interfaces)) =
        answer.value("statistics").unwrap().as_dict().unwrap().value("interfaces")
    else {
        panic!("{answer:?}")
    };
    assert_eq!(interfaces.len(), 3, "one for each network, not for each lane");
    let ports = interfaces[0].as_dict().unwrap().value("ports").unwrap().as_dict().unwrap();
    let number = |key: &str| ports.value(key).unwrap().as_int().unwrap();
    assert_eq!((number("min"), number("max"), number("totals")), (30_000, 30_299, 300));
    assert_eq!((number("used"), number("free")), (12, 288), "two pairs for each call");
}

#[test]
fn a_repeated_question_gets_the_answer_it_got_before() {
    let mut lanes = Lanes::new();
    lanes.call(1, "one");
    let first = lanes.names(1, "cookie", "32");
    lanes.call(2, "two");
    for lane in 0..3 {
        assert_eq!(lanes.names(lane, "cookie", "32"), first, "repeated to lane {lane}");
    }
    assert_eq!(lanes.names(0, "another", "32"), ["one", "two"]);
}

#[test]
fn a_stranger_sets_nothing_in_motion() {
    let mut lanes = Lanes::new();
    let flow = Flow::udp(address(NG), address("192.0.2.66:9"));
    lanes.0[1].tell(Input::Other { flow, bytes: (&b"c d7:command4:liste"[..]).into() });
    assert!(lanes.0.iter().all(|rig| rig.passed.is_empty() && rig.ng.is_empty()));
}

#[test]
fn what_is_about_one_call_is_not_passed_on() {
    let mut lanes = Lanes::new();
    lanes.call(1, "one");
    let query = [("command", "query"), ("call-id", "one")];
    assert_eq!(lanes.say(1, "q", &query).unwrap().text("result"), Some("ok"));
    assert_eq!(lanes.say(0, "r", &query).unwrap().text("result"), Some("error"), "another lane's call");
}
