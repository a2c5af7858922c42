//! Real programs over connections: baresip over TLS to baresip over UDP, browsers over secure WebSocket, sipsak.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use conformance::lab::browser::{Browser, both_called_and_heard};
use conformance::lab::domains::{P1, P2, TwoDomains};
use conformance::lab::sbc::{SBC, Sbc, report_of};

#[test]
fn a_baresip_on_tls_and_one_on_udp_hear_each_other() {
    let parties = "-s home:port-restricted:alice -s office:symmetric:bob";
    let Some(stage) = Sbc::secure(parties, "proxy: {}\n") else { return };
    let bob = stage.baresip("bob", 30, &["--tone", "600", "--once"]);
    stage.registered("bob");
    let (proxy, authority) = (format!("{SBC}:5061"), format!("sip_cafile {}", stage.authority()));
    let call = [
        ["--tone", "440"].as_slice(),
        &["--transport", "tls", "--proxy", &proxy, "--config", &authority],
        &["--once", "--dial", "sip:bob@sbc.test", "--at", "4:hangup"],
    ];
    let alice = report_of(stage.baresip("alice", 20, &call.concat()));
    let bob = report_of(bob);
    for (report, tone) in [(&alice, 600), (&bob, 440)] {
        let number = |name: &str| report[name].as_i64().unwrap_or(0);
        assert!(report["registered"] == true && report["established"] == true, "{report}");
        assert!(number("sent") > 150 && number("received") > 150, "{report}");
        assert!((number("tone_hz") - tone).abs() <= 5, "the tone of the other is {tone} Hz: {report}");
    }
    stage.nothing_stays_lent();
}

fn wss() -> String {
    format!("wss://{SBC}:8443")
}

/// Two phones in a page, each with a connection: they register with digest, one sends a MESSAGE and calls. Their media is
/// their own affair: ICE and DTLS-SRTP pass untouched.
#[test]
fn two_phones_in_a_browser_register_over_wss_and_call_each_other() {
    let Some(browser) = Browser::found() else { return };
    let Some(stage) = Sbc::secure("-p web=203.0.113.10", "proxy: { anchor: never }\n") else { return };
    let report = report_of(browser.opens(&stage.lab, "web", &wss(), "sbc.test", &[]));
    assert!(report["failed"].is_null(), "{report}");
    assert_eq!(report["registered"].as_array().map(Vec::len), Some(2), "{report}");
    assert_eq!(report["message"], "hello Bob", "{report}");
    assert_eq!(report["statuses"][0], 180, "{report}");
    for name in ["alice", "bob"] {
        assert!(
            report["received"][name].as_i64().is_some_and(|count| count > 25),
            "{name} heard little: {report}"
        );
        assert!(
            report["ended"].as_array().is_some_and(|ended| ended.iter().any(|who| who == name)),
            "{report}"
        );
    }
}

/// Each browser's ICE and DTLS end at the relay, section by section: neither hears of the other's address.
#[test]
fn two_phones_in_a_browser_see_and_hear_each_other_through_the_relay() {
    let Some(browser) = Browser::found() else { return };
    let Some(stage) = Sbc::secure("-p web=203.0.113.10", "proxy: {}\n") else { return };
    let more = ["page.html", "&video="];
    let report = report_of(browser.opens(&stage.lab, "web", &wss(), "sbc.test", &more));
    assert!(report["failed"].is_null(), "{report}");
    for (name, kind) in [("alice", "audio"), ("alice", "video"), ("bob", "audio"), ("bob", "video")] {
        let count = report["packets"][name][kind].as_i64();
        assert!(count.is_some_and(|count| count > 25), "{name} got little {kind}: {report}");
    }
    stage.nothing_stays_lent();
}

/// Each is registered at a proxy of its own, in a domain of its own; the relay and the redirect server are on hosts of theirs.
#[test]
fn two_browsers_registered_at_two_proxies_call_each_other() {
    let Some(browser) = Browser::found() else { return };
    let Some(stage) = TwoDomains::of_browsers("-p web=203.0.113.10") else { return };
    let url = |proxy: &str| format!("ws://{proxy}:8080");
    let bobs = format!("&bobs-proxy={}&bobs-domain=two.test", url(P2));
    let more = ["page.html", &bobs];
    let report = report_of(browser.opens(&stage.lab, "web", &url(P1), "one.test", &more));
    assert!(report["failed"].is_null(), "{report}");
    assert_eq!(report["registered"].as_array().map(Vec::len), Some(2), "{report}");
    assert_eq!((&report["message"], &report["statuses"][0]), (&"hello Bob".into(), &180.into()), "{report}");
    for name in ["alice", "bob"] {
        let count = report["received"][name].as_i64();
        assert!(count.is_some_and(|count| count > 25), "{name} heard little: {report}");
        let ended = report["ended"].as_array().is_some_and(|ended| ended.iter().any(|who| who == name));
        assert!(ended, "{name}'s call did not end: {report}");
    }
    stage.nothing_stays_lent();
}

/// A browser speaks ICE and DTLS-SRTP on one port, a plain phone behind a NAT speaks RTP on two: the relay translates, in both
/// directions of the call, and what each sent is counted at the other.
#[test]
fn a_browser_and_a_plain_phone_call_each_other() {
    let Some(browser) = Browser::found() else { return };
    let parties = "-p web=203.0.113.10 -s office:symmetric:bob";
    let Some(stage) = Sbc::secure(parties, "proxy: {}\n") else { return };
    let mut bob = stage.baresip("bob", 60, &["--tone", "600", "--then", "1:dial sip:alice@sbc.test"]);
    stage.registered("bob");
    let page = browser.opens(&stage.lab, "web", &wss(), "sbc.test", &["phone.html"]);
    let page = report_of(page);
    bob.terminate();
    both_called_and_heard(&page, &report_of(bob));
    stage.nothing_stays_lent();
}

#[test]
fn sipsak_is_answered_over_udp_tcp_and_tls_and_finds_a_user_it_registers() {
    let Some(stage) = Sbc::secure("-p probe=203.0.113.10", "proxy: {}\nauth: { required: false }\n") else {
        return;
    };
    let ask = |arguments: &[&str]| {
        let all = [&["timeout", "8", "sipsak"], arguments].concat();
        stage.lab.run("probe", &all, Duration::from_secs(10))
    };
    let (plain, secure) = (format!("sip:{SBC}:5060"), format!("sip:{SBC}:5061"));
    for more in [["-E", "udp", "-s", &plain].as_slice(), &["-E", "tcp", "-s", &plain]] {
        let (status, said) = ask(more);
        assert!(status.success(), "{more:?}: {said}");
    }
    let (status, said) = ask(&["-E", "tls", "--tls-ignore-cert-failure", "-s", &secure]);
    assert!(status.success(), "tls: {said}");
    let user = format!("sip:alice@{SBC}:5060");
    let (status, said) = ask(&["-U", "-u", "alice", "-a", "pw-alice", "-x", "60", "-s", &user]);
    assert!(status.success(), "usrloc: {said}");
}
