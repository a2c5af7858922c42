//! Reads and rewrites of descriptions, each as a sentence; then properties over made-up ones.

use proptest::prelude::*;

use super::*;

const OFFER: &str = "v=0\r\n\
o=alice 2890844526 2890844526 IN IP4 10.0.0.5\r\n\
s=-\r\n\
c=IN IP4 10.0.0.5\r\n\
t=0 0\r\n\
m=audio 49170 RTP/AVP 0 96\r\n\
a=rtpmap:96 opus/48000/2\r\n\
a=sendonly\r\n\
m=video 51372 RTP/AVP 31\r\n\
c=IN IP4 10.0.0.6/127\r\n\
a=rtcp:53020 IN IP4 10.0.0.7\r\n";

fn parse(text: &str) -> Sdp<'_> {
    Sdp::parse(text.as_bytes()).unwrap()
}

fn to(rtp: &str) -> Option<Rewrite> {
    let rtp: SocketAddr = rtp.parse().unwrap();
    Some(Rewrite { rtp, rtcp: Some(SocketAddr::new(rtp.ip(), rtp.port() + 1)) })
}

fn muxed(rtp: &str) -> Option<Rewrite> {
    to(rtp).map(|rewrite| Rewrite { rtcp: None, ..rewrite })
}

fn rewritten(text: &str, sections: &[Option<Rewrite>]) -> String {
    String::from_utf8(parse(text).rewrite(sections)).unwrap()
}

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn reads_what_a_relay_looks_at() {
    let sdp = parse(OFFER);
    assert_eq!(sdp.origin_address, Some("10.0.0.5"));
    assert_eq!(sdp.addresses(), ["10.0.0.5".parse::<IpAddr>().unwrap(), "10.0.0.6".parse().unwrap()]);
    let [audio, video] = &sdp.media[..] else { panic!("two sections") };
    assert_eq!((audio.media, audio.protocol, &audio.formats[..]), ("audio", "RTP/AVP", &["0", "96"][..]));
    assert_eq!(
        (audio.address(), audio.rtcp_address()),
        (address("10.0.0.5:49170"), address("10.0.0.5:49171"))
    );
    assert_eq!((audio.direction, video.direction), (Direction::SendOnly, Direction::SendRecv));
    assert_eq!(
        (video.address(), video.rtcp_address()),
        (address("10.0.0.6:51372"), address("10.0.0.7:53020"))
    );
    assert_eq!(
        (audio.clock_rate(96), audio.clock_rate(0), audio.clock_rate(97)),
        (Some(48_000), Some(8000), None)
    );
}

#[test]
fn rewrites_only_addresses_and_ports() {
    let expected = OFFER
        .replace("IN IP4 10.0.0.5", "IN IP4 192.0.2.1")
        .replace("m=audio 49170", "m=audio 30000")
        .replace("m=video 51372", "m=video 30002")
        .replace("10.0.0.6/127", "192.0.2.1")
        .replace("a=rtcp:53020 IN IP4 10.0.0.7", "a=rtcp:30003 IN IP4 192.0.2.1");
    assert_eq!(rewritten(OFFER, &[to("192.0.2.1:30000"), to("192.0.2.1:30002")]), expected);
}

#[test]
fn line_ends_stay_as_they_are_even_mixed() {
    let offer = "v=0\no=- 1 1 IN IP4 10.0.0.5\r\ns=-\nc=IN IP4 10.0.0.5\r\nt=0 0\nm=audio 5004 RTP/AVP 0";
    let expected =
        "v=0\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\nc=IN IP4 192.0.2.1\r\nt=0 0\nm=audio 6000 RTP/AVP 0";
    assert_eq!(rewritten(offer, &[to("192.0.2.1:6000")]), expected);
}

#[test]
fn a_section_without_a_rewrite_stays_and_keeps_the_session_address() {
    let offer =
        "v=0\r\nc=IN IP4 10.0.0.5\r\nm=audio 5004 RTP/AVP 0\r\ni=speech\r\na=x\r\nm=message 7 TCP/MSRP *\r\n";
    let expected = "v=0\r\nc=IN IP4 10.0.0.5\r\nm=audio 6000 RTP/AVP 0\r\ni=speech\r\nc=IN IP4 192.0.2.1\r\na=x\r\n\
        m=message 7 TCP/MSRP *\r\n";
    assert_eq!(rewritten(offer, &[to("192.0.2.1:6000"), None]), expected);
}

#[test]
fn sections_that_go_elsewhere_than_the_first_get_a_c_line_of_their_own() {
    let offer = "v=0\nc=IN IP4 10.0.0.5\nm=audio 5004 RTP/AVP 0\nm=video 5006 RTP/AVP 31\nb=AS:1";
    let expected = "v=0\nc=IN IP4 192.0.2.1\nm=audio 6000 RTP/AVP 0\n\
        m=video 6002 RTP/AVP 31\nc=IN IP6 2001:db8::1\nb=AS:1";
    assert_eq!(rewritten(offer, &[to("192.0.2.1:6000"), to("[2001:db8::1]:6002")]), expected);
}

#[test]
fn a_session_address_that_no_section_uses_is_not_shown_either() {
    let offer = "v=0\r\nc=IN IP4 10.0.0.5\r\nm=audio 5004 RTP/AVP 0\r\nc=IN IP4 10.0.0.6\r\n";
    assert!(!rewritten(offer, &[to("192.0.2.1:6000")]).contains("10.0.0."));
}

#[test]
fn a_description_without_any_c_line_gets_one() {
    let offer = "v=0\r\nm=audio 5004 RTP/AVP 0";
    assert_eq!(
        rewritten(offer, &[to("192.0.2.1:6000")]),
        "v=0\r\nm=audio 6000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1"
    );
}

#[test]
fn the_family_changes_with_the_address_in_every_line() {
    let offer = "v=0\r\no=- 1 1 IN IP4 10.0.0.5\r\nc=IN IP4 10.0.0.5\r\nm=audio 5004 RTP/AVP 0\r\n\
        a=rtcp:5005 IN IP4 10.0.0.5\r\n";
    let expected = "v=0\r\no=- 1 1 IN IP6 2001:db8::1\r\nc=IN IP6 2001:db8::1\r\nm=audio 6000 RTP/AVP 0\r\n\
        a=rtcp:6001 IN IP6 2001:db8::1\r\n";
    assert_eq!(rewritten(offer, &[to("[2001:db8::1]:6000")]), expected);
    let back = rewritten(expected, &[to("192.0.2.1:5004")]);
    assert_eq!(back, offer.replace("10.0.0.5", "192.0.2.1"));
}

#[test]
fn a_count_of_ports_and_odd_spacing_stay() {
    let offer = "v=0\r\nc= IN  IP4 10.0.0.5 \r\nm=audio  5004/2 RTP/AVP 0\r\n";
    let expected = "v=0\r\nc= IN  IP4 192.0.2.1 \r\nm=audio  6000/2 RTP/AVP 0\r\n";
    assert_eq!(rewritten(offer, &[to("192.0.2.1:6000")]), expected);
}

#[test]
fn a_hold_of_the_old_kind_keeps_its_address() {
    for hold in ["c=IN IP4 0.0.0.0", "c=IN IP6 ::"] {
        let session = format!("v=0\r\n{hold}\r\nm=audio 5004 RTP/AVP 0\r\n");
        let media = format!("v=0\r\nm=audio 5004 RTP/AVP 0\r\n{hold}\r\n");
        for offer in [session, media] {
            let sdp = parse(&offer);
            assert!(sdp.media[0].is_blackholed());
            assert_eq!((sdp.media[0].address(), sdp.addresses()), (None, vec![]));
            assert_eq!(rewritten(&offer, &[to("192.0.2.1:6000")]), offer.replace("5004", "6000"));
        }
    }
}

#[test]
fn a_hold_still_hides_who_holds() {
    let hold = "v=0\r\no=- 1 2 IN IP4 10.0.0.5\r\nc=IN IP4 0.0.0.0\r\nm=audio 5004 RTP/AVP 0\r\n";
    assert!(rewritten(hold, &[to("192.0.2.1:6000")]).contains("o=- 1 2 IN IP4 192.0.2.1\r\n"));
}

#[test]
fn one_held_section_does_not_hold_the_other() {
    let offer = "v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 5004 RTP/AVP 0\r\nm=video 5006 RTP/AVP 31\r\nc=IN IP4 10.0.0.5\r\n";
    let expected = "v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 6000 RTP/AVP 0\r\nm=video 6002 RTP/AVP 31\r\nc=IN IP4 192.0.2.1\r\n";
    assert_eq!(rewritten(offer, &[to("192.0.2.1:6000"), to("192.0.2.1:6002")]), expected);
}

#[test]
fn a_hold_at_session_level_stays_though_no_section_uses_it() {
    let offer = "v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 5004 RTP/AVP 0\r\nc=IN IP4 10.0.0.5\r\n";
    let expected = "v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 6000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n";
    assert_eq!(rewritten(offer, &[to("192.0.2.1:6000")]), expected);
}

#[test]
fn the_placeholder_of_trickle_ice_is_no_hold() {
    let offer = "v=0\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:x\r\nm=audio 9 RTP/AVP 0\r\n";
    assert!(!parse(offer).media[0].is_blackholed());
    let expected = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 6000 RTP/AVP 0\r\n";
    assert_eq!(rewritten(offer, &[to("192.0.2.1:6000")]), expected);
}

#[test]
fn a_rejected_section_stays_byte_for_byte() {
    let offer =
        "v=0\r\nc=IN IP4 10.0.0.5\r\nm=audio 5004 RTP/AVP 0\r\nm=video 0 RTP/AVP 31\r\na=ice-ufrag:x\r\n";
    let answer = rewritten(offer, &[to("192.0.2.1:6000"), None]);
    assert!(answer.ends_with("m=video 0 RTP/AVP 31\r\na=ice-ufrag:x\r\n"));
    assert!(answer.contains("c=IN IP4 192.0.2.1") && !answer.contains("10.0.0.5"), "{answer}");
    assert!(rewritten(offer, &[to("192.0.2.1:6000"), to("192.0.2.1:6002")]).contains("m=video 0 "));
}

#[test]
fn a_section_of_only_rejected_ones_keeps_its_zero() {
    let offer = "v=0\r\nc=IN IP4 10.0.0.5\r\nm=audio 0 RTP/AVP 0\r\n";
    assert_eq!(parse(offer).media[0].address(), None);
    assert_eq!(rewritten(offer, &[None]), offer);
}

#[test]
fn ice_goes_and_rtcp_mux_stays() {
    let ice = "a=candidate:1 1 UDP 2130706431 10.0.1.1 8998 typ host\r\na=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\n\
        a=remote-candidates:1 10.0.0.1 5\r\na=end-of-candidates\r\n";
    let session_ice = "a=ice-options:ice2 trickle\r\na=ice-lite\r\na=ice-mismatch\r\na=ice-pacing:50\r\n";
    let plain =
        "v=0\r\nc=IN IP4 10.0.0.5\r\n\u{1}m=audio 5004 RTP/AVP 0\r\na=rtcp-mux\r\n\u{2}a=sendrecv\r\n";
    let offer = plain.replace('\u{1}', session_ice).replace('\u{2}', ice);
    assert!(parse(&offer).has_ice());
    let expected =
        plain.replace(['\u{1}', '\u{2}'], "").replace("10.0.0.5", "192.0.2.1").replace("5004", "6000");
    let answer = rewritten(&offer, &[muxed("192.0.2.1:6000")]);
    assert_eq!(answer, expected);
    assert!(!parse(&answer).has_ice());
}

#[test]
fn rtcp_is_written_only_when_it_is_not_the_next_port() {
    let offer = "v=0\r\nc=IN IP4 10.0.0.5\r\nm=audio 5004 RTP/AVP 0\r\nb=AS:64\r\na=x\r\n";
    let apart =
        |rtcp: &str| rewritten(offer, &[to("192.0.2.1:6000").map(|r| Rewrite { rtcp: address(rtcp), ..r })]);
    assert!(!apart("192.0.2.1:6001").contains("a=rtcp"));
    assert!(apart("192.0.2.1:7000").ends_with("b=AS:64\r\na=rtcp:7000\r\na=x\r\n"));
    assert!(apart("192.0.2.2:6001").contains("a=rtcp:6001 IN IP4 192.0.2.2\r\n"));
}

#[test]
fn an_rtcp_line_names_the_media_port_once_muxed() {
    let offer =
        "v=0\r\nc=IN IP4 10.0.0.5\r\nm=audio 5004 RTP/AVP 0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=rtcp-mux\r\n";
    assert_eq!(parse(offer).media[0].rtcp_address(), address("10.0.0.5:5004"));
    let answer = rewritten(offer, &[muxed("192.0.2.1:6000")]);
    assert!(answer.contains("a=rtcp:6000 IN IP4 192.0.2.1\r\na=rtcp-mux\r\n"));
}

#[test]
fn fax_has_no_rtcp_and_tcp_is_not_ours() {
    let kinds = [
        ("RTP/AVP", Kind::Rtp),
        ("rtp/savpf", Kind::Rtp),
        ("UDP/TLS/RTP/SAVPF", Kind::Rtp),
        ("udptl", Kind::Datagram),
        ("UDP/TLS/UDPTL", Kind::Datagram),
        ("UDP/DTLS/SCTP", Kind::Datagram),
        ("DTLS/SCTP", Kind::Datagram),
        ("something/new", Kind::Datagram),
        ("TCP/MSRP", Kind::Other),
        ("TCP/RTP/AVP", Kind::Other),
        ("tcp", Kind::Other),
        ("", Kind::Other),
    ];
    for (protocol, kind) in kinds {
        assert_eq!(Kind::of_protocol(protocol), kind, "{protocol}");
    }
    let fax = "v=0\r\nc=IN IP4 10.0.0.5\r\nm=image 4000 udptl t38\r\na=T38FaxVersion:0\r\n";
    assert_eq!(parse(fax).media[0].rtcp_address(), None);
    assert_eq!(
        rewritten(fax, &[muxed("192.0.2.1:6000")]),
        fax.replace("10.0.0.5", "192.0.2.1").replace("4000", "6000")
    );
}

#[test]
fn bundled_sections_that_share_a_port_go_on_sharing() {
    let answer = "v=0\r\nc=IN IP4 10.0.0.5\r\na=group:BUNDLE a v\r\nm=audio 5004 RTP/AVP 0\r\na=mid:a\r\n\
        m=video 5004 RTP/AVP 31\r\na=mid:v\r\nm=audio 5008 RTP/AVP 0\r\na=mid:x\r\n";
    let sdp = parse(answer);
    assert_eq!(sdp.media.iter().map(|m| m.bundled).collect::<Vec<_>>(), [true, true, false]);
    let out = rewritten(answer, &[muxed("192.0.2.1:6000"), muxed("192.0.2.1:6002"), muxed("192.0.2.1:6004")]);
    let ports: Vec<u16> = parse(&out).media.iter().map(|m| m.port).collect();
    assert_eq!(ports, [6000, 6000, 6004]);
}

#[test]
fn every_c_line_of_a_section_follows() {
    let offer = "v=0\r\nm=video 49170/2 RTP/AVP 31\r\nc=IN IP4 224.2.1.1/127/3\r\nc=IN IP4 224.2.1.2/127\r\n";
    let expected = "v=0\r\nm=video 6000/2 RTP/AVP 31\r\nc=IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\n";
    assert_eq!(rewritten(offer, &[to("192.0.2.1:6000")]), expected);
}

#[test]
fn a_name_for_an_address_is_read_as_such_and_replaced() {
    let offer = "v=0\r\nc=IN IP4 phone.example.com\r\nm=audio 5004 RTP/AVP 0\r\n";
    let sdp = parse(offer);
    assert_eq!(sdp.connection, Some(Connection { host: "phone.example.com", ip: None }));
    assert_eq!(sdp.media[0].address(), None);
    assert!(rewritten(offer, &[to("192.0.2.1:6000")]).contains("c=IN IP4 192.0.2.1\r\n"));
}

#[test]
fn unreadable_lines_pass_through() {
    let offer = b"v=0\r\nnonsense\r\n=\r\n\xff\xfe=x\r\nm=\xff\xff 7 x\r\nc=\r\nm=audio 5004 RTP/AVP 0\r\na=\xff\r\nc=IN\r\n\r\n";
    let sdp = Sdp::parse(offer).unwrap();
    assert_eq!(sdp.media.iter().map(|m| m.port).collect::<Vec<_>>(), [0, 5004]);
    let out = sdp.rewrite(&[None, to("192.0.2.1:6000")]);
    let expected = b"v=0\r\nnonsense\r\n=\r\n\xff\xfe=x\r\nm=\xff\xff 7 x\r\nc=\r\nm=audio 6000 RTP/AVP 0\r\na=\xff\r\nc=IN IP4 192.0.2.1\r\n\r\n";
    assert_eq!(out, expected);
}

#[test]
fn refuses_what_is_no_description_and_what_passes_a_limit() {
    assert!(Sdp::parse(b"").is_err());
    assert!(Sdp::parse(b"hello\r\n").is_err());
    let sections = |n: usize| format!("v=0\r\n{}", "m=audio 1 RTP/AVP 0\r\n".repeat(n));
    assert!(Sdp::parse(sections(64).as_bytes()).is_ok());
    assert!(Sdp::parse(sections(65).as_bytes()).is_err());
    let long = format!("v=0\r\n{}", "a".repeat(65_536 - 5));
    assert!(Sdp::parse(long.as_bytes()).is_ok());
    assert!(Sdp::parse(format!("{long}a").as_bytes()).is_err());
}

/// Lines a description may hold, in any order and with odd ones among them.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]=[ -~]{0,20}",
        "c=IN IP[46] (10\\.0\\.0\\.[1-9]|fd00::[1-9]|0\\.0\\.0\\.0|::|host)(/127)?",
        "m=(audio|video|image) (0|9|[1-9][0-9]{3})(/2)? (RTP/AVP|udptl|TCP) 0",
        "a=rtcp:[1-9][0-9]{3}( IN IP4 10\\.0\\.0\\.[1-9])?",
        "a=(ice-ufrag:x|candidate:1 1 UDP 1 10\\.0\\.0\\.1 9 typ host|rtcp-mux|inactive|mid:a|group:BUNDLE a b)",
        "o=- 1 1 IN IP4 10\\.0\\.0\\.[1-9]",
    ]
}

fn description() -> impl Strategy<Value = String> {
    let lines = proptest::collection::vec((line(), prop_oneof![Just("\r\n"), Just("\n")]), 0..30);
    lines.prop_map(|lines| {
        let body: String = lines.into_iter().flat_map(|(line, end)| [line, end.to_owned()]).collect();
        format!("v=0\r\n{body}")
    })
}

fn rewrites() -> impl Strategy<Value = Vec<Option<Rewrite>>> {
    let addresses = prop_oneof![Just("192.0.2.1"), Just("192.0.2.2"), Just("2001:db8::1")];
    let one = (addresses, 1024u16..60_000, proptest::option::of(0u16..9)).prop_map(|(ip, port, rtcp)| {
        let ip: IpAddr = ip.parse().unwrap();
        let rtcp = rtcp.map(|apart| SocketAddr::new(ip, port + apart));
        Rewrite { rtp: SocketAddr::new(ip, port), rtcp }
    });
    proptest::collection::vec(proptest::option::of(one), 0..12)
}

/// What the editor may never touch.
fn untouchable(text: &str) -> Vec<&str> {
    let named = |line: &&str| {
        ["o=", "c=", "m=", "a=rtcp:", "a=candidate", "a=ice-", "a=remote-candidates", "a=end-of-candidates"]
            .iter()
            .any(|name| line.starts_with(name))
            || ["a=rtcp\n", "a=rtcp\r\n"].contains(line)
    };
    text.split_inclusive('\n').filter(|line| !named(line)).collect()
}

/// Found by fuzzing.
#[test]
fn a_connection_line_that_is_not_text_is_written_anew() {
    let offer = b"v=0\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 10.0.0.5 \x9b\r\n";
    let sdp = Sdp::parse(offer).unwrap();
    let out = sdp.rewrite(&[to("192.0.2.1:30000")]);
    assert_eq!(out, b"v=0\r\nm=audio 30000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n");
}

/// Found by fuzzing: the session's c= holds, and a rejected section's own can't be read.
#[test]
fn a_rejected_section_is_rewritten_once_and_for_all() {
    let text = "v=0\r\no=- 1 1 IN IP4 10.0.0.5\r\ns=-\r\nc=IN IP6 ::\r\nm=audio 0 RTP/AVP 0\r\nc=nowhere\r\n\
                m=audio 4000 RTP/AVP 0\r\nc=IN IP4 10.0.0.9\r\n";
    let sections = [to("192.0.2.1:6000"), to("192.0.2.1:6000")];
    let once = rewritten(text, &sections);
    assert_eq!(rewritten(&once, &sections), once);
}

proptest! {
    #[test]
    fn rewriting_nothing_gives_the_same_bytes(text in description(), count in 0usize..12) {
        prop_assert_eq!(rewritten(&text, &vec![None; count]), text);
    }

    #[test]
    fn rewriting_touches_only_the_named_lines(text in description(), sections in rewrites()) {
        let out = rewritten(&text, &sections);
        prop_assert_eq!(untouchable(&out), untouchable(&text));
    }

    #[test]
    fn every_live_section_says_what_it_was_told(text in description(), sections in rewrites()) {
        let before = parse(&text);
        let out = rewritten(&text, &sections);
        let after = parse(&out);
        prop_assert_eq!(before.media.len(), after.media.len());
        for (at, (was, is)) in before.media.iter().zip(&after.media).enumerate() {
            match sections.get(at).copied().flatten() {
                _ if was.port == 0 => prop_assert_eq!(is.port, 0),
                None => prop_assert_eq!((is.port, is.address()), (was.port, was.address())),
                Some(_) if was.is_blackholed() => prop_assert_eq!(is.address(), None),
                Some(_) if was.bundled => prop_assert!(is.address().is_some()),
                Some(rewrite) => prop_assert_eq!(is.address(), Some(rewrite.rtp)),
            }
        }
    }

    #[test]
    fn no_address_of_the_party_is_left_when_every_section_is_rewritten(text in description()) {
        let sections = vec![to("192.0.2.1:6000"); parse(&text).media.len()];
        let session_level = text.lines().take_while(|l| !l.starts_with("m="));
        if sections.is_empty() || session_level.filter(|l| l.starts_with("c=")).count() > 1 {
            return Ok(());
        }
        let out = rewritten(&text, &sections);
        let session_lines = out.lines().take_while(|l| !l.starts_with("m=")).filter(|l| l.starts_with("o=- 1 1 IN"));
        for line in out.lines().filter(|l| l.starts_with("c=IN IP")).chain(session_lines) {
            prop_assert!(!line.contains("10.0.0."), "{}", line);
        }
    }

    #[test]
    fn rewriting_twice_the_same_way_changes_nothing_more(text in description(), sections in rewrites()) {
        let once = rewritten(&text, &sections);
        prop_assert_eq!(rewritten(&once, &sections), once);
    }

    #[test]
    fn never_panics_on_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), sections in rewrites()) {
        if let Ok(sdp) = Sdp::parse(&bytes) {
            sdp.rewrite(&sections);
            let _ = (sdp.addresses(), sdp.has_ice());
        }
    }

    #[test]
    fn never_panics_on_damaged_descriptions(
        text in description(), sections in rewrites(), at in any::<prop::sample::Index>(), byte: u8,
    ) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(sdp) = Sdp::parse(&bytes) {
            sdp.rewrite(&sections);
        }
    }
}
