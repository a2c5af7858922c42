//! The flags of an offer or answer, keys among them.

use crate::*;

#[test]
fn flags_that_ask_for_what_happens_anyway_are_passed_over_and_ports_stay_over_a_re_offer() {
    let flags = list(&["symmetric", "strict-source", "media-handover", "port-latching", "trust-address"]);
    let mut rig = rig();
    let first = rig.command(&[
        ("command", text("offer")),
        ("call-id", text("c1")),
        ("from-tag", text("a")),
        ("sdp", text(ALICE)),
        ("flags", flags.clone()),
    ]);
    assert_eq!((first.text("result"), first.text("warning")), (Some("ok"), None));
    let for_b = port(first.text("sdp").unwrap());
    rig.ng_answer(BOB, &[("flags", flags.clone())]);
    assert_eq!(port(&rig.ng_offer(ALICE, &[("to-tag", text("b")), ("flags", flags)])), for_b);
}

const CRYPTO: &str = "a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n";

#[test]
fn transport_protocol_puts_the_relay_between_srtp_and_plain_rtp() {
    let mut rig = rig();
    let offer = rig.ng_offer(ALICE, &[("transport-protocol", text("RTP/SAVP"))]);
    assert!(offer.contains(" RTP/SAVP "), "{offer}");
    assert_eq!(offer.matches("a=crypto:").count(), 4, "{offer}");
    let bob = BOB.replace("RTP/AVP", "RTP/SAVP") + &CRYPTO.replace(":3 ", ":1 ");
    let answer = rig.ng_answer(&bob, &[]);
    assert!(answer.contains(" RTP/AVP ") && !answer.contains("crypto"), "{answer}");
    // Nothing that is not under his key is Bob's.
    assert_eq!(rig.packet("192.0.2.20:5000", outside(port(&offer)), &rtp(0xb, 1)), None);
}

#[test]
fn an_answer_in_plain_rtp_to_an_offer_of_srtp_is_refused_in_words() {
    let mut rig = rig();
    rig.ng_offer(ALICE, &[("transport-protocol", text("RTP/SAVP"))]);
    let answer = [
        ("command", text("answer")),
        ("call-id", text("c1")),
        ("from-tag", text("a")),
        ("to-tag", text("b")),
        ("sdp", text(BOB)),
    ];
    let refused = rig.command(&answer);
    assert!(refused.text("error-reason").unwrap().contains("otherwise than the offer"), "{refused:?}");
}

#[test]
fn srtp_on_both_sides_passes_with_the_parties_own_keys() {
    let mut rig = rig();
    let secure = ALICE.replace("RTP/AVP", "RTP/SAVP") + CRYPTO;
    let passed = rig.ng_offer(&secure, &[("transport-protocol", text("RTP/SAVP"))]);
    assert!(passed.contains(CRYPTO), "{passed}");
    let plain = rig.ng_offer(&secure, &[("transport-protocol", text("RTP/AVP"))]);
    assert!(plain.contains(" RTP/AVP ") && !plain.contains("crypto"), "{plain}");
    let answer = rig.ng_answer(BOB, &[]);
    assert!(
        answer.contains(" RTP/SAVP ") && answer.contains("a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:"),
        "{answer}"
    );
}

/// As the script says it for a phone that stumbles over what it doesn't know.
#[test]
fn suites_that_are_not_wanted_are_not_offered() {
    let offer = |words: &[&str]| {
        let flags = [("transport-protocol", text("RTP/SAVP")), ("SDES", list(words))];
        rig().ng_offer(ALICE, &flags)
    };
    let suites = |offer: &str| -> Vec<String> {
        let lines = offer.lines().filter_map(|line| line.strip_prefix("a=crypto:"));
        lines.map(|line| line.split(" inline").next().unwrap().to_owned()).collect()
    };
    let without = offer(&["no-AEAD_AES_128_GCM", "no-AEAD_AES_256_GCM"]);
    assert_eq!(suites(&without), ["1 AES_CM_128_HMAC_SHA1_80", "2 AES_CM_128_HMAC_SHA1_32"]);
    assert_eq!(suites(&offer(&["only-AEAD_AES_256_GCM"])), ["1 AEAD_AES_256_GCM"]);
}

#[test]
fn keys_that_can_not_be_had_are_refused_or_named() {
    let entries = |more: &[(&'static str, Value<'static>)]| {
        let fixed = [
            ("command", text("offer")),
            ("call-id", text("s")),
            ("from-tag", text("a")),
            ("sdp", text(ALICE)),
        ];
        [&fixed[..], &[("transport-protocol", text("RTP/SAVP"))], more].concat()
    };
    let mut rig = rig();
    let none = rig.command(&entries(&[("SDES", list(&["only-NULL"]))]));
    assert_eq!(none.text("error-reason"), Some("SDES: no suite is left that this relay knows"));
    assert_eq!(rig.relay.status().sessions, 0);
    let off = rig.command(&entries(&[("SDES", text("off"))]));
    assert_eq!(off.text("warning"), Some("not supported here, passed over: SDES=off"));
}

#[test]
fn who_has_no_handshakes_offers_none() {
    let mut rig = rig();
    let refused = rig.command(&[
        ("command", text("offer")),
        ("call-id", text("s")),
        ("from-tag", text("a")),
        ("sdp", text(ALICE)),
        ("transport-protocol", text("UDP/TLS/RTP/SAVPF")),
    ]);
    assert!(refused.text("error-reason").unwrap().contains("DTLS-SRTP"), "{refused:?}");
    assert_eq!(rig.relay.status().sessions, 0);
}

#[test]
fn unknown_flags_are_named_and_the_call_goes_on() {
    let mut rig = rig();
    let answer = rig.command(&[
        ("command", text("offer")),
        ("call-id", text("u")),
        ("from-tag", text("a")),
        ("sdp", text(ALICE)),
        ("flags", list(&["trust-address", "fly-to-the-moon"])),
    ]);
    said(&answer);
    assert_eq!(answer.text("warning"), Some("not supported here, passed over: fly-to-the-moon"));
    assert!(
        rig.events
            .iter()
            .any(|event| matches!(event, Event::Warning { about, .. } if &**about == "fly-to-the-moon"))
    );
}
