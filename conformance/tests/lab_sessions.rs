//! Scenario 1e: what sessions do after they began, and the odder ways of beginning one; always between a caller behind a
//! port-restricted NAT and a callee behind a symmetric one, so that everything has to go through the relay.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use conformance::lab::domains::{Call, ip, told};
use conformance::lab::phone::{Phone, Voice, audio_at, rtp};
use conformance::lab::sbc::{SBC, Sbc};

/// Both phones' private address: the ranges overlap.
const PRIVATE: &str = "192.168.1.10";

struct Parties {
    alice: Phone,
    bob: Phone,
    stage: Sbc,
}

fn parties() -> Option<Parties> {
    let stage = Sbc::up("-s home:port-restricted:alice -s office:symmetric:bob")?;
    let (alice, bob) = (stage.phone("alice", "192.168.1.10:5060"), stage.phone("bob", "192.168.1.10:5060"));
    Some(Parties { alice, bob, stage })
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(ip(PRIVATE), port)
}

/// Both speak to where they were told; whether each heard most of what the other said in one second.
fn both_hear(a: &Voice, b: &Voice, to_a: SocketAddr, to_b: SocketAddr) -> bool {
    a.speak_to(Some(to_a));
    b.speak_to(Some(to_b));
    std::thread::sleep(Duration::from_millis(300)); // latching and re-latching
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    a.count(b.ssrc, began) >= 45 && b.count(a.ssrc, began) >= 45
}

/// Sends a datagram each way until both have come through (a relay wants to be spoken to first); what each received.
fn exchange(
    a: &UdpSocket,
    b: &UdpSocket,
    to_a: SocketAddr,
    to_b: SocketAddr,
    datagrams: (&[u8], &[u8]),
) -> (Vec<u8>, Vec<u8>) {
    let (mut heard_a, mut heard_b, mut buffer) = (Vec::new(), Vec::new(), [0; 2048]);
    for socket in [a, b] {
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    }
    for _ in 0..15 {
        a.send_to(datagrams.0, to_a).unwrap();
        b.send_to(datagrams.1, to_b).unwrap();
        if let Ok((size, from)) = a.recv_from(&mut buffer) {
            assert_eq!(from, to_a, "A hears from another place than it speaks to");
            heard_a = buffer[..size].to_vec();
        }
        if let Ok((size, from)) = b.recv_from(&mut buffer) {
            assert_eq!(from, to_b, "B hears from another place than it speaks to");
            heard_b = buffer[..size].to_vec();
        }
        if !heard_a.is_empty() && !heard_b.is_empty() {
            break;
        }
    }
    (heard_a, heard_b)
}

/// An SDP at [`PRIVATE`] with these lines after the session level.
fn sdp(version: u32, media: &str) -> String {
    let head = format!("v=0\r\no=- 7 {version} IN IP4 {PRIVATE}\r\ns=-\r\nc=IN IP4 {PRIVATE}\r\nt=0 0\r\n");
    format!("{head}{}", media.lines().map(|line| format!("{line}\r\n")).collect::<String>())
}

#[test]
fn scenario_1e_hold_in_both_styles_and_resume_keep_the_relay() {
    let Some(Parties { mut alice, mut bob, stage }) = parties() else { return };
    let (ears_a, ears_b) =
        (stage.voice("alice", "192.168.1.10:4000", 0xa), stage.voice("bob", "192.168.1.10:4000", 0xb));
    let mut call = Call::place(&mut alice, &mut bob, at(4000), at(4000));
    let (to_a, to_b) = (told(&call.ok), told(&call.invite));
    assert!(both_hear(&ears_a, &ears_b, to_a, to_b));

    let held = sdp(2, "m=audio 4000 RTP/AVP 0\na=sendonly");
    let (offer, answer) =
        call.renegotiate(&mut alice, &mut bob, &held, &sdp(2, "m=audio 4000 RTP/AVP 0\na=recvonly"));
    assert!(
        offer.media()[0].has("sendonly") && answer.media()[0].has("recvonly"),
        "{}\n{}",
        offer.0,
        answer.0
    );
    assert_eq!((told(&offer), told(&answer)), (to_b, to_a), "anchored stays anchored, at the same ports");

    let zero = sdp(3, "m=audio 4000 RTP/AVP 0\nc=IN IP4 0.0.0.0");
    let (offer, _) = call.renegotiate(&mut alice, &mut bob, &zero, &sdp(3, "m=audio 4000 RTP/AVP 0"));
    assert_eq!(
        offer.media()[0].ip,
        Some(ip("0.0.0.0")),
        "the old style of hold stays as it is:\n{}",
        offer.0
    );

    let resumed = sdp(4, "m=audio 4000 RTP/AVP 0\na=sendrecv");
    let (offer, answer) = call.renegotiate(&mut alice, &mut bob, &resumed, &sdp(4, "m=audio 4000 RTP/AVP 0"));
    assert_eq!((told(&offer), told(&answer)), (to_b, to_a));
    assert!(both_hear(&ears_a, &ears_b, to_a, to_b), "audio is back after hold");
    call.hang_up(&mut alice, &mut bob);
    stage.nothing_stays_lent();
}

#[test]
fn scenario_1e_a_re_invite_with_a_new_port_moves_the_audio() {
    let Some(Parties { mut alice, mut bob, stage }) = parties() else { return };
    let (old, ears_b) =
        (stage.voice("alice", "192.168.1.10:4000", 0xa), stage.voice("bob", "192.168.1.10:4000", 0xb));
    let mut call = Call::place(&mut alice, &mut bob, at(4000), at(4000));
    assert!(both_hear(&old, &ears_b, told(&call.ok), told(&call.invite)));
    old.speak_to(None);
    let new = stage.voice("alice", "192.168.1.10:4444", 0xaa);
    let (offer, answer) = call.renegotiate(
        &mut alice,
        &mut bob,
        &sdp(2, "m=audio 4444 RTP/AVP 0"),
        &sdp(2, "m=audio 4000 RTP/AVP 0"),
    );
    assert_eq!((told(&offer).ip(), told(&answer).ip()), (ip(SBC), ip(SBC)));
    assert!(both_hear(&new, &ears_b, told(&answer), told(&offer)), "audio at the new port");
    call.hang_up(&mut alice, &mut bob);
    stage.nothing_stays_lent();
}

#[test]
fn scenario_1e_early_media_is_heard_before_the_answer() {
    let Some(Parties { mut alice, mut bob, stage }) = parties() else { return };
    let (ears_a, ears_b) =
        (stage.voice("alice", "192.168.1.10:4000", 0xa), stage.voice("bob", "192.168.1.10:4000", 0xb));
    let mut caller = alice.invite("bob", &audio_at(at(4000)));
    let invite = bob.expect("INVITE");
    let to = format!("{};tag=early", invite.header("To").unwrap());
    bob.respond(&invite, 183, "Session Progress", &to, &audio_at(at(4000)));
    let progress = alice.expect("183 INVITE");
    assert!(both_hear(&ears_a, &ears_b, told(&progress), told(&invite)), "early media both ways");
    bob.respond(&invite, 200, "OK", &to, &audio_at(at(4000)));
    let ok = alice.expect("200 INVITE");
    assert_eq!(told(&ok), told(&progress), "the answer names the same port as the early one");
    alice.confirm(&mut caller, &ok, "");
    bob.expect("ACK");
    assert!(both_hear(&ears_a, &ears_b, told(&ok), told(&invite)), "and after the answer");
    alice.ask(&mut caller, "BYE", "", "");
    let bye = bob.expect("BYE");
    bob.ok(&bye, "");
    alice.expect("200 BYE");
}

#[test]
fn scenario_1e_an_offer_that_comes_late_is_anchored_too() {
    let Some(Parties { mut alice, mut bob, stage }) = parties() else { return };
    let (ears_a, ears_b) =
        (stage.voice("alice", "192.168.1.10:4000", 0xa), stage.voice("bob", "192.168.1.10:4000", 0xb));
    let mut caller = alice.invite("bob", "");
    let invite = bob.expect("INVITE");
    assert!(invite.body().is_empty(), "an INVITE without SDP leaves without: {}", invite.0);
    bob.accept(&invite, &audio_at(at(4000)));
    let ok = alice.expect("200 INVITE");
    alice.confirm(&mut caller, &ok, &audio_at(at(4000)));
    let ack = bob.expect("ACK");
    assert_eq!((told(&ok).ip(), told(&ack).ip()), (ip(SBC), ip(SBC)), "{}\n{}", ok.0, ack.0);
    assert!(both_hear(&ears_a, &ears_b, told(&ok), told(&ack)));
    alice.ask(&mut caller, "BYE", "", "");
    bob.expect("BYE");
}

#[test]
fn scenario_1e_rtcp_follows_on_the_next_port() {
    let Some(Parties { mut alice, mut bob, stage }) = parties() else { return };
    let sockets = |host, port: u16| stage.lab.udp(host, &format!("192.168.1.10:{port}"));
    let (a, b, a_rtcp, b_rtcp) =
        (sockets("alice", 4000), sockets("bob", 4000), sockets("alice", 4001), sockets("bob", 4001));
    let mut call = Call::place(&mut alice, &mut bob, at(4000), at(4000));
    let (to_a, to_b) = (told(&call.ok), told(&call.invite));
    let (heard_a, heard_b) = exchange(&a, &b, to_a, to_b, (&rtp(0xa, 1), &rtp(0xb, 1)));
    assert_eq!((heard_a, heard_b), (rtp(0xb, 1), rtp(0xa, 1)));
    let report = |ssrc: u8| vec![0x80, 201, 0, 1, 0, 0, 0, ssrc]; // an empty receiver report
    let next = |address: SocketAddr| SocketAddr::new(address.ip(), address.port() + 1);
    let (heard_a, heard_b) = exchange(&a_rtcp, &b_rtcp, next(to_a), next(to_b), (&report(0xa), &report(0xb)));
    assert_eq!((heard_a, heard_b), (report(0xb), report(0xa)), "RTCP both ways, one port up");
    call.hang_up(&mut alice, &mut bob);
    stage.nothing_stays_lent();
}

#[test]
fn scenario_1e_rtcp_mux_shares_the_port() {
    let Some(Parties { mut alice, mut bob, stage }) = parties() else { return };
    let (a, b) = (stage.lab.udp("alice", "192.168.1.10:4000"), stage.lab.udp("bob", "192.168.1.10:4000"));
    let muxed = sdp(1, "m=audio 4000 RTP/AVP 0\na=rtcp-mux\na=sendrecv");
    let mut call = Call::offering(&mut alice, &mut bob, &muxed, &muxed);
    assert!(
        call.invite.media()[0].has("rtcp-mux") && call.ok.media()[0].has("rtcp-mux"),
        "{}\n{}",
        call.invite.0,
        call.ok.0
    );
    let (to_a, to_b) = (told(&call.ok), told(&call.invite));
    assert_eq!(exchange(&a, &b, to_a, to_b, (&rtp(0xa, 1), &rtp(0xb, 1))), (rtp(0xb, 1), rtp(0xa, 1)));
    let report = |ssrc: u8| vec![0x80, 201, 0, 1, 0, 0, 0, ssrc];
    let mut reports = (Vec::new(), Vec::new());
    for _ in 0..5 {
        reports = exchange(&a, &b, to_a, to_b, (&report(0xa), &report(0xb)));
        if reports == (report(0xb), report(0xa)) {
            break;
        }
    }
    assert_eq!(reports, (report(0xb), report(0xa)), "RTCP on the port of RTP");
    call.hang_up(&mut alice, &mut bob);
    stage.nothing_stays_lent();
}

#[test]
fn scenario_1e_a_connection_address_of_the_stream_counts_before_the_sessions() {
    let Some(Parties { mut alice, mut bob, stage }) = parties() else { return };
    let (ears_a, ears_b) =
        (stage.voice("alice", "192.168.1.10:4000", 0xa), stage.voice("bob", "192.168.1.10:4000", 0xb));
    // The session level names the NAT's own address, as if nothing were between; the stream tells the truth.
    let offer = format!(
        "v=0\r\no=- 7 1 IN IP4 203.0.113.100\r\ns=-\r\nc=IN IP4 203.0.113.100\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 {PRIVATE}\r\n"
    );
    let mut call = Call::offering(&mut alice, &mut bob, &offer, &audio_at(at(4000)));
    assert_eq!(told(&call.invite).ip(), ip(SBC));
    assert!(
        !call.invite.body().contains(PRIVATE),
        "the stream's private address left with the INVITE:\n{}",
        call.invite.0
    );
    assert!(both_hear(&ears_a, &ears_b, told(&call.ok), told(&call.invite)));
    call.hang_up(&mut alice, &mut bob);
    stage.nothing_stays_lent();
}

#[test]
fn scenario_1e_video_and_audio_have_ports_of_their_own_and_a_refused_stream_stays_refused() {
    let Some(Parties { mut alice, mut bob, stage }) = parties() else { return };
    let voice = |host, port: u16, ssrc| stage.voice(host, &format!("192.168.1.10:{port}"), ssrc);
    let (audio_a, audio_b, video_a, video_b) =
        (voice("alice", 4000, 1), voice("bob", 4000, 2), voice("alice", 4010, 3), voice("bob", 4010, 4));
    let both = sdp(1, "m=audio 4000 RTP/AVP 0\nm=video 4010 RTP/AVP 0\nm=text 0 RTP/AVP 98");
    let mut call = Call::offering(&mut alice, &mut bob, &both, &both);
    let (at_a, at_b) = (call.ok.media(), call.invite.media());
    assert_eq!(
        (at_a.len(), at_b.len(), at_a[2].port, at_b[2].port),
        (3, 3, 0, 0),
        "{}\n{}",
        call.invite.0,
        call.ok.0
    );
    let place = |media: &conformance::lab::story::Media| media.address().unwrap();
    assert!(place(&at_a[0]) != place(&at_a[1]) && place(&at_b[0]) != place(&at_b[1]));
    assert!(both_hear(&audio_a, &audio_b, place(&at_a[0]), place(&at_b[0])), "audio");
    assert!(both_hear(&video_a, &video_b, place(&at_a[1]), place(&at_b[1])), "video");
    assert_eq!(
        (
            audio_a.count(4, Instant::now() - Duration::from_secs(60)),
            video_a.count(2, Instant::now() - Duration::from_secs(60))
        ),
        (0, 0),
        "streams are not mixed"
    );
    call.hang_up(&mut alice, &mut bob);
    stage.nothing_stays_lent();
}

#[test]
fn scenario_1e_a_fax_takes_over_by_t38() {
    let Some(Parties { mut alice, mut bob, stage }) = parties() else { return };
    let (a, b) = (stage.lab.udp("alice", "192.168.1.10:4000"), stage.lab.udp("bob", "192.168.1.10:4000"));
    let mut call = Call::place(&mut alice, &mut bob, at(4000), at(4000));
    let voice = exchange(&a, &b, told(&call.ok), told(&call.invite), (&rtp(0xa, 1), &rtp(0xb, 1)));
    assert_eq!(voice, (rtp(0xb, 1), rtp(0xa, 1)));
    let fax = sdp(2, "m=image 4002 udptl t38\na=T38FaxVersion:0\na=T38FaxRateManagement:transferredTCF");
    let (offer, answer) = call.renegotiate(&mut alice, &mut bob, &fax, &fax);
    assert_eq!(
        (offer.media()[0].protocol.as_str(), told(&offer).ip(), told(&answer).ip()),
        ("udptl", ip(SBC), ip(SBC)),
        "{}",
        offer.0
    );
    let (a, b) = (stage.lab.udp("alice", "192.168.1.10:4002"), stage.lab.udp("bob", "192.168.1.10:4002"));
    let (packet_a, packet_b) = (b"\x00\x00\x01\x06\x00".as_slice(), b"\x00\x00\x01\x02\x00\x07".as_slice()); // not RTP, and short
    let mut heard = (Vec::new(), Vec::new());
    for _ in 0..3 {
        heard = exchange(&a, &b, told(&answer), told(&offer), (packet_a, packet_b));
    }
    assert_eq!(heard, (packet_b.to_vec(), packet_a.to_vec()), "UDPTL both ways");
    call.hang_up(&mut alice, &mut bob);
    stage.nothing_stays_lent();
}
