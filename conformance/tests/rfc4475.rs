//! RFC 4475, SIP torture tests: what the parser says of each message, and that it reads what each is about.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "reads vectors")]

use bytes::Bytes;
use proto::sip::{Malformed, Message, Method, Name, Scheme};

fn vector(name: &str) -> Bytes {
    let path = format!("{}/vectors/rfc4475/{name}.sip", env!("CARGO_MANIFEST_DIR"));
    Bytes::from(std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}")))
}

fn message(name: &str) -> Message {
    Message::parse(vector(name)).unwrap_or_else(|e| panic!("{name}: {e:?}"))
}

/// Section 3.1.1, and what of 3.2 to 3.4 is well-formed: what is wrong there is for a service to see.
const TAKEN: &[&str] = &[
    "wsinv",
    "intmeth",
    "esc01",
    "escnull",
    "esc02",
    "lwsdisp",
    "longreq",
    "dblreq",
    "semiuri",
    "transports",
    "mpart01",
    "unreason",
    "noreason",
    "badbranch",
    "unkscm",
    "novelsc",
    "unksm2",
    "bext01",
    "invut",
    "regaut01",
    "bcast",
    "zeromf",
    "cparam01",
    "cparam02",
    "regescrt",
    "sdp01",
    "inv2543",
    // Refused or read by choice: a Date nobody looks at (3.1.2.12), a Contact that fails when it is read (3.1.2.13),
    // spaces in angle brackets (3.1.2.14), a display name without quotes (3.1.2.15).
    "baddate",
    "regbadct",
    "badaspec",
    "baddn",
];

/// Section 3.1.2 and the others that are answered with a failure, or dropped (0) when they are responses.
const REFUSED: &[(&str, u16)] = &[
    ("badinv01", 400),
    ("clerr", 400),
    ("ncl", 400),
    ("scalar02", 400),
    ("scalarlg", 0),
    ("quotbal", 400),
    ("ltgtruri", 400),
    ("lwsruri", 400),
    ("lwsstart", 400),
    ("trws", 400),
    ("escruri", 400),
    ("badvers", 505),
    ("mismatch01", 400),
    ("mismatch02", 400),
    ("bigcode", 0),
    ("insuf", 400),
    ("multi01", 400),
    ("mcl01", 400),
];

#[test]
fn well_formed_messages_are_taken_and_leave_byte_for_byte() {
    for name in TAKEN {
        let (bytes, message) = (vector(name), message(name));
        assert!(bytes.starts_with(message.bytes()), "{name}");
        assert_eq!(message.edit().finish().bytes(), message.bytes(), "{name}");
        assert_eq!(bytes.len() == message.bytes().len(), *name != "dblreq", "{name}");
    }
}

#[test]
fn broken_messages_are_refused_with_the_right_status() {
    for (name, status) in REFUSED {
        let verdict = Message::parse(vector(name)).map(|m| m.bytes().clone());
        assert!(
            matches!(verdict, Err(Malformed { status: seen, .. }) if seen == *status),
            "{name}: {verdict:?}"
        );
    }
}

#[test]
fn broken_requests_can_be_answered_and_broken_responses_not() {
    for (name, status) in REFUSED {
        let answer = Message::answerable(&vector(name)).map(|m| proto::sip::reply(&m, 400, "t").finish());
        assert_eq!(answer.is_some(), *status != 0, "{name}");
    }
}

#[test]
fn every_vector_has_its_verdict() {
    let mut seen: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/rfc4475"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string())
        .collect();
    let mut listed: Vec<String> =
        TAKEN.iter().chain(REFUSED.iter().map(|(name, _)| name)).map(|name| name.to_string()).collect();
    seen.sort();
    listed.sort();
    assert_eq!(seen, listed);
    assert_eq!(seen.len(), 49);
}

#[test]
fn s3_1_1_1_a_short_tortuous_invite() {
    let message = message("wsinv");
    assert_eq!(message.uri().unwrap().user, "vivekg");
    assert_eq!((message.to_tag(), message.from_tag()), ("1918181833n", "98asjd8"));
    assert_eq!(message.from().unwrap().display, r#""J Rosenberg \\\"""#);
    assert_eq!(message.max_forwards(), Ok(Some(68)));
    assert_eq!((message.call_id(), message.cseq().unwrap().number), ("wsinv.ndaksdj@192.0.2.1", 9));
    let vias: Vec<_> =
        message.vias().map(|v| v.unwrap()).map(|v| (v.transport, v.host, v.branch())).collect();
    assert_eq!(
        vias,
        [
            ("UDP", "192.0.2.2", "390skdjuw"),
            ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
            ("UDP", "192.168.255.111", "z9hG4bK30239"),
        ]
    );
    assert_eq!(
        message.routes().next().unwrap().unwrap().raw_uri,
        "sip:services.example.com;lr;unknownwith=value;unknown-no-value"
    );
    let contact = message.contacts().next().unwrap().unwrap();
    assert_eq!(
        (contact.display, contact.params.get("newparam")),
        ("\"Quoted string \\\"\\\"\"", Some("newvalue"))
    );
    assert_eq!((contact.params.get("secondparam"), contact.q()), (Some(""), 330));
    assert_eq!(message.sdp().unwrap().1.len(), 150);
}

#[test]
fn s3_1_1_2_a_wide_range_of_valid_characters() {
    let message = message("intmeth");
    assert_eq!(message.method().as_str(), "!interesting-Method0123456789_*+`.%indeed'~");
    assert!(message.uri().unwrap().user.starts_with("1_unusual.URI~("));
    assert_eq!(message.from_tag(), "_token~1'+`*%!-.");
    assert_eq!(message.to().unwrap().display, "\"BEL:\\\u{7} NUL:\\\0 DEL:\\\u{7f}\"");
}

#[test]
fn s3_1_1_3_escaped_characters() {
    let message = message("esc01");
    assert_eq!(message.uri().unwrap().aor().unwrap(), "sips%3Auser%40example.com@example.net");
    let contact = message.contacts().next().unwrap().unwrap().uri().unwrap();
    assert_eq!((contact.user, contact.aor().unwrap()), ("cal%6Cer", "caller@host5.example.net".into()));
    assert!(contact.has_lr());
    assert_eq!(contact.params.get("name"), Some("v%61lue%25%34%31"));
    assert!(self::message("escnull").uri().is_ok());
    assert_eq!(self::message("esc02").method().as_str(), "RE%47IST%45R");
}

#[test]
fn s3_1_1_6_no_space_between_display_name_and_address() {
    assert_eq!(message("lwsdisp").from().unwrap().display, "caller");
}

#[test]
fn s3_1_1_8_a_datagram_is_cut_at_content_length() {
    assert_eq!((message("dblreq").method(), message("dblreq").body()), (Method::Register, &b""[..]));
}

#[test]
fn s3_1_1_9_a_semicolon_in_the_user_part() {
    let message = message("semiuri");
    let uri = message.uri().unwrap();
    assert_eq!((uri.user, uri.host), ("user;par=u%40example.net", "example.com"));
}

#[test]
fn s3_1_1_10_varied_and_unknown_transports() {
    let message = message("transports");
    let seen: Vec<_> = message.vias().map(|via| via.unwrap().transport).collect();
    assert_eq!(seen, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
}

#[test]
fn s3_1_1_11_a_multipart_body_stays_binary() {
    let message = message("mpart01");
    assert!(message.body().contains(&0) && message.sdp().is_none());
}

#[test]
fn s3_1_1_12_unusual_and_empty_reason_phrases() {
    assert!(message("unreason").reason().starts_with("= 2**3 * 5**2 но сто девяносто девять"));
    assert_eq!((message("noreason").reason(), message("noreason").status()), ("", Some(100)));
}

#[test]
fn s3_1_2_13_a_contact_that_needs_angle_brackets_fails_when_it_is_read() {
    assert_eq!(message("regbadct").contacts().next().unwrap().unwrap_err().status, 400);
}

#[test]
fn s3_3_4_schemes_we_do_not_know_can_be_told_apart() {
    assert_eq!(message("unkscm").uri().unwrap().scheme, Scheme::Other);
    assert_eq!(message("novelsc").request_uri(), "soap.beep://192.0.2.103:3002");
    assert_eq!(message("unksm2").to().unwrap().uri().unwrap().scheme, Scheme::Other);
}

#[test]
fn s3_3_what_a_service_must_see() {
    assert_eq!(message("zeromf").max_forwards(), Ok(Some(0)));
    assert!(message("bext01").has_token(Name::Require, "nothingSupportsThis"));
    assert_eq!(message("inv2543").via().unwrap().branch(), "");
    assert_eq!(message("badbranch").via().unwrap().branch(), "z9hG4bK");
    assert_eq!(message("cparam01").contacts().next().unwrap().unwrap().params.get("unknownparam"), Some(""));
    assert_eq!(
        message("cparam02").contacts().next().unwrap().unwrap().uri().unwrap().params.get("unknownparam"),
        Some("")
    );
    assert!(
        message("regescrt").contacts().next().unwrap().unwrap().uri().unwrap().headers.starts_with("Route=")
    );
}
