//! Real phones whose media is protected differently: a baresip that takes SRTP alone (`mediaenc=srtp-mand`) and one that knows
//! none, each calling the other; what each sent is counted at the other, and the tone it heard is the other's.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use conformance::lab::sbc::{Sbc, report_of};

/// Alice calls bob; `secure` says which of them encrypts.
fn a_call(secure: [bool; 2]) {
    let parties = "-s home:port-restricted:alice -s office:symmetric:bob";
    let proxy = format!("proxy: {{ srtp: {} }}\n", if secure[1] { "sdes" } else { "plain" });
    let Some(stage) = Sbc::with(parties, &proxy, "") else { return };
    let account = |secure| if secure { ["--account", ";mediaenc=srtp-mand"] } else { ["--account", ""] };
    let recorder = stage.lab.capture(&["sbc"]);
    let bob = stage.baresip("bob", 30, &[&["--tone", "600", "--once"][..], &account(secure[1])].concat());
    stage.registered("bob");
    let call = ["--tone", "440", "--once", "--dial", "sip:bob@sbc.test", "--at", "3:hangup"];
    let alice = report_of(stage.baresip("alice", 20, &[&call[..], &account(secure[0])].concat()));
    let bob = report_of(bob);
    let wire = recorder.stop();
    for (report, tone) in [(&alice, 600), (&bob, 440)] {
        let number = |name: &str| report[name].as_i64().unwrap_or(0);
        assert!(report["established"] == true, "{report}\n{}", wire.ladder());
        assert!(number("sent") > 100 && number("received") > 100, "{report}\n{}", wire.ladder());
        assert!((number("tone_hz") - tone).abs() <= 5, "the tone of the other is {tone} Hz: {report}");
    }
    let lost = |a: &serde_json::Value, b: &serde_json::Value| {
        a["sent"].as_i64().unwrap() - b["received"].as_i64().unwrap()
    };
    assert!(lost(&alice, &bob) < 15 && lost(&bob, &alice) < 15, "{alice}\n{bob}\n{}", wire.ladder());
    stage.nothing_stays_lent();
}

#[test]
fn a_baresip_that_encrypts_calls_one_that_does_not() {
    a_call([true, false]);
}

#[test]
fn a_baresip_that_does_not_encrypt_calls_one_that_does() {
    a_call([false, true]);
}
