//! Between phones and their registrar: a PBX behind us keeps the accounts, we keep the phones reachable.
//!
//! ```text
//!   phone            we                                   PBX
//!    │ REGISTER ─────►│ REGISTER, Contact: alice@us;mid=…, 1 h ─►│
//!    │◄──────── 401 ──│◄─────────────────────────────────── 401 ─│   its challenge, its answer
//!    │ REGISTER ─────►│ … ──────────────────────────────────────►│
//!    │◄─ 200, 2 min ──│◄────────────────────────────── 200, 1 h ─│   the binding is ours from here on
//!    │ REGISTER ─────►│                                          │   refreshed every 2 min: absorbed
//!    │◄─ 200, 2 min ──│                                          │
//!    │◄─────── INVITE │◄──────────────────── INVITE alice@us;mid=…   to the phone's present path
//! ```
//!
//! `mid` is the device's mark and its domain: it stays the same for as long as the device has the same instance or
//! Contact, so the PBX has one Contact for it, whoever restarts. The binding is durable as any other. A refresh is
//! absorbed when it comes by the path, with the Contact and under the Call-ID that the PBX let in, and the PBX remembers
//! for long enough still; after a restart of ours, or of a server of the PBX, the next one goes through.
//!
//! Credentials are the PBX's matter: whatever is not the PBX's own goes to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::sip::{Edit, Message, Method, Name, Reply, Uri};
use proto::tables::{Binding, Tables};

use crate::config::{Config, Expiries};
use crate::dialogs::tokens::binding_mark;
use crate::forwarding::contexts::{Context, Target};
use crate::hashing::{Keyed, Map};
use crate::moment::Moment;
use crate::nat;
use crate::proxy::{Cx, Proxy};
use crate::registrar::aor::canonical;
use crate::registrar::bindings;
use crate::routing::targets::of_binding;
use crate::trunks::Trunk;

/// What an operator says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MidRegistrar {
    /// The PBX: index into [`Config::trunks`].
    pub trunk: usize,
    /// For how long the PBX is asked to remember a phone, in seconds.
    pub towards_pbx: u32,
    /// For how long a phone behind a NAT is granted, in seconds.
    pub towards_nat: u32,
}

/// What is known of the PBX's memory: until when it keeps which device.
#[derive(Debug)]
pub(crate) struct Remembered {
    until: Map<(String, u32), Instant>,
}

/// Devices that are remembered at most; beyond, refreshes go through.
const MOST: usize = 1_000_000;

impl Remembered {
    /// Nothing yet: a restart of ours makes every refresh go through once.
    pub(crate) fn new(keyed: Keyed) -> Remembered {
        Remembered { until: Map::with_hasher(keyed) }
    }

    /// The PBX may have forgotten: the next refresh of every device goes through.
    pub(crate) fn forget(&mut self) {
        self.until.clear();
    }
}

/// The configurations by which phones are bound: behind a NAT, and elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Brief([Arc<Config>; 2]);

impl Brief {
    /// `None`: nobody registers through us.
    pub(crate) fn of(config: &Config) -> Option<Brief> {
        let (mid, _) = config.pbx()?;
        let most = |most: u32| {
            let expiries = Expiries { min: 0, default: most, max: most };
            Arc::new(Config { expiries, ..config.clone() })
        };
        Some(Brief([most(mid.towards_nat), most(mid.towards_pbx / 2)]))
    }

    fn for_phone(&self, behind_nat: bool) -> Arc<Config> {
        self.0[usize::from(!behind_nat)].clone()
    }
}

impl Config {
    /// The PBX that keeps the accounts.
    pub(crate) fn pbx(&self) -> Option<(&MidRegistrar, &Trunk)> {
        let mid = self.mid_registrar.as_ref()?;
        Some((mid, self.trunks.get(mid.trunk)?))
    }
}

impl Proxy {
    /// A REGISTER that the PBX need not hear of, answered here. `false`: it goes on.
    pub(crate) fn absorbed(&mut self, cx: &mut Cx<'_>, context: &Context) -> bool {
        let Some((mid, _)) = self.config.pbx() else { return false };
        let granted = granted(context, mid);
        let Some((aor, known)) = self.refreshed(cx, context) else { return false };
        let enough = cx.now.at + Duration::from_secs(u64::from(granted)) * 3 / 2;
        if self.remembered.until.get(&(aor, binding_mark(&known))).is_none_or(|until| *until < enough) {
            return false;
        }
        let Some(response) = self.bind(cx, context) else { return false };
        self.transactions.respond(cx.now.at, context.server, response);
        true
    }

    /// The binding that a REGISTER refreshes, from the same place and in the same dialogue with the registrar.
    fn refreshed(&self, cx: &Cx<'_>, context: &Context) -> Option<(String, Binding)> {
        let request = &context.request;
        let aor = canonical(&request.to().ok()?.uri().ok()?, &self.config)?;
        let contact = only_contact(request)?;
        let lasts = contact.expires().or(request.expires()) != Some(0);
        let same = |binding: &Binding| {
            binding.contact == contact.raw_uri
                && binding.call_id == request.call_id()
                && binding.flow.transport == context.flow.transport
                && binding.flow.remote == context.flow.remote
                && binding.is_live(cx.now.wall)
        };
        let known = cx.tables.bindings(&aor).into_iter().find(same).filter(|_| lasts)?;
        Some((aor, known))
    }

    /// The PBX has answered a REGISTER with a 2xx: what it let in is bound here, and the phone hears of its own Contact
    /// and of a shorter time. `None`: not our matter.
    pub(crate) fn registered_at_pbx(
        &mut self,
        cx: &mut Cx<'_>,
        context: &Context,
        answer: &Message,
    ) -> Option<Message> {
        let (mid, _) = self.config.pbx().filter(|_| context.request.method() == Method::Register)?;
        let asked = mid.towards_pbx;
        let aor = canonical(&context.request.to().ok()?.uri().ok()?, &self.config)?;
        let lifetime = Duration::from_secs(u64::from(lifetime_at_pbx(answer, &aor, asked)));
        let response = self.bind(cx, context)?;
        if let Some((aor, known)) = self.refreshed(cx, context).filter(|_| self.remembered.until.len() < MOST)
        {
            self.remembered.until.insert((aor, binding_mark(&known)), cx.now.at + lifetime);
        }
        Some(response)
    }

    /// Our own registrar's part: the binding, for as long as the phone is granted.
    fn bind(&mut self, cx: &mut Cx<'_>, context: &Context) -> Option<Message> {
        let config = self.brief.as_ref()?.for_phone(is_behind_nat(context));
        let (tag, request) = (self.dice.word(10), &context.request);
        let done =
            bindings::register(cx.now, &context.flow, request, Reply::tagged(&tag), &config, cx.tables);
        done.events.into_iter().for_each(|event| self.tell(event));
        if let Some((aor, bindings)) = done.changed {
            self.bindings_changed_to(cx, &aor, &bindings);
        }
        Some(done.response.finish())
    }

    /// A server of a trunk answers again: if that is the PBX, it may have forgotten its phones meanwhile.
    pub(crate) fn pbx_is_back(&mut self, trunk: &str) {
        if self.config.pbx().is_some_and(|(_, pbx)| *pbx.name == *trunk) {
            self.remembered.forget();
        }
    }

    /// A REGISTER on its way to the PBX: the phone's Contact becomes a name at ours, for a longer time.
    pub(crate) fn contact_at_pbx<'m>(
        &self,
        edit: Edit<'m>,
        context: &'m Context,
        listener: usize,
    ) -> Edit<'m> {
        let Some((mid, _)) = self.config.pbx() else { return edit };
        let request = &context.request;
        let to = request.to().ok().and_then(|to| to.uri().ok());
        let (Some(contact), Some(to)) = (only_contact(request), to) else { return edit };
        let Some(aor) = canonical(&to, &self.config) else { return edit };
        let asked = contact.expires().or(request.expires());
        let seconds = if asked == Some(0) { 0 } else { mid.towards_pbx };
        let mark = mark(contact.params.get("+sip.instance"), contact.raw_uri);
        let domain = aor.rsplit_once('@').map_or("", |(_, domain)| domain);
        let us = self.faces.authority(listener);
        let name = format!("<sip:{}@{us};mid={mark:08x}-{domain}>;expires={seconds}", to.user);
        let edit = edit.set(Name::Contact, &name);
        if request.expires().is_some() { edit.set(Name::Expires, &seconds.to_string()) } else { edit }
    }
}

/// The device that a request of the PBX names, if it names one.
pub(crate) fn device(
    now: Moment,
    uri: &Uri<'_>,
    config: &Config,
    tables: &dyn Tables,
) -> Option<Option<Target>> {
    let (mark, domain) = uri.params.get("mid")?.split_once('-')?;
    let mark = u32::from_str_radix(mark, 16).ok()?;
    let user = uri.aor()?;
    let (user, _) = user.rsplit_once('@')?;
    let aor = format!("{user}@{domain}");
    let is = |binding: &&Binding| binding_mark(binding) == mark && binding.is_live(now.wall);
    let bindings = tables.bindings(&aor);
    let owner = tables.owner(&aor);
    Some(bindings.iter().find(is).map(|found| of_binding(&aor, found, owner.as_deref(), config)))
}

/// How long the phone is granted: little behind a NAT, what it asks for elsewhere, but not more than the PBX is asked.
fn granted(context: &Context, mid: &MidRegistrar) -> u32 {
    if is_behind_nat(context) { mid.towards_nat } else { mid.towards_pbx / 2 }
}

/// Whether something between us and the phone forgets it when it is silent.
fn is_behind_nat(context: &Context) -> bool {
    nat::shows(&context.request, &context.flow) && !context.flow.transport.is_reliable()
}

/// The Contact of a REGISTER that has exactly one.
fn only_contact(request: &Message) -> Option<proto::sip::NameAddr<'_>> {
    let mut contacts = request.contacts();
    let first = contacts.next()?.ok()?;
    contacts.next().is_none().then_some(first)
}

/// See [`binding_mark`]: of the instance, or of the Contact.
fn mark(instance: Option<&str>, contact: &str) -> u32 {
    crate::dialogs::tokens::mark_of(instance.unwrap_or(contact))
}

/// How long the PBX remembers: what it says of a Contact of ours, else in Expires, else what was asked.
fn lifetime_at_pbx(answer: &Message, aor: &str, asked: u32) -> u32 {
    let domain = aor.rsplit_once('@').map_or("", |(_, domain)| domain);
    let ours = |contact: &proto::sip::NameAddr<'_>| {
        contact.uri().is_ok_and(|uri| uri.params.get("mid").is_some_and(|mid| mid.ends_with(domain)))
    };
    let said = answer.contacts().flatten().filter(ours).filter_map(|contact| contact.expires()).min();
    said.or(answer.expires()).unwrap_or(asked).min(asked)
}
