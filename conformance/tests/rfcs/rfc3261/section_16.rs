//! §16: what a stateful proxy does with requests and responses.

use std::time::Duration;

use proto::node::{SendError, Transport};
use proto::sip::{Message, Method, Name};

use crate::desk::{
    A, B, C, Desk, Draft, PROXY, Sent, T1, in_dialog, invite, open, request, requests, response, statuses,
    tcp,
};

/// The status of the final answer to a request that is refused at once.
fn refused(desk: &mut Desk, draft: Draft) -> u16 {
    let sent = desk.hear(A, draft);
    assert!(sent.iter().all(|sent| !sent.message.is_request()), "it went on: {sent:?}");
    match desk.broken.pop() {
        Some(broken) => broken.split(' ').nth(1).unwrap().parse().unwrap(),
        None => response(&sent, A).status().unwrap(),
    }
}

/// Two devices of bob's that ring at once: what was sent to each.
fn forked(desk: &mut Desk) -> [Sent; 2] {
    desk.register("bob", B, &format!("<sip:bob@{B}>, <sip:bob@{C}>"));
    let sent = desk.hear(A, request("INVITE", "sip:bob@example.com"));
    let rung = requests(&sent, "INVITE");
    let [one, two] = <[Sent; 2]>::try_from(rung).expect("two devices ring");
    if one.message.request_uri().contains(B) { [one, two] } else { [two, one] }
}

/// The 200 that the caller gets for a call through.
fn answered(desk: &mut Desk) -> Message {
    let there = desk.forwarded(invite());
    let sent = desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]);
    response(&sent, A)
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

fn branch(message: &Message) -> String {
    message.via().unwrap().branch().to_owned()
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

/// §16.7 step 1: a response goes to the context that its transaction belongs to; one that belongs to none is not forwarded.
#[test]
fn a_response_to_nothing_goes_nowhere() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let mut stray = there.clone();
    let text =
        String::from_utf8_lossy(stray.message.bytes()).replace(&branch(&there.message), "z9hG4bKmadeup");
    stray.message = Message::parse(text.into()).unwrap();
    assert!(desk.answer(&stray, 200, &[]).is_empty());
}

/// An INVITE that a proxy forwarded before it was restarted; the callee rings on.
fn forwarded_in_a_former_life() -> (Desk, Sent) {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    desk.answer(&there, 180, &[]);
    desk.restart(open(), Duration::from_secs(5));
    (desk, there)
}

/// §16.7, §16.11: an answer to an INVITE that was forwarded before a restart finds the caller, its Vias but ours as they were, and the call is up.
#[test]
fn an_answer_to_a_former_life_finds_the_caller() {
    let (mut desk, there) = forwarded_in_a_former_life();
    let sent = desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]);
    let ok = response(&sent, A);
    assert_eq!((ok.vias().count(), ok.via().unwrap().branch()), (1, "z9hG4bKINVITE1"));
    assert_eq!(statuses(&desk.answer(&there, 200, &[]), A), [200], "a repetition as well");
    let acks = requests(&desk.hear(A, in_dialog("ACK", 1, &ok)), "ACK");
    assert_eq!(acks[0].flow.remote.to_string(), B);
    assert_eq!(desk.proxy.status().calls, 1);
}

/// §16.7 step 6, §17.1.1.3: a failure of an INVITE that nobody else was asked with before a restart goes back once; each copy is acknowledged.
#[test]
fn a_failure_of_a_former_life_finds_the_caller() {
    let (mut desk, there) = forwarded_in_a_former_life();
    for status in [&[486][..], &[]] {
        let sent = desk.answer(&there, 486, &[]);
        assert_eq!(statuses(&sent, A), status);
        let acks = requests(&sent, "ACK");
        assert_eq!((acks.len(), acks[0].flow.remote.to_string()), (1, B.to_owned()));
        assert_eq!(acks[0].message.via().unwrap().branch(), there.message.via().unwrap().branch());
    }
    assert_eq!(desk.proxy.status().calls, 0);
}

/// §16.7, RFC 6026 §8.9: nothing but such an answer is taken up: the way back is our own token in the dialog it was made for, and no Via's word.
#[test]
fn a_forged_answer_to_a_former_life_goes_nowhere() {
    let (mut desk, there) = forwarded_in_a_former_life();
    assert!(desk.answer(&there, 180, &[]).is_empty());
    let route = there.message.text(Name::RecordRoute).unwrap().to_owned();
    let own_via = there.message.values(Name::Via).next().unwrap().to_owned();
    let text = String::from_utf8_lossy(there.message.bytes()).into_owned();
    for (what, forged) in [
        ("no token", text.replace(&route, &format!("<sip:{PROXY};lr>"))),
        ("a token somebody else made", text.replace(&route[6..20], "AAAAAAAAAAAAAA")),
        ("another call's token", text.replace("Call-ID: c1", "Call-ID: c2")),
        ("another caller's token", text.replace("tag=caller", "tag=victim")),
        ("a Via that is not ours", text.replace(&own_via, "SIP/2.0/UDP 192.0.2.66:5060;branch=z9hG4bKx")),
        ("nobody below us", text.replace(&format!("SIP/2.0/UDP {A}"), &format!("SIP/2.0/UDP {A}x bad"))),
    ] {
        assert_ne!(forged, text, "{what}");
        let forged = Sent { message: Message::parse(forged.into()).unwrap(), ..there.clone() };
        for status in if what == "no token" { &[200][..] } else { &[200, 302, 486, 603] } {
            assert!(desk.answer(&forged, *status, &[]).is_empty(), "{what}: {status}");
        }
    }
    let proof = there.message.via().unwrap().params.get("back").unwrap().to_owned();
    let unproven = text.replacen(&format!(";back={proof}"), "", 1);
    let unproven = Sent { message: Message::parse(unproven.into()).unwrap(), ..there.clone() };
    for status in [302, 486, 603] {
        assert!(desk.answer(&unproven, status, &[]).is_empty(), "{status} without our token in our Via");
    }
    desk.pass(Duration::from_secs(600));
    assert!(desk.answer(&there, 200, &[]).is_empty(), "nobody rings for so long");
    assert_eq!(desk.proxy.status(), Default::default());
}

/// §16.7 step 2: a provisional response from the callee puts timer C off; 100 does not.
#[test]
fn ringing_puts_timer_c_off() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    desk.answer(&there, 180, &[]);
    desk.pass(Duration::from_secs(120));
    desk.answer(&there, 180, &[]);
    assert!(requests(&desk.pass(Duration::from_secs(180)), "CANCEL").is_empty());
    assert_eq!(requests(&desk.pass(Duration::from_secs(5)), "CANCEL").len(), 1);
}

/// §16.7 step 3: our Via is taken off before a response goes back.
#[test]
fn our_via_is_taken_off() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let back = response(&desk.answer(&there, 180, &[]), A);
    assert_eq!((back.vias().count(), back.via().unwrap().sent_by()), (1, A.to_owned()));
}

/// §16.7 step 4: 100 is not passed on.
#[test]
fn trying_goes_no_further() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    assert!(desk.answer(&there, 100, &[]).is_empty());
}

/// §16.7 step 5: any 2xx to an INVITE goes back at once, one after another final response too.
#[test]
fn every_success_goes_back() {
    let mut desk = Desk::open();
    let [one, two] = forked(&mut desk);
    assert_eq!(statuses(&desk.answer_tagged(&one, 200, "one", &[]), A), [200]);
    assert_eq!(statuses(&desk.answer_tagged(&two, 200, "two", &[]), A), [200]);
}

/// §16.7 step 5: provisional responses but 100 go back at once, from every branch.
#[test]
fn every_ringing_goes_back() {
    let mut desk = Desk::open();
    let [one, two] = forked(&mut desk);
    assert_eq!(statuses(&desk.answer_tagged(&one, 180, "one", &[]), A), [180]);
    assert_eq!(statuses(&desk.answer_tagged(&two, 183, "two", &[]), A), [183]);
}

/// §16.7 step 5: a 6xx ends the search: the other branches are cancelled, and it goes back when they are done.
#[test]
fn a_global_failure_ends_the_search() {
    let mut desk = Desk::open();
    let [one, two] = forked(&mut desk);
    desk.answer(&two, 180, &[]);
    let sent = desk.answer(&one, 603, &[]);
    assert_eq!(requests(&sent, "CANCEL").len(), 1);
    assert_eq!(statuses(&desk.answer(&two, 487, &[]), A), [603]);
}

/// §16.7 step 6: with no branch left, a 6xx goes before the lowest class; of a class, what helps the caller most.
#[test]
fn the_best_failure_goes_back() {
    for (one, two, best) in [
        (486, 404, [486, 404]),
        (500, 404, [404, 404]),
        (302, 404, [302, 302]),
        (408, 486, [486, 486]),
        (401, 486, [401, 401]),
    ] {
        let mut desk = Desk::open();
        let [first, second] = forked(&mut desk);
        assert!(statuses(&desk.answer(&first, one, &[]), A).is_empty(), "not while a branch is left");
        let back = statuses(&desk.answer(&second, two, &[]), A);
        assert!(best.contains(&back[0]), "{one} and {two}: {back:?}");
    }
}

/// §16.7 step 6: a 503 from a callee is not passed on, since we are not short ourselves.
#[test]
fn a_callee_that_is_short_does_not_make_us_short() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    assert_eq!(statuses(&desk.answer(&there, 503, &[("Retry-After", "60")]), A), [500]);
}

/// §16.7 step 6: when nobody has answered at all, the caller hears 408.
#[test]
fn silence_is_a_408() {
    let mut desk = Desk::open();
    desk.forwarded(invite());
    assert_eq!(statuses(&desk.pass(64 * T1), A).last(), Some(&408));
}

/// §16.7 step 7: a 401 or 407 goes back with the challenges of all branches.
#[test]
fn challenges_are_gathered() {
    let mut desk = Desk::open();
    let [one, two] = forked(&mut desk);
    desk.answer(&one, 407, &[("Proxy-Authenticate", "Digest realm=\"one\", nonce=\"1\"")]);
    let sent = desk.answer(&two, 401, &[("WWW-Authenticate", "Digest realm=\"two\", nonce=\"2\"")]);
    let back = response(&sent, A);
    assert!(matches!(back.status(), Some(401 | 407)));
    assert!(back.text(Name::ProxyAuthenticate).unwrap().contains("one"));
    assert!(back.text(Name::WwwAuthenticate).unwrap().contains("two"));
}

/// §16.7 step 8: where one Record-Route serves both sides, the caller's copy may say something else than the callee's.
#[test]
fn each_side_has_a_record_route_of_its_own() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let callees = there.message.text(Name::RecordRoute).unwrap().to_owned();
    let back = response(&desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]), A);
    let callers = back.text(Name::RecordRoute).unwrap();
    assert!(callers != callees && callers.contains(&format!("@{PROXY}")), "{callers}");
}

/// §16.7 step 9: what belongs to us is changed; everything else goes back as it came.
#[test]
fn a_response_goes_back_as_it_came() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let sent = desk.answer(&there, 486, &[("Warning", "399 b.example \"gone; fishing\""), ("X-Odd", "<<>>")]);
    let back = response(&sent, A);
    assert_eq!(back.text(Name::Warning), Some("399 b.example \"gone; fishing\""));
    assert!(String::from_utf8_lossy(back.bytes()).contains("X-Odd: <<>>\r\n"));
}

/// §16.7 step 10: once a 2xx or 6xx went back, branches still under way are cancelled, once they have rung.
#[test]
fn the_branches_that_lost_are_cancelled() {
    let mut desk = Desk::open();
    let [one, two] = forked(&mut desk);
    let sent = desk.answer(&one, 200, &[]);
    assert!(requests(&sent, "CANCEL").is_empty(), "§9.1: not before it has answered something");
    let cancel = requests(&desk.answer(&two, 180, &[]), "CANCEL");
    assert_eq!(cancel.len(), 1);
    assert_eq!(branch(&cancel[0].message), branch(&two.message));
}

/// §16.9: a request that can't be sent counts as answered 503; a caller hears no 503 of a callee's.
#[test]
fn a_callee_that_can_t_be_reached_fails_at_once() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let back = statuses(&desk.fails(&there, SendError::Unreachable), A);
    assert!(back.iter().all(|status| *status >= 400) && !back.is_empty(), "{back:?}");
}

/// §16.10: a CANCEL is answered 200 at once; its INVITE's branches are cancelled, and the INVITE is answered 487.
#[test]
fn a_cancel_is_answered_and_passed_on() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    desk.answer(&there, 180, &[]);
    let sent = desk.hear(A, invite().cancel());
    let answer = response(&sent, A);
    assert_eq!((answer.status(), answer.cseq().unwrap().method), (Some(200), Method::Cancel));
    assert_eq!(requests(&sent, "CANCEL").len(), 1);
    assert_eq!(statuses(&desk.answer(&there, 487, &[]), A), [487]);
}

/// §16.10: a CANCEL that fits no INVITE is forwarded as a stateless proxy does.
/// Not met: it is answered 481; we forward no INVITE statelessly, so we know no INVITE only if it is over or we were restarted.
#[test]
fn a_cancel_of_nothing_is_481() {
    let sent = Desk::open().hear(A, invite().cancel());
    assert_eq!(statuses(&sent, A), [481]);
    assert!(requests(&sent, "CANCEL").is_empty());
}

/// §16.11: the ACK of a 2xx is forwarded by its Route, without a transaction and with a branch of its own.
#[test]
fn the_acknowledgement_of_a_success_goes_end_to_end() {
    let mut desk = Desk::open();
    let ok = answered(&mut desk);
    let acks = requests(&desk.hear(A, in_dialog("ACK", 1, &ok)), "ACK");
    assert_eq!((acks.len(), acks[0].flow.remote.to_string()), (1, B.to_owned()));
    assert!(desk.pass(10 * T1).is_empty(), "nobody retransmits an ACK");
}

/// §16.12: requests of both parties in a dialog come by us, in either direction, and lose the Route that named us.
#[test]
fn a_dialog_comes_by_us_both_ways() {
    let mut desk = Desk::open();
    let there = desk.forwarded(invite());
    let route = there.message.text(Name::RecordRoute).unwrap().to_owned();
    desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]);
    let bye = request("BYE", &format!("sip:alice@{A}"))
        .with("Via", &format!("SIP/2.0/UDP {B};branch=z9hG4bKb"))
        .with("From", "<sip:bob@example.com>;tag=callee")
        .with("To", "<sip:alice@example.com>;tag=caller")
        .with("CSeq", "7 BYE")
        .with("Route", &route);
    let bye = requests(&desk.hear(B, bye), "BYE");
    assert_eq!((bye[0].flow.remote.to_string(), bye[0].message.routes().count()), (A.to_owned(), 0));
}

/// §16.5: at most so many targets as we allow are tried, and none twice.
#[test]
fn a_contact_is_tried_once() {
    let mut desk = Desk::open();
    desk.register("bob", B, &format!("<sip:bob@{B}>, <SIP:bob@{B}>"));
    let sent = desk.hear(A, request("INVITE", "sip:bob@example.com"));
    assert_eq!(requests(&sent, "INVITE").len(), 1);
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

/// §16.7 step 6: a response over a connection goes back by the connection its request came by.
#[test]
fn an_answer_takes_the_connection_of_its_request() {
    let mut desk = Desk::new(open());
    let came = tcp(A);
    let over_tcp = invite().with("Via", &format!("SIP/2.0/TCP {A};branch=z9hG4bKt1"));
    let there = requests(&desk.hear_by(came, over_tcp), "INVITE")[0].clone();
    let back = desk.answer(&there, 180, &[]);
    assert_eq!(back[0].flow, came);
}
