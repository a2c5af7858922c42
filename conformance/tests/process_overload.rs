//! More calls than there is time for, on the sockets of a real process: what belongs to calls that are up does not stand
//! in line behind them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use conformance::lab::apart::{Apart, HOME, OFFICE, STRANGER, udp};
use conformance::lab::domains::{Call, P1};
use conformance::lab::phone::Phone;
use conformance::lab::storm::{request, spray};

/// New calls: so many that a lane reads them in several rounds, so few that every kernel keeps them for a socket.
const CROWD: usize = 200;
/// Those that may be served first: one for each round it takes to read them all.
const FEW: usize = 8;

fn config(callees: SocketAddr) -> String {
    format!(
        "listeners: [{{ address: \"udp:{P1}:5060\" }}]\nauth: {{ required: false }}\nshield: {{ enabled: false }}\n\
         proxy: {{ anchor: never, routes: [{{ to: '*', via: 'udp:{callees}' }}] }}\n"
    )
}

#[test]
fn who_hangs_up_is_heard_before_the_calls_that_wait_ahead_of_it() {
    let name = "who_hangs_up_is_heard_before_the_calls_that_wait_ahead_of_it";
    let Some(stage) = Apart::inside(name) else { return };
    let (proxy, callees) = (SocketAddr::new(P1.parse().unwrap(), 5060), format!("{OFFICE}:5060"));
    let p1 = stage.service("p1", &config(callees.parse().unwrap()));
    let mut alice = Phone::at(udp(&format!("{HOME}:5060")), "alice", "one.test", &proxy.to_string());
    alice.trusted = true;
    let mut bob = Phone::at(udp(&callees), "bob", "one.test", &proxy.to_string());
    let media = "192.168.1.10:4000".parse().unwrap();
    let mut call = Call::place(&mut alice, &mut bob, media, media);

    p1.freeze(true);
    let crowd = udp(&format!("{STRANGER}:5060"));
    let source = crowd.local_addr().unwrap();
    spray(&crowd, CROWD, |number| {
        (request("INVITE", &format!("crowd{number}"), proxy, source).into(), proxy)
    });
    alice.ask(&mut call.caller, "BYE", "", "");
    p1.freeze(false);

    let ahead = RefCell::new(BTreeSet::new());
    let bye = bob.expect_where("BYE", |message| {
        if message.is("INVITE") {
            ahead.borrow_mut().insert(message.header("Call-ID").map(str::to_owned));
        }
        message.is("BYE")
    });
    bob.ok(&bye, "");
    alice.expect("200 BYE");
    let ahead = ahead.into_inner().len();
    assert!(ahead <= FEW, "{ahead} of {CROWD} calls were served before the BYE");
    bob.expect("INVITE");
}
