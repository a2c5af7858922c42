//! A call that is up: how it changes, how it ends, and what becomes of it when a proxy is killed.

use super::*;

// The end of a call.

#[test]
fn a_bye_from_either_side_frees_the_relay() {
    for (alice, bob) in [(hidden_alice(), bob()), (alice(), hidden_bob()), (hidden_alice(), hidden_bob())] {
        let mut up = call(alice.clone(), bob.clone());
        up.hang_up();
        assert_eq!(up.net.relay.sessions.len(), 0, "{:#?}", up.net.steps());

        let mut up = call(alice, bob);
        let got = up.bob_says("BYE", "");
        let bye = asked(&got, &up.alice, "BYE").expect("the BYE reaches Alice");
        up.alice_answers(&bye, "");
        assert_eq!(up.net.relay.sessions.len(), 0, "{:#?}", up.net.steps());
        up.net.pass(Duration::from_secs(60));
        for status in [P1, P2].map(|proxy| up.net.status(proxy)) {
            assert_eq!((status.calls, status.relay_sessions), (0, 0));
            assert!(status.transactions <= 2, "keep-alives that Bob does not answer, and nothing else");
        }
    }
}

#[test]
fn proxies_that_were_killed_in_mid_call_route_the_bye_and_free_the_relay() {
    for (alice, bob) in [(hidden_alice(), bob()), (alice(), hidden_bob())] {
        let mut up = call(alice, bob);
        up.net.restart(P1);
        up.net.restart(P2);
        up.net.pass(Duration::from_secs(5));
        up.hang_up();
        assert_eq!(up.net.relay.sessions.len(), 0, "{:#?}", up.net.steps());
        for proxy in [P1, P2] {
            let ended: Vec<_> = up
                .net
                .events
                .iter()
                .filter_map(|(at, event)| match event {
                    Event::CallEnded(ended) if *at == address(proxy) => Some(ended),
                    _ => None,
                })
                .collect();
            assert_eq!(ended.len(), 1, "each proxy records the call it does not remember");
            assert_eq!((&*ended[0].from, &*ended[0].to), ("alice@a.example", "bob@b.example"));
            assert_eq!((ended[0].duration, ended[0].by), (Duration::from_secs(5), EndedBy::Caller));
        }
    }
}

/// Both parties hang up at once, and one of them once more.
#[test]
fn a_call_of_a_former_life_is_recorded_once() {
    let mut up = call(hidden_alice(), hidden_bob());
    up.net.restart(P1);
    let asks = [up.alice_says("BYE", ""), up.alice_says("BYE", ""), up.bob_says("BYE", "")];
    for (got, by_alice) in asks.iter().zip([true, true, false]) {
        match by_alice {
            true => drop(asked(got, &up.bob, "BYE").map(|bye| up.bob_answers(&bye, ""))),
            false => drop(asked(got, &up.alice, "BYE").map(|bye| up.alice_answers(&bye, ""))),
        }
    }
    let ended = |(at, event): &&(std::net::SocketAddr, Event)| {
        *at == address(P1) && matches!(event, Event::CallEnded(_))
    };
    assert_eq!(up.net.events.iter().filter(ended).count(), 1);
}

#[test]
fn a_killed_proxy_carries_a_re_invite_through_the_session_it_does_not_remember() {
    let mut up = call(hidden_alice(), hidden_bob());
    up.net.restart(P1);
    up.net.pass(Duration::from_secs(5));
    let got = up.alice_says("INVITE", &up.alice.sdp());
    let again = asked(&got, &up.bob, "INVITE").expect("the re-INVITE reaches Bob");
    names_only_the_relay(&sdp_of(&again.message));
    let ok = up.bob_answers(&again, &up.bob.sdp()).pop().unwrap();
    names_only_the_relay(&sdp_of(&ok));
    assert_eq!(up.net.relay.sessions.len(), 1);
}

#[test]
fn a_cancelled_call_frees_the_relay() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), hidden_bob());
    let sdp = alice.sdp();
    let invite = ring(&mut net, &mut alice, &mut bob, &sdp).message;
    let ringing = bob.answer(&invite, 180, "");
    net.say(NAT_B, P2, ringing);
    let original = net.wire.iter().find(|p| p.from == address(NAT_A)).unwrap().message.clone();
    let text = String::from_utf8_lossy(original.bytes()).into_owned();
    let (head, _) = text.split_once("\r\nContent-Type").unwrap();
    let head = head.replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL");
    let cancel = crate::tests::testing::message(&head);
    let got = net.say(NAT_A, P1, cancel);
    let cancel = asked(&got, &bob, "CANCEL").expect("the CANCEL reaches Bob");
    net.say(NAT_B, P2, bob.answer(&cancel.message, 200, ""));
    let got = net.say(NAT_B, P2, bob.answer(&invite, 487, ""));
    assert_eq!(told(&got, &alice).pop().unwrap().status(), Some(487));
    assert_eq!(net.relay.sessions.len(), 0, "{:#?}", net.steps());
}

// 1e: in mid-call.

#[test]
fn hold_and_resume_keep_the_session_and_their_direction() {
    let mut up = call(hidden_alice(), hidden_bob());
    for direction in ["sendonly", "inactive", "sendrecv"] {
        let offer = up.alice.sdp().replace("a=sendrecv", &format!("a={direction}"));
        let got = up.alice_says("INVITE", &offer);
        let hold = asked(&got, &up.bob, "INVITE").expect("the re-INVITE reaches Bob");
        let sdp = sdp_of(&hold.message);
        names_only_the_relay(&sdp);
        assert!(sdp.contains(&format!("a={direction}")));
        let ok = up.bob_answers(&hold, &up.bob.sdp()).pop().unwrap();
        names_only_the_relay(&sdp_of(&ok));
        up.ok = ok;
        up.alice_says("ACK", "");
    }
    assert_eq!((up.net.relay.begun, up.net.relay.sessions.len()), (1, 1));
}

#[test]
fn a_re_invite_of_the_callee_goes_through_the_same_session() {
    for (alice, bob) in [(hidden_alice(), bob()), (alice(), hidden_bob())] {
        let mut up = call(alice, bob);
        let got = up.bob_says("INVITE", &up.bob.sdp());
        let again = asked(&got, &up.alice, "INVITE").expect("the re-INVITE reaches Alice");
        names_only_the_relay(&sdp_of(&again.message));
        let ok = up.alice_answers(&again, &up.alice.sdp()).pop().unwrap();
        names_only_the_relay(&sdp_of(&ok));
        assert_eq!((up.net.relay.begun, up.net.relay.sessions.len()), (1, 1));
    }
}

#[test]
fn t38_takes_the_place_of_audio_through_the_same_session() {
    let mut up = call(hidden_alice(), hidden_bob());
    let fax = |phone: &Phone| phone.sdp().replace("m=audio 4000 RTP/AVP 0", "m=image 4000 udptl t38");
    let got = up.bob_says("INVITE", &fax(&up.bob.clone()));
    let again = asked(&got, &up.alice, "INVITE").expect("the re-INVITE reaches Alice");
    let sdp = sdp_of(&again.message);
    names_only_the_relay(&sdp);
    assert!(sdp.contains("m=image 2") && sdp.contains("udptl t38"), "{sdp}");
    let ok = up.alice_answers(&again, &fax(&up.alice.clone())).pop().unwrap();
    names_only_the_relay(&sdp_of(&ok));
}

#[test]
fn early_media_goes_through_the_relay() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), hidden_bob());
    let sdp = alice.sdp();
    let invite = ring(&mut net, &mut alice, &mut bob, &sdp).message;
    let early = bob.answer(&invite, 183, &bob.sdp());
    let got = net.say(NAT_B, P2, early);
    let early = told(&got, &alice).pop().unwrap();
    assert_eq!(early.status(), Some(183));
    names_only_the_relay(&sdp_of(&early));
}

#[test]
fn a_late_offer_is_relayed_from_the_200_to_the_ack() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), hidden_bob());
    let invite = ring(&mut net, &mut alice, &mut bob, "").message;
    assert_eq!((net.relay.begun, sdp_of(&invite).as_str()), (1, ""), "ports are reserved before");
    let answer = bob.answer(&invite, 200, &bob.sdp());
    let got = net.say(NAT_B, P2, answer);
    let ok = told(&got, &alice).pop().unwrap();
    names_only_the_relay(&sdp_of(&ok));
    let ack = alice.in_dialog("ACK", &ok, &alice.sdp());
    let got = net.say(NAT_A, P1, ack);
    let ack = asked(&got, &bob, "ACK").expect("the ACK reaches Bob");
    names_only_the_relay(&sdp_of(&ack.message));
}

// In-dialog routing.

#[test]
fn a_bye_reaches_the_callee_where_it_registered_last() {
    let mut up = call(hidden_alice(), hidden_bob());
    up.bob.seen_at = "192.0.2.1:50999".into();
    let bob = up.bob.clone();
    up.bob.register(&mut up.net);
    let got = up.alice_says("BYE", "");
    assert!(asked(&got, &bob, "BYE").is_some(), "{:#?}", up.net.steps());
}
