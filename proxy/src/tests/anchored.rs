//! Stories of system 1 (SYSTEMS §1) with a relay and a redirect server played by the test.

use std::time::Duration;

use proto::control::{Ask, Session};
use proto::event::{Event, MediaDecided, Rule, Side};
use proto::node::Transport;
use proto::node_auth::{NodeKey, Proof};
use proto::sip::{Message, Method, Name};
use proto::tables::Anchor;

use crate::Config;
use crate::config::{MediaRange, Redirect, Relay, Siblings};
use crate::tests::bench::{A, B, Bench, PROXY, Sent, in_dialog, invite, open, plain, to};
use crate::tests::testing::address;

const RELAY: &str = "203.0.113.50:5060";
const RELAY_2: &str = "203.0.113.51:5060";
const REDIRECT: &str = "203.0.113.60:5060";
const P2: &str = "203.0.113.2:5060";
const CALLEE: &str = "Contact: <sip:b@198.51.100.20:5070>";
/// What the scripted relay puts into any SDP: its own address.
const RELAYED: &str = "203.0.113.50";
const BIRTH: u64 = 1_767_225_600;

fn key() -> NodeKey {
    NodeKey([9; 32])
}

fn relay(name: &str, at: &str) -> Relay {
    let media = MediaRange { ip: address(at).ip(), ports: 20_000..=29_999 };
    Relay {
        name: name.into(),
        transport: Transport::Udp,
        address: address(at),
        weight: 1,
        media: vec![media],
    }
}

/// One relay, one redirect server, one sibling.
fn claim() -> Config {
    Config {
        relays: vec![relay("r", RELAY)],
        redirects: vec![Redirect { name: "d".into(), transport: Transport::Udp, address: address(REDIRECT) }],
        siblings: Siblings { cidrs: vec!["203.0.113.2/32".parse().unwrap()], key: Some(key()) },
        ..open()
    }
}

/// Everything to B by way of the relay.
fn always() -> Config {
    Config { anchor: Anchor::Always, relays: vec![relay("r", RELAY)], ..plain() }
}

fn sdp(ip: &str, port: u16) -> String {
    format!("v=0\no=- 1 1 IN IP4 {ip}\ns=-\nc=IN IP4 {ip}\nt=0 0\nm=audio {port} RTP/AVP 0\n")
}

fn crlf(sdp: &str) -> String {
    sdp.replace('\n', "\r\n")
}

fn offer(uri: &str, ip: &str) -> String {
    format!("{}\n\n{}", invite(uri), sdp(ip, 4000))
}

fn one(sent: &[Sent], remote: &str, method: Method<'_>) -> Sent {
    let found = sent
        .iter()
        .find(|s| s.flow.remote == address(remote) && s.message.method() == method && s.message.is_request());
    found.unwrap_or_else(|| panic!("no {method:?} to {remote} in {sent:#?}")).clone()
}

/// The relay answers as a relay does: the same SDP, naming itself. Callers' media comes out at port 20000, callees'
/// at 20002.
fn relayed(bench: &mut Bench, asked: &Sent) -> Vec<Sent> {
    let ask = Ask::read(&asked.message).expect("a relay INVITE says what it asks");
    bench.session = Some(ask.session.to_string());
    let port = if ask.leg == Side::Caller { 20_000 } else { 20_002 };
    let body = if asked.message.sdp().is_some() { crlf(&sdp(RELAYED, port)) } else { String::new() };
    bench.answer(asked, 200, "Contact: <sip:relay@203.0.113.50>", &body)
}

/// A call through [`always`], answered; what the caller got.
fn answered(bench: &mut Bench) -> Message {
    let sent = bench.from(A, &offer("sip:b@example.com", "10.0.0.1"));
    let sent = relayed(bench, &one(&sent, RELAY, Method::Invite));
    let forwarded = one(&sent, B, Method::Invite);
    let sent = bench.answer(&forwarded, 200, CALLEE, &crlf(&sdp("192.168.0.5", 6000)));
    let sent = relayed(bench, &one(&sent, RELAY, Method::Invite));
    to(&sent, A).into_iter().find(|m| m.status() == Some(200)).expect("the caller gets the answer").clone()
}

fn decided(bench: &Bench) -> Vec<&MediaDecided> {
    let mut decided = Vec::new();
    for event in &bench.events {
        if let Event::MediaDecided(media) = event {
            decided.push(&**media);
        }
    }
    decided
}

/// SYSTEMS §1, acceptance 1a: the claim, step by step, with what each message says.
#[test]
fn the_relay_is_asked_before_the_redirect_server_and_both_before_the_callee() {
    let mut bench = Bench::new(claim());
    // 2–5: the INVITE's source is not what its SDP names: relay INVITE, and nothing else.
    let sent = bench.from(A, &offer("sip:bob@example.com", "10.0.0.1"));
    let relay_invite = one(&sent, RELAY, Method::Invite);
    assert_eq!(sent.len(), 1);
    let ask = Ask::read(&relay_invite.message).unwrap();
    assert_eq!((ask.leg, ask.peer), (Side::Caller, Some(address(A).ip())));
    assert_eq!(key().check(&relay_invite.message, BIRTH), Proof::Proven);
    assert_eq!(decided(&bench)[0].rule, Rule::UnreachableAddress);

    // 6–7: the relay's resource is known: ACK, then redirect INVITE, without SDP.
    let sent = relayed(&mut bench, &relay_invite);
    one(&sent, RELAY, Method::Ack);
    let redirect_invite = one(&sent, REDIRECT, Method::Invite);
    assert!(to(&sent, P2).is_empty());
    assert_eq!(redirect_invite.message.request_uri(), "sip:bob@example.com");
    assert_eq!(redirect_invite.message.body(), b"");

    // 8–9: 302 names P2: the forwarding INVITE goes there, its SDP naming the relay, the request URI still bob's.
    let sent = bench.answer(&redirect_invite, 302, "Contact: <sip:203.0.113.2:5060;transport=udp;lr>", "");
    let forwarded = one(&sent, P2, Method::Invite);
    assert_eq!(forwarded.message.request_uri(), "sip:bob@example.com");
    let body = std::str::from_utf8(forwarded.message.body()).unwrap();
    assert!(body.contains(RELAYED) && !body.contains("10.0.0.1"), "{body}");
    let verdict = format!("{};peer={};media=10.0.0.1:4000", ask.session, address(A).ip());
    assert_eq!(forwarded.message.text(Name::RelaySession), Some(&*verdict));
    assert_eq!(key().check(&forwarded.message, BIRTH), Proof::Proven);

    // 10–11: P2's OK goes to the relay, and A's OK names only the relay.
    let sent = bench.answer(&forwarded, 200, CALLEE, &crlf(&sdp("198.51.100.20", 6000)));
    assert!(to(&sent, A).is_empty());
    let second = one(&sent, RELAY, Method::Invite);
    assert_eq!(Ask::read(&second.message).unwrap().leg, Side::Callee);
    assert!(!second.message.to_tag().is_empty());
    let sent = relayed(&mut bench, &second);
    let ok = to(&sent, A)[0].clone();
    let body = std::str::from_utf8(ok.body()).unwrap();
    assert!(body.contains(RELAYED) && !body.contains("198.51.100.20"), "{body}");
    assert!(ok.text(Name::RelaySession).is_none() && ok.text(Name::NodeAuth).is_none());
    let addresses = [address("203.0.113.50:20002"), address("203.0.113.50:20000")];
    assert_eq!(decided(&bench).last().unwrap().relay, Some(addresses));

    // 12: BYE frees the session.
    assert_eq!(bench.status().relay_sessions, 1);
    let sent = bench.from(A, &in_dialog("BYE", 2, &ok));
    let bye = one(&sent, P2, Method::Bye);
    let sent = bench.answer(&bye, 200, "", "");
    let relay_bye = one(&sent, RELAY, Method::Bye);
    bench.answer(&relay_bye, 200, "", "");
    assert_eq!(bench.status().relay_sessions, 0);
}

/// 1c: nothing to relay, nobody asked.
#[test]
fn two_public_parties_need_no_relay() {
    let mut bench = Bench::new(Config { relays: vec![relay("r", RELAY)], anchor: Anchor::Auto, ..plain() });
    let sent = bench.from(A, &offer("sip:b@example.com", "192.0.2.10"));
    assert!(to(&sent, RELAY).is_empty());
    let forwarded = one(&sent, B, Method::Invite);
    assert!(std::str::from_utf8(forwarded.message.body()).unwrap().contains("192.0.2.10"));
    assert_eq!(decided(&bench)[0].rule, Rule::BothPublic);
}

/// 1f: 404 from the redirect server, and silence.
#[test]
fn a_redirect_server_that_knows_nobody_or_nothing_frees_the_relay() {
    for (status, seen) in [(Some(404), 404), (None, 408)] {
        let mut bench = Bench::new(claim());
        let sent = bench.from(A, &offer("sip:bob@example.com", "10.0.0.1"));
        let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
        let redirect_invite = one(&sent, REDIRECT, Method::Invite);
        let sent = match status {
            Some(status) => bench.answer(&redirect_invite, status, "", ""),
            None => bench.pass(Duration::from_secs(4)),
        };
        assert_eq!(to(&sent, A).last().unwrap().status(), Some(seen));
        bench.answer(&one(&sent, RELAY, Method::Bye), 200, "", "");
        assert_eq!((bench.status().relay_sessions, bench.status().calls), (0, 0));
    }
}

/// §1 step 8: an answer naming ourselves without a local binding is 404.
#[test]
fn a_redirect_to_ourselves_is_a_404() {
    let mut bench = Bench::new(claim());
    let sent = bench.from(A, &offer("sip:bob@example.com", "192.0.2.10"));
    let redirect_invite = one(&sent, REDIRECT, Method::Invite);
    let sent = bench.answer(&redirect_invite, 302, &format!("Contact: <sip:{PROXY};lr>"), "");
    assert_eq!(to(&sent, A)[0].status(), Some(404));
}

/// 1g: exhaustion is a 503 with Retry-After at the front door.
#[test]
fn an_exhausted_relay_is_a_503_with_retry_after() {
    let mut bench = Bench::new(always());
    let sent = bench.from(A, &offer("sip:b@example.com", "10.0.0.1"));
    let sent = bench.answer(&one(&sent, RELAY, Method::Invite), 503, "Retry-After: 7", "");
    let refused = to(&sent, A)[0];
    assert_eq!((refused.status(), refused.text(Name::RetryAfter)), (Some(503), Some("7")));
    assert!(to(&sent, B).is_empty());
    assert_eq!((bench.status().relay_sessions, bench.status().calls), (0, 0));
}

#[test]
fn another_relay_is_asked_when_the_first_is_short_or_silent() {
    for silent in [false, true] {
        let mut bench =
            Bench::new(Config { relays: vec![relay("1", RELAY), relay("2", RELAY_2)], ..always() });
        let sent = bench.from(A, &offer("sip:b@example.com", "10.0.0.1"));
        let first = sent.iter().find(|s| s.message.method() == Method::Invite).unwrap().clone();
        let sent =
            if silent { bench.pass(Duration::from_secs(4)) } else { bench.answer(&first, 503, "", "") };
        let other = if first.flow.remote == address(RELAY) { RELAY_2 } else { RELAY };
        let second = one(&sent, other, Method::Invite);
        one(&relayed(&mut bench, &second), B, Method::Invite);
    }
}

#[test]
fn a_failed_call_frees_its_session() {
    let mut bench = Bench::new(always());
    let sent = bench.from(A, &offer("sip:b@example.com", "10.0.0.1"));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let sent = bench.answer(&one(&sent, B, Method::Invite), 486, "", "");
    assert_eq!(to(&sent, A)[0].status(), Some(486));
    bench.answer(&one(&sent, RELAY, Method::Bye), 200, "", "");
    assert_eq!(bench.status().relay_sessions, 0);
}

#[test]
fn a_cancel_while_the_relay_is_asked_frees_the_session_and_forwards_nothing() {
    let mut bench = Bench::new(always());
    let sent = bench.from(A, &offer("sip:b@example.com", "10.0.0.1"));
    let asked = one(&sent, RELAY, Method::Invite);
    let sent = bench.from(A, &invite("sip:b@example.com").replace("INVITE", "CANCEL"));
    assert_eq!(to(&sent, A).iter().map(|m| m.status().unwrap()).collect::<Vec<_>>(), [200, 487]);
    let sent = relayed(&mut bench, &asked);
    assert!(to(&sent, B).is_empty());
    bench.answer(&one(&sent, RELAY, Method::Bye), 200, "", "");
    assert_eq!((bench.status().relay_sessions, bench.status().calls), (0, 0));
}

/// DESIGN §4: relay-dialog identifiers derive from the token, so that a restarted proxy frees what it forgot.
#[test]
fn a_restarted_proxy_frees_the_session_of_a_call_it_forgot() {
    let mut bench = Bench::new(always());
    let ok = answered(&mut bench);
    bench.pass(Duration::from_secs(60));
    bench.restart();
    let sent = bench.from(A, &in_dialog("BYE", 2, &ok));
    let sent = bench.answer(&one(&sent, B, Method::Bye), 200, "", "");
    let bye = one(&sent, RELAY, Method::Bye);
    assert!(bye.message.cseq().unwrap().number >= 600, "CSeq is the session's age in tenths of a second");
    assert!(Session::from_name(bye.message.call_id()).is_some());
}

/// 1e: a re-INVITE and its answer take the same way, both with the window for a new source open.
#[test]
fn a_re_invite_goes_by_the_relay_even_after_a_restart() {
    let mut bench = Bench::new(always());
    let ok = answered(&mut bench);
    bench.restart();
    let again = format!("{}\n\n{}", in_dialog("INVITE", 2, &ok), sdp("10.0.0.1", 4444));
    let sent = bench.from(A, &again);
    let asked = one(&sent, RELAY, Method::Invite);
    let ask = Ask::read(&asked.message).unwrap();
    assert!(ask.reset && ask.leg == Side::Caller && !asked.message.to_tag().is_empty());
    let sent = relayed(&mut bench, &asked);
    let forwarded = one(&sent, B, Method::Invite);
    assert!(std::str::from_utf8(forwarded.message.body()).unwrap().contains(RELAYED));
    let sent = bench.answer(&forwarded, 200, CALLEE, &crlf(&sdp("192.168.0.5", 6000)));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    assert!(std::str::from_utf8(to(&sent, A)[0].body()).unwrap().contains(RELAYED));
}

/// RFC 3311: the answer in an UPDATE's 200 goes by the relay, and waits for it.
#[test]
fn the_answer_to_an_update_reaches_its_sender_by_way_of_the_relay() {
    let mut bench = Bench::new(always());
    let ok = answered(&mut bench);
    let update = format!("{}\n\n{}", in_dialog("UPDATE", 2, &ok), sdp("10.0.0.1", 4444));
    let sent = bench.from(A, &update);
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let sent = bench.answer(&one(&sent, B, Method::Update), 200, CALLEE, &crlf(&sdp("192.168.0.5", 6666)));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let got = to(&sent, A).into_iter().find(|m| m.status() == Some(200)).expect("A gets the answer");
    assert!(std::str::from_utf8(got.body()).unwrap().contains(RELAYED));
}

/// An UPDATE and the BYE cross: the UPDATE's answer finds the session ended, does not make it again, and still ends the
/// UPDATE.
#[test]
fn what_crosses_the_bye_is_answered_and_revives_no_session() {
    let mut bench = Bench::new(always());
    let ok = answered(&mut bench);
    let update = format!("{}\n\n{}", in_dialog("UPDATE", 2, &ok), sdp("10.0.0.1", 4444));
    let sent = bench.from(A, &update);
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let update = one(&sent, B, Method::Update);
    let sent = bench.from(A, &in_dialog("BYE", 3, &ok));
    let sent = bench.answer(&one(&sent, B, Method::Bye), 200, "", "");
    bench.answer(&one(&sent, RELAY, Method::Bye), 200, "", "");
    let sent = bench.answer(&update, 200, CALLEE, &crlf(&sdp("192.168.0.5", 6666)));
    assert!(to(&sent, RELAY).is_empty(), "{sent:#?}");
    assert_eq!(to(&sent, A)[0].status(), Some(481));
    assert_eq!(bench.status().relay_sessions, 0);
}

/// 1e: late offer. Ports are reserved before the INVITE goes on; the offer is in the 200, the answer in the ACK.
#[test]
fn a_late_offer_is_answered_in_the_ack_by_way_of_the_relay() {
    let mut bench = Bench::new(always());
    let sent = bench.from(A, &invite("sip:b@example.com"));
    let reserve = one(&sent, RELAY, Method::Invite);
    assert!(reserve.message.sdp().is_none());
    let sent = relayed(&mut bench, &reserve);
    let sent = bench.answer(&one(&sent, B, Method::Invite), 200, CALLEE, &crlf(&sdp("192.168.0.5", 6000)));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let ok = to(&sent, A)[0].clone();
    let ack = format!("{}\n\n{}", in_dialog("ACK", 1, &ok), sdp("10.0.0.1", 4000));
    let sent = bench.from(A, &ack);
    let asked = one(&sent, RELAY, Method::Invite);
    assert_eq!(Ask::read(&asked.message).unwrap().leg, Side::Caller);
    let sent = relayed(&mut bench, &asked);
    let ack = one(&sent, B, Method::Ack);
    assert!(std::str::from_utf8(ack.message.body()).unwrap().contains(RELAYED));
}

/// 1e: early media, and a 200 that repeats it without asking the relay again.
#[test]
fn early_media_goes_by_the_relay_once() {
    let mut bench = Bench::new(always());
    let sent = bench.from(A, &offer("sip:b@example.com", "10.0.0.1"));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let forwarded = one(&sent, B, Method::Invite);
    let answer = crlf(&sdp("192.168.0.5", 6000));
    let sent = bench.answer(&forwarded, 183, CALLEE, &answer);
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    assert_eq!(to(&sent, A)[0].status(), Some(183));
    let sent = bench.answer(&forwarded, 200, CALLEE, &answer);
    assert!(to(&sent, RELAY).is_empty());
    assert!(std::str::from_utf8(to(&sent, A)[0].body()).unwrap().contains(RELAYED));
}

/// §1 abuse: SDP naming our own relay.
#[test]
fn sdp_that_names_our_relay_is_refused() {
    let mut bench = Bench::new(always());
    let text = format!("{}\n\n{}", invite("sip:b@example.com"), sdp(RELAYED, 20_004));
    assert_eq!(bench.from(A, &text)[0].message.status(), Some(488));
}

/// DESIGN §5: what a sibling has anchored isn't compared or anchored again, and its answer tells where B is.
#[test]
fn a_siblings_verdict_is_joined_not_repeated() {
    let mut bench = Bench::new(Config {
        redirects: Vec::new(),
        trunks: plain().trunks,
        routes: plain().routes,
        anchor: Anchor::Auto,
        ..claim()
    });
    let from_p1 = crate::tests::bench::message(&format!(
        "{}\nRelay-Session: 00c0ffee00c0ffee;peer=192.0.2.10\n\n{}",
        invite("sip:b@example.com"),
        sdp(RELAYED, 20_000)
    ));
    let from_p1 = key().sign(&from_p1, BIRTH);
    let flow = crate::tests::testing::udp(P2);
    let sent = bench.by(flow, from_p1.clone());
    assert!(to(&sent, RELAY).is_empty());
    let forwarded = one(&sent, B, Method::Invite);
    assert!(
        forwarded.message.text(Name::RelayVerdict).is_none()
            && forwarded.message.text(Name::NodeAuth).is_none()
    );
    assert_eq!(decided(&bench)[0].rule, Rule::SiblingDecided);
    let sent = bench.answer(&forwarded, 200, CALLEE, &crlf(&sdp("192.168.0.5", 6000)));
    let ok = to(&sent, P2)[0];
    let verdict = format!("direct;peer={}", address(B).ip());
    assert_eq!(ok.text(Name::RelayVerdict), Some(&*verdict));
    assert_eq!(key().check(ok, BIRTH), Proof::Proven);

    // The same from anybody else proves nothing, and names our relay.
    let mut bench = Bench::new(claim());
    let sent = bench.by(crate::tests::testing::udp(A), from_p1);
    assert_eq!(sent[0].message.status(), Some(488));
}

/// DESIGN §5: an answer that contradicts its source is too late for this call, and anchors the next.
#[test]
fn an_answer_that_reveals_a_nat_anchors_the_next_call() {
    let mut bench = Bench::new(Config { relays: vec![relay("r", RELAY)], anchor: Anchor::Auto, ..plain() });
    let sent = bench.from(A, &offer("sip:b@example.com", "192.0.2.10"));
    bench.answer(&one(&sent, B, Method::Invite), 200, CALLEE, &crlf(&sdp("192.168.0.5", 6000)));
    assert_eq!(decided(&bench).last().unwrap().rule, Rule::DecidedTooLate);
    let next = offer("sip:b@example.com", "192.0.2.10")
        .replace("Call-ID: c1", "Call-ID: c2")
        .replace("z9hG4bKa1", "z9hG4bKa2");
    one(&bench.from(A, &next), RELAY, Method::Invite);
}

/// A relay that can't take the answer: nobody is left in a call without media.
#[test]
fn an_answer_no_relay_takes_hangs_up_the_callee() {
    let mut bench = Bench::new(always());
    let sent = bench.from(A, &offer("sip:b@example.com", "10.0.0.1"));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let sent = bench.answer(&one(&sent, B, Method::Invite), 200, CALLEE, &crlf(&sdp("192.168.0.5", 6000)));
    let sent = bench.answer(&one(&sent, RELAY, Method::Invite), 488, "", "");
    one(&sent, B, Method::Ack);
    one(&sent, B, Method::Bye);
    assert_eq!(to(&sent, A)[0].status(), Some(488));
    assert_eq!(bench.status().calls, 0);
}

/// While a call is up its session is refreshed.
#[test]
fn a_session_is_refreshed_while_its_call_is_up() {
    let mut bench = Bench::new(always());
    answered(&mut bench);
    let sent = bench.pass(Duration::from_secs(601));
    one(&sent, RELAY, Method::Options);
}

/// The relay's BYE of a silent session, unproven; `name` is what the session's INVITE gave as the call's.
fn relays_bye(name: &str, session: &str) -> Message {
    crate::tests::bench::message(&format!(
        "BYE sip:{name}@{PROXY} SIP/2.0
         Via: SIP/2.0/UDP {RELAY};branch=z9hG4bKr1
         From: <sip:{session}@{RELAY}>;tag=r
         To: <sip:postern@{PROXY}>;tag=p
         Call-ID: {session}
         CSeq: 1 BYE
         Max-Forwards: 70"
    ))
}

/// DESIGN §6: silence ends a call with a BYE to both sides.
#[test]
fn a_relays_bye_hangs_up_both_parties() {
    let mut bench = Bench::new(Config { siblings: claim().siblings, ..always() });
    answered(&mut bench);
    let session = bench.session.clone().expect("a relay was asked");
    let bye = relays_bye("postern", &session);
    let unproven = bench.by(crate::tests::testing::udp(RELAY), bye.clone());
    assert_eq!(unproven[0].message.status(), Some(403));
    let bye = bye.edit().set_first(Name::Via, "SIP/2.0/UDP 203.0.113.50:5060;branch=z9hG4bKr2").finish();
    let sent = bench.by(crate::tests::testing::udp(RELAY), key().sign(&bye, BIRTH));
    assert_eq!(to(&sent, RELAY)[0].status(), Some(200));
    let to_callee = one(&sent, B, Method::Bye).message;
    assert_eq!((to_callee.request_uri(), to_callee.to_tag()), ("sip:b@198.51.100.20:5070", "callee"));
    assert!(to_callee.cseq().unwrap().number > 1);
    assert_eq!(one(&sent, A, Method::Bye).message.to_tag(), "caller");
    assert_eq!((bench.status().calls, bench.status().relay_sessions), (0, 0));
}

/// The relay says the call's name back, so that even a restarted proxy records its end.
#[test]
fn a_call_of_a_former_life_that_falls_silent_is_recorded() {
    let mut bench = Bench::new(Config { siblings: claim().siblings, ..always() });
    answered(&mut bench);
    let session = bench.session.clone().expect("a relay was asked");
    bench.pass(Duration::from_secs(20));
    bench.restart();
    let bye = relays_bye("c1", &session);
    for (branch, ends) in [("z9hG4bKr1", 1), ("z9hG4bKr2", 1)] {
        let via = format!("SIP/2.0/UDP {RELAY};branch={branch}");
        let bye = bye.edit().set_first(Name::Via, &via).finish();
        bench.by(crate::tests::testing::udp(RELAY), key().sign(&bye, BIRTH + 20));
        let ended = |event: &&Event| matches!(event, Event::CallEnded(ended) if &*ended.call == "c1");
        assert_eq!(bench.events.iter().filter(ended).count(), ends, "{branch}");
    }
}

#[test]
fn an_answer_that_names_our_relay_is_refused() {
    let mut bench = Bench::new(Config { anchor: Anchor::Never, ..always() });
    let sent = bench.from(A, &offer("sip:b@example.com", "192.0.2.10"));
    let sent = bench.answer(&one(&sent, B, Method::Invite), 200, CALLEE, &crlf(&sdp(RELAYED, 20_004)));
    assert_eq!(to(&sent, A)[0].status(), Some(488));
    one(&sent, B, Method::Bye);
}

/// A MESSAGE asks the redirect server by INVITE, too, and goes on as itself.
#[test]
fn any_method_finds_its_way_by_the_redirect_server() {
    let mut bench = Bench::new(claim());
    let text = invite("sip:bob@example.com").replace("INVITE", "MESSAGE");
    let question = one(&bench.from(A, &text), REDIRECT, Method::Invite);
    let sent = bench.answer(&question, 302, "Contact: <sip:203.0.113.2:5060;lr>", "");
    one(&sent, P2, Method::Message);
}

/// DESIGN §4: an IPv6 path and a relay session take two tokens, in Routes that follow one another.
#[test]
fn a_call_over_ipv6_frees_its_session_after_a_restart() {
    let mut config = always();
    let at = address("[2001:db8::1]:5060");
    config.listeners.push(crate::config::Listener { bind: at, advertise: at, ..config.listeners[0].clone() });
    crate::tests::bench::trunk(&mut config).servers[0].next.host = "2001:db8::b".into();
    let (caller, callee) = ("[2001:db8::a]:5060", "[2001:db8::b]:5070");
    let flow = proto::node::Flow::udp(at, address(caller));
    let mut bench = Bench::new(config);
    let sent = bench.by(flow, crate::tests::bench::message(&offer("sip:b@example.com", "10.0.0.1")));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let sent = bench.answer(&one(&sent, callee, Method::Invite), 200, CALLEE, &crlf(&sdp("192.0.2.1", 6000)));
    let sent = relayed(&mut bench, &one(&sent, RELAY, Method::Invite));
    let ok = to(&sent, caller)[0].clone();
    assert_eq!(ok.values(Name::RecordRoute).count(), 2);
    bench.restart();
    let sent = bench.by(flow, crate::tests::bench::message(&in_dialog("BYE", 2, &ok)));
    let sent = bench.answer(&one(&sent, callee, Method::Bye), 200, "", "");
    one(&sent, RELAY, Method::Bye);
}

/// Whoever forges the redirect server's 302 would have the call: without proof the next server is asked, and none is left.
#[test]
fn a_302_without_proof_is_not_followed() {
    let mut bench = Bench::new(Config { anchor: Anchor::Never, ..claim() });
    let question = one(&bench.from(A, &offer("sip:bob@example.com", "10.0.0.1")), REDIRECT, Method::Invite);
    let forged = proto::sip::reply(&question.message, 302, "d")
        .header(Name::Contact, "<sip:198.51.100.66:5060;lr>")
        .finish();
    let sent = bench.by(question.flow, forged);
    assert!(sent.iter().all(|sent| sent.flow.remote != address("198.51.100.66:5060")), "{sent:?}");
    assert_eq!(to(&sent, A).last().unwrap().status(), Some(408));
    let told = |event: &Event| matches!(event, Event::Warning { why, .. } if why.contains("Node-Auth"));
    assert!(bench.events.iter().any(told));
}
