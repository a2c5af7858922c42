//! The client side: RFC 3261 §17.1, §9.1; RFC 6026 §8.4.

use super::*;

#[test]
fn an_unanswered_invite_is_sent_seven_times_and_given_up_after_64_t1() {
    let mut bench = Bench::udp();
    let id = bench.request(0, &invite());
    assert_eq!(bench.sent(), ["INVITE sip:bob@example.com SIP/2.0"]);
    assert_eq!(bench.times_of_sending(31_999), [500, 1500, 3500, 7500, 15_500, 31_500]);
    assert_eq!(bench.happened(), []);
    bench.wake(32_000);
    assert_eq!(bench.happened(), [Happened::TimedOut(id)]);
    assert!(bench.layer.is_empty());
    assert_eq!(bench.layer.deadline(), None);
}

#[test]
fn an_invite_over_tcp_is_sent_once() {
    let mut bench = Bench::tcp();
    let id = bench.request(0, &invite());
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.times_of_sending(32_000), [0_u128; 0]);
    assert_eq!(bench.happened(), [Happened::TimedOut(id)]);
}

#[test]
fn timer_a_fires_at_t1_and_not_before() {
    let mut bench = Bench::udp();
    bench.request(0, &invite());
    bench.sent();
    assert_eq!(bench.wake(499).len(), 0);
    assert_eq!(bench.wake(500).len(), 1);
    assert_eq!(bench.wake(1499).len(), 0);
    assert_eq!(bench.wake(1500).len(), 1);
}

#[test]
fn a_provisional_response_stops_an_invite_from_being_sent_again_and_from_timing_out() {
    let mut bench = Bench::udp();
    bench.request(0, &invite());
    bench.sent();
    assert_eq!(word(&bench.receive(100, &answer(&invite(), 100))), "response");
    assert_eq!(word(&bench.receive(200, &answer(&invite(), 180))), "response");
    assert_eq!(bench.wake(200_000).len(), 0);
    assert_eq!(bench.happened(), []);
    assert_eq!(bench.layer.len(), 1);
}

#[test]
fn a_failure_is_acknowledged_each_time_but_told_once_and_waited_out_by_timer_d() {
    let mut bench = Bench::udp();
    bench.request(0, &invite());
    bench.sent();
    let busy = answer(&invite(), 486);
    assert_eq!(word(&bench.receive(1000, &busy)), "response");
    assert_eq!(word(&bench.receive(1500, &busy)), "absorbed");
    assert_eq!(bench.sent(), ["ACK sip:bob@example.com SIP/2.0"; 2]);
    bench.ends_at(33_000);
}

#[test]
fn over_tcp_a_failure_ends_at_once() {
    let mut bench = Bench::tcp();
    bench.request(0, &invite());
    assert_eq!(word(&bench.receive(10, &answer(&invite(), 486))), "response");
    assert_eq!(bench.sent().len(), 2);
    assert!(bench.layer.is_empty());
}

#[test]
fn the_ack_of_a_failure_is_made_of_the_invite_and_the_response() {
    let mut bench = Bench::udp();
    bench.request(0, &invite());
    bench.sent();
    bench.receive(10, &answer(&invite(), 404));
    let (flow, bytes, _) = bench.sends().remove(0);
    let ack = Message::parse(bytes).unwrap();
    assert_eq!(flow, bench.flow);
    assert_eq!(ack.request_uri(), "sip:bob@example.com");
    assert_eq!(ack.values(Name::Via).collect::<Vec<_>>(), [VIA]);
    assert_eq!(ack.values(Name::Route).collect::<Vec<_>>(), ["<sip:a.example;lr>", "<sip:b.example;lr>"]);
    assert_eq!((ack.from_tag(), ack.to_tag(), ack.call_id()), ("a", "b", "call-1"));
    assert_eq!(ack.text(Name::CSeq), Some("7 ACK"));
    assert_eq!(ack.body(), b"");
}

#[test]
fn every_2xx_is_told_until_timer_m_ends_and_is_never_acknowledged_here() {
    let mut bench = Bench::udp();
    bench.request(0, &invite());
    bench.sent();
    let ok = answer(&invite(), 200);
    assert_eq!(word(&bench.receive(1000, &ok)), "response");
    assert_eq!(word(&bench.receive(1500, &ok)), "response");
    assert_eq!(word(&bench.receive(1600, &answer(&invite(), 180))), "absorbed");
    assert_eq!(bench.sent().len(), 0);
    bench.ends_at(33_000);
    assert_eq!(word(&bench.receive(33_001, &ok)), "stray");
}

#[test]
fn other_requests_double_up_to_t2_and_go_on_every_t2_after_a_provisional() {
    let mut bench = Bench::udp();
    let id = bench.request(0, &options());
    bench.sent();
    assert_eq!(bench.times_of_sending(3_600), [500, 1500, 3500]);
    bench.receive(4000, &answer(&options(), 183));
    assert_eq!(bench.times_of_sending(31_999), [7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
    bench.wake(32_000);
    assert_eq!(bench.happened(), [Happened::TimedOut(id)]);
}

#[test]
fn a_final_response_to_another_request_is_told_once_and_waited_out_by_timer_k() {
    let mut bench = Bench::udp();
    bench.request(0, &options());
    let ok = answer(&options(), 200);
    assert_eq!(word(&bench.receive(1000, &ok)), "response");
    assert_eq!(word(&bench.receive(1100, &ok)), "absorbed");
    bench.ends_at(6_000);
}

#[test]
fn what_is_forgotten_once_it_is_answered_leaves_nothing_and_before_that_stays() {
    let mut bench = Bench::udp();
    let id = bench.request(0, &options());
    bench.layer.forget_answered(id);
    assert_eq!(bench.layer.len(), 1, "it has no answer yet");
    assert_eq!(word(&bench.receive(100, &answer(&options(), 200))), "response");
    bench.layer.forget_answered(id);
    assert!(bench.layer.is_empty());
    assert_eq!(bench.layer.deadline(), None);
    assert_eq!(word(&bench.receive(200, &answer(&options(), 200))), "stray");
}

#[test]
fn a_response_of_another_method_or_branch_is_a_stray() {
    let mut bench = Bench::udp();
    bench.request(0, &invite());
    assert_eq!(word(&bench.receive(1, &answer(&options(), 200))), "stray");
    let other = request("INVITE", "SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bKtwo", TO);
    assert_eq!(word(&bench.receive(1, &answer(&other, 200))), "stray");
}

#[test]
fn a_request_that_did_not_leave_fails_with_the_reason() {
    let mut bench = Bench::udp();
    let id = bench.request(0, &invite());
    let (flow, _, ticket) = bench.sends().remove(0);
    bench.layer.send_failed(bench.at(1), ticket, flow, SendError::Refused);
    assert_eq!(bench.happened(), [Happened::Failed(id, SendError::Refused)]);
    assert!(bench.layer.is_empty());
}

#[test]
fn an_error_of_the_path_fails_what_waits_on_it_and_nothing_else() {
    let mut bench = Bench::udp();
    let id = bench.request(0, &options());
    let elsewhere = Flow::udp(addr(OURS), addr("192.0.2.8:5060"));
    let other = request("OPTIONS", "SIP/2.0/UDP 203.0.113.1;branch=z9hG4bKother", TO);
    bench.layer.request(bench.at(0), elsewhere, other);
    bench.layer.send_failed(bench.at(1), Ticket(0), bench.flow, SendError::Refused);
    bench.layer.send_failed(bench.at(1), Ticket(77), bench.flow, SendError::Refused);
    bench.wake(21);
    assert_eq!(bench.happened(), [Happened::Failed(id, SendError::Refused)]);
    assert_eq!(bench.layer.len(), 1);
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let mut bench = Bench::udp();
    let id = bench.request(0, &invite());
    bench.sent();
    bench.layer.cancel(bench.at(100), id, Some("SIP;cause=200"));
    assert_eq!(bench.sent().len(), 0);
    bench.receive(200, &answer(&invite(), 100));
    let (flow, bytes, _) = bench.sends().remove(0);
    let cancel = Message::parse(bytes).unwrap();
    assert_eq!((flow, cancel.method().as_str()), (bench.flow, "CANCEL"));
    assert_eq!(cancel.values(Name::Via).collect::<Vec<_>>(), [VIA]);
    assert_eq!(cancel.values(Name::Route).count(), 2);
    assert_eq!((cancel.text(Name::CSeq), cancel.to_tag()), (Some("7 CANCEL"), ""));
    assert_eq!(cancel.text(Name::Reason), Some("SIP;cause=200"));
}

#[test]
fn cancel_leaves_once_and_its_answer_is_nobodys_business() {
    let mut bench = Bench::udp();
    let id = bench.request(0, &invite());
    bench.receive(100, &answer(&invite(), 180));
    bench.sent();
    bench.layer.cancel(bench.at(200), id, None);
    bench.layer.cancel(bench.at(201), id, None);
    bench.receive(250, &answer(&invite(), 183));
    assert_eq!(bench.sent(), ["CANCEL sip:bob@example.com SIP/2.0"]);
    let cancel = request("CANCEL", VIA, TO);
    assert_eq!(word(&bench.receive(300, &answer(&cancel, 200))), "absorbed");
    assert_eq!(word(&bench.receive(310, &answer(&invite(), 487))), "response");
    assert_eq!(bench.sent(), ["ACK sip:bob@example.com SIP/2.0"]);
}

#[test]
fn a_cancelled_invite_without_a_final_response_is_given_up_after_64_t1() {
    let mut bench = Bench::udp();
    let id = bench.request(0, &invite());
    bench.receive(100, &answer(&invite(), 180));
    bench.layer.cancel(bench.at(1000), id, None);
    bench.wake(32_999);
    assert_eq!(bench.happened(), []);
    bench.wake(33_000);
    assert_eq!(bench.happened(), [Happened::TimedOut(id)]);
    assert!(bench.layer.is_empty());
}

#[test]
fn a_2xx_that_crosses_the_cancel_is_told() {
    let mut bench = Bench::udp();
    let id = bench.request(0, &invite());
    bench.receive(100, &answer(&invite(), 180));
    bench.layer.cancel(bench.at(1000), id, None);
    assert_eq!(word(&bench.receive(1001, &answer(&invite(), 200))), "response");
    bench.layer.cancel(bench.at(1002), id, None);
    assert_eq!(bench.happened(), []);
}

#[test]
fn cancelling_what_was_never_provisionally_answered_sends_nothing() {
    let mut bench = Bench::udp();
    let id = bench.request(0, &invite());
    bench.sent();
    bench.layer.cancel(bench.at(10), id, None);
    assert_eq!(word(&bench.receive(20, &answer(&invite(), 603))), "response");
    assert_eq!(bench.sent(), ["ACK sip:bob@example.com SIP/2.0"]);
}
