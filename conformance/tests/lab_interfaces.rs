//! The address a service listens and lends ports at is taken from the machine in mid-call, and given back: media goes on, the
//! listener is heard again, nobody does anything about it, and `postern status` tells while it lasts.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::{Duration, Instant};

use conformance::lab::domains::{Call, told};
use conformance::lab::phone::Voice;
use conformance::lab::sbc::{SBC, Sbc};
use conformance::lab::{Lab, postern};

const PATIENCE: Duration = Duration::from_secs(5);

/// What a program in the service's host says.
fn say(lab: &Lab, argv: &[&str]) -> String {
    let (status, words) = lab.run("sbc", argv, PATIENCE);
    assert!(status.success(), "{argv:?}: {words}");
    words
}

fn status(lab: &Lab) -> String {
    let config = lab.scratch().join("sbc.yaml").display().to_string();
    say(lab, &[postern(), "status", "-c", &config])
}

/// How many each hears of the other in a second.
fn hear(a: &Voice, b: &Voice) -> (usize, usize) {
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    (a.count(b.ssrc, began), b.count(a.ssrc, began))
}

fn comes_back(a: &Voice, b: &Voice) {
    let until = Instant::now() + PATIENCE;
    while !matches!(hear(a, b), (40.., 40..)) {
        assert!(Instant::now() < until, "media does not come back");
    }
}

#[test]
fn an_address_that_vanishes_in_mid_call_and_comes_back_is_heard_and_spoken_from_again() {
    let Some(stage) = Sbc::up("-s home:port-restricted:alice -p bob=203.0.113.10") else { return };
    let lab = &stage.lab;
    let (mut alice, mut bob) =
        (stage.phone("alice", "192.168.1.10:5060"), stage.phone("bob", "203.0.113.10:5060"));
    let (ears_a, ears_b) =
        (stage.voice("alice", "192.168.1.10:4000", 0xa), stage.voice("bob", "203.0.113.10:4000", 0xb));
    let media = |at: &str| at.parse().unwrap();
    let mut call = Call::place(&mut alice, &mut bob, media("192.168.1.10:4000"), media("203.0.113.10:4000"));
    ears_a.speak_to(Some(told(&call.ok)));
    ears_b.speak_to(Some(told(&call.invite)));
    comes_back(&ears_a, &ears_b);
    assert!(!status(lab).contains("is not an address"), "{}", status(lab));

    let shown = say(lab, &["ip", "-o", "-4", "address", "show", "to", SBC]);
    let words: Vec<&str> = shown.split_whitespace().collect();
    let (device, address) = (words[1], words[3]);
    let routes = say(lab, &["ip", "route", "show"]);
    say(lab, &["ip", "address", "del", address, "dev", device]);
    std::thread::sleep(Duration::from_millis(500));
    let while_gone = hear(&ears_a, &ears_b);
    assert_eq!(while_gone, (0, 0), "it is really gone");
    let told_so = status(lab);
    assert!(told_so.contains(&format!("{SBC} is not an address of this machine just now")), "{told_so}");

    say(lab, &["ip", "address", "add", address, "dev", device]);
    // Those to neighbours first: a gateway has to be one.
    let (by_gateway, direct): (Vec<_>, Vec<_>) = routes.lines().partition(|route| route.contains(" via "));
    for route in direct.into_iter().chain(by_gateway) {
        let argv: Vec<&str> =
            ["ip", "route", "replace"].into_iter().chain(route.split_whitespace()).collect();
        say(lab, &argv);
    }
    comes_back(&ears_a, &ears_b);
    assert!(!status(lab).contains("is not an address"), "{}", status(lab));
    assert!(alice.register(300).is("200 REGISTER"), "the listener hears again");
    call.hang_up(&mut alice, &mut bob);
    stage.nothing_stays_lent();
}
