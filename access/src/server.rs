//! The node: who is heard, and what becomes of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::event::{Event, Registration};
use proto::node::{Birth, Dice, Flow, Input, Node, Output, Ticket, Transport};
use proto::node_auth::{NodeKey, Proof};
use proto::peer::channel;
use proto::peer::words::Sealing;
use proto::sip::transaction::{ClientId, Happened, Received, ServerId, Timers, Transactions};
use proto::sip::{Builder, Message, Method, Name, reply};
use proto::stun;
use proto::tables::{Limit, Tables};
use proto::timers::Queue;

use crate::accounts::{Accounts, Device, Number};
use crate::channels::Channels;
use crate::config::Config;
use crate::gate::{Gate, Verdict, Visit};
use crate::greeting::Greetings;
use crate::lines::Lines;
use crate::proving::Proving;

/// An access server. See the crate.
#[derive(Debug)]
pub struct Access {
    pub(crate) config: Config,
    pub(crate) birth: Birth,
    pub(crate) dice: Dice,
    pub(crate) transactions: Transactions,
    gate: Gate,
    pub(crate) accounts: Accounts,
    pub(crate) channels: Channels,
    pub(crate) lines: Lines,
    pub(crate) proving: Proving,
    leases: Queue<Number>,
    pub(crate) greetings: Greetings,
    pub(crate) pending: BTreeMap<ClientId, Pending>,
    pub(crate) out: VecDeque<Output>,
}

/// What waits for the answer to a request of ours.
#[derive(Debug)]
pub(crate) enum Pending {
    /// Mail for an account: kept until it is delivered.
    Mail { aor: String, message: Message },
    /// A request passed on for an endpoint, whose answer goes back to it.
    Passed { server: ServerId, aor: String, message: Message },
}

/// A refusal: status, and why.
pub(crate) type Refusal = (u16, &'static str);

/// How things stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Devices that are logged in.
    pub online: usize,
    /// Transactions alive.
    pub transactions: usize,
}

/// Stream of the node's dice.
const DICE: u64 = 0xacce;
/// Keep-alives that may be missed.
const MISSED: u32 = 3;

impl Access {
    /// Nobody is logged in.
    pub fn new(mut config: Config, birth: Birth) -> Access {
        let mut dice = birth.dice(DICE);
        let transactions = Transactions::new(Timers::default(), config.transactions, &mut dice);
        Access {
            gate: Gate::new(&config.realm, config.nonce_key),
            accounts: Accounts::new(&std::mem::take(&mut config.buddies)),
            channels: Channels::default(),
            lines: Lines::default(),
            proving: Proving::default(),
            config,
            birth,
            dice,
            transactions,
            leases: Queue::default(),
            greetings: Greetings::default(),
            pending: BTreeMap::new(),
            out: VecDeque::new(),
        }
    }

    /// How things stand.
    pub fn status(&self) -> Status {
        Status { online: self.accounts.online(), transactions: self.transactions.len() }
    }

    fn receive(&mut self, now: Instant, flow: Flow, message: Message, tables: &mut dyn Tables) {
        match self.transactions.receive(now, flow, message) {
            Received::Request { id, flow, message } => self.request(now, id, flow, &message, tables),
            Received::Response { id, message, .. } => self.answered(now, id, &message),
            Received::Cancel { id, message, .. } => {
                self.transactions.respond(now, id, reply(&message, 481, "none").finish());
            }
            Received::Again { flow, message, tag } => self.welcome_again(now, flow, &message, &tag),
            Received::Ack { .. } | Received::Stray { .. } | Received::Absorbed => {}
        }
    }

    fn request(
        &mut self,
        now: Instant,
        id: ServerId,
        flow: Flow,
        request: &Message,
        tables: &mut dyn Tables,
    ) {
        if !flow.remote.ip().is_loopback() && !tables.admit(now, Limit::Request, flow.remote.ip()) {
            return self.transactions.forget_request(id);
        }
        let outcome = match request.method() {
            Method::Register => self.register(now, id, flow, request, tables),
            Method::Message | Method::Notify => self.between_peers(now, id, flow, request),
            _ => Err((405, "an access server takes REGISTER, MESSAGE and NOTIFY")),
        };
        if let Err(refusal) = outcome {
            self.refuse(id, flow, request, refusal);
        }
    }

    pub(crate) fn refuse(&mut self, id: ServerId, flow: Flow, request: &Message, (status, why): Refusal) {
        self.out.push_back(Output::Event(Event::Refused {
            call: request.call_id().into(),
            method: request.method().as_str().into(),
            flow,
            status,
            why,
        }));
        let response = reply(request, status, &self.dice.word(8));
        let response = match status {
            405 => response.header(Name::Allow, "REGISTER, MESSAGE, NOTIFY"),
            _ => response,
        };
        self.transactions.answer_and_forget(id, response.finish());
    }

    /// Who it is comes first, and costs nothing to refuse.
    fn register(
        &mut self,
        now: Instant,
        id: ServerId,
        flow: Flow,
        request: &Message,
        tables: &mut dyn Tables,
    ) -> Result<(), Refusal> {
        let to = request.to().and_then(|to| to.uri()).map_err(|_| (400, "To is no address"))?;
        let aor = to.aor().ok_or((400, "To names no user at a domain"))?;
        if self.is_in_session(now, &aor, request) {
            return self.log_in(now, id, flow, request, aor, tables);
        }
        let source = flow.remote.ip();
        let visit = Visit { now, unix_ms: self.unix_ms(now), source };
        let tag = self.dice.word(8);
        match self.gate.check(visit, request, &tag, tables) {
            Verdict::Proven(user) => {
                let any_domain = format!("{}@", to.user);
                let ours = to.host.eq_ignore_ascii_case(&self.config.domain);
                if !ours || !user.aors.iter().any(|own| *own == aor || *own == any_domain) {
                    return Err((403, "the account may not register this address"));
                }
                self.log_in(now, id, flow, request, aor, tables)
            }
            Verdict::Challenge(response) => {
                self.transactions.answer_and_forget(id, response.finish());
                Ok(())
            }
            Verdict::Silence => {
                self.transactions.forget_request(id);
                Ok(())
            }
        }
    }

    /// Whether the session's own key speaks for it: then no password is asked for again.
    fn is_in_session(&self, now: Instant, aor: &str, request: &Message) -> bool {
        let device = self.accounts.device(aor);
        device.is_some_and(|device| self.is_sealed(now, &device.session, request))
    }

    pub(crate) fn is_sealed(&self, now: Instant, sealing: &Sealing, message: &Message) -> bool {
        NodeKey(*sealing.key).check(message, self.birth.unix_at(now)) == Proof::Proven
    }

    pub(crate) fn unix_ms(&self, now: Instant) -> u64 {
        let since = self.birth.wall_at(now).duration_since(std::time::SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as u64)
    }

    /// A request of our own to a device, signed under its session's key.
    /// Without anything `pending` nothing depends on the answer: a notice is repeated until there is one.
    pub(crate) fn send_to(
        &mut self,
        now: Instant,
        number: Number,
        request: Builder,
        pending: Option<Pending>,
    ) {
        let Some(device) = self.accounts.device_of(number) else { return };
        let (flow, key) = (device.flow, NodeKey(*device.session.key));
        let signed = key.sign(&request.finish(), self.birth.unix_at(now));
        let id = self.transactions.request(now, flow, signed);
        self.pending.extend(pending.map(|pending| (id, pending)));
    }

    /// Via, and who speaks to whom, of a request of our own.
    pub(crate) fn begin(&mut self, flow: Flow, method: &str, from: &str, to: &str) -> Builder {
        let (branch, tag, call) = (self.dice.word(16), self.dice.word(8), self.dice.word(20));
        let transport = flow.transport.via();
        Builder::request(method, &format!("sip:{to}"))
            .header(
                Name::Via,
                format_args!("SIP/2.0/{transport} {};branch=z9hG4bK{branch};rport", flow.local),
            )
            .header(Name::MaxForwards, 70)
            .header(Name::From, format_args!("<sip:{from}>;tag={tag}"))
            .header(Name::To, format_args!("<sip:{to}>"))
            .header(Name::CallId, call)
            .header(Name::CSeq, format_args!("1 {method}"))
    }

    fn answered(&mut self, now: Instant, id: ClientId, response: &Message) {
        let status = response.status().unwrap_or(0);
        if status < 200 {
            return;
        }
        self.transactions.forget_answered(id);
        match self.pending.remove(&id) {
            Some(Pending::Passed { server, .. }) => {
                let back = response.edit().pop_front(Name::Via).finish();
                self.transactions.respond(now, server, back);
            }
            Some(Pending::Mail { aor, message }) if status >= 300 => self.keep(&aor, message),
            Some(Pending::Mail { .. }) | None => {}
        }
    }

    fn happened(&mut self, now: Instant) {
        while let Some(happened) = self.transactions.happened() {
            let (Happened::TimedOut(id) | Happened::Failed(id, _)) = happened else { continue };
            match self.pending.remove(&id) {
                Some(Pending::Passed { server, aor, message }) => self.not_passed(now, server, &aor, message),
                Some(Pending::Mail { aor, message }) => self.keep(&aor, message),
                None => {}
            }
        }
    }

    /// STUN: a keep-alive under a session's key, or anybody's question where it is.
    fn stun(&mut self, now: Instant, flow: Flow, bytes: &[u8], tables: &mut dyn Tables) {
        if bytes.first() == Some(&channel::MARK) {
            return self.pass_through(flow, bytes);
        }
        let Some(message) = stun::Message::parse(bytes) else {
            tables.admit(now, Limit::Garbage, flow.remote.ip());
            return;
        };
        let answer = match message.username().and_then(|label| self.accounts.named(label)) {
            Some(number) => self.kept_alive(now, flow, &message, number),
            None => self.config.stun.answer(bytes, flow.remote, flow.local).map(|a| (a.from, a.to, a.bytes)),
        };
        if let Some((from, to, bytes)) = answer {
            let by = if flow.transport == Transport::Udp { Flow::udp(from, to) } else { flow };
            self.send(by, bytes);
        }
    }

    /// Extends the lease; from another source than so far it is a NAT that has bound anew.
    fn kept_alive(
        &mut self,
        now: Instant,
        flow: Flow,
        message: &stun::Message<'_>,
        own: Number,
    ) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        let device = self.accounts.device_mut(own)?;
        let number = u64::from_be_bytes(*message.transaction().first_chunk()?);
        if !message.is_sealed_with(&*device.session.key) || number <= device.newest {
            return None;
        }
        (device.newest, device.heard) = (number, now);
        let before = std::mem::replace(&mut device.flow, flow);
        let moved = before != flow;
        let answer = stun::Writer::new(stun::Class::Success, message.transaction())
            .mapped(flow.remote)
            .seal(&*device.session.key);
        if moved {
            self.channels.left(before);
            let aor = self.accounts.name(own).to_owned();
            self.tell_registered(&aor, flow, Registration::Refreshed);
            self.announce(now, own);
        }
        Some((flow.local, flow.remote, answer))
    }

    pub(crate) fn send(&mut self, flow: Flow, bytes: impl Into<Bytes>) {
        self.out.push_back(Output::Send { flow, bytes: bytes.into(), ticket: Ticket(0) });
    }

    /// What a device is granted, by whether it has to keep its mapping open.
    pub(crate) fn lease(&self, keep_alive: Option<Duration>) -> Duration {
        keep_alive.map_or(self.config.lease, |every| every * MISSED + Duration::from_secs(5))
    }

    /// The timer of a device that has just logged in looks, at its end, whether something was heard since.
    pub(crate) fn lease_begins(&mut self, now: Instant, number: Number, lease: Duration) {
        let timer = self.leases.set(now + lease, number);
        self.accounts.device_mut(number).into_iter().for_each(|device| device.lease = Some(timer));
    }

    /// A device that is gone, or has logged in anew, needs its timer no more.
    pub(crate) fn lease_ends(&mut self, device: Option<Device>) {
        if let Some(timer) = device.and_then(|device| device.lease) {
            self.leases.cancel(timer);
        }
    }

    /// What else was kept for a device that is logged out.
    pub(crate) fn forget_device(&mut self, number: Number, device: Option<Device>) {
        self.channels.fill(number);
        self.close_line(number);
        device.iter().for_each(|device| self.channels.left(device.flow));
        self.lease_ends(device);
    }

    fn leases_end(&mut self, now: Instant, tables: &mut dyn Tables) {
        while let Some(number) = self.leases.pop(now) {
            let Some(device) = self.accounts.device_of(number) else { continue };
            let until = device.heard + self.lease(keep_alive(device));
            if until > now {
                self.lease_begins(now, number, until - now);
                continue;
            }
            let (flow, aor) = (device.flow, self.accounts.name(number).to_owned());
            self.tell_gone(now, number);
            let device = self.accounts.log_out(&aor);
            self.forget_device(number, device);
            self.forget_path(&aor, tables);
            self.tell_registered(&aor, flow, Registration::Lost);
        }
    }

    pub(crate) fn tell_registered(&mut self, aor: &str, flow: Flow, change: Registration) {
        let behind_nat = self.accounts.device(aor).is_some_and(|device| device.verdict.translated);
        self.out.push_back(Output::Event(Event::Registered { aor: aor.into(), flow, behind_nat, change }));
    }
}

/// How often a device must send to us: only those need to that hear nobody they have not spoken to lately.
pub(crate) fn keep_alive(device: &Device) -> Option<Duration> {
    device.verdict.needs_keep_alive().then(|| device.verdict.keep_alive())
}

impl Node for Access {
    fn handle(&mut self, now: Instant, input: Input, tables: &mut dyn Tables) {
        self.transactions.wake(now);
        if let Some((_, keys)) = &mut self.config.reflector {
            keys.keep_time(self.birth.unix_at(now) as u32);
        }
        match input {
            Input::Message { flow, message } => self.receive(now, flow, message, tables),
            Input::Other { flow, bytes } => self.stun(now, flow, &bytes, tables),
            Input::Closed { flow } => {
                self.prove_all(now, tables);
                self.transactions.closed(&flow);
                self.connection_closed(now, flow);
            }
            Input::Media { socket, from, bytes } => self.heard_outside(socket, from, &bytes),
            Input::Bound { ticket, socket, .. } => self.line_bound(ticket, Some(socket)),
            Input::BindFailed { ticket, .. } => self.line_bound(ticket, None),
            Input::SendFailed { ticket, flow, error } => {
                self.transactions.send_failed(now, ticket, flow, error)
            }
            _ => {}
        }
        self.prove_due(now, tables);
        self.happened(now);
        self.leases_end(now, tables);
        self.greet(now, tables);
    }

    fn poll(&mut self, _: &mut dyn Tables) -> Option<Output> {
        self.transactions.poll().or_else(|| self.out.pop_front())
    }

    fn deadline(&self) -> Option<Instant> {
        let own = [self.leases.deadline(), self.greetings.deadline(), self.proving.deadline()];
        own.into_iter().chain([self.transactions.deadline()]).flatten().min()
    }
}
