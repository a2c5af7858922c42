//! RFC 5393: loops, and forks that breed.

use proto::sip::Name;

use crate::desk::{A, B, C, Desk, invite, request, requests, statuses, udp};

const MAX_BREADTH: &str = "Max-Breadth";

fn breadth(message: &proto::sip::Message) -> Option<u32> {
    message.text(Name::MaxBreadth)?.parse().ok()
}

fn forked(draft: crate::desk::Draft) -> (Desk, Vec<crate::desk::Sent>) {
    let mut desk = Desk::open();
    desk.register("bob", B, &format!("<sip:bob@{B}>, <sip:bob@{C}>, <sip:bob@198.51.100.40>"));
    let sent = desk.hear(A, draft);
    let rung = requests(&sent, "INVITE");
    (desk, rung)
}

/// §4.2: a request that comes by again with nothing changed that decides its way is 482, whatever was added on its way.
#[test]
fn a_loop_is_found_by_what_decides_the_way() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let text = String::from_utf8_lossy(there.message.bytes()).into_owned();
    let round = format!("Via: SIP/2.0/UDP {B};branch=z9hG4bKround\r\nX-Seen: yes\r\nVia: ");
    let again = text.replacen("Via: ", &round, 1).replace("Max-Forwards: 69", "Max-Forwards: 60");
    assert_eq!(statuses(&desk.hear_bytes(udp(B), again), B).last(), Some(&482));
}

/// §5.3.3: a request that is forked shares its Max-Breadth among its branches.
#[test]
fn breadth_is_shared_out() {
    let (_, rung) = forked(request("INVITE", "sip:bob@example.com").with(MAX_BREADTH, "9"));
    let shares: Vec<u32> = rung.iter().filter_map(|sent| breadth(&sent.message)).collect();
    assert_eq!((shares.len(), shares.iter().sum::<u32>() <= 9), (3, true), "{shares:?}");
}

/// §5.3.3: a request without Max-Breadth counts as one with 60 when it is forked.
#[test]
fn who_says_nothing_may_have_sixty() {
    let (_, rung) = forked(request("INVITE", "sip:bob@example.com"));
    let shares: Vec<u32> = rung.iter().filter_map(|sent| breadth(&sent.message)).collect();
    assert_eq!(shares.iter().sum::<u32>(), 60, "{shares:?}");
}

/// §5.3.3.1: branches for which no breadth is left are tried after the others.
#[test]
fn what_is_too_broad_is_tried_in_turn() {
    let (mut desk, rung) = forked(request("INVITE", "sip:bob@example.com").with(MAX_BREADTH, "1"));
    assert_eq!(rung.len(), 1);
    let next = requests(&desk.answer(&rung[0], 486, &[]), "INVITE");
    assert_eq!(next.len(), 1);
}

/// §5.3.3: a request with Max-Breadth 0 can't be forwarded: 440.
#[test]
fn no_breadth_is_no_way() {
    let sent = Desk::open().hear(A, invite().with(MAX_BREADTH, "0"));
    assert_eq!(statuses(&sent, A), [440]);
}
