//! Registering (RFC 3261 §10.2), and staying registered.

use std::time::{Duration, Instant};

use proto::node::Dice;
use proto::sip::{Builder, Message, Name};

use crate::phone::{Phone, Purpose};
use crate::script::After;

/// The phone's one registration.
#[derive(Debug)]
pub(crate) struct Registration {
    call_id: String,
    tag: String,
    /// CSeq of the last REGISTER.
    pub(crate) number: u32,
    wanted: bool,
    /// When to refresh it, or try again.
    pub(crate) refresh_at: Option<Instant>,
}

/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);

impl Registration {
    pub(crate) fn new(dice: &mut Dice) -> Registration {
        Registration { call_id: dice.word(20), tag: dice.word(8), number: 0, wanted: false, refresh_at: None }
    }

    /// No refresh any more.
    pub(crate) fn stop(&mut self) {
        (self.wanted, self.refresh_at) = (false, None);
    }
}

impl Phone {
    /// Sends a REGISTER, to make or refresh the binding or to take it back.
    pub(crate) fn register(&mut self, purpose: Purpose) {
        self.registration.stop();
        self.registration.wanted = purpose == Purpose::Register;
        self.registration.number += 1;
        let via = self.via();
        let Registration { call_id, tag, number, .. } = &self.registration;
        let (uri, expires) =
            (self.config.uri(), if self.registration.wanted { self.config.expires } else { 0 });
        let request = Builder::request("REGISTER", &format!("sip:{}", self.config.domain))
            .header(Name::Via, via)
            .header(Name::MaxForwards, 70)
            .header(Name::From, format_args!("<{uri}>;tag={tag}"))
            .header(Name::To, format_args!("<{uri}>"))
            .header(Name::CallId, call_id)
            .header(Name::CSeq, format_args!("{number} REGISTER"))
            .header(Name::Contact, self.config.registered_contact())
            .header(Name::Expires, expires)
            .finish();
        self.request(purpose, request);
    }

    pub(crate) fn register_finished(&mut self, purpose: Purpose, status: u16, response: Option<&Message>) {
        self.report.register_status = Some(status);
        let succeeded = matches!(status, 200..=299);
        if purpose == Purpose::Unregister {
            self.report.registered &= !succeeded;
            return;
        }
        self.report.registered = succeeded;
        // A refusal stays one; what did not arrive is tried again.
        let again = if succeeded { self.refresh_after(response) } else { RETRY };
        let worth_it = self.registration.wanted && !matches!(status, 400..=407 | 410..=499);
        self.registration.refresh_at = worth_it.then(|| self.now + again);
        if succeeded {
            self.reached(After::Registered);
        }
    }

    /// Half of what the registrar grants, as the response says for our Contact or for all.
    fn refresh_after(&self, response: Option<&Message>) -> Duration {
        let own = self.config.contact();
        let granted = response.and_then(|response| {
            let mut contacts = response.contacts().flatten();
            let ours = contacts.find(|contact| own.contains(contact.raw_uri));
            ours.and_then(|contact| contact.expires()).or(response.expires())
        });
        Duration::from_secs(u64::from(granted.unwrap_or(self.config.expires)).max(2)) / 2
    }

    /// The connection it was made by is gone (RFC 5626 §4.4): make it anew by another, soon.
    pub(crate) fn registration_lost(&mut self) {
        if self.registration.wanted {
            self.registration.refresh_at = Some(self.now + Duration::from_secs(1));
        }
    }

    pub(crate) fn registration_due(&mut self) {
        if self.registration.refresh_at.is_some_and(|at| at <= self.now) {
            self.register(Purpose::Register);
        }
    }
}
