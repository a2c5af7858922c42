//! Our reading of SIP beside that of an independent parser, on the messages that one takes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "reads vectors")]

use bytes::Bytes;
use proto::sip::{Message, Name};
use rsip::message::HeadersExt;
use rsip::prelude::*;

/// What both are asked about one message, as text.
#[derive(Debug, PartialEq)]
struct Reading {
    start: String,
    call_id: String,
    cseq: (u32, String),
    from: (String, String),
    to: (String, String),
    via: (String, String, String),
    headers: usize,
    body: Vec<u8>,
}

fn ours(message: &Message) -> Reading {
    let address = |a: proto::sip::NameAddr<'_>| {
        let uri = a.uri().unwrap();
        (uri.aor().unwrap_or(uri.host.to_lowercase()), a.tag().to_string())
    };
    let (via, cseq) = (message.via().unwrap(), message.cseq().unwrap());
    Reading {
        start: message
            .status()
            .map_or_else(|| message.method().as_str().to_string(), |status| status.to_string()),
        call_id: message.call_id().to_string(),
        cseq: (cseq.number, cseq.method.as_str().to_string()),
        from: address(message.from().unwrap()),
        to: address(message.to().unwrap()),
        via: (via.transport.to_string(), via.host.to_string(), via.branch().to_string()),
        headers: message.headers().count(),
        body: message.body().to_vec(),
    }
}

/// `None`: it does not take the message.
fn theirs(bytes: &[u8]) -> Option<Reading> {
    let message = rsip::SipMessage::try_from(bytes).ok()?;
    let address = |uri: rsip::Uri, tag: Option<rsip::param::Tag>| {
        let host = uri.host_with_port.host.to_string().to_lowercase();
        let user = uri.auth.map(|auth| format!("{}@", auth.user)).unwrap_or_default();
        (user + &host, tag.map(|t| t.to_string()).unwrap_or_default())
    };
    let (from, to) = (message.from_header().ok()?.typed().ok()?, message.to_header().ok()?.typed().ok()?);
    let (via, cseq) = (message.via_header().ok()?.typed().ok()?, message.cseq_header().ok()?.typed().ok()?);
    let start = match &message {
        rsip::SipMessage::Request(request) => request.method.to_string(),
        rsip::SipMessage::Response(response) => response.status_code.code().to_string(),
    };
    Some(Reading {
        start,
        call_id: message.call_id_header().ok()?.value().to_string(),
        cseq: (cseq.seq, cseq.method.to_string()),
        from: address(from.uri.clone(), from.tag().cloned()),
        to: address(to.uri.clone(), to.tag().cloned()),
        via: (
            via.transport.to_string(),
            via.uri.host_with_port.host.to_string(),
            via.branch().map(|b| b.to_string()).unwrap_or_default(),
        ),
        headers: message.headers().iter().count(),
        body: message.body().clone(),
    })
}

fn vectors(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = format!("{}/vectors/{folder}", env!("CARGO_MANIFEST_DIR"));
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    all.sort();
    all
}

/// Messages as phones write them, one for every difference that matters.
fn plain() -> Vec<(String, Vec<u8>)> {
    let froms = [
        "\"Alice\" <sip:alice@example.com;transport=tcp>;tag=1",
        "<sips:192.0.2.1:5061>;tag=a.b",
        "Bob <sip:bob@x>;tag=2",
    ];
    let vias =
        ["SIP/2.0/UDP 192.0.2.1:5070;rport;branch=z9hG4bKa", "SIP/2.0/TLS a.example.com;branch=z9hG4bKb"];
    let starts = ["INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 486 Busy Here", "SIP/2.0 200 OK"];
    let bodies = ["", "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n"];
    let mut all = Vec::new();
    for start in starts {
        for from in froms {
            for via in vias {
                for body in bodies {
                    let text = format!(
                        "{start}\r\nVia: {via}\r\nVia: SIP/2.0/UDP b;branch=z9hG4bKz\r\nMax-Forwards: 70\r\nFrom: {from}\r\n\
                         To: <sip:carol@x:5099>;tag=9\r\nCall-ID: abc@192.0.2.1\r\nCSeq: 17 INVITE\r\n\
                         Contact: <sip:alice@192.0.2.1>\r\nX-Odd:   kept\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    all.push((text.clone(), text.into_bytes()));
                }
            }
        }
    }
    all
}

/// How many messages both took, each read alike. (White space and folds around the values it leaves in are its own.)
fn compare(messages: Vec<(String, Vec<u8>)>) -> usize {
    let mut compared = 0;
    for (name, bytes) in messages {
        let (Ok(message), Some(their)) = (Message::parse(Bytes::from(bytes.clone())), theirs(&bytes)) else {
            continue;
        };
        assert_eq!(ours(&message), their, "{name}");
        compared += 1;
    }
    compared
}

#[test]
fn messages_of_phones_are_read_alike() {
    assert_eq!(compare(plain()), 36);
}

#[test]
fn what_is_edited_here_is_read_there() {
    let edited = plain().into_iter().map(|(name, bytes)| {
        let message = Message::parse(Bytes::from(bytes)).unwrap();
        let edit = message
            .edit()
            .push_front(Name::Via, "SIP/2.0/UDP p;branch=z9hG4bKp")
            .set(Name::MaxForwards, "69");
        (name, edit.append(Name::RecordRoute, "<sip:p;lr>").finish().bytes().to_vec())
    });
    assert_eq!(compare(edited.collect()), 36);
}

#[test]
fn torture_messages_that_both_take_are_read_alike() {
    let messages: Vec<_> = vectors("rfc4475").into_iter().chain(vectors("rfc5118")).collect();
    assert_eq!(compare(messages), 21);
}
