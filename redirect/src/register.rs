//! REGISTER from a proxy: "I serve this address" (RFC 3261 §10.3). Read as a whole, then done as a whole in one atomic
//! edit of the table.
//!
//! What is removed or runs out stays as a dead binding for [`Config::memory`]: that is how a known address nobody serves
//! is told from an unknown one, and how a replayed old REGISTER is known by its CSeq.

use std::time::{Duration, SystemTime};

use proto::event::{Event, Registration};
use proto::node::Flow;
use proto::sip::{Builder, Message, Name, NameAddr, Scheme, Uri, reply};
use proto::tables::{Binding, Tables};

use crate::config::Config;
use crate::lookup::{is_at, q_value};
use crate::refusal::{Refusal, refusal};

/// One REGISTER and where it came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit<'a> {
    pub(crate) wall: SystemTime,
    pub(crate) flow: &'a Flow,
    pub(crate) request: &'a Message,
    pub(crate) config: &'a Config,
}

/// What a REGISTER did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) aor: String,
    pub(crate) events: Vec<Event>,
    /// All live bindings now.
    bindings: Vec<Binding>,
}

/// Everything a REGISTER wants.
enum Asked {
    /// No Contact: only a list.
    List,
    /// `Contact: *` with Expires 0.
    ClearAll,
    /// Bindings; one that has run out already is to be removed.
    Bind(Vec<Binding>),
}

impl Visit<'_> {
    /// Serves it.
    pub(crate) fn serve(&self, tables: &mut dyn Tables) -> Result<Done, Refusal> {
        let to = self.request.to().and_then(|to| to.uri()).map_err(|_| refusal(400, "To is no address"))?;
        let aor = to.aor().ok_or(refusal(400, "To names no user at a domain"))?;
        let asked = self.asked(&aor)?;
        if let Asked::List = asked {
            return Ok(self.done(aor.clone(), &tables.bindings(&aor), Vec::new()));
        }
        let mut outcome = Err(refusal(500, "the table of bindings did not answer"));
        tables.edit_bindings(&aor, &mut |bindings| {
            outcome = self.change(&aor, bindings, &asked);
            if let Ok((after, _)) = &outcome {
                bindings.clone_from(after);
            }
        });
        outcome.map(|(after, events)| self.done(aor, &after, events))
    }

    fn done(&self, aor: String, after: &[Binding], events: Vec<Event>) -> Done {
        Done { aor, events, bindings: after.iter().filter(|b| b.is_live(self.wall)).cloned().collect() }
    }

    /// §10.3 steps 6 and 7, as far as they can be said without knowing what is bound already.
    fn asked(&self, aor: &str) -> Result<Asked, Refusal> {
        if self.request.contact_star() {
            let alone = self.request.values(Name::Contact).count() == 1 && self.request.expires() == Some(0);
            return alone
                .then_some(Asked::ClearAll)
                .ok_or(refusal(400, "Contact: * stands alone, with Expires: 0"));
        }
        let contacts = self.request.contacts().map(|contact| {
            contact
                .map_err(|_| refusal(400, "a Contact can't be read"))
                .and_then(|contact| self.wish(aor, &contact))
        });
        let wishes = contacts.collect::<Result<Vec<_>, _>>()?;
        Ok(if wishes.is_empty() { Asked::List } else { Asked::Bind(wishes) })
    }

    /// A proxy is reached at a SIP URI with a host, and is neither this server itself nor the address it is asked for
    /// (§8.3): that would be a loop.
    fn wish(&self, aor: &str, contact: &NameAddr<'_>) -> Result<Binding, Refusal> {
        let uri = contact.uri().map_err(|_| refusal(400, "a Contact holds no URI"))?;
        if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) || uri.host.is_empty() {
            return Err(refusal(400, "a Contact is not the SIP URI of a proxy"));
        }
        if is_at(contact.raw_uri, &self.flow.local.to_string()) {
            return Err(refusal(400, "a Contact names the redirect server itself"));
        }
        if uri.aor().as_deref() == Some(aor) {
            return Err(refusal(400, "a Contact is the very address it is to be found for"));
        }
        let seconds = self.lifetime(contact.expires())?;
        Ok(Binding {
            contact: contact.raw_uri.to_owned(),
            call_id: self.request.call_id().to_owned(),
            cseq: self.cseq(),
            q: contact.q(),
            expires: self.wall + Duration::from_secs(u64::from(seconds)),
            flow: *self.flow,
            sent_by: self.request.via().map(|via| via.sent_by()).unwrap_or_default(),
            behind_nat: false,
            path: Vec::new(),
            instance: None,
            reg_id: None,
            agent: self.request.text(Name::UserAgent).map(|agent| agent.chars().take(64).collect()),
            unanswered: 0,
        })
    }

    /// §10.3 step 7: parameter, then header, then default.
    fn lifetime(&self, asked: Option<u32>) -> Result<u32, Refusal> {
        let limits = self.config.expiries;
        match asked.or(self.request.expires()).unwrap_or(limits.default) {
            0 => Ok(0),
            brief if brief < limits.min => {
                Err(refusal(423, "asked to be forgotten too soon").with(Name::MinExpires, limits.min))
            }
            seconds => Ok(seconds.min(limits.max)),
        }
    }

    fn cseq(&self) -> u32 {
        self.request.cseq().map_or(0, |cseq| cseq.number)
    }

    /// What shall be bound, and what to tell: all of it, or a refusal.
    fn change(
        &self,
        aor: &str,
        before: &[Binding],
        asked: &Asked,
    ) -> Result<(Vec<Binding>, Vec<Event>), Refusal> {
        let mut after = before.to_vec();
        let mut events = Vec::new();
        match asked {
            Asked::List => {}
            Asked::ClearAll => {
                before.iter().try_for_each(|old| self.in_order(old))?;
                for binding in after.iter_mut().filter(|b| b.is_live(self.wall)) {
                    self.end(binding);
                    events.push(told(aor, binding, Registration::Removed));
                }
            }
            Asked::Bind(wishes) => {
                for wish in wishes {
                    before.iter().filter(|old| is_same(old, wish)).try_for_each(|old| self.in_order(old))?;
                    events.extend(self.bind(aor, &mut after, wish));
                }
            }
        }
        self.make_room(&mut after)?;
        Ok((after, events))
    }

    fn bind(&self, aor: &str, after: &mut Vec<Binding>, wish: &Binding) -> Option<Event> {
        let old = after.iter().position(|old| is_same(old, wish)).map(|at| after.remove(at));
        let was_live = old.as_ref().is_some_and(|old| old.is_live(self.wall));
        let change = match (was_live, wish.is_live(self.wall)) {
            (false, true) => Some(Registration::New),
            (true, true) => Some(Registration::Refreshed),
            (true, false) => Some(Registration::Removed),
            (false, false) => None,
        };
        if change.is_some() || old.is_some() {
            after.push(wish.clone());
        }
        change.map(|change| told(aor, wish, change))
    }

    /// Removed, and remembered, so that no older request of the same Call-ID brings it back.
    fn end(&self, binding: &mut Binding) {
        binding.expires = self.wall;
        if binding.call_id == self.request.call_id() {
            binding.cseq = self.cseq();
        }
    }

    /// Under the same Call-ID a request must be younger than what made the binding (§10.3 step 7).
    fn in_order(&self, old: &Binding) -> Result<(), Refusal> {
        let late = old.call_id == self.request.call_id() && old.cseq >= self.cseq();
        if late { Err(refusal(500, "CSeq is not higher than that of the binding")) } else { Ok(()) }
    }

    /// The dead make room, the longest dead first, before anybody living is refused.
    fn make_room(&self, bindings: &mut Vec<Binding>) -> Result<(), Refusal> {
        while bindings.len() > self.config.bindings {
            let oldest = bindings.iter().enumerate().min_by_key(|(_, binding)| binding.expires);
            match oldest.map(|(at, binding)| (at, binding.is_live(self.wall))) {
                Some((at, false)) => bindings.remove(at),
                _ => return Err(refusal(403, "more proxies than may serve one address")),
            };
        }
        Ok(())
    }
}

impl Done {
    /// §10.3 step 8: all bindings with what is left of their time.
    pub(crate) fn reply(&self, request: &Message, to_tag: &str, wall: SystemTime) -> Builder {
        self.bindings.iter().fold(reply(request, 200, to_tag), |response, binding| {
            let left = binding.expires.duration_since(wall).unwrap_or_default().as_secs();
            let (contact, q) = (&binding.contact, q_value(binding.q));
            response.header(Name::Contact, format_args!("<{contact}>;q={q};expires={left}"))
        })
    }
}

/// RFC 3261 §19.1.4.
fn is_same(a: &Binding, b: &Binding) -> bool {
    match (Uri::parse(&a.contact), Uri::parse(&b.contact)) {
        (Ok(a), Ok(b)) => a.is_equivalent(&b),
        _ => a.contact == b.contact,
    }
}

/// What became of one proxy's word for an address.
pub(crate) fn told(aor: &str, binding: &Binding, change: Registration) -> Event {
    Event::Registered { aor: aor.into(), flow: binding.flow, behind_nat: false, change }
}
