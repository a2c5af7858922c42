//! The parts of a proxy that act by themselves, keep-alives and registrations at the redirect server, and what they
//! ask of the core: send a request, tell me what became of it.

use std::time::Duration;

use proto::event::Event;
use proto::node::{Flow, Question};
use proto::node::{Output, Ticket};
use proto::sip::{Message, Name};

use crate::alarms::Alarm;
use crate::forwarding::branches::Waiting;
use crate::proxy::{Cx, Owner, Proxy};

/// A part's own name for a request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What a part wants.
#[derive(Debug)]
pub enum Want {
    /// Send this request, whole, but for the topmost Via, which the core pushes. Its outcome comes back with `id`.
    Request {
        /// By this path.
        flow: Flow,
        /// The request.
        message: Message,
        /// Comes back with the outcome.
        id: RequestId,
    },
    /// Send this request, whole, but for the topmost Via, once and without waiting for anything. Its part knows an
    /// answer by the branch.
    Ping {
        /// By this path.
        flow: Flow,
        /// The request.
        message: Message,
        /// Of the topmost Via.
        branch: String,
    },
    /// Send this request as [`Want::Request`], and wait for so long.
    Probe {
        /// By this path.
        flow: Flow,
        /// The request.
        message: Message,
        /// Comes back with the outcome.
        id: RequestId,
        /// How long its answer is waited for.
        patience: Duration,
    },
    /// Ask this; the answer comes back with `id`.
    Ask {
        /// What.
        question: Question,
        /// Comes back with the answer.
        id: RequestId,
    },
    /// Tell this.
    Event(Event),
}

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// A final response.
    Final(Message),
    /// None came in time, or the request did not leave.
    Silence,
}

impl Proxy {
    /// Carries out what the parts have come to want.
    pub(crate) fn parts_want(&mut self, cx: &mut Cx<'_>) {
        while let Some(want) = self.keep_alive.poll() {
            self.carry_out(cx, want, Owner::Probe);
        }
        while let Some(want) = self.serving.poll() {
            self.carry_out(cx, want, Owner::Serving);
        }
        while let Some(want) = self.trunks.health.poll() {
            if let Want::Event(Event::TrunkServer { trunk, up: true, .. }) = &want {
                self.pbx_is_back(trunk);
            }
            self.carry_out(cx, want, Owner::Probe);
        }
        while let Some(want) = self.trunks.upstream.poll() {
            self.carry_out(cx, want, Owner::Upstream);
        }
    }

    fn carry_out(&mut self, cx: &mut Cx<'_>, want: Want, owner: fn(RequestId) -> Owner) {
        match want {
            Want::Event(event) => self.tell(event),
            Want::Request { flow, message, id } => {
                let message = self.with_via(&flow, &message);
                self.send(cx, flow, message, owner(id));
            }
            Want::Ping { flow, message, branch } => {
                let via = self.faces.via_of(self.listener_of(&flow), true, &branch);
                let bytes = message.edit().push_front(Name::Via, &via).finish().into_bytes();
                self.put(Output::Send { flow, bytes, ticket: Ticket(0) });
            }
            Want::Probe { flow, message, id, patience } => {
                let message = self.with_via(&flow, &message);
                let client = self.send(cx, flow, message, owner(id));
                self.alarms.set(cx.now.at + patience, Alarm::Silent(client));
            }
            Want::Ask { question, id } => {
                let waiting = match owner(id) {
                    Owner::Upstream(id) => Waiting::Upstream(id),
                    _ => Waiting::Probe(id),
                };
                self.ask(question, waiting);
            }
        }
    }

    /// Once: what a former life left in the tables. Once for each configuration: the trunks it names.
    pub(crate) fn resume(&mut self, cx: &mut Cx<'_>) {
        if !std::mem::replace(&mut self.followed, true) {
            self.trunks.health.follow(cx.now, &self.config);
            self.trunks.upstream.follow(cx.now, &self.config);
        }
        if !std::mem::replace(&mut self.resumed, true) {
            self.keep_alive.resume(cx.now, &self.config, cx.tables);
            self.serving.resume(cx.now, &self.config, cx.tables);
        }
    }
}
