//! What a proxy asks for in SIP, and what it gets: ports, SDP, refusals (`proto::control`).

mod rig;

use proto::control::{Mode, Session};
use proto::event::{Event, Release, Side};
use proto::node::{Flow, Input};
use proto::sip::{Message, Name};
use relay::{Config, Why};
use rig::*;

const A: &str = "203.0.113.100:4000";
const B: &str = "203.0.113.200:7000";
const S: Session = Session(1);

/// A phone whose m= sections are these.
fn with(media: &str, sections: &[&str]) -> String {
    public(media).head() + &sections.concat()
}

fn text(message: &Message) -> &str {
    str::from_utf8(message.body()).unwrap()
}

impl Talk {
    fn new() -> Talk {
        let mut rig = Rig::new(config());
        let call = rig.call(1, &public(A), &public(B));
        Talk { rig, call }
    }

    /// One party's new description.
    fn says(&mut self, leg: Side, sdp: &str) -> Message {
        let phone = if leg == Side::Caller { public(A) } else { public(B) };
        self.rig.invite(&phone.ask(S, leg), sdp, true)
    }
}

struct Talk {
    rig: Rig,
    call: Call,
}

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
fn the_200_says_how_long_it_lives_and_proves_itself() {
    let mut rig = Rig::new(config());
    let offer = rig.invite(&public(A).ask(S, Side::Caller), &public(A).sdp(), false);
    assert_eq!(offer.text(Name::SessionExpires), Some("1800;refresher=uac"));
    assert_eq!(offer.to_tag(), proto::control::tag(S, Side::Callee));
    assert_eq!(KEY.check(&offer, 1_800_000_000), proto::node_auth::Proof::Proven);
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

fn audio() -> String {
    "m=audio 4000 RTP/AVP 0\r\n".to_owned()
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
fn bridges_ipv4_and_ipv6() {
    let mut rig = Rig::new(config());
    let four = Phone { other_network: "six", ..public(A) };
    let six = Phone { network: "six", ..public("[2001:db8:5::9]:7000") };
    let call = rig.call(1, &four, &six);
    assert!(call.for_a.is_ipv4() && call.for_b.is_ipv6());
    let sent = rig.packet(A, call.for_a, &rtp(0xa, 0)).unwrap();
    assert_eq!((sent.from, sent.to), (call.for_b, six.media));
    let back = rig.packet("[2001:db8:5::77]:9999", call.for_b, &rtp(0xb, 0)).unwrap();
    assert_eq!((back.from, back.to), (call.for_a, address(A)), "an IPv6 party may use its whole /64");
}

#[test]
fn a_rejected_section_frees_its_ports_and_the_others_stay() {
    let mut talk = Talk::new();
    let (audio, video) = ("m=audio 4000 RTP/AVP 0\r\n", "m=video 4002 RTP/AVP 96\r\n");
    let offer = talk.says(Side::Caller, &with(A, &[audio, video]));
    assert_eq!((talk.rig.ports().leased, medias_of(&offer).len()), (8, 2));
    let answer =
        talk.says(Side::Callee, &with(B, &["m=audio 7000 RTP/AVP 0\r\n", "m=video 0 RTP/AVP 96\r\n"]));
    assert_eq!((talk.rig.ports().leased, talk.rig.ports().quarantined), (4, 4));
    assert_eq!(medias_of(&answer)[1], None);
    assert!(!text(&answer).contains("203.0.113.200"));
    assert!(talk.rig.packet(A, talk.call.for_a, &rtp(0xa, 0)).is_some());
}

#[test]
fn a_section_added_later_gets_ports_and_one_set_to_zero_loses_them() {
    let mut talk = Talk::new();
    let both = with(A, &["m=audio 4000 RTP/AVP 0\r\n", "m=video 4002 RTP/AVP 96\r\n"]);
    let first = medias_of(&talk.says(Side::Caller, &both));
    assert_eq!(first[0], Some(talk.call.for_b), "what was there keeps its port");
    assert_eq!(talk.rig.ports().leased, 8);
    talk.says(Side::Caller, &with(A, &["m=audio 0 RTP/AVP 0\r\n", "m=video 4002 RTP/AVP 96\r\n"]));
    assert_eq!(talk.rig.ports().leased, 4);
    assert_eq!(talk.rig.packet(A, talk.call.for_a, &rtp(0xa, 0)), None);
    talk.rig.bye(S);
    assert_eq!(talk.rig.ports().leased, 0);
}

#[test]
fn hold_of_either_style_changes_nothing_but_what_it_says() {
    for hold in ["a=sendonly\r\n", "a=inactive\r\n"] {
        let mut talk = Talk::new();
        let held = talk.says(Side::Caller, &with(A, &["m=audio 4000 RTP/AVP 0\r\n", hold]));
        assert_eq!(media_of(&held), talk.call.for_b);
        assert!(text(&held).contains(hold));
        assert!(talk.rig.packet(A, talk.call.for_a, &rtp(0xa, 0)).is_some(), "music on hold");
    }
    let mut talk = Talk::new();
    let old_style =
        with(A, &["m=audio 4000 RTP/AVP 0\r\n"]).replace("c=IN IP4 203.0.113.100", "c=IN IP4 0.0.0.0");
    let held = talk.says(Side::Caller, &old_style);
    assert!(text(&held).contains("c=IN IP4 0.0.0.0\r\n"), "{}", text(&held));
    assert_eq!(talk.rig.ports().leased, 4);
    let resumed = talk.says(Side::Caller, &with(A, &["m=audio 4000 RTP/AVP 0\r\n"]));
    assert_eq!(media_of(&resumed), talk.call.for_b);
}

#[test]
fn t38_takes_over_the_audio_streams_port_and_gives_it_back() {
    let mut talk = Talk::new();
    talk.rig.packet(A, talk.call.for_a, &rtp(0xa, 0));
    talk.rig.packet(B, talk.call.for_b, &rtp(0xb, 0));
    let fax = talk.says(Side::Callee, &with(B, &["m=image 7000 udptl t38\r\n"]));
    assert_eq!(media_of(&fax), talk.call.for_a);
    assert!(
        talk.rig.packet(A, talk.call.for_a, &rtp(0xa, 1)).is_some(),
        "until it is accepted there is audio"
    );
    talk.says(Side::Caller, &with(A, &["m=image 4000 udptl t38\r\n"]));
    let udptl = [0, 0, 1, 6, 0, 0];
    assert_eq!(talk.rig.packet(A, talk.call.for_a, &udptl).unwrap().to, address(B));
    assert_eq!(talk.rig.packet(B, talk.call.for_b, &udptl).unwrap().to, address(A));
    talk.says(Side::Callee, &public(B).sdp());
    talk.says(Side::Caller, &public(A).sdp());
    assert_eq!(talk.rig.packet(A, talk.call.for_a, &udptl), None);
    assert!(talk.rig.packet(A, talk.call.for_a, &rtp(0xa, 2)).is_some());
}

#[test]
fn t38_in_a_section_of_its_own_takes_single_ports_and_any_datagram() {
    let mut talk = Talk::new();
    let sections = ["m=audio 0 RTP/AVP 0\r\n", "m=image 4002 udptl t38\r\n"];
    let offer = medias_of(&talk.says(Side::Caller, &with(A, &sections)));
    assert_eq!(talk.rig.ports().leased, 2);
    let answer = ["m=audio 0 RTP/AVP 0\r\n", "m=image 7002 udptl t38\r\n"];
    let answer = medias_of(&talk.says(Side::Callee, &with(B, &answer)));
    let (for_a, for_b) = (answer[1].unwrap(), offer[1].unwrap());
    assert_eq!(talk.rig.packet("203.0.113.100:4002", for_a, b"x").unwrap().to, address("203.0.113.200:7002"));
    assert!(talk.rig.packet("203.0.113.200:7002", for_b, &stun()).is_some(), "even what looks like STUN");
    assert_eq!(talk.rig.packet("192.0.2.1:1", for_a, b"x"), None);
}

#[test]
fn a_datagram_stream_that_turns_to_audio_gets_rtcp_ports_and_says_where() {
    let mut rig = Rig::new(config());
    let fax = with(A, &["m=image 4000 udptl t38\r\n"]);
    rig.invite(&public(A).ask(S, Side::Caller), &fax, false);
    assert_eq!(rig.ports().leased, 2);
    let offer = rig.invite(&public(A).ask(S, Side::Caller), &public(A).sdp(), true);
    assert_eq!(rig.ports().leased, 4);
    let sdp = proto::sdp::Sdp::parse(offer.body()).unwrap();
    let told = sdp.media[0].rtcp_address().unwrap();
    assert!(rig.sockets.contains_key(&told), "{told}");
}

#[test]
fn rtcp_mux_is_offered_with_a_pair_and_agreed_on_one_port() {
    let mut rig = Rig::new(config());
    let mux = |media: &str| Phone { lines: "a=rtcp-mux\r\n".into(), ..public(media) };
    let offer = rig.invite(&mux(A).ask(S, Side::Caller), &mux(A).sdp(), false);
    assert_eq!(rig.ports().leased, 4, "the other side may not know it");
    let answer = rig.invite(&mux(B).ask(S, Side::Callee), &mux(B).sdp(), true);
    assert_eq!(rig.ports().leased, 2);
    let (for_a, for_b) = (media_of(&answer), media_of(&offer));
    let sent = rig.packet(A, for_a, &rtcp_report(0xa)).unwrap();
    assert_eq!((sent.from, sent.to), (for_b, address(B)));
    assert_eq!(rig.bye(S), 200);
    assert_eq!(rig.ports().leased, 0);
}

#[test]
fn one_party_with_rtcp_mux_and_one_without_hear_each_others_rtcp() {
    let mut rig = Rig::new(config());
    let a = Phone { lines: "a=rtcp-mux\r\n".into(), ..public(A) };
    let call = rig.call(1, &a, &public(B));
    assert_eq!(rig.ports().leased, 4);
    let sent = rig.packet("203.0.113.100:4001", rtcp(call.for_a), &rtcp_report(0xa)).unwrap();
    assert_eq!((sent.from, sent.to), (rtcp(call.for_b), address("203.0.113.200:7001")));
    let muxed = rig.packet(A, call.for_a, &rtcp_report(0xa)).unwrap();
    assert_eq!(
        muxed.to,
        address("203.0.113.200:7001"),
        "RTCP on the media port goes to where RTCP is wanted"
    );
}

#[test]
fn rtcp_goes_where_a_rtcp_says() {
    let mut rig = Rig::new(config());
    let b = Phone { lines: "a=rtcp:7777\r\n".into(), ..public(B) };
    let call = rig.call(1, &public(A), &b);
    let sent = rig.packet("203.0.113.100:4001", rtcp(call.for_a), &rtcp_report(0xa)).unwrap();
    assert_eq!(sent.to, address("203.0.113.200:7777"));
}

#[test]
fn bundled_sections_share_the_first_ones_ports() {
    let mut rig = Rig::new(config());
    let bundle = |media: &str, ports: [u16; 2]| {
        let audio =
            format!("a=group:BUNDLE a v\r\nm=audio {} RTP/AVP 0\r\na=mid:a\r\na=rtcp-mux\r\n", ports[0]);
        let video = format!("m=video {} RTP/AVP 96\r\na=mid:v\r\na=rtcp-mux\r\n", ports[1]);
        with(media, &[&audio, &video])
    };
    rig.invite(&public(A).ask(S, Side::Caller), &bundle(A, [4000, 4002]), false);
    assert_eq!(rig.ports().leased, 8);
    let answer = rig.invite(&public(B).ask(S, Side::Callee), &bundle(B, [7000, 7000]), true);
    let medias = medias_of(&answer);
    assert_eq!(medias[0], medias[1]);
    assert_eq!(rig.ports().leased, 2, "{}", text(&answer));
    assert_eq!(rig.packet(A, medias[0].unwrap(), &rtp(0xa, 0)).unwrap().to, address(B));
    assert_eq!(rig.packet(A, medias[0].unwrap(), &rtp(0xeee, 9)).unwrap().to, address(B));
}

#[test]
fn a_late_offer_finds_its_ports_reserved() {
    let mut rig = Rig::new(config());
    let made = rig.invite(&public(A).ask(S, Side::Caller), "", false);
    assert_eq!((made.status(), made.body().len(), rig.ports().leased), (Some(200), 0, 4));
    let offer = rig.invite(&public(B).ask(S, Side::Callee), &public(B).sdp(), true);
    let answer = rig.invite(&public(A).ask(S, Side::Caller), &public(A).sdp(), true);
    assert_eq!(rig.ports().leased, 4);
    let (for_a, for_b) = (media_of(&offer), media_of(&answer));
    assert_eq!(rig.packet(A, for_a, &rtp(0xa, 0)).unwrap().to, address(B));
    assert_eq!(rig.packet(B, for_b, &rtp(0xb, 0)).unwrap().to, address(A));
}

#[test]
fn facts_may_come_before_the_description() {
    let mut rig = Rig::new(config());
    let offer = rig.invite(&public(A).ask(S, Side::Caller), &public(A).sdp(), false);
    let early =
        |rig: &mut Rig| rig.packet("198.51.100.9:5", media_of(&offer), &rtp(0xb, 0)).map(|sent| sent.to);
    assert_eq!(early(&mut rig), None, "nobody knows yet where B is");
    let b = natted("192.168.1.1:7000", "198.51.100.9:5060");
    rig.invite(&b.ask(S, Side::Callee), "", true);
    assert_eq!(early(&mut rig), Some(address(A)));
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
fn one_section_not_in_datagrams_stays_as_it_is_beside_others() {
    let mut rig = Rig::new(config());
    let sections = ["m=audio 4000 RTP/AVP 0\r\n", "m=message 9999 TCP/MSRP *\r\n"];
    let offer = rig.invite(&public(A).ask(S, Side::Caller), &with(A, &sections), false);
    assert_eq!((offer.status(), rig.ports().leased), (Some(200), 4));
    assert!(text(&offer).contains("m=message 9999 TCP/MSRP *\r\n"));
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
