//! RFC 5626 on sockets: a phone with a flow to each of two edge proxies, one of which is killed and started again.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use endpoint_sim::Report;
use host::endpoint::{Fleet, audio_flowed, run};

/// Where the registrar is: what comes from there is the trunk's, so that phones are elsewhere.
const HOME: &str = "127.0.0.77";

/// A Postern as a process of its own, to be killed.
struct Postern {
    folder: PathBuf,
    at: (&'static str, u16),
    process: Child,
}

impl Postern {
    fn start(at: (&'static str, u16), config: &str) -> Postern {
        let folder = std::env::temp_dir().join(format!("postern-outbound-{}-{}", at.1, std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let control = format!("control: {}\n", folder.join("control").display());
        std::fs::write(folder.join("postern.yaml"), listeners(at) + config + &control).unwrap();
        let process = spawned(&folder);
        let postern = Postern { folder, at, process };
        postern.is_there();
        postern
    }

    fn is_there(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(self.at).is_err() {
            assert!(Instant::now() < deadline, "it did not start at {:?}", self.at);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.process = spawned(&self.folder);
        self.is_there();
    }
}

impl Drop for Postern {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawned(folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.args(["run", "-c"]).arg(folder.join("postern.yaml")).spawn().unwrap()
}

/// A port that is free for both.
fn free() -> u16 {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn listeners((ip, port): (&str, u16)) -> String {
    format!(
        "listeners: [{{ address: \"udp:{ip}:{port}\" }}, {{ address: \"tcp:{ip}:{port}\" }}]\nlog: error\n"
    )
}

fn edge(port: u16, registrar: u16) -> Postern {
    let route = format!("{{ to: home.test, via: \"udp:{HOME}:{registrar}\", trusted: true }}");
    let config = format!(
        "domains: [edge.test]\nauth: {{ required: false }}\nproxy: {{ anchor: never, routes: [{route}] }}\n"
    );
    Postern::start(("127.0.0.1", port), &config)
}

fn fleet(text: &str) -> Fleet {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Bob calls alice by the registrar, once. A call that fails takes the three seconds he has.
fn bob_calls(registrar: u16) -> Vec<Report> {
    run(&fleet(&format!(
        "phones:\n\
         - {{ user: bob, domain: home.test, password: builder, proxy: \"udp:{HOME}:{registrar}\", media-port: 23600, script: {{ until-ms: 3000, steps: [\
         {{ do: register }}, {{ do: call, to: \"sip:alice@home.test\", after: registered }}, {{ do: hang-up, after: answered, at-ms: 400 }}] }} }}\n"
    )))
    .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn an_edge_is_killed_and_the_other_flow_carries_calls_until_it_is_back() {
    let [home, first, second] = [free(), free(), free()];
    let users = "users: [{ name: alice, password: wonderland }, { name: bob, password: builder }]\n";
    let config = format!("domains: [home.test]\n{users}proxy: {{ anchor: never }}\n");
    let _registrar = Postern::start((HOME, home), &config);
    let (mut dies, _lives) = (edge(first, home), edge(second, home));
    let alice = format!(
        "phones:\n\
         - {{ user: alice, domain: home.test, password: wonderland, proxy: \"udp:127.0.0.1:{first}\", media-port: 23500,\n    \
         outbound: {{ edges: [\"tcp:127.0.0.1:{second}\"], stun-ms: 300, ping-ms: 300, all-failed-ms: 200, some-failed-ms: 400, longest-ms: 800 }},\n    \
         script: {{ until-ms: 30000, answer: {{ after-ms: 20 }}, steps: [{{ do: register }}, {{ do: wait, at-ms: 20000 }}] }} }}\n"
    );
    let alice = std::thread::spawn(move || run(&fleet(&alice)).unwrap_or_else(|error| panic!("{error}")));
    let heard = |what: &str| {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let reports = bob_calls(home);
            if audio_flowed(&reports) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {reports:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    heard("both flows stand");
    dies.kill();
    let reports = bob_calls(home);
    assert!(audio_flowed(&reports), "the call that finds an edge dead goes by the other: {reports:#?}");
    dies.start_again();
    heard("the edge is back");
    let reports = alice.join().unwrap();
    assert_eq!(reports[0].flows, 2, "{reports:#?}");
    assert!(reports[0].flow_failures >= 1 && reports[0].audio_both_ways, "{reports:#?}");
}
