//! Phones that call each other.

mod wire;

use std::time::Duration;

use endpoint_sim::{Act, After, Answer, EndedBy, Script, Step};
use proto::digest::Algorithm;
use wire::Wire;

fn script(steps: impl Into<Vec<Step>>) -> Script {
    Script { steps: steps.into(), ..Script::default() }
}

/// Alice calls Bob, does something, hangs up after 5 s.
fn calling(between: impl IntoIterator<Item = Step>) -> Script {
    let mut steps = vec![Step::call("sip:bob@x", After::Start, 0)];
    steps.extend(between);
    steps.push(Step::new(Act::HangUp, After::Answered, 5000));
    script(steps)
}

fn wire(alice: Script, bob: Script) -> Wire {
    let mut wire = Wire::new();
    wire.phone("alice", 1, |_| {}, alice);
    wire.phone("bob", 2, |_| {}, bob);
    wire
}

const ALICE: usize = 0;
const BOB: usize = 1;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn registers_with_digest_refreshes_and_unregisters() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        let mut wire = Wire::new();
        wire.secret = Some((algorithm, "secret"));
        let steps = [
            Step::new(Act::Register, After::Start, 0),
            Step::new(Act::Unregister, After::Registered, 25_000),
        ];
        wire.phone("alice", 1, |c| c.password = Some("secret".into()), script(steps));
        wire.run(seconds(24));
        assert!(wire.report(ALICE).registered && wire.report(ALICE).register_status == Some(200));
        assert_eq!(wire.ladder.iter().filter(|line| line.contains(" 200 ")).count(), 3, "{:?}", wire.ladder);
        wire.run(seconds(5));
        assert!(!wire.report(ALICE).registered && wire.is_done(ALICE));
    }
}

#[test]
fn a_wrong_password_is_not_tried_for_ever() {
    let mut wire = Wire::new();
    wire.secret = Some((Algorithm::Md5, "secret"));
    wire.phone(
        "alice",
        1,
        |c| c.password = Some("wrong".into()),
        script([Step::new(Act::Register, After::Start, 0)]),
    );
    wire.run(seconds(30));
    assert_eq!((wire.report(ALICE).register_status, wire.ladder.len()), (Some(401), 3));
    assert!(!wire.report(ALICE).registered && wire.is_done(ALICE));
}

#[test]
fn a_call_has_audio_both_ways_and_ends() {
    let mut wire = wire(calling([]), Script::default());
    wire.run(seconds(8));
    let (alice, bob) = (wire.report(ALICE), wire.report(BOB));
    assert!(alice.audio_both_ways && bob.audio_both_ways);
    assert!(alice.heard_only("bob@x") && bob.heard_only("alice@x"));
    assert_eq!((alice.lost, bob.lost, alice.largest_gap_ms), (0, 0, 20));
    assert!((240..=260).contains(&alice.sent) && (240..=260).contains(&bob.received), "{alice:?}");
    assert_eq!((alice.ended_by, bob.ended_by), (Some(EndedBy::Us), Some(EndedBy::Them)));
    assert_eq!((alice.setup_ms, alice.ringing_ms), (Some(1040), Some(40)));
    assert!(alice.rtcp_received > 0 && bob.rtcp_received > 0);
    assert!(wire.is_done(ALICE) && wire.is_done(BOB));
    assert_eq!(wire.open_ports(), 0);
}

#[test]
fn on_hold_nobody_talks_and_afterwards_both_do() {
    let steps = [Step::new(Act::Hold, After::Answered, 1000), Step::new(Act::Resume, After::Answered, 4000)];
    let mut wire = wire(calling(steps), Script::default());
    wire.run(seconds(3));
    let before = (wire.report(ALICE).received, wire.report(BOB).received);
    wire.run(seconds(1));
    assert_eq!((wire.report(ALICE).received, wire.report(BOB).received), before);
    wire.run(seconds(4));
    assert!(wire.report(ALICE).received > before.0 + 40 && wire.report(BOB).received > before.1 + 40);
    assert_eq!((wire.report(ALICE).changes, wire.report(BOB).changes_asked), (2, 2));
    assert_eq!(wire.report(BOB).largest_gap_ms, 20);
}

#[test]
fn a_move_goes_on_from_another_port() {
    let mut wire = wire(calling([Step::new(Act::Move, After::Answered, 1000)]), Script::default());
    wire.run(seconds(8));
    let ports: Vec<_> = wire.report(BOB).sources.iter().map(|source| source.port()).collect();
    assert_eq!(ports, [40_000, 40_002]);
    assert!(wire.report(BOB).received > 230 && wire.open_ports() == 0);
}

#[test]
fn rtcp_takes_the_rtp_port_when_both_want_that() {
    let mut wire = Wire::new();
    wire.phone("alice", 1, |c| c.rtcp_mux = true, calling([]));
    wire.phone("bob", 2, |c| c.rtcp_mux = true, Script::default());
    wire.run(seconds(8));
    assert!(wire.report(ALICE).rtcp_received > 0 && wire.report(BOB).rtcp_received > 0);
    assert!(wire.ports_heard.iter().all(|port| port % 2 == 0), "{:?}", wire.ports_heard);
}

#[test]
fn without_ports_a_call_fails_and_does_not_hang() {
    let mut wire = wire(calling([]), Script::default());
    wire.forbids_ports = true;
    wire.run(seconds(3));
    assert_eq!((wire.report(ALICE).ended_by, wire.is_done(BOB)), (Some(EndedBy::Failure), true));
}

#[test]
fn a_script_is_read_strictly() {
    let text =
        r#"{"answer": {"after-ms": 5}, "steps": [{"do": "hang-up", "after": "answered", "at-ms": 9}]}"#;
    let read: Script = serde_json::from_str(text).unwrap();
    assert_eq!((read.answer.after_ms, read.answer.ring, read.until_ms), (5, true, 60_000));
    assert_eq!(read.steps, [Step::new(Act::HangUp, After::Answered, 9)]);
    assert!(serde_json::from_str::<Script>(r#"{"step": []}"#).is_err());
}

#[test]
fn a_report_is_json() {
    let mut wire = wire(calling([]), Script::default());
    wire.run(seconds(8));
    let json = serde_json::to_value(wire.report(ALICE)).unwrap();
    assert_eq!((&json["audio-both-ways"], &json["name"]), (&true.into(), &"alice@x".into()));
    assert_eq!((&json["ended-by"], &json["sources"][0]), (&"us".into(), &"192.0.2.2:40000".into()));
}

#[test]
fn update_describes_the_session_again() {
    let mut wire = wire(calling([Step::new(Act::Update, After::Answered, 500)]), Script::default());
    wire.run(seconds(8));
    assert_eq!((wire.report(ALICE).changes, wire.report(BOB).changes_asked), (1, 1));
    assert!(wire.saw("UPDATE ") && wire.report(ALICE).audio_both_ways);
}

#[test]
fn a_late_offer_is_answered_in_the_ack() {
    let call = Step { late_offer: true, ..Step::call("sip:bob@x", After::Start, 0) };
    let mut wire = wire(script([call, Step::new(Act::HangUp, After::Answered, 2000)]), Script::default());
    wire.run(seconds(5));
    assert!(wire.report(ALICE).audio_both_ways && wire.report(BOB).audio_both_ways);
}

#[test]
fn early_media_is_heard_before_the_answer() {
    let answer = Answer { early_media: true, after_ms: 3000, ..Answer::default() };
    let mut wire = wire(calling([]), Script { answer, ..Script::default() });
    wire.run(seconds(2));
    assert!(wire.saw("SIP/2.0 183") && !wire.report(ALICE).answered);
    assert!(wire.report(ALICE).received > 80 && wire.report(BOB).received > 80);
}

#[test]
fn a_call_that_rings_can_be_cancelled() {
    let steps = [Step::call("sip:bob@x", After::Start, 0), Step::new(Act::HangUp, After::Ringing, 300)];
    let mut wire = wire(script(steps), Script::default());
    wire.run(seconds(4));
    assert!(wire.saw("CANCEL ") && wire.saw("SIP/2.0 487"));
    assert_eq!((wire.report(ALICE).call_status, wire.report(ALICE).ended_by), (Some(487), Some(EndedBy::Us)));
    assert_eq!((wire.report(BOB).ended_by, wire.open_ports()), (Some(EndedBy::Them), 0));
}

#[test]
fn a_refusal_is_reported() {
    let answer = Answer { reject: Some(603), ..Answer::default() };
    let mut wire = wire(calling([]), Script { answer, ..Script::default() });
    wire.run(seconds(3));
    assert_eq!(
        (wire.report(ALICE).call_status, wire.report(ALICE).ended_by),
        (Some(603), Some(EndedBy::Failure))
    );
    assert_eq!(wire.open_ports(), 0);
}

#[test]
fn a_second_call_finds_it_busy() {
    let mut wire = wire(calling([]), Script::default());
    let carol = wire.phone("carol", 3, |_| {}, script([Step::call("sip:bob@x", After::Start, 2000)]));
    wire.run(seconds(8));
    assert_eq!((wire.report(carol).call_status, wire.report(BOB).busy), (Some(486), 1));
    assert!(wire.report(ALICE).audio_both_ways);
}

#[test]
fn the_second_answer_of_a_forked_call_is_ended_at_once() {
    let mut wire = wire(calling([]), Script::default());
    let second = wire.phone("bob", 3, |_| {}, Script::default());
    wire.run(seconds(9));
    assert_eq!(wire.report(ALICE).extra_answers, 1);
    assert!(wire.report(ALICE).audio_both_ways);
    let ended = [BOB, second].map(|phone| (wire.report(phone).answered, wire.report(phone).ended_by));
    assert_eq!(ended, [(true, Some(EndedBy::Them)); 2]);
    assert_eq!(wire.open_ports(), 0);
}

#[test]
fn digits_are_heard_once_each() {
    let dial = Step { digits: Some("12#*11".into()), ..Step::new(Act::Dtmf, After::Answered, 500) };
    let mut wire = wire(calling([dial]), Script::default());
    wire.run(seconds(8));
    assert_eq!((wire.report(BOB).digits.as_str(), wire.report(BOB).unmarked), ("12#*11", 0));
}

#[test]
fn a_transfer_connects_the_other_two() {
    let transfer = Step { to: Some("sip:carol@x".into()), ..Step::new(Act::Transfer, After::Answered, 1000) };
    let mut wire = wire(calling([transfer]), Script { until_ms: 6000, ..Script::default() });
    let carol = wire.phone("carol", 3, |_| {}, Script::default());
    wire.run(seconds(5));
    assert_eq!(wire.report(ALICE).transfer_status, Some(200));
    assert_eq!(wire.report(ALICE).ended_by, Some(EndedBy::Us));
    assert!(wire.report(BOB).heard_only("carol@x") && wire.report(carol).heard_only("bob@x"));
    wire.run(seconds(3));
    assert_eq!((wire.open_ports(), wire.is_done(BOB), wire.is_done(carol)), (0, true, true));
}

#[test]
fn a_lossy_wire_delays_a_call_and_does_not_prevent_it() {
    for loses in [3, 4, 5, 7] {
        let mut wire = wire(calling([Step::new(Act::Hold, After::Answered, 1000)]), Script::default());
        wire.loses = Some(loses);
        wire.run(seconds(70));
        let (alice, bob) = (wire.report(ALICE), wire.report(BOB));
        assert!(
            alice.answered && bob.answered && alice.audio_both_ways,
            "every {loses}th: {alice:?} {bob:?}"
        );
        assert!(
            bob.lost > 0 && alice.ended_by.is_some() && bob.ended_by.is_some(),
            "every {loses}th: {bob:?}"
        );
        assert_eq!(wire.open_ports(), 0, "every {loses}th");
    }
}

#[test]
fn the_script_ends_a_call_that_nobody_ends() {
    let mut wire = wire(script([Step::call("sip:bob@x", After::Start, 0)]), Script::default());
    wire.run(seconds(59));
    assert!(!wire.is_done(ALICE) && wire.open_ports() == 4);
    wire.run(seconds(3));
    assert!(wire.is_done(ALICE) && wire.is_done(BOB) && wire.open_ports() == 0);
}

#[test]
fn a_registration_is_told_of_once_for_each_change() {
    let mut wire = Wire::new();
    wire.secret = Some((Algorithm::Md5, "secret"));
    let steps =
        || [Step::new(Act::Register, After::Start, 0), Step::new(Act::Unregister, After::Start, 100_000)];
    wire.phone("alice", 1, |c| c.password = Some("secret".into()), script(steps()));
    wire.phone("bob", 2, |c| c.password = Some("wrong".into()), script(steps()));
    wire.run(seconds(50));
    let granted = wire.ladder.iter().filter(|line| line.contains(" 200 ")).count();
    assert!(granted > 3, "it was refreshed: {:?}", wire.ladder);
    assert_eq!((wire.told(ALICE), wire.told(BOB)), (vec![GRANTED.into()], vec![REFUSED.into()]));
    wire.secret = Some((Algorithm::Md5, "another"));
    wire.run(seconds(49));
    assert_eq!(wire.told(ALICE), [GRANTED, REFUSED], "the refresh was refused");
}

const GRANTED: &str = "registered: true 200";
const REFUSED: &str = "registered: false 401";

#[test]
fn a_phone_that_leaves_tells_so_and_one_that_nobody_answers_does_once() {
    let mut wire = Wire::new();
    let leaves =
        [Step::new(Act::Register, After::Start, 0), Step::new(Act::Unregister, After::Registered, 0)];
    wire.phone("alice", 1, |_| {}, script(leaves));
    wire.run(seconds(1));
    assert_eq!(wire.told(ALICE), [GRANTED, "registered: false 200"]);
    wire.loses = Some(1);
    let forlorn = Script { until_ms: 200_000, ..script([Step::new(Act::Register, After::Start, 0)]) };
    wire.phone("bob", 2, |_| {}, forlorn);
    wire.run(seconds(150));
    assert_eq!(wire.told(BOB), ["registered: false 408"]);
}

#[test]
fn calls_are_told_of_as_they_ring_are_answered_and_end() {
    let mut wire = wire(calling([]), Script::default());
    let carol = wire.phone("carol", 3, |_| {}, script([Step::call("sip:bob@x", After::Start, 2000)]));
    wire.run(seconds(8));
    let alices = ["bob@x: Rings(Caller)", "bob@x: Answered", "bob@x: Ended { by_us: true }"];
    let bobs = ["alice@x: Rings(Callee)", "alice@x: Answered", "alice@x: Ended { by_us: false }"];
    assert_eq!(
        (wire.told(ALICE), wire.told(BOB)),
        (alices.map(Into::into).into(), bobs.map(Into::into).into())
    );
    assert_eq!(wire.told(carol), ["bob@x: Failed { status: Some(486) }"]);
}

#[test]
fn each_call_of_a_transfer_is_told_of() {
    let steps = [
        Step { to: Some("sip:carol@x".into()), ..Step::new(Act::Consult, After::Answered, 1000) },
        Step::new(Act::TransferConsulted, After::Answered, 1000),
    ];
    let mut wire = wire(calling(steps), Script::default());
    wire.phone("carol", 3, |_| {}, Script::default());
    wire.run(seconds(7));
    assert_eq!(wire.report(ALICE).transfer_status, Some(200));
    let ends = |phone| wire.told(phone).into_iter().filter(|told| told.contains("Ended")).collect::<Vec<_>>();
    assert_eq!(ends(ALICE), ["carol@x: Ended { by_us: false }", "bob@x: Ended { by_us: true }"]);
    assert_eq!(ends(BOB), ["alice@x: Ended { by_us: false }"]);
    let last = wire.told(BOB).pop();
    assert_eq!(last.as_deref(), Some("carol@192.0.2.3:5060: Answered"), "as he was referred to her");
}
