//! What our proxies tell one another about a call (DESIGN §5): a side is compared once, by its first hop, and the
//! result travels in `Relay-Verdict`, with the party's observed address in `Relay-Peer`, under `Node-Auth`.
//!
//! | header | example | meaning |
//! |---|---|---|
//! | `Relay-Verdict` | `direct` | the sender's side was compared, and needs no relay |
//! | | `anchored;session=00c0ffee00c0ffee` | its media goes through this session |
//! | | `…;media=10.0.0.2:4000+-` | … and where the caller wants it, by m= section: an INVITE's, for a sibling that forks |
//! | `Relay-Peer` | `203.0.113.9:40000` | where the party behind the sending proxy was observed |
//!
//! Messages from anybody else lose all of these headers, and nobody else is sent them.

use std::net::SocketAddr;

use proto::control::Session;
use proto::node::Flow;
use proto::node_auth::Proof;
use proto::sip::{Edit, Message, Name, Params};

use crate::config::Config;

/// What a proven sibling says of the party behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// The relay session its media goes through; `None`: it needs none.
    pub(crate) session: Option<Session>,
    /// Where it was observed.
    pub(crate) peer: Option<SocketAddr>,
}

/// The headers that only our own nodes write.
const OURS: [Name; 7] = [
    Name::NodeAuth,
    Name::RelayVerdict,
    Name::RelayPeer,
    Name::RelaySession,
    Name::RelayLeg,
    Name::RelayNetwork,
    Name::RelayPolicy,
];

impl Word {
    /// Reads it; `None` when the message does not come from a proven sibling.
    pub(crate) fn read(message: &Message, flow: &Flow, config: &Config, unix: u64) -> Option<Word> {
        if !config.is_sibling(flow.remote.ip()) {
            return None;
        }
        let key = config.siblings.key.as_ref()?;
        if message.text(Name::NodeAuth).is_none() || key.check(message, unix) != Proof::Proven {
            return None;
        }
        let verdict = message.text(Name::RelayVerdict).unwrap_or("direct");
        let session = params(verdict).and_then(|params| Session::from_name(params.get("session")?));
        let peer = message.text(Name::RelayPeer).and_then(|peer| peer.parse().ok());
        Some(Word { session, peer })
    }

    /// Adds it to a message that goes to a sibling, to be signed afterwards; `media`: where an anchored caller wants its
    /// own, section by section.
    pub(crate) fn write<'m>(&self, edit: Edit<'m>, media: &[Option<SocketAddr>]) -> Edit<'m> {
        let mut verdict =
            self.session.map_or("direct".into(), |session| format!("anchored;session={session}"));
        for (n, at) in media.iter().enumerate() {
            verdict.push_str(if n == 0 { ";media=" } else { "+" });
            verdict.push_str(&at.map_or("-".into(), |at| at.to_string()));
        }
        let edit = edit.append(Name::RelayVerdict, &verdict);
        match self.peer {
            Some(peer) => edit.append(Name::RelayPeer, &peer.to_string()),
            None => edit,
        }
    }
}

/// Where the caller of an anchored INVITE wants its media, section by section, as a proven sibling says.
pub(crate) fn media_of(request: &Message) -> Vec<Option<SocketAddr>> {
    let media = request.text(Name::RelayVerdict).and_then(params).and_then(|params| params.get("media"));
    media.map(|media| media.split('+').map(|at| at.parse().ok()).collect()).unwrap_or_default()
}

fn params(verdict: &str) -> Option<Params<'_>> {
    verdict.strip_prefix("anchored;").map(Params)
}

/// Takes off what only our own nodes write.
pub(crate) fn strip<'m>(edit: Edit<'m>, message: &Message) -> Edit<'m> {
    if !message.headers().any(|header| OURS.contains(&header.name)) {
        return edit;
    }
    OURS.into_iter().fold(edit, Edit::remove)
}

/// The message with our proof, when there is a key.
pub(crate) fn sign(message: Message, config: &Config, unix: u64) -> Message {
    match &config.siblings.key {
        Some(key) => key.sign(&message, unix),
        None => message,
    }
}
