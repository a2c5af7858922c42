//! §16.3 to §16.6: a request is checked, its targets found, and a copy sent to each.

use std::time::Duration;

use proto::node::{SendError, Transport};
use proto::sip::Name;

use super::{answered, branch, forked};
use crate::desk::{A, B, C, Desk, Draft, PROXY, in_dialog, invite, request, requests, response, statuses};

/// The status of the final answer to a request that is refused at once.
fn refused(desk: &mut Desk, draft: Draft) -> u16 {
    let sent = desk.hear(A, draft);
    assert!(sent.iter().all(|sent| !sent.message.is_request()), "it went on: {sent:?}");
    match desk.broken.pop() {
        Some(broken) => broken.split(' ').nth(1).unwrap().parse().unwrap(),
        None => response(&sent, A).status().unwrap(),
    }
}

/// §16.3 step 1: what can't be read is 400.
#[test]
fn what_cannot_be_read_is_refused() {
    for draft in [
        invite().with("To", ""),
        invite().with("From", "<sip:alice@example.com>"),
        invite().with("CSeq", "one INVITE"),
        invite().with("CSeq", "1 OPTIONS"),
        invite().without("From"),
        invite().with("Max-Forwards", "many"),
    ] {
        assert_eq!(refused(&mut Desk::open(), draft.clone()), 400, "{draft:?}");
    }
}

/// §16.3 step 1: a part that we need not look at may say anything, and is forwarded as it came.
#[test]
fn what_is_no_business_of_ours_goes_on_as_it_came() {
    let odd = invite().adding("Subject", "=?utf-8?\"unterminated").adding("X-Odd", "<<>>;;,,\"");
    let there = Desk::open().forwarded(odd).message;
    let text = String::from_utf8_lossy(there.bytes()).into_owned();
    assert!(
        text.contains("Subject: =?utf-8?\"unterminated\r\n") && text.contains("X-Odd: <<>>;;,,\"\r\n"),
        "{text}"
    );
}

/// §16.3 step 1: unknown methods are forwarded.
#[test]
fn a_method_nobody_knows_is_forwarded() {
    let sent = Desk::open().hear(A, request("FROBNICATE", &format!("sip:bob@{B}")));
    assert_eq!(requests(&sent, "FROBNICATE").len(), 1);
}

/// §16.3 step 2: a request URI whose scheme we don't know is 416.
#[test]
fn a_scheme_nobody_can_route_is_refused() {
    assert_eq!(refused(&mut Desk::open(), request("INVITE", "nobodyKnowsThisScheme:totallyopaque")), 416);
}

/// §16.3 step 3: Max-Forwards 0 is 483, 1 goes one hop further.
#[test]
fn a_request_that_has_gone_far_enough_ends_here() {
    assert_eq!(refused(&mut Desk::open(), invite().with("Max-Forwards", "0")), 483);
    let there = Desk::open().forwarded(invite().with("Max-Forwards", "1")).message;
    assert_eq!(there.max_forwards().unwrap(), Some(0));
}

/// §16.3 step 3: OPTIONS with Max-Forwards 0 that is about us may be answered by us.
#[test]
fn options_that_end_here_are_answered() {
    let options = request("OPTIONS", "sip:example.com").with("Max-Forwards", "0");
    assert_eq!(response(&Desk::open().hear(A, options), A).status(), Some(200));
}

/// §16.3 step 4: a request that comes by again unchanged is 482; one whose request URI changed on the way is a spiral and goes on.
#[test]
fn a_loop_is_told_from_a_spiral() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let text = String::from_utf8_lossy(there.message.bytes()).into_owned();
    let again = text.replacen("Via: ", &format!("Via: SIP/2.0/UDP {B};branch=z9hG4bKround\r\nVia: "), 1);
    let looped = desk.hear_bytes(crate::desk::udp(B), again.clone());
    assert_eq!(statuses(&looped, B).last(), Some(&482));
    let spiral = again.replacen(&format!("INVITE sip:bob@{B}"), &format!("INVITE sip:carol@{C}"), 1);
    let on = desk.hear_bytes(crate::desk::udp(B), spiral.replace("z9hG4bKround", "z9hG4bKspiral"));
    assert_eq!(requests(&on, "INVITE").len(), 1);
}

/// §16.3 step 5: an extension in Proxy-Require that we lack is 420, with Unsupported naming it.
#[test]
fn an_extension_a_proxy_must_know_is_refused_by_name() {
    let sent = Desk::open().hear(A, invite().with("Proxy-Require", "teleport"));
    let refused = response(&sent, A);
    assert_eq!((refused.status(), refused.text(Name::Unsupported)), (Some(420), Some("teleport")));
}

/// §16.3: Require is for the callee: a proxy looks at Proxy-Require alone.
#[test]
fn what_the_callee_must_know_is_no_business_of_ours() {
    let there = Desk::open().forwarded(invite().with("Require", "teleport")).message;
    assert_eq!(there.text(Name::Require), Some("teleport"));
}

/// §16.4: a request URI that is our own Record-Route value is replaced by the last Route (a strict router sent it).
#[test]
fn what_a_strict_router_did_is_undone() {
    let mut desk = Desk::open();
    let ok = answered(&mut desk);
    let ours = ok.text(Name::RecordRoute).unwrap().trim_matches(['<', '>']).to_owned();
    let bye = in_dialog("BYE", 2, &ok).with("Route", &format!("<sip:bob@{B}>")).to_uri(&ours);
    let bye = &requests(&desk.hear(A, bye), "BYE")[0];
    assert_eq!((bye.message.request_uri(), bye.message.routes().count()), (&*format!("sip:bob@{B}"), 0));
}

/// §16.4: our own value on top of Route is taken off, those below it stay.
#[test]
fn our_own_route_is_taken_off() {
    let routed = invite().adding("Route", &format!("<sip:{PROXY};lr>, <sip:{C};lr>"));
    let there = Desk::open().forwarded(routed);
    assert_eq!(there.flow.remote.to_string(), C);
    assert_eq!(there.message.values(Name::Route).collect::<Vec<_>>(), [&*format!("<sip:{C};lr>")]);
}

/// §16.5: a request URI at a domain that is not ours is the only target.
#[test]
fn a_foreign_request_uri_is_the_only_target() {
    let mut desk = Desk::open();
    let sent = desk.hear(A, request("INVITE", &format!("sip:bob@{C}")));
    let there = requests(&sent, "INVITE");
    assert_eq!((there.len(), there[0].flow.remote.to_string()), (1, C.to_owned()));
}

/// §16.5: maddr says where, before the host does.
#[test]
fn maddr_is_where_a_request_goes() {
    let there = Desk::open().forwarded(request("INVITE", "sip:bob@somewhere.example;maddr=198.51.100.30"));
    assert_eq!(there.flow.remote.to_string(), "198.51.100.30:5060");
}

/// §16.5: at our own domain the bindings are the targets, each once.
#[test]
fn bindings_are_targets() {
    let [one, two] = forked(&mut Desk::open());
    assert_eq!(
        [one.flow.remote.to_string(), two.flow.remote.to_string()],
        [B, B],
        "one device, two contacts"
    );
}

/// §16.5: whom we do not know at our own domain is 404, whom we know and who is away 480.
#[test]
fn nobody_and_nobody_here_are_two_things() {
    assert_eq!(refused(&mut Desk::open(), request("INVITE", "sip:nobody@example.com")), 404);
    assert_eq!(refused(&mut Desk::open(), request("INVITE", "sip:bob@example.com")), 480);
}

/// §16.5: at most so many targets as we allow are tried, and none twice.
#[test]
fn a_contact_is_tried_once() {
    let mut desk = Desk::open();
    desk.register("bob", B, &format!("<sip:bob@{B}>, <SIP:bob@{B}>"));
    let sent = desk.hear(A, request("INVITE", "sip:bob@example.com"));
    assert_eq!(requests(&sent, "INVITE").len(), 1);
}

/// §16.5: the Contacts of a 3xx may be tried as targets.
/// Not met: a foreign 3xx goes back to the caller, since whoever follows it pays for the call; our redirect server's and that of trusted routes are followed.
#[test]
fn a_strangers_redirection_goes_back() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let sent = desk.answer(&there, 302, &[("Contact", "<sip:expensive@192.0.2.66>")]);
    assert_eq!(statuses(&sent, A), [302]);
    assert!(requests(&sent, "INVITE").is_empty());
}

/// §16.6 step 1: the copy has every header of the request, in its order, and the body as it came.
#[test]
fn the_copy_is_a_copy() {
    let original = invite()
        .adding("Subject", "  many   blanks ")
        .adding("X-One", "1")
        .adding("Supported", "100rel")
        .adding("X-One", "2")
        .carrying("application/octet-stream", "\u{1}\0\u{7f} binary\r\n\r\nand more");
    let there = Desk::open().forwarded(original).message;
    let names: Vec<&str> =
        there.headers().map(|header| header.name.as_str()).filter(|name| *name != "Via").collect();
    let came = ["Max-Forwards", "From", "To", "Call-ID", "CSeq", "Contact", "Subject"];
    let kept: Vec<&&str> = came.iter().filter(|name| names.contains(name)).collect();
    assert_eq!(kept.len(), came.len(), "{names:?}");
    let text = String::from_utf8_lossy(there.bytes()).into_owned();
    assert!(text.contains("X-One: 1\r\nSupported: 100rel\r\nX-One: 2\r\n"), "{text}");
    assert_eq!(there.body(), "\u{1}\0\u{7f} binary\r\n\r\nand more".as_bytes());
}

/// §16.6 step 2: the request URI is the target's: a binding's Contact, with its parameters.
#[test]
fn the_request_uri_is_the_contact_that_was_registered() {
    let mut desk = Desk::open();
    desk.register("bob", B, &format!("<sip:bob-7@{B};transport=udp;line=abc>"));
    let there = desk.forwarded(request("INVITE", "sip:bob@example.com"));
    assert_eq!(there.message.request_uri(), format!("sip:bob-7@{B};transport=udp;line=abc"));
}

/// §16.6 step 3: Max-Forwards is one less; a request without one gets 70.
#[test]
fn one_hop_less_is_left() {
    let left = |draft| Desk::open().forwarded(draft).message.max_forwards().unwrap();
    assert_eq!(left(invite()), Some(69));
    assert_eq!(left(invite().without("Max-Forwards")), Some(70));
}

/// §16.6 step 4: a request that may begin a dialog gets a Record-Route with lr on top, that leads to us.
#[test]
fn we_stay_on_the_path_of_the_dialog() {
    let there = Desk::open().forwarded(invite().adding("Record-Route", "<sip:192.0.2.99;lr>")).message;
    let values: Vec<&str> = there.values(Name::RecordRoute).collect();
    assert!(values[0].contains(&format!("@{PROXY}")) && values[0].ends_with(";lr>"), "{values:?}");
    assert_eq!(values[1], "<sip:192.0.2.99;lr>");
}

/// §16.6 step 4: a request that begins no dialog gets none.
#[test]
fn what_begins_no_dialog_gets_no_record_route() {
    let sent = Desk::open().hear(A, request("MESSAGE", &format!("sip:bob@{B}")));
    assert_eq!(requests(&sent, "MESSAGE")[0].message.values(Name::RecordRoute).count(), 0);
}

/// §16.6 step 6: where the topmost Route is a strict router's, it takes the request line, and the request URI the end of Route.
#[test]
fn a_strict_router_ahead_gets_what_it_expects() {
    let there = Desk::open().forwarded(invite().adding("Route", &format!("<sip:{C}>, <sip:192.0.2.99;lr>")));
    assert_eq!(there.message.request_uri(), format!("sip:{C}"));
    let routes: Vec<&str> = there.message.values(Name::Route).collect();
    assert_eq!(routes, ["<sip:192.0.2.99;lr>", &format!("<sip:bob@{B}>")]);
}

/// §16.6 step 7: the topmost Route is the next hop, else the request URI.
#[test]
fn the_topmost_route_is_the_next_hop() {
    let mut desk = Desk::open();
    assert_eq!(desk.forwarded(invite()).flow.remote.to_string(), B);
    let routed =
        invite().branch("z9hG4bKother").with("Call-ID", "c2").adding("Route", &format!("<sip:{C};lr>"));
    assert_eq!(desk.forwarded(routed).flow.remote.to_string(), C);
}

/// §16.6 step 7: names are resolved by RFC 3263, and the next address is tried when one fails.
#[test]
fn the_next_address_of_a_name_is_tried_when_one_fails() {
    let mut desk = Desk::open();
    desk.hear(A, request("INVITE", "sip:bob@carrier.example"));
    let first = requests(&desk.resolve(&[B, C]), "INVITE")[0].clone();
    assert_eq!(first.flow.remote.to_string(), B);
    let second = requests(&desk.fails(&first, SendError::Refused), "INVITE")[0].clone();
    assert_eq!(second.flow.remote.to_string(), C);
    assert_ne!(branch(&first.message), branch(&second.message), "another transaction");
}

/// §16.6 step 8: our Via stands on top, with a branch that begins with z9hG4bK and is another one in every branch.
#[test]
fn our_via_stands_on_top() {
    let [one, two] = forked(&mut Desk::open());
    for there in [&one, &two] {
        let vias: Vec<_> = there.message.vias().flatten().collect();
        assert_eq!((vias.len(), vias[0].sent_by()), (2, PROXY.to_owned()));
        assert!(vias[0].branch().starts_with("z9hG4bK") && vias[0].branch().len() > 20);
    }
    assert_ne!(branch(&one.message), branch(&two.message));
}

/// §16.6 step 9: over a stream the copy has Content-Length, whatever the request had.
#[test]
fn a_stream_gets_the_length_of_the_body() {
    let there = Desk::open()
        .forwarded(request("INVITE", &format!("sip:bob@{B};transport=tcp")).carrying("text/plain", "four"));
    assert_eq!(there.flow.transport, Transport::Tcp);
    assert_eq!(there.message.text(Name::ContentLength), Some("4"));
}

/// §16.6 step 11, §16.8: timer C runs for more than three minutes; then a callee that rang is cancelled.
#[test]
fn a_callee_that_only_rings_is_cancelled_after_three_minutes() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    desk.answer(&there, 180, &[]);
    assert!(requests(&desk.pass(Duration::from_secs(180)), "CANCEL").is_empty());
    assert_eq!(requests(&desk.pass(Duration::from_secs(5)), "CANCEL").len(), 1);
}

/// §16.6: targets of one q ring together, lower ones when all of those have failed.
#[test]
fn devices_ring_in_the_order_of_their_q() {
    let mut desk = Desk::open();
    desk.register("bob", B, &format!("<sip:bob@{B}>;q=0.9, <sip:bob@{C}>;q=0.1"));
    let first = requests(&desk.hear(A, request("INVITE", "sip:bob@example.com")), "INVITE");
    assert_eq!((first.len(), first[0].message.request_uri()), (1, &*format!("sip:bob@{B}")));
    let second = requests(&desk.answer(&first[0], 486, &[]), "INVITE");
    assert_eq!(second[0].message.request_uri(), format!("sip:bob@{C}"));
}
