//! RFC 3261 §22, RFC 7616 and RFC 8760, a sentence each.

use std::time::Duration;

use proto::digest::answer;
use proto::shield::{Measure, Policy, why};
use proto::sip::Auth;

use super::*;
use crate::config::Trunk;
use crate::tests::testing::{Clock, Maps, config, message, udp, user};

const SOURCE: &str = "198.51.100.7:5060";

struct Scene {
    config: Config,
    gate: Gate,
    clock: Clock,
    tables: Maps,
}

fn scene() -> Scene {
    let config = config();
    let tables = Maps::with_users([user("alice", &["alice@"]), user("desk", &["desk@", "boss@example.com"])]);
    Scene { gate: Gate::new(&config, 0), config, clock: Clock::new(), tables }
}

impl Scene {
    fn check_from(&mut self, source: &str, request: &Message, face: Face) -> Verdict {
        self.gate.check(
            self.clock.now(),
            &udp(source),
            request,
            face,
            Reply::tagged("totag"),
            &self.config,
            &mut self.tables,
        )
    }

    fn guard(&mut self, policy: Policy) {
        self.tables.guard(self.clock.now().at, policy);
    }

    /// Alice calls, with the right password, from where nobody has guessed.
    fn from_elsewhere(&mut self) -> Verdict {
        const ELSEWHERE: &str = "198.51.100.99:5060";
        let challenge = challenge_of(
            self.check_from(ELSEWHERE, &invite("alice", None), Face::Proxy),
            Name::ProxyAuthenticate,
        );
        self.check_from(ELSEWHERE, &invite("alice", Some(&alice(&challenge, 1))), Face::Proxy)
    }

    fn invite(&mut self, authorization: Option<&str>) -> Verdict {
        self.check_from(SOURCE, &invite("alice", authorization), Face::Proxy)
    }

    fn register(&mut self, aor: &str, authorization: Option<&str>) -> Verdict {
        self.check_from(SOURCE, &register(aor, aor, authorization), Face::Registrar)
    }

    /// The challenge to an INVITE without credentials.
    fn challenged(&mut self) -> String {
        challenge_of(self.invite(None), Name::ProxyAuthenticate)
    }
}

fn invite(from: &str, authorization: Option<&str>) -> Message {
    let authorization = authorization.map(|a| format!("Proxy-Authorization: {a}\n")).unwrap_or_default();
    message(&format!(
        "INVITE sip:bob@example.com SIP/2.0
        Via: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1
        From: <sip:{from}@example.com>;tag=1
        To: <sip:bob@example.com>
        Call-ID: a@b
        CSeq: 1 INVITE
        {authorization}Content-Length: 0"
    ))
}

fn register(from: &str, to: &str, authorization: Option<&str>) -> Message {
    let authorization = authorization.map(|a| format!("Authorization: {a}\n")).unwrap_or_default();
    message(&format!(
        "REGISTER sip:example.com SIP/2.0
        Via: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1
        From: <sip:{from}@example.com>;tag=1
        To: <sip:{to}@example.com>
        Call-ID: a@b
        CSeq: 1 REGISTER
        {authorization}Content-Length: 0"
    ))
}

fn challenge_of(verdict: Verdict, name: Name) -> String {
    let Verdict::Challenge(response) = verdict else { panic!("{verdict:?} is no challenge") };
    let response = response.finish();
    response.text(name).unwrap().to_string()
}

fn credentials(challenge: &str, name: &str, password: &str, uri: &str, method: &str, count: u32) -> String {
    let request = digest::Request { method, body: b"" };
    answer(challenge, name, password, uri, request, count, "cnonce").unwrap()
}

/// Alice's credentials for the INVITE of [`invite`].
fn alice(challenge: &str, count: u32) -> String {
    credentials(challenge, "alice", "secret", "sip:bob@example.com", "INVITE", count)
}

#[track_caller]
fn is_accepted(verdict: Verdict, name: Option<&str>) {
    let Verdict::Accepted(user) = verdict else { panic!("{verdict:?}") };
    assert_eq!(user.map(|user| user.name.clone()).as_deref(), name);
}

#[track_caller]
fn is_silenced(verdict: Verdict, because: &str) {
    let Verdict::Shielded { later: false, why, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(why, because);
}

#[track_caller]
fn is_refused(verdict: Verdict, expected: u16) {
    let Verdict::Refuse { status, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(status, expected);
}

fn is_stale(verdict: Verdict) -> bool {
    let text = challenge_of(verdict, Name::ProxyAuthenticate).to_ascii_lowercase();
    text.contains("stale=true")
}

// §22.1, §22.2: user to registrar.

#[test]
fn a_register_without_credentials_is_answered_401() {
    let Verdict::Challenge(response) = scene().register("alice", None) else { panic!() };
    let response = response.finish();
    assert_eq!(response.status(), Some(401));
    assert!(response.text(Name::WwwAuthenticate).is_some());
    assert!(response.text(Name::ProxyAuthenticate).is_none());
}

#[test]
fn a_register_with_the_right_password_is_accepted_as_the_account() {
    let mut scene = scene();
    let challenge = challenge_of(scene.register("alice", None), Name::WwwAuthenticate);
    let right = credentials(&challenge, "alice", "secret", "sip:example.com", "REGISTER", 1);
    is_accepted(scene.register("alice", Some(&right)), Some("alice"));
}

#[test]
fn a_register_for_an_address_of_somebody_else_is_403() {
    let mut scene = scene();
    let challenge = challenge_of(scene.register("alice", None), Name::WwwAuthenticate);
    let mut with = |from: &str, to: &str, count| {
        let right = credentials(&challenge, "alice", "secret", "sip:example.com", "REGISTER", count);
        scene.check_from(SOURCE, &register(from, to, Some(&right)), Face::Registrar)
    };
    is_refused(with("alice", "bob", 1), 403);
    is_refused(with("bob", "alice", 2), 403);
    is_accepted(with("alice", "alice", 3), Some("alice"));
}

#[test]
fn an_account_with_permission_registers_for_a_third_party() {
    let mut scene = scene();
    let challenge = challenge_of(scene.register("desk", None), Name::WwwAuthenticate);
    let right = credentials(&challenge, "desk", "secret", "sip:example.com", "REGISTER", 1);
    is_accepted(
        scene.check_from(SOURCE, &register("desk", "boss", Some(&right)), Face::Registrar),
        Some("desk"),
    );
}

// §22.3: user to proxy.

#[test]
fn an_invite_without_credentials_is_answered_407() {
    let Verdict::Challenge(response) = scene().invite(None) else { panic!() };
    let response = response.finish();
    assert_eq!((response.status(), response.to_tag()), (Some(407), "totag"));
    assert!(response.text(Name::ProxyAuthenticate).is_some());
}

#[test]
fn an_invite_with_the_right_password_is_accepted_as_the_account() {
    let mut scene = scene();
    let challenge = scene.challenged();
    is_accepted(scene.invite(Some(&alice(&challenge, 1))), Some("alice"));
}

#[test]
fn from_must_belong_to_the_account() {
    let mut scene = scene();
    let challenge = scene.challenged();
    is_refused(scene.check_from(SOURCE, &invite("bob", Some(&alice(&challenge, 1))), Face::Proxy), 403);
}

#[test]
fn an_account_may_call_anonymously() {
    let mut scene = scene();
    let right = alice(&scene.challenged(), 1);
    let text = String::from_utf8_lossy(invite("alice", Some(&right)).bytes())
        .replace("sip:alice@example.com", "sip:anonymous@anonymous.invalid");
    is_accepted(scene.check_from(SOURCE, &message(&text), Face::Proxy), Some("alice"));
}

#[test]
fn authorization_meant_for_the_registrar_does_not_open_the_proxy() {
    let mut scene = scene();
    let right = alice(&scene.challenged(), 1);
    let text = String::from_utf8_lossy(invite("alice", Some(&right)).bytes())
        .replace("Proxy-Authorization", "Authorization");
    assert!(matches!(scene.check_from(SOURCE, &message(&text), Face::Proxy), Verdict::Challenge(_)));
}

#[test]
fn credentials_for_another_realm_are_passed_over() {
    let mut scene = scene();
    let challenge = scene.challenged();
    let other = alice(&challenge, 1).replace("realm=\"example.com\"", "realm=\"elsewhere.example\"");
    assert!(!is_stale(scene.invite(Some(&other))));
    assert!(scene.tables.judged.iter().all(|what| *what == What::Asks), "no failure is counted");
    let both = format!("{other}\nProxy-Authorization: {}", alice(&challenge, 1));
    is_accepted(scene.invite(Some(&both)), Some("alice"));
}

#[test]
fn ack_and_cancel_are_never_challenged() {
    let mut scene = scene();
    for method in ["ACK", "CANCEL"] {
        let text = String::from_utf8_lossy(invite("alice", None).bytes()).replace("INVITE", method);
        is_accepted(scene.check_from(SOURCE, &message(&text), Face::Proxy), None);
    }
}

// §22.4 and RFC 7616 §3.3: nonces.

#[test]
fn an_aged_nonce_is_stale_not_wrong() {
    let mut scene = scene();
    let challenge = scene.challenged();
    scene.clock.pass(299.0);
    is_accepted(scene.invite(Some(&alice(&challenge, 1))), Some("alice"));
    scene.clock.pass(2.0);
    assert!(is_stale(scene.invite(Some(&alice(&challenge, 2)))));
}

#[test]
fn a_wrong_password_is_never_called_stale() {
    let mut scene = scene();
    let challenge = scene.challenged();
    scene.clock.pass(301.0);
    let wrong = credentials(&challenge, "alice", "wrong", "sip:bob@example.com", "INVITE", 1);
    assert!(!is_stale(scene.invite(Some(&wrong))));
}

#[test]
fn a_nonce_count_serves_once() {
    let mut scene = scene();
    let challenge = scene.challenged();
    is_accepted(scene.invite(Some(&alice(&challenge, 1))), Some("alice"));
    assert!(is_stale(scene.invite(Some(&alice(&challenge, 1)))), "a replay");
    is_accepted(scene.invite(Some(&alice(&challenge, 2))), Some("alice"));
}

#[test]
fn a_nonce_serves_only_the_address_it_was_made_for() {
    let mut scene = scene();
    let stolen = invite("alice", Some(&alice(&scene.challenged(), 1)));
    assert!(is_stale(scene.check_from("198.51.100.8:5060", &stolen, Face::Proxy)));
    is_accepted(scene.check_from("198.51.100.7:61000", &stolen, Face::Proxy), Some("alice"));
}

#[test]
fn a_wrong_password_uses_up_no_nonce_count() {
    let mut scene = scene();
    let challenge = scene.challenged();
    let wrong = credentials(&challenge, "alice", "wrong", "sip:bob@example.com", "INVITE", 1);
    assert!(matches!(scene.invite(Some(&wrong)), Verdict::Challenge(_)));
    is_accepted(scene.invite(Some(&alice(&challenge, 1))), Some("alice"));
}

// RFC 8760 §2.4: algorithms.

#[test]
fn each_algorithm_is_offered_in_the_configured_order() {
    let mut scene = scene();
    scene.config.algorithms = vec![Algorithm::Sha256, Algorithm::Md5];
    let Verdict::Challenge(response) = scene.invite(None) else { panic!() };
    let response = response.finish();
    let offered: Vec<_> = response
        .headers()
        .filter(|header| header.name == Name::ProxyAuthenticate)
        .map(|header| Algorithm::from_name(Auth(std::str::from_utf8(header.value).unwrap()).get("algorithm")))
        .collect();
    assert_eq!(offered, [Some(Algorithm::Sha256), Some(Algorithm::Md5)]);
}

#[test]
fn an_algorithm_that_is_not_offered_is_not_accepted() {
    let mut scene = scene();
    scene.config.algorithms = vec![Algorithm::Md5];
    let challenge = scene.challenged();
    is_accepted(scene.invite(Some(&alice(&challenge, 1))), Some("alice"));
    scene.config.algorithms = vec![Algorithm::Sha256];
    assert!(!is_stale(scene.invite(Some(&alice(&challenge, 2)))));
}

// The credentials' own URI.

#[test]
fn credentials_for_another_callee_are_answered_400() {
    let mut scene = scene();
    let challenge = scene.challenged();
    let other = credentials(&challenge, "alice", "secret", "sip:+900123@example.com", "INVITE", 1);
    is_refused(scene.invite(Some(&other)), 400);
}

#[test]
fn credentials_that_name_only_our_domain_or_address_serve_as_well() {
    let mut scene = scene();
    let challenge = scene.challenged();
    for (count, uri) in ["sip:example.com", "sip:203.0.113.1:5060", "sip:bob@EXAMPLE.com"].iter().enumerate()
    {
        let written = credentials(&challenge, "alice", "secret", uri, "INVITE", count as u32 + 1);
        is_accepted(scene.invite(Some(&written)), Some("alice"));
    }
}

// Nobody learns anything.

#[test]
fn an_unknown_user_and_a_wrong_password_get_the_same_answer() {
    let mut scene = scene();
    let challenge = scene.challenged();
    let mut answer_to = |name, password| {
        let wrong = credentials(&challenge, name, password, "sip:bob@example.com", "INVITE", 1);
        let Verdict::Challenge(response) = scene.invite(Some(&wrong)) else { panic!() };
        let response = response.finish();
        let text = String::from_utf8_lossy(response.bytes()).into_owned();
        let nonce = Auth(response.text(Name::ProxyAuthenticate).unwrap()).get("nonce").unwrap();
        text.replace(nonce, "")
    };
    assert_eq!(answer_to("alice", "wrong"), answer_to("nobody", "secret"));
    assert_eq!(answer_to("nobody", ""), answer_to("alice", ""));
}

#[test]
fn an_empty_password_never_opens_for_an_unknown_user() {
    let mut scene = scene();
    let challenge = scene.challenged();
    let empty = credentials(&challenge, "nobody", "", "sip:bob@example.com", "INVITE", 1);
    assert!(matches!(scene.invite(Some(&empty)), Verdict::Challenge(_)));
}

#[test]
fn garbage_in_credentials_is_challenged_like_a_wrong_password() {
    let mut scene = scene();
    for garbage in [
        "Digest realm=\"example.com\"",
        "Digest realm=\"example.com\", username=\"alice\", nonce=, nc=zz, uri=, response=",
        "Digest realm=\"example.com\", username=\"\\",
        "Basic YWxpY2U6c2VjcmV0",
        "Digest",
    ] {
        assert!(!is_stale(scene.invite(Some(garbage))), "{garbage}");
    }
}

/// The algorithms of a challenge to Alice, in order.
fn offered(scene: &mut Scene) -> Vec<String> {
    let Verdict::Challenge(response) = scene.invite(None) else { panic!() };
    let response = response.finish();
    let offers = response.headers().filter(|header| header.name == Name::ProxyAuthenticate);
    offers.map(|h| Auth(std::str::from_utf8(h.value).unwrap()).get("algorithm").unwrap().to_owned()).collect()
}

#[test]
fn an_accounts_algorithms_stand_before_the_listeners_before_everybodys() {
    let mut scene = scene();
    assert_eq!(offered(&mut scene), ["SHA-256", "MD5"]);
    scene.config.listeners[0].algorithms = vec![Algorithm::Md5, Algorithm::Sha256];
    assert_eq!(offered(&mut scene), ["MD5", "SHA-256"]);
    let md5 = scene.challenged();
    is_accepted(scene.invite(Some(&alice(&md5, 1))), Some("alice"));
    let strict = User { algorithms: vec![Algorithm::Sha256], ..user("alice", &["alice@example.com"]) };
    scene.tables.users[0] = strict.into();
    assert_eq!(offered(&mut scene), ["SHA-256"]);
    let verdict = scene.invite(Some(&alice(&md5, 2)));
    assert!(matches!(verdict, Verdict::Challenge(_)), "what is not offered is not taken");
}

#[test]
fn an_account_whose_only_hash_is_md5_is_offered_md5_whatever_else_is() {
    let mut scene = scene();
    let md5 = Some(digest::hashed(Algorithm::Md5, "alice", "example.com", "secret"));
    let secret = Secret::Hashed { md5, sha256: None };
    scene.tables.users[0] = User { secret, ..user("alice", &["alice@example.com"]) }.into();
    for order in [vec![Algorithm::Sha256, Algorithm::Md5], vec![Algorithm::Sha256], vec![Algorithm::Md5]] {
        scene.config.algorithms = order;
        assert_eq!(offered(&mut scene), ["MD5"]);
    }
    let challenge = scene.challenged();
    is_accepted(scene.invite(Some(&alice(&challenge, 1))), Some("alice"));
}

// The shield.

#[test]
fn over_the_limit_of_its_source_a_request_gets_silence() {
    let mut scene = scene();
    scene.guard(Policy { requests: 2, ..Policy::default() });
    for _ in 0..2 {
        assert!(matches!(scene.invite(None), Verdict::Challenge(_)));
    }
    is_silenced(scene.invite(None), why::REQUESTS);
    let elsewhere = scene.check_from("198.51.100.99:5060", &invite("alice", None), Face::Proxy);
    assert!(matches!(elsewhere, Verdict::Challenge(_)), "other sources don't notice");
}

/// The credentials of somebody who guesses, under a nonce he was given.
fn guess(scene: &mut Scene, name: &str) -> Verdict {
    let challenge = scene.challenged();
    let wrong = credentials(&challenge, name, "wrong", "sip:bob@example.com", "INVITE", 1);
    scene.invite(Some(&wrong))
}

#[test]
fn wrong_passwords_after_a_challenge_end_in_silence_even_for_the_right_one() {
    let mut scene = scene();
    scene.guard(Policy::default());
    for _ in 0..6 {
        assert!(matches!(guess(&mut scene, "alice"), Verdict::Challenge(_)));
    }
    let Verdict::Shielded { event: Some(Event::Shielded { account, measure, .. }), .. } =
        guess(&mut scene, "alice")
    else {
        panic!("nothing is told of the ban")
    };
    assert_eq!((&*account, measure), ("alice", Measure::BannedAccount(Duration::from_secs(60))));
    let right = alice(&scene.challenged(), 1);
    is_silenced(scene.invite(Some(&right)), why::BANNED);
    is_accepted(scene.from_elsewhere(), Some("alice"));
    scene.clock.pass(60.0);
    is_accepted(scene.invite(Some(&right)), Some("alice"));
}

#[test]
fn names_that_exist_and_names_that_do_not_are_shut_out_alike() {
    let tries = |names: fn(u32) -> String| {
        let mut scene = scene();
        scene.tables.users.extend((0..20).map(|at| Arc::new(user(&format!("known-{at}"), &[]))));
        scene.guard(Policy::default());
        (0..100).take_while(|at| matches!(guess(&mut scene, &names(*at)), Verdict::Challenge(_))).count()
    };
    let known = tries(|at| format!("known-{at}"));
    assert!((10..20).contains(&known), "{known}");
    assert!(tries(|at| format!("guessed-{at}")).abs_diff(known) < 4, "names share bits of a hash by chance");
}

#[test]
fn a_password_can_not_be_tried_under_a_nonce_of_ones_own() {
    let mut scene = scene();
    scene.guard(Policy::default());
    let made_up =
        r#"Digest realm="example.com", nonce="AAAAAAAAAAAAAAAAAAAAAAAA", algorithm=MD5, qop="auth""#;
    for password in ["secret", "wrong"] {
        let offline = credentials(made_up, "alice", password, "sip:bob@example.com", "INVITE", 1);
        assert!(is_stale(scene.invite(Some(&offline))), "right or wrong, the answer is the same");
    }
    assert!(!scene.tables.judged.contains(&What::Fails), "nor does it count against whose address that is");
}

#[test]
fn a_scanner_gets_no_answer() {
    let mut scene = scene();
    scene.guard(Policy::default());
    for agent in ["friendly-scanner", "Friendly-Scanner 2.0", "VaxSIPUserAgent/3.1", "sipcli/v1.8"] {
        let text = String::from_utf8_lossy(invite("100", None).bytes())
            .replace("Content-Length", &format!("User-Agent: {agent}\r\nContent-Length"));
        is_silenced(scene.check_from(SOURCE, &message(&text), Face::Proxy), why::SCANNER);
    }
    let phone = String::from_utf8_lossy(invite("100", None).bytes())
        .replace("Content-Length", "User-Agent: baresip v1.0.0\r\nContent-Length");
    assert!(matches!(scene.check_from(SOURCE, &message(&phone), Face::Proxy), Verdict::Challenge(_)));
}

#[test]
fn an_account_over_its_limit_is_asked_to_come_later() {
    let mut scene = scene();
    scene.guard(Policy { account: 1, ..Policy::default() });
    let challenge = scene.challenged();
    for count in 1..=5 {
        is_accepted(scene.invite(Some(&alice(&challenge, count))), Some("alice"));
    }
    let Verdict::Shielded { later: true, why: why::ACCOUNT, .. } = scene.invite(Some(&alice(&challenge, 6)))
    else {
        panic!()
    };
}

// Who needs none.

#[test]
fn a_listener_without_authentication_asks_nobody_but_counts_everybody() {
    let mut scene = scene();
    scene.config.listeners[0].authenticate = false;
    scene.guard(Policy { requests: 2, strangers: 1, ..Policy::default() });
    for _ in 0..2 {
        is_accepted(scene.invite(None), None);
    }
    is_silenced(scene.invite(None), why::REQUESTS);
    is_accepted(scene.check_from("198.51.100.99:5060", &invite("alice", None), Face::Proxy), None);
}

#[test]
fn this_very_machine_is_not_counted() {
    let mut scene = scene();
    scene.config.listeners[0].authenticate = false;
    scene.guard(Policy { requests: 1, ..Policy::default() });
    for _ in 0..10 {
        is_accepted(scene.check_from("127.0.0.1:5080", &invite("alice", None), Face::Proxy), None);
    }
    is_accepted(scene.invite(None), None);
    is_silenced(scene.invite(None), why::REQUESTS);
}

#[test]
fn a_socket_that_is_no_listener_asks_for_credentials() {
    let mut scene = scene();
    scene.config.listeners.clear();
    assert!(matches!(scene.invite(None), Verdict::Challenge(_)));
}

#[test]
fn a_trusted_trunk_needs_no_credentials_from_its_own_addresses() {
    let mut scene = scene();
    let sources = vec!["198.51.100.0/28".parse().unwrap()];
    let trunk = Trunk { trusted: true, sources, ..Trunk::named("carrier") };
    scene.config.trunks.push(trunk.into());
    is_accepted(scene.invite(None), None);
    assert!(scene.tables.judged.is_empty(), "nor is it counted");
    let other = scene.check_from("198.51.100.77:5060", &invite("alice", None), Face::Proxy);
    assert!(matches!(other, Verdict::Challenge(_)));
}

#[test]
fn a_sibling_needs_proof_not_only_an_address() {
    let mut scene = scene();
    let key = proto::node_auth::NodeKey([9; 32]);
    scene.config.siblings.cidrs = vec!["198.51.100.7".parse().unwrap()];
    scene.config.siblings.key = Some(key.clone());
    assert!(matches!(scene.invite(None), Verdict::Challenge(_)), "an address is forged easily");
    let signed = key.sign(&invite("alice", None), scene.clock.now().unix());
    is_accepted(scene.check_from(SOURCE, &signed, Face::Proxy), None);
    let elsewhere = scene.check_from("198.51.100.99:5060", &signed, Face::Proxy);
    assert!(matches!(elsewhere, Verdict::Challenge(_)), "a replay from elsewhere");
    scene.clock.pass(Duration::from_secs(61).as_secs_f64());
    assert!(matches!(scene.check_from(SOURCE, &signed, Face::Proxy), Verdict::Challenge(_)), "a late replay");
}

/// RFC 3261 §11: who asks after us is told; who asks after a user, or wants to be passed on, is asked who it is.
#[test]
fn a_probe_of_ourselves_needs_no_password_and_goes_no_further() {
    let mut scene = scene();
    let mut asks = |uri: &str, route: &str| {
        let text = String::from_utf8_lossy(invite("alice", None).bytes()).replace("INVITE", "OPTIONS");
        let text = text
            .replace("sip:bob@example.com SIP", &format!("{uri} SIP"))
            .replace("To:", &format!("{route}To:"));
        scene.check_from(SOURCE, &Message::parse(text.into()).unwrap(), Face::Proxy)
    };
    assert!(matches!(asks("sip:203.0.113.1:5060", ""), Verdict::Accepted(None)));
    assert!(matches!(asks("sip:bob@example.com", ""), Verdict::Challenge(_)));
    let onward = "Route: <sip:198.51.100.66;lr>\r\n";
    assert!(matches!(asks("sip:203.0.113.1:5060", onward), Verdict::Challenge(_)));
}
