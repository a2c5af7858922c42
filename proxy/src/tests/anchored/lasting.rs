//! While a call is up, and at its end: refreshes, restarts, what crosses a BYE.

use super::*;

/// DESIGN §4: relay-dialog identifiers derive from the token, so that a restarted proxy frees what it forgot.
#[test]
fn a_restarted_proxy_frees_the_session_of_a_call_it_forgot() {
    let mut bench = Bench::new(always());
    let ok = answered(&mut bench);
    bench.pass(Duration::from_secs(60));
    bench.restart();
    let sent = bench.from(A, &in_dialog("BYE", 2, &ok));
    let sent = bench.answer(&one(&sent, B, Method::Bye), 200, "", "");
    let bye = one(&sent, RELAY, Method::Bye);
    assert!(bye.message.cseq().unwrap().number >= 600, "CSeq is the session's age in tenths of a second");
    assert!(Session::from_name(bye.message.call_id()).is_some());
}

/// 1e: a re-INVITE and its answer take the same way, both with the window for a new source open.
#[test]
fn a_re_invite_goes_by_the_relay_even_after_a_restart() {
    let mut bench = Bench::new(always());
    let ok = answered(&mut bench);
    bench.restart();
    let again = format!("{}\n\n{}", in_dialog("INVITE", 2, &ok), sdp("10.0.0.1", 4444));
    let sent = bench.from(A, &again);
    let asked = one(&sent, RELAY, Method::Invite);
    let ask = Ask::read(&asked.message).unwrap();
    assert!(ask.reset && ask.leg == Side::Caller && !asked.message.to_tag().is_empty());
    let sent = relayed(&mut bench, &asked);
    let forwarded = one(&sent, B, Method::Invite);
    assert!(std::str::from_utf8(forwarded.message.body()).unwrap().contains(RELAYED));
    let sent = bench.answer(&forwarded, 200, CALLEE, &crlf(&sdp("192.168.0.5", 6000)));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    assert!(std::str::from_utf8(to(&sent, A)[0].body()).unwrap().contains(RELAYED));
}

/// An UPDATE and the BYE cross: the UPDATE's answer finds the session ended, does not make it again, and still ends the
/// UPDATE.
#[test]
fn what_crosses_the_bye_is_answered_and_revives_no_session() {
    let mut bench = Bench::new(always());
    let ok = answered(&mut bench);
    let update = format!("{}\n\n{}", in_dialog("UPDATE", 2, &ok), sdp("10.0.0.1", 4444));
    let sent = bench.from(A, &update);
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let update = one(&sent, B, Method::Update);
    let sent = bench.from(A, &in_dialog("BYE", 3, &ok));
    let sent = bench.answer(&one(&sent, B, Method::Bye), 200, "", "");
    bench.answer(&one(&sent, RELAY, Method::Bye), 200, "", "");
    let sent = bench.answer(&update, 200, CALLEE, &crlf(&sdp("192.168.0.5", 6666)));
    assert!(to(&sent, RELAY).is_empty(), "{sent:#?}");
    assert_eq!(to(&sent, A)[0].status(), Some(481));
    assert_eq!(bench.status().relay_sessions, 0);
}

/// While a call is up its session is refreshed.
#[test]
fn a_session_is_refreshed_while_its_call_is_up() {
    let mut bench = Bench::new(always());
    answered(&mut bench);
    let sent = bench.pass(Duration::from_secs(601));
    one(&sent, RELAY, Method::Options);
}

/// The relay's BYE of a silent session, unproven; `name` is what the session's INVITE gave as the call's.
fn relays_bye(name: &str, session: &str) -> Message {
    crate::tests::bench::message(&format!(
        "BYE sip:{name}@{PROXY} SIP/2.0
         Via: SIP/2.0/UDP {RELAY};branch=z9hG4bKr1
         From: <sip:{session}@{RELAY}>;tag=r
         To: <sip:postern@{PROXY}>;tag=p
         Call-ID: {session}
         CSeq: 1 BYE
         Max-Forwards: 70"
    ))
}

/// DESIGN §6: silence ends a call with a BYE to both sides.
#[test]
fn a_relays_bye_hangs_up_both_parties() {
    let mut bench = Bench::new(Config { siblings: claim().siblings, ..always() });
    answered(&mut bench);
    let session = bench.session.clone().expect("a relay was asked");
    let bye = relays_bye("postern", &session);
    let unproven = bench.by(crate::tests::testing::udp(RELAY), bye.clone());
    assert_eq!(unproven[0].message.status(), Some(403));
    let bye = bye.edit().set_first(Name::Via, "SIP/2.0/UDP 203.0.113.50:5060;branch=z9hG4bKr2").finish();
    let sent = bench.by(crate::tests::testing::udp(RELAY), key().sign(&bye, BIRTH));
    assert_eq!(to(&sent, RELAY)[0].status(), Some(200));
    let to_callee = one(&sent, B, Method::Bye).message;
    assert_eq!((to_callee.request_uri(), to_callee.to_tag()), ("sip:b@198.51.100.20:5070", "callee"));
    assert!(to_callee.cseq().unwrap().number > 1);
    assert_eq!(one(&sent, A, Method::Bye).message.to_tag(), "caller");
    assert_eq!((bench.status().calls, bench.status().relay_sessions), (0, 0));
}

/// The relay says the call's name back, so that even a restarted proxy records its end.
#[test]
fn a_call_of_a_former_life_that_falls_silent_is_recorded() {
    let mut bench = Bench::new(Config { siblings: claim().siblings, ..always() });
    answered(&mut bench);
    let session = bench.session.clone().expect("a relay was asked");
    bench.pass(Duration::from_secs(20));
    bench.restart();
    let bye = relays_bye("c1", &session);
    for (branch, ends) in [("z9hG4bKr1", 1), ("z9hG4bKr2", 1)] {
        let via = format!("SIP/2.0/UDP {RELAY};branch={branch}");
        let bye = bye.edit().set_first(Name::Via, &via).finish();
        bench.by(crate::tests::testing::udp(RELAY), key().sign(&bye, BIRTH + 20));
        let ended = |event: &&Event| matches!(event, Event::CallEnded(ended) if &*ended.call == "c1");
        assert_eq!(bench.events.iter().filter(ended).count(), ends, "{branch}");
    }
}

/// DESIGN §4: an IPv6 path and a relay session take two tokens, in Routes that follow one another.
#[test]
fn a_call_over_ipv6_frees_its_session_after_a_restart() {
    let mut config = always();
    let at = address("[2001:db8::1]:5060");
    config.listeners.push(crate::config::Listener { bind: at, advertise: at, ..config.listeners[0].clone() });
    crate::tests::bench::trunk(&mut config).servers[0].next.host = "2001:db8::b".into();
    let (caller, callee) = ("[2001:db8::a]:5060", "[2001:db8::b]:5070");
    let flow = proto::node::Flow::udp(at, address(caller));
    let mut bench = Bench::new(config);
    let sent = bench.by(flow, crate::tests::bench::message(&offer("sip:b@example.com", "10.0.0.1")));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let sent = bench.answer(&one(&sent, callee, Method::Invite), 200, CALLEE, &crlf(&sdp("192.0.2.1", 6000)));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let ok = to(&sent, caller)[0].clone();
    assert_eq!(ok.values(Name::RecordRoute).count(), 2);
    bench.restart();
    let sent = bench.by(flow, crate::tests::bench::message(&in_dialog("BYE", 2, &ok)));
    let sent = bench.answer(&one(&sent, callee, Method::Bye), 200, "", "");
    one(&sent, RELAY, Method::Bye);
}
