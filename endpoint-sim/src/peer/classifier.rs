//! Which NAT is this? The tests of RFC 5780 §4, as a machine.
//!
//! Mapping tests come first and from the live socket: they are about the mapping that others will send to. Filtering
//! tests come from scratch sockets that have spoken to nobody else, because every packet sent opens the filter.
//!
//! ```text
//!            A = the server, B = its other address and port
//!  First       live → A                          where we are seen; whether UDP passes; who B is
//!  OtherIp     live → B's address, A's port      same as First: the mapping is endpoint-independent
//!  OtherBoth   live → B                          same as OtherIp: it depends on the address alone
//!  Sample n    scratch n → A                     which ports mappings get
//!  FromB       scratch 0 → A, answer from B      heard: anybody may come in
//!  FromPort    scratch 1 → A, answer from A's other port     heard: only the address counts
//!  Spoilt      scratch 0 → B                     another port than Sample 0: what came early spoilt it
//!  Hairpin     live → scratch 2's outside, and back          heard: neighbours meet outside
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::node::{Dice, Flow, Output, SocketId, Ticket};
use proto::peer::nat::{Allocation, Dependence, Verdict};
use proto::stun::{self, Change, Class, TransactionId, Writer};

/// What was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Findings {
    /// The NAT.
    pub verdict: Verdict,
    /// Where the live socket is seen by the server; `None`: it never answered.
    pub external: Option<SocketAddr>,
}

/// The tests of one endpoint.
#[derive(Debug)]
pub struct Classifier {
    server: SocketAddr,
    local: SocketAddr,
    other: Option<SocketAddr>,
    tests: BTreeMap<Test, Asked>,
    scratch: [Option<SocketId>; SCRATCH],
    /// The scratch sockets' own ports, also once they are closed.
    ports: [Option<u16>; SCRATCH],
    hairpinned: bool,
    over: bool,
    remembered: Option<Verdict>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Test {
    First,
    OtherIp,
    OtherBoth,
    Sample(usize),
    FromB,
    FromPort,
    Spoilt,
    Hairpin,
    HairpinBack,
}

/// One question, repeated until it is answered or given up.
#[derive(Debug)]
struct Asked {
    from: Option<usize>,
    to: SocketAddr,
    change: Change,
    transaction: TransactionId,
    sent: usize,
    next: Option<Instant>,
    mapped: Option<SocketAddr>,
}

impl Asked {
    fn is_over(&self) -> bool {
        self.next.is_none()
    }
}

const SCRATCH: usize = 6;
/// When a question is asked again, after it was asked the first time; the last one: when it is given up.
const AGAIN: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];
/// Tickets of scratch sockets count from here.
pub(crate) const SCRATCH_TICKET: u64 = 1 << 29;
/// Ports of one subscriber's block, at most.
const BLOCK: u16 = 4096;
/// Ports that are counted are not further apart, though others use the same NAT.
const COUNTED: u16 = 4 * SCRATCH as u16;

impl Classifier {
    /// Begins: asks the first question, and for scratch sockets.
    pub fn new(
        now: Instant,
        local: SocketAddr,
        server: SocketAddr,
        dice: &mut Dice,
        out: &mut VecDeque<Output>,
    ) -> Classifier {
        Classifier::with(now, local, server, None, dice, out)
    }

    /// The same; with a verdict remembered from an earlier time here, only the first question is asked.
    pub fn with(
        now: Instant,
        local: SocketAddr,
        server: SocketAddr,
        remembered: Option<Verdict>,
        dice: &mut Dice,
        out: &mut VecDeque<Output>,
    ) -> Classifier {
        let mut classifier = Classifier {
            server,
            local,
            other: None,
            tests: BTreeMap::new(),
            scratch: [None; SCRATCH],
            ports: [None; SCRATCH],
            hairpinned: false,
            over: false,
            remembered,
        };
        classifier.ask(now, Test::First, None, server, Change::default(), dice);
        let any = SocketAddr::new(local.ip(), 0);
        out.extend(
            (0..SCRATCH as u64).map(|n| Output::Bind { ticket: Ticket(SCRATCH_TICKET + n), local: any }),
        );
        classifier.wake(now, dice, out);
        classifier
    }

    /// Where the live socket is seen, as soon as that is known.
    pub fn external(&self) -> Option<SocketAddr> {
        self.tests.get(&Test::First)?.mapped
    }

    /// When to be woken.
    pub fn deadline(&self) -> Option<Instant> {
        self.tests.values().filter_map(|asked| asked.next).min()
    }

    /// Whether everything is known that can be.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Repeats what was not answered, and asks what can be asked now.
    pub fn wake(&mut self, now: Instant, dice: &mut Dice, out: &mut VecDeque<Output>) {
        if self.over {
            return;
        }
        self.go_on(now, dice);
        for asked in self.tests.values_mut().filter(|asked| asked.next.is_some_and(|at| at <= now)) {
            asked.next = match asked.mapped {
                Some(_) => None,
                None => AGAIN.get(asked.sent).map(|wait| now + *wait),
            };
            if asked.next.is_some() {
                send(asked, self.local, &self.scratch, out);
            }
        }
        self.go_on(now, dice);
        if self.is_answered() {
            self.over = true;
            let sockets = self.scratch.iter_mut().filter_map(Option::take);
            out.extend(sockets.map(|socket| Output::Release { socket }));
        }
    }

    /// A scratch socket is open, or could not be.
    pub fn bound(
        &mut self,
        ticket: Ticket,
        socket: Option<(SocketId, SocketAddr)>,
        out: &mut VecDeque<Output>,
    ) {
        let number = ticket.0.checked_sub(SCRATCH_TICKET).map_or(SCRATCH, |n| n as usize);
        let Some((socket, local)) = socket else { return };
        match self.scratch.get_mut(number) {
            Some(place) if !self.over => (*place, self.ports[number]) = (Some(socket), Some(local.port())),
            _ => out.push_back(Output::Release { socket }),
        }
    }

    /// Whether a socket is one of ours.
    pub fn owns(&self, socket: SocketId) -> bool {
        self.scratch.contains(&Some(socket))
    }

    /// Takes in a STUN message; `false`: it answers nothing of ours.
    pub fn receive(&mut self, by: Option<SocketId>, bytes: &[u8]) -> bool {
        let Some(message) = stun::Message::parse(bytes) else { return false };
        let transaction = message.transaction();
        let found = self.tests.iter_mut().find(|(_, asked)| asked.transaction == transaction);
        let Some((test, asked)) = found else { return false };
        match (message.class(), test) {
            (Class::Request, Test::Hairpin | Test::HairpinBack) => {
                self.hairpinned |= by.is_some() == (*test == Test::Hairpin);
                asked.next = None;
            }
            (_, Test::Hairpin | Test::HairpinBack) => {}
            (Class::Success, _) => {
                asked.mapped = asked.mapped.or(message.mapped());
                asked.next = None;
                if *test == Test::First {
                    self.other = message.other();
                }
            }
            // The server does not do what is asked: as good as silence.
            (Class::Error, _) => asked.next = None,
            _ => {}
        }
        true
    }

    /// What is known by now.
    pub fn findings(&self) -> Findings {
        let external = self.external();
        let verdict = match external {
            None => Verdict::BLOCKED,
            Some(_) if self.remembered.is_some() => self.remembered.unwrap_or(Verdict::UNKNOWN),
            Some(external) => Verdict {
                mapping: self.mapping(external),
                filtering: self.filtering(),
                translated: external != self.local,
                allocation: self.allocation(external),
                hairpin: self.hairpinned || external == self.local,
                poisons: self.poisons(external),
                life_ms: None,
                udp: true,
            },
        };
        Findings { verdict, external }
    }

    fn mapped(&self, test: Test) -> Option<SocketAddr> {
        self.tests.get(&test).and_then(|asked| asked.mapped)
    }

    fn mapping(&self, external: SocketAddr) -> Dependence {
        match (self.mapped(Test::OtherIp), self.mapped(Test::OtherBoth)) {
            (None, None) => Verdict::UNKNOWN.mapping,
            (Some(other), _) | (None, Some(other)) if other == external => Dependence::Endpoint,
            (Some(ip), Some(both)) if ip == both => Dependence::Address,
            _ => Dependence::AddressAndPort,
        }
    }

    fn filtering(&self) -> Dependence {
        match (self.mapped(Test::FromB), self.mapped(Test::FromPort)) {
            (Some(_), _) => Dependence::Endpoint,
            (None, Some(_)) => Dependence::Address,
            (None, None) => Dependence::AddressAndPort,
        }
    }

    /// By the ports that neighbouring sockets got towards one destination.
    fn allocation(&self, external: SocketAddr) -> Allocation {
        let own = |n: usize| self.ports[n];
        let samples: Vec<(usize, u16)> =
            (0..SCRATCH).filter_map(|n| Some((n, self.mapped(Test::Sample(n))?.port()))).collect();
        let kept = samples.iter().filter(|(n, port)| own(*n) == Some(*port)).count();
        let mut ports: Vec<u16> = samples.iter().map(|(_, port)| *port).collect();
        ports.sort_unstable();
        let spread = ports.last().zip(ports.first()).map_or(u16::MAX, |(last, first)| last - first);
        match samples.len() {
            0 if external.port() == self.local.port() => Allocation::Preserving,
            0 => Allocation::Random,
            some if kept * 2 > some => Allocation::Preserving,
            1 => Allocation::Random,
            _ if spread <= COUNTED => Allocation::Sequential,
            _ if spread < BLOCK => Allocation::Block,
            _ => Allocation::Random,
        }
    }

    /// Only where mappings are otherwise the same for everybody can a spoilt one be told.
    fn poisons(&self, external: SocketAddr) -> bool {
        let (before, after) = (self.mapped(Test::Sample(0)), self.mapped(Test::Spoilt));
        self.mapping(external) == Dependence::Endpoint
            && before.zip(after).is_some_and(|(before, after)| before != after)
    }

    fn is_asked(&self, test: Test) -> bool {
        self.tests.contains_key(&test)
    }

    fn is_over_with(&self, test: Test) -> bool {
        self.tests.get(&test).is_some_and(Asked::is_over)
    }

    fn is_answered(&self) -> bool {
        let all = self.tests.values().all(Asked::is_over);
        let known = self.is_over_with(Test::First) && self.external().is_none();
        let without_other = self.external().is_some() && self.other.is_none();
        let last = self.is_over_with(Test::Spoilt) || self.mapped(Test::FromB).is_some();
        all && (known || self.remembered.is_some() || without_other || last || self.scratch[0].is_none())
    }

    /// Asks everything whose conditions hold.
    fn go_on(&mut self, now: Instant, dice: &mut Dice) {
        let (Some(external), Some(b), None) = (self.external(), self.other, self.remembered) else { return };
        let plain = Change::default();
        let other_ip = SocketAddr::new(b.ip(), self.server.port());
        self.ask_once(now, Test::OtherIp, None, other_ip, plain, dice);
        if self.is_over_with(Test::OtherIp) {
            self.ask_once(now, Test::OtherBoth, None, b, plain, dice);
        }
        if !self.is_over_with(Test::OtherBoth) {
            return;
        }
        for n in 0..SCRATCH {
            self.ask_once(now, Test::Sample(n), Some(n), self.server, plain, dice);
        }
        if self.mapped(Test::Sample(0)).is_some() {
            let change = Change { ip: true, port: true };
            self.ask_once(now, Test::FromB, Some(0), self.server, change, dice);
        }
        if self.mapped(Test::Sample(1)).is_some() {
            let change = Change { ip: false, port: true };
            self.ask_once(now, Test::FromPort, Some(1), self.server, change, dice);
        }
        if let Some(outside) = self.mapped(Test::Sample(2)) {
            self.ask_once(now, Test::HairpinBack, Some(2), external, plain, dice);
            self.ask_once(now, Test::Hairpin, None, outside, plain, dice);
        }
        if self.is_over_with(Test::FromB) && self.mapped(Test::FromB).is_none() {
            self.ask_once(now, Test::Spoilt, Some(0), b, plain, dice);
        }
    }

    fn ask_once(
        &mut self,
        now: Instant,
        test: Test,
        from: Option<usize>,
        to: SocketAddr,
        change: Change,
        dice: &mut Dice,
    ) {
        let open = from.is_none_or(|n| self.scratch[n].is_some());
        if open && !self.is_asked(test) {
            self.ask(now, test, from, to, change, dice);
        }
    }

    fn ask(
        &mut self,
        now: Instant,
        test: Test,
        from: Option<usize>,
        to: SocketAddr,
        change: Change,
        dice: &mut Dice,
    ) {
        let (transaction, sent, mapped) = (dice.bytes(), 0, None);
        self.tests.insert(test, Asked { from, to, change, transaction, sent, next: Some(now), mapped });
    }
}

fn send(
    asked: &mut Asked,
    local: SocketAddr,
    scratch: &[Option<SocketId>; SCRATCH],
    out: &mut VecDeque<Output>,
) {
    asked.sent += 1;
    let bytes = Bytes::from(Writer::request(asked.transaction).change(asked.change).finish());
    match asked.from.map(|n| scratch[n]) {
        None => out.push_back(Output::Send { flow: Flow::udp(local, asked.to), bytes, ticket: Ticket(0) }),
        Some(Some(socket)) => out.push_back(Output::SendMedia { socket, to: asked.to, bytes }),
        Some(None) => {}
    }
}
