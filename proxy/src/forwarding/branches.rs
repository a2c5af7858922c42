//! A branch on its way out: its name is resolved, its media decided, its server looked up, and then it is forwarded.
//! Each of these may take time; [`Proxy::advance`] goes on from wherever a branch stands.

use std::collections::VecDeque;

use proto::node::{Flow, FlowId, Output, Question, Ticket};
use proto::sip::Message;
use proto::sip::transaction::ServerId;

use crate::dialogs::within::{Way, is_elsewhere};
use crate::forwarding::breadth;
use crate::forwarding::contexts::{Branch, Context, Final, Media, Stage, Target};
use crate::part::RequestId;
use crate::proxy::{Cx, Proxy};
use crate::routing::preprocessing::Routed;
use crate::routing::target::Hops;

/// What waits for a name to be resolved.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A branch.
    Branch(ServerId, usize),
    /// A probe of a trunk's server.
    Probe(RequestId),
    /// A registration at a trunk.
    Upstream(RequestId),
    /// An ACK, the way it came, and the way it goes.
    Ack(Flow, Box<(Message, Routed, Way)>),
}

/// What a step of a branch came to.
pub(crate) enum Step {
    /// Done; go on with the next.
    Go,
    /// Something was asked; the answer goes on.
    Wait,
    /// The branch ends so.
    Fail(Final),
}

impl Proxy {
    /// Begins a branch for each of these.
    pub(crate) fn try_targets(&mut self, cx: &mut Cx<'_>, context: &mut Context, mut targets: Vec<Target>) {
        let first = context.branches.len();
        let breadth = breadth::share(context, &mut targets);
        // Most requests have one target, and their contexts linger: room for four, as `Vec` takes it, would be the
        // largest part of one.
        context.branches.reserve_exact(targets.len());
        context.branches.extend(targets.into_iter().map(|target| Branch { breadth, ..Branch::new(target) }));
        for index in first..context.branches.len() {
            self.advance(cx, context, index);
        }
    }

    /// Takes a branch as far as it goes without waiting.
    pub(crate) fn advance(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize) {
        let step = self.next_step(cx, context, index);
        match step {
            Step::Go => self.forward(cx, context, index),
            Step::Wait => {}
            Step::Fail(end) => self.branch_ended(cx, context, index, end),
        }
    }

    /// The order of SYSTEMS §1: the caller's side is compared and a relay asked before the redirect server is.
    fn next_step(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize) -> Step {
        if context.branches[index].target.lookup && context.branches[index].hops.is_empty() {
            return match self.settle_media(cx, context, index) {
                Step::Go => self.look_up(cx, context, index),
                other => other,
            };
        }
        match self.find_hops(context, index) {
            Step::Go => self.settle_media(cx, context, index),
            other => other,
        }
    }

    fn find_hops(&mut self, context: &mut Context, index: usize) -> Step {
        let branch = &mut context.branches[index];
        if !branch.hops.is_empty() {
            return Step::Go;
        }
        match std::mem::replace(&mut branch.target.hops, Hops::Ready(Vec::new())) {
            Hops::Ready(flows) => branch.hops = flows.into(),
            Hops::Ask(question) => {
                let open = matches!(question, Question::Resolve { transport: None, .. });
                branch.found_by_name = open && branch.target.known.is_empty();
                let ticket = self.ask(question, Waiting::Branch(context.server, index));
                context.branches[index].stage = Stage::Resolving(ticket);
                return Step::Wait;
            }
        }
        if branch.hops.is_empty() { Step::Fail(Final::own(UNROUTABLE)) } else { Step::Go }
    }

    /// Asks what takes time to find out.
    pub(crate) fn ask(&mut self, question: Question, waiting: Waiting) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let named: &str = match &question {
            Question::Resolve { host, .. } => host,
            Question::Enum { domain, .. } => domain,
            Question::Http { url, .. } => url,
            Question::Work(_) => "",
        };
        self.questions.insert(ticket, (FlowId::proving(named), waiting));
        self.put(Output::Ask { ticket, question });
        ticket
    }

    /// The resolver has answered a branch.
    pub(crate) fn resolved(&mut self, cx: &mut Cx<'_>, server: ServerId, index: usize, found: Vec<Flow>) {
        self.with(cx, server, |proxy, cx, context| {
            let Some(branch) = context.branches.get_mut(index) else { return };
            if !matches!(branch.stage, Stage::Resolving(_)) {
                return;
            }
            let known = std::mem::take(&mut branch.target.known);
            branch.hops = found_and_known(found, known, branch.target.device.is_some());
            branch.stage = Stage::New;
            proxy.advance(cx, context, index);
        });
    }

    /// Another path for a branch whose last one did not work (RFC 3263 §4.3): after a timeout, a transport error, or
    /// a 503. `false`: there is none.
    pub(crate) fn fail_over(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize) -> bool {
        let branch = &mut context.branches[index];
        if branch.rang || context.cancelled || context.answered != NOT_YET {
            return false;
        }
        branch.turn_to_next_flow();
        let is_known = !branch.hops.is_empty();
        if !is_known && matches!(branch.target.hops, Hops::Ready(_)) {
            return false;
        }
        branch.stage = Stage::New;
        match is_known {
            true => self.forward(cx, context, index),
            false => self.advance(cx, context, index),
        }
        true
    }

    /// Works on a context, and keeps it unless it is over.
    pub(crate) fn with(
        &mut self,
        cx: &mut Cx<'_>,
        server: ServerId,
        work: impl FnOnce(&mut Proxy, &mut Cx<'_>, &mut Context),
    ) {
        if let Some(mut context) = self.contexts.remove(&server) {
            work(self, cx, &mut context);
            self.keep(context);
        }
    }

    /// Keeps a context as long as something may come for it.
    pub(crate) fn keep(&mut self, context: Box<Context>) {
        if context.is_over() {
            self.drop_context(&context);
        } else {
            self.contexts.insert(context.server, context);
        }
    }

    /// An answered INVITE has lingered long enough.
    pub(crate) fn forget(&mut self, cx: &mut Cx<'_>, server: ServerId) {
        if let Some(mut context) = self.contexts.remove(&server) {
            self.free_unanswered(cx, &mut context);
            self.drop_context(&context);
        }
    }

    fn drop_context(&mut self, context: &Context) {
        if let Some(timer) = context.timer {
            self.alarms.cancel(timer);
        }
        for client in context.branches.iter().filter_map(|branch| branch.client) {
            self.clients.remove(&client);
        }
    }
}

/// Paths to what a name stands for, then those known otherwise. Where one is known, what is found must be as good, unless the
/// name is `trusted`: it may not lead a dialog into a network the known path does not lead to.
pub(crate) fn found_and_known(found: Vec<Flow>, known: Vec<Flow>, trusted: bool) -> VecDeque<Flow> {
    let as_good = |flow: &Flow| {
        trusted || known.first().is_none_or(|known| known.remote == flow.remote || is_elsewhere(flow, known))
    };
    let mut hops: VecDeque<Flow> = found.into_iter().filter(as_good).collect();
    hops.extend(
        known
            .into_iter()
            .filter(|known| hops.iter().all(|hop| hop.remote != known.remote))
            .collect::<Vec<_>>(),
    );
    hops
}

const NOT_YET: crate::forwarding::contexts::Answered = crate::forwarding::contexts::Answered::No;

/// No listener of ours can go where the target is, or its name leads nowhere (RFC 3261 §16.6 step 7: as if 408 or
/// 503; §21.4.18 says it better).
pub(crate) const UNROUTABLE: u16 = 480;

impl Branch {
    /// Begins anew at other paths, its media settled or not.
    pub(crate) fn restart_at(&mut self, hops: VecDeque<Flow>) {
        self.hops = hops;
        self.stage = Stage::New;
        self.target.lookup = false;
        if self.media == Media::Direct {
            self.media = Media::Open;
        }
    }
}
