//! Media in a call (SYSTEMS §1 steps 3–6 and 9–11): whether it goes through a relay, and what each party is told.
//!
//! A side is compared once, when its INVITE arrives; what was decided stays for the dialog. Every offer and
//! answer of an anchored dialog, in requests, responses and ACKs, takes the same way: to the relay as that party's, and
//! on with the relay's addresses.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use proto::control::Session;
use proto::event::{Event, Side};
use proto::node::Flow;
use proto::sdp::Sdp;
use proto::sip::{Message, Method};

use crate::dialogs::within::Way;
use crate::forwarding::contexts::{Context, Final, Media, Role, Stage};
use crate::gate::validate::Refusal;
use crate::media::relays::{Errand, HeldAck, Met, Then};
use crate::media::siblings::Word;
use crate::proxy::{Cx, Proxy};
use crate::routing::preprocessing::Routed;

impl Proxy {
    /// The networks of caller and callee, as a request between them shows.
    pub(crate) fn networks(&self, sender: Side, from: &Flow, to: Option<&Flow>) -> [Met; 2] {
        let here = self.met_at(from);
        let there = to.map_or(here, |to| self.met_at(to));
        match sender {
            Side::Caller => [here, there],
            Side::Callee => [there, here],
        }
    }

    pub(crate) fn errand_of(&self, context: &Context, sdp: Bytes, index: usize, reset: bool) -> Errand {
        Errand {
            leg: context.sender,
            peer: self.peer_of(context.word, &context.flow),
            policy: Some((context.latch, context.trusted)),
            reset,
            chained: context.word.is_some_and(|word| word.chained),
            answers: false,
            sdp: Some(sdp),
            then: Then::Forward(context.server, index),
        }
    }

    /// Where the party behind a message was observed: what a sibling says, else where the message came from.
    pub(crate) fn peer_of(&self, word: Option<Word>, flow: &Flow) -> Option<IpAddr> {
        match word {
            Some(word) => word.peer,
            None if self.config.is_sibling(flow.remote.ip()) => None,
            None => Some(flow.remote.ip()),
        }
    }

    pub(crate) fn met_at(&self, flow: &Flow) -> Met {
        let six = flow.remote.ip().to_canonical().is_ipv6();
        Met { network: self.network_at(flow), six, srtp: self.srtp_at(flow) }
    }

    /// Where somebody is met of whom only the address is known.
    pub(crate) fn met_from(&self, ip: IpAddr) -> Met {
        let (network, six) = (self.config.network_of(ip), ip.to_canonical().is_ipv6());
        Met { network, six, srtp: self.config.srtp }
    }

    /// A relay's answer (or refusal) goes on with what waited for it.
    pub(crate) fn carry_on(
        &mut self,
        cx: &mut Cx<'_>,
        session: Option<Session>,
        then: Then,
        sdp: Result<Option<Bytes>, Final>,
    ) {
        match then {
            Then::Forward(server, index) => self.with(cx, server, |proxy, cx, context| {
                if context.branches.get(index).is_some_and(|branch| branch.stage == Stage::AtRelay) {
                    proxy.carry_forward(cx, context, index, sdp);
                }
            }),
            Then::Back(server, index, response) => self.with(cx, server, |proxy, cx, context| {
                proxy.carry_back(cx, context, index, session, &response, sdp);
            }),
            Then::Ack(held) => match sdp {
                Ok(sdp) => {
                    self.forward_ack(cx, &held, sdp.as_ref());
                }
                Err(_) => {
                    let about = held.request.call_id().into();
                    self.tell(Event::Warning {
                        about,
                        why: "ACK dropped: the relay did not take its answer",
                    });
                }
            },
        }
    }

    fn carry_forward(
        &mut self,
        cx: &mut Cx<'_>,
        context: &mut Context,
        index: usize,
        sdp: Result<Option<Bytes>, Final>,
    ) {
        context.branches[index].stage = Stage::New;
        match sdp {
            Ok(sdp) => {
                context.branches[index].sdp = sdp;
                self.advance(cx, context, index);
            }
            Err(end) => {
                self.branch_ended(cx, context, index, Final { status: front_door(end.status), ..end })
            }
        }
    }

    fn carry_back(
        &mut self,
        cx: &mut Cx<'_>,
        context: &mut Context,
        index: usize,
        session: Option<Session>,
        response: &Message,
        sdp: Result<Option<Bytes>, Final>,
    ) {
        context.at_relay = context.at_relay.saturating_sub(1);
        match sdp {
            Ok(sdp) => self.send_back(cx, context, index, response, sdp.as_ref()),
            Err(end) => return self.answer_is_useless(cx, context, index, response, front_door(end.status)),
        }
        let Some(session) = session else { return };
        if let Some((decided, told)) = self.take_decided(session) {
            self.tell(with_relay(decided, session, told));
        }
    }

    /// A response's SDP, by way of the relay. `false`: there is nothing to do there.
    pub(crate) fn answer_through_relay(
        &mut self,
        cx: &mut Cx<'_>,
        context: &mut Context,
        index: usize,
        response: &Message,
    ) -> bool {
        let Some((_, sdp)) = response.sdp().filter(|_| negotiates(&context.request)) else { return false };
        if self.is_apart(cx, context, index, response) {
            return false;
        }
        let Some((relay, session)) = context.branches[index].session().or(context.session) else {
            self.look_too_late(cx, context, index, sdp);
            return false;
        };
        let leg = context.sender.other();
        if let Some(told) = self.told_before(session, leg, sdp) {
            self.send_back(cx, context, index, response, Some(&told));
            return true;
        }
        if let Some(status) = self.relay_out_of_reach(relay, session) {
            self.answer_is_useless(cx, context, index, response, status);
            return true;
        }
        let errand = self.errand_back(cx, context, index, response, leg, sdp);
        context.at_relay += 1;
        let networks = self.networks(context.sender, &context.flow, context.branches[index].flow.as_ref());
        self.ask_relay(cx, (relay, session), networks, errand);
        true
    }

    fn errand_back(
        &self,
        cx: &Cx<'_>,
        context: &Context,
        index: usize,
        response: &Message,
        leg: Side,
        sdp: &[u8],
    ) -> Errand {
        let branch = &context.branches[index];
        let flow = branch.flow.unwrap_or(context.flow);
        let word = Word::read(response, &flow, &self.config, cx.now.unix());
        let begins = context.role == Role::Begins;
        Errand {
            leg,
            peer: self.peer_of(word, &flow),
            policy: begins
                .then_some((branch.target.latch.unwrap_or(self.config.latch), branch.target.trusted)),
            reset: !begins,
            chained: word.is_some_and(|word| word.chained),
            answers: context.request.sdp().is_some(),
            sdp: Some(Bytes::copy_from_slice(sdp)),
            then: Then::Back(context.server, index, Box::new(response.clone())),
        }
    }

    /// The SDP of an ACK (the answer to a late offer), by way of the relay. `false`: there is nothing to do there.
    pub(crate) fn ack_through_relay(
        &mut self,
        cx: &mut Cx<'_>,
        flow: &Flow,
        request: &Message,
        routed: &Routed,
        way: &Way,
    ) -> bool {
        let (Some((relay, session)), Some((_, sdp)), Some(to)) =
            (way.session, request.sdp(), way.hops.front())
        else {
            return false;
        };
        let (request_held, routed, uri) = (request.clone(), routed.clone(), way.uri.clone());
        let held = HeldAck { shift: way.shift, flow: *flow, request: request_held, routed, uri, to: *to };
        let word = Word::read(request, flow, &self.config, cx.now.unix());
        let errand = Errand {
            leg: way.sender,
            peer: self.peer_of(word, flow),
            policy: None,
            reset: false,
            chained: word.is_some_and(|word| word.chained),
            answers: true,
            sdp: Some(Bytes::copy_from_slice(sdp)),
            then: Then::Ack(Box::new(held)),
        };
        let networks = self.networks(way.sender, flow, Some(to));
        self.ask_relay(cx, (relay, session), networks, errand);
        true
    }

    /// Media towards a relay of ours in SDP of anybody but a sibling would go in a circle, or to somebody else's call.
    pub(crate) fn refuse_our_own_relay(&self, context: &Context) -> Result<(), Refusal> {
        match context.word.is_none() && self.is_towards_relay(&context.request) {
            true => Err(Refusal::new(488, "SDP names a relay of ours, and no sibling sent it")),
            false => Ok(()),
        }
    }

    /// The same in a response.
    pub(crate) fn names_our_relay(
        &self,
        cx: &Cx<'_>,
        context: &Context,
        index: usize,
        response: &Message,
    ) -> bool {
        self.is_towards_relay(response) && {
            let flow = context.branches[index].flow.unwrap_or(context.flow);
            Word::read(response, &flow, &self.config, cx.now.unix()).is_none()
        }
    }

    fn is_towards_relay(&self, message: &Message) -> bool {
        let ranges = || self.config.relays.iter().flat_map(|relay| &relay.media);
        if ranges().next().is_none() {
            return false;
        }
        let Some(sdp) = message.sdp().and_then(|(_, sdp)| Sdp::parse(sdp).ok()) else { return false };
        let named = sdp.media.iter().flat_map(|media| [media.address(), media.rtcp_address()]).flatten();
        let is_ours = |at: SocketAddr| {
            ranges().any(|range| range.ip == at.ip().to_canonical() && range.ports.contains(&at.port()))
        };
        named.into_iter().any(is_ours)
    }

    /// Ends the relay session a branch made, if it made one.
    pub(crate) fn free_branch(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize) {
        let branch = &mut context.branches[index];
        if let (Media::Anchored(_, session), None) = (&branch.media, context.session) {
            let session = *session;
            branch.media = Media::Direct;
            self.free_held(cx, session);
        }
    }
}

/// Whether a request and its responses carry offers and answers (RFC 3264, RFC 3311, RFC 3262). An SDP in others, such
/// as the capabilities in an answer to OPTIONS or the last words of a BYE, says nothing about the session.
pub(crate) fn negotiates(request: &Message) -> bool {
    matches!(request.method(), Method::Invite | Method::Ack | Method::Prack | Method::Update)
}

/// What the sender hears when the relay is the reason: 488 for what can't be carried, 481 when the session ended
/// meanwhile, else 503.
fn front_door(status: u16) -> u16 {
    if matches!(status, 481 | 488) { status } else { 503 }
}

/// A decision with its relay session and the relay's addresses: what the caller was told, and what the callee was.
fn with_relay(decided: Event, session: Session, told: [Bytes; 2]) -> Event {
    let first = |sdp: &Bytes| Sdp::parse(sdp).ok()?.media.iter().find_map(|media| media.address());
    match (decided, first(&told[0]).zip(first(&told[1]))) {
        (Event::MediaDecided(mut decided), Some((to_caller, to_callee))) => {
            decided.session = Some(session.to_string().into());
            decided.relay = Some([to_caller, to_callee]);
            Event::MediaDecided(decided)
        }
        (decided, _) => decided,
    }
}
