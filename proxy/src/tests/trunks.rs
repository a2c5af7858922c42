//! Stories of trunks and routes: who is tried when, and what it costs.

use std::time::Duration;

use proto::event::Event;
use proto::node::{Answer, Input, Question, SendError};
use proto::sip::{Method, Name};
use proto::tables::Binding;

use crate::Config;
use crate::config::{Caps, Goes, Origin, Pattern, Route, Server, Trunk};
use crate::tests::bench::{A, B, Bench, Sent, everything_by, in_dialog, invite, next, open, to};
use crate::tests::testing::{address, binding};
use crate::trunks::health::State;
use crate::trunks::rules::{self, Act, Direction, Part, Rule};

/// Servers of carriers.
const ONE: &str = "198.51.100.1:5060";
const TWO: &str = "198.51.100.2:5060";
const CALLEE: &str = "Contact: <sip:b@198.51.100.2>";
const SECOND: Duration = Duration::from_secs(1);

fn server(host: &str, priority: u16) -> Server {
    Server { priority, ..Server::new(next(host, 5060)) }
}

/// One carrier with two servers, the second as a stand-in, sending from its addresses.
fn carrier() -> Trunk {
    let servers = vec![server("198.51.100.1", 1), server("198.51.100.2", 2)];
    let sources = vec!["198.51.100.0/28".parse().unwrap()];
    Trunk { servers, trusted: true, sources, ..Trunk::named("carrier") }
}

/// Everything goes by these trunks, in this order.
fn by(trunks: Vec<Trunk>) -> Config {
    let mut config = open();
    let all = (0..trunks.len()).collect();
    trunks.into_iter().for_each(|trunk| everything_by(&mut config, trunk));
    config.routes.truncate(1);
    config.routes[0].goes = Goes::Trunks(all);
    config
}

fn invited<'s>(sent: &'s [Sent], server: &str) -> &'s Sent {
    let is = |s: &&Sent| s.flow.remote == address(server) && s.message.method() == Method::Invite;
    sent.iter().find(is).unwrap_or_else(|| panic!("no INVITE to {server} in {sent:?}"))
}

fn final_at(sent: &[Sent], who: &str) -> Option<u16> {
    to(sent, who).iter().filter_map(|m| m.status()).find(|status| *status >= 200)
}

#[test]
fn a_silent_server_costs_its_try_timeout_and_no_more() {
    let mut bench = Bench::new(by(vec![carrier()]));
    invited(&bench.from(A, &invite("sip:+4930@example.com")), ONE);
    let sent = bench.pass(4 * SECOND - Duration::from_millis(1));
    assert!(to(&sent, TWO).is_empty());
    let sent = bench.pass(Duration::from_millis(1));
    let sent = bench.answer(invited(&sent, TWO), 200, CALLEE, "");
    assert_eq!(final_at(&sent, A), Some(200));
}

#[test]
fn a_server_given_up_that_wakes_later_is_cancelled() {
    let mut bench = Bench::new(by(vec![carrier()]));
    let one = invited(&bench.from(A, &invite("sip:+4930@example.com")), ONE).clone();
    bench.pass(5 * SECOND);
    let sent = bench.answer(&one, 100, "", "");
    assert_eq!(to(&sent, ONE)[0].method(), Method::Cancel);
}

#[test]
fn a_server_that_says_trying_may_take_its_time() {
    let mut bench = Bench::new(by(vec![carrier()]));
    let one = invited(&bench.from(A, &invite("sip:+4930@example.com")), ONE).clone();
    bench.answer(&one, 100, "", "");
    assert!(to(&bench.pass(30 * SECOND), TWO).is_empty());
}

#[test]
fn trouble_of_a_server_is_tried_elsewhere_at_once_and_trouble_of_the_call_is_not() {
    for (status, elsewhere) in
        [(503, true), (500, true), (504, true), (486, false), (404, false), (603, false)]
    {
        let mut bench = Bench::new(by(vec![carrier()]));
        let one = invited(&bench.from(A, &invite("sip:+4930@example.com")), ONE).clone();
        let sent = bench.answer(&one, status, "", "");
        assert_eq!(to(&sent, TWO).len(), usize::from(elsewhere), "{status}");
        assert_eq!(final_at(&sent, A).is_some(), !elsewhere, "{status}");
    }
}

#[test]
fn a_refused_connection_costs_nothing() {
    let mut bench = Bench::new(by(vec![carrier()]));
    let one = invited(&bench.from(A, &invite("sip:+4930@example.com")), ONE).clone();
    let sent =
        bench.input(Input::SendFailed { ticket: one.ticket, flow: one.flow, error: SendError::Refused });
    invited(&sent, TWO);
    let next_call = bench.from(A, &invite("sip:+4931@example.com").replace("c1", "c2").replace("KA1", "Ka2"));
    invited(&next_call, TWO);
}

#[test]
fn who_has_rung_is_not_tried_elsewhere() {
    let mut bench = Bench::new(by(vec![carrier()]));
    let one = invited(&bench.from(A, &invite("sip:+4930@example.com")), ONE).clone();
    bench.answer(&one, 180, CALLEE, "");
    assert_eq!(final_at(&bench.answer(&one, 500, "", ""), A), Some(500));
}

#[test]
fn when_nobody_takes_it_the_caller_hears_why() {
    let mut bench = Bench::new(by(vec![carrier()]));
    let one = invited(&bench.from(A, &invite("sip:+4930@example.com")), ONE).clone();
    let sent = bench.answer(&one, 500, "", "");
    let sent = bench.answer(invited(&sent, TWO), 503, "", "");
    assert_eq!(final_at(&sent, A), Some(500));
    bench.pass(40 * SECOND);
    assert_eq!(bench.status(), Default::default());
}

#[test]
fn a_caller_who_hangs_up_between_two_servers_is_done() {
    let mut bench = Bench::new(by(vec![carrier()]));
    bench.from(A, &invite("sip:+4930@example.com"));
    let sent = bench.from(A, &invite("sip:+4930@example.com").replace("INVITE", "CANCEL"));
    assert_eq!(final_at(&sent, A), Some(200));
    assert!(to(&bench.pass(10 * SECOND), TWO).is_empty());
}

/// The probes to a server within a time, answered with this status if any.
fn probed(bench: &mut Bench, time: Duration, status: Option<u16>) -> usize {
    // A retransmission is the same probe.
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..time.as_secs() {
        let sent = bench.pass(SECOND);
        let probes: Vec<_> = sent.into_iter().filter(|s| s.message.method() == Method::Options).collect();
        for probe in probes.iter().filter(|s| s.flow.remote == address(ONE)) {
            seen.insert(probe.message.call_id().to_owned());
            if let Some(status) = status {
                bench.answer(probe, status, "", "");
            }
        }
        for probe in probes.iter().filter(|s| s.flow.remote == address(TWO)) {
            bench.answer(probe, 200, "", "");
        }
    }
    seen.len()
}

fn states(bench: &Bench) -> Vec<bool> {
    let up = |event: &Event| match event {
        Event::TrunkServer { server, up, .. } if &**server == "198.51.100.1:5060" => Some(*up),
        _ => None,
    };
    bench.events.iter().filter_map(up).collect()
}

#[test]
fn servers_are_probed_and_what_does_not_answer_goes_last() {
    let mut bench = Bench::new(by(vec![Trunk { probe: 30 * SECOND, ..carrier() }]));
    bench.input(Input::Wake);
    assert!((2..=4).contains(&probed(&mut bench, 70 * SECOND, Some(200))));
    assert_eq!(states(&bench), [true]);
    probed(&mut bench, 60 * SECOND, None);
    assert_eq!(states(&bench), [true, false]);
    let now = bench.now();
    let why = bench.proxy.trunks(now)[0].servers[0].why.clone();
    assert_eq!(&*why, "no answer to OPTIONS within 4 s");
    let call = invited(&bench.from(A, &invite("sip:+4930@example.com")), TWO).clone();
    bench.answer(&call, 486, "", "");
    probed(&mut bench, 60 * SECOND, Some(405));
    assert_eq!(states(&bench), [true, false, true], "whatever it answers, it is there");
}

#[test]
fn one_lost_probe_is_no_reason() {
    let mut bench = Bench::new(by(vec![Trunk { probe: 30 * SECOND, ..carrier() }]));
    bench.input(Input::Wake);
    probed(&mut bench, 3 * SECOND, Some(200));
    let lost = (0..60).find(|_| probed(&mut bench, SECOND, None) > 0);
    assert!(lost.is_some());
    probed(&mut bench, 5 * SECOND, None);
    probed(&mut bench, 40 * SECOND, Some(200));
    assert_eq!(states(&bench), [true]);
}

#[test]
fn a_server_that_is_not_probed_is_left_alone_for_a_while_after_it_failed() {
    let mut bench = Bench::new(by(vec![carrier()]));
    bench.from(A, &invite("sip:+4930@example.com"));
    bench.pass(5 * SECOND);
    let state = |bench: &Bench| bench.proxy.trunks(bench.now())[0].servers[0].state;
    assert_eq!(state(&bench), State::Down);
    bench.pass(35 * SECOND);
    assert_eq!(state(&bench), State::Unknown);
}

#[test]
fn another_configuration_keeps_what_is_known_and_still_tries_again() {
    let mut bench = Bench::new(by(vec![carrier()]));
    bench.from(A, &invite("sip:+4930@example.com"));
    bench.pass(5 * SECOND);
    bench.proxy.reconfigure(by(vec![carrier()]).into());
    bench.input(Input::Wake);
    let state = |bench: &Bench| bench.proxy.trunks(bench.now())[0].servers[0].state;
    assert_eq!(state(&bench), State::Down);
    bench.pass(35 * SECOND);
    assert_eq!(state(&bench), State::Unknown);
}

#[test]
fn a_full_trunk_is_passed_over_until_a_call_ends() {
    let caps = Caps { calls: Some(1), per_second: None };
    let narrow = Trunk { servers: vec![server("198.51.100.1", 1)], caps, ..Trunk::named("narrow") };
    let wide = Trunk { servers: vec![server("198.51.100.2", 1)], ..Trunk::named("wide") };
    let mut bench = Bench::new(by(vec![narrow, wide]));
    let first = invited(&bench.from(A, &invite("sip:+4930@example.com")), ONE).clone();
    let sent = bench.answer(&first, 200, CALLEE, "");
    let ok = to(&sent, A)[0].clone();
    let another = |n: u8| {
        invite("sip:+4931@example.com").replace("c1", &format!("c{n}")).replace("bKa1", &format!("bKa{n}"))
    };
    invited(&bench.from(A, &another(2)), TWO);
    let status = &bench.proxy.trunks(bench.now())[0];
    assert_eq!((status.calls, status.most, status.full), (1, Some(1), 1));
    let sent = bench.from(A, &in_dialog("BYE", 2, &ok));
    bench.answer(&sent[0], 200, "", "");
    invited(&bench.from(A, &another(3)), ONE);
}

#[test]
fn a_trunk_that_has_its_limit_of_calls_sends_no_more() {
    let caps = Caps { calls: Some(1), per_second: None };
    let mut config = by(vec![Trunk { caps, ..carrier() }]);
    config.routes.clear();
    let mut bench = Bench::new(config);
    register(&mut bench, "alice");
    let call = |n: u8| invite("sip:alice@example.com").replace("c1", &format!("c{n}")).replace(A, ONE);
    invited(&bench.from(ONE, &call(1)), B);
    let sent = bench.from(ONE, &call(2));
    assert_eq!(final_at(&sent, ONE), Some(503));
}

fn register(bench: &mut Bench, name: &str) {
    let wall = bench.proxy.birth.wall + 1000 * SECOND;
    let flow = proto::node::Flow::udp(address(crate::tests::bench::PROXY), address(B));
    let own = Binding { flow, ..binding(&format!("sip:{name}@{B}"), wall) };
    bench.tables.bindings.insert(format!("{name}@example.com"), vec![own]);
}

/// A DID: the carrier calls a number, a user of ours answers.
#[test]
fn a_number_from_a_trunk_reaches_a_user() {
    let mut config = by(vec![carrier()]);
    let did = Route {
        user: Pattern::Exact("+49301234".into()),
        from: vec![Origin::Trunks],
        goes: Goes::User("sip:alice@example.com".into()),
        ..config.routes[0].clone()
    };
    config.routes.insert(0, did);
    let mut bench = Bench::new(config);
    register(&mut bench, "alice");
    let from_carrier = invite("sip:+49301234@203.0.113.1").replace(A, ONE);
    let sent = bench.from(ONE, &from_carrier);
    assert_eq!(invited(&sent, B).message.request_uri(), format!("sip:alice@{B}"));
    invited(&bench.from(A, &invite("sip:+49301234@203.0.113.1").replace("c1", "c2")), ONE);
}

#[test]
fn a_call_does_not_go_back_to_the_trunk_it_came_from() {
    let mut bench = Bench::new(by(vec![carrier()]));
    let sent = bench.from(ONE, &invite("sip:+4930@example.com").replace(A, ONE));
    assert_eq!(final_at(&sent, ONE), Some(404));
    let mut config = by(vec![carrier()]);
    config.routes[0].from = vec![Origin::Trunk("carrier".into())];
    let sent = Bench::new(config).from(ONE, &invite("sip:+4930@example.com").replace(A, ONE));
    assert_eq!(sent.iter().filter(|s| s.message.method() == Method::Invite).count(), 1);
}

#[test]
fn the_number_and_the_domain_are_written_as_the_trunk_wants_them() {
    let mut config = by(vec![Trunk { domain: Some("carrier.example".into()), ..carrier() }]);
    (config.routes[0].strip, config.routes[0].prefix) = (1, "00".into());
    let mut bench = Bench::new(config);
    let sent = bench.from(A, &invite("sip:+4930@example.com"));
    assert_eq!(invited(&sent, ONE).message.request_uri(), "sip:004930@carrier.example");
    assert_eq!(invited(&sent, ONE).message.text(Name::To), Some("<sip:+4930@example.com>"));
}

/// RFC 6116: the number's own URI first, then the carrier.
#[test]
fn a_number_that_dns_knows_is_reached_directly_and_by_the_carrier_if_that_fails() {
    let mut config = by(vec![carrier()]);
    config.routes[0].goes = Goes::Enum("e164.arpa".into(), vec![0]);
    for known in [true, false] {
        let mut bench = Bench::new(config.clone());
        bench.from(A, &invite("sip:+4930@example.com"));
        let (ticket, question) = bench.questions.pop().expect("DNS is asked");
        let (domain, number) = ("0.3.9.4.e164.arpa".to_owned(), "+4930".to_owned());
        assert_eq!(question, Question::Enum { domain, number });
        let answer = match known {
            true => Answer::Uris(vec![format!("sip:office@{B}")]),
            false => Answer::Nothing("no such name".into()),
        };
        let sent = bench.input(Input::Answer { ticket, answer });
        if !known {
            invited(&sent, ONE);
            continue;
        }
        let direct = invited(&sent, B).clone();
        assert_eq!(direct.message.request_uri(), format!("sip:office@{B}"));
        invited(&bench.answer(&direct, 503, "", ""), ONE);
    }
}

#[test]
fn a_refusing_route_refuses() {
    let mut config = by(vec![carrier()]);
    config.routes[0].goes = Goes::Refuse(403);
    assert_eq!(final_at(&Bench::new(config).from(A, &invite("sip:0900@example.com")), A), Some(403));
}

fn rule(on: Direction, part: &str, find: &str, with: &str) -> Rule {
    let (part, find) = (Part::named(part), rules::expression(find).unwrap());
    Rule { on, methods: Vec::new(), status: None, act: Act::Rewrite { part, find, with: with.into() } }
}

/// A caller whom the trunk knows by its main number: what goes there says so, what comes back says what was asked.
#[test]
fn a_caller_is_shown_to_a_trunk_as_its_rules_say_and_hears_its_own_name() {
    let main = rule(Direction::Out, "From", "^.*$", "<sip:+4930000@carrier.example>");
    let mut bench = Bench::new(by(vec![Trunk { rules: vec![main], ..carrier() }]));
    let out = invited(&bench.from(A, &invite("sip:+4930@example.com")), ONE).clone();
    assert_eq!(out.message.text(Name::From), Some("<sip:+4930000@carrier.example>;tag=caller"));
    let sent = bench.answer(&out, 200, CALLEE, "");
    let ok = to(&sent, A)[0].clone();
    assert_eq!(ok.text(Name::From), Some("<sip:a@example.com>;tag=caller"));
    let bye = bench.from(A, &in_dialog("BYE", 2, &ok).replace(B, TWO));
    assert_eq!(bye[0].message.text(Name::From), Some("<sip:+4930000@carrier.example>;tag=caller"));
}

#[test]
fn what_a_trunk_writes_is_read_as_its_rules_say() {
    let rules = vec![
        rule(Direction::In, "request-uri", r"^sip:00(\d+)@(.*)$", "sip:+$1@$2"),
        rule(Direction::In, "From", r"^<sip:00(\d+)@.*$", "<sip:+$1@example.com>"),
    ];
    let mut config = by(vec![Trunk { rules, ..carrier() }]);
    config.routes[0].user = Pattern::Exact("+4930".into());
    config.routes[0].goes = Goes::User("sip:alice@example.com".into());
    let mut bench = Bench::new(config);
    register(&mut bench, "alice");
    let call = invite("sip:004930@203.0.113.1").replace(A, ONE).replace("sip:a@example.com", "sip:004311@x");
    let rung = invited(&bench.from(ONE, &call), B).clone();
    assert_eq!(rung.message.text(Name::From), Some("<sip:+4311@example.com>;tag=caller"));
    let sent = bench.answer(&rung, 486, "", "");
    let busy = to(&sent, ONE).into_iter().find(|m| m.status() == Some(486)).unwrap();
    assert_eq!(busy.text(Name::From), Some("<sip:004311@x>;tag=caller"));
}
