//! The machines as tables, and the layer as its service sees it.

mod bounds;
mod clients;
mod servers;
mod tables;
mod timers;

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::*;
use crate::node::{Birth, Lane, Transport};
use crate::sip::Builder;
use crate::sip::{Name, reply};

const MS: Duration = Duration::from_millis(1);
const OURS: &str = "203.0.113.1:5060";
const THEIRS: &str = "192.0.2.7:5070";

/// A layer on a bench: time is milliseconds since the start.
struct Bench {
    layer: Transactions,
    start: Instant,
    flow: Flow,
}

impl Bench {
    fn udp() -> Bench {
        Bench::limited(1000)
    }

    #[allow(clippy::disallowed_methods)]
    fn limited(limit: usize) -> Bench {
        let start = Instant::now();
        let birth = Birth { now: start, wall: SystemTime::UNIX_EPOCH, seed: [1; 32], lane: Lane::default() };
        let layer = Transactions::new(Timers::default(), limit, &mut birth.dice(0));
        Bench { layer, start, flow: Flow::udp(addr(OURS), addr(THEIRS)) }
    }

    fn tcp() -> Bench {
        let mut bench = Bench::udp();
        bench.flow = Flow { transport: Transport::Tcp, id: FlowId(9), ..bench.flow };
        bench
    }

    fn at(&self, ms: u32) -> Instant {
        self.start + ms * MS
    }

    fn request(&mut self, ms: u32, message: &Message) -> ClientId {
        self.layer.request(self.at(ms), self.flow, message.clone())
    }

    fn receive(&mut self, ms: u32, message: &Message) -> Received {
        self.layer.receive(self.at(ms), self.flow, message.clone())
    }

    /// Takes a new request in and returns its transaction.
    fn accept(&mut self, ms: u32, message: &Message) -> ServerId {
        match self.receive(ms, message) {
            Received::Request { id, .. } | Received::Cancel { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    fn respond(&mut self, ms: u32, id: ServerId, response: &Message) {
        self.layer.respond(self.at(ms), id, response.clone());
    }

    /// Lets time pass and lists what was sent: the first line of each message, in order.
    fn wake(&mut self, ms: u32) -> Vec<String> {
        self.layer.wake(self.at(ms));
        self.sent()
    }

    fn sent(&mut self) -> Vec<String> {
        self.sends().into_iter().map(|(_, bytes, _)| first_line(&bytes)).collect()
    }

    fn sends(&mut self) -> Vec<(Flow, Bytes, Ticket)> {
        std::iter::from_fn(|| self.layer.poll())
            .map(|output| match output.on_the_wire() {
                Output::Send { flow, bytes, ticket } => (flow, bytes, ticket),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Runs from deadline to deadline up to `ms`, and lists the times (in ms) at which something was sent.
    fn times_of_sending(&mut self, until: u32) -> Vec<u128> {
        let mut times = Vec::new();
        while let Some(deadline) = self.layer.deadline().filter(|d| *d <= self.at(until)) {
            self.layer.wake(deadline);
            let at = (deadline - self.start).as_millis();
            times.extend(self.sent().iter().map(|_| at));
        }
        times
    }

    fn happened(&mut self) -> Vec<Happened> {
        std::iter::from_fn(|| self.layer.happened()).collect()
    }

    /// Whether everything is forgotten at `ms` but still there a millisecond before.
    fn ends_at(&mut self, ms: u32) {
        self.layer.wake(self.at(ms - 1));
        assert_eq!(self.layer.len(), 1, "ended before {ms} ms");
        self.layer.wake(self.at(ms));
        assert!(self.layer.is_empty(), "lives on after {ms} ms");
        assert_eq!(self.layer.deadline(), None, "a timer was left behind");
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn first_line(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned()
}

/// A request from THEIRS, or one of ours: who sent it makes no difference to a machine.
fn request(method: &str, via: &str, to: &str) -> Message {
    Builder::request(method, "sip:bob@example.com")
        .header(Name::Via, via)
        .header(Name::Route, "<sip:a.example;lr>")
        .header(Name::Route, "<sip:b.example;lr>")
        .header(Name::MaxForwards, 70)
        .header(Name::From, "<sip:alice@example.com>;tag=a")
        .header(Name::To, to)
        .header(Name::CallId, "call-1")
        .header(Name::CSeq, format_args!("7 {}", if method == "ACK" { "ACK" } else { method }))
        .finish()
}

const VIA: &str = "SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bKone";
const TO: &str = "<sip:bob@example.com>";

fn invite() -> Message {
    request("INVITE", VIA, TO)
}

fn options() -> Message {
    request("OPTIONS", VIA, TO)
}

fn answer(request: &Message, status: u16) -> Message {
    reply(request, status, "b").finish()
}

/// How a received message was taken, in a word.
fn word(received: &Received) -> &'static str {
    match received {
        Received::Request { .. } => "request",
        Received::Cancel { invite: Some(_), .. } => "cancel of an invite",
        Received::Cancel { invite: None, .. } => "cancel of nothing",
        Received::Ack { .. } => "ack",
        Received::Response { .. } => "response",
        Received::Again { .. } => "again",
        Received::Stray { .. } => "stray",
        Received::Absorbed => "absorbed",
    }
}
