//! The shell on real sockets: messages in by UDP and TCP, out to where they belong, names, keep-alives, reloads, restarts.
//! Everything on ephemeral loopback ports; nothing sleeps, every wait has a deadline.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::config::Settings;
use host::server::Server;
use proto::node::Transport;

const PATIENCE: Duration = Duration::from_secs(5);

fn start(text: &str) -> Server {
    let settings =
        Settings::from_text(Path::new("test.yaml"), text).unwrap_or_else(|error| panic!("{error}"));
    Server::start(&settings).unwrap_or_else(|error| panic!("{error}"))
}

fn address(server: &Server, transport: Transport) -> SocketAddr {
    server.handle().listening().iter().find(|at| at.transport == transport).unwrap().addr
}

fn peer() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Nobody logs in, every call goes to `callee`, media never passes.
fn open_to(callee: impl std::fmt::Display, more: &str) -> String {
    format!(
        "listeners: [{{ address: \"udp:127.0.0.1:0\" }}, {{ address: \"tcp:127.0.0.1:0\" }}]\n\
         auth: {{ required: false }}\nlog: error\n\
         proxy: {{ anchor: never, routes: [{{ to: '*', via: '{callee}' }}]{more} }}\n"
    )
}

/// A request as a plain phone at `from` would send it.
fn request(method: &str, call: &str, from: SocketAddr, to: SocketAddr, via: &str) -> String {
    format!(
        "{method} sip:bob@{to} SIP/2.0\r\nVia: SIP/2.0/{via} {from};branch=z9hG4bK{call}{method};rport\r\n\
         From: <sip:alice@{from}>;tag=a1\r\nTo: <sip:bob@{to}>\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:alice@{from}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Answers as the far end would: the headers that must come back, come back.
fn answer(request: &str, status: &str) -> String {
    let copied = ["Via:", "Record-Route:", "From:", "Call-ID:", "CSeq:"];
    let mut response = format!("SIP/2.0 {status}\r\n");
    for line in request.split("\r\n") {
        if copied.iter().any(|name| line.starts_with(name)) {
            response += &format!("{line}\r\n");
        } else if line.starts_with("To:") {
            response += &format!("{line};tag=b1\r\n");
        }
    }
    response + "Contact: <sip:bob@127.0.0.1>\r\nContent-Length: 0\r\n\r\n"
}

fn hear(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 65_535];
    let (length, from) = socket.recv_from(&mut buffer).expect("a message within five seconds");
    (String::from_utf8_lossy(&buffer[..length]).into_owned(), from)
}

/// The next message that begins like this; others (100, keep-alives) are passed over.
fn hear_of(socket: &UdpSocket, start: &str) -> (String, SocketAddr) {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let (message, from) = hear(socket);
        if message.starts_with(start) {
            return (message, from);
        }
    }
    panic!("nothing that begins with {start}");
}

/// INVITE there, 200 back.
fn call(caller: &UdpSocket, callee: &UdpSocket, proxy: SocketAddr, call_id: &str) {
    let invite = request("INVITE", call_id, caller.local_addr().unwrap(), proxy, "UDP");
    caller.send_to(invite.as_bytes(), proxy).unwrap();
    let (there, from) = hear_of(callee, "INVITE");
    assert_eq!(from, proxy, "it comes from the listener");
    callee.send_to(answer(&there, "200 OK").as_bytes(), from).unwrap();
    let (back, _) = hear_of(caller, "SIP/2.0 200");
    assert!(back.contains(call_id) && back.contains(";tag=b1"), "{back}");
}

fn settle(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "{what} did not come about");
        std::thread::yield_now();
    }
}

#[test]
fn a_call_over_udp_goes_there_and_back() {
    let (caller, callee) = (peer(), peer());
    let server = start(&open_to(callee.local_addr().unwrap(), ""));
    call(&caller, &callee, address(&server, Transport::Udp), "udp-call");
    settle("the record of the call", || server.handle().history().counts().answered == 1);
    assert_eq!(server.handle().status().lanes[0].calls, 1);
    server.stop();
}

#[test]
fn several_lanes_share_the_calls_and_each_call_stays_on_its_lane() {
    let (caller, callee) = (peer(), peer());
    let server = start(&open_to(callee.local_addr().unwrap(), ", lanes: 3"));
    let proxy = address(&server, Transport::Udp);
    for number in 0..24 {
        call(&caller, &callee, proxy, &format!("shared-{number}"));
    }
    let lanes = server.handle().lanes();
    assert_eq!(lanes.iter().map(|lane| lane.calls).sum::<usize>(), 24);
    assert!(lanes.iter().filter(|lane| lane.calls > 0).count() > 1, "{lanes:?}");
    server.stop();
}

#[test]
fn a_name_is_resolved_off_the_lane() {
    let (caller, callee) = (peer(), peer());
    let via = format!("localhost:{}", callee.local_addr().unwrap().port());
    let server = start(&open_to(via, ""));
    call(&caller, &callee, address(&server, Transport::Udp), "named");
    server.stop();
}

#[test]
fn a_callee_that_refuses_is_known_at_once() {
    let (caller, callee) = (peer(), peer().local_addr().unwrap());
    let server = start(&open_to(callee, ""));
    let proxy = address(&server, Transport::Udp);
    let began = Instant::now();
    let invite = request("INVITE", "refused", caller.local_addr().unwrap(), proxy, "UDP");
    caller.send_to(invite.as_bytes(), proxy).unwrap();
    let (back, _) = loop {
        let heard = hear(&caller);
        if !heard.0.starts_with("SIP/2.0 1") {
            break heard;
        }
    };
    assert!(back.starts_with("SIP/2.0 50") || back.starts_with("SIP/2.0 4"), "{back}");
    assert!(began.elapsed() < Duration::from_secs(3), "the ICMP error was not noticed");
    server.stop();
}

#[test]
fn a_server_that_takes_a_call_and_hangs_up_the_connection_gives_way_to_the_next() {
    let (caller, second) = (peer(), peer());
    let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "listeners: [{{ address: \"udp:127.0.0.1:0\" }}, {{ address: \"tcp:127.0.0.1:0\" }}]\n\
         auth: {{ required: false }}\nlog: error\n\
         trunks: {{ carrier: {{ servers: [{{ to: \"tcp:{}\", priority: 1 }}, {{ to: \"udp:{}\", priority: 2 }}], sources: [192.0.2.1], probe: 0s, try-timeout: 30s }} }}\n\
         proxy: {{ anchor: never, routes: [{{ to: '*', trunks: carrier }}] }}\n",
        first.local_addr().unwrap(),
        second.local_addr().unwrap(),
    );
    let server = start(&text);
    let proxy = address(&server, Transport::Udp);
    let invite = request("INVITE", "cut-off", caller.local_addr().unwrap(), proxy, "UDP");
    caller.send_to(invite.as_bytes(), proxy).unwrap();
    first.set_nonblocking(true).unwrap();
    let mut taken = None;
    settle("the connection", || {
        taken = first.accept().ok();
        taken.is_some()
    });
    let (mut connection, _) = taken.unwrap();
    connection.set_nonblocking(false).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(connection.read(&mut [0; 4096]).unwrap() > 0, "the INVITE has come");
    drop(connection);
    // Patience is far shorter than timer B and what the trunk gives a server.
    let (there, from) = hear_of(&second, "INVITE");
    second.send_to(answer(&there, "200 OK").as_bytes(), from).unwrap();
    hear_of(&caller, "SIP/2.0 200");
    server.stop();
}

#[test]
fn tcp_messages_in_pieces_and_together_are_found_and_pings_answered() {
    let callee = peer();
    let server = start(&open_to(callee.local_addr().unwrap(), ""));
    let proxy = address(&server, Transport::Tcp);
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"\r\n\r\n").unwrap();
    let mut pong = [0; 2];
    stream.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"\r\n");

    let own = stream.local_addr().unwrap();
    let one = request("INVITE", "tcp-one", own, proxy, "TCP");
    let two = request("INVITE", "tcp-two", own, proxy, "TCP");
    let both = [one.as_bytes(), two.as_bytes()].concat();
    for piece in both.chunks(100) {
        stream.write_all(piece).unwrap();
    }
    for _ in 0..2 {
        let (there, from) = hear_of(&callee, "INVITE");
        callee.send_to(answer(&there, "200 OK").as_bytes(), from).unwrap();
    }
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while heard.matches("SIP/2.0 200").count() < 2 {
        let length = stream.read(&mut buffer).expect("both answers within five seconds");
        assert!(length > 0, "closed early: {heard}");
        heard += &String::from_utf8_lossy(&buffer[..length]);
    }
    assert!(heard.contains("tcp-one") && heard.contains("tcp-two"), "{heard}");
    server.stop();
}

#[test]
fn a_call_to_a_tcp_route_opens_a_connection_and_uses_it_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let caller = peer();
    let server = start(&open_to(format!("tcp:{}", listener.local_addr().unwrap()), ""));
    let proxy = address(&server, Transport::Udp);
    let own = caller.local_addr().unwrap();
    for call_id in ["first", "second"] {
        caller.send_to(request("INVITE", call_id, own, proxy, "UDP").as_bytes(), proxy).unwrap();
    }
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    settle("the connection", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (mut stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while heard.matches("\r\n\r\n").count() < 2 {
        let length = stream.read(&mut buffer).expect("both calls on one connection");
        assert!(length > 0, "closed early: {heard}");
        heard += &String::from_utf8_lossy(&buffer[..length]);
    }
    for invite in heard.split_inclusive("\r\n\r\n") {
        stream.write_all(answer(invite, "200 OK").as_bytes()).unwrap();
    }
    for _ in 0..2 {
        hear_of(&caller, "SIP/2.0 200");
    }
    server.stop();
}

#[test]
fn stun_is_answered_and_garbage_kills_nothing() {
    let (caller, callee) = (peer(), peer());
    let server = start(&open_to(callee.local_addr().unwrap(), ""));
    let proxy = address(&server, Transport::Udp);
    for garbage in
        [&b""[..], b"\r\n\r\n", b"\0", b"INVITE", b"\xff\xfe\xfd", &[b'A'; 60_000], b"SIP/2.0 200 OK\r\n\r\n"]
    {
        caller.send_to(garbage, proxy).unwrap();
    }
    let mut binding = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    binding.extend([7; 12]);
    caller.send_to(&binding, proxy).unwrap();
    let mut buffer = [0; 2048];
    let length = loop {
        let length = caller.recv(&mut buffer).unwrap();
        if buffer[..2] == [1, 1] {
            break length;
        }
    };
    assert!(length >= 32 && buffer[8..20] == [7; 12], "a success response with our transaction id");
    call(&caller, &callee, proxy, "after-garbage");
    server.stop();
}

/// Sends a REGISTER of a phone of alice's, and hears it answered.
fn register(phone: &UdpSocket, proxy: SocketAddr, call: &str) {
    let own = phone.local_addr().unwrap();
    let request = request("REGISTER", call, own, proxy, "UDP").replace("sip:bob@", "sip:alice@");
    let request =
        request.replacen(&format!("REGISTER sip:alice@{proxy}"), &format!("REGISTER sip:{proxy}"), 1);
    let request = request.replace(&format!("From: <sip:alice@{own}>"), &format!("From: <sip:alice@{proxy}>"));
    phone.send_to(request.as_bytes(), proxy).unwrap();
    let (answer, _) = hear_of(phone, "SIP/2.0 200");
    assert!(answer.contains(&format!("Call-ID: {call}\r\n")), "{answer}");
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("postern-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_registration_outlives_the_process() {
    let (phone, caller, folder) = (peer(), peer(), folder("restart"));
    let text = |port: u16| {
        format!(
            "listeners: [{{ address: \"udp:127.0.0.1:{port}\" }}]\nauth: {{ required: false }}\n\
             proxy: {{ anchor: never }}\nstore: {}\n",
            folder.join("kept.redb").display()
        )
    };
    let server = start(&text(0));
    let proxy = address(&server, Transport::Udp);
    register(&phone, proxy, "reg");
    server.stop();

    let server = start(&text(proxy.port()));
    assert_eq!(server.handle().status().registered["proxy"], 1);
    let invite = request("INVITE", "after", caller.local_addr().unwrap(), proxy, "UDP")
        .replace("sip:bob@", "sip:alice@");
    caller.send_to(invite.as_bytes(), proxy).unwrap();
    hear_of(&phone, "INVITE");
    server.stop();
    std::fs::remove_dir_all(folder).unwrap();
}

/// What each lane has read, and what it has sent.
fn traffic(server: &Server) -> Vec<(u64, u64)> {
    server.handle().lanes().iter().map(|lane| (lane.received, lane.sent)).collect()
}

#[test]
fn a_registration_is_served_by_the_lane_that_read_it_and_a_call_by_the_one_of_its_call_id() {
    let (phone, caller) = (peer(), peer());
    let server = start(
        "listeners: [{ address: \"udp:127.0.0.1:0\" }]\nauth: { required: false }\nlog: error\n\
         proxy: { anchor: never, lanes: 2 }\n",
    );
    let proxy = address(&server, Transport::Udp);
    // Twice each: the second is a retransmission, and would be 500 where the first is not known (RFC 3261 §10.3).
    for number in 0..24 {
        register(&phone, proxy, &format!("registration-{number}"));
        register(&phone, proxy, &format!("registration-{number}"));
    }
    // One path, hence one lane; the other has had nothing to do with it.
    let mut lanes = traffic(&server);
    lanes.sort_unstable();
    assert_eq!(lanes, [(0, 0), (48, 48)]);

    for number in 0..24 {
        let invite = request("INVITE", &format!("call-{number}"), caller.local_addr().unwrap(), proxy, "UDP");
        caller.send_to(invite.replace("sip:bob@", "sip:alice@").as_bytes(), proxy).unwrap();
        let (there, from) = hear_of(&phone, "INVITE");
        phone.send_to(answer(&there, "200 OK").as_bytes(), from).unwrap();
        hear_of(&caller, "SIP/2.0 200");
    }
    let calls: Vec<usize> = server.handle().lanes().iter().map(|lane| lane.calls).collect();
    assert!(calls.iter().sum::<usize>() == 24 && calls.iter().all(|calls| *calls > 0), "{calls:?}");
    server.stop();
}

#[test]
fn a_reload_takes_routes_in_and_a_bad_file_changes_nothing() {
    let (caller, first, second, folder) = (peer(), peer(), peer(), folder("reload"));
    let file = folder.join("reload.yaml");
    std::fs::write(&file, open_to(first.local_addr().unwrap(), "")).unwrap();
    let server = Server::start(&Settings::load(&file).unwrap()).unwrap();
    let proxy = address(&server, Transport::Udp);
    call(&caller, &first, proxy, "before");

    std::fs::write(&file, "proxy: { anchr: never }\n").unwrap();
    assert!(server.handle().reload().is_err());
    call(&caller, &first, proxy, "bad-file");

    std::fs::write(&file, open_to(second.local_addr().unwrap(), "")).unwrap();
    server.handle().reload().unwrap();
    call(&caller, &second, proxy, "after");
    server.stop();
    std::fs::remove_dir_all(folder).unwrap();
}

/// A process whose file can be changed: with a listener at 127.0.0.1, and others.
struct Reloaded {
    folder: PathBuf,
    server: Server,
    callee: UdpSocket,
}

impl Reloaded {
    fn start(name: &str, others: &str) -> Reloaded {
        let (folder, callee) = (folder(name), peer());
        Reloaded::write(&folder, &callee, others);
        let server = Server::start(&Settings::load(&folder.join("postern.yaml")).unwrap()).unwrap();
        Reloaded { folder, server, callee }
    }

    fn write(folder: &Path, callee: &UdpSocket, others: &str) {
        let one = "listeners: [{ address: \"udp:127.0.0.1:0\" }";
        let text = open_to(callee.local_addr().unwrap(), "");
        let from = text.find("listeners").unwrap()..text.find("auth:").unwrap();
        let text = text.replace(&text[from], &format!("{one}{others}]\n"));
        std::fs::write(folder.join("postern.yaml"), text).unwrap();
    }

    fn reload(&self, others: &str) -> Result<Vec<String>, host::config::ConfigError> {
        Reloaded::write(&self.folder, &self.callee, others);
        self.server.handle().reload()
    }

    /// Where it listens by this transport at this host.
    fn at(&self, transport: Transport, ip: &str) -> Option<SocketAddr> {
        let all = self.server.handle().listening();
        let here = |at: &&host::config::values::SipAddress| {
            at.transport == transport && at.addr.ip().to_string() == ip
        };
        all.iter().find(here).map(|at| at.addr)
    }

    fn end(self) {
        self.server.stop();
        std::fs::remove_dir_all(self.folder).unwrap();
    }
}

#[test]
fn listeners_come_and_go_by_a_reload() {
    let process = Reloaded::start("listeners", "");
    let caller = peer();
    let others = ", { address: \"udp:127.0.0.2:0\" }, { address: \"tcp:127.0.0.2:0\" }";
    assert_eq!(process.reload(others).unwrap(), Vec::<String>::new());
    let udp = process.at(Transport::Udp, "127.0.0.2").unwrap();
    let tcp = process.at(Transport::Tcp, "127.0.0.2").unwrap();
    call(&caller, &process.callee, udp, "new-listener");
    let mut stream = TcpStream::connect(tcp).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 2]).unwrap();

    process.reload(", { address: \"udp:127.0.0.2:0\" }").unwrap();
    settle("the end of the TCP listener", || process.at(Transport::Tcp, "127.0.0.2").is_none());
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "its connections are closed");
    settle("the end of its socket", || TcpStream::connect(tcp).is_err());
    assert_eq!(process.at(Transport::Udp, "127.0.0.2"), Some(udp), "the port that was given stays given");
    process.reload(others).unwrap();
    assert!(TcpStream::connect(process.at(Transport::Tcp, "127.0.0.2").unwrap()).is_ok(), "it is back");
    process.end();
}

#[test]
fn a_call_goes_on_at_a_listener_that_is_gone_from_the_file() {
    let process = Reloaded::start("leaving", ", { address: \"udp:127.0.0.2:0\" }");
    let (caller, callee) = (peer(), &process.callee);
    let gone = process.at(Transport::Udp, "127.0.0.2").unwrap();
    let own = caller.local_addr().unwrap();
    caller.send_to(request("INVITE", "stays", own, gone, "UDP").as_bytes(), gone).unwrap();
    let (there, from) = hear_of(callee, "INVITE");
    callee.send_to(answer(&there, "200 OK").as_bytes(), from).unwrap();
    let (ok, _) = hear_of(&caller, "SIP/2.0 200");

    process.reload("").unwrap();
    caller.send_to(request("INVITE", "late", own, gone, "UDP").as_bytes(), gone).unwrap();
    hear_of(&caller, "SIP/2.0 503");
    let routes: Vec<_> = ok.split("\r\n").filter(|line| line.starts_with("Record-Route:")).collect();
    let routes = routes.join("\r\n").replace("Record-Route:", "Route:");
    let bye = request("BYE", "stays", own, gone, "UDP").replace("CSeq: 1", "CSeq: 2");
    let bye = bye.replace(&format!("To: <sip:bob@{gone}>"), &format!("To: <sip:bob@{gone}>;tag=b1"));
    let bye = bye.replace("Max-Forwards", &format!("{routes}\r\nMax-Forwards"));
    caller.send_to(bye.as_bytes(), gone).unwrap();
    let (there, from) = hear_of(callee, "BYE");
    callee.send_to(answer(&there, "200 OK").as_bytes(), from).unwrap();
    let (back, by) = hear_of(&caller, "SIP/2.0 200");
    assert!(back.contains("2 BYE") && by == gone, "{by}: {back}");
    process.end();
}

#[test]
fn a_reload_that_wants_a_port_somebody_else_has_changes_nothing() {
    let process = Reloaded::start("taken", "");
    let (caller, taken) = (peer(), peer().local_addr().unwrap());
    let held = std::net::TcpListener::bind(taken).unwrap();
    let others = format!(", {{ address: \"udp:127.0.0.2:0\" }}, {{ address: \"tcp:{taken}\" }}");
    let error = process.reload(&others).unwrap_err();
    assert!(error.what.contains(&taken.to_string()) && error.what.contains("has it"), "{error}");
    assert_eq!(process.at(Transport::Udp, "127.0.0.2"), None, "what could be opened is closed again");
    call(&caller, &process.callee, process.at(Transport::Udp, "127.0.0.1").unwrap(), "as-before");
    drop(held);
    process.reload(&others).unwrap();
    process.end();
}

#[test]
fn a_port_somebody_else_has_is_one_clear_error() {
    let taken = peer();
    let text = format!("listeners: [{{ address: \"udp:{}\" }}]\nproxy: {{}}\n", taken.local_addr().unwrap());
    let settings = Settings::from_text(Path::new("test.yaml"), &text).unwrap();
    let error = Server::start(&settings).expect_err("the port is taken");
    assert!(error.what.contains(&taken.local_addr().unwrap().to_string()), "{error}");
    assert!(error.what.contains("has it"), "{error}");
}
