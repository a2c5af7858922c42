//! Twice as many calls as a proxy has time for: it goes on carrying nearly as many as it can, and those that are up
//! never notice. Without the lobby the same proxy drowns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use conformance::world::{INTERNET, Link, NodeId, Pace, World};
use proto::lobby::Before;
use proto::node::{Flow, Input, Node, Output, Ticket, Transport};
use proto::sip::{Message, Method, reply};
use proto::tables::{Anchor, Tables};
use proto::timers::Queue;
use proxy::config::{Listener, NextHop, Pattern};
use proxy::routing::routes::{Goes, Route};
use proxy::trunks::{Server, Trunk};

const PROXY: &str = "203.0.113.1:5060";
const CALLERS: &str = "192.0.2.10:5060";
const CALLEES: &str = "192.0.2.20:5060";

/// How long a call lasts once it is answered.
const TALK: Duration = Duration::from_millis(1500);
/// What a caller waits for an answer before it counts the call as lost.
const PATIENCE: Duration = Duration::from_secs(2);
const T1: Duration = Duration::from_millis(500);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What a caller is waiting for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Answer,
    Talk,
    Bye,
}

struct Call {
    begun: Instant,
    state: State,
    to: String,
    /// When the request was sent first, and how often.
    tries: u32,
    prompt: bool,
}

/// Many callers: one every `gap`, for as long as it lasts.
struct Crowd {
    gap: Duration,
    next: Instant,
    until: Instant,
    calls: BTreeMap<u32, Call>,
    alarms: Queue<(u32, State, u32)>,
    out: VecDeque<Output>,
    so_far: u32,
    /// When each good call was answered.
    good: Vec<Instant>,
    late: u32,
    refused: u32,
    /// INVITEs that were sent again.
    repeated: u32,
    slowest_bye: Duration,
    byes: BTreeMap<u32, Instant>,
    /// Whether an INVITE's first final answer was that it is taken, and how many were later answered otherwise.
    finals: BTreeMap<u32, bool>,
    contradicted: u32,
}

impl Crowd {
    fn new(now: Instant, per_second: u32, lasts: Duration) -> Crowd {
        Crowd {
            gap: Duration::from_secs(1) / per_second,
            next: now,
            until: now + lasts,
            calls: BTreeMap::new(),
            alarms: Queue::default(),
            out: VecDeque::new(),
            so_far: 0,
            good: Vec::new(),
            late: 0,
            refused: 0,
            repeated: 0,
            slowest_bye: Duration::ZERO,
            byes: BTreeMap::new(),
            finals: BTreeMap::new(),
            contradicted: 0,
        }
    }

    fn send(&mut self, method: &str, call: u32, to: &str) {
        let branch = if method == "ACK" && !to.contains("overload") { "ack" } else { "" };
        let cseq = if method == "BYE" { 2 } else { 1 };
        let text = format!(
            "{method} sip:callee@{CALLEES} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLERS};branch=z9hG4bK{cseq}-{call}{branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:caller@{CALLERS}>;tag=c{call}\r\nTo: <sip:callee@{CALLEES}>{to}\r\n\
             Call-ID: call-{call}\r\nCSeq: {cseq} {method}\r\nContact: <sip:caller@{CALLERS}>\r\nContent-Length: 0\r\n\r\n"
        );
        let flow = Flow::udp(address(CALLERS), address(PROXY));
        self.out.push_back(Output::Send { flow, bytes: Bytes::from(text), ticket: Ticket(0) });
    }

    fn begin(&mut self, now: Instant) {
        self.so_far += 1;
        let call = Call { begun: now, state: State::Answer, to: String::new(), tries: 0, prompt: false };
        self.calls.insert(self.so_far, call);
        self.repeat(now, self.so_far);
    }

    /// Sends the request a call waits with, and plans to do so again (timers A and E).
    fn repeat(&mut self, now: Instant, number: u32) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.tries += 1;
        let (state, to, tries) = (call.state, call.to.clone(), call.tries);
        if tries > 7 {
            self.calls.remove(&number);
            self.late += 1;
            return;
        }
        self.alarms.set(now + T1 * 2u32.pow(tries - 1), (number, state, tries));
        self.repeated += u32::from(state == State::Answer && tries > 1);
        self.send(if state == State::Answer { "INVITE" } else { "BYE" }, number, &to);
    }

    fn answered(&mut self, now: Instant, number: u32, response: &Message) {
        let (status, method) = (response.status().unwrap_or(0), response.cseq().unwrap().method);
        let to = format!(";tag={}", response.to_tag());
        if status >= 200 && method == Method::Invite {
            self.send("ACK", number, &to);
            let is_taken = status < 300;
            self.contradicted += u32::from(*self.finals.entry(number).or_insert(is_taken) != is_taken);
        }
        let Some(call) = self.calls.get_mut(&number) else { return };
        match (call.state, status) {
            (State::Answer, 200) => {
                (call.state, call.to, call.prompt) = (State::Talk, to, now - call.begun < PATIENCE);
                self.alarms.set(now + TALK, (number, State::Talk, 0));
            }
            (State::Answer, 300..) => {
                self.calls.remove(&number);
                self.refused += 1;
            }
            (State::Bye, 200) if method == Method::Bye => {
                let call = self.calls.remove(&number).unwrap();
                self.slowest_bye = self.slowest_bye.max(now - self.byes.remove(&number).unwrap());
                if call.prompt { self.good.push(now) } else { self.late += 1 }
            }
            _ => {}
        }
    }
}

impl Node for Crowd {
    fn handle(&mut self, now: Instant, input: Input, _: &mut dyn Tables) {
        if let Input::Message { message, .. } = &input
            && let Some(number) = message.call_id().strip_prefix("call-")
        {
            self.answered(now, number.parse().unwrap(), message);
        }
        while self.next <= now && now < self.until {
            self.next += self.gap;
            self.begin(now);
        }
        while let Some((number, state, tries)) = self.alarms.pop(now) {
            match self.calls.get_mut(&number) {
                Some(call) if state == State::Talk => {
                    (call.state, call.tries) = (State::Bye, 0);
                    self.byes.insert(number, now);
                    self.repeat(now, number);
                }
                Some(call) if call.state == state && call.tries == tries => self.repeat(now, number),
                _ => {}
            }
        }
    }

    fn poll(&mut self, _: &mut dyn Tables) -> Option<Output> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        let next = (self.next < self.until).then_some(self.next);
        self.alarms.deadline().into_iter().chain(next).min()
    }
}

/// Whoever is called: answers at once, and again until the ACK comes.
struct Callees {
    unacknowledged: BTreeSet<String>,
    alarms: Queue<(String, Flow, Bytes, u32)>,
    out: VecDeque<Output>,
}

impl Node for Callees {
    fn handle(&mut self, now: Instant, input: Input, _: &mut dyn Tables) {
        if let Input::Message { flow, message } = input
            && message.is_request()
        {
            let call = message.call_id().to_owned();
            if message.method() == Method::Ack {
                self.unacknowledged.remove(&call);
                return;
            }
            let answer = reply(&message, 200, "callee");
            let answer = answer.header(proto::sip::Name::Contact, format!("<sip:callee@{CALLEES}>")).finish();
            let bytes = answer.bytes().clone();
            if message.method() == Method::Invite && self.unacknowledged.insert(call.clone()) {
                self.alarms.set(now + T1, (call, flow, bytes.clone(), 1));
            }
            self.out.push_back(Output::Send { flow, bytes, ticket: Ticket(0) });
        }
        while let Some((call, flow, bytes, tries)) = self.alarms.pop(now) {
            if self.unacknowledged.contains(&call) && tries < 7 {
                self.alarms.set(now + T1 * 2u32.pow(tries), (call, flow, bytes.clone(), tries + 1));
                self.out.push_back(Output::Send { flow, bytes, ticket: Ticket(0) });
            }
        }
    }

    fn poll(&mut self, _: &mut dyn Tables) -> Option<Output> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        self.alarms.deadline()
    }
}

fn proxy_config() -> proxy::Config {
    let bind = address(PROXY);
    let listener = Listener {
        network: 0,
        transport: Transport::Udp,
        bind,
        advertise: bind,
        authenticate: false,
        anchor: Some(Anchor::Never),
        srtp: None,
        algorithms: Vec::new(),
        standing: Default::default(),
    };
    let to = address(CALLEES);
    let next = NextHop { host: to.ip().to_string(), port: Some(to.port()), transport: Some(Transport::Udp) };
    let trunk = Trunk { servers: vec![Server::new(next)], trusted: true, ..Trunk::named("callees") };
    let route = Route {
        name: "callees".into(),
        user: Pattern::Any,
        domain: Pattern::Any,
        from: Vec::new(),
        strip: 0,
        prefix: String::new(),
        goes: Goes::Trunks(vec![0]),
    };
    let (trunks, routes) = (vec![Arc::new(trunk)], vec![route]);
    proxy::Config { listeners: vec![listener], trunks, routes, ..proxy::Config::default() }
}

struct Outcome {
    /// Calls a second that were answered in time and ended well, of those begun while the crowd was there.
    good: f64,
    refused: u32,
    repeated: u32,
    late: u32,
    slowest_bye: Duration,
    turned_away: u64,
    contradicted: u32,
}

/// 5 % of a call's work is to read what comes: for the real proxy that share is smaller.
const PACE: Pace = Pace {
    reading: Duration::from_micros(200),
    handling: Duration::from_millis(4),
    lobby: Some(Before::Proxy),
    quota: None,
};
/// The same work in a tenth of the time, and of every 100 ms it sleeps 90: a CPU quota of 10 %.
const HELD: Pace = Pace {
    reading: Duration::from_micros(20),
    handling: Duration::from_micros(400),
    quota: Some((Duration::from_millis(10), Duration::from_millis(100))),
    ..PACE
};
/// A call is INVITE, 200, ACK, BYE and 200 at the proxy.
const CAPACITY: u32 = 250 / 5;
const LASTS: Duration = Duration::from_secs(20);
/// How long it takes until as many calls end as begin.
const WARM: Duration = Duration::from_secs(4);

fn play(per_second: u32, pace: Pace) -> Outcome {
    play_for(LASTS, per_second, pace, Link::default())
}

/// With callers at the end of such a way.
fn play_for(lasts: Duration, per_second: u32, pace: Pace, way: Link) -> Outcome {
    let mut world = World::new(1);
    let host = |world: &mut World, at: &str| world.host(INTERNET, &address(at).ip().to_string());
    let (at_proxy, at_callers, at_callees) =
        (host(&mut world, PROXY), host(&mut world, CALLERS), host(&mut world, CALLEES));
    *world.link(at_callers) = way;
    let config = Arc::new(proxy_config());
    let udp = |at: &str| format!("udp {at}");
    let proxy = world
        .attach(at_proxy, "proxy", &[&udp(PROXY)], move |birth| proxy::Proxy::new(config.clone(), birth));
    world.slow_down(proxy, pace);
    world.attach(at_callees, "callees", &[&udp(CALLEES)], |_| Callees {
        unacknowledged: BTreeSet::new(),
        alarms: Queue::default(),
        out: VecDeque::new(),
    });
    let crowd: NodeId = world.attach(at_callers, "callers", &[&udp(CALLERS)], move |birth| {
        Crowd::new(birth.now, per_second, lasts)
    });
    world.run_for(lasts + Duration::from_secs(70));
    let crowd = world.node::<Crowd>(crowd);
    let steady = crowd.until - lasts + WARM..crowd.until;
    let good = crowd.good.iter().filter(|at| steady.contains(at)).count();
    Outcome {
        good: good as f64 / (lasts - WARM).as_secs_f64(),
        refused: crowd.refused,
        repeated: crowd.repeated,
        late: crowd.late,
        slowest_bye: crowd.slowest_bye,
        turned_away: world.turned_away(proxy),
        contradicted: crowd.contradicted,
    }
}

#[test]
fn at_twice_its_capacity_a_proxy_carries_nine_tenths_of_its_peak() {
    carries_nine_tenths(PACE);
}

#[test]
fn at_twice_its_capacity_a_proxy_that_is_held_to_a_tenth_of_a_core_carries_nine_tenths_of_its_peak() {
    carries_nine_tenths(HELD);
}

fn carries_nine_tenths(pace: Pace) {
    let below = play(CAPACITY / 2, pace);
    assert_eq!((below.refused, below.late, below.turned_away), (0, 0, 0), "half the load is no overload");

    let peak = [90, 100].map(|percent| play(CAPACITY * percent / 100, pace).good);
    let peak = peak.into_iter().fold(0.0, f64::max);
    assert!(peak > 0.85 * f64::from(CAPACITY), "the peak is {peak} calls a second");
    for times in [2, 3] {
        let over = play(CAPACITY * times, pace);
        println!(
            "{times} times: {:.1} of {peak:.1} good calls a second, {} refused, {} repeated",
            over.good, over.refused, over.repeated
        );
        assert!(over.refused > 0 && over.turned_away >= u64::from(over.refused));
        assert_eq!(over.late, 0, "who is let in is served in time");
        assert!(over.slowest_bye < T1, "calls that are up don't notice: {:?}", over.slowest_bye);
        let least = if times == 2 { 0.9 } else { 0.85 };
        assert!(over.good >= least * peak, "{} of {peak} good calls a second at {times} times", over.good);
    }
}

/// Ten times as fast, so that many requests come between one and its retransmission.
#[test]
fn nobody_is_refused_whose_call_was_taken_and_nobodys_call_is_taken_who_was_refused() {
    let fast = Pace { reading: Duration::from_micros(2), handling: Duration::from_micros(40), ..HELD };
    let lossy = Link { loss: 50, ..Link::default() };
    // Whoever is so far away sends its INVITE again before it hears what became of it.
    let far = Link { latency: Duration::from_millis(270), duplication: 10, ..Link::default() };
    for (what, way) in [("lossy", lossy), ("far", far)] {
        let over = play_for(WARM + Duration::from_secs(4), CAPACITY * 10 * 2, fast, way);
        let Outcome { refused, repeated, good, contradicted, .. } = over;
        println!("{what}: {refused} refused, {repeated} INVITEs repeated, {good:.1} good a second");
        assert!(refused > 1000 && repeated > 100, "{what}: {refused} and {repeated}");
        assert_eq!(contradicted, 0, "{what}: a second answer that says otherwise");
    }
}

#[test]
fn without_a_lobby_the_same_proxy_drowns() {
    let over = play(CAPACITY * 2, Pace { lobby: None, ..PACE });
    assert!(over.good < 0.5 * f64::from(CAPACITY), "{} good calls a second", over.good);
}
