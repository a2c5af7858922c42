//! Vectors of RFC 7616 §3.9.1, RFC 2617 §3.5, RFC 2069 (as corrected) and draft-smith-sipping-auth-examples; then what
//! both ends must do with odd values.

use proptest::prelude::*;

use super::*;

const GET: Request<'_> = Request { method: "GET", body: b"" };

fn password(text: &str) -> Secret {
    Secret::Password(text.into())
}

/// Credentials in RFC 7616's example.
fn mufasa(algorithm: &str, response: &str) -> String {
    format!(
        "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", algorithm={algorithm}, \
         nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
         cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, response=\"{response}\", \
         opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
    )
}

const RFC7616_MD5: &str = "8ca523f5e9506fed4657c9700eebdbec";
const RFC7616_SHA256: &str = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";

#[test]
fn verifies_the_examples_of_rfc_7616() {
    let secret = password("Circle of Life");
    assert!(verify(&mufasa("MD5", RFC7616_MD5), &secret, GET));
    assert!(verify(&mufasa("SHA-256", RFC7616_SHA256), &secret, GET));
    assert!(verify(&mufasa("sha-256", &RFC7616_SHA256.to_uppercase()), &secret, GET));
    assert!(!verify(&mufasa("MD5", RFC7616_SHA256), &secret, GET));
    assert!(!verify(&mufasa("SHA-256-sess", RFC7616_SHA256), &secret, GET));
}

#[test]
fn answers_the_challenges_of_rfc_7616() {
    for (algorithm, expected) in [("SHA-256", RFC7616_SHA256), ("MD5", RFC7616_MD5)] {
        let challenge = format!(
            "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
             nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
        );
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let answer =
            answer(&challenge, "Mufasa", "Circle of Life", "/dir/index.html", GET, 1, cnonce).unwrap();
        let answer = Auth(&answer);
        assert_eq!(answer.get("response"), Some(expected));
        assert_eq!((answer.get("nc"), answer.get("qop")), (Some("00000001"), Some("auth")));
        assert_eq!(answer.get("opaque"), Some("FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"));
    }
}

#[test]
fn verifies_the_example_of_rfc_2617() {
    let credentials = "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
        nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", qop=auth, nc=00000001, \
        cnonce=\"0a4f113b\", response=\"6629fae49393a05397450978507c4ef1\"";
    assert!(verify(credentials, &password("Circle Of Life"), GET));
    assert!(!verify(credentials, &password("Circle of Life"), GET));
    assert!(!verify(credentials, &password("Circle Of Life"), Request { method: "PUT", body: b"" }));
}

#[test]
fn verifies_the_example_of_rfc_2069_without_qop() {
    let credentials = "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
        nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", \
        response=\"1949323746fe6a43ef61f9606e7febea\"";
    assert!(verify(credentials, &password("CircleOfLife"), GET));
}

/// draft-smith-sipping-auth-examples-01 §3: the challenge and what answers it.
fn bob(qop: &str, body: &str) -> String {
    let challenge = format!("Digest realm=\"biloxi.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"{qop}");
    let request = Request { method: "INVITE", body: body.as_bytes() };
    let answer = answer(&challenge, "bob", "zanzibar", "sip:bob@biloxi.com", request, 1, "0a4f113b").unwrap();
    assert!(verify(&answer, &password("zanzibar"), request));
    Auth(&answer).get("response").unwrap().to_owned()
}

#[test]
fn answers_the_sip_examples_with_and_without_qop() {
    assert_eq!(bob("", ""), "bf57e4e0d0bffc0fbaedce64d59add5e");
    assert_eq!(bob(", qop=\"auth\", algorithm=MD5", ""), "89eb0059246c02b2f6ee02c7961d5ea3");
}

#[test]
fn auth_int_covers_the_body() {
    let body = "v=0\r\no=bob 2890844526 2890844526 IN IP4 media.biloxi.com\r\ns=-\r\nc=IN IP4 media.biloxi.com\r\nt=0 0\r\n\
        m=audio 49170 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\nm=video 51372 RTP/AVP 31\r\na=rtpmap:31 H261/90000\r\n\
        m=video 53000 RTP/AVP 32\r\na=rtpmap:32 MPV/90000\r\n";
    assert_eq!(bob(", qop=\"auth-int\"", body), "bdbeebb2da6adb6bca02599c2239e192");
    assert_ne!(bob(", qop=\"auth-int\"", "v=0\r\n"), bob(", qop=\"auth-int\"", body));
}

#[test]
fn a_stored_hash_serves_only_its_algorithm() {
    let md5 = hashed(Algorithm::Md5, "Mufasa", "http-auth@example.org", "Circle of Life");
    let secret = Secret::Hashed { md5: Some(md5.to_uppercase()), sha256: None };
    assert!(verify(&mufasa("MD5", RFC7616_MD5), &secret, GET));
    assert!(!verify(&mufasa("SHA-256", RFC7616_SHA256), &secret, GET));
}

#[test]
fn sha_256_without_qop_is_not_taken() {
    let challenge = "Digest realm=\"x\", nonce=\"n\", algorithm=SHA-256";
    let answer = answer(challenge, "a", "b", "sip:x", GET, 1, "c").unwrap();
    assert_eq!(Auth(&answer).get("qop"), None);
    assert!(!verify(&answer, &password("b"), GET));
}

#[test]
fn a_qop_nobody_knows_proves_nothing() {
    for (qop, taken) in [("auth", true), ("AUTH", true), ("token", false)] {
        let ha1 = hashed(Algorithm::Md5, "a", "x", "secret");
        let quality = Quality::Present { qop, count: "00000001", cnonce: "c" };
        let response = response(Algorithm::Md5, &ha1, "n", quality, "sip:x", GET);
        let response = response.as_str();
        let credentials = format!(
            "Digest username=\"a\", realm=\"x\", nonce=\"n\", uri=\"sip:x\", nc=00000001, cnonce=\"c\", qop={qop}, \
             response=\"{response}\""
        );
        assert_eq!(verify(&credentials, &password("secret"), GET), taken, "{qop}");
    }
}

#[test]
fn credentials_that_lack_something_prove_nothing() {
    let whole = mufasa("MD5", RFC7616_MD5);
    for part in ["username=", "realm=", "uri=", "nonce=", "nc=", "cnonce=", "response=", "Digest "] {
        let lacking = whole.replacen(part, "x", 1);
        assert!(!verify(&lacking, &password("Circle of Life"), GET), "{lacking}");
    }
    assert!(!verify("", &password(""), GET));
    assert!(!verify("Digest", &password(""), GET));
}

#[test]
fn the_first_challenge_we_can_answer_is_chosen() {
    let challenges = [
        "Basic realm=\"x\"",
        "Digest realm=\"x\", nonce=\"n\", algorithm=SHA-512-256, qop=\"auth\"",
        "Digest realm=\"x\", nonce=\"n\", algorithm=MD5-sess, qop=\"auth\"",
        "Digest realm=\"x\", nonce=\"n\", algorithm=MD5, qop=\"token\"",
        "Digest realm=\"x\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\"",
        "Digest realm=\"x\", nonce=\"n\", algorithm=MD5, qop=\"auth\"",
    ];
    assert_eq!(choose(challenges.into_iter()), Some(challenges[4]));
    assert_eq!(choose(challenges[..4].iter().copied()), None);
    assert_eq!(answer(challenges[0], "a", "b", "sip:x", GET, 1, "c"), None);
}

#[test]
fn what_we_ask_can_be_answered() {
    for algorithm in [Algorithm::Sha256, Algorithm::Md5] {
        let challenge = challenge("a \"realm\" with \\", "nonce", algorithm, true);
        assert!(challenge.ends_with(", stale=true"));
        let answer = answer(&challenge, "al\"ice\\", "p:w", "sip:x@y;a=\"b\"", GET, 16, "c").unwrap();
        assert_eq!(Auth(&answer).get("nc"), Some("00000010"));
        assert!(verify(&answer, &password("p:w"), GET));
    }
}

proptest! {
    #[test]
    fn only_the_right_password_proves(
        user in "[ -~]{0,12}", realm in "[ -~]{0,12}", right in ".{0,12}", wrong in ".{0,12}", method in "[A-Z]{1,8}",
    ) {
        let request = Request { method: &method, body: b"body" };
        let challenge = challenge(&realm, "nonce", Algorithm::Sha256, false);
        let answer = answer(&challenge, &user, &right, "sip:x", request, 1, "cnonce").unwrap();
        prop_assert!(verify(&answer, &password(&right), request));
        prop_assert_eq!(verify(&answer, &password(&wrong), request), right == wrong);
    }

    #[test]
    fn never_panics_on_arbitrary_values(text in ".{0,80}|Digest ([a-z]{1,9}=\"?[^\"]{0,9}\"?,? ?){0,9}") {
        verify(&text, &password("x"), GET);
        answer(&text, "a", "b", "c", GET, 1, "d");
        choose([&*text].into_iter());
    }
}

/// Found by fuzzing.
#[test]
fn a_challenge_whose_quotes_do_not_fit_is_not_answered() {
    let request = || Request { method: "INVITE", body: b"" };
    for nonce in ["a\"b", "a\\", "\""] {
        let challenge = format!("Digest realm=\"x\", nonce=\"{nonce}\"");
        assert_eq!(answer(&challenge, "alice", "secret", "sip:b", request(), 1, "c"), None, "{challenge}");
    }
    let escaped = r#"Digest realm="x", nonce="a\"b""#;
    assert!(answer(escaped, "alice", "secret", "sip:b", request(), 1, "c").is_some());
}
