//! Who serves the callee (SYSTEMS §1 steps 7 and 8): the redirect servers are asked by INVITE, and answer 302 with the
//! serving proxy. What they name is the *next hop* only: the request URI stays the callee's address of record.
//!
//! Any other 3xx is followed for trusted trunks only (RFC 3261 §16.5), since whoever follows it pays for the call.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::SocketAddr;

use proto::event::{Event, Name as EventName};
use proto::node::{Flow, FlowId};
use proto::node_auth::Proof;
use proto::sip::{Builder, Message, Name, Uri};

use crate::alarms::Alarm;
use crate::forwarding::branches::Step;
use crate::forwarding::contexts::{Answered, Context, Final, Stage, Target};
use crate::media::siblings;
use crate::proxy::{Cx, Owner, Proxy};
use crate::routing::target::{Hops, of_uri};
use crate::routing::targets;

impl Proxy {
    /// Asks the next redirect server.
    pub(crate) fn look_up(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize) -> Step {
        let asked = context.branches[index].lookups;
        context.branches[index].lookups += 1;
        let Some(flow) = self.redirect_flow(asked) else {
            // None left: nobody answered (RFC 3261 §16.7: as if 408).
            return Step::Fail(Final::own(408));
        };
        let question = self.question(cx, context, index, flow);
        let client = self.send(cx, flow, question, Owner::Branch(context.server, index));
        self.alarms.set(cx.now.at + self.config.lookup_timeout, Alarm::Silent(client));
        let branch = &mut context.branches[index];
        (branch.client, branch.stage) = (Some(client), Stage::AtRedirect);
        Step::Wait
    }

    fn redirect_flow(&self, index: usize) -> Option<Flow> {
        let redirect = self.config.redirects.get(index)?;
        let listener = self.config.listener_towards(redirect.transport, redirect.address)?;
        let local = self.config.listeners[listener].bind;
        Some(Flow { transport: redirect.transport, local, remote: redirect.address, id: FlowId(0) })
    }

    /// The redirect INVITE carries the callee's identity, whatever the request's method is, and neither SDP nor
    /// credentials.
    fn question(&mut self, cx: &Cx<'_>, context: &Context, index: usize, flow: Flow) -> Message {
        let request = &context.request;
        let number = request.cseq().map_or(1, |cseq| cseq.number);
        let uri = context.branches[index].target.uri.as_deref().unwrap_or(context.routed.uri(request));
        let question = Builder::request("INVITE", uri)
            .header(Name::MaxForwards, 70)
            .header(Name::From, request.text(Name::From).unwrap_or_default())
            .header(Name::To, request.text(Name::To).unwrap_or_default())
            .header(Name::CallId, request.call_id())
            .header(Name::CSeq, format_args!("{number} INVITE"))
            .finish();
        let question = self.with_via(&flow, &question);
        siblings::sign(question, &self.config, cx.now.unix())
    }

    /// A redirect server has answered with something final.
    pub(crate) fn redirect_answered(
        &mut self,
        cx: &mut Cx<'_>,
        context: &mut Context,
        index: usize,
        response: &Message,
    ) {
        let status = response.status().unwrap_or(500);
        context.branches[index].stage = Stage::New;
        match status {
            300..=399 if !self.is_proven(cx, context, index, response) => {
                let about = context.request.call_id().into();
                self.tell(Event::Warning {
                    about,
                    why: "a 302 of the redirect server without proof (Node-Auth)",
                });
                self.redirect_silent(cx, context, index);
            }
            300..=399 => self.served_by(cx, context, index, response),
            404 | 410 | 480 | 604 => {
                self.tell_redirected(context, None, status);
                let unknown = Final::own(if status == 480 { 480 } else { 404 });
                self.nobody_of_ours(cx, context, index, unknown);
            }
            _ => {
                self.tell_redirected(context, None, status);
                self.advance(cx, context, index);
            }
        }
    }

    /// Whether a 302 is our redirect server's: whoever forges one has the call. Over loopback nobody else speaks.
    fn is_proven(&self, cx: &Cx<'_>, context: &Context, index: usize, response: &Message) -> bool {
        let Some(key) = &self.config.siblings.key else { return true };
        let from_here =
            context.branches[index].lookups.checked_sub(1).and_then(|asked| self.redirect_flow(asked));
        let local = from_here.is_some_and(|flow| flow.remote.ip().is_loopback());
        local || key.check(response, cx.now.unix()) == Proof::Proven
    }

    /// None of our proxies serves the callee: a foreign name may still be somebody elsewhere. If it is nobody there
    /// either, this is the better answer.
    fn nobody_of_ours(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize, unknown: Final) {
        let target = &mut context.branches[index].target;
        target.lookup = false;
        if target.hops == Hops::Ready(Vec::new()) {
            return self.branch_ended(cx, context, index, unknown);
        }
        context.best.get_or_insert(unknown);
        self.advance(cx, context, index);
    }

    fn served_by(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize, response: &Message) {
        let hops = self.serving_hops(response);
        self.tell_redirected(context, hops.front().map(|hop| hop.remote), response.status().unwrap_or(302));
        if hops.is_empty() {
            // It names us (and we have no binding), or nothing we can reach.
            return self.branch_ended(cx, context, index, Final::own(404));
        }
        context.branches[index].restart_at(hops);
        self.advance(cx, context, index);
    }

    /// The serving proxies a 302 names, as addresses; ourselves left out.
    fn serving_hops(&self, response: &Message) -> VecDeque<Flow> {
        let mut hops = VecDeque::new();
        for contact in response.contacts().flatten() {
            let Ok(uri) = contact.uri() else { continue };
            if self.config.is_ours(uri.host, uri.port) {
                continue;
            }
            if let Hops::Ready(flows) = of_uri(&uri, &self.config) {
                hops.extend(flows);
            }
        }
        hops
    }

    fn tell_redirected(&mut self, context: &Context, target: Option<SocketAddr>, status: u16) {
        let call: EventName = context.call.clone().unwrap_or_else(|| context.request.call_id().into());
        let to = targets::name_of(context.request.to().ok());
        self.tell(Event::Redirected { call, to, target, status });
    }

    /// A redirect server stays silent: the next one is asked.
    pub(crate) fn redirect_silent(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize) {
        self.tell_redirected(context, None, 408);
        context.branches[index].stage = Stage::New;
        self.advance(cx, context, index);
    }

    /// A redirect server that answers 2xx is none.
    pub(crate) fn redirect_failed(
        &mut self,
        cx: &mut Cx<'_>,
        context: &mut Context,
        index: usize,
        end: Final,
    ) {
        self.tell_redirected(context, None, 200);
        self.branch_ended(cx, context, index, end);
    }

    /// Follows a 3xx of a trusted trunk: every Contact is a target of its own, those of the highest q now, the others when
    /// these have failed. `false`: it goes back as it is.
    pub(crate) fn recurse(
        &mut self,
        cx: &mut Cx<'_>,
        context: &mut Context,
        index: usize,
        response: &Message,
    ) -> bool {
        if !context.branches[index].target.trusted || !may_begin_branches(context) {
            return false;
        }
        let mut found = self.contacts_to_try(context, index, response);
        let Some(best) = found.first().map(|target| target.q) else { return false };
        let rest = found.split_off(found.iter().take_while(|target| target.q == best).count());
        context.later.extend(rest);
        context.later.make_contiguous().sort_by_key(|target| Reverse(target.q));
        context.branches[index].stage = Stage::Done;
        self.free_branch(cx, context, index);
        self.try_targets(cx, context, found);
        true
    }

    /// The Contacts that were not tried yet, the most wanted first.
    fn contacts_to_try(&self, context: &Context, index: usize, response: &Message) -> Vec<Target> {
        let tried = || context.branches.iter().map(|branch| &branch.target).chain(&context.later);
        let is_new = |uri: &str| tried().all(|target| target.uri.as_deref() != Some(uri));
        let trunk = &context.branches[index].target;
        let found = response.contacts().flatten().filter(|contact| is_new(contact.raw_uri));
        let found = found.filter_map(|contact| self.of_contact(contact.raw_uri, contact.q(), trunk));
        let room = self.config.limits.branches.saturating_sub(tried().count());
        let mut found: Vec<Target> = found.take(room).collect();
        found.sort_by_key(|target| Reverse(target.q));
        found
    }

    fn of_contact(&self, raw: &str, q: u16, trunk: &Target) -> Option<Target> {
        let hops = of_uri(&Uri::parse(raw).ok()?, &self.config);
        Some(Target {
            uri: Some(raw.to_owned()),
            hops,
            q,
            lookup: false,
            device: None,
            path: Vec::new(),
            others: VecDeque::new(),
            ..trunk.clone()
        })
    }
}

/// Whether more may be tried: nobody has answered, given up or declined for all (§16.7 steps 5 and 10).
fn may_begin_branches(context: &Context) -> bool {
    let declined = context.best.as_ref().is_some_and(|best| best.status >= 600);
    context.answered == Answered::No && !context.cancelled && !declined
}
