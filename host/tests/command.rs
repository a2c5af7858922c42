//! The command from outside: exit codes, one clear error, JSON, and a running process that is asked things.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("postern-command-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.0.join("postern.yaml");
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn postern(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postern")).args(arguments).output().unwrap()
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A process that is stopped with the test.
struct Running {
    child: Child,
    ready: Value,
}

impl Running {
    fn start(file: &Path) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_postern"))
            .args(["run", "--json", "-c"])
            .arg(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not ready: {line}"));
        Running { child, ready }
    }

    fn end(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_wrong_configuration_starts_nothing_and_ends_with_78() {
    let folder = Folder::new("wrong");
    let file = folder.file("proxy:\n  anchr: auto\n");
    for command in ["run", "check"] {
        let output = postern(&[command, "-c", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(78));
        let words = words(&output);
        assert!(words.contains("postern.yaml:2:3:") && words.contains("did you mean `anchor`?"), "{words}");
    }
    let output = postern(&["check", "--json", "-c", file.to_str().unwrap()]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&value["ok"], &value["place"][0]), (&Value::from(false), &Value::from(2)));
}

#[test]
fn a_port_that_another_has_is_named_with_its_place_in_the_file() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let folder = Folder::new("taken");
    let listeners = format!("listeners:\n  - address: udp:127.0.0.1:0\n  - address: udp:{at}\nproxy: {{}}\n");
    let relay = format!(
        "proxy: {{}}\nlisteners: [{{ address: \"udp:127.0.0.1:0\" }}]\nrelay:\n  address: udp:{at}\n"
    );
    for (text, line) in [(listeners, 3), (relay, 4)] {
        let output = postern(&["run", "-c", folder.file(&text).to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(78));
        let (words, place) = (words(&output), format!("postern.yaml:{line}:"));
        assert!(words.contains(&place) && words.contains("or choose another port"), "{place} in {words}");
    }
}

#[test]
fn a_file_that_is_not_there_ends_with_78_and_says_what_to_do() {
    let output = postern(&["run", "-c", "/nowhere/postern.yaml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(words(&output).contains("postern init"));
}

#[test]
fn a_wrong_command_line_ends_with_64() {
    assert_eq!(postern(&["walk"]).status.code(), Some(64));
    assert_eq!(postern(&["--help"]).status.code(), Some(0));
}

#[test]
fn what_init_writes_is_right_and_never_overwrites() {
    let folder = Folder::new("init");
    let file = folder.0.join("fresh.yaml");
    let file = file.to_str().unwrap();
    assert_eq!(postern(&["init", "-c", file]).status.code(), Some(0));
    assert_eq!(postern(&["check", "-c", file]).status.code(), Some(0));
    assert_eq!(postern(&["init", "-c", file]).status.code(), Some(71));
}

#[test]
fn nobody_there_ends_with_69() {
    let folder = Folder::new("nobody");
    let control = folder.0.join("none.sock");
    let output = postern(&["status", "--control", control.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(69));
    assert!(words(&output).contains("postern run"));
}

#[test]
fn a_running_process_tells_its_status_reloads_and_ends_when_told() {
    let folder = Folder::new("running");
    let control = folder.0.join("control.sock");
    let text = |user: &str| {
        format!(
            "listeners: [{{ address: \"udp:127.0.0.1:0\" }}]\nproxy: {{}}\nrelay: {{ address: \"udp:127.0.0.1:0\" }}\n\
             redirect: {{ address: \"udp:127.0.0.1:0\" }}\nusers: [{{ name: {user}, password: x }}]\ncontrol: {}\n",
            control.display()
        )
    };
    let file = folder.file(&text("alice"));
    let running = Running::start(&file);
    assert_eq!(running.ready["listening"].as_array().map(Vec::len), Some(3), "{}", running.ready);
    let control = control.to_str().unwrap();

    let status = postern(&["status", "--json", "--control", control]);
    let value: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(value["lanes"].as_array().map(Vec::len), Some(3), "{value}");
    assert!(words(&postern(&["status", "--control", control])).contains("listening"));
    assert_eq!(postern(&["explain", "last", "--control", control]).status.code(), Some(69), "no call yet");

    folder.file("proxy: { anchr: auto }\n");
    assert_eq!(postern(&["reload", "--control", control]).status.code(), Some(69));
    folder.file(&text("bob"));
    assert_eq!(postern(&["reload", "--control", control]).status.code(), Some(0));
    folder.file(&text("bob").replace("relay: { ", "relay: { ports: 25000-25999, "));
    assert_eq!(words(&postern(&["reload", "--control", control])).trim(), "reloaded");
    folder.file(&text("bob").replace("proxy: {", "proxy: { lanes: 2"));
    let reloaded = postern(&["reload", "--control", control]);
    assert!(words(&reloaded).contains("`proxy.lanes` stays 1 until the next start"), "{}", words(&reloaded));

    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(control).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(running.end(), Some(0));
    assert!(!Path::new(control).exists(), "the control socket goes with the process");
}

#[test]
fn the_shield_is_listed_bans_allows_and_reloads() {
    let folder = Folder::new("shield");
    let control = folder.0.join("control.sock");
    let text = |shield: &str| {
        format!(
            "listeners: [{{ address: \"udp:127.0.0.1:0\" }}]\nproxy: {{}}\nrelay: {{ address: \"udp:127.0.0.1:0\" }}\n\
             control: {}\nshield: {{ {shield} }}\n",
            control.display()
        )
    };
    let file = folder.file(&text(""));
    assert!(
        words(&postern(&["check", "-c", file.to_str().unwrap()]))
            .contains("6 wrong passwords of one account")
    );
    let running = Running::start(&file);
    let control = control.to_str().unwrap();
    let shield = |words: &[&str]| postern(&[&["shield"], words, &["--control", control]].concat());
    let bans = || -> Value {
        let listed: Value = serde_json::from_slice(&shield(&["list", "--json"]).stdout).unwrap();
        listed["bans"].clone()
    };

    assert!(words(&shield(&["list"])).contains("nobody is banned"));
    assert_eq!(shield(&["ban", "192.0.2.66", "--for", "30m"]).status.code(), Some(0));
    assert_eq!(shield(&["ban", "2001:db8::66"]).status.code(), Some(0));
    assert_eq!(bans().as_array().map(Vec::len), Some(2));
    assert!(words(&shield(&["list"])).contains("192.0.2.66 banned for 1"), "{}", words(&shield(&["list"])));
    let told = words(&postern(&["explain", "192.0.2.66", "--control", control]));
    assert!(told.contains("by the operator"), "{told}");
    assert!(words(&postern(&["status", "--control", control])).contains("2 banned"));

    assert_eq!(shield(&["allow", "2001:db8::/32"]).status.code(), Some(0));
    assert_eq!(bans()[0]["source"], "192.0.2.66");
    folder.file(&text("allow: [192.0.2.0/24]"));
    assert_eq!(postern(&["reload", "--control", control]).status.code(), Some(0));
    assert_eq!(bans().as_array().map(Vec::len), Some(0), "whom the file allows is no longer banned");
    assert_eq!(shield(&["ban", "192.0.2.66"]).status.code(), Some(69), "nor can be");
    assert_eq!(shield(&["ban", "192.0.2.66", "--for", "ever"]).status.code(), Some(64));
    assert_eq!(shield(&["allow", "everybody"]).status.code(), Some(69));
    let evil = words(&shield(&["allow", "\u{1b}[2J\u{9b}1m"]));
    assert!(evil.contains("`\\u001b[2J\\u009b1m`"), "what a terminal would obey is shown: {evil:?}");
    assert_eq!(running.end(), Some(0));
}

/// `postern check | head -1`: whoever reads has seen enough.
#[test]
fn a_reader_that_stops_reading_ends_a_command_without_a_word() {
    let folder = Folder::new("pipe");
    let file = folder.file("listeners: [{ address: \"udp:127.0.0.1:0\" }]\nproxy: {}\n");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let check =
        Command::new(env!("CARGO_BIN_EXE_postern")).args(["check", "-c"]).arg(&file).stdout(writer).output();
    let check = check.unwrap();
    assert!(check.stderr.is_empty(), "{}", words(&check));
}

/// A call between two endpoints, one of which is to print JSON: what happens meanwhile is told elsewhere, and to both.
#[test]
fn endpoints_say_what_happens_as_it_happens_and_standard_output_stays_json_where_that_is_asked_for() {
    let folder = Folder::new("endpoints");
    let users = "[{ name: alice, password: wonderland }, { name: bob, password: builder }]";
    let file = folder.file(&format!(
        "listeners: [{{ address: \"udp:127.0.0.1:0\" }}]\nproxy: {{}}\nusers: {users}\ncontrol: {}\n",
        folder.0.join("control.sock").display()
    ));
    let running = Running::start(&file);
    let proxy = running.ready["listening"][0].as_str().unwrap();
    let endpoint = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.arg("endpoint").args(words).args(["--proxy", proxy]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut bob = endpoint(&["answer", "--user", "bob", "--password", "builder", "--json"]);
    let mut live = BufReader::new(bob.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(live.next().unwrap().ends_with(" s  registered"));
    let call = ["call", "sip:bob@127.0.0.1", "--user", "alice", "--password", "wonderland", "--seconds", "1"];
    let alice = endpoint(&[&call[..], &["--media-port", "14100"]].concat()).wait_with_output().unwrap();
    let bob_says: Vec<String> = live.map(|line| line.split_once(" s  ").unwrap().1.to_owned()).collect();
    let bob = bob.wait_with_output().unwrap();

    let said = words(&alice);
    let alice_says: Vec<&str> = said.lines().filter_map(|line| Some(line.split_once(" s  ")?.1)).collect();
    let calls = |of: &str, rings: &str, ends: &str| {
        let turns = [rings, "answered", ends].map(|turn| format!("call with {of}@127.0.0.1: {turn}"));
        [&turns[..], &["no longer registered".to_owned()]].concat()
    };
    assert_eq!(alice_says[0], "registered", "{said}");
    assert_eq!(alice_says[1..], calls("bob", "it rings there", "ended by this side"), "{said}");
    assert_eq!(bob_says, calls("alice", "it rings here", "ended by the other side"));
    assert!(said.lines().any(|line| line == "alice@127.0.0.1"), "and then how it was: {said}");
    let report: Value = serde_json::from_slice(&bob.stdout).expect("JSON and nothing else");
    assert_eq!((&report[0]["name"], &report[0]["answered"]), (&"bob@127.0.0.1".into(), &true.into()));
    assert_eq!(running.end(), Some(0));
}
