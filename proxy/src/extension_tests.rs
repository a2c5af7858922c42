//! What a proxy does for extensions of RFC 3261, and what it keeps its hands off.

use std::time::Duration;

use proto::sip::{Message, Name};
use proto::tables::{Anchor, Secret, User};

use crate::bench::{A, B, Bench, in_dialog, invite, open, plain, to};
use crate::config::{Config, SessionTimer};
use crate::net::*;
use crate::testing::address;

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
        assert_eq!(got.text(Name::Privacy), Some(wish), "the wish itself goes on");
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
