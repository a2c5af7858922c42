//! RFC 3428: MESSAGE, which a proxy lets through.

use proto::sip::Name;

use crate::desk::{A, B, Desk, request, requests, response};

/// §6: a MESSAGE is forwarded like any request, with its body byte for byte, and makes no dialog.
#[test]
fn a_message_arrives_as_it_was_written() {
    let mut desk = Desk::open();
    let draft = request("MESSAGE", &format!("sip:bob@{B}"))
        .carrying("text/plain;charset=utf-8", "Grüße\r\n\r\n.\r\n");
    let there = requests(&desk.hear(A, draft), "MESSAGE").remove(0);
    assert_eq!(there.message.body(), "Grüße\r\n\r\n.\r\n".as_bytes());
    assert_eq!(there.message.values(Name::RecordRoute).count(), 0);
    assert_eq!(response(&desk.answer(&there, 202, &[]), A).status(), Some(202));
}

/// §6: a MESSAGE to somebody with several devices is sent to all of them at once.
#[test]
fn a_message_reaches_every_device() {
    let mut desk = Desk::open();
    desk.register("bob", B, &format!("<sip:bob@{B}>, <sip:bob@198.51.100.30>"));
    let sent = desk.hear(A, request("MESSAGE", "sip:bob@example.com"));
    assert_eq!(requests(&sent, "MESSAGE").len(), 2);
}
