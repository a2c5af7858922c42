//! What the layer does at its bounds.

use super::*;

fn numbered(method: &str, n: usize, to: &str) -> Message {
    request(method, &format!("SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bKn{n}"), to)
}

#[test]
fn a_full_layer_refuses_new_calls_and_keeps_room_for_those_there_are() {
    let mut bench = Bench::limited(8);
    for n in 0..7 {
        assert_eq!(word(&bench.receive(0, &numbered("INVITE", n, TO))), "request");
    }
    assert_eq!(word(&bench.receive(0, &numbered("INVITE", 7, TO))), "absorbed");
    let refusal = Message::parse(bench.sends().remove(0).1).unwrap();
    assert_eq!((refusal.status(), refusal.text(Name::RetryAfter)), (Some(503), Some("10")));
    assert_eq!(word(&bench.receive(0, &numbered("BYE", 8, "<sip:bob@example.com>;tag=b"))), "request");
    assert_eq!(word(&bench.receive(0, &numbered("BYE", 9, "<sip:bob@example.com>;tag=b"))), "absorbed");
    assert_eq!(bench.layer.len(), 8);
}

#[test]
fn a_refusal_leaves_nothing_behind_and_knows_its_ack() {
    let mut bench = Bench::limited(0);
    bench.receive(0, &numbered("INVITE", 1, TO));
    bench.receive(500, &numbered("INVITE", 1, TO));
    let sent = bench.sends();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].1, sent[1].1);
    let tag = Message::parse(sent[0].1.clone()).unwrap().to_tag().to_owned();
    let ack = numbered("ACK", 1, &format!("<sip:bob@example.com>;tag={tag}"));
    assert_eq!(word(&bench.receive(600, &ack)), "absorbed");
    assert_eq!(word(&bench.receive(600, &numbered("ACK", 1, "<sip:bob@example.com>;tag=else"))), "ack");
    assert_eq!((bench.layer.len(), bench.layer.deadline()), (0, None));
}

#[test]
fn who_is_answered_and_forgotten_leaves_nothing_behind_and_may_ask_again() {
    let mut bench = Bench::udp();
    let invite = numbered("INVITE", 1, TO);
    let mut tags = Vec::new();
    for ms in [0, 500] {
        let id = bench.accept(ms, &invite);
        let tag = bench.layer.stateless_tag(id);
        bench.layer.answer_and_forget(id, reply(&invite, 407, &tag).finish());
        tags.push(tag);
    }
    assert_eq!(bench.sends().len(), 2);
    assert_eq!(tags[0], tags[1], "the same for every retransmission");
    let ack = numbered("ACK", 1, &format!("<sip:bob@example.com>;tag={}", tags[0]));
    assert_eq!(word(&bench.receive(600, &ack)), "absorbed");
    assert_eq!((bench.layer.len(), bench.layer.deadline()), (0, None));
}

/// Thousands of calls a second leave tens of thousands of completed transactions: all of them end, none is lost.
#[test]
fn fifty_thousand_transactions_live_and_end() {
    let mut bench = Bench::limited(100_000);
    for n in 0..50_000 {
        let message = numbered("OPTIONS", n, TO);
        let id = bench.accept(n as u32 / 5, &message);
        bench.respond(n as u32 / 5, id, &answer(&message, 200));
    }
    assert_eq!(bench.layer.len(), 50_000);
    assert_eq!(bench.sent().len(), 50_000);
    assert_eq!(word(&bench.receive(10_000, &numbered("OPTIONS", 49_999, TO))), "absorbed");
    bench.wake(31_999);
    assert_eq!(bench.layer.len(), 50_000);
    bench.wake(42_000);
    assert_eq!((bench.layer.len(), bench.layer.deadline()), (0, None));
}

/// Tickets never reach the transaction that took a dead one's place, nor does a service's own small ticket.
#[test]
fn an_old_ticket_fails_nothing_new() {
    let mut bench = Bench::udp();
    bench.request(0, &options());
    let (flow, _, old) = bench.sends().remove(0);
    bench.layer.send_failed(bench.at(0), old, flow, SendError::Refused);
    bench.happened();
    bench.request(1, &invite());
    for ticket in [old, Ticket(1), Ticket(2)] {
        bench.layer.send_failed(bench.at(2), ticket, flow, SendError::Refused);
    }
    assert_eq!(bench.happened(), []);
    assert_eq!(bench.layer.len(), 1);
}
