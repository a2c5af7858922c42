//! What a reflector carries on one core, beside a bare echo that only sends each datagram back.
//!
//! ```text
//! reflector_load [SECONDS]                    2 when nothing is said; prints one JSON line
//! reflector_load configuration ADDRESS        prints the reflector's configuration, for one that `postern run` starts there
//! reflector_load at ADDRESS PACKETS           sends it so many good packets and as many forged ones, no faster than they are taken
//! ```
//!
//! Each of the two runs in a process of its own on the first core, with the very lane `postern run` would give it; the packets
//! come from the last one. They are more than either can take, so what it took is what its core can do. Then a million flows
//! pass, and its memory is looked at before and after.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement needs a clock and sockets"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use host::config::Settings;
use host::keys::Keyring;
use host::net::batch::{Receiver, Sender};
use host::server::Server;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use proto::peer::ticket::{Class, Keys};

const WORDS: &str = "both sides of this measurement";
/// What a NOTIFY with presence takes, behind its token.
const PAYLOAD: usize = 400;
/// Datagrams the kernel cuts one buffer into.
const SEGMENTS: usize = 64;
const SOCKETS: usize = 16;
/// Buffers made beforehand for each socket.
const BUFFERS: usize = 4;
const MILLION: u32 = 1_000_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("echo") => echo(),
        Some("reflector") => reflector(),
        Some("configuration") => print!("{}", configuration(&words[1])),
        Some("at") => offer_at(words[1].parse().expect("an address"), words[2].parse().expect("a number")),
        seconds => {
            let seconds = seconds.map_or(2, |text| text.parse().expect("usage: reflector_load [SECONDS]"));
            measure(Duration::from_secs(seconds));
        }
    }
}

fn measure(lasts: Duration) {
    pin(nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).ok().flatten().unwrap_or(1)
        as usize
        - 1);
    let mut load = Load::new();
    let echo = Served::start("echo").take(&mut load, lasts, Kind::Good);
    let mut reflector = Served::start("reflector");
    let good = reflector.take(&mut load, lasts, Kind::Good);
    let forged = reflector.take(&mut load, lasts, Kind::Forged);
    let (before, flows, after) = reflector.million(&load);
    println!(
        "{{\"echo\":{},\"reflected\":{},\"forged\":{},\"forged_sent_on\":{},\"flows\":{flows},\"rss_kib_before\":{before},\"rss_kib_after\":{after}}}",
        echo.told(echo.sent, lasts),
        good.told(good.sent, lasts),
        forged.told(forged.received, lasts),
        forged.sent
    );
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    Forged,
}

/// Where packets come from, and where they are to go.
struct Load {
    sockets: Vec<UdpSocket>,
    sink: UdpSocket,
    keys: Keys,
}

impl Load {
    fn new() -> Load {
        let open = || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            setsockopt(&socket.as_fd(), sockopt::UdpGsoSegment, &((44 + PAYLOAD) as i32))
                .expect("UDP_SEGMENT");
            small(&socket);
            socket
        };
        // It hears at every address of loopback, and what it has no room for is dropped there.
        let sink = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        small(&sink);
        let keys = Keyring::from_secret(&[0; 32], Some(WORDS)).ticket;
        Load { sockets: (0..SOCKETS).map(|_| open()).collect(), sink, keys: Keys::from_secret(keys, unix()) }
    }

    /// A packet of the flow with this number, from a socket of ours.
    fn packet(&self, socket: usize, flow: u32, kind: Kind) -> Vec<u8> {
        let port = self.sink.local_addr().expect("it is bound").port();
        let to = SocketAddr::new(Ipv4Addr::from(0x7f01_0000 + (flow & 0xffff)).into(), port);
        let from = self.sockets[socket].local_addr().expect("it is bound");
        let mut packet = self.keys.mint(from, to, Class::Message, unix()).expect("keys").to_vec();
        packet[43] ^= u8::from(kind == Kind::Forged);
        packet.resize(44 + PAYLOAD, b'x');
        packet
    }

    /// Offers more than can be taken.
    fn offer(&self, to: SocketAddr, lasts: Duration, kind: Kind) {
        let buffer = |socket: usize, n: usize| -> Vec<u8> {
            (0..SEGMENTS).flat_map(|k| self.packet(socket, (n * SEGMENTS + k) as u32, kind)).collect()
        };
        let buffers: Vec<(usize, Vec<u8>)> =
            (0..SOCKETS * BUFFERS).map(|n| (n % SOCKETS, buffer(n % SOCKETS, n / SOCKETS))).collect();
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            for (socket, buffer) in &buffers {
                let _ = self.sockets[*socket].send_to(buffer, to);
            }
        }
    }

    /// A packet of each of so many flows, no faster than they are taken.
    fn pace(&self, to: SocketAddr, flows: u32, kind: Kind) {
        let each = flows / SOCKETS as u32;
        for (number, socket) in self.sockets.iter().enumerate() {
            for first in (0..each).step_by(SEGMENTS) {
                let part = first..(first + SEGMENTS as u32).min(each);
                let buffer: Vec<u8> = part.flat_map(|flow| self.packet(number, flow, kind)).collect();
                let _ = socket.send_to(&buffer, to);
                if first % (SEGMENTS as u32 * 32) == 0 {
                    std::thread::sleep(Duration::from_millis(4));
                }
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn offer_at(reflector: SocketAddr, packets: u32) {
    let load = Load::new();
    load.pace(reflector, packets, Kind::Good);
    load.pace(reflector, packets, Kind::Forged);
}

fn small(socket: &UdpSocket) {
    setsockopt(&socket.as_fd(), sockopt::RcvBuf, &4096).expect("SO_RCVBUF");
}

/// What a server has done so far.
#[derive(Clone, Copy, Default)]
struct Done {
    received: u64,
    sent: u64,
    rss_kib: u64,
    cpu_us: u64,
}

impl Done {
    /// Packets a second, and the share of its core that took.
    fn told(&self, packets: u64, lasts: Duration) -> String {
        let share = self.cpu_us as f64 / lasts.as_micros() as f64;
        format!("{{\"per_second\":{},\"core\":{share:.2}}}", packets / lasts.as_secs())
    }
}

/// A server in a process of its own.
struct Served {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    at: SocketAddr,
}

impl Served {
    fn start(what: &str) -> Served {
        let this = std::env::current_exe().expect("a program has a path");
        let mut command = Command::new(this);
        let command = command.arg(what).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let ask = child.stdin.take().expect("a pipe");
        let mut answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        answers.read_line(&mut line).expect("it says where");
        Served { child, ask, answers, at: line.trim().parse().expect("an address") }
    }

    fn done(&mut self) -> Done {
        writeln!(self.ask, "?").expect("it lives");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it lives");
        let words: Vec<u64> = line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        Done { received: words[0], sent: words[1], rss_kib: words[2], cpu_us: words[3] }
    }

    fn take(&mut self, load: &mut Load, lasts: Duration, kind: Kind) -> Done {
        load.offer(self.at, Duration::from_millis(300), kind);
        std::thread::sleep(Duration::from_millis(200));
        let before = self.done();
        load.offer(self.at, lasts, kind);
        let after = self.done();
        std::thread::sleep(Duration::from_millis(200));
        Done {
            received: after.received - before.received,
            sent: after.sent - before.sent,
            cpu_us: after.cpu_us - before.cpu_us,
            ..after
        }
    }

    /// A packet of each of a million flows; memory before, how many passed, memory after.
    fn million(&mut self, load: &Load) -> (u64, u64, u64) {
        let before = self.done();
        load.pace(self.at, MILLION, Kind::Good);
        let after = self.done();
        (before.rss_kib, after.sent - before.sent, after.rss_kib)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(address: &str) -> String {
    format!(
        "log: error\nnode-key: {WORDS}\nreflector: {{ address: \"udp:{address}\", rate: 100000000, allow: [127.0.0.0/8] }}\n"
    )
}

/// A reflector as `postern run` starts it.
fn reflector() {
    pin(0);
    let text = configuration("127.0.0.1:0");
    let settings = Settings::from_text(Path::new("load.yaml"), &text).expect("it is right");
    let server = Server::start(&settings).expect("it starts");
    let handle = server.handle();
    println!("{}", handle.listening()[0].addr);
    for _ in std::io::stdin().lines() {
        let lanes = handle.lanes();
        let lane = lanes.iter().find(|lane| lane.lane.starts_with("reflector")).expect("its lane");
        println!("{} {} {} {}", lane.received, lane.sent, rss_kib(), cpu_us());
    }
}

/// Sends each datagram back, and nothing else.
fn echo() {
    pin(0);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &(4 << 20)).expect("SO_RCVBUF");
    setsockopt(&socket.as_fd(), sockopt::SndBuf, &(4 << 20)).expect("SO_SNDBUF");
    println!("{}", socket.local_addr().expect("it is bound"));
    let counts = std::sync::Arc::new([const { std::sync::atomic::AtomicU64::new(0) }; 2]);
    let told = counts.clone();
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines() {
            let [received, sent] = [0, 1].map(|n: usize| told[n].load(std::sync::atomic::Ordering::Relaxed));
            println!("{received} {sent} {} {}", rss_kib(), cpu_us());
        }
    });
    let (mut receiver, mut sender) = (Receiver::new(64, 2048), Sender::new(64));
    let mut back = Vec::with_capacity(64);
    loop {
        let Ok(taken) = receiver.receive(socket.as_fd()) else {
            std::thread::sleep(Duration::from_micros(50));
            continue;
        };
        let whole = |index| receiver.datagram(index).map(|(from, bytes)| (index, from, bytes.len()));
        back.clear();
        back.extend((0..taken).filter_map(whole));
        let datagrams = back.iter().map(|(index, from, len)| (*from, receiver.bytes(*index, *len)));
        let sent = sender.send(socket.as_fd(), datagrams).unwrap_or(0);
        for (count, more) in counts.iter().zip([taken, sent]) {
            count.fetch_add(more as u64, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Of this process so far.
fn cpu_us() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process has used something");
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|t| (t.tv_sec() * 1_000_000 + t.tv_usec()) as u64)
        .sum()
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has memory");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
}

fn pin(core: usize) {
    let mut one = CpuSet::new();
    one.set(core).expect("a core");
    sched_setaffinity(Pid::from_raw(0), &one).expect("it may be used");
}

fn unix() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as u32
}
