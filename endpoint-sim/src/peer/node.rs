//! The peer put together: its parts, what it is asked to do, and what is due when. [`super::login`] logs it in, [`super::talk`]
//! speaks with buddies and the server, [`super::ways`] takes in everything else.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::node::{Birth, Dice, Input, Node, Output, SendError, Ticket, Transport};
use proto::node_auth::NodeKey;
use proto::peer::words;
use proto::sip::transaction::{ClientId, Timers, Transactions};
use proto::sip::{Builder, Message, Name};
use proto::stun::TransactionId;
use proto::tables::Tables;

use super::classifier::{Classifier, Findings};
use super::config::{PeerConfig, PeerReport};
use super::door::Door;
use super::life::Life;
use super::link::{Link, stands_for};
use super::login::{Registration, Session};
use super::news::Told;
use super::talk::Source;
use super::voice::Voice;

/// A peer. See the module.
#[derive(Debug)]
pub struct Peer {
    pub(super) config: PeerConfig,
    pub(super) birth: Birth,
    pub(super) dice: Dice,
    pub(super) now: Instant,
    pub(super) transactions: Transactions,
    pub(super) out: VecDeque<Output>,
    pub(super) classifier: Classifier,
    pub(super) findings: Option<Findings>,
    /// While it is measured.
    pub(super) life: Option<Life>,
    /// It has been, or is.
    pub(super) measured: bool,
    pub(super) registration: Registration,
    pub(super) session: Option<Session>,
    pub(super) bind: Bind,
    pub(super) door: Door,
    pub(super) links: Vec<Link>,
    pub(super) pending: BTreeMap<ClientId, Purpose>,
    pub(super) leaving: bool,
    /// When it leaves by itself.
    until: Option<Instant>,
    /// How things stood before it left.
    last: Option<PeerReport>,
    pub(super) voice: Voice,
    pub(super) told: Told,
    pub(super) report: PeerReport,
}

/// What the reflector's STUN answer proved.
#[derive(Debug, Default)]
pub(super) struct Bind {
    pub(super) asked: Option<TransactionId>,
    pub(super) proven: Option<(SocketAddr, [u8; 24])>,
    pub(super) next: Option<Instant>,
    pub(super) tries: u8,
}

/// What a request of ours was for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    Login(Message),
    Logout,
    /// Telling a buddy that we are here, or leave.
    Presence {
        link: usize,
        open: bool,
    },
    Other,
}

/// How long it waits for answers to its farewell.
const FAREWELL: Duration = Duration::from_secs(2);

impl Peer {
    /// Begins at once.
    pub fn new(birth: Birth, config: PeerConfig) -> Peer {
        let (mut dice, mut out) = (birth.dice(0x9ee2), VecDeque::new());
        let (local, server) = (config.local, config.stun);
        let classifier = Classifier::with(birth.now, local, server, config.remembered, &mut dice, &mut out);
        let registration = Registration {
            call_id: dice.word(20),
            tag: dice.word(8),
            number: 0,
            tries: 0,
            under_way: false,
            put_off: 0,
            anew: false,
            at: None,
        };
        let mut peer = Peer {
            transactions: Transactions::new(Timers::default(), 1000, &mut dice),
            report: PeerReport { name: config.aor(), ..PeerReport::default() },
            voice: Voice::new(birth, &config),
            told: Told::default(),
            door: Door::default(),
            bind: Bind { next: config.reflector.map(|_| birth.now), ..Bind::default() },
            config,
            birth,
            dice,
            now: birth.now,
            out,
            classifier,
            findings: None,
            life: None,
            measured: false,
            registration,
            session: None,
            links: Vec::new(),
            pending: BTreeMap::new(),
            leaving: false,
            until: None,
            last: None,
        };
        peer.until = peer.config.stay.map(|stay| birth.now + stay);
        peer.tick();
        peer
    }

    /// What it knows and has seen.
    pub fn report(&self) -> PeerReport {
        let buddies = self.links.iter().map(|link| (link.aor.clone(), link.report(self.now)));
        PeerReport { buddies: buddies.collect(), call: self.voice.report(), ..self.report.clone() }
    }

    /// How things stood just before it left, else how they stand.
    pub fn last_report(&self) -> PeerReport {
        self.last.clone().unwrap_or_else(|| self.report())
    }

    /// Whether it has left, and nothing is under way.
    pub fn is_done(&self) -> bool {
        let waited = self.until.is_none_or(|until| until <= self.now);
        self.leaving && (self.pending.is_empty() || waited)
    }

    /// Tells its buddies that it leaves, and logs out.
    pub fn leave(&mut self, now: Instant) {
        self.now = now;
        self.last = Some(self.report());
        self.voice.phone.hang_up_now(now);
        (self.leaving, self.until) = (true, Some(now + FAREWELL));
        self.links.iter_mut().filter(|link| link.online).for_each(|link| link.announce = Some(false));
        self.registration.at = Some(now);
        self.tick();
    }

    /// Sends a buddy a message, by whatever path there is.
    pub fn message(&mut self, now: Instant, to: &str, text: &str) {
        self.now = now;
        let Some(link) = self.links.iter().position(|link| link.aor == to) else { return };
        let request = self.request_for(link, "MESSAGE").body("text/plain", text.as_bytes());
        self.send_to_buddy(link, request, Purpose::Other);
        self.tick();
    }

    /// Permits somebody, or no longer.
    pub fn permit(&mut self, now: Instant, whom: &str, permitted: bool) {
        self.wish(now, &words::Wish::Permit(whom.to_owned(), permitted));
    }

    /// Has a path opened to a buddy whose port is not known, by a spray.
    pub fn open(&mut self, now: Instant, whom: &str) {
        self.wish(now, &words::Wish::Open(whom.to_owned()));
    }

    pub(super) fn wish_open(&mut self, whom: &str) {
        self.wish(self.now, &words::Wish::Open(whom.to_owned()));
    }

    fn wish(&mut self, now: Instant, wish: &words::Wish) {
        self.now = now;
        let Some(key) = self.session.as_ref().map(|session| NodeKey(*session.sealing.key)) else { return };
        let domain = self.config.domain.clone();
        let request = self.begin("MESSAGE", &domain).body(words::WISH, &words::write(wish)).finish();
        let request = key.sign(&request, self.birth.unix_at(now));
        self.send_to_server(request, Purpose::Other);
    }

    pub(super) fn ours(&self) -> proto::peer::nat::Verdict {
        self.findings.map_or(proto::peer::nat::Verdict::UNKNOWN, |findings| findings.verdict)
    }

    pub(super) fn begin(&mut self, method: &str, to: &str) -> Builder {
        let (branch, tag, call) = (self.dice.word(16), self.dice.word(8), self.dice.word(20));
        let (local, aor, via) = (self.config.local, self.config.aor(), self.server_flow().transport.via());
        Builder::request(method, &format!("sip:{to}"))
            .header(Name::Via, format_args!("SIP/2.0/{via} {local};branch=z9hG4bK{branch};rport"))
            .header(Name::MaxForwards, 70)
            .header(Name::From, format_args!("<sip:{aor}>;tag={tag}"))
            .header(Name::To, format_args!("<sip:{to}>"))
            .header(Name::CallId, call)
            .header(Name::CSeq, format_args!("1 {method}"))
    }

    pub(super) fn send_to_server(&mut self, request: Message, purpose: Purpose) {
        let flow = self.server_flow();
        let id = self.transactions.request(self.now, flow, request);
        self.pending.insert(id, purpose);
    }

    pub(super) fn finished(&mut self, id: ClientId, status: u16, response: Option<&Message>) {
        match self.pending.remove(&id) {
            Some(Purpose::Login(request)) => self.login_finished(&request, status, response),
            Some(Purpose::Logout) => {
                (self.report.logged_in, self.session) = (false, None);
                self.registration.at = None;
            }
            Some(Purpose::Presence { link, open }) => self.told(link, open, status),
            Some(Purpose::Other) | None => {}
        }
    }

    /// Everything that is due.
    pub(super) fn tick(&mut self) {
        self.classifier.wake(self.now, &mut self.dice, &mut self.out);
        self.bind_due();
        self.door_due();
        if self.findings.is_none() && self.classifier.is_over() && !self.bind.is_awaited() {
            self.survey_over();
        }
        if self.registration.at.is_some_and(|at| at <= self.now) && !self.registration.under_way {
            self.announce_all();
            self.log_in();
        }
        self.keep_alive_due();
        self.life_due();
        for link in &mut self.links {
            link.wake(self.now, &mut self.dice, &mut self.out);
        }
        self.announce_all();
        self.consents_due();
        self.say_due();
        self.call_due();
        self.voice_due();
        if self.until.is_some_and(|until| until <= self.now) {
            match self.leaving {
                true => self.until = None,
                false => self.leave(self.now),
            }
        }
        self.tell_news();
    }

    /// What is to be said to buddies that are there by now.
    fn say_due(&mut self) {
        let here = |link: &Link, to: &str| link.online && link.aor == to;
        let due = |(to, _): &(String, String)| self.links.iter().any(|link| here(link, to));
        let Some(first) = self.config.say.iter().position(due) else { return };
        let (to, text) = self.config.say.remove(first);
        self.message(self.now, &to, &text);
    }
}

impl Node for Peer {
    fn handle(&mut self, now: Instant, input: Input, _: &mut dyn Tables) {
        self.now = now;
        match input {
            Input::Message { flow, message } if Some(flow.remote) == self.config.proxy => {
                self.phone_hears(flow, message);
            }
            Input::Message { flow, message } => {
                let source = match self.is_of_server(&flow) {
                    true => Source::Server,
                    false => Source::direct(None, flow.remote),
                };
                self.sip(source, message);
            }
            Input::Other { flow, bytes } => self.other(None, flow.remote, &bytes),
            Input::Media { socket, bytes, .. } if self.life_owns(socket) => self.life_hears(socket, &bytes),
            Input::Media { socket, ref bytes, .. } if self.voice.has(socket) => {
                if !self.missed_by_the_other(bytes) {
                    self.voice.phone.take_in(now, input);
                }
            }
            Input::Media { socket, from, bytes } => match Message::parse(bytes.clone()) {
                Ok(message) => self.sip(Source::direct(Some(socket), from), message),
                Err(_) => self.other(Some(socket), from, &bytes),
            },
            Input::Bound { ticket, socket, local } => self.bound(ticket, socket, local),
            Input::BindFailed { ticket, .. } => self.bind_failed(ticket),
            Input::SendFailed { ticket, flow, error } => {
                if ticket != Ticket(0) {
                    self.transactions.send_failed(now, ticket, flow, error);
                }
                if flow.transport == Transport::Tls && error != SendError::Busy {
                    self.shut_out();
                }
            }
            Input::Closed { flow } if flow.transport == Transport::Tls => self.shut_out(),
            Input::Drain => self.leave(now),
            _ => {}
        }
        self.transactions.wake(now);
        self.happened();
        self.tick();
    }

    fn poll(&mut self, _: &mut dyn Tables) -> Option<Output> {
        loop {
            let output = self.out.pop_front().or_else(|| self.transactions.poll())?;
            match output.on_the_wire() {
                Output::Send { flow, bytes, ticket } => match stands_for(flow.remote) {
                    Some(link) => {
                        if let Some(output) = self.leave_by(link, bytes) {
                            return Some(self.by_channel(output));
                        }
                    }
                    None => return Some(self.by_channel(Output::Send { flow, bytes, ticket })),
                },
                other => return Some(self.by_channel(other)),
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let links = self.links.iter().filter_map(Link::deadline).min();
        let session = self.session.as_ref().and_then(|session| session.keep_alive_at);
        let login = self.registration.at.filter(|_| !self.registration.under_way);
        let own = [
            self.voice.deadline(),
            self.classifier.deadline(),
            self.transactions.deadline(),
            login,
            session,
            self.bind.next,
            self.door.deadline(),
            self.life.as_ref().and_then(Life::deadline),
            links,
            self.until,
        ];
        own.into_iter().flatten().min()
    }
}
