//! A REGISTER at the registrar that we are (RFC 3261 §10.3): past the gate, into the table of bindings, and answered, one
//! straight way.
//!
//! It belongs to no dialog and goes nowhere, so nothing is made for it that forwarding would need. A challenge leaves nothing
//! behind, and a 200 a hash: retransmissions of both are answered anew (§8.2.7).

use std::sync::Arc;

use proto::node::Flow;
use proto::sip::transaction::ServerId;
use proto::sip::{Message, Method};
use proto::tables::User;

use crate::forwarding::contexts::Context;
use crate::gate::auth::{Face, Verdict};
use crate::gate::validate::Refusal;
use crate::proxy::{Cx, Proxy};
use crate::registrar::bindings;

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
    pub(crate) fn registers_here(&self, request: &Message) -> bool {
        request.method() == Method::Register
            && self.config.pbx().is_none()
            && request.to_tag().is_empty()
            && request.routes().next().is_none()
            && request.uri().is_ok_and(|uri| self.config.is_ours(uri.host, uri.port))
    }

    /// Serves a REGISTER.
    pub(crate) fn register(&mut self, cx: &mut Cx<'_>, visitor: Visitor<'_>) -> Result<(), Refusal> {
        if self.is_closing(visitor.flow) {
            return Err(Refusal::being_given_up());
        }
        let tag = self.transactions.stateless_tag(visitor.server);
        let Some(user) = self.pass_gate(cx, visitor, Face::Registrar, &tag)? else { return Ok(()) };
        let (flow, request) = (visitor.flow, visitor.request);
        let done = bindings::register(cx.now, flow, request, user.as_deref(), &tag, &self.config, cx.tables);
        match done.response.status() {
            Some(200) => self.transactions.answer_and_recall(cx.now.at, visitor.server, done.response),
            _ => self.transactions.respond(cx.now.at, visitor.server, done.response),
        }
        done.events.into_iter().for_each(|event| self.tell(event));
        if let Some((aor, bindings)) = done.changed {
            self.bindings_changed_to(cx, &aor, &bindings);
        }
        Ok(())
    }

    /// The retransmission of a REGISTER that was answered 200: the same again, by what is bound now.
    pub(crate) fn register_again(&mut self, cx: &mut Cx<'_>, flow: Flow, request: Message, tag: &str) {
        let request = self.as_routes_see_it(cx, &flow, request);
        let response = bindings::register_again(cx.now, &flow, &request, tag, &self.config, cx.tables);
        self.transactions.send(flow, response);
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
        if self.is_proven_trunk(flow) {
            return Ok(Some(None));
        }
        match self.gate.check(cx.now, flow, request, face, tag, &self.config, cx.tables) {
            Verdict::Accepted(user) => Ok(Some(user)),
            Verdict::Challenge(response) => {
                self.transactions.answer_and_forget(server, response);
                Ok(None)
            }
            Verdict::Refuse { status, why } => Err(Refusal::new(status, why)),
            Verdict::Shielded { later, why, event } => {
                let news = event.is_some();
                event.into_iter().for_each(|event| self.tell(event));
                match (later, news) {
                    (true, _) => Err(Refusal::later(why, 1)),
                    (false, true) => Err(Refusal::new(0, why)),
                    (false, false) => {
                        self.transactions.forget_request(server);
                        Ok(None)
                    }
                }
            }
        }
    }
}
