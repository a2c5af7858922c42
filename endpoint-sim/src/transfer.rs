//! Transfer, blind and attended (RFC 3515, RFC 3891, RFC 5589), in all three parts: who transfers, who is transferred, and
//! who is called in place of the first.
//!
//! ```text
//!   transferor ──── call 1 ──── transferee          REFER in call 1, Refer-To: <target?Replaces=call-2…>
//!       └── call 2 (attended) ── target             INVITE with Replaces from transferee to target, which ends call 2
//! ```

use proto::sip::transaction::ServerId;
use proto::sip::{self, Message, Method, Name, Params};

use crate::call::{Call, Stage};
use crate::dialog::Dialog;
use crate::phone::{Phone, Purpose};
use crate::report::EndedBy;

impl Phone {
    /// Asks the other side to call somebody else.
    pub(crate) fn transfer(&mut self, to: &str) {
        let via = self.via();
        let contact = self.contact();
        let own = self.config.uri();
        let Some(call) = self.call.as_mut().filter(|call| call.stage == Stage::Up) else { return };
        let refer = refer(&mut call.dialog, &via, &contact, &own, to);
        self.request(Purpose::Refer, refer);
    }

    /// Calls somebody else while the present call waits, silent.
    pub(crate) fn consult(&mut self, to: &str) {
        let waits = self.call.as_ref().is_some_and(|call| call.stage == Stage::Up && !call.changing);
        if waits && self.parked.is_none() {
            self.parked = self.call.take();
            self.begin_call(to, false);
        }
    }

    /// Connects the party that waits with the one that was consulted (RFC 5589 §7).
    pub(crate) fn transfer_consulted(&mut self) {
        let (via, contact, own) = (self.via(), self.contact(), self.config.uri());
        let Some(consulted) = self.call.as_ref().filter(|call| call.stage == Stage::Up) else { return };
        let target = consulted.dialog.referred_to();
        let Some(parked) = &mut self.parked else { return };
        let refer = refer(&mut parked.dialog, &via, &contact, &own, &target);
        self.request(Purpose::Refer, refer);
    }

    /// How the transfer we asked for goes. When it has gone well we are no longer needed.
    pub(crate) fn transfer_told(&mut self, id: ServerId, notify: &Message) {
        self.respond(id, notify, 200);
        let body = String::from_utf8_lossy(notify.body()).into_owned();
        let status = body.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
        let Some(status) = status.filter(|status| *status >= 200) else { return };
        self.report.transfer_status = Some(status);
        match status {
            200..300 if self.parked.is_some() => self.leave_parked(true),
            200..300 => self.hang_up(),
            _ => {}
        }
    }

    /// Ends the call that waits, by BYE or because one came.
    pub(crate) fn leave_parked(&mut self, with_bye: bool) {
        let via = self.via();
        let Some(mut parked) = self.parked.take() else { return };
        parked.media.end(&mut self.out);
        self.tell_end(&parked, if with_bye { EndedBy::Us } else { EndedBy::Them });
        if with_bye {
            let bye = parked.dialog.request(Method::Bye, &via).finish();
            self.request(Purpose::Other, bye);
        }
    }

    /// We are asked to call somebody else: this call's media ends, its dialog waits for the outcome.
    pub(crate) fn transfer_asked(&mut self, id: ServerId, refer: &Message) {
        let target = refer.name_addrs(Name::ReferTo).next().and_then(Result::ok);
        let Some(target) = target.map(|to| to.raw_uri.to_string()) else {
            return self.respond(id, refer, 400);
        };
        let response = self.reply(refer, 202).header(Name::Contact, self.contact());
        self.transactions.respond(self.now, id, response.finish());
        self.transferred = self.call.as_ref().map(|call| call.dialog.clone());
        self.end_call(EndedBy::Them);
        self.notify(100);
        let (to, headers) = target.split_once('?').unwrap_or((&target, ""));
        let replaces = headers.split('&').find_map(|header| header.strip_prefix("Replaces="));
        // One that can't be read goes to the other end as it is, which will not know it.
        self.replaces = replaces.map(|value| sip::unescaped(value).unwrap_or_else(|| value.to_owned()));
        self.begin_call(to, false);
    }

    /// The call we were transferred to came to something.
    pub(crate) fn tell_of_transfer(&mut self, status: u16) {
        self.notify(status);
    }

    fn notify(&mut self, status: u16) {
        let (via, contact) = (self.via(), self.contact());
        let Some(old) = &mut self.transferred else { return };
        let (state, phrase) = (
            if status < 200 { "active;expires=60" } else { "terminated;reason=noresource" },
            proto::sip::reason_phrase(status),
        );
        let notify = old
            .request(Method::Notify, &via)
            .header(Name::Contact, contact)
            .header(Name::Event, "refer")
            .header(Name::SubscriptionState, state)
            .body("message/sipfrag", format!("SIP/2.0 {status} {phrase}\r\n").as_bytes())
            .finish();
        self.request(Purpose::Other, notify);
    }

    /// Somebody calls in place of the party of this call (RFC 3891 §3): that one's dialog ends by BYE. `false`: there is no
    /// such call.
    pub(crate) fn give_way(&mut self, replaces: &str) -> bool {
        let via = self.via();
        let call =
            self.call.as_mut().filter(|call| call.stage == Stage::Up && call.dialog.is_named(replaces));
        let Some(bye) = call.map(|call: &mut Call| call.dialog.request(Method::Bye, &via).finish()) else {
            return false;
        };
        self.end_call(EndedBy::Them);
        self.request(Purpose::Other, bye);
        self.report.replaced += 1;
        true
    }
}

fn refer(dialog: &mut Dialog, via: &str, contact: &str, own: &str, to: &str) -> Message {
    dialog
        .request(Method::Refer, via)
        .header(Name::Contact, contact)
        .header(Name::ReferTo, format_args!("<{to}>"))
        .header(Name::ReferredBy, format_args!("<{own}>"))
        .finish()
}

impl Dialog {
    /// Its other party, to be called in our place: the Contact, with this dialog in a Replaces header, whose to-tag is that
    /// party's own.
    fn referred_to(&self) -> String {
        let replaces = format!("{};to-tag={};from-tag={}", self.call_id, self.remote_tag, self.local_tag);
        format!("{}?Replaces={}", self.target, sip::escaped(&replaces, b""))
    }

    /// Whether a Replaces header means it.
    fn is_named(&self, replaces: &str) -> bool {
        let (call_id, params) = replaces.split_once(';').unwrap_or((replaces, ""));
        let params = Params(params);
        call_id.trim() == self.call_id
            && params.get("to-tag") == Some(&self.local_tag)
            && params.get("from-tag") == Some(&self.remote_tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialog_in_a_refer_to_is_known_by_the_other_end() {
        let mut dialog = Dialog::outgoing("c;1@x".into(), "mine".into(), "sip:a@x", "sip:b@x");
        (dialog.remote_tag, dialog.target) = ("theirs".into(), "sip:b@192.0.2.1".into());
        let (to, replaces) = dialog
            .referred_to()
            .split_once("?Replaces=")
            .map(|(a, b)| (a.to_owned(), sip::unescaped(b).unwrap()))
            .unwrap();
        assert_eq!((&*to, &*replaces), ("sip:b@192.0.2.1", "c;1@x;to-tag=theirs;from-tag=mine"));
        dialog.call_id = "c1@x".into();
        let mut theirs = dialog.clone();
        std::mem::swap(&mut theirs.local_tag, &mut theirs.remote_tag);
        assert!(theirs.is_named("c1@x;from-tag=mine;to-tag=theirs"));
        assert!(
            !dialog.is_named("c1@x;from-tag=mine;to-tag=theirs") && !theirs.is_named("c1@x;to-tag=theirs")
        );
    }
}
