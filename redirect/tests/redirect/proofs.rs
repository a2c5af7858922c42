//! Who is believed: proofs, trusted ranges, strangers.

use crate::*;

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
