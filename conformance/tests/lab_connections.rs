//! Real programs over connections: baresip over TLS to baresip over UDP, browsers over secure WebSocket, sipsak.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use conformance::lab::sbc::{SBC, Sbc, report_of};
use conformance::lab::{peer, skipped};

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

/// JsSIP as one file; `None`, and a loud line, where it can't be had.
fn jssip() -> Option<PathBuf> {
    let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let folder = home.join("postern/jssip-3.13.8");
    let made = Command::new(peer("browser/setup")).arg(&folder).output();
    let has_browser = Command::new("chromium").arg("--version").output().is_ok();
    match made {
        Ok(made) if made.status.success() && has_browser => Some(folder),
        Ok(made) => {
            let why = String::from_utf8_lossy(&made.stderr).trim().to_owned();
            skipped(&format!("a browser with JsSIP can't be had (chromium: {has_browser}; {why})"));
            None
        }
        Err(error) => {
            skipped(&format!("JsSIP can't be had: {error}"));
            None
        }
    }
}

/// Two phones in a page, each with a connection: they register with digest, one sends a MESSAGE and calls. Their media is
/// their own affair: ICE and DTLS-SRTP pass untouched.
#[test]
fn two_phones_in_a_browser_register_over_wss_and_call_each_other() {
    let Some(jssip) = jssip() else { return };
    let Some(stage) = Sbc::secure("-p web=203.0.113.10", "proxy: { anchor: never }\n") else { return };
    let (call, url) = (peer("browser/call"), format!("wss://{SBC}:8443"));
    let mut page = stage.lab.spawn("web", &[call.as_str(), &jssip.to_string_lossy(), &url, "sbc.test"]);
    page.wait(Duration::from_secs(60));
    let report = page.report();
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
    let Some(jssip) = jssip() else { return };
    let Some(stage) = Sbc::secure("-p web=203.0.113.10", "proxy: {}\n") else { return };
    let (call, url) = (peer("browser/call"), format!("wss://{SBC}:8443"));
    let jssip = jssip.to_string_lossy();
    let page = [call.as_str(), &jssip, &url, "sbc.test", "page.html", "&video="];
    let mut page = stage.lab.spawn("web", &page);
    page.wait(Duration::from_secs(60));
    let report = page.report();
    assert!(report["failed"].is_null(), "{report}");
    for (name, kind) in [("alice", "audio"), ("alice", "video"), ("bob", "audio"), ("bob", "video")] {
        let count = report["packets"][name][kind].as_i64();
        assert!(count.is_some_and(|count| count > 25), "{name} got little {kind}: {report}");
    }
    stage.nothing_stays_lent();
}

/// A browser speaks ICE and DTLS-SRTP on one port, a plain phone behind a NAT speaks RTP on two: the relay translates, in both
/// directions of the call, and what each sent is counted at the other.
#[test]
fn a_browser_and_a_plain_phone_call_each_other() {
    let Some(jssip) = jssip() else { return };
    let parties = "-p web=203.0.113.10 -s office:symmetric:bob";
    let Some(stage) = Sbc::secure(parties, "proxy: {}\n") else { return };
    let bob = stage.baresip("bob", 16, &["--tone", "600", "--at", "5:dial sip:alice@sbc.test"]);
    stage.registered("bob");
    let (call, url) = (peer("browser/call"), format!("wss://{SBC}:8443"));
    let jssip = jssip.to_string_lossy();
    let mut page = stage.lab.spawn("web", &[call.as_str(), &jssip, &url, "sbc.test", "phone.html"]);
    page.wait(Duration::from_secs(60));
    let (report, bob) = (page.report(), report_of(bob));
    assert!(report["failed"].is_null() && report["registered"] == true, "{report}\n{bob}");
    let calls = report["calls"].as_array().expect("calls");
    let by: Vec<_> = calls.iter().filter_map(|call| call["by"].as_str()).collect();
    assert_eq!(by, ["alice", "bob"], "{report}\n{bob}");
    for call in calls {
        let number = |name: &str| call[name].as_i64().unwrap_or(0);
        assert!(number("sent") > 100 && number("received") > 100, "{report}\n{bob}");
        assert!(number("lost") < 5, "{report}");
    }
    let sum = |name: &str| calls.iter().filter_map(|call| call[name].as_i64()).sum::<i64>();
    let number = |name: &str| bob[name].as_i64().unwrap_or(0);
    let near = |sent: i64, received: i64| (received - sent).abs() <= 40 + sent / 10;
    assert!(
        near(sum("sent"), number("received")) && near(number("sent"), sum("received")),
        "{report}\n{bob}"
    );
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
