//! The ng face of a whole process on real sockets, as Kamailio and others speak to it. Ephemeral loopback ports; nothing
//! sleeps, every wait has a deadline.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use host::config::Settings;
use host::server::Server;
use relay::ng::bencode;
use relay::ng::value::{Dict, Value};

const PATIENCE: Duration = Duration::from_secs(5);
const ALICE: &str = "v=0\r\no=alice 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 0\r\n";

/// A relay that only ng clients command, with this many threads.
fn start(threads: u16, ports: &str, ng: &str) -> Server {
    let text = format!(
        "networks: {{ default: {{ bind: 127.0.0.1 }} }}\nlog: error\n\
         relay: {{ address: \"udp:127.0.0.1:0\", ports: {ports}, threads: {threads}, ng: {ng} }}\n"
    );
    let settings =
        Settings::from_text(Path::new("test.yaml"), &text).unwrap_or_else(|error| panic!("{error}"));
    Server::start(&settings).unwrap_or_else(|error| panic!("{error}"))
}

/// A client at a port of its own, so that the kernel may give what it says to any thread.
fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn entries(entries: &[(&str, &str)]) -> Vec<u8> {
    let entry = |dict: Dict<'static>, (key, value): &(&str, &str)| dict.with(*key, Value::text(*value));
    let mut bytes = Vec::new();
    bencode::write(&Value::Dict(entries.iter().fold(Dict::default(), entry)), &mut bytes);
    bytes
}

fn command(socket: &UdpSocket, cookie: &str, body: &[(&str, &str)]) -> Dict<'static> {
    socket.send(&[format!("{cookie} ").as_bytes(), &entries(body)].concat()).unwrap();
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).expect("an answer within five seconds");
    let body = buffer[..length].strip_prefix(format!("{cookie} ").as_bytes()).expect("its cookie");
    bencode::read(body).expect("bencoding").as_dict().expect("a dictionary").owned()
}

fn offer(call: &str) -> [(&str, &str); 4] {
    [("command", "offer"), ("call-id", call), ("from-tag", "a"), ("sdp", ALICE)]
}

fn names(listed: &Dict<'_>) -> Vec<String> {
    let Some(Value::List(calls)) = listed.value("calls") else { panic!("{listed:?}") };
    let mut names: Vec<String> = calls.iter().filter_map(Value::as_text).map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn whichever_thread_hears_a_list_answers_for_all_of_them() {
    let server = start(3, "24000-24299", "\"udp:127.0.0.1:0\"");
    let ng = server.handle().listening().last().unwrap().addr;
    let calls: Vec<String> = (0..24).map(|number| format!("call-{number:02}")).collect();
    for call in &calls {
        assert_eq!(command(&client(ng), "o", &offer(call)).text("result"), Some("ok"));
    }
    let lanes = server.handle().lanes();
    assert!(lanes.iter().filter(|lane| lane.sessions > 0).count() > 1, "the calls are on several threads");
    for _ in 0..12 {
        let client = client(ng);
        assert_eq!(names(&command(&client, "l", &[("command", "list")])), calls);
        let answer = command(&client, "s", &[("command", "statistics")]);
        let current = answer.value("statistics").unwrap().as_dict().unwrap().value("currentstatistics");
        let sessions = current.unwrap().as_dict().unwrap().value("sessionstotal").unwrap().as_int();
        assert_eq!(sessions, Some(24));
    }
    for call in &calls {
        let over = [("command", "delete"), ("call-id", call.as_str())];
        assert_eq!(command(&client(ng), "d", &over).text("result"), Some("ok"));
    }
    assert!(names(&command(&client(ng), "l", &[("command", "list")])).is_empty());
    server.stop();
}

fn heard(socket: &UdpSocket) -> Option<SocketAddr> {
    socket.recv_from(&mut [0; 200]).ok().map(|(_, from)| from)
}

/// The port a section of an answer names.
fn port_of(answer: &Dict<'_>) -> SocketAddr {
    let line = answer.text("sdp").unwrap().lines().find(|line| line.starts_with("m=audio ")).unwrap();
    SocketAddr::from(([127, 0, 0, 1], line.split(' ').nth(1).unwrap().parse().unwrap()))
}

fn sdp_of(socket: &UdpSocket) -> String {
    ALICE.replace("4000", &socket.local_addr().unwrap().port().to_string())
}

/// A party's port is closed in mid-call: its host says so, the relay hears of it, and nothing ends by it.
#[test]
fn a_party_that_closes_its_port_is_told_of_and_heard_again_when_it_is_back() {
    let server = start(1, "24300-24399", "\"udp:127.0.0.1:0\"");
    let ng = client(server.handle().listening().last().unwrap().addr);
    let (alice, bob) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    bob.set_read_timeout(Some(PATIENCE)).unwrap();
    let (at, sdp) = (bob.local_addr().unwrap(), [sdp_of(&alice), sdp_of(&bob)]);
    let offer = [("command", "offer"), ("call-id", "c"), ("from-tag", "a"), ("sdp", &sdp[0])];
    let for_bob = port_of(&command(&ng, "1", &offer));
    let answer =
        [("command", "answer"), ("call-id", "c"), ("from-tag", "a"), ("to-tag", "b"), ("sdp", &sdp[1])];
    let for_alice = port_of(&command(&ng, "2", &answer));
    let mut packet = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4];
    let mut say = |from: &UdpSocket, to| {
        packet[3] += 1;
        from.send_to(&packet, to).unwrap();
    };
    say(&bob, for_bob);
    say(&alice, for_alice);
    assert_eq!(heard(&bob), Some(for_bob));
    drop(bob);

    let report = || server.handle().status();
    if report().icmp.is_some_and(|icmp| icmp.starts_with("not heard")) {
        eprintln!("SKIPPED: no raw socket here (CAP_NET_RAW)");
        return server.stop();
    }
    for _ in 0..100 {
        say(&alice, for_alice);
        std::thread::sleep(Duration::from_millis(50));
        if report().totals.undelivered > 0 {
            break;
        }
    }
    assert_eq!(report().totals.undelivered, 1, "{:?}", report().icmp);
    let back = UdpSocket::bind(at).unwrap();
    back.set_read_timeout(Some(PATIENCE)).unwrap();
    say(&alice, for_alice);
    assert_eq!(heard(&back), Some(for_bob), "the leg is as it was");
    server.stop();
}
