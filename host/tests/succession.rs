//! A process is replaced by another one under load: paced streams through its relay lose no packet, requests are answered,
//! registrations and connections' doors are there afterwards. Real processes on ephemeral loopback ports.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relay::ng::bencode;
use relay::ng::value::{Dict, Value};

const PATIENCE: Duration = Duration::from_secs(10);
/// Between two packets of a stream.
const PACE: Duration = Duration::from_millis(5);

struct House {
    folder: PathBuf,
    child: Child,
    listening: Vec<SocketAddr>,
    /// Whoever serves now.
    pid: u32,
}

impl House {
    /// A proxy on UDP and TCP, a relay of two threads, and its ng face.
    fn start(name: &str, ports: &str, has_store: bool) -> House {
        let folder = std::env::temp_dir().join(format!("postern-succession-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let store = if has_store {
            format!("store: {}\n", folder.join("kept.redb").display())
        } else {
            String::new()
        };
        let text = format!(
            "listeners: [{{ address: \"udp:127.0.0.1:0\" }}, {{ address: \"tcp:127.0.0.1:0\" }}]\nlog: warn\n\
             auth: {{ required: false }}\nproxy: {{ anchor: never }}\ncontrol: {}\n{store}\
             relay: {{ address: \"udp:127.0.0.1:0\", ports: {ports}, threads: 2, ng: \"udp:127.0.0.1:0\" }}\n",
            folder.join("control.sock").display()
        );
        std::fs::write(folder.join("postern.yaml"), text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_postern"))
            .args(["run", "--json", "-c"])
            .arg(folder.join("postern.yaml"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        let addresses = ready["listening"].as_array().unwrap().iter().filter_map(|at| at.as_str());
        let listening = addresses.map(|at| at.split_once(':').unwrap().1.parse().unwrap()).collect();
        let pid = child.id();
        House { folder, child, listening, pid }
    }

    fn control(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    fn ask(&self, what: &str) -> Output {
        let postern = Command::new(env!("CARGO_BIN_EXE_postern"))
            .args([what, "--json", "--control"])
            .arg(self.control())
            .output();
        postern.unwrap()
    }

    fn value(&self, what: &str) -> serde_json::Value {
        serde_json::from_slice(&self.ask(what).stdout).unwrap()
    }

    fn upgrade(&mut self) {
        let answer = self.value("upgrade");
        self.pid = answer["pid"].as_u64().unwrap_or_else(|| panic!("{answer}")) as u32;
    }

    fn sessions(&self) -> u64 {
        let lanes = self.value("status")["lanes"].clone();
        lanes.as_array().unwrap().iter().filter_map(|lane| lane["sessions"].as_u64()).sum()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.pid.to_string()).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn peer() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

/// Asks until there is an answer, as a client over UDP does.
fn asks(socket: &UdpSocket, to: SocketAddr, words: &[u8], is_answer: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let (until, mut buffer) = (Instant::now() + PATIENCE, vec![0; 65_535]);
    while Instant::now() < until {
        socket.send_to(words, to).unwrap();
        while let Ok(length) = socket.recv(&mut buffer) {
            if is_answer(&buffer[..length]) {
                return buffer[..length].to_vec();
            }
        }
    }
    panic!("no answer to {}", String::from_utf8_lossy(words));
}

fn ng(client: &UdpSocket, to: SocketAddr, cookie: &str, body: &[(&str, &str)]) -> Dict<'static> {
    let entry = |dict: Dict<'static>, (key, value): &(&str, &str)| {
        dict.with(key.to_string(), Value::text(value.to_string()))
    };
    let mut words = format!("{cookie} ").into_bytes();
    bencode::write(&Value::Dict(body.iter().fold(Dict::default(), entry)), &mut words);
    let answer = asks(client, to, &words, |answer| answer.starts_with(cookie.as_bytes()));
    let value = bencode::read(&answer[cookie.len() + 1..]).unwrap();
    let answer = value.as_dict().unwrap().owned();
    assert_eq!(answer.text("result"), Some("ok"), "{answer:?}");
    answer
}

fn sdp(of: &UdpSocket) -> String {
    let port = of.local_addr().unwrap().port();
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
    )
}

fn media_of(answer: &Dict<'_>) -> SocketAddr {
    let sdp = answer.text("sdp").unwrap();
    let line = sdp.lines().find_map(|line| line.strip_prefix("m=audio ")).unwrap();
    format!("127.0.0.1:{}", line.split(' ').next().unwrap()).parse().unwrap()
}

/// Two parties that talk through the relay, each numbering its packets.
struct Talk {
    stop: Arc<AtomicBool>,
    parties: Vec<JoinHandle<(u16, BTreeSet<u16>, UdpSocket)>>,
}

impl Talk {
    fn begin(house: &House, call: &str) -> Talk {
        let (a, b, client) = (peer(), peer(), peer());
        let at = *house.listening.last().unwrap();
        let (sdp_a, sdp_b) = (sdp(&a), sdp(&b));
        let offer = [("command", "offer"), ("call-id", call), ("from-tag", "a"), ("sdp", &sdp_a)];
        let for_b = media_of(&ng(&client, at, "1", &offer));
        let answer =
            [("command", "answer"), ("call-id", call), ("from-tag", "a"), ("to-tag", "b"), ("sdp", &sdp_b)];
        let for_a = media_of(&ng(&client, at, "2", &answer));
        let stop = Arc::new(AtomicBool::new(false));
        // Both are heard before anything counts: until then one of them is not sent to.
        for (one, to, other) in [(&a, for_a, &b), (&b, for_b, &a), (&a, for_a, &b)] {
            asks_media(one, to, other);
        }
        let parties = [(a, for_a, 1), (b, for_b, 2)].map(|(socket, to, ssrc)| {
            let stop = stop.clone();
            std::thread::spawn(move || speak(socket, to, ssrc, &stop))
        });
        Talk { stop, parties: parties.into() }
    }

    /// How many packets each sent; every one of them has arrived.
    fn end(self) -> [u16; 2] {
        self.stop.store(true, Ordering::SeqCst);
        let parties: Vec<_> = self.parties.into_iter().map(|party| party.join().unwrap()).collect();
        let [(sent_a, mut by_a, a), (sent_b, mut by_b, b)] = <[_; 2]>::try_from(parties).unwrap();
        hear_the_rest(&a, &mut by_a, sent_b);
        hear_the_rest(&b, &mut by_b, sent_a);
        let missing = |heard: &BTreeSet<u16>, sent: u16| {
            (FIRST..sent).filter(|number| !heard.contains(number)).collect::<Vec<_>>()
        };
        assert_eq!(missing(&by_b, sent_a), Vec::<u16>::new(), "of a's {sent_a}");
        assert_eq!(missing(&by_a, sent_b), Vec::<u16>::new(), "of b's {sent_b}");
        [sent_a, sent_b]
    }
}

/// Numbers below are for the beginning.
const FIRST: u16 = 100;

fn packet(ssrc: u32, number: u16) -> [u8; 172] {
    let mut packet = [0x55; 172];
    packet[..2].copy_from_slice(&[0x80, 0]);
    packet[2..4].copy_from_slice(&number.to_be_bytes());
    packet[4..8].copy_from_slice(&(u32::from(number) * 160).to_be_bytes());
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
    packet
}

fn asks_media(one: &UdpSocket, to: SocketAddr, other: &UdpSocket) {
    let ssrc = if one.local_addr().unwrap() < other.local_addr().unwrap() { 1 } else { 2 };
    // Whoever is heard first may be heard by nobody yet.
    for number in 0..FIRST / 10 {
        one.send_to(&packet(ssrc, number), to).unwrap();
        let _ = other.recv(&mut [0; 2048]);
    }
}

fn speak(socket: UdpSocket, to: SocketAddr, ssrc: u32, stop: &AtomicBool) -> (u16, BTreeSet<u16>, UdpSocket) {
    let (mut number, mut heard) = (FIRST, BTreeSet::new());
    socket.set_nonblocking(true).unwrap();
    while !stop.load(Ordering::SeqCst) {
        socket.send_to(&packet(ssrc, number), to).unwrap();
        number += 1;
        hear(&socket, &mut heard);
        std::thread::sleep(PACE);
    }
    (number, heard, socket)
}

fn hear(socket: &UdpSocket, heard: &mut BTreeSet<u16>) {
    let mut buffer = [0; 2048];
    while let Ok(length) = socket.recv(&mut buffer) {
        assert_eq!(length, 172);
        heard.insert(u16::from_be_bytes([buffer[2], buffer[3]]));
    }
}

fn hear_the_rest(socket: &UdpSocket, heard: &mut BTreeSet<u16>, sent: u16) {
    let until = Instant::now() + Duration::from_secs(2);
    while !(FIRST..sent).all(|number| heard.contains(&number)) && Instant::now() < until {
        hear(socket, heard);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn request(method: &str, call: &str, from: SocketAddr, to: SocketAddr, via: &str) -> String {
    format!(
        "{method} sip:{to} SIP/2.0\r\nVia: SIP/2.0/{via} {from};branch=z9hG4bK{call};rport\r\n\
         From: <sip:alice@{to}>;tag=a1\r\nTo: <sip:alice@{to}>\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:alice@{from}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

fn register(house: &House, phone: &UdpSocket, call: &str) {
    let words = request("REGISTER", call, phone.local_addr().unwrap(), house.listening[0], "UDP");
    asks(phone, house.listening[0], words.as_bytes(), |answer| answer.starts_with(b"SIP/2.0 200"));
}

/// A client that asks all the time until told to stop; how many requests were answered. None is left out.
fn keeps_asking(to: SocketAddr, stop: &Arc<AtomicBool>) -> JoinHandle<u32> {
    let stop = stop.clone();
    std::thread::spawn(move || {
        let (socket, mut answered) = (peer(), 0);
        while !stop.load(Ordering::SeqCst) {
            let call = format!("ask-{answered}-");
            let words = request("OPTIONS", &call, socket.local_addr().unwrap(), to, "UDP");
            asks(&socket, to, words.as_bytes(), |answer| {
                answer.starts_with(b"SIP/2.0 ")
                    && answer.windows(call.len()).any(|part| part == call.as_bytes())
            });
            answered += 1;
        }
        answered
    })
}

#[test]
fn no_packet_and_no_request_is_lost_while_two_successors_take_over_one_after_the_other() {
    let mut house = House::start("upgrade", "26000-26199", true);
    let phone = peer();
    register(&house, &phone, "first");
    let mut before = TcpStream::connect(house.listening[1]).unwrap();
    before.set_read_timeout(Some(PATIENCE)).unwrap();
    let talks = [Talk::begin(&house, "one"), Talk::begin(&house, "two"), Talk::begin(&house, "three")];
    let stop = Arc::new(AtomicBool::new(false));
    let asking = keeps_asking(house.listening[0], &stop);

    let first = house.pid;
    house.upgrade();
    assert_ne!(house.pid, first);
    assert_eq!(house.child.wait().unwrap().code(), Some(0), "the old process ends by itself");
    assert_eq!(before.read(&mut [0; 1]).unwrap(), 0, "connections close");
    let second = house.pid;
    house.upgrade();
    assert_ne!(house.pid, second);

    stop.store(true, Ordering::SeqCst);
    assert!(asking.join().unwrap() > 0);
    assert_eq!(house.sessions(), 3);
    for talk in talks {
        let sent = talk.end();
        assert!(sent.iter().all(|sent| *sent > FIRST + 20), "{sent:?}");
    }
    let status = house.value("status");
    assert_eq!(status["registered"]["proxy"], 1, "{status}");
    let mut after = TcpStream::connect(house.listening[1]).unwrap();
    after.set_read_timeout(Some(PATIENCE)).unwrap();
    after.write_all(b"\r\n\r\n").unwrap();
    after.read_exact(&mut [0; 2]).unwrap();
    let client = peer();
    for call in ["one", "two", "three"] {
        let over = [("command", "delete"), ("call-id", call), ("from-tag", "a")];
        ng(&client, *house.listening.last().unwrap(), call, &over);
    }
    assert_eq!(house.sessions(), 0);
}

#[test]
fn a_successor_with_a_bad_file_changes_nothing() {
    let house = House::start("bad", "26200-26399", false);
    let talk = Talk::begin(&house, "one");
    let file = house.folder.join("postern.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "proxy: { anchr: never }\n").unwrap();
    let answer = house.ask("upgrade");
    assert_eq!(answer.status.code(), Some(69));
    std::fs::write(&file, text).unwrap();
    assert_eq!(house.sessions(), 1);
    talk.end();
}

/// It has asked, or has everything, and dies.
#[test]
fn a_successor_that_dies_on_the_way_leaves_the_old_process_as_it_was() {
    let house = House::start("dies", "26400-26599", false);
    let phone = peer();
    register(&house, &phone, "first");
    let talk = Talk::begin(&house, "one");
    for (call, takes_everything) in [("second", false), ("third", true), ("fourth", true)] {
        let mut heir = UnixStream::connect(house.control()).unwrap();
        heir.write_all(b"{\"ask\":\"hand-over\",\"version\":1}\n").unwrap();
        let mut length = [0; 8];
        heir.read_exact(&mut length).unwrap();
        heir.read_exact(&mut vec![0; u64::from_be_bytes(length) as usize]).unwrap();
        if takes_everything {
            let word = b"\"sockets\"";
            heir.write_all(&(word.len() as u64).to_be_bytes()).unwrap();
            heir.write_all(word).unwrap();
            heir.read_exact(&mut [0; 8]).unwrap();
        }
        drop(heir);
        let until = Instant::now() + PATIENCE;
        while std::panic::catch_unwind(|| house.sessions()).ok() != Some(1) {
            assert!(Instant::now() < until, "the old process does not go on");
        }
        register(&house, &phone, call);
    }
    talk.end();
}
