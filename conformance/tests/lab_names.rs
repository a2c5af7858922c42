//! RFC 3263 and 6116 with a real name server: the way from a domain's name, or from a number, to whoever answers there.
//!
//! ```text
//!   alice 203.0.113.11 ── sbc 198.51.100.20 ── carrier.test: NAPTR → SRV → dead 203.0.113.40, alive 203.0.113.41
//!                               │
//!                         dns 198.51.100.53
//! ```
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use conformance::lab::phone::{Phone, audio_at};
use conformance::lab::wire::Wire;
use conformance::lab::{Lab, Process};

const DNS: &str = "198.51.100.53";
const RECORDS: [&str; 8] = [
    "carrier.test NAPTR 10 50 s SIP+D2U - _sip._udp.carrier.test",
    "_sip._udp.carrier.test SRV 10 60 5062 dead.carrier.test",
    "_sip._udp.carrier.test SRV 20 0 5064 alive.carrier.test",
    "dead.carrier.test A 203.0.113.40",
    "alive.carrier.test A 203.0.113.41",
    "alive.carrier.test AAAA 2001:db8::41",
    r"3.2.1.0.3.9.4.e164.test NAPTR 100 10 u E2U+email:mailto !^.*$!mailto:bob@carrier.test! .",
    r"3.2.1.0.3.9.4.e164.test NAPTR 100 20 u E2U+sip !^\+4930(.*)$!sip:desk-\1@alive.carrier.test:5064! .",
];
const CONFIG: &str = "\
listeners:
  - address: udp:198.51.100.20:5060
domains: [sbc.test]
users:
  - { name: alice, password: pw-alice }
proxy:
  routes:
    - { to: \"+*\", enum: e164.test }
";

fn stage() -> Option<(Lab, Process, Phone)> {
    let hosts = format!(
        "-p sbc=198.51.100.20 -p dns={DNS} -p alice=203.0.113.11 -p dead=203.0.113.40 -p alive=203.0.113.41 --dns dns"
    );
    let lab = Lab::with_records(&hosts, &RECORDS)?;
    let postern = lab.service("sbc", CONFIG);
    let mut alice = Phone::new(&lab, "alice", "203.0.113.11:5060", "alice", "sbc.test", "198.51.100.20:5060");
    let answer = alice.register(300);
    assert!(answer.is("200 REGISTER"), "{}", answer.0);
    Some((lab, postern, alice))
}

/// How many questions the name server was asked that contain this label.
fn questions(wire: &Wire, label: &str) -> usize {
    let asks = |payload: &[u8]| payload.windows(label.len()).any(|window| window == label.as_bytes());
    wire.packets.iter().filter(|p| p.to.to_string() == format!("{DNS}:53") && asks(&p.payload)).count()
}

#[test]
fn a_name_leads_by_naptr_and_srv_past_a_dead_server_to_one_that_answers() {
    let Some((lab, _postern, mut alice)) = stage() else { return };
    let recorder = lab.capture(&["dead", "dns"]);
    let mut bob = Phone::new(&lab, "alive", "203.0.113.41:5064", "bob", "carrier.test", "198.51.100.20:5060");
    bob.trusted = true;
    alice.invite("bob@carrier.test", &audio_at("203.0.113.11:4000".parse().unwrap()));
    let rang = bob.within(Duration::from_secs(5), |m| m.is("INVITE"));
    let wire = recorder.stop();
    assert!(rang.is_some(), "the second server is not called\n{}", wire.ladder());
    let tried = wire.sip().iter().filter(|s| s.is("INVITE", "198.51.100.20", "203.0.113.40")).count();
    assert!(tried >= 1, "the first server stands before it\n{}", wire.ladder());
    assert!(questions(&wire, "_udp") >= 1 && questions(&wire, "dead") >= 1, "{}", wire.ladder());
}

#[test]
fn that_a_name_is_nobodys_is_remembered_for_a_while() {
    let Some((lab, _postern, mut alice)) = stage() else { return };
    let recorder = lab.capture(&["dns"]);
    let mut call = || {
        alice.invite("bob@nobody.test", &audio_at("203.0.113.11:4000".parse().unwrap()));
        alice.within(Duration::from_secs(6), |m| m.status().is_some_and(|status| status >= 300))
    };
    let first = call().expect("an answer");
    let second = call().expect("another");
    let wire = recorder.stop();
    assert_eq!((first.status(), second.status()), (Some(480), Some(480)));
    let kinds = 5; // NAPTR, SRV for UDP and TCP, A, AAAA: each asked once
    let asked = questions(&wire, "nobody");
    assert!((1..=kinds).contains(&asked), "{asked} questions for two calls");
}

#[test]
fn a_number_leads_by_enum_to_the_uri_that_its_record_makes_of_it() {
    let Some((lab, _postern, mut alice)) = stage() else { return };
    let recorder = lab.capture(&["alive", "dns"]);
    let mut bob = Phone::new(&lab, "alive", "203.0.113.41:5064", "bob", "carrier.test", "198.51.100.20:5060");
    bob.trusted = true;
    alice.invite("+4930123@sbc.test", &audio_at("203.0.113.11:4000".parse().unwrap()));
    let rang = bob.within(Duration::from_secs(5), |m| m.is("INVITE"));
    let wire = recorder.stop();
    let rang = rang.unwrap_or_else(|| panic!("the number's URI is not called\n{}", wire.ladder()));
    assert_eq!(rang.uri(), "sip:desk-123@alive.carrier.test:5064", "the record for mail is passed over");
    assert!(questions(&wire, "e164") >= 1, "{}", wire.ladder());
}

#[test]
fn a_number_that_dns_does_not_know_is_nobody() {
    let Some((lab, _postern, mut alice)) = stage() else { return };
    let recorder = lab.capture(&["dns"]);
    alice.invite("+4930999@sbc.test", &audio_at("203.0.113.11:4000".parse().unwrap()));
    let answer = alice.within(Duration::from_secs(6), |m| m.status().is_some_and(|status| status >= 300));
    let wire = recorder.stop();
    assert!(answer.is_some_and(|answer| matches!(answer.status(), Some(404 | 480))), "{}", wire.ladder());
    assert!(questions(&wire, "e164") >= 1, "{}", wire.ladder());
}
