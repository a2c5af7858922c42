//! A new request: refused, served by ourselves, or taken up for forwarding (RFC 3261 §16.2).

use std::cell::LazyCell;

use proto::event::{EndedBy, Event, Side};
use proto::node::Flow;
use proto::sip::transaction::ServerId;
use proto::sip::{Builder, Message, Method, Reply, reply};

use crate::alarms::Alarm;
use crate::dialogs::calls::{Call, End, Peer};
use crate::dialogs::session_timer;
use crate::forwarding::contexts::{Answered, Context, Role, Target};
use crate::forwarding::faces::loop_mark;
use crate::gate::auth::Face;
use crate::gate::validate::{self, Refusal};
use crate::hiding::privacy::Wish;
use crate::media::siblings::Word;
use crate::proxy::{Cx, Proxy};
use crate::registrar::registering::Visitor;
use crate::routing::preprocessing::Routed;
use crate::routing::routes::Sender;
use crate::routing::targets::{self, Ways};

impl Proxy {
    /// Takes in a request of a new transaction.
    pub(crate) fn request(&mut self, cx: &mut Cx<'_>, id: ServerId, flow: Flow, request: Message) {
        let request = self.as_routes_see_it(cx, &flow, request);
        if let Err(refusal) = self.serve(cx, id, &flow, &request) {
            self.refuse(cx, id, &flow, &request, refusal);
        }
    }

    fn serve(
        &mut self,
        cx: &mut Cx<'_>,
        id: ServerId,
        flow: &Flow,
        request: &Message,
    ) -> Result<(), Refusal> {
        if self.is_from_relay(request, flow) {
            return self.relay_hangs_up(cx, id, flow, request);
        }
        let mark = LazyCell::new(|| loop_mark(request, &self.keyed));
        validate::check(request, &self.config, &self.faces, || *mark)?;
        self.refuse_forged(request)?;
        if self.registers_here(request) {
            return self.register(cx, Visitor { server: id, flow, request });
        }
        let routed = Routed::read(request, &self.config, cx.now.unix()).sent_by(flow);
        let word = Word::read(request, flow, &self.config, cx.now.unix());
        let mut context = new_context(id, *flow, request.clone(), routed, *mark, word);
        context.from_phone = self.is_beside_trunk(cx, request.from().ok(), flow);
        match request.to_tag() {
            "" => self.outside_dialogs(cx, context),
            _ => self.inside_dialog(cx, context),
        }
    }

    fn outside_dialogs(&mut self, cx: &mut Cx<'_>, mut context: Context) -> Result<(), Refusal> {
        context.routed.token = None;
        if self.draining && context.is_invite {
            return Err(Refusal::later("draining: no new calls here", 5));
        }
        if self.is_closing(&context.flow) {
            return Err(Refusal::being_given_up());
        }
        if context.request.method() == Method::Register && self.is_registrar_of(&context) {
            return match self.config.pbx().is_some() {
                true => self.register_through(cx, context),
                false => self.register(cx, context.visitor()),
            };
        }
        let tag = self.transactions.stateless_tag(context.server);
        let passed = self.pass_gate(cx, context.visitor(), Face::Proxy, &tag)?;
        let Some(user) = passed else { return Ok(()) };
        context.from_phone |= user.is_some();
        context.user = user;
        if validate::is_for_us(&context.request, &self.config)
            && context.routed.next(&context.request).is_none()
        {
            return self.for_ourselves(&context).map_err(Refusal::of_somebody_known);
        }
        self.forward_new(cx, context).map_err(Refusal::of_somebody_known)
    }

    /// OPTIONS that names nobody is about us (RFC 3261 §11.2); nothing else is.
    fn for_ourselves(&mut self, context: &Context) -> Result<(), Refusal> {
        if context.request.method() != Method::Options {
            return Err(Refusal::new(404, "the request URI names a domain of ours, but nobody in it"));
        }
        let answer = reply(&context.request, 200, &self.transactions.stateless_tag(context.server))
            .header(proto::sip::Name::Allow, "INVITE, ACK, CANCEL, OPTIONS, BYE, REGISTER")
            .header(proto::sip::Name::Accept, "application/sdp");
        self.transactions.answer_and_forget(context.server, answer.finish());
        Ok(())
    }

    pub(crate) fn forward_new(&mut self, cx: &mut Cx<'_>, mut context: Context) -> Result<(), Refusal> {
        if context.is_invite && self.calls.len() >= self.config.limits.calls {
            return Err(Refusal::later("as many calls as limits allow are up", 10));
        }
        session_timer::refuse(&context.request, self.config.session_timer)?;
        self.refuse_our_own_relay(&context)?;
        self.refuse_what_cant_be_hidden(&context)?;
        let from_sibling = context.word.is_some();
        let trunk = self.trunk_of(&context).cloned();
        let sender = Sender { trunk: trunk.as_deref(), ..Sender::of(&context.flow, &self.config) };
        let from = context.request.from().ok().map_or("", |from| from.raw_uri);
        let mut ways = Ways { sender, config: &self.config, trunks: &mut self.trunks, from };
        let found =
            targets::find(cx.now, &context.request, &context.routed, from_sibling, &mut ways, cx.tables)?;
        self.know_sender(&mut context);
        if context.is_invite {
            self.begin_call(cx, &mut context);
            self.come_by_trunk(cx, &context)?;
        }
        self.launch(cx, context, found);
        Ok(())
    }

    /// How the sender's relay leg treats it: by its trunk, its account, or the configuration.
    pub(crate) fn know_sender(&self, context: &mut Context) {
        let trunk = self.trunk_of(context);
        context.trusted = trunk.is_some();
        let word = trunk.and_then(|trunk| trunk.latch).or(context.user.as_ref().and_then(|user| user.latch));
        context.latch = word.unwrap_or(self.config.latch);
        let srtp = trunk.and_then(|trunk| trunk.srtp).or(context.user.as_ref().and_then(|user| user.srtp));
        context.srtp = match context.word {
            Some(word) => word.srtp,
            None => srtp.unwrap_or_else(|| self.srtp_at(&context.flow)),
        };
    }

    pub(crate) fn begin_call(&mut self, cx: &mut Cx<'_>, context: &mut Context) {
        let request = &context.request;
        let id: proto::event::Name = request.call_id().into();
        let call = Call {
            id: id.clone(),
            from: targets::name_of(request.from().ok()),
            to: targets::name_of(request.to().ok()),
            from_tag: request.from_tag().into(),
            caller: Peer {
                flow: context.flow,
                contact: contact_of(request),
                route: request.values(proto::sip::Name::RecordRoute).map(Box::from).collect(),
                cseq: request.cseq().map_or(1, |cseq| cseq.number),
            },
            begun: cx.now.at,
            answered: None,
            dialogs: Vec::new(),
            anchored: false,
            trunks: Vec::new(),
            shift: 0,
            life: None,
        };
        let begun = Event::CallBegun {
            call: id.clone(),
            from: call.from.clone(),
            to: call.to.clone(),
            flow: context.flow,
        };
        if self.calls.begin(call) {
            self.tell(begun);
            context.role = Role::Begins;
            let life = self.alarms.set(cx.now.at + self.config.limits.call_life, Alarm::CallLife(id.clone()));
            if let Some(call) = self.calls.find(&id) {
                call.life = Some(life);
            }
        }
        context.call = Some(id);
    }

    /// Hands a context its first targets: those of the highest preference together, the others for later (RFC 3261
    /// §16.6).
    pub(crate) fn launch(&mut self, cx: &mut Cx<'_>, context: Context, found: Vec<Target>) {
        let mut context = Box::new(context);
        self.try_by_preference(cx, &mut context, found);
        self.keep(context);
    }

    /// The targets of the highest preference together, the others when those have failed.
    pub(crate) fn try_by_preference(
        &mut self,
        cx: &mut Cx<'_>,
        context: &mut Context,
        mut found: Vec<Target>,
    ) {
        let best = found.first().map_or(0, |target| target.q);
        let later = found.iter().position(|target| target.q < best).unwrap_or(found.len());
        context.later = found.split_off(later).into();
        self.try_targets(cx, context, found);
    }

    /// Answers with a refusal of our own.
    pub(crate) fn refuse(
        &mut self,
        cx: &mut Cx<'_>,
        id: ServerId,
        flow: &Flow,
        request: &Message,
        refusal: Refusal,
    ) {
        let (kept, tag) = (refusal.kept, self.transactions.stateless_tag(id));
        match self.refusal(flow, request, refusal, Reply::tagged(&tag)) {
            None => self.transactions.forget_request(id),
            Some(response) if kept => self.transactions.respond(cx.now.at, id, response.finish()),
            Some(response) => self.transactions.answer_and_forget(id, response.finish()),
        }
    }

    /// Tells why a request is refused, and with what; status 0 is silence.
    pub(crate) fn refusal(
        &mut self,
        flow: &Flow,
        request: &Message,
        refusal: Refusal,
        reply: Reply<'_>,
    ) -> Option<Builder> {
        self.tell(Event::Refused {
            call: request.call_id().into(),
            method: request.method().as_str().into(),
            flow: *flow,
            status: refusal.status,
            why: refusal.why,
        });
        let response = (refusal.status != 0).then(|| reply.to(request, refusal.status))?;
        Some(match refusal.header {
            Some((name, value)) => response.header(name, value),
            None => response,
        })
    }

    /// A call lived as long as one may, or its session timer was not refreshed: recorded, and its relay sessions ended.
    pub(crate) fn call_too_old(&mut self, cx: &mut Cx<'_>, id: &str) {
        self.end_call(cx, id, 200, EndedBy::Timeout);
    }

    /// Ends a call: records it, and frees what its dialogs hold.
    pub(crate) fn end_call(&mut self, cx: &mut Cx<'_>, id: &str, status: u16, by: EndedBy) {
        if let Some((call, event)) = self.calls.end(id, End { at: cx.now.at, status, by }) {
            self.bury(cx, call, event);
        }
    }

    pub(crate) fn bury(&mut self, cx: &mut Cx<'_>, call: Call, event: Event) {
        self.tell(event);
        if let Some(life) = call.life {
            self.alarms.cancel(life);
        }
        call.trunks.iter().for_each(|trunk| self.trunks.loads.end(trunk));
        for (_, session) in call.dialogs.iter().filter_map(|dialog| dialog.session) {
            self.free_held(cx, session);
        }
    }
}

pub(crate) fn new_context(
    server: ServerId,
    flow: Flow,
    request: Message,
    routed: Routed,
    mark: u32,
    word: Option<Word>,
) -> Context {
    let is_invite = request.method() == Method::Invite;
    let privacy = Wish::of(&request).and(routed.privacy);
    Context {
        server,
        flow,
        request,
        routed,
        mark,
        is_invite,
        shift: 0,
        sender: Side::Caller,
        user: None,
        from_phone: false,
        word,
        trusted: false,
        latch: proto::tables::Latch::Strict,
        srtp: proto::tables::Srtp::Pass,
        call: None,
        privacy,
        role: Role::Other,
        former: None,
        session: None,
        branches: Vec::new(),
        later: Default::default(),
        best: None,
        challenges: Vec::new(),
        answered: Answered::No,
        at_relay: 0,
        cancelled: false,
        timer: None,
    }
}

/// The URI of the first Contact; "" when there is none.
pub(crate) fn contact_of(message: &Message) -> Box<str> {
    let first = message.contacts().next().and_then(Result::ok);
    first.map_or_else(Box::default, |contact| contact.raw_uri.into())
}
