//! Stories of connections: which paths a request may take, dialogs of devices that are met by edges, and devices with names
//! of their own. What RFC 5626, RFC 3608 and RFC 3327 ask for is in `conformance/tests/rfcs`.

use std::sync::Arc;
use std::time::Duration;

use proto::node::{Answer, Flow, FlowId, Input, SendError, Transport};
use proto::sip::{Message, Method, Name};

use crate::Config;
use crate::config::{Listener, Trunk};
use crate::tests::bench::{A, B, Bench, PROXY, Sent, in_dialog, invite, message, next, open, plain};
use crate::tests::testing::{address, udp};

/// A proxy with TLS besides, at port 5061.
fn with_tls(config: Config) -> Config {
    let mut config = config;
    let tls = address("203.0.113.1:5061");
    config.listeners.push(Listener {
        transport: Transport::Tls,
        bind: tls,
        advertise: tls,
        ..config.listeners[0].clone()
    });
    config
}

/// A connection of the device at `remote`.
fn tcp(remote: &str, id: u64) -> Flow {
    Flow { transport: Transport::Tcp, local: address(PROXY), remote: address(remote), id: FlowId(id) }
}

fn tls(remote: &str, id: u64) -> Flow {
    let local = address("203.0.113.1:5061");
    Flow { transport: Transport::Tls, local, remote: address(remote), id: FlowId(id) }
}

/// A REGISTER of b@example.com.
fn register(number: u32, more: &str, contact: &str) -> Message {
    let text = format!(
        "REGISTER sip:example.com SIP/2.0
         Via: SIP/2.0/TCP {B};branch=z9hG4bKr{number}
         From: <sip:b@example.com>;tag=r
         To: <sip:b@example.com>
         Call-ID: r{number}
         CSeq: {number} REGISTER
         {more}
         Contact: {contact}
         Max-Forwards: 70"
    );
    message(&text.replace("         \n", ""))
}

const OUTBOUND: &str = "Supported: path, outbound";

fn instance(reg_id: u32) -> String {
    format!("<sip:b@{B};ob>;+sip.instance=\"<urn:uuid:1>\";reg-id={reg_id}")
}

fn response(sent: &[Sent]) -> &Message {
    &sent.iter().find(|sent| !sent.message.is_request()).expect("an answer").message
}

fn invites(sent: &[Sent]) -> Vec<&Sent> {
    sent.iter().filter(|sent| sent.message.method() == Method::Invite && sent.message.is_request()).collect()
}

/// RFC 3261 §16.4, RFC 3327: the other edge would answer 481.
#[test]
fn a_dialog_stays_with_its_edge_whichever_flow_was_registered_last() {
    let mut bench = Bench::new(open());
    let by_edge = |bench: &mut Bench, number: u32, edge: &str| {
        let path = format!("{OUTBOUND}\nPath: <sip:flow@{edge};lr;ob>");
        bench.by(udp(edge), register(number, &path, &instance(number)))
    };
    let (first, second) = ("192.0.2.98:5060", "192.0.2.99:5060");
    by_edge(&mut bench, 1, first);
    let there = invites(&bench.from(A, &invite("sip:b@example.com")))[0].clone();
    assert_eq!(there.flow.remote, address(first));
    let sent = bench.answer(&there, 200, &format!("Contact: <sip:b@{B};ob>"), "");
    let ok = response(&sent).clone();
    bench.pass(Duration::from_secs(1));
    by_edge(&mut bench, 2, second);
    let bye = bench.from(A, &in_dialog("BYE", 2, &ok));
    let bye: Vec<_> = bye.iter().filter(|sent| sent.message.method() == Method::Bye).collect();
    assert_eq!(bye.iter().map(|sent| sent.flow.remote).collect::<Vec<_>>(), [address(first)]);
}

#[test]
fn a_path_over_ipv6_fits_a_token_too() {
    let mut config = open();
    let six = address("[2001:db8::1]:5060");
    config.listeners.push(Listener { bind: six, advertise: six, ..config.listeners[0].clone() });
    config.listeners.push(Listener {
        transport: Transport::Tcp,
        bind: six,
        advertise: six,
        ..config.listeners[0].clone()
    });
    let remote = address("[2001:db8::2]:40000");
    for (transport, id) in [(Transport::Udp, 0), (Transport::Tcp, u64::MAX >> 1)] {
        let flow = Flow { transport, local: six, remote, id: FlowId(id) };
        let token = crate::registrar::outbound::seal(&flow, &config, 1_800_000_000).unwrap();
        let opened = crate::registrar::outbound::open(&token, &config, 1_800_000_100).unwrap();
        assert_eq!((opened.transport, opened.local, opened.id), (transport, six, flow.id));
    }
}

/// RFC 3261 §16.6 step 7, RFC 5630 §5.3: what is to be secure never leaves by a hop that is not.
#[test]
fn a_sips_request_goes_by_tls_or_not_at_all() {
    let mut bench = Bench::new(with_tls(open()));
    bench.by(tcp(B, 7), register(1, "", &format!("<sip:b@{B}>")));
    let sent = bench.by(tls(A, 3), message(&invite("sips:b@example.com")));
    assert!(invites(&sent).is_empty());
    assert_eq!(response(&sent).status(), Some(480));

    let mut bench = Bench::new(with_tls(open()));
    bench.by(tls(B, 8), register(1, "", &format!("<sips:b@{B}>")));
    let sent = bench.by(tls(A, 3), message(&invite("sips:b@example.com")));
    let there = invites(&sent)[0];
    assert_eq!(there.flow, tls(B, 8));
    let route = there.message.text(Name::RecordRoute).unwrap();
    assert!(route.starts_with("<sips:"), "{route}");
}

/// What a route by name sends an INVITE with this body by.
fn by_name(body: &str, transport: Option<Transport>) -> (Bench, Sent) {
    let mut config = plain();
    let next = &mut crate::tests::bench::trunk(&mut config).servers[0].next;
    (next.host, next.port, next.transport) = ("b.example".into(), None, transport);
    let mut bench = Bench::new(config);
    bench.from(A, &(invite("sip:b@example.com") + "\n\n" + body));
    let (ticket, _) = bench.questions.pop().expect("the name is asked about");
    let answer = Answer::Targets(vec![(Transport::Udp, address(B))]);
    let sent = bench.input(Input::Answer { ticket, answer });
    let there = invites(&sent)[0].clone();
    (bench, there)
}

fn large() -> String {
    format!("v=0\nc=IN IP4 192.0.2.10\n{}", "a=padding:0123456789\n".repeat(60))
}

/// RFC 3261 §18.1.1.
#[test]
fn a_large_request_to_a_place_found_by_name_goes_by_tcp_and_by_udp_where_nobody_takes_tcp() {
    assert_eq!(by_name("v=0\n", None).1.flow.transport, Transport::Udp);
    assert_eq!(by_name(&large(), Some(Transport::Udp)).1.flow.transport, Transport::Udp, "somebody said so");
    let (mut bench, there) = by_name(&large(), None);
    assert_eq!((there.flow.transport, there.flow.remote), (Transport::Tcp, address(B)));
    assert!(there.message.text(Name::Via).unwrap().starts_with("SIP/2.0/TCP"));
    let (ticket, flow) = (there.ticket, there.flow);
    let sent = bench.input(Input::SendFailed { ticket, flow, error: SendError::Refused });
    let again = invites(&sent)[0];
    assert_eq!((again.flow.transport, again.flow.remote), (Transport::Udp, address(B)));
    assert!(again.message.text(Name::Via).unwrap().starts_with("SIP/2.0/UDP"));
}

#[test]
fn a_large_request_never_leaves_the_flow_a_device_registered_by() {
    let mut bench = Bench::new(open());
    bench.from(B, &String::from_utf8_lossy(register(1, "", &format!("<sip:b@{B}>")).bytes()));
    let sent = bench.from(A, &(invite("sip:b@example.com") + "\n\n" + &large()));
    assert_eq!(invites(&sent)[0].flow.transport, Transport::Udp);
}

/// RFC 5922 §7.3: the connection must prove the domain that was meant, not the host SRV named.
#[test]
fn a_path_by_tls_that_was_found_by_name_has_to_prove_the_name() {
    let mut config = with_tls(plain());
    crate::tests::bench::trunk(&mut config).servers[0].next.host = "b.example".into();
    let mut bench = Bench::new(config);
    bench.from(A, &invite("sip:b@example.com"));
    let (ticket, _) = bench.questions.pop().expect("the name is asked about");
    let answer = Answer::Targets(vec![(Transport::Tls, address("198.51.100.20:5061"))]);
    let sent = bench.input(Input::Answer { ticket, answer });
    assert_eq!(invites(&sent)[0].flow.id, FlowId::proving("b.example"));
}

/// The GRUUs in the answer to a REGISTER: public, temporary.
fn gruus(ok: &Message) -> [String; 2] {
    let contact =
        ok.values(Name::Contact).find(|contact| contact.contains("pub-gruu")).expect("GRUUs").to_owned();
    ["pub-gruu=\"", "temp-gruu=\""].map(|name| {
        let (_, rest) = contact.split_once(name).unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    })
}

/// RFC 5627 §5.1 and §6.
#[test]
fn a_gruu_leads_to_the_one_device_it_names() {
    let mut bench = Bench::new(open());
    let device = |n: u32| format!("<sip:b@198.51.100.2{n}:5070>;+sip.instance=\"<urn:uuid:{n}>\"");
    let sent = bench.by(tcp(B, 7), register(1, "Supported: gruu", &device(1)));
    let names = gruus(response(&sent));
    assert_eq!(names[0], "sip:b@example.com;gr=urn:uuid:1");
    assert!(names[1].starts_with("sip:tgruu.") && names[1].ends_with("@example.com;gr"), "{}", names[1]);
    bench.by(tcp(B, 8), register(2, "Supported: gruu", &device(2)));
    for name in &names {
        let mut bench_call = invite(name);
        bench_call =
            bench_call.replace("c1", &name[4..8]).replace("z9hG4bKa1", &format!("z9hG4bK{}", name.len()));
        let sent = bench.from(A, &bench_call);
        let there = invites(&sent);
        assert_eq!(there.len(), 1, "one device");
        assert_eq!(there[0].flow.id, FlowId(7));
        assert_eq!(there[0].message.request_uri(), "sip:b@198.51.100.21:5070");
    }
    bench.input(Input::Closed { flow: tcp(B, 7) });
    for (uri, status) in
        [(names[0].as_str(), 480), (names[1].as_str(), 480), ("sip:tgruu.x@example.com;gr", 404)]
    {
        let mut gone = invite(uri);
        gone = gone.replace("c1", "gone").replace("z9hG4bKa1", &format!("z9hG4bKgone{}", uri.len()));
        assert_eq!(response(&bench.from(A, &gone)).status(), Some(status), "{uri}");
    }
}

/// A trunk that is known by its certificate.
fn with_proven_trunk() -> Config {
    let mut config = with_tls(plain());
    config.listeners.iter_mut().for_each(|listener| listener.authenticate = true);
    config.trunks.push(Arc::new(Trunk {
        trusted: true,
        certificates: vec!["sip.carrier.example".into()],
        sources: vec!["192.0.2.10/32".parse().unwrap()],
        ..Trunk::to("carrier", next("192.0.2.10", 5061))
    }));
    config
}

#[test]
fn a_trunk_is_known_by_its_certificate_and_no_longer_once_the_connection_is_gone() {
    let mut bench = Bench::new(with_proven_trunk());
    let call = |n: u32| {
        message(&invite("sip:b@example.com").replace("c1", &format!("p{n}")).replace("a1", &format!("p{n}")))
    };
    let flow = tls(A, 5);
    assert_eq!(response(&bench.by(flow, call(1))).status(), Some(407), "its address proves nothing");
    let domains = vec!["other.example".to_owned(), "sip.carrier.example".to_owned()];
    bench.input(Input::Proven { flow, domains: domains.into() });
    assert_eq!(invites(&bench.by(flow, call(2))).len(), 1, "no password asked");
    assert_eq!(response(&bench.by(tls(A, 6), call(3))).status(), Some(407), "another connection");
    bench.input(Input::Closed { flow });
    assert_eq!(response(&bench.by(flow, call(4))).status(), Some(407));
    let stranger = vec!["evil.example".to_owned()];
    bench.input(Input::Proven { flow: tls(A, 7), domains: stranger.into() });
    assert_eq!(response(&bench.by(tls(A, 7), call(5))).status(), Some(407));
}
