//! Calls by every transport on real sockets: two phones, each with a transport of its own, TLS and WebSocket with
//! certificates made for the test; and what keeps strangers out.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use host::config::Settings;
use host::endpoint::{Fleet, audio_flowed, run};
use host::server::Server;
use host::tls::{believed, files};
use proto::node::Transport;

/// Certificates in a folder that goes with the test.
struct Certificates(PathBuf);

impl Certificates {
    fn new(test: &str) -> Certificates {
        let folder = std::env::temp_dir().join(format!("postern-transports-{test}-{}", std::process::id()));
        let certificates = Certificates(folder);
        certificates.make("server", &["127.0.0.1", "::1", "a.example"]);
        certificates
    }

    /// A certificate and its key, under this name.
    fn make(&self, name: &str, names: &[&str]) {
        let made = Command::new(env!("CARGO_BIN_EXE_postern"))
            .args(["certificate", "--out"])
            .arg(&self.0)
            .arg(name)
            .args(names)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// The `tls` part of a configuration that shows these certificates.
    fn section(&self, names: &[&str]) -> String {
        let listed = names.iter().map(|name| {
            format!(
                "{{ certificate: \"{}\", key: \"{}\" }}",
                self.path(&format!("{name}.pem")),
                self.path(&format!("{name}.key"))
            )
        });
        format!("certificates: [{}]", listed.collect::<Vec<_>>().join(", "))
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(text: &str) -> Server {
    let settings =
        Settings::from_text(Path::new("test.yaml"), text).unwrap_or_else(|error| panic!("{error}"));
    Server::start(&settings).unwrap_or_else(|error| panic!("{error}"))
}

fn address(server: &Server, transport: Transport, v6: bool) -> SocketAddr {
    let handle = server.handle();
    let all = handle.listening();
    let found = all.iter().find(|at| at.transport == transport && at.addr.is_ipv6() == v6);
    found.unwrap().addr
}

const ALL: [Transport; 5] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

/// A proxy with every transport at 127.0.0.1 and [::1]. These phones are no browsers, not even those on WebSocket.
fn everywhere(certificates: &Certificates, more: &str) -> String {
    // Servers of tests that run side by side share no media port.
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let first = NEXT.fetch_add(40, Ordering::Relaxed);
    let last = first + 39;
    let listeners = ALL.iter().flat_map(|transport| {
        ["127.0.0.1", "[::1]"]
            .map(|host| format!("  - {{ address: \"{transport}:{host}:0\", srtp: pass }}\n"))
    });
    format!(
        "listeners:\n{}auth: {{ required: false }}\nlog: error\ntls: {{ {}{more} }}\nproxy: {{}}\n\
         relay: {{ address: \"udp:127.0.0.1:0\", ports: {first}-{last} }}\nnetworks: {{ four: {{ bind: 127.0.0.1, cidr: [127.0.0.0/8] }}, six: {{ bind: \"::1\", cidr: [\"::1/128\"] }} }}\ndomains: [a.example]\n",
        listeners.collect::<String>(),
        certificates.section(&["server"]),
    )
}

/// Bob registers and waits; Alice calls him, talks for 300 ms, hangs up.
fn fleet(alice: (Transport, SocketAddr), bob: (Transport, SocketAddr), ca: &str, port: u16) -> Fleet {
    let text = format!(
        "phones:\n\
         - {{ user: bob, domain: a.example, proxy: \"{}:{}\", ca: \"{ca}\", media-port: {port}, script: {{ until-ms: 8000, answer: {{ after-ms: 20 }}, steps: [{{ do: register }}, {{ do: wait, after: ended }}] }} }}\n\
         - {{ user: alice, domain: a.example, proxy: \"{}:{}\", ca: \"{ca}\", media-port: {}, script: {{ until-ms: 8000, steps: [{{ do: register }}, {{ do: call, to: \"sip:bob@a.example\", after: registered, at-ms: 300 }}, {{ do: hang-up, after: answered, at-ms: 300 }}] }} }}\n",
        bob.0,
        bob.1,
        alice.0,
        alice.1,
        port + 10,
    );
    serde_yaml::from_str(&text).unwrap()
}

#[test]
fn phones_call_each_other_by_any_two_transports_and_families() {
    let certificates = Certificates::new("pairs");
    let server = start(&everywhere(&certificates, ""));
    let ca = certificates.path("ca.pem");
    // Every transport calls and is called; so does every family.
    let calls: Vec<_> =
        (0..ALL.len()).map(|n| ((ALL[n], n % 2 == 1), (ALL[(n + 2) % ALL.len()], n % 3 == 1))).collect();
    for (n, ((from, from_six), (to, to_six))) in calls.into_iter().enumerate() {
        let alice = (from, address(&server, from, from_six));
        let bob = (to, address(&server, to, to_six));
        let reports = run(&fleet(alice, bob, &ca, 20_100 + 20 * n as u16)).unwrap();
        assert!(audio_flowed(&reports) && reports.len() == 2, "{from} to {to}: {reports:#?}");
    }
    server.stop();
}

/// A phone's REGISTER and its 200 are counted, whatever brings them.
#[test]
fn messages_by_connections_are_counted_like_datagrams() {
    let certificates = Certificates::new("counted");
    for transport in ALL {
        let text = format!(
            "listeners: [{{ address: \"{transport}:127.0.0.1:0\", srtp: pass }}]\nauth: {{ required: false }}\nlog: error\n\
             proxy: {{}}\ndomains: [a.example]\ntls: {{ {} }}\n",
            certificates.section(&["server"])
        );
        let server = start(&text);
        let (proxy, ca) = (address(&server, transport, false), certificates.path("ca.pem"));
        let text = format!(
            "phones: [{{ user: carol, domain: a.example, proxy: \"{transport}:{proxy}\", ca: \"{ca}\", script: {{ until-ms: 8000, steps: [{{ do: register }}, {{ do: wait, after: registered }}] }} }}]"
        );
        assert!(run(&serde_yaml::from_str::<Fleet>(&text).unwrap()).unwrap()[0].registered);
        let lanes = server.handle().status().lanes;
        let counted: (u64, u64) =
            (lanes.iter().map(|l| l.received).sum(), lanes.iter().map(|l| l.sent).sum());
        assert!(counted.0 >= 1 && counted.1 >= 1, "{transport}: {counted:?}");
        server.stop();
    }
}

/// How a phone that registers over TLS fares.
fn registers(proxy: SocketAddr, domain: &str, ca: &str) -> bool {
    let text = format!(
        "phones: [{{ user: carol, domain: {domain}, proxy: \"tls:{proxy}\", ca: \"{ca}\", script: {{ until-ms: 1500, steps: [{{ do: register }}, {{ do: wait, after: registered }}] }} }}]"
    );
    run(&serde_yaml::from_str::<Fleet>(&text).unwrap()).unwrap()[0].registered
}

/// A proxy that listens on TLS alone.
fn tls_only(more: &str) -> String {
    format!(
        "listeners: [{{ address: \"tls:127.0.0.1:0\" }}]\nauth: {{ required: false }}\nlog: error\n\
         proxy: {{}}\ndomains: [a.example, b.example, sip.wild.example]\ntls: {{ {more} }}\n"
    )
}

#[test]
fn a_phone_is_shown_the_certificate_of_the_domain_it_asks_for_and_believes_no_other() {
    let certificates = Certificates::new("names");
    certificates.make("b.example", &[]);
    certificates.make("wild", &["*.wild.example"]);
    let server = start(&tls_only(&certificates.section(&["server", "b.example", "wild"])));
    let (proxy, ca) = (address(&server, Transport::Tls, false), certificates.path("ca.pem"));
    assert!(registers(proxy, "a.example", &ca) && registers(proxy, "b.example", &ca), "each by its own");
    assert!(!registers(proxy, "c.example", &ca), "nobody's");
    assert!(!registers(proxy, "sip.wild.example", &ca), "a wildcard names no SIP domain (RFC 5922 §7.2)");
    let stranger = Certificates::new("stranger");
    assert!(!registers(proxy, "a.example", &stranger.path("ca.pem")), "an authority nobody knows");
    server.stop();
}

/// A TLS connection of a client that shows the certificate of this name.
fn connected(
    proxy: SocketAddr,
    certificates: &Certificates,
    shown: Option<&str>,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let file = |name: &str| PathBuf::from(certificates.path(name));
    let own = shown
        .map(|name| files::certified(&file(&format!("{name}.pem")), &file(&format!("{name}.key"))).unwrap());
    let config = believed::client(files::authorities(&file("ca.pem")).unwrap(), own, false).unwrap();
    let name = believed::server_name("a.example").unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    rustls::StreamOwned::new(connection, stream)
}

/// Whether a keep-alive over TLS is answered (RFC 5626 §3.5.1).
fn pongs(proxy: SocketAddr, certificates: &Certificates, shown: Option<&str>) -> bool {
    let mut stream = connected(proxy, certificates, shown);
    let mut pong = [0; 2];
    stream.write_all(b"\r\n\r\n").is_ok() && stream.read_exact(&mut pong).is_ok() && &pong == b"\r\n"
}

#[test]
fn a_client_without_a_certificate_stays_out_where_one_is_required() {
    let certificates = Certificates::new("clients");
    let section = |word: &str| {
        let (own, ca) = (certificates.section(&["server"]), certificates.path("ca.pem"));
        tls_only(&format!("{own}, client-certificates: {word}, client-authorities: \"{ca}\""))
    };
    let server = start(&section("required"));
    let proxy = address(&server, Transport::Tls, false);
    assert!(!pongs(proxy, &certificates, None) && pongs(proxy, &certificates, Some("server")));
    server.stop();
    let server = start(&section("optional"));
    let proxy = address(&server, Transport::Tls, false);
    assert!(pongs(proxy, &certificates, None) && pongs(proxy, &certificates, Some("server")));
    server.stop();
}

/// The inner one asks everybody for a password but the trunk whose certificate it knows; its address is everybody's here.
#[test]
fn two_proxies_call_over_tls_and_each_proves_itself() {
    let certificates = Certificates::new("proxies");
    let ca = certificates.path("ca.pem");
    let asks = format!(", client-certificates: optional, client-authorities: \"{ca}\"");
    let answered = |known: &str| {
        let trunks = format!(
            "trunks: {{ outer: {{ servers: [\"tls:127.0.0.1:5061\"], probe: 0, certificate-names: [{known}] }} }}\n"
        );
        let inner = everywhere(&certificates, &asks)
            .replace("auth: { required: false }\n", "users: [{ name: bob, password: x }]\n");
        let inner = start(&(inner + &trunks));
        let (to_inner, plain) =
            (address(&inner, Transport::Tls, false), address(&inner, Transport::Udp, false));
        let outer = start(&format!(
            "listeners: [{{ address: \"udp:127.0.0.1:0\" }}, {{ address: \"tls:127.0.0.1:0\" }}]\nauth: {{ required: false }}\n\
             log: error\ntls: {{ {}, authorities: \"{ca}\" }}\nproxy: {{ anchor: never, routes: [{{ to: a.example, via: 'tls:{to_inner}' }}] }}\n",
            certificates.section(&["server"])
        ));
        let udp = address(&outer, Transport::Udp, false);
        let text = format!(
            "phones:\n\
             - {{ user: bob, domain: a.example, password: x, proxy: \"udp:{plain}\", media-port: 20300, script: {{ until-ms: 2500, answer: {{ after-ms: 20 }}, steps: [{{ do: register }}, {{ do: wait, after: ended }}] }} }}\n\
             - {{ user: alice, proxy: \"udp:{udp}\", media-port: 20310, script: {{ until-ms: 2500, steps: [{{ do: call, to: \"sip:bob@a.example\", at-ms: 500 }}, {{ do: hang-up, after: answered, at-ms: 300 }}] }} }}\n"
        );
        let reports = run(&serde_yaml::from_str::<Fleet>(&text).unwrap()).unwrap();
        outer.stop();
        inner.stop();
        audio_flowed(&reports) && reports.iter().all(|report| report.answered)
    };
    assert!(answered("a.example"), "the trunk is known by its certificate");
    assert!(!answered("b.example"), "a certificate of somebody else");
}

/// Two trunks lead to the inner one, by its two addresses; it takes calls without a password from one of them.
#[test]
fn each_trunk_is_shown_the_certificate_that_is_for_it() {
    let certificates = Certificates::new("trunks");
    let ca = certificates.path("ca.pem");
    for name in ["one.example", "two.example"] {
        certificates.make(name, &[]);
    }
    let inner =
        everywhere(&certificates, &format!(", client-certificates: required, client-authorities: \"{ca}\""))
            .replace("auth: { required: false }\n", "users: [{ name: bob, password: x }]\n");
    let known =
        "trunks: { outer: { servers: [\"tls:192.0.2.1\"], probe: 0, certificate-names: [one.example] } }\n";
    let inner = start(&(inner + known));
    let trunk = |name: &str, v6: bool| {
        let (server, own) = (address(&inner, Transport::Tls, v6), certificates.section(&[name]));
        let own = own.trim_start_matches("certificates: [").trim_end_matches(']').to_owned();
        format!(
            "{{ servers: [\"tls:{server}\"], probe: 0, tls: {{ certificate: {own}, authorities: \"{ca}\" }} }}"
        )
    };
    let outer = start(&format!(
        "listeners: [{{ address: \"udp:127.0.0.1:0\" }}, {{ address: \"tls:127.0.0.1:0\" }}, {{ address: \"tls:[::1]:0\" }}]\n\
         auth: {{ required: false }}\nlog: error\ntls: {{ {} }}\ntrunks: {{ one: {}, two: {} }}\n\
         networks: {{ four: {{ bind: 127.0.0.1, cidr: [127.0.0.0/8] }}, six: {{ bind: \"::1\", cidr: [\"::1/128\"] }} }}\n\
         proxy: {{ anchor: never, routes: [{{ to: \"+1*\", trunks: one }}, {{ to: \"+2*\", trunks: two }}] }}\n",
        certificates.section(&["server"]),
        trunk("one.example", false),
        trunk("two.example", true),
    ));
    assert_eq!(
        asked(&outer, "+1555"),
        404,
        "whom the trunk asks for is not known there, and nobody wants a password"
    );
    assert_eq!(asked(&outer, "+2555"), 407, "the same by the other one");
    outer.stop();
    inner.stop();
}

/// How somebody's call to this number ends.
fn asked(server: &Server, number: &str) -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (to, from) = (address(server, Transport::Udp, false), socket.local_addr().unwrap());
    let invite = format!(
        "INVITE sip:{number}@a.example SIP/2.0\r\nVia: SIP/2.0/UDP {from};rport;branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@a.example>;tag=1\r\nTo: <sip:{number}@a.example>\r\nCall-ID: {number}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:alice@{from}>\r\nContent-Length: 0\r\n\r\n"
    );
    socket.send_to(invite.as_bytes(), to).unwrap();
    let mut buffer = [0; 4096];
    loop {
        socket.recv(&mut buffer).expect("a final answer within ten seconds");
        let status: u16 = std::str::from_utf8(&buffer[8..11]).unwrap().parse().unwrap();
        if status >= 200 {
            return status;
        }
    }
}

#[test]
fn two_certificates_for_one_server_are_an_error() {
    let certificates = Certificates::new("contradiction");
    for name in ["one.example", "two.example"] {
        certificates.make(name, &[]);
    }
    let trunk = |name: &str| {
        let own = certificates.section(&[name]).replace("certificates: [", "").replace(']', "");
        format!("{{ servers: [\"tls:Carrier.example\"], probe: 0, tls: {{ certificate: {own} }} }}")
    };
    let text = |second: &str| {
        let (server, one) = (certificates.section(&["server"]), trunk("one.example"));
        format!(
            "listeners: [{{ address: \"udp:127.0.0.1:0\" }}, {{ address: \"tls:127.0.0.1:0\" }}]\ntls: {{ {server} }}\n\
             trunks: {{ one: {one}, two: {} }}\nproxy: {{ routes: [{{ to: \"*\", trunks: [one, two] }}] }}\n",
            trunk(second)
        )
    };
    let read = |text: &str| Settings::from_text(Path::new("test.yaml"), text);
    assert!(read(&text("one.example")).is_ok());
    let error = read(&text("two.example")).unwrap_err().to_string();
    assert!(error.contains("carrier.example is shown one certificate by `trunks.one.tls`"), "{error}");
}

#[test]
fn a_renewed_certificate_is_shown_after_a_reload_and_a_bad_one_changes_nothing() {
    let certificates = Certificates::new("renewed");
    let file = certificates.0.join("postern.yaml");
    std::fs::write(&file, tls_only(&certificates.section(&["server"]))).unwrap();
    let server = Server::start(&Settings::load(&file).unwrap()).unwrap();
    let (proxy, ca) = (address(&server, Transport::Tls, false), certificates.path("ca.pem"));
    assert!(registers(proxy, "a.example", &ca) && !registers(proxy, "b.example", &ca));
    let mut before = TcpStream::connect(proxy).unwrap();

    certificates.make("server", &["b.example"]);
    server.handle().reload().unwrap();
    assert!(registers(proxy, "b.example", &ca), "the new one is shown");

    std::fs::write(certificates.0.join("server.pem"), "not PEM").unwrap();
    let error = server.handle().reload().unwrap_err().to_string();
    assert!(error.contains("server.pem") && error.contains("fullchain.pem"), "{error}");
    certificates.make("other", &["b.example"]);
    std::fs::copy(certificates.path("other.pem"), certificates.path("server.pem")).unwrap();
    let error = server.handle().reload().unwrap_err().to_string();
    assert!(error.contains("server.key") && error.contains("not the key of the certificate"), "{error}");
    assert!(registers(proxy, "b.example", &ca), "the old one is still shown");

    before.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(
        before.read(&mut [0; 1]).is_err(),
        "a connection from before is still open: nothing, not its end"
    );
    server.stop();
}

/// A phone on TCP that takes an INVITE and falls silent for good: its connection ends before it has said a word.
#[test]
fn a_call_fails_at_once_when_the_callees_connection_ends_before_it_has_answered() {
    let server = start(
        "listeners: [{ address: \"udp:127.0.0.1:0\" }, { address: \"tcp:127.0.0.1:0\" }]\n\
         auth: { required: false }\nlog: error\nproxy: {}\ndomains: [a.example]\n",
    );
    let mut phone = TcpStream::connect(address(&server, Transport::Tcp, false)).unwrap();
    phone.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let local = phone.local_addr().unwrap();
    let register = format!(
        "REGISTER sip:a.example SIP/2.0\r\nVia: SIP/2.0/TCP {local};branch=z9hG4bKr1\r\nFrom: <sip:bob@a.example>;tag=1\r\n\
         To: <sip:bob@a.example>\r\nCall-ID: r1\r\nCSeq: 1 REGISTER\r\nContact: <sip:bob@{local};transport=tcp>\r\n\
         Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    );
    phone.write_all(register.as_bytes()).unwrap();
    assert!(next_message(&mut phone).starts_with("SIP/2.0 200"));
    let caller = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    caller.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let from = caller.local_addr().unwrap();
    let invite = format!(
        "INVITE sip:bob@a.example SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKi1\r\nFrom: <sip:carol@a.example>;tag=2\r\n\
         To: <sip:bob@a.example>\r\nCall-ID: i1\r\nCSeq: 1 INVITE\r\nContact: <sip:carol@{from}>\r\nMax-Forwards: 70\r\n\
         Content-Length: 0\r\n\r\n"
    );
    caller.send_to(invite.as_bytes(), address(&server, Transport::Udp, false)).unwrap();
    assert!(next_message(&mut phone).starts_with("INVITE"));
    drop(phone);
    // Timer B would be 32 s, beyond the patience of this test.
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = caller.recv(&mut buffer) {
        let status = String::from_utf8_lossy(&buffer[8..length.min(11)]).into_owned();
        let is_final = !status.starts_with('1');
        heard.push(status);
        if is_final {
            break;
        }
    }
    assert!(
        heard.last().is_some_and(|status| status.starts_with('4') || status.starts_with('5')),
        "{heard:?}"
    );
    server.stop();
}

/// One message without a body.
fn next_message(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}
