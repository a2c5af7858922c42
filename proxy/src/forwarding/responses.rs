//! Response processing (RFC 3261 §16.7): what goes back at once, what is kept, and which is best in the end.

use std::time::Duration;

use bytes::Bytes;
use proto::event::{CallEnded, EndedBy, Event, Side};
use proto::node::Flow;
use proto::sip::transaction::ServerId;
use proto::sip::{Edit, Message, Method, Name, NameAddr, reply};
use proto::tables::Srtp;

use crate::alarms::Alarm;
use crate::config::Config;
use crate::dialogs::calls::{Dialog, End, Peer};
use crate::dialogs::session_timer;
use crate::dialogs::tokens::Token;
use crate::forwarding::contexts::{Answered, Context, Final, Role, Stage};
use crate::forwarding::requests::contact_of;
use crate::hiding::privacy::without_person;
use crate::media::siblings::{self, Word};
use crate::proxy::{Cx, Proxy};
use crate::routing::hops::is_sips;
use crate::routing::targets::name_of;
use crate::trunks::failover::is_trouble;
use crate::trunks::login::unshifted;

/// The two headers a challenge may stand in.
const CHALLENGES: [Name; 2] = [Name::WwwAuthenticate, Name::ProxyAuthenticate];

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

    /// A branch is done with, without success.
    pub(crate) fn branch_ended(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize, end: Final) {
        context.branches[index].stage = Stage::Done;
        self.free_branch(cx, context, index);
        if end.status >= 600 {
            context.later.clear();
            self.call_off(cx, context, None);
        }
        if let Some((_, response)) = &end.response
            && matches!(end.status, 401 | 407)
        {
            remember_challenges(context, response);
        }
        let trouble = is_trouble(&end);
        if context.best.as_ref().is_none_or(|best| rank(end.status) < rank(best.status)) {
            context.best = Some(end);
        }
        if !(trouble && self.try_another(cx, context, index)) {
            self.when_idle(cx, context);
        }
    }

    /// When no branch is left: the targets of lower preference, or the best answer.
    pub(crate) fn when_idle(&mut self, cx: &mut Cx<'_>, context: &mut Context) {
        if !context.is_idle() || context.answered != Answered::No {
            return;
        }
        let Some(q) = context.later.front().map(|target| target.q) else {
            return self.answer_best(cx, context);
        };
        let next = context.later.iter().take_while(|target| target.q == q).count();
        let next = context.later.drain(..next).collect();
        self.try_targets(cx, context, next);
    }

    /// The best response goes back (§16.7 steps 6–9).
    fn answer_best(&mut self, cx: &mut Cx<'_>, context: &mut Context) {
        let best = context.best.take().unwrap_or(Final::own(408));
        let best = if context.cancelled && best.status < 600 { Final { status: 487, ..best } } else { best };
        let by = match &best {
            _ if context.cancelled => EndedBy::Caller,
            Final { response: Some(_), .. } => EndedBy::Callee,
            Final { status: 408, .. } => EndedBy::Timeout,
            _ => EndedBy::Us,
        };
        context.answered = Answered::Failure;
        if best.status == 408 && !context.is_invite {
            // RFC 4320 §4.2: it would come too late to be of use.
            self.transactions.ignore(cx.now.at, context.server);
        } else {
            let response = self.final_response(context, &best);
            self.transactions.respond(cx.now.at, context.server, response);
        }
        self.transaction_ended(cx, context, best.status, by);
    }

    pub(crate) fn final_response(&mut self, context: &Context, best: &Final) -> Message {
        match &best.response {
            Some((index, response)) if response.status() == Some(best.status) => {
                let came_by = context.branches[*index].flow;
                let edit = self.to_whom_it_answers(context, *index, response);
                let edit = unshifted(siblings::strip(edit, response), &context.request, response);
                let edit = self.identity_of_response(edit, context, *index, response);
                let answer = with_challenges(edit, response, context).finish();
                self.with_nothing_hidden(context, self.answer_as_trunks_want(context, came_by, answer))
            }
            _ => {
                let mut own = reply(&context.request, best.status, &self.dice.word(10));
                if let Some(words) = &best.words {
                    // RFC 3261 §20.43: 399 is for people to read.
                    own = own.header(Name::Warning, format_args!("399 {} \"{words}\"", self.config.realm));
                }
                match best.retry_after {
                    Some(seconds) => own.header(Name::RetryAfter, seconds).finish(),
                    None => own.finish(),
                }
            }
        }
    }

    /// A response with the Vias and the From of the request it answers.
    fn to_whom_it_answers<'m>(&self, context: &Context, index: usize, response: &'m Message) -> Edit<'m> {
        let came_by = context.branches[index].flow;
        let hidden = self.hidden_from_callee(context, index, came_by.as_ref());
        let edit = self.vias_back(response, came_by.as_ref(), hidden, &context.request);
        match context.request.text(Name::From).filter(|_| hidden.user) {
            Some(from) => edit.set(Name::From, from),
            None => edit,
        }
    }

    /// A response without what its receiver is not to see.
    fn with_nothing_hidden(&self, context: &Context, response: Message) -> Message {
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
        let came_by = context.branches[index].flow;
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
            let session = context.branches[index].session().map(|(_, session)| session);
            edit = Word { session, peer, srtp: Srtp::Pass }.write(edit, &[]);
        }
        let message = self.answer_as_trunks_want(context, came_by, edit.finish());
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
        if !crate::forwarding::forward::makes_dialog(&context.request) || two_sides && !apart {
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

    /// A response with a tag makes a dialog, or repeats it (RFC 3261 §12.1).
    fn hear_callee(&mut self, cx: &Cx<'_>, context: &Context, index: usize, response: &Message) {
        let to_tag = response.to_tag();
        let Some(flow) = context.branches[index].flow else { return };
        if context.role != Role::Begins || to_tag.is_empty() {
            return;
        }
        let session = self.session_with(cx, context, index, response);
        if let Some(call) = context.call.as_ref().and_then(|call| self.calls.find(call)) {
            call.anchored |= context.branches[index].session().is_some();
            let route = routes_behind(context, response, &self.config);
            let callee = Peer { flow, contact: contact_of(response), route, cseq: 0 };
            call.heard(Dialog { to_tag: to_tag.into(), callee, session });
        }
    }

    /// RFC 3261 §12.2: re-INVITE, UPDATE and their 2xx may name another Contact.
    fn hear_target_refresh(&mut self, context: &Context, response: &Message) {
        let refreshes = matches!(context.request.method(), Method::Invite | Method::Update);
        let Some(id) = context.call.as_ref().filter(|_| refreshes && !context.request.to_tag().is_empty())
        else {
            return;
        };
        if let Some(call) = self.calls.find(id) {
            call.is_met_at(response.from_tag(), contact_of(&context.request));
            call.is_met_at(response.to_tag(), contact_of(response));
        }
    }

    /// RFC 4028 §8.2: each 2xx of INVITE and UPDATE says when the session expires unless it is refreshed, or that it
    /// does not; a session that has expired is forgotten.
    fn hear_session_timer(&mut self, cx: &mut Cx<'_>, context: &Context, response: &Message) {
        let negotiates = matches!(context.request.method(), Method::Invite | Method::Update);
        let belongs = context.role == Role::Begins || !context.request.to_tag().is_empty();
        let Some(id) = context.call.clone().filter(|_| negotiates && belongs) else { return };
        let agreed = self.session_timer_to_add(context, response).or(session_timer::expires(response));
        let Some(call) = self.calls.find(&id) else { return };
        let at = match agreed.map(|expires| Duration::from_secs(expires.into()).max(session_timer::LEAST)) {
            Some(expires) => cx.now.at + expires,
            None => cx.now.at.max(call.begun + self.config.limits.call_life),
        };
        if let Some(before) = call.life.replace(self.alarms.set(at, Alarm::CallLife(id))) {
            self.alarms.cancel(before);
        }
    }

    fn answer_call(&mut self, cx: &mut Cx<'_>, context: &Context, response: &Message) {
        let Some(id) = context.call.clone().filter(|_| context.role == Role::Begins) else { return };
        let Some(call) = self.calls.find(&id) else { return };
        let setup = cx.now.at.saturating_duration_since(call.begun);
        if call.answered_by(cx.now.at, response.to_tag()) {
            self.tell(Event::CallAnswered { call: id, setup });
        }
    }

    /// What the end of a transaction means to its call.
    fn transaction_ended(&mut self, cx: &mut Cx<'_>, context: &Context, status: u16, by: EndedBy) {
        match (context.role, context.call.clone()) {
            (Role::Begins, Some(call)) if status >= 300 => self.end_call(cx, &call, status, by),
            (Role::Ends, _) if !matches!(status, 401 | 407) => self.end_dialog(cx, context),
            (Role::Other, _) if status == 481 && speaks_of_media(&context.request) => {
                self.end_dialog(cx, context)
            }
            _ => {}
        }
    }

    /// A dialog is over: by BYE, or because the far end knows nothing of it (RFC 3261 §12.2.1.2), as when a re-INVITE
    /// comes after the BYE and its relay session was taken up again for nothing.
    fn end_dialog(&mut self, cx: &mut Cx<'_>, context: &Context) {
        if let Some((relay, session)) = context.session {
            self.free(cx, relay, session);
        }
        let by = if context.sender == Side::Caller { EndedBy::Caller } else { EndedBy::Callee };
        let Some(call) = &context.call else { return self.former_call_ended(context, by) };
        let tags = [context.request.from_tag(), context.request.to_tag()];
        let ended = self.calls.end_dialog(call, tags, End { at: cx.now.at, status: 200, by });
        if let Some((call, event)) = ended {
            self.bury(cx, call, event);
        }
    }

    /// The BYE of a call that a former life of ours recorded: what token and request tell of it. The duration is
    /// counted from when the token was made, some seconds before the answer or at it.
    fn former_call_ended(&mut self, context: &Context, by: EndedBy) {
        let Some(duration) = context.former else { return };
        let (from, to) = (context.request.from().ok(), context.request.to().ok());
        let (caller, callee) = if context.sender == Side::Caller { (from, to) } else { (to, from) };
        let ended = CallEnded {
            call: context.request.call_id().into(),
            from: name_of(caller),
            to: name_of(callee),
            status: 200,
            duration,
            setup: Duration::ZERO,
            by,
            anchored: context.session.is_some(),
        };
        if self.calls.end_former(&ended.call) {
            self.tell(Event::CallEnded(Box::new(ended)));
        }
    }
}

/// Requests whose 481 ends the whole dialog they are in, not just a subscription or a provisional response in it (RFC
/// 5057 §5.1).
fn speaks_of_media(request: &Message) -> bool {
    !request.to_tag().is_empty() && matches!(request.method(), Method::Invite | Method::Update)
}

/// Why other branches are cancelled when one has answered (RFC 3326).
const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// Which final response is better (§16.7 step 6): any 6xx, then the lowest class; within 4xx those that tell the
/// caller what to do next; 408 last.
fn rank(status: u16) -> u8 {
    match status {
        600.. => 0,
        300..=399 => 1,
        401 | 407 | 415 | 420 | 484 => 2,
        408 => 4,
        400..=499 => 3,
        503 => 6,
        _ => 5,
    }
}

/// The Record-Routes that proxies between us and the callee have added, the nearest first. Of ours there are two or three
/// where the two sides meet different listeners.
pub(crate) fn routes_behind(context: &Context, response: &Message, config: &Config) -> Box<[Box<str>]> {
    let values: Vec<&str> = response.values(Name::RecordRoute).collect();
    let above = values.len().saturating_sub(context.request.values(Name::RecordRoute).count());
    let is_ours = |value: &&&str| {
        let uri = NameAddr::parse(value).and_then(|route| route.uri());
        uri.is_ok_and(|uri| config.is_ours(uri.host, uri.port))
    };
    let ours = values[..above].iter().rev().take_while(is_ours).count();
    values[..above - ours].iter().rev().map(|value| Box::from(*value)).collect()
}

fn remember_challenges(context: &mut Context, response: &Message) {
    for header in response.headers().filter(|header| CHALLENGES.contains(&header.name)) {
        if let Ok(value) = std::str::from_utf8(header.value) {
            context.challenges.push((header.name, value.to_owned()));
        }
    }
}

/// Of a challenge every branch's challenges go back (§16.7 step 7).
fn with_challenges<'m>(edit: Edit<'m>, response: &Message, context: &Context) -> Edit<'m> {
    if !matches!(response.status(), Some(401 | 407)) || context.branches.len() < 2 {
        return edit;
    }
    let edit = CHALLENGES.into_iter().fold(edit, Edit::remove);
    context.challenges.iter().fold(edit, |edit, (name, value)| edit.append(*name, value))
}
