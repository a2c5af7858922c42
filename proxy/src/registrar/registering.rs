//! A REGISTER at the registrar that we are (RFC 3261 §10.3): past the gate, into the table of bindings, and answered, one
//! straight way.
//!
//! It belongs to no dialog and goes nowhere, so nothing is made for it that forwarding would need, not even a transaction. A
//! challenge leaves nothing behind, and a 200 a hash: retransmissions of both are answered anew (§8.2.7).

use std::sync::Arc;

use proto::event::Event;
use proto::node::{Flow, Output, Ticket};
use proto::sip::transaction::{AtOnce, ServerId};
use proto::sip::{Builder, Message, Method, Reply};
use proto::tables::{Binding, User};

use crate::forwarding::contexts::Context;
use crate::forwarding::faces::loop_mark;
use crate::gate::auth::{Face, Verdict};
use crate::gate::validate::{self, Refusal};
use crate::proxy::{Cx, Proxy};
use crate::registrar::bindings::{self, Registered};

/// What somebody at the gate meets with.
enum Entry<W> {
    /// It is let in.
    Welcome(W),
    /// It is answered so, and that is all for now.
    Challenged(Builder),
    /// It gets no answer.
    Unheard,
}

impl<W> Entry<W> {
    /// What becomes of those who are let in.
    fn map<V>(self, served: impl FnOnce(W) -> V) -> Entry<V> {
        match self {
            Entry::Welcome(welcome) => Entry::Welcome(served(welcome)),
            Entry::Challenged(challenge) => Entry::Challenged(challenge),
            Entry::Unheard => Entry::Unheard,
        }
    }
}

/// A request and where it came from, as its transaction knows it.
#[derive(Clone, Copy)]
pub(crate) struct Visitor<'a> {
    /// The transaction.
    pub(crate) server: ServerId,
    /// The path it came by.
    pub(crate) flow: &'a Flow,
    /// What it asks.
    pub(crate) request: &'a Message,
}

impl Context {
    /// Who asks for it.
    pub(crate) fn visitor(&self) -> Visitor<'_> {
        Visitor { server: self.server, flow: &self.flow, request: &self.request }
    }
}

impl Proxy {
    /// Whether a request outside of dialogs ends at the registrar here: it names a domain of ours, no Route leads on, and no
    /// PBX keeps the accounts.
    pub fn registers_here(&self, request: &Message) -> bool {
        request.method() == Method::Register
            && self.config.pbx().is_none()
            && request.to_tag().is_empty()
            && request.routes().next().is_none()
            && request.uri().is_ok_and(|uri| self.config.is_ours(uri.host, uri.port))
    }

    /// Whether nothing about a request that came by this path needs more than its answer: a REGISTER for the registrar here, as
    /// it is written.
    pub(crate) fn registers_at_once(&self, flow: &Flow, request: &Message) -> bool {
        self.registers_here(request) && !self.is_rewritten(flow) && !self.is_from_relay(request, flow)
    }

    /// Serves a REGISTER without a transaction.
    pub(crate) fn register_at_once(&mut self, cx: &mut Cx<'_>, flow: &Flow, request: Message, at: AtOnce) {
        let tag = self.transactions.tag_at_once(at);
        let reply = Reply { to_tag: &tag, source: Some(flow.remote) };
        let answer = match self.transactions.was_answered(at, flow, &request) {
            true => bindings::register_again(cx.now, flow, &request, reply, &self.config, cx.tables),
            false => match self.registered(cx, flow, &request, reply) {
                Ok(Entry::Welcome(done)) => return self.welcome(cx, flow, request, at, done),
                Ok(Entry::Challenged(challenge)) => challenge,
                Ok(Entry::Unheard) => return,
                Err(refusal) => match self.refusal(flow, &request, refusal, reply) {
                    Some(answer) => answer,
                    None => return,
                },
            },
        };
        self.answer(flow, answer);
    }

    fn answer(&mut self, flow: &Flow, answer: Builder) {
        let bytes = answer.into_bytes();
        self.put(Output::Send { flow: *flow, bytes, ticket: Ticket(0) });
    }

    /// What becomes of a REGISTER that nobody has looked at yet.
    fn registered(
        &mut self,
        cx: &mut Cx<'_>,
        flow: &Flow,
        request: &Message,
        reply: Reply<'_>,
    ) -> Result<Entry<Registered>, Refusal> {
        validate::check(request, &self.config, &self.faces, || loop_mark(request, &self.keyed))?;
        self.refuse_forged(request)?;
        self.bound(cx, flow, request, reply)
    }

    /// Past the gate, and into the table of bindings.
    fn bound(
        &mut self,
        cx: &mut Cx<'_>,
        flow: &Flow,
        request: &Message,
        reply: Reply<'_>,
    ) -> Result<Entry<Registered>, Refusal> {
        if self.is_closing(flow) {
            return Err(Refusal::being_given_up());
        }
        let entry = self.ask_gate(cx, flow, request, Face::Registrar, reply)?;
        Ok(entry.map(|_| bindings::register(cx.now, flow, request, reply, &self.config, cx.tables)))
    }

    /// Answers who passed the gate. A 200 can be given again; what else the registrar says is kept.
    fn welcome(&mut self, cx: &mut Cx<'_>, flow: &Flow, request: Message, at: AtOnce, done: Registered) {
        let Registered { status, response, events, changed } = done;
        if status == 200 {
            self.answer(flow, response);
            self.transactions.recall(cx.now.at, at, flow, &request);
        } else {
            let response = response.finish();
            match self.transactions.keep(cx.now.at, at, *flow, request) {
                Some(server) => self.transactions.respond(cx.now.at, server, response),
                None => self.transactions.send(*flow, response),
            }
        }
        self.registration_changed(cx, events, changed);
    }

    fn registration_changed(
        &mut self,
        cx: &mut Cx<'_>,
        events: Vec<Event>,
        changed: Option<(String, Vec<Binding>)>,
    ) {
        events.into_iter().for_each(|event| self.tell(event));
        if let Some((aor, bindings)) = changed {
            self.bindings_changed_to(cx, &aor, &bindings);
        }
    }

    /// Serves a REGISTER that has a transaction: whose Routes were read, or that a trunk's rules may have rewritten.
    pub(crate) fn register(&mut self, cx: &mut Cx<'_>, visitor: Visitor<'_>) -> Result<(), Refusal> {
        let tag = self.transactions.stateless_tag(visitor.server);
        let entry = self.bound(cx, visitor.flow, visitor.request, Reply::tagged(&tag))?;
        if let Some(Registered { status, response, events, changed }) = self.let_in(visitor.server, entry) {
            let response = response.finish();
            match status {
                200 => self.transactions.answer_and_recall(cx.now.at, visitor.server, response),
                _ => self.transactions.respond(cx.now.at, visitor.server, response),
            }
            self.registration_changed(cx, events, changed);
        }
        Ok(())
    }

    /// Who is let in. The others' transaction is at its end.
    fn let_in<W>(&mut self, server: ServerId, entry: Entry<W>) -> Option<W> {
        match entry {
            Entry::Welcome(welcome) => return Some(welcome),
            Entry::Challenged(challenge) => self.transactions.answer_and_forget(server, challenge.finish()),
            Entry::Unheard => self.transactions.forget_request(server),
        }
        None
    }

    /// The retransmission of one that was answered 200: the same again, by what is bound now.
    pub(crate) fn register_again(&mut self, cx: &mut Cx<'_>, flow: Flow, request: Message, tag: &str) {
        let request = self.as_routes_see_it(cx, &flow, request);
        let response =
            bindings::register_again(cx.now, &flow, &request, Reply::tagged(tag), &self.config, cx.tables);
        self.transactions.send(flow, response.finish());
    }

    /// The PBX behind us keeps the accounts: it hears of what it must.
    pub(crate) fn register_through(&mut self, cx: &mut Cx<'_>, context: Context) -> Result<(), Refusal> {
        let tag = self.transactions.stateless_tag(context.server);
        let passed = self.pass_gate(cx, context.visitor(), Face::Registrar, &tag)?;
        if passed.is_none() || self.absorbed(cx, &context) {
            return Ok(());
        }
        self.forward_new(cx, context)
    }

    /// Whether a REGISTER whose Routes were read ends here.
    pub(crate) fn is_registrar_of(&self, context: &Context) -> bool {
        let no_route = context.routed.next(&context.request).is_none();
        no_route && context.request.uri().is_ok_and(|uri| self.config.is_ours(uri.host, uri.port))
    }

    /// `None`: challenged, so that is all for now. `tag` is the stateless one of its transaction.
    pub(crate) fn pass_gate(
        &mut self,
        cx: &mut Cx<'_>,
        visitor: Visitor<'_>,
        face: Face,
        tag: &str,
    ) -> Result<Option<Option<Arc<User>>>, Refusal> {
        let Visitor { server, flow, request } = visitor;
        let entry = self.ask_gate(cx, flow, request, face, Reply::tagged(tag))?;
        Ok(self.let_in(server, entry))
    }

    /// What the gate says to somebody; the account, if it is one of ours.
    fn ask_gate(
        &mut self,
        cx: &mut Cx<'_>,
        flow: &Flow,
        request: &Message,
        face: Face,
        reply: Reply<'_>,
    ) -> Result<Entry<Option<Arc<User>>>, Refusal> {
        if self.is_proven_trunk(flow) {
            return Ok(Entry::Welcome(None));
        }
        match self.gate.check(cx.now, flow, request, face, reply, &self.config, cx.tables) {
            Verdict::Accepted(user) => Ok(Entry::Welcome(user)),
            Verdict::Challenge(response) => Ok(Entry::Challenged(response)),
            Verdict::Refuse { status, why } => Err(Refusal::new(status, why)),
            Verdict::Shielded { later, why, event } => {
                let news = event.is_some();
                event.into_iter().for_each(|event| self.tell(event));
                match (later, news) {
                    (true, _) => Err(Refusal::later(why, 1)),
                    (false, true) => Err(Refusal::new(0, why)),
                    (false, false) => Ok(Entry::Unheard),
                }
            }
        }
    }
}
