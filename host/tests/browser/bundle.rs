//! Audio and video in a bundle: one port at the browser, one for each at the phone.

use crate::*;

/// Audio and video; with `alone` the video is offered in the bundle alone (`max-bundle`).
fn with_video(browser: &Browser, alone: bool) -> String {
    let audio = browser.sdp("actpass").replace("BUNDLE 0", "BUNDLE 0 1");
    let keys = audio.split("a=rtcp:9").nth(1).unwrap().split("a=mid:0").next().unwrap();
    let keys = keys.split_once("\r\n").unwrap().1;
    let (port, c, only) =
        if alone { (0, "0.0.0.0", "a=bundle-only\r\n") } else { (4002, "203.0.113.100", "") };
    let keys = if alone { String::new() } else { keys.to_owned() };
    // Alone in the bundle it says nothing of keys, address or reports: its first section has (RFC 9143 §7.1.3).
    let mux = if alone { "" } else { "a=rtcp-mux\r\n" };
    format!(
        "{audio}m=video {port} UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 {c}\r\n{keys}a=mid:1\r\na=sendrecv\r\n{mux}{only}\
         a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\n"
    )
}

/// A phone with audio and video on ports of their own; port 0 rejects.
fn phones(audio: u16, video: u16) -> String {
    public(B).head()
        + &format!("m=audio {audio} RTP/AVP 0\r\nm=video {video} RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n")
}

fn sections(sdp: &str) -> Vec<Option<SocketAddr>> {
    Sdp::parse(sdp.as_bytes()).unwrap().media.iter().map(|media| media.address()).collect()
}

/// Packet `n` of a video stream.
fn video(ssrc: u32, n: u16) -> Vec<u8> {
    let mut packet = rtp(ssrc, n);
    packet[1] = 96;
    packet
}

/// They talk on one port; where the phone is to send audio and video.
fn bundled(alone: bool) -> (Rig, Browser, [SocketAddr; 2]) {
    let (mut rig, mut browser) = (relay(), Browser::new(A));
    let sdp = with_video(&browser, alone);
    let offer = said(&mut rig, &browser.phone(), Side::Caller, &sdp, keying(CALLS, false), false);
    assert!(
        !offer.contains("BUNDLE") && !offer.contains("0.0.0.0") && !offer.contains("bundle-only"),
        "{offer}"
    );
    let answer = said(&mut rig, &public(B), Side::Callee, &phones(7000, 7002), keying(CALLS, true), true);
    assert!(answer.contains("a=group:BUNDLE 0 1\r\n"), "{answer}");
    browser.read(&answer);
    assert_eq!(sections(&answer), vec![Some(browser.relay); 2], "{answer}");
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    let [Some(audio), Some(video)] = sections(&offer)[..] else { panic!("{offer}") };
    assert_ne!(audio, video);
    (rig, browser, [audio, video])
}

fn sees(rig: &mut Rig, browser: &mut Browser, for_b: SocketAddr, n: u16) {
    let there = rig.packet(A, browser.relay, &browser.seal(&video(0x1a, n))).expect("sent on");
    assert_eq!((there.from, there.to, there.bytes), (for_b, address("203.0.113.200:7002"), video(0x1a, n)));
    let back = rig.packet("203.0.113.200:7002", for_b, &video(0x1b, n));
    assert_eq!(browser.open(back), video(0x1b, n));
}

#[test]
fn a_browsers_bundle_is_one_port_there_and_a_port_for_each_section_at_the_phone() {
    for alone in [false, true] {
        let (mut rig, mut browser, [audio, video]) = bundled(alone);
        assert_eq!(rig.ports().leased, 5, "one for the browser, two pairs for the phone");
        for n in 0..20 {
            both_ways(&mut rig, &mut browser, audio, n);
            sees(&mut rig, &mut browser, video, n);
        }
        // Reports go where their source is known, feedback where whom it is about is.
        let there = rig.packet(A, browser.relay, &browser.seal(&rtcp_report(0x1a))).expect("sent on");
        assert_eq!(there.to, address("203.0.113.200:7003"));
        let there = rig.packet(A, browser.relay, &browser.seal(&rtcp_report(0xa))).expect("sent on");
        assert_eq!(there.to, address("203.0.113.200:7001"));
        let mut pli = vec![0x81, 206, 0, 2, 0, 0, 0, 1];
        pli.extend(0x1bu32.to_be_bytes());
        let there = rig.packet(A, browser.relay, &browser.seal(&pli)).expect("sent on");
        assert_eq!((there.to, there.bytes), (address("203.0.113.200:7003"), pli));
        assert_eq!(rig.bye(Session(1)), 200);
        assert_eq!(rig.ports().leased, 0);
    }
}

#[test]
fn a_bundle_outlives_a_section_that_is_rejected_even_its_first() {
    let (mut rig, mut browser, [audio, _]) = bundled(false);
    said(&mut rig, &public(B), Side::Callee, &phones(7000, 0), keying(CALLS, false), true);
    both_ways(&mut rig, &mut browser, audio, 1);
    assert_eq!(rig.ports().leased, 3);
    assert_eq!((rig.bye(Session(1)), rig.ports().leased), (200, 0));

    let (mut rig, mut browser, [_, video]) = bundled(false);
    sees(&mut rig, &mut browser, video, 1);
    said(&mut rig, &public(B), Side::Callee, &phones(0, 7002), keying(CALLS, false), true);
    sees(&mut rig, &mut browser, video, 2);
    browser.nominate(&mut rig, A);
    assert_eq!(rig.ports().leased, 3);
    assert_eq!((rig.bye(Session(1)), rig.ports().leased), (200, 0));
}

#[test]
fn a_bundle_goes_on_after_a_kill_and_through_re_invites() {
    let (mut rig, mut browser, [audio, video]) = bundled(true);
    both_ways(&mut rig, &mut browser, audio, 1);
    sees(&mut rig, &mut browser, video, 1);
    let (tables, config, now) = (rig.tables, rig.config, rig.now);
    let mut rig = Rig::after(config, tables, now, true);
    assert_eq!(rig.ports().leased, 5);
    both_ways(&mut rig, &mut browser, audio, 2);
    sees(&mut rig, &mut browser, video, 2);
    let offer = said(&mut rig, &public(B), Side::Callee, &phones(7000, 7002), keying(CALLS, false), true);
    assert!(offer.contains("a=group:BUNDLE 0 1\r\n"), "{offer}");
    assert_eq!(sections(&offer), vec![Some(browser.relay); 2]);
    let again = with_video(&browser, false).replace("m=video 4002", "m=video 4000");
    said(&mut rig, &browser.phone(), Side::Caller, &again, keying(CALLS, true), true);
    said(&mut rig, &browser.phone(), Side::Caller, &again, keying(CALLS, false), true);
    let answer = said(&mut rig, &public(B), Side::Callee, &phones(7000, 7002), keying(CALLS, true), true);
    assert_eq!(sections(&answer), vec![Some(browser.relay); 2], "{answer}");
    both_ways(&mut rig, &mut browser, audio, 3);
    sees(&mut rig, &mut browser, video, 3);
    assert_eq!(rig.ports().leased, 5);
}
