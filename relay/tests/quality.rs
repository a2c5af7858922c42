//! What is measured of a call, and what is told while it goes wrong.

mod rig;

use proto::control::Session;
use proto::event::{Event, LegQuality, OneWay, Side};
use proto::rtcp::{Block, Sender, middle, receiver_report, sender_report};
use rig::*;

const A: &str = "203.0.113.100:4000";
const B: &str = "203.0.113.200:7000";
const S: Session = Session(1);

fn call() -> (Rig, Call) {
    let mut rig = Rig::new(config());
    let lines = "a=rtpmap:101 telephone-event/8000\r\n".to_owned();
    let (a, b) = (Phone { lines: lines.clone(), ..public(A) }, Phone { lines, ..public(B) });
    let call = rig.call(1, &a, &b);
    (rig, call)
}

fn released(rig: &mut Rig) -> [LegQuality; 2] {
    assert_eq!(rig.bye(S), 200);
    match rig.events.last() {
        Some(Event::RelayReleased { legs, .. }) => **legs,
        other => panic!("{other:?}"),
    }
}

fn one_ways(rig: &Rig) -> Vec<(Side, OneWay)> {
    let told = |event: &Event| match event {
        Event::OneWay { silent, cause, .. } => Some((*silent, *cause)),
        _ => None,
    };
    rig.events.iter().filter_map(told).collect()
}

fn typed(payload_type: u8, n: u16, timestamp: u32) -> Vec<u8> {
    let mut packet = rtp(0xa, n);
    packet[1] = payload_type;
    packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
    packet
}

/// Nothing is transcoded, so the description is believed; static numbers need none.
#[test]
fn a_streams_codec_is_called_by_its_name_whichever_number_it_has() {
    for (payload_type, line, name) in [
        (0, "", "PCMU"),
        (8, "", "PCMA"),
        (18, "", "G729"),
        (111, "a=rtpmap:111 opus/48000/2\r\n", "opus"),
        (97, "a=rtpmap:97 AMR/8000\r\n", "AMR"),
        (98, "a=rtpmap:98 AMR-WB/16000\r\n", "AMR-WB"),
        (99, "", ""),
    ] {
        let mut rig = Rig::new(config());
        let [a, b] = [A, B].map(|at| Phone { lines: line.to_owned(), ..public(at) });
        let call = rig.call(1, &a, &b);
        for n in 0..50 {
            rig.pass(20 * MS);
            rig.packet(A, call.for_a, &typed(payload_type, n, u32::from(n) * 160)).expect("sent on as it is");
        }
        let [quality, _] = released(&mut rig);
        assert_eq!((quality.codec, quality.packets), (name, 50));
    }
}

#[test]
fn digits_are_counted_once_however_many_packets_say_them() {
    let (mut rig, call) = call();
    let stream = [
        (0, 1, 160),
        (101, 2, 320),
        (101, 3, 320),
        (101, 4, 320),
        (0, 5, 800),
        (101, 6, 960),
        (101, 7, 1120),
    ];
    for (payload_type, n, timestamp) in stream {
        rig.pass(20 * MS);
        rig.packet(A, call.for_a, &typed(payload_type, n, timestamp));
    }
    let [a, b] = released(&mut rig);
    assert_eq!((a.digits, a.codec, a.lost), (3, "PCMU", 0));
    assert_eq!((b.digits, b.codec), (0, ""));
}

#[test]
fn the_longest_gap_the_first_and_the_last_packet_are_told() {
    let (mut rig, call) = call();
    for n in [0, 1, 5, 6, 8] {
        rig.pass(SECOND);
        rig.packet(A, call.for_a, &rtp(0xa, n));
    }
    let [a, b] = released(&mut rig);
    assert_eq!((a.lost, a.burst), (4, 3));
    assert_eq!(a.heard, Some([SECOND, 5 * SECOND]));
    assert_eq!(b.heard, None);
}

#[test]
fn the_round_trip_between_relay_and_party_is_read_from_reports_that_pass() {
    let (mut rig, call) = call();
    rig.packet(A, call.for_a, &rtp(0xa, 0));
    rig.packet(B, call.for_b, &rtp(0xb, 0));
    let sender = Sender { ntp: 0x1234_5678_9abc_def0, ..Sender::default() };
    rig.packet("203.0.113.100:4001", rtcp(call.for_a), &sender_report(0xa, sender, &[], "a"));
    rig.pass(150 * MS);
    let block = Block {
        ssrc: 0xa,
        lost: 7,
        jitter: 80,
        last_report: middle(sender.ntp),
        delay: 65536 / 10,
        ..Block::default()
    };
    rig.packet("203.0.113.200:7001", rtcp(call.for_b), &receiver_report(0xb, &[block], "b"));
    let stranger = Block { ssrc: 0xdead, lost: 1000, ..block };
    rig.packet("203.0.113.200:7001", rtcp(call.for_b), &receiver_report(0xb, &[stranger], "b"));
    let [a, b] = released(&mut rig);
    assert!((49_900..50_200).contains(&b.round_trip_us), "150 ms less 100 ms: {}", b.round_trip_us);
    assert_eq!((b.reported_lost, b.reported_jitter_us), (7, 10_000));
    assert_eq!((a.round_trip_us, a.reported_lost), (0, 0));
}

/// One party talks, 20 ms at a time.
fn talk(rig: &mut Rig, call: &Call, seconds: u16) {
    for n in 0..seconds * 50 {
        rig.packet(A, call.for_a, &rtp(0xa, n));
        rig.pass(20 * MS);
    }
}

#[test]
fn a_party_that_was_never_heard_is_told_of_after_ten_seconds_and_once() {
    let (mut rig, call) = call();
    talk(&mut rig, &call, 9);
    assert_eq!(one_ways(&rig), []);
    talk(&mut rig, &call, 20);
    assert_eq!(one_ways(&rig), [(Side::Callee, OneWay::Nothing)]);
    rig.packet(B, call.for_b, &rtp(0xb, 0));
    talk(&mut rig, &call, 11);
    assert_eq!(one_ways(&rig)[1..], [(Side::Callee, OneWay::Stopped)], "it was heard in between");
}

#[test]
fn the_cause_names_strangers_when_some_came() {
    let (mut rig, call) = call();
    rig.packet("192.0.2.66:9", call.for_b, &rtp(0x6, 0));
    talk(&mut rig, &call, 11);
    assert_eq!(one_ways(&rig), [(Side::Callee, OneWay::Strangers)]);
}

#[test]
fn a_party_nothing_can_be_sent_to_is_the_cause_itself() {
    let mut rig = Rig::new(config());
    let b = Phone { peer: None, ..natted("10.1.2.3:7000", B) };
    let call = rig.call(1, &public(A), &b);
    talk(&mut rig, &call, 11);
    assert_eq!(one_ways(&rig), [(Side::Callee, OneWay::NowhereToSend)]);
}

#[test]
fn two_who_fall_silent_together_and_hold_are_no_one_way_audio() {
    let (mut rig, call) = call();
    rig.packet(A, call.for_a, &rtp(0xa, 0));
    rig.packet(B, call.for_b, &rtp(0xb, 0));
    rig.pass(30 * SECOND);
    assert_eq!(one_ways(&rig), []);

    let mut rig = Rig::new(config());
    let held = Phone { lines: "a=sendonly\r\n".into(), ..public(A) };
    let call = rig.call(1, &held, &public(B));
    talk(&mut rig, &call, 15);
    assert_eq!(one_ways(&rig), []);
}

#[test]
fn a_call_in_which_nobody_is_heard_is_told_of_ten_seconds_after_the_answer() {
    let (mut rig, _) = call();
    rig.pass(10 * SECOND - MS);
    assert_eq!(one_ways(&rig), []);
    rig.pass(MS);
    assert_eq!(one_ways(&rig), [(Side::Caller, OneWay::Nothing), (Side::Callee, OneWay::Nothing)]);
    assert!(rig.events.iter().any(|event| matches!(event, Event::OneWay { other_heard: false, .. })));
    rig.pass(60 * SECOND);
    assert_eq!(one_ways(&rig).len(), 2, "once each");
}

/// Both talk, 20 ms at a time; what B sends has this payload type, and every 5 s it reports so much of what A sent.
fn converse(rig: &mut Rig, call: &Call, seconds: u16, payload_type: u8, report: impl Fn(u16) -> Option<u32>) {
    for n in 0..seconds * 50 {
        rig.packet(A, call.for_a, &rtp(0xa, n));
        let mut packet = rtp(0xb, n);
        packet[1] = payload_type;
        rig.packet(B, call.for_b, &packet);
        if n % 250 == 249 {
            let blocks: Vec<Block> = report(n)
                .map(|highest| Block { ssrc: 0xa, highest, ..Block::default() })
                .into_iter()
                .collect();
            rig.packet("203.0.113.200:7001", rtcp(call.for_b), &receiver_report(0xb, &blocks, "b"));
        }
        rig.pass(20 * MS);
    }
}

#[test]
fn who_hears_and_is_heard_has_no_trouble() {
    let (mut rig, call) = call();
    converse(&mut rig, &call, 40, 0, |n| Some(n.into()));
    assert_eq!(one_ways(&rig), []);
    let live = rig.relay.live(rig.now, "0000000000000001").expect("its session");
    for (sound, party) in live.parties.iter().zip([A, B]) {
        assert_eq!((sound.trouble, sound.from, sound.to), (None, Some(address(party)), Some(address(party))));
        assert_eq!((sound.quality.packets >= 2000, sound.quality.codec), (true, "PCMU"));
        assert!(sound.quality.mos > 400 && sound.quiet.is_some_and(|quiet| quiet <= 20 * MS), "{sound:?}");
    }
}

#[test]
fn a_codec_the_other_party_did_not_list_is_the_cause() {
    let (mut rig, call) = call();
    converse(&mut rig, &call, 21, 18, |_| None);
    assert!(one_ways(&rig).contains(&(Side::Callee, OneWay::Codec(18))), "{:?}", one_ways(&rig));
    let (mut rig, call) = self::call();
    converse(&mut rig, &call, 21, 13, |n| Some(n.into()));
    assert_eq!(
        one_ways(&rig),
        [(Side::Callee, OneWay::DigitsOnly)],
        "comfort noise may come unasked, and is no speech"
    );
}

#[test]
fn digits_alone_are_no_speech() {
    let (mut rig, call) = call();
    converse(&mut rig, &call, 21, 101, |n| Some(n.into()));
    assert_eq!(one_ways(&rig), [(Side::Callee, OneWay::DigitsOnly)]);
}

#[test]
fn reports_that_show_nothing_new_say_that_nothing_arrives() {
    // Nothing ever arrived; or the first seconds did.
    for seen in [None, Some(100)] {
        let (mut rig, call) = call();
        converse(&mut rig, &call, 9, 0, |_| seen);
        assert_eq!(one_ways(&rig), [], "one report proves little");
        converse(&mut rig, &call, 22, 0, |_| seen);
        assert_eq!(one_ways(&rig), [(Side::Caller, OneWay::Unreceived)], "{seen:?}");
        let live = rig.relay.live(rig.now, "0000000000000001").expect("its session");
        assert_eq!(live.parties.map(|sound| sound.trouble), [Some(OneWay::Unreceived), None]);
        converse(&mut rig, &call, 22, 0, |n| Some(2000 + u32::from(n)));
        let live = rig.relay.live(rig.now, "0000000000000001").expect("its session");
        assert_eq!(live.parties[0].trouble, None, "it arrives again");
    }
}

#[test]
fn who_is_on_hold_is_no_trouble_and_is_shown_as_that() {
    let mut rig = Rig::new(config());
    let held = Phone { lines: "a=sendonly\r\n".into(), ..public(A) };
    let call = rig.call(1, &held, &public(B));
    talk(&mut rig, &call, 30);
    let live = rig.relay.live(rig.now, "0000000000000001").expect("its session");
    assert_eq!(live.parties.map(|sound| (sound.held, sound.trouble)), [(true, None), (false, None)]);
    assert_eq!(rig.relay.live(rig.now, "00000000000000ff"), None);
}
