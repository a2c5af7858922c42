//! §16: what a stateful proxy does with requests and responses.

mod requests;
mod responses;

use proto::sip::Message;

use crate::desk::{A, B, C, Desk, Sent, invite, request, requests, response};

/// Two devices of bob's that ring at once: what was sent to each.
pub(super) fn forked(desk: &mut Desk) -> [Sent; 2] {
    desk.register("bob", B, &format!("<sip:bob@{B}>, <sip:bob@{C}>"));
    let sent = desk.hear(A, request("INVITE", "sip:bob@example.com"));
    let rung = requests(&sent, "INVITE");
    let [one, two] = <[Sent; 2]>::try_from(rung).expect("two devices ring");
    if one.message.request_uri().contains(B) { [one, two] } else { [two, one] }
}

/// The 200 that the caller gets for a call through.
pub(super) fn answered(desk: &mut Desk) -> Message {
    let there = desk.forwarded(invite());
    let sent = desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]);
    response(&sent, A)
}

pub(super) fn branch(message: &Message) -> String {
    message.via().unwrap().branch().to_owned()
}
