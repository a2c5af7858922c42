//! What a proxy does for extensions of RFC 3261, and what it keeps its hands off.

use std::time::Duration;

use proto::sip::{Message, Name};
use proto::tables::{Secret, User};

use crate::config::{Config, SessionTimer};
use crate::tests::bench::{A, B, Bench, invite, plain, to};
use crate::tests::net::*;
use crate::tests::testing::address;

const CALLEE: &str = "Contact: <sip:b@198.51.100.20:5070>";

/// The INVITE with these headers as it reaches the callee.
fn reaches(bench: &mut Bench, headers: &str) -> Message {
    let sent = bench.from(A, &(invite("sip:b@example.com") + headers));
    to(&sent, B).first().map_or_else(|| panic!("{sent:?}"), |message| (*message).clone())
}

// RFC 4028: session timers.

fn timed() -> Config {
    let timer = SessionTimer { expires: Duration::from_secs(1800), min: Duration::from_secs(120) };
    Config { session_timer: Some(timer), ..plain() }
}

fn left_with(config: Config, headers: &str) -> Option<String> {
    reaches(&mut Bench::new(config), headers).text(Name::SessionExpires).map(str::to_owned)
}

/// §8.1: inserted when there is none, shortened when it is too long, never below the request's Min-SE; the refresher is not
/// ours to choose.
#[test]
fn rfc4028_8_1_a_request_leaves_with_a_session_timer_that_suits_us() {
    let with = |headers: &str| left_with(timed(), headers);
    assert_eq!(with("").as_deref(), Some("1800"));
    assert_eq!(with("\nMin-SE: 2400").as_deref(), Some("2400"));
    assert_eq!(with("\nSession-Expires: 7200;refresher=uas").as_deref(), Some("1800;refresher=uas"));
    assert_eq!(with("\nx: 7200\nMin-SE: 3600").as_deref(), Some("3600"));
    assert_eq!(with("\nSession-Expires: 600").as_deref(), Some("600"));
    assert_eq!(left_with(plain(), ""), None);
    assert_eq!(left_with(plain(), "\nSession-Expires: 7200").as_deref(), Some("7200"));
}

/// §8.1, §6: too short is refused with what would do; a client that does not know session timers can't repair it.
#[test]
fn rfc4028_8_1_a_session_timer_below_our_least_is_422_with_min_se() {
    let mut bench = Bench::new(timed());
    let text = invite("sip:b@example.com") + "\nSession-Expires: 100\nSupported: timer";
    let sent = bench.from(A, &text);
    let refusal = to(&sent, A)[0];
    assert_eq!((refusal.status(), refusal.text(Name::MinSe)), (Some(422), Some("120")));
    let raised = reaches(&mut Bench::new(timed()), "\nSession-Expires: 100");
    assert_eq!((raised.text(Name::SessionExpires), raised.text(Name::MinSe)), (Some("120"), Some("120")));
}

/// §8.2: an answer of somebody who does not know session timers is completed for a caller who does, and for nobody else.
#[test]
fn rfc4028_8_2_the_caller_refreshes_when_only_it_knows_how() {
    let answered = |supported: &str, headers: &str| {
        let mut bench = Bench::new(timed());
        let sent = bench.from(A, &(invite("sip:b@example.com") + supported));
        let leg = sent.iter().find(|s| s.flow.remote == address(B)).unwrap().clone();
        let sent = bench.answer(&leg, 200, &format!("{CALLEE}{headers}"), "");
        let ok = to(&sent, A)[0].clone();
        let text = |name| ok.text(name).map(str::to_owned);
        (text(Name::SessionExpires), text(Name::Require))
    };
    let timer = Some("timer".to_owned());
    assert_eq!(answered("\nSupported: timer", ""), (Some("1800;refresher=uac".into()), timer));
    assert_eq!(answered("", ""), (None, None));
    let own = "\nSession-Expires: 900;refresher=uas";
    assert_eq!(answered("\nSupported: timer", own), (Some("900;refresher=uas".into()), None));
}

/// §8.2, §10: a call whose ends have died ends when nobody refreshes it.
#[test]
fn rfc4028_10_a_call_that_nobody_refreshes_is_recorded_as_over() {
    let mut bench = Bench::new(timed());
    let sent = bench.from(A, &(invite("sip:b@example.com") + "\nk: timer"));
    let leg = sent.iter().find(|s| s.flow.remote == address(B)).unwrap().clone();
    bench.answer(&leg, 200, CALLEE, "");
    bench.pass(Duration::from_secs(1799));
    assert_eq!(bench.proxy.status().calls, 1);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.proxy.status().calls, 0);
}

// RFC 3325 and RFC 3323: who is who.

const CLAIMED: &str =
    "\nP-Asserted-Identity: <sip:boss@example.com>\nP-Preferred-Identity: <sip:x@example.com>";

fn identity(message: &Message) -> Vec<&str> {
    message.values(Name::PAssertedIdentity).collect()
}

/// RFC 3325 §5: what a stranger says of itself ends here.
#[test]
fn rfc3325_5_an_identity_asserted_by_nobody_we_trust_is_taken_off() {
    let got = reaches(&mut Bench::new(plain()), CLAIMED);
    assert!(identity(&got).is_empty() && got.text(Name::PPreferredIdentity).is_none(), "{got:?}");
}

/// A configuration whose route to [`B`] is a trusted trunk, or which trusts [`A`].
fn with_trunk(at: &str) -> Config {
    let mut config = plain();
    let mut trunk = (*config.trunks[0]).clone();
    if at == B {
        trunk.trusted = true;
        trunk.sources = vec!["198.51.100.20".parse().unwrap()];
        config.trunks = vec![trunk.into()];
    } else {
        let from_a = crate::config::Trunk {
            name: "a".into(),
            trusted: true,
            sources: vec!["192.0.2.10".parse().unwrap()],
            ..trunk
        };
        config.trunks.push(from_a.into());
    }
    config
}

/// RFC 3325 §5, §7: a trunk's word is passed on, but not to strangers when the caller asks for privacy.
#[test]
fn rfc3325_7_a_trunks_word_is_passed_on_unless_privacy_is_asked_for_towards_strangers() {
    let got = reaches(&mut Bench::new(with_trunk(A)), CLAIMED);
    assert_eq!(identity(&got), ["<sip:boss@example.com>"]);
    for wish in ["id", "header; id", "ID"] {
        let got = reaches(&mut Bench::new(with_trunk(A)), &format!("{CLAIMED}\nPrivacy: {wish}"));
        assert!(identity(&got).is_empty(), "{wish}: {got:?}");
        assert_eq!(
            got.text(Name::Privacy).map(str::to_lowercase).as_deref(),
            Some("id"),
            "the wish itself goes on"
        );
    }
    let got = reaches(&mut Bench::new(with_trunk(A)), &format!("{CLAIMED}\nPrivacy: none"));
    assert_eq!(identity(&got).len(), 1);
}

/// Alice with her password, anonymous or by name, through a proxy that asserts.
fn alice_calls(config: Config, from: &str, headers: &str) -> Message {
    let mut config = config;
    config.asserted_identity = true;
    config.listeners.iter_mut().for_each(|listener| listener.authenticate = true);
    let mut bench = Bench::new(config);
    let alice = User {
        name: "alice".into(),
        secret: Secret::Password("secret".into()),
        aors: vec!["alice@".into(), "desk@example.com".into()],
        anchor: None,
        srtp: None,
        latch: None,
        algorithms: Vec::new(),
    };
    bench.tables.users = vec![alice.into()];
    let text = invite("sip:b@example.com").replace("sip:a@example.com", from) + headers;
    let sent = bench.from(A, &text);
    let challenge = to(&sent, A)[0].text(Name::ProxyAuthenticate).expect("a challenge").to_owned();
    let what = proto::digest::Request { method: "INVITE", body: b"" };
    let uri = "sip:b@example.com";
    let answer = proto::digest::answer(&challenge, "alice", "secret", uri, what, 1, "cn").unwrap();
    let text = text.replace("1 INVITE", "2 INVITE").replace("z9hG4bK", "z9hG4bKagain");
    let sent = bench.from(A, &format!("{text}\nProxy-Authorization: {answer}"));
    to(&sent, B).first().map_or_else(|| panic!("{sent:?}"), |message| (*message).clone())
}

/// RFC 3325 §5: who has logged in is named to a trunk, whatever From says; by the name it prefers if that is its own.
#[test]
fn rfc3325_5_an_account_that_logged_in_is_named_to_a_trunk() {
    let by_name = alice_calls(with_trunk(B), "sip:alice@example.com", CLAIMED);
    assert_eq!(identity(&by_name), ["<sip:alice@example.com>"]);
    let desk = "\nP-Preferred-Identity: <sip:desk@example.com>";
    assert_eq!(
        identity(&alice_calls(with_trunk(B), "sip:alice@example.com", desk)),
        ["<sip:desk@example.com>"]
    );
    let hidden = alice_calls(with_trunk(B), "sip:anonymous@anonymous.invalid", "\nPrivacy: id");
    assert_eq!(identity(&hidden), ["<sip:alice@example.com>"], "the trunk may know");
    let to_a_stranger = alice_calls(plain(), "sip:anonymous@anonymous.invalid", "\nPrivacy: id");
    assert!(identity(&to_a_stranger).is_empty(), "nobody else may");
}

// What passes through two proxies and two NATs.

const BOB: &str = "sip:bob@b.example";

fn parties() -> (Net, Phone, Phone) {
    let mut net = Net::new();
    let mut alice = Phone::behind_nat("alice", "198.51.100.1:40001", "10.0.0.2:5060", P1);
    let mut bob = Phone::behind_nat("bob", "192.0.2.1:50001", "10.9.9.9:5060", P2);
    alice.register(&mut net);
    bob.register(&mut net);
    (net, alice, bob)
}

/// Alice's request of this method outside of dialogs.
fn first(alice: &mut Phone, method: &str, headers: &str, body: &[u8]) -> Message {
    let text = String::from_utf8_lossy(alice.invite(BOB, "").bytes()).replace("INVITE", method);
    let head = text.replace("Content-Length: 0\r\n", &format!("{headers}Content-Length: {}\r\n", body.len()));
    Message::parse([head.as_bytes(), body].concat().into()).unwrap()
}

/// Says it, and gives it as `to` gets it.
fn passes(net: &mut Net, from: &Phone, to: &Phone, request: Message) -> Message {
    let method = request.method().as_str().to_owned();
    let got = net.say(&from.seen_at, from.proxy, request);
    asked(&got, to, &method).unwrap_or_else(|| panic!("{method}: {:#?}", net.steps())).message
}

/// `to` answers, and `from` hears it.
fn answered(net: &mut Net, to: &Phone, from: &Phone, request: &Message, status: u16) -> Message {
    let got = net.say(&to.seen_at, to.proxy, to.answer(request, status, ""));
    told(&got, from).pop().unwrap_or_else(|| panic!("{:#?}", net.steps()))
}

/// RFC 6665 §4.4.1, §4.1.2: a subscription is a dialog; its NOTIFYs, refreshes and end find both ways.
#[test]
fn rfc6665_4_a_subscription_makes_a_dialog_through_both_proxies() {
    let (mut net, mut alice, mut bob) = parties();
    let subscribe = first(&mut alice, "SUBSCRIBE", "Event: dialog\r\nExpires: 600\r\n", b"");
    let got = passes(&mut net, &alice, &bob, subscribe);
    let ok = answered(&mut net, &bob, &alice, &got, 200);
    let notify = bob.in_dialog("NOTIFY", &got, "").edit().append(Name::Event, "dialog").finish();
    let notify = passes(&mut net, &bob, &alice, notify);
    assert_eq!(notify.request_uri(), "sip:alice@10.0.0.2:5060");
    assert_eq!(answered(&mut net, &alice, &bob, &notify, 200).status(), Some(200));
    for expires in ["600", "0"] {
        let again = alice.in_dialog("SUBSCRIBE", &ok, "").edit().append(Name::Expires, expires).finish();
        let again = passes(&mut net, &alice, &bob, again);
        assert_eq!(
            (again.request_uri(), again.text(Name::Expires)),
            ("sip:bob@10.9.9.9:5060", Some(expires))
        );
        answered(&mut net, &bob, &alice, &again, 200);
    }
}

/// RFC 3428 §4, §5 (MESSAGE), RFC 3903 §4 (PUBLISH), and a method nobody has heard of (RFC 3261 §16.1: a proxy is transparent
/// to new methods): through, with their bodies byte for byte, NULs and all, and no Record-Route.
#[test]
fn rfc3428_5_requests_that_make_no_dialog_pass_with_their_bodies_byte_for_byte() {
    let (mut net, mut alice, bob) = parties();
    let body: Vec<u8> = (0..=255).chain(*b"\r\n\r\nv=0\r\n").collect();
    for method in ["MESSAGE", "PUBLISH", "NEWS"] {
        let request = first(&mut alice, method, "Content-Type: application/octet-stream\r\n", &body);
        let got = passes(&mut net, &alice, &bob, request);
        assert_eq!(got.body(), body, "{method}");
        assert!(got.text(Name::RecordRoute).is_none(), "{method}");
        assert_eq!(answered(&mut net, &bob, &alice, &got, 202).status(), Some(202));
    }
}

/// RFC 6086 §4: INFO in the dialog. RFC 3262 §3–§5: 100rel and its numbers are the ends' own. RFC 3311 §5: UPDATE.
#[test]
fn rfc3262_rfc3311_rfc6086_prack_update_and_info_pass_in_the_dialog() {
    let (mut net, mut alice, bob) = parties();
    let invite = alice.invite(BOB, &alice.sdp()).edit().append(Name::Supported, "100rel").finish();
    let got = passes(&mut net, &alice, &bob, invite);
    assert_eq!(got.text(Name::Supported), Some("100rel"));
    let reliable = bob.answer(&got, 183, &bob.sdp());
    let reliable = reliable.edit().append(Name::Require, "100rel").append(Name::RSeq, "4711").finish();
    let rung = told(&net.say(&bob.seen_at, P2, reliable), &alice).pop().unwrap();
    assert_eq!((rung.text(Name::Require), rung.text(Name::RSeq)), (Some("100rel"), Some("4711")));
    let prack = alice.in_dialog("PRACK", &rung, "").edit().append(Name::RAck, "4711 1 INVITE").finish();
    let prack = passes(&mut net, &alice, &bob, prack);
    assert_eq!(prack.text(Name::RAck), Some("4711 1 INVITE"));
    assert_eq!(answered(&mut net, &bob, &alice, &prack, 200).status(), Some(200));
    let ok = told(&net.say(&bob.seen_at, P2, bob.answer(&got, 200, "")), &alice).pop().unwrap();
    for method in ["UPDATE", "INFO"] {
        let request = alice.in_dialog(method, &ok, "");
        let request = passes(&mut net, &alice, &bob, request);
        assert_eq!(request.request_uri(), "sip:bob@10.9.9.9:5060");
        assert_eq!(answered(&mut net, &bob, &alice, &request, 200).status(), Some(200));
    }
}

/// RFC 3326 §2 (Reason) and RFC 7044 §4 (History-Info): the story of a call is not ours to tell or to shorten.
#[test]
fn rfc3326_rfc7044_reason_and_history_pass_as_they_are() {
    let (mut net, mut alice, bob) = parties();
    let history = "<sip:boss@a.example?Reason=SIP%3Bcause%3D302>;index=1, <sip:bob@b.example>;index=1.1;rc=1";
    let reason = "SIP ;cause=302 ;text=\"Moved, \\\"away\\\"\", Q.850;cause=16";
    let invite = alice.invite(BOB, &alice.sdp());
    let invite = invite.edit().append(Name::HistoryInfo, history).append(Name::Reason, reason).finish();
    let got = passes(&mut net, &alice, &bob, invite);
    assert_eq!((got.text(Name::HistoryInfo), got.text(Name::Reason)), (Some(history), Some(reason)));
    let busy = bob.answer(&got, 486, "").edit().append(Name::Reason, "Q.850;cause=17").finish();
    let busy = told(&net.say(&bob.seen_at, P2, busy), &alice).pop().unwrap();
    assert_eq!((busy.status(), busy.text(Name::Reason)), (Some(486), Some("Q.850;cause=17")));
}

/// RFC 3326 §2: the caller's reason for its CANCEL reaches the callee.
#[test]
fn rfc3326_2_a_cancel_keeps_the_callers_reason() {
    let (mut net, mut alice, bob) = parties();
    let invite = alice.invite(BOB, &alice.sdp());
    let got = passes(&mut net, &alice, &bob, invite.clone());
    net.say(&bob.seen_at, P2, bob.answer(&got, 180, ""));
    let text = String::from_utf8_lossy(invite.bytes()).into_owned();
    let head =
        text.split("Contact:").next().unwrap().replacen("INVITE", "CANCEL", 1).replace(" INVITE", " CANCEL");
    let cancel =
        format!("{head}Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\nContent-Length: 0\r\n\r\n");
    // The branch is the INVITE's own.
    let cancel = passes(&mut net, &alice, &bob, Message::parse(cancel.into()).unwrap());
    assert_eq!(cancel.text(Name::Reason), Some("SIP;cause=200;text=\"Call completed elsewhere\""));
}

/// RFC 5621 §3: of a multipart body only the SDP is ours; a binary part beside it stays, byte for byte.
#[test]
fn rfc5621_3_of_a_multipart_body_only_the_sdp_is_edited() {
    let (mut net, mut alice, bob) = parties();
    let isup: Vec<u8> = (0..=255).collect();
    let sdp = alice.sdp();
    let parts = |sdp: &str| {
        let first = format!(
            "preamble\r\n--x\r\nContent-Type: application/sdp\r\nX-Odd:  kept \r\n\r\n{sdp}\r\n--x\r\n"
        );
        let second = b"Content-Type: application/isup;version=itu-t92+\r\nContent-Disposition: signal;handling=optional\r\n\r\n";
        [first.as_bytes(), second, &isup, b"\r\n--x--\r\nepilogue"].concat()
    };
    let invite = first(&mut alice, "INVITE", "Content-Type: multipart/mixed;boundary=x\r\n", &parts(&sdp));
    let got = passes(&mut net, &alice, &bob, invite);
    let edited = sdp_of(&got);
    assert!(edited != sdp && edited.contains(MEDIA) && !edited.contains("10.0.0.2"), "{edited}");
    assert_eq!(got.body(), parts(&edited));
}
