//! What a message lets be read of it, and what is refused.

use super::*;

const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa, SIP/2.0/TCP [2001:db8::1]:5070;branch=z9hG4bKb\r\n\
    v: SIP/2.0/TLS c.example.com;branch=z9hG4bKc\r\n\
    Max-Forwards: 70\r\n\
    f: \"Alice, A.\"\r\n\t<sip:alice@example.com>;tag=1\r\n\
    To: <sip:bob@example.com>\r\n\
    i: abc@x\r\n\
    CSeq: 1 INVITE\r\n\
    Route: <sip:p1;lr>, <sip:p2;lr>\r\n\
    Contact: <sip:alice@192.0.2.1>;q=0.5\r\n\
    k: timer, 100rel\r\n\
    c: application/sdp\r\n\
    Content-Length: 5\r\n\r\nv=0\r\n";

fn parse(text: impl Into<Vec<u8>>) -> Result<Message, Malformed> {
    Message::parse(Bytes::from(text.into()))
}

fn status(text: impl Into<Vec<u8>>) -> u16 {
    parse(text).err().map_or(0, |malformed| malformed.status)
}

#[test]
fn everything_a_proxy_looks_at_is_read() {
    let message = parse(INVITE).unwrap();
    assert_eq!((message.method(), message.request_uri()), (Method::Invite, "sip:bob@example.com"));
    let branches: Vec<_> = message.vias().map(|via| via.unwrap().branch()).collect();
    assert_eq!(branches, ["z9hG4bKa", "z9hG4bKb", "z9hG4bKc"]);
    assert_eq!((message.call_id(), message.cseq().unwrap().number), ("abc@x", 1));
    assert_eq!((message.from_tag(), message.to_tag()), ("1", ""));
    assert_eq!(message.from().unwrap().display, "\"Alice, A.\"");
    assert_eq!(message.max_forwards(), Ok(Some(70)));
    assert_eq!(message.routes().map(|r| r.unwrap().raw_uri).collect::<Vec<_>>(), ["sip:p1;lr", "sip:p2;lr"]);
    assert_eq!(message.contacts().next().unwrap().unwrap().q(), 500);
    assert!(message.has_token(Name::Supported, "TIMER") && !message.has_token(Name::Supported, "path"));
    assert_eq!(message.sdp(), Some((0..5, &b"v=0\r\n"[..])));
    assert_eq!((message.headers().count(), message.status(), message.expires()), (12, None, None));
}

#[test]
fn a_response_has_the_method_of_its_cseq() {
    let text = INVITE.replacen("INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 183 In  Progress", 1);
    let message = parse(text).unwrap();
    assert_eq!(
        (message.status(), message.reason(), message.method()),
        (Some(183), "In  Progress", Method::Invite)
    );
    assert_eq!((message.request_uri(), message.is_request()), ("", false));
}

#[test]
fn line_breaks_before_and_bytes_after_a_datagram_are_dropped() {
    let message = parse(format!("\r\n\r\n{INVITE}trailing")).unwrap();
    assert_eq!(message.bytes(), INVITE);
}

#[test]
fn a_body_shorter_than_it_says_is_refused() {
    assert_eq!(status(INVITE.replace("Length: 5", "Length: 6")), 400);
    assert_eq!(status(INVITE.replace("Length: 5", "Length: -5")), 400);
    assert_eq!(status(INVITE.replace("Length: 5", "Length: 5\r\nl: 5")), 400);
}

#[test]
fn without_content_length_a_datagram_is_body_to_its_end() {
    let text = INVITE.replace("Content-Length: 5\r\n", "");
    assert_eq!(parse(text).unwrap().body(), b"v=0\r\n");
}

#[test]
fn what_must_stand_once_stands_once() {
    for line in ["To: <sip:bob@example.com>\r\n", "i: abc@x\r\n", "CSeq: 1 INVITE\r\n"] {
        assert_eq!(status(INVITE.replace(line, "")), 400, "without {line}");
        assert_eq!(status(INVITE.replace(line, &line.repeat(2))), 400, "twice {line}");
    }
    assert_eq!(status(INVITE.replace("Max-Forwards: 70\r\n", "")), 0);
}

#[test]
fn a_via_with_an_empty_parameter_is_refused_and_answered() {
    let text = INVITE.replace("branch=z9hG4bKa,", "branch=z9hG4bKa;;,");
    assert!(status(text.clone()) == 400 && Message::answerable(&Bytes::from(text)).is_some());
}

#[test]
fn cseq_names_the_method() {
    assert_eq!(status(INVITE.replace("1 INVITE", "1 ACK")), 400);
}

#[test]
fn seventy_vias_pass_and_one_more_is_too_many_hops() {
    let vias = |count: usize| {
        let more = ", SIP/2.0/UDP a;branch=\"x,y\"".repeat(count - 3);
        INVITE.replace("branch=z9hG4bKc", &format!("branch=z9hG4bKc{more}"))
    };
    assert_eq!(status(vias(70)), 0);
    assert_eq!(status(vias(71)), 483);
}

#[test]
fn sixty_four_kilobytes_pass_and_one_more_byte_is_513() {
    let with_body = |length: usize| {
        let head = INVITE.split("Content-Length").next().unwrap();
        format!("{head}\r\n{}", "x".repeat(length - head.len() - 2))
    };
    assert_eq!(status(with_body(65_535)), 0);
    assert_eq!(status(with_body(65_536)), 513);
}

#[test]
fn a_broken_request_can_be_answered_and_a_broken_response_not() {
    let broken = Bytes::from(INVITE.replace("Length: 5", "Length: 99"));
    let message = Message::answerable(&broken).unwrap();
    assert_eq!(crate::sip::reply(&message, 400, "t").finish().status(), Some(400));
    let ack = Bytes::from(INVITE.replace("INVITE", "ACK").replace("Length: 5", "Length: 99"));
    assert!(Message::answerable(&ack).is_none());
    let response = Bytes::from(INVITE.replacen("INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 1000 x", 1));
    assert_eq!(parse(response.to_vec()).unwrap_err().status, 0);
    assert!(Message::answerable(&response).is_none());
}

#[test]
fn an_address_after_a_latin_1_display_name_is_read() {
    let mut text = INVITE.as_bytes().to_vec();
    let at = text.windows(5).position(|w| w == b"Alice").unwrap();
    text[at] = 0xe4;
    let message = parse(text).unwrap();
    assert_eq!((message.from_tag(), message.from().unwrap().raw_uri), ("1", "sip:alice@example.com"));
}

#[test]
fn a_star_is_no_contact() {
    let message = parse(INVITE.replace("<sip:alice@192.0.2.1>;q=0.5", "*")).unwrap();
    assert!(message.contact_star() && message.contacts().next().is_none());
}
