//! The relay client (SYSTEMS §1 steps 5 and 6): one dialog per session, one request at a time in it, and what waits for
//! its answer. When no relay answers, the next one is asked; a relay that stays silent is left alone for a while.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use proto::control::Session;
use proto::event::{CallEnded, EndedBy, Event, Name as EventName, Side};
use proto::node::{Flow, FlowId};
use proto::node_auth::Proof;
use proto::sip::transaction::{ClientId, ServerId};
use proto::sip::{Message, Method, Name, reply};

use crate::alarms::Alarm;
use crate::forwarding::contexts::Final;
use crate::gate::validate::Refusal;
use crate::media::relay_dialog::{RelayDialog, age, call_named, new_session};
use crate::media::relays::{Errand, Held, Met, index};
use crate::media::siblings;
use crate::proxy::{Cx, Owner, Proxy};

/// How long a relay that did not answer is asked last.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// What a 503 of ours asks for when the relay did not say.
const RETRY_AFTER: u32 = 5;

impl Proxy {
    /// Makes a session between parties of these networks, and asks the first relay for it. `None`: no relay can be
    /// reached from any listener.
    pub(crate) fn open_session(
        &mut self,
        cx: &mut Cx<'_>,
        networks: [Met; 2],
        call: Option<EventName>,
        decided: Option<Event>,
        errand: Errand,
    ) -> Option<(u8, Session)> {
        let mut order = self.relays.order(cx.now.at, &self.config, &mut self.dice);
        let (relay, flow) = self.first_reachable(&mut order)?;
        let session = new_session(cx.now, &mut self.dice);
        let held = Held { others: order, call, decided, ..Held::new(relay, session, flow, networks) };
        self.relays.sessions.insert(session, Box::new(held));
        self.ask_relay(cx, (relay, session), networks, errand);
        Some((relay, session))
    }

    fn first_reachable(&self, order: &mut VecDeque<u8>) -> Option<(u8, Flow)> {
        std::iter::from_fn(|| order.pop_front()).find_map(|relay| Some((relay, self.relay_flow(relay)?)))
    }

    fn relay_flow(&self, relay: u8) -> Option<Flow> {
        let relay = self.config.relays.get(usize::from(relay))?;
        let listener = self.config.listener_towards(relay.transport, relay.address)?;
        let local = self.config.listeners[listener].bind;
        Some(Flow { transport: relay.transport, local, remote: relay.address, id: FlowId(0) })
    }

    /// Puts an errand to a session's relay, behind those that wait. A session that is not remembered is taken up by
    /// what its token says; then its parties' networks are these. One that has ended is not, and its dialog is over
    /// too.
    pub(crate) fn ask_relay(
        &mut self,
        cx: &mut Cx<'_>,
        (relay, session): (u8, Session),
        networks: [Met; 2],
        errand: Errand,
    ) {
        if self.has_ended(session) {
            self.carry_on(cx, None, errand.then, Err(Final::own(481)));
        } else if self.take_up(relay, session, networks) {
            if let Some(held) = self.relays.sessions.get_mut(&session) {
                held.errands.push_back(errand);
            }
            self.next_errand(cx, session);
        } else {
            self.carry_on(cx, None, errand.then, Err(Final::own(503)));
        }
    }

    fn has_ended(&self, session: Session) -> bool {
        self.relays.ended.contains(session)
            || self.relays.sessions.get(&session).is_some_and(|held| held.ending)
    }

    /// Whether the session is held, now at least.
    fn take_up(&mut self, relay: u8, session: Session, networks: [Met; 2]) -> bool {
        if self.relays.sessions.contains_key(&session) {
            return true;
        }
        let Some(flow) = self.relay_flow(relay) else { return false };
        let mut held = Held::new(relay, session, flow, networks);
        (held.dialog.confirmed, held.taken_up) = (true, true);
        self.relays.sessions.insert(session, Box::new(held));
        true
    }

    /// Why a session's relay can't be asked, if it can't: 481 for a session that has ended, 503 for a relay no listener
    /// leads to.
    pub(crate) fn relay_out_of_reach(&self, relay: u8, session: Session) -> Option<u16> {
        let held = self.relays.sessions.contains_key(&session);
        match () {
            () if self.has_ended(session) => Some(481),
            () if held || self.relay_flow(relay).is_some() => None,
            () => Some(503),
        }
    }

    fn next_errand(&mut self, cx: &mut Cx<'_>, session: Session) {
        let Some(held) = self.relays.sessions.get_mut(&session) else { return };
        if held.under_way.is_some() {
            return;
        }
        match held.errands.pop_front() {
            Some(errand) => self.run_errand(cx, session, errand),
            None if held.ending => self.say_bye(cx, session),
            None => {}
        }
    }

    fn run_errand(&mut self, cx: &mut Cx<'_>, session: Session, errand: Errand) {
        let Some(held) = self.relays.sessions.get_mut(&session) else { return };
        let flow = held.dialog.flow;
        let ask = held.ask(&errand, &self.config);
        let listener = self.config.listener_at(flow.transport, flow.local).unwrap_or(0);
        let contact = (held.call.as_deref(), self.faces.authority(listener));
        let invite = held.dialog.invite(cx.now, &ask, errand.sdp.as_deref(), contact);
        let client = self.send_to_relay(cx, flow, &invite, session);
        let patience = self.alarms.set(cx.now.at + self.config.lookup_timeout, Alarm::Silent(client));
        if let Some(held) = self.relays.sessions.get_mut(&session) {
            held.under_way = Some((client, errand));
            held.patience = Some(patience);
        }
    }

    fn send_to_relay(
        &mut self,
        cx: &mut Cx<'_>,
        flow: Flow,
        request: &Message,
        session: Session,
    ) -> ClientId {
        let request = self.with_via(&flow, request);
        let request = siblings::sign_towards(&flow, request, &self.config, cx.now.unix());
        self.send(cx, flow, request, Owner::Relay(session))
    }

    /// A relay has answered.
    pub(crate) fn relay_response(
        &mut self,
        cx: &mut Cx<'_>,
        session: Session,
        client: ClientId,
        flow: Flow,
        response: Message,
    ) {
        let status = response.status().unwrap_or(0);
        if status < 200 {
            return;
        }
        self.clients.remove(&client);
        if status < 300 && response.method() == Method::Invite {
            self.acknowledge(&flow, session, &response);
        }
        match response.method() {
            Method::Invite if status < 300 => self.errand_done(cx, session, client, &response),
            Method::Invite => self.errand_refused(cx, session, client, refusal_of(&response)),
            Method::Bye => self.let_go(cx, session),
            _ if status == 481 => self.lost(cx, session),
            _ => {}
        }
    }

    fn acknowledge(&mut self, flow: &Flow, session: Session, response: &Message) {
        let number = response.cseq().map_or(0, |cseq| cseq.number);
        let ack = RelayDialog { session, flow: *flow, cseq: 0, confirmed: true }.ack(number);
        let ack = self.with_via(flow, &ack);
        self.transactions.send(*flow, ack);
    }

    /// A 2xx of a relay again: our ACK was lost. One for a session nobody holds came too late, and is ended.
    pub(crate) fn repeat_relay_ack(&mut self, cx: &mut Cx<'_>, flow: Flow, response: &Message) {
        let is_success = response.status().is_some_and(|status| (200..300).contains(&status));
        let session = Session::from_name(response.call_id()).filter(|_| response.method() == Method::Invite);
        let Some(session) = session.filter(|_| is_success) else { return };
        if response.from_tag() != proto::control::tag(session, Side::Caller) {
            return;
        }
        self.acknowledge(&flow, session, response);
        let stranger =
            self.relays.sessions.get(&session).is_none_or(|held| held.dialog.flow.remote != flow.remote);
        if stranger {
            let cseq = response.cseq().map_or(0, |cseq| cseq.number);
            let bye = RelayDialog { session, flow, cseq, confirmed: true }.plain("BYE", cx.now);
            self.send_to_relay(cx, flow, &bye, session);
        }
    }

    fn errand_done(&mut self, cx: &mut Cx<'_>, session: Session, client: ClientId, response: &Message) {
        let Some(errand) = self.take_errand(session, client) else { return };
        let Some(held) = self.relays.sessions.get_mut(&session) else { return };
        held.dialog.confirmed = true;
        held.others.clear();
        let told = response.sdp().map(|(_, sdp)| Bytes::copy_from_slice(sdp));
        if let (Some(said), Some(told)) = (errand.sdp, told.clone()) {
            held.told[index(errand.leg)] = Some((said, told));
        }
        if held.refresh.is_none() {
            let at = cx.now.at + self.config.relay_refresh;
            held.refresh = Some(self.alarms.set(at, Alarm::Refresh(session)));
        }
        self.carry_on(cx, Some(session), errand.then, Ok(told));
        self.next_errand(cx, session);
    }

    fn errand_refused(&mut self, cx: &mut Cx<'_>, session: Session, client: ClientId, end: Final) {
        let Some(errand) = self.take_errand(session, client) else { return };
        let Some(held) = self.relays.sessions.get_mut(&session) else { return };
        let may_move = !held.dialog.confirmed && !held.ending && matches!(end.status, 408 | 500..=599);
        let mut others = std::mem::take(&mut held.others);
        if may_move && let Some((relay, flow)) = self.first_reachable(&mut others) {
            return self.move_session(cx, session, relay, flow, others, errand);
        }
        if end.status == 481 && self.begin_again(session) {
            return self.run_errand(cx, session, errand);
        }
        let is_unborn = self.relays.sessions.get(&session).is_some_and(|held| !held.dialog.confirmed);
        self.carry_on(cx, Some(session), errand.then, Err(end));
        if is_unborn {
            self.let_go(cx, session);
        }
        self.next_errand(cx, session);
    }

    fn move_session(
        &mut self,
        cx: &mut Cx<'_>,
        session: Session,
        relay: u8,
        flow: Flow,
        others: VecDeque<u8>,
        errand: Errand,
    ) {
        if let Some(held) = self.relays.sessions.get_mut(&session) {
            (held.relay, held.dialog.flow, held.others) = (relay, flow, others);
        }
        self.run_errand(cx, session, errand);
    }

    /// A relay that was restarted does not know the session: the next offer and answer make it anew.
    fn begin_again(&mut self, session: Session) -> bool {
        let Some(held) = self.relays.sessions.get_mut(&session) else { return false };
        let again = std::mem::replace(&mut held.dialog.confirmed, false) && !held.ending;
        held.told = [None, None];
        again
    }

    fn take_errand(&mut self, session: Session, client: ClientId) -> Option<Errand> {
        let held = self.relays.sessions.get_mut(&session)?;
        let (_, errand) = held.under_way.take_if(|(under_way, _)| *under_way == client)?;
        if let Some(patience) = held.patience.take() {
            self.alarms.cancel(patience);
        }
        Some(errand)
    }

    /// A relay has not answered.
    pub(crate) fn relay_unanswered(&mut self, cx: &mut Cx<'_>, session: Session, client: ClientId) {
        let Some(held) = self.relays.sessions.get(&session) else { return };
        self.relays.silent.push((held.relay, cx.now.at + LEFT_ALONE));
        let is_invite = held.under_way.as_ref().is_some_and(|(under_way, _)| *under_way == client);
        if is_invite {
            self.errand_refused(
                cx,
                session,
                client,
                Final { retry_after: Some(RETRY_AFTER), ..Final::own(503) },
            );
        } else if held.ending {
            self.let_go(cx, session);
        }
    }

    /// Ends a session: its ports are free once the relay has answered.
    pub(crate) fn free(&mut self, cx: &mut Cx<'_>, relay: u8, session: Session) {
        // A BYE names no networks.
        if !self.has_ended(session) && self.take_up(relay, session, [Met::default(); 2]) {
            self.free_held(cx, session);
        }
    }

    /// Ends a session if it is held. What waits for its relay hears that the dialog is over.
    pub(crate) fn free_held(&mut self, cx: &mut Cx<'_>, session: Session) {
        let Some(held) = self.relays.sessions.get_mut(&session) else { return };
        if std::mem::replace(&mut held.ending, true) {
            return;
        }
        let waiting = std::mem::take(&mut held.errands);
        self.relays.ended.remember(cx.now.at, 64 * self.config.timers.t1, session);
        for errand in waiting {
            self.carry_on(cx, None, errand.then, Err(Final::own(481)));
        }
        self.next_errand(cx, session);
    }

    fn say_bye(&mut self, cx: &mut Cx<'_>, session: Session) {
        let Some(held) = self.relays.sessions.get_mut(&session) else { return };
        if !held.dialog.confirmed {
            return self.let_go(cx, session);
        }
        let (flow, bye) = (held.dialog.flow, held.dialog.plain("BYE", cx.now));
        self.send_to_relay(cx, flow, &bye, session);
    }

    /// Forgets a session. What still waits for its relay waits no longer.
    fn let_go(&mut self, cx: &mut Cx<'_>, session: Session) {
        let Some(held) = self.relays.sessions.remove(&session) else { return };
        for timer in [held.refresh, held.patience].into_iter().flatten() {
            self.alarms.cancel(timer);
        }
        let status = if self.relays.ended.contains(session) { 481 } else { 503 };
        for errand in held.under_way.map(|(_, errand)| errand).into_iter().chain(held.errands) {
            self.carry_on(cx, None, errand.then, Err(Final::own(status)));
        }
    }

    /// Time to refresh a session.
    pub(crate) fn refresh(&mut self, cx: &mut Cx<'_>, session: Session) {
        let at = cx.now.at + self.config.relay_refresh;
        let next = self.alarms.set(at, Alarm::Refresh(session));
        let Some(held) = self.relays.sessions.get_mut(&session) else { return };
        held.refresh = Some(next);
        let (flow, options) = (held.dialog.flow, held.dialog.plain("OPTIONS", cx.now));
        self.send_to_relay(cx, flow, &options, session);
    }

    /// The relay does not know a session any more: it was restarted, or found it silent for too long. An offer or answer
    /// on its way there makes it anew.
    fn lost(&mut self, cx: &mut Cx<'_>, session: Session) {
        if self.relays.sessions.get(&session).is_some_and(|held| held.under_way.is_some()) {
            return;
        }
        self.let_go(cx, session);
        self.tell(Event::Warning {
            about: session.to_string().into(),
            why: "the relay has lost this session",
        });
    }

    /// Whether a request comes from the relay of a session we hold, in that session's dialog.
    pub(crate) fn is_from_relay(&self, request: &Message, flow: &Flow) -> bool {
        let Some(session) = Session::from_name(request.call_id()) else { return false };
        let held = self.relays.sessions.get(&session);
        held.is_some_and(|held| held.dialog.flow.remote == flow.remote)
            || self.ends_former_session(request, flow, session)
    }

    /// Whether a request is the end of a session of a former life of ours, as its relay tells it.
    fn ends_former_session(&self, request: &Message, flow: &Flow, session: Session) -> bool {
        let is_relay = self.config.relays.iter().any(|relay| relay.address == flow.remote);
        let unknown = !self.relays.sessions.contains_key(&session) && !self.has_ended(session);
        is_relay && unknown && request.method() == Method::Bye
    }

    /// A session that a former life of ours made has ended for silence: its call is recorded, as far as the relay can
    /// name it. Nobody is left here who could be told.
    fn former_session_ended(&mut self, cx: &Cx<'_>, session: Session, call: EventName) {
        let (age, life) = (age(session, cx.now), cx.now.at.saturating_duration_since(self.birth.now));
        if age > life && self.calls.find(&call).is_none() && self.calls.end_former(&call) {
            self.tell(Event::CallEnded(Box::new(CallEnded {
                call,
                from: "".into(),
                to: "".into(),
                status: 200,
                duration: age,
                setup: Duration::ZERO,
                by: EndedBy::Silence,
                anchored: true,
            })));
        }
    }

    /// A relay ends a session by BYE when it has been silent for too long: the call is over, and both parties hear so;
    /// unless it was answered elsewhere.
    pub(crate) fn relay_hangs_up(
        &mut self,
        cx: &mut Cx<'_>,
        id: ServerId,
        flow: &Flow,
        request: &Message,
    ) -> Result<(), Refusal> {
        let proof = self.config.siblings.key.as_ref().map(|key| key.check(request, cx.now.unix()));
        if proof != Some(Proof::Proven) && !flow.remote.ip().is_loopback() {
            return Err(Refusal::new(403, "a relay's request without proof (Node-Auth)"));
        }
        let status = if request.method() == Method::Bye { 200 } else { 405 };
        let response = reply(request, status, "").finish();
        let response = siblings::sign_towards(flow, response, &self.config, cx.now.unix());
        self.transactions.respond(cx.now.at, id, response);
        if let Some(session) = Session::from_name(request.call_id()).filter(|_| status == 200) {
            let call = self.relays.sessions.get(&session).and_then(|held| held.call.clone());
            self.relays.ended.remember(cx.now.at, 64 * self.config.timers.t1, session);
            self.let_go(cx, session);
            if let Some(call) = call.filter(|call| self.calls.talks_by(call, session)) {
                self.hang_up(cx, &call, EndedBy::Silence);
            } else if let Some(call) = call_named(request) {
                self.former_session_ended(cx, session, call.into());
            }
        }
        Ok(())
    }

    /// What the other party was told when this one said the same last.
    pub(crate) fn told_before(&self, session: Session, leg: Side, sdp: &[u8]) -> Option<Bytes> {
        let held = self.relays.sessions.get(&session).filter(|held| held.under_way.is_none())?;
        held.told[index(leg)].as_ref().filter(|(said, _)| said == sdp).map(|(_, told)| told.clone())
    }

    /// The decision that made a session, once, when what both parties are told is known.
    pub(crate) fn take_decided(&mut self, session: Session) -> Option<(Event, [Bytes; 2])> {
        let held = self.relays.sessions.get_mut(&session)?;
        let [Some((_, to_callee)), Some((_, to_caller))] = &held.told else { return None };
        let told = [to_caller.clone(), to_callee.clone()];
        Some((held.decided.take()?, told))
    }
}

/// A relay's refusal in the words of ours to the caller: what it can't carry is 488; anything else is our shortage.
fn refusal_of(response: &Message) -> Final {
    let status = match response.status() {
        Some(488 | 415) => 488,
        Some(481) => 481,
        _ => 503,
    };
    let asked =
        response.text(Name::RetryAfter).and_then(|after| after.split([';', '(', ' ']).next()?.parse().ok());
    let retry_after = (status == 503).then_some(asked.unwrap_or(RETRY_AFTER));
    Final { retry_after, ..Final::own(status) }
}
