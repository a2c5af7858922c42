//! What a relayed packet costs: a real relay lane's forwarding on one of the media paths, under load from outside.
//!
//! `media_path epoll|io_uring|forward SESSIONS SECONDS [FLOWS]`: lends ports to SESSIONS calls on loopback, writes lines
//! `source-port 127.0.0.1 relay-port` to the file FLOWS for a packet generator, carries what comes for SECONDS, and
//! prints packets and this thread's CPU time for each. `forward` measures `Relay::forward` alone.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement needs a clock and sockets"
)]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use host::bindings::Bindings;
use host::lanes::media::{EpollPath, MediaPath, Wait};
use host::lanes::uring::{Means, UringPath};
use host::tables::{LaneTables, SharedTables};
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::resource::{UsageWho, getrusage};
use proto::control::{Ask, Mode, Session, tag};
use proto::event::Side;
use proto::node::{Birth, Flow, Input, Lane, Node, Output, SocketId};
use proto::sip::{Builder, Message, Name};
use proto::tables::Latch;
use relay::{Config, Forward, Network, Relay};

const PROXY: &str = "127.0.0.1:5060";
const CONTROL: &str = "127.0.0.1:5090";
/// Parties' first ports.
const CALLERS: u16 = 10_000;
/// Below the ports the system gives to sinks.
const PORTS: std::ops::RangeInclusive<u16> = 20_000..=29_999;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize| args.get(at).and_then(|text| text.parse::<u64>().ok());
    let (Some(sessions), Some(seconds)) = (number(2), number(3)) else {
        eprintln!("media_path epoll|io_uring|forward SESSIONS SECONDS [FLOWS]");
        std::process::exit(64);
    };
    let control = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
    let mut path: Box<dyn MediaPath> = match args[1].as_str() {
        "io_uring" => Box::new(UringPath::new(&control, Means::ALL).expect("io_uring")),
        _ => Box::new(EpollPath::new(&control).expect("epoll")),
    };
    let mut bench = Bench::new(&mut *path, sessions);
    if args[1] == "forward" {
        return bench.forward(Duration::from_secs(seconds));
    }
    if let Some(file) = args.get(4) {
        let lines = bench.flows.iter().map(|(from, to)| format!("{from} 127.0.0.1 {to}\n"));
        std::fs::write(file, lines.collect::<String>()).expect("flows");
    }
    bench.carry(&mut *path, Duration::from_secs(seconds));
}

struct Bench {
    relay: Relay,
    tables: LaneTables,
    /// Callers' ports, and the relay's ports for them.
    flows: Vec<(u16, u16)>,
    sockets: Vec<(SocketId, u16)>,
    /// Where media ends: never read.
    _sinks: Vec<UdpSocket>,
}

impl Bench {
    fn new(path: &mut dyn MediaPath, sessions: u64) -> Bench {
        let birth =
            Birth { now: Instant::now(), wall: SystemTime::now(), seed: [1; 32], lane: Lane::default() };
        let ip = "127.0.0.1".parse().expect("an address");
        let network = Network { name: "here".into(), bind: ip, advertise: ip };
        let config = Config {
            networks: vec![network],
            reserve: 2 * sessions as usize,
            ports: PORTS,
            all_ports: PORTS,
            ..Config::default()
        };
        let relay = Relay::new(birth, config);
        let mut bench = Bench {
            relay,
            tables: LaneTables(SharedTables::new(Bindings::default(), None)),
            flows: Vec::new(),
            sockets: Vec::new(),
            _sinks: (0..sessions).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a sink")).collect(),
        };
        bench.settle(path);
        for session in 0..sessions {
            let caller = CALLERS + 2 * session as u16;
            let sink = bench._sinks[session as usize].local_addr().expect("its address").port();
            bench.invite(path, session + 1, Side::Caller, caller);
            let answer = bench.invite(path, session + 1, Side::Callee, sink);
            let sdp = proto::sdp::Sdp::parse(answer.body()).expect("SDP");
            bench.flows.push((caller, sdp.media[0].port));
        }
        bench
    }

    fn settle(&mut self, path: &mut dyn MediaPath) -> Option<Message> {
        let mut response = None;
        while let Some(output) = self.relay.poll(&mut self.tables) {
            match output.on_the_wire() {
                Output::Bind { ticket, local } => {
                    let input = match path.bind(local) {
                        Ok((socket, local)) => {
                            self.sockets.push((socket, local.port()));
                            Input::Bound { ticket, socket, local }
                        }
                        Err(error) => Input::BindFailed { ticket, local, why: error.to_string() },
                    };
                    self.relay.handle(Instant::now(), input, &mut self.tables);
                }
                Output::Send { bytes, .. } => response = Message::parse(bytes).ok(),
                Output::Empty { socket } => path.empty(socket),
                _ => {}
            }
        }
        response
    }

    fn invite(&mut self, path: &mut dyn MediaPath, number: u64, leg: Side, port: u16) -> Message {
        let session = Session(number);
        let peer = Some("127.0.0.1".parse().expect("an address"));
        let networks = ["here".to_owned(), "here".to_owned()];
        let mode = Mode::Split;
        let ask = Ask {
            session,
            mode,
            leg,
            peer,
            networks,
            latch: Latch::Strict,
            trusted: false,
            reset: false,
            chained: false,
            srtp: None,
        };
        let cseq = if leg == Side::Caller { 1 } else { 2 };
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
        );
        let to =
            if leg == Side::Caller { String::new() } else { format!(";tag={}", tag(session, Side::Callee)) };
        let request = Builder::request("INVITE", &format!("sip:{session}@{CONTROL}"))
            .header(Name::Via, format_args!("SIP/2.0/UDP {PROXY};branch=z9hG4bK{number}x{cseq}"))
            .header(Name::From, format_args!("<sip:proxy@{PROXY}>;tag={}", tag(session, Side::Caller)))
            .header(Name::To, format_args!("<sip:{session}@{CONTROL}>{to}"))
            .header(Name::CallId, session)
            .header(Name::CSeq, format_args!("{cseq} INVITE"))
            .header(Name::Contact, format_args!("<sip:proxy@{PROXY}>"));
        let message = ask.write(request).body("application/sdp", sdp.as_bytes()).finish();
        let flow = Flow::udp(CONTROL.parse().expect("an address"), PROXY.parse().expect("an address"));
        self.relay.handle(Instant::now(), Input::Message { flow, message }, &mut self.tables);
        self.settle(path).filter(|response| response.status() == Some(200)).expect("200")
    }

    fn carry(&mut self, path: &mut dyn MediaPath, time: Duration) {
        let (mut received, mut sent, mut dropped, mut turns) = (0, 0, 0, 0u64);
        let (start, cpu) = (Instant::now(), cpu());
        while start.elapsed() < time {
            let relay = &mut self.relay;
            let turn = path
                .turn(Wait::at_most(Duration::from_millis(100)), &mut |now, socket, from, slot, len| {
                    relay.forward(now, socket, from, slot, len)
                });
            let turn = turn.expect("a turn");
            (received, sent, dropped) = (received + turn.received, sent + turn.sent, dropped + turn.dropped);
            turns += 1;
            while relay.poll(&mut self.tables).is_some() {}
        }
        let used = self::cpu() - cpu;
        println!(
            "{}: received {received}, sent {sent}, dropped {dropped}, {:.1} packets a turn, CPU {:.0} ns a packet",
            path.name(),
            received as f64 / turns as f64,
            used.as_nanos() as f64 / received.max(1) as f64,
        );
    }

    fn forward(&mut self, time: Duration) {
        let mut packet = vec![0x80, 0];
        packet.resize(172, 0);
        let flows = self.flows.iter().map(|(from, to)| {
            let socket = self.sockets.iter().find(|(_, port)| port == to).expect("its socket").0;
            (socket, SocketAddr::new("127.0.0.1".parse().expect("an address"), *from))
        });
        let flows: Vec<_> = flows.collect();
        let (start, cpu, mut count) = (Instant::now(), cpu(), 0u64);
        for sequence in 0u32.. {
            packet[2..4].copy_from_slice(&(sequence as u16).to_be_bytes());
            packet[4..8].copy_from_slice(&(sequence * 160).to_be_bytes());
            let now = start + Duration::from_millis(20) * sequence;
            for &(socket, from) in &flows {
                assert!(matches!(
                    self.relay.forward(now, socket, from, &mut packet, 172),
                    Forward::Send { .. }
                ));
                count += 1;
            }
            if start.elapsed() > time {
                break;
            }
        }
        let used = self::cpu() - cpu;
        println!(
            "forward: {:.1} ns a packet, {} sessions",
            used.as_nanos() as f64 / count as f64,
            flows.len()
        );
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("getrusage");
    let part =
        |time: nix::sys::time::TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
    part(usage.user_time()) + part(usage.system_time())
}
