//! A whole call through a whole process: two phones register with digest, one calls the other, the relay carries their
//! audio, and everything is given back.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;
use std::time::{Duration, Instant};

use endpoint_sim::{Act, After, Answer, Report, Script, Step};
use host::admin::{self, Admin, Ask};
use host::config::Settings;
use host::endpoint::{Fleet, PhonePlan, audio_flowed, run};
use host::server::Server;
use proto::node::Transport;
use serde_json::Value;

fn server(anchor: &str) -> Server {
    server_with(anchor, 1)
}

fn server_with(anchor: &str, threads: u16) -> Server {
    let text = text(anchor, threads, "21000-21999");
    let settings =
        Settings::from_text(Path::new("test.yaml"), &text).unwrap_or_else(|error| panic!("{error}"));
    Server::start(&settings).unwrap_or_else(|error| panic!("{error}"))
}

fn text(anchor: &str, threads: u16, ports: &str) -> String {
    format!(
        "listeners: [{{ address: \"udp:127.0.0.1:0\" }}, {{ address: \"tcp:127.0.0.1:0\" }}]\nlog: error\n\
         users: [{{ name: alice, password: wonderland }}, {{ name: bob, password: builder }}, \
         {{ name: carol, password: wonderland }}, {{ name: dave, password: builder }}]\n\
         proxy: {{ anchor: {anchor} }}\nrelay: {{ address: \"udp:127.0.0.1:0\", ports: {ports}, threads: {threads} }}\n\
         redirect: {{ address: \"udp:127.0.0.1:0\" }}\n"
    )
}

fn plan(
    server: &Server,
    transport: Transport,
    user: &str,
    password: &str,
    port: u16,
    script: Script,
) -> PhonePlan {
    let proxy = *server.handle().listening().iter().find(|at| at.transport == transport).unwrap();
    PhonePlan {
        outbound: None,
        user: user.into(),
        domain: None,
        password: Some(password.into()),
        auth_user: None,
        proxy,
        ca: None,
        local: None,
        media_port: port,
        script,
    }
}

/// Bob answers at once and stays until the call is over; Alice calls when he has had a moment to register.
fn phones(server: &Server, transport: Transport, port: u16) -> Fleet {
    pair(server, transport, port, ["alice", "bob"])
}

fn pair(server: &Server, transport: Transport, port: u16, [caller, callee]: [&str; 2]) -> Fleet {
    let answer = Answer { after_ms: 50, ..Answer::default() };
    let wait = vec![Step::new(Act::Register, After::Start, 0), Step::new(Act::Wait, After::Ended, 0)];
    let bob = Script { answer, steps: wait, until_ms: 15_000 };
    let call = vec![
        Step::new(Act::Register, After::Start, 0),
        Step::call(&format!("sip:{callee}@127.0.0.1"), After::Registered, 300),
        Step::new(Act::HangUp, After::Answered, 700),
    ];
    let alice = Script { steps: call, until_ms: 15_000, ..Script::default() };
    let phones = vec![
        plan(server, transport, callee, "builder", port, bob),
        plan(server, transport, caller, "wonderland", port + 100, alice),
    ];
    Fleet { phones }
}

fn assert_heard(reports: &[Report]) {
    assert!(audio_flowed(reports), "{reports:#?}");
    assert!(
        reports[0].heard_only("alice@127.0.0.1") && reports[1].heard_only("bob@127.0.0.1"),
        "{reports:#?}"
    );
}

fn settle(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < until, "{what} did not come about");
        std::thread::yield_now();
    }
}

#[test]
fn an_anchored_call_is_heard_both_ways_and_every_port_comes_back() {
    let server = server("always");
    let reports = run(&phones(&server, Transport::Udp, 14_000)).unwrap();
    assert_heard(&reports);
    let relayed =
        |report: &Report| report.sources.iter().all(|from| (21_000..=21_999).contains(&from.port()));
    assert!(reports.iter().all(relayed), "media came past the relay: {reports:#?}");
    settle("the return of the ports", || server.handle().lanes().iter().all(|lane| lane.ports == 0));
    settle("the record of the call", || {
        let counts = server.handle().history().counts();
        (counts.answered, counts.anchored) == (1, 1)
    });
    server.stop();
}

#[test]
fn calls_at_the_same_time_through_one_port_are_heard_both_ways() {
    let text = text("always", 1, "13990, mode: one-port");
    let settings =
        Settings::from_text(Path::new("test.yaml"), &text).unwrap_or_else(|error| panic!("{error}"));
    let server = Server::start(&settings).unwrap_or_else(|error| panic!("{error}"));
    std::thread::scope(|scope| {
        let fleets = [(14_600, ["alice", "bob"]), (14_800, ["carol", "dave"])]
            .map(|(port, who)| pair(&server, Transport::Udp, port, who));
        let calls = fleets.map(|fleet| scope.spawn(move || run(&fleet).unwrap()));
        for reports in calls.map(|call| call.join().unwrap()) {
            assert!(audio_flowed(&reports), "{reports:#?}");
            let relayed = |report: &Report| report.sources.iter().all(|from| from.port() == 13_990);
            assert!(reports.iter().all(relayed), "media came past the one port: {reports:#?}");
        }
    });
    settle("the end of both", || server.handle().lanes().iter().all(|lane| lane.sessions == 0));
    server.stop();
}

#[test]
fn whoever_asks_about_a_call_in_its_course_is_told_how_its_media_is_now() {
    let server = server_with("always", 2);
    let socket = std::env::temp_dir().join(format!("postern-live-{}", std::process::id()));
    let admin = Admin::start(socket, server.handle(), false).unwrap();
    let fleet = phones(&server, Transport::Udp, 14_400);
    let talk = std::thread::spawn(move || run(&fleet).unwrap());
    let mut told = admin::Answer { ok: false, lines: Vec::new(), value: Value::Null };
    settle("a call in which both are heard", || {
        told = admin::ask(admin.path(), &Ask::Explain { call: "last".into() }).unwrap();
        let now = &told.value["now"][0];
        ["caller", "callee"].iter().all(|party| now[party]["packets"].as_u64().is_some_and(|heard| heard > 5))
    });
    let now = &told.value["now"][0];
    for party in ["caller", "callee"] {
        assert_eq!((&now[party]["codec"], &now[party]["trouble"]), (&"PCMU".into(), &Value::Null), "{now}");
        assert!(
            told.lines
                .iter()
                .any(|line| line.starts_with(&format!("  now: the {party}: heard from 127.0.0.1:")))
        );
    }
    talk.join().unwrap();
    settle("the end of the call", || {
        let told = admin::ask(admin.path(), &Ask::Explain { call: "last".into() }).unwrap();
        told.value["now"] == Value::Array(Vec::new()) && told.value["quality"][0]["caller"]["codec"] == "PCMU"
    });
    drop(admin);
    server.stop();
}

#[test]
fn a_call_that_a_rule_wants_is_recorded_with_both_parties_packets() {
    let folder = std::env::temp_dir().join(format!("postern-rules-{}", std::process::id()));
    let rules = format!("record: {{ folder: {}, rules: [{{ user: bob, calls: 1 }}] }}", folder.display());
    let text = text("always", 2, "22000-22199").replace("threads: 2", &format!("threads: 2, {rules}"));
    let settings =
        Settings::from_text(Path::new("test.yaml"), &text).unwrap_or_else(|error| panic!("{error}"));
    let server = Server::start(&settings).unwrap_or_else(|error| panic!("{error}"));
    assert_heard(&run(&phones(&server, Transport::Udp, 14_600)).unwrap());
    server.stop();
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let bytes = std::fs::read(&files[0]).unwrap();
    let packets = host::capture::pcapng::read(&bytes).expect("pcapng");
    // A phone takes the next port where its own is in use: which party it was is told by the interface.
    let of = |party: u32| packets.iter().filter(|packet| packet.interface == party).count();
    assert!(of(0) > 5 && of(1) > 5, "{} and {}", of(0), of(1));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The range is changed while they talk: they go on by the ports they have, the next ones get others.
#[test]
fn media_ports_change_by_a_reload_under_a_call() {
    let folder = std::env::temp_dir().join(format!("postern-ports-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("postern.yaml");
    std::fs::write(&file, text("always", 2, "22000-22199")).unwrap();
    let server = Server::start(&Settings::load(&file).unwrap()).unwrap();
    let fleet = phones(&server, Transport::Udp, 15_500);
    let talk = std::thread::spawn(move || run(&fleet).unwrap());
    let handle = server.handle();
    settle("the answer", || {
        handle.history().counts().anchored == 1 || handle.lanes().iter().any(|l| l.ports > 0)
    });
    std::fs::write(&file, text("always", 2, "22300-22499")).unwrap();
    assert_eq!(handle.reload().unwrap(), Vec::<String>::new());
    let by = |reports: &[Report], first: u16| {
        assert_heard(reports);
        let from = reports.iter().flat_map(|report| &report.sources).map(|from| from.port());
        assert!(from.clone().all(|port| (first..first + 200).contains(&port)), "{reports:#?}");
    };
    by(&talk.join().unwrap(), 22_000);
    settle("the end of the former ports", || {
        handle.lanes().iter().all(|lane| lane.lingering == 0)
            && std::net::UdpSocket::bind("127.0.0.1:22000").is_ok()
    });
    by(&run(&phones(&server, Transport::Udp, 15_500)).unwrap(), 22_300);
    server.stop();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn media_on_the_proxys_own_thread_is_heard_both_ways() {
    let server = server_with("always", 0);
    assert_eq!(server.handle().lanes().len(), 2, "one for calls and media, one for the redirect server");
    let reports = run(&phones(&server, Transport::Udp, 14_900)).unwrap();
    assert_heard(&reports);
    settle("the return of the ports", || server.handle().lanes().iter().all(|lane| lane.ports == 0));
    server.stop();
}

#[test]
fn a_direct_call_is_heard_both_ways_and_no_port_is_lent() {
    let server = server("never");
    let reports = run(&phones(&server, Transport::Udp, 14_300)).unwrap();
    assert_heard(&reports);
    assert!(
        reports
            .iter()
            .all(|report| report.sources.iter().all(|from| (14_300..14_600).contains(&from.port())))
    );
    server.stop();
}

#[test]
fn a_call_between_phones_on_tcp_is_heard_both_ways() {
    let server = server("always");
    let reports = run(&phones(&server, Transport::Tcp, 14_600)).unwrap();
    assert_heard(&reports);
    server.stop();
}
