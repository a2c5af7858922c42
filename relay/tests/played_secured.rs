//! What is played to a party that hears SRTP, and said to it in the other one's place: under its keys, and nothing else.

mod rig;

use proto::srtp::Receiver;
use proto::srtp::sdes::Crypto;
use relay::ng::value::{Dict, Value};
use rig::played::*;
use rig::*;

const SUITE: &str = "AES_CM_128_HMAC_SHA1_80";

/// A call in which A speaks RTP and B SRTP, and what B opens with.
fn secured() -> (Played, Receiver) {
    let zero = address("0.0.0.0:0");
    let mut played = Played { rig: Rig::new(ng_config()), for_a: zero, for_b: zero, cookies: 0 };
    let offer = [
        ("command", "offer"),
        ("from-tag", "a"),
        ("transport-protocol", "RTP/SAVP"),
        ("DTLS", "off"),
        ("sdp", &sdp(A, EVENTS)),
    ];
    let offered = played.command(&offer);
    played.for_b = port_in(&offered);
    let keys = offered.text("sdp").unwrap().lines().filter_map(|line| line.strip_prefix("a=crypto:"));
    let theirs = keys.map(|line| Crypto::parse(line).unwrap()).find(|key| key.to_string().contains(SUITE));
    let theirs = theirs.expect("the suite everybody has");
    let own = format!(
        "a=crypto:{} {SUITE} inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n{EVENTS}",
        theirs.tag
    );
    let secure = sdp(B, &own).replace("RTP/AVP", "RTP/SAVP");
    let answer = [("command", "answer"), ("from-tag", "a"), ("to-tag", "b"), ("sdp", &secure)];
    played.for_a = port_in(&played.command(&answer));
    (played, Receiver::new(&theirs.master))
}

/// What B makes of what it got: every packet opens, in one stream.
fn opened(played: &mut Played, keys: &mut Receiver) -> Vec<Heard> {
    let sent = std::mem::take(&mut played.rig.sent);
    let opened = sent.into_iter().map(|sent| {
        assert_eq!((sent.to, sent.from), (address(B), played.for_b));
        let mut bytes = sent.bytes;
        let length = keys.rtp(&mut bytes).expect("under B's keys");
        Heard::of(&bytes[..length])
    });
    let heard: Vec<Heard> = opened.collect();
    is_one_stream(&heard);
    heard
}

/// A file of so many 20 ms of one µ-law byte.
fn tune(packets: usize, byte: u8) -> Vec<u8> {
    let length = packets * 160;
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".to_vec();
    file.extend([7, 0, 1, 0, 0x40, 0x1f, 0, 0, 0x40, 0x1f, 0, 0, 1, 0, 8, 0]);
    file.extend(b"data");
    file.extend((length as u32).to_le_bytes());
    file.resize(file.len() + length, byte);
    file
}

#[test]
fn a_tune_is_heard_under_the_hearers_keys_between_what_the_other_party_says() {
    let (mut played, mut keys) = secured();
    played.talk(0, 20);
    let before = opened(&mut played, &mut keys);
    assert_eq!(before.len(), 20);
    let command = Dict::default()
        .with("command", Value::text("play media"))
        .with("from-tag", Value::text("b"))
        .with("blob", Value::Text(tune(10, 0x8a).into()));
    let answer = played.send("tune", command).expect("an answer");
    assert_eq!(answer.text("result"), Some("ok"), "{answer:?}");
    played.talk(20, 50);
    let heard = opened(&mut played, &mut keys);
    let is_tune =
        |heard: &&Heard| heard.payload.len() == 160 && heard.payload.iter().all(|byte| *byte == 0x8a);
    assert_eq!(heard.iter().filter(is_tune).count(), 10);
    assert!(!is_tune(&heard.last().unwrap()), "A is heard again");
    is_one_stream(&[&before[19..], &heard[..1]].concat());
}

#[test]
fn a_digit_is_said_under_the_hearers_keys() {
    let (mut played, mut keys) = secured();
    played.talk(0, 20);
    opened(&mut played, &mut keys);
    assert_eq!(played.play("5").text("result"), Some("ok"));
    played.talk(20, 60);
    let heard = opened(&mut played, &mut keys);
    let digits: Vec<&Heard> = heard.iter().filter(|heard| heard.is_digit()).collect();
    assert!(digits.len() >= 10 && digits.iter().all(|digit| digit.payload[0] == 5), "{digits:?}");
    assert!(digits.last().unwrap().payload[1] & 0x80 != 0, "it ends");
    assert!(!heard.last().unwrap().is_digit(), "A is heard again");
}
