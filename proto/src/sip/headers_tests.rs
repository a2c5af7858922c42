//! Header values as phones and the RFCs write them.

use super::*;

#[test]
fn a_via_is_read_with_white_space_anywhere() {
    let via = Via::parse("SIP  / 2.0  / UDP\r\n  first.example.com : 4000 ; ttl=16\r\n ;branch = z9hG4bKa7")
        .unwrap();
    assert_eq!(
        (via.transport, via.host, via.port, via.branch()),
        ("UDP", "first.example.com", Some(4000), "z9hG4bKa7")
    );
    assert_eq!((via.params.get("TTL"), via.wants_rport()), (Some("16"), false));
}

#[test]
fn a_comment_ends_a_via() {
    let via = Via::parse("SIP/2.0/UDP 192.0.2.1;branch=z9 (Acme; server)").unwrap();
    assert_eq!((via.branch(), via.host), ("z9", "192.0.2.1"));
}

#[test]
fn sent_by_has_the_default_port_of_its_transport() {
    let via = Via::parse("SIP/2.0/TLS [2001:db8::9];rport").unwrap();
    assert_eq!((via.sent_by(), via.wants_rport()), ("[2001:db8::9]:5061".into(), true));
    assert!(via.is_from("[2001:db8::9]:5061".parse().unwrap()));
    assert!(!via.is_from("[2001:db8::9]:5060".parse().unwrap()));
}

#[test]
fn parameters_are_the_same_read_one_way_or_the_other() {
    for text in ["", "a", "a;b=1", ";a", "a;", "a;;b", "=x", "a=;b==c=d", "A=1;a=2", "rport;branch=z9", ";"] {
        let (plain, walked) = (Params(text), Params(text));
        assert!(!plain.plain().is_cut_short);
        for name in ["a", "b", "rport", "branch", ""] {
            let found = walked.iter().find(|(n, _)| lex::is_same_word(n, name));
            let found = found.map(|(_, value)| value.unwrap_or(""));
            assert_eq!(plain.get(name), found, "{text} {name}");
        }
        let all = |text| lex::split(text, b';').all(|param| !name_value(param).0.is_empty());
        assert_eq!(plain.well_formed_and("b").0, text.is_empty() || all(text), "{text}");
    }
}

#[test]
fn refuses_a_broken_via() {
    for value in ["", "SIP/2.0 a", "SIP/2.0/UDP", "SIP/2.0/UDP ;branch=x", "SIP/2.0/UDP 2001:db8::9:1"] {
        assert!(Via::parse(value).is_err(), "{value}");
    }
}

#[test]
fn a_name_addr_has_display_uri_and_params() {
    let read =
        NameAddr::parse("\"A. \\\"<G>\\\" Bell\"\r\n <sip:a@b;lr?x=y> ; tag = 9;q=0.25;expires=60").unwrap();
    assert_eq!((read.display, read.raw_uri), ("\"A. \\\"<G>\\\" Bell\"", "sip:a@b;lr?x=y"));
    assert_eq!((read.tag(), read.q(), read.expires()), ("9", 250, Some(60)));
}

#[test]
fn parameters_of_a_bare_address_belong_to_the_header() {
    let read = NameAddr::parse("sip:a@b ;tag=x;p=\"<;>\"").unwrap();
    assert_eq!((read.raw_uri, read.tag(), read.params.get("p")), ("sip:a@b", "x", Some("<;>")));
    assert_eq!(NameAddr::parse("Bell, Alexander <sip:a@b>").unwrap().display, "Bell, Alexander");
}

#[test]
fn refuses_what_cannot_be_told_apart() {
    for value in [
        "",
        "<sip:a@b",
        "\"Mr. J <sip:a@b>",
        "<>",
        "\"x\" sip:a@b",
        "<sip:a>, <sip:b>",
        "sip:a@b?Route=x",
        "sip:a b",
    ] {
        assert!(NameAddr::parse(value).is_err(), "{value}");
    }
}

#[test]
fn preference_is_in_thousandths() {
    for (text, want) in
        [("1", Some(1000)), ("0.7", Some(700)), ("0.001", Some(1)), (".5", Some(500)), ("1.1", None)]
    {
        assert_eq!(thousandths(text), want, "{text}");
    }
    assert_eq!((thousandths("0.0001"), thousandths("x")), (None, None));
}

#[test]
fn cseq_is_below_two_to_the_31() {
    assert_eq!(CSeq::parse("0009\r\n INVITE").unwrap(), CSeq { number: 9, method: Method::Invite });
    assert!(CSeq::parse("2147483647 ACK").is_ok());
    for value in ["2147483648 ACK", "36893488147419103232 REGISTER", "-1 ACK", "1", "ACK", "1 A B"] {
        assert!(CSeq::parse(value).is_err(), "{value}");
    }
}

#[test]
fn digest_parameters_are_read_around_commas_in_quotes() {
    let auth = Auth("Digest username=\"a, b\",realm = \"x\",\r\n nc=00000001, qop=auth");
    assert_eq!((auth.scheme(), auth.get("username"), auth.get("REALM")), ("Digest", Some("a, b"), Some("x")));
    assert_eq!((auth.get("nc"), auth.get("opaque")), (Some("00000001"), None));
}
