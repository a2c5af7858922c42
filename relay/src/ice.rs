//! ICE on a leg whose party does it: we are lite (RFC 8445 §2.5), so we answer its checks and make none of our own.
//!
//! A check counts when it carries our credentials and its MESSAGE-INTEGRITY proves them; anything else is dropped without a
//! word, so that nobody learns that a port is open. The pair that the party nominates is where it is heard and sent to,
//! whatever its description said, and nothing else moves the leg. Its checks on that pair are its consent (RFC 7675): when
//! they stay away for [`CONSENT`] nothing more is sent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::node::Output;
use proto::stun::{Class, Message, Writer, attribute};

use crate::leg::{Change, Part};
use crate::relay::Relay;
use crate::why::Why;

/// RFC 7675 §5.1.
pub(crate) const CONSENT: Duration = Duration::from_secs(30);

impl Relay {
    /// A check of a leg's party.
    pub(crate) fn checked(
        &mut self,
        now: Instant,
        at: u32,
        part: Part,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Why> {
        let leg = self.legs.get_mut(at as usize).ok_or(Why::Idle)?;
        let keys = leg.keys.as_deref_mut().filter(|_| part == Part::Media).ok_or(Why::Stun)?;
        let ice = keys.terms.ice.as_mut().ok_or(Why::Stun)?;
        let check = Message::parse(bytes).filter(|check| check.class() == Class::Request).ok_or(Why::Stun)?;
        let to_us = check.username().and_then(|name| name.split_once(':')).map(|(ours, _)| ours);
        if to_us != Some(&ice.ufrag) || !check.is_signed_with(ice.pwd.as_bytes()) {
            return Err(Why::Stun);
        }
        let network = leg.media.port.id.network();
        if self.config.admits(network, from, false).is_err() {
            return Err(Why::Loop);
        }
        let answer = answer(&check, from, ice.pwd.as_bytes());
        let nominates = answer.is_success && check.attribute(attribute::USE_CANDIDATE).is_some();
        if answer.is_success && (nominates || leg.media.latched == Some(from)) {
            ice.checked = Some(now);
        }
        let socket = leg.media.port.socket;
        self.outputs.push_back(Output::SendMedia { socket, to: from, bytes: answer.bytes.into() });
        if nominates && leg.media.latched != Some(from) {
            let change = if leg.media.latched.is_some() { Change::Moved } else { Change::Latched };
            leg.nominate(now, from);
            let members = self.keys_of(at).map(|keys| keys.terms.bundle.members.clone()).unwrap_or_default();
            for member in members {
                if let Some(leg) = self.legs.get_mut(member as usize) {
                    leg.nominate(now, from);
                }
            }
            self.note(now, at, part, from, Ok(change));
        }
        self.begin_if_active(now, at);
        Ok(())
    }
}

struct Answer {
    is_success: bool,
    bytes: Vec<u8>,
}

/// RFC 8445 §7.3: where the check was seen to come from; or that both think they are controlled, or that it asks for
/// what we don't understand.
fn answer(check: &Message<'_>, from: SocketAddr, key: &[u8]) -> Answer {
    let unknown: Vec<u8> = check.not_understood().flat_map(u16::to_be_bytes).collect();
    let refused = |status, words: &str| Writer::new(Class::Error, check.transaction()).error(status, words);
    if !unknown.is_empty() {
        let refused = refused(420, "Unknown Attribute").attribute(attribute::UNKNOWN_ATTRIBUTES, &unknown);
        return Answer { is_success: false, bytes: refused.sign(key) };
    }
    if check.attribute(attribute::ICE_CONTROLLED).is_some() {
        return Answer { is_success: false, bytes: refused(487, "Role Conflict").sign(key) };
    }
    Answer {
        is_success: true,
        bytes: Writer::new(Class::Success, check.transaction()).mapped(from).sign(key),
    }
}
