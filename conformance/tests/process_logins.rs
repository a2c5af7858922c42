//! More logins than an access server has read, on the sockets of a real process: whoever is logged in goes first, however many came
//! before it; and after a kill -9 those who keep nothing open to it are greeted.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use conformance::crowd;
use conformance::lab::apart::{Apart, HOME, Service, udp};
use conformance::lab::domains::P1;
use proto::node_auth::NodeKey;
use proto::peer::nat::Verdict;
use proto::peer::words::{Login, Profile, read};
use proto::sip::{Message, Name};
use proto::stun;

/// Fewer than a lane reads before it serves anybody who waits.
const NEWCOMERS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(10);

fn access(stage: &Apart) -> Service {
    let users =
        [0, 1].map(|n| format!("  - {{ name: {}, password: {} }}\n", crowd::name(n), crowd::password(n)));
    let config = format!(
        "users:\n{}domains: [{}]\naccess: {{ address: \"udp:{P1}:5070\" }}\n",
        users.concat(),
        crowd::DOMAIN
    );
    let service = stage.service("access", &config);
    service.comes_to("online", 0, PATIENCE);
    service
}

fn socket() -> UdpSocket {
    let socket = udp(&format!("{HOME}:5060"));
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(format!("{P1}:5070")).unwrap();
    socket
}

fn heard(socket: &UdpSocket) -> Bytes {
    let mut buffer = [0; 65_536];
    let size = socket.recv(&mut buffer).expect("an answer");
    Bytes::copy_from_slice(&buffer[..size])
}

fn answer(socket: &UdpSocket) -> Message {
    Message::parse(heard(socket)).expect("SIP")
}

/// One logs in with its password.
fn log_in(socket: &UdpSocket, request: &Message) -> Profile {
    socket.send(request.bytes()).unwrap();
    let challenged = answer(socket);
    let challenge = challenged.text(Name::WwwAuthenticate).expect("a challenge");
    socket.send(crowd::proven(request, 0, challenge, 1).bytes()).unwrap();
    let response = answer(socket);
    assert_eq!(response.status(), Some(200));
    read(response.body()).expect("a profile")
}

/// A login as a peer in public writes it.
fn in_public() -> Message {
    let own = format!("{HOME}:5060").parse().unwrap();
    let login = Login { external: Some(own), verdict: Verdict::OPEN, hosts: vec![own], ..crowd::login(0) };
    crowd::request_of(0, login)
}

#[test]
fn whoever_is_logged_in_is_served_before_newcomers_that_came_first() {
    let name = "whoever_is_logged_in_is_served_before_newcomers_that_came_first";
    let Some(stage) = Apart::inside(name) else { return };
    let (service, socket) = (access(&stage), socket());
    let request = in_public();
    let session = NodeKey(*log_in(&socket, &request).session.key);
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let via = format!("SIP/2.0/UDP {HOME}:5060;branch=z9hG4bKrenewal;rport");
    let renewal = request.edit().set_first(Name::Via, &via).set(Name::CSeq, "9 REGISTER").finish();
    service.freeze(true);
    for number in 0..NEWCOMERS {
        socket.send(crowd::request(1000 + number).bytes()).unwrap();
    }
    socket.send(session.sign(&renewal, unix).bytes()).unwrap();
    service.freeze(false);
    let answers: Vec<Message> = (0..=NEWCOMERS).map(|_| answer(&socket)).collect();
    let renewed = answers.iter().position(|answer| answer.status() == Some(200)).expect("it is renewed");
    assert!(renewed < NEWCOMERS / 2, "{renewed} who came before it were served before it");
    let rest = answers.iter().filter(|answer| matches!(answer.status(), Some(401 | 503))).count();
    assert_eq!(rest, NEWCOMERS, "everybody is answered");
}

#[test]
fn a_server_that_was_killed_greets_a_peer_that_keeps_nothing_open_to_it() {
    let name = "a_server_that_was_killed_greets_a_peer_that_keeps_nothing_open_to_it";
    let Some(stage) = Apart::inside(name) else { return };
    let (mut service, socket) = (access(&stage), socket());
    let profile = log_in(&socket, &in_public());
    assert_eq!(profile.keep_alive_ms, None, "it is in public");
    // What is durable is on disk within 100 ms.
    std::thread::sleep(Duration::from_secs(1));
    service.kill();
    service.restart();
    let hello = heard(&socket);
    let hello = stun::Message::parse(&hello).expect("STUN");
    assert_eq!(hello.class(), stun::Class::Indication);
    log_in(&socket, &in_public());
}
