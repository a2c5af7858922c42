//! The peer: STUN, login, and what it is told.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use minicbor::bytes::ByteArray;
use proto::digest;
use proto::node::{Birth, Dice, Flow, Input, Node, Output, SocketId, Ticket};
use proto::node_auth::NodeKey;
use proto::peer::reach::Path;
use proto::peer::ticket::read_reflected;
use proto::peer::words::{self, LOGIN, Login, Profile, Sealing};
use proto::sip::transaction::{ClientId, Happened, Received, Timers, Transactions};
use proto::sip::{Builder, Message, Name};
use proto::stun::{self, TransactionId};
use proto::tables::Tables;

use super::classifier::{Classifier, Findings, SCRATCH_TICKET};
use super::config::{PeerConfig, PeerReport};
use super::link::{Link, Via, stands_for};
use super::opening::{Part, SPRAY_TICKET};
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
    classifier: Classifier,
    pub(super) findings: Option<Findings>,
    registration: Registration,
    pub(super) session: Option<Session>,
    pub(super) bind: Bind,
    pub(super) links: Vec<Link>,
    pub(super) pending: BTreeMap<ClientId, Purpose>,
    leaving: bool,
    /// When it leaves by itself.
    until: Option<Instant>,
    /// How things stood before it left.
    last: Option<PeerReport>,
    pub(super) voice: Voice,
    pub(super) report: PeerReport,
}

#[derive(Debug)]
struct Registration {
    call_id: String,
    tag: String,
    number: u32,
    tries: u8,
    under_way: bool,
    /// When to log in (again).
    at: Option<Instant>,
}

/// What a login brought.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) you: SocketAddr,
    pub(super) sealing: Sealing,
    pub(super) keep_alive: Option<Duration>,
    pub(super) keep_alive_at: Option<Instant>,
    pub(super) asked: Option<TransactionId>,
    /// Keep-alives without an answer.
    pub(super) unanswered: u8,
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

/// How long to wait after a failed login.
const RETRY: Duration = Duration::from_secs(5);
const MAX_TRIES: u8 = 2;
/// How long it waits for answers to its farewell.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bind tickets and tokens age: a login renews them.
const RENEW: Duration = Duration::from_secs(500);

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
            at: None,
        };
        let mut peer = Peer {
            transactions: Transactions::new(Timers::default(), 1000, &mut dice),
            report: PeerReport { name: config.aor(), ..PeerReport::default() },
            voice: Voice::new(birth, &config),
            bind: Bind { next: config.reflector.map(|_| birth.now), ..Bind::default() },
            config,
            birth,
            dice,
            now: birth.now,
            out,
            classifier,
            findings: None,
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
        let (local, aor) = (self.config.local, self.config.aor());
        Builder::request(method, &format!("sip:{to}"))
            .header(Name::Via, format_args!("SIP/2.0/UDP {local};branch=z9hG4bK{branch};rport"))
            .header(Name::MaxForwards, 70)
            .header(Name::From, format_args!("<sip:{aor}>;tag={tag}"))
            .header(Name::To, format_args!("<sip:{to}>"))
            .header(Name::CallId, call)
            .header(Name::CSeq, format_args!("1 {method}"))
    }

    pub(super) fn send_to_server(&mut self, request: Message, purpose: Purpose) {
        let flow = Flow::udp(self.config.local, self.config.server);
        let id = self.transactions.request(self.now, flow, request);
        self.pending.insert(id, purpose);
    }

    /// STUN has said where we are (step 1); now the login that uses it (step 2).
    fn log_in(&mut self) {
        let Some(findings) = self.findings else { return };
        self.registration.number += 1;
        (self.registration.tries, self.registration.under_way, self.registration.at) = (0, true, None);
        let (aor, local) = (self.config.aor(), self.config.local);
        let branch = self.dice.word(16);
        let Registration { call_id, tag, number, .. } = &self.registration;
        let request = Builder::request("REGISTER", &format!("sip:{}", self.config.domain))
            .header(Name::Via, format_args!("SIP/2.0/UDP {local};branch=z9hG4bK{branch};rport"))
            .header(Name::MaxForwards, 70)
            .header(Name::From, format_args!("<sip:{aor}>;tag={tag}"))
            .header(Name::To, format_args!("<sip:{aor}>"))
            .header(Name::CallId, call_id)
            .header(Name::CSeq, format_args!("{number} REGISTER"))
            .header(Name::Contact, format_args!("<sip:{}@{local}>", self.config.user))
            .header(Name::Expires, if self.leaving { 0 } else { 300 });
        let login = Login {
            external: findings.external,
            verdict: findings.verdict,
            hosts: vec![local],
            device: ByteArray::from([0; 32]),
            allows: self.config.allows,
            bind: self.bind.proven.map(|(address, ticket)| (address, ByteArray::from(ticket))),
            proof: ByteArray::from([0; 64]),
        };
        let login = login.sign(&self.config.secret, &aor, call_id);
        let request = match self.leaving {
            true => request.finish(),
            false => request.body(LOGIN, &words::write(&login)).finish(),
        };
        let request = match &self.session {
            Some(session) => NodeKey(*session.sealing.key).sign(&request, self.birth.unix_at(self.now)),
            None => request,
        };
        let purpose = if self.leaving { Purpose::Logout } else { Purpose::Login(request.clone()) };
        self.send_to_server(request, purpose);
    }

    /// To learn what has become of buddies.
    pub(super) fn log_in_again(&mut self) {
        if self.session.is_some() && !self.leaving {
            self.registration.at = Some(self.now);
        }
    }

    fn login_finished(&mut self, request: &Message, status: u16, response: Option<&Message>) {
        if status == 401 && self.answer_challenge(request, response) {
            return;
        }
        self.registration.under_way = false;
        self.report.login_status = Some(status);
        let profile = response.filter(|_| status == 200).and_then(|r| words::read::<Profile>(r.body()));
        self.report.logged_in = profile.is_some();
        match profile {
            Some(profile) => self.take_in(&profile),
            None => {
                self.session = None;
                self.registration.at = Some(self.now + self.dice.jitter(RETRY, 50));
            }
        }
    }

    /// RFC 3261 §22.2.
    fn answer_challenge(&mut self, request: &Message, response: Option<&Message>) -> bool {
        let Some(response) = response.filter(|_| self.registration.tries < MAX_TRIES) else { return false };
        let lines = response.headers().filter(|header| header.name == Name::WwwAuthenticate);
        let challenges = lines.filter_map(|header| std::str::from_utf8(header.value).ok());
        let covered = digest::Request { method: "REGISTER", body: request.body() };
        let (cnonce, uri) = (self.dice.word(12), request.request_uri());
        let credentials = digest::choose(challenges).and_then(|challenge| {
            digest::answer(challenge, &self.config.user, &self.config.password, uri, covered, 1, &cnonce)
        });
        let Some(credentials) = credentials else { return false };
        self.registration.tries += 1;
        self.registration.number += 1;
        let (branch, local) = (self.dice.word(16), self.config.local);
        let again = request
            .edit()
            .set_first(Name::Via, &format!("SIP/2.0/UDP {local};branch=z9hG4bK{branch};rport"))
            .remove(Name::NodeAuth)
            .remove(Name::Authorization)
            .append(Name::Authorization, &credentials)
            .set(Name::CSeq, &format!("{} REGISTER", self.registration.number))
            .finish();
        self.send_to_server(again.clone(), Purpose::Login(again));
        true
    }

    /// Profile and routing table (step 7); every buddy that is online is told that we are here (step 8).
    fn take_in(&mut self, profile: &Profile) {
        let keep_alive = profile.keep_alive_ms.map(|ms| Duration::from_millis(u64::from(ms)));
        let keep_alive = keep_alive.filter(|_| self.config.keeps_alive);
        self.report.external = Some(profile.you);
        let lease = Duration::from_secs(u64::from(profile.lease_s));
        let renew = if keep_alive.is_some() { RENEW } else { RENEW.min(lease * 4 / 5) };
        self.registration.at = Some(self.now + renew);
        self.session = Some(Session {
            you: profile.you,
            sealing: profile.session.clone(),
            keep_alive,
            keep_alive_at: keep_alive.map(|every| self.now + every),
            asked: None,
            unanswered: 0,
        });
        for (buddy, route) in profile.buddies.iter().zip(&profile.routes) {
            let (link, moved) = self.link_for(buddy, route);
            if buddy.online && (moved || !self.links[link].online) {
                if self.links[link].reach.path <= Path::Punch || self.links[link].reach.neighbours {
                    self.open_link(link, Part::Initiator);
                }
                self.links[link].announce = Some(true);
            }
            if !buddy.online {
                self.links[link].online = false;
            }
        }
    }

    /// The link to a buddy, made or brought up to date; whether it is elsewhere than before.
    pub(super) fn link_for(&mut self, buddy: &words::Buddy, route: &words::Route) -> (usize, bool) {
        match self.links.iter().position(|link| link.aor == buddy.aor) {
            Some(link) => {
                let moved = self.links[link].external != buddy.external;
                self.links[link].update(buddy, route);
                (link, moved)
            }
            None => {
                self.links.push(Link::new(buddy, route));
                (self.links.len() - 1, true)
            }
        }
    }

    pub(super) fn open_link(&mut self, link: usize, part: Part) {
        let (ours, local) = (self.ours(), self.config.local);
        self.links[link].open(self.now, part, local, ours, &mut self.dice, &mut self.out);
    }

    fn finished(&mut self, id: ClientId, status: u16, response: Option<&Message>) {
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
        if self.findings.is_none() && self.classifier.is_over() && !self.bind.is_awaited() {
            let findings = self.classifier.findings();
            self.report.nat = findings.verdict.to_string();
            self.findings = Some(findings);
            self.registration.at = Some(self.now);
        }
        if self.registration.at.is_some_and(|at| at <= self.now) && !self.registration.under_way {
            self.announce_all();
            self.log_in();
        }
        self.keep_alive_due();
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
    }

    /// What is to be said to buddies that are there by now.
    fn say_due(&mut self) {
        let here = |link: &Link, to: &str| link.online && link.aor == to;
        let due = |(to, _): &(String, String)| self.links.iter().any(|link| here(link, to));
        let Some(first) = self.config.say.iter().position(due) else { return };
        let (to, text) = self.config.say.remove(first);
        self.message(self.now, &to, &text);
    }

    /// A datagram that is no SIP.
    fn other(&mut self, by: Option<SocketId>, from: SocketAddr, bytes: &[u8]) {
        if let Some((_, inside)) = read_reflected(bytes) {
            if Some(from) == self.config.reflector
                && let Ok(message) = Message::parse(Bytes::copy_from_slice(inside))
            {
                self.sip(super::talk::Source::Reflector, message);
            }
            return;
        }
        if self.media_directly(by, from, bytes) {
            return;
        }
        if self.classifier.receive(by, bytes) {
            return;
        }
        if let Some(message) = stun::Message::parse(bytes) {
            self.stun(by, from, &message, bytes);
        }
    }

    fn happened(&mut self) {
        while let Some(happened) = self.transactions.happened() {
            match happened {
                Happened::TimedOut(id) => self.finished(id, 408, None),
                Happened::Failed(id, _) => self.finished(id, 503, None),
                Happened::NotAcknowledged(_) => {}
            }
        }
    }

    pub(super) fn received(&mut self, received: Received) {
        match received {
            Received::Request { id, flow, message } => self.asked(id, flow, &message),
            Received::Response { id, message, .. } if message.status().unwrap_or(0) >= 200 => {
                self.finished(id, message.status().unwrap_or(0), Some(&message));
            }
            _ => {}
        }
    }

    fn bound(&mut self, ticket: Ticket, socket: SocketId, local: SocketAddr) {
        if self.phone_bound(ticket, Some((socket, local))) {
            return;
        }
        if ticket.0 >= SPRAY_TICKET {
            let waiting = self.links.iter_mut().filter_map(|link| link.opening.as_mut());
            match waiting.max_by_key(|opening| opening.awaited()) {
                Some(opening) => opening.bound(socket, &mut self.dice, &mut self.out),
                None => self.out.push_back(Output::Release { socket }),
            }
        } else if ticket.0 >= SCRATCH_TICKET {
            self.classifier.bound(ticket, Some((socket, local)), &mut self.out);
        }
    }

    /// What transactions send to a stand-in leaves by the path there is now: a message that is repeated follows it.
    fn leave_by(&mut self, link: usize, bytes: Bytes) -> Option<Output> {
        let local = self.config.local;
        let send = |remote, bytes| Output::Send { flow: Flow::udp(local, remote), bytes, ticket: Ticket(0) };
        match self.links.get(link)?.via(self.now)? {
            Via::Direct(way) => Some(match way.socket {
                Some(socket) => Output::SendMedia { socket, to: way.remote, bytes },
                None => send(way.remote, bytes),
            }),
            Via::Reflector(token) => {
                self.report.reflected += 1;
                Some(send(self.config.reflector?, [&token[..], &bytes].concat().into()))
            }
            Via::Server => Some(send(self.config.server, bytes)),
        }
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
                let source = match flow.remote == self.config.server {
                    true => super::talk::Source::Server,
                    false => super::talk::Source::direct(None, flow.remote),
                };
                self.sip(source, message);
            }
            Input::Other { flow, bytes } => self.other(None, flow.remote, &bytes),
            Input::Media { socket, .. } if self.voice.has(socket) => self.voice.phone.take_in(now, input),
            Input::Media { socket, from, bytes } => match Message::parse(bytes.clone()) {
                Ok(message) => self.sip(super::talk::Source::direct(Some(socket), from), message),
                Err(_) => self.other(Some(socket), from, &bytes),
            },
            Input::Bound { ticket, socket, local } => self.bound(ticket, socket, local),
            Input::BindFailed { ticket, .. } => {
                if !self.phone_bound(ticket, None) {
                    self.classifier.bound(ticket, None, &mut self.out);
                }
            }
            Input::SendFailed { ticket, flow, error } if ticket != Ticket(0) => {
                self.transactions.send_failed(now, ticket, flow, error)
            }
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
                            return Some(output);
                        }
                    }
                    None => return Some(Output::Send { flow, bytes, ticket }),
                },
                other => return Some(other),
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
            links,
            self.until,
        ];
        own.into_iter().flatten().min()
    }
}
