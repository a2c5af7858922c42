//! What becomes of the sections of a description, RTCP included.

use crate::*;

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
    assert_eq!(rig.ports().leased, 3, "the other side may not know it");
    let answer = rig.invite(&mux(B).ask(S, Side::Callee), &mux(B).sdp(), true);
    assert_eq!(rig.ports().leased, 2);
    let (for_a, for_b) = (media_of(&answer), media_of(&offer));
    let sent = rig.packet(A, for_a, &rtcp_report(0xa)).unwrap();
    assert_eq!((sent.from, sent.to), (for_b, address(B)));
    assert_eq!(rig.bye(S), 200);
    assert_eq!(rig.ports().leased, 0);
}

/// Two ports a call, and none that stays open beside them: the half of a pair that is not needed serves the next one.
#[test]
fn calls_with_rtcp_mux_have_two_ports_each_and_leave_none_over() {
    const CALLS: u64 = 40;
    let ports = 30_000..=30_000 + 2 * CALLS as u16 + 9;
    let mut rig = Rig::new(Config {
        ports: ports.clone(),
        all_ports: ports,
        reserve: 2,
        quarantine: SECOND,
        ..config()
    });
    let mux = |media: &str| Phone { lines: "a=rtcp-mux\r\n".into(), ..public(media) };
    for number in 1..=CALLS {
        rig.call(number, &mux(A), &mux(B));
        rig.pass(2 * SECOND);
    }
    let ports = rig.ports();
    assert_eq!(ports.leased as u64, 2 * CALLS);
    // A sixteenth of what is lent, and the least in the other two networks.
    assert_eq!(ports.reserved, 2 * (5 + 2 + 2), "{ports:?}");
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
    assert_eq!(rig.ports().leased, 6);
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
fn one_section_not_in_datagrams_stays_as_it_is_beside_others() {
    let mut rig = Rig::new(config());
    let sections = ["m=audio 4000 RTP/AVP 0\r\n", "m=message 9999 TCP/MSRP *\r\n"];
    let offer = rig.invite(&public(A).ask(S, Side::Caller), &with(A, &sections), false);
    assert_eq!((offer.status(), rig.ports().leased), (Some(200), 4));
    assert!(text(&offer).contains("m=message 9999 TCP/MSRP *\r\n"));
}
