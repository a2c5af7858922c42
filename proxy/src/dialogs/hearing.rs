//! What a call learns from the answers to its requests: dialogs that begin (RFC 3261 §12.1), targets that change (§12.2),
//! sessions that expire (RFC 4028), and ends.

use std::time::Duration;

use proto::event::{CallEnded, EndedBy, Event, Side};
use proto::sip::{Message, Method, Name, NameAddr};

use crate::alarms::Alarm;
use crate::config::Config;
use crate::dialogs::calls::{Dialog, End, Peer};
use crate::dialogs::session_timer;
use crate::forwarding::contexts::{Context, Role};
use crate::forwarding::requests::contact_of;
use crate::proxy::{Cx, Proxy};
use crate::routing::targets::name_of;

impl Proxy {
    /// A response with a tag makes a dialog, or repeats it (RFC 3261 §12.1).
    pub(crate) fn hear_callee(&mut self, cx: &Cx<'_>, context: &Context, index: usize, response: &Message) {
        let to_tag = response.to_tag();
        let Some(flow) = context.branches[index].flow else { return };
        if context.role != Role::Begins || to_tag.is_empty() {
            return;
        }
        let session = self.session_with(cx, context, index, response);
        if let Some(call) = context.call.as_ref().and_then(|call| self.calls.find(call)) {
            call.anchored |= context.branches[index].session().is_some();
            let route = routes_behind(context, response, &self.config).map(Box::from).collect();
            let callee = Peer { flow, contact: contact_of(response), route, cseq: 0 };
            call.heard(Dialog { to_tag: to_tag.into(), callee, session });
        }
    }

    /// RFC 3261 §12.2: re-INVITE, UPDATE and their 2xx may name another Contact.
    pub(crate) fn hear_target_refresh(&mut self, context: &Context, response: &Message) {
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
    pub(crate) fn hear_session_timer(&mut self, cx: &mut Cx<'_>, context: &Context, response: &Message) {
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

    pub(crate) fn answer_call(&mut self, cx: &mut Cx<'_>, context: &Context, response: &Message) {
        let Some(id) = context.call.clone().filter(|_| context.role == Role::Begins) else { return };
        let Some(call) = self.calls.find(&id) else { return };
        let setup = cx.now.at.saturating_duration_since(call.begun);
        if call.answered_by(cx.now.at, response.to_tag()) {
            self.tell(Event::CallAnswered { call: id, setup });
        }
    }

    /// What the end of a transaction means to its call.
    pub(crate) fn transaction_ended(&mut self, cx: &mut Cx<'_>, context: &Context, status: u16, by: EndedBy) {
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

/// The Record-Routes that proxies between us and the callee have added, the nearest first. Of ours there are two or three
/// where the two sides meet different listeners.
pub(crate) fn routes_behind<'m>(
    context: &Context,
    response: &'m Message,
    config: &Config,
) -> impl Iterator<Item = &'m str> {
    let mut nearest: Vec<&str> = response.values(Name::RecordRoute).collect();
    nearest.truncate(nearest.len().saturating_sub(context.request.values(Name::RecordRoute).count()));
    nearest.reverse();
    let is_ours = |value: &&str| {
        let uri = NameAddr::parse(value).and_then(|route| route.uri());
        uri.is_ok_and(|uri| config.is_ours(uri.host, uri.port))
    };
    let ours = nearest.iter().copied().take_while(is_ours).count();
    nearest.into_iter().skip(ours)
}
