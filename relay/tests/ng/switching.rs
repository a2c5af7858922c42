//! What a client switches in a call: media, digits, sound, recordings; and whom it means.

use crate::*;

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
