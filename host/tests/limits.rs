//! What a start finds out about the machine before it opens anything: who has a port, and how much is too little.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};

use host::config::Settings;
use host::server::{Server, StartError};

fn try_start(text: &str) -> Result<Server, StartError> {
    let settings =
        Settings::from_text(Path::new("test.yaml"), text).unwrap_or_else(|error| panic!("{error}"));
    Server::start(&settings)
}

/// `postern check` of this file, by a process that may have so many open files.
fn check_with_files(name: &str, text: &str, files: u32) -> Output {
    let file = std::env::temp_dir().join(format!("postern-limits-{name}-{}.yaml", std::process::id()));
    std::fs::write(&file, text).unwrap();
    let script = format!("ulimit -n {files}; exec \"$0\" check -c \"$1\"");
    let postern = env!("CARGO_BIN_EXE_postern");
    let output = Command::new("sh").args(["-c", &script, postern]).arg(&file).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    output
}

#[test]
fn a_listener_that_somebody_has_is_an_error_that_names_who() {
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let streams = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [
        format!("udp:{}", datagrams.local_addr().unwrap()),
        format!("tcp:{}", streams.local_addr().unwrap()),
    ];
    for address in addresses {
        let error =
            try_start(&format!("listeners: [{{ address: \"{address}\" }}]\nproxy: {{}}\nlog: error\n"))
                .err()
                .unwrap();
        let whose = format!("(process {}) has it", std::process::id());
        assert!(error.what.contains(&address) && error.what.contains(&whose), "{error}");
    }
}

#[test]
fn media_ports_that_others_have_are_a_warning_and_all_of_them_an_error() {
    let (first, second) = loop {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let number = first.local_addr().unwrap().port();
        if number.is_multiple_of(2)
            && let Ok(second) = UdpSocket::bind(("127.0.0.1", number + 1))
        {
            break (first, second);
        }
    };
    let number = first.local_addr().unwrap().port();
    let text = format!(
        "relay: {{ address: \"udp:127.0.0.1:0\", ports: {number}-{} }}\nnode-key: sixteen-letters-or-more\nlog: error\n",
        number + 1
    );
    let error = try_start(&text).err().unwrap();
    let all = format!("2 of the media ports {number}-{} are somebody else's", number + 1);
    assert!(error.what.starts_with(&all), "{error}");
    drop(second);
    let server = try_start(&text).unwrap();
    let warnings = server.handle().status().warnings;
    let some = format!("1 of the media ports {number}-{}", number + 1);
    assert!(warnings.iter().any(|words| words.starts_with(&some)), "{warnings:?}");
    server.stop();
}

#[test]
fn too_few_open_files_are_an_error_with_the_figure_before_anything_starts() {
    let text =
        "relay: { address: \"udp:127.0.0.1:0\", ports: 20000-20499 }\nnode-key: sixteen-letters-or-more\n";
    let output = check_with_files("few", text, 550);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{words}");
    assert!(words.contains("573 open files are needed (500 media ports in 1 network(s)"), "{words}");
    assert!(words.contains("may have 550") && words.contains("LimitNOFILE"), "{words}");
    assert_eq!(check_with_files("enough", text, 573).status.code(), Some(0));
}

#[test]
fn media_ports_that_outgoing_connections_may_get_are_a_warning_that_says_what_to_set() {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    let ports = format!("{}-{}", first - 2, first + 1);
    let text = format!(
        "relay: {{ address: \"udp:127.0.0.1:0\", ports: {ports} }}\nnode-key: sixteen-letters-or-more\n"
    );
    let output = check_with_files("range", &text, 1000);
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{words}");
    assert!(words.contains(&format!("warning    2 of the media ports {ports}")), "{words}");
    assert!(words.contains("ip_local_reserved_ports="), "{words}");
}
