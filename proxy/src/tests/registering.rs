//! Stories of registrations here: what is answered at once, and what is left of it.

use proto::sip::Name;
use proto::tables::Tables;

use crate::tests::bench::{B, Bench, Sent, open};

/// A REGISTER of b@example.com from behind a NAT.
fn register(number: u32, more: &str) -> String {
    format!(
        "REGISTER sip:example.com SIP/2.0
         Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKr{number};rport
         From: <sip:b@example.com>;tag=r
         To: <sip:b@example.com>
         Call-ID: r
         CSeq: {number} REGISTER
         Contact: <sip:b@10.0.0.2>
         Max-Forwards: 70{more}"
    )
}

fn only(sent: Vec<Sent>) -> Sent {
    assert_eq!(sent.len(), 1, "{sent:?}");
    sent.into_iter().next().unwrap()
}

#[test]
fn a_registration_is_answered_without_a_transaction() {
    let mut bench = Bench::new(open());
    let answer = only(bench.from(B, &register(1, "")));
    assert_eq!(answer.message.status(), Some(200));
    assert_eq!(
        answer.message.text(Name::Via),
        Some("SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKr1;rport=5070;received=198.51.100.20")
    );
    assert_eq!(bench.status().transactions, 0);
    assert_eq!(bench.tables.bindings("b@example.com").len(), 1);
}

#[test]
fn its_retransmission_gets_the_same_answer_and_changes_nothing() {
    let mut bench = Bench::new(open());
    let first = only(bench.from(B, &register(1, "")));
    let events = bench.events.len();
    let again = only(bench.from(B, &register(1, "")));
    assert_eq!(again.message.bytes(), first.message.bytes());
    assert_eq!(bench.events.len(), events, "nothing happened");
    let late = only(bench.from(B, &register(1, "").replace("z9hG4bKr1", "z9hG4bKother")));
    assert_eq!(late.message.status(), Some(500), "another request, of the same CSeq (RFC 3261 §10.3)");
}

#[test]
fn what_the_registrar_refuses_is_kept_for_retransmissions() {
    let mut bench = Bench::new(open());
    let brief = register(1, "\nExpires: 10");
    let first = only(bench.from(B, &brief));
    assert_eq!((first.message.status(), bench.status().transactions), (Some(423), 1));
    assert!(first.message.via().unwrap().params.get("received").is_some());
    assert_eq!(only(bench.from(B, &brief)).message.bytes(), first.message.bytes());
}
