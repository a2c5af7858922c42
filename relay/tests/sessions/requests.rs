//! Requests: what is served, refused, repeated and replayed.

use crate::*;

#[test]
fn the_200_says_how_long_it_lives_and_proves_itself() {
    let mut rig = Rig::new(config());
    let offer = rig.invite(&public(A).ask(S, Side::Caller), &public(A).sdp(), false);
    assert_eq!(offer.text(Name::SessionExpires), Some("1800;refresher=uac"));
    assert_eq!(offer.to_tag(), proto::control::tag(S, Side::Callee));
    assert_eq!(KEY.check(&offer, 1_800_000_000), proto::node_auth::Proof::Proven);
}

#[test]
fn says_which_request_it_cannot_serve_and_why() {
    let mut rig = Rig::new(config());
    let a = public(A);
    let status = |rig: &mut Rig, sdp: &str| rig.invite(&a.ask(S, Side::Caller), sdp, false).status().unwrap();
    assert_eq!(status(&mut rig, &with(A, &["m=message 4000 TCP/MSRP *\r\n"])), 488, "not in datagrams");
    assert_eq!(status(&mut rig, "hello"), 400);
    assert_eq!(status(&mut rig, &with(A, &[audio().as_str(); 17])), 488, "too many sections");
    let unknown = Phone { network: "moon", ..public(A) };
    assert_eq!(rig.invite(&unknown.ask(S, Side::Caller), &a.sdp(), false).status(), Some(400));
    let info = rig.in_dialog("INFO", S);
    let refused = rig.request(Rig::to(info, S, true));
    assert_eq!((refused.status(), refused.text(Name::Allow).is_some()), (Some(405), true));
    let request = rig.in_dialog("INVITE", S);
    let request = a.ask(S, Side::Caller).write(Rig::to(request, S, false));
    assert_eq!(rig.request(request.body("text/plain", b"hello")).status(), Some(415));
    assert_eq!((rig.ports().leased, rig.relay.status().sessions), (0, 0));
}

#[test]
fn a_session_nobody_knows_is_481_and_wrong_tags_are_too() {
    let mut rig = Rig::new(config());
    let a = public(A);
    assert_eq!(rig.invite(&a.ask(S, Side::Caller), &a.sdp(), true).status(), Some(481));
    assert_eq!(rig.bye(S), 481);
    rig.call(1, &a, &public(B));
    let bye = rig.in_dialog("BYE", S).header(Name::To, "<sip:x>;tag=wrong");
    assert_eq!(rig.request(bye).status(), Some(481));
    assert_eq!(rig.relay.status().sessions, 1);
}

#[test]
fn an_old_request_replayed_is_refused() {
    let mut talk = Talk::new();
    let request = talk.rig.in_dialog("INVITE", S);
    let old = public(A).ask(S, Side::Caller).write(Rig::to(request, S, true));
    talk.says(Side::Caller, &public(A).sdp());
    assert_eq!(talk.rig.request(old.body("application/sdp", public(B).sdp().as_bytes())).status(), Some(500));
}

/// Who overhears our nodes can repeat their words for a minute (Node-Auth covers no Via): nothing comes of it.
#[test]
fn a_request_overheard_and_repeated_changes_nothing() {
    let mut rig = Rig::new(config());
    let a = public(A);
    let first = rig.in_dialog("INVITE", S);
    let first = a.ask(S, Side::Caller).write(Rig::to(first, S, false));
    let first = KEY.sign(&first.body("application/sdp", a.sdp().as_bytes()).finish(), 1_800_000_000);
    let again = |n: u32| {
        let via = format!("SIP/2.0/UDP 192.0.2.66:6666;branch=z9hG4bKagain{n}");
        first.edit().set(Name::Via, &via).finish()
    };
    assert_eq!(rig.unsigned(first.clone()).status(), Some(200));
    assert_eq!(rig.unsigned(again(1)).status(), Some(500), "while the session is there");
    assert_eq!(rig.bye(S), 200);
    assert_eq!(rig.unsigned(again(2)).status(), Some(481), "and when it has ended");
    assert_eq!((rig.relay.status().sessions, rig.ports().leased), (0, 0));
}

#[test]
fn options_says_what_it_can() {
    let mut rig = Rig::new(config());
    let options = rig.in_dialog("OPTIONS", Session(9));
    let response = rig.request(Rig::to(options, Session(9), false));
    assert_eq!(response.status(), Some(200));
    assert!(response.text(Name::Allow).unwrap().contains("INVITE"));
}

#[test]
fn a_200_nobody_acknowledges_is_repeated_and_its_session_given_up() {
    let mut rig = Rig::new(config());
    let request = rig.in_dialog("INVITE", S);
    let request = public(A).ask(S, Side::Caller).write(Rig::to(request, S, false));
    let request =
        KEY.sign(&request.body("application/sdp", public(A).sdp().as_bytes()).finish(), 1_800_000_000);
    rig.tell(Input::Message { flow: Flow::udp(address(CONTROL), address(PROXY)), message: request });
    assert_eq!(rig.sip.len(), 1);
    rig.pass(500 * MS);
    assert_eq!(rig.sip.len(), 2);
    rig.pass(31 * SECOND);
    assert_eq!(rig.relay.status().sessions, 1);
    rig.pass(5 * SECOND);
    assert_eq!((rig.relay.status().sessions, rig.ports().leased), (0, 0));
    assert!(matches!(rig.events.last(), Some(Event::RelayReleased { why: Release::Abandoned, .. })));
}

#[test]
fn while_it_drains_sessions_end_and_none_begins() {
    let mut talk = Talk::new();
    talk.rig.tell(Input::Drain);
    let refused = talk.rig.invite(&public(A).ask(Session(2), Side::Caller), &public(A).sdp(), false);
    assert_eq!(refused.status(), Some(503));
    assert_eq!(talk.says(Side::Caller, &public(A).sdp()).status(), Some(200));
    assert_eq!(talk.rig.bye(S), 200);
}

/// A reload: limits, times and the advertised address count at once, for calls that are up too; they keep their ports.
#[test]
fn another_configuration_counts_from_the_next_request_on() {
    let mut talk = Talk::new();
    let mut today = config();
    today.networks.iter_mut().for_each(|network| network.advertise = address("192.0.2.99:1").ip());
    (today.sessions, today.ports) = (1, 40_000..=40_099);
    talk.rig.relay.reconfigure(&today);
    let ok = talk.says(Side::Caller, &public(A).sdp());
    assert_eq!(media_of(&ok).ip(), address("192.0.2.99:1").ip());
    assert!(config().ports.contains(&media_of(&ok).port()), "{}", media_of(&ok));
    let second = talk.rig.invite(&public(A).ask(Session(2), Side::Caller), &public(A).sdp(), false);
    assert_eq!(second.status(), Some(503));
}
