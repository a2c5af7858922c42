//! The node: who asks, for what, and what is said.

use std::collections::VecDeque;
use std::time::Instant;

use proto::event::Event;
use proto::node::{Birth, Dice, Flow, Input, Node, Output};
use proto::node_auth::Proof;
use proto::sip::transaction::{Received, ServerId, Transactions};
use proto::sip::{Builder, Message, Method, Name, reply};
use proto::tables::{Limit, Tables};

use crate::config::Config;
use crate::expiry::Expiry;
use crate::lookup;
use crate::refusal::{Refusal, refusal};
use crate::register::Visit;

/// A redirect server. See the crate.
#[derive(Debug)]
pub struct Redirect {
    config: Config,
    birth: Birth,
    dice: Dice,
    transactions: Transactions,
    expiry: Expiry,
    /// Whether what a former life left in the tables has been taken up.
    resumed: bool,
    draining: bool,
    outputs: VecDeque<Output>,
}

/// Whether a request is from one of us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Ours,
    /// Nothing speaks for it.
    Stranger,
    /// It claims to be ours and is not.
    False,
}

impl Redirect {
    /// Knows what is in its tables.
    pub fn new(config: Config, birth: Birth) -> Redirect {
        let mut dice = birth.dice(DICE);
        let transactions = Transactions::new(config.timers, config.transactions, &mut dice);
        let expiry = Expiry::new(config.memory);
        let outputs = VecDeque::new();
        Redirect { config, birth, dice, transactions, expiry, resumed: false, draining: false, outputs }
    }

    /// Time has come, or it has come by itself: what is due comes before what is new.
    fn wake(&mut self, now: Instant, tables: &mut dyn Tables) {
        if !self.resumed {
            self.resumed = true;
            self.expiry.resume(now, self.birth.wall_at(now), tables);
        }
        self.transactions.wake(now);
        let lost = self.expiry.wake(now, self.birth.wall_at(now), tables);
        self.outputs.extend(lost.into_iter().map(Output::Event));
    }

    fn receive(&mut self, now: Instant, flow: Flow, message: Message, tables: &mut dyn Tables) {
        match self.transactions.receive(now, flow, message) {
            Received::Request { id, flow, message } => self.request(now, id, &flow, &message, tables),
            Received::Cancel { id, invite, message, .. } => {
                // RFC 3261 §9.2: every INVITE has its final answer at once, so there is nothing left to cancel.
                let status = if invite.is_some() { 200 } else { 481 };
                let response = reply(&message, status, &self.dice.word(TAG)).finish();
                self.transactions.respond(now, id, response);
            }
            Received::Ack { .. }
            | Received::Response { .. }
            | Received::Stray { .. }
            | Received::Again { .. }
            | Received::Absorbed => {}
        }
    }

    fn request(
        &mut self,
        now: Instant,
        id: ServerId,
        flow: &Flow,
        message: &Message,
        tables: &mut dyn Tables,
    ) {
        let standing = self.standing(now, flow, message);
        if standing != Standing::Ours && !tables.admit(now, Limit::Request, flow.remote.ip()) {
            return self.transactions.forget_request(id);
        }
        let to_tag = self.transactions.stateless_tag(id);
        let response = self.answer(now, flow, message, standing, &to_tag, tables).unwrap_or_else(|refusal| {
            self.tell_refused(flow, message, &refusal);
            refusal.reply(message, &to_tag)
        });
        let response = response.finish();
        if standing != Standing::Ours {
            // For strangers nothing is kept (RFC 3261 §26.3.2.4).
            return self.transactions.answer_and_forget(id, response);
        }
        let signed = match &self.config.key {
            Some(key) => key.sign(&response, self.birth.unix_at(now)),
            None => response,
        };
        self.transactions.respond(now, id, signed);
    }

    /// Source addresses over UDP are forgeable: only proof counts, or a way that nobody else can come by.
    fn standing(&self, now: Instant, flow: &Flow, message: &Message) -> Standing {
        let ip = flow.remote.ip().to_canonical();
        let near = ip.is_loopback() || flow.transport.is_secure();
        let trusted = near && self.config.trusted.iter().any(|range| range.contains(ip));
        let unix = self.birth.unix_at(now);
        match self.config.key.as_ref().map_or(Proof::Absent, |key| key.check(message, unix)) {
            Proof::Proven => Standing::Ours,
            Proof::Absent if trusted => Standing::Ours,
            Proof::Absent => Standing::Stranger,
            Proof::False => Standing::False,
        }
    }

    /// RFC 3261 §8.2, in its order: method, what is required, then the method's own business. Strangers learn nothing
    /// but that.
    fn answer(
        &mut self,
        now: Instant,
        flow: &Flow,
        message: &Message,
        standing: Standing,
        to_tag: &str,
        tables: &mut dyn Tables,
    ) -> Result<Builder, Refusal> {
        let method = message.method();
        if !matches!(method, Method::Invite | Method::Register | Method::Options) {
            return Err(
                refusal(405, "a redirect server takes REGISTER, INVITE and OPTIONS").with(Name::Allow, ALLOW)
            );
        }
        self.believe(method, standing)?;
        check(message)?;
        match method {
            Method::Options => Ok(reply(message, 200, to_tag).header(Name::Allow, ALLOW)),
            _ if self.draining => Err(refusal(503, "this server is being stopped").with(Name::RetryAfter, 5)),
            Method::Register => self.register(now, flow, message, to_tag, tables),
            _ => self.invite(now, message, to_tag, tables),
        }
    }

    fn believe(&self, method: Method<'_>, standing: Standing) -> Result<(), Refusal> {
        let open = method == Method::Options || method == Method::Invite && !self.config.require_proof;
        match standing {
            _ if open => Ok(()),
            Standing::Ours => Ok(()),
            Standing::Stranger => Err(refusal(403, "no proof (Node-Auth) that one of our nodes sent this")),
            Standing::False => {
                Err(refusal(403, "Node-Auth is wrong: another key, or clocks more than 60 s apart"))
            }
        }
    }

    fn register(
        &mut self,
        now: Instant,
        flow: &Flow,
        request: &Message,
        to_tag: &str,
        tables: &mut dyn Tables,
    ) -> Result<Builder, Refusal> {
        let wall = self.birth.wall_at(now);
        let mut done = Visit { wall, flow, request, config: &self.config }.serve(tables)?;
        self.outputs.extend(done.events.drain(..).map(Output::Event));
        self.expiry.watch(now, wall, &done.aor, tables);
        Ok(done.reply(request, to_tag, wall))
    }

    fn invite(
        &mut self,
        now: Instant,
        request: &Message,
        to_tag: &str,
        tables: &mut dyn Tables,
    ) -> Result<Builder, Refusal> {
        if !request.to_tag().is_empty() {
            return Err(refusal(481, "a redirect server has no dialogs"));
        }
        let aor = lookup::address_of_record(request)?;
        let found = lookup::look_up(&aor, request, self.birth.wall_at(now), tables);
        let (status, target) = match &found {
            Ok(found) => (302, found.target()),
            Err(refusal) => (refusal.status, None),
        };
        let (call, to) = (request.call_id().into(), aor.as_str().into());
        self.outputs.push_back(Output::Event(Event::Redirected { call, to, target, status }));
        Ok(match found {
            Ok(found) => found.reply(request, to_tag),
            Err(refusal) => refusal.reply(request, to_tag),
        })
    }

    fn tell_refused(&mut self, flow: &Flow, message: &Message, refusal: &Refusal) {
        self.outputs.push_back(Output::Event(Event::Refused {
            call: message.call_id().into(),
            method: message.method().as_str().into(),
            flow: *flow,
            status: refusal.status,
            why: refusal.why,
        }));
    }
}

/// RFC 3261 §8.2.2.3 and §20.22. Nothing is forwarded from here, so that Max-Forwards: 0 is as good as any.
fn check(message: &Message) -> Result<(), Refusal> {
    let required: Vec<&str> = message.values(Name::Require).collect();
    if !required.is_empty() {
        let unsupported = required.join(", ");
        return Err(refusal(420, "it requires extensions we don't have").with(Name::Unsupported, unsupported));
    }
    message.max_forwards().map(drop).map_err(|_| refusal(400, "Max-Forwards is not a number from 0 to 255"))
}

impl Node for Redirect {
    fn handle(&mut self, now: Instant, input: Input, tables: &mut dyn Tables) {
        self.wake(now, tables);
        match input {
            Input::Message { flow, message } => self.receive(now, flow, message, tables),
            Input::Other { flow, .. } => drop(tables.admit(now, Limit::Garbage, flow.remote.ip())),
            Input::Closed { flow } => self.transactions.closed(&flow),
            Input::SendFailed { ticket, flow, error } => {
                self.transactions.send_failed(now, ticket, flow, error);
            }
            Input::Drain => self.draining = true,
            Input::Wake
            | Input::Media { .. }
            | Input::Bound { .. }
            | Input::BindFailed { .. }
            | Input::Passed { .. }
            | Input::Carried(_)
            | Input::Dropped(_)
            | Input::Undelivered(_)
            | Input::Proven { .. }
            | Input::Answer { .. } => {}
        }
        // That an answer was never acknowledged changes nothing here.
        while self.transactions.happened().is_some() {}
    }

    fn poll(&mut self, _tables: &mut dyn Tables) -> Option<Output> {
        self.outputs.pop_front().or_else(|| self.transactions.poll())
    }

    fn deadline(&self) -> Option<Instant> {
        if !self.resumed {
            return Some(self.birth.now);
        }
        [self.transactions.deadline(), self.expiry.deadline()].into_iter().flatten().min()
    }
}

/// What we take.
const ALLOW: &str = "INVITE, ACK, CANCEL, OPTIONS, REGISTER";
/// Length of our tags.
const TAG: usize = 10;
/// Stream of the node's dice.
const DICE: u64 = 0x5ed1;
