//! Relay and redirect server are asked before anybody is called.

use super::*;

/// SYSTEMS §1, acceptance 1a: the claim, step by step, with what each message says.
#[test]
fn the_relay_is_asked_before_the_redirect_server_and_both_before_the_callee() {
    let mut bench = Bench::new(claim());
    // 2–5: the INVITE's source is not what its SDP names: relay INVITE, and nothing else.
    let sent = bench.from(A, &offer("sip:bob@example.com", "10.0.0.1"));
    let relay_invite = one(&sent, RELAY, Method::Invite);
    assert_eq!(sent.len(), 1);
    let ask = Ask::read(&relay_invite.message).unwrap();
    assert_eq!((ask.leg, ask.peer), (Side::Caller, Some(address(A).ip())));
    assert_eq!(key().check(&relay_invite.message, BIRTH), Proof::Proven);
    assert_eq!(decided(&bench)[0].rule, Rule::UnreachableAddress);

    // 6–7: the relay's resource is known: ACK, then redirect INVITE, without SDP.
    let sent = relayed(&mut bench, &relay_invite);
    one(&sent, RELAY, Method::Ack);
    let redirect_invite = one(&sent, REDIRECT, Method::Invite);
    assert!(to(&sent, P2).is_empty());
    assert_eq!(redirect_invite.message.request_uri(), "sip:bob@example.com");
    assert_eq!(redirect_invite.message.body(), b"");

    // 8–9: 302 names P2: the forwarding INVITE goes there, its SDP naming the relay, the request URI still bob's.
    let sent = bench.answer(&redirect_invite, 302, "Contact: <sip:203.0.113.2:5060;transport=udp;lr>", "");
    let forwarded = one(&sent, P2, Method::Invite);
    assert_eq!(forwarded.message.request_uri(), "sip:bob@example.com");
    let body = std::str::from_utf8(forwarded.message.body()).unwrap();
    assert!(body.contains(RELAYED) && !body.contains("10.0.0.1"), "{body}");
    let verdict = format!("{};peer={};media=10.0.0.1:4000", ask.session, address(A).ip());
    assert_eq!(forwarded.message.text(Name::RelaySession), Some(&*verdict));
    assert_eq!(key().check(&forwarded.message, BIRTH), Proof::Proven);

    // 10–11: P2's OK goes to the relay, and A's OK names only the relay.
    let sent = bench.answer(&forwarded, 200, CALLEE, &crlf(&sdp("198.51.100.20", 6000)));
    assert!(to(&sent, A).is_empty());
    let second = one(&sent, RELAY, Method::Invite);
    assert_eq!(Ask::read(&second.message).unwrap().leg, Side::Callee);
    assert!(!second.message.to_tag().is_empty());
    let sent = relayed(&mut bench, &second);
    let ok = to(&sent, A)[0].clone();
    let body = std::str::from_utf8(ok.body()).unwrap();
    assert!(body.contains(RELAYED) && !body.contains("198.51.100.20"), "{body}");
    assert!(ok.text(Name::RelaySession).is_none() && ok.text(Name::NodeAuth).is_none());
    let addresses = [address("203.0.113.50:20002"), address("203.0.113.50:20000")];
    assert_eq!(decided(&bench).last().unwrap().relay, Some(addresses));

    // 12: BYE frees the session.
    assert_eq!(bench.status().relay_sessions, 1);
    let sent = bench.from(A, &in_dialog("BYE", 2, &ok));
    let bye = one(&sent, P2, Method::Bye);
    let sent = bench.answer(&bye, 200, "", "");
    let relay_bye = one(&sent, RELAY, Method::Bye);
    bench.answer(&relay_bye, 200, "", "");
    assert_eq!(bench.status().relay_sessions, 0);
}

/// 1c: nothing to relay, nobody asked.
#[test]
fn two_public_parties_need_no_relay() {
    let mut bench = Bench::new(Config { relays: vec![relay("r", RELAY)], anchor: Anchor::Auto, ..plain() });
    let sent = bench.from(A, &offer("sip:b@example.com", "192.0.2.10"));
    assert!(to(&sent, RELAY).is_empty());
    let forwarded = one(&sent, B, Method::Invite);
    assert!(std::str::from_utf8(forwarded.message.body()).unwrap().contains("192.0.2.10"));
    assert_eq!(decided(&bench)[0].rule, Rule::BothPublic);
}

/// 1f: 404 from the redirect server, and silence.
#[test]
fn a_redirect_server_that_knows_nobody_or_nothing_frees_the_relay() {
    for (status, seen) in [(Some(404), 404), (None, 408)] {
        let mut bench = Bench::new(claim());
        let sent = bench.from(A, &offer("sip:bob@example.com", "10.0.0.1"));
        let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
        let redirect_invite = one(&sent, REDIRECT, Method::Invite);
        let sent = match status {
            Some(status) => bench.answer(&redirect_invite, status, "", ""),
            None => bench.pass(Duration::from_secs(4)),
        };
        assert_eq!(to(&sent, A).last().unwrap().status(), Some(seen));
        bench.answer(&one(&sent, RELAY, Method::Bye), 200, "", "");
        assert_eq!((bench.status().relay_sessions, bench.status().calls), (0, 0));
    }
}

/// §1 step 8: an answer naming ourselves without a local binding is 404.
#[test]
fn a_redirect_to_ourselves_is_a_404() {
    let mut bench = Bench::new(claim());
    let sent = bench.from(A, &offer("sip:bob@example.com", "192.0.2.10"));
    let redirect_invite = one(&sent, REDIRECT, Method::Invite);
    let sent = bench.answer(&redirect_invite, 302, &format!("Contact: <sip:{PROXY};lr>"), "");
    assert_eq!(to(&sent, A)[0].status(), Some(404));
}

/// 1g: exhaustion is a 503 with Retry-After at the front door.
#[test]
fn an_exhausted_relay_is_a_503_with_retry_after() {
    let mut bench = Bench::new(always());
    let sent = bench.from(A, &offer("sip:b@example.com", "10.0.0.1"));
    let sent = bench.answer(&one(&sent, RELAY, Method::Invite), 503, "Retry-After: 7", "");
    let refused = to(&sent, A)[0];
    assert_eq!((refused.status(), refused.text(Name::RetryAfter)), (Some(503), Some("7")));
    assert!(to(&sent, B).is_empty());
    assert_eq!((bench.status().relay_sessions, bench.status().calls), (0, 0));
}

#[test]
fn another_relay_is_asked_when_the_first_is_short_or_silent() {
    for silent in [false, true] {
        let mut bench =
            Bench::new(Config { relays: vec![relay("1", RELAY), relay("2", RELAY_2)], ..always() });
        let sent = bench.from(A, &offer("sip:b@example.com", "10.0.0.1"));
        let first = sent.iter().find(|s| s.message.method() == Method::Invite).unwrap().clone();
        let sent =
            if silent { bench.pass(Duration::from_secs(4)) } else { bench.answer(&first, 503, "", "") };
        let other = if first.flow.remote == address(RELAY) { RELAY_2 } else { RELAY };
        let second = one(&sent, other, Method::Invite);
        one(&relayed(&mut bench, &second), B, Method::Invite);
    }
}

#[test]
fn a_failed_call_frees_its_session() {
    let mut bench = Bench::new(always());
    let sent = bench.from(A, &offer("sip:b@example.com", "10.0.0.1"));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let sent = bench.answer(&one(&sent, B, Method::Invite), 486, "", "");
    assert_eq!(to(&sent, A)[0].status(), Some(486));
    bench.answer(&one(&sent, RELAY, Method::Bye), 200, "", "");
    assert_eq!(bench.status().relay_sessions, 0);
}

#[test]
fn a_cancel_while_the_relay_is_asked_frees_the_session_and_forwards_nothing() {
    let mut bench = Bench::new(always());
    let sent = bench.from(A, &offer("sip:b@example.com", "10.0.0.1"));
    let asked = one(&sent, RELAY, Method::Invite);
    let sent = bench.from(A, &invite("sip:b@example.com").replace("INVITE", "CANCEL"));
    assert_eq!(to(&sent, A).iter().map(|m| m.status().unwrap()).collect::<Vec<_>>(), [200, 487]);
    let sent = relayed(&mut bench, &asked);
    assert!(to(&sent, B).is_empty());
    bench.answer(&one(&sent, RELAY, Method::Bye), 200, "", "");
    assert_eq!((bench.status().relay_sessions, bench.status().calls), (0, 0));
}

/// §1 abuse: SDP naming our own relay.
#[test]
fn sdp_that_names_our_relay_is_refused() {
    let mut bench = Bench::new(always());
    let text = format!("{}\n\n{}", invite("sip:b@example.com"), sdp(RELAYED, 20_004));
    assert_eq!(bench.from(A, &text)[0].message.status(), Some(488));
}

/// DESIGN §5: what a sibling has anchored isn't compared or anchored again, and its answer tells where B is.
#[test]
fn a_siblings_verdict_is_joined_not_repeated() {
    let mut bench = Bench::new(Config {
        redirects: Vec::new(),
        trunks: plain().trunks,
        routes: plain().routes,
        anchor: Anchor::Auto,
        ..claim()
    });
    let from_p1 = crate::tests::bench::message(&format!(
        "{}\nRelay-Session: 00c0ffee00c0ffee;peer=192.0.2.10\n\n{}",
        invite("sip:b@example.com"),
        sdp(RELAYED, 20_000)
    ));
    let from_p1 = key().sign(&from_p1, BIRTH);
    let flow = crate::tests::testing::udp(P2);
    let sent = bench.by(flow, from_p1.clone());
    assert!(to(&sent, RELAY).is_empty());
    let forwarded = one(&sent, B, Method::Invite);
    assert!(
        forwarded.message.text(Name::RelayVerdict).is_none()
            && forwarded.message.text(Name::NodeAuth).is_none()
    );
    assert_eq!(decided(&bench)[0].rule, Rule::SiblingDecided);
    let sent = bench.answer(&forwarded, 200, CALLEE, &crlf(&sdp("192.168.0.5", 6000)));
    let ok = to(&sent, P2)[0];
    let verdict = format!("direct;peer={}", address(B).ip());
    assert_eq!(ok.text(Name::RelayVerdict), Some(&*verdict));
    assert_eq!(key().check(ok, BIRTH), Proof::Proven);

    // The same from anybody else proves nothing, and names our relay.
    let mut bench = Bench::new(claim());
    let sent = bench.by(crate::tests::testing::udp(A), from_p1);
    assert_eq!(sent[0].message.status(), Some(488));
}

/// A MESSAGE asks the redirect server by INVITE, too, and goes on as itself.
#[test]
fn any_method_finds_its_way_by_the_redirect_server() {
    let mut bench = Bench::new(claim());
    let text = invite("sip:bob@example.com").replace("INVITE", "MESSAGE");
    let question = one(&bench.from(A, &text), REDIRECT, Method::Invite);
    let sent = bench.answer(&question, 302, "Contact: <sip:203.0.113.2:5060;lr>", "");
    one(&sent, P2, Method::Message);
}

/// Whoever forges the redirect server's 302 would have the call: without proof the next server is asked, and none is left.
#[test]
fn a_302_without_proof_is_not_followed() {
    let mut bench = Bench::new(Config { anchor: Anchor::Never, ..claim() });
    let question = one(&bench.from(A, &offer("sip:bob@example.com", "10.0.0.1")), REDIRECT, Method::Invite);
    let forged = proto::sip::reply(&question.message, 302, "d")
        .header(Name::Contact, "<sip:198.51.100.66:5060;lr>")
        .finish();
    let sent = bench.by(question.flow, forged);
    assert!(sent.iter().all(|sent| sent.flow.remote != address("198.51.100.66:5060")), "{sent:?}");
    assert_eq!(to(&sent, A).last().unwrap().status(), Some(408));
    let told = |event: &Event| matches!(event, Event::Warning { why, .. } if why.contains("Node-Auth"));
    assert!(bench.events.iter().any(told));
}
