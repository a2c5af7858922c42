//! §17: transactions, as a proxy has them: a server transaction towards the caller, a client transaction towards the
//! callee. Every timer is asked at its moment and a millisecond before it.

use std::time::Duration;

use proto::node::SendError;
use proto::sip::{Message, Method, Name};

use crate::desk::{
    A, B, Desk, Draft, Sent, T1, T2, T4, TICK, invite, request, requests, response, statuses, tcp,
};

fn message() -> Draft {
    request("MESSAGE", &format!("sip:bob@{B}"))
}

/// After how many milliseconds each of these requests left, the first at 0, for a while.
fn moments(desk: &mut Desk, method: &str, span: Duration) -> Vec<u128> {
    let mut moments = vec![0];
    let steps = span.as_millis() / 100;
    for step in 1..=steps {
        let sent = desk.pass(Duration::from_millis(100));
        moments.extend(requests(&sent, method).iter().map(|_| step * 100));
    }
    moments
}

/// The ACK of what the caller got.
fn ack(response: &Message) -> Draft {
    let draft =
        invite().with("To", response.text(Name::To).unwrap()).with("CSeq", "1 ACK").without("Contact");
    draft.method("ACK")
}

/// A failed call: the caller has its answer, and has not acknowledged it.
fn failed(desk: &mut Desk) -> (Sent, Message) {
    let there = desk.forwarded(invite());
    let sent = desk.answer(&there, 486, &[]);
    (there, response(&sent, A))
}

/// §17.1.1.2: timer A: an INVITE over UDP is sent again after T1, and then after twice the time, for ever doubled.
#[test]
fn an_invite_is_repeated_with_doubled_pauses() {
    let mut desk = Desk::open();
    desk.forwarded(invite());
    assert_eq!(moments(&mut desk, "INVITE", 32 * T1), [0, 500, 1500, 3500, 7500, 15_500]);
}

/// §17.1.1.2: over a reliable transport nothing is repeated.
#[test]
fn a_stream_repeats_nothing() {
    let mut desk = Desk::open();
    desk.forwarded(request("INVITE", &format!("sip:bob@{B};transport=tcp")));
    assert_eq!(moments(&mut desk, "INVITE", 32 * T1), [0]);
}

/// §17.1.1.2: timer B: without any answer the INVITE is given up after 64·T1.
#[test]
fn an_invite_nobody_answers_is_given_up() {
    let mut desk = Desk::open();
    desk.forwarded(invite());
    assert!(!statuses(&desk.pass(64 * T1 - TICK), A).contains(&408));
    assert!(statuses(&desk.pass(TICK), A).contains(&408));
}

/// §17.1.1.2: any provisional answer ends the repetition, and the wait of timer B.
#[test]
fn a_provisional_answer_ends_the_repetition() {
    for status in [100, 180] {
        let mut desk = Desk::open();
        let there = desk.forwarded(invite());
        desk.answer(&there, status, &[]);
        let sent = desk.pass(70 * T1);
        assert!(requests(&sent, "INVITE").is_empty() && !statuses(&sent, A).contains(&408), "{status}");
    }
}

/// §17.1.1.3: the ACK of a failure has the INVITE's request URI, Call-ID, From, Route and topmost Via, the answer's To, and the INVITE's CSeq number.
#[test]
fn a_failure_is_acknowledged_in_the_same_transaction() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let ack = requests(&desk.answer(&there, 486, &[]), "ACK").remove(0).message;
    assert_eq!(ack.request_uri(), there.message.request_uri());
    assert_eq!(ack.values(Name::Via).collect::<Vec<_>>(), [there.message.values(Name::Via).next().unwrap()]);
    assert_eq!((ack.call_id(), ack.from_tag(), ack.to_tag()), ("c1", "caller", "callee"));
    assert_eq!((ack.cseq().unwrap().number, ack.cseq().unwrap().method), (1, Method::Ack));
    assert_eq!(ack.body(), b"");
}

/// §17.1.1.2: timer D: a failure that comes again within 32 s is acknowledged again and not passed on.
#[test]
fn a_failure_that_comes_again_is_acknowledged_again() {
    let mut desk = Desk::open();
    let (there, _) = failed(&mut desk);
    desk.pass(Duration::from_secs(31));
    let sent = desk.answer(&there, 486, &[]);
    assert_eq!((requests(&sent, "ACK").len(), statuses(&sent, A)), (1, vec![]));
    desk.pass(Duration::from_secs(2));
    assert!(desk.answer(&there, 486, &[]).is_empty(), "then it is forgotten");
}

/// §17.1.2.2: timer E: another request is sent again after T1, doubled up to T2.
#[test]
fn another_request_is_repeated_at_most_every_t2() {
    let mut desk = Desk::open();
    desk.hear(A, message());
    assert_eq!(moments(&mut desk, "MESSAGE", 32 * T1), [0, 500, 1500, 3500, 7500, 11_500, 15_500]);
}

/// §17.1.2.2: once it was answered provisionally, a request is sent again every T2.
#[test]
fn a_request_that_is_being_worked_on_is_repeated_every_t2() {
    let mut desk = Desk::open();
    let there = requests(&desk.hear(A, message()), "MESSAGE").remove(0);
    desk.answer(&there, 100, &[]);
    let moments = moments(&mut desk, "MESSAGE", 4 * T2);
    let pauses: Vec<u128> = moments.windows(2).map(|pair| pair[1] - pair[0]).skip(1).collect();
    assert!(!pauses.is_empty() && pauses.iter().all(|pause| *pause == T2.as_millis()), "{moments:?}");
}

/// §17.1.2.2: timer F: without a final answer a request is given up after 64·T1.
#[test]
fn another_request_is_given_up_after_64_t1() {
    let mut desk = Desk::open();
    desk.hear(A, message());
    desk.pass(64 * T1 - TICK);
    assert_eq!(desk.proxy.status().transactions, 2);
    desk.pass(TICK);
    assert!(desk.proxy.status().transactions < 2);
}

/// §17.1.2.2: timer K: a final answer that comes again within T4 is absorbed.
#[test]
fn a_final_answer_that_comes_again_is_absorbed() {
    let mut desk = Desk::open();
    let there = requests(&desk.hear(A, message()), "MESSAGE").remove(0);
    assert_eq!(statuses(&desk.answer(&there, 200, &[]), A), [200]);
    desk.pass(T4 - TICK);
    assert!(desk.answer(&there, 200, &[]).is_empty());
}

/// §17.1.3: a response belongs to a transaction by the branch of its topmost Via and the method in its CSeq.
#[test]
fn an_answer_to_another_method_belongs_to_another_transaction() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let text = String::from_utf8_lossy(there.message.bytes())
        .replace("INVITE ", "OPTIONS ")
        .replace("1 INVITE", "1 OPTIONS");
    let other = Sent { message: Message::parse(text.into()).unwrap(), ..there };
    assert!(desk.answer(&other, 200, &[]).is_empty());
}

/// §17.1.4: a request that can't leave is told at once, not after timer B.
#[test]
fn what_can_t_leave_fails_at_once() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    assert!(statuses(&desk.fails(&there, SendError::Refused), A).iter().any(|status| *status >= 400));
}

/// §17.2.1: an INVITE is answered 100 within 200 ms unless something else was by then.
#[test]
fn an_invite_is_answered_100_in_time() {
    let mut desk = Desk::open();
    let mut sent = desk.hear(A, invite());
    sent.extend(desk.pass(Duration::from_millis(200)));
    assert_eq!(statuses(&sent, A), [100]);
}

/// §17.2.1: an INVITE that comes again is answered by the last provisional response, and not forwarded again.
#[test]
fn a_repeated_invite_gets_the_last_answer() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    desk.answer(&there, 183, &[]);
    let sent = desk.hear(A, invite());
    assert_eq!((statuses(&sent, A), requests(&sent, "INVITE").len()), (vec![183], 0));
}

/// §17.2.1: timer G: a failure is sent again over UDP after T1, doubled up to T2, until it is acknowledged.
#[test]
fn a_failure_is_repeated_until_it_is_acknowledged() {
    let mut desk = Desk::open();
    let (_, answer) = failed(&mut desk);
    assert!(statuses(&desk.pass(T1 - TICK), A).is_empty());
    assert_eq!(statuses(&desk.pass(TICK), A), [486]);
    assert_eq!(statuses(&desk.pass(2 * T1), A), [486]);
    desk.hear(A, ack(&answer));
    assert!(statuses(&desk.pass(10 * T1), A).is_empty());
}

/// §17.2.1: timer H: a failure nobody acknowledges is given up after 64·T1.
#[test]
fn a_failure_nobody_acknowledges_is_given_up() {
    let mut desk = Desk::open();
    failed(&mut desk);
    assert!(!statuses(&desk.pass(64 * T1), A).is_empty());
    desk.pass(T4 + TICK);
    assert_eq!(desk.proxy.status().transactions, 0);
}

/// §17.2.1: the ACK of a failure is absorbed, and not forwarded.
#[test]
fn the_acknowledgement_of_a_failure_goes_no_further() {
    let mut desk = Desk::open();
    let (_, answer) = failed(&mut desk);
    assert!(desk.hear(A, ack(&answer)).is_empty());
}

/// §17.2.1: timer I: for T4 after the ACK, repetitions of INVITE and ACK are absorbed.
#[test]
fn what_is_late_after_the_acknowledgement_is_absorbed() {
    let mut desk = Desk::open();
    let (_, answer) = failed(&mut desk);
    desk.hear(A, ack(&answer));
    desk.pass(T4 - TICK);
    assert!(desk.hear(A, ack(&answer)).is_empty());
    assert!(requests(&desk.hear(A, invite()), "INVITE").is_empty());
}

/// §17.2.2: another request that comes again is answered by the last response, and not forwarded again.
#[test]
fn a_repeated_request_gets_the_final_answer_again() {
    let mut desk = Desk::open();
    let there = requests(&desk.hear(A, message()), "MESSAGE").remove(0);
    assert!(desk.hear(A, message()).is_empty(), "nothing to say yet");
    desk.answer(&there, 202, &[]);
    let again = desk.hear(A, message());
    assert_eq!((statuses(&again, A), requests(&again, "MESSAGE").len()), (vec![202], 0));
}

/// §17.2.2: timer J: the final response is kept for 64·T1 over UDP.
#[test]
fn a_final_answer_is_kept_for_those_who_missed_it() {
    let mut desk = Desk::open();
    let there = requests(&desk.hear(A, message()), "MESSAGE").remove(0);
    desk.answer(&there, 202, &[]);
    desk.pass(64 * T1 - TICK);
    assert_eq!(statuses(&desk.hear(A, message()), A), [202]);
    desk.pass(TICK);
    assert_eq!(requests(&desk.hear(A, message()), "MESSAGE").len(), 1, "then it is a new request");
}

/// §17.2.2: over a reliable transport nothing is kept.
#[test]
fn a_stream_keeps_no_answers() {
    let mut desk = Desk::open();
    let over_tcp = message().with("Via", &format!("SIP/2.0/TCP {A};branch=z9hG4bKt1"));
    let there = requests(&desk.hear_by(tcp(A), over_tcp), "MESSAGE").remove(0);
    desk.answer(&there, 202, &[]);
    desk.pass(T4 + TICK);
    assert_eq!(desk.proxy.status().transactions, 0);
}

/// §17.2.3: a request belongs to a transaction by branch, sent-by and method.
#[test]
fn another_branch_sent_by_or_method_is_another_transaction() {
    let mut desk = Desk::open();
    desk.hear(A, message());
    let others = [
        message().branch("z9hG4bKother"),
        message().with("Via", "SIP/2.0/UDP 192.0.2.10:5999;branch=z9hG4bKMESSAGE1"),
        message().method("INFO").with("CSeq", "1 INFO"),
    ];
    for other in others {
        let sent = desk.hear(A, other);
        assert_eq!(sent.iter().filter(|sent| sent.message.is_request()).count(), 1);
    }
}

/// §17.2.3: the ACK of a failure belongs to the INVITE's transaction.
#[test]
fn an_acknowledgement_belongs_to_its_invite() {
    let mut desk = Desk::open();
    let (_, answer) = failed(&mut desk);
    desk.hear(A, ack(&answer));
    assert!(statuses(&desk.pass(T2), A).is_empty(), "the failure is not repeated any more");
}

/// §17.2.3: without the cookie z9hG4bK a request is matched by RFC 2543's rules: URI, tags, Call-ID, CSeq, topmost Via.
#[test]
fn a_request_of_the_old_kind_is_matched_as_a_whole() {
    let mut desk = Desk::open();
    let old = |branch: &str| message().with("Via", &format!("SIP/2.0/UDP {A};branch={branch}"));
    desk.hear(A, old("1"));
    assert!(requests(&desk.hear(A, old("1")), "MESSAGE").is_empty(), "a repetition");
    let other = old("1").with("CSeq", "2 MESSAGE");
    assert_eq!(requests(&desk.hear(A, other), "MESSAGE").len(), 1);
}

/// §17.2.3: overlapping private networks: two callers with one branch and sent-by are told apart.
#[test]
fn two_phones_that_count_alike_are_two() {
    let mut desk = Desk::open();
    let one = message().with("Via", "SIP/2.0/UDP 192.168.1.10;branch=z9hG4bK1");
    desk.hear(A, &one);
    let other = one.with("Call-ID", "c2").with("From", "<sip:carol@example.com>;tag=carol");
    assert_eq!(requests(&desk.hear("192.0.2.77:5060", other), "MESSAGE").len(), 1);
}

/// §17.2.4: an answer that can't be sent costs no other call.
#[test]
fn a_caller_that_is_gone_takes_nobody_along() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let sent = desk.answer(&there, 180, &[]);
    desk.fails(&sent[0], SendError::Unreachable);
    let other = invite().branch("z9hG4bKother").with("Call-ID", "c2");
    assert_eq!(desk.forwarded(other).flow.remote.to_string(), B);
}
