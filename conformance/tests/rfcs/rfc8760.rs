//! RFC 8760 and RFC 7616: digests newer than MD5.

use proto::digest::Algorithm;
use proto::sip::{Auth, Message, Name};

use crate::desk::{A, Desk, guarded, invite, proof, requests, response};

const URI: &str = "sip:bob@198.51.100.20:5070";

fn with(algorithms: &[Algorithm]) -> Desk {
    let mut config = guarded();
    config.algorithms = algorithms.to_vec();
    Desk::new(config)
}

fn challenge(desk: &mut Desk) -> Message {
    response(&desk.hear(A, invite()), A)
}

fn offered(challenge: &Message) -> Vec<String> {
    let lines = challenge.headers().filter(|header| header.name == Name::ProxyAuthenticate);
    let algorithm = |line: &str| Auth(line).get("algorithm").unwrap_or("MD5").to_owned();
    lines.map(|line| algorithm(std::str::from_utf8(line.value).unwrap())).collect()
}

/// §2.3: several challenges stand in header lines of their own, each with one algorithm.
#[test]
fn each_algorithm_has_a_challenge() {
    assert_eq!(offered(&challenge(&mut with(&[Algorithm::Sha256, Algorithm::Md5]))), ["SHA-256", "MD5"]);
}

/// §2.4: the client takes the first it can; either answer is good.
#[test]
fn either_answer_opens_the_gate() {
    for only in [Algorithm::Sha256, Algorithm::Md5] {
        let mut desk = with(&[only]);
        let asked = challenge(&mut desk);
        let right = proof(&asked, "alice", "secret", URI, "INVITE", 1);
        let again = invite().branch("z9hG4bK2").with("CSeq", "2 INVITE").with("Proxy-Authorization", &right);
        assert_eq!(requests(&desk.hear(A, again), "INVITE").len(), 1, "{only:?}");
    }
}

/// §2.7: an algorithm that was not offered is not accepted: nobody asks for less than we want.
#[test]
fn nobody_bids_us_down() {
    let mut lax = with(&[Algorithm::Md5]);
    let asked = challenge(&mut lax);
    let weak = proof(&asked, "alice", "secret", URI, "INVITE", 1);
    let mut strict = with(&[Algorithm::Sha256]);
    let again = invite().with("Proxy-Authorization", &weak);
    assert_eq!(response(&strict.hear(A, again), A).status(), Some(407));
}

/// §2.6, RFC 7616 §3.3: a nonce is no use from another address.
#[test]
fn a_nonce_is_for_one_address() {
    let mut desk = with(&[Algorithm::Sha256]);
    let asked = challenge(&mut desk);
    let right = proof(&asked, "alice", "secret", URI, "INVITE", 1);
    let again = invite().branch("z9hG4bK2").with("Proxy-Authorization", &right);
    assert_eq!(response(&desk.hear("192.0.2.99:5060", again), "192.0.2.99:5060").status(), Some(407));
}
