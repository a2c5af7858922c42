//! The same bridge as a client of the ng protocol asks for it.

use relay::ng::bencode;
use relay::ng::value::{Dict, Value};

use crate::*;

/// An ng command about one call; the SDP it is answered with.
fn ng(rig: &mut Rig, command: &str, sdp: &str, more: &[(&str, &str)]) -> String {
    let fixed = [("command", command), ("call-id", "c1"), ("from-tag", "a"), ("to-tag", "b"), ("sdp", sdp)];
    let entries = fixed.iter().chain(more).filter(|(key, _)| command == "answer" || *key != "to-tag");
    let dict = entries.fold(Dict::default(), |dict, (key, value)| dict.with(*key, Value::text(*value)));
    let mut bytes = format!("{command}{} ", sdp.len()).into_bytes();
    bencode::write(&Value::Dict(dict), &mut bytes);
    rig.tell(Input::Other { flow: Flow::udp(address(NG), address(CLIENT)), bytes: bytes.into() });
    let answer = rig.ng.pop().expect("an answer");
    let body = answer.splitn(2, |byte| *byte == b' ').nth(1).expect("a body");
    let read = bencode::read(body).expect("bencoding");
    let dict = read.as_dict().expect("a dictionary");
    dict.text("sdp").unwrap_or_else(|| panic!("{dict:?}")).to_owned()
}

const TO_PHONE: [(&str, &str); 3] =
    [("transport-protocol", "RTP/AVP"), ("ICE", "remove"), ("rtcp-mux", "demux")];
const TO_BROWSER: [(&str, &str); 3] =
    [("transport-protocol", "UDP/TLS/RTP/SAVPF"), ("ICE", "force"), ("rtcp-mux", "offer")];

fn with_ng() -> Rig {
    let listens = relay::ng::Config {
        listen: vec![(Transport::Udp, address(NG))],
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        latch: proto::tables::Latch::Strict,
        media: None,
    };
    let dtls: Option<Arc<dyn Handshakes>> = Some(Arc::new(Maker::new().unwrap()));
    Rig::new(relay::Config { dtls, ng: Some(listens), ..config() })
}

/// As Kamailio asks for it on the way from WebSocket to UDP and back.
#[test]
fn an_ng_client_bridges_a_browser_and_a_phone_in_both_directions() {
    let (mut rig, mut browser) = (with_ng(), Browser::new(A));
    let offer = ng(&mut rig, "offer", &browser.sdp("actpass"), &TO_PHONE);
    for word in ["ice-", "fingerprint", "setup", "rtcp-mux", "candidate", "SAVP"] {
        assert!(!offer.contains(word), "{word} in\n{offer}");
    }
    let answer = ng(&mut rig, "answer", &public(B).sdp(), &TO_BROWSER);
    browser.read(&answer);
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, first(&offer), 1);

    let (mut rig, mut browser) = (with_ng(), Browser::new(A));
    let offer = ng(&mut rig, "offer", &public(B).sdp(), &TO_BROWSER);
    browser.read(&offer);
    let answer = ng(&mut rig, "answer", &browser.sdp("active"), &TO_PHONE);
    assert!(answer.contains(" RTP/AVP "), "{answer}");
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, first(&answer), 1);
    let report = browser.seal(&rtcp_report(0xa));
    let there = rig.packet(A, browser.relay, &report).expect("sent on");
    assert_eq!((there.to, there.bytes), (rtcp(address(B)), rtcp_report(0xa)));
}

/// Where the browser leaves open who begins, the client may say that we do.
#[test]
fn an_ng_client_says_who_begins_the_handshake() {
    let active = [&TO_PHONE[..], &[("DTLS", "active")]].concat();
    let (mut rig, mut browser) = (with_ng(), Browser::new(A));
    let offer = ng(&mut rig, "offer", &browser.sdp("actpass"), &active);
    let answer = ng(&mut rig, "answer", &public(B).sdp(), &TO_BROWSER);
    assert!(answer.contains("a=setup:active\r\n"), "{answer}");
    browser.read(&answer);
    let before = rig.sent.len();
    browser.nominate(&mut rig, A);
    assert_eq!(rig.sent.get(before + 1).map(|sent| sent.bytes[0]), Some(22), "a ClientHello of ours");
    rig.sent.retain(|sent| sent.bytes[0] == 22);
    browser.shake(&mut rig, false);
    both_ways(&mut rig, &mut browser, first(&offer), 1);
}

#[test]
fn an_ng_client_that_wants_no_dtls_of_ours_lets_the_parties_own_pass() {
    let (mut rig, browser) = (with_ng(), Browser::new(A));
    let offer = ng(&mut rig, "offer", &browser.sdp("actpass"), &[("DTLS", "off")]);
    assert!(offer.contains(browser.maker.fingerprint()) && offer.contains("UDP/TLS/RTP/SAVPF"), "{offer}");
}
