//! DTLS-SRTP (RFC 5764): what the relay needs of a handshake, and what it does with one.
//!
//! The handshake draws keys and signs, so it is not made here: `host` hands a maker in ([`Handshakes`]). Its arithmetic takes
//! a millisecond and more, so it is not done on the lane either: what a handshake is told goes out as work ([`Turn`]), and what it
//! wants comes back with the answer. One turn is under way at a time; what comes meanwhile waits for the next, [`WAITING`]
//! datagrams of it. The relay hears the datagrams of its party, from where that party is heard alone; sends what the handshake
//! wants sent; and takes the keys it exports once the certificate is one that the party's description named. Until then no
//! packet passes.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::event::Event;
use proto::node::{Answer, Job, Output, Question, Ticket, Work};
use proto::srtp::sdes::Crypto;
use proto::srtp::{Master, Receiver, Sender, fingerprint};

use crate::leg::Part;
use crate::relay::Relay;
use crate::why::Why;

/// Makes handshakes under one certificate.
pub trait Handshakes: Send + Sync + Debug {
    /// What stands behind `a=fingerprint:` for it.
    fn fingerprint(&self) -> &str;
    /// A new association; `active`: we begin it.
    fn begin(&self, now: Instant, active: bool) -> Box<dyn Handshake>;
}

/// One handshake: a machine. After `handle` and `wake` it is polled until `None`.
pub trait Handshake: Send + Debug {
    /// A datagram of the other side.
    fn handle(&mut self, now: Instant, datagram: &[u8]);
    /// The time it asked for.
    fn wake(&mut self, now: Instant);
    /// What it wants.
    fn poll(&mut self) -> Option<Step>;
}

/// What a handshake wants.
#[derive(Debug)]
pub enum Step {
    /// Send a datagram.
    Send(Vec<u8>),
    /// Wake it then. The last word counts.
    WakeAt(Instant),
    /// The other side has shown this certificate (DER), and proven that it holds its key.
    Peer(Vec<u8>),
    /// Keys are agreed on: ours and theirs.
    Keys([Master; 2]),
    /// Nothing more comes of it.
    Over,
}

/// A leg's handshake.
#[derive(Debug)]
pub(crate) struct Association {
    /// Whether we begin it.
    active: bool,
    /// `None`: not begun, or away.
    handshake: Option<Box<dyn Handshake>>,
    /// The turn that is being worked on, and when it is given up.
    away: Option<(Ticket, Instant)>,
    /// What it is told next.
    waiting: VecDeque<Told>,
    /// Where the datagram came from that it answers, if it answers one.
    from: Option<SocketAddr>,
    wake: Option<Instant>,
    peer: Option<Vec<u8>>,
    keys: Option<[Master; 2]>,
    over: bool,
    /// When its keys were taken: it stays for a while, for the other side may miss our last flight.
    done: Option<Instant>,
}

/// What a handshake is told.
#[derive(Debug)]
enum Told {
    Begin,
    Datagram(Vec<u8>),
    Wake,
}

/// A handshake on its way through the workshop, and what came of it.
#[derive(Debug)]
struct Turn {
    maker: Arc<dyn Handshakes>,
    active: bool,
    now: Instant,
    told: VecDeque<Told>,
    handshake: Option<Box<dyn Handshake>>,
    steps: Vec<Step>,
}

impl Job for Turn {
    fn run(&mut self) {
        let handshake = self.handshake.get_or_insert_with(|| self.maker.begin(self.now, self.active));
        for told in self.told.drain(..) {
            match told {
                Told::Begin => {}
                Told::Datagram(bytes) => handshake.handle(self.now, &bytes),
                Told::Wake => handshake.wake(self.now),
            }
            self.steps.extend(std::iter::from_fn(|| handshake.poll()));
        }
    }
}

impl Association {
    fn new(active: bool) -> Association {
        Association {
            active,
            handshake: None,
            away: None,
            waiting: VecDeque::from([Told::Begin]),
            from: None,
            wake: None,
            peer: None,
            keys: None,
            over: false,
            done: None,
        }
    }

    /// When something has to be done about it.
    fn deadline(&self) -> Option<Instant> {
        self.away.map_or(self.wake, |(_, until)| Some(until))
    }
}

/// How long a handshake that is done still answers repetitions.
const LINGERS: Duration = Duration::from_secs(60);
/// How much waits for a turn; a flight has four to six datagrams, and all are repeated.
const WAITING: usize = 16;
/// How long a turn may take before nobody is believed to work on it any more.
const PATIENCE: Duration = Duration::from_secs(10);

impl Relay {
    /// A DTLS datagram of a leg's party.
    pub(crate) fn handshake(
        &mut self,
        now: Instant,
        at: u32,
        part: Part,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Why> {
        let keys = self.keys_of(at).filter(|_| part == Part::Media).ok_or(Why::Invalid)?;
        let active = keys.terms.active;
        // Without an association only a beginning means anything, and only the server waits for one.
        if !self.associations.contains_key(&at) && (!is_client_hello(bytes) || active == Some(true)) {
            return Ok(());
        }
        let association = self.associations.entry(at).or_insert_with(|| Association::new(false));
        if association.waiting.len() < WAITING {
            association.waiting.push_back(Told::Datagram(bytes.to_vec()));
        }
        association.from = Some(from);
        self.next_turn(now, at);
        Ok(())
    }

    /// Begins a handshake that is ours to begin, once it is known where.
    pub(crate) fn begin_if_active(&mut self, now: Instant, at: u32) {
        let Some(leg) = self.legs.get(at as usize) else { return };
        let Some(keys) = &leg.keys else { return };
        let checked = keys.terms.ice.as_ref().is_none_or(|ice| ice.checked.is_some());
        let due = !leg.is_member()
            && keys.terms.active == Some(true)
            && keys.agreed.is_none()
            && checked
            && leg.media.target.is_some();
        if due && !self.associations.contains_key(&at) {
            self.associations.insert(at, Association::new(true));
            self.next_turn(now, at);
        }
    }

    /// Sends a handshake out with what it has to be told, unless it is away already.
    fn next_turn(&mut self, now: Instant, at: u32) {
        let (Some(association), Some(maker)) = (self.associations.get_mut(&at), &self.config.dtls) else {
            return;
        };
        if association.away.is_some() || association.waiting.is_empty() || association.over {
            return;
        }
        self.turns += 1;
        let ticket = Ticket(self.turns);
        association.away = Some((ticket, now + PATIENCE));
        let turn = Turn {
            maker: maker.clone(),
            active: association.active,
            now,
            told: std::mem::take(&mut association.waiting),
            handshake: association.handshake.take(),
            steps: Vec::new(),
        };
        let question = Question::Work(Work::new(Box::new(turn)));
        self.outputs.push_back(Output::Ask { ticket, question });
        self.wake_for(at);
    }

    /// A handshake is back, if it still has a leg.
    pub(crate) fn worked(&mut self, now: Instant, ticket: Ticket, answer: &Answer) {
        let is_it = |association: &Association| association.away.is_some_and(|(away, _)| away == ticket);
        let Some((&at, association)) = self.associations.iter_mut().find(|(_, a)| is_it(a)) else { return };
        let turn = match answer {
            Answer::Done(work) => work.unpack::<Turn>(),
            _ => None,
        };
        association.away = None;
        let steps = turn.map(|turn| {
            association.handshake = turn.handshake;
            turn.steps
        });
        association.over |= association.handshake.is_none();
        self.take_steps(at, steps.unwrap_or_default());
        self.take_keys(now, at);
        self.next_turn(now, at);
    }

    /// Does what a handshake wants.
    fn take_steps(&mut self, at: u32, steps: Vec<Step>) {
        let (Some(association), Some(leg)) = (self.associations.get_mut(&at), self.legs.get(at as usize))
        else {
            return;
        };
        let socket = leg.media.port.socket;
        let to = association.from.or(leg.media.latched).or(leg.media.target);
        for step in steps {
            match step {
                Step::Send(bytes) => {
                    let sent = to.map(|to| Output::SendMedia { socket, to, bytes: bytes.into() });
                    self.outputs.extend(sent);
                }
                Step::WakeAt(at) => association.wake = Some(at),
                Step::Peer(certificate) => association.peer = Some(certificate),
                Step::Keys(keys) => association.keys = Some(keys),
                Step::Over => association.over = true,
            }
        }
        if association.done.is_some() {
            association.wake = association.done.map(|done| done + LINGERS);
        }
        self.wake_for(at);
    }

    /// The relay wakes in time for this handshake.
    fn wake_for(&mut self, at: u32) {
        let deadline = self.associations.get(&at).and_then(Association::deadline);
        self.next_handshake = [self.next_handshake, deadline].into_iter().flatten().min();
    }

    /// Takes the keys a handshake has exported, if its certificate is one that was named. Before the party's description
    /// has come they wait for it.
    pub(crate) fn take_keys(&mut self, now: Instant, at: u32) {
        let Some(association) = self.associations.get_mut(&at) else { return };
        let Some(leg) = self.legs.get_mut(at as usize) else { return };
        let Some(keys) = leg.keys.as_deref_mut() else { return };
        let named = &keys.terms.fingerprints;
        let session = leg.whose.session.0;
        if association.keys.is_some() && !named.is_empty() {
            let genuine = association.peer.as_ref().is_some_and(|peer| fingerprint::is_named(peer, named));
            let Some([ours, theirs]) = association.keys.take() else { return };
            if !genuine {
                return self.give_up_handshake(
                    at,
                    session,
                    "DTLS: the certificate is not the one that SDP named",
                );
            }
            keys.sender = Some(Sender::new(&ours));
            keys.receiver = Some(Receiver::new(&theirs));
            keys.agreed = Some([ours, theirs].map(|master| Crypto { tag: 0, master }));
            association.done = Some(now);
            association.wake = Some(now + LINGERS);
            self.next_handshake = [self.next_handshake, association.wake].into_iter().flatten().min();
            self.changed.insert(session);
        } else if association.over && association.done.is_none() && association.keys.is_none() {
            self.give_up_handshake(at, session, "DTLS: the handshake failed");
        }
    }

    fn give_up_handshake(&mut self, at: u32, session: u64, why: &'static str) {
        self.associations.remove(&at);
        if let Some(session) = self.sessions.get(&session) {
            let about = session.name.clone();
            self.tell(Event::Warning { about, why });
        }
    }

    /// Handshakes whose time has come.
    pub(crate) fn wake_handshakes(&mut self, now: Instant) {
        if self.next_handshake.is_none_or(|next| now < next) {
            return;
        }
        let due = |association: &Association| association.deadline().is_some_and(|at| at <= now);
        let due: Vec<u32> = self.associations.iter().filter(|(_, a)| due(a)).map(|(&at, _)| at).collect();
        for at in due {
            let Some(association) = self.associations.get_mut(&at) else { continue };
            let lost = association.away.take().is_some();
            association.wake = None;
            if association.done.is_some_and(|done| now >= done + LINGERS) {
                self.associations.remove(&at);
            } else if lost {
                // Its state went with the turn.
                association.over = true;
                self.take_keys(now, at);
            } else {
                association.from = None;
                association.waiting.push_back(Told::Wake);
                self.next_turn(now, at);
            }
        }
        self.next_handshake = self.associations.values().filter_map(Association::deadline).min();
    }
}

/// RFC 6347 §4.1, §4.2.2: a handshake record whose message is the first of all.
fn is_client_hello(bytes: &[u8]) -> bool {
    bytes.first() == Some(&22) && bytes.get(13) == Some(&1)
}
