//! Attackers and good phones in the world: the former get silence, the latter notice nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use conformance::world::{INTERNET, Mute, NodeId, Realm, Rules, World};
use proto::digest;
use proto::event::Event;
use proto::node::{Input, Transport};
use proto::shield::{Measure, Policy};
use proto::sip::{Message, Name};
use proto::tables::{Secret, User};
use proxy::config::Listener;

const PROXY: &str = "203.0.113.1:5060";
const OFFICE: &str = "198.51.100.1";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

struct Scene {
    world: World,
    office: Realm,
}

/// Somebody at a socket who says what the test wants.
#[derive(Clone, Copy)]
struct Party {
    node: NodeId,
    at: &'static str,
}

impl Scene {
    /// A proxy with two accounts and its shield as shipped, and an office behind a NAT.
    fn new() -> Scene {
        let mut world = World::new(1);
        let at = world.host(INTERNET, &address(PROXY).ip().to_string());
        let listener = |transport| Listener {
            network: 0,
            transport,
            bind: address(PROXY),
            advertise: address(PROXY),
            authenticate: true,
            standing: Default::default(),
            anchor: None,
            srtp: None,
            algorithms: vec![digest::Algorithm::Md5],
        };
        let config = Arc::new(proxy::Config {
            listeners: vec![listener(Transport::Udp)],
            domains: vec!["example.com".into()],
            realm: "example.com".into(),
            ..proxy::Config::default()
        });
        let proxy = world.attach(at, "proxy", &[&format!("udp {PROXY}")], move |birth| {
            proxy::Proxy::new(config.clone(), birth)
        });
        for name in ["alice", "bob"] {
            world.tables(proxy).add_user(User {
                name: name.into(),
                secret: Secret::Password(format!("pw-{name}")),
                aors: vec![format!("{name}@example.com")],
                anchor: None,
                srtp: None,
                latch: None,
                algorithms: Vec::new(),
            });
        }
        world.tables(proxy).guard(Policy::default());
        let nat = world.nat("office", INTERNET, OFFICE, Rules::PORT_RESTRICTED);
        let office = world.inside(nat);
        Scene { world, office }
    }

    fn party(&mut self, realm: Realm, at: &'static str) -> Party {
        let host = self.world.host(realm, &address(at).ip().to_string());
        Party { node: self.world.attach(host, at, &[&format!("udp {at}")], |_| Mute::default()), at }
    }

    /// Sends a REGISTER; the answer, if one comes within a second.
    fn ask(&mut self, party: Party, name: &str, call: &str, more: &str) -> Option<Message> {
        let heard = self.world.node::<Mute>(party.node).heard.len();
        self.world.inject(party.node, party.at, PROXY, register(name, party.at, call, more).as_bytes());
        self.world.run_for(Duration::from_secs(1));
        self.world.node::<Mute>(party.node).heard[heard..].iter().find_map(|input| match input {
            Input::Message { message, .. } => Some(message.clone()),
            _ => None,
        })
    }

    /// Registers with this password, as a phone does; the last status.
    fn register(&mut self, party: Party, name: &str, password: &str) -> Option<u16> {
        let call = format!("{name}-{:?}", self.world.now());
        let challenged = self.ask(party, name, &format!("{call}-1"), "")?;
        let challenge = challenged.text(Name::WwwAuthenticate)?.to_owned();
        let request = digest::Request { method: "REGISTER", body: b"" };
        let credentials =
            digest::answer(&challenge, name, password, "sip:example.com", request, 1, "cnonce").unwrap();
        self.ask(party, name, &format!("{call}-2"), &format!("Authorization: {credentials}\r\n"))?.status()
    }

    fn measures(&self) -> Vec<(String, Measure)> {
        let told = self.world.events().iter().filter_map(|(_, _, event)| match event {
            Event::Shielded { account, measure, .. } => Some((account.to_string(), *measure)),
            _ => None,
        });
        told.collect()
    }
}

fn register(name: &str, at: &str, call: &str, more: &str) -> String {
    format!(
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{call};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:{name}@example.com>;tag=1\r\nTo: <sip:{name}@example.com>\r\nCall-ID: {call}\r\nCSeq: 1 REGISTER\r\n\
         Contact: <sip:{name}@{at}>\r\n{more}Content-Length: 0\r\n\r\n"
    )
}

#[test]
fn a_thief_behind_the_offices_nat_is_shut_out_and_the_office_goes_on() {
    let mut scene = Scene::new();
    let (desk, thief) =
        (scene.party(scene.office, "10.0.0.2:5060"), scene.party(scene.office, "10.0.0.3:5060"));
    assert_eq!(scene.register(desk, "alice", "pw-alice"), Some(200));
    let tries =
        (0..60).take_while(|at| scene.register(thief, &format!("ext{at}"), "1234") == Some(401)).count();
    assert!((10..20).contains(&tries), "the thief had {tries} tries");
    assert!(scene.measures().iter().any(|(_, measure)| matches!(measure, Measure::BannedSource(_))));
    assert_eq!(scene.register(thief, "bob", "guess"), None, "not a word to the thief any more");
    assert_eq!(scene.register(desk, "alice", "pw-alice"), Some(200), "the desk goes on");
    scene.world.run_for(Duration::from_secs(60));
    assert_eq!(
        scene.register(thief, "bob", "pw-bob"),
        Some(200),
        "a ban ends, for a newcomer may come by then"
    );
}

#[test]
fn the_password_of_one_account_is_guessed_seven_times_from_one_place() {
    let mut scene = Scene::new();
    let (thief, home) = (scene.party(INTERNET, "192.0.2.66:5060"), scene.party(INTERNET, "192.0.2.7:5060"));
    let tries = (0..50).take_while(|_| scene.register(thief, "alice", "guess") == Some(401)).count();
    assert_eq!(tries, 6);
    let banned = Measure::BannedAccount(Duration::from_secs(60));
    assert_eq!(scene.measures(), [("alice".to_owned(), banned)]);
    assert_eq!(scene.register(thief, "alice", "pw-alice"), None, "even if he guessed right now");
    assert_eq!(scene.register(home, "alice", "pw-alice"), Some(200), "alice herself, elsewhere");
}

#[test]
fn nobody_is_shut_out_by_who_forges_his_address() {
    let mut scene = Scene::new();
    let (home, forger) = (scene.party(INTERNET, "192.0.2.7:5060"), scene.party(INTERNET, "192.0.2.66:5060"));
    let made_up =
        r#"Digest realm="example.com", nonce="AAAAAAAAAAAAAAAAAAAAAAAA", algorithm=MD5, qop="auth""#;
    let request = digest::Request { method: "REGISTER", body: b"" };
    for at in 0..400 {
        let name = if at % 2 == 0 { "alice".to_owned() } else { format!("ext{at}") };
        let wrong = digest::answer(made_up, &name, "guess", "sip:example.com", request, 1, "c").unwrap();
        let forged =
            register(&name, home.at, &format!("forged-{at}"), &format!("Authorization: {wrong}\r\n"));
        scene.world.inject(forger.node, home.at, PROXY, forged.as_bytes());
    }
    scene.world.run_for(Duration::from_secs(5));
    assert!(
        scene.measures().iter().all(|(_, measure)| *measure == Measure::Limited),
        "{:?}",
        scene.measures()
    );
    assert_eq!(scene.register(home, "alice", "pw-alice"), Some(200));
}

#[test]
fn a_scanner_hears_nothing_and_a_flood_is_told_of_once() {
    let mut scene = Scene::new();
    let (scanner, phone) =
        (scene.party(INTERNET, "192.0.2.66:5060"), scene.party(INTERNET, "192.0.2.7:5060"));
    for at in 0..20 {
        let answer = scene.ask(scanner, "100", &format!("scan-{at}"), "User-Agent: friendly-scanner\r\n");
        assert!(answer.is_none());
        scene.world.run_for(Duration::from_millis(10));
    }
    assert!(scene.measures().len() <= 3, "20 packets in 20 s: {:?}", scene.measures());
    assert!(scene.ask(phone, "100", "phone", "User-Agent: Snom\r\n").is_some());
}
