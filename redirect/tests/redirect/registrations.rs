//! Who serves an address of record, and for how long.

use crate::*;

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
