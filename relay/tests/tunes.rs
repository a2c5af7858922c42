//! Media played to a party (`play media`, `stop media`): what it hears, packet by packet.

mod rig;

use std::sync::{Arc, Mutex};

use relay::ng::Files;
use relay::ng::value::{Dict, Value};
use rig::played::*;
use rig::*;

/// A file of so many 20 ms, each of one µ-law byte: 0x80, 0x81 and so on.
fn tune(packets: u8) -> Vec<u8> {
    wav(7, 8, &(0..packets).flat_map(|n| [0x80 + n; 160]).collect::<Vec<u8>>())
}

fn wav(tag: u8, bits: u8, data: &[u8]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".to_vec();
    file.extend([tag, 0, 1, 0, 0x40, 0x1f, 0, 0, 0, 0, 0, 0, bits / 8, 0, bits, 0]);
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

fn play<'a>(to: &str, blob: &[u8]) -> Dict<'a> {
    Dict::default()
        .with("command", Value::text("play media"))
        .with("from-tag", Value::text(to))
        .with("blob", Value::Text(blob.to_vec().into()))
}

fn play_file<'a>(name: &str) -> Dict<'a> {
    Dict::default()
        .with("command", Value::text("play media"))
        .with("from-tag", Value::text("b"))
        .with("file", Value::text(name))
}

trait Plays {
    fn tell(&mut self, command: Dict<'_>) -> Dict<'static>;
    fn stop(&mut self) -> Option<i64>;
}

impl Plays for Played {
    fn tell(&mut self, command: Dict<'_>) -> Dict<'static> {
        self.cookies += 1;
        let cookie = format!("c{}", self.cookies);
        self.send(&cookie, command).expect("an answer")
    }

    fn stop(&mut self) -> Option<i64> {
        let answer = self.command(&[("command", "stop media"), ("from-tag", "b")]);
        assert_eq!(answer.text("result"), Some("ok"));
        answer.value("last-frame-pos").and_then(Value::as_int)
    }
}

/// Which 20 ms of the tune this is; A itself says another byte.
fn part(heard: &Heard) -> Option<u8> {
    let byte = heard.payload[0];
    (byte != 0xd5 && heard.payload.iter().all(|other| *other == byte)).then_some(byte & 0x7f)
}

fn parts(heard: &[Heard]) -> Vec<u8> {
    heard.iter().filter_map(part).collect()
}

#[test]
fn a_tune_stands_in_the_stream_that_is_heard_and_ends_by_itself() {
    let mut played = Played::begin(ng_config(), EVENTS);
    played.talk(0, 50);
    let answer = played.tell(play("b", &tune(10)));
    assert_eq!(answer.text("result"), Some("ok"));
    assert_eq!(answer.value("duration").and_then(Value::as_int), Some(200));
    played.talk(50, 100);
    let heard = played.heard();
    is_one_stream(&heard);
    assert_eq!(parts(&heard), (0..10).collect::<Vec<u8>>());
    let first = heard.iter().position(|heard| part(heard).is_some()).unwrap();
    let tune = &heard[first..first + 10];
    assert!(tune.iter().all(|packet| part(packet).is_some()), "nothing else is heard in between");
    for (n, packet) in tune.iter().enumerate() {
        assert_eq!(packet.timestamp, tune[0].timestamp + 160 * n as u32);
        assert_eq!((packet.payload_type, packet.marker), (0, n == 0));
    }
    let last = heard.last().unwrap();
    assert_eq!((last.sequence, last.timestamp), (99, 99 * 160), "a phone that talks on goes on as it is");
}

#[test]
fn a_party_that_paused_is_fitted_in_behind_a_tune() {
    let mut played = Played::begin(ng_config(), EVENTS);
    played.talk(0, 10);
    played.rig.pass(5 * SECOND);
    played.tell(play("b", &tune(20)));
    played.rig.pass(2 * SECOND);
    let before = played.heard();
    assert_eq!(parts(&before).len(), 20);
    assert_eq!(before[10].timestamp, 9 * 160 + 5 * 8000 + 160, "the clock went on while nothing was said");
    played.talk(10, 60);
    let after = played.heard();
    assert_eq!(after.len(), 50);
    is_one_stream(&[before, after].concat());
}

#[test]
fn what_is_stopped_says_where_it_was_and_goes_on_from_there() {
    let mut played = Played::begin(ng_config(), EVENTS);
    played.talk(0, 5);
    played.tell(play("b", &tune(50)));
    played.rig.pass(190 * MS);
    let at = played.stop().unwrap();
    let heard = played.heard();
    let last = *parts(&heard).last().unwrap();
    assert_eq!(at, 160 * i64::from(last), "in samples, as rtpengine counts in such a file");
    assert_eq!(played.stop(), Some(0), "it is over");
    played.rig.pass(SECOND);
    assert_eq!(played.heard(), [], "nothing is played any more");
    // Who was quiet meanwhile is heard at once.
    played.talk(5, 10);
    let talk = played.heard();
    assert_eq!(talk.len(), 5);
    played.tell(play("b", &tune(50)).with("start-pos", Value::Int(at)));
    played.rig.pass(100 * MS);
    let again = played.heard();
    assert_eq!(part(&again[0]), Some(last));
    is_one_stream(&[heard, talk, again].concat());
}

#[test]
fn a_tune_that_never_began_is_stopped_without_a_trace() {
    let mut played = Played::begin(ng_config(), EVENTS);
    played.talk(0, 5);
    played.tell(play("b", &tune(50)));
    assert_eq!(played.stop(), Some(0));
    played.talk(5, 10);
    let heard = played.heard();
    assert_eq!(heard.iter().map(|heard| heard.sequence).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_tune_repeats_for_a_number_or_a_time_and_a_new_one_takes_its_place() {
    let mut played = Played::begin(ng_config(), EVENTS);
    played.tell(play("b", &tune(3)).with("repeat-times", Value::Int(2)));
    played.rig.pass(SECOND);
    assert_eq!(parts(&played.heard()), [0, 1, 2, 0, 1, 2]);
    played.tell(play("b", &tune(3)).with("repeat-duration", Value::Int(200)));
    played.rig.pass(SECOND);
    assert_eq!(parts(&played.heard()), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
    played.tell(play("b", &tune(50)));
    played.rig.pass(90 * MS);
    played.tell(play("b", &tune(2)));
    played.rig.pass(SECOND);
    let heard = played.heard();
    is_one_stream(&heard);
    assert_eq!(parts(&heard), [0, 1, 2, 3, 4, 0, 1]);
}

#[test]
fn digits_go_first_and_the_tune_waits_for_them() {
    let mut played = Played::begin(ng_config(), EVENTS);
    played.talk(0, 20);
    played.tell(play("b", &tune(30)));
    played.talk(20, 30);
    played.play("7");
    played.talk(30, 90);
    let heard = played.heard();
    is_one_stream(&heard);
    assert_eq!(parts(&heard), (0..30).collect::<Vec<u8>>(), "nothing of it is lost");
    assert_eq!(heard.iter().filter(|heard| heard.is_digit()).count(), 15);
    let fresh: Vec<usize> =
        heard.iter().filter(|heard| heard.marker).map(|heard| heard.payload.len()).collect();
    assert_eq!(fresh, [160, 4, 160], "the tune, the digit, the tune");
}

/// B lists these in its answer.
fn with_codecs(lines: &str, formats: &str) -> Played {
    let mut played = Played::begin(ng_config(), EVENTS);
    let described = |media: &str, lines: &str| sdp(media, lines).replace("AVP 0 101", formats);
    let keys = [("command", "offer"), ("from-tag", "b"), ("to-tag", "a")];
    let offer = described(B, lines);
    assert_eq!(played.command(&[&keys[..], &[("sdp", &offer)]].concat()).text("result"), Some("ok"));
    let keys = [("command", "answer"), ("from-tag", "b"), ("to-tag", "a")];
    let answer = described(A, lines);
    assert_eq!(played.command(&[&keys[..], &[("sdp", &answer)]].concat()).text("result"), Some("ok"));
    played
}

#[test]
fn a_tune_is_written_as_the_party_takes_g711() {
    let linear: Vec<u8> = [32256i16, -8].iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let mut played = with_codecs("", "AVP 18 8 0");
    played.tell(play("b", &wav(1, 16, &linear)));
    played.rig.pass(SECOND);
    let heard = played.heard();
    assert_eq!((heard.len(), heard[0].payload_type), (1, 8));
    assert_eq!(heard[0].payload[..3], [0xaa, 0x55, 0xd5], "A-law, and silence behind it");
    let mut played = with_codecs("a=rtpmap:97 PCMU/8000\r\n", "AVP 97");
    played.tell(play("b", &tune(1)));
    played.rig.pass(SECOND);
    let heard = played.heard();
    assert_eq!((heard[0].payload_type, heard[0].payload[0]), (97, 0x80), "under the number it mapped");
}

#[test]
fn who_takes_no_g711_and_what_is_no_tune_is_an_error_in_words() {
    let mut played = with_codecs("a=rtpmap:96 opus/48000/2\r\n", "AVP 96 18");
    let answer = played.tell(play("b", &tune(1)));
    assert!(answer.text("error-reason").unwrap().contains("takes no G.711"), "{answer:?}");

    let mut played = Played::begin(ng_config(), EVENTS);
    let to = |key: &str, value: &str| play("", &tune(1)).with(key.to_owned(), Value::text(value));
    let table = [
        (play("b", b"OggS"), "no WAV file"),
        (play("b", &tune(1)).with("start-pos", Value::Int(160)), "behind the end"),
        (play("x", &tune(1)), "tags didn't match"),
        (to("label", "nobody"), "tags didn't match"),
        (to("address", "192.0.2.1"), "tags didn't match"),
        (to("address", "here"), "network address"),
        (to("to-tag", "b"), "No participant party specified"),
        (play_file("moh.wav"), "relay.ng.media"),
    ];
    for (command, words) in table {
        let answer = played.tell(command);
        assert_eq!(answer.text("result"), Some("error"));
        assert!(answer.text("error-reason").unwrap().contains(words), "{answer:?}");
    }
    played.rig.pass(SECOND);
    assert_eq!(played.heard(), []);
    // By its address, and everybody.
    let ip = address(B).ip().to_string();
    assert_eq!(played.tell(to("address", &ip)).text("result"), Some("ok"));
    played.rig.pass(SECOND);
    assert_eq!(parts(&played.heard()), [0]);
    assert_eq!(played.tell(to("all", "all")).text("result"), Some("ok"));
    played.rig.pass(SECOND);
    let mut heard: Vec<String> = played.rig.sent.iter().map(|sent| sent.to.to_string()).collect();
    heard.sort();
    assert_eq!(heard, [A, B]);
}

#[test]
fn a_caller_hears_a_tune_before_anybody_answers_and_the_callee_afterwards_as_it_begins() {
    let mut played = Played::begin(ng_config(), EVENTS);
    let call = |keys: &[(&str, &str)]| {
        let dict = |dict: Dict<'static>, (key, value): &(&str, &str)| dict.with(*key, Value::text(*value));
        keys.iter().fold(Dict::default(), dict)
    };
    let offer = sdp("198.51.100.30:4000", EVENTS);
    let offered = played.tell(call(&[("command", "offer"), ("from-tag", "early"), ("sdp", &offer)]));
    played.tell(play("early", &tune(5)));
    played.rig.pass(SECOND);
    let sent = std::mem::take(&mut played.rig.sent);
    assert_eq!(sent.len(), 5);
    assert!(sent.iter().all(|sent| sent.to == address("198.51.100.30:4000")), "{sent:?}");
    let answer = sdp("198.51.100.40:5000", EVENTS);
    let keys = [("command", "answer"), ("from-tag", "early"), ("to-tag", "late"), ("sdp", &answer)];
    played.tell(call(&keys));
    let for_callee = port_in(&offered);
    let sent = played.rig.packet("198.51.100.40:5000", for_callee, &rtp(0xc, 700)).unwrap();
    assert_eq!(sent.bytes, rtp(0xc, 700));
}

#[test]
fn a_call_that_ends_in_mid_tune_leaves_nothing() {
    let mut played = Played::begin(ng_config(), EVENTS);
    played.talk(0, 5);
    played.tell(play("b", &tune(50)).with("repeat-duration", Value::Int(i64::MAX)));
    played.rig.pass(60 * MS);
    played.command(&[("command", "delete"), ("from-tag", "a")]);
    played.heard();
    played.rig.pass(10 * SECOND);
    assert_eq!(played.heard(), []);
    assert_eq!(played.rig.ports().leased, 0);
}

#[test]
fn a_stream_that_the_kernel_carries_comes_back_for_a_tune() {
    let (mut played, rule) = Played::carried_below();
    played.tell(play("b", &tune(5)));
    assert!(played.has_taken_back(&rule));
    assert_eq!(played.heard(), [], "where its numbers stand is not known yet");
}

/// A folder with one file; who read what.
#[derive(Debug, Default)]
struct Folder(Mutex<Vec<String>>);

impl Files for Folder {
    fn read(&self, name: &str) -> Result<Vec<u8>, &'static str> {
        self.0.lock().unwrap().push(name.to_owned());
        if name == "moh.wav" { Ok(tune(5)) } else { Err("There is no such file") }
    }
}

#[test]
fn a_file_is_read_elsewhere_and_a_repetition_meanwhile_waits_for_the_same() {
    let folder = Arc::new(Folder::default());
    let mut config = ng_config();
    config.ng.as_mut().unwrap().media = Some(folder.clone());
    let mut played = Played::begin(config, EVENTS);
    let answer = played.tell(play_file("nothing.wav"));
    assert_eq!(answer.text("error-reason"), Some("There is no such file"));

    played.rig.holds_work = true;
    assert_eq!(played.send("r1", play_file("moh.wav")), None, "it is not read yet");
    assert_eq!(played.send("r1", play_file("moh.wav")), None);
    played.rig.pass(100 * MS);
    assert_eq!(played.rig.do_work(), 1);
    let answer = played.answer().expect("an answer");
    assert_eq!(answer.value("duration").and_then(Value::as_int), Some(100));
    assert_eq!(played.answer(), None, "one");
    assert_eq!(played.send("r1", play_file("moh.wav")), Some(answer), "from memory");
    played.rig.pass(SECOND);
    assert_eq!(parts(&played.heard()), [0, 1, 2, 3, 4], "played once");
    assert_eq!(*folder.0.lock().unwrap(), ["nothing.wav", "moh.wav"]);

    // Nobody is there any more when the file is.
    assert_eq!(played.send("r2", play_file("moh.wav")), None);
    played.command(&[("command", "delete"), ("from-tag", "a")]);
    played.rig.do_work();
    assert_eq!(played.answer().unwrap().text("error-reason"), Some("Unknown call-ID"));
}
