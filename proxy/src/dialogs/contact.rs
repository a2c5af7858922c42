//! The Contact of a party that its peer could not reach (behind a NAT, or in another network) leaves as a name at this
//! proxy, so that whoever is given it (in a dialog, or in a Refer-To, RFC 3515) finds the party by way of us.
//!
//! ```text
//! Contact: <sip:alice-7f31@10.0.0.2:5060>;+sip.instance="…"                          as the phone wrote it
//! Contact: <sip:TOKEN@203.0.113.1:5060;aor=alice/example.com>;+sip.instance="…"      as it leaves
//!
//! TOKEN    the path to the party as it was seen last, and which of its bindings it is; see `tokens`
//! aor      whose binding: what the present path is looked up by. Not of an anonymous caller (RFC 3323)
//! u        the user part of the Contact, of a party that is not registered here
//! ```
//!
//! A token says nothing that lets anybody in: a request outside of dialogs to it passes the gate like any other, and has a
//! media decision of its own.

use proto::event::Side;
use proto::node::{Flow, Transport, literal};
use proto::sdp::{Reach, reach};
use proto::sip::{Edit, Message, Method, Name, NameAddr, Scheme, Uri, escaped};
use proto::tables::{Binding, Tables};

use crate::config::Config;
use crate::dialogs::hearing::routes_behind;
use crate::dialogs::tokens::{Token, binding_mark};
use crate::forwarding::contexts::{Context, Device, Role, Target};
use crate::moment::Moment;
use crate::nat;
use crate::proxy::{Cx, Proxy};
use crate::registrar::aor::canonical;
use crate::routing::preprocessing::flow_of;
use crate::routing::target::Hops;
use crate::routing::targets::{of_binding, present_binding};

/// No token is shorter: keys are not tried on ordinary user names.
const SHORTEST: usize = 20;

/// Who wrote a Contact, and who is to read it.
#[derive(Clone, Copy, Debug)]
struct Owner<'a> {
    /// The path its owner is met by.
    met: &'a Flow,
    /// The path it leaves by.
    leaves: &'a Flow,
    /// Via or registration show a NAT.
    behind_nat: bool,
    /// A trunk's, or of whoever a route or DNS led to: a public address in it is to be believed.
    believed: bool,
}

impl Proxy {
    /// The Contact of a request on its way to a branch.
    pub(crate) fn contact_of_request<'m>(
        &self,
        cx: &Cx<'_>,
        edit: Edit<'m>,
        context: &'m Context,
        leaves: &Flow,
    ) -> Edit<'m> {
        let (request, met) = (&context.request, &context.flow);
        let is_ours = has_contact(request) && request.method() != Method::Register && is_adjacent(request);
        if context.word.is_some() || !is_ours {
            return edit;
        }
        let own_device = || self.own_device(cx, &request.from().ok()?.uri().ok()?, met);
        let in_dialog = !request.to_tag().is_empty();
        let device = if in_dialog { own_device() } else { None };
        let was_called = context.sender == Side::Callee;
        let owner = Owner {
            met,
            leaves,
            behind_nat: nat::via_differs(request, met) || device.as_ref().is_some_and(|d| d.behind_nat),
            believed: device.is_none() && (context.trusted || was_called),
        };
        self.seal_contact(cx, edit, request, owner, || device.or_else(own_device))
    }

    /// The Contact of a response on its way back. Those of a redirection (3xx) say where to go, and stay.
    pub(crate) fn contact_of_response<'m>(
        &self,
        cx: &Cx<'_>,
        edit: Edit<'m>,
        context: &Context,
        index: usize,
        response: &'m Message,
    ) -> Edit<'m> {
        let branch = &context.branches[index];
        let Some(met) = branch.flow.as_ref().filter(|met| !branch.leads_to_sibling(met, &self.config)) else {
            return edit;
        };
        let makes_dialog = response.status().is_some_and(|status| (101..300).contains(&status));
        let behind_others = !branch.target.path.is_empty()
            || context.routed.next(&context.request).is_some()
            || (context.role == Role::Begins
                && routes_behind(context, response, &self.config).next().is_some());
        if !makes_dialog
            || behind_others
            || context.request.method() == Method::Register
            || !has_contact(response)
        {
            return edit;
        }
        let in_dialog = !context.request.to_tag().is_empty();
        let named = || self.own_device(cx, &context.request.to().ok()?.uri().ok()?, met);
        let device = branch.target.device.clone().or_else(|| if in_dialog { named() } else { None });
        let owner = Owner {
            met,
            leaves: &context.flow,
            behind_nat: device.as_ref().is_some_and(|device| device.behind_nat),
            believed: device.is_none(),
        };
        self.seal_contact(cx, edit, response, owner, || device)
    }

    /// The Contact of an ACK, which means nothing, but may tell an inner address.
    pub(crate) fn contact_of_ack<'m>(
        &self,
        cx: &Cx<'_>,
        edit: Edit<'m>,
        ack: &'m Message,
        met: &Flow,
        leaves: &Flow,
    ) -> Edit<'m> {
        if self.config.is_sibling(met.remote.ip()) || !is_adjacent(ack) {
            return edit;
        }
        let owner = Owner { met, leaves, behind_nat: nat::via_differs(ack, met), believed: false };
        self.seal_contact(cx, edit, ack, owner, || None)
    }

    fn seal_contact<'m>(
        &self,
        cx: &Cx<'_>,
        edit: Edit<'m>,
        message: &'m Message,
        owner: Owner<'_>,
        device: impl FnOnce() -> Option<Device>,
    ) -> Edit<'m> {
        let first = message.contacts().next().and_then(Result::ok);
        let Some((contact, uri)) = first.and_then(|contact| Some((contact, contact.uri().ok()?))) else {
            return edit;
        };
        if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) || !is_out_of_reach(&uri, owner, &self.config) {
            return edit;
        }
        let sealed = self.sealed(cx, &uri, owner, device(), is_anonymous(message));
        edit.set_first(Name::Contact, &with_uri(contact, &sealed))
    }

    fn sealed(
        &self,
        cx: &Cx<'_>,
        uri: &Uri<'_>,
        owner: Owner<'_>,
        device: Option<Device>,
        anonymous: bool,
    ) -> String {
        let path = Some((self.listener_of(owner.met) as u8, owner.met.remote));
        let mark = device.as_ref().map(|device| device.mark);
        let token = Token::of_contact(path, mark).seal_contact(&self.config.token_keys, cx.now.unix());
        let mut sealed = self.faces.contact(self.listener_of(owner.leaves), &token);
        if uri.scheme == Scheme::Sips {
            // RFC 3261 §8.1.1.8: whoever asked for sips is met by sips.
            sealed.insert("sip".len(), 's');
        }
        match device {
            _ if anonymous => {}
            Some(device) => push_param(&mut sealed, "aor", &device.aor.replacen('@', "/", 1)),
            None if !uri.user.is_empty() => push_param(&mut sealed, "u", uri.user),
            None => {}
        }
        if let Some(gr) = uri.params.get("gr") {
            push_param(&mut sealed, "gr", gr);
        }
        sealed
    }

    /// The binding by which the party of this name is met on this path.
    pub(crate) fn own_device(&self, cx: &Cx<'_>, name: &Uri<'_>, met: &Flow) -> Option<Device> {
        let aor = canonical(name, &self.config)?;
        let bindings = cx.tables.bindings(&aor);
        let own = bindings.iter().find(|binding| binding.flow.remote == met.remote)?;
        Some(Device { mark: binding_mark(own), behind_nat: own.behind_nat, aor: aor.into() })
    }

    /// The Contact that a request in a dialog means when its URI is one of our names for it: as the party wrote it, if
    /// the call is remembered; else as it registered it.
    pub(crate) fn contact_meant(&self, cx: &Cx<'_>, request: &Message, uri: &Uri<'_>) -> Option<String> {
        let named = Named::read(uri, cx.now, &self.config)?;
        let tags = [request.from_tag(), request.to_tag()];
        let written = self.calls.receivers_contact(request.call_id(), tags);
        written.map(str::to_owned).or_else(|| {
            let binding = named.binding(cx.now, &self.config, cx.tables);
            Some(binding.map_or_else(|| named.observed(), |binding| binding.contact))
        })
    }
}

/// The target of a request outside of dialogs whose URI is one of our names for a Contact: the binding's present path,
/// or, when there is none any more, the path the party was last seen on.
pub(crate) fn target_of(now: Moment, uri: &Uri<'_>, config: &Config, tables: &dyn Tables) -> Option<Target> {
    let named = Named::read(uri, now, config)?;
    if let (Some(binding), Some(aor)) = (named.binding(now, config, tables), &named.aor) {
        return Some(of_binding(aor, &binding, tables.owner(aor).as_deref(), config));
    }
    Some(Target { uri: Some(named.observed()), ..Target::by(Hops::Ready(vec![named.last])) })
}

/// Whether a URI looks like the name of a Contact at a sibling: that is for nobody else, whatever routes there are.
pub(crate) fn is_siblings(uri: &Uri<'_>, config: &Config) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (SHORTEST..=48).contains(&uri.user.len())
        && uri.user.bytes().all(is_token)
        && literal(uri.host).is_some_and(|ip| config.is_sibling(ip))
}

/// What one of our names for a Contact says.
struct Named<'a> {
    last: Flow,
    mark: Option<u32>,
    aor: Option<String>,
    user: Option<&'a str>,
}

impl<'a> Named<'a> {
    fn read(uri: &Uri<'a>, now: Moment, config: &Config) -> Option<Named<'a>> {
        if uri.user.len() < SHORTEST || !config.is_ours(uri.host, uri.port) {
            return None;
        }
        let token = Token::open_contact(&config.token_keys, now.unix(), uri.user)?;
        let aor = uri.params.get("aor").and_then(|aor| aor.rsplit_once('/'));
        Some(Named {
            last: flow_of(&token, config)?,
            mark: token.binding,
            aor: aor.map(|(user, domain)| format!("{user}@{domain}")),
            user: uri.params.get("u"),
        })
    }

    fn binding(&self, now: Moment, config: &Config, tables: &dyn Tables) -> Option<Binding> {
        present_binding(now, self.aor.as_deref()?, self.mark?, config, tables)
    }

    /// The party's URI when nobody knows what it wrote.
    fn observed(&self) -> String {
        let user = self.user.map_or_else(String::new, |user| format!("{user}@"));
        let transport = match self.last.transport {
            Transport::Udp => String::new(),
            other => format!(";transport={other}"),
        };
        format!("sip:{user}{}{transport}", self.last.remote)
    }
}

/// Whether whoever reads this Contact could not reach its owner by it.
fn is_out_of_reach(contact: &Uri<'_>, owner: Owner<'_>, config: &Config) -> bool {
    let Owner { met, leaves, behind_nat, believed } = owner;
    // Nobody connects to a browser (RFC 7118 §5).
    if matches!(met.transport, Transport::Ws | Transport::Wss) {
        return true;
    }
    let Some(ip) = literal(contact.host) else { return is_nowhere(contact.host) };
    let moved = nat::uri_differs(contact, met);
    match reach(ip) {
        Reach::Public if believed => false,
        Reach::Public => behind_nat || moved,
        own => {
            let there = leaves.remote.ip();
            behind_nat || moved || own != reach(there) || config.network_of(ip) != config.network_of(there)
        }
    }
}

/// Names that lead nowhere by decree (RFC 2606): browsers write such (RFC 7118 §5).
fn is_nowhere(host: &str) -> bool {
    host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("invalid"))
}

fn has_contact(message: &Message) -> bool {
    message.text(Name::Contact).is_some()
}

/// Whether no proxy stands between us and the sender: another's Contacts are its own matter.
fn is_adjacent(request: &Message) -> bool {
    request.values(Name::Via).nth(1).is_none() && request.text(Name::RecordRoute).is_none()
}

/// Whether the sender does not want to be known (RFC 3323 §4.1, RFC 3325 §9.3).
fn is_anonymous(message: &Message) -> bool {
    let from = message.from().ok().and_then(|from| from.uri().ok());
    message.is_request()
        && (from.is_some_and(|uri| is_nowhere(uri.host))
            || message.text(Name::Privacy).is_some_and(|privacy| !privacy.eq_ignore_ascii_case("none")))
}

/// A Contact value with another URI. Header parameters stay.
pub(crate) fn with_uri(contact: NameAddr<'_>, uri: &str) -> String {
    let mut value = String::with_capacity(uri.len() + contact.params.0.len() + 4);
    if !contact.display.is_empty() {
        value.push_str(contact.display);
        value.push(' ');
    }
    value.push('<');
    value.push_str(uri);
    value.push('>');
    if !contact.params.0.is_empty() {
        value.push(';');
        value.push_str(contact.params.0);
    }
    value
}

/// Adds `;name=value` to a URI; what is escaped already stays so.
fn push_param(uri: &mut String, name: &str, value: &str) {
    uri.extend([";", name, "=", &escaped(value, PARAM_UNRESERVED)]);
}

/// Reserved characters that the value of a URI parameter may hold (RFC 3261 §25.1, `param-unreserved`), and the sign of an escape.
const PARAM_UNRESERVED: &[u8] = b"[]/:&+$%";
