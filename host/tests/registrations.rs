//! `postern registrations` from outside: phones that have really registered, over UDP and TCP, and one that sends what a terminal would obey.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// A running process with a folder of its own; both go with the test.
struct House {
    folder: PathBuf,
    child: Child,
    listening: Vec<SocketAddr>,
}

impl House {
    fn start(name: &str, text: &str) -> House {
        let folder =
            std::env::temp_dir().join(format!("postern-registrations-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("postern.yaml");
        std::fs::write(&file, format!("{text}\ncontrol: {}\n", folder.join("control.sock").display()))
            .unwrap();
        let mut run = Command::new(env!("CARGO_BIN_EXE_postern"));
        run.args(["run", "--json", "-c"]).arg(&file).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = run.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not ready: {line}"));
        let at = |address: &Value| address.as_str().unwrap().split_once(':').unwrap().1.parse().unwrap();
        let listening = ready["listening"].as_array().unwrap().iter().map(at).collect();
        House { folder, child, listening }
    }

    fn ask(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.arg("registrations").args(words).arg("--control").arg(self.folder.join("control.sock"));
        command.output().unwrap()
    }

    fn text(&self, words: &[&str]) -> String {
        String::from_utf8(self.ask(words).stdout).unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_slice(&self.ask(&[words, &["--json"]].concat()).stdout).unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A proxy at which everybody may register, over UDP and TCP.
const OPEN: &str = "listeners: [{ address: \"udp:127.0.0.1:0\" }, { address: \"tcp:127.0.0.1:0\" }]\nproxy: {}\n\
                    auth: { required: false }\ndomains: [example.com]\nusers: [{ name: carol, password: x }]";

fn register(user: &str, via: &str, own: SocketAddr, contact: &str, more: &str) -> String {
    format!(
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/{via} {own};branch=z9hG4bK{user};rport\r\n\
         From: <sip:{user}@example.com>;tag=a\r\nTo: <sip:{user}@example.com>\r\nCall-ID: {user}-{own}\r\nCSeq: 1 REGISTER\r\n\
         Contact: {contact}\r\nMax-Forwards: 70\r\n{more}Content-Length: 0\r\n\r\n"
    )
}

fn phone() -> UdpSocket {
    let phone = UdpSocket::bind("127.0.0.1:0").unwrap();
    phone.set_read_timeout(Some(PATIENCE)).unwrap();
    phone
}

fn is_answered(phone: &UdpSocket, proxy: SocketAddr, request: &str) {
    phone.send_to(request.as_bytes(), proxy).unwrap();
    let mut answer = [0; 2048];
    let length = phone.recv(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
}

fn registers_by_tcp(user: &str, proxy: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let own = stream.local_addr().unwrap();
    let words = register(user, "TCP", own, &format!("<sip:{user}@{own};transport=tcp>"), "Expires: 600\r\n");
    stream.write_all(words.as_bytes()).unwrap();
    let mut status = [0; 11];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"SIP/2.0 200");
    stream
}

#[test]
fn phones_are_told_with_the_path_they_are_reached_by() {
    let house = House::start("paths", OPEN);
    let [udp, tcp] = house.listening[..] else { panic!("{:?}", house.listening) };
    let (alice, own) = (phone(), |phone: &UdpSocket| phone.local_addr().unwrap());
    let more = "Supported: path, outbound\r\nExpires: 300\r\nUser-Agent: Desk\u{1b}[2J phone\r\n";
    let contact = "<sip:alice@10.0.0.5:5060>;+sip.instance=\"<urn:uuid:1>\";reg-id=1";
    is_answered(&alice, udp, &register("alice", "UDP", own(&alice), contact, more));
    let bob = registers_by_tcp("bob", tcp);

    let all = house.json(&[]);
    let names: Vec<_> = all.as_array().unwrap().iter().map(|one| one["aor"].as_str().unwrap()).collect();
    assert_eq!(names, ["alice@example.com", "bob@example.com"]);
    let (one, other) = (&all[0], &all[1]);
    assert_eq!(one["contact"], "sip:alice@10.0.0.5:5060");
    assert_eq!((&one["state"], &one["behind_nat"]), (&"reachable".into(), &true.into()));
    assert_eq!(
        (&one["remote"], &one["listener"]),
        (&own(&alice).to_string().into(), &format!("udp:{udp}").into())
    );
    assert_eq!((&one["instance"], &one["reg_id"]), (&"<urn:uuid:1>".into(), &1.into()));
    assert_eq!(one["agent"], "Desk\u{1b}[2J phone");
    assert!((1..=300).contains(&one["left_s"].as_u64().unwrap()), "{one}");
    assert_eq!(other["remote"], bob.local_addr().unwrap().to_string());
    assert_eq!((&other["listener"], &other["state"]), (&format!("tcp:{tcp}").into(), &"reachable".into()));
    assert!((301..=600).contains(&other["left_s"].as_u64().unwrap()), "{other}");

    let text = house.text(&[]);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("Desk\\u001b[2J phone; instance <urn:uuid:1>; reg-id 1"), "{text}");
    assert!(!text.contains('\u{1b}') && !house.text(&["--json"]).contains('\u{1b}'));

    // As phones write it, the user alone, and by an address of ours.
    for asked in ["bob@example.com", "sip:bob@EXAMPLE.com:5060", "bob", "bob@127.0.0.1"] {
        let found = house.json(&[asked]);
        assert_eq!(
            (found.as_array().map(Vec::len), &found[0]["aor"]),
            (Some(1), &"bob@example.com".into()),
            "{asked}"
        );
    }

    drop(bob);
    let until = Instant::now() + PATIENCE;
    while house.ask(&["bob"]).status.code() != Some(69) {
        assert!(
            Instant::now() < until,
            "whose connection is gone is registered no more: {}",
            house.text(&["bob"])
        );
    }
    assert_eq!(house.json(&[]).as_array().map(Vec::len), Some(1));
}

#[test]
fn who_is_not_there_is_said_with_what_to_do() {
    let house = House::start("nobody", OPEN);
    let nobody = house.ask(&[]);
    assert_eq!(nobody.status.code(), Some(0));
    let words = house.text(&[]);
    assert!(
        words.contains("nobody is registered") && words.contains(&format!("udp:{}", house.listening[0])),
        "{words}"
    );
    assert_eq!(house.json(&[]), Value::Array(Vec::new()));

    let alice = phone();
    let own = alice.local_addr().unwrap();
    is_answered(
        &alice,
        house.listening[0],
        &register("alice", "UDP", own, &format!("<sip:alice@{own}>"), ""),
    );
    for (asked, hint) in [
        ("carol", "the account is there"),
        ("dave@example.com", "nor is there an account of that name"),
        ("Alice@elsewhere.example", "registered: alice@example.com"),
        ("a b@", "is no address of record"),
    ] {
        assert_eq!(house.ask(&[asked]).status.code(), Some(69), "{asked}");
        assert!(house.text(&[asked]).contains(hint), "{}", house.text(&[asked]));
        assert!(house.json(&[asked])["what"].is_string());
    }
    assert!(house.text(&["alice"]).contains("not asked"), "who is behind no NAT gets no keep-alives");
}

#[test]
fn a_process_without_a_proxy_says_what_it_runs_and_nobody_at_all_ends_with_69() {
    let house = House::start(
        "relay",
        "relay: { address: \"udp:127.0.0.1:0\", ports: 26200-26209 }\n\
                node-key: long-random-words-of-a-test",
    );
    assert_eq!(house.ask(&[]).status.code(), Some(69));
    assert!(house.text(&[]).contains("no proxy runs in this process, only: relay"), "{}", house.text(&[]));
    let nowhere = house.folder.join("none.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    let output = command.args(["registrations", "--control"]).arg(&nowhere).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("postern run"));
}

/// More than one part has room for: all of them come, once and sorted, in lines of bounded length.
#[test]
fn a_long_list_comes_in_parts_and_whole() {
    const PHONES: usize = 600;
    let house = House::start("many", OPEN);
    let phone = phone();
    let own = phone.local_addr().unwrap();
    let names: Vec<String> = (0..PHONES).map(|n| format!("u{n:04}")).collect();
    for name in names.iter().rev() {
        is_answered(
            &phone,
            house.listening[0],
            &register(name, "UDP", own, &format!("<sip:{name}@{own}>"), ""),
        );
    }
    let all = house.json(&[]);
    let told: Vec<_> =
        all.as_array().unwrap().iter().map(|one| one["aor"].as_str().unwrap().to_owned()).collect();
    let expected: Vec<_> = names.iter().map(|name| format!("{name}@example.com")).collect();
    assert_eq!(told, expected);
    assert_eq!(house.text(&[]).lines().count(), PHONES + 1);

    let mut stream = UnixStream::connect(house.folder.join("control.sock")).unwrap();
    stream.write_all(b"{\"ask\":\"registrations\"}\n").unwrap();
    let lines: Vec<String> = BufReader::new(stream).lines().map(Result::unwrap).collect();
    let more: Vec<bool> =
        lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["more"] == true).collect();
    assert_eq!(more, [true, true, true, false], "256, 256, 88, and that this is all");
    assert!(lines.iter().all(|line| line.len() < 200_000));
}
