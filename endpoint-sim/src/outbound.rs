//! Client-initiated connections (RFC 5626) at the device's end: what it is told of them, and how one flow is kept alive.
//!
//! ```text
//!   REGISTER ──200──► stands ──── closed, refused, a keep-alive without answer, another address ────► failed
//!      ▲                                                                                                │
//!      └───────────── after 50–100 % of base · 2^failures, `longest` at most (§4.5) ────────────────────┘
//! ```
//!
//! Every flow is a registration of its own ([`crate::registration`]) under the same `+sip.instance`, told apart by `reg-id`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::node::{Dice, Flow, FlowId, Transport};
use proto::stun::{self, Class, TransactionId, Writer};

/// What a device is told of its flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Its `+sip.instance`, a URN (§4.1).
    pub instance: String,
    /// Edge proxies beside [`crate::PhoneConfig::proxy`], which is the first: a flow to each.
    pub edges: Vec<(Transport, SocketAddr)>,
    /// How long a failed flow waits.
    pub backoff: Backoff,
    /// How often a flow over UDP is probed by STUN, at most (§4.4.2).
    pub stun: Duration,
    /// How often a connection is pinged, at most, when the registrar names no Flow-Timer (§4.4.1).
    pub ping: Duration,
}

impl Outbound {
    /// With the times of the RFC.
    pub fn new(instance: &str, edges: Vec<(Transport, SocketAddr)>) -> Outbound {
        Outbound {
            instance: instance.to_owned(),
            edges,
            backoff: Backoff::default(),
            stun: Duration::from_secs(29),
            ping: Duration::from_secs(120),
        }
    }
}

/// How long a failed flow waits before it is tried again (§4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The base when no flow stands.
    pub all_failed: Duration,
    /// The base when another one does.
    pub some_failed: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            all_failed: Duration::from_secs(30),
            some_failed: Duration::from_secs(90),
            longest: Duration::from_secs(1800),
        }
    }
}

impl Backoff {
    /// After so many failures in a row since it last stood.
    pub(crate) fn wait(&self, failures: u32, another_stands: bool, dice: &mut Dice) -> Duration {
        let base = if another_stands { self.some_failed } else { self.all_failed };
        let bound = base.saturating_mul(1 << failures.min(20)).min(self.longest);
        bound / 2 + Duration::from_micros(dice.below(bound.as_micros() as u64 / 2 + 1))
    }
}

/// Retransmissions of a STUN request (RFC 5389 §7.2.1).
const RTO: Duration = Duration::from_millis(500);
const MOST_SENT: u32 = 7;
const LAST_WAIT: u32 = 16;
/// A pong comes within this (§4.4.1).
const PONG: Duration = Duration::from_secs(10);

/// A flow that stands, and its keep-alives.
#[derive(Debug)]
pub(crate) struct Keeping {
    /// The connection that the 200 came by.
    flow: Flow,
    every: Duration,
    /// The next keep-alive, or the next look at one that has no answer.
    pub(crate) due: Instant,
    asked: Option<Asked>,
    /// Where the edge sees us.
    mapped: Option<SocketAddr>,
}

#[derive(Debug)]
struct Asked {
    transaction: TransactionId,
    sent: u32,
}

/// What is to be done about a flow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Nothing.
    Well,
    /// Send this by it.
    Send(Flow, Bytes),
    /// It has failed.
    Failed,
}

impl Keeping {
    /// The flow's registration was granted. Refreshed by the same connection, it goes on as it is.
    pub(crate) fn granted(
        before: Option<Keeping>,
        (now, flow): (Instant, Flow),
        timer: Option<Duration>,
        config: &Outbound,
        dice: &mut Dice,
    ) -> Keeping {
        let stream = timer.unwrap_or(config.ping);
        let every = if flow.transport.is_reliable() { stream } else { config.stun };
        match before.filter(|before| before.flow.id == flow.id) {
            Some(before) => Keeping { every, ..before },
            None => {
                let due = now + spread(every, dice);
                Keeping { flow, every, due, asked: None, mapped: None }
            }
        }
    }

    /// Its time has come, or not yet.
    pub(crate) fn wake(&mut self, now: Instant, dice: &mut Dice) -> Kept {
        if self.due > now {
            return Kept::Well;
        }
        let reliable = self.flow.transport.is_reliable();
        let most = if reliable { 1 } else { MOST_SENT };
        let asked = self.asked.get_or_insert_with(|| Asked { transaction: dice.bytes(), sent: 0 });
        if asked.sent == most {
            return Kept::Failed;
        }
        asked.sent += 1;
        let wait = if asked.sent == MOST_SENT { LAST_WAIT } else { 1 << (asked.sent - 1) };
        self.due = now + if reliable { PONG } else { RTO * wait };
        let bytes = match reliable {
            true => Bytes::from_static(b"\r\n\r\n"),
            false => Writer::request(asked.transaction).finish().into(),
        };
        Kept::Send(self.flow, bytes)
    }

    /// Something that is no SIP came by it: a pong, or where we are seen. Seen elsewhere, it is another flow (§4.4.2).
    pub(crate) fn heard(&mut self, now: Instant, bytes: &[u8], dice: &mut Dice) -> Kept {
        let Some(asked) = &self.asked else { return Kept::Well };
        if self.flow.transport.is_reliable() {
            if bytes != b"\r\n" {
                return Kept::Well;
            }
        } else {
            let answer =
                stun::Message::parse(bytes).filter(|answer| answer.transaction() == asked.transaction);
            let Some(answer) = answer.filter(|answer| answer.class() != Class::Request) else {
                return Kept::Well;
            };
            let seen = answer.mapped().or(self.mapped);
            if self.mapped.is_some() && self.mapped != seen {
                return Kept::Failed;
            }
            self.mapped = seen;
        }
        self.asked = None;
        self.due = now + spread(self.every, dice);
        Kept::Well
    }

    /// Whether it is this connection.
    pub(crate) fn is(&self, connection: FlowId) -> bool {
        self.flow.id == connection
    }
}

/// 80–100 % of a time (§4.4.1).
fn spread(every: Duration, dice: &mut Dice) -> Duration {
    every - Duration::from_micros(dice.below(every.as_micros() as u64 / 5 + 1))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proto::node::{Birth, Lane};

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    fn birth() -> Birth {
        Birth { now: Instant::now(), wall: SystemTime::UNIX_EPOCH, seed: [7; 32], lane: Lane::default() }
    }

    fn dice() -> Dice {
        birth().dice(1)
    }

    /// §4.5: thirty seconds and three failures are 120 to 240 s; the longest wait bounds them; another flow that stands makes
    /// it three times as long.
    #[test]
    fn a_failed_flow_waits_half_to_all_of_its_doubled_base() {
        let (backoff, mut dice) = (Backoff::default(), dice());
        let bounds = [
            (0, false, 30),
            (3, false, 240),
            (0, true, 90),
            (4, true, 1440),
            (9, true, 1800),
            (60, false, 1800),
        ];
        for (failures, another, bound) in bounds {
            let waits: Vec<f64> =
                (0..500).map(|_| backoff.wait(failures, another, &mut dice).as_secs_f64()).collect();
            let (low, high) =
                waits.iter().fold((f64::MAX, 0f64), |(low, high), w| (low.min(*w), high.max(*w)));
            let bound = f64::from(bound);
            assert!(low >= bound / 2.0 && low < bound * 0.55, "{failures}: {low} of {bound}");
            assert!(high <= bound && high > bound * 0.95, "{failures}: {high} of {bound}");
        }
    }

    fn keeping(transport: Transport, now: Instant, dice: &mut Dice) -> Keeping {
        let address = |n: u8| SocketAddr::from(([192, 0, 2, n], 5060));
        let flow = Flow { transport, local: address(1), remote: address(2), id: FlowId(0) };
        Keeping::granted(None, (now, flow), None, &Outbound::new("urn:uuid:1", vec![]), dice)
    }

    /// RFC 5389 §7.2.1: seven times at 0, 500, 1500, 3500, 7500, 15500 and 31500 ms, given up after 39.5 s.
    #[test]
    fn a_flow_over_udp_fails_when_seven_probes_have_no_answer() {
        let mut dice = dice();
        let mut keeping = keeping(Transport::Udp, birth().now, &mut dice);
        let (first, mut at) = (keeping.due, Vec::new());
        loop {
            let now = keeping.due;
            assert_eq!(keeping.wake(now - Duration::from_millis(1), &mut dice), Kept::Well);
            match keeping.wake(now, &mut dice) {
                Kept::Send(_, bytes) => assert!(stun::is_stun(&bytes)),
                Kept::Failed => break at.push((now - first).as_millis()),
                Kept::Well => unreachable!("it is due"),
            }
            at.push((now - first).as_millis());
        }
        assert_eq!(at, [0, 500, 1500, 3500, 7500, 15_500, 31_500, 39_500]);
    }

    /// §4.4.1: a pong within 10 s, else the connection has failed.
    #[test]
    fn a_connection_fails_when_a_ping_has_no_pong_within_ten_seconds() {
        let mut dice = dice();
        let mut keeping = keeping(Transport::Tcp, birth().now, &mut dice);
        let first = keeping.due;
        assert!(matches!(keeping.wake(first, &mut dice), Kept::Send(_, ping) if &ping[..] == b"\r\n\r\n"));
        assert_eq!(keeping.heard(first + PONG / 2, b"\r\n", &mut dice), Kept::Well);
        let second = keeping.due;
        assert!(second > first + Duration::from_secs(96) && second <= first + Duration::from_secs(125));
        assert!(matches!(keeping.wake(second, &mut dice), Kept::Send(..)));
        assert_eq!(keeping.wake(second + PONG - Duration::from_millis(1), &mut dice), Kept::Well);
        assert_eq!(keeping.wake(second + PONG, &mut dice), Kept::Failed);
    }

    /// §4.4.2: seen at another address, it is no longer the flow that was registered.
    #[test]
    fn a_flow_whose_mapping_changes_has_failed() {
        let mut dice = dice();
        let mut keeping = keeping(Transport::Udp, birth().now, &mut dice);
        let mut seen_at = |port: u16| {
            let now = keeping.due;
            let Kept::Send(flow, probe) = keeping.wake(now, &mut dice) else { panic!("it is due") };
            let seen = SocketAddr::from(([198, 51, 100, 1], port));
            let answer = stun::Server::single().answer(&probe, seen, flow.remote).unwrap();
            keeping.heard(now, &answer.bytes, &mut dice)
        };
        assert_eq!([seen_at(1024), seen_at(1024), seen_at(1025)], [Kept::Well, Kept::Well, Kept::Failed]);
    }
}
