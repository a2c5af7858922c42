//! §16.7 to §16.12: responses, what can't be sent, CANCEL, and what belongs to a dialog.

use std::time::Duration;

use proto::node::SendError;
use proto::sip::{Message, Method, Name};

use super::{answered, branch, forked};
use crate::desk::{
    A, B, Desk, PROXY, Sent, T1, in_dialog, invite, open, request, requests, response, statuses, tcp,
};

/// §16.7 step 1: a response goes to the context that its transaction belongs to; one that belongs to none is not forwarded.
#[test]
fn a_response_to_nothing_goes_nowhere() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let mut stray = there.clone();
    let text =
        String::from_utf8_lossy(stray.message.bytes()).replace(&branch(&there.message), "z9hG4bKmadeup");
    stray.message = Message::parse(text.into()).unwrap();
    assert!(desk.answer(&stray, 200, &[]).is_empty());
}

/// An INVITE that a proxy forwarded before it was restarted; the callee rings on.
fn forwarded_in_a_former_life() -> (Desk, Sent) {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    desk.answer(&there, 180, &[]);
    desk.restart(open(), Duration::from_secs(5));
    (desk, there)
}

/// §16.7, §16.11: an answer to an INVITE that was forwarded before a restart finds the caller, its Vias but ours as they were, and the call is up.
#[test]
fn an_answer_to_a_former_life_finds_the_caller() {
    let (mut desk, there) = forwarded_in_a_former_life();
    let sent = desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]);
    let ok = response(&sent, A);
    assert_eq!((ok.vias().count(), ok.via().unwrap().branch()), (1, "z9hG4bKINVITE1"));
    assert_eq!(statuses(&desk.answer(&there, 200, &[]), A), [200], "a repetition as well");
    let acks = requests(&desk.hear(A, in_dialog("ACK", 1, &ok)), "ACK");
    assert_eq!(acks[0].flow.remote.to_string(), B);
    assert_eq!(desk.proxy.status().calls, 1);
}

/// §16.7 step 6, §17.1.1.3: a failure of an INVITE that nobody else was asked with before a restart goes back once; each copy is acknowledged.
#[test]
fn a_failure_of_a_former_life_finds_the_caller() {
    let (mut desk, there) = forwarded_in_a_former_life();
    for status in [&[486][..], &[]] {
        let sent = desk.answer(&there, 486, &[]);
        assert_eq!(statuses(&sent, A), status);
        let acks = requests(&sent, "ACK");
        assert_eq!((acks.len(), acks[0].flow.remote.to_string()), (1, B.to_owned()));
        assert_eq!(acks[0].message.via().unwrap().branch(), there.message.via().unwrap().branch());
    }
    assert_eq!(desk.proxy.status().calls, 0);
}

/// §16.7, RFC 6026 §8.9: nothing but such an answer is taken up: the way back is our own token in the dialog it was made for, and no Via's word.
#[test]
fn a_forged_answer_to_a_former_life_goes_nowhere() {
    let (mut desk, there) = forwarded_in_a_former_life();
    assert!(desk.answer(&there, 180, &[]).is_empty());
    let route = there.message.text(Name::RecordRoute).unwrap().to_owned();
    let own_via = there.message.values(Name::Via).next().unwrap().to_owned();
    let text = String::from_utf8_lossy(there.message.bytes()).into_owned();
    for (what, forged) in [
        ("no token", text.replace(&route, &format!("<sip:{PROXY};lr>"))),
        ("a token somebody else made", text.replace(&route[6..20], "AAAAAAAAAAAAAA")),
        ("another call's token", text.replace("Call-ID: c1", "Call-ID: c2")),
        ("another caller's token", text.replace("tag=caller", "tag=victim")),
        ("a Via that is not ours", text.replace(&own_via, "SIP/2.0/UDP 192.0.2.66:5060;branch=z9hG4bKx")),
        ("nobody below us", text.replace(&format!("SIP/2.0/UDP {A}"), &format!("SIP/2.0/UDP {A}x bad"))),
    ] {
        assert_ne!(forged, text, "{what}");
        let forged = Sent { message: Message::parse(forged.into()).unwrap(), ..there.clone() };
        for status in if what == "no token" { &[200][..] } else { &[200, 302, 486, 603] } {
            assert!(desk.answer(&forged, *status, &[]).is_empty(), "{what}: {status}");
        }
    }
    let proof = there.message.via().unwrap().params.get("back").unwrap().to_owned();
    let unproven = text.replacen(&format!(";back={proof}"), "", 1);
    let unproven = Sent { message: Message::parse(unproven.into()).unwrap(), ..there.clone() };
    for status in [302, 486, 603] {
        assert!(desk.answer(&unproven, status, &[]).is_empty(), "{status} without our token in our Via");
    }
    desk.pass(Duration::from_secs(600));
    assert!(desk.answer(&there, 200, &[]).is_empty(), "nobody rings for so long");
    assert_eq!(desk.proxy.status(), Default::default());
}

/// §16.7 step 2: a provisional response from the callee puts timer C off; 100 does not.
#[test]
fn ringing_puts_timer_c_off() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    desk.answer(&there, 180, &[]);
    desk.pass(Duration::from_secs(120));
    desk.answer(&there, 180, &[]);
    assert!(requests(&desk.pass(Duration::from_secs(180)), "CANCEL").is_empty());
    assert_eq!(requests(&desk.pass(Duration::from_secs(5)), "CANCEL").len(), 1);
}

/// §16.7 step 3: our Via is taken off before a response goes back.
#[test]
fn our_via_is_taken_off() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let back = response(&desk.answer(&there, 180, &[]), A);
    assert_eq!((back.vias().count(), back.via().unwrap().sent_by()), (1, A.to_owned()));
}

/// §16.7 step 4: 100 is not passed on.
#[test]
fn trying_goes_no_further() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    assert!(desk.answer(&there, 100, &[]).is_empty());
}

/// §16.7 step 5: any 2xx to an INVITE goes back at once, one after another final response too.
#[test]
fn every_success_goes_back() {
    let mut desk = Desk::open();
    let [one, two] = forked(&mut desk);
    assert_eq!(statuses(&desk.answer_tagged(&one, 200, "one", &[]), A), [200]);
    assert_eq!(statuses(&desk.answer_tagged(&two, 200, "two", &[]), A), [200]);
}

/// §16.7 step 5: provisional responses but 100 go back at once, from every branch.
#[test]
fn every_ringing_goes_back() {
    let mut desk = Desk::open();
    let [one, two] = forked(&mut desk);
    assert_eq!(statuses(&desk.answer_tagged(&one, 180, "one", &[]), A), [180]);
    assert_eq!(statuses(&desk.answer_tagged(&two, 183, "two", &[]), A), [183]);
}

/// §16.7 step 5: a 6xx ends the search: the other branches are cancelled, and it goes back when they are done.
#[test]
fn a_global_failure_ends_the_search() {
    let mut desk = Desk::open();
    let [one, two] = forked(&mut desk);
    desk.answer(&two, 180, &[]);
    let sent = desk.answer(&one, 603, &[]);
    assert_eq!(requests(&sent, "CANCEL").len(), 1);
    assert_eq!(statuses(&desk.answer(&two, 487, &[]), A), [603]);
}

/// §16.7 step 6: with no branch left, a 6xx goes before the lowest class; of a class, what helps the caller most.
#[test]
fn the_best_failure_goes_back() {
    for (one, two, best) in [
        (486, 404, [486, 404]),
        (500, 404, [404, 404]),
        (302, 404, [302, 302]),
        (408, 486, [486, 486]),
        (401, 486, [401, 401]),
    ] {
        let mut desk = Desk::open();
        let [first, second] = forked(&mut desk);
        assert!(statuses(&desk.answer(&first, one, &[]), A).is_empty(), "not while a branch is left");
        let back = statuses(&desk.answer(&second, two, &[]), A);
        assert!(best.contains(&back[0]), "{one} and {two}: {back:?}");
    }
}

/// §16.7 step 6: a 503 from a callee is not passed on, since we are not short ourselves.
#[test]
fn a_callee_that_is_short_does_not_make_us_short() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    assert_eq!(statuses(&desk.answer(&there, 503, &[("Retry-After", "60")]), A), [500]);
}

/// §16.7 step 6: when nobody has answered at all, the caller hears 408.
#[test]
fn silence_is_a_408() {
    let mut desk = Desk::open();
    desk.forwarded(invite());
    assert_eq!(statuses(&desk.pass(64 * T1), A).last(), Some(&408));
}

/// §16.7 step 7: a 401 or 407 goes back with the challenges of all branches.
#[test]
fn challenges_are_gathered() {
    let mut desk = Desk::open();
    let [one, two] = forked(&mut desk);
    desk.answer(&one, 407, &[("Proxy-Authenticate", "Digest realm=\"one\", nonce=\"1\"")]);
    let sent = desk.answer(&two, 401, &[("WWW-Authenticate", "Digest realm=\"two\", nonce=\"2\"")]);
    let back = response(&sent, A);
    assert!(matches!(back.status(), Some(401 | 407)));
    assert!(back.text(Name::ProxyAuthenticate).unwrap().contains("one"));
    assert!(back.text(Name::WwwAuthenticate).unwrap().contains("two"));
}

/// §16.7 step 8: where one Record-Route serves both sides, the caller's copy may say something else than the callee's.
#[test]
fn each_side_has_a_record_route_of_its_own() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let callees = there.message.text(Name::RecordRoute).unwrap().to_owned();
    let back = response(&desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]), A);
    let callers = back.text(Name::RecordRoute).unwrap();
    assert!(callers != callees && callers.contains(&format!("@{PROXY}")), "{callers}");
}

/// §16.7 step 9: what belongs to us is changed; everything else goes back as it came.
#[test]
fn a_response_goes_back_as_it_came() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let sent = desk.answer(&there, 486, &[("Warning", "399 b.example \"gone; fishing\""), ("X-Odd", "<<>>")]);
    let back = response(&sent, A);
    assert_eq!(back.text(Name::Warning), Some("399 b.example \"gone; fishing\""));
    assert!(String::from_utf8_lossy(back.bytes()).contains("X-Odd: <<>>\r\n"));
}

/// §16.7 step 10: once a 2xx or 6xx went back, branches still under way are cancelled, once they have rung.
#[test]
fn the_branches_that_lost_are_cancelled() {
    let mut desk = Desk::open();
    let [one, two] = forked(&mut desk);
    let sent = desk.answer(&one, 200, &[]);
    assert!(requests(&sent, "CANCEL").is_empty(), "§9.1: not before it has answered something");
    let cancel = requests(&desk.answer(&two, 180, &[]), "CANCEL");
    assert_eq!(cancel.len(), 1);
    assert_eq!(branch(&cancel[0].message), branch(&two.message));
}

/// §16.7 step 6: a response over a connection goes back by the connection its request came by.
#[test]
fn an_answer_takes_the_connection_of_its_request() {
    let mut desk = Desk::new(open());
    let came = tcp(A);
    let over_tcp = invite().with("Via", &format!("SIP/2.0/TCP {A};branch=z9hG4bKt1"));
    let there = requests(&desk.hear_by(came, over_tcp), "INVITE")[0].clone();
    let back = desk.answer(&there, 180, &[]);
    assert_eq!(back[0].flow, came);
}

/// §16.9: a request that can't be sent counts as answered 503; a caller hears no 503 of a callee's.
#[test]
fn a_callee_that_can_t_be_reached_fails_at_once() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let back = statuses(&desk.fails(&there, SendError::Unreachable), A);
    assert!(back.iter().all(|status| *status >= 400) && !back.is_empty(), "{back:?}");
}

/// §16.10: a CANCEL is answered 200 at once; its INVITE's branches are cancelled, and the INVITE is answered 487.
#[test]
fn a_cancel_is_answered_and_passed_on() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    desk.answer(&there, 180, &[]);
    let sent = desk.hear(A, invite().cancel());
    let answer = response(&sent, A);
    assert_eq!((answer.status(), answer.cseq().unwrap().method), (Some(200), Method::Cancel));
    assert_eq!(requests(&sent, "CANCEL").len(), 1);
    assert_eq!(statuses(&desk.answer(&there, 487, &[]), A), [487]);
}

/// §16.10: a CANCEL that fits no INVITE is forwarded as a stateless proxy does.
/// Not met: it is answered 481; we forward no INVITE statelessly, so we know no INVITE only if it is over or we were restarted.
#[test]
fn a_cancel_of_nothing_is_481() {
    let sent = Desk::open().hear(A, invite().cancel());
    assert_eq!(statuses(&sent, A), [481]);
    assert!(requests(&sent, "CANCEL").is_empty());
}

/// §16.11: the ACK of a 2xx is forwarded by its Route, without a transaction and with a branch of its own.
#[test]
fn the_acknowledgement_of_a_success_goes_end_to_end() {
    let mut desk = Desk::open();
    let ok = answered(&mut desk);
    let acks = requests(&desk.hear(A, in_dialog("ACK", 1, &ok)), "ACK");
    assert_eq!((acks.len(), acks[0].flow.remote.to_string()), (1, B.to_owned()));
    assert!(desk.pass(10 * T1).is_empty(), "nobody retransmits an ACK");
}

/// §16.12: requests of both parties in a dialog come by us, in either direction, and lose the Route that named us.
#[test]
fn a_dialog_comes_by_us_both_ways() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let route = there.message.text(Name::RecordRoute).unwrap().to_owned();
    desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]);
    let bye = request("BYE", &format!("sip:alice@{A}"))
        .with("Via", &format!("SIP/2.0/UDP {B};branch=z9hG4bKb"))
        .with("From", "<sip:bob@example.com>;tag=callee")
        .with("To", "<sip:alice@example.com>;tag=caller")
        .with("CSeq", "7 BYE")
        .with("Route", &route);
    let bye = requests(&desk.hear(B, bye), "BYE");
    assert_eq!((bye[0].flow.remote.to_string(), bye[0].message.routes().count()), (A.to_owned(), 0));
}
