//! What the SIP core costs: `cargo run --release -p conformance --example sip_cost`.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use proto::sip::{Message, Name};

const INVITE: &str = "INVITE sip:service@127.0.0.1:5060 SIP/2.0\r\n\
    Via: SIP/2.0/UDP 127.0.0.1:5061;branch=z9hG4bK-2342-1-0\r\n\
    From: sipp <sip:sipp@127.0.0.1:5061>;tag=2342SIPpTag001\r\n\
    To: service <sip:service@127.0.0.1:5060>\r\n\
    Call-ID: 1-2342@127.0.0.1\r\n\
    CSeq: 1 INVITE\r\n\
    Contact: sip:sipp@127.0.0.1:5061\r\n\
    Max-Forwards: 70\r\n\
    User-Agent: sipp\r\n\
    Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE\r\n\
    Supported: timer, 100rel\r\n\
    Subject: Performance Test\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 129\r\n\r\n\
    v=0\r\no=user1 53655765 2353687637 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\n\
    a=rtpmap:0 PCMU/8000\r\n";

const ROUNDS: u32 = 500;
const BATCHES: usize = 500;

fn main() {
    let bytes = Bytes::from_static(INVITE.as_bytes());
    let message = Message::parse(bytes.clone()).expect("it is well-formed");
    let forwarded = forward(&message);
    measure("index and check a request", || Message::parse(bytes.clone()).is_ok());
    measure("read what a proxy looks at", || look(&message));
    measure("forward: Via, Record-Route, Max-Forwards, request URI", || forward(&message).bytes().len());
    measure("back: pop the Via", || forwarded.edit().pop_front(Name::Via).finish().bytes().len());
    measure("reply 100", || proto::sip::reply(&message, 100, "").finish().bytes().len());
    measure("clone", || message.clone());
}

fn look(message: &Message) -> bool {
    let via = message.via().is_ok_and(|via| via.branch().len() > 7);
    via && message.call_id().len() > 1
        && message.to_tag().is_empty()
        && !message.from_tag().is_empty()
        && message.max_forwards() == Ok(Some(70))
        && message.routes().next().is_none()
        && message.uri().is_ok()
}

fn forward(message: &Message) -> Message {
    message
        .edit()
        .request_uri("sip:service@127.0.0.1:5070")
        .push_front(Name::Via, "SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKabcdefghijklmnop")
        .push_front(Name::RecordRoute, "<sip:abcdefghijklmnopqrstuvwxyz0123456789@127.0.0.1:5060;lr>")
        .set(Name::MaxForwards, "69")
        .finish()
}

/// The best of many short batches: what it costs when nothing else runs.
fn measure<T>(what: &str, mut work: impl FnMut() -> T) {
    let batch = || {
        let begun = Instant::now();
        (0..ROUNDS).for_each(|_| drop(black_box(work())));
        begun.elapsed().as_nanos() / u128::from(ROUNDS)
    };
    let best = std::iter::repeat_with(batch).take(BATCHES).min().unwrap_or(0);
    println!("{best:>6} ns  {what}");
}
