//! Scenarios 1f and 1g: what callers hear when the redirect server or the relay can't help, and that nothing stays held.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::process::Command;
use std::time::Duration;

use conformance::lab::domains::{Call, P1, RELAY, TwoDomains};
use conformance::lab::phone::{Phone, audio_at};
use conformance::lab::sbc::{Sbc, is_final};
use conformance::lab::story::{Message, in_order};
use conformance::lab::wire::Wire;

/// A's call to somebody, to its final answer.
fn answer_to(alice: &mut Phone, callee: &str, patience: Duration) -> Message {
    alice.invite(callee, &audio_at("192.168.1.10:4000".parse().unwrap()));
    alice.within(patience, is_final).unwrap_or_else(|| panic!("no final answer in {patience:?}"))
}

/// A relay is asked only if the callee's side is answered in time; then it is told that the call came to nothing.
fn what_was_lent_is_given_back(wire: &Wire) {
    let relay = wire.at("relay").sip();
    if relay.iter().any(|s| s.is("200 INVITE", RELAY, P1)) {
        in_order(
            wire,
            &relay,
            &[
                ("what was lent", &|s| s.is("200 INVITE", RELAY, P1)),
                ("is given back", &|s| s.is("BYE", P1, RELAY)),
                ("and taken", &|s| s.is("200 BYE", RELAY, P1)),
            ],
        );
    }
}

fn signal(which: &str, pid: u32) {
    assert!(Command::new("kill").args([which, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn scenario_1f_whom_the_redirect_server_does_not_know_is_404_and_the_relay_is_let_go() {
    let Some(stage) = TwoDomains::up("-s home:port-restricted:alice") else { return };
    let recorder = stage.lab.capture(&["p1", "relay"]);
    let mut alice = stage.phone("alice", "192.168.1.10:5060");
    let answer = answer_to(&mut alice, "bob@two.test", Duration::from_secs(10));
    alice.idle(Duration::from_millis(500));
    let wire = recorder.stop();
    assert_eq!(answer.status(), Some(404), "{}\n{}", answer.0, wire.ladder());
    stage.nothing_stays_lent();
    what_was_lent_is_given_back(&wire);
}

#[test]
fn scenario_1f_a_silent_redirect_server_means_408_and_the_relay_is_let_go() {
    let Some(stage) = TwoDomains::up("-s home:port-restricted:alice") else { return };
    let mut alice = stage.phone("alice", "192.168.1.10:5060");
    alice.idle(Duration::from_millis(500));
    let recorder = stage.lab.capture(&["p1", "relay"]);
    signal("-STOP", stage.redirect.pid());
    let answer = answer_to(&mut alice, "bob@two.test", Duration::from_secs(40));
    alice.idle(Duration::from_millis(500));
    let wire = recorder.stop();
    signal("-CONT", stage.redirect.pid());
    assert!(matches!(answer.status(), Some(408 | 504)), "{}\n{}", answer.0, wire.ladder());
    stage.nothing_stays_lent();
    what_was_lent_is_given_back(&wire);
}

#[test]
fn scenario_1g_when_the_relay_is_full_the_next_caller_is_told_when_to_try_again() {
    let Some(stage) = Sbc::with(
        "-s home:port-restricted:alice -s office:symmetric:bob",
        "proxy: {}\n",
        "max-sessions: 2\n",
    ) else {
        return;
    };
    let (mut alice, mut bob) =
        (stage.phone("alice", "192.168.1.10:5060"), stage.phone("bob", "192.168.1.10:5060"));
    let media = |port: u16| format!("192.168.1.10:{port}").parse().unwrap();
    let mut first = Call::place(&mut alice, &mut bob, media(4000), media(4000));
    let mut second = Call::place(&mut alice, &mut bob, media(4010), media(4010));
    let refused = answer_to(&mut alice, "bob@sbc.test", Duration::from_secs(10));
    assert_eq!(refused.status(), Some(503), "{}", refused.0);
    assert!(refused.header("Retry-After").is_some(), "{}", refused.0);
    assert!(
        bob.within(Duration::from_millis(300), |m| m.is("INVITE")).is_none(),
        "a half-made call reached B"
    );
    first.hang_up(&mut alice, &mut bob);
    alice.idle(Duration::from_millis(300));
    let mut third = Call::place(&mut alice, &mut bob, media(4020), media(4020));
    second.hang_up(&mut alice, &mut bob);
    third.hang_up(&mut alice, &mut bob);
    stage.nothing_stays_lent();
}
