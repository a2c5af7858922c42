//! Ports: lent, freed, run out, waited for, and by which address they are told.

use crate::*;

#[test]
fn each_party_gets_a_pair_and_is_told_only_of_the_relay() {
    let mut rig = Rig::new(config());
    let (a, b) = (public(A), public(B));
    let offer = rig.invite(&a.ask(S, Side::Caller), &a.sdp(), false);
    assert_eq!(rig.ports().leased, 4);
    assert_eq!(rig.emptied.len(), 4);
    let answer = rig.invite(&b.ask(S, Side::Callee), &b.sdp(), true);
    assert_eq!(rig.ports().leased, 4);
    assert!(!text(&offer).contains("203.0.113.100") && !text(&answer).contains("203.0.113.200"));
    assert_ne!(media_of(&offer), media_of(&answer));
    assert_eq!(media_of(&offer).port() % 2, 0);
    assert!(text(&offer).contains("a=rtpmap:101 telephone-event/8000\r\n"), "the rest stays");
    let allocated = |e: &Event| matches!(e, Event::RelayAllocated { ports: 4, free: 596, .. });
    assert_eq!(rig.events.iter().filter(|e| allocated(e)).count(), 1, "{:?}", rig.events);
}

#[test]
fn a_bye_frees_everything_and_tells_how_it_was() {
    let Talk { mut rig, call } = Talk::new();
    for n in 0..10 {
        rig.packet(A, call.for_a, &rtp(0xa, n));
    }
    rig.packet("192.0.2.6:6", call.for_b, &rtp(0x6, 0));
    assert_eq!(rig.bye(S), 200);
    assert_eq!((rig.ports().leased, rig.ports().quarantined, rig.relay.status().sessions), (0, 4, 0));
    let Some(Event::RelayReleased { why: Release::Bye, legs, .. }) = rig.events.last() else { panic!() };
    assert_eq!((legs[0].packets, legs[0].bytes, legs[0].lost), (10, 1720, 0));
    assert_eq!((legs[1].packets, legs[1].strangers), (0, 1));
    assert!(legs[0].mos > 430 && legs[1].mos == 0);
    assert_eq!(rig.packet(A, call.for_a, &rtp(0xa, 11)), None);
    assert_eq!(rig.dropped(Why::Idle), 1);
    assert_eq!(rig.bye(S), 481);
}

#[test]
fn freed_ports_rest_before_they_serve_again() {
    let mut rig =
        Rig::new(Config { ports: 30_000..=30_003, networks: vec![config().networks[0].clone()], ..config() });
    rig.call(1, &public(A), &public(B));
    rig.bye(S);
    let ask = |number| public(A).ask(Session(number), Side::Caller);
    rig.pass(5 * SECOND - MS);
    assert_eq!(rig.invite(&ask(2), &public(A).sdp(), false).status(), Some(503));
    rig.pass(MS);
    assert_eq!(rig.invite(&ask(3), &public(A).sdp(), false).status(), Some(200));
}

#[test]
fn at_its_cap_it_refuses_the_next_session_and_not_the_ones_it_has() {
    let mut rig = Rig::new(Config { sessions: 1, ..config() });
    rig.call(1, &public(A), &public(B));
    let refused = rig.invite(&public(A).ask(Session(2), Side::Caller), &public(A).sdp(), false);
    assert_eq!((refused.status(), refused.text(Name::RetryAfter)), (Some(503), Some("5")));
    let exhausted = Event::RelayExhausted { session: "0000000000000002".into(), limit: 1 };
    assert!(rig.events.contains(&exhausted));
    assert_eq!(rig.ports().leased, 4);
    assert_eq!(rig.invite(&public(A).ask(S, Side::Caller), &public(A).sdp(), true).status(), Some(200));
    rig.bye(S);
    assert_eq!(
        rig.invite(&public(A).ask(Session(3), Side::Caller), &public(A).sdp(), false).status(),
        Some(200)
    );
}

#[test]
fn when_ports_run_out_no_session_is_half_made() {
    let networks = vec![config().networks[0].clone()];
    let mut rig = Rig::new(Config { ports: 30_000..=30_009, networks, ..config() });
    let two = with(A, &["m=audio 4000 RTP/AVP 0\r\n", "m=video 4002 RTP/AVP 96\r\n"]);
    rig.call(1, &public(A), &public(B));
    let refused = rig.invite(&public(A).ask(Session(2), Side::Caller), &two, false);
    assert_eq!(refused.status(), Some(503));
    assert_eq!((rig.ports().leased, rig.ports().reserved, rig.relay.status().sessions), (4, 6, 1));
    let refused =
        rig.invite(&public(A).ask(S, Side::Caller), &with(A, &[&audio(), &audio(), &audio()]), true);
    assert_eq!(refused.status(), Some(503), "nor a re-INVITE half granted");
    assert_eq!(rig.ports().leased, 4);
}

#[test]
fn a_burst_that_outruns_the_reserve_waits_for_ports_and_is_served() {
    let mut rig = Rig::new(Config { reserve: 1, ..config() });
    for number in 1..=20 {
        let offer = rig.invite(&public(A).ask(Session(number), Side::Caller), &public(A).sdp(), false);
        assert_eq!(offer.status(), Some(200));
    }
    assert_eq!(rig.ports().leased, 80);
}

#[test]
fn a_request_larger_than_the_reserve_is_served_too() {
    let mut rig = Rig::new(Config { reserve: 1, ..config() });
    let offer = rig.invite(&public(A).ask(S, Side::Caller), &with(A, &[audio().as_str(); 8]), false);
    assert_eq!((offer.status(), rig.ports().leased), (Some(200), 32));
}

#[test]
fn when_ports_cannot_be_opened_the_wait_ends_after_a_second_with_503() {
    let mut rig = Rig::with_binds(config(), false);
    let request = rig.in_dialog("INVITE", S);
    let request = public(A).ask(S, Side::Caller).write(Rig::to(request, S, false));
    let request =
        KEY.sign(&request.body("application/sdp", public(A).sdp().as_bytes()).finish(), 1_800_000_000);
    rig.tell(Input::Message { flow: Flow::udp(address(CONTROL), address(PROXY)), message: request });
    rig.pass(SECOND - MS);
    assert!(rig.sip.iter().all(|response| response.status() == Some(100)));
    rig.pass(MS);
    assert_eq!(rig.sip.last().unwrap().status(), Some(503));
    assert!(matches!(rig.events.last(), Some(Event::RelayExhausted { .. })));
    assert_eq!(rig.relay.status().sessions, 0);
}

#[test]
fn a_cancelled_request_that_waits_is_given_up() {
    let mut rig = Rig::with_binds(config(), false);
    let request = rig.in_dialog("INVITE", S);
    let request = public(A).ask(S, Side::Caller).write(Rig::to(request, S, false)).finish();
    let request = KEY.sign(&request, 1_800_000_000);
    let flow = Flow::udp(address(CONTROL), address(PROXY));
    rig.tell(Input::Message { flow, message: request.clone() });
    let cancel = proto::sip::Builder::request("CANCEL", request.request_uri());
    let copied = [Name::Via, Name::From, Name::To, Name::CallId];
    let cancel =
        copied.into_iter().fold(cancel, |cancel, name| cancel.header(name, request.text(name).unwrap()));
    let cseq = request.cseq().unwrap().number;
    let cancel = cancel.header(Name::CSeq, format_args!("{cseq} CANCEL")).finish();
    rig.tell(Input::Message { flow, message: cancel });
    let statuses: Vec<_> = rig.sip.iter().filter_map(Message::status).collect();
    assert_eq!(statuses, [200, 487]);
    rig.pass(2 * SECOND);
    assert_eq!(rig.relay.status().sessions, 0);
}

#[test]
fn each_side_sees_its_own_networks_address() {
    let mut rig = Rig::new(config());
    let inside = Phone { network: "inside", ..public("10.0.0.50:4000") };
    let outside = Phone { other_network: "inside", ..public(B) };
    let inside = Phone { other_network: "outside", ..inside };
    let call = rig.call(1, &inside, &outside);
    assert_eq!((call.for_a.ip().to_string(), call.for_b.ip().to_string()), (INSIDE.into(), OUTSIDE.into()));
    let sent = rig.packet("10.0.0.50:4000", call.for_a, &rtp(0xa, 0)).unwrap();
    assert_eq!((sent.from, sent.to), (call.for_b, address(B)));
}

#[test]
fn a_port_behind_a_one_to_one_nat_is_told_by_its_outer_address() {
    let mut networks = config().networks;
    networks[0].bind = "10.9.9.9".parse().unwrap();
    let mut rig = Rig::new(Config { networks, ..config() });
    let call = rig.call(1, &public(A), &public(B));
    assert_eq!(call.for_a.ip().to_string(), OUTSIDE);
    let bound = std::net::SocketAddr::new("10.9.9.9".parse().unwrap(), call.for_a.port());
    assert_eq!(rig.packet(A, bound, &rtp(0xa, 0)).unwrap().to, address(B));
}

#[test]
fn one_port_for_both_needs_one_network() {
    let mut rig = Rig::new(config());
    let a = Phone { mode: Mode::Shared, other_network: "inside", ..public(A) };
    let b = Phone { mode: Mode::Shared, network: "inside", ..public("10.0.0.5:7000") };
    let call = rig.call(1, &a, &b);
    assert_ne!(call.for_a.ip(), call.for_b.ip());
    assert_eq!(rig.ports().leased, 4);
}

#[test]
fn after_a_thousand_calls_no_port_is_held() {
    let mut rig = Rig::new(config());
    for number in 1..=1000 {
        rig.call(number, &public(A), &public(B));
        assert_eq!(rig.bye(Session(number)), 200);
        rig.pass(200 * MS);
    }
    rig.pass(5 * SECOND);
    assert_eq!((rig.ports().leased, rig.ports().quarantined), (0, 0));
}
