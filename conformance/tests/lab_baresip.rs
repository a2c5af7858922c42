//! Real phones: two baresips behind NATs of the same kind with the same private addresses, registered with digest,
//! talk through one `postern`; what each sent is counted at the other, and the tone it heard is the other's.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use conformance::lab::sbc::{SBC, Sbc, report_of};
use conformance::lab::wire::Wire;

fn two_baresips_talk(nat: &str, transport: &str) {
    if let Some(stage) = Sbc::up(&format!("-s home:{nat}:alice -s office:{nat}:bob")) {
        talk_through(&stage, transport);
    }
}

/// As `configs/container.yaml` does it: every call on the same few ports.
fn two_baresips_talk_on_few_ports(nat: &str) {
    let parties = format!("-s home:{nat}:alice -s office:{nat}:bob");
    let relay = "mode: one-port\nports: 20000-20007\n";
    let Some(stage) = Sbc::with(&parties, "proxy: { anchor: always }\n", relay) else { return };
    let wire = talk_through(&stage, "udp");
    let told = wire.sip().into_iter().filter(|s| s.from.ip().to_string() == SBC);
    let ports: Vec<u16> = told.filter_map(|s| Some(s.message.audio()?.port())).collect();
    assert!(ports.len() >= 2 && ports.iter().all(|port| (20_000..=20_007).contains(port)), "{ports:?}");
    stage.nothing_stays_lent();
}

fn talk_through(stage: &Sbc, transport: &str) -> Wire {
    let recorder = stage.lab.capture(&["sbc"]);
    let bob = stage.baresip("bob", 30, &["--tone", "600", "--transport", transport, "--once"]);
    stage.registered("bob");
    let call = [
        "--tone",
        "440",
        "--transport",
        transport,
        "--once",
        "--dial",
        "sip:bob@sbc.test",
        "--at",
        "6:hangup",
    ];
    let alice = report_of(stage.baresip("alice", 20, &call));
    let bob = report_of(bob);
    let wire = recorder.stop();

    for (report, tone) in [(&alice, 600), (&bob, 440)] {
        let number = |name: &str| report[name].as_i64().unwrap_or(0);
        assert!(report["registered"] == true && report["established"] == true, "{report}\n{}", wire.ladder());
        assert!(number("sent") > 250 && number("received") > 250, "{report}\n{}", wire.ladder());
        assert!((number("tone_hz") - tone).abs() <= 5, "the tone of the other is {tone} Hz: {report}");
    }
    let lost = |a: &serde_json::Value, b: &serde_json::Value| {
        a["sent"].as_i64().unwrap() - b["received"].as_i64().unwrap()
    };
    assert!(lost(&alice, &bob) < 15 && lost(&bob, &alice) < 15, "{alice}\n{bob}\n{}", wire.ladder());
    assert!(wire.sip().iter().any(|s| s.is("401 REGISTER", "", "")), "nobody was asked for a password");
    wire
}

/// RFC 3515: a real phone transfers another real phone, by REFER in their dialog, to a third.
#[test]
fn a_baresip_transfers_another_to_a_third() {
    let Some(stage) = Sbc::up("-s home:port-restricted:alice,carol -s office:symmetric:bob") else { return };
    // His first call ends as he is transferred.
    let mut bob = stage.baresip("bob", 50, &["--tone", "600"]);
    let carol = stage.baresip("carol", 50, &["--tone", "800", "--once", "--at", "4:hangup"]);
    stage.registered("bob");
    stage.registered("carol");
    let call = ["--dial", "sip:bob@sbc.test", "--at", "1.5:transfer sip:carol@sbc.test", "--once"];
    let alice = report_of(stage.baresip("alice", 40, &call));
    let carol = report_of(carol);
    bob.terminate();
    let bob = report_of(bob);
    for (report, tone) in [(&bob, 800), (&carol, 600)] {
        let hears = report["tone_hz"].as_i64().unwrap_or(0);
        assert!((hears - tone).abs() <= 5, "{hears} Hz instead of {tone}: {alice:#}\n{bob:#}\n{carol:#}");
    }
}

#[test]
fn two_baresips_behind_port_restricted_nats_hear_each_other() {
    two_baresips_talk("port-restricted", "udp");
}

#[test]
fn two_baresips_behind_symmetric_nats_hear_each_other() {
    two_baresips_talk("symmetric", "udp");
}

#[test]
fn two_baresips_on_tcp_behind_symmetric_nats_hear_each_other() {
    two_baresips_talk("symmetric", "tcp");
}

#[test]
fn two_baresips_behind_port_restricted_nats_talk_through_a_relay_of_few_ports() {
    two_baresips_talk_on_few_ports("port-restricted");
}

#[test]
fn two_baresips_behind_symmetric_nats_talk_through_a_relay_of_few_ports() {
    two_baresips_talk_on_few_ports("symmetric");
}
