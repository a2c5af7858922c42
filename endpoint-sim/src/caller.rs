//! Calls we make (RFC 3261 §13.2, §15, §9.1).

use proto::sip::{Builder, Message, Method, Name};

use crate::call::{Call, Stage};
use crate::dialog::Dialog;
use crate::media::Media;
use crate::offer::{self, Ours};
use crate::phone::{Phone, Purpose};
use crate::report::EndedBy;
use crate::script::After;

/// What we understand.
pub(crate) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO, REFER, NOTIFY";

impl Phone {
    /// Opens ports, then calls. Nothing happens while a call is up.
    pub(crate) fn begin_call(&mut self, to: &str, late_offer: bool) {
        if self.call.is_some() {
            return;
        }
        let (call_id, tag) = (self.dice.word(24), self.dice.word(8));
        let dialog = Dialog::outgoing(call_id, tag, &self.config.uri(), to);
        self.call = Some(Call { late_offer, ..self.fresh_call(dialog, Stage::Opening) });
        self.open_ports();
    }

    /// A call at its beginning; the report and the milestones are about it from now on.
    pub(crate) fn fresh_call(&mut self, dialog: Dialog, stage: Stage) -> Call {
        self.report.begin_call();
        self.milestones
            .retain(|milestone, _| !matches!(milestone, After::Ringing | After::Answered | After::Ended));
        let media = Media::new(&self.config, &mut self.dice);
        Call::new(self.now, dialog, media, stage)
    }

    /// The ports are open: the INVITE goes out.
    pub(crate) fn invite(&mut self) {
        let (via, contact) = (self.via(), self.contact());
        let route = self.service_route(self.way());
        let Some(call) = &mut self.call else { return };
        call.stage = Stage::Calling;
        let invite = call.dialog.request(Method::Invite, &via);
        let invite = route.into_iter().fold(invite, |invite, route| invite.header(Name::Route, route));
        let invite = invite.header(Name::Contact, contact).header(Name::Allow, ALLOW);
        let invite = match self.replaces.take() {
            Some(replaces) => invite.header(Name::Replaces, replaces).header(Name::Require, "replaces"),
            None => invite,
        };
        let invite = if call.late_offer { invite } else { call.with_offer(invite) };
        self.request(Purpose::Invite, invite.finish());
    }

    /// A provisional response; a session it describes is early media.
    pub(crate) fn call_progresses(&mut self, response: &Message) {
        let Some(call) = self.call.as_mut().filter(|call| call.stage == Stage::Calling) else { return };
        if response.status() == Some(100) {
            return;
        }
        let ringing = self.now.saturating_duration_since(call.begun).as_millis() as u64;
        self.report.ringing_ms.get_or_insert(ringing);
        if let Some(remote) = call.described(response) {
            call.media.follow(self.now, remote);
        }
        self.reached(After::Ringing);
    }

    pub(crate) fn invite_finished(&mut self, status: u16, response: Option<&Message>) {
        self.report.call_status = Some(status);
        match response.filter(|_| matches!(status, 200..=299)) {
            Some(response) => self.call_answered(response),
            None => {
                let given_up = self.call.as_ref().is_some_and(|call| call.stage == Stage::Cancelling);
                self.tell_of_transfer(status);
                self.end_call(if given_up { EndedBy::Us } else { EndedBy::Failure });
            }
        }
    }

    fn call_answered(&mut self, response: &Message) {
        let Some(call) = &mut self.call else { return self.refuse_branch(response) };
        call.dialog.confirm(response);
        let given_up = call.stage == Stage::Cancelling;
        call.stage = Stage::Up;
        let remote = call.described(response);
        if let Some(remote) = remote {
            call.media.follow(self.now, remote);
        }
        let setup = self.now.saturating_duration_since(call.begun).as_millis() as u64;
        self.report.setup_ms = Some(setup);
        self.acknowledge(response);
        if given_up {
            return self.hang_up();
        }
        self.report.answered = true;
        self.reached(After::Answered);
        self.tell_of_transfer(200);
    }

    /// ACK of a 2xx (§13.2.2.4): with the INVITE's credentials, and with the answer when the offer came late.
    pub(crate) fn acknowledge(&mut self, response: &Message) {
        let via = self.via();
        let Some(call) = &mut self.call else { return };
        let number = response.cseq().map_or(0, |cseq| cseq.number);
        let ack = call.dialog.request_numbered(Method::Ack, number, &via);
        let ack = with_credentials(ack, call.invite.as_ref());
        let ack = if std::mem::take(&mut call.late_offer) { call.with_answer(ack) } else { ack }.finish();
        call.acks.insert((response.to_tag().to_string(), number), ack.clone());
        self.transactions.send(self.flow(), ack);
    }

    /// A final response that nobody waits for: a 200 again, whose ACK was lost, or one of another branch.
    pub(crate) fn answered_again(&mut self, response: &Message) {
        let is_success = matches!(response.status(), Some(200..=299)) && response.method() == Method::Invite;
        let number = response.cseq().map_or(0, |cseq| cseq.number);
        let call = self.call.as_ref().filter(|call| call.dialog.call_id == response.call_id());
        if !is_success {
            return;
        }
        match call.and_then(|call| call.acks.get(&(response.to_tag().to_string(), number)).cloned()) {
            Some(ack) => self.transactions.send(self.flow(), ack),
            None => self.refuse_branch(response),
        }
    }

    /// Another branch of a forked call answered too (§13.2.2.4): ACK, then BYE.
    fn refuse_branch(&mut self, response: &Message) {
        let (via, bye_via) = (self.via(), self.via());
        let own = response.from_tag().to_string();
        let mut dialog =
            Dialog::outgoing(response.call_id().to_string(), own, &self.config.uri(), "sip:invalid");
        dialog.confirm(response);
        let number = response.cseq().map_or(0, |cseq| cseq.number);
        let invite = self.call.as_ref().and_then(|call| call.invite.as_ref());
        let ack = with_credentials(dialog.request_numbered(Method::Ack, number, &via), invite).finish();
        let bye = dialog.request_numbered(Method::Bye, number + 1, &bye_via).finish();
        self.transactions.send(self.flow(), ack);
        self.report.extra_answers += 1;
        self.request(Purpose::Other, bye);
    }

    /// Ends the call as it must be ended where it is: CANCEL, BYE, or a refusal.
    pub(crate) fn hang_up(&mut self) {
        let Some(call) = &mut self.call else { return };
        match call.stage {
            Stage::Opening => self.end_call(EndedBy::Us),
            Stage::Calling => {
                call.stage = Stage::Cancelling;
                if let Some(client) = call.client {
                    self.transactions.cancel(self.now, client, None);
                }
            }
            Stage::Ringing => self.refuse_call(480, EndedBy::Us),
            Stage::Up => self.bye(),
            Stage::Cancelling | Stage::Ending => {}
        }
    }

    fn bye(&mut self) {
        let via = self.via();
        let Some(call) = &mut self.call else { return };
        (call.stage, call.unacknowledged) = (Stage::Ending, None);
        let bye = call.dialog.request(Method::Bye, &via).finish();
        self.request(Purpose::Bye, bye);
    }
}

/// ACK repeats the credentials of its INVITE (RFC 3261 §22.1).
fn with_credentials(ack: Builder, invite: Option<&Message>) -> Builder {
    let headers = invite.into_iter().flat_map(Message::headers);
    let credentials = headers.filter(|h| matches!(h.name, Name::Authorization | Name::ProxyAuthorization));
    credentials.fold(ack, |ack, h| ack.header(h.name, String::from_utf8_lossy(h.value)))
}

impl Call {
    /// Adds an offer of ours.
    pub(crate) fn with_offer(&mut self, builder: Builder) -> Builder {
        let direction =
            if self.holding { proto::sdp::Direction::SendOnly } else { proto::sdp::Direction::SendRecv };
        self.describe(builder, direction, false)
    }

    /// Adds our answer to what the other side described last.
    pub(crate) fn with_answer(&mut self, builder: Builder) -> Builder {
        let offered = self.media.remote.as_ref().map(|remote| remote.direction).unwrap_or_default();
        self.describe(builder, offer::answering(offered, self.holding), true)
    }

    fn describe(&mut self, builder: Builder, direction: proto::sdp::Direction, answers: bool) -> Builder {
        let Some(sockets) = self.media.sockets else { return builder };
        self.media.direction = direction;
        let offer = self.media.remote.as_ref().filter(|_| answers);
        let Media { origin, mux, .. } = self.media;
        let crypto = self.media.keys.as_ref().map(|keys| &keys.own);
        let sdp = offer::write(Ours { local: sockets.local, origin, direction, mux, crypto }, offer);
        self.media.origin.version += 1;
        builder.body("application/sdp", &sdp)
    }
}
