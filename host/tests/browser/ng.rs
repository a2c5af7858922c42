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

/// As Kamailio asks for it on the way from WebSocket to UDP and back.
#[test]
fn an_ng_client_bridges_a_browser_and_a_phone_in_both_directions() {
    let to_phone = [("transport-protocol", "RTP/AVP"), ("ICE", "remove"), ("rtcp-mux", "demux")];
    let to_browser = [("transport-protocol", "UDP/TLS/RTP/SAVPF"), ("ICE", "force"), ("rtcp-mux", "offer")];
    let listens = relay::ng::Config {
        listen: vec![(Transport::Udp, address(NG))],
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        latch: proto::tables::Latch::Strict,
        media: None,
    };
    let with_ng = || {
        let dtls: Option<Arc<dyn Handshakes>> = Some(Arc::new(Maker::new().unwrap()));
        Rig::new(relay::Config { dtls, ng: Some(listens.clone()), ..config() })
    };

    let (mut rig, mut browser) = (with_ng(), Browser::new(A));
    let offer = ng(&mut rig, "offer", &browser.sdp("actpass"), &to_phone);
    for word in ["ice-", "fingerprint", "setup", "rtcp-mux", "candidate", "SAVP"] {
        assert!(!offer.contains(word), "{word} in\n{offer}");
    }
    let answer = ng(&mut rig, "answer", &public(B).sdp(), &to_browser);
    browser.read(&answer);
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, first(&offer), 1);

    let (mut rig, mut browser) = (with_ng(), Browser::new(A));
    let offer = ng(&mut rig, "offer", &public(B).sdp(), &to_browser);
    browser.read(&offer);
    let answer = ng(&mut rig, "answer", &browser.sdp("active"), &to_phone);
    assert!(answer.contains(" RTP/AVP "), "{answer}");
    browser.nominate(&mut rig, A);
    browser.shake(&mut rig, true);
    both_ways(&mut rig, &mut browser, first(&answer), 1);
    let report = browser.seal(&rtcp_report(0xa));
    let there = rig.packet(A, browser.relay, &report).expect("sent on");
    assert_eq!((there.to, there.bytes), (rtcp(address(B)), rtcp_report(0xa)));
}
