//! The ng face over TCP and WebSocket on real sockets, beside UDP. Ephemeral loopback ports; nothing sleeps, every wait has
//! a deadline.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use host::config::Settings;
use host::server::Server;
use proto::node::Transport;
use relay::ng::command::{Encoding, Envelope, seal};
use relay::ng::stream::{Frame, Framer};
use relay::ng::value::{Dict, Value};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

const PATIENCE: Duration = Duration::from_secs(5);
const ALICE: &str = "v=0\r\no=alice 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 0\r\n";

/// A relay that is commanded over all three transports, and by whom.
fn start(threads: u16, ports: &str, allow: &str) -> Server {
    let text = format!(
        "networks: {{ default: {{ bind: 127.0.0.1 }} }}\nlog: error\n\
         relay: {{ address: \"udp:127.0.0.1:0\", ports: {ports}, threads: {threads}, ng: {{ allow: {allow}, \
         listen: [\"udp:127.0.0.1:0\", \"tcp:127.0.0.1:0\", \"ws:127.0.0.1:0\"] }} }}\n"
    );
    let settings =
        Settings::from_text(Path::new("test.yaml"), &text).unwrap_or_else(|error| panic!("{error}"));
    Server::start(&settings).unwrap_or_else(|error| panic!("{error}"))
}

fn at(server: &Server, transport: Transport) -> SocketAddr {
    let all = server.handle().listening();
    all.iter().rev().find(|address| address.transport == transport).unwrap().addr
}

fn says(cookie: &str, encoding: Encoding, entries: &[(&str, &str)]) -> Vec<u8> {
    let entry = |dict: Dict<'static>, (key, value): &(&str, &str)| dict.with(*key, Value::text(*value));
    seal(cookie.as_bytes(), encoding, entries.iter().fold(Dict::default(), entry))
}

fn offer(call: &str) -> [(&str, &str); 4] {
    [("command", "offer"), ("call-id", call), ("from-tag", "a"), ("sdp", ALICE)]
}

/// Cookie and dictionary of an answer.
fn read(bytes: &[u8]) -> (String, Dict<'static>) {
    let envelope = Envelope::read(bytes).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(bytes)));
    let dict = envelope.body.as_ref().and_then(Value::as_dict).expect("a dictionary").owned();
    (String::from_utf8_lossy(envelope.cookie).into_owned(), dict)
}

/// A client on a stream, and what it has read so far.
struct Line(TcpStream, Framer);

impl Line {
    fn to(server: SocketAddr) -> Line {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Line(stream, Framer::default())
    }

    fn answer(&mut self) -> (String, Dict<'static>) {
        let mut piece = [0; 4096];
        loop {
            match self.1.poll() {
                Some(Frame::Command(bytes)) => return read(&bytes),
                Some(Frame::Broken(bytes)) => panic!("{}", String::from_utf8_lossy(&bytes)),
                None => {
                    let length = self.0.read(&mut piece).expect("an answer within five seconds");
                    assert_ne!(length, 0, "the connection was closed");
                    self.1.push(&piece[..length]);
                }
            }
        }
    }

    /// What comes until the server ends the connection.
    fn last_words(mut self) -> Vec<u8> {
        let mut words = Vec::new();
        match self.0.read_to_end(&mut words) {
            // What was sent and not read by anybody resets the connection: it is over, too.
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
        words
    }
}

#[test]
fn several_commands_in_one_segment_are_answered_and_so_is_one_over_many() {
    let server = start(2, "25100-25299", "127.0.0.1");
    let mut line = Line::to(at(&server, Transport::Tcp));
    let together: Vec<u8> = (0..20)
        .flat_map(|n| {
            let encoding = if n % 2 == 0 { Encoding::Bencode } else { Encoding::Json };
            says(&format!("9_{n}"), encoding, &offer(&format!("call-{n}")))
        })
        .collect();
    line.0.write_all(&together).unwrap();
    // Calls live on different threads: their answers come in any order.
    let mut cookies: Vec<String> = (0..20)
        .map(|_| {
            let (cookie, answer) = line.answer();
            assert_eq!(answer.text("result"), Some("ok"), "{cookie}");
            cookie
        })
        .collect();
    cookies.sort();
    let mut wanted: Vec<String> = (0..20).map(|n| format!("9_{n}")).collect();
    wanted.sort();
    assert_eq!(cookies, wanted);
    let sessions: Vec<usize> = server.handle().lanes().iter().map(|lane| lane.sessions).collect();
    assert!(
        sessions.iter().all(|sessions| *sessions > 0),
        "each call is with the thread it belongs to: {sessions:?}"
    );

    for byte in says("slow", Encoding::Json, &[("command", "query"), ("call-id", "call-7")]) {
        line.0.write_all(&[byte]).unwrap();
    }
    let (cookie, answer) = line.answer();
    assert_eq!((cookie.as_str(), answer.text("result")), ("slow", Some("ok")));
    server.stop();
}

#[test]
fn a_command_that_is_repeated_on_another_connection_gets_the_answer_it_got() {
    let server = start(2, "24500-24599", "127.0.0.1");
    let said = says("1_1", Encoding::Bencode, &offer("again"));
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut line = Line::to(at(&server, Transport::Tcp));
        line.0.write_all(&said).unwrap();
        answers.push(line.answer());
    }
    assert_eq!(answers[0], answers[1]);
    let other = says("1_1", Encoding::Bencode, &offer("other"));
    let mut line = Line::to(at(&server, Transport::Tcp));
    line.0.write_all(&other).unwrap();
    assert_ne!(line.answer().1.text("sdp"), answers[0].1.text("sdp"), "another client with the same cookie");
    server.stop();
}

#[test]
fn one_call_may_be_commanded_over_every_transport() {
    let server = start(1, "24600-24699", "127.0.0.1");
    let mut tcp = Line::to(at(&server, Transport::Tcp));
    tcp.0.write_all(&says("t", Encoding::Bencode, &offer("one"))).unwrap();
    assert_eq!(tcp.answer().1.text("result"), Some("ok"));

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.connect(at(&server, Transport::Udp)).unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    udp.send(&says("u", Encoding::Bencode, &[("command", "list")])).unwrap();
    let mut buffer = [0; 4096];
    let length = udp.recv(&mut buffer).unwrap();
    let (_, listed) = read(&buffer[..length]);
    assert_eq!(listed.value("calls").map(Value::words), Some(vec!["one"]));

    let mut ws = websocket(&server, "ng.rtpengine.com").unwrap();
    ws.send(Message::text(r#"w {"command":"delete","call-id":"one","from-tag":"a"}"#)).unwrap();
    let (cookie, deleted) = read(&ws.read().unwrap().into_data());
    assert_eq!((cookie.as_str(), deleted.text("result")), ("w", Some("ok")));
    server.stop();
}

fn websocket(server: &Server, protocol: &'static str) -> Result<WebSocket<TcpStream>, String> {
    let remote = at(server, Transport::Ws);
    let stream = TcpStream::connect(remote).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!("ws://{remote}/").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
    let (socket, response) = client(request, stream).map_err(|error| error.to_string())?;
    assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
    Ok(socket)
}

#[test]
fn the_plain_subprotocol_has_no_cookies_and_only_the_two_are_spoken() {
    let server = start(1, "24700-24799", "127.0.0.1");
    let mut plain = websocket(&server, "ng-plain.rtpengine.com").unwrap();
    plain.send(Message::text(r#"{"command":"ping"}"#)).unwrap();
    assert_eq!(plain.read().unwrap().into_text().unwrap().as_str(), r#"{"result":"pong"}"#);
    plain.send(Message::binary(&b"d7:command4:pinge"[..])).unwrap();
    assert_eq!(&plain.read().unwrap().into_data()[..], b"d6:result4:ponge");
    assert!(websocket(&server, "sip").unwrap_err().contains("400"));
    server.stop();
}

#[test]
fn what_is_no_command_ends_the_connection_and_is_told() {
    let server = start(1, "24800-24899", "127.0.0.1");
    let garbage: [(&[u8], &[u8]); 3] = [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        (b"c nonsense", b""),
        (b"c {\"command\": }", b"c {\"error-reason\":\"Could not decode dictionary\",\"result\":\"error\"}"),
    ];
    for (said, heard) in garbage {
        let mut line = Line::to(at(&server, Transport::Tcp));
        let asked = Instant::now();
        line.0.write_all(said).unwrap();
        assert_eq!(line.last_words(), heard, "{}", String::from_utf8_lossy(said));
        assert!(asked.elapsed() < PATIENCE);
    }
    let mut ws = websocket(&server, "ng.rtpengine.com").unwrap();
    ws.send(Message::text("nonsense")).unwrap();
    assert!(ws.read().is_ok_and(|message| message.is_close()), "closed in the manner of WebSocket");
    server.stop();
}

#[test]
fn who_may_not_command_is_not_let_in_at_all() {
    let server = start(1, "24900-24999", "127.0.0.9");
    let mut line = Line::to(at(&server, Transport::Tcp));
    let _ = line.0.write_all(&says("c", Encoding::Bencode, &[("command", "ping")]));
    assert!(line.last_words().is_empty());
    assert!(websocket(&server, "ng.rtpengine.com").is_err());
    server.stop();
}

#[test]
fn a_listener_takes_so_many_connections_and_no_more() {
    let server = start(1, "25000-25099", "127.0.0.1");
    let ping = says("c", Encoding::Bencode, &[("command", "ping")]);
    let lines: Vec<Line> = (0..256)
        .map(|_| {
            let mut line = Line::to(at(&server, Transport::Tcp));
            line.0.write_all(&ping).unwrap();
            assert_eq!(line.answer().1.text("result"), Some("pong"));
            line
        })
        .collect();
    let mut one_more = Line::to(at(&server, Transport::Tcp));
    let _ = one_more.0.write_all(&ping);
    assert!(one_more.last_words().is_empty());
    drop(lines);
    server.stop();
}
