//! REGISTER (RFC 3261 §10.3): bindings with the source they were observed at.
//!
//! A request is read as a whole, then done as a whole: [`Asked`] is everything it wants, and one atomic edit of the
//! table does all of it or nothing. Bindings keep the flow they were made by, for that is where the device is reached
//! whatever its Contact says, and a connection that closes takes its bindings with it (DESIGN §4).

use std::time::Duration;

use proto::event::{Event, Registration};
use proto::node::Flow;
use proto::sip::{Builder, Message, Name, NameAddr, Reply, Scheme, Short, Uri};
use proto::tables::{Binding, Tables};

use crate::config::Config;
use crate::date::Date;
use crate::moment::Moment;
use crate::nat;
use crate::registrar::aor;
use crate::registrar::gruu;
use crate::registrar::outbound;
use crate::routing::paths;

/// Option tags we know what to do with when a request requires them (RFC 3261 §8.2.2.3).
const SUPPORTED: [&str; 3] = ["path", outbound::TAG, "gruu"];
/// Shorter expiries than the least one are refused only below this (§10.3 step 7).
const HOUR: u32 = 3600;

/// What a REGISTER did.
#[derive(Debug)]
pub struct Registered {
    /// The answer's status.
    pub status: u16,
    /// The answer.
    pub response: Builder,
    /// What to tell.
    pub events: Vec<Event>,
    /// The address of record whose bindings changed, and what they are now, so that keep-alives and the redirect server hear
    /// of it.
    pub changed: Option<(String, Vec<Binding>)>,
}

/// What the loss of a connection did.
#[derive(Debug, Default)]
pub struct Lost {
    /// What to tell.
    pub events: Vec<Event>,
    /// Addresses of record whose bindings changed.
    pub changed: Vec<String>,
}

/// Serves one REGISTER that passed the gate, which has seen that To is the account's own.
pub fn register(
    now: Moment,
    flow: &Flow,
    request: &Message,
    reply: Reply<'_>,
    config: &Config,
    tables: &mut dyn Tables,
) -> Registered {
    let visit = Visit { now, flow, request, reply, config, by_outbound: outbound::is_asked(request) };
    match visit.serve(tables) {
        Ok(done) => visit.accept(done),
        Err(refusal) => visit.refuse(refusal),
    }
}

/// The answer to a REGISTER that was served already, by what is bound now.
pub fn register_again(
    now: Moment,
    flow: &Flow,
    request: &Message,
    reply: Reply<'_>,
    config: &Config,
    tables: &dyn Tables,
) -> Builder {
    let visit = Visit { now, flow, request, reply, config, by_outbound: outbound::is_asked(request) };
    let aor = visit.address_of_record();
    let done = aor.map(|aor| Done {
        bindings: visit.live(&tables.bindings(&aor)),
        aor,
        events: vec![],
        changed: false,
    });
    done.map_or_else(|refusal| visit.refuse(refusal), |done| visit.accept(done)).response
}

/// A connection is gone: its bindings with it (DESIGN §4), but for those that are met by their Path. `aors` are those that
/// may have one made by it.
pub fn closed(
    flow: &Flow,
    aors: impl IntoIterator<Item = String>,
    config: &Config,
    tables: &mut dyn Tables,
) -> Lost {
    let on_it = |binding: &Binding| {
        flow.id.is_connection() && binding.flow.id == flow.id && !paths::outlives_connection(binding, config)
    };
    let mut lost = Lost::default();
    for aor in aors {
        if !tables.bindings(&aor).iter().any(on_it) {
            continue;
        }
        tables.edit_bindings(&aor, &mut |bindings| {
            let gone = bindings.extract_if(.., |binding| on_it(binding));
            lost.events.extend(gone.map(|binding| told(&aor, &binding, Registration::Lost)));
        });
        lost.changed.push(aor);
    }
    lost
}

/// Takes away the bindings of an address of record whose time is over.
pub fn expired(now: Moment, aor: &str, tables: &mut dyn Tables) -> Vec<Event> {
    let mut events = vec![];
    if tables.bindings(aor).iter().any(|binding| !binding.is_live(now.wall)) {
        tables.edit_bindings(aor, &mut |bindings| {
            let gone = bindings.extract_if(.., |binding| !binding.is_live(now.wall));
            events.extend(gone.map(|binding| told(aor, &binding, Registration::Lost)));
        });
    }
    events
}

/// One REGISTER and where it came from.
struct Visit<'a> {
    now: Moment,
    flow: &'a Flow,
    request: &'a Message,
    reply: Reply<'a>,
    config: &'a Config,
    /// It asks for RFC 5626.
    by_outbound: bool,
}

/// Everything a REGISTER wants.
enum Asked {
    /// No Contact: only a list.
    List,
    /// `Contact: *` with Expires 0.
    ClearAll,
    /// Contacts, each with its lifetime in seconds; 0 removes it.
    Bind(Vec<(Binding, u32)>),
}

/// Bindings after a REGISTER, and what happened on the way.
struct Done {
    aor: String,
    bindings: Vec<Binding>,
    events: Vec<Event>,
    changed: bool,
}

/// Why a REGISTER is not served.
struct Refusal {
    status: u16,
    why: &'static str,
    header: Option<(Name, String)>,
}

const fn refusal(status: u16, why: &'static str) -> Refusal {
    Refusal { status, why, header: None }
}

impl Visit<'_> {
    fn serve(&self, tables: &mut dyn Tables) -> Result<Done, Refusal> {
        self.extensions()?;
        let aor = self.address_of_record()?;
        let asked = self.asked()?;
        if matches!(asked, Asked::List) {
            let bindings = self.live(&tables.bindings(&aor));
            return Ok(Done { aor, bindings, events: vec![], changed: false });
        }
        let (mut asked, mut outcome) =
            (Some(asked), Err(refusal(500, "the table of bindings did not answer")));
        let bindings = tables.edit_bindings(&aor, &mut |bindings| {
            let Some(asked) = asked.take() else { return };
            outcome = self.change(&aor, bindings, asked);
        });
        Ok(Done { aor, bindings, events: outcome?, changed: true })
    }

    /// §10.3 step 2, and RFC 3327 §5.3: a Path that the device doesn't know of is refused, for it would never learn
    /// that it is reached by way of somebody.
    fn extensions(&self) -> Result<(), Refusal> {
        let unknown: Vec<_> = self.request.values(Name::Require).filter(|tag| !is_supported(tag)).collect();
        let path_unasked = self.request.values(Name::Path).next().is_some()
            && ![Name::Supported, Name::Require].iter().any(|&name| self.request.has_token(name, "path"));
        let (why, tags) = match (unknown.is_empty(), path_unasked) {
            (false, _) => ("the device requires extensions we don't have", unknown.join(", ")),
            (true, true) => ("somebody added a Path the device does not support", "path".to_string()),
            (true, false) if self.by_outbound && outbound::first_hop_lacks_it(self.request) => {
                return Err(refusal(439, "somebody between us and the device does not keep its flow"));
            }
            (true, false) => return Ok(()),
        };
        Err(Refusal { status: 420, why, header: Some((Name::Unsupported, tags)) })
    }

    /// §10.3 step 5; step 4 is the gate's.
    fn address_of_record(&self) -> Result<String, Refusal> {
        let to = self.request.to().and_then(|to| to.uri()).map_err(|_| refusal(400, "To is no address"))?;
        let aor = aor::canonical(&to, self.config).ok_or(refusal(400, "To names no user at a domain"))?;
        if !aor::is_ours(&aor, self.config) {
            return Err(refusal(404, "To is not at a domain of ours"));
        }
        Ok(aor)
    }

    /// §10.3 steps 6 and 7, as far as they can be said without knowing what is bound already.
    fn asked(&self) -> Result<Asked, Refusal> {
        if self.request.contact_star() {
            let alone = self.request.values(Name::Contact).count() == 1;
            let zero = self.request.expires() == Some(0);
            return if alone && zero {
                Ok(Asked::ClearAll)
            } else {
                Err(refusal(400, "Contact: * stands alone and with Expires: 0"))
            };
        }
        let contacts: Result<Vec<_>, _> = self.request.contacts().map(|contact| self.wish(contact)).collect();
        let contacts = contacts?;
        Ok(if contacts.is_empty() { Asked::List } else { Asked::Bind(contacts) })
    }

    fn wish(&self, contact: Result<NameAddr<'_>, proto::sip::Malformed>) -> Result<(Binding, u32), Refusal> {
        let contact = contact.map_err(|_| refusal(400, "a Contact can't be read"))?;
        let uri = contact.uri().map_err(|_| refusal(400, "a Contact holds no URI"))?;
        if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) {
            return Err(refusal(416, "a Contact is not a SIP URI"));
        }
        let seconds = self.lifetime(contact.expires())?;
        Ok((self.binding(&contact, &uri, seconds), seconds))
    }

    /// §10.3 step 7: parameter, then header, then default; too brief is refused, too long is cut.
    fn lifetime(&self, asked: Option<u32>) -> Result<u32, Refusal> {
        let limits = self.config.expiries;
        let seconds = asked.or(self.request.expires()).unwrap_or(limits.default);
        if seconds > 0 && seconds < limits.min && seconds < HOUR {
            let header = Some((Name::MinExpires, limits.min.to_string()));
            return Err(Refusal { status: 423, why: "asked to be forgotten too soon", header });
        }
        Ok(seconds.min(limits.max))
    }

    fn binding(&self, contact: &NameAddr<'_>, uri: &Uri<'_>, seconds: u32) -> Binding {
        Binding {
            contact: contact.raw_uri.to_string(),
            call_id: self.request.call_id().to_string(),
            cseq: self.cseq(),
            q: contact.q(),
            expires: self.now.wall + Duration::from_secs(u64::from(seconds)),
            flow: *self.flow,
            sent_by: self.request.via().map(|via| via.sent_by()).unwrap_or_default(),
            behind_nat: nat::via_differs(self.request, self.flow) || nat::uri_differs(uri, self.flow),
            path: self.request.values(Name::Path).map(str::to_string).collect(),
            instance: contact.params.get("+sip.instance").map(str::to_string),
            // §6: without the option tag it means nothing.
            reg_id: contact.params.get("reg-id").filter(|_| self.by_outbound).and_then(|id| id.parse().ok()),
            agent: self
                .request
                .text(Name::UserAgent)
                .map(|agent| agent[..agent.floor_char_boundary(64)].to_owned()),
            unanswered: 0,
        }
    }

    fn cseq(&self) -> u32 {
        self.request.cseq().map_or(0, |cseq| cseq.number)
    }

    fn live(&self, bindings: &[Binding]) -> Vec<Binding> {
        bindings.iter().filter(|binding| binding.is_live(self.now.wall)).cloned().collect()
    }

    /// §10.3 step 6 and 7 as one change from what is bound to what shall be: all of it, or a refusal.
    fn change(&self, aor: &str, bindings: &mut Vec<Binding>, asked: Asked) -> Result<Vec<Event>, Refusal> {
        self.all_in_order(bindings, &asked)?;
        let is_live = |binding: &Binding| binding.is_live(self.now.wall);
        let mut events = vec![];
        match asked {
            Asked::List => {}
            Asked::ClearAll => {
                let live = bindings.drain(..).filter(is_live);
                events.extend(live.map(|old| told(aor, &old, Registration::Removed)));
            }
            Asked::Bind(wishes) => {
                let may_be_many = bindings.len() + wishes.len() > self.config.limits.bindings;
                let before = may_be_many.then(|| bindings.clone());
                bindings.retain(is_live);
                for (wish, seconds) in wishes {
                    let old = bindings.iter().position(|old| is_same_device(old, &wish));
                    let old = old.map(|index| bindings.remove(index));
                    events.extend(told_of_change(aor, old.as_ref(), &wish, seconds));
                    bindings.extend((seconds > 0).then_some(wish));
                }
                let refused = self.make_room(bindings);
                if let (Some(before), Err(_)) = (before, &refused) {
                    *bindings = before;
                }
                refused?;
            }
        }
        Ok(events)
    }

    /// Whether it comes after what made the bindings it is about.
    fn all_in_order(&self, bindings: &[Binding], asked: &Asked) -> Result<(), Refusal> {
        let is_about = |old: &&Binding| match asked {
            Asked::List => false,
            Asked::ClearAll => true,
            Asked::Bind(wishes) => wishes.iter().any(|(wish, _)| is_same_device(old, wish)),
        };
        let mut live = bindings.iter().filter(|binding| binding.is_live(self.now.wall)).filter(is_about);
        live.try_for_each(|old| self.in_order(old))
    }

    /// Under the same Call-ID a request must be younger than what made the binding (§10.3 step 7).
    fn in_order(&self, old: &Binding) -> Result<(), Refusal> {
        let late = old.call_id == self.request.call_id() && old.cseq >= self.cseq();
        if late { Err(refusal(500, "CSeq is not higher than that of the binding")) } else { Ok(()) }
    }

    /// Too many devices: those that are known to be gone make room, before anybody is refused.
    fn make_room(&self, bindings: &mut Vec<Binding>) -> Result<(), Refusal> {
        let limit = self.config.limits.bindings;
        if bindings.len() > limit {
            bindings.retain(|binding| !binding.is_unreachable());
        }
        if bindings.len() > limit {
            Err(refusal(403, "more devices than an address may have"))
        } else {
            Ok(())
        }
    }

    /// §10.3 step 8: all bindings with what is left of their time.
    fn accept(&self, done: Done) -> Registered {
        let mut response = self.reply.to(self.request, 200);
        for binding in &done.bindings {
            response = response.text(Name::Contact, &self.listed(&done.aor, binding));
        }
        let path: Vec<_> = self.request.values(Name::Path).collect();
        let path = (!path.is_empty()).then(|| (Name::Path, path.join(", ")));
        let more = outbound::granted(self.request, self.flow).into_iter().chain(outbound::service_route(
            self.request,
            self.flow,
            self.config,
        ));
        let response = with(response, path.into_iter().chain(more));
        let response = response.text(Name::Date, &Date(self.now.wall).text());
        let changed = done.changed.then_some((done.aor, done.bindings));
        Registered { status: 200, response, events: done.events, changed }
    }

    /// A binding as the response lists it, with its GRUUs (RFC 5627 §5.1).
    fn listed(&self, aor: &str, binding: &Binding) -> String {
        let Binding { contact, q, instance, reg_id, expires, .. } = binding;
        let left = expires.duration_since(self.now.wall).unwrap_or_default().as_secs();
        let left = Short::from(u32::try_from(left).unwrap_or(u32::MAX));
        let mut listed = ["<", contact, ">;expires=", &left].concat();
        if *q < 1000 {
            listed += &format!(";q={}.{:03}", q / 1000, q % 1000);
        }
        if let Some(instance) = instance {
            listed += &format!(";+sip.instance=\"{instance}\"");
        }
        if let Some(reg_id) = reg_id {
            listed += &format!(";reg-id={reg_id}");
        }
        listed + &gruu::parameters(self.request, aor, binding, self.now.unix(), &self.config.token_keys)
    }

    fn refuse(&self, refusal: Refusal) -> Registered {
        let response = with(self.reply.to(self.request, refusal.status), refusal.header);
        let (call, method) = (self.request.call_id().into(), "REGISTER".into());
        let event =
            Event::Refused { call, method, flow: *self.flow, status: refusal.status, why: refusal.why };
        Registered { status: refusal.status, response, events: vec![event], changed: None }
    }
}

/// One flow of a device is told by `+sip.instance` and `reg-id` when both have them (RFC 5626 §6), else by its Contact
/// (RFC 3261 §10.3 step 7, comparison by §19.1.4).
fn is_same_device(a: &Binding, b: &Binding) -> bool {
    if let (Some(instance), Some(reg_id)) = (&a.instance, a.reg_id)
        && b.reg_id.is_some()
        && b.instance.is_some()
    {
        return b.instance.as_ref() == Some(instance) && b.reg_id == Some(reg_id);
    }
    // Nearly every device writes its Contact as it did before.
    a.contact == b.contact
        || matches!((Uri::parse(&a.contact), Uri::parse(&b.contact)), (Ok(a), Ok(b)) if a.is_equivalent(&b))
}

fn is_supported(tag: &str) -> bool {
    SUPPORTED.iter().any(|known| known.eq_ignore_ascii_case(tag))
}

fn with(response: Builder, headers: impl IntoIterator<Item = (Name, String)>) -> Builder {
    headers.into_iter().fold(response, |response, (name, value)| response.header(name, value))
}

fn told(aor: &str, binding: &Binding, change: Registration) -> Event {
    Event::Registered { aor: aor.into(), flow: binding.flow, behind_nat: binding.behind_nat, change }
}

/// What became of one device: new, refreshed, removed; and answering again, if it was given up.
fn told_of_change(aor: &str, old: Option<&Binding>, new: &Binding, seconds: u32) -> Vec<Event> {
    let back = old.filter(|old| old.is_unreachable() && seconds > 0);
    let back = back.map(|_| Event::Reachable { aor: aor.into(), flow: new.flow, reachable: true });
    let change = match (old, seconds) {
        (None, 0) => None,
        (Some(_), 0) => Some(Registration::Removed),
        (None, _) => Some(Registration::New),
        (Some(_), _) => Some(Registration::Refreshed),
    };
    change.map(|change| told(aor, new, change)).into_iter().chain(back).collect()
}

#[cfg(test)]
#[path = "bindings_tests.rs"]
mod tests;
