//! How we look from outside, per listener: what our Via and Record-Route values begin and end with, made once per
//! configuration so that nothing is formatted per message.

use std::hash::{BuildHasher, Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::node::{Dice, Transport, literal};
use proto::sip::{Message, Via};

use crate::config::{Config, Listener};

/// What is in a branch of ours behind the cookie, as base64url: 64 random bits, and the mark that tells a loop.
const BRANCH: usize = 12;

/// The faces of all listeners, by the listener's index.
#[derive(Debug)]
pub(crate) struct Faces {
    all: Vec<Face>,
}

#[derive(Debug)]
struct Face {
    listener: Listener,
    /// `SIP/2.0/UDP 192.0.2.1:5060`
    via: String,
    /// `@192.0.2.1:5060;lr>`, with `;transport=` where it is not UDP
    route: String,
    /// The same without `;lr>`.
    contact: String,
    /// `192.0.2.1:5060`
    authority: String,
}

impl Faces {
    /// For these listeners.
    pub(crate) fn new(config: &Config) -> Faces {
        Faces { all: config.listeners.iter().map(Face::new).collect() }
    }

    /// A Via value for a listener: a branch nobody can guess, and what marks a loop in it. `rport` (RFC 3581) is for UDP.
    pub(crate) fn via(&self, listener: usize, asks_rport: bool, dice: &mut Dice, mark: u32) -> String {
        let mut unique = [0; BRANCH];
        unique[..8].copy_from_slice(&dice.u64().to_be_bytes());
        unique[8..].copy_from_slice(&mark.to_be_bytes());
        let mut branch = [0; MAGIC_COOKIE.len() + BRANCH * 4 / 3];
        let (cookie, rest) = branch.split_at_mut(MAGIC_COOKIE.len());
        cookie.copy_from_slice(MAGIC_COOKIE.as_bytes());
        // The room is what the encoding takes, and its digits are ASCII.
        let _ = URL_SAFE_NO_PAD.encode_slice(unique, rest);
        self.via_of(listener, asks_rport, str::from_utf8(&branch).unwrap_or_default())
    }

    /// A Via value with a branch that somebody else sees to.
    pub(crate) fn via_of(&self, listener: usize, asks_rport: bool, branch: &str) -> String {
        let face = self.all.get(listener);
        let begin = face.map_or("SIP/2.0/UDP invalid", |face| face.via.as_str());
        let udp = face.is_some_and(|face| face.listener.transport == Transport::Udp);
        [begin, if udp && asks_rport { ";rport;branch=" } else { ";branch=" }, branch].concat()
    }

    /// A Record-Route value for a listener; as secure as the request URI (RFC 3261 §16.6 step 4).
    pub(crate) fn record_route(&self, listener: usize, token: &str, secure: bool) -> String {
        let end = self.all.get(listener).map_or("@invalid;lr>", |f| f.route.as_str());
        [if secure { "<sips:" } else { "<sip:" }, token, end].concat()
    }

    /// A URI at a listener, for a Contact.
    pub(crate) fn contact(&self, listener: usize, token: &str) -> String {
        let end = self.all.get(listener).map_or("@invalid", |f| f.contact.as_str());
        ["sip:", token, end].concat()
    }

    /// `host:port` as a listener advertises itself.
    pub(crate) fn authority(&self, listener: usize) -> &str {
        self.all.get(listener).map_or("invalid", |f| f.authority.as_str())
    }

    /// Whether a request that looks like this has been here before: one of its Vias is ours, with the mark this
    /// request would get now (RFC 3261 §16.3 step 4, RFC 5393 §4.2).
    pub(crate) fn has_looped(&self, request: &Message, mark: impl FnOnce() -> u32) -> bool {
        let mut ours = request.vias().flatten().filter(|via| self.is_ours(via)).peekable();
        if ours.peek().is_none() {
            return false;
        }
        let mark = mark();
        ours.any(|via| mark_in(via.branch()) == Some(mark))
    }

    /// Whether the topmost Via names us, as one of ours does.
    pub(crate) fn wrote_topmost(&self, response: &Message) -> bool {
        response.via().is_ok_and(|via| self.is_ours(&via) && mark_in(via.branch()).is_some())
    }

    fn is_ours(&self, via: &Via<'_>) -> bool {
        self.all.iter().any(|face| face.is_in(via))
    }
}

impl Face {
    fn new(listener: &Listener) -> Face {
        let authority = listener.advertise.to_string();
        let transport = listener.transport;
        // Who can tell by our certificate who we are may answer and ask by the connection we made (RFC 5923 §7).
        let alias = if transport == Transport::Tls { ";alias" } else { "" };
        let via = format!("SIP/2.0/{} {authority}{alias}", transport.via());
        let contact = format!("@{authority}{}", param(transport));
        Face { listener: listener.clone(), via, route: format!("{contact};lr>"), contact, authority }
    }

    fn is_in(&self, via: &Via<'_>) -> bool {
        let at = self.listener.advertise;
        via.port.unwrap_or(self.listener.transport.default_port()) == at.port()
            && literal(via.host) == Some(at.ip())
    }
}

/// The transport as a URI's parameter.
pub(crate) fn param(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
        Transport::Tls => ";transport=tls",
        // URIs of both say `ws` (RFC 7118 §5.2.2).
        Transport::Ws | Transport::Wss => ";transport=ws",
    }
}

/// The mark in a branch of ours.
fn mark_in(branch: &str) -> Option<u32> {
    let mut unique = [0; BRANCH];
    let ours = branch.strip_prefix(MAGIC_COOKIE)?;
    let length = URL_SAFE_NO_PAD.decode_slice(ours, &mut unique).ok()?;
    (length == BRANCH).then(|| u32::from_be_bytes([unique[8], unique[9], unique[10], unique[11]]))
}

/// RFC 3261 §8.1.1.7.
const MAGIC_COOKIE: &str = "z9hG4bK";

/// What RFC 5393 §4.2.1 asks a loop mark to cover: everything that decides where a request goes. Max-Forwards and Via
/// are left out, since they change on the way round.
pub(crate) fn loop_mark(request: &Message, hasher: &impl BuildHasher) -> u32 {
    let mut hash = hasher.build_hasher();
    request.request_uri().hash(&mut hash);
    request.call_id().hash(&mut hash);
    request.from_tag().hash(&mut hash);
    request.to_tag().hash(&mut hash);
    request.cseq().map_or(0, |c| c.number).hash(&mut hash);
    request.routes().flatten().for_each(|route| route.raw_uri.hash(&mut hash));
    hash.finish() as u32
}
