//! §8: our own side as a user agent: the requests we make ourselves (keep-alives, registrations at the redirect server),
//! and the answers we give ourselves.

use std::time::Duration;

use proto::sip::{Message, Method, Name};

use crate::desk::{
    A, B, Desk, PROXY, Sent, T1, invite, open, register, request, requests, response, statuses,
};

/// The OPTIONS that keeps a NAT open for a phone behind it.
fn own_request(desk: &mut Desk) -> Sent {
    desk.hear(B, register("bob").with("Contact", "<sip:bob@10.0.0.9:5060>"));
    requests(&desk.pass(Duration::from_secs(30)), "OPTIONS").remove(0)
}

fn keeping_alive() -> Desk {
    let mut config = open();
    config.keep_alive = Duration::from_secs(25);
    Desk::new(config)
}

fn refused(message: crate::desk::Draft) -> Message {
    response(&Desk::open().hear(A, message), A)
}

/// §8.1.1: a request of ours has To, From, CSeq, Call-ID, Max-Forwards and Via.
#[test]
fn our_own_requests_are_whole() {
    let options = own_request(&mut keeping_alive()).message;
    for name in [Name::To, Name::From, Name::CSeq, Name::CallId, Name::MaxForwards, Name::Via] {
        assert!(options.text(name).is_some(), "{name:?}");
    }
}

/// §8.1.1.2, §8.1.1.3: a request outside of dialogs has no tag in To, and one of ours in From.
#[test]
fn a_new_request_has_one_tag() {
    let options = own_request(&mut keeping_alive()).message;
    assert_eq!((options.to_tag(), options.from_tag().is_empty()), ("", false));
}

/// §8.1.1.4: a Call-ID is random, and another one for every request outside of dialogs but those to one registrar.
#[test]
fn two_phones_are_asked_under_two_names() {
    let mut desk = keeping_alive();
    let first = own_request(&mut desk);
    desk.hear(A, register("alice").with("Contact", "<sip:alice@10.0.0.8:5060>"));
    let sent = desk.pass(Duration::from_secs(30));
    let other =
        requests(&sent, "OPTIONS").into_iter().find(|sent| sent.flow.remote.to_string() == A).unwrap();
    assert_ne!(first.message.call_id(), other.message.call_id());
}

/// §8.1.1.5: the method in CSeq is the request's.
#[test]
fn cseq_names_the_method() {
    assert_eq!(own_request(&mut keeping_alive()).message.cseq().unwrap().method, Method::Options);
}

/// §8.1.1.7: branches begin with z9hG4bK and are never used again.
#[test]
fn no_branch_comes_twice() {
    let mut desk = keeping_alive();
    let first = own_request(&mut desk);
    desk.answer(&first, 200, &[]);
    let second = requests(&desk.pass(Duration::from_secs(30)), "OPTIONS").remove(0);
    let branch = |sent: &Sent| sent.message.via().unwrap().branch().to_owned();
    assert!(branch(&first).starts_with("z9hG4bK"));
    assert_ne!(branch(&first), branch(&second));
}

/// §8.1.3.1: no answer counts as 408: a phone that answers no keep-alive counts as away, and is not rung while another one is there.
#[test]
fn a_phone_that_never_answers_is_passed_over() {
    let mut desk = keeping_alive();
    desk.hear(B, register("bob").with("Contact", "<sip:bob@10.0.0.9:5060>;q=1.0").with("Expires", "7200"));
    desk.pass(Duration::from_secs(300));
    desk.hear(A, register("bob").with("Contact", &format!("<sip:bob@{A}>;q=0.1")).with("Call-ID", "r2"));
    let rung = requests(&desk.hear("192.0.2.77:5060", request("INVITE", "sip:bob@example.com")), "INVITE");
    assert_eq!((rung.len(), rung[0].flow.remote.to_string()), (1, A.to_owned()));
}

/// §8.1.3.2: a status we don't know counts as the x00 of its class: 199 as progress, 299 as a success, 499 as a failure.
#[test]
fn a_class_says_what_an_unknown_status_means() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    assert_eq!(statuses(&desk.answer(&there, 199, &[]), A), [199]);
    let ok = response(&desk.answer(&there, 299, &[("Contact", &format!("<sip:bob@{B}>"))]), A);
    assert_eq!(ok.status(), Some(299));
    assert_eq!(
        requests(&desk.hear(A, crate::desk::in_dialog("BYE", 2, &ok)), "BYE").len(),
        1,
        "a call is up"
    );
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let sent = desk.answer(&there, 499, &[]);
    assert_eq!((statuses(&sent, A), requests(&sent, "ACK").len()), (vec![499], 1));
}

/// §8.2.1: a method we don't know what to do with, about ourselves, is refused.
#[test]
fn nobody_sends_a_message_to_a_domain() {
    assert_eq!(refused(request("MESSAGE", "sip:example.com")).status(), Some(404));
}

/// §8.2.2.1: a request URI whose scheme we don't know is 416.
#[test]
fn an_unknown_scheme_is_416() {
    assert_eq!(refused(request("OPTIONS", "unknown:thing")).status(), Some(416));
}

/// §8.2.2.2: a request that comes a second way, with the same From tag, Call-ID and CSeq, is 482.
/// Not met: the rule is a user agent server's, and a proxy may spiral (§16.3). Where we answer ourselves (REGISTER, OPTIONS) it is served again: a client that got no answer and tries our other address (RFC 3263 §4.3) sends just that.
#[test]
fn a_merged_request_is_served_twice() {
    let mut desk = Desk::open();
    desk.hear(A, request("OPTIONS", "sip:example.com"));
    let other_way = request("OPTIONS", "sip:example.com").branch("z9hG4bKotherway");
    assert_eq!(statuses(&desk.hear(A, other_way), A), [200]);
}

/// §8.2.2.3: what a request requires and we lack is 420 with Unsupported; ACK and CANCEL are never refused for it.
#[test]
fn a_cancel_may_require_what_it_likes() {
    let refused = response(&Desk::open().hear(B, register("bob").with("Require", "x-a, x-b")), B);
    assert_eq!((refused.status(), refused.text(Name::Unsupported)), (Some(420), Some("x-a, x-b")));
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    desk.answer(&there, 180, &[]);
    assert_eq!(statuses(&desk.hear(A, invite().cancel().with("Require", "x-a")), A), [200]);
}

/// §8.2.6.1: a request other than INVITE gets no provisional answer of ours.
#[test]
fn only_an_invite_is_answered_provisionally() {
    let mut desk = Desk::open();
    let mut sent = desk.hear(A, request("MESSAGE", &format!("sip:bob@{B}")));
    sent.extend(desk.pass(10 * T1));
    assert_eq!(statuses(&sent, A), Vec::<u16>::new());
}

/// §8.2.6.2: an answer of ours has From, Call-ID, CSeq and all Vias as they came, in their order.
#[test]
fn an_answer_repeats_what_it_answers() {
    let asked =
        request("OPTIONS", "sip:example.com").adding("Via", "SIP/2.0/UDP 10.1.1.1;branch=z9hG4bKbelow");
    let answer = refused(asked);
    assert_eq!(answer.text(Name::From), Some("<sip:alice@example.com>;tag=caller"));
    assert_eq!((answer.call_id(), answer.text(Name::CSeq)), ("c1", Some("1 OPTIONS")));
    let hosts: Vec<&str> = answer.vias().flatten().map(|via| via.host).collect();
    assert_eq!(hosts, ["192.0.2.10", "10.1.1.1"]);
}

/// §8.2.6.2: To gets a tag unless it has one; 100 may do without.
#[test]
fn an_answer_has_a_tag() {
    assert!(!refused(request("OPTIONS", "sip:example.com")).to_tag().is_empty());
    let inside = request("BYE", "sip:example.com").with("To", "<sip:bob@example.com>;tag=theirs");
    assert_eq!(refused(inside).to_tag(), "theirs");
}

/// §8.2.6.2: the same request again gets the same tag.
#[test]
fn a_repeated_request_gets_the_same_tag() {
    let mut desk = Desk::open();
    let mut tag =
        || response(&desk.hear(A, request("INVITE", "sip:nobody@example.com")), A).to_tag().to_owned();
    assert_eq!(tag(), tag());
}

/// §8.2.7: a refusal of ours to somebody unknown is given without state, and alike each time.
#[test]
fn a_stateless_refusal_is_the_same_each_time() {
    let mut desk = Desk::open();
    let draft = invite().with("Max-Forwards", "0");
    let first = response(&desk.hear(A, &draft), A);
    assert_eq!(desk.proxy.status().transactions, 0);
    assert_eq!(response(&desk.hear(A, &draft), A).bytes(), first.bytes());
}

/// §11.2: OPTIONS about us is answered 200 with Allow and Accept.
#[test]
fn we_tell_what_we_can_do() {
    let ok = refused(request("OPTIONS", &format!("sip:{PROXY}")));
    assert_eq!(ok.status(), Some(200));
    assert!(ok.text(Name::Allow).unwrap().contains("INVITE") && ok.text(Name::Accept).is_some());
}
