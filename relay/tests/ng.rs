//! The ng face: what rtpengine's clients send, and what they are told.

mod rig;

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

#[test]
fn is_there() {
    let answer = rig().command(&[("command", text("ping"))]);
    assert_eq!(answer.text("result"), Some("pong"));
}

#[test]
fn offer_and_answer_read_as_rtpengine_writes_them() {
    let mut rig = rig();
    let offer = rig.ng_offer(ALICE, &[("replace", list(&["origin"])), ("ICE", text("remove"))]);
    let (answer, ports) = (rig.ng_answer(BOB, &[]), port(&offer));
    assert_eq!(
        offer.replace(&ports.to_string(), "PORT").replace(&(ports + 1).to_string(), "NEXT"),
        format!(
            "v=0\r\no=alice 1 1 IN IP4 {OUTSIDE}\r\ns=-\r\nc=IN IP4 {OUTSIDE}\r\nt=0 0\r\nm=audio PORT RTP/AVP 0 8 101\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
             a=sendrecv\r\na=rtcp:NEXT\r\na=ptime:20\r\n"
        )
    );
    assert!(
        answer.starts_with("v=0\r\no=bob 9 9 IN IP4 198.51.100.20\r\ns=call\r\nc=IN IP4 203.0.113.1\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("a=ptime:20\r\n"), "as offered: {answer}");
}

#[test]
fn media_goes_both_ways_and_a_delete_ends_it() {
    let mut rig = rig();
    let [for_b, for_a] = rig.ng_call();
    let there = rig.packet(A, outside(for_a), &rtp(1, 1)).expect("sent on to B");
    assert_eq!((there.from, there.to), (outside(for_b), address(B)));
    let back = rig.packet(B, outside(for_b), &rtp(2, 1)).expect("sent on to A");
    assert_eq!((back.from, back.to), (outside(for_a), address(A)));
    assert!(rig.ports().leased > 0);

    let deleted =
        rig.command(&[("command", text("delete")), ("call-id", text("c1")), ("from-tag", text("a"))]);
    assert_eq!(deleted.text("result"), Some("ok"));
    let totals = deleted.value("totals").unwrap().as_dict().unwrap().value("RTP").unwrap().as_dict().unwrap();
    assert_eq!(totals.value("packets").unwrap().as_int(), Some(2));
    assert_eq!((rig.ports().leased, rig.relay.status().sessions), (0, 0));
    assert!(rig.packet(A, outside(for_a), &rtp(1, 2)).is_none());
    assert!(rig.events.iter().any(
        |event| matches!(event, Event::CallEnded(ended) if &*ended.call == "c1" && ended.status == 200)
    ));

    let again = rig.command(&[("command", text("delete")), ("call-id", text("c1"))]);
    assert_eq!(
        (again.text("result"), again.text("warning")),
        (Some("ok"), Some("Call-ID not found or tags didn't match"))
    );
}

#[test]
fn a_delete_may_be_put_off() {
    let mut rig = rig();
    rig.ng_call();
    let delay = ("delete-delay", Value::Int(5));
    rig.command(&[("command", text("delete")), ("call-id", text("c1")), delay]);
    rig.pass(4 * SECOND);
    assert!(rig.ports().leased > 0);
    rig.pass(SECOND);
    assert_eq!(rig.ports().leased, 0);
}

#[test]
fn a_repeated_cookie_gets_the_same_answer_and_changes_nothing() {
    let mut rig = rig();
    let offer = format!("7_1 d7:call-id2:c97:command5:offer8:from-tag1:a3:sdp{}:{ALICE}e", ALICE.len());
    let first = rig.say(CLIENT, offer.as_bytes()).unwrap();
    let leased = rig.ports().leased;
    assert_eq!(rig.say(CLIENT, offer.as_bytes()), Some(first.clone()));
    assert_eq!((rig.ports().leased, rig.relay.status().sessions), (leased, 1));
    let other = rig.say("127.0.0.1:9998", offer.replace("7_1", "7_2").as_bytes()).unwrap();
    assert_eq!(other[4..], first[4..], "a repeated offer keeps its ports");
}

#[test]
fn is_deaf_to_whoever_may_not_command() {
    let mut rig = rig();
    assert_eq!(rig.say("192.0.2.66:9999", b"1 d7:command4:pinge"), None);
    assert_eq!(rig.say(CLIENT, b"no cookie"), None);
    assert_eq!(
        rig.say(CLIENT, b"1 d7:command"),
        Some(b"1 d12:error-reason27:Could not decode dictionary6:result5:errore".to_vec())
    );
}

#[test]
fn what_is_no_command_ends_a_connection_and_nothing_over_udp() {
    let config = |allow: &str| {
        let listen = [Transport::Udp, Transport::Tcp].map(|transport| (transport, address(NG))).to_vec();
        let ng =
            relay::ng::Config { listen, allow: vec![allow.parse().unwrap()], ..relay::ng::Config::default() };
        Config { ng: Some(ng), ..rig::config() }
    };
    let said = |allow: &str, transport, bytes: &'static [u8]| {
        let mut rig = Rig::new(config(allow));
        let flow = Flow { transport, id: FlowId(7), ..Flow::udp(address(NG), address(CLIENT)) };
        rig.tell(Input::Other { flow, bytes: bytes.into() });
        let told = rig.events.iter().find_map(|event| match event {
            Event::Warning { about, why } => Some(format!("{about}: {why}")),
            _ => None,
        });
        assert_eq!(rig.closed.is_empty(), told.is_none(), "closed and told, or neither");
        (rig.ng.pop().map(|answer| String::from_utf8_lossy(&answer).into_owned()), told.unwrap_or_default())
    };
    let (answer, told) = said("127.0.0.1", Transport::Tcp, b"nonsense");
    assert_eq!(answer, None);
    assert!(told.starts_with("ng client 127.0.0.1:9999: what it sent is no command"), "{told}");
    let (answer, told) = said("127.0.0.1", Transport::Tcp, b"c {]}");
    assert!(answer.unwrap().contains("Could not decode dictionary") && told.contains("no command"), "{told}");
    assert!(said("127.0.0.9", Transport::Tcp, b"c d7:command4:pinge").1.contains("`relay.ng.allow`"));
    assert_eq!(said("127.0.0.1", Transport::Tcp, b"c d7:command3:fooe").1, "", "unknown, and well said");
    assert_eq!(said("127.0.0.1", Transport::Udp, b"nonsense"), (None, String::new()));
}

#[test]
fn json_is_answered_in_json() {
    let answer = rig().say(CLIENT, br#"c {"command":"query","call-id":"nobody"}"#).unwrap();
    assert_eq!(answer, br#"c {"error-reason":"Unknown call-id","result":"error"}"#);
}

#[test]
fn a_re_offer_keeps_its_ports_from_either_side_and_a_new_section_gets_its_own() {
    let mut rig = rig();
    let [for_b, for_a] = rig.ng_call();
    let to = ("to-tag", text("b"));
    assert_eq!(
        port(&rig.ng_offer(&ALICE.replace("a=ptime", "a=sendonly\r\na=ptime"), std::slice::from_ref(&to))),
        for_b
    );
    let from_b = rig.command(&[
        ("command", text("offer")),
        ("call-id", text("c1")),
        ("from-tag", text("b")),
        ("to-tag", text("a")),
        ("sdp", text(BOB)),
    ]);
    assert_eq!(port(&said(&from_b)), for_a);
    let video = format!("{ALICE}m=video 4010 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n");
    let offer = rig.ng_offer(&video, &[to]);
    assert_eq!(port(&offer), for_b);
    assert!(offer.contains("m=video 30"), "{offer}");
    let refused = rig.ng_answer(&format!("{BOB}m=video 0 RTP/AVP 96\r\na=inactive\r\n"), &[]);
    assert!(refused.ends_with("m=video 0 RTP/AVP 96\r\n"), "{refused}");
    assert_eq!(rig.ports().leased, 4, "the rejected section's ports are back");
}

#[test]
fn branches_of_a_fork_have_ports_of_their_own_and_end_one_by_one() {
    let mut rig = rig();
    let branch = |name: &str| [("via-branch", text(name))];
    let one = port(&rig.ng_offer(ALICE, &branch("1")));
    let two = port(&rig.ng_offer(ALICE, &branch("2")));
    assert_ne!(one, two);
    rig.ng_answer(BOB, &branch("2"));
    assert_eq!(rig.relay.status().sessions, 2);
    rig.command(&[
        ("command", text("delete")),
        ("call-id", text("c1")),
        ("from-tag", text("a")),
        ("via-branch", text("1")),
    ]);
    assert_eq!(rig.relay.status().sessions, 1);
    let query = rig.command(&[("command", text("query")), ("call-id", text("c1"))]);
    let tags = query.value("tags").unwrap().as_dict().unwrap();
    assert!(tags.value("a").is_some() && tags.value("b").is_some());
}

#[test]
fn each_party_has_its_own_way_with_rtcp() {
    let mut rig = rig();
    let mux = format!("{ALICE}a=rtcp-mux\r\n");
    let offer = rig.ng_offer(&mux, &[("rtcp-mux", list(&["demux"]))]);
    assert!(!offer.contains("a=rtcp-mux"), "{offer}");
    let answer = rig.ng_answer(BOB, &[]);
    let (for_b, for_a) = (port(&offer), port(&answer));
    assert!(answer.contains(&format!("a=rtcp:{for_a}\r\na=rtcp-mux\r\n")), "{answer}");
    rig.packet(A, outside(for_a), &rtp(1, 1));
    rig.packet(B, outside(for_b), &rtp(2, 1));
    let report = [0x80, 200, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let there = rig.packet(A, outside(for_a), &report).expect("to B's own RTCP port");
    assert_eq!(there.to, address("198.51.100.20:5001"));
    let back = rig.packet("198.51.100.20:5001", outside(for_b + 1), &report).expect("to A's only port");
    assert_eq!((back.to, back.from), (address(A), outside(for_a)));
}

#[test]
fn media_and_digits_can_be_blocked_and_sound_silenced() {
    let mut rig = rig();
    let [_, for_a] = rig.ng_call();
    let send = |rig: &mut Rig, payload_type: u8, n: u16| {
        let mut packet = rtp(1, n);
        packet[1] = payload_type;
        rig.packet(A, outside(for_a), &packet)
    };
    assert!(send(&mut rig, 0, 1).is_some());
    let mut n = 1;
    for (command, audio, digits) in [
        ("block DTMF", true, false),
        ("block media", false, false),
        ("unblock media", true, false),
        ("unblock DTMF", true, true),
        ("silence media", true, false),
    ] {
        rig.command(&[("command", text(command)), ("call-id", text("c1")), ("from-tag", text("a"))]);
        n += 2;
        let sent = (send(&mut rig, 0, n), send(&mut rig, 101, n + 1));
        assert_eq!((sent.0.is_some(), sent.1.is_some()), (audio, digits), "{command}");
        let silent = sent.0.is_some_and(|sent| sent.bytes[12..].iter().all(|byte| *byte == 0xff));
        assert_eq!(silent, command == "silence media");
    }
    assert!(rig.dropped(Why::Blocked) > 0);
    let unknown = rig.command(&[("command", text("block media")), ("call-id", text("x"))]);
    assert_eq!(unknown.text("error-reason"), Some("Unknown call-ID"));
}

#[test]
fn a_party_may_be_meant_by_its_label_and_everybody_by_all() {
    let mut rig = rig();
    let for_b = port(&rig.ng_offer(ALICE, &[("label", text("left"))]));
    let for_a = port(&rig.ng_answer(BOB, &[("label", text("right"))]));
    let mut n = 0;
    let mut heard = |rig: &mut Rig| {
        n += 1;
        let a = rig.packet(A, outside(for_a), &rtp(1, n)).is_some();
        (a, rig.packet(B, outside(for_b), &rtp(2, n)).is_some())
    };
    assert_eq!(heard(&mut rig), (true, true));
    let call = [("call-id", text("c1"))];
    let say = |rig: &mut Rig, command, more: &[(&str, Value<'static>)]| {
        let answer = rig.command(&[&[("command", text(command))], &call[..], more].concat());
        assert_eq!(answer.text("result"), Some("ok"), "{command}: {answer:?}");
    };
    say(&mut rig, "block media", &[("label", text("right"))]);
    assert_eq!(heard(&mut rig), (true, false));
    say(&mut rig, "unblock media", &[("label", text("right"))]);
    say(&mut rig, "block media", &[("from-tag", text("a"))]);
    assert_eq!(heard(&mut rig), (false, true));
    say(&mut rig, "block media", &[("all", text("all"))]);
    assert_eq!(heard(&mut rig), (false, false));
    say(&mut rig, "unblock media", &[("flags", list(&["all"]))]);
    assert_eq!(heard(&mut rig), (true, true));
}

#[test]
fn flags_that_ask_for_what_happens_anyway_are_passed_over_and_ports_stay_over_a_re_offer() {
    let flags = list(&["symmetric", "strict-source", "media-handover", "port-latching", "trust-address"]);
    let mut rig = rig();
    let first = rig.command(&[
        ("command", text("offer")),
        ("call-id", text("c1")),
        ("from-tag", text("a")),
        ("sdp", text(ALICE)),
        ("flags", flags.clone()),
    ]);
    assert_eq!((first.text("result"), first.text("warning")), (Some("ok"), None));
    let for_b = port(first.text("sdp").unwrap());
    rig.ng_answer(BOB, &[("flags", flags.clone())]);
    assert_eq!(port(&rig.ng_offer(ALICE, &[("to-tag", text("b")), ("flags", flags)])), for_b);
}

const CRYPTO: &str = "a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n";

#[test]
fn transport_protocol_puts_the_relay_between_srtp_and_plain_rtp() {
    let mut rig = rig();
    let offer = rig.ng_offer(ALICE, &[("transport-protocol", text("RTP/SAVP"))]);
    assert!(offer.contains(" RTP/SAVP "), "{offer}");
    assert_eq!(offer.matches("a=crypto:").count(), 4, "{offer}");
    let bob = BOB.replace("RTP/AVP", "RTP/SAVP") + &CRYPTO.replace(":3 ", ":1 ");
    let answer = rig.ng_answer(&bob, &[]);
    assert!(answer.contains(" RTP/AVP ") && !answer.contains("crypto"), "{answer}");
    // Nothing that is not under his key is Bob's.
    assert_eq!(rig.packet("192.0.2.20:5000", outside(port(&offer)), &rtp(0xb, 1)), None);
}

#[test]
fn an_answer_in_plain_rtp_to_an_offer_of_srtp_is_refused_in_words() {
    let mut rig = rig();
    rig.ng_offer(ALICE, &[("transport-protocol", text("RTP/SAVP"))]);
    let answer = [
        ("command", text("answer")),
        ("call-id", text("c1")),
        ("from-tag", text("a")),
        ("to-tag", text("b")),
        ("sdp", text(BOB)),
    ];
    let refused = rig.command(&answer);
    assert!(refused.text("error-reason").unwrap().contains("otherwise than the offer"), "{refused:?}");
}

#[test]
fn srtp_on_both_sides_passes_with_the_parties_own_keys() {
    let mut rig = rig();
    let secure = ALICE.replace("RTP/AVP", "RTP/SAVP") + CRYPTO;
    let passed = rig.ng_offer(&secure, &[("transport-protocol", text("RTP/SAVP"))]);
    assert!(passed.contains(CRYPTO), "{passed}");
    let plain = rig.ng_offer(&secure, &[("transport-protocol", text("RTP/AVP"))]);
    assert!(plain.contains(" RTP/AVP ") && !plain.contains("crypto"), "{plain}");
    let answer = rig.ng_answer(BOB, &[]);
    assert!(
        answer.contains(" RTP/SAVP ") && answer.contains("a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:"),
        "{answer}"
    );
}

#[test]
fn who_has_no_handshakes_offers_none() {
    let mut rig = rig();
    let refused = rig.command(&[
        ("command", text("offer")),
        ("call-id", text("s")),
        ("from-tag", text("a")),
        ("sdp", text(ALICE)),
        ("transport-protocol", text("UDP/TLS/RTP/SAVPF")),
    ]);
    assert!(refused.text("error-reason").unwrap().contains("DTLS-SRTP"), "{refused:?}");
    assert_eq!(rig.relay.status().sessions, 0);
}

#[test]
fn unknown_flags_are_named_and_the_call_goes_on() {
    let mut rig = rig();
    let answer = rig.command(&[
        ("command", text("offer")),
        ("call-id", text("u")),
        ("from-tag", text("a")),
        ("sdp", text(ALICE)),
        ("flags", list(&["trust-address", "fly-to-the-moon"])),
    ]);
    said(&answer);
    assert_eq!(answer.text("warning"), Some("not supported here, passed over: fly-to-the-moon"));
    assert!(
        rig.events
            .iter()
            .any(|event| matches!(event, Event::Warning { about, .. } if &**about == "fly-to-the-moon"))
    );
}

#[test]
fn only_the_signalled_and_the_signalling_address_are_heard() {
    let mut rig = rig();
    let private = ALICE.replace("198.51.100.10", "10.9.9.9");
    rig.ng_offer(&private, &[("received-from", list(&["IP4", "198.51.100.77"]))]);
    let for_a = port(&rig.ng_answer(BOB, &[]));
    assert!(rig.packet("192.0.2.66:4000", outside(for_a), &rtp(1, 1)).is_none());
    assert!(rig.packet("198.51.100.77:61000", outside(for_a), &rtp(1, 1)).is_some());
}

#[test]
fn parties_meet_in_the_networks_the_flags_name() {
    let mut rig = rig();
    let offer =
        rig.ng_offer(ALICE, &[("direction", list(&["outside", "inside"])), ("replace", list(&["origin"]))]);
    assert!(
        offer.contains("o=alice 1 1 IN IP4 10.0.0.1\r\n") && offer.contains("c=IN IP4 10.0.0.1\r\n"),
        "{offer}"
    );
    let answer = rig.ng_answer(BOB, &[]);
    assert!(answer.contains(&format!("c=IN IP4 {OUTSIDE}\r\n")), "{answer}");
    let six = rig.command(&[
        ("command", text("offer")),
        ("call-id", text("six")),
        ("from-tag", text("a")),
        ("sdp", text(ALICE)),
        ("address family", text("IP6")),
    ]);
    assert!(said(&six).contains("c=IN IP6 2001:db8::1\r\n"));
}

#[test]
fn a_call_both_parties_have_left_without_a_word_ends_by_itself() {
    let mut rig = rig();
    let [for_b, for_a] = rig.ng_call();
    rig.packet(A, outside(for_a), &rtp(1, 1));
    rig.packet(B, outside(for_b), &rtp(2, 1));
    rig.pass(Duration::from_secs(119));
    assert_eq!(rig.relay.status().sessions, 1);
    rig.pass(2 * SECOND);
    assert_eq!((rig.relay.status().sessions, rig.ports().leased), (0, 0));
    let list = rig.command(&[("command", text("list"))]);
    assert_eq!(list.value("calls"), Some(&Value::List(Vec::new())));
}

#[test]
fn when_ports_run_out_a_client_is_told_to_ask_elsewhere() {
    let mut rig = Rig::new(Config { ports: 30_000..=30_003, ..config() });
    rig.ng_call();
    let ask = |supports: &[&str], call: &str| {
        let base = [
            ("command", text("offer")),
            ("call-id", text(call)),
            ("from-tag", text("a")),
            ("sdp", text(ALICE)),
        ];
        [base.to_vec(), vec![("supports", list(supports))]].concat()
    };
    let full = rig.command(&ask(&["load limit"], "x"));
    assert_eq!(full.text("result"), Some("load limit"), "{full:?}");
    let full = rig.command(&ask(&[], "y"));
    assert_eq!(full.text("result"), Some("error"));
    assert_eq!(rig.relay.status().sessions, 1);
}

#[test]
fn statistics_count_what_happened() {
    let mut rig = rig();
    let [_, for_a] = rig.ng_call();
    rig.packet(A, outside(for_a), &rtp(1, 1));
    let answer = rig.command(&[("command", text("statistics"))]);
    let of = |group: &str, key: &str| {
        let statistics = answer.value("statistics")?.as_dict()?;
        statistics.value(group)?.as_dict()?.value(key)?.as_int()
    };
    assert_eq!(of("currentstatistics", "sessionstotal"), Some(1));
    assert_eq!(of("totalstatistics", "relayedpackets"), Some(1));
    assert_eq!(of("controlstatistics", "totaloffercount"), Some(1));
}

#[test]
fn a_recorded_call_gives_copies_of_what_both_parties_sent_until_it_ends() {
    let mut rig = rig();
    rig.ng_offer(ALICE, &[("record call", text("yes"))]);
    let for_a = port(&rig.ng_answer(BOB, &[]));
    rig.packet(A, outside(for_a), &rtp(1, 1));
    rig.packet("192.0.2.66:9", outside(for_a), &rtp(6, 1));
    assert_eq!(rig.captured.len(), 1, "strangers are not recorded");
    rig.command(&[("command", text("stop recording")), ("call-id", text("c1"))]);
    rig.packet(A, outside(for_a), &rtp(1, 2));
    rig.command(&[("command", text("start recording")), ("call-id", text("c1"))]);
    rig.packet(A, outside(for_a), &rtp(1, 3));
    rig.command(&[("command", text("delete")), ("call-id", text("c1"))]);
    let copies: Vec<_> = rig
        .captured
        .iter()
        .map(|captured| match &captured.what {
            Capture::Packet { side, from, to, bytes, .. } => Some((*side, *from, *to, bytes[3])),
            Capture::End => None,
        })
        .collect();
    let packet = |n| Some((Side::Caller, address(A), outside(for_a), n));
    assert_eq!(copies, [packet(1), None, packet(3), None]);
}

#[test]
fn a_recording_that_pauses_goes_on_in_the_same_file() {
    let mut rig = rig();
    rig.ng_offer(ALICE, &[]);
    let for_a = port(&rig.ng_answer(BOB, &[]));
    for (n, command) in
        ["start recording", "pause recording", "start recording", "delete"].into_iter().enumerate()
    {
        let answer = rig.command(&[("command", text(command)), ("call-id", text("c1"))]);
        assert_eq!(answer.text("result"), Some("ok"), "{command}");
        if command != "delete" {
            rig.packet(A, outside(for_a), &rtp(1, n as u16));
        }
    }
    let copies = rig.captured.iter().map(|captured| match &captured.what {
        Capture::Packet { bytes, .. } => Some(bytes[3]),
        Capture::End => None,
    });
    assert_eq!(copies.collect::<Vec<_>>(), [Some(0), Some(2), None]);
}

#[test]
fn a_killed_relay_goes_on_with_its_calls_and_knows_what_was_said() {
    let mut rig = rig();
    let offer = rig.ng_offer(
        &format!("{ALICE}a=rtcp-mux\r\n"),
        &[("rtcp-mux", list(&["demux"])), ("label", text("caller"))],
    );
    let (for_b, for_a) = (port(&offer), port(&rig.ng_answer(BOB, &[])));
    rig.packet(A, outside(for_a), &rtp(1, 1));
    let mut next = Rig::after(rig.config, rig.tables, rig.now + SECOND, true);
    assert_eq!(next.packet(B, outside(for_b), &rtp(2, 1)).map(|sent| sent.to), Some(address(A)));
    let again = next.ng_answer(BOB, &[]);
    assert!(again.contains(&format!("m=audio {for_a} ")) && again.contains("a=rtcp-mux"), "{again}");
    next.command(&[("command", text("block media")), ("call-id", text("c1")), ("label", text("caller"))]);
    assert_eq!(next.packet(A, outside(for_a), &rtp(1, 9)), None);
    next.command(&[("command", text("delete")), ("call-id", text("c1")), ("from-tag", text("a"))]);
    assert_eq!((next.ports().leased, next.tables.sessions.len()), (0, 0));
}

/// Commands as a client sends them, broken in every place a few bytes can break them: none brings the relay down, and when
/// every call is deleted nothing stays lent.
#[test]
fn broken_commands_break_nothing() {
    let mut rig = Rig::new(Config { quarantine: MS, ..config() });
    let mut dice = proto::node::Birth {
        now: rig.now,
        wall: std::time::SystemTime::UNIX_EPOCH,
        seed: [7; 32],
        lane: proto::node::Lane::default(),
    }
    .dice(9);
    let whole: Vec<Vec<u8>> =
        ["offer", "answer", "query", "delete", "block media", "statistics", "start recording"]
            .iter()
            .flat_map(|command| [ALICE, BOB].map(|sdp| (command, sdp)))
            .map(|(command, sdp)| {
                let sdp = format!(
                    "{sdp}a=rtcp-mux\r\nm=video 4010 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 x\r\n"
                );
                let flags =
                    list(&["trust-address", "SIP-source-address", "loop-protect", "codec-strip-PCMA"]);
                let codec = Dict::default().with("strip", list(&["all"])).with("offer", list(&["PCMU"]));
                let dict = Dict::default()
                    .with("command", text(command))
                    .with("call-id", text("c"))
                    .with("from-tag", text("a"))
                    .with("to-tag", text("b"))
                    .with("flags", flags)
                    .with("received-from", list(&["IP4", "198.51.100.77"]))
                    .with("codec", Value::Dict(codec))
                    .with("sdp", Value::text(sdp));
                let mut bytes = b"0 ".to_vec();
                bencode::write(&Value::Dict(dict), &mut bytes);
                bytes
            })
            .collect();
    for round in 0..20_000u32 {
        let mut bytes = whole[dice.below(whole.len() as u64) as usize].clone();
        for _ in 0..dice.below(6) {
            let at = dice.below(bytes.len() as u64) as usize;
            match dice.below(4) {
                0 => bytes[at] = dice.u32() as u8,
                1 => bytes[at] = b"0:;/ =\r\nmac"[dice.below(11) as usize],
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        let message = [format!("{round}").as_bytes(), &bytes[1..]].concat();
        rig.say(CLIENT, &message);
        rig.pass(MS);
    }
    let listed = rig.command(&[("command", text("list")), ("limit", Value::Int(10_000))]);
    let Some(Value::List(calls)) = listed.value("calls") else { panic!("{listed:?}") };
    let ended = rig.events.iter().filter(|event| matches!(event, Event::CallEnded(_))).count();
    assert!(ended > 300, "only {ended} calls came about at all");
    for call in calls {
        rig.command(&[("command", text("delete")), ("call-id", call.clone())]);
    }
    assert_eq!((rig.relay.status().sessions, rig.ports().leased, rig.tables.sessions.len()), (0, 0, 0));
}
