//! Request forwarding (RFC 3261 §16.6): the copy that leaves, in one edit.

use bytes::Bytes;
use proto::event::Side;
use proto::node::Flow;
use proto::sip::{Auth, Edit, Message, Method, Name};

use crate::dialogs::revived;
use crate::dialogs::tokens::{Seal, Token};
use crate::forwarding::branches::UNROUTABLE;
use crate::forwarding::contexts::{Context, Final, Role, Stage};
use crate::hiding::privacy::without_person;
use crate::media::relays::HeldAck;
use crate::media::siblings::{self, Word};
use crate::proxy::{Cx, Owner, Proxy};
use crate::registrar::aor::canonical;
use crate::registrar::outbound::{self, wants_path};
use crate::routing::hops::{is_sips, must_be_secure};
use crate::routing::preprocessing::Routed;
use crate::routing::targets;
use crate::trunks::login::shifted;

/// Max-Forwards for a request that has none (§16.6 step 3).
const MAX_FORWARDS: u8 = 70;

impl Proxy {
    /// Sends a branch by its next path.
    pub(crate) fn forward(&mut self, cx: &mut Cx<'_>, context: &mut Context, index: usize) {
        let secure = must_be_secure(context, index);
        let Some(flow) = context.branches[index].take_hop(secure) else {
            let status = if secure { UNROUTABLE } else { 503 };
            return self.branch_ended(cx, context, index, Final::own(status));
        };
        if !self.board(cx, context, index) {
            return self.branch_ended(cx, context, index, Final { retry_after: Some(5), ..Final::own(503) });
        }
        let mut message = self.copy(cx, context, index, flow);
        let by_size = self.path_by_size(&mut context.branches[index], flow, &message);
        if by_size != flow {
            message = self.copy(cx, context, index, by_size);
        }
        let flow = by_size;
        let client = self.send(cx, flow, message, Owner::Branch(context.server, index));
        let branch = &mut context.branches[index];
        branch.client = Some(client);
        branch.stage = Stage::Sent;
        branch.patience = Some(cx.now.at + self.config.timer_c);
        self.watch(cx, context);
        self.limit_silence(cx, context, index, client);
    }

    /// The copy for one branch (§16.6 steps 1–9).
    pub(crate) fn copy(&mut self, cx: &Cx<'_>, context: &Context, index: usize, flow: Flow) -> Message {
        let (request, branch) = (&context.request, &context.branches[index]);
        let to_sibling = branch.leads_to_sibling(&flow, &self.config);
        let mut edit =
            self.on_its_way(request, &context.routed, branch.target.uri.as_deref(), &branch.target.path);
        let back =
            makes_dialog(request).then(|| self.token_back(cx, context, index).seal(self.seal(cx, context)));
        let proof = back
            .as_ref()
            .filter(|_| !to_sibling && context.is_last_hope(index))
            .filter(|_| self.credentials_for(context, index, &flow).is_none())
            .map(|(token, _)| token.as_str());
        edit = self.via(edit, flow, context.mark, proof);
        edit = shifted(edit, request, context.shift + branch.shift);
        if let Some(back) = back {
            edit = self.record_route(cx, edit, context, index, (flow, back));
        }
        edit = self.contact_of_request(cx, edit, context, &flow);
        if request.method() == Method::Register {
            edit = self.contact_at_pbx(edit, context, self.listener_of(&flow));
        }
        if wants_path(request) && self.config.pbx().is_none() {
            edit = self.path_back(cx, edit, context, flow);
        }
        edit = self.identity_of_request(edit, context, index, &flow);
        edit = self.session_timer_of_request(edit, request);
        if let Some(breadth) = branch.breadth {
            edit = edit.set(Name::MaxBreadth, &breadth.to_string());
        }
        if let Some(sdp) = &branch.sdp {
            edit = edit.sdp(sdp);
        }
        if to_sibling {
            let peer = context.word.map_or(Some(context.flow.remote.ip()), |word| word.peer);
            let session = branch.session().or(context.session).map(|(_, session)| session);
            let session = session.or(context.word.and_then(|word| word.session));
            let begins = session.is_some() && context.role == Role::Begins;
            let media = if begins { self.callers_media(context) } else { Vec::new() };
            let srtp = self.srtp_beyond(context);
            let chained = self.is_chained(context, session);
            edit = Word { session, peer, srtp, chained }.write(edit, &media);
        }
        let message = self.as_trunks_want(context, &flow, &branch.target, edit.finish());
        let hidden = self.hidden_from_callee(context, index, Some(&flow));
        let message = self.veiled_request(&flow, hidden, without_person(message, hidden));
        if to_sibling { siblings::sign(message, &self.config, cx.now.unix()) } else { message }
    }

    /// What every forwarded request has in common: request URI, Route, Max-Forwards, and none of what is ours alone.
    pub(crate) fn on_its_way<'m>(
        &self,
        request: &'m Message,
        routed: &Routed,
        uri: Option<&str>,
        path: &[String],
    ) -> Edit<'m> {
        let mut edit = siblings::strip(request.edit(), request);
        if let Some(uri) = uri.or(routed.request_line(request)) {
            edit = edit.request_uri(uri);
        }
        edit = routed.apply(edit, request, path);
        let left = request.max_forwards().ok().flatten().map_or(MAX_FORWARDS, |left| left.saturating_sub(1));
        edit = edit.set(Name::MaxForwards, &left.to_string());
        if request.text(Name::ProxyAuthorization).is_some() && self.config.pbx().is_none() {
            let realm = &self.config.realm;
            edit =
                edit.remove_where(Name::ProxyAuthorization, |value| Auth(value).get("realm") == Some(realm));
        }
        edit
    }

    /// Our Via (§16.6 step 8): the branch is unique and tells a loop from a spiral. Siblings answer to where a request
    /// came from without being asked to.
    pub(crate) fn via<'m>(&mut self, edit: Edit<'m>, flow: Flow, mark: u32, proof: Option<&str>) -> Edit<'m> {
        let (listener, asks) = (self.listener_of(&flow), !self.config.is_sibling(flow.remote.ip()));
        let mut via = self.faces.via(listener, asks, &mut self.dice, mark);
        if let Some(proof) = proof {
            via = [&via, ";", revived::PROOF, "=", proof].concat();
        }
        edit.push_front(Name::Via, &via)
    }

    /// A request of our own with its topmost Via.
    pub(crate) fn with_via(&mut self, flow: &Flow, request: &Message) -> Message {
        self.via(request.edit(), *flow, 0, None).finish()
    }

    /// The ACK of a 2xx goes on without a transaction (§16.11).
    pub(crate) fn forward_ack(&mut self, cx: &Cx<'_>, held: &HeldAck, sdp: Option<&Bytes>) {
        let mut edit = self.on_its_way(&held.request, &held.routed, held.uri.as_deref(), &[]);
        edit = self.via(edit, held.to, 0, None);
        edit = shifted(edit, &held.request, held.shift);
        edit = self.contact_of_ack(cx, edit, &held.request, &held.flow, &held.to);
        if let Some(sdp) = sdp {
            edit = edit.sdp(sdp);
        }
        let message = self.ack_as_trunks_want(cx, held, edit.finish());
        let hidden = self.hidden_by_ack(cx, &held.request, held.routed.privacy, &held.to);
        let message = self.veiled_request(&held.to, hidden, without_person(message, hidden));
        self.transactions.send(held.to, message);
    }

    /// Record-Route (§16.6 step 4): one value when both sides meet the same listener, two when they do not (RFC 5658).
    /// The callee sends requests with the topmost one, towards the caller.
    fn record_route<'m>(
        &self,
        cx: &Cx<'_>,
        edit: Edit<'m>,
        context: &Context,
        index: usize,
        (flow, (back, mut session)): (Flow, (String, Option<String>)),
    ) -> Edit<'m> {
        let (inward, outward) = (self.listener_of(&context.flow), self.listener_of(&flow));
        let seal = self.seal(cx, context);
        let secure = is_sips(context.routed.uri(&context.request));
        let mut edit = edit;
        if inward != outward {
            let there = self.token_there(context, index, flow);
            let (there, second) = there.seal(seal);
            session = session.or(second);
            let value = context.privacy.onto(self.faces.record_route(inward, &there, secure));
            edit = edit.push_front(Name::RecordRoute, &value);
        }
        if let Some(session) = session {
            edit = edit.push_front(Name::RecordRoute, &self.faces.record_route(outward, &session, secure));
        }
        edit.push_front(Name::RecordRoute, &self.faces.record_route(outward, &back, secure))
    }

    /// A Path that leads to the flow a registration came by (RFC 5626 §5.1).
    fn path_back<'m>(&self, cx: &Cx<'_>, edit: Edit<'m>, context: &Context, flow: Flow) -> Edit<'m> {
        let Some(token) = outbound::seal(&context.flow, &self.config, cx.now.unix()) else { return edit };
        let uri = self.faces.contact(self.listener_of(&flow), &token);
        edit.push_front(Name::Path, &format!("<{uri};lr;ob>"))
    }

    /// What tokens for the dialogs of this request are sealed with.
    pub(crate) fn seal<'a>(&'a self, cx: &Cx<'_>, context: &'a Context) -> Seal<'a> {
        Seal::of(&context.request, &self.config.token_keys, cx.now.unix())
    }

    /// What the callee's requests carry: the way to the caller.
    pub(crate) fn token_back(&self, cx: &Cx<'_>, context: &Context, index: usize) -> Token {
        let branch = &context.branches[index];
        let from = || canonical(&context.request.from().ok()?.uri().ok()?, &self.config);
        let from = context.user.as_ref().and_then(|_| from());
        Token {
            sender: Side::Callee,
            path: Some((self.listener_of(&context.flow) as u8, context.flow.remote)),
            session: branch.session(),
            binding: from.and_then(|aor| targets::own_mark(&aor, &context.flow, cx.tables)),
            trusted: branch.target.trusted,
            latch: branch.target.latch.unwrap_or(self.config.latch),
            of_record: context.role == Role::Begins,
            shift: 0,
            made: 0,
        }
    }

    /// What the caller's requests carry: the way to the callee.
    pub(crate) fn token_there(&self, context: &Context, index: usize, flow: Flow) -> Token {
        let branch = &context.branches[index];
        Token {
            sender: Side::Caller,
            path: Some((self.listener_of(&flow) as u8, flow.remote)),
            session: branch.session(),
            binding: branch.target.device.as_ref().map(|device| device.mark),
            trusted: context.trusted,
            latch: context.latch,
            of_record: context.role == Role::Begins,
            shift: (context.shift + branch.shift).min(63) as u8,
            made: 0,
        }
    }

    /// The index of the listener a flow belongs to.
    pub(crate) fn listener_of(&self, flow: &Flow) -> usize {
        self.config.listener_at(flow.transport, flow.local).unwrap_or(0)
    }
}

/// Requests that may begin a dialog, and so must show later ones the way by us.
pub(crate) fn makes_dialog(request: &Message) -> bool {
    let begins =
        matches!(request.method(), Method::Invite | Method::Subscribe | Method::Refer | Method::Notify);
    begins && request.to_tag().is_empty()
}
