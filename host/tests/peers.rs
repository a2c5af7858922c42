//! Peers on sockets: an access server with STUN and a reflector in one process, two endpoints that find one another.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;
use std::time::Duration;

use host::config::{ConfigError, Settings};
use host::peer::{PeerPlan, run};
use host::server::Server;

fn settings(text: &str) -> Result<Settings, ConfigError> {
    Settings::from_text(Path::new("test.yaml"), text)
}

/// STUN needs ports that are written; these are above the range that is given out.
fn server(port: u16) -> Server {
    let text = format!(
        "users: [{{ name: alice, password: wonderland }}, {{ name: bob, password: builder }}]\nlog: error\n\
         access:\n  address: udp:127.0.0.1:0\n  stun: [127.0.0.1:{port}, 127.0.0.2:{}]\n  buddies: [[alice, bob]]\n\
         reflector: {{ address: \"udp:127.0.0.1:0\", allow: [127.0.0.0/8] }}\n",
        port + 1
    );
    let settings = settings(&text).unwrap_or_else(|error| panic!("{error}"));
    Server::start(&settings).unwrap_or_else(|error| panic!("{error}"))
}

fn plan(server: &Server, user: &str, password: &str, seconds: u64) -> PeerPlan {
    let handle = server.handle();
    let listening = handle.listening();
    PeerPlan {
        user: user.to_owned(),
        domain: None,
        password: password.to_owned(),
        server: listening[0].addr,
        stun: Some(listening[1].addr),
        reflector: Some(listening[5].addr),
        local: None,
        stay: Duration::from_secs(seconds),
        say: Vec::new(),
        proxy: None,
        call: None,
        direct: true,
    }
}

#[test]
fn two_peers_log_in_see_one_another_and_talk_directly() {
    let server = server(61_400);
    let bob = plan(&server, "bob", "builder", 6);
    let alice = plan(&server, "alice", "wonderland", 4);
    let alice = PeerPlan { say: vec![("bob@127.0.0.1".to_owned(), "hello".to_owned())], ..alice };
    let bob = std::thread::spawn(move || run(&bob).unwrap());
    let alice = run(&alice).unwrap();
    let bob = bob.join().unwrap();
    let seen = &alice.buddies["bob@127.0.0.1"];
    assert!(alice.logged_in && seen.online && seen.path == "direct", "{alice:#?}");
    assert_eq!(alice.nat, "no NAT");
    assert_eq!(bob.messages, [("alice@127.0.0.1".to_owned(), "hello".to_owned())]);
    assert!(!bob.buddies["alice@127.0.0.1"].online, "she has left, and said so");
    server.stop();
}

#[test]
fn a_peer_calls_a_buddy_directly() {
    let server = server(61_420);
    let bob = plan(&server, "bob", "builder", 7);
    let alice = plan(&server, "alice", "wonderland", 5);
    let alice = PeerPlan { call: Some("bob@127.0.0.1".to_owned()), ..alice };
    let bob = std::thread::spawn(move || run(&bob).unwrap());
    let alice = run(&alice).unwrap();
    let bob = bob.join().unwrap();
    for (report, other) in [(&alice, "bob@127.0.0.1"), (&bob, "alice@127.0.0.1")] {
        assert!(report.call.phone.heard_only(other) && report.call.phone.audio_both_ways, "{report:#?}");
    }
    assert!(bob.call.phone.ended_by.is_some(), "she hung up as she left: {bob:#?}");
    server.stop();
}

#[test]
fn a_wrong_password_is_no_login() {
    let server = server(61_410);
    let report = run(&plan(&server, "bob", "guess", 3)).unwrap();
    assert!(!report.logged_in);
    assert_eq!(report.login_status, Some(401));
    server.stop();
}

#[test]
fn what_cannot_be_right_is_refused_with_a_remedy() {
    for (text, words) in [
        ("access: { stun: [127.0.0.1:3478] }", "two addresses that differ in host and port"),
        ("access: { stun: [127.0.0.1:3478, 127.0.0.1:3479] }", "two addresses that differ in host and port"),
        ("access: { address: \"tcp:127.0.0.1:5070\" }", "expected UDP"),
        ("reflector: { address: \"tcp:127.0.0.1:3480\" }", "expected UDP"),
        ("access: { reflector: 192.0.2.1:3480 }", "`node-key` is missing"),
        ("access: { budies: [] }", "buddies"),
    ] {
        let error = settings(text).map(|_| text).expect_err("it is wrong").to_string();
        assert!(error.contains(words), "{error}");
    }
}
