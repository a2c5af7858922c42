//! Who falls silent, what becomes of the call, and what frees a session nobody ends.

mod rig;

use std::time::Duration;

use proto::control::{Session, tag};
use proto::event::{Event, Release, Side};
use proto::sip::{Message, Name};
use rig::*;

const A: &str = "203.0.113.100:4000";
const B: &str = "203.0.113.200:7000";
const S: Session = Session(1);

/// Both have been heard once, just now.
fn talking() -> (Rig, Call) {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &public(A), &public(B));
    rig.packet(A, call.for_a, &rtp(0xa, 0));
    rig.packet(B, call.for_b, &rtp(0xb, 0));
    rig.sip.clear();
    (rig, call)
}

fn silences(rig: &Rig) -> Vec<(Side, Duration)> {
    let silent = |event: &Event| match event {
        Event::LegSilent { leg, silent, .. } => Some((*leg, *silent)),
        _ => None,
    };
    rig.events.iter().filter_map(silent).collect()
}

fn byes(rig: &Rig) -> Vec<Message> {
    rig.sip.iter().filter(|message| message.is_request()).cloned().collect()
}

#[test]
fn a_leg_is_told_silent_after_ten_seconds_and_told_again_when_it_is_heard() {
    let (mut rig, call) = talking();
    rig.pass(5 * SECOND);
    rig.packet(A, call.for_a, &rtp(0xa, 1));
    rig.pass(5 * SECOND - MS);
    assert_eq!(silences(&rig), []);
    rig.pass(MS);
    assert_eq!(silences(&rig), [(Side::Callee, 10 * SECOND)]);
    rig.pass(2 * SECOND);
    rig.packet(B, call.for_b, &rtp(0xb, 1));
    assert_eq!(silences(&rig)[1..], [(Side::Callee, 12 * SECOND)]);
}

#[test]
fn a_dead_call_is_reported_to_its_proxy_after_the_media_timeout_and_freed_on_its_word() {
    let (mut rig, _) = talking();
    rig.pass(120 * SECOND - MS);
    assert_eq!(byes(&rig).len(), 0);
    rig.pass(MS);
    let bye = byes(&rig).remove(0);
    assert_eq!((bye.method().as_str(), bye.request_uri()), ("BYE", "sip:proxy@198.51.100.1:5060"));
    assert_eq!(bye.text(Name::Reason), Some("SIP;cause=408;text=\"No media for 120 s\""));
    assert_eq!((bye.call_id(), bye.from_tag()), ("0000000000000001", &*tag(S, Side::Callee)));
    assert_eq!(bye.to_tag(), tag(S, Side::Caller));
    assert_eq!(KEY.check(&bye, 1_800_000_120), proto::node_auth::Proof::Proven);
    assert_eq!(rig.relay.status().sessions, 1, "the proxy decides");
    rig.answer(&bye, 200);
    assert_eq!((rig.relay.status().sessions, rig.ports().leased), (0, 0));
    assert!(matches!(rig.events.last(), Some(Event::RelayReleased { why: Release::Silent, .. })));
}

#[test]
fn one_voice_keeps_a_call_alive() {
    let (mut rig, call) = talking();
    for n in 1..=200 {
        rig.pass(SECOND);
        rig.packet(A, call.for_a, &rtp(0xa, n));
    }
    assert_eq!(byes(&rig).len(), 0);
}

#[test]
fn rtcp_alone_keeps_a_call_alive() {
    let (mut rig, call) = talking();
    for _ in 1..=50 {
        rig.pass(5 * SECOND);
        rig.packet("203.0.113.100:4001", rtcp(call.for_a), &rtcp_report(0xa));
    }
    assert_eq!(byes(&rig).len(), 0);
}

#[test]
fn a_party_never_heard_is_no_silence() {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &public(A), &public(B));
    rig.packet(A, call.for_a, &rtp(0xa, 0));
    rig.sip.clear();
    rig.pass(600 * SECOND);
    assert_eq!(byes(&rig).len(), 0);
}

#[test]
fn hold_is_no_silence_and_the_timeout_begins_anew_behind_it() {
    for hold in ["a=sendonly\r\n", "a=inactive\r\n", "a=recvonly\r\n"] {
        let (mut rig, _) = talking();
        rig.pass(60 * SECOND);
        let held = Phone { lines: hold.into(), ..public(A) };
        rig.invite(&held.ask(S, Side::Caller), &held.sdp(), true);
        rig.pass(600 * SECOND);
        assert_eq!(byes(&rig).len(), 0);
        rig.invite(&public(A).ask(S, Side::Caller), &public(A).sdp(), true);
        rig.sip.clear();
        rig.pass(120 * SECOND - MS);
        assert_eq!(byes(&rig).len(), 0, "{hold}");
        rig.pass(MS);
        assert_eq!(byes(&rig).len(), 1, "{hold}");
    }
}

#[test]
fn a_proxy_that_does_not_know_the_call_is_asked_again_and_nothing_is_freed() {
    let (mut rig, _) = talking();
    rig.pass(120 * SECOND);
    let bye = byes(&rig).remove(0);
    rig.answer(&bye, 481);
    rig.sip.clear();
    rig.pass(119 * SECOND);
    assert_eq!((byes(&rig).len(), rig.relay.status().sessions), (0, 1));
    rig.pass(SECOND);
    let again = byes(&rig).remove(0);
    assert!(again.cseq().unwrap().number > bye.cseq().unwrap().number);
}

#[test]
fn a_proxy_that_is_gone_leaves_the_session_to_its_refresh() {
    let (mut rig, _) = talking();
    rig.pass(1800 * SECOND - MS);
    assert_eq!(rig.relay.status().sessions, 1);
    rig.pass(MS);
    assert_eq!((rig.relay.status().sessions, rig.ports().leased), (0, 0));
    assert!(matches!(rig.events.last(), Some(Event::RelayReleased { why: Release::Overdue, .. })));
}

#[test]
fn flowing_media_is_a_refresh() {
    let (mut rig, call) = talking();
    for n in 1..=2000u16 {
        rig.pass(SECOND);
        rig.packet(A, call.for_a, &rtp(0xa, n));
    }
    assert_eq!(rig.relay.status().sessions, 1, "overdue, and not silent");
    rig.pass(120 * SECOND - MS);
    assert_eq!(rig.relay.status().sessions, 1);
    rig.pass(MS);
    assert_eq!(rig.relay.status().sessions, 0);
}

#[test]
fn any_request_in_its_dialog_refreshes_a_session() {
    for method in ["INVITE", "UPDATE", "OPTIONS"] {
        let mut rig = Rig::new(config());
        rig.call(1, &public(A), &public(B));
        rig.pass(1700 * SECOND);
        let request = rig.in_dialog(method, S);
        let ask = public(A).ask(S, Side::Caller);
        let refreshed = rig.request(ask.write(Rig::to(request, S, true)));
        assert_eq!(refreshed.status(), Some(200), "{method}");
        rig.pass(1800 * SECOND - MS);
        assert_eq!(rig.relay.status().sessions, 1, "{method}");
        rig.pass(MS);
        assert_eq!(rig.relay.status().sessions, 0, "{method}");
    }
}

#[test]
fn a_relay_with_nothing_to_do_asks_for_no_wake_up() {
    let (mut rig, _) = talking();
    rig.bye(S);
    rig.pass(60 * SECOND);
    assert_eq!(proto::node::Node::deadline(&rig.relay), None);
}
