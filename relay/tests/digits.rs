//! Digits said in a party's place (`play DTMF`): what the other one hears, packet by packet.

mod rig;

use proto::node::Input;
use proto::offload::{Carried, Offload};
use rig::played::*;
use rig::*;

#[test]
fn a_digit_grows_ends_three_times_and_stands_in_the_stream_that_is_heard() {
    let mut played = Played::begin(ng_config(), EVENTS);
    played.talk(0, 50);
    assert_eq!(played.play("5").text("result"), Some("ok"));
    played.talk(50, 100);
    let heard = played.heard();
    is_one_stream(&heard);
    let digit: Vec<&Heard> = heard.iter().filter(|heard| heard.is_digit()).collect();
    let ends: Vec<(bool, u8, u16)> = digit
        .iter()
        .map(|packet| {
            let duration = u16::from_be_bytes([packet.payload[2], packet.payload[3]]);
            assert_eq!(packet.payload[0], 5);
            (packet.payload[1] & 0x80 != 0, packet.payload[1] & 0x3f, duration)
        })
        .collect();
    let growing = (1..13).map(|n| (false, 8, n * 160));
    assert_eq!(ends, growing.chain([(true, 8, 2000); 3]).collect::<Vec<_>>(), "250 ms at 8000 Hz");
    assert_eq!(digit.iter().filter(|packet| packet.marker).count(), 1);
    assert!(digit[0].marker && digit.iter().all(|packet| packet.timestamp == digit[0].timestamp));
    let before = heard.iter().position(Heard::is_digit).unwrap();
    assert!(heard[before..before + digit.len()].iter().all(Heard::is_digit), "nothing is heard in between");
    let last = heard.last().unwrap();
    assert_eq!((last.sequence, last.timestamp), (99, 99 * 160), "a phone that talks on goes on as it is");
}

#[test]
fn a_party_that_paused_is_fitted_in_behind_its_digits() {
    let mut played = Played::begin(ng_config(), EVENTS);
    played.talk(0, 10);
    played.rig.pass(5 * SECOND);
    played.play("1");
    played.play("2");
    played.rig.pass(2 * SECOND);
    let before = played.heard();
    let digits: Vec<&Heard> = before.iter().filter(|heard| heard.is_digit()).collect();
    assert_eq!(digits.len(), 30);
    let [one, two] = [digits[0], digits[15]];
    assert_eq!(one.timestamp, 9 * 160 + 5 * 8000 + 160, "the clock went on while nothing was said");
    assert!(two.timestamp - one.timestamp >= 8 * 350, "250 ms, and a pause of 100");
    // It goes on with the number it had, and a clock that stood still.
    played.talk(10, 60);
    let after = played.heard();
    assert_eq!(after.len(), 50);
    is_one_stream(&[before.clone(), after.clone()].concat());
    let elapsed = after[0].timestamp - two.timestamp;
    assert!((8 * 1500..8 * 1800).contains(&elapsed), "{elapsed}");
}

#[test]
fn a_late_packet_of_a_shifted_party_does_not_take_a_digit_s_number() {
    let mut played = Played::begin(ng_config(), EVENTS);
    played.talk(0, 10);
    played.rig.pass(SECOND);
    played.play("1");
    played.rig.pass(SECOND);
    played.talk(11, 13);
    played.heard();
    assert_eq!(played.rig.packet(A, played.for_a, &rtp(0xa, 10)), None);
    played.talk(13, 14);
    assert_eq!(played.heard().len(), 1);
}

#[test]
fn a_party_that_never_spoke_has_digits_all_the_same_and_begins_afterwards_as_it_likes() {
    let mut played = Played::begin(ng_config(), EVENTS);
    played.play("9");
    played.rig.pass(SECOND);
    let digits = played.heard();
    assert_eq!(digits.len(), 15);
    is_one_stream(&digits);
    played.talk(500, 510);
    let heard = played.heard();
    assert_eq!(heard.iter().map(|heard| (heard.ssrc, heard.sequence)).collect::<Vec<_>>()[0], (0xa, 500));
    is_one_stream(&heard);
}

#[test]
fn who_takes_no_events_or_is_not_there_is_an_error_in_words() {
    let mut played = Played::begin(ng_config(), "");
    let table: [(&[(&str, &str)], &str); 4] = [
        (&[("from-tag", "a"), ("code", "1")], "takes no telephone-event"),
        (&[("code", "1")], "No participant party specified"),
        (&[("from-tag", "x"), ("code", "1")], "tags didn't match"),
        (&[("from-tag", "a"), ("code", "99")], "Out of range"),
    ];
    for (keys, words) in table {
        let answer = played.command(&[&[("command", "play DTMF")], keys].concat());
        assert_eq!(answer.text("result"), Some("error"));
        assert!(answer.text("error-reason").unwrap().contains(words), "{answer:?}");
    }
    played.rig.pass(SECOND);
    assert_eq!(played.heard(), []);
}

#[test]
fn digits_latch_nobody_and_go_nowhere_but_where_media_goes() {
    let mut played = Played::begin(ng_config(), EVENTS);
    played.play("1");
    played.rig.pass(SECOND);
    assert_eq!(played.heard().len(), 15, "where B's description says, and nowhere else");
    let stranger = played.rig.packet("192.0.2.66:9", played.for_b, &rtp(0x66, 0));
    assert_eq!(stranger, None);
    assert_eq!(played.rig.packet(B, played.for_b, &rtp(0xb, 0)).unwrap().to, address(A));
}

#[test]
fn a_call_that_ends_in_mid_digit_leaves_nothing() {
    let mut played = Played::begin(ng_config(), EVENTS);
    played.talk(0, 5);
    played.play("1");
    played.rig.pass(60 * MS);
    played.command(&[("command", "delete"), ("from-tag", "a")]);
    played.heard();
    played.rig.pass(10 * SECOND);
    assert_eq!(played.heard(), []);
    assert_eq!(played.rig.ports().leased, 0);
}

#[test]
fn a_stream_that_the_kernel_carries_comes_back_first_and_goes_down_again_afterwards() {
    let (mut played, rule) = Played::carried_below();
    played.play("3");
    assert!(played.has_taken_back(&rule));
    assert_eq!(played.heard(), [], "its number is not known yet");
    let mut progress = rule.progress;
    progress.highest += 30;
    progress.timestamp += 30 * 160;
    let (packets, bytes, heard) = (30, 30 * 172, Some(played.rig.now));
    let last = Carried { socket: rule.socket, packets, bytes, heard, progress, burst: 0, over: true };
    played.rig.tell(Input::Carried(vec![last]));
    let next = (progress.highest + 1) as u16;
    played.talk(next, next + 30);
    let heard = played.heard();
    let first = heard.iter().find(|heard| heard.is_digit()).expect("a digit");
    assert!(
        (1..=2).contains(&first.sequence.wrapping_sub(progress.highest as u16)),
        "{first:?} {progress:?}"
    );
    is_one_stream(&heard);
    played.talk(next + 30, next + 150);
    assert!(played.rig.offloads.iter().any(|offload| matches!(offload, Offload::Begin(_))));
}
