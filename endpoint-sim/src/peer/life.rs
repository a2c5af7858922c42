//! How long does a mapping live without traffic from inside? RFC 5780 §4.6: a second socket has the server's answer sent
//! to the mapping of the first; if it does not come through, the mapping is gone.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::node::{Dice, Output, SocketId, Ticket};
use proto::stun::{self, TransactionId, Writer, attribute};

/// Idle times that are tried, one after another, in seconds. The first ones only where a mapping has not lived for the one at [`FIRST`]:
/// that of no time at all tells a short life from a server that can't answer elsewhere.
const TRIED: [u64; 13] = [0, 2, 3, 5, 7, 10, 18, 28, 45, 60, 90, 120, 180];
const FIRST: usize = 5;
/// So many say all that keep-alives depend on: they come every 20 s at least.
pub(super) const FOR_KEEP_ALIVES: usize = 8;
/// All of them.
pub(super) const ALL: usize = TRIED.len();
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u8 = 3;
/// Tickets of the two sockets.
pub(crate) const LIFE_TICKET: u64 = 1 << 28;

/// The measurement; it takes minutes and a packet now and then.
#[derive(Debug)]
pub struct Life {
    server: SocketAddr,
    /// The one whose mapping is watched, and the one that asks.
    sockets: [Option<SocketId>; 2],
    /// Where the watched one is seen.
    mapped: Option<SocketAddr>,
    stage: Stage,
    transaction: TransactionId,
    tries: u8,
    step: usize,
    /// It is less than the first that was tried.
    is_short: bool,
    /// How many are tried.
    steps: usize,
    /// The longest idle time that was survived.
    known: Option<Duration>,
    next: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Binding,
    /// The watched socket speaks.
    Refreshing,
    /// It is idle.
    Waiting,
    /// The other one asks for an answer to it.
    Asking,
    Over,
}

impl Life {
    /// Begins: asks for two sockets. So many idle times are tried.
    pub fn new(
        local: SocketAddr,
        server: SocketAddr,
        steps: usize,
        dice: &mut Dice,
        out: &mut VecDeque<Output>,
    ) -> Life {
        let any = SocketAddr::new(local.ip(), 0);
        out.extend([0, 1].map(|n| Output::Bind { ticket: Ticket(LIFE_TICKET + n), local: any }));
        Life {
            server,
            sockets: [None; 2],
            mapped: None,
            stage: Stage::Binding,
            transaction: dice.bytes(),
            tries: 0,
            is_short: false,
            step: FIRST,
            steps: steps.min(ALL),
            known: None,
            next: None,
        }
    }

    /// The life, once it is known: at least this, and less than the next that is tried. `None` in it: longer than was tried, or not to be
    /// found out.
    pub fn result(&self) -> Option<Option<Duration>> {
        let all = self.step == self.steps;
        (self.stage == Stage::Over).then_some(self.known.filter(|_| !all))
    }

    /// When to be woken.
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Whether a socket is one of ours.
    pub fn owns(&self, socket: SocketId) -> bool {
        self.sockets.contains(&Some(socket))
    }

    /// A socket is open.
    pub fn bound(&mut self, now: Instant, ticket: Ticket, socket: SocketId) {
        if let Some(place) = self.sockets.get_mut((ticket.0.wrapping_sub(LIFE_TICKET)) as usize) {
            *place = Some(socket);
        }
        if self.sockets.iter().all(Option::is_some) && self.stage == Stage::Binding {
            self.enter(Stage::Refreshing, now);
        }
    }

    /// Takes in an answer.
    pub fn receive(&mut self, now: Instant, by: SocketId, bytes: &[u8], dice: &mut Dice) {
        let Some(message) = stun::Message::parse(bytes).filter(|m| m.transaction() == self.transaction)
        else {
            return;
        };
        let watched = self.sockets[0] == Some(by);
        self.transaction = dice.bytes();
        match self.stage {
            Stage::Refreshing if watched => {
                self.mapped = message.mapped();
                self.enter(Stage::Waiting, now + Duration::from_secs(TRIED[self.step]));
            }
            Stage::Asking if watched => {
                self.known = Some(Duration::from_secs(TRIED[self.step]));
                self.step += 1;
                // Up to there it has been found to be shorter.
                let until = if self.is_short { FIRST } else { self.steps };
                let stage = if self.step == until { Stage::Over } else { Stage::Refreshing };
                self.enter(stage, now);
            }
            // The server does not know RESPONSE-PORT, or answered to where it was asked from.
            Stage::Asking => self.enter(Stage::Over, now),
            _ => {}
        }
    }

    /// Does what is due.
    pub fn wake(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        if self.next.is_none_or(|at| at > now) {
            return;
        }
        match self.stage {
            Stage::Waiting => self.enter(Stage::Asking, now),
            Stage::Asking if self.tries >= TRIES && self.step == FIRST => {
                (self.is_short, self.step) = (true, 0);
                self.enter(Stage::Refreshing, now);
            }
            _ if self.tries >= TRIES => self.enter(Stage::Over, now),
            _ => {}
        }
        match self.stage {
            Stage::Refreshing => self.send(0, Writer::request(self.transaction), now, out),
            Stage::Asking => {
                let port = self.mapped.map_or(0, |mapped| mapped.port());
                let [high, low] = port.to_be_bytes();
                let request = Writer::request(self.transaction);
                self.send(1, request.attribute(attribute::RESPONSE_PORT, &[high, low, 0, 0]), now, out);
            }
            Stage::Over => {
                self.next = None;
                out.extend(
                    self.sockets.iter_mut().filter_map(Option::take).map(|socket| Output::Release { socket }),
                );
            }
            Stage::Binding | Stage::Waiting => {}
        }
    }

    fn enter(&mut self, stage: Stage, at: Instant) {
        (self.stage, self.tries, self.next) = (stage, 0, Some(at));
    }

    fn send(&mut self, from: usize, request: Writer, now: Instant, out: &mut VecDeque<Output>) {
        self.tries += 1;
        self.next = Some(now + PATIENCE);
        if let Some(socket) = self.sockets[from] {
            let bytes = Bytes::from(request.finish());
            out.push_back(Output::SendMedia { socket, to: self.server, bytes });
        }
    }
}
