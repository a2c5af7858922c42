//! Offers, answers and deletes: ports, and where media goes.

use crate::*;

#[test]
fn offer_and_answer_read_as_rtpengine_writes_them() {
    let mut rig = rig();
    let offer = rig.ng_offer(ALICE, &[("replace", list(&["origin"])), ("ICE", text("remove"))]);
    let (answer, ports) = (rig.ng_answer(BOB, &[]), port(&offer));
    assert_eq!(
        offer.replace(&ports.to_string(), "PORT").replace(&(ports + 1).to_string(), "NEXT"),
        format!(
            "v=0\r\no=alice 1 1 IN IP4 {OUTSIDE}\r\ns=-\r\nc=IN IP4 {OUTSIDE}\r\nt=0 0\r\nm=audio PORT RTP/AVP 0 8 101\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
             a=sendrecv\r\na=rtcp:NEXT\r\na=ptime:20\r\n"
        )
    );
    assert!(
        answer.starts_with("v=0\r\no=bob 9 9 IN IP4 198.51.100.20\r\ns=call\r\nc=IN IP4 203.0.113.1\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("a=ptime:20\r\n"), "as offered: {answer}");
}

#[test]
fn media_goes_both_ways_and_a_delete_ends_it() {
    let mut rig = rig();
    let [for_b, for_a] = rig.ng_call();
    let there = rig.packet(A, outside(for_a), &rtp(1, 1)).expect("sent on to B");
    assert_eq!((there.from, there.to), (outside(for_b), address(B)));
    let back = rig.packet(B, outside(for_b), &rtp(2, 1)).expect("sent on to A");
    assert_eq!((back.from, back.to), (outside(for_a), address(A)));
    assert!(rig.ports().leased > 0);

    let deleted =
        rig.command(&[("command", text("delete")), ("call-id", text("c1")), ("from-tag", text("a"))]);
    assert_eq!(deleted.text("result"), Some("ok"));
    let totals = deleted.value("totals").unwrap().as_dict().unwrap().value("RTP").unwrap().as_dict().unwrap();
    assert_eq!(totals.value("packets").unwrap().as_int(), Some(2));
    assert_eq!((rig.ports().leased, rig.relay.status().sessions), (0, 0));
    assert!(rig.packet(A, outside(for_a), &rtp(1, 2)).is_none());
    assert!(rig.events.iter().any(
        |event| matches!(event, Event::CallEnded(ended) if &*ended.call == "c1" && ended.status == 200)
    ));

    let again = rig.command(&[("command", text("delete")), ("call-id", text("c1"))]);
    assert_eq!(
        (again.text("result"), again.text("warning")),
        (Some("ok"), Some("Call-ID not found or tags didn't match"))
    );
}

#[test]
fn a_delete_may_be_put_off() {
    let mut rig = rig();
    rig.ng_call();
    let delay = ("delete-delay", Value::Int(5));
    rig.command(&[("command", text("delete")), ("call-id", text("c1")), delay]);
    rig.pass(4 * SECOND);
    assert!(rig.ports().leased > 0);
    rig.pass(SECOND);
    assert_eq!(rig.ports().leased, 0);
}

#[test]
fn a_re_offer_keeps_its_ports_from_either_side_and_a_new_section_gets_its_own() {
    let mut rig = rig();
    let [for_b, for_a] = rig.ng_call();
    let to = ("to-tag", text("b"));
    assert_eq!(
        port(&rig.ng_offer(&ALICE.replace("a=ptime", "a=sendonly\r\na=ptime"), std::slice::from_ref(&to))),
        for_b
    );
    let from_b = rig.command(&[
        ("command", text("offer")),
        ("call-id", text("c1")),
        ("from-tag", text("b")),
        ("to-tag", text("a")),
        ("sdp", text(BOB)),
    ]);
    assert_eq!(port(&said(&from_b)), for_a);
    let video = format!("{ALICE}m=video 4010 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n");
    let offer = rig.ng_offer(&video, &[to]);
    assert_eq!(port(&offer), for_b);
    assert!(offer.contains("m=video 30"), "{offer}");
    let refused = rig.ng_answer(&format!("{BOB}m=video 0 RTP/AVP 96\r\na=inactive\r\n"), &[]);
    assert!(refused.ends_with("m=video 0 RTP/AVP 96\r\n"), "{refused}");
    assert_eq!(rig.ports().leased, 4, "the rejected section's ports are back");
}

#[test]
fn branches_of_a_fork_have_ports_of_their_own_and_end_one_by_one() {
    let mut rig = rig();
    let branch = |name: &str| [("via-branch", text(name))];
    let one = port(&rig.ng_offer(ALICE, &branch("1")));
    let two = port(&rig.ng_offer(ALICE, &branch("2")));
    assert_ne!(one, two);
    rig.ng_answer(BOB, &branch("2"));
    assert_eq!(rig.relay.status().sessions, 2);
    rig.command(&[
        ("command", text("delete")),
        ("call-id", text("c1")),
        ("from-tag", text("a")),
        ("via-branch", text("1")),
    ]);
    assert_eq!(rig.relay.status().sessions, 1);
    let query = rig.command(&[("command", text("query")), ("call-id", text("c1"))]);
    let tags = query.value("tags").unwrap().as_dict().unwrap();
    assert!(tags.value("a").is_some() && tags.value("b").is_some());
}

#[test]
fn each_party_has_its_own_way_with_rtcp() {
    let mut rig = rig();
    let mux = format!("{ALICE}a=rtcp-mux\r\n");
    let offer = rig.ng_offer(&mux, &[("rtcp-mux", list(&["demux"]))]);
    assert!(!offer.contains("a=rtcp-mux"), "{offer}");
    let answer = rig.ng_answer(BOB, &[]);
    let (for_b, for_a) = (port(&offer), port(&answer));
    assert!(answer.contains(&format!("a=rtcp:{for_a}\r\na=rtcp-mux\r\n")), "{answer}");
    rig.packet(A, outside(for_a), &rtp(1, 1));
    rig.packet(B, outside(for_b), &rtp(2, 1));
    let report = [0x80, 200, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let there = rig.packet(A, outside(for_a), &report).expect("to B's own RTCP port");
    assert_eq!(there.to, address("198.51.100.20:5001"));
    let back = rig.packet("198.51.100.20:5001", outside(for_b + 1), &report).expect("to A's only port");
    assert_eq!((back.to, back.from), (address(A), outside(for_a)));
}

#[test]
fn only_the_signalled_and_the_signalling_address_are_heard() {
    let mut rig = rig();
    let private = ALICE.replace("198.51.100.10", "10.9.9.9");
    rig.ng_offer(&private, &[("received-from", list(&["IP4", "198.51.100.77"]))]);
    let for_a = port(&rig.ng_answer(BOB, &[]));
    assert!(rig.packet("192.0.2.66:4000", outside(for_a), &rtp(1, 1)).is_none());
    assert!(rig.packet("198.51.100.77:61000", outside(for_a), &rtp(1, 1)).is_some());
}

#[test]
fn parties_meet_in_the_networks_the_flags_name() {
    let mut rig = rig();
    let offer =
        rig.ng_offer(ALICE, &[("direction", list(&["outside", "inside"])), ("replace", list(&["origin"]))]);
    assert!(
        offer.contains("o=alice 1 1 IN IP4 10.0.0.1\r\n") && offer.contains("c=IN IP4 10.0.0.1\r\n"),
        "{offer}"
    );
    let answer = rig.ng_answer(BOB, &[]);
    assert!(answer.contains(&format!("c=IN IP4 {OUTSIDE}\r\n")), "{answer}");
    let six = rig.command(&[
        ("command", text("offer")),
        ("call-id", text("six")),
        ("from-tag", text("a")),
        ("sdp", text(ALICE)),
        ("address family", text("IP6")),
    ]);
    assert!(said(&six).contains("c=IN IP6 2001:db8::1\r\n"));
}
