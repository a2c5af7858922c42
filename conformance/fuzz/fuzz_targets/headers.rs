//! One value, read as every typed header there is; what is read twice reads the same, and what is written is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::sip::{Auth, CSeq, NameAddr, Params, Via};

fuzz_target!(|data: &[u8]| {
    let Ok(value) = std::str::from_utf8(data) else { return };
    via(value);
    name_addr(value);
    if let Ok(cseq) = CSeq::parse(value) {
        let again = format!("{} {}", cseq.number, cseq.method.as_str());
        assert_eq!(CSeq::parse(&again).map(|again| again.number), Ok(cseq.number), "{again}");
    }
    let auth = Auth(value);
    let _ = (auth.scheme(), auth.get("realm"), auth.get("nonce"), auth.get("qop"), auth.get("algorithm"));
    for (name, value) in Params(value).iter() {
        assert!(value.is_none_or(|value| value.len() < data.len()));
        let _ = Params(name).get(name);
    }
});

fn via(value: &str) {
    let Ok(via) = Via::parse(value) else { return };
    let _ = (via.branch(), via.wants_rport(), via.known_transport(), via.params.get("received"));
    let _ = via.is_from(std::net::SocketAddr::from(([192, 0, 2, 1], 5060)));
    let again = format!("SIP/2.0/{} {};branch=z9hG4bKx", via.transport, via.sent_by());
    let again = Via::parse(&again).unwrap_or_else(|_| panic!("{again}")).sent_by();
    assert_eq!(again, via.sent_by());
}

fn name_addr(value: &str) {
    let Ok(address) = NameAddr::parse(value) else { return };
    let _ = (address.tag(), address.expires(), address.uri().map(|uri| (uri.aor(), uri.transport(), uri.has_lr())));
    assert!(address.q() <= 1000);
    assert!(value.contains(address.raw_uri));
}
