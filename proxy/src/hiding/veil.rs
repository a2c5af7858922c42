//! Topology hiding: what leaves towards a network that is not to see our inside tells nothing of it.
//!
//! ```text
//!  inside                          we                                    outside
//!    │ Via: phone                   │ Via: ours;hid=hid~…                   │   the others are put back in the answer
//!    │ Record-Route: inner proxy    │ Record-Route: <sip:hid~…@us;lr>       │   ours as well: its token can be read
//!    │ Contact: sip:alice@10.0.0.2  │ Contact: <sip:hid~…@us>               │
//!    │◄─ BYE sip:alice@10.0.0.2 ────│◄─────────── BYE sip:hid~…@us ─────────│
//! ```
//!
//! The names ([`proto::hidden`]) are opened wherever they come back, before anything else looks at the message: the rest of
//! the proxy knows nothing of this. Nothing is stored for them, so a restarted proxy opens them. The Vias are put back out of the
//! transaction's request; those of an INVITE have a name all the same, for the answer that comes when we were restarted in the
//! meantime ([`crate::dialogs::revived`]).

use proto::hidden::{Hidden, PREFIX};
use proto::node::{Flow, literal};
use proto::sip::{Edit, Message, Method, Name, NameAddr, Uri};

use crate::config::{Config, Network};
use crate::forwarding::contexts::Context;
use crate::gate::validate::Refusal;
use crate::hiding::privacy::Wish;
use crate::proxy::Proxy;
use crate::routing::hops::is_sips;

/// The purpose of a route's name.
const ROUTE: u8 = b'R';
/// The purpose of a Contact's name.
const CONTACT: u8 = b'C';
/// The purpose of the name of Vias.
const VIAS: u8 = b'V';
/// The parameter of our Via that has it.
const VIAS_PARAM: &str = "hid";

impl Config {
    /// Whether who is met by this path sees nothing of what is behind us. Siblings always do.
    pub(crate) fn hides_from(&self, flow: &Flow) -> bool {
        self.hidden_from(flow).is_some()
    }

    /// The network of this path, if it sees nothing of what is behind us.
    pub(crate) fn hidden_from(&self, flow: &Flow) -> Option<&Network> {
        // Asked of every message that comes or goes.
        if !self.networks.iter().any(|network| network.hides) {
            return None;
        }
        let listener = self.listeners.get(self.listener_at(flow.transport, flow.local)?)?;
        let network = self.networks.get(listener.network)?;
        (network.hides && !self.is_sibling(flow.remote.ip())).then_some(network)
    }
}

impl Proxy {
    /// A request on its way to somebody who is not to see our inside.
    pub(crate) fn veiled_request(&self, to: &Flow, wish: Wish, message: Message) -> Message {
        let mut edit = message.edit();
        if !self.config.hides_from(to) && !wish.header {
            return if wish.user { self.hide_contacts(edit, &message, to).finish() } else { message };
        }
        if let Some(own) = message.values(Name::Via).next() {
            let own = self.with_hidden_vias(own, &message);
            edit = edit.remove(Name::Via).push_front(Name::Via, &own);
        }
        edit = self.hide_routes(edit, &message, Name::RecordRoute, 0, to);
        edit = self.hide_routes(edit, &message, Name::Path, 0, to);
        self.hide_contacts(edit, &message, to).finish()
    }

    /// Our Via, with the name of those below it.
    fn with_hidden_vias(&self, own: &str, message: &Message) -> String {
        let below: Vec<&str> = message.values(Name::Via).skip(1).collect();
        let named = message.method() == Method::Invite && !below.is_empty();
        let name = named.then(|| self.config.token_keys.hide(VIAS, &below.join(","))).flatten();
        name.map_or_else(|| own.to_owned(), |name| format!("{own};{VIAS_PARAM}={name}"))
    }

    /// An answer that nothing is known of any more, with the Vias that were kept from its sender.
    pub(crate) fn with_vias_shown(&self, response: Message) -> Message {
        let name = response.via().ok().and_then(|via| via.params.get(VIAS_PARAM).map(str::to_owned));
        match name.map(|name| self.config.token_keys.reveal(VIAS, &name)) {
            Some(Hidden::Text(below)) => {
                let own = response.values(Name::Via).take(1);
                put_back(response.edit(), Name::Via, own.chain([below.as_str()])).finish()
            }
            _ => response,
        }
    }

    /// A response on its way back to somebody who is not to see our inside. The Record-Routes its request brought are the
    /// receiver's own.
    pub(crate) fn veiled_response(&self, context: &Context, wish: Wish, response: Message) -> Message {
        let to = &context.flow;
        if !self.config.hides_from(to) && !wish.header {
            return match wish.user {
                true => self.hide_contacts(response.edit(), &response, to).finish(),
                false => response,
            };
        }
        let own = context.request.values(Name::RecordRoute).count();
        let edit = self.hide_routes(response.edit(), &response, Name::RecordRoute, own, to);
        self.hide_contacts(edit, &response, to).finish()
    }

    /// The Vias of a response that came by `from`, without ours; those that were kept from its sender are there again.
    pub(crate) fn vias_back<'m>(
        &self,
        response: &'m Message,
        from: Option<&Flow>,
        wish: Wish,
        request: &Message,
    ) -> Edit<'m> {
        if !from.is_some_and(|from| self.config.hides_from(from)) && !wish.header {
            return response.edit().pop_front(Name::Via);
        }
        put_back(response.edit(), Name::Via, request.values(Name::Via))
    }

    /// A message with the names of ours in it opened.
    pub(crate) fn unveiled(&self, message: Message) -> Message {
        if !shows_names(&message) {
            return message;
        }
        let mut edit = message.edit();
        let uri = message.is_request().then(|| self.meaning_of_uri(message.request_uri())).flatten();
        if let Some(uri) = &uri {
            edit = edit.request_uri(uri);
        }
        for name in [Name::Route, Name::RecordRoute, Name::Path] {
            edit = self.show_routes(edit, &message, name);
        }
        if message.method() == Method::Register && !message.is_request() {
            edit = self.show_contacts(edit, &message);
        }
        edit.finish()
    }

    /// A name at ours that nobody with our keys made.
    pub(crate) fn refuse_forged(&self, request: &Message) -> Result<(), Refusal> {
        let forged = |uri: &Uri<'_>| uri.user.starts_with(PREFIX) && self.config.is_ours(uri.host, uri.port);
        let first_route = request.routes().next().and_then(Result::ok);
        let route_forged = first_route.is_some_and(|route| route.uri().is_ok_and(|uri| forged(&uri)));
        let uri_forged = request.uri().is_ok_and(|uri| forged(&uri));
        match uri_forged || route_forged {
            false => Ok(()),
            true if request.to_tag().is_empty() => Err(Refusal::new(404, FORGED)),
            true => Err(Refusal::new(481, FORGED)),
        }
    }

    fn hide_routes<'m>(
        &self,
        edit: Edit<'m>,
        message: &Message,
        name: Name,
        own: usize,
        to: &Flow,
    ) -> Edit<'m> {
        let values: Vec<&str> = message.values(name).collect();
        let ours = values.len().saturating_sub(own);
        if ours == 0 {
            return edit;
        }
        let hidden: Vec<String> = values[..ours].iter().map(|value| self.hidden_route(value, to)).collect();
        put_back(edit, name, hidden.iter().map(String::as_str).chain(values[ours..].iter().copied()))
    }

    fn hidden_route(&self, value: &str, to: &Flow) -> String {
        let Some(token) = self.config.token_keys.hide(ROUTE, value) else { return value.to_owned() };
        let secure = NameAddr::parse(value).is_ok_and(|route| is_sips(route.raw_uri));
        self.faces.record_route(self.listener_of(to), &token, secure)
    }

    fn show_routes<'m>(&self, edit: Edit<'m>, message: &Message, name: Name) -> Edit<'m> {
        let values: Vec<&str> = message.values(name).collect();
        let shown: Vec<Option<String>> = values.iter().map(|value| self.meaning_of_route(value)).collect();
        if shown.iter().all(Option::is_none) {
            return edit;
        }
        let all = values.iter().zip(&shown).map(|(value, shown)| shown.as_deref().unwrap_or(value));
        put_back(edit, name, all)
    }

    fn meaning_of_route(&self, value: &str) -> Option<String> {
        let uri = NameAddr::parse(value).ok()?.uri().ok()?.user.to_owned();
        match self.config.token_keys.reveal(ROUTE, &uri) {
            Hidden::Text(text) => Some(text),
            Hidden::Plain | Hidden::Forged => None,
        }
    }

    /// What a URI with a name of ours stands for: a Contact, or a Record-Route that a strict router put in the request line.
    pub(crate) fn meaning_of_uri(&self, uri: &str) -> Option<String> {
        let uri = Uri::parse(uri).ok()?;
        let keys = &self.config.token_keys;
        if let Hidden::Text(text) = keys.reveal(CONTACT, uri.user) {
            return Some(text);
        }
        match keys.reveal(ROUTE, uri.user) {
            Hidden::Text(text) => Some(NameAddr::parse(&text).ok()?.raw_uri.to_owned()),
            Hidden::Plain | Hidden::Forged => None,
        }
    }

    fn hide_contacts<'m>(&self, edit: Edit<'m>, message: &Message, to: &Flow) -> Edit<'m> {
        let redirects = message.status().is_some_and(|status| (300..400).contains(&status));
        self.other_contacts(edit, message, |uri| match redirects && literal(uri.host).is_none() {
            true => None,
            false => self.hidden_target(uri, to),
        })
    }

    /// The name by which whoever is met by `to` reaches this URI.
    pub(crate) fn hidden_target(&self, uri: &Uri<'_>, to: &Flow) -> Option<String> {
        let stays = is_public_name(uri, &self.config);
        let token = (!stays).then(|| self.config.token_keys.hide(CONTACT, uri.raw)).flatten()?;
        let hidden = self.faces.contact(self.listener_of(to), &token);
        // RFC 3261 §8.1.1.8: whoever asked for sips is met by sips.
        Some(if is_sips(uri.raw) { hidden.replacen("sip:", "sips:", 1) } else { hidden })
    }

    fn show_contacts<'m>(&self, edit: Edit<'m>, message: &Message) -> Edit<'m> {
        self.other_contacts(edit, message, |uri| self.meaning_of_uri(uri.raw))
    }

    fn other_contacts<'m>(
        &self,
        edit: Edit<'m>,
        message: &Message,
        other: impl Fn(&Uri<'_>) -> Option<String>,
    ) -> Edit<'m> {
        if message.contacts().next().is_none() {
            return edit;
        }
        let written = message.values(Name::Contact).map(|value| {
            let replaced = NameAddr::parse(value).ok().and_then(|contact| {
                let uri = other(&contact.uri().ok()?)?;
                Some(crate::dialogs::contact::with_uri(contact, &uri))
            });
            replaced.unwrap_or_else(|| value.to_owned())
        });
        let written: Vec<String> = written.collect();
        put_back(edit, Name::Contact, written.iter().map(String::as_str))
    }
}

const FORGED: &str = "a hidden name that is not of our making, or older than our keys";

/// A GRUU of ours (RFC 5627) is meant for everybody, and names a domain.
fn is_public_name(uri: &Uri<'_>, config: &Config) -> bool {
    uri.params.get("gr").is_some() && literal(uri.host).is_none() && config.is_ours(uri.host, uri.port)
}

/// Whether there is anything to open: names stand in few places.
fn shows_names(message: &Message) -> bool {
    // The prefix ends with what hardly any other address has in it.
    let hints = |text: &str| text.contains('~') && text.contains(PREFIX);
    let says = |name| message.values(name).any(hints);
    match message.is_request() {
        true => hints(message.request_uri()) || says(Name::Route),
        false => {
            says(Name::RecordRoute)
                || (message.method() == Method::Register && (says(Name::Path) || says(Name::Contact)))
        }
    }
}

/// All values of a header, one line each, in the place of those that were there.
fn put_back<'m, 'v>(edit: Edit<'m>, name: Name, values: impl Iterator<Item = &'v str>) -> Edit<'m> {
    let values: Vec<&str> = values.collect();
    values.into_iter().rev().fold(edit.remove(name), |edit, value| edit.push_front(name, value))
}
