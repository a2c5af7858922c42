//! Changes of a call that is up: hold, resume, move (RFC 3261 §14, RFC 3264 §8) and UPDATE (RFC 3311), from both ends.

use proto::sip::transaction::ServerId;
use proto::sip::{Message, Method, Name};

use crate::call::Stage;
use crate::media;
use crate::phone::{Phone, Purpose};
use crate::script::{Act, After, Step};

impl Phone {
    /// Describes our side anew. Nothing happens unless a call is up; one change at a time.
    pub(crate) fn change(&mut self, act: Act) {
        let (via, contact) = (self.via(), self.contact());
        let Some(call) = self.call.as_mut().filter(|call| call.stage == Stage::Up && !call.changing) else {
            return;
        };
        match act {
            Act::Hold => call.holding = true,
            Act::Resume => call.holding = false,
            _ => {}
        }
        call.changing = true;
        let method = if act == Act::Update { Method::Update } else { Method::Invite };
        let request = call.dialog.request(method, &via).header(Name::Contact, contact);
        let request = call.with_offer(request).finish();
        self.request(Purpose::Change(act), request);
    }

    pub(crate) fn change_finished(&mut self, act: Act, status: u16, response: Option<&Message>) {
        let Some(call) = &mut self.call else { return };
        call.changing = false;
        match response.filter(|_| matches!(status, 200..=299)) {
            Some(response) => self.change_taken(act, response),
            None => self.change_refused(act, status),
        }
    }

    fn change_taken(&mut self, act: Act, response: &Message) {
        self.report.changes += 1;
        let Some(call) = &mut self.call else { return };
        call.dialog.follow_target(response);
        if let Some(old) = call.moved_from.take() {
            media::release(old, &mut self.out);
        }
        if let Some(remote) = call.described(response) {
            call.media.follow(self.now, remote);
        }
        if act != Act::Update {
            self.acknowledge(response);
        }
    }

    /// Everything stays as it was; after a glare (491) it is tried again (RFC 3261 §14.1).
    fn change_refused(&mut self, act: Act, status: u16) {
        let Some(call) = &mut self.call else { return };
        if let Some(old) = call.moved_from.take() {
            let failed = call.media.sockets.replace(old);
            failed.into_iter().for_each(|sockets| media::release(sockets, &mut self.out));
        }
        match status {
            408 | 481 => self.hang_up(),
            491 => {
                self.milestones.insert(After::Previous, self.now);
                let wait = 500 + self.dice.below(1500);
                self.steps.push_front(Step::new(act, After::Previous, wait));
            }
            _ => {}
        }
    }

    /// A re-INVITE or UPDATE.
    pub(crate) fn change_asked(&mut self, id: ServerId, request: Message) {
        let Some(call) = &mut self.call else { return };
        if call.changing || call.unacknowledged.is_some() {
            return self.respond(id, &request, 491);
        }
        call.dialog.follow_target(&request);
        let (remote, has_offer) = (call.described(&request), request.sdp().is_some());
        if has_offer && remote.is_none() {
            return self.respond(id, &request, 488);
        }
        self.report.changes_asked += u32::from(has_offer || request.method() == Method::Invite);
        call.late_offer = remote.is_none();
        call.media.remote = remote.or(call.media.remote.take());
        let response = self.reply(&request, 200).header(Name::Contact, self.contact());
        if request.method() == Method::Invite {
            return self.accept(id, response);
        }
        let Some(call) = &mut self.call else { return };
        call.late_offer = false;
        let response = if has_offer { call.with_answer(response) } else { response };
        call.begin_talking(self.now);
        self.transactions.respond(self.now, id, response.finish());
    }
}
