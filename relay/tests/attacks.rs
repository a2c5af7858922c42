//! What somebody hostile tries, and that it moves nothing.

mod rig;

use proto::control::Session;
use proto::event::Side;
use proto::node_auth::NodeKey;
use proto::sip::{Builder, Message, Name};
use proto::tables::Latch;
use relay::{Config, Why};
use rig::*;

const STRANGER: &str = "192.0.2.66:9";
const A: &str = "203.0.113.100:4000";
const B: &str = "203.0.113.200:7000";

#[test]
fn an_sdp_that_names_a_victim_makes_nobody_send_there() {
    let mut rig = Rig::new(config());
    let victim = Phone { peer: Some(address("192.0.2.66:5060")), ..public("203.0.113.250:53") };
    let call = rig.call(1, &public(A), &victim);
    for n in 0..100 {
        assert_eq!(rig.packet(A, call.for_a, &rtp(0xa, n)), None);
        rig.pass(20 * MS);
    }
    assert_eq!(rig.dropped(Why::Held), 100);
    assert!(rig.sent.is_empty());
}

#[test]
fn nothing_is_ever_sent_where_nobody_may_be_sent_to() {
    for to in ["127.0.0.1:5000", "224.0.0.1:5000", "169.254.1.1:5000", "255.255.255.255:5000", "0.1.2.3:5000"]
    {
        let mut rig = Rig::new(config());
        let bad = Phone { peer: Some(address(to)), trusted: true, ..public(to) };
        let call = rig.call(1, &public(A), &bad);
        assert_eq!(rig.packet(A, call.for_a, &rtp(0xa, 0)), None, "{to}");
        assert_eq!(rig.packet(to, call.for_b, &rtp(0xb, 0)), None, "{to} is nobody's source either");
        assert_eq!(rig.packet(A, call.for_a, &rtp(0xa, 1)), None, "{to}");
    }
}

#[test]
fn a_relay_on_loopback_serves_loopback() {
    let network = |name: &str| relay::Network {
        name: name.into(),
        bind: "127.0.0.1".parse().unwrap(),
        advertise: "127.0.0.1".parse().unwrap(),
    };
    let mut rig = Rig::new(Config { networks: vec![network("outside")], ..config() });
    let call = rig.call(1, &public("127.0.0.1:6000"), &public("127.0.0.1:7000"));
    assert_eq!(rig.packet("127.0.0.1:6000", call.for_a, &rtp(0xa, 0)).unwrap().to, address("127.0.0.1:7000"));
}

#[test]
fn sdp_that_names_one_of_our_own_ports_is_refused_and_changes_nothing() {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &public(A), &public(B));
    let (before, session) = (rig.ports(), Session(2));
    for own in [call.for_a, call.for_b, rtcp(call.for_b)] {
        let looped = public(&own.to_string());
        let refused = rig.invite(&looped.ask(session, Side::Caller), &looped.sdp(), false);
        assert_eq!(refused.status(), Some(488));
    }
    let hidden = Phone { lines: format!("a=rtcp:{} IN IP4 {OUTSIDE}\r\n", call.for_b.port()), ..public(A) };
    let refused = rig.invite(&hidden.ask(session, Side::Caller), &hidden.sdp(), false);
    assert_eq!(refused.status(), Some(488), "nor by a=rtcp");
    assert_eq!((rig.ports(), rig.relay.status().sessions), (before, 1));
    let looped = public(&call.for_a.to_string());
    let refused = rig.invite(&looped.ask(call.session, Side::Callee), &looped.sdp(), true);
    assert_eq!(refused.status(), Some(488));
    assert!(rig.packet(A, call.for_a, &rtp(0xa, 0)).is_some(), "the call goes on");
}

#[test]
fn a_packet_from_one_of_our_own_ports_latches_nothing() {
    let mut rig = Rig::new(config());
    let any = |media: &str| Phone { latch: Latch::Any, ..public(media) };
    let call = rig.call(1, &any(A), &any(B));
    let own = format!("{OUTSIDE}:30000");
    assert_eq!(rig.packet(&own, call.for_a, &rtp(0xa, 0)), None);
    assert_eq!(rig.dropped(Why::Loop), 1);
    assert!(rig.packet(A, call.for_a, &rtp(0xa, 0)).is_some());
}

#[test]
fn a_forged_source_after_the_latch_needs_the_ssrc_and_the_sequence() {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &public(A), &public(B));
    (0..=50).for_each(|n| {
        rig.pass(20 * MS);
        rig.packet(A, call.for_a, &rtp(0xa, n));
    });
    rig.pass(SECOND);
    for n in 0..200u16 {
        assert_eq!(
            rig.packet(STRANGER, call.for_a, &rtp(0xa, 200 + n)),
            None,
            "right SSRC, sequence too far"
        );
        assert_eq!(rig.packet("192.0.2.67:9", call.for_a, &rtp(u32::from(n), 51 + n)), None, "wrong SSRC");
        rig.pass(300 * MS);
    }
    assert_eq!(rig.packet(B, call.for_b, &rtp(0xb, 0)).unwrap().to, address(A));
}

#[test]
fn stun_with_forged_credentials_moves_nothing() {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &public(A), &public(B));
    rig.packet(A, call.for_a, &rtp(0xa, 0));
    let mut forged = stun();
    forged[3] = 12;
    forged.extend([0, 6, 0, 3, b'a', b':', b'b', 0, 0, 0x25, 0, 0]);
    for _ in 0..50 {
        assert_eq!(rig.packet(STRANGER, call.for_a, &forged), None);
    }
    assert_eq!(rig.packet(B, call.for_b, &rtp(0xb, 0)).unwrap().to, address(A));
}

#[test]
fn a_spray_on_the_whole_range_reaches_nobody_and_disturbs_no_call() {
    let mut rig = Rig::new(config());
    let call = rig.call(1, &public(A), &public(B));
    rig.packet(A, call.for_a, &rtp(0xa, 0));
    let open: Vec<_> = rig.sockets.keys().copied().collect();
    rig.sent.clear();
    for at in open {
        for packet in [rtp(0x666, 1), rtcp_report(0x666), stun(), vec![22; 40], vec![0xff; 1]] {
            rig.packet(STRANGER, at, &packet);
        }
    }
    assert!(rig.sent.is_empty());
    assert!(rig.packet(A, call.for_a, &rtp(0xa, 1)).is_some());
}

/// A relay INVITE of A, not yet signed.
fn set_up(rig: &mut Rig) -> Builder {
    let ask = public(A).ask(Session(1), Side::Caller);
    let request = rig.in_dialog("INVITE", ask.session);
    ask.write(Rig::to(request, ask.session, false)).body("application/sdp", public(A).sdp().as_bytes())
}

#[test]
fn who_cannot_prove_to_be_ours_gets_403_and_no_port() {
    let mut rig = Rig::new(config());
    let born = 1_800_000_000;
    let signatures: [&dyn Fn(Message) -> Message; 4] = [
        &|unsigned| unsigned,
        &|unsigned| NodeKey([8; 32]).sign(&unsigned, born),
        &|unsigned| KEY.sign(&unsigned, born - 61),
        &|unsigned| KEY.sign(&unsigned, born + 61),
    ];
    for sign in signatures {
        let unsigned = set_up(&mut rig).finish();
        assert_eq!(rig.unsigned(sign(unsigned)).status(), Some(403));
    }
    assert_eq!((rig.ports().leased, rig.relay.status().sessions), (0, 0));
}

#[test]
fn proof_does_not_help_from_an_address_that_may_not_control() {
    let mut rig = Rig::new(Config { control: vec!["10.0.0.0/8".parse().unwrap()], ..config() });
    let a = public(A);
    let refused = rig.invite(&a.ask(Session(1), Side::Caller), &a.sdp(), false);
    assert_eq!(refused.status(), Some(403));
    let mut rig = Rig::new(Config { control: vec!["198.51.100.0/24".parse().unwrap()], ..config() });
    rig.call(1, &public(A), &public(B));
}

#[test]
fn a_changed_body_is_no_longer_proven() {
    let mut rig = Rig::new(config());
    let signed = KEY.sign(&set_up(&mut rig).finish(), 1_800_000_000);
    let victim = public(A).sdp().replace("203.0.113.100", "203.0.113.250");
    let changed = signed.edit().body(victim.as_bytes()).finish();
    assert_eq!(rig.unsigned(changed).status(), Some(403));
}

#[test]
fn hostile_requests_are_answered_and_leave_nothing_behind() {
    let mut rig = Rig::new(config());
    let session = Session(1);
    let bodies = ["", "v=0", "\0\0\0", "v=0\r\nm=", "m=audio 99999 RTP/AVP 0\r\n"];
    for method in ["INVITE", "UPDATE", "BYE", "OPTIONS", "REGISTER", "X"] {
        for body in bodies {
            let request: Builder = rig.in_dialog(method, session);
            let request = Rig::to(request, session, false)
                .header(Name::RelaySession, "zzz")
                .header(Name::RelayLeg, "\u{fffd}")
                .body("application/sdp", body.as_bytes());
            let status = rig.request(request).status().unwrap();
            assert!(
                status == 200 && method == "OPTIONS" || (400..500).contains(&status),
                "{method}: {status}"
            );
        }
    }
    assert_eq!((rig.ports().leased, rig.relay.status().sessions), (0, 0));
}
