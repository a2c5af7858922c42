//! RFC 5923: requests in both directions by one TLS connection.

use std::io::Write;
use std::net::TcpListener;

use proto::node::{Flow, FlowId, Transport};
use proto::sip::Name;

use crate::desk::{B, Desk, PROXY, at, invite, requests};
use crate::wire::{Certificates, Process, datagram, datagrams, next_message};

/// §8.1: our Via over TLS asks with `alias` for the connection to be used the other way as well; over nothing else.
#[test]
fn alias_is_asked_for_over_tls_alone() {
    for (transport, asked) in [(Transport::Tls, true), (Transport::Tcp, false)] {
        let mut desk = Desk::open();
        let flow = Flow { transport, local: at(PROXY), remote: at(B), id: FlowId(3) };
        let contact = format!("<sip:bob@{B};transport={transport}>");
        desk.hear_by(flow, crate::desk::register("bob").with("Contact", &contact));
        let sent = desk.hear(crate::desk::A, invite().to_uri("sip:bob@example.com"));
        let via = requests(&sent, "INVITE")[0].message.text(Name::Via).unwrap().to_owned();
        assert_eq!(via.contains(";alias"), asked, "{via}");
    }
}

/// A process whose calls go by TLS to `localhost`, at a port where nobody listens; and somebody who connects to it.
struct Stage {
    certificates: Certificates,
    process: Process,
    port: u16,
}

impl Stage {
    fn new(test: &str) -> Stage {
        let certificates = Certificates::new(test, &["example.com", "localhost", "elsewhere.example"]);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let [pem, key, ca] =
            ["example.com.pem", "example.com.key", "ca.pem"].map(|name| certificates.path(name));
        let process = Process::start(&format!(
            "listeners: [{{ address: \"tls:127.0.0.1:0\" }}, {{ address: \"udp:127.0.0.1:0\" }}]\n\
             tls: {{ certificates: [{{ certificate: \"{pem}\", key: \"{key}\" }}], client-certificates: optional, \
             client-authorities: \"{ca}\", authorities: \"{ca}\" }}\n\
             proxy: {{ anchor: never, routes: [{{ to: '*', via: 'tls:localhost:{port}' }}] }}\n"
        ));
        Stage { certificates, process, port }
    }

    /// Somebody connects with this certificate and says hello with this after its Via.
    fn says_hello(
        &self,
        shown: Option<&str>,
        more: &str,
    ) -> rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream> {
        let to = self.process.at(Transport::Tls);
        let mut trunk = self.certificates.connect(to, "example.com", shown);
        let port = self.port;
        let hello = format!(
            "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/TLS localhost:{port};branch=z9hG4bKo{more}\r\n\
             From: <sip:t@localhost>;tag=1\r\nTo: <sip:example.com>\r\nCall-ID: hello\r\nCSeq: 1 OPTIONS\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        trunk.write_all(hello.as_bytes()).unwrap();
        // §8.2: whatever becomes of requests, the answer takes the connection.
        let said = next_message(&mut trunk).expect("an answer");
        assert!(said.starts_with("SIP/2.0 200"), "{said}");
        trunk
    }

    /// Somebody calls by the route. What the caller hears in the end, or nothing yet once it is on its way.
    fn call(&self, name: &str) -> Call {
        let socket = datagrams();
        let from = socket.local_addr().unwrap();
        let invite = format!(
            "INVITE sip:x@b.example SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{name}\r\n\
             From: <sip:c@example.com>;tag=2\r\nTo: <sip:x@b.example>\r\nCall-ID: {name}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:c@{from}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        socket.send_to(invite.as_bytes(), self.process.at(Transport::Udp)).unwrap();
        Call(socket)
    }
}

struct Call(std::net::UdpSocket);

impl Call {
    /// Nobody could be connected to: the first word but 100.
    fn fails(&self) {
        let said =
            std::iter::repeat_with(|| datagram(&self.0)).find(|said| !said.starts_with(b"SIP/2.0 100"));
        let said = String::from_utf8(said.unwrap()).unwrap();
        assert!(said.starts_with("SIP/2.0 5") || said.starts_with("SIP/2.0 4"), "{said}");
    }
}

/// §8.2: who connected, proved a name by certificate and said `alias`, is met by that connection for that name; nobody
/// listens where its Via says.
#[test]
fn a_proven_connection_carries_requests_back() {
    let stage = Stage::new("alias");
    let mut trunk = stage.says_hello(Some("localhost"), ";alias");
    let _call = stage.call("one");
    let said = next_message(&mut trunk).expect("the call");
    assert!(said.starts_with("INVITE sip:x@b.example") && said.contains(";alias"), "{said}");
    // §5: and the next by the same one.
    let _call = stage.call("two");
    assert!(next_message(&mut trunk).expect("another call").contains("Call-ID: two\r\n"));
}

/// §8.2: without `alias` a connection carries requests one way.
#[test]
fn who_does_not_ask_is_not_met_by_its_connection() {
    let stage = Stage::new("unasked");
    let _trunk = stage.says_hello(Some("localhost"), "");
    stage.call("one").fails();
}

/// §8.2, §9.2: nor is who proved nothing.
#[test]
fn an_alias_without_a_certificate_is_worth_nothing() {
    let stage = Stage::new("unproven");
    let _trunk = stage.says_hello(None, ";alias");
    stage.call("one").fails();
}

/// §9.2: nor is who proved to be somebody else than is called.
#[test]
fn an_alias_is_for_the_name_that_was_proven() {
    let stage = Stage::new("stranger");
    let _trunk = stage.says_hello(Some("elsewhere.example"), ";alias");
    stage.call("one").fails();
}

/// §8.3: a connection that was closed is used no more.
#[test]
fn an_alias_ends_with_its_connection() {
    let stage = Stage::new("closed");
    let mut trunk = stage.says_hello(Some("localhost"), ";alias");
    trunk.conn.send_close_notify();
    trunk.flush().unwrap();
    trunk.sock.shutdown(std::net::Shutdown::Both).unwrap();
    drop(trunk);
    stage.call("one").fails();
}
