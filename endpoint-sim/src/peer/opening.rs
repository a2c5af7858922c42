//! Opening a path between two peers: one side's part, as [`proto::peer::reach`] says it.
//!
//! What is sent are checks: sealed Binding requests under the pair's key, the initiator's and the responder's alike
//! (RFC 8445 §7.2 without its roles: who can reach whom is known before). A check that is heard is answered to where it
//! came from; an answered check proves a path both ways. The first one proven ends the opening.
//!
//! ```text
//!  responder   ttl 3 ─ 50 ms ─ check ─ 100 ms ─ check ─ 200 ms ─ check        pinned: all of them with ttl 3
//!  initiator   prime, check at once, at 50, 100, 200 … ms; its first message need not wait where its port is known
//!  spray       unknown side: 770 sockets, one check each to the known port, then again
//!              known side:   770 checks from its socket to 770 ports of the other's address, after the sockets are open
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::node::{Dice, Flow, Output, SocketId, Ticket};
use proto::peer::nat::{Allocation, Dependence, Verdict};
use proto::peer::reach::{Path, Reach};
use proto::stun::{self, Class, TransactionId, Writer, attribute};

/// What two peers know of one another and nobody else does but the access server that gave it to them.
#[derive(Clone, PartialEq, Eq)]
pub struct PairKey {
    /// The pair's name.
    pub label: String,
    /// The key.
    pub key: [u8; 32],
}

impl std::fmt::Debug for PairKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PairKey({})", self.label)
    }
}

/// Which part a side has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Sends the first message.
    Initiator,
    /// Is to be reached.
    Responder,
}

/// Everything one side must know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which side.
    pub part: Part,
    /// How.
    pub reach: Reach,
    /// Our main socket.
    pub local: SocketAddr,
    /// Our own NAT.
    pub ours: Verdict,
    /// The other's NAT.
    pub theirs: Verdict,
    /// The other's outside address, as its access server sees it.
    pub external: SocketAddr,
    /// Its own addresses.
    pub hosts: Vec<SocketAddr>,
    /// What seals the checks.
    pub pair: PairKey,
}

/// A path to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// From a socket of its own; `None`: the main one.
    pub socket: Option<SocketId>,
    /// To there.
    pub remote: SocketAddr,
}

/// One side's part in opening a path.
#[derive(Debug)]
pub struct Opening {
    plan: Plan,
    shots: BTreeMap<(Instant, u32), Shot>,
    order: u32,
    /// Checks that were not answered yet, and where they went.
    asked: BTreeMap<TransactionId, Way>,
    asked_in_order: VecDeque<TransactionId>,
    sockets: BTreeSet<SocketId>,
    heard: Option<Way>,
    opened: Option<Way>,
    given_up: bool,
    spent: u32,
    awaited: u32,
}

/// What is done at its time.
#[derive(Clone, Copy, Debug)]
enum Shot {
    /// Anything, so that the filter lets the other's address in.
    Prime,
    /// A check; with a hop limit.
    Check {
        to: SocketAddr,
        hops: Option<u8>,
    },
    /// So many sockets more.
    Open(u16),
    /// So many checks at ports not tried.
    Guess(u16),
    /// Once more from every socket.
    Again,
    GiveUp,
}

/// Routers between us and the outside, at most; fewer than between two sites.
pub const SHORT_LIVED: u8 = 3;
/// Sockets and guesses of a spray: 770 × 770 of 64,512 ports meet with 99.99 %.
pub const SPRAY: u16 = 770;
/// After the first, checks follow at these distances.
const REPEAT: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200)];
/// Sockets and guesses go out in volleys of so many.
const VOLLEY: u16 = 35;
/// The time between two volleys: 770 take 0.44 s.
const PACE: Duration = Duration::from_millis(20);
/// When guesses begin: the sockets are open then.
const GUESSES_FROM: Duration = Duration::from_millis(550);
/// When nothing has come of it.
const PATIENCE: Duration = Duration::from_millis(1500);
/// A socket number that no ticket of ours collides with.
pub(crate) const SPRAY_TICKET: u64 = 1 << 30;

impl Opening {
    /// Begins at `now`.
    pub fn new(now: Instant, plan: Plan) -> Opening {
        let mut opening = Opening {
            plan,
            shots: BTreeMap::new(),
            order: 0,
            asked: BTreeMap::new(),
            asked_in_order: VecDeque::new(),
            sockets: BTreeSet::new(),
            heard: None,
            opened: None,
            given_up: false,
            spent: 0,
            awaited: 0,
        };
        opening.plan_hosts(now);
        match (opening.plan.reach.path, opening.plan.part) {
            (Path::Reflect | Path::Server | Path::Tunnel, _) => {}
            (Path::Spray | Path::SprayBoth, _) => opening.plan_spray(now),
            (_, Part::Initiator) => opening.plan_initiator(now),
            (_, Part::Responder) => opening.plan_responder(now),
        }
        opening.shoot_at(now + PATIENCE, Shot::GiveUp);
        opening
    }

    /// Where messages can be sent to: the proven path, else where the other was heard from, else its outside address
    /// when that is as good as proven.
    pub fn way(&self) -> Option<Way> {
        let known = self.plan.theirs.mapping == Dependence::Endpoint
            || self.plan.theirs.filtering == Dependence::Endpoint && self.plan.reach.path == Path::Direct;
        let simple = matches!(self.plan.reach.path, Path::Direct | Path::Punch);
        let at_once = known && simple && self.plan.part == Part::Initiator && !self.plan.reach.neighbours;
        let guess = at_once.then_some(Way { socket: None, remote: self.plan.external });
        self.opened.or(self.heard).or(guess)
    }

    /// The proven path.
    pub fn opened(&self) -> Option<Way> {
        self.opened
    }

    /// Whether it has ended, by success or not.
    pub fn is_over(&self) -> bool {
        self.opened.is_some() || self.given_up
    }

    /// Packets sent so far.
    pub fn spent(&self) -> u32 {
        self.spent
    }

    /// When to be woken.
    pub fn deadline(&self) -> Option<Instant> {
        self.shots.keys().next().map(|(at, _)| *at)
    }

    /// Does what is due.
    pub fn wake(&mut self, now: Instant, dice: &mut Dice, out: &mut VecDeque<Output>) {
        while let Some(entry) = self.shots.first_entry().filter(|entry| entry.key().0 <= now) {
            let shot = entry.remove();
            self.shoot(shot, dice, out);
        }
    }

    /// A socket of ours is open ([`SPRAY_TICKET`]).
    pub fn bound(&mut self, socket: SocketId, dice: &mut Dice, out: &mut VecDeque<Output>) {
        self.awaited = self.awaited.saturating_sub(1);
        if self.is_over() {
            return out.push_back(Output::Release { socket });
        }
        self.sockets.insert(socket);
        self.check(Way { socket: Some(socket), remote: self.plan.external }, None, dice, out);
    }

    /// Whether a check of ours waits for this answer.
    pub fn has_asked(&self, transaction: &TransactionId) -> bool {
        self.asked.contains_key(transaction)
    }

    /// Sockets asked for that are not open yet.
    pub fn awaited(&self) -> u32 {
        self.awaited
    }

    /// Gives back everything, a proven path too.
    pub fn abandon(&mut self, out: &mut VecDeque<Output>) {
        self.release_all_but(None, out);
    }

    /// Whether a socket is one of ours.
    pub fn owns(&self, socket: SocketId) -> bool {
        self.sockets.contains(&socket)
    }

    /// Takes in a STUN message that came by a socket; `false`: it is not of this pair.
    pub fn receive(
        &mut self,
        by: Option<SocketId>,
        from: SocketAddr,
        bytes: &[u8],
        dice: &mut Dice,
        out: &mut VecDeque<Output>,
    ) -> bool {
        let Some(message) = stun::Message::parse(bytes).filter(|m| m.is_sealed_with(&self.plan.pair.key))
        else {
            return false;
        };
        match message.class() {
            // Our own, come back: where private addresses are the same, the other's is ours.
            Class::Request if self.asked.contains_key(&message.transaction()) => {}
            Class::Request => self.checked(Way { socket: by, remote: from }, &message, dice, out),
            Class::Success => {
                // The answer proves the path it was asked by; it may come from elsewhere than it was sent to
                // (a guess that was translated on the way), and then that is where the other is.
                if let Some(asked) = self.asked.remove(&message.transaction()) {
                    self.prove(Way { socket: asked.socket, remote: from }, out);
                }
            }
            Class::Error | Class::Indication => {}
        }
        true
    }

    /// The other side's check: answered, and asked back the same way, for an answer is no proof that ours pass.
    fn checked(
        &mut self,
        way: Way,
        message: &stun::Message<'_>,
        dice: &mut Dice,
        out: &mut VecDeque<Output>,
    ) {
        self.send(way, None, answer(message, way.remote, &self.plan.pair), out);
        self.heard.get_or_insert(way);
        if self.opened.is_none() {
            self.check(way, None, dice, out);
        }
    }

    fn prove(&mut self, way: Way, out: &mut VecDeque<Output>) {
        if self.opened.is_some() {
            return;
        }
        self.opened = Some(way);
        self.shots.clear();
        self.release_all_but(way.socket, out);
    }

    /// Gives back what it holds.
    pub fn end(&mut self, out: &mut VecDeque<Output>) {
        self.release_all_but(self.opened.and_then(|way| way.socket), out);
    }

    fn release_all_but(&mut self, kept: Option<SocketId>, out: &mut VecDeque<Output>) {
        let released = self.sockets.iter().filter(|socket| Some(**socket) != kept);
        out.extend(released.map(|socket| Output::Release { socket: *socket }));
        self.sockets.retain(|socket| Some(*socket) == kept);
    }

    fn shoot_at(&mut self, at: Instant, shot: Shot) {
        self.order += 1;
        self.shots.insert((at, self.order), shot);
    }

    /// Neighbours try one another's own addresses first.
    fn plan_hosts(&mut self, now: Instant) {
        if self.plan.reach.neighbours {
            for host in self.plan.hosts.clone().into_iter().take(MAX_HOSTS) {
                self.check_repeatedly(now, host, None);
            }
        }
    }

    fn plan_initiator(&mut self, now: Instant) {
        if self.plan.reach.prime {
            return self.shoot_at(now, Shot::Prime);
        }
        if self.plan.theirs.mapping == Dependence::Endpoint {
            self.check_repeatedly(now, self.plan.external, None);
        }
    }

    fn plan_responder(&mut self, now: Instant) {
        if self.plan.reach.path == Path::Direct {
            return;
        }
        let pinned = self.plan.reach.pinned.then_some(SHORT_LIVED);
        self.shoot_at(now, Shot::Check { to: self.plan.external, hops: Some(SHORT_LIVED) });
        self.check_later(now, self.plan.external, pinned);
    }

    fn check_repeatedly(&mut self, now: Instant, to: SocketAddr, hops: Option<u8>) {
        self.shoot_at(now, Shot::Check { to, hops });
        self.check_later(now, to, hops);
    }

    fn check_later(&mut self, now: Instant, to: SocketAddr, hops: Option<u8>) {
        let mut at = now;
        for wait in REPEAT {
            at += wait;
            self.shoot_at(at, Shot::Check { to, hops });
        }
    }

    /// The side whose port is known guesses, the other opens sockets; with two unknown, both do both.
    fn plan_spray(&mut self, now: Instant) {
        let known = self.plan.ours.mapping == Dependence::Endpoint;
        let volleys = SPRAY.div_ceil(VOLLEY);
        if !known {
            (0..volleys).for_each(|n| self.shoot_at(now + PACE * u32::from(n), Shot::Open(VOLLEY)));
            self.shoot_at(now + GUESSES_FROM + PACE * u32::from(volleys), Shot::Again);
        } else {
            let from = now + GUESSES_FROM;
            (0..volleys).for_each(|n| self.shoot_at(from + PACE * u32::from(n), Shot::Guess(VOLLEY)));
        }
    }

    fn shoot(&mut self, shot: Shot, dice: &mut Dice, out: &mut VecDeque<Output>) {
        match shot {
            Shot::Prime => {
                let nine = SocketAddr::new(self.plan.external.ip(), DISCARD);
                self.check(Way { socket: None, remote: nine }, None, dice, out);
            }
            Shot::Check { to, hops } => self.check(Way { socket: None, remote: to }, hops, dice, out),
            Shot::Open(count) => {
                self.awaited += u32::from(count);
                let local = SocketAddr::new(self.plan.local.ip(), 0);
                out.extend((0..count).map(|_| Output::Bind { ticket: Ticket(SPRAY_TICKET), local }));
            }
            Shot::Guess(count) => {
                for _ in 0..count {
                    let remote = SocketAddr::new(self.plan.external.ip(), self.guess(dice));
                    self.check(Way { socket: None, remote }, None, dice, out);
                }
            }
            Shot::Again => {
                for socket in self.sockets.clone() {
                    self.check(Way { socket: Some(socket), remote: self.plan.external }, None, dice, out);
                }
            }
            Shot::GiveUp => {
                self.given_up = true;
                self.shots.clear();
                self.release_all_but(None, out);
            }
        }
    }

    /// A port worth trying. A NAT that counts goes on from the port last seen; one with blocks stays near it.
    fn guess(&self, dice: &mut Dice) -> u16 {
        let seen = u32::from(self.plan.external.port());
        let guess = match self.plan.theirs.allocation {
            Allocation::Sequential => seen + 1 + dice.below(u64::from(SPRAY) * 2) as u32,
            Allocation::Block => seen / BLOCK * BLOCK + dice.below(u64::from(BLOCK)) as u32,
            Allocation::Preserving | Allocation::Random => 1024 + dice.below(64512) as u32,
        };
        if guess > 65_535 { (1024 + guess % 64_512) as u16 } else { guess.max(1024) as u16 }
    }

    fn check(&mut self, way: Way, hops: Option<u8>, dice: &mut Dice, out: &mut VecDeque<Output>) {
        let transaction: TransactionId = dice.bytes();
        let check = Writer::request(transaction)
            .attribute(attribute::USERNAME, self.plan.pair.label.as_bytes())
            .seal(&self.plan.pair.key);
        self.remember(transaction, way);
        self.send(way, hops, check, out);
    }

    fn remember(&mut self, transaction: TransactionId, way: Way) {
        self.asked.insert(transaction, way);
        self.asked_in_order.push_back(transaction);
        if self.asked_in_order.len() > MAX_ASKED
            && let Some(oldest) = self.asked_in_order.pop_front()
        {
            self.asked.remove(&oldest);
        }
    }

    fn send(&mut self, way: Way, hops: Option<u8>, bytes: Vec<u8>, out: &mut VecDeque<Output>) {
        self.spent += 1;
        let (flow, bytes) = (Flow::udp(self.plan.local, way.remote), Bytes::from(bytes));
        out.push_back(match (way.socket, hops) {
            (Some(socket), _) => Output::SendMedia { socket, to: way.remote, bytes },
            (None, Some(hops)) => Output::Probe { flow, bytes, hops },
            (None, None) => Output::Send { flow, bytes, ticket: Ticket(0) },
        });
    }
}

/// The answer to a check, sealed as it was.
pub(crate) fn answer(check: &stun::Message<'_>, from: SocketAddr, pair: &PairKey) -> Vec<u8> {
    Writer::new(Class::Success, check.transaction()).mapped(from).seal(&pair.key)
}

/// A port nobody answers at (RFC 863).
const DISCARD: u16 = 9;
/// Own addresses of the other side that are tried.
const MAX_HOSTS: usize = 4;
/// Ports of a block, as carriers deal them out.
const BLOCK: u32 = 1024;
/// Checks whose answers are waited for.
const MAX_ASKED: usize = 2 * SPRAY as usize + 64;
