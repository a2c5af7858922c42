//! Response processing (RFC 3261 §16.7): what goes back at once, what is kept, and which is best in the end.

use bytes::Bytes;
use proto::event::EndedBy;
use proto::node::Flow;
use proto::sip::transaction::ServerId;
use proto::sip::{Edit, Message, Name};
use proto::tables::Srtp;

use crate::alarms::Alarm;
use crate::dialogs::tokens::Token;
use crate::forwarding::contexts::{Answered, Context, Final, Stage};
use crate::forwarding::forward::makes_dialog;
use crate::hiding::privacy::without_person;
use crate::media::siblings::{self, Word};
use crate::proxy::{Cx, Proxy};
use crate::routing::hops::is_sips;
use crate::trunks::login::unshifted;

/// The flow that a request was to go by is gone (RFC 5626 §11.5).
const FLOW_FAILED: u16 = 430;

impl Proxy {
    /// A response of a branch.
    pub(crate) fn branch_response(
        &mut self,
        cx: &mut Cx<'_>,
        server: ServerId,
        index: usize,
        flow: Flow,
        response: Message,
    ) {
        self.with(cx, server, |proxy, cx, context| {
            let status = response.status().unwrap_or(0);
            proxy.note_life(cx, context, index);
            match status {
                0..=100 => context.branches[index].provisional = true,
                101..=199 => proxy.provisional(cx, context, index, response),
                200..=299 => proxy.success(cx, context, index, response),
                _ => proxy.failure(cx, context, index, flow, response),
            }
        });
    }

    /// No response came in time (408), or the request did not leave (503).
    pub(crate) fn branch_unanswered(&mut self, cx: &mut Cx<'_>, server: ServerId, index: usize, status: u16) {
        self.with(cx, server, |proxy, cx, context| {
            let at_redirect = context.branches[index].stage == Stage::AtRedirect;
            context.branches[index].client = None;
            if context.branches[index].stage == Stage::Done {
                return;
            }
            proxy.note_unanswered(cx, context, index, status);
            match () {
                () if at_redirect => proxy.redirect_silent(cx, context, index),
                () if proxy.fail_over(cx, context, index) => {}
                // A phone that can't be reached is away (§21.4.18); we are not short of anything.
                () if status == 503 && context.branches[index].target.at_edge => {
                    proxy.branch_ended(cx, context, index, Final::own(FLOW_FAILED));
                }
                () if status == 503 && context.branches[index].target.device.is_some() => {
                    proxy.branch_ended(cx, context, index, Final::own(480));
                }
                () => proxy.branch_ended(cx, context, index, Final::own(status)),
            }
        });
    }

    /// 101–199 go back at once, and put off timer C (§16.7 step 2).
    fn provisional(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize, response: Message) {
        if context.branches[index].stage != Stage::Sent {
            return;
        }
        (context.branches[index].provisional, context.branches[index].rang) = (true, true);
        if context.answered != Answered::No {
            return;
        }
        if context.branches[index].patience.is_some() {
            context.branches[index].patience = Some(cx.now.at + self.config.timer_c);
        }
        self.hear_callee(cx, context, index, &response);
        self.pass_back(cx, context, index, response);
    }

    /// 2xx go back at once, always; the first ends what else is under way (§16.7 steps 5 and 10).
    fn success(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize, response: Message) {
        if context.branches[index].stage == Stage::AtRedirect {
            return self.redirect_failed(cx, context, index, Final::own(500));
        }
        let first = context.answered == Answered::No;
        context.branches[index].stage = Stage::Done;
        context.branches[index].taken |= !self.is_apart(cx, context, index, &response);
        self.hear_callee(cx, context, index, &response);
        self.hear_session_timer(cx, context, &response);
        self.hear_target_refresh(context, &response);
        if context.is_invite {
            self.answer_call(cx, context, &response);
        } else if let Some(client) = context.branches[index].client.take() {
            self.clients.remove(&client);
        }
        if first {
            context.answered = Answered::Success;
            context.no_more_attempts();
            self.call_off(cx, context, Some(ELSEWHERE));
            self.linger(cx, context);
            self.transaction_ended(cx, context, 200, EndedBy::Callee);
        }
        match self.registered_at_pbx(cx, context, &response) {
            Some(own) => self.transactions.respond(cx.now.at, context.server, own),
            None if first || context.is_invite => self.pass_back(cx, context, index, response),
            None => {}
        }
    }

    /// The context of an answered INVITE stays for repetitions of the 2xx (RFC 6026 §8.7).
    fn linger(&mut self, cx: &mut Cx<'_>, context: &mut Context) {
        if let Some(timer) = context.timer.take() {
            self.alarms.cancel(timer);
        }
        if context.is_invite {
            let at = cx.now.at + 64 * self.config.timers.t1;
            context.timer = Some(self.alarms.set(at, Alarm::Linger(context.server)));
        }
    }

    /// 300 and above: tried elsewhere, or kept until all branches are done.
    fn failure(
        &mut self,
        cx: &mut Cx<'_>,
        context: &mut Context,
        index: usize,
        flow: Flow,
        response: Message,
    ) {
        if let Some(client) = context.branches[index].client.take() {
            self.clients.remove(&client);
        }
        match (response.status().unwrap_or(500), context.branches[index].stage) {
            (_, Stage::Done | Stage::New | Stage::Resolving(_) | Stage::AtRelay) => {}
            (_, Stage::AtRedirect) => self.redirect_answered(cx, context, index, &response),
            (300..=399, _) if self.recurse(cx, context, index, &response) => {}
            (401 | 407, _) if self.log_in(cx, context, index, &response) => {}
            (503 | FLOW_FAILED, _) if self.fail_over(cx, context, index) => {}
            // Which flow it was is nobody's business but ours (RFC 5626 §5.3): the device is away.
            (FLOW_FAILED, _) if context.branches[index].target.device.is_some() => {
                self.branch_ended(cx, context, index, Final::own(480));
            }
            (status, _) => {
                let status =
                    if status == 503 && !self.config.is_sibling(flow.remote.ip()) { 500 } else { status };
                self.branch_ended(
                    cx,
                    context,
                    index,
                    Final { response: Some((index, Box::new(response))), ..Final::own(status) },
                );
            }
        }
    }

    /// A response with the Vias and the From of the request it answers.
    pub(crate) fn to_whom_it_answers<'m>(
        &self,
        context: &Context,
        index: usize,
        response: &'m Message,
    ) -> Edit<'m> {
        let came_by = context.branches[index].flow;
        let hidden = self.hidden_from_callee(context, index, came_by.as_ref());
        let edit = self.vias_back(response, came_by.as_ref(), hidden, &context.request);
        match context.request.text(Name::From).filter(|_| hidden.user) {
            Some(from) => edit.set(Name::From, from),
            None => edit,
        }
    }

    /// A response without what its receiver is not to see.
    pub(crate) fn with_nothing_hidden(&self, context: &Context, response: Message) -> Message {
        let hidden = self.hidden_from_caller(context, &response);
        self.veiled_response(context, hidden, without_person(response, hidden))
    }

    /// Sends a response of a branch back, its media by way of the relay if there is one.
    fn pass_back(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize, response: Message) {
        if self.names_our_relay(cx, context, index, &response) {
            return self.answer_is_useless(cx, context, index, &response, 488);
        }
        if !self.answer_through_relay(cx, context, index, &response) {
            self.send_back(cx, context, index, &response, None);
        }
    }

    /// One response, on its way back (§16.7 steps 3 and 8–9): our Via taken off, our Record-Route turned towards the
    /// callee.
    pub(crate) fn send_back(
        &mut self,
        cx: &mut Cx<'_>,
        context: &Context,
        index: usize,
        response: &Message,
        sdp: Option<&Bytes>,
    ) {
        let edit = self.to_whom_it_answers(context, index, response);
        let mut edit = siblings::strip(edit, response);
        edit = unshifted(edit, &context.request, response);
        edit = self.turn_record_route(cx, edit, context, index, response);
        edit = self.contact_of_response(cx, edit, context, index, response);
        edit = self.identity_of_response(edit, context, index, response);
        edit = self.session_timer_of_response(edit, context, response);
        if let Some(sdp) = sdp {
            edit = edit.sdp(sdp);
        }
        let to_sibling = context.word.is_some();
        if to_sibling {
            let peer = context.branches[index].flow.map(|flow| flow.remote.ip());
            let (session, chained) = self.session_for_sibling(context, index);
            edit = Word { session, peer, srtp: Srtp::Pass, chained }.write(edit, &[]);
        }
        let message = self.answer_as_trunks_want(context, &context.branches[index], edit.finish());
        let message = self.with_nothing_hidden(context, message);
        let message = if to_sibling { siblings::sign(message, &self.config, cx.now.unix()) } else { message };
        self.transactions.respond(cx.now.at, context.server, message);
    }

    /// The caller's Record-Route value of ours (§16.7 step 8): where one value serves both sides, it gets a token of its
    /// own; and one that named a session this dialog turns out not to have names none.
    fn turn_record_route<'m>(
        &self,
        cx: &Cx<'_>,
        edit: Edit<'m>,
        context: &Context,
        index: usize,
        response: &'m Message,
    ) -> Edit<'m> {
        let Some(flow) = context.branches[index].flow else { return edit };
        let listener = self.listener_of(&context.flow);
        let two_sides = listener != self.listener_of(&flow);
        let apart = self.is_apart(cx, context, index, response);
        if !makes_dialog(&context.request) || two_sides && !apart {
            return edit;
        }
        let values: Vec<&str> = response.values(Name::RecordRoute).collect();
        let below = context.request.values(Name::RecordRoute).count();
        // As `record_route` wrote them, topmost first: the callee's, a session that did not fit in, the caller's.
        let there = self.token_there(context, index, flow);
        let session = there.is_two() || two_sides && self.token_back(cx, context, index).is_two();
        let ours = 1 + usize::from(session) + usize::from(two_sides);
        let Some(first) = values.len().checked_sub(below + ours) else { return edit };
        let callers = if two_sides { first + ours - 1 } else { first };
        if !values[callers].contains(self.faces.authority(listener)) {
            return edit;
        }
        let token = if apart { Token { session: None, ..there } } else { there };
        let (token, _) = token.seal(self.seal(cx, context));
        let secure = is_sips(context.routed.uri(&context.request));
        let value = context.privacy.onto(self.faces.record_route(listener, &token, secure));
        if values.len() == 1 {
            return edit.set(Name::RecordRoute, &value);
        }
        let kept = values.iter().enumerate().filter(|(at, _)| !(apart && session && *at == first + 1));
        let turned = kept.map(|(at, old)| if at == callers { value.as_str() } else { old });
        edit.remove(Name::RecordRoute).push_front(Name::RecordRoute, &turned.collect::<Vec<_>>().join(", "))
    }
}

/// Why other branches are cancelled when one has answered (RFC 3326).
const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";
