//! Calls of SIP, one stream each: what both sides read, who is heard, and until when.

use proto::sip::Name;

use crate::*;

#[test]
fn a_phone_reads_nothing_that_only_browsers_say_and_the_browser_all_it_needs() {
    let (mut rig, browser) = (relay(), Browser::new(A));
    let offer =
        said(&mut rig, &browser.phone(), Side::Caller, &browser.sdp("actpass"), keying(CALLS, false), false);
    let port = first(&offer).port();
    let ours = OUTSIDE;
    assert_eq!(
        offer,
        format!(
            "v=0\r\no=- 1 2 IN IP4 {ours}\r\ns=-\r\nt=0 0\r\nm=audio {port} RTP/AVP 111 0 101\r\nc=IN IP4 {ours}\r\n\
             a=rtcp:{} IN IP4 {ours}\r\na=sendrecv\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n",
            port + 1
        )
    );
    let phone = public(B);
    let answer = said(&mut rig, &phone, Side::Callee, &phone.sdp(), keying(CALLS, true), true);
    for line in [
        "a=ice-lite\r\nm=",
        "a=mid:0\r\n",
        "a=rtcp-mux\r\n",
        "a=setup:passive\r\n",
        "a=end-of-candidates\r\n",
    ] {
        assert!(answer.contains(line), "{line} is missing in\n{answer}");
    }
    let candidate =
        format!("a=candidate:1 1 UDP 2130706431 {OUTSIDE} {} typ host\r\n", first(&answer).port());
    assert!(answer.contains(&candidate), "{answer}");
}

#[test]
fn a_browser_calls_a_phone_and_both_hear_each_other_on_one_port_and_on_two() {
    let (mut rig, mut browser, for_b) = talking();
    for n in 0..50 {
        both_ways(&mut rig, &mut browser, for_b, n);
    }
    let report = browser.seal(&rtcp_report(0xa));
    let there = rig.packet(A, browser.relay, &report).expect("sent on");
    assert_eq!(
        (there.from, there.to),
        (rtcp(for_b), rtcp(address(B))),
        "a phone's reports have a port of their own"
    );
    assert_eq!(there.bytes, rtcp_report(0xa));
    let back = rig.packet("203.0.113.200:7001", rtcp(for_b), &rtcp_report(0xb));
    assert_eq!(browser.open(back), rtcp_report(0xb));
    assert_eq!(rig.ports().leased, 3);
    assert_eq!(rig.bye(Session(1)), 200);
    assert_eq!(rig.ports().leased, 0);
}

#[test]
fn a_phone_calls_a_browser() {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let parties = [Srtp::Pass, Srtp::Dtls];
    let phone = public(B);
    let offer = said(&mut rig, &phone, Side::Caller, &phone.sdp(), keying(parties, false), false);
    assert!(offer.contains("a=setup:actpass\r\n"), "{offer}");
    browser.read(&offer);
    let answer =
        said(&mut rig, &browser.phone(), Side::Callee, &browser.sdp("active"), keying(parties, true), true);
    assert!(answer.contains(" RTP/AVP ") && !answer.contains("fingerprint"), "{answer}");
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, first(&answer), 1);
}

/// RFC 8858: what is offered says so beforehand; who has RTCP on a port of its own all the same reads why it can't be.
#[test]
fn a_handshake_for_rtcp_alone_is_refused_in_an_offer_and_in_an_answer() {
    let apart = |browser: &Browser, setup: &str| browser.sdp(setup).replace("a=rtcp-mux\r\n", "");
    let refused = |rig: &mut Rig, ask: &proto::control::Ask, sdp: &str, inside: bool| {
        let answer = rig.invite(ask, sdp, inside);
        let told = answer.text(Name::Warning).map(str::to_owned).unwrap_or_default();
        assert!(answer.status() == Some(488) && told.contains("a=rtcp-mux"), "{:?}", answer.bytes());
    };
    let (mut rig, browser) = (relay(), Browser::new(A));
    let phone = Phone { srtp: keying(CALLS, false), ..browser.phone() };
    refused(&mut rig, &phone.ask(Session(1), Side::Caller), &apart(&browser, "actpass"), false);
    assert_eq!(rig.ports().leased, 0);

    let parties = [Srtp::Plain, Srtp::Dtls];
    let phone = public(B);
    let offer = said(&mut rig, &phone, Side::Caller, &phone.sdp(), keying(parties, false), false);
    assert!(offer.contains("a=rtcp-mux\r\na=rtcp-mux-only\r\n"), "{offer}");
    let answers = Phone { srtp: keying(parties, true), ..browser.phone() };
    refused(&mut rig, &answers.ask(Session(1), Side::Callee), &apart(&browser, "active"), true);
}

/// RFC 8840: at first nothing is known of where it is, and nothing needs to be: its checks show it.
#[test]
fn a_browser_that_trickles_is_where_its_checks_come_from() {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let full = browser.sdp("actpass");
    let whole = |line: &&str| !line.starts_with("a=candidate");
    let sdp: String = full.lines().filter(whole).map(|line| format!("{line}\r\n")).collect();
    let sdp = sdp.replace("m=audio 4000", "m=audio 9").replace("c=IN IP4 203.0.113.100", "c=IN IP4 0.0.0.0");
    let offer = said(&mut rig, &browser.phone(), Side::Caller, &sdp, keying(CALLS, false), false);
    let phone = public(B);
    let answer = said(&mut rig, &phone, Side::Callee, &phone.sdp(), keying(CALLS, true), true);
    browser.read(&answer);
    assert!(!offer.contains("0.0.0.0"), "{offer}");
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, first(&offer), 1);
}

/// RFC 3261 §13.2.1: the one who is called makes the offer, in its 200.
#[test]
fn a_browser_that_is_called_without_an_offer_makes_one() {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let parties = [Srtp::Plain, Srtp::Dtls];
    let phone = Phone { srtp: keying(parties, false), ..public(B) };
    assert_eq!(rig.invite(&phone.ask(Session(1), Side::Caller), "", false).status(), Some(200));
    let browsers = browser.sdp("actpass");
    let offer = said(&mut rig, &browser.phone(), Side::Callee, &browsers, keying(parties, false), true);
    assert!(offer.contains(" RTP/AVP ") && !offer.contains("fingerprint"), "{offer}");
    let answer = said(&mut rig, &phone, Side::Caller, &phone.sdp(), keying(parties, true), true);
    browser.read(&answer);
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, first(&offer), 1);
}

/// RFC 8839 §4.4.1.1.1: an offer with other credentials gets other ones of ours.
#[test]
fn a_browser_that_restarts_ice_gets_new_credentials_and_keeps_its_keys() {
    let (mut rig, mut browser, for_b) = talking();
    both_ways(&mut rig, &mut browser, for_b, 1);
    let old = (browser.ufrag.clone(), browser.pwd.clone());
    let again = browser.sdp("actpass").replace("ice-ufrag:brow", "ice-ufrag:anew");
    said(&mut rig, &browser.phone(), Side::Caller, &again, keying(CALLS, false), true);
    let phone = public(B);
    let answer = said(&mut rig, &phone, Side::Callee, &phone.sdp(), keying(CALLS, true), true);
    browser.read(&answer);
    assert!(browser.ufrag != old.0 && browser.pwd != old.1, "{answer}");
    browser.at = "192.0.2.7:6000";
    browser.nominate(&mut rig, browser.at);
    both_ways(&mut rig, &mut browser, for_b, 2);
}

#[test]
fn a_browser_that_checks_and_shakes_hands_before_its_answer_has_come_is_heard_once_it_has() {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let parties = [Srtp::Plain, Srtp::Dtls];
    let phone = public(B);
    let offer = said(&mut rig, &phone, Side::Caller, &phone.sdp(), keying(parties, false), false);
    browser.read(&offer);
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    assert_eq!(rig.packet(A, browser.relay, &browser.seal(&rtp(0xa, 0))), None, "nobody has vouched for it");
    assert_eq!(rig.dropped(Why::Unkeyed), 1);
    let answer =
        said(&mut rig, &browser.phone(), Side::Callee, &browser.sdp("active"), keying(parties, true), true);
    both_ways(&mut rig, &mut browser, first(&answer), 1);
}

#[test]
fn a_party_that_wants_to_be_asked_is_asked() {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let parties = [Srtp::Plain, Srtp::Dtls];
    let phone = public(B);
    let offer = said(&mut rig, &phone, Side::Caller, &phone.sdp(), keying(parties, false), false);
    browser.read(&offer);
    let answer =
        said(&mut rig, &browser.phone(), Side::Callee, &browser.sdp("passive"), keying(parties, true), true);
    assert!(rig.sent.is_empty(), "nothing is sent before the pair is nominated");
    let before = rig.sent.len();
    browser.nominate(&mut rig, A);
    let hello = rig.sent.get(before + 1).cloned().expect("a ClientHello behind the answer to the check");
    assert_eq!((hello.bytes[0], hello.to), (22, address(A)));
    rig.sent.retain(|sent| sent.bytes[0] == 22);
    browser.shake(&mut rig, false);
    both_ways(&mut rig, &mut browser, first(&answer), 1);
}

#[test]
fn another_certificate_than_the_one_that_was_named_gets_no_keys() {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let for_b = called(&mut rig, &mut browser);
    browser.nominate(&mut rig, A);
    browser.maker = Maker::new().unwrap();
    browser.shake(&mut rig, true);
    let told = |event: &Event| matches!(event, Event::Warning { why, .. } if why.contains("certificate"));
    assert!(rig.events.iter().any(told), "{:?}", rig.events);
    assert_eq!(rig.packet(B, for_b, &rtp(0xb, 1)), None);
    assert_eq!(rig.dropped(Why::Unkeyed), 1);
}

#[test]
fn a_check_without_our_password_is_answered_by_nothing_and_moves_nobody() {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let for_b = called(&mut rig, &mut browser);
    for from in [A, "192.0.2.66:1"] {
        assert_eq!(rig.packet(from, browser.relay, &browser.check("wrongwrongwrongwrongwrong", true)), None);
        assert_eq!(rig.packet(from, browser.relay, &Writer::request([1; 12]).finish()), None);
    }
    assert_eq!(rig.dropped(Why::Stun), 4);
    assert_eq!(rig.packet(A, browser.relay, &[22; 40]), None, "no handshake before a pair is nominated");
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, for_b, 1);
    assert_eq!(rig.packet("192.0.2.66:1", browser.relay, &browser.seal(&rtp(0xa, 2))), None);
    assert_eq!(
        rig.packet("192.0.2.66:1", browser.relay, &browser.check("wrongwrongwrongwrongwrong", true)),
        None
    );
    both_ways(&mut rig, &mut browser, for_b, 3);
}

#[test]
fn a_check_that_nominates_nothing_is_answered_and_moves_nobody() {
    let (mut rig, mut browser, for_b) = talking();
    let elsewhere = rig.packet("203.0.113.100:5555", browser.relay, &browser.check(&browser.pwd, false));
    assert!(elsewhere.is_some());
    both_ways(&mut rig, &mut browser, for_b, 1);
}

#[test]
fn a_browser_that_moves_nominates_its_new_pair_and_is_there_at_once() {
    let (mut rig, mut browser, for_b) = talking();
    both_ways(&mut rig, &mut browser, for_b, 1);
    browser.at = "192.0.2.7:6000";
    assert_eq!(
        rig.packet(browser.at, browser.relay, &browser.seal(&rtp(0xa, 2))),
        None,
        "not without a check"
    );
    browser.nominate(&mut rig, browser.at);
    both_ways(&mut rig, &mut browser, for_b, 3);
}

#[test]
fn consent_ends_thirty_seconds_after_the_last_check_and_comes_back_with_the_next() {
    let (mut rig, browser, for_b) = talking();
    rig.pass(20 * SECOND);
    browser.nominate(&mut rig, A);
    rig.pass(30 * SECOND);
    assert!(rig.packet(B, for_b, &rtp(0xb, 1)).is_some());
    rig.pass(MS);
    assert_eq!(rig.packet(B, for_b, &rtp(0xb, 2)), None);
    assert_eq!(rig.dropped(Why::Unwanted), 1);
    browser.nominate(&mut rig, A);
    assert!(rig.packet(B, for_b, &rtp(0xb, 3)).is_some());
}

#[test]
fn two_browsers_hear_each_other_each_under_keys_of_its_own() {
    let (mut rig, mut a, mut b) = (relay(), Browser::new(A), Browser::new(B));
    let parties = [Srtp::Dtls; 2];
    let offer = said(&mut rig, &a.phone(), Side::Caller, &a.sdp("actpass"), keying(parties, false), false);
    b.read(&offer);
    let answer = said(&mut rig, &b.phone(), Side::Callee, &b.sdp("active"), keying(parties, true), true);
    a.read(&answer);
    for browser in [&mut a, &mut b] {
        browser.nominate(&mut rig, browser.at);
        browser.shake(&mut rig, true);
    }
    let there = rig.packet(A, a.relay, &a.seal(&rtp(0xa, 1)));
    assert_eq!(b.open(there), rtp(0xa, 1));
    let back = rig.packet(B, b.relay, &b.seal(&rtcp_report(0xb)));
    assert_eq!(a.open(back), rtcp_report(0xb));
}

#[test]
fn a_phone_with_dtls_and_without_ice_is_latched_like_any_phone() {
    let (mut rig, mut browser) = (relay(), Browser { ice: false, ..Browser::new(A) });
    let for_b = called(&mut rig, &mut browser);
    assert_eq!(rig.packet("192.0.2.66:1", browser.relay, &[22; 40]), None);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, for_b, 1);
}

#[test]
fn a_relay_that_was_killed_goes_on_with_a_browser() {
    let (mut rig, mut browser, for_b) = talking();
    both_ways(&mut rig, &mut browser, for_b, 1);
    let (tables, config, now) = (rig.tables, rig.config, rig.now);
    let mut next = Rig::after(config, tables, now, true);
    both_ways(&mut next, &mut browser, for_b, 2);
    next.pass(29 * SECOND);
    browser.nominate(&mut next, A);
    both_ways(&mut next, &mut browser, for_b, 3);
}

#[test]
fn a_re_invite_of_either_side_changes_no_keys() {
    let (mut rig, mut browser, for_b) = talking();
    both_ways(&mut rig, &mut browser, for_b, 1);
    let phone = public(B);
    let offer = said(&mut rig, &phone, Side::Callee, &phone.sdp(), keying(CALLS, false), true);
    let before = (browser.ufrag.clone(), browser.relay);
    browser.read(&offer);
    assert_eq!((browser.ufrag.clone(), browser.relay), before);
    said(&mut rig, &browser.phone(), Side::Caller, &browser.sdp("active"), keying(CALLS, true), true);
    both_ways(&mut rig, &mut browser, for_b, 2);
    said(&mut rig, &browser.phone(), Side::Caller, &browser.sdp("actpass"), keying(CALLS, false), true);
    let answer = said(&mut rig, &phone, Side::Callee, &phone.sdp(), keying(CALLS, true), true);
    browser.read(&answer);
    both_ways(&mut rig, &mut browser, for_b, 3);
    assert_eq!(rig.ports().leased, 3);
}
