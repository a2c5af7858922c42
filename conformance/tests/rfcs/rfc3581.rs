//! RFC 3581: symmetric responses.

use crate::desk::{B, Desk, invite, request, udp};

const NAT: &str = "192.0.2.10:40123";

/// §3: our own requests over UDP ask for rport.
#[test]
fn we_ask_for_it() {
    let there = Desk::open().forwarded(invite()).message;
    assert!(there.via().unwrap().wants_rport());
}

/// §4: a request with rport is answered with the port it came from, and with received even where that is the same.
#[test]
fn who_asks_is_told_its_port() {
    let options =
        request("OPTIONS", "sip:example.com").with("Via", "SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKa;rport");
    let answer = Desk::open().hear(NAT, options)[0].message.clone();
    let via = answer.via().unwrap();
    assert_eq!((via.params.get("rport"), via.params.get("received")), (Some("40123"), Some("192.0.2.10")));
}

/// §4: the response goes to the address and port the request came from, from the address it came to.
#[test]
fn the_answer_goes_back_the_way_the_request_came() {
    let options =
        request("OPTIONS", "sip:example.com").with("Via", "SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKa;rport");
    assert_eq!(Desk::open().hear(NAT, options)[0].flow, udp(NAT));
}

/// §4: the Via we pass on shows the same.
#[test]
fn the_next_proxy_sees_it_too() {
    let draft = invite().with("Via", "SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKa;rport");
    let mut desk = Desk::open();
    let sent = desk.hear(NAT, draft);
    let there = sent.iter().find(|sent| sent.flow.remote.to_string() == B).unwrap();
    let below = there.message.vias().flatten().nth(1).unwrap();
    assert_eq!(
        (below.params.get("rport"), below.params.get("received")),
        (Some("40123"), Some("192.0.2.10"))
    );
}
