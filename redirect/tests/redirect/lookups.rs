//! Who asks for somebody is told the next hop.

use crate::*;

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
