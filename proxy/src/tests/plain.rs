//! Stories of a plain stateful proxy (RFC 3261 §16): no relay, no redirect server.

use std::time::Duration;

use proto::event::{EndedBy, Event};
use proto::node::{Answer, Flow, FlowId, Input, Question, SendError, Transport};
use proto::sip::{Message, Method, Name};

use crate::Config;
use crate::config::Origin;
use crate::tests::bench::{A, B, Bench, PROXY, Sent, in_dialog, invite, message, open, plain, to};
use crate::tests::testing::address;

const CALLEE: &str = "Contact: <sip:b@198.51.100.20:5070>";

/// The INVITE forwarded to [`B`].
fn forwarded(bench: &mut Bench, uri: &str) -> Sent {
    let sent = bench.from(A, &invite(uri));
    sent.into_iter().find(|s| s.message.method() == Method::Invite).expect("the INVITE is forwarded")
}

/// A call from [`A`] to [`B`] that was answered; the 200 as the caller got it.
fn answered(bench: &mut Bench) -> Message {
    let invite = forwarded(bench, "sip:b@example.com");
    let sent = bench.answer(&invite, 200, CALLEE, "");
    to(&sent, A)[0].clone()
}

fn ended(bench: &Bench) -> Vec<(u16, EndedBy)> {
    let end = |event: &Event| match event {
        Event::CallEnded(end) => Some((end.status, end.by)),
        _ => None,
    };
    bench.events.iter().filter_map(end).collect()
}

/// §16.6 steps 2–8.
#[test]
fn forwards_an_invite_with_via_record_route_and_one_hop_less() {
    let mut bench = Bench::new(plain());
    let sent = forwarded(&mut bench, "sip:b@example.com");
    assert_eq!(sent.flow.remote.to_string(), B);
    assert_eq!(sent.message.request_uri(), "sip:b@example.com");
    assert_eq!(sent.message.max_forwards().unwrap(), Some(69));
    assert_eq!(sent.message.vias().count(), 2);
    assert_eq!(sent.message.via().unwrap().sent_by(), PROXY);
    let record_route: Vec<_> = sent.message.values(Name::RecordRoute).collect();
    assert!(record_route[0].ends_with("@203.0.113.1:5060;lr>"), "{record_route:?}");
    let user = record_route[0].trim_start_matches("<sip:").split('@').next().unwrap();
    assert!(user.len() <= 48, "{user}");
}

/// DESIGN §4: an INVITE grows by at most 300 bytes a proxy.
#[test]
fn an_invite_grows_by_at_most_300_bytes() {
    let mut bench = Bench::new(plain());
    let before = message(&invite("sip:b@example.com")).bytes().len();
    let after = forwarded(&mut bench, "sip:b@example.com").message.bytes().len();
    assert!(after - before <= 300, "{}", after - before);
}

/// §16.7: provisional and 2xx responses go back without our Via; ACK and BYE follow the Record-Route.
#[test]
fn carries_a_call_from_invite_to_bye() {
    let mut bench = Bench::new(plain());
    let invite = forwarded(&mut bench, "sip:b@example.com");
    let sent = bench.answer(&invite, 180, CALLEE, "");
    let ringing = to(&sent, A)[0].clone();
    assert_eq!((ringing.status(), ringing.vias().count()), (Some(180), 1));
    let sent = bench.answer(&invite, 200, CALLEE, "");
    let ok = to(&sent, A)[0].clone();

    let sent = bench.from(A, &in_dialog("ACK", 1, &ok));
    let ack = to(&sent, B)[0];
    assert_eq!((ack.method(), ack.routes().count()), (Method::Ack, 0));
    assert_eq!(bench.status().calls, 1);

    let sent = bench.from(A, &in_dialog("BYE", 2, &ok));
    let bye = sent.into_iter().find(|s| s.message.method() == Method::Bye).unwrap();
    assert_eq!(bye.flow.remote.to_string(), B);
    let sent = bench.answer(&bye, 200, "", "");
    assert_eq!(to(&sent, A)[0].status(), Some(200));
    assert_eq!(ended(&bench), [(200, EndedBy::Caller)]);
    bench.pass(Duration::from_secs(40));
    assert_eq!(bench.status(), Default::default());
}

/// The callee's requests go by the Record-Route it got in the INVITE, to where the caller was seen.
#[test]
fn the_callees_bye_reaches_the_caller() {
    let mut bench = Bench::new(plain());
    let invite = forwarded(&mut bench, "sip:b@example.com");
    bench.answer(&invite, 200, CALLEE, "");
    let route = invite.message.text(Name::RecordRoute).unwrap();
    let bye = format!(
        "BYE sip:a@10.9.9.9 SIP/2.0
         Via: SIP/2.0/UDP {B};branch=z9hG4bKb1
         Route: {route}
         From: <sip:b@example.com>;tag=callee
         To: <sip:a@example.com>;tag=caller
         Call-ID: c1
         CSeq: 9 BYE
         Max-Forwards: 70"
    );
    let sent = bench.from(B, &bye);
    assert_eq!(to(&sent, A)[0].method(), Method::Bye);
    bench.answer(&sent[0], 200, "", "");
    assert_eq!(ended(&bench), [(200, EndedBy::Callee)]);
}

/// DESIGN §4: a restarted proxy routes what belongs to a dialog it does not remember.
#[test]
fn a_restarted_proxy_routes_a_bye() {
    let mut bench = Bench::new(plain());
    let ok = answered(&mut bench);
    bench.restart();
    let sent = bench.from(A, &in_dialog("BYE", 2, &ok));
    assert_eq!(to(&sent, B)[0].method(), Method::Bye);
}

/// Stock sipp follows no route set.
#[test]
fn a_request_without_a_token_is_served_when_it_matches_a_live_call() {
    let mut bench = Bench::new(plain());
    let mut ok = answered(&mut bench);
    ok = ok.edit().remove(Name::RecordRoute).finish();
    let bye = in_dialog("BYE", 2, &ok).replace("sip:b@198.51.100.20:5070 SIP", "sip:b@203.0.113.1:5060 SIP");
    let sent = bench.from(A, &bye);
    assert_eq!(to(&sent, B)[0].request_uri(), "sip:b@198.51.100.20:5070");

    let from_elsewhere = bench.from("192.0.2.99:5060", &bye.replace("z9hG4bK", "z9hG4bKx"));
    assert_eq!(from_elsewhere[0].message.status(), Some(481));
}

/// §16.10.
#[test]
fn a_cancel_ends_the_ringing_branch_and_the_call() {
    let mut bench = Bench::new(plain());
    let invite = forwarded(&mut bench, "sip:b@example.com");
    bench.answer(&invite, 180, CALLEE, "");
    let cancel = crate::tests::bench::invite("sip:b@example.com").replace("INVITE", "CANCEL");
    let sent = bench.from(A, &cancel);
    assert_eq!(to(&sent, A)[0].status(), Some(200));
    assert_eq!(to(&sent, B)[0].method(), Method::Cancel);
    let sent = bench.answer(&invite, 487, "", "");
    assert_eq!(to(&sent, A)[0].status(), Some(487));
    assert_eq!(ended(&bench), [(487, EndedBy::Caller)]);
}

/// §16.3 step 3.
#[test]
fn refuses_a_request_whose_max_forwards_is_used_up() {
    let mut bench = Bench::new(plain());
    let sent = bench.from(A, &invite("sip:b@example.com").replace("Max-Forwards: 70", "Max-Forwards: 0"));
    assert_eq!(sent[0].message.status(), Some(483));
    assert_eq!(bench.status().calls, 0);
}

/// §16.3 step 4: the same request again is a loop; with another request URI it is a spiral, and goes on.
#[test]
fn tells_a_loop_from_a_spiral() {
    let mut bench = Bench::new(plain());
    let once = forwarded(&mut bench, "sip:b@example.com").message;
    let back = once.edit().remove(Name::RecordRoute).finish();
    let sent = bench.by(crate::tests::testing::udp(B), back.clone());
    assert_eq!(sent[0].message.status(), Some(482));
    let spiral = back
        .edit()
        .request_uri("sip:c@example.com")
        .set_first(Name::Via, "SIP/2.0/UDP 198.51.100.20:5070;branch=z9hG4bKs")
        .finish();
    let spiral = spiral.edit().push_front(Name::Via, back.text(Name::Via).unwrap()).finish();
    let sent = bench.by(crate::tests::testing::udp(B), spiral);
    assert_eq!(sent[0].message.method(), Method::Invite);
}

/// §16.3 step 5.
#[test]
fn refuses_extensions_a_proxy_would_have_to_know() {
    let mut bench = Bench::new(plain());
    let sent = bench.from(A, &(invite("sip:b@example.com") + "\nProxy-Require: foo"));
    assert_eq!(sent[0].message.status(), Some(420));
    assert_eq!(sent[0].message.text(Name::Unsupported), Some("foo"));
}

/// §11: OPTIONS to us is answered; INVITE to a stranger of ours is 404.
#[test]
fn answers_options_and_knows_nobody_without_routes() {
    let mut bench = Bench::new(open());
    let options = invite("sip:203.0.113.1:5060").replace("INVITE", "OPTIONS");
    assert_eq!(bench.from(A, &options)[0].message.status(), Some(200));
    assert_eq!(bench.from(A, &invite("sip:nobody@example.com"))[0].message.status(), Some(404));
}

/// §16.7 step 6: a 503 concerns us, not the caller.
#[test]
fn a_callees_503_goes_back_as_500() {
    let mut bench = Bench::new(plain());
    let invite = forwarded(&mut bench, "sip:b@example.com");
    let sent = bench.answer(&invite, 503, "", "");
    assert_eq!(to(&sent, A)[0].status(), Some(500));
}

/// RFC 3263 §4.3: the next target is tried when one can't be reached.
#[test]
fn fails_over_to_the_next_resolved_target() {
    let mut config = plain();
    crate::tests::bench::trunk(&mut config).servers[0].next.host = "b.example".into();
    let mut bench = Bench::new(config);
    bench.from(A, &invite("sip:b@example.com"));
    let (ticket, _) = bench.questions.pop().expect("the name is asked about");
    let targets =
        [B, "198.51.100.21:5070"].map(|b| (proto::node::Transport::Udp, crate::tests::testing::address(b)));
    let answer = proto::node::Answer::Targets(targets.to_vec());
    let sent = bench.input(Input::Answer { ticket, answer });
    let first = sent.iter().find(|s| s.message.method() == Method::Invite).unwrap().clone();
    let sent =
        bench.input(Input::SendFailed { ticket: first.ticket, flow: first.flow, error: SendError::Refused });
    assert_eq!(to(&sent, "198.51.100.21:5070")[0].method(), Method::Invite);
}

/// §16.8: who rings for longer than timer C is cancelled, and not a nanosecond sooner. 101–199 put it off, 100 does not (§16.7
/// step 2).
#[test]
fn timer_c_cancels_a_callee_that_only_rings() {
    let tick = Duration::from_nanos(1);
    for (status, more) in [(100, 10), (180, 20), (199, 20)] {
        let config = Config { timer_c: Duration::from_secs(20), ..plain() };
        let mut bench = Bench::new(config);
        let invite = forwarded(&mut bench, "sip:b@example.com");
        bench.pass(Duration::from_secs(10));
        bench.answer(&invite, status, CALLEE, "");
        assert_eq!(to(&bench.pass(Duration::from_secs(more) - tick), B).len(), 0, "{status}");
        assert_eq!(to(&bench.pass(tick), B)[0].method(), Method::Cancel, "{status}");
    }
}

/// §17.1.1.2 timer B: nobody there.
#[test]
fn a_silent_callee_is_a_408() {
    let mut bench = Bench::new(plain());
    forwarded(&mut bench, "sip:b@example.com");
    let sent = bench.pass(Duration::from_secs(33));
    assert_eq!(to(&sent, A).last().unwrap().status(), Some(408));
    assert_eq!(ended(&bench), [(408, EndedBy::Timeout)]);
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.status(), Default::default());
}

/// §16.4: a strict router before us put our Record-Route value in the request line.
#[test]
fn undoes_what_a_strict_router_did() {
    let mut bench = Bench::new(plain());
    let ok = answered(&mut bench);
    let route = ok.text(Name::RecordRoute).unwrap().trim_matches(['<', '>']).to_owned();
    let bye = in_dialog("BYE", 2, &ok.edit().remove(Name::RecordRoute).finish());
    let bye = bye.replace("BYE sip:b@198.51.100.20:5070 SIP", &format!("BYE {route} SIP"));
    let sent = bench.from(A, &(bye + "\nRoute: <sip:b@198.51.100.20:5070>"));
    let bye = to(&sent, B)[0];
    assert_eq!((bye.request_uri(), bye.routes().count()), ("sip:b@198.51.100.20:5070", 0));
}

/// RFC 4320 §4.2: a 408 to anything but INVITE comes too late to be of use.
#[test]
fn a_silent_server_gets_no_408_for_a_message() {
    let mut bench = Bench::new(plain());
    bench.from(A, &invite("sip:b@example.com").replace("INVITE", "MESSAGE"));
    let sent = bench.pass(Duration::from_secs(70));
    assert!(to(&sent, A).is_empty());
    assert_eq!(bench.status(), Default::default());
}

/// The BYE of the caller of a call that [`B`] answered with this Contact.
fn bye_to(bench: &mut Bench, contact: &str) -> Vec<Sent> {
    let invite = forwarded(bench, "sip:b@example.com");
    let sent = bench.answer(&invite, 200, &format!("Contact: <sip:b@{contact}>"), "");
    let ok = to(&sent, A)[0].clone();
    bench.from(A, &in_dialog("BYE", 2, &ok).replace(&format!("sip:b@{B}"), &format!("sip:b@{contact}")))
}

/// §12.2.1.1: the remote target is where the Contact says.
#[test]
fn a_trunk_that_names_another_public_host_is_met_there() {
    let sent = bye_to(&mut Bench::new(plain()), "198.51.100.99:5080");
    assert_eq!(sent[0].flow.remote.to_string(), "198.51.100.99:5080");
}

#[test]
fn a_contact_that_shows_a_nat_or_names_us_does_not_lead_away() {
    for contact in ["10.0.0.5:5060", "198.51.100.20:9999", PROXY] {
        let sent = bye_to(&mut Bench::new(plain()), contact);
        assert_eq!(sent[0].flow.remote.to_string(), B, "{contact}");
    }
}

/// RFC 3263 for a request in a dialog: the name in a trunk's Contact is resolved, for BYE and ACK alike; where that comes
/// to nothing, or to a private address, the way it was met by still stands.
#[test]
fn the_name_in_a_trunks_contact_is_resolved() {
    let elsewhere = Answer::Targets(vec![(Transport::Udp, address("198.51.100.99:5080"))]);
    let private = Answer::Targets(vec![(Transport::Udp, address("10.0.0.5:5060"))]);
    let nothing = Answer::Nothing("no such name".into());
    for (answer, expected) in [(elsewhere, "198.51.100.99:5080"), (private, B), (nothing, B)] {
        for method in ["ACK", "BYE"] {
            let mut bench = Bench::new(plain());
            let invite = forwarded(&mut bench, "sip:b@example.com");
            let sent = bench.answer(&invite, 200, "Contact: <sip:b@sbc.carrier.example>", "");
            let request = in_dialog(method, 1 + u32::from(method == "BYE"), to(&sent, A)[0]);
            let request = request.replace(&format!("sip:b@{B}"), "sip:b@sbc.carrier.example");
            let sent = bench.from(A, &request);
            assert!(sent.iter().all(|sent| !sent.message.is_request()), "{method} waits for the name");
            let (ticket, question) = bench.questions.pop().expect("a name is asked for");
            assert!(matches!(question, Question::Resolve { host, .. } if host == "sbc.carrier.example"));
            let sent = bench.input(Input::Answer { ticket, answer: answer.clone() });
            assert_eq!((sent[0].message.method().as_str(), sent[0].flow.remote), (method, address(expected)));
        }
    }
}

/// A phone that is no trunk stays on the path it was seen on, whatever its Contact says.
#[test]
fn a_callers_contact_is_believed_only_of_a_trunk() {
    for (sources, expected) in [(vec![], A), (vec!["192.0.2.0/24".parse().unwrap()], "192.0.2.77:5060")] {
        let mut config = plain();
        let trunk = crate::tests::bench::trunk(&mut config);
        (trunk.trusted, trunk.sources) = (true, sources);
        config.routes[0].from = vec![Origin::Users, Origin::Trunk("b".into())];
        let mut bench = Bench::new(config);
        let invite = forwarded(&mut bench, "sip:b@example.com");
        bench.answer(&invite, 200, CALLEE, "");
        let bye = callees_bye(&invite, "sip:a@192.0.2.77");
        let sent = bench.from(B, &bye);
        assert_eq!(sent[0].flow.remote.to_string(), expected);
    }
}

fn callees_bye(invite: &Sent, uri: &str) -> String {
    let route = invite.message.text(Name::RecordRoute).unwrap();
    format!(
        "BYE {uri} SIP/2.0
         Via: SIP/2.0/UDP {B};branch=z9hG4bKb1
         Route: {route}
         From: <sip:b@example.com>;tag=callee
         To: <sip:a@example.com>;tag=caller
         Call-ID: c1
         CSeq: 9 BYE
         Max-Forwards: 70"
    )
}

/// The caller's connection is gone, but it listens where its Contact says.
#[test]
fn a_connection_that_is_gone_is_made_good_by_the_contact() {
    let mut bench = Bench::new(plain());
    let at = address("192.0.2.10:40001");
    let flow = Flow { transport: Transport::Tcp, local: address(PROXY), remote: at, id: FlowId(7) };
    let sent = bench.by(flow, message(&invite("sip:b@example.com")));
    let invite = sent.into_iter().find(|s| s.message.method() == Method::Invite).unwrap();
    bench.answer(&invite, 200, CALLEE, "");
    bench.input(Input::Closed { flow });
    let sent = bench.from(B, &callees_bye(&invite, "sip:a@192.0.2.10:5060;transport=tcp"));
    assert_eq!(sent[0].flow.remote, at, "it may be open still, for all a restarted proxy knows");
    let (ticket, flow) = (sent[0].ticket, sent[0].flow);
    let sent = bench.input(Input::SendFailed { ticket, flow, error: SendError::Refused });
    assert_eq!((sent[0].flow.transport, sent[0].flow.remote), (Transport::Tcp, address(A)));
}
