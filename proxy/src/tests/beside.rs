//! Stories of a phone that sits on the address of a trusted trunk: behind one NAT with a PBX, or on one machine with it.

use std::sync::Arc;
use std::time::Duration;

use proto::digest;
use proto::node::Flow;
use proto::sip::{Message, Method, Name};
use proto::tables::Tables;

use crate::config::{Caps, Config, Goes, Origin, Server, Trunk};
use crate::tests::bench::{Bench, Sent, everything_by, invite, next, open, to};
use crate::tests::testing::{address, binding, udp, user};
use crate::trunks::rules::{Act, Direction, Rule};

/// The PBX.
const PBX: &str = "192.0.2.10:5060";
/// A phone at the same address.
const PHONE: &str = "192.0.2.10:40000";
const CARRIER: &str = "198.51.100.1:5060";

/// Everybody needs a password but the PBX, which carries one call, and whose messages get a header. Calls of users go to
/// the carrier, those of trunks are refused with 488.
fn with_pbx() -> Bench {
    let mut config = open();
    config.listeners.iter_mut().for_each(|listener| listener.authenticate = true);
    everything_by(&mut config, Trunk::to("carrier", next("198.51.100.1", 5060)));
    config.routes[0].from = vec![Origin::Users];
    config.routes.push(crate::config::Route {
        from: vec![Origin::Trunks],
        ..crate::config::Route::plain(Goes::Refuse(488))
    });
    let act = Act::Add { name: "X-Pbx".into(), value: "yes".into(), from: None };
    let rule = |on| Rule { on, methods: Vec::new(), status: None, act: act.clone() };
    config.trunks.push(Arc::new(Trunk {
        servers: vec![Server::new(next("192.0.2.10", 5060))],
        trusted: true,
        sources: vec!["192.0.2.10/32".parse().unwrap()],
        caps: Caps { calls: Some(1), per_second: None },
        rules: vec![rule(Direction::In), rule(Direction::Out)],
        ..Trunk::named("pbx")
    }));
    bench_of(config)
}

fn bench_of(config: Config) -> Bench {
    let mut bench = Bench::new(config);
    bench.tables.users = vec![Arc::new(user("a", &["a@example.com"]))];
    bench
}

/// The phone is registered by the path it sends by.
fn registered(bench: &mut Bench) {
    let wall = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + 3600);
    let flow = udp(PHONE);
    let own = proto::tables::Binding { flow, ..binding("sip:a@10.0.0.2", wall) };
    bench.tables.edit_bindings("a@example.com", &mut |bindings| bindings.push(own.clone()));
}

/// An INVITE, or a REGISTER, in a transaction of its own, with more header lines.
fn by_hand(method: &str, number: u32, more: &str) -> String {
    let text = invite("sip:+4930@example.com").replace("z9hG4bKa1", &format!("z9hG4bK{method}{number}"));
    let text = text.replace("INVITE", method).replace("CSeq: 1", &format!("CSeq: {number}"));
    format!("{}{more}", text.replace("c1", &format!("{method}-call")))
}

fn status(sent: &[Sent], who: &str) -> Option<u16> {
    to(sent, who).iter().filter_map(|message| message.status()).find(|status| *status >= 200)
}

fn to_carrier(sent: &[Sent]) -> Option<Message> {
    to(sent, CARRIER).into_iter().find(|message| message.method() == Method::Invite).cloned()
}

/// The header line that answers a challenge, by account a.
fn proof(challenge: &Message, method: &str) -> String {
    let asked = challenge.text(Name::ProxyAuthenticate).or(challenge.text(Name::WwwAuthenticate)).unwrap();
    let request = digest::Request { method, body: b"" };
    let uri = if method == "REGISTER" { "sip:example.com" } else { "sip:+4930@example.com" };
    digest::answer(asked, "a", "secret", uri, request, 1, "cnonce").unwrap()
}

#[test]
fn the_pbx_itself_needs_no_login() {
    let mut bench = with_pbx();
    registered(&mut bench);
    for (number, from) in [(1, PBX), (2, "192.0.2.10:5099")] {
        let call = by_hand("INVITE", number, "").replace("<sip:a@", "<sip:outside@");
        assert_eq!(status(&bench.from(from, &call), from), Some(488), "the trunk's route, from {from}");
    }
}

#[test]
fn a_registered_phone_at_its_address_is_asked_for_its_password_and_is_a_user() {
    let mut bench = with_pbx();
    registered(&mut bench);
    let asked = bench.from(PHONE, &by_hand("INVITE", 1, ""));
    assert_eq!(status(&asked, PHONE), Some(407));
    let more = format!(
        "\nProxy-Authorization: {}\nP-Asserted-Identity: <sip:boss@example.com>",
        proof(to(&asked, PHONE)[0], "INVITE")
    );
    let sent = bench.from(PHONE, &by_hand("INVITE", 2, &more));
    let there = to_carrier(&sent).expect("the users' route");
    assert_eq!(there.text(Name::PAssertedIdentity), None, "what it says of itself is not believed");
    assert!(!String::from_utf8_lossy(there.bytes()).contains("X-Pbx"), "nor do the trunk's rules touch it");
    let sent = bench.answer(
        sent.iter().find(|s| s.message.is_request()).unwrap(),
        200,
        "Contact: <sip:b@198.51.100.1>",
        "",
    );
    let ok = to(&sent, PHONE)[0];
    assert!(!String::from_utf8_lossy(ok.bytes()).contains("X-Pbx"));
    let call = by_hand("INVITE", 3, "").replace("<sip:a@", "<sip:outside@").replace("INVITE-call", "next");
    assert_eq!(status(&bench.from(PBX, &call), PBX), Some(488), "nor does it take the trunk's one place");
}

#[test]
fn an_account_that_proves_itself_from_there_is_a_user_before_it_registers() {
    let mut bench = with_pbx();
    let asked = bench.from("192.0.2.77:5060", &by_hand("INVITE", 1, ""));
    let nonce_elsewhere = proof(to(&asked, "192.0.2.77:5060")[0], "INVITE");
    let forged = by_hand("INVITE", 2, &format!("\nProxy-Authorization: {nonce_elsewhere}"));
    assert_eq!(status(&bench.from(PHONE, &forged), PHONE), Some(488), "proves nothing: still the trunk");
    registered(&mut bench);
    let asked = bench.from(PHONE, &by_hand("INVITE", 3, ""));
    let own = proof(to(&asked, PHONE)[0], "INVITE");
    bench.tables.edit_bindings("a@example.com", &mut |bindings| bindings.clear());
    let sent = bench.from(PHONE, &by_hand("INVITE", 4, &format!("\nProxy-Authorization: {own}")));
    assert!(to_carrier(&sent).is_some(), "{sent:?}");
}

#[test]
fn nobody_registers_from_there_without_a_login_but_the_server_itself() {
    let mut bench = with_pbx();
    let register = |number: u32, more: &str| {
        by_hand("REGISTER", number, more)
            .replace("sip:+4930@example.com SIP", "sip:example.com SIP")
            .replace("To: <sip:+4930@", "To: <sip:a@")
    };
    let asked = bench.from(PHONE, &register(1, ""));
    assert_eq!(status(&asked, PHONE), Some(401));
    let more = format!("\nAuthorization: {}", proof(to(&asked, PHONE)[0], "REGISTER"));
    assert_eq!(status(&bench.from(PHONE, &register(2, &more)), PHONE), Some(200));
    let other = register(3, "").replace("REGISTER-call", "other");
    assert_eq!(status(&bench.from(PBX, &other), PBX), Some(200));
}

#[test]
fn a_call_to_a_phone_there_is_none_to_the_trunk() {
    let mut bench = with_pbx();
    registered(&mut bench);
    let call = by_hand("INVITE", 1, "\nPrivacy: id\nP-Asserted-Identity: <sip:hidden@example.com>");
    let call = call.replace("+4930@", "a@").replace("From: <sip:a@", "From: <sip:x@");
    let sent = bench.by(Flow::udp(udp(PBX).local, address(PBX)), crate::tests::bench::message(&call));
    let there = to(&sent, PHONE).into_iter().find(|message| message.method() == Method::Invite).unwrap();
    assert_eq!(there.text(Name::PAssertedIdentity), None, "a phone is nobody to tell it to");
    let lines = String::from_utf8_lossy(there.bytes()).matches("X-Pbx").count();
    assert_eq!(lines, 1, "as it came from the trunk, not as it goes to one");
}
