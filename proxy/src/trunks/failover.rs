//! Within one call setup: the next server of a route, when one is down, silent, refusing or full.

use std::collections::VecDeque;

use proto::event::{EndedBy, Event};
use proto::sip::transaction::ClientId;

use super::Chosen;
use super::trunk::TRY_TIMEOUT;
use crate::alarms::Alarm;
use crate::forwarding::contexts::{Answered, Context, Final, Role, Stage, Target};
use crate::gate::validate::Refusal;
use crate::proxy::{Cx, Owner, Proxy};
use crate::routing::target::Hops;

impl Proxy {
    /// A request leaves by a trunk: its place on it is taken. `false`: the trunk is full.
    pub(crate) fn board(&mut self, cx: &Cx<'_>, context: &Context, index: usize) -> bool {
        let Some(chosen) = &context.branches[index].target.chosen else { return true };
        if context.role != Role::Begins || (chosen.trunk.caps == Default::default()) {
            return true;
        }
        let (trunk, call) = (chosen.trunk.clone(), context.call.clone());
        let Some(call) = call.and_then(|call| self.calls.find(&call)) else { return true };
        if call.trunks.contains(&trunk.name) {
            return true;
        }
        if !self.trunks.loads.begin(cx.now.at, &trunk, true) {
            let why = "the trunk carries as many calls as it may: the next one is tried";
            self.tell(Event::Warning { about: trunk.name.clone(), why });
            return false;
        }
        call.trunks.push(trunk.name.clone());
        true
    }

    /// A call that comes in by a trunk takes a place on it.
    pub(crate) fn come_by_trunk(&mut self, cx: &mut Cx<'_>, context: &Context) -> Result<(), Refusal> {
        let Some(trunk) = self.trunk_of(context).cloned() else { return Ok(()) };
        if context.role != Role::Begins || trunk.caps.calls.is_none() {
            return Ok(());
        }
        let Some(id) = &context.call else { return Ok(()) };
        if !self.trunks.loads.begin(cx.now.at, &trunk, false) {
            self.end_call(cx, id, 503, EndedBy::Us);
            return Err(Refusal::later("the trunk it came by carries as many calls as it may", 5));
        }
        self.calls.find(id).into_iter().for_each(|call| call.trunks.push(trunk.name.clone()));
        Ok(())
    }

    /// The request was sent to a server of a trunk, or by a flow of a device: if there is another to go to, silence has its
    /// limit.
    pub(crate) fn limit_silence(&mut self, cx: &Cx<'_>, context: &Context, index: usize, client: ClientId) {
        let branch = &context.branches[index];
        let patience = match &branch.target.chosen {
            Some(_) if branch.hops.is_empty() && branch.target.others.is_empty() => return,
            Some(chosen) => chosen.trunk.try_timeout,
            // The edge that this flow ends at may be dead (RFC 5626 §7).
            None if branch.target.flows.is_empty() => return,
            None => TRY_TIMEOUT,
        };
        self.alarms.set(cx.now.at + patience, Alarm::Untold(client));
    }

    /// A server has said nothing for as long as it may. The branch is given up; should it answer later, it is
    /// cancelled, or its 2xx goes back like that of any fork.
    pub(crate) fn untold(&mut self, cx: &mut Cx<'_>, client: ClientId) {
        let Some(Owner::Branch(server, index)) = self.clients.get(&client).cloned() else { return };
        self.with(cx, server, |proxy, cx, context| {
            let branch = &mut context.branches[index];
            // A 100 is one hop's word: behind an edge it says that the edge is there, and nothing of the device.
            let told = if branch.target.path.is_empty() { branch.provisional } else { branch.rang };
            if branch.stage != Stage::Sent || branch.client != Some(client) || told {
                return;
            }
            let left = std::mem::take(&mut branch.hops);
            if let Some(next) = branch.target.next_flow().filter(|_| left.is_empty()) {
                branch.target.others.push_front(next);
            }
            if !left.is_empty() {
                let rest = Target {
                    others: VecDeque::new(),
                    hops: Hops::Ready(left.into()),
                    ..branch.target.clone()
                };
                branch.target.others.push_front(rest);
            }
            proxy.transactions.cancel(cx.now.at, client, None);
            proxy.note_failure(cx, context, index, "no answer in time to a call");
            proxy.branch_ended(cx, context, index, Final::own(408));
        });
    }

    /// A branch ended with trouble of its server, not of the call: the next server takes it. `false`: there is none,
    /// or it is too late.
    pub(crate) fn try_another(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize) -> bool {
        let branch = &mut context.branches[index];
        if branch.rang || context.cancelled || context.answered != Answered::No {
            return false;
        }
        let Some(next) = branch.target.others.pop_front() else { return false };
        let others = std::mem::take(&mut branch.target.others);
        let left = branch.target.chosen.clone();
        let next = Target { others, ..next };
        self.leave(context, left.as_ref(), next.chosen.as_ref());
        self.try_targets(cx, context, vec![next]);
        true
    }

    /// The place on a trunk is given back when the call goes on by another.
    fn leave(&mut self, context: &Context, left: Option<&Chosen>, next: Option<&Chosen>) {
        let Some(left) = left.map(|chosen| &chosen.trunk.name) else { return };
        if next.is_some_and(|chosen| chosen.trunk.name == *left) {
            return;
        }
        if let Some(call) = context.call.as_ref().and_then(|call| self.calls.find(call))
            && let Some(place) = call.trunks.iter().position(|name| name == left)
        {
            call.trunks.swap_remove(place);
            self.trunks.loads.end(left);
        }
    }

    /// No answer came from a server at all, or nobody is there.
    pub(crate) fn note_unanswered(&mut self, cx: &Cx<'_>, context: &Context, index: usize, status: u16) {
        let why = match status {
            408 => "no answer to a call",
            _ => "a call could not be delivered: refused or unreachable",
        };
        self.note_failure(cx, context, index, why);
    }

    fn note_failure(&mut self, cx: &Cx<'_>, context: &Context, index: usize, why: &str) {
        if let Some(chosen) = context.branches[index].target.chosen.as_ref().filter(|c| c.trunk.is_watched())
        {
            self.trunks.health.failed(cx.now, &chosen.trunk, chosen.server, why);
        }
    }

    /// A server has answered a call for the first time.
    pub(crate) fn note_life(&mut self, cx: &Cx<'_>, context: &Context, index: usize) {
        let branch = &context.branches[index];
        if let Some(chosen) =
            branch.target.chosen.as_ref().filter(|c| !branch.provisional && c.trunk.is_watched())
        {
            self.trunks.health.heard(cx.now, &chosen.trunk, chosen.server);
        }
    }
}

/// Whether a final response speaks of the server, so that another may do better: not of the callee, nor of the request.
/// The 480 of our own says that no name or listener leads there.
pub(crate) fn is_trouble(end: &Final) -> bool {
    matches!(end.status, 408 | 500 | 502..=504) || (end.status == 480 && end.response.is_none())
}
