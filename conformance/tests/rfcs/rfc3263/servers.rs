//! What the proxy asks for, and what it does with the answer: §§ 4, 4.3.

use proto::node::SendError;

use crate::desk::{A, B, C, Desk, T1, request, requests, statuses};

/// §4: a numeric host is not looked up.
#[test]
fn an_address_is_no_question() {
    let mut desk = Desk::open();
    desk.forwarded(request("INVITE", &format!("sip:bob@{B}")));
    assert!(desk.questions.is_empty());
}

/// §4.1: a name is looked up before the request leaves.
#[test]
fn a_name_is_asked_for() {
    let mut desk = Desk::open();
    let sent = desk.hear(A, request("INVITE", "sip:bob@carrier.example"));
    assert!(requests(&sent, "INVITE").is_empty());
    assert_eq!(desk.questions[0].1, "carrier.example");
    assert_eq!(requests(&desk.resolve(&[B]), "INVITE")[0].flow.remote.to_string(), B);
}

/// §4.3: a 503, a transport error or a timeout is a failure: the next server is tried, in a transaction of its own.
#[test]
fn the_next_server_is_tried_when_one_fails() {
    for failure in ["503", "unreachable", "silence"] {
        let mut desk = Desk::open();
        desk.hear(A, request("INVITE", "sip:bob@carrier.example"));
        let first = requests(&desk.resolve(&[B, C]), "INVITE").remove(0);
        let sent = match failure {
            "503" => desk.answer(&first, 503, &[]),
            "unreachable" => desk.fails(&first, SendError::Unreachable),
            _ => desk.pass(64 * T1),
        };
        let second = requests(&sent, "INVITE").into_iter().find(|sent| sent.flow.remote.to_string() == C);
        assert!(second.is_some(), "{failure}: {sent:?}");
    }
}

/// §4.3: any other final response is an answer, not a failure of the server.
#[test]
fn a_refusal_is_an_answer() {
    let mut desk = Desk::open();
    desk.hear(A, request("INVITE", "sip:bob@carrier.example"));
    let first = requests(&desk.resolve(&[B, C]), "INVITE").remove(0);
    let sent = desk.answer(&first, 486, &[]);
    assert_eq!((statuses(&sent, A), requests(&sent, "INVITE").len()), (vec![486], 0));
}

/// §4.3: when all have failed, the caller hears so.
#[test]
fn when_no_server_is_left_the_caller_hears_so() {
    let mut desk = Desk::open();
    desk.hear(A, request("INVITE", "sip:bob@carrier.example"));
    let first = requests(&desk.resolve(&[B]), "INVITE").remove(0);
    assert!(statuses(&desk.fails(&first, SendError::Refused), A).iter().any(|status| *status >= 400));
}

/// §4: a name that leads nowhere is 480.
#[test]
fn a_name_that_leads_nowhere_is_480() {
    let mut desk = Desk::open();
    desk.hear(A, request("INVITE", "sip:bob@nowhere.example"));
    assert_eq!(statuses(&desk.resolve(&[]), A), [480]);
}
