//! RFC 4028: session timers, as a proxy has a hand in them (§8).

use std::time::Duration;

use proto::sip::Name;
use proxy::config::SessionTimer;

use crate::desk::{A, B, Desk, Draft, invite, open, response, statuses};

fn timed() -> Desk {
    let mut config = open();
    config.session_timer =
        Some(SessionTimer { expires: Duration::from_secs(1800), min: Duration::from_secs(120) });
    Desk::new(config)
}

fn leaves_with(draft: Draft) -> Option<String> {
    timed().forwarded(draft).message.text(Name::SessionExpires).map(str::to_owned)
}

/// §8.1: a proxy may ask for a session timer where the request has none, and shorten one that is too long.
#[test]
fn a_session_timer_is_added_or_shortened() {
    assert_eq!(leaves_with(invite()).as_deref(), Some("1800"));
    assert_eq!(leaves_with(invite().with("Session-Expires", "7200")).as_deref(), Some("1800"));
    assert_eq!(leaves_with(invite().with("Session-Expires", "600")).as_deref(), Some("600"));
}

/// §8.1: never below the Min-SE of the request.
#[test]
fn a_session_timer_respects_the_least_asked_for() {
    assert_eq!(leaves_with(invite().with("Min-SE", "2400")).as_deref(), Some("2400"));
}

/// §8.1, §6: one below our own least is 422 with Min-SE, for a client that supports timers.
#[test]
fn a_session_timer_too_short_is_refused() {
    let draft = invite().with("Session-Expires", "100").with("Supported", "timer");
    let refused = response(&timed().hear(A, draft), A);
    assert_eq!((refused.status(), refused.text(Name::MinSe)), (Some(422), Some("120")));
}

/// §8.2: where the callee knows no timers and the caller does, the 200 gets one, with the caller refreshing.
#[test]
fn the_caller_refreshes_when_nobody_else_can() {
    let mut desk = timed();
    let there = desk.forwarded(invite().with("Supported", "timer"));
    let ok = response(&desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]), A);
    assert_eq!(ok.text(Name::SessionExpires), Some("1800;refresher=uac"));
    assert!(ok.has_token(Name::Require, "timer"));
}

/// §8.2: a 200 that names one, or a caller that knows none, is left as it is.
#[test]
fn an_answer_that_suffices_is_left_alone() {
    let mut desk = timed();
    let there = desk.forwarded(invite().with("Supported", "timer"));
    let ok = response(&desk.answer(&there, 200, &[("Session-Expires", "900;refresher=uas")]), A);
    assert_eq!(ok.text(Name::SessionExpires), Some("900;refresher=uas"));
    let mut desk = timed();
    let there = desk.forwarded(invite());
    assert_eq!(response(&desk.answer(&there, 200, &[]), A).text(Name::SessionExpires), None);
}

/// §8.1: a 422 of the callee's reaches the caller, with its Min-SE.
#[test]
fn a_callee_s_422_comes_back() {
    let mut desk = timed();
    let there = desk.forwarded(invite());
    let sent = desk.answer(&there, 422, &[("Min-SE", "3600")]);
    assert_eq!((statuses(&sent, A), response(&sent, A).text(Name::MinSe)), (vec![422], Some("3600")));
}

/// §8: without a configured timer, what the ends agree on is theirs.
#[test]
fn left_alone_the_ends_agree_between_themselves() {
    let there = Desk::open().forwarded(invite().with("Session-Expires", "7200;refresher=uac")).message;
    assert_eq!(there.text(Name::SessionExpires), Some("7200;refresher=uac"));
}

/// §8.2, §10: a call whose session expires without a refresh is over for the proxy.
#[test]
fn a_call_that_nobody_refreshes_is_over() {
    let mut desk = timed();
    let there = desk.forwarded(invite());
    let ok = [("Contact", format!("<sip:bob@{B}>")), ("Session-Expires", "900;refresher=uac".into())];
    desk.answer(&there, 200, &[("Contact", &ok[0].1), ("Session-Expires", &ok[1].1)]);
    desk.pass(Duration::from_secs(899));
    assert_eq!(desk.proxy.status().calls, 1);
    desk.pass(Duration::from_secs(2));
    assert_eq!(desk.proxy.status().calls, 0);
}
