//! Fifty handshakes of DTLS-SRTP that begin at the same moment, on real sockets and by real arithmetic: all of them finish,
//! and calls that are up meanwhile lose nothing. What is counted is packets; how long it takes is the machine's affair.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use host::config::Settings;
use host::dtls::Maker;
use host::server::Server;
use proto::srtp::{MAX_GROWTH, Master, Sender, fingerprint};
use relay::dtls::{Handshake, Handshakes, Step};
use relay::ng::bencode;
use relay::ng::value::{Dict, Value};

const PATIENCE: Duration = Duration::from_secs(5);
/// For all handshakes together, on a machine that has other things to do.
const ALL: Duration = Duration::from_secs(120);
const MANY: usize = 50;

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn sdp(socket: &UdpSocket, protocol: &str, lines: &str) -> String {
    let port = socket.local_addr().unwrap().port();
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} {protocol} 0\r\n{lines}"
    )
}

fn rtp(ssrc: u8, n: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(n.to_be_bytes());
    packet.extend((u32::from(n) * 160).to_be_bytes());
    packet.extend([0, 0, 0, ssrc, 0xd5, 0xd5]);
    packet
}

/// A relay and who commands it.
struct Stage {
    server: Server,
    ng: UdpSocket,
    commands: usize,
}

impl Stage {
    fn start() -> Stage {
        let text = "networks: { default: { bind: 127.0.0.1 } }\nlog: error\n\
            relay: { address: \"udp:127.0.0.1:0\", ports: 25000-25399, threads: 1, ng: \"udp:127.0.0.1:0\" }\n";
        let settings =
            Settings::from_text(Path::new("test.yaml"), text).unwrap_or_else(|error| panic!("{error}"));
        let server = Server::start(&settings).unwrap_or_else(|error| panic!("{error}"));
        let ng = socket();
        ng.connect(server.handle().listening().last().unwrap().addr).unwrap();
        Stage { server, ng, commands: 0 }
    }

    /// What one party of a call says; what the other is told.
    fn says(&mut self, command: &str, call: &str, sdp: &str, protocol: &str) -> String {
        self.commands += 1;
        let entries = [("command", command), ("call-id", call), ("from-tag", "a"), ("sdp", sdp)];
        let more = [("to-tag", "b"), ("transport-protocol", protocol)];
        let more = more.into_iter().filter(|(key, value)| match *key {
            "to-tag" => command == "answer",
            _ => !value.is_empty(),
        });
        let dict = entries.into_iter().chain(more);
        let dict = dict.fold(Dict::default(), |dict, (key, value)| dict.with(key, Value::text(value)));
        let mut bytes = format!("{} ", self.commands).into_bytes();
        let cookie = bytes.len();
        bencode::write(&Value::Dict(dict), &mut bytes);
        self.ng.send(&bytes).unwrap();
        let mut buffer = vec![0; 65_535];
        let length = self.ng.recv(&mut buffer).expect("an answer within five seconds");
        let answer = bencode::read(&buffer[cookie..length]).expect("bencoding");
        let answer = answer.as_dict().expect("a dictionary");
        answer.text("sdp").unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }
}

fn port_of(sdp: &str) -> SocketAddr {
    let line = sdp.lines().find(|line| line.starts_with("m=audio ")).unwrap();
    SocketAddr::from(([127, 0, 0, 1], line.split(' ').nth(1).unwrap().parse().unwrap()))
}

/// A call between a phone of plain RTP and one that begins a handshake.
struct Call {
    plain: UdpSocket,
    secret: UdpSocket,
    /// The port the second was told.
    relay: SocketAddr,
    shake: Box<dyn Handshake>,
    wake: Option<Instant>,
    peer: Option<Vec<u8>>,
    keys: Option<[Master; 2]>,
    /// What the description named.
    named: String,
}

impl Call {
    fn begin(stage: &mut Stage, maker: &Maker, name: &str) -> Call {
        let (plain, secret) = (socket(), socket());
        let offer = stage.says("offer", name, &sdp(&plain, "RTP/AVP", ""), "UDP/TLS/RTP/SAVP");
        let named =
            offer.lines().find_map(|line| line.strip_prefix("a=fingerprint:")).expect("a fingerprint");
        let lines = format!("a=setup:active\r\na=rtcp-mux\r\na=fingerprint:{}\r\n", maker.fingerprint());
        stage.says("answer", name, &sdp(&secret, "UDP/TLS/RTP/SAVP", &lines), "");
        secret.set_nonblocking(true).unwrap();
        Call {
            relay: port_of(&offer),
            named: named.to_owned(),
            shake: maker.begin(Instant::now(), true),
            plain,
            secret,
            wake: None,
            peer: None,
            keys: None,
        }
    }

    /// Says what the handshake wants said.
    fn say(&mut self) {
        while let Some(step) = self.shake.poll() {
            match step {
                Step::Send(bytes) => drop(self.secret.send_to(&bytes, self.relay).unwrap()),
                Step::WakeAt(at) => self.wake = Some(at),
                Step::Peer(certificate) => self.peer = Some(certificate),
                Step::Keys(keys) => self.keys = Some(keys),
                Step::Over => panic!("a handshake failed"),
            }
        }
    }

    /// Hears what has come, and wakes in time.
    fn hear(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = self.secret.recv_from(&mut buffer) {
            assert_eq!(from, self.relay);
            self.shake.handle(Instant::now(), &buffer[..length]);
            self.say();
        }
        if self.wake.is_some_and(|at| at <= Instant::now()) {
            self.wake = None;
            self.shake.wake(Instant::now());
            self.say();
        }
    }

    /// What is sent under the agreed keys comes out in the open, until the relay has them too.
    fn is_heard(&self) {
        let [ours, _] = self.keys.as_ref().expect("keys");
        let mut sender = Sender::new(ours);
        self.plain.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut buffer = [0; 200];
        for n in 0..100 {
            let mut sealed = rtp(7, n);
            let length = sealed.len();
            sealed.resize(length + MAX_GROWTH, 0);
            let length = sender.rtp(&mut sealed, length).unwrap();
            self.secret.send_to(&sealed[..length], self.relay).unwrap();
            if let Ok(length) = self.plain.recv(&mut buffer) {
                assert_eq!((buffer[11], &buffer[12..length]), (7, &[0xd5, 0xd5][..]));
                return;
            }
        }
        panic!("nothing comes out under the agreed keys");
    }
}

/// A call of plain RTP that is up.
struct Line {
    carol: UdpSocket,
    dave: UdpSocket,
    for_carol: SocketAddr,
    said: u16,
}

impl Line {
    fn up(stage: &mut Stage, name: &str) -> Line {
        let (carol, dave) = (socket(), socket());
        let for_dave = port_of(&stage.says("offer", name, &sdp(&carol, "RTP/AVP", ""), ""));
        let for_carol = port_of(&stage.says("answer", name, &sdp(&dave, "RTP/AVP", ""), ""));
        dave.send_to(&rtp(0xd, 0), for_dave).unwrap();
        let mut line = Line { carol, dave, for_carol, said: 0 };
        line.talk();
        line
    }

    fn talk(&mut self) {
        let (packet, mut buffer) = (rtp(0xc, self.said), [0; 200]);
        self.carol.send_to(&packet, self.for_carol).unwrap();
        let heard = self.dave.recv(&mut buffer);
        let length = heard.unwrap_or_else(|error| panic!("packet {} is lost: {error}", self.said));
        assert_eq!(buffer[..length], packet, "in order, one for one");
        self.said += 1;
    }
}

#[test]
fn fifty_handshakes_at_once_all_finish_and_calls_that_are_up_lose_nothing() {
    let mut stage = Stage::start();
    let mut lines: Vec<Line> = (0..5).map(|n| Line::up(&mut stage, &format!("open-{n}"))).collect();
    let maker = Maker::new().unwrap();
    let mut calls: Vec<Call> =
        (0..MANY).map(|n| Call::begin(&mut stage, &maker, &format!("secret-{n}"))).collect();
    calls.iter_mut().for_each(Call::say);
    assert!(calls.iter().all(|call| call.keys.is_none()), "all have begun, none is done");
    let deadline = Instant::now() + ALL;
    while calls.iter().any(|call| call.keys.is_none()) {
        calls.iter_mut().for_each(Call::hear);
        lines.iter_mut().for_each(Line::talk);
        let done = calls.iter().filter(|call| call.keys.is_some()).count();
        assert!(Instant::now() < deadline, "{done} of {MANY} handshakes finished");
    }
    for call in &calls {
        let peer = call.peer.as_ref().expect("the relay shows a certificate");
        assert!(fingerprint::is_named(peer, std::slice::from_ref(&call.named)));
        call.is_heard();
    }
    stage.server.stop();
}
