//! The node: what comes in is handed to the part it is for, and what the parts want is carried out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use proto::event::Event;
use proto::node::{Answer, Birth, Dice, Flow, FlowId, Input, Node, Output, Ticket};
use proto::sip::transaction::{ClientId, Happened, Received, ServerId, Transactions};
use proto::sip::{Message, Method};
use proto::tables::{Binding, Limit, Tables};
use proto::timers::Queue;

use crate::alarms::Alarm;
use crate::config::Config;
use crate::dialogs::calls::Calls;
use crate::forwarding::branches::Waiting;
use crate::forwarding::contexts::Context;
use crate::forwarding::faces::Faces;
use crate::gate::auth::Gate;
use crate::gate::proven::Proven;
use crate::hashing::{Keyed, Numbered};
use crate::media::relays::Relays;
use crate::moment::Moment;
use crate::part::{Outcome, RequestId};
use crate::registrar::bindings;
use crate::registrar::keepalive::KeepAlive;
use crate::registrar::mid_registrar::{Brief, Remembered};
use crate::registrar::pings::Pings;
use crate::registrar::serving::Serving;
use crate::routing::hops;
use crate::routing::target::resolved;
use crate::trunks::{TrunkStatus, Trunks};

/// A proxy. Born with a configuration; see [`Node`].
#[derive(Debug)]
pub struct Proxy {
    pub(crate) config: Arc<Config>,
    pub(crate) birth: Birth,
    pub(crate) dice: Dice,
    pub(crate) keyed: Keyed,
    pub(crate) faces: Faces,
    pub(crate) gate: Gate,
    pub(crate) proven: Proven,
    pub(crate) transactions: Transactions,
    pub(crate) contexts: Numbered<ServerId, Box<Context>>,
    pub(crate) clients: Numbered<ClientId, Owner>,
    pub(crate) questions: Numbered<Ticket, (FlowId, Waiting)>,
    pub(crate) tickets: u64,
    pub(crate) calls: Calls,
    pub(crate) relays: Relays,
    pub(crate) trunks: Trunks,
    pub(crate) remembered: Remembered,
    pub(crate) brief: Option<Brief>,
    pub(crate) alarms: Queue<Alarm>,
    pub(crate) draining: bool,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) serving: Serving,
    pub(crate) resumed: bool,
    pub(crate) followed: bool,
    out: VecDeque<Output>,
}

/// Whose a client transaction is.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    /// A branch of a context.
    Branch(ServerId, usize),
    /// A relay session's dialog.
    Relay(proto::control::Session),
    /// A registration at a redirect server.
    Serving(RequestId),
    /// A probe of a trunk's server.
    Probe(RequestId),
    /// A registration at a trunk.
    Upstream(RequestId),
}

/// What every step of one `handle` needs.
pub(crate) struct Cx<'a> {
    /// Now.
    pub(crate) now: Moment,
    /// What must be known at once.
    pub(crate) tables: &'a mut dyn Tables,
}

/// A snapshot of what a proxy holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Calls between INVITE and end.
    pub calls: usize,
    /// Transactions, client and server.
    pub transactions: usize,
    /// Relay sessions this proxy holds.
    pub relay_sessions: usize,
}

/// How many transactions may live per call that may be up: INVITE on both sides, and BYE.
const TRANSACTIONS_PER_CALL: usize = 8;

impl Proxy {
    /// A proxy with nothing to do yet.
    pub fn new(config: Arc<Config>, birth: Birth) -> Proxy {
        let mut dice = birth.dice(1);
        let keyed = Keyed::new(&mut dice);
        let limit = config.limits.calls.saturating_mul(TRANSACTIONS_PER_CALL);
        Proxy {
            faces: Faces::new(&config),
            gate: Gate::new(&config, birth.lane.index),
            proven: Proven::default(),
            transactions: Transactions::new(config.timers, limit, &mut dice),
            contexts: Numbered::default(),
            clients: Numbered::default(),
            questions: Numbered::default(),
            tickets: 0,
            calls: Calls::new(keyed.clone()),
            relays: Relays::new(keyed.clone()),
            remembered: Remembered::new(keyed.clone()),
            brief: Brief::of(&config),
            trunks: Trunks::new(birth.dice(4), birth.dice(5), birth.dice(6), birth.lane),
            alarms: Queue::default(),
            draining: false,
            keep_alive: KeepAlive::new(birth.dice(2), keyed.clone()).of_lane(birth.lane),
            serving: Serving::new(birth.dice(3)).of_lane(birth.lane),
            resumed: false,
            followed: false,
            out: VecDeque::new(),
            config,
            birth,
            dice,
            keyed,
        }
    }

    /// From the next `handle` on, another configuration. Calls go on.
    pub fn reconfigure(&mut self, config: Arc<Config>) {
        self.faces = Faces::new(&config);
        self.gate = Gate::new(&config, self.birth.lane.index);
        self.brief = Brief::of(&config);
        self.remembered.forget();
        self.config = config;
        self.followed = false;
    }

    /// What it holds now.
    pub fn status(&self) -> Status {
        Status {
            calls: self.calls.len(),
            transactions: self.transactions.len(),
            relay_sessions: self.relays.len(),
        }
    }

    /// How its trunks stand `at` a moment.
    pub fn trunks(&self, at: Instant) -> Vec<TrunkStatus> {
        self.trunks.status(Moment::new(&self.birth, at), &self.config)
    }

    /// Tells what happened.
    pub(crate) fn tell(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    /// Wants something done.
    pub(crate) fn put(&mut self, output: Output) {
        self.out.push_back(output);
    }

    /// Sends a request of our own with its topmost Via, and remembers whose it is.
    pub(crate) fn send(&mut self, cx: &Cx<'_>, flow: Flow, message: Message, owner: Owner) -> ClientId {
        let client = self.transactions.request(cx.now.at, flow, message);
        self.clients.insert(client, owner);
        client
    }

    fn take_in(&mut self, cx: &mut Cx<'_>, input: Input) {
        match input {
            Input::Message { flow, .. } | Input::Other { flow, .. } if self.is_shut_out(cx, &flow) => {
                if flow.transport.is_reliable() {
                    self.put(Output::Close { flow });
                }
            }
            Input::Message { flow, message } => {
                let message = self.unveiled(self.named_inside(&flow, message));
                self.receive(cx, flow, message);
            }
            Input::Other { flow, bytes } => self.other(cx, flow, &bytes),
            Input::Closed { flow } => self.closed(cx, flow),
            Input::SendFailed { ticket, flow, error } => {
                self.transactions.send_failed(cx.now.at, ticket, flow, error);
            }
            Input::Answer { ticket, answer } => self.answered(cx, ticket, answer),
            Input::Proven { flow, domains } => self.proven.opened(&flow, domains),
            Input::Passed { flow, bytes, .. } => {
                if let Some(response) = Message::parse(bytes).ok().filter(|message| !message.is_request()) {
                    self.is_pong(cx, &flow, &response);
                }
            }
            Input::Wake => {}
            Input::Drain => self.draining = true,
            Input::Media { .. }
            | Input::Bound { .. }
            | Input::BindFailed { .. }
            | Input::Carried(_)
            | Input::Dropped(_)
            | Input::Undelivered(_) => {}
        }
    }

    /// A trunk that was a stranger yesterday is heard all the same.
    fn is_shut_out(&self, cx: &Cx<'_>, flow: &Flow) -> bool {
        let source = flow.remote.ip();
        cx.tables.shuts_out(cx.now.at, source)
            && self.trunk_at(flow).is_none()
            && !self.config.is_sibling(source)
    }

    fn receive(&mut self, cx: &mut Cx<'_>, flow: Flow, message: Message) {
        if self.registers_at_once(&flow, &message)
            && let Some(at_once) = self.transactions.at_once(cx.now.at, &message)
        {
            return self.register_at_once(cx, &flow, message, at_once);
        }
        match self.transactions.receive(cx.now.at, flow, message) {
            Received::Request { id, flow, message } => self.request(cx, id, flow, message),
            Received::Cancel { id, invite, flow, message } => self.cancel(cx, id, invite, flow, &message),
            Received::Ack { flow, message } => self.ack(cx, flow, message),
            Received::Response { id, flow, message } => self.response(cx, id, flow, message),
            Received::Stray { flow, message } if !message.is_request() => {
                if !self.is_pong(cx, &flow, &message) {
                    self.stray_response(cx, flow, message);
                }
            }
            Received::Again { flow, message, tag } => self.register_again(cx, flow, message, &tag),
            Received::Stray { .. } | Received::Absorbed => {}
        }
    }

    fn response(&mut self, cx: &mut Cx<'_>, client: ClientId, flow: Flow, message: Message) {
        let is_final = message.status().is_some_and(|status| status >= 200);
        match self.clients.get(&client).cloned() {
            Some(Owner::Branch(server, index)) => self.branch_response(cx, server, index, flow, message),
            Some(Owner::Relay(session)) => self.relay_response(cx, session, client, flow, message),
            Some(Owner::Serving(id)) if is_final => {
                self.serving_outcome(cx, client, id, Outcome::Final(message))
            }
            Some(Owner::Probe(id)) if is_final => {
                self.clients.remove(&client);
                self.trunks.health.answered(cx.now, id, &message);
            }
            Some(Owner::Upstream(id)) if is_final => {
                self.clients.remove(&client);
                self.trunks.upstream.answered(cx.now, id, &message, &self.config);
            }
            Some(Owner::Serving(_) | Owner::Probe(_) | Owner::Upstream(_)) => {}
            None => self.repeat_relay_ack(cx, flow, &message),
        }
    }

    /// A request of ours found no answer: 408 when time ran out, 503 when it did not leave.
    fn unanswered(&mut self, cx: &mut Cx<'_>, client: ClientId, status: u16) {
        match self.clients.remove(&client) {
            Some(Owner::Branch(server, index)) => self.branch_unanswered(cx, server, index, status),
            Some(Owner::Relay(session)) => self.relay_unanswered(cx, session, client),
            Some(Owner::Serving(id)) => self.serving_outcome(cx, client, id, Outcome::Silence),
            Some(Owner::Probe(id)) => self.trunks.health.missed(cx.now, id, status),
            Some(Owner::Upstream(id)) => self.trunks.upstream.missed(cx.now, id, status),
            None => {}
        }
    }

    /// A final response to a keep-alive of ours, or of another lane's, which is given it. `false`: it is none.
    fn is_pong(&mut self, cx: &mut Cx<'_>, flow: &Flow, response: &Message) -> bool {
        let branch = response.via().map(|via| via.branch()).unwrap_or_default();
        let is_ping = response.method() == Method::Options && Pings::lane_of(branch).is_some();
        if is_ping
            && response.status() >= Some(200)
            && let Some(lane) = self.keep_alive.answered(branch, cx.tables)
        {
            let (bytes, gathered) = (response.bytes().clone(), Bytes::new());
            self.put(Output::Pass { lane, flow: *flow, bytes, gathered });
        }
        is_ping
    }

    fn serving_outcome(&mut self, cx: &mut Cx<'_>, client: ClientId, id: RequestId, outcome: Outcome) {
        self.clients.remove(&client);
        self.serving.outcome(cx.now, id, outcome, &self.config, cx.tables);
    }

    /// What is not well-formed SIP. The double CRLF of RFC 5626 §4.4.1 is answered by a single one; a broken request
    /// whose Via can be read is told what it is (RFC 3261 §16.3 step 1, §8.2.7), as long as its sender stays within the
    /// limit; anything else gets silence.
    fn other(&mut self, cx: &mut Cx<'_>, flow: Flow, bytes: &Bytes) {
        if &bytes[..] == b"\r\n\r\n" {
            let pong = Bytes::from_static(b"\r\n");
            return self.put(Output::Send { flow, bytes: pong, ticket: Ticket(0) });
        }
        let Err(malformed) = Message::parse(bytes.clone()) else { return };
        let Some(request) = Message::answerable(bytes).filter(|_| malformed.status != 0) else { return };
        if cx.tables.admit(cx.now.at, Limit::Garbage, flow.remote.ip()) {
            self.transactions.refuse_broken(flow, self.named_inside(&flow, request), malformed.status);
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>, flow: Flow) {
        self.transactions.closed(&flow);
        self.proven.closed(&flow);
        let lost = bindings::closed(&flow, self.keep_alive.closed(&flow), &self.config, cx.tables);
        lost.events.into_iter().for_each(|event| self.tell(event));
        self.bindings_changed(cx, &lost.changed);
    }

    fn answered(&mut self, cx: &mut Cx<'_>, ticket: Ticket, answer: Answer) {
        let Some((domain, waiting)) = self.questions.remove(&ticket) else { return };
        if let Waiting::Probe(id) = waiting {
            return self.trunks.health.resolved(cx.now, id, answer, &self.config);
        }
        if let Waiting::Upstream(id) = waiting {
            return self.trunks.upstream.resolved(cx.now, id, answer, &self.config);
        }
        if let (Waiting::Branch(server, index), Answer::Uris(uris)) = (&waiting, &answer) {
            return self.uris_found(cx, *server, *index, uris);
        }
        if let Waiting::Branch(server, index) = waiting
            && let Some(route) = self.route_asked(server, index)
        {
            let advice = if let Answer::Advice(advice) = &answer { Some(advice) } else { None };
            return self.advised(cx, (server, index), route, advice);
        }
        let found = match answer {
            Answer::Targets(found) => hops::proving(resolved(&found, &self.config), domain),
            Answer::Uris(_) | Answer::Advice(_) | Answer::Done(_) | Answer::Nothing(_) => Vec::new(),
        };
        match waiting {
            Waiting::Branch(server, index) => self.resolved(cx, server, index, found),
            Waiting::Ack(flow, held) => self.ack_resolved(cx, flow, *held, found),
            Waiting::Probe(_) | Waiting::Upstream(_) => {}
        }
    }

    /// Tells the parts that these addresses of record have other bindings now.
    pub(crate) fn bindings_changed(&mut self, cx: &mut Cx<'_>, aors: &[String]) {
        for aor in aors {
            self.keep_alive.changed(cx.now, aor, &self.config, cx.tables);
            self.serving.changed(cx.now, aor, &self.config, cx.tables);
        }
    }

    /// The same for one, whose bindings are known.
    pub(crate) fn bindings_changed_to(&mut self, cx: &mut Cx<'_>, aor: &str, bindings: &[Binding]) {
        self.keep_alive.changed_to(cx.now, aor, bindings, &self.config);
        self.serving.changed(cx.now, aor, &self.config, cx.tables);
    }

    /// Everything that follows by itself from what was taken in.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        self.transactions.wake(cx.now.at);
        while let Some(happened) = self.transactions.happened() {
            match happened {
                Happened::TimedOut(client) => self.unanswered(cx, client, 408),
                Happened::Failed(client, _) => self.unanswered(cx, client, 503),
                Happened::NotAcknowledged(server) => self.not_acknowledged(cx, server),
            }
        }
        while let Some(alarm) = self.alarms.pop(cx.now.at) {
            self.alarm(cx, alarm);
        }
        self.keep_alive.wake(cx.now, &self.config, cx.tables);
        self.serving.wake(cx.now, &self.config, cx.tables);
        self.trunks.health.wake(cx.now, &self.config);
        self.trunks.upstream.wake(cx.now, &self.config);
        self.parts_want(cx);
    }

    fn alarm(&mut self, cx: &mut Cx<'_>, alarm: Alarm) {
        match alarm {
            Alarm::TimerC(server) => self.timer_c(cx, server),
            Alarm::Linger(server) => self.forget(cx, server),
            Alarm::Silent(client) => self.silent(cx, client),
            Alarm::Untold(client) => self.untold(cx, client),
            Alarm::CallLife(call) => self.call_too_old(cx, &call),
            Alarm::Refresh(session) => self.refresh(cx, session),
        }
    }

    /// A redirect server or relay has been silent for too long: as if its transaction had timed out.
    fn silent(&mut self, cx: &mut Cx<'_>, client: ClientId) {
        if self.clients.contains_key(&client) {
            self.transactions.cancel(cx.now.at, client, None);
            self.unanswered(cx, client, 408);
        }
    }
}

impl Node for Proxy {
    fn handle(&mut self, now: Instant, input: Input, tables: &mut dyn Tables) {
        let cx = &mut Cx { now: Moment::new(&self.birth, now), tables };
        self.resume(cx);
        self.take_in(cx, input);
        self.settle(cx);
    }

    fn poll(&mut self, _: &mut dyn Tables) -> Option<Output> {
        let output = self.out.pop_front().or_else(|| self.transactions.poll())?;
        Some(self.named_outside(output))
    }

    fn deadline(&self) -> Option<Instant> {
        let trunks = [self.trunks.health.deadline(), self.trunks.upstream.deadline()];
        let parts = [self.keep_alive.deadline(), self.serving.deadline()].into_iter().chain(trunks);
        let queues = [self.transactions.deadline(), self.alarms.deadline()];
        parts.chain(queues).flatten().min()
    }
}
