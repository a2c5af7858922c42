//! The laboratory harness proves itself before it proves the product: sockets, NATs, captures, and a whole call
//! through another SIP server, read from the wire.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use conformance::lab::Lab;
use conformance::lab::phone::{Phone, Voice, audio_at};
use conformance::lab::story::in_order;
use conformance::lab::{peer, phone};

#[test]
fn a_socket_in_the_lab_is_behind_its_hosts_nat() {
    let Some(lab) = Lab::up("-p sbc=198.51.100.20,2001:db8::20 -s home:port-restricted:alice:ipv6=stateful")
    else {
        return;
    };
    let recorder = lab.capture(&["sbc", "alice"]);
    let (server, alice) = (lab.udp("sbc", "198.51.100.20:5060"), lab.udp("alice", "192.168.1.10:5060"));
    alice.send_to(b"hello", "198.51.100.20:5060").unwrap();
    let (_, seen) = server.recv_from(&mut [0; 99]).unwrap();
    lab.rebind("home", Some("203.0.113.77".parse().unwrap()));
    alice.send_to(b"again", "198.51.100.20:5060").unwrap();
    let (_, moved) = server.recv_from(&mut [0; 99]).unwrap();
    let (six, other) = (lab.udp("sbc", "[2001:db8::20]:5060"), lab.udp("alice", "[2001:db8:a00::10]:5060"));
    other.send_to(b"six", "[2001:db8::20]:5060").unwrap();
    let (_, untranslated) = six.recv_from(&mut [0; 99]).unwrap();
    let wire = recorder.stop();

    assert_eq!(
        (seen.ip().to_string(), moved.ip().to_string()),
        ("203.0.113.100".into(), "203.0.113.77".into())
    );
    assert_eq!(untranslated, "[2001:db8:a00::10]:5060".parse().unwrap());
    assert_eq!((wire.at("sbc").len(), wire.at("alice").len()), (3, 3));
    assert!(
        wire.at("alice").mentions("192.168.1.10".parse().unwrap())
            && !wire.at("sbc").mentions("192.168.1.10".parse().unwrap())
    );
}

#[test]
fn a_program_ends_with_its_lab_and_a_datagram_in_fragments_is_one() {
    let Some(lab) = Lab::up("-p a -p b") else { return };
    let recorder = lab.capture(&["b"]);
    let (a, b) = (lab.udp("a", "198.51.100.10:9"), lab.udp("b", "198.51.100.11:9"));
    a.send_to(&[7; 4000], "198.51.100.11:9").unwrap();
    assert_eq!(b.recv_from(&mut [0; 5000]).unwrap().0, 4000);
    assert_eq!(recorder.stop().packets.iter().map(|p| p.payload.len()).collect::<Vec<_>>(), [4000]);
    let mut sleeper = lab.spawn("a", &["sleep", "99"]);
    drop(lab);
    assert!(!sleeper.wait(Duration::from_secs(2)).success());
}

/// Two phones behind symmetric NATs with the same private addresses, anchored by Kamailio and rtpengine: the yardstick,
/// and the proof that the phones, the captures and the assertions of the scenario tests work on something that isn't ours.
#[test]
fn the_yardstick_carries_a_call_between_two_symmetric_nats() {
    if !["kamailio", "rtpengine"].iter().all(|tool| Command::new(tool).arg("--version").output().is_ok()) {
        return eprintln!("skipped: Kamailio and rtpengine are not installed (make bench-deps)");
    }
    let Some(lab) = Lab::up("-p sbc=198.51.100.20 -s home:symmetric:alice -s office:symmetric:bob") else {
        return;
    };
    let logs = format!("LOGS={}", lab.scratch().display());
    let _sbc =
        lab.spawn("sbc", &["env", &logs, &peer("kamailio/run-sbc"), "198.51.100.20", "-A", "WITH_AUTH"]);
    let recorder = lab.capture(&["alice", "bob", "sbc"]);
    let new =
        |host, user| Phone::new(&lab, host, "192.168.1.10:5060", user, "sbc.test", "198.51.100.20:5060");
    let (mut alice, mut bob) = (new("alice", "alice"), new("bob", "bob"));
    let deadline = Instant::now() + Duration::from_secs(5);
    while lab.run("alice", &[peer("ping").as_str(), "198.51.100.20", "5060"], Duration::from_secs(3)).0.code()
        != Some(0)
    {
        assert!(Instant::now() < deadline, "Kamailio does not answer");
    }
    assert!(alice.register(60).is("200 REGISTER") && bob.register(60).is("200 REGISTER"));

    let private: SocketAddr = "192.168.1.10:4000".parse().unwrap();
    let (ears_a, ears_b) = (
        Voice::new(lab.udp("alice", "192.168.1.10:4000"), 0xa),
        Voice::new(lab.udp("bob", "192.168.1.10:4000"), 0xb),
    );
    let mut call = alice.invite("bob", &phone::audio_at(private));
    let invite = bob.expect("INVITE");
    let _answered = bob.accept(&invite, &audio_at(private));
    let ok = alice.expect("200 INVITE");
    alice.confirm(&mut call, &ok, "");
    bob.expect("ACK");
    ears_a.speak_to(ok.audio());
    ears_b.speak_to(invite.audio());
    std::thread::sleep(Duration::from_millis(1000));
    alice.ask(&mut call, "BYE", "", "");
    let bye = bob.expect("BYE");
    bob.ok(&bye, "");
    alice.expect("200 BYE");

    let wire = recorder.stop();
    let story = wire.sip();
    in_order(
        &wire,
        &story,
        &[
            ("the call of A with its own address", &|s| {
                s.is("INVITE", "192.168.1.10", "") && s.message.audio() == Some(private)
            }),
            ("the call to B with the relay's", &|s| {
                s.is("INVITE", "198.51.100.20", "192.168.1.10")
                    && s.message.audio().unwrap().ip() == s.from.ip()
            }),
            ("the answer to A with the relay's", &|s| {
                s.is("200 INVITE", "198.51.100.20", "192.168.1.10")
                    && s.message.audio().unwrap().ip() == s.from.ip()
            }),
        ],
    );
    let heard = |ears: &Voice, ssrc| {
        ears.heard().iter().filter(|h| h.ssrc == ssrc && h.from.ip() == alice.proxy.ip()).count()
    };
    assert!(
        heard(&ears_a, 0xb) > 40 && heard(&ears_b, 0xa) > 40,
        "{} and {}\n{}",
        heard(&ears_a, 0xb),
        heard(&ears_b, 0xa),
        wire.ladder()
    );
    assert!(wire.streams().iter().filter(|s| s.host == "sbc").count() >= 4);
}
