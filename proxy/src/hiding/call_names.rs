//! The names of calls on the two sides of a border: a network that is not to see our inside learns no Call-ID of it.
//!
//! ```text
//!  inside, and in all of this proxy      towards a network with `hide-topology`
//!    a84b4c76e66710@10.0.0.50             hid~…                a name of the inside, sealed
//!    out~5f1e9a02~f81d4fae@phone          f81d4fae@phone       a name of that network, marked while it is inside
//! ```
//!
//! Every message is translated as it comes in and as it goes out, and nowhere else. A dialog has one Call-ID for as long as
//! it lasts, and so has its name: nothing is stored, and a restarted proxy knows both. The mark tells a name that was given
//! out there from one that has to be hidden; it names the network, so that what one hides another does not see either.
//! Wherever a header names another dialog (RFC 3891, 3911, 4538, 4235 §3.3, 3261 §20.21, 3515) its Call-ID is translated, too, and
//! so is what a body tells of dialogs ([`super::dialog_info`]). A name longer than [`proto::hidden::LONGEST`] passes as it is, both
//! ways.

use std::borrow::Cow;

use bytes::Bytes;
use proto::hidden::{CALL, Hidden, LONGEST, mark};
use proto::node::{Flow, Output};
use proto::sip::{self, Edit, Message, Name, Params, Uri};

use crate::config::Network;
use crate::hiding::dialog_info;
use crate::proxy::Proxy;

/// The border between the inside and one network.
pub(super) struct Border<'p> {
    pub(super) proxy: &'p Proxy,
    /// The path a message comes or goes by.
    pub(super) flow: &'p Flow,
    /// The network, which is one of the configuration's.
    pub(super) network: &'p Network,
    /// `out~5f1e9a02~`
    mark: String,
}

/// Which way a message crosses it.
#[derive(Clone, Copy)]
pub(super) enum Way {
    In,
    Out,
}

impl Border<'_> {
    fn translated(&self, way: Way, call: &str) -> Option<String> {
        match way {
            Way::In => self.inward(call),
            Way::Out => self.outward(call),
        }
    }

    fn inward(&self, call: &str) -> Option<String> {
        match self.proxy.config.token_keys.reveal(CALL, call) {
            Hidden::Text(name) => Some(name),
            Hidden::Plain | Hidden::Forged if call.len() > LONGEST => None,
            Hidden::Plain | Hidden::Forged => Some(format!("{}{call}", self.mark)),
        }
    }

    fn outward(&self, call: &str) -> Option<String> {
        match call.strip_prefix(&self.mark) {
            Some(theirs) => Some(theirs.to_owned()),
            None => self.proxy.config.token_keys.hide(CALL, call),
        }
    }

    /// The bytes of what is no message, without our mark.
    fn unmarked(&self, bytes: Bytes) -> Bytes {
        match std::str::from_utf8(&bytes) {
            Ok(text) if text.contains(&self.mark) => Bytes::from(text.replace(&self.mark, "")),
            _ => bytes,
        }
    }

    /// A message with every name of a call in it translated.
    fn message(&self, way: Way, message: &Message) -> Message {
        let mut edit = message.edit();
        if let Some(call) = self.translated(way, message.call_id()) {
            edit = edit.set(Name::CallId, &call);
        }
        for name in NAMING {
            edit = edit.rewrite_named(name, |value| Some(self.first_of(way, value)));
        }
        edit = edit.rewrite_named("In-Reply-To", |value| {
            let all = value
                .split(',')
                .map(|call| self.first_of(way, call.trim()).unwrap_or(call.trim().to_owned()));
            Some(Some(all.collect::<Vec<_>>().join(", ")))
        });
        edit = edit.rewrite_named("Event", |value| Some(Some(self.event(way, value)?)));
        edit = self.people(way, self.refer_to(way, edit, message), message);
        self.bodies(way, edit, message).finish()
    }

    /// `dialog;call-id="…";to-tag=…;from-tag=…`
    fn event(&self, way: Way, value: &str) -> Option<String> {
        let (package, params) = value.split_once(';')?;
        let call = Params(params).get("call-id").filter(|_| package.trim().eq_ignore_ascii_case("dialog"))?;
        let at = params.to_ascii_lowercase().find("call-id")?;
        let renamed = params[at..].replacen(call, &self.translated(way, call)?, 1);
        Some(format!("{package};{}{renamed}", &params[..at]))
    }

    /// Everything of the body that is about dialogs; the rest of it stays byte for byte.
    fn bodies<'m>(&self, way: Way, edit: Edit<'m>, message: &Message) -> Edit<'m> {
        let (body, mut renamed, mut at) = (message.body(), Vec::new(), 0);
        for part in message.parts(dialog_info::TYPE) {
            let Ok(xml) = std::str::from_utf8(&body[part.clone()]) else { continue };
            renamed.extend_from_slice(&body[at..part.start]);
            let target = |uri: &str| self.target(way, uri);
            let xml = dialog_info::renamed(xml, |call| self.translated(way, call), target);
            let elsewhere = if let Way::Out = way { self.elsewhere(&xml) } else { None };
            renamed.extend_from_slice(elsewhere.unwrap_or(xml).as_bytes());
            at = part.end;
        }
        if at == 0 {
            return edit;
        }
        renamed.extend_from_slice(&body[at..]);
        edit.body(&renamed)
    }

    /// A party's Contact.
    pub(super) fn target(&self, way: Way, uri: &str) -> Option<String> {
        match way {
            Way::In => self.proxy.meaning_of_uri(uri),
            Way::Out => self.proxy.hidden_target(&Uri::parse(uri).ok()?, self.flow),
        }
    }

    /// `call;to-tag=…;from-tag=…`
    fn first_of(&self, way: Way, value: &str) -> Option<String> {
        let (call, rest) = value.split_at(value.find(';').unwrap_or(value.len()));
        Some(self.translated(way, call.trim())? + rest)
    }

    /// `<sip:carol@example.com?Replaces=call%3Bto-tag%3D…>`
    fn refer_to<'m>(&self, way: Way, edit: Edit<'m>, message: &Message) -> Edit<'m> {
        let Some(value) = message.text(Name::ReferTo) else { return edit };
        let embedded = self.embedded(way, value);
        let referred = self.referred(way, embedded.as_deref().unwrap_or(value));
        match referred.or(embedded) {
            Some(value) => edit.set(Name::ReferTo, &value),
            None => edit,
        }
    }

    fn embedded(&self, way: Way, value: &str) -> Option<String> {
        let question = value.find('?')?;
        let end = question + value[question..].find(['>', ' ']).unwrap_or(value.len() - question);
        let headers = value[question + 1..end].split('&').map(|header| {
            let named = header
                .split_once('=')
                .filter(|(name, _)| NAMING.iter().any(|n| n.eq_ignore_ascii_case(name)));
            let translated = named.and_then(|(name, escaped)| {
                let value = self.first_of(way, &sip::unescaped(escaped)?)?;
                Some(format!("{name}={}", sip::escaped(&value, HNV_UNRESERVED)))
            });
            translated.map_or(Cow::Borrowed(header), Cow::Owned)
        });
        let headers: Vec<Cow<'_, str>> = headers.collect();
        Some(format!("{}{}{}", &value[..=question], headers.join("&"), &value[end..]))
    }
}

/// Headers that name a dialog, of a message or in a URI.
const NAMING: [&str; 3] = ["Replaces", "Join", "Target-Dialog"];

/// Reserved characters that the value of a header in a URI may hold (RFC 3261 §25.1, `hnv-unreserved`).
const HNV_UNRESERVED: &[u8] = b"[]/?:+$";

impl Proxy {
    /// Nothing is between us and our own relays and redirect servers, whichever way they are met.
    fn border<'p>(&'p self, flow: &'p Flow) -> Option<Border<'p>> {
        let network = self.config.hidden_from(flow)?;
        let relays = self.config.relays.iter().map(|relay| relay.address);
        if relays
            .chain(self.config.redirects.iter().map(|redirect| redirect.address))
            .any(|at| at == flow.remote)
        {
            return None;
        }
        Some(Border { proxy: self, flow, network, mark: mark(&network.name) })
    }

    /// A message that has come by this path, as the inside knows its call.
    pub(crate) fn named_inside(&self, flow: &Flow, message: Message) -> Message {
        match self.border(flow) {
            Some(border) => border.message(Way::In, &message),
            None => message,
        }
    }

    /// What is sent, as its reader knows the call.
    pub(crate) fn named_outside(&self, output: Output) -> Output {
        let to = match &output {
            Output::Message { flow, .. } | Output::Send { flow, .. } => *flow,
            _ => return output,
        };
        let Some(border) = self.border(&to) else { return output };
        match output.on_the_wire() {
            Output::Send { flow, bytes, ticket } => {
                let bytes = match Message::parse(bytes.clone()) {
                    Ok(message) => border.message(Way::Out, &message).into_bytes(),
                    // An answer to a broken request, which lacks something itself, or a keep-alive.
                    Err(_) => border.unmarked(bytes),
                };
                Output::Send { flow, bytes, ticket }
            }
            other => other,
        }
    }
}
