//! What our proxies tell one another about a call (DESIGN §5): a side is compared once, by its first hop, and the
//! result travels in one short header, under `Node-Auth` (an INVITE grows by at most 300 bytes a proxy, DESIGN §4).
//!
//! | header | meaning |
//! |---|---|
//! | `Relay-Verdict: direct` | the sender's side was compared, and needs no relay |
//! | `Relay-Session: 00c0ffee00c0ffee` | it is anchored: its media goes through this session |
//! | either, `;peer=203.0.113.9` | where the party behind the sending proxy was observed |
//! | `Relay-Session: …;chained=yes` | its keys end there (a browser's), or go on there behind a session of the sender's own: it names the relay as the party, and what else is made for the call comes behind it |
//! | `Relay-Session: …;media=10.0.0.2:4000+4002+-` | where an anchored caller wants its media, by m= section (an address only where it is another one): an INVITE's, for a sibling that forks |
//!
//! Messages from anybody else lose all of these headers, and nobody else is sent them.

use std::net::{IpAddr, SocketAddr};

use proto::control::Session;
use proto::node::Flow;
use proto::node_auth::Proof;
use proto::sip::{Edit, Message, Name, Params};
use proto::tables::Srtp;

use crate::config::Config;

/// What a proven sibling says of the party behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// The relay session its media goes through; `None`: it needs none.
    pub(crate) session: Option<Session>,
    /// Where it was observed.
    pub(crate) peer: Option<IpAddr>,
    /// How its media is protected, as it comes from the sibling.
    pub(crate) srtp: Srtp,
    /// Its session is one to go through, whatever else is made for the call.
    pub(crate) chained: bool,
}

/// The headers that only our own nodes write.
const OURS: [Name; 8] = [
    Name::NodeAuth,
    Name::RelayVerdict,
    Name::RelayPeer,
    Name::RelaySession,
    Name::RelayLeg,
    Name::RelayNetwork,
    Name::RelayPolicy,
    Name::RelaySrtp,
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
        let (session, params) = verdict_of(message);
        let peer = params.get("peer").and_then(|peer| peer.parse().ok());
        let srtp = params.get("srtp").and_then(Srtp::from_name).unwrap_or_default();
        let chained = params.get("chained") == Some("yes");
        Some(Word { session, peer, srtp, chained })
    }

    /// Adds it to a message that goes to a sibling, to be signed afterwards; `media`: where an anchored caller wants its
    /// own, section by section.
    pub(crate) fn write<'m>(&self, edit: Edit<'m>, media: &[Option<SocketAddr>]) -> Edit<'m> {
        let (name, mut verdict) = match self.session {
            Some(session) => (Name::RelaySession, session.to_string()),
            None => (Name::RelayVerdict, "direct".to_owned()),
        };
        if let Some(peer) = self.peer {
            verdict.push_str(&format!(";peer={peer}"));
        }
        if self.srtp != Srtp::Pass {
            verdict.push_str(&format!(";srtp={}", self.srtp.as_str()));
        }
        if self.chained {
            verdict.push_str(";chained=yes");
        }
        if !media.is_empty() {
            verdict.push_str(";media=");
            verdict.push_str(&written(media));
        }
        edit.append(name, &verdict)
    }
}

/// Where the caller of an anchored INVITE wants its media, section by section, as a proven sibling says.
pub(crate) fn media_of(request: &Message) -> Vec<Option<SocketAddr>> {
    let (_, params) = verdict_of(request);
    let mut ip = None;
    let mut place = |at: &str| {
        let whole = at.parse::<SocketAddr>().ok();
        let place = whole.or_else(|| Some(SocketAddr::new(ip?, at.parse().ok()?)))?;
        ip = Some(place.ip());
        Some(place)
    };
    params.get("media").map(|media| media.split('+').map(&mut place).collect()).unwrap_or_default()
}

/// Addresses of sections, `+` between; `-`: none; only the port where the address is the one before.
fn written(media: &[Option<SocketAddr>]) -> String {
    let mut ip = None;
    let mut words = Vec::with_capacity(media.len());
    for at in media {
        words.push(match at {
            None => "-".to_owned(),
            Some(at) if ip == Some(at.ip()) => at.port().to_string(),
            Some(at) => at.to_string(),
        });
        ip = at.map(|at| at.ip()).or(ip);
    }
    words.join("+")
}

/// The session a message names, and what else it says of its party.
fn verdict_of(message: &Message) -> (Option<Session>, Params<'_>) {
    let value = message.text(Name::RelaySession).or(message.text(Name::RelayVerdict)).unwrap_or("direct");
    let (first, params) = value.split_once(';').unwrap_or((value, ""));
    (Session::from_name(first), Params(params))
}

/// Takes off what only our own nodes write.
pub(crate) fn strip<'m>(edit: Edit<'m>, message: &Message) -> Edit<'m> {
    if !OURS.iter().any(|name| message.has(*name)) {
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

/// The same for a relay. One on this machine takes our word without proof: whoever is on the machine may control it
/// anyway (`relay::control`).
pub(crate) fn sign_towards(flow: &Flow, message: Message, config: &Config, unix: u64) -> Message {
    if flow.remote.ip().is_loopback() { message } else { sign(message, config, unix) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(media: &[Option<SocketAddr>], chained: bool) -> Message {
        let invite = crate::tests::bench::message(&crate::tests::bench::invite("sip:b@b.example"));
        let word =
            Word { session: Some(Session(0x00c0_ffee_00c0_ffee)), peer: None, srtp: Srtp::Pass, chained };
        word.write(invite.edit(), media).finish()
    }

    #[test]
    fn sections_at_one_address_name_it_once() {
        let at = |text: &str| Some(text.parse().unwrap());
        let media = [at("10.0.0.2:4000"), at("10.0.0.2:4002"), None, at("[2001:db8::1]:6"), at("10.0.0.2:8")];
        let sent = sent(&media, false);
        let verdict = "00c0ffee00c0ffee;media=10.0.0.2:4000+4002+-+[2001:db8::1]:6+10.0.0.2:8";
        assert_eq!(sent.text(Name::RelaySession), Some(verdict));
        assert_eq!(media_of(&sent), media);
    }

    #[test]
    fn a_session_that_can_not_be_left_out_says_so() {
        let sent = sent(&[], true);
        assert_eq!(sent.text(Name::RelaySession), Some("00c0ffee00c0ffee;chained=yes"));
        assert_eq!(verdict_of(&sent).1.get("chained"), Some("yes"));
    }
}
