//! A relay that was killed goes on with its sessions: the next process opens the same ports and knows whom it heard where.

mod rig;

use proto::control::{Mode, Session};
use proto::event::Side;
use rig::*;

const A: &str = "203.0.113.100:4000";
const B: &str = "203.0.113.200:7000";

/// A call with a session for everybody to keep; `seed` is that of the next process.
fn killed(rig: Rig, binds: bool) -> Rig {
    let tables = rig.tables;
    Rig::after(rig.config, tables, rig.now, binds)
}

#[test]
fn audio_goes_on_both_ways_without_a_word_of_signalling_and_a_bye_ends_it() {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &natted("10.1.2.3:4000", A), &public(B));
    rig.packet(A, call.for_a, &rtp(0xa, 0));
    rig.packet(B, call.for_b, &rtp(0xb, 0));
    let mut next = killed(rig, true);
    assert_eq!((next.relay.status().sessions, next.ports().leased), (1, 4));
    let there = next.packet(A, call.for_a, &rtp(0xa, 50)).expect("sent on to B");
    assert_eq!((there.from, there.to), (call.for_b, address(B)));
    let back = next.packet(B, call.for_b, &rtp(0xb, 50)).expect("sent on to the address A was heard at");
    assert_eq!((back.from, back.to), (call.for_a, address(A)));
    assert_eq!(next.packet("192.0.2.66:4000", call.for_a, &rtp(0xa, 51)), None, "strangers are strangers");
    assert_eq!(next.bye(call.session), 200);
    assert_eq!((next.ports().leased, next.tables.sessions.len()), (0, 0));
}

#[test]
fn a_re_invite_after_the_kill_finds_its_session() {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &public(A), &public(B));
    let mut next = killed(rig, true);
    let moved = public("203.0.113.100:4444");
    let answer = next.invite(&moved.ask(call.session, Side::Caller), &moved.sdp(), true);
    assert_eq!((answer.status(), media_of(&answer)), (Some(200), call.for_b));
}

#[test]
fn one_port_for_both_parties_is_one_port_again() {
    let mut rig = Rig::new(config());
    let shared = |media: &str| Phone { mode: Mode::Shared, ..public(media) };
    let call = rig.call(1, &shared(A), &shared(B));
    rig.packet(A, call.for_a, &rtp(0xa, 0));
    rig.packet(B, call.for_b, &rtp(0xb, 0));
    let leased = rig.ports().leased;
    let mut next = killed(rig, true);
    assert_eq!(next.ports().leased, leased);
    assert_eq!(next.packet(A, call.for_a, &rtp(0xa, 9)).map(|sent| sent.to), Some(address(B)));
}

#[test]
fn a_session_whose_ports_are_taken_is_given_up_and_forgotten() {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &public(A), &public(B));
    let mut next = killed(rig, false);
    next.fail_binds();
    assert_eq!((next.relay.status().sessions, next.ports().leased), (0, 0));
    assert_eq!(next.tables.sessions.len(), 0);
    assert_eq!(next.bye(call.session), 481);
}

#[test]
fn what_ended_before_the_kill_does_not_come_back() {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &public(A), &public(B));
    rig.bye(call.session);
    let next = killed(rig, true);
    assert_eq!((next.relay.status().sessions, next.ports().leased), (0, 0));
}

#[test]
fn a_silent_session_ends_as_if_the_kill_had_not_been() {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &public(A), &public(B));
    rig.packet(A, call.for_a, &rtp(0xa, 0));
    let mut next = killed(rig, true);
    next.pass(1799 * SECOND);
    assert_eq!(next.relay.status().sessions, 1);
    next.pass(2 * SECOND);
    assert_eq!(next.relay.status().sessions, 0);
    assert_eq!(Session(1), call.session);
}

#[test]
fn rubbish_left_behind_is_passed_over() {
    let mut rig = Rig::new(config());
    rig.call(1, &public(A), &public(B));
    let whole = rig.tables.sessions.clone();
    for record in whole.values() {
        for cut in 0..record.len() {
            let mut tables = KeptTables::default();
            tables.sessions.insert(9, record[..cut].to_vec());
            let next = Rig::after(config(), tables, rig.now, true);
            assert_eq!(next.relay.status().sessions, 0);
        }
    }
}
