//! The committed object is the source beside it, and what the kernel counts is what is read.

use std::path::Path;
use std::process::Command;

use super::*;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernel")
}

fn run(program: &str, arguments: &[&str]) -> Option<std::process::Output> {
    Command::new(program).args(arguments).current_dir(folder()).output().ok()
}

#[test]
fn the_committed_object_was_made_from_the_committed_source() {
    let output = run("sha256sum", &["--check", "--ignore-missing", "forward.bpf.from"]);
    let output = output.expect("sha256sum (coreutils) is needed");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.matches(": OK").count(), 2, "run `make kernel-path` and commit what it writes: {said}");
}

#[test]
fn the_compiler_it_was_made_with_makes_it_again() {
    let from = std::fs::read_to_string(folder().join("forward.bpf.from")).unwrap();
    let compiler =
        run("clang", &["--version"]).map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let first = compiler.as_deref().and_then(|text| text.lines().next());
    if first.is_none_or(|first| from.lines().last() != Some(first)) {
        eprintln!("not compiled: another clang, or none");
        return;
    }
    let made = std::env::temp_dir().join(format!("forward-{}.bpf.o", std::process::id()));
    let output = run("./compile", &[made.to_str().unwrap()]).unwrap();
    let again = std::fs::read(&made);
    let _ = std::fs::remove_file(&made);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(again.unwrap() == OBJECT, "run `make kernel-path` and commit what it writes");
}

#[test]
fn a_stream_is_written_and_read_as_the_program_has_it() {
    let address = |text: &str| text.parse::<std::net::SocketAddr>().unwrap();
    let progress = proto::rtp::Progress { highest: 65_600, timestamp: 7, jitter: 99 };
    let rule = Rule {
        socket: SocketId(3),
        here: address("192.0.2.1:30000"),
        from: address("203.0.113.5:4000"),
        via: address("192.0.2.1:30002"),
        to: address("203.0.113.6:5000"),
        ssrc: 0x0102_0304,
        payload_type: 8,
        clock: Some(8000),
        progress,
    };
    let key = Key::new(rule.from, rule.here).0;
    assert_eq!(key[10..16], [0xff, 0xff, 203, 0, 113, 5]);
    assert_eq!(key[32..], [0x0f, 0xa0, 0x75, 0x30]);
    let port = flows::port(&Key::new(rule.from, rule.here));
    assert_eq!(port, *b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01\x75\x30\0\0");
    let flow = Flow::new(&rule, 4);
    assert_eq!(flow.0[40..44], [1, 2, 3, 4]);
    let carried = flow.carried(rule.socket, false);
    assert_eq!((carried.packets, carried.heard, carried.progress), (0, None, progress));
}

#[test]
fn without_an_interface_it_says_why_it_is_off_and_refuses() {
    let kernel = Kernel::new();
    assert_eq!(kernel.report(), "off: relay.kernel-path is off");
    kernel.switch(true, &["127.0.0.1".parse().unwrap()]);
    let why = "off: no Ethernet interface holds an address the relay lends ports at";
    assert_eq!(kernel.report(), why);
    let mut handed = Handed::new(kernel);
    assert!(handed.obey(&Offload::Count(vec![SocketId(1)])).is_empty());
    assert_eq!(handed.obey(&Offload::End(SocketId(1))), [Carried::refused(SocketId(1))]);
}
