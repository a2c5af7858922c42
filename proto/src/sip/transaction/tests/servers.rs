//! The server side: RFC 3261 §17.2, §9.2, §18.2; RFC 6026 §8.7.

use super::*;

fn ack(via: &str) -> Message {
    request("ACK", via, "<sip:bob@example.com>;tag=b")
}

#[test]
fn an_invite_nobody_answers_is_told_100_after_200_ms() {
    let mut bench = Bench::udp();
    bench.accept(0, &invite());
    assert_eq!(bench.wake(199).len(), 0);
    assert_eq!(bench.wake(200), ["SIP/2.0 100 Trying"]);
    assert_eq!(word(&bench.receive(500, &invite())), "absorbed");
    assert_eq!(bench.sent(), ["SIP/2.0 100 Trying"]);
}

#[test]
fn an_invite_that_is_answered_in_time_is_not_told_100() {
    let mut bench = Bench::udp();
    let id = bench.accept(0, &invite());
    bench.respond(199, id, &answer(&invite(), 180));
    assert_eq!(bench.wake(10_000), ["SIP/2.0 180 Ringing"]);
    bench.receive(10_001, &invite());
    assert_eq!(bench.sent(), ["SIP/2.0 180 Ringing"]);
}

#[test]
fn a_failure_is_repeated_up_to_every_t2_until_timer_h() {
    let mut bench = Bench::udp();
    let id = bench.accept(0, &invite());
    bench.respond(0, id, &answer(&invite(), 404));
    bench.sent();
    let times = bench.times_of_sending(31_999);
    assert_eq!(times, [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
    bench.wake(32_000);
    assert_eq!(bench.happened(), [Happened::NotAcknowledged(id)]);
    assert!(bench.layer.is_empty());
}

#[test]
fn a_failure_over_tcp_is_sent_once_and_still_waits_for_its_ack() {
    let mut bench = Bench::tcp();
    let id = bench.accept(0, &invite());
    bench.respond(0, id, &answer(&invite(), 404));
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.times_of_sending(31_999), [0_u128; 0]);
    assert_eq!(word(&bench.receive(31_999, &ack(VIA))), "absorbed");
    assert!(bench.layer.is_empty());
}

#[test]
fn an_acknowledged_failure_is_quiet_and_forgotten_after_timer_i() {
    let mut bench = Bench::udp();
    let id = bench.accept(0, &invite());
    bench.respond(0, id, &answer(&invite(), 404));
    bench.sent();
    assert_eq!(word(&bench.receive(100, &ack(VIA))), "absorbed");
    assert_eq!(word(&bench.receive(110, &ack(VIA))), "absorbed");
    assert_eq!(word(&bench.receive(120, &invite())), "absorbed");
    assert_eq!(bench.sent().len(), 0);
    bench.ends_at(5_100);
    assert_eq!(bench.happened(), []);
}

#[test]
fn an_accepted_invite_absorbs_its_repetitions_until_timer_l() {
    let mut bench = Bench::udp();
    let id = bench.accept(0, &invite());
    bench.respond(1000, id, &answer(&invite(), 200));
    bench.respond(1500, id, &answer(&invite(), 200));
    bench.respond(1600, id, &answer(&invite(), 500));
    assert_eq!(bench.sent(), ["SIP/2.0 200 OK"; 2]);
    assert_eq!(word(&bench.receive(2000, &invite())), "absorbed");
    assert_eq!(bench.sent().len(), 0);
    bench.ends_at(33_000);
}

#[test]
fn the_ack_of_a_2xx_is_told_whichever_branch_it_has() {
    let mut bench = Bench::udp();
    let id = bench.accept(0, &invite());
    bench.respond(1, id, &answer(&invite(), 200));
    assert_eq!(word(&bench.receive(2, &ack("SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bKnew"))), "ack");
    assert_eq!(word(&bench.receive(3, &ack(VIA))), "ack");
}

#[test]
fn another_request_repeated_gets_its_response_again_until_timer_j() {
    let mut bench = Bench::udp();
    let id = bench.accept(0, &options());
    assert_eq!(word(&bench.receive(500, &options())), "absorbed");
    assert_eq!(bench.sent().len(), 0);
    bench.respond(1000, id, &answer(&options(), 200));
    bench.receive(1500, &options());
    assert_eq!(bench.sent(), ["SIP/2.0 200 OK"; 2]);
    bench.ends_at(33_000);
}

#[test]
fn another_request_over_tcp_is_forgotten_with_its_response() {
    let mut bench = Bench::tcp();
    let id = bench.accept(0, &options());
    bench.respond(1, id, &answer(&options(), 200));
    assert_eq!(bench.sent().len(), 1);
    assert!(bench.layer.is_empty());
}

#[test]
fn a_request_nobody_ever_answers_does_not_stay() {
    let mut bench = Bench::udp();
    bench.accept(0, &options());
    bench.ends_at(32_000);

    let mut bench = Bench::udp();
    let id = bench.accept(0, &invite());
    bench.layer.ignore(bench.at(0), id);
    assert_eq!(word(&bench.receive(500, &invite())), "absorbed");
    assert_eq!(bench.wake(31_000).len(), 0);
    bench.ends_at(32_000);
}

#[test]
fn the_request_is_kept_until_the_final_response() {
    let mut bench = Bench::udp();
    let id = bench.accept(0, &invite());
    bench.respond(1, id, &answer(&invite(), 180));
    assert_eq!(bench.layer.server_request(id).unwrap().1.bytes(), invite().bytes());
    bench.respond(2, id, &answer(&invite(), 200));
    assert!(bench.layer.server_request(id).is_none());
}

#[test]
fn cancel_finds_its_invite_and_has_a_transaction_of_its_own() {
    let mut bench = Bench::udp();
    let id = bench.accept(0, &invite());
    let cancel = request("CANCEL", VIA, TO);
    match bench.receive(10, &cancel) {
        Received::Cancel { id: own, invite: Some(found), .. } => {
            assert_eq!(found, id);
            bench.respond(10, own, &answer(&cancel, 200));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(word(&bench.receive(20, &cancel)), "absorbed");
    assert_eq!(bench.sent(), ["SIP/2.0 200 OK"; 2]);
    let stranger = request("CANCEL", "SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bKtwo", TO);
    assert_eq!(word(&bench.receive(30, &stranger)), "cancel of nothing");
}

#[test]
fn sent_by_and_method_and_branch_tell_requests_apart() {
    let mut bench = Bench::udp();
    for other in [
        request("INVITE", VIA, TO),
        request("OPTIONS", VIA, TO),
        request("OPTIONS", "SIP/2.0/UDP 192.0.2.7:5071;branch=z9hG4bKone", TO),
        request("OPTIONS", "SIP/2.0/UDP 192.0.2.8:5070;branch=z9hG4bKone", TO),
        request("OPTIONS", "SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bKOne", TO),
    ] {
        assert_eq!(word(&bench.receive(0, &other)), "request");
    }
    let same = "SIP/2.0/UDP 192.0.2.7:5070;x=y;branch=z9hG4bKone";
    assert_eq!(word(&bench.receive(0, &request("OPTIONS", same, TO))), "absorbed");
}

#[test]
fn the_default_port_and_the_case_of_a_host_are_no_difference() {
    let mut bench = Bench::udp();
    bench.receive(0, &request("OPTIONS", "SIP/2.0/UDP Phone.example;branch=z9hG4bKone", TO));
    let same = request("OPTIONS", "SIP/2.0/UDP phone.EXAMPLE:5060;branch=z9hG4bKone", TO);
    assert_eq!(word(&bench.receive(1, &same)), "absorbed");
}

/// RFC 3261 §17.2.3 for RFC 2543 peers, whose branches are missing, constant, or a bare cookie.
#[test]
fn old_peers_are_matched_by_the_whole_request() {
    for branch in ["", ";branch=1", ";branch=z9hG4bK"] {
        let via = format!("SIP/2.0/UDP 192.0.2.7:5070{branch}");
        let mut bench = Bench::udp();
        let id = bench.accept(0, &request("INVITE", &via, TO));
        assert_eq!(word(&bench.receive(1, &request("INVITE", &via, TO))), "absorbed");
        assert_eq!(word(&bench.receive(1, &request("OPTIONS", &via, TO))), "request");
        bench.respond(2, id, &answer(&invite(), 404));
        assert_eq!(word(&bench.receive(3, &ack(&via))), "absorbed");
        assert_eq!(word(&bench.receive(4, &request("CANCEL", &via, TO))), "cancel of an invite");
        let next = request("INVITE", &via, TO).edit().set(Name::CSeq, "8 INVITE").finish();
        assert_eq!(word(&bench.receive(5, &next)), "request");
    }
}

#[test]
fn requests_come_up_with_their_source_in_the_via_and_are_answered_there() {
    let mut bench = Bench::udp();
    let natted = request("OPTIONS", "SIP/2.0/UDP 10.0.0.2:5060;rport;branch=z9hG4bKnat", TO);
    let Received::Request { id, message, .. } = bench.receive(0, &natted) else { panic!() };
    let via = "SIP/2.0/UDP 10.0.0.2:5060;rport=5070;branch=z9hG4bKnat;received=192.0.2.7";
    assert_eq!(message.values(Name::Via).next(), Some(via));
    bench.respond(1, id, &answer(&message, 200));
    let (flow, bytes, _) = bench.sends().remove(0);
    assert_eq!(flow.remote, addr(THEIRS));
    assert_eq!(Message::parse(bytes).unwrap().values(Name::Via).next(), Some(via));
}

#[test]
fn a_truthful_request_comes_up_byte_for_byte() {
    let mut bench = Bench::udp();
    let Received::Request { message, .. } = bench.receive(0, &options()) else { panic!() };
    assert_eq!(message.bytes(), options().bytes());
}

#[test]
fn a_response_goes_to_the_via_when_its_connection_is_gone() {
    let mut bench = Bench::tcp();
    let via = "SIP/2.0/TCP 10.0.0.2:5090;branch=z9hG4bKtcp";
    let around = Flow { remote: addr("192.0.2.7:5090"), id: FlowId(0), ..bench.flow };

    let id = bench.accept(0, &request("INVITE", via, TO));
    bench.respond(1, id, &answer(&invite(), 404));
    let (flow, _, ticket) = bench.sends().remove(0);
    assert_eq!(flow, bench.flow);
    bench.layer.send_failed(bench.at(2), ticket, flow, SendError::Closed);
    let (flow, _, ticket) = bench.sends().remove(0);
    assert_eq!(flow, around);
    bench.layer.send_failed(bench.at(3), ticket, flow, SendError::Refused);
    assert_eq!(bench.happened(), [Happened::NotAcknowledged(id)]);

    let id = bench.accept(4, &request("OPTIONS", via, TO));
    let gone = bench.flow;
    bench.layer.closed(&gone);
    bench.respond(5, id, &answer(&options(), 200));
    assert_eq!(bench.sends().remove(0).0, around);
}

/// A layer that answered OPTIONS and recalls it.
fn recalling(mut bench: Bench) -> Bench {
    let id = bench.accept(0, &options());
    let response = reply(&options(), 200, &bench.layer.stateless_tag(id)).finish();
    bench.layer.answer_and_recall(bench.at(0), id, response);
    assert!(bench.layer.is_empty(), "no transaction is left");
    bench
}

#[test]
fn what_can_be_answered_anew_comes_up_again_for_64_t1() {
    for (ms, taken) in [(1, "again"), (31_999, "again"), (32_000, "request")] {
        assert_eq!(word(&recalling(Bench::udp()).receive(ms, &options())), taken, "{ms} ms");
    }
}

#[test]
fn it_comes_up_with_the_tag_it_was_answered_with() {
    let mut bench = recalling(Bench::udp());
    let answer = Message::parse(bench.sends()[0].1.clone()).unwrap();
    let again = bench.receive(1, &options());
    assert!(matches!(again, Received::Again { tag, .. } if tag == answer.to_tag()));
}

#[test]
fn nothing_but_the_same_bytes_from_the_same_place_is_recalled() {
    let other = options().edit().set(Name::To, "<sip:carol@example.com>").finish();
    assert_eq!(word(&recalling(Bench::udp()).receive(1, &other)), "request");
    let mut elsewhere = recalling(Bench::udp());
    elsewhere.flow.remote.set_port(1);
    assert_eq!(word(&elsewhere.receive(1, &options())), "request");
}

#[test]
fn over_tcp_nothing_is_recalled() {
    assert_eq!(word(&recalling(Bench::tcp()).receive(1, &options())), "request");
}

/// Takes OPTIONS to be answered at once, `ms` after the first.
fn at_once(bench: &mut Bench, ms: u32) -> Option<super::super::AtOnce> {
    let now = bench.at(ms);
    bench.layer.at_once(now, &options())
}

/// A layer that answered OPTIONS at once and recalls it.
fn answered_at_once(mut bench: Bench) -> Bench {
    let (now, flow) = (bench.at(0), bench.flow);
    let first = at_once(&mut bench, 0).unwrap();
    assert!(!bench.layer.was_answered(first, &flow, &options()));
    bench.layer.recall(now, first, &flow, &options());
    assert!(bench.layer.is_empty(), "there is no transaction");
    bench
}

#[test]
fn what_was_answered_at_once_is_known_again_for_64_t1() {
    for (ms, known) in [(1, true), (31_999, true), (32_000, false)] {
        let mut bench = answered_at_once(Bench::udp());
        let (flow, again) = (bench.flow, at_once(&mut bench, ms).unwrap());
        assert_eq!(bench.layer.was_answered(again, &flow, &options()), known, "{ms} ms");
    }
}

#[test]
fn nothing_but_the_same_bytes_by_the_same_path_was_answered_at_once() {
    let mut bench = answered_at_once(Bench::udp());
    let (mut flow, again) = (bench.flow, at_once(&mut bench, 1).unwrap());
    let other = options().edit().set(Name::To, "<sip:carol@example.com>").finish();
    assert!(!bench.layer.was_answered(again, &flow, &other));
    flow.remote.set_port(1);
    assert!(!bench.layer.was_answered(again, &flow, &options()));
    let mut bench = answered_at_once(Bench::tcp());
    let (flow, again) = (bench.flow, at_once(&mut bench, 1).unwrap());
    assert!(!bench.layer.was_answered(again, &flow, &options()), "over TCP nothing is repeated");
}

#[test]
fn what_has_a_transaction_is_not_answered_at_once() {
    let mut bench = Bench::udp();
    let (now, flow) = (bench.at(0), bench.flow);
    let first = at_once(&mut bench, 0).unwrap();
    let id = bench.layer.keep(now, first, flow, options()).unwrap();
    assert!(at_once(&mut bench, 1).is_none());
    let response = reply(&options(), 403, &bench.layer.tag_at_once(first)).finish();
    bench.respond(1, id, &response);
    bench.sends();
    assert_eq!(word(&bench.receive(2, &options())), "absorbed");
    assert_eq!(bench.sends().len(), 1, "the answer that is kept is sent again");
}
