//! What a media session costs in memory while nobody talks: counted in bytes the allocator has lent out, which no other load on
//! the machine changes.
#![allow(clippy::disallowed_methods)]

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use conformance::allocations::{Counting, lent};
use host::bindings::Bindings;
use host::tables::{LaneTables, SharedTables};
use proto::node::{Birth, Flow, Input, Lane, Node, Output, SocketId, Transport};
use relay::{Config, Network, Relay};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SESSIONS: usize = 2_000;
const NG: &str = "127.0.0.1:2223";
/// Answers are kept for repetitions this long.
const REMEMBERED: Duration = Duration::from_secs(36);

struct Scene {
    relay: Relay,
    tables: LaneTables,
    now: Instant,
    sockets: u32,
}

/// A relay for ng clients alone, as in `conformance/bench`.
fn scene(one_port: bool) -> Scene {
    let here = "127.0.0.1".parse().unwrap();
    let network = Network { name: "default".into(), bind: here, advertise: here };
    let ng = relay::ng::Config { listen: vec![(Transport::Udp, NG.parse().unwrap())], ..Default::default() };
    let ports = if one_port { 10_000..=10_003 } else { 10_000..=10_000 + 4 * SESSIONS as u16 + 999 };
    let config = Config {
        networks: vec![network],
        one_port,
        ports: ports.clone(),
        all_ports: ports,
        ng: Some(ng),
        ..Config::default()
    };
    let now = Instant::now();
    let birth = Birth { now, wall: SystemTime::now(), seed: [7; 32], lane: Lane::default() };
    let tables = LaneTables(SharedTables::new(Bindings::default(), None));
    let mut scene = Scene { relay: Relay::new(birth, config), tables, now, sockets: 0 };
    scene.tell(Input::Wake);
    scene
}

impl Scene {
    /// What it answers.
    fn tell(&mut self, input: Input) -> Option<Vec<u8>> {
        let (mut answer, mut inputs) = (None, vec![input]);
        while let Some(input) = inputs.pop() {
            self.relay.handle(self.now, input, &mut self.tables);
            while let Some(output) = self.relay.poll(&mut self.tables) {
                match output.on_the_wire() {
                    Output::Bind { ticket, local } => {
                        inputs.push(Input::Bound { ticket, socket: SocketId(self.sockets), local });
                        self.sockets += 1;
                    }
                    Output::Send { bytes, .. } => answer = Some(bytes.to_vec()),
                    _ => {}
                }
            }
        }
        answer
    }

    fn command(&mut self, text: &str) {
        self.now += Duration::from_micros(100);
        let client: SocketAddr = "127.0.0.1:9999".parse().unwrap();
        let bytes = text.as_bytes().to_vec().into();
        let answer = self.tell(Input::Other { flow: Flow::udp(NG.parse().unwrap(), client), bytes });
        let answer = String::from_utf8(answer.expect("an answer")).unwrap();
        assert!(answer.contains("\"result\":\"ok\""), "{answer}");
    }

    fn set_up(&mut self, number: usize) {
        let sdp = |port| {
            format!(
                "v=0\\r\\no=- 1 1 IN IP4 127.0.0.1\\r\\ns=-\\r\\nc=IN IP4 127.0.0.1\\r\\nt=0 0\\r\\n\
                 m=audio {port} RTP/AVP 0 8 101\\r\\na=rtpmap:101 telephone-event/8000\\r\\na=sendrecv\\r\\n"
            )
        };
        let call = format!("\"call-id\":\"held{number}\",\"from-tag\":\"a\"");
        self.command(&format!("{number}a {{\"command\":\"offer\",{call},\"sdp\":\"{}\"}}", sdp(4000)));
        self.command(&format!(
            "{number}b {{\"command\":\"answer\",{call},\"to-tag\":\"b\",\"sdp\":\"{}\"}}",
            sdp(4002)
        ));
    }

    fn rest(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.relay.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.tell(Input::Wake);
        }
        self.now = until;
    }
}

/// Bytes a session, once the answers of its set-up are forgotten.
fn idle_session(one_port: bool) -> isize {
    let mut scene = scene(one_port);
    let before = lent();
    (0..SESSIONS).for_each(|number| scene.set_up(number));
    let busy = (lent() - before) / SESSIONS as isize;
    scene.rest(REMEMBERED);
    let idle = (lent() - before) / SESSIONS as isize;
    println!("{busy} bytes a session just set up, {idle} once answers are forgotten");
    idle
}

#[test]
fn an_idle_session_takes_less_than_two_and_a_half_kilobytes() {
    for one_port in [false, true] {
        let idle = idle_session(one_port);
        assert!(idle < 2_500, "{idle} bytes a session, one port: {one_port}");
    }
}
