//! Stories of phones that register through us at a PBX (`mid_registrar`).

use std::time::Duration;

use proto::sip::{Message, Method, Name};

use crate::config::{Config, Trunk};
use crate::registrar::mid_registrar::MidRegistrar;
use crate::tests::bench::{Bench, Sent, everything_by, invite, next, open, to};

const PBX: &str = "198.51.100.1:5060";
/// Alice's NAT, and what she believes.
const ALICE: &str = "192.0.2.10:40001";
const INNER: &str = "10.0.0.2:5060";
const SECOND: Duration = Duration::from_secs(1);

fn config() -> Config {
    let mut config = open();
    let sources = vec!["198.51.100.1".parse().unwrap()];
    let pbx = Trunk { trusted: true, sources, ..Trunk::to("pbx", next("198.51.100.1", 5060)) };
    everything_by(&mut config, pbx);
    config.routes.clear();
    config.mid_registrar = Some(MidRegistrar { trunk: 0, towards_pbx: 3600, towards_nat: 120 });
    config
}

fn register(number: u32, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!("\n{more}") };
    format!(
        "REGISTER sip:example.com SIP/2.0
         Via: SIP/2.0/UDP {INNER};branch=z9hG4bKr{number}
         From: <sip:alice@example.com>;tag=r
         To: <sip:alice@example.com>
         Call-ID: r1
         CSeq: {number} REGISTER
         Contact: <sip:alice@{INNER}>
         Max-Forwards: 70{more}"
    )
}

fn at_pbx(sent: &[Sent]) -> Option<Sent> {
    sent.iter().find(|s| s.flow.remote.to_string() == PBX && s.message.is_request()).cloned()
}

fn answer_of(sent: &[Sent], who: &str) -> Message {
    to(sent, who).into_iter().find(|m| m.status().is_some_and(|s| s >= 200)).expect("an answer").clone()
}

/// Alice is registered; what the PBX knows her by.
fn registered(bench: &mut Bench) -> String {
    let asked = at_pbx(&bench.from(ALICE, &register(1, "Expires: 300"))).expect("it goes to the PBX");
    let contact = asked.message.contacts().next().unwrap().unwrap().raw_uri.to_owned();
    let sent = bench.answer(&asked, 200, &format!("Contact: <{contact}>;expires=3600"), "");
    assert_eq!(answer_of(&sent, ALICE).status(), Some(200));
    contact
}

fn call(name: &str, id: &str) -> String {
    invite(name).replace("192.0.2.10:5060", PBX).replace("c1", id).replace("bKa1", &format!("bK{id}"))
}

#[test]
fn the_pbx_asks_and_lets_in_and_the_phone_is_kept_short() {
    let mut bench = Bench::new(config());
    let asked = at_pbx(&bench.from(ALICE, &register(1, "Expires: 300"))).expect("it goes to the PBX");
    let contact = asked.message.text(Name::Contact).unwrap().to_owned();
    assert!(contact.starts_with("<sip:alice@203.0.113.1:5060;mid="), "{contact}");
    assert!(contact.ends_with("-example.com>;expires=3600") && !contact.contains("10.0.0.2"), "{contact}");
    assert_eq!(asked.message.expires(), Some(3600));
    let sent = bench.answer(&asked, 401, "WWW-Authenticate: Digest realm=\"example.com\", nonce=\"n\"", "");
    assert!(answer_of(&sent, ALICE).text(Name::WwwAuthenticate).unwrap().contains("nonce=\"n\""));
    assert!(bench.tables.bindings.is_empty());

    let proof =
        "Authorization: Digest username=\"alice\", realm=\"example.com\", nonce=\"n\", response=\"r\"";
    let asked = at_pbx(&bench.from(ALICE, &register(2, proof))).unwrap();
    assert!(asked.message.text(Name::Authorization).unwrap().contains("response=\"r\""));
    assert_eq!(asked.message.text(Name::Contact), Some(&*contact), "one Contact for one device");
    let sent = bench.answer(&asked, 200, &format!("Contact: {contact}"), "");
    let ok = answer_of(&sent, ALICE);
    let contacts: Vec<_> = ok.values(Name::Contact).collect();
    assert_eq!(contacts, [format!("<sip:alice@{INNER}>;expires=120")]);
}

#[test]
fn a_refresh_is_absorbed_until_the_pbx_must_hear_of_it() {
    let mut bench = Bench::new(config());
    registered(&mut bench);
    let mut gone_through = 0;
    for number in 2..62 {
        bench.pass(60 * SECOND);
        let sent = bench.from(ALICE, &register(number, ""));
        match at_pbx(&sent) {
            None => {
                assert_eq!(answer_of(&sent, ALICE).contacts().next().unwrap().unwrap().expires(), Some(120))
            }
            Some(asked) => {
                gone_through += 1;
                bench.answer(&asked, 200, "Expires: 3600", "");
            }
        }
    }
    assert_eq!(gone_through, 1, "in an hour");
}

#[test]
fn a_refresh_from_elsewhere_is_the_pbxs_to_judge() {
    let mut bench = Bench::new(config());
    registered(&mut bench);
    assert!(at_pbx(&bench.from("192.0.2.66:5060", &register(2, ""))).is_some());
    let forged = register(3, "").replace("Call-ID: r1", "Call-ID: other");
    assert!(at_pbx(&bench.from(ALICE, &forged)).is_some());
}

#[test]
fn a_call_from_the_pbx_reaches_the_phones_flow_even_after_a_restart() {
    let mut bench = Bench::new(config());
    let name = registered(&mut bench);
    bench.restart();
    let sent = bench.from(PBX, &call(&name, "p1"));
    assert_eq!(to(&sent, ALICE)[0].request_uri(), format!("sip:alice@{INNER}"));
    assert!(at_pbx(&bench.from(ALICE, &register(2, ""))).is_some(), "what the PBX knows is not remembered");
}

#[test]
fn a_phone_that_leaves_is_gone_at_both() {
    let mut bench = Bench::new(config());
    let name = registered(&mut bench);
    let asked = at_pbx(&bench.from(ALICE, &register(2, "Expires: 0"))).expect("the PBX hears of it");
    assert!(asked.message.text(Name::Contact).unwrap().ends_with(";expires=0"));
    bench.answer(&asked, 200, "", "");
    assert!(bench.tables.bindings.is_empty());
    assert_eq!(answer_of(&bench.from(PBX, &call(&name, "p1")), PBX).status(), Some(480));
}

/// What users call is the PBX's to decide; a stranger gets nothing but the PBX's challenge.
#[test]
fn whatever_is_not_the_pbxs_goes_to_it() {
    let mut bench = Bench::new(config());
    registered(&mut bench);
    let proof =
        "\nProxy-Authorization: Digest username=\"bob\", realm=\"example.com\", nonce=\"n\", response=\"r\"";
    for uri in ["sip:alice@example.com", "sip:+4930@example.com", "sip:x@elsewhere.example"] {
        let text = invite(uri).replace("c1", uri) + proof;
        let out = at_pbx(&bench.from("192.0.2.77:5060", &text)).expect("it goes to the PBX");
        assert_eq!((out.message.method(), out.message.request_uri()), (Method::Invite, uri));
        assert!(out.message.text(Name::ProxyAuthorization).is_some(), "its credentials are the PBX's");
    }
}

#[test]
fn a_stranger_chooses_no_way_of_its_own() {
    let mut bench = Bench::new(config());
    let text = invite("sip:+1900@example.com") + "\nRoute: <sip:203.0.113.99;lr>";
    let sent = bench.from("192.0.2.77:5060", &text);
    assert!(at_pbx(&sent).is_some() && to(&sent, "203.0.113.99:5060").is_empty());
}

/// A name at ours says nothing to anybody but the PBX.
#[test]
fn a_stranger_with_a_devices_name_is_sent_to_the_pbx_too() {
    let mut bench = Bench::new(config());
    let name = registered(&mut bench);
    let sent = bench.from("192.0.2.77:5060", &invite(&name));
    assert!(at_pbx(&sent).is_some() && to(&sent, ALICE).is_empty());
}
