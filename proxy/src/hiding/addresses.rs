//! Addresses of the inside in the names of people: a PBX that knows no domain is `sip:101@10.0.0.50` to everybody.
//!
//! ```text
//!  inside                                      towards a network with `hide-topology`
//!    From: <sip:101@10.0.0.50>;tag=…            From: <sip:101@us;hid=hid~…>;tag=…     To as well
//!    INVITE sip:0049@10.0.0.1                   INVITE sip:0049@us
//!    P-Asserted-Identity: <sip:101@10.0.0.50>   P-Asserted-Identity: <sip:101@us>      and what else is said of people
//! ```
//!
//! Our own address in that network takes the place of the other. From and To come back in every message of the dialog (RFC 3261
//! §12.2.1.1) and are to be what they were, so they bring what is hidden along, sealed; whoever calls back by them finds its party.
//! Which addresses are inside the networks of the configuration say: those of the network itself are its own.

use proto::hidden::Hidden;
use proto::node::literal;
use proto::sip::{Edit, Message, Name, NameAddr, Uri};

use crate::dialogs::contact::with_uri;
use crate::hiding::call_names::{Border, Way};

/// The purpose of the name of a party's URI, and the parameter that has it.
const PARTY: u8 = b'P';
const PARAM: &str = "hid";

/// What is said of people, and never has to be given back.
const OF_PEOPLE: [&str; 7] = [
    "P-Asserted-Identity",
    "P-Preferred-Identity",
    "Remote-Party-ID",
    "Referred-By",
    "Diversion",
    "History-Info",
    "Reply-To",
];

impl Border<'_> {
    /// The message with its people as the other side of the border knows them.
    pub(super) fn people<'m>(&self, way: Way, mut edit: Edit<'m>, message: &Message) -> Edit<'m> {
        for name in [Name::From, Name::To] {
            if let Some(party) = message.text(name).and_then(|party| self.party(way, party)) {
                edit = edit.set(name, &party);
            }
        }
        let uri = message.is_request().then(|| message.request_uri());
        match way {
            Way::In => match uri.and_then(|uri| self.known(&Uri::parse(uri).ok()?)) {
                Some(party) => edit.request_uri(&party),
                None => edit,
            },
            Way::Out => {
                edit = match uri.and_then(|uri| self.elsewhere(uri)) {
                    Some(uri) => edit.request_uri(&uri),
                    None => edit,
                };
                OF_PEOPLE.into_iter().fold(edit, |edit, name| {
                    edit.rewrite_named(name, |value| Some(Some(self.elsewhere(value)?)))
                })
            }
        }
    }

    /// The target of a transfer, which is to be reached by its name.
    pub(super) fn referred(&self, way: Way, value: &str) -> Option<String> {
        let to = NameAddr::parse(value).ok()?;
        let (uri, headers) = to.raw_uri.split_at(to.raw_uri.find('?').unwrap_or(to.raw_uri.len()));
        let other = match way {
            Way::Out if !self.is_inside(Uri::parse(uri).ok()?.host) => None,
            _ => self.target(way, uri),
        };
        Some(with_uri(to, &(other? + headers)))
    }

    fn party(&self, way: Way, value: &str) -> Option<String> {
        let party = NameAddr::parse(value).ok()?;
        let uri = party.uri().ok()?;
        let other = match way {
            Way::In => self.known(&uri),
            Way::Out => self.disguised(&uri),
        };
        Some(with_uri(party, &other?))
    }

    fn known(&self, uri: &Uri<'_>) -> Option<String> {
        match self.proxy.config.token_keys.reveal(PARTY, uri.params.get(PARAM)?) {
            Hidden::Text(party) => Some(party),
            Hidden::Plain | Hidden::Forged => None,
        }
    }

    fn disguised(&self, uri: &Uri<'_>) -> Option<String> {
        let (scheme, _) = uri.raw.split_once(':').filter(|_| self.is_inside(uri.host))?;
        let at = if uri.user.is_empty() { "" } else { "@" };
        let own = format!("{scheme}:{}{at}{}", uri.user, self.authority());
        let sealed = self.proxy.config.token_keys.hide(PARTY, uri.raw);
        Some(sealed.map_or(own.clone(), |sealed| format!("{own};{PARAM}={sealed}")))
    }

    /// A text with our own address wherever a SIP URI in it is at one of the inside; `None`: there is no such.
    pub(super) fn elsewhere(&self, text: &str) -> Option<String> {
        let (mut other, mut at) = (String::new(), 0);
        while let Some(found) = ["sip:", "sips:"].iter().filter_map(|scheme| text[at..].find(scheme)).min() {
            let uri = at + found;
            let end =
                text[uri..].find([' ', '\t', '<', '>', '"', '\'', ',']).map_or(text.len(), |end| uri + end);
            let host = text[uri..end]
                .find('@')
                .map_or_else(|| uri + text[uri..].find(':').unwrap_or(0), |a| uri + a)
                + 1;
            let rest = &text[host..end];
            let length = rest.find([';', '?']).unwrap_or(rest.len());
            let hostport = &rest[..length];
            let alone =
                hostport.rfind(':').filter(|colon| !hostport[*colon..].contains(']')).unwrap_or(length);
            if self.is_inside(&hostport[..alone]) {
                other.push_str(&text[at..host]);
                other.push_str(self.authority());
                at = host + length;
            } else {
                other.push_str(&text[at..end]);
                at = end;
            }
        }
        (!other.is_empty()).then(|| other + &text[at..]).filter(|other| other != text)
    }

    /// Whether a host is an address of another network than this border's.
    fn is_inside(&self, host: &str) -> bool {
        let Some(ip) = literal(host) else { return false };
        let config = &self.proxy.config;
        let network = config.networks.get(config.network_of(ip));
        network
            .is_some_and(|n| !std::ptr::eq(n, self.network) && n.cidrs.iter().any(|cidr| cidr.contains(ip)))
    }

    fn authority(&self) -> &str {
        self.proxy.faces.authority(self.proxy.listener_of(self.flow))
    }
}
