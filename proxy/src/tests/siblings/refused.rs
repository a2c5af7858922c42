//! Calls that fail: nobody there (1f), no ports (1g), and those who pretend to be a sibling.

use super::*;

// 1f: nobody there.

#[test]
fn a_callee_nobody_serves_is_404_and_holds_no_ports() {
    let (mut net, mut alice) = (Net::new(), hidden_alice());
    let invite = alice.invite(BOB, &alice.sdp());
    let got = net.say(NAT_A, P1, invite);
    assert_eq!(told(&got, &alice).pop().unwrap().status(), Some(404));
    assert_eq!((net.relay.begun, net.relay.sessions.len()), (1, 0), "{:#?}", net.steps());
}

#[test]
fn a_foreign_name_that_no_proxy_of_ours_serves_is_found_by_dns() {
    let (mut net, mut alice) = (Net::new(), alice());
    let carol = Phone::public("carol", "192.0.2.99:5060", P2);
    net.dns.insert("elsewhere.example".into(), address("192.0.2.99:5060"));
    let invite = alice.invite("sip:carol@elsewhere.example", &alice.sdp());
    let got = net.say(&alice.seen_at, P1, invite);
    let invite = asked(&got, &carol, "INVITE").expect("Carol is called");
    assert!(position(&net, "redirect 404 P1") < position(&net, "P1 INVITE 192.0.2.99:5060"));
    assert_eq!(sdp_of(&invite.message), alice.sdp());
}

#[test]
fn a_redirect_server_that_names_us_is_404() {
    let (mut net, mut alice) = (Net::new(), hidden_alice());
    net.redirect.served.insert("bob@b.example".into(), format!("sip:{P1};transport=udp;lr"));
    let invite = alice.invite(BOB, &alice.sdp());
    let got = net.say(NAT_A, P1, invite);
    assert_eq!(told(&got, &alice).pop().unwrap().status(), Some(404));
}

#[test]
fn a_silent_redirect_server_is_408_and_holds_no_ports() {
    let (mut net, mut alice) = (Net::new(), hidden_alice());
    net.redirect.silent = true;
    let invite = alice.invite(BOB, &alice.sdp());
    net.say(NAT_A, P1, invite);
    let got = net.pass(Duration::from_secs(40));
    assert_eq!(told(&got, &alice).pop().unwrap().status(), Some(408));
    assert_eq!(net.relay.sessions.len(), 0, "{:#?}", net.steps());
}

// 1g: no ports.

#[test]
fn a_full_relay_is_503_with_retry_after_and_nobody_rings() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    bob.register(&mut net);
    net.relay.full = true;
    let invite = alice.invite(BOB, &alice.sdp());
    let got = net.say(NAT_A, P1, invite);
    let answer = told(&got, &alice).pop().unwrap();
    assert_eq!(answer.status(), Some(503));
    assert!(answer.text(Name::RetryAfter).is_some());
    assert!(asked(&got, &bob, "INVITE").is_none());
}

#[test]
fn a_silent_relay_is_503_in_time() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    bob.register(&mut net);
    net.relay.silent = true;
    let invite = alice.invite(BOB, &alice.sdp());
    net.say(NAT_A, P1, invite);
    let got = net.pass(Duration::from_secs(6));
    assert_eq!(told(&got, &alice).pop().map(|m| m.status()), Some(Some(503)));
}

// Abuse.

#[test]
fn a_stranger_who_speaks_like_a_sibling_is_compared_like_anybody() {
    let (mut net, mut alice, mut bob) = (Net::new(), hidden_alice(), bob());
    bob.register(&mut net);
    let invite = alice.invite(BOB, &alice.sdp());
    let forged = invite
        .edit()
        .append(Name::RelayVerdict, "direct")
        .append(Name::RelayPeer, "198.51.100.9:1")
        .append(Name::NodeAuth, "1767225600 AAAAAAAAAAAA")
        .finish();
    let got = net.say(NAT_A, P1, forged);
    let invite = asked(&got, &bob, "INVITE").expect("Bob is called");
    names_only_the_relay(&sdp_of(&invite.message));
    assert!(invite.message.text(Name::RelayVerdict).is_none());
    assert!(invite.message.text(Name::NodeAuth).is_none());
}

#[test]
fn a_sibling_without_proof_is_not_believed() {
    let mut net = Net::new();
    let (mut alice, mut bob) = (hidden_alice(), bob());
    bob.register(&mut net);
    // Forged from P1's address, straight to P2.
    let invite = alice.invite(BOB, &alice.sdp()).edit().append(Name::RelayVerdict, "direct").finish();
    let got = net.say(P1, P2, invite);
    let invite = asked(&got, &bob, "INVITE").expect("Bob is called");
    names_only_the_relay(&sdp_of(&invite.message));
}

/// P2 has anchored Bob's side: its answer names our relay, and P1 believes that of nobody but a proven sibling.
#[test]
fn an_answer_may_name_our_relay_only_under_a_siblings_proof() {
    for (change, status) in [("", 200), ("Node-Auth", 488), ("body", 488)] {
        let (mut net, mut alice, mut bob) = (Net::new(), alice(), hidden_bob());
        let sdp = alice.sdp();
        let invite = ring(&mut net, &mut alice, &mut bob, &sdp).message;
        let at_p2 =
            net.wire.iter().find(|p| p.to == address(P2) && p.message.text(Name::RelayVerdict).is_some());
        let at_p2 = at_p2.unwrap().message.clone();
        let (_, there) = invite.sdp().expect("P2 anchors what it sends to Bob");
        let there = Bytes::copy_from_slice(there);
        let unix = 1_767_225_600;
        let answer = proto::sip::reply(&at_p2, 200, "bob")
            .header(Name::Contact, "<sip:bob@10.0.0.2:5060>")
            .header(Name::RelayVerdict, "direct")
            .body("application/sdp", &there)
            .finish();
        let answer = KEY.sign(&answer, unix);
        let answer = match change {
            "" => answer,
            "body" => answer.edit().body(&[&there[..], b"a=x\r\n"].concat()).finish(),
            _ => answer.edit().remove(Name::NodeAuth).finish(),
        };
        let got = net.say(P2, P1, answer);
        let told = told(&got, &alice).pop().unwrap();
        assert_eq!(told.status(), Some(status), "{change}: {told:?}");
        if status == 200 {
            names_only_the_relay(&sdp_of(&told));
        } else {
            assert!(!sdp_of(&told).contains(MEDIA));
        }
    }
}

#[test]
fn an_sdp_that_names_our_relay_is_refused() {
    let (mut net, mut alice, mut bob) = (Net::new(), alice(), bob());
    bob.register(&mut net);
    let sdp = alice.sdp().replace("198.51.100.7", MEDIA).replace("m=audio 4000", "m=audio 20000");
    let invite = alice.invite(BOB, &sdp);
    let got = net.say("198.51.100.7:5060", P1, invite);
    let answer = told(&got, &alice).pop().unwrap();
    assert!(matches!(answer.status(), Some(400..=499)), "{:?}", answer.status());
    assert_eq!(net.relay.begun, 0);
    assert!(asked(&got, &bob, "INVITE").is_none());
}
