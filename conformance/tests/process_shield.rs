//! The shield on the sockets of real processes: over UDP and TCP alike, whoever guesses is shut out, connections are
//! limited, and a call that is up is as it was.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use conformance::lab::apart::{Apart, HOME, OFFICE, STRANGER, Service, udp};
use conformance::lab::domains::{Call, P1};
use host::admin::{Ask, ask};
use host::shield::Order;
use proto::digest;

const WORD: Duration = Duration::from_millis(1500);

fn proxy() -> SocketAddr {
    SocketAddr::new(P1.parse().unwrap(), 5060)
}

/// Somebody who guesses, by datagrams or by a connection.
enum Line {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Line {
    fn udp() -> Line {
        let socket = udp(&format!("{STRANGER}:0"));
        socket.set_read_timeout(Some(WORD)).unwrap();
        socket.connect(proxy()).unwrap();
        Line::Udp(socket)
    }

    fn tcp() -> Line {
        let local: SocketAddr = format!("{STRANGER}:0").parse().unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&local.into()).unwrap();
        socket.connect(&proxy().into()).unwrap();
        let stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(WORD)).unwrap();
        Line::Tcp(stream)
    }

    fn name(&self) -> &'static str {
        match self {
            Line::Udp(_) => "UDP",
            Line::Tcp(_) => "TCP",
        }
    }

    /// Says something; what is answered, if anything is.
    fn ask(&mut self, text: &str) -> Option<String> {
        let mut buffer = [0; 4096];
        let size = match self {
            Line::Udp(socket) => socket.send(text.as_bytes()).and_then(|_| socket.recv(&mut buffer)),
            Line::Tcp(stream) => stream.write_all(text.as_bytes()).and_then(|()| stream.read(&mut buffer)),
        };
        let answer = String::from_utf8_lossy(&buffer[..size.ok()?]).into_owned();
        (!answer.is_empty()).then_some(answer)
    }

    /// One guess at an account: `true` when it was answered 401 all the way.
    fn guess(&mut self, user: &str, call: &str) -> bool {
        let (via, mut authorization) = (self.name(), String::new());
        for cseq in 1..=2 {
            let request = format!(
                "REGISTER sip:one.test SIP/2.0\r\nVia: SIP/2.0/{via} {STRANGER};branch=z9hG4bK{call}{cseq};rport\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:{user}@one.test>;tag=t\r\nTo: <sip:{user}@one.test>\r\nCall-ID: {call}\r\n\
                 CSeq: {cseq} REGISTER\r\nContact: <sip:{user}@{STRANGER}>\r\n{authorization}Content-Length: 0\r\n\r\n"
            );
            let Some(answer) = self.ask(&request) else { return false };
            assert!(answer.starts_with("SIP/2.0 401"), "{answer}");
            let challenge = answer.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: ")).unwrap();
            let asked = digest::Request { method: "REGISTER", body: b"" };
            let wrong = digest::answer(challenge, user, "guess", "sip:one.test", asked, 1, "c").unwrap();
            authorization = format!("Authorization: {wrong}\r\n");
        }
        true
    }
}

fn order(service: &Service, order: Order) -> serde_json::Value {
    ask(&service.control, &Ask::Shield { order }).expect("it answers").value
}

#[test]
fn whoever_guesses_over_udp_or_tcp_is_shut_out_and_nobody_else_notices() {
    let Some(stage) = Apart::inside("whoever_guesses_over_udp_or_tcp_is_shut_out_and_nobody_else_notices")
    else {
        return;
    };
    let _relay = stage.relay();
    let p1 = stage.p1(&["alice", "bob"]);
    let mut alice = stage.phone("alice", &format!("{HOME}:5060"));
    let mut bob = stage.phone("bob", &format!("{OFFICE}:5060"));
    let media = "192.168.1.10:4000".parse().unwrap();
    let mut call = Call::place(&mut alice, &mut bob, media, media);
    for make in [Line::udp, Line::tcp] {
        let mut line = make();
        let tries =
            (0..60).take_while(|at| line.guess(&format!("ext{at}"), &format!("{}{at}", line.name()))).count();
        assert!((10..20).contains(&tries), "{}: {tries} guesses", line.name());
        let listed = order(&p1, Order::List);
        assert_eq!(listed["bans"][0]["source"], STRANGER, "{listed}");
        assert!(!make_and_ask(), "a new connection is not served either");
        let told = ask(&p1.control, &Ask::Explain { call: STRANGER.into() }).unwrap().lines.join("\n");
        assert!(told.contains("banned") && told.contains("names"), "{told}");
        assert_eq!(order(&p1, Order::Allow(STRANGER.into()))["lifted"], 1);
        assert!(make().guess("ext1", &format!("again{}", line.name())), "allowed");
        // Until the next start it stays so: the second line needs another process.
        if line.name() == "UDP" {
            assert!(p1.status()["shield"]["failures"].as_u64() >= Some(10), "{}", p1.status());
            break;
        }
    }
    call.hang_up(&mut alice, &mut bob);
}

/// Whether a stranger's new connection gets an answer.
fn make_and_ask() -> bool {
    Line::tcp().guess("anybody", "fresh")
}

#[test]
fn whoever_guesses_by_a_connection_is_shut_out_too() {
    let Some(stage) = Apart::inside("whoever_guesses_by_a_connection_is_shut_out_too") else { return };
    let p1 = stage.p1(&["alice"]);
    let mut line = Line::tcp();
    let tries = (0..60).take_while(|at| line.guess(&format!("ext{at}"), &format!("tcp{at}"))).count();
    assert!((10..20).contains(&tries), "{tries} guesses");
    assert!(!make_and_ask(), "a new connection is closed before a word");
    assert_eq!(order(&p1, Order::List)["bans"][0]["source"], STRANGER);
    let mut alice = conformance::lab::phone::Phone::at(
        udp(&format!("{HOME}:5060")),
        "alice",
        "one.test",
        &proxy().to_string(),
    );
    assert!(alice.register(60).is("200 REGISTER"));
}

#[test]
fn a_flood_of_connections_keeps_nobody_out() {
    let Some(stage) = Apart::inside("a_flood_of_connections_keeps_nobody_out") else { return };
    let p1 = stage.p1(&["alice", "bob"]);
    let connect = |from: &str| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&format!("{from}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.connect_timeout(&proxy().into(), Duration::from_secs(2)).map(|()| TcpStream::from(socket))
    };
    let flood: Vec<TcpStream> = (0..1100).filter_map(|_| connect(STRANGER).ok()).collect();
    assert!(flood.len() > 1000);
    let deadline = Instant::now() + Duration::from_secs(5);
    let closed = || {
        let gone = |mut stream: &TcpStream| {
            stream.set_nonblocking(true).is_ok() && matches!(stream.read(&mut [0; 1]), Ok(0))
        };
        flood.iter().filter(|stream| gone(stream)).count()
    };
    while closed() < flood.len() - 1000 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(closed(), flood.len() - 1000, "one source has a thousand");
    let mut home = connect(HOME).expect("others connect");
    home.set_read_timeout(Some(WORD)).unwrap();
    home.write_all(b"\r\n\r\n").unwrap();
    let mut pong = [0; 2];
    home.read_exact(&mut pong).expect("and are answered");
    assert_eq!((&pong, p1.count("panics")), (b"\r\n", 0));
}
