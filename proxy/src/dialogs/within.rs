//! Requests inside dialogs: by the token in their Route, or, without one, by the live call they match (DESIGN §4).

use std::collections::VecDeque;
use std::time::Duration;

use proto::control::Session;
use proto::event::{Event, Side};
use proto::node::{Flow, Question};
use proto::sdp::{Reach, reach};
use proto::shield::{Deed, Outcome, What};
use proto::sip::{Message, Method};
use proto::tables::Latch;

use crate::dialogs::session_timer;
use crate::dialogs::tokens::Token;
use crate::forwarding::branches::{Waiting, found_and_known};
use crate::forwarding::contexts::{Context, Role, Target};
use crate::gate::validate::Refusal;
use crate::media::apart::ours;
use crate::media::relays::HeldAck;
use crate::proxy::{Cx, Proxy};
use crate::registrar::aor::canonical;
use crate::registrar::gruu;
use crate::routing::hops;
use crate::routing::preprocessing::{Routed, flow_of};
use crate::routing::target::{Hops, of_uri};
use crate::routing::targets::present_path;

/// Where a request in a dialog goes, and what it belongs to.
#[derive(Debug)]
pub(crate) struct Way {
    /// Which party sends it.
    pub(crate) sender: Side,
    /// Paths to the other party, best first.
    pub(crate) hops: VecDeque<Flow>,
    /// A name that leads there better (RFC 3263).
    pub(crate) name: Option<Question>,
    /// The request URI to write, when the request names us.
    pub(crate) uri: Option<String>,
    /// The dialog's relay session.
    pub(crate) session: Option<(u8, Session)>,
    /// The sender's relay leg.
    pub(crate) trusted: bool,
    /// See `trusted`.
    pub(crate) latch: Latch,
    /// Whether it belongs to the call with its Call-ID that we keep a record of.
    pub(crate) of_record: bool,
    /// When its token was made, in seconds since the epoch.
    pub(crate) made: Option<u64>,
    /// By how much its CSeq is raised.
    pub(crate) shift: u32,
}

const NO_WAY: &str =
    "no token of ours in Route, and no live call with this Call-ID, both tags and this source";

impl Proxy {
    pub(crate) fn inside_dialog(&mut self, cx: &mut Cx<'_>, mut context: Context) -> Result<(), Refusal> {
        let way = self.way(cx, &context.request, &context.routed, &context.flow);
        let Some(way) = way else { return self.stray(cx, &context) };
        session_timer::refuse(&context.request, self.config.session_timer)
            .and_then(|()| self.refuse_our_own_relay(&context))
            .map_err(Refusal::of_somebody_known)?;
        let id = context.request.call_id();
        context.former = self.age_of_former_call(cx, id, &way);
        if let Some(call) = self.calls.find(id).filter(|_| way.of_record) {
            let cseq = context.request.cseq().map_or(0, |cseq| cseq.number);
            call.spoke(way.sender, context.request.from_tag(), cseq);
            context.call = Some(call.id.clone());
        }
        context.role = if context.request.method() == Method::Bye { Role::Ends } else { Role::Other };
        (context.sender, context.session) = (way.sender, ours(way.session, context.word));
        (context.trusted, context.latch, context.shift) = (way.trusted, way.latch, way.shift);
        let to_phone = |hop| self.is_beside_trunk(cx, context.request.to().ok(), hop);
        let beside_trunk = way.hops.iter().any(to_phone);
        let known: Vec<Flow> = way.hops.into();
        let target = match way.name {
            None => Target::by(Hops::Ready(known)),
            Some(name) => Target { known, ..Target::by(Hops::Ask(name)) },
        };
        self.launch(cx, context, vec![Target { uri: way.uri, beside_trunk, ..target }]);
        Ok(())
    }

    /// A request of a dialog nobody knows: 481, as long as its source doesn't send too many of them.
    fn stray(&mut self, cx: &mut Cx<'_>, context: &Context) -> Result<(), Refusal> {
        let source = context.flow.remote.ip();
        let deed = Deed { source, real: context.flow.transport.is_reliable(), name: "", what: What::Asks };
        let known = self.trunk_of(context).is_some() || context.word.is_some();
        if known || cx.tables.judge(cx.now.at, &deed).outcome == Outcome::Pass {
            return Err(Refusal::new(481, NO_WAY));
        }
        self.transactions.forget_request(context.server);
        Ok(())
    }

    /// The age of a call we kept a record of in a former life: its token tells.
    fn age_of_former_call(&mut self, cx: &Cx<'_>, id: &str, way: &Way) -> Option<Duration> {
        let made = way.made.filter(|_| way.of_record && self.calls.find(id).is_none())?;
        let of_former_life = made <= self.birth.unix_at(self.birth.now);
        of_former_life.then(|| Duration::from_secs(cx.now.unix().saturating_sub(made)))
    }

    /// The ACK of a 2xx (RFC 3261 §13.2.2.4) goes end to end; one that belongs to nothing is dropped.
    pub(crate) fn ack(&mut self, cx: &mut Cx<'_>, flow: Flow, request: Message) {
        if request.max_forwards().map_or(true, |left| left == Some(0)) || request.via().is_err() {
            return;
        }
        let routed = Routed::read(&request, &self.config, cx.now.unix());
        let Some(mut way) = self.way(cx, &request, &routed, &flow) else {
            let about = request.call_id().into();
            return self
                .tell(Event::Warning { about, why: "ACK dropped: no token, and no live call matches" });
        };
        match way.name.take() {
            Some(name) => drop(self.ask(name, Waiting::Ack(flow, Box::new((request, routed, way))))),
            None => self.ack_goes_on(cx, flow, request, routed, way),
        }
    }

    /// The name that an ACK's request URI has is resolved, or not.
    pub(crate) fn ack_resolved(
        &mut self,
        cx: &mut Cx<'_>,
        flow: Flow,
        (request, routed, way): (Message, Routed, Way),
        found: Vec<Flow>,
    ) {
        let hops = found_and_known(found, way.hops.into(), false);
        self.ack_goes_on(cx, flow, request, routed, Way { hops, ..way });
    }

    fn ack_goes_on(&mut self, cx: &mut Cx<'_>, flow: Flow, request: Message, routed: Routed, way: Way) {
        if !self.ack_through_relay(cx, &flow, &request, &routed, &way)
            && let Some(to) =
                way.hops.iter().find(|hop| !hops::is_sips(routed.uri(&request)) || hop.transport.is_secure())
        {
            let held = HeldAck { shift: way.shift, flow, request, routed, uri: way.uri, to: *to };
            self.forward_ack(cx, &held, None);
        }
    }

    fn way(&self, cx: &Cx<'_>, request: &Message, routed: &Routed, flow: &Flow) -> Option<Way> {
        let Some(token) = &routed.token else { return self.way_of_call(request, flow) };
        let meant = routed.uri_read(request).ok().and_then(|uri| {
            let named = self.contact_meant(cx, request, &uri);
            named.or_else(|| gruu::contact_of(cx.now, &uri, &self.config, cx.tables))
        });
        let mut way = self.way_of_token(cx, request, routed, token);
        if way.of_record && self.calls.is_apart(request.call_id(), [request.from_tag(), request.to_tag()]) {
            way.session = None;
        }
        Some(Way { uri: meant.or(way.uri), ..way })
    }

    /// To the binding's present path; failing that, to where the token last saw the other party; failing that, where
    /// the request itself points. A server elsewhere that names another public address in its Contact is met there
    /// first (RFC 3261 §12.2.1.1, §16.6 step 6), and a connection that is gone is made good by where the request
    /// points.
    fn way_of_token(&self, cx: &Cx<'_>, request: &Message, routed: &Routed, token: &Token) -> Way {
        let to = || canonical(&request.to().ok()?.uri().ok()?, &self.config);
        let present =
            token.binding.and_then(|mark| present_path(cx.now, &to()?, mark, &self.config, cx.tables));
        let last =
            flow_of(token, &self.config).filter(|last| Some(last.remote) != present.map(|now| now.remote));
        let mut hops: VecDeque<Flow> = present.into_iter().chain(last).collect();
        let mut name = None;
        match (self.where_it_points(request, routed), last) {
            (Hops::Ready(there), None) if hops.is_empty() => hops.extend(there.first()),
            (Hops::Ask(question), None) if hops.is_empty() => name = Some(question),
            (Hops::Ask(question), Some(last)) if self.is_server(token, &last) => {
                name = (!self.is_bound(request, routed)).then_some(question);
            }
            (Hops::Ready(there), Some(last)) if !self.is_bound(request, routed) => {
                match there.first().filter(|there| is_elsewhere(there, &last)) {
                    Some(there) if self.is_server(token, &last) => hops.push_front(*there),
                    Some(there) if last.transport.is_reliable() => hops.push_back(*there),
                    _ => {}
                }
            }
            _ => {}
        }
        Way {
            sender: token.sender,
            hops,
            name,
            uri: None,
            session: token.session,
            trusted: token.trusted,
            latch: token.latch,
            of_record: token.of_record,
            made: Some(token.made),
            shift: self.shift_of(request, token.sender, u32::from(token.shift)),
        }
    }

    /// By how much a request's CSeq is raised: only the caller's are. What the call knows is younger than the token.
    fn shift_of(&self, request: &Message, sender: Side, of_token: u32) -> u32 {
        let of_call = || self.calls.shift(request.call_id(), [request.from_tag(), request.to_tag()]);
        match sender {
            Side::Caller => of_token.max(of_call()),
            Side::Callee => 0,
        }
    }

    fn where_it_points(&self, request: &Message, routed: &Routed) -> Hops {
        let next = routed.next(request).and_then(|route| route.uri().ok());
        let there = next.or(request.uri().ok()).map(|uri| of_uri(&uri, &self.config));
        there.unwrap_or(Hops::Ready(Vec::new()))
    }

    /// Whether the request is to go by another proxy still, or names us: then its URI says nothing of the way.
    fn is_bound(&self, request: &Message, routed: &Routed) -> bool {
        routed.next(request).is_some() || self.names_us(request)
    }

    fn names_us(&self, request: &Message) -> bool {
        request.uri().is_ok_and(|uri| self.config.is_ours(uri.host, uri.port))
    }

    /// Whether the receiver is a trunk, or whoever a route or DNS led to: its Contact is to be believed. A phone's is
    /// not, since a NAT may be in between.
    fn is_server(&self, token: &Token, last: &Flow) -> bool {
        let was_called = token.sender == Side::Caller && token.binding.is_none();
        let public = reach(last.remote.ip()) == Reach::Public;
        let sibling = self.config.is_sibling(last.remote.ip());
        public && !sibling && (was_called || self.config.trunk_from(last.remote.ip()).is_some())
    }

    fn way_of_call(&self, request: &Message, flow: &Flow) -> Option<Way> {
        let place = self.calls.place(request.call_id(), request.from_tag(), request.to_tag(), flow)?;
        let names_us = self.names_us(request);
        let contact = place.receiver.contact;
        Some(Way {
            sender: place.sender,
            hops: [place.receiver.flow].into(),
            name: None,
            uri: (names_us && !contact.is_empty()).then(|| contact.into()),
            session: place.session,
            trusted: false,
            latch: self.config.latch,
            of_record: true,
            made: None,
            shift: self.shift_of(request, place.sender, 0),
        })
    }
}

/// Whether a Contact that shows no NAT names another place than the one its owner was met at: another public host, or,
/// where the way was a connection, another port of the same host (phones listen elsewhere than they call from). The
/// family stays: the listener that was used is the one that is known to get there.
pub(crate) fn is_elsewhere(contact: &Flow, met_at: &Flow) -> bool {
    if contact.remote.is_ipv4() != met_at.remote.is_ipv4() {
        return false;
    }
    let other_host = contact.remote.ip() != met_at.remote.ip();
    match met_at.transport.is_reliable() {
        true if !other_host => contact.remote != met_at.remote,
        _ => other_host && reach(contact.remote.ip()) == Reach::Public,
    }
}
