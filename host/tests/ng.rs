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

/// Alice and Bob of a call, and the ports they are told.
struct Talk {
    server: Server,
    ng: UdpSocket,
    alice: UdpSocket,
    bob: UdpSocket,
    for_alice: SocketAddr,
    for_bob: SocketAddr,
}

fn talk(ports: &str, ng: &str, lines: &str) -> Talk {
    let server = start(1, ports, ng);
    let ng = client(server.handle().listening().last().unwrap().addr);
    let [alice, bob] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    bob.set_read_timeout(Some(PATIENCE)).unwrap();
    let sdp = |socket: &UdpSocket| sdp_of(socket).replace("AVP 0\r\n", lines);
    let offer = [("command", "offer"), ("call-id", "c"), ("from-tag", "a"), ("sdp", &sdp(&alice))];
    let for_bob = port_of(&command(&ng, "1", &offer));
    let answer =
        [("command", "answer"), ("call-id", "c"), ("from-tag", "a"), ("to-tag", "b"), ("sdp", &sdp(&bob))];
    let for_alice = port_of(&command(&ng, "2", &answer));
    Talk { server, ng, alice, bob, for_alice, for_bob }
}

/// SSRC, sequence number, timestamp and payload type of a packet, and what it says.
type Heard = (u32, u16, u32, u8, Vec<u8>);

impl Talk {
    /// Both say a packet, Alice her thousandth.
    fn begin(&self) {
        self.bob.send_to(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb, 1, 2], self.for_bob).unwrap();
        self.say(1000);
        let (ssrc, sequence, ..) = self.hear();
        assert_eq!((ssrc, sequence), (0xa, 1000));
    }

    fn say(&self, n: u16) {
        let mut packet = vec![0x80, 0];
        packet.extend(n.to_be_bytes());
        packet.extend((u32::from(n) * 160).to_be_bytes());
        packet.extend([0, 0, 0, 0xa, 0xd5, 0xd5]);
        self.alice.send_to(&packet, self.for_alice).unwrap();
    }

    fn hear(&self) -> Heard {
        let mut buffer = [0; 1500];
        let (length, from) = self.bob.recv_from(&mut buffer).expect("a packet within five seconds");
        assert_eq!(from, self.for_bob);
        let word = |at: usize| u32::from_be_bytes(buffer[at..at + 4].try_into().unwrap());
        let sequence = u16::from_be_bytes([buffer[2], buffer[3]]);
        (word(8), sequence, word(4), buffer[1] & 0x7f, buffer[12..length].to_vec())
    }

    /// Alice talks again, until she is heard: with which number.
    fn is_heard_again(&self, after: u16) -> u16 {
        self.bob.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut buffer = [0; 1500];
        for n in 0..100 {
            self.say(2000 + n);
            if self.bob.recv_from(&mut buffer).is_ok() && buffer[12] == 0xd5 {
                return u16::from_be_bytes([buffer[2], buffer[3]]).wrapping_sub(after);
            }
        }
        panic!("Alice is not heard any more");
    }
}

/// A file of µ-law at 8000 Hz: five packets of 20 ms, each of another byte.
fn wav() -> Vec<u8> {
    let mut file =
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x07\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data".to_vec();
    file.extend(800u32.to_le_bytes());
    file.extend((0x80..0x85).flat_map(|byte| [byte; 160]));
    file
}

#[test]
fn a_file_is_played_in_the_stream_that_is_heard_and_the_speaker_goes_on_behind_it() {
    let folder = std::env::temp_dir().join(format!("postern-media-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("moh.wav"), wav()).unwrap();
    let ng = format!("{{ listen: \"udp:127.0.0.1:0\", media: \"{}\" }}", folder.display());
    let talk = talk("24400-24499", &ng, "AVP 0\r\n");
    talk.begin();
    let play = |file| [("command", "play media"), ("call-id", "c"), ("from-tag", "b"), ("file", file)];
    let outside = command(&talk.ng, "3", &play("../moh.wav"));
    assert!(outside.text("error-reason").unwrap().contains("no such media file"), "{outside:?}");
    let answer = command(&talk.ng, "4", &play("moh.wav"));
    assert_eq!(answer.value("duration").and_then(Value::as_int), Some(100), "{answer:?}");
    let heard: Vec<Heard> = (0..5).map(|_| talk.hear()).collect();
    for (n, (ssrc, sequence, timestamp, payload_type, payload)) in heard.iter().enumerate() {
        assert_eq!((*ssrc, *payload_type), (0xa, 0));
        assert_eq!(*sequence, 1001 + n as u16);
        // A relay that was kept waiting leaves out what it missed; its clock goes on.
        let ticks = timestamp - heard[0].2;
        assert!(ticks >= 160 * n as u32 && ticks.is_multiple_of(160), "{ticks}");
        assert_eq!(*payload, [0x80 + n as u8; 160]);
    }
    assert!(heard[0].2 > 1000 * 160, "the clock went on");
    assert_eq!(talk.is_heard_again(1005), 1, "the next number is hers");
    let stop = [("command", "stop media"), ("call-id", "c"), ("from-tag", "b")];
    let answer = command(&talk.ng, "5", &stop);
    assert_eq!(answer.value("last-frame-pos").and_then(Value::as_int), Some(0), "it is over");
    talk.server.stop();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_digit_is_said_in_the_stream_that_is_heard() {
    let lines = "AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
    let talk = talk("25300-25399", "\"udp:127.0.0.1:0\"", lines);
    talk.begin();
    let play = [("command", "play DTMF"), ("call-id", "c"), ("from-tag", "a"), ("code", "#")];
    assert_eq!(command(&talk.ng, "3", &play).text("result"), Some("ok"));
    let heard: Vec<Heard> = (0..15).map(|_| talk.hear()).collect();
    for (n, (ssrc, sequence, timestamp, payload_type, payload)) in heard.iter().enumerate() {
        assert_eq!((*ssrc, *payload_type, *timestamp), (0xa, 101, heard[0].2));
        assert_eq!(*sequence, 1001 + n as u16);
        assert_eq!((payload[0], payload[1] & 0x80 != 0), (11, n >= 12), "it ends three times");
    }
    assert!(heard[0].2 > 1000 * 160);
    assert_eq!(talk.is_heard_again(1015), 1);
    talk.server.stop();
}
