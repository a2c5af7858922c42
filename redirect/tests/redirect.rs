//! A redirect server as its askers see it.

use std::time::Duration;

use proto::event::{Event, Registration};
use proto::node::{Flow, FlowId, Input, Transport};
use proto::node_auth::Proof;
use proto::sip::{Message, Name};
use proto::tables::Tables;

mod scene;
use scene::*;

const MINUTE: Duration = Duration::from_secs(60);
const P2_LR: &str = "<sip:203.0.113.2:5060;transport=udp;lr>";

fn status(message: &Message) -> u16 {
    message.status().expect("a response")
}

fn changes(scene: &Scene) -> Vec<Registration> {
    let change = |event: &Event| match event {
        Event::Registered { change, .. } => Some(*change),
        _ => None,
    };
    scene.events.iter().filter_map(change).collect()
}

// Who serves whom.

#[test]
fn an_invite_is_answered_with_the_next_hop_and_nothing_else() {
    let mut scene = Scene::new();
    assert_eq!(status(&scene.register(P2, P2_LR)), 200);
    let answer = scene.invite("sip:bob@example.com");
    assert_eq!((status(&answer), contacts(&answer)), (302, vec![P2_LR.to_owned()]));
    assert!(!answer.to_tag().is_empty() && answer.body().is_empty());
}

#[test]
fn a_contact_without_lr_is_still_a_next_hop() {
    let mut scene = Scene::new();
    scene.register(P2, "<sip:203.0.113.2:5060>");
    assert_eq!(scene.hops(), ["<sip:203.0.113.2:5060;lr>"]);
}

#[test]
fn the_answer_is_proven() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    let answer = scene.invite("sip:bob@example.com");
    assert_eq!(scene.key.check(&answer, 1_767_225_600), Proof::Proven);
}

#[test]
fn an_address_nobody_ever_served_is_404() {
    let mut scene = Scene::new();
    assert_eq!(status(&scene.invite("sip:carol@example.com")), 404);
    assert_eq!(status(&scene.invite("sip:203.0.113.10")), 404);
    assert!(scene.tables.aors().is_empty());
}

#[test]
fn an_account_nobody_serves_is_480() {
    let mut scene = Scene::new();
    scene.tables.users.push("carol@example.com".into());
    assert_eq!(status(&scene.invite("sip:carol@example.com")), 480);
}

#[test]
fn a_uri_that_is_no_sip_uri_is_416() {
    assert_eq!(status(&Scene::new().invite("tel:+15551234")), 416);
}

#[test]
fn proxies_are_named_by_preference_and_then_by_how_long_they_serve() {
    let mut scene = Scene::new();
    scene.register(P2, "<sip:203.0.113.2;lr>;q=0.5");
    scene.register("203.0.113.3:5060", "<sip:203.0.113.3;lr>");
    scene.pass(MINUTE);
    scene.register("203.0.113.4:5060", "<sip:203.0.113.4;lr>;q=0.5");
    let expected =
        ["<sip:203.0.113.3;lr>;q=1.000", "<sip:203.0.113.4;lr>;q=0.500", "<sip:203.0.113.2;lr>;q=0.500"];
    assert_eq!(scene.hops(), expected);
}

#[test]
fn the_asker_is_never_sent_to_itself() {
    let mut scene = Scene::new();
    scene.register(P1, "<sip:203.0.113.1:5060;lr>");
    assert_eq!(status(&scene.invite("sip:bob@example.com")), 480);
    scene.register(P2, P2_LR);
    assert_eq!(scene.hops(), [P2_LR]);
}

#[test]
fn a_sips_request_is_only_led_over_tls() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    assert_eq!(status(&scene.invite("sips:bob@example.com")), 480);
    scene.register(P2, "<sip:203.0.113.2;transport=tls;lr>");
    assert_eq!(contacts(&scene.invite("sips:bob@example.com")), ["<sip:203.0.113.2;transport=tls;lr>"]);
}

// Registrations.

#[test]
fn a_registration_lists_what_is_bound_and_for_how_long() {
    let mut scene = Scene::new();
    scene.register(P2, &format!("{P2_LR};expires=600"));
    scene.pass(MINUTE);
    let answer = scene.register("203.0.113.3:5060", "<sip:203.0.113.3;lr>;q=0.2;expires=90");
    let expected = [format!("{P2_LR};q=1.000;expires=540"), "<sip:203.0.113.3;lr>;q=0.200;expires=90".into()];
    assert_eq!(contacts(&answer), expected);
    assert_eq!(scene.key.check(&answer, 1_767_225_660), Proof::Proven);
}

#[test]
fn asking_without_a_contact_changes_nothing() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    let before = scene.tables.bindings.clone();
    let ask = scene.request("REGISTER", "sip:redirect", P1, "To: <sip:bob@example.com>\r\n");
    assert_eq!(contacts(&scene.ask(P1, &ask)), [format!("{P2_LR};q=1.000;expires=3600")]);
    assert_eq!(scene.tables.bindings, before);
}

#[test]
fn a_registration_runs_out_to_the_second() {
    let mut scene = Scene::new();
    scene.register(P2, &format!("{P2_LR};expires=60"));
    scene.pass(Duration::from_secs(59));
    assert_eq!(scene.hops(), [P2_LR]);
    scene.pass(Duration::from_secs(1));
    assert_eq!(status(&scene.invite("sip:bob@example.com")), 480);
    assert_eq!(changes(&scene), [Registration::New, Registration::Lost]);
}

#[test]
fn a_refresh_keeps_it() {
    let mut scene = Scene::new();
    for _ in 0..5 {
        scene.register(P2, &format!("{P2_LR};expires=60"));
        scene.pass(Duration::from_secs(50));
    }
    assert_eq!(scene.hops(), [P2_LR]);
    assert_eq!(changes(&scene)[1..], [Registration::Refreshed; 4]);
    assert_eq!(scene.tables.bindings("bob@example.com").len(), 1);
}

#[test]
fn a_removal_takes_only_the_proxy_that_asked() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    scene.register("203.0.113.3:5060", "<sip:203.0.113.3;lr>");
    let answer = scene.register(P2, &format!("{P2_LR};expires=0"));
    assert_eq!(contacts(&answer), ["<sip:203.0.113.3;lr>;q=1.000;expires=3600"]);
    assert_eq!(scene.hops(), ["<sip:203.0.113.3;lr>"]);
    assert_eq!(changes(&scene)[2..], [Registration::Removed]);
}

#[test]
fn a_star_removes_all_and_is_refused_with_anything_else() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    scene.register("203.0.113.3:5060", "<sip:203.0.113.3;lr>");
    assert_eq!(status(&scene.register(P2, "*")), 400);
    assert_eq!(status(&scene.register(P2, "*\r\nExpires: 60")), 400);
    assert_eq!(scene.hops().len(), 2);
    assert_eq!(status(&scene.register(P2, "*\r\nExpires: 0")), 200);
    assert_eq!(status(&scene.invite("sip:bob@example.com")), 480);
}

#[test]
fn what_was_removed_is_known_for_a_while_and_then_forgotten() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    scene.register(P2, &format!("{P2_LR};expires=0"));
    scene.pass(Duration::from_secs(24 * 3600 - 1));
    assert_eq!(status(&scene.invite("sip:bob@example.com")), 480);
    scene.pass(Duration::from_secs(1));
    assert_eq!(status(&scene.invite("sip:bob@example.com")), 404);
    assert!(scene.tables.aors().is_empty());
    assert_eq!(changes(&scene), [Registration::New, Registration::Removed]);
}

#[test]
fn an_expiry_is_refused_cut_or_assumed() {
    let mut scene = Scene::new();
    let brief = scene.register(P2, &format!("{P2_LR};expires=9"));
    assert_eq!((status(&brief), brief.text(Name::MinExpires)), (423, Some("10")));
    assert_eq!(status(&scene.register(P2, &format!("{P2_LR};expires=10"))), 200);
    let long = scene.register(P2, &format!("{P2_LR};expires=86401"));
    assert_eq!(contacts(&long), [format!("{P2_LR};q=1.000;expires=86400")]);
    let header = scene.register(P2, &format!("{P2_LR}\r\nExpires: 77"));
    assert_eq!(contacts(&header), [format!("{P2_LR};q=1.000;expires=77")]);
}

#[test]
fn an_old_registration_replayed_under_its_call_id_does_nothing() {
    let mut scene = Scene::new();
    let first = scene.registration(P2, P2_LR);
    scene.ask(P2, &first);
    scene.register(P2, &format!("{P2_LR};expires=0"));
    let replayed = first.edit().set(Name::Via, "SIP/2.0/UDP 203.0.113.2:5060;branch=z9hG4bKother").finish();
    assert_eq!(status(&scene.ask(P2, &replayed)), 500);
    assert_eq!(status(&scene.invite("sip:bob@example.com")), 480);
}

#[test]
fn a_registration_overtaken_by_a_removal_of_all_does_nothing() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    let overtaken = scene.registration(P2, P2_LR);
    let star = scene.registration(P2, "*\r\nExpires: 0");
    assert_eq!(status(&scene.ask(P2, &star)), 200);
    assert_eq!(status(&scene.ask(P2, &overtaken)), 500);
    scene.register(P2, P2_LR);
    let replayed = star.edit().set(Name::Via, "SIP/2.0/UDP 203.0.113.2:5060;branch=z9hG4bKother").finish();
    assert_eq!(status(&scene.ask(P2, &replayed)), 500);
    assert_eq!(scene.hops(), [P2_LR]);
}

#[test]
fn one_bad_contact_of_several_binds_none() {
    let mut scene = Scene::new();
    for bad in ["<tel:+1555>", "<sip:203.0.113.10:5060;lr>", "<mailto:a@b>", "<sip:203.0.113.2;lr>;expires=3"]
    {
        let answer = scene.register(P2, &format!("{P2_LR}, {bad}"));
        assert!([400, 423].contains(&status(&answer)), "{bad}");
    }
    assert!(scene.tables.aors().is_empty());
}

#[test]
fn no_more_proxies_than_allowed_serve_one_address() {
    let mut scene = Scene::with(|config| config.bindings = 2);
    for proxy in ["203.0.113.2", "203.0.113.3"] {
        assert_eq!(status(&scene.register(P2, &format!("<sip:{proxy};lr>;expires=60"))), 200);
    }
    assert_eq!(status(&scene.register(P2, "<sip:203.0.113.4;lr>")), 403);
    scene.pass(MINUTE);
    assert_eq!(status(&scene.register(P2, "<sip:203.0.113.4;lr>")), 200);
    assert_eq!(scene.tables.bindings("bob@example.com").len(), 2);
}

#[test]
fn addresses_of_record_are_compared_in_their_canonical_form() {
    let mut scene = Scene::new();
    let headers = format!("To: \"Bob\" <sip:%62ob@EXAMPLE.com:5060;transport=tcp>\r\nContact: {P2_LR}\r\n");
    let register = scene.request("REGISTER", "sip:redirect", P2, &headers);
    assert_eq!(status(&scene.ask(P2, &register)), 200);
    assert_eq!(scene.hops(), [P2_LR]);
}

// Restarts.

#[test]
fn a_restart_forgets_nobody() {
    let mut scene = Scene::new();
    scene.register(P2, &format!("{P2_LR};expires=600"));
    scene.pass(MINUTE);
    scene.restart();
    assert_eq!(scene.hops(), [P2_LR]);
    scene.pass(9 * MINUTE);
    assert_eq!(status(&scene.invite("sip:bob@example.com")), 480);
    assert_eq!(changes(&scene).last(), Some(&Registration::Lost));
}

#[test]
fn a_restarted_server_wakes_by_itself_for_what_it_was_left() {
    let mut scene = Scene::new();
    scene.register(P2, &format!("{P2_LR};expires=60"));
    scene.restart();
    scene.events.clear();
    scene.pass(MINUTE);
    assert_eq!(changes(&scene), [Registration::Lost]);
}

// Who is believed.

#[test]
fn an_unproven_register_is_refused_told_and_changes_nothing() {
    let mut scene = Scene::new();
    let register = scene.registration(STRANGER, "<sip:198.51.100.66;lr>");
    let answers = scene.hears(STRANGER, register);
    assert_eq!(status(&answers[0]), 403);
    assert!(scene.tables.aors().is_empty());
    assert!(matches!(scene.events[..], [Event::Refused { status: 403, .. }]));
}

#[test]
fn a_forged_or_aged_proof_is_refused() {
    let mut scene = Scene::new();
    let signed = scene.registration(P2, P2_LR);
    let signed = scene.signed(&signed);
    let forged = signed.edit().set(Name::Contact, "<sip:198.51.100.66;lr>").finish();
    assert_eq!(status(&scene.hears(P2, forged)[0]), 403);
    scene.pass(Duration::from_secs(61));
    assert_eq!(status(&scene.hears(P2, signed)[0]), 403);
    assert!(scene.tables.aors().is_empty());
    let wrong =
        |event: &Event| matches!(event, Event::Refused { why, .. } if why.contains("Node-Auth is wrong"));
    assert!(scene.events.len() == 2 && scene.events.iter().all(wrong), "{:?}", scene.events);
}

#[test]
fn an_unproven_invite_learns_nothing_of_whom_it_asks_for() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    let answers = ["sip:bob@example.com", "sip:nobody@example.com"].map(|uri| {
        let invite = scene.request("INVITE", uri, STRANGER, "To: <sip:x@y>\r\n");
        let answer = scene.hears(STRANGER, invite).remove(0);
        scene.pass(MINUTE);
        let lines = String::from_utf8(answer.bytes().to_vec()).unwrap();
        lines.lines().filter(|l| !["Via", "CSeq", "To"].iter().any(|n| l.starts_with(n))).collect::<String>()
    });
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].starts_with("SIP/2.0 403 "));
}

#[test]
fn anybody_may_ask_where_that_is_allowed() {
    let mut scene = Scene::with(|config| config.require_proof = false);
    scene.register(P2, P2_LR);
    let invite = scene.request("INVITE", "sip:bob@example.com", STRANGER, "");
    assert_eq!(status(&scene.hears(STRANGER, invite)[0]), 302);
    let register = scene.registration(STRANGER, "<sip:198.51.100.66;lr>");
    assert_eq!(status(&scene.hears(STRANGER, register)[0]), 403);
}

#[test]
fn loopback_and_tls_from_a_trusted_range_need_no_proof_but_udp_does() {
    let mut scene = Scene::with(|config| config.trusted.push("203.0.113.0/24".parse().unwrap()));
    let from_loopback = scene.registration("127.0.0.1:5062", P2_LR);
    assert_eq!(status(&scene.hears("127.0.0.1:5062", from_loopback)[0]), 200);
    let by_udp = scene.registration(P2, P2_LR);
    assert_eq!(status(&scene.hears(P2, by_udp)[0]), 403);
    let by_tls = scene.registration(P2, P2_LR);
    let message = by_tls.edit().set(Name::Via, "SIP/2.0/TLS 203.0.113.2:5061;branch=z9hG4bKtls").finish();
    let flow = Flow { transport: Transport::Tls, local: address(SERVER), remote: address(P2), id: FlowId(1) };
    scene.give(Input::Message { flow, message });
    assert_eq!(status(&scene.sent()[0]), 200);
}

#[test]
fn a_false_proof_over_loopback_is_still_false() {
    let mut scene = Scene::new();
    let register = scene.registration("127.0.0.1:5062", P2_LR);
    let register = proto::node_auth::NodeKey([1; 32]).sign(&register, 1_767_225_600);
    assert_eq!(status(&scene.hears("127.0.0.1:5062", register)[0]), 403);
}

#[test]
fn a_stranger_over_its_limit_gets_silence_and_a_sibling_an_answer() {
    let mut scene = Scene::new();
    scene.tables.limited = true;
    let invite = scene.request("INVITE", "sip:bob@example.com", STRANGER, "");
    assert!(scene.hears(STRANGER, invite).is_empty());
    assert!(scene.events.is_empty());
    assert_eq!(status(&scene.register(P2, P2_LR)), 200);
}

// SIP (RFC 3261 §8.2, §17).

#[test]
fn other_methods_are_not_allowed() {
    let mut scene = Scene::new();
    for method in ["BYE", "SUBSCRIBE", "MESSAGE", "UPDATE", "FOO"] {
        let request = scene.request(method, "sip:bob@example.com", P1, "");
        let answer = scene.ask(P1, &request);
        assert_eq!(
            (status(&answer), answer.text(Name::Allow)),
            (405, Some("INVITE, ACK, CANCEL, OPTIONS, REGISTER"))
        );
    }
}

#[test]
fn options_says_what_is_allowed_to_anybody() {
    let mut scene = Scene::new();
    let options = scene.request("OPTIONS", "sip:203.0.113.10", STRANGER, "");
    let answer = scene.hears(STRANGER, options).remove(0);
    assert_eq!(
        (status(&answer), answer.text(Name::Allow)),
        (200, Some("INVITE, ACK, CANCEL, OPTIONS, REGISTER"))
    );
}

#[test]
fn required_extensions_are_named_as_unsupported() {
    let mut scene = Scene::new();
    for method in ["INVITE", "REGISTER"] {
        let request = scene.request(method, "sip:bob@example.com", P1, "Require: path, 100rel\r\n");
        let answer = scene.ask(P1, &request);
        assert_eq!((status(&answer), answer.text(Name::Unsupported)), (420, Some("path, 100rel")));
    }
}

#[test]
fn max_forwards_must_be_a_number_and_may_be_zero() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    for (value, expected) in [("0", 302), ("many", 400)] {
        let invite = scene.request("INVITE", "sip:bob@example.com", P1, "");
        let invite = invite.edit().set(Name::MaxForwards, value).finish();
        assert_eq!(status(&scene.ask(P1, &invite)), expected);
    }
}

#[test]
fn an_invite_inside_a_dialog_is_481() {
    let mut scene = Scene::new();
    let invite = scene.request("INVITE", "sip:bob@example.com", P1, "To: <sip:bob@example.com>;tag=x\r\n");
    assert_eq!(status(&scene.ask(P1, &invite)), 481);
}

#[test]
fn a_retransmitted_invite_gets_the_same_answer_and_is_told_once() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    scene.events.clear();
    let invite = scene.request("INVITE", "sip:bob@example.com", P1, "");
    let invite = scene.signed(&invite);
    let first = scene.hears(P1, invite.clone()).remove(0);
    let again = scene.hears(P1, invite).remove(0);
    assert_eq!(first.bytes(), again.bytes());
    assert_eq!(scene.events.len(), 1);
}

#[test]
fn an_unacknowledged_302_is_repeated_until_timer_h_and_an_acknowledged_one_is_not() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    scene.invite("sip:bob@example.com");
    scene.pass(MINUTE);
    assert!(scene.sent().is_empty());
    let invite = scene.request("INVITE", "sip:bob@example.com", P1, "");
    scene.ask(P1, &invite);
    scene.pass(MINUTE);
    assert_eq!(scene.sent().len(), 10);
}

#[test]
fn a_cancel_after_the_answer_is_ok_and_one_for_nothing_is_481() {
    let mut scene = Scene::new();
    let invite = scene.request("INVITE", "sip:bob@example.com", P1, "");
    scene.ask(P1, &invite);
    let cancel = |branch: &str| {
        message(&format!(
            "CANCEL sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {P1};branch={branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:p@example.com>;tag=f\r\nTo: <sip:bob@example.com>\r\nCall-ID: call\r\nCSeq: 1 CANCEL\r\n\r\n"
        ))
    };
    assert_eq!(status(&scene.hears(P1, cancel("z9hG4bK1"))[0]), 200);
    assert_eq!(status(&scene.hears(P1, cancel("z9hG4bK77"))[0]), 481);
}

#[test]
fn a_draining_server_takes_nothing_new() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    scene.give(Input::Drain);
    assert_eq!(status(&scene.invite("sip:bob@example.com")), 503);
    assert_eq!(status(&scene.register(P2, P2_LR)), 503);
}

#[test]
fn an_answer_tells_who_was_asked_for_and_what_was_said() {
    let mut scene = Scene::new();
    scene.register(P2, P2_LR);
    scene.events.clear();
    scene.invite("sip:bob@example.com");
    scene.invite("sip:carol@example.com");
    let told = scene.events.iter().map(|event| match event {
        Event::Redirected { to, target, status, .. } => (to.to_string(), *target, *status),
        other => panic!("{other:?}"),
    });
    let expected =
        [("bob@example.com".to_owned(), Some(address(P2)), 302), ("carol@example.com".into(), None, 404)];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}
