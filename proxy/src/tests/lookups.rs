//! Stories of a route that asks a server of the operator's by HTTP, before a carrier that takes everything.

use std::sync::Arc;
use std::time::Duration;

use proto::lookup::{Advice, Lookup};
use proto::node::{Answer, Input, Question};
use proto::sip::Name;

use crate::Config;
use crate::config::{Goes, Pattern, Route, Server, Trunk};
use crate::tests::bench::{A, B, Bench, Sent, everything_by, invite, next, open, to};

const CARRIER: &str = "198.51.100.1:5060";
const SPECIAL: &str = "198.51.100.2:5060";
const URI: &str = "sip:+4930@example.com";

fn trunk(name: &str, host: &str) -> Trunk {
    Trunk { servers: vec![Server::new(next(host, 5060))], ..Trunk::named(name) }
}

/// The asking route first, with these trunks of its own; then everything by the carrier.
fn config(own: Vec<usize>) -> Config {
    let mut config = open();
    everything_by(&mut config, trunk("carrier", "198.51.100.1"));
    everything_by(&mut config, trunk("special", "198.51.100.2"));
    let second = Duration::from_secs(1);
    let url = "http://routes.example/?to={number}&from={from}&by={trunk}&at={source}".to_owned();
    let lookup = Lookup { url, token: None, timeout: second, cache: second, negative: second };
    let asks = Route {
        user: Pattern::Prefix("+".into()),
        strip: 1,
        prefix: "00".into(),
        ..Route::plain(Goes::Http(Arc::new(lookup), own))
    };
    config.routes.insert(0, asks);
    config
}

/// A call, and what the server says of it.
fn said(config: Config, advice: Answer) -> Vec<Sent> {
    let mut bench = Bench::new(config);
    bench.from(A, &invite(URI));
    let (ticket, question) = bench.questions.pop().expect("the server is asked");
    let Question::Http { url, .. } = question else { panic!("{question:?}") };
    assert_eq!(
        url, "http://routes.example/?to=004930&from=sip%3Aa%40example.com&by=&at=192.0.2.10",
        "as the route makes the number"
    );
    bench.input(Input::Answer { ticket, answer: advice })
}

fn advice(advice: Advice) -> Answer {
    Answer::Advice(advice)
}

#[track_caller]
fn goes_to(sent: &[Sent], server: &str, uri: &str) {
    let there = to(sent, server);
    let uris: Vec<&str> = there.iter().map(|message| message.request_uri()).collect();
    assert_eq!(uris, [uri], "{sent:?}");
}

#[test]
fn a_call_goes_where_the_server_says() {
    let uris = vec![format!("sip:desk@{B}"), "sip:later@192.0.2.99".into()];
    goes_to(&said(config(vec![]), advice(Advice::Targets(uris))), B, &format!("sip:desk@{B}"));
    let names = vec!["nobody".into(), "special".into()];
    let plain = Advice::Trunks { names: names.clone(), number: None };
    goes_to(&said(config(vec![]), advice(plain)), SPECIAL, "sip:004930@example.com");
    let other = Advice::Trunks { names, number: Some("77".into()) };
    goes_to(&said(config(vec![]), advice(other)), SPECIAL, "sip:77@example.com");
}

#[test]
fn a_refusal_comes_with_its_reason() {
    let reason = Some("no \"credit\"\r\nEvil: header".to_owned());
    let sent = said(config(vec![]), advice(Advice::Refuse { code: 402, reason }));
    let refusal = to(&sent, A).pop().expect("the caller hears so");
    assert_eq!(refusal.status(), Some(402));
    assert_eq!(refusal.text(Name::Warning), Some("399 example.com \"no creditEvil: header\""));
}

#[test]
fn a_server_that_says_nothing_leaves_it_to_the_next_route_or_to_its_own_trunks() {
    let nothing = || Answer::Nothing("too slow".into());
    goes_to(&said(config(vec![]), nothing()), CARRIER, URI);
    goes_to(&said(config(vec![1]), nothing()), SPECIAL, "sip:004930@example.com");
    let mut alone = config(vec![]);
    alone.routes.truncate(1);
    assert_eq!(to(&said(alone, nothing()), A).pop().and_then(|answer| answer.status()), Some(404));
}

#[test]
fn names_nobody_knows_are_our_mistake() {
    let unknown = Advice::Trunks { names: vec!["nobody".into()], number: None };
    assert_eq!(to(&said(config(vec![]), advice(unknown)), A).pop().unwrap().status(), Some(500));
    let broken = Advice::Targets(vec!["not a uri".into()]);
    assert_eq!(to(&said(config(vec![]), advice(broken)), A).pop().unwrap().status(), Some(404));
}

/// The second URI is the first one's stand-in.
#[test]
fn targets_are_tried_in_turn() {
    let mut bench = Bench::new(config(vec![]));
    bench.from(A, &invite(URI));
    let (ticket, _) = bench.questions.pop().unwrap();
    let answer = advice(Advice::Targets(vec![format!("sip:one@{B}"), "sip:two@192.0.2.99:5060".into()]));
    let sent = bench.input(Input::Answer { ticket, answer });
    let first = sent.iter().find(|sent| sent.message.is_request()).unwrap().clone();
    let sent = bench.answer(&first, 503, "", "");
    goes_to(
        &sent.into_iter().filter(|s| s.message.method().as_str() == "INVITE").collect::<Vec<_>>(),
        "192.0.2.99:5060",
        "sip:two@192.0.2.99:5060",
    );
}

#[test]
fn who_gives_up_while_the_server_thinks_is_not_called_after_all() {
    let mut bench = Bench::new(config(vec![]));
    let call = invite(URI);
    bench.from(A, &call);
    let (ticket, _) = bench.questions.pop().unwrap();
    let sent = bench.from(A, &call.replace("INVITE", "CANCEL"));
    let heard: Vec<_> = to(&sent, A).iter().filter_map(|message| message.status()).collect();
    assert_eq!(heard, [200, 487]);
    let answer = advice(Advice::Targets(vec![format!("sip:desk@{B}")]));
    assert!(bench.input(Input::Answer { ticket, answer }).is_empty());
    assert_eq!(bench.status().calls, 0);
}

#[test]
fn a_dry_run_tells_what_would_be_asked_and_what_comes_if_nothing_is_said() {
    let mut bench = Bench::new(config(vec![]));
    let plan = bench.proxy.plan(bench.now(), "+4930", "user", &bench.tables).unwrap();
    assert!(plan.steps.iter().any(|step| step.contains("asks by HTTP")), "{plan:?}");
    assert!(plan.steps.last().unwrap().ends_with("decides"), "{plan:?}");
    let ways: Vec<&str> = plan.ways.iter().map(|way| &*way.to).collect();
    assert_eq!(ways.len(), 2, "{plan:?}");
    assert!(ways[0].starts_with("whatever http://routes.example/?to=004930&from=&"), "{plan:?}");
    assert_eq!(ways[1], CARRIER);
}
