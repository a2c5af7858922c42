//! How much memory idle TLS connections cost a proxy: so many phones connect, register, and say nothing more.
//!
//! ```text
//! idle_tls POSTERN [CONNECTIONS]       POSTERN: the binary to measure; 20,000 connections when nothing is said
//! ```
//!
//! The phones come from 127.0.1.1 and on, 500 from each address. Prints one JSON line; ends with 1 when memory or answers are
//! not as they should be. Needs two open files a connection: `ulimit -n`, or root.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use host::tls::{believed, files};
use nix::sys::resource::{Resource, setrlimit};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// What 20,000 of them may cost, in MiB.
const MOST: u64 = 1024;
const FROM_ONE: usize = 500;
const THREADS: usize = 4;

/// A connection, and whether its phone was registered by it.
type Line = (StreamOwned<ClientConnection, TcpStream>, bool);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let postern = arguments.next().expect("usage: idle_tls POSTERN [CONNECTIONS]");
    let count: usize = arguments.next().map_or(20_000, |count| count.parse().expect("a number"));
    let files = 2 * count as u64 + 1000;
    let _ = setrlimit(Resource::RLIMIT_NOFILE, files, files);
    let folder = std::env::temp_dir().join(format!("postern-idle-{}", std::process::id()));
    let mut server = Server::start(&postern, &folder);
    let before = server.memory();
    let begun = Instant::now();
    let config = Arc::new(client(&folder));
    let lines = connect_all(server.at, &config, count);
    let took = begun.elapsed();
    std::thread::sleep(Duration::from_secs(3));
    let after = server.memory();
    println!(
        "{{\"connections\":{},\"registered\":{},\"rss_before_mib\":{},\"rss_mib\":{},\"kib_each\":{:.1},\"seconds\":{:.1}}}",
        lines.len(),
        lines.iter().filter(|(_, registered)| *registered).count(),
        before / 1024,
        after / 1024,
        (after - before) as f64 / lines.len().max(1) as f64,
        took.as_secs_f64()
    );
    server.stop();
    let _ = std::fs::remove_dir_all(&folder);
    let good = lines.len() == count && after / 1024 < MOST;
    std::process::exit(i32::from(!good));
}

/// A proxy with one TLS listener, in a process of its own.
struct Server {
    child: Child,
    at: SocketAddr,
}

impl Server {
    fn start(postern: &str, folder: &Path) -> Server {
        let made = Command::new(postern).args(["certificate", "a.example", "--out"]).arg(folder).output();
        assert!(made.is_ok_and(|made| made.status.success()), "no certificate");
        let file = folder.join("postern.yaml");
        let text = "listeners: [{ address: \"tls:127.0.0.1:0\" }]\ndomains: [a.example]\nauth: { required: false }\nlog: error\n\
                    proxy: {}\ntls: { certificates: [{ certificate: a.example.pem, key: a.example.key }] }\n";
        std::fs::write(&file, text).expect("temporary files can be written");
        let run =
            Command::new(postern).args(["run", "--json", "-c"]).arg(&file).stdout(Stdio::piped()).spawn();
        let mut child = run.expect("POSTERN runs");
        let mut ready = String::new();
        let out = child.stdout.take().expect("its output is a pipe");
        BufReader::new(out).read_line(&mut ready).expect("it says that it is ready");
        let port = ready.split("tls:127.0.0.1:").nth(1).and_then(|rest| rest.split('"').next());
        let port = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("not ready: {ready}"));
        Server { child, at: (Ipv4Addr::LOCALHOST, port).into() }
    }

    /// What it holds in memory, in KiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).expect("Linux tells")
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(folder: &Path) -> ClientConfig {
    let roots = files::authorities(&folder.join("ca.pem")).expect("the authority was just made");
    let mut config = believed::client(roots, None, false).expect("a client without certificate");
    config.resumption = rustls::client::Resumption::disabled();
    config
}

fn connect_all(at: SocketAddr, config: &Arc<ClientConfig>, count: usize) -> Vec<Line> {
    std::thread::scope(|threads| {
        let one = |thread: usize| {
            (0..count)
                .filter(|number| number % THREADS == thread)
                .filter_map(|number| phone(at, config, number))
                .collect()
        };
        let all: Vec<_> =
            (0..THREADS).map(|thread| threads.spawn(move || -> Vec<Line> { one(thread) })).collect();
        all.into_iter().flat_map(|lines| lines.join().unwrap_or_default()).collect()
    })
}

/// Connects and registers; `None` when it is not answered at all.
fn phone(at: SocketAddr, config: &Arc<ClientConfig>, number: usize) -> Option<Line> {
    let [_, _, high, low] = (1 + (number / FROM_ONE) as u32).to_be_bytes();
    let source = Ipv4Addr::new(127, 0, 1 + high, low);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::from((source, 0)).into()).ok()?;
    socket.connect(&at.into()).ok()?;
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let name = believed::server_name("a.example")?;
    let mut line = StreamOwned::new(ClientConnection::new(config.clone(), name).ok()?, stream);
    let here = line.sock.local_addr().ok()?;
    let register = format!(
        "REGISTER sip:a.example SIP/2.0\r\nVia: SIP/2.0/TLS {here};branch=z9hG4bK{number}\r\nFrom: <sip:u{number}@a.example>;tag=1\r\n\
         To: <sip:u{number}@a.example>\r\nCall-ID: idle-{number}\r\nCSeq: 1 REGISTER\r\nContact: <sip:u{number}@{here};transport=tls>\r\n\
         Max-Forwards: 70\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
    );
    line.write_all(register.as_bytes()).ok()?;
    let mut answer = [0; 2048];
    let length = line.read(&mut answer).ok()?;
    let registered = answer[..length].starts_with(b"SIP/2.0 200");
    (length > 0).then_some((line, registered))
}
