//! The answer to an INVITE of a former life (RFC 3261 §16.7, last paragraph; §16.11): a proxy that was restarted while a phone
//! rang knows nothing of the call, and the callee has picked up.
//!
//! ```text
//! 200 OK                                         taken up again as
//! Via: SIP/2.0/UDP us;branch=…                   our own; nothing is sent by what it says
//! Via: SIP/2.0/UDP 10.0.0.2;branch=…             the INVITE's server transaction
//! Record-Route: <sip:TOKEN@us;lr>                the way to the caller, its binding, the relay session
//! ```
//!
//! Vias are the callee's to forge, so nothing is sent where they lead: the way back is the token that this dialog's callee was
//! given in our Record-Route, MACed, bound to Call-ID and caller's tag, and made before this life began. Whoever holds it may
//! send the caller requests anyway. A 2xx ends the search whatever else was under way. A failure ends it only where nobody else was
//! asked or would have been: the same token stands in our Via then ([`PROOF`]), since a failure has no Record-Route, and comes back
//! in it; of a fork, towards a sibling, or with servers left to try none is there, and the failure is dropped. A failure is
//! acknowledged hop by hop (§17.1.1.3), so that each of its repetitions is; its ACK has the To of the answer for a request URI, since
//! the INVITE's is forgotten: by branch, not by that, it is known (§17.2.3). One answer leads to one answer.

use std::time::Duration;

use proto::event::Side;
use proto::node::{Flow, FlowId};
use proto::sip::{Builder, Message, Method, Name, NameAddr};

use crate::dialogs::tokens::{Seal, Token};
use crate::forwarding::contexts::{Branch, Context, Device, Media, Stage, Target};
use crate::forwarding::requests::new_context;
use crate::media::siblings::Word;
use crate::proxy::{Cx, Proxy};
use crate::registrar::aor::canonical;
use crate::routing::preprocessing::{Routed, flow_of};
use crate::routing::target::Hops;
use crate::routing::targets::present_path;

/// The parameter of our Via that leads a failure back.
pub(crate) const PROOF: &str = "back";

/// Nobody rings for longer: an older token leads no answer back.
const LONGEST_RINGING: Duration = Duration::from_secs(600);

/// What a Record-Route of ours in an answer says.
struct Origin {
    token: Token,
    /// Where the caller is met now.
    caller: Flow,
    /// How many Record-Routes the INVITE had when it came to us.
    below: usize,
}

impl Proxy {
    /// A response without a client transaction: dropped (RFC 6026 §8.9), unless it answers an INVITE that was forwarded before
    /// we were restarted.
    pub(crate) fn stray_response(&mut self, cx: &mut Cx<'_>, flow: Flow, response: Message) {
        let status = response.status().unwrap_or_default();
        if status < 200 || response.method() != Method::Invite || !self.faces.wrote_topmost(&response) {
            return;
        }
        let response = self.with_vias_shown(response);
        let origin = match status < 300 {
            true => self.origin_of(cx, &response),
            false => self.origin_of_failure(cx, &response),
        };
        let Some(origin) = origin else { return };
        let Some(invite) = invite_of(&response, origin.below) else { return };
        let Some((server, is_new)) = self.transactions.take_up(cx.now.at, origin.caller, invite.clone())
        else {
            return;
        };
        if status >= 300 {
            self.acknowledge_failure(flow, &response);
        }
        if is_new {
            self.take_up_call(cx, server, &origin, invite);
        }
        let branch = self.branch_of(cx, flow, &response, &origin.token);
        let mut index = None;
        self.with(cx, server, |_, _, context| index = Some(same_or_new(context, branch)));
        if let Some(index) = index {
            self.branch_response(cx, server, index, flow, response);
        }
        // That of a sibling's caller is the sibling's to end.
        let session = origin.token.session.filter(|_| !self.config.is_sibling(origin.caller.remote.ip()));
        if let Some((relay, session)) = session.filter(|_| status >= 300 && is_new) {
            self.free(cx, relay, session);
        }
    }

    /// The token that the callee's side was given, in a Record-Route at our address.
    fn origin_of(&self, cx: &Cx<'_>, response: &Message) -> Option<Origin> {
        let seal = Seal::of_answer(response, &self.config.token_keys, cx.now.unix());
        let values: Vec<&str> = response.values(Name::RecordRoute).collect();
        let token_at = |at: usize| {
            let uri = NameAddr::parse(values.get(at)?).ok()?.uri().ok()?;
            Token::open(seal, uri.user).filter(|_| self.config.is_ours(uri.host, uri.port))
        };
        let (first, token) = (0..values.len()).find_map(|at| Some((at, token_at(at)?)))?;
        let token = token.join(token_at(first + 1).filter(|next| next.path.is_none()));
        let ours = values[first..].iter().take_while(|value| self.is_own_route(value)).count();
        self.origin(cx, response, token, values.len() - first - ours)
    }

    /// The same token, out of our Via. What a trusted trunk says of other targets would be for us to follow (§16.5).
    fn origin_of_failure(&self, cx: &Cx<'_>, response: &Message) -> Option<Origin> {
        let seal = Seal::of_answer(response, &self.config.token_keys, cx.now.unix());
        let token = Token::open(seal, response.via().ok()?.params.get(PROOF)?)?;
        let redirects = response.status().is_some_and(|status| status < 400);
        self.origin(cx, response, token, 0).filter(|origin| !(redirects && origin.token.trusted))
    }

    fn origin(&self, cx: &Cx<'_>, response: &Message, token: Token, below: usize) -> Option<Origin> {
        if token.sender != Side::Callee || !self.is_of_a_former_life(cx, token.made) {
            return None;
        }
        let caller = self.caller_now(cx, response, &token)?;
        Some(Origin { token, caller, below })
    }

    /// Each copy of it, as the client transaction of the INVITE would.
    fn acknowledge_failure(&mut self, flow: Flow, response: &Message) {
        let (Ok(to), Ok(cseq)) = (response.to(), response.cseq()) else { return };
        let mut ack = Builder::request("ACK", to.raw_uri);
        for name in [Name::Via, Name::From, Name::To, Name::CallId] {
            let value = if name == Name::Via { response.values(name).next() } else { response.text(name) };
            ack = ack.header(name, value.unwrap_or_default());
        }
        let ack = ack.header(Name::CSeq, format_args!("{} ACK", cseq.number)).header(Name::MaxForwards, 70);
        self.transactions.send(flow, ack.finish());
    }

    /// Whether an INVITE was forwarded before this life began, and may still ring. Of the second we were born in nobody can
    /// tell; but no INVITE of this life loses its transaction before 64·T1 have passed.
    fn is_of_a_former_life(&self, cx: &Cx<'_>, made: u64) -> bool {
        let born = self.birth.unix_at(self.birth.now);
        let newborn = cx.now.at < self.birth.now + 64 * self.config.timers.t1;
        let young = cx.now.unix().saturating_sub(made) <= LONGEST_RINGING.as_secs();
        young && (made < born || made == born && newborn)
    }

    fn is_own_route(&self, value: &str) -> bool {
        let uri = NameAddr::parse(value).and_then(|route| route.uri());
        uri.is_ok_and(|uri| self.config.is_ours(uri.host, uri.port))
    }

    /// Where the caller's binding is now; else where its INVITE came from. A connection died with our former life: without a
    /// binding, its port is the one the caller listens at (§18.2.2).
    fn caller_now(&self, cx: &Cx<'_>, response: &Message, token: &Token) -> Option<Flow> {
        let from = || canonical(&response.from().ok()?.uri().ok()?, &self.config);
        let present =
            token.binding.and_then(|mark| present_path(cx.now, &from()?, mark, &self.config, cx.tables));
        let last = flow_of(token, &self.config)?;
        Some(present.unwrap_or_else(|| {
            let port = response.vias().nth(1).and_then(Result::ok).and_then(|via| via.port);
            let mut at = last;
            if last.transport.is_reliable() {
                at.remote.set_port(port.unwrap_or(last.transport.default_port()));
            }
            Flow { id: FlowId(0), ..at }
        }))
    }

    /// The response context of an INVITE that came in a former life, and the record of its call.
    fn take_up_call(
        &mut self,
        cx: &mut Cx<'_>,
        server: proto::sip::transaction::ServerId,
        origin: &Origin,
        invite: Message,
    ) {
        let routed = Routed::default();
        let sibling = self.config.is_sibling(origin.caller.remote.ip());
        let session = origin.token.session.map(|(_, session)| session);
        let word = sibling.then_some(Word { session, peer: None, srtp: Default::default(), chained: false });
        let mut context = Box::new(new_context(server, origin.caller, invite, routed, 0, word));
        context.from_phone = self.is_beside_trunk(cx, context.request.from().ok(), &origin.caller);
        self.know_sender(&mut context);
        if origin.token.of_record && self.calls.len() < self.config.limits.calls {
            self.begin_call(cx, &mut context);
        }
        self.keep(context);
    }

    /// The branch that a response came by.
    fn branch_of(&self, cx: &Cx<'_>, flow: Flow, response: &Message, token: &Token) -> Branch {
        let to = response.to().ok().and_then(|to| to.uri().ok());
        let sibling = self.config.is_sibling(flow.remote.ip());
        let device: Option<Device> = to.filter(|_| !sibling).and_then(|to| self.own_device(cx, &to, &flow));
        let target = Target {
            device,
            trusted: token.trusted,
            latch: Some(token.latch),
            ..Target::by(Hops::Ready(Vec::new()))
        };
        let media = token.session.map_or(Media::Direct, |(relay, session)| Media::Anchored(relay, session));
        Branch { flow: Some(flow), stage: Stage::Sent, media, provisional: true, ..Branch::new(target) }
    }
}

/// The place of this branch among those of the context; a repeated answer is the same one's.
fn same_or_new(context: &mut Context, branch: Branch) -> usize {
    let known = |other: &Branch| other.flow == branch.flow && other.client.is_none();
    context.branches.iter().position(known).unwrap_or_else(|| {
        context.branches.push(branch);
        context.branches.len() - 1
    })
}

/// The INVITE as far as its answer tells of it. `None`: nobody is below us.
fn invite_of(response: &Message, below: usize) -> Option<Message> {
    let to = response.to().ok()?;
    let vias: Vec<&str> = response.values(Name::Via).skip(1).collect();
    let routes: Vec<&str> = response.values(Name::RecordRoute).collect();
    vias.first()?;
    let mut invite = Builder::request("INVITE", to.raw_uri);
    for via in vias {
        invite = invite.header(Name::Via, via);
    }
    for route in &routes[routes.len() - below.min(routes.len())..] {
        invite = invite.header(Name::RecordRoute, route);
    }
    let number = response.cseq().ok()?.number;
    let invite = invite
        .header(Name::From, response.text(Name::From)?)
        .header(Name::To, format_args!("<{}>", to.raw_uri))
        .header(Name::CallId, response.call_id())
        .header(Name::CSeq, format_args!("{number} INVITE"));
    Some(invite.finish())
}
