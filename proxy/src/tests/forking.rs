//! Stories of several targets (RFC 3261 §16.5–§16.7), and of listeners that differ between the two sides.

use std::time::{Duration, SystemTime};

use proto::node::{Flow, FlowId, Input, SendError, Transport};
use proto::sip::{Method, Name};
use proto::tables::{Binding, UNREACHABLE};

use crate::config::{Listener, Server};
use crate::tests::bench::{A, B, Bench, PROXY, Sent, in_dialog, invite, next, open, plain, to};
use crate::tests::testing::address;

const DESK: &str = "198.51.100.31:5060";
const MOBILE: &str = "198.51.100.32:5060";
const CONTACT: &str = "Contact: <sip:b@198.51.100.20:5070>";

fn binding(at: &str, q: u16) -> Binding {
    Binding {
        contact: format!("sip:bob@{at}"),
        call_id: format!("r-{at}"),
        cseq: 1,
        q,
        expires: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 3600),
        flow: Flow::udp(address(PROXY), address(at)),
        sent_by: at.into(),
        behind_nat: false,
        path: Vec::new(),
        instance: Some(format!("urn:uuid:{at}")),
        reg_id: None,
        agent: None,
        unanswered: 0,
    }
}

fn bench(bindings: Vec<Binding>) -> Bench {
    let mut bench = Bench::new(open());
    bench.tables.bindings.insert("bob@example.com".into(), bindings);
    bench
}

fn invited(sent: &[Sent]) -> Vec<Sent> {
    sent.iter().filter(|s| s.message.method() == Method::Invite && s.message.is_request()).cloned().collect()
}

#[test]
fn rings_all_devices_of_the_same_preference_and_cancels_the_loser() {
    let mut bench = bench(vec![binding(DESK, 1000), binding(MOBILE, 1000)]);
    let both = invited(&bench.from(A, &invite("sip:bob@example.com")));
    assert_eq!(both.len(), 2);
    assert_eq!(both[0].message.request_uri(), format!("sip:bob@{}", both[0].flow.remote));
    assert_ne!(both[0].message.via().unwrap().branch(), both[1].message.via().unwrap().branch());
    bench.answer(&both[1], 180, CONTACT, "");
    let sent = bench.answer(&both[0], 200, CONTACT, "");
    assert_eq!(to(&sent, A)[0].status(), Some(200));
    let cancel = to(&sent, &both[1].flow.remote.to_string())[0];
    assert_eq!(cancel.method(), Method::Cancel);
    assert!(cancel.text(Name::Reason).unwrap().contains("elsewhere"));
    let sent = bench.answer(&both[1], 487, "", "");
    assert!(to(&sent, A).is_empty());
}

/// §16.7 step 5: a second 2xx goes back, too.
#[test]
fn two_answers_both_go_back() {
    let mut bench = bench(vec![binding(DESK, 1000), binding(MOBILE, 1000)]);
    let both = invited(&bench.from(A, &invite("sip:bob@example.com")));
    bench.answer(&both[0], 200, CONTACT, "");
    let sent = bench.answer(&both[1], 200, CONTACT, "");
    assert_eq!(to(&sent, A)[0].status(), Some(200));
}

#[test]
fn tries_the_lower_preference_when_the_higher_fails() {
    let mut bench = bench(vec![binding(MOBILE, 300), binding(DESK, 1000)]);
    let first = invited(&bench.from(A, &invite("sip:bob@example.com")));
    assert_eq!((first.len(), first[0].flow.remote), (1, address(DESK)));
    let sent = bench.answer(&first[0], 486, "", "");
    let second = invited(&sent);
    assert_eq!(second[0].flow.remote, address(MOBILE));
    let sent = bench.answer(&second[0], 603, "", "");
    assert_eq!(to(&sent, A)[0].status(), Some(603));
}

/// §16.7 step 6: the best response, not the last; §16.7 step 7: every branch's challenge.
#[test]
fn the_best_failure_goes_back_with_all_challenges() {
    let mut bench = bench(vec![binding(DESK, 1000), binding(MOBILE, 1000)]);
    let both = invited(&bench.from(A, &invite("sip:bob@example.com")));
    bench.answer(&both[0], 407, "Proxy-Authenticate: Digest realm=\"one\", nonce=\"1\"", "");
    let sent = bench.answer(&both[1], 407, "Proxy-Authenticate: Digest realm=\"two\", nonce=\"2\"", "");
    let best = to(&sent, A)[0];
    assert_eq!(
        (best.status(), best.headers().filter(|h| h.name == Name::ProxyAuthenticate).count()),
        (Some(407), 2)
    );

    let mut bench = self::bench(vec![binding(DESK, 1000), binding(MOBILE, 1000)]);
    let both = invited(&bench.from(A, &invite("sip:bob@example.com")));
    bench.answer(&both[0], 486, "", "");
    let sent = bench.answer(&both[1], 500, "", "");
    assert_eq!(to(&sent, A)[0].status(), Some(486));
}

/// RFC 3325 §5: a refusal's identity is believed by who sent that refusal, whichever branch was first.
#[test]
fn the_best_failure_has_the_identity_rule_of_its_own_branch() {
    let identified = "P-Asserted-Identity: <sip:boss@example.com>";
    for trusted_answers_best in [true, false] {
        let mut config = plain();
        crate::tests::bench::trunk(&mut config).trusted = true;
        crate::tests::bench::trunk(&mut config).sources = vec!["198.51.100.32".parse().unwrap()];
        crate::tests::bench::trunk(&mut config).servers = vec![Server::new(next("198.51.100.32", 5060))];
        config.routes.clear();
        let mut bench = Bench::new(config);
        let bindings = vec![binding(DESK, 1000), binding(MOBILE, 1000)];
        bench.tables.bindings.insert("bob@example.com".into(), bindings);
        let both = invited(&bench.from(A, &invite("sip:bob@example.com")));
        let at = |place: &str| both.iter().find(|leg| leg.flow.remote == address(place)).unwrap();
        let (best, other) =
            if trusted_answers_best { (at(MOBILE), at(DESK)) } else { (at(DESK), at(MOBILE)) };
        bench.answer(best, 486, identified, "");
        let sent = bench.answer(other, 500, identified, "");
        let refusal = to(&sent, A)[0];
        assert_eq!(refusal.status(), Some(486));
        assert_eq!(refusal.text(Name::PAssertedIdentity).is_some(), trusted_answers_best, "{refusal:?}");
    }
}

#[test]
fn somebody_whose_registration_ran_out_is_a_480() {
    let mut gone = binding(DESK, 1000);
    gone.expires = SystemTime::UNIX_EPOCH;
    let mut bench = bench(vec![gone]);
    assert_eq!(bench.from(A, &invite("sip:bob@example.com"))[0].message.status(), Some(480));
}

/// DESIGN §4: in-dialog requests go to the binding's present flow.
#[test]
fn follows_a_device_that_has_registered_from_elsewhere_meanwhile() {
    let mut bench = bench(vec![binding(DESK, 1000)]);
    let leg = invited(&bench.from(A, &invite("sip:bob@example.com"))).remove(0);
    let sent = bench.answer(&leg, 200, CONTACT, "");
    let ok = to(&sent, A)[0].clone();
    let moved = Binding { flow: Flow::udp(address(PROXY), address(MOBILE)), ..binding(DESK, 1000) };
    bench.tables.bindings.insert("bob@example.com".into(), vec![moved]);
    let bye = in_dialog("BYE", 2, &ok);
    let sent = bench.from(A, &bye);
    assert_eq!(to(&sent, MOBILE)[0].method(), Method::Bye);
}

/// RFC 5658: two listeners, two Record-Routes, and both are taken off again.
#[test]
fn two_listeners_mean_two_record_routes() {
    let mut config = plain();
    crate::tests::bench::trunk(&mut config).servers[0].next.transport = Some(Transport::Tcp);
    let mut bench = Bench::new(config);
    let leg = invited(&bench.from(A, &invite("sip:b@example.com"))).remove(0);
    assert_eq!(leg.flow.transport, Transport::Tcp);
    let values: Vec<_> = leg.message.values(Name::RecordRoute).map(str::to_owned).collect();
    assert_eq!(values.len(), 2);
    assert!(values[0].contains("transport=tcp") && !values[1].contains("transport"));
    let sent = bench.answer(&leg, 200, CONTACT, "");
    let ok = to(&sent, A)[0].clone();
    let sent = bench.from(A, &in_dialog("BYE", 2, &ok));
    let bye = &sent.iter().find(|s| s.message.method() == Method::Bye).unwrap();
    assert_eq!((bye.flow.transport, bye.message.routes().count()), (Transport::Tcp, 0));
}

/// DESIGN §4: an IPv6 path and a relay session need two tokens; without a session one is enough.
#[test]
fn an_ipv6_callee_is_reached_by_its_token() {
    let mut config = plain();
    let at = address("[2001:db8::1]:5060");
    config.listeners.push(Listener { bind: at, advertise: at, ..config.listeners[0].clone() });
    crate::tests::bench::trunk(&mut config).servers[0].next.host = "2001:db8::b".into();
    let mut bench = Bench::new(config);
    let leg = invited(&bench.from(A, &invite("sip:b@example.com"))).remove(0);
    assert_eq!(leg.flow.remote, address("[2001:db8::b]:5070"));
    let sent = bench.answer(&leg, 200, CONTACT, "");
    let ok = to(&sent, A)[0].clone();
    let sent = bench.from(A, &in_dialog("BYE", 2, &ok));
    assert_eq!(to(&sent, "[2001:db8::b]:5070")[0].method(), Method::Bye);
}

/// §16.6 step 6: a strict router ahead of us takes the request line.
#[test]
fn a_strict_router_ahead_takes_the_request_line() {
    let mut bench = Bench::new(plain());
    let text = invite("sip:b@example.com") + &format!("\nRoute: <sip:{PROXY};lr>, <sip:{B}>");
    let leg = invited(&bench.from(A, &text)).remove(0);
    assert_eq!(leg.message.request_uri(), format!("sip:{B}"));
    assert_eq!(leg.message.text(Name::Route), Some("<sip:b@example.com>"));
}

/// A connection's flow has an identity; what belongs to its dialog finds it by its far end.
#[test]
fn answers_go_back_by_the_connection_the_request_came_by() {
    let mut bench = Bench::new(plain());
    let flow = Flow {
        transport: Transport::Tcp,
        id: FlowId(7),
        ..Flow::udp(address(PROXY), address("192.0.2.10:40000"))
    };
    let sent = bench.by(flow, crate::tests::bench::message(&invite("sip:b@example.com")));
    let sent = bench.answer(&invited(&sent)[0], 486, "", "");
    let back = sent.iter().find(|s| s.message.status() == Some(486)).unwrap();
    assert_eq!(back.flow, flow);
}

/// A phone whose connection is gone is passed over when that is known, and when it is the only one, the caller hears at
/// once that it is away.
#[test]
fn a_phone_on_a_connection_that_is_gone_is_passed_over() {
    let on_connection = || {
        let mut phone = binding(DESK, 1000);
        phone.flow = Flow { transport: Transport::Tcp, id: FlowId(7), ..phone.flow };
        phone.unanswered = UNREACHABLE;
        phone
    };
    let mut both = bench(vec![on_connection(), binding(MOBILE, 300)]);
    let sent = invited(&both.from(A, &invite("sip:bob@example.com")));
    assert_eq!(sent[0].message.request_uri(), format!("sip:bob@{MOBILE}"));

    let mut alone = bench(vec![on_connection()]);
    let sent = invited(&alone.from(A, &invite("sip:bob@example.com")));
    assert_eq!(sent[0].flow.id, FlowId(7), "nothing is known better than to try");
    let (ticket, flow) = (sent[0].ticket, sent[0].flow);
    let sent = alone.input(Input::SendFailed { ticket, flow, error: SendError::Closed });
    assert_eq!(to(&sent, A)[0].status(), Some(480));
}

/// RFC 5393 §5.3.3: who forks shares out what it was given, 60 when nothing is said; who does not, leaves it alone.
#[test]
fn max_breadth_is_shared_among_the_branches_of_a_fork() {
    let three = || vec![binding(DESK, 1000), binding(MOBILE, 1000), binding("198.51.100.33:5060", 1000)];
    let breadths = |bindings, header: &str| {
        let text = invite("sip:bob@example.com") + header;
        let legs = invited(&bench(bindings).from(A, &text));
        legs.iter().map(|leg| leg.message.text(Name::MaxBreadth).map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(breadths(three(), ""), vec![Some("20".to_owned()); 3]);
    assert_eq!(breadths(three(), "\nMax-Breadth: 7"), vec![Some("2".to_owned()); 3]);
    assert_eq!(breadths(vec![binding(DESK, 1000)], ""), [None]);
    assert_eq!(breadths(vec![binding(DESK, 1000)], "\nMax-Breadth: 7"), [Some("7".to_owned())]);
}

/// RFC 5393 §5.3.3.1: what does not fit side by side is tried one after another; nothing left at all is 440.
#[test]
fn a_fork_wider_than_max_breadth_goes_on_serially() {
    let mut bench = bench(vec![binding(DESK, 1000), binding(MOBILE, 1000)]);
    let first = invited(&bench.from(A, &(invite("sip:bob@example.com") + "\nMax-Breadth: 1")));
    assert_eq!((first.len(), first[0].message.text(Name::MaxBreadth)), (1, Some("1")));
    let second = invited(&bench.answer(&first[0], 486, "", ""));
    assert_eq!((second.len(), second[0].message.text(Name::MaxBreadth)), (1, Some("1")));
    assert_ne!(first[0].flow.remote, second[0].flow.remote);
    let sent = bench.answer(&second[0], 486, "", "");
    assert_eq!(to(&sent, A)[0].status(), Some(486));

    let mut bench = self::bench(vec![binding(DESK, 1000)]);
    let sent = bench.from(A, &(invite("sip:bob@example.com") + "\nMax-Breadth: 0"));
    assert_eq!(to(&sent, A)[0].status(), Some(440));
}

/// RFC 3261 §16.5: a 3xx of a trusted trunk is followed, its Contacts by their q; anybody else's goes back as it is.
#[test]
fn a_3xx_is_followed_for_a_trusted_trunk_alone() {
    let moved = "Contact: <sip:b@198.51.100.31:5060>;q=0.9, <sip:b@198.51.100.32:5060>;q=0.5";
    let mut foreign = Bench::new(plain());
    let leg = invited(&foreign.from(A, &invite("sip:b@example.com"))).remove(0);
    let sent = foreign.answer(&leg, 302, moved, "");
    assert_eq!(to(&sent, A)[0].status(), Some(302));

    let mut config = plain();
    crate::tests::bench::trunk(&mut config).trusted = true;
    let mut trusted = Bench::new(config);
    let leg = invited(&trusted.from(A, &invite("sip:b@example.com"))).remove(0);
    let next = invited(&trusted.answer(&leg, 302, moved, ""));
    let tried: Vec<_> = next.iter().map(|leg| leg.message.request_uri().to_owned()).collect();
    assert_eq!(tried, ["sip:b@198.51.100.31:5060"], "the best first");
    let next = invited(&trusted.answer(&next[0], 486, "", ""));
    assert_eq!(next[0].message.request_uri(), "sip:b@198.51.100.32:5060");
}

/// §16.7 step 10: once somebody has answered, or declined for all, nothing new is begun.
#[test]
fn a_3xx_that_comes_after_the_answer_or_a_6xx_is_not_followed() {
    for end in [200, 603] {
        let mut config = plain();
        crate::tests::bench::trunk(&mut config).trusted = true;
        let mut bench = Bench::new(config);
        let leg = invited(&bench.from(A, &invite("sip:b@example.com"))).remove(0);
        let both = "Contact: <sip:b@198.51.100.31:5060>, <sip:b@198.51.100.32:5060>";
        let legs = invited(&bench.answer(&leg, 302, both, ""));
        bench.answer(&legs[0], end, CONTACT, "");
        let sent = bench.answer(&legs[1], 302, "Contact: <sip:b@198.51.100.33:5060>", "");
        assert!(invited(&sent).is_empty(), "after {end}: {sent:?}");
    }
}

/// §16.6 step 11, §16.7 step 2, §16.8: timer C is each branch's own. Who only rings once is given up, who says again and again
/// that it rings (§13.3.1.1) is not.
#[test]
fn timer_c_cancels_the_slowest_branch_alone() {
    let mut bench = bench(vec![binding(DESK, 1000), binding(MOBILE, 1000)]);
    let both = invited(&bench.from(A, &invite("sip:bob@example.com")));
    bench.answer(&both[0], 180, CONTACT, "");
    bench.answer(&both[1], 180, CONTACT, "");
    bench.pass(Duration::from_secs(100));
    bench.answer(&both[1], 180, CONTACT, "");
    let sent = bench.pass(Duration::from_secs(90));
    let cancelled: Vec<_> = sent.iter().filter(|s| s.message.method() == Method::Cancel).collect();
    assert!(!cancelled.is_empty() && cancelled.iter().all(|s| s.flow == both[0].flow), "{sent:?}");
    bench.answer(&both[0], 487, "", "");
    let sent = bench.pass(Duration::from_secs(100));
    assert!(to(&sent, &both[1].flow.remote.to_string()).iter().any(|m| m.method() == Method::Cancel));
    let sent = bench.answer(&both[1], 487, "", "");
    assert_eq!(to(&sent, A)[0].status(), Some(487));
}

/// §16.6 step 11: what is tried after another has its own time.
#[test]
fn a_branch_of_lower_preference_has_a_timer_c_of_its_own() {
    let mut bench = bench(vec![binding(MOBILE, 300), binding(DESK, 1000)]);
    let first = invited(&bench.from(A, &invite("sip:bob@example.com")));
    bench.answer(&first[0], 180, CONTACT, "");
    bench.pass(Duration::from_secs(150));
    let second = invited(&bench.answer(&first[0], 486, "", ""));
    bench.answer(&second[0], 180, CONTACT, "");
    assert!(to(&bench.pass(Duration::from_secs(180)), MOBILE).is_empty());
    assert_eq!(to(&bench.pass(Duration::from_secs(10)), MOBILE)[0].method(), Method::Cancel);
}
