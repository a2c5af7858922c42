//! Stories of us as a trunk's client: registering there (RFC 3261 §10.2), and answering its challenges (§22).

use std::time::Duration;

use proto::digest;
use proto::event::Event;
use proto::node::Input;
use proto::sip::{Message, Method, Name};
use proto::tables::Secret;

use crate::Config;
use crate::config::{Server, Trunk};
use crate::tests::bench::{A, Bench, Sent, everything_by, in_dialog, invite, next, open, to};
use crate::trunks::login::Credentials;
use crate::trunks::trunk::Registering;

const CARRIER: &str = "198.51.100.1:5060";
const SECOND: Duration = Duration::from_secs(1);
const CONTACT: &str = "Contact: <sip:b@198.51.100.1:5060>";

fn carrier(registers: bool) -> Config {
    let mut config = open();
    let credentials = Credentials { user: "4711".into(), password: "secret".into(), realm: None };
    let register = Registering {
        user: "4711".into(),
        domain: "carrier.example".into(),
        registrar: next("198.51.100.1", 5060),
        expires: 600,
        contact: "4711".into(),
    };
    let trunk = Trunk {
        servers: vec![Server::new(next("198.51.100.1", 5060))],
        credentials: Some(credentials),
        register: registers.then_some(register),
        ..Trunk::named("carrier")
    };
    everything_by(&mut config, trunk);
    config
}

fn challenge(nonce: &str, stale: bool) -> String {
    let value = digest::challenge("carrier.example", nonce, digest::Algorithm::Md5, stale);
    format!("WWW-Authenticate: {value}")
}

/// Whether a request proves the password, by the answer to a challenge with this nonce.
fn proves(message: &Message, header: Name, nonce: &str) -> bool {
    let Some(value) = message.text(header) else { return false };
    let method = message.method();
    let request = digest::Request { method: method.as_str(), body: message.body() };
    value.contains(nonce) && digest::verify(value, &Secret::Password("secret".into()), request)
}

fn register_among(sent: &[Sent]) -> Option<Sent> {
    sent.iter().find(|s| s.message.method() == Method::Register && s.message.is_request()).cloned()
}

/// The first REGISTER within a time.
fn registering(bench: &mut Bench, within: Duration) -> Option<Sent> {
    let steps = within.as_millis() as u64 / 100;
    (0..steps).find_map(|_| register_among(&bench.pass(Duration::from_millis(100))))
}

fn first(bench: &mut Bench) -> Sent {
    bench.input(Input::Wake);
    registering(bench, SECOND).expect("it registers at once")
}

fn standing(bench: &Bench) -> (bool, String) {
    let standing = bench.proxy.trunks(bench.now())[0].standing.clone().expect("it registers");
    (standing.registered, standing.why.to_string())
}

#[test]
fn registers_with_digest_and_again_before_the_time_is_over() {
    let mut bench = Bench::new(carrier(true));
    let asked = first(&mut bench);
    assert_eq!(asked.flow.remote.to_string(), CARRIER);
    assert_eq!(asked.message.request_uri(), "sip:carrier.example");
    assert_eq!(asked.message.text(Name::Contact), Some("<sip:4711@203.0.113.1:5060;transport=udp>"));
    let sent = bench.answer(&asked, 401, &challenge("n1", false), "");
    let proven = register_among(&sent).expect("it answers the challenge");
    assert!(proves(&proven.message, Name::Authorization, "n1"));
    assert!(proven.message.cseq().unwrap().number > asked.message.cseq().unwrap().number);
    bench.answer(&proven, 200, "Expires: 300", "");
    assert_eq!(standing(&bench), (true, "200 to REGISTER".into()));
    assert!(registering(&mut bench, 200 * SECOND).is_none());
    let refresh = registering(&mut bench, 90 * SECOND).expect("before 300 s are over");
    assert!(proves(&refresh.message, Name::Authorization, "n1"), "without being asked");
    let sent = bench.answer(&refresh, 401, &challenge("n2", true), "");
    let again = register_among(&sent).expect("a stale nonce is no refusal");
    assert!(proves(&again.message, Name::Authorization, "n2"));
}

#[test]
fn asks_for_longer_when_the_registrar_wants_that() {
    let mut bench = Bench::new(carrier(true));
    let asked = first(&mut bench);
    let longer = register_among(&bench.answer(&asked, 423, "Min-Expires: 1800", "")).unwrap();
    assert_eq!(longer.message.expires(), Some(1800));
}

#[test]
fn a_wrong_password_is_tried_again_ever_more_slowly_and_told_once() {
    let mut bench = Bench::new(carrier(true));
    let mut asked = first(&mut bench);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let proven = register_among(&bench.answer(&asked, 401, &challenge("n1", false), "")).unwrap();
        bench.answer(&proven, 401, &challenge("n2", false), "");
        assert_eq!(standing(&bench), (false, "401: the credentials are refused".into()));
        let since = bench.now();
        asked = registering(&mut bench, 100 * SECOND).expect("it tries again");
        waits.push((bench.now() - since).as_secs_f32());
    }
    assert!(waits[0] < 6.0 && waits[1] > 8.0 && waits[2] > 17.0, "{waits:?}");
    let told = bench.events.iter().filter(|event| matches!(event, Event::TrunkRegistered { .. }));
    assert_eq!(told.count(), 1);
}

#[test]
fn a_silent_registrar_is_asked_again() {
    let mut bench = Bench::new(carrier(true));
    first(&mut bench);
    bench.pass(11 * SECOND);
    assert_eq!(standing(&bench), (false, "the registrar does not answer".into()));
    assert!(registering(&mut bench, 6 * SECOND).is_some());
}

/// §22.3: the CSeq goes up, and the caller hears nothing of it.
#[test]
fn a_challenged_call_goes_out_with_credentials_and_its_own_numbers() {
    let mut bench = Bench::new(carrier(false));
    let sent = bench.from(A, &invite("sip:+4930@example.com"));
    let asked = sent.iter().find(|s| s.message.method() == Method::Invite).unwrap().clone();
    let value = challenge("n1", false).replace("WWW-", "Proxy-");
    let sent = bench.answer(&asked, 407, &value, "");
    let methods: Vec<_> = to(&sent, CARRIER).iter().map(|m| m.method().as_str().to_owned()).collect();
    assert_eq!(methods, ["ACK", "INVITE"]);
    let proven = sent.iter().find(|s| s.message.method() == Method::Invite).unwrap().clone();
    assert!(proves(&proven.message, Name::ProxyAuthorization, "n1"));
    assert_eq!(proven.message.text(Name::CSeq), Some("2 INVITE"));
    let branch = |sent: &Sent| sent.message.via().unwrap().branch().to_owned();
    assert_ne!(branch(&proven), branch(&asked));
    let sent = bench.answer(&proven, 200, CONTACT, "");
    let ok = to(&sent, A)[0].clone();
    assert_eq!(ok.text(Name::CSeq), Some("1 INVITE"));
    let in_dialog = |method, number| in_dialog(method, number, &ok).replace("198.51.100.20:5070", CARRIER);
    let ack = bench.from(A, &in_dialog("ACK", 1));
    assert_eq!(to(&ack, CARRIER)[0].text(Name::CSeq), Some("2 ACK"));
    bench.restart();
    let bye = bench.from(A, &in_dialog("BYE", 2));
    assert_eq!(to(&bye, CARRIER)[0].text(Name::CSeq), Some("3 BYE"));
    let sent = bench.answer(&bye[0], 200, "", "");
    assert_eq!(to(&sent, A)[0].text(Name::CSeq), Some("2 BYE"));
}

#[test]
fn credentials_that_are_refused_are_not_offered_again() {
    let mut bench = Bench::new(carrier(false));
    let sent = bench.from(A, &invite("sip:+4930@example.com"));
    let asked = sent.iter().find(|s| s.message.method() == Method::Invite).unwrap().clone();
    let sent = bench.answer(&asked, 401, &challenge("n1", false), "");
    let proven = sent.iter().find(|s| s.message.method() == Method::Invite).unwrap().clone();
    let sent = bench.answer(&proven, 401, &challenge("n2", false), "");
    let refused = to(&sent, A)[0].clone();
    assert_eq!((refused.status(), refused.text(Name::CSeq)), (Some(401), Some("1 INVITE")));
}

/// A phone's re-INVITE may be challenged, too; what follows counts on from there.
#[test]
fn a_challenge_inside_a_dialog_is_answered() {
    let mut bench = Bench::new(carrier(false));
    let sent = bench.from(A, &invite("sip:+4930@example.com"));
    let asked = sent.iter().find(|s| s.message.method() == Method::Invite).unwrap().clone();
    let sent = bench.answer(&asked, 200, CONTACT, "");
    let ok = to(&sent, A)[0].clone();
    let in_dialog = |method, number| in_dialog(method, number, &ok).replace("198.51.100.20:5070", CARRIER);
    let bye = bench.from(A, &in_dialog("INVITE", 2));
    let bye = bye.iter().find(|s| s.message.method() == Method::Invite).unwrap().clone();
    let sent = bench.answer(&bye, 401, &challenge("n1", false), "");
    let again = sent.iter().find(|s| s.message.method() == Method::Invite).unwrap().clone();
    assert_eq!(again.message.text(Name::CSeq), Some("3 INVITE"));
    bench.answer(&again, 200, CONTACT, "");
    let bye = bench.from(A, &in_dialog("BYE", 3));
    assert_eq!(to(&bye, CARRIER)[0].text(Name::CSeq), Some("4 BYE"));
}
