//! §22: HTTP authentication, with the digests of RFC 7616 and RFC 8760.

use std::time::Duration;

use proto::sip::{Auth, Message, Name};

use crate::desk::{A, B, Desk, Draft, Sent, guarded, invite, proof, register, requests, response, statuses};

const URI: &str = "sip:bob@198.51.100.20:5070";

fn challenged(desk: &mut Desk) -> Message {
    response(&desk.hear(A, invite()), A)
}

/// The INVITE again, with these credentials.
fn again(number: u32, credentials: &str) -> Draft {
    invite()
        .branch(&format!("z9hG4bKagain{number}"))
        .with("CSeq", &format!("{number} INVITE"))
        .adding("Proxy-Authorization", credentials)
}

fn passed(sent: &[Sent]) -> bool {
    !requests(sent, "INVITE").is_empty()
}

/// §22.1: a proxy challenges with 407 and Proxy-Authenticate, a registrar with 401 and WWW-Authenticate.
#[test]
fn proxy_and_registrar_challenge_each_in_their_way() {
    let mut desk = Desk::new(guarded());
    let proxy = challenged(&mut desk);
    assert_eq!((proxy.status(), proxy.text(Name::WwwAuthenticate)), (Some(407), None));
    let registrar = response(&desk.hear(B, register("bob")), B);
    assert_eq!((registrar.status(), registrar.text(Name::ProxyAuthenticate)), (Some(401), None));
}

/// §22.1: the challenge names the realm; RFC 7616 §3.3: a nonce, an algorithm and qop="auth".
#[test]
fn a_challenge_says_all_that_is_needed() {
    let challenge = challenged(&mut Desk::new(guarded()));
    let asked = Auth(challenge.text(Name::ProxyAuthenticate).unwrap());
    assert_eq!(
        (asked.scheme(), asked.get("realm"), asked.get("qop")),
        ("Digest", Some("example.com"), Some("auth"))
    );
    assert!(asked.get("nonce").is_some_and(|nonce| nonce.len() >= 16));
}

/// §22.1: ACK and CANCEL can't be challenged.
#[test]
fn who_can_t_be_answered_is_not_asked() {
    let mut desk = Desk::new(guarded());
    let cancel = desk.hear(A, invite().cancel());
    assert!(statuses(&cancel, A).iter().all(|status| !matches!(status, 401 | 407)));
    let ack = desk.hear(A, invite().method("ACK").with("CSeq", "1 ACK"));
    assert!(ack.is_empty());
}

/// §22.2: with right credentials the request goes on.
#[test]
fn the_right_password_opens_the_gate() {
    let mut desk = Desk::new(guarded());
    let challenge = challenged(&mut desk);
    let right = proof(&challenge, "alice", "secret", URI, "INVITE", 1);
    assert!(passed(&desk.hear(A, again(2, &right))));
}

/// §22.2: with wrong ones it is challenged again.
#[test]
fn a_wrong_password_is_asked_again() {
    let mut desk = Desk::new(guarded());
    let challenge = challenged(&mut desk);
    for (user, password) in [("alice", "wrong"), ("mallory", "secret")] {
        let wrong = proof(&challenge, user, password, URI, "INVITE", 1);
        assert_eq!(statuses(&desk.hear(A, again(2, &wrong).branch(&format!("z9hG4bK{user}"))), A), [407]);
    }
}

/// §22.3: credentials for another realm are for another proxy: we ask for ours, and leave those alone.
#[test]
fn credentials_of_other_proxies_are_passed_on() {
    let mut desk = Desk::new(guarded());
    let challenge = challenged(&mut desk);
    let right = proof(&challenge, "alice", "secret", URI, "INVITE", 1);
    let other = "Digest realm=\"other.example\", username=\"a\", nonce=\"n\", uri=\"sip:x\", response=\"00\"";
    let both = again(2, other).adding("Proxy-Authorization", &right);
    let there = requests(&desk.hear(A, both), "INVITE").remove(0).message;
    let left: Vec<&str> = there.values(Name::ProxyAuthorization).collect();
    assert!(there.text(Name::ProxyAuthorization).unwrap().contains("other.example"), "{left:?}");
    let text = String::from_utf8_lossy(there.bytes()).into_owned();
    assert!(!text.contains("realm=\"example.com\""), "our own credentials stay here: {text}");
}

/// §22.4 item 8, RFC 7616 §3.3: a nonce that is too old is answered with a fresh one and stale=true.
#[test]
fn an_old_nonce_is_renewed() {
    let mut desk = Desk::new(guarded());
    let challenge = challenged(&mut desk);
    let right = proof(&challenge, "alice", "secret", URI, "INVITE", 1);
    desk.pass(Duration::from_secs(301));
    let renewed = response(&desk.hear(A, again(2, &right)), A);
    let asked = Auth(renewed.text(Name::ProxyAuthenticate).unwrap());
    assert_eq!((renewed.status(), asked.get("stale")), (Some(407), Some("true")));
}

/// §22.4, RFC 7616 §3.4: a nonce count that was used already proves nothing.
#[test]
fn credentials_that_were_overheard_are_worth_nothing() {
    let mut desk = Desk::new(guarded());
    let challenge = challenged(&mut desk);
    let right = proof(&challenge, "alice", "secret", URI, "INVITE", 1);
    assert!(passed(&desk.hear(A, again(2, &right))));
    assert!(!passed(&desk.hear(A, again(3, &right))));
    let next = proof(&challenge, "alice", "secret", URI, "INVITE", 2);
    assert!(passed(&desk.hear(A, again(4, &next))));
}

/// §22.4: credentials are for one request URI: another callee in them is 400.
#[test]
fn credentials_for_another_callee_are_refused() {
    let mut desk = Desk::new(guarded());
    let challenge = challenged(&mut desk);
    let other = proof(&challenge, "alice", "secret", "sip:+900123@example.com", "INVITE", 1);
    assert_eq!(statuses(&desk.hear(A, again(2, &other)), A), [400]);
}

/// §22.4: Basic is not accepted.
#[test]
fn a_password_in_the_clear_is_not_taken() {
    let mut desk = Desk::new(guarded());
    assert_eq!(statuses(&desk.hear(A, again(1, "Basic YWxpY2U6c2VjcmV0")), A), [407]);
}

/// §22.2: a client takes the Call-ID of its first try, with the next CSeq; both are taken as they come.
#[test]
fn another_call_id_is_taken_as_well() {
    let mut desk = Desk::new(guarded());
    let challenge = challenged(&mut desk);
    let right = proof(&challenge, "alice", "secret", URI, "INVITE", 1);
    assert!(passed(&desk.hear(A, again(2, &right).with("Call-ID", "another"))));
}

/// §22.4 item 8: a client that knows no qop (RFC 2069) may answer without.
#[test]
fn an_answer_without_qop_is_taken() {
    let mut desk = Desk::new(guarded());
    let challenge = challenged(&mut desk);
    let asked = Auth(challenge.text(Name::ProxyAuthenticate).unwrap());
    let (realm, nonce) = (asked.get("realm").unwrap(), asked.get("nonce").unwrap());
    let as_of_old = format!("Digest realm=\"{realm}\", nonce=\"{nonce}\"");
    let invite = proto::digest::Request { method: "INVITE", body: b"" };
    let old = proto::digest::answer(&as_of_old, "alice", "secret", URI, invite, 1, "").unwrap();
    assert!(!old.contains("qop") && !old.contains("nc="), "{old}");
    assert!(passed(&desk.hear(A, again(2, &old))));
}

/// §22.1: From must belong to who has proven himself (§26.3.2.2).
#[test]
fn nobody_calls_in_another_s_name() {
    let mut desk = Desk::new(guarded());
    let challenge = challenged(&mut desk);
    let right = proof(&challenge, "alice", "secret", URI, "INVITE", 1);
    let forged = again(2, &right).with("From", "<sip:bob@example.com>;tag=caller");
    assert_eq!(statuses(&desk.hear(A, forged), A), [403]);
}

/// §26.3.2.4: who proved nothing costs us no memory: the challenge is sent and forgotten.
#[test]
fn a_challenge_leaves_nothing_behind() {
    let mut desk = Desk::new(guarded());
    for number in 0..100 {
        desk.hear(
            A,
            invite().branch(&format!("z9hG4bKflood{number}")).with("Call-ID", &format!("f{number}")),
        );
    }
    assert_eq!(desk.proxy.status(), proxy::Status::default());
}

/// §22.3: requests inside a dialog that carry our token are not challenged again.
#[test]
fn a_call_that_is_up_needs_no_password() {
    let mut desk = Desk::new(guarded());
    let challenge = challenged(&mut desk);
    let right = proof(&challenge, "alice", "secret", URI, "INVITE", 1);
    let there = requests(&desk.hear(A, again(2, &right)), "INVITE").remove(0);
    let ok = response(&desk.answer(&there, 200, &[("Contact", &format!("<sip:bob@{B}>"))]), A);
    let bye = requests(&desk.hear(A, crate::desk::in_dialog("BYE", 3, &ok)), "BYE");
    assert_eq!(bye.len(), 1);
}

/// §22.4, RFC 8760 §2.4: where both are offered, the stronger algorithm stands first.
#[test]
fn the_stronger_algorithm_stands_first() {
    let mut config = guarded();
    config.algorithms = vec![proto::digest::Algorithm::Sha256, proto::digest::Algorithm::Md5];
    let challenge = challenged(&mut Desk::new(config));
    let offered: Vec<_> = challenge
        .headers()
        .filter(|header| header.name == Name::ProxyAuthenticate)
        .map(|header| Auth(std::str::from_utf8(header.value).unwrap()).get("algorithm").unwrap().to_owned())
        .collect();
    assert_eq!(offered, ["SHA-256", "MD5"]);
}

/// §22.4, RFC 8760 §2.2: SHA-256 is offered by default.
/// Not met: the shipped configuration offers MD5 alone, since baresip 1.0 gives up as soon as any challenge names SHA-256; `auth.algorithms` offers both.
#[test]
fn the_shipped_configuration_offers_md5() {
    let file = host::config::schema::File::default();
    assert_eq!(file.auth.algorithms, [host::config::schema::Algorithm::Md5]);
}
