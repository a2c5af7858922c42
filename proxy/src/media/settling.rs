//! Whether a call's media goes through a relay (SYSTEMS §1 steps 3–6): settled once, when its INVITE arrives. What was
//! decided stays for the dialog.

use bytes::Bytes;
use proto::control::Session;
use proto::event::Sighting;
use proto::node::Flow;
use proto::sdp::Sdp;
use proto::tables::{Anchor, Fact};

use crate::forwarding::branches::Step;
use crate::forwarding::contexts::{Answered, Context, Final, Media, Role, Stage};
use crate::media::decision::{Callee, Decision, Party, Seen, decide, reveals, strictest};
use crate::media::negotiation::negotiates;
use crate::media::relays::{Errand, Met};
use crate::proxy::{Cx, Proxy};
use crate::registrar::aor::canonical;

impl Proxy {
    /// Settles a branch's media, as far as that can be now.
    pub(crate) fn settle_media(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize) -> Step {
        if context.branches[index].media != Media::Open {
            return Step::Go;
        }
        match context.session {
            Some(session) => self.stay_anchored(cx, context, index, session),
            None if context.is_invite && context.request.to_tag().is_empty() => {
                self.decide(cx, context, index)
            }
            None => self.go_direct(context, index),
        }
    }

    fn go_direct(&self, context: &mut Context, index: usize) -> Step {
        context.branches[index].media = Media::Direct;
        Step::Go
    }

    /// An anchored dialog stays anchored.
    fn stay_anchored(
        &mut self,
        cx: &mut Cx<'_>,
        context: &mut Context,
        index: usize,
        (relay, session): (u8, Session),
    ) -> Step {
        context.branches[index].media = Media::Anchored(relay, session);
        let Some((_, sdp)) = context.request.sdp().filter(|_| negotiates(&context.request)) else {
            return Step::Go;
        };
        if let Some(status) = self.relay_out_of_reach(relay, session) {
            return Step::Fail(Final::own(status));
        }
        let errand = self.errand_of(context, Bytes::copy_from_slice(sdp), index, true);
        context.branches[index].stage = Stage::AtRelay;
        let networks = self.networks(context.sender, &context.flow, context.branches[index].hops.front());
        self.ask_relay(cx, (relay, session), networks, errand);
        Step::Wait
    }

    /// The comparison of the claim, for a call that begins.
    fn decide(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize) -> Step {
        let seen = self.seen(cx, context, index);
        let joins = context.word.is_some_and(|word| word.session.is_some());
        let Some(decision) = (if joins { Some(Decision::OF_SIBLING) } else { decide(&seen) }) else {
            return Step::Go;
        };
        if let Some(call) = context.call.clone() {
            self.tell(decision.event(call, &seen, sighting(context, &seen)));
        }
        match decision.anchored && (!joins || self.stands_apart(context, index)) {
            true => self.anchor(cx, context, index, &seen, decision),
            false => self.go_direct(context, index),
        }
    }

    fn seen(&self, cx: &Cx<'_>, context: &Context, index: usize) -> Seen {
        let anchor = self.wish(context, index);
        // What is settled by configuration needs no look at addresses.
        let caller = if anchor == Anchor::Never { None } else { self.caller_party(context) };
        let target = || canonical(&context.request.uri().ok()?, &self.config);
        let remembered = anchor == Anchor::Auto
            && target().is_some_and(|target| cx.tables.remembers(Fact::NeedsRelay, &target));
        Seen {
            anchor,
            caller,
            callee: self.callee_party(context, index),
            same_nat_direct: self.config.same_nat_direct,
            remembered,
            keys_differ: anchor == Anchor::Auto && self.keys_differ(context, index),
            hides: context.branches[index].hops.front().is_some_and(|callee| {
                self.config.hides_from(callee) != self.config.hides_from(&context.flow)
            }),
        }
    }

    /// What listener, user, trunk and target wish; else what is configured for all. Without relays there is no choice, and
    /// with them none where the caller is not to be seen.
    fn wish(&self, context: &Context, index: usize) -> Anchor {
        if self.config.relays.is_empty() {
            return Anchor::Never;
        }
        if context.privacy.session {
            return Anchor::Always;
        }
        let listener = self.config.listeners.get(self.listener_of(&context.flow)).and_then(|l| l.anchor);
        let user = context.user.as_ref().and_then(|user| user.anchor);
        let trunk = self.trunk_of(context).and_then(|trunk| trunk.anchor);
        let target = context.branches[index].target.anchor;
        let wishes: Vec<Anchor> = [listener, user, trunk, target].into_iter().flatten().collect();
        if wishes.is_empty() { self.config.anchor } else { strictest(wishes) }
    }

    fn caller_party(&self, context: &Context) -> Option<Party> {
        if context.word.is_none() {
            return Some(context.party(self.network_at(&context.flow)));
        }
        let (_, sdp) = context.request.sdp()?;
        let sdp = Sdp::parse(sdp).ok()?;
        Party::vouched(&context.flow, &sdp, |ip| self.config.network_of(ip))
    }

    fn callee_party(&self, context: &Context, index: usize) -> Callee {
        let branch = &context.branches[index];
        match branch.hops.front() {
            None if branch.target.lookup => Callee::NotYet,
            None => Callee::Unknown,
            Some(hop) if branch.leads_to_sibling(hop, &self.config) => Callee::OfSibling,
            Some(hop) => Callee::Known(Party {
                flow: *hop,
                network: self.network_at(hop),
                sdp: Vec::new(),
                ice: false,
                signs_of_nat: branch.target.device.as_ref().is_some_and(|device| device.behind_nat),
            }),
        }
    }

    pub(crate) fn network_at(&self, flow: &Flow) -> usize {
        self.config.listeners.get(self.listener_of(flow)).map_or(0, |listener| listener.network)
    }

    fn anchor(
        &mut self,
        cx: &mut Cx<'_>,
        context: &mut Context,
        index: usize,
        seen: &Seen,
        decision: Decision,
    ) -> Step {
        let (network, sdp) = self.caller_at_relay(context);
        let [caller, callee] = self.srtp_of(context, index);
        let callee = Met { srtp: callee, ..self.callee_network(context, index) };
        let networks = [Met { srtp: caller, ..network }, callee];
        let told = context.call.clone().map(|call| decision.event(call, seen, sighting(context, seen)));
        let errand = Errand { sdp, ..self.errand_of(context, Bytes::new(), index, false) };
        context.branches[index].stage = Stage::AtRelay;
        match self.open_session(cx, networks, context.call.clone(), told, errand) {
            Some((relay, session)) => {
                context.branches[index].media = Media::Anchored(relay, session);
                Step::Wait
            }
            None => Step::Fail(Final::own(503)),
        }
    }

    /// Where the callee will be met; before the redirect server has answered, where that one is.
    fn callee_network(&self, context: &Context, index: usize) -> Met {
        match (context.branches[index].hops.front(), self.config.redirects.first()) {
            (Some(hop), _) => self.met_at(hop),
            (None, Some(redirect)) => self.met_from(redirect.address.ip()),
            (None, None) => Met::default(),
        }
    }

    /// An answer shows what the offer could not (DESIGN §5): this call is left as it is, the next is anchored.
    pub(crate) fn look_too_late(&mut self, cx: &mut Cx<'_>, context: &Context, index: usize, sdp: &[u8]) {
        let branch = &context.branches[index];
        let first = context.role == Role::Begins && context.answered != Answered::Failure;
        let Some(flow) = branch.flow.filter(|flow| first && !self.config.is_sibling(flow.remote.ip())) else {
            return;
        };
        if self.wish(context, index) != Anchor::Auto
            || context.word.is_some_and(|word| word.session.is_some())
            || self.share_nat(context, &flow)
        {
            return;
        }
        let Ok(sdp) = Sdp::parse(sdp) else { return };
        let network = self.network_at(&flow);
        let party = Party { flow, network, sdp: sdp.addresses(), ice: false, signs_of_nat: false };
        if reveals(&party).is_none() {
            return;
        }
        let target = context.request.uri().ok().and_then(|uri| canonical(&uri, &self.config));
        let Some((target, call)) = target.zip(context.call.clone()) else { return };
        if !cx.tables.remembers(Fact::NeedsRelay, &target) {
            cx.tables.remember(Fact::NeedsRelay, &target);
            let seen = Seen { callee: Callee::Known(party), ..self.seen(cx, context, index) };
            self.tell(Decision::TOO_LATE.event(call, &seen, sighting(context, &seen)));
        }
    }

    /// Behind one NAT, where `same-nat: direct` expects an answer to name an inner address.
    fn share_nat(&self, context: &Context, callee: &Flow) -> bool {
        let caller = self.peer_of(context.word, &context.flow);
        self.config.same_nat_direct && caller == Some(callee.remote.ip())
    }
}

/// What is known of the caller: what was compared, or what its proxy says.
fn sighting(context: &Context, seen: &Seen) -> Sighting {
    match (context.word, &seen.caller) {
        (Some(word), _) => Sighting::BySibling(word.peer),
        (None, caller) => Sighting::Party {
            at: context.flow.remote,
            transport: context.flow.transport,
            sdp: caller.as_ref().map(|caller| caller.sdp.clone()).unwrap_or_default(),
        },
    }
}
