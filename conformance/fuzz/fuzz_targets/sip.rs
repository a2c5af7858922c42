//! A datagram: read everything, edit it as a proxy does, and hold what must hold.
#![no_main]

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use proto::sip::{Auth, Glance, Message, Name, NameAddr, Reply, Via, reply};

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    if let Some(message) = Message::answerable(&bytes) {
        read(&message);
        let _ = reply(&message, 400, "tag").finish();
    }
    let glance = Glance::of(data);
    let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 5060));
    let refusal = glance.as_ref().map(|glance| glance.refusal(source, 503, "tag", 1));
    let Ok(message) = Message::parse(bytes) else { return };
    read(&message);
    if let Some((glance, refusal)) = glance.zip(refusal) {
        sees_what_is_read(&glance, &message);
        let whole = Reply { to_tag: "tag", source: Some(source) }.to(&message, 503).header(Name::RetryAfter, 1);
        assert_eq!(refusal, whole.into_bytes());
        let refusal = Message::parse(refusal).expect("an answer to what can be read can be read");
        assert_eq!(
            (refusal.status(), refusal.call_id(), refusal.cseq()),
            (Some(503), message.call_id(), message.cseq())
        );
    }
    assert_eq!(message.edit().finish().bytes(), message.bytes());
    let there = message.edit().push_front(Name::Via, "SIP/2.0/UDP p;branch=z9hG4bKp").finish();
    let again = Message::parse(there.bytes().clone());
    assert!(
        again.is_ok_and(|a| a.headers().count() == message.headers().count() + 1) || is_at_a_limit(&message)
    );
    assert_eq!(there.edit().pop_front(Name::Via).finish().bytes(), message.bytes());
    let changed =
        message.edit().pop_front(Name::Route).set_first(Name::Contact, "<sip:a>").remove(Name::Path);
    let changed = changed.set(Name::MaxForwards, "69").body(b"v=0\r\n").request_uri("sip:b@y").finish();
    assert_eq!((changed.max_forwards(), changed.body()), (Ok(Some(69)), &b"v=0\r\n"[..]));
    assert_eq!(changed.call_id(), message.call_id());
    let answer = reply(&message, 200, "tag").finish();
    assert_eq!(answer.values(Name::Via).collect::<Vec<_>>(), message.values(Name::Via).collect::<Vec<_>>());
});

/// A glance at a request that can be read is right about it.
fn sees_what_is_read(glance: &Glance<'_>, message: &Message) {
    assert_eq!((glance.method(), glance.call_id()), (message.method(), message.call_id()));
    assert_eq!(glance.to_tag(), message.to_tag());
    assert_eq!(Ok(glance.branch()), message.via().map(|via| via.branch()));
}

/// One more header, Via or byte would be too many.
fn is_at_a_limit(message: &Message) -> bool {
    message.bytes().len() > 65_400
        || message.headers().count() >= 256
        || message.values(Name::Via).count() >= 70
}

fn read(message: &Message) {
    let _ = (
        message.uri().map(|u| (u.aor(), u.is_equivalent(&u))),
        message.reason(),
        message.method(),
        message.sdp(),
    );
    let _ = (message.via().map(|v| v.sent_by()), message.from_tag(), message.to_tag(), message.expires());
    for header in message.headers() {
        let Ok(text) = std::str::from_utf8(header.value) else { continue };
        let _ = NameAddr::parse(text).map(|n| (n.q(), n.expires(), n.uri().map(|u| u.aor())));
        let _ = (
            Via::parse(text).map(|v| v.branch()),
            Auth(text).get("nonce"),
            message.values(header.name).count(),
        );
    }
}
