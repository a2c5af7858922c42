//! What others ask of us: calls (RFC 3261 §13.3), their end, and everything else.

use std::time::Duration;

use proto::node::Flow;
use proto::sip::transaction::ServerId;
use proto::sip::{Builder, Message, Method, Name, reply};

use crate::call::{Call, Repeated, Stage};
use crate::caller::ALLOW;
use crate::dialog::Dialog;
use crate::offer;
use crate::phone::{Phone, T1, T2};
use crate::report::EndedBy;
use crate::script::After;

impl Phone {
    /// A request that is neither ACK nor CANCEL.
    pub(crate) fn asked(&mut self, id: ServerId, flow: &Flow, request: Message) {
        let in_call = self.call.as_ref().is_some_and(|call| call.dialog.has(&request));
        let waiting = self.parked.as_ref().is_some_and(|call| call.dialog.has(&request));
        let inside = !request.to_tag().is_empty();
        match request.method() {
            Method::Invite if !inside => self.called(id, flow, request),
            Method::Invite | Method::Update if in_call => self.change_asked(id, request),
            Method::Bye if in_call => self.hung_up(id, &request),
            Method::Bye if self.transferred.as_ref().is_some_and(|old| old.has(&request)) => {
                self.transferred = None;
                self.respond(id, &request, 200);
            }
            Method::Bye if waiting => {
                self.leave_parked(false);
                self.respond(id, &request, 200);
            }
            Method::Notify if waiting => self.transfer_told(id, &request),
            Method::Refer if in_call => self.transfer_asked(id, &request),
            Method::Notify if in_call => self.transfer_told(id, &request),
            Method::Options if !inside => self.respond(id, &request, 200),
            Method::Options | Method::Info | Method::Message if in_call => self.respond(id, &request, 200),
            _ if inside => self.respond(id, &request, 481),
            _ => self.respond(id, &request, 405),
        }
    }

    /// Answers without further ado.
    pub(crate) fn respond(&mut self, id: ServerId, request: &Message, status: u16) {
        let response = self.reply(request, status);
        self.transactions.respond(self.now, id, response.finish());
    }

    /// A response with a tag of ours.
    pub(crate) fn reply(&mut self, request: &Message, status: u16) -> Builder {
        let known = self.call.as_ref().filter(|call| call.dialog.call_id == request.call_id());
        let tag = known.map_or_else(|| self.dice.word(8), |call| call.dialog.local_tag.clone());
        reply(request, status, &tag).header(Name::Allow, ALLOW)
    }

    fn called(&mut self, id: ServerId, flow: &Flow, invite: Message) {
        let replaces = invite.text(Name::Replaces);
        let replaced = replaces.is_some_and(|replaces| self.give_way(replaces));
        if replaces.is_some() && !replaced {
            return self.respond(id, &invite, 481);
        }
        if self.call.is_some() {
            self.report.busy += 1;
            return self.respond(id, &invite, 486);
        }
        if let Some(required) = invite.text(Name::Require).filter(|required| *required != "replaces") {
            let response = self.reply(&invite, 420).header(Name::Unsupported, required).finish();
            return self.transactions.respond(self.now, id, response);
        }
        let remote = invite.sdp().and_then(|(_, sdp)| offer::read(sdp, self.config.srtp));
        if invite.sdp().is_some() && remote.is_none() {
            return self.respond(id, &invite, 488);
        }
        let tag = self.dice.word(8);
        let mut call = self.fresh_call(Dialog::incoming(&invite, tag), Stage::Ringing);
        (call.late_offer, call.server) = (remote.is_none(), Some(id));
        call.way = self.way_of(flow);
        call.media.remote = remote;
        let rings = if replaced { 0 } else { self.answer.after_ms };
        call.answer_at = Some(self.now + Duration::from_millis(rings));
        call.invite = Some(invite);
        self.call = Some(call);
        match self.answer.reject {
            Some(status) => self.refuse_call(status, EndedBy::Us),
            None => self.open_ports(),
        }
    }

    /// The ports are open: say that it rings, and begin to talk if early media is wanted.
    pub(crate) fn ring(&mut self) {
        let early = self.answer.early_media;
        let Some(call) = &mut self.call else { return };
        let (Some(invite), Some(id)) = (call.invite.clone(), call.server) else { return };
        if !self.answer.ring && !early {
            return;
        }
        let mut response =
            self.reply(&invite, if early { 183 } else { 180 }).header(Name::Contact, self.contact());
        if let Some(call) = self.call.as_mut().filter(|call| early && !call.late_offer) {
            response = call.with_answer(response);
            call.begin_talking(self.now);
        }
        self.transactions.respond(self.now, id, response.finish());
        self.reached(After::Ringing);
    }

    /// Timers of the call.
    pub(crate) fn call_due(&mut self) {
        let Some(call) = &mut self.call else { return };
        let rung = call.stage == Stage::Ringing && call.answer_at.is_some_and(|at| at <= self.now);
        if rung && call.media.sockets.is_some() {
            return self.answer_call();
        }
        let Some(repeated) = call.unacknowledged.as_mut().filter(|repeated| repeated.next <= self.now) else {
            return;
        };
        if repeated.until <= self.now {
            call.unacknowledged = None;
            return self.hang_up();
        }
        repeated.interval = (repeated.interval * 2).min(T2);
        repeated.next = self.now + repeated.interval;
        let (server, response) = (repeated.server, repeated.response.clone());
        self.transactions.respond(self.now, server, response);
    }

    fn answer_call(&mut self) {
        let Some(call) = &mut self.call else { return };
        let (Some(invite), Some(id)) = (call.invite.clone(), call.server.take()) else { return };
        (call.stage, call.answer_at) = (Stage::Up, None);
        let response = self.reply(&invite, 200).header(Name::Contact, self.contact());
        self.accept(id, response);
        (self.report.answered, self.report.call_status) = (true, Some(200));
        self.reached(After::Answered);
    }

    /// Sends a 200 to an INVITE with our side of the session, again and again until the ACK comes.
    pub(crate) fn accept(&mut self, server: ServerId, response: Builder) {
        let Some(call) = &mut self.call else { return };
        let response =
            if call.late_offer { call.with_offer(response) } else { call.with_answer(response) }.finish();
        call.begin_talking(self.now);
        let (next, until) = (self.now + T1, self.now + T1 * 64);
        call.unacknowledged =
            Some(Repeated { server, response: response.clone(), next, interval: T1, until });
        self.transactions.respond(self.now, server, response);
    }

    /// An ACK of a 200 of ours; it may bring the answer to a late offer.
    pub(crate) fn acknowledged(&mut self, ack: &Message) {
        let Some(call) = self.call.as_mut().filter(|call| call.dialog.has(ack)) else { return };
        call.unacknowledged = None;
        if let Some(remote) = call.described(ack).filter(|_| std::mem::take(&mut call.late_offer)) {
            call.media.follow(self.now, remote);
        }
    }

    pub(crate) fn cancelled(&mut self, id: ServerId, invite: Option<ServerId>, cancel: &Message) {
        let Some(invite) = invite else { return self.respond(id, cancel, 481) };
        self.respond(id, cancel, 200);
        let ours = self
            .call
            .as_ref()
            .is_some_and(|call| call.stage == Stage::Ringing && call.server == Some(invite));
        if ours {
            self.refuse_call(487, EndedBy::Them);
        }
    }

    /// Refuses the call that rings.
    pub(crate) fn refuse_call(&mut self, status: u16, by: EndedBy) {
        let call = self.call.as_mut().and_then(|call| Some((call.server.take()?, call.invite.clone()?)));
        if let Some((id, invite)) = call {
            self.respond(id, &invite, status);
        }
        self.report.call_status = Some(status);
        self.end_call(by);
    }

    fn hung_up(&mut self, id: ServerId, bye: &Message) {
        self.respond(id, bye, 200);
        let crossed = self.call.as_ref().is_some_and(|call| call.stage == Stage::Ending);
        self.end_call(if crossed { EndedBy::Us } else { EndedBy::Them });
    }
}

impl Call {
    /// Our side is described: talk, if the other side has said where to.
    pub(crate) fn begin_talking(&mut self, now: std::time::Instant) {
        if let Some(remote) = self.media.remote.clone() {
            self.media.follow(now, remote);
        }
    }
}
