//! CANCEL (RFC 3261 §16.10), and the calling off of branches nobody waits for any more.

use proto::event::EndedBy;
use proto::node::Flow;
use proto::sip::transaction::ServerId;
use proto::sip::{Message, Name, reply};

use crate::alarms::Alarm;
use crate::forwarding::contexts::{Answered, Context, Final, Stage};
use crate::gate::validate::Refusal;
use crate::proxy::{Cx, Proxy};

impl Proxy {
    /// A CANCEL: answered at once; its INVITE is answered when its branches are.
    pub(crate) fn cancel(
        &mut self,
        cx: &mut Cx<'_>,
        id: ServerId,
        invite: Option<ServerId>,
        flow: Flow,
        request: &Message,
    ) {
        let Some(invite) = invite else {
            let nothing = Refusal::new(481, "CANCEL of what is not under way here");
            return self.refuse(cx, id, &flow, request, nothing);
        };
        let response = reply(request, 200, &self.dice.word(10)).finish();
        self.transactions.respond(cx.now.at, id, response);
        let reason = request.text(Name::Reason).map(str::to_owned);
        self.with(cx, invite, |proxy, cx, context| {
            if context.answered == Answered::No {
                context.cancelled = true;
                context.later.clear();
                proxy.call_off(cx, context, reason.as_deref());
                proxy.when_idle(cx, context);
            }
        });
    }

    /// Ends every branch that is still under way: by CANCEL where the request was forwarded, at once elsewhere.
    pub(crate) fn call_off(&mut self, cx: &mut Cx<'_>, context: &mut Context, reason: Option<&str>) {
        context.later.clear();
        for index in 0..context.branches.len() {
            let branch = &mut context.branches[index];
            match (branch.stage, branch.client) {
                (Stage::Sent, Some(client)) if context.is_invite => {
                    self.transactions.cancel(cx.now.at, client, reason);
                }
                (Stage::Sent | Stage::Done, _) => {}
                (_, client) => {
                    branch.stage = Stage::Done;
                    branch.client = None;
                    if let Some(client) = client {
                        self.clients.remove(&client);
                        self.transactions.cancel(cx.now.at, client, reason);
                    }
                    self.free_branch(cx, context, index);
                }
            }
        }
    }

    /// Timer C (§16.8): callees have rung for long enough, each by its own clock. What never answered at all is done with;
    /// what did is cancelled, and ends by its own answer.
    pub(crate) fn timer_c(&mut self, cx: &mut Cx<'_>, server: ServerId) {
        self.with(cx, server, |proxy, cx, context| {
            context.timer = None;
            for index in 0..context.branches.len() {
                let branch = &mut context.branches[index];
                if branch.stage != Stage::Sent || branch.patience.is_none_or(|until| until > cx.now.at) {
                    continue;
                }
                match branch.client.filter(|_| branch.provisional) {
                    Some(client) => {
                        branch.patience = None;
                        proxy.transactions.cancel(cx.now.at, client, None);
                    }
                    None => proxy.branch_ended(cx, context, index, Final::own(408)),
                }
            }
            proxy.watch(cx, context);
        });
    }

    /// Wakes us when timer C of the first branch runs out, unless that is arranged already.
    pub(crate) fn watch(&mut self, cx: &Cx<'_>, context: &mut Context) {
        let waits = context.is_invite && context.answered == Answered::No && context.timer.is_none();
        let ringing = context.branches.iter().filter(|branch| branch.stage == Stage::Sent);
        if let Some(at) = ringing.filter_map(|branch| branch.patience).min().filter(|_| waits) {
            context.timer = Some(self.alarms.set(at.max(cx.now.at), Alarm::TimerC(context.server)));
        }
    }

    /// Nobody acknowledged our final response: the caller is gone, and its call with it.
    pub(crate) fn not_acknowledged(&mut self, cx: &mut Cx<'_>, server: ServerId) {
        let call = self.contexts.get(&server).and_then(|context| context.call.clone());
        let failed = self.contexts.get(&server).is_some_and(|context| context.answered == Answered::Failure);
        if let Some(call) = call.filter(|_| failed) {
            self.end_call(cx, &call, 408, EndedBy::Timeout);
        }
    }
}
