//! kill -9 on real processes: what a proxy and a redirect server must know after a power cut, they know.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use conformance::lab::apart::{Apart, HOME, OFFICE, udp};
use conformance::lab::choir::Choir;
use conformance::lab::domains::{Call, RELAY, told};
use conformance::lab::phone::Phone;

const CALLS: usize = 100;
/// Ten times what the store gathers before it writes.
const DURABLE: Duration = Duration::from_secs(1);
const PHONES: usize = 10;
const CALLERS: [&str; PHONES] = ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"];
const CALLEES: [&str; PHONES] = ["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b9"];

/// What the SDP of a phone behind a NAT says.
fn private(port: usize) -> SocketAddr {
    format!("192.168.1.10:{port}").parse().unwrap()
}

fn phones(users: &[&str], ip: &str, register: impl Fn(&str, &str) -> Phone) -> Vec<Phone> {
    users.iter().zip(5060..).map(|(user, port)| register(user, &format!("{ip}:{port}"))).collect()
}

/// Who is in the call of this number: any caller comes to talk to any callee.
fn parties(number: usize) -> (usize, usize) {
    (number % PHONES, (number + number / PHONES) % PHONES)
}

/// The voices of a call's two parties join and speak to where they were told.
fn speak(choir: &Choir, number: usize, call: &Call) {
    let port = 30_000 + 2 * number;
    let (a, b) = (2 * number as u32 + 1, 2 * number as u32 + 2);
    let caller = choir.join(udp(&format!("{HOME}:{port}")), a, b);
    let callee = choir.join(udp(&format!("{OFFICE}:{port}")), b, a);
    choir.speak_to(caller, Some(told(&call.ok)));
    choir.speak_to(callee, Some(told(&call.invite)));
}

/// The callee hangs up.
fn hang_up_from_the_other_side(call: &mut Call, caller: &mut Phone, callee: &mut Phone) {
    callee.ask(&mut call.callee, "BYE", "", "");
    let bye = caller.expect("BYE");
    caller.ok(&bye, "");
    callee.expect("200 BYE");
}

/// A calls B: it rings, is answered and over.
fn reaches(a: &mut Phone, b: &mut Phone) {
    Call::place(a, b, private(40_000), private(40_000)).hang_up(a, b);
}

#[test]
fn a_proxy_killed_with_a_hundred_calls_up_ends_them_all_and_reaches_every_phone() {
    let Some(stage) =
        Apart::inside("a_proxy_killed_with_a_hundred_calls_up_ends_them_all_and_reaches_every_phone")
    else {
        return;
    };
    let (_redirect, relay) = (stage.redirect(), stage.relay());
    let mut p1 = stage.p1(&[CALLERS, CALLEES].concat());
    let register = |user: &str, local: &str| stage.phone(user, local);
    let (mut callers, mut callees) = (phones(&CALLERS, HOME, register), phones(&CALLEES, OFFICE, register));

    let choir = Choir::new(Duration::from_millis(100));
    let mut calls = Vec::new();
    for number in 0..CALLS {
        let (a, b) = parties(number);
        let media = private(30_000 + 2 * number);
        let call = Call::place(&mut callers[a], &mut callees[b], media, media);
        speak(&choir, number, &call);
        calls.push(call);
    }
    choir.all_hear(0..2 * CALLS, 5, Duration::from_secs(10));
    assert_eq!((p1.count("calls"), relay.count("sessions")), (100, 100));

    p1.kill();
    choir.all_hear(0..2 * CALLS, 10, Duration::from_secs(10));
    p1.restart();
    for (caller, callee) in callers.iter_mut().zip(&mut callees) {
        reaches(caller, callee);
        reaches(callee, caller);
    }
    choir.all_hear(0..2 * CALLS, 5, Duration::from_secs(10));
    let missed: usize = (0..2 * CALLS).map(|voice| choir.missed(voice)).sum();
    assert_eq!(missed, 0, "media goes on as if nothing had happened");

    for (number, call) in calls.iter_mut().enumerate() {
        let (a, b) = parties(number);
        let (caller, callee) = (&mut callers[a], &mut callees[b]);
        match number % 2 {
            0 => call.hang_up(caller, callee),
            _ => hang_up_from_the_other_side(call, caller, callee),
        }
    }
    relay.comes_to("ports", 0, Duration::from_secs(10));
    assert_eq!((relay.count("sessions"), relay.count("panics"), p1.count("panics")), (0, 0, 0));
}

#[test]
fn a_redirect_server_killed_forgets_nobody() {
    let Some(stage) = Apart::inside("a_redirect_server_killed_forgets_nobody") else { return };
    let (mut redirect, relay) = (stage.redirect(), stage.relay());
    let (_p1, _p2) = (stage.p1(&CALLERS), stage.p2(&CALLEES));
    let mut callers = phones(&CALLERS, HOME, |user, local| stage.phone(user, local));
    let mut callees = phones(&CALLEES, OFFICE, |user, local| stage.phone_of_two(user, local));
    // A registration is on disk a tenth of a second after its answer: until then it is its sender's to repeat.
    let registered = Instant::now();
    while registered.elapsed() < DURABLE {
        for (caller, callee) in callers.iter_mut().zip(&mut callees) {
            reaches(caller, callee);
        }
    }
    redirect.kill();
    redirect.restart();
    for (caller, callee) in callers.iter_mut().zip(&mut callees) {
        reaches(caller, callee);
        reaches(callee, caller);
    }
    relay.comes_to("ports", 0, Duration::from_secs(10));
}

/// The relay is killed with calls up: the next one opens the same ports, and audio is back within a second of its start, with
/// no signalling at all. Then each call ends by BYE as if nothing had happened.
#[test]
fn a_relay_killed_with_calls_up_goes_on_with_all_of_them() {
    const FEW: usize = 20;
    let Some(stage) = Apart::inside("a_relay_killed_with_calls_up_goes_on_with_all_of_them") else { return };
    // Two threads: each must find its own sessions again, and their signalling it.
    let config = format!("relay:\n  address: udp:{RELAY}:5060\n  ports: 20000-20999\n  threads: 2\n");
    let (_redirect, mut relay) = (stage.redirect(), stage.service("relay", &config));
    let p1 = stage.p1(&[CALLERS, CALLEES].concat());
    let register = |user: &str, local: &str| stage.phone(user, local);
    let (mut callers, mut callees) = (phones(&CALLERS, HOME, register), phones(&CALLEES, OFFICE, register));
    let choir = Choir::new(Duration::from_millis(20));
    let mut calls = Vec::new();
    for number in 0..FEW {
        let (a, b) = parties(number);
        let media = private(30_000 + 2 * number);
        let call = Call::place(&mut callers[a], &mut callees[b], media, media);
        speak(&choir, number, &call);
        calls.push(call);
    }
    choir.all_hear(0..2 * FEW, 5, Duration::from_secs(10));
    // A change is on disk a tenth of a second after it was made.
    std::thread::sleep(Duration::from_millis(300));
    let ports = relay.count("ports");
    relay.kill();
    relay.restart();
    choir.all_hear(0..2 * FEW, 5, Duration::from_secs(1));
    assert_eq!((relay.count("sessions"), relay.count("ports")), (FEW as u64, ports));

    for (number, call) in calls.iter_mut().enumerate() {
        let (a, b) = parties(number);
        call.hang_up(&mut callers[a], &mut callees[b]);
    }
    relay.comes_to("ports", 0, Duration::from_secs(10));
    assert_eq!((relay.count("sessions"), relay.count("panics"), p1.count("panics")), (0, 0, 0));
}
