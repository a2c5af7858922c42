//! The media decision (DESIGN §5): whether media goes through a relay, by which rule, and what the rule looked at.
//!
//! One pure function, [`decide`], over what has been [`Seen`] of both sides. The rules stand here in the order in which
//! they are asked; the first that holds decides.
//!
//! | | what is seen | decides | rule |
//! |---|---|---|---|
//! | 1 | `anchor: never` / `anchor: always` | direct / anchor | [`Rule::ConfiguredNever`], [`Rule::ConfiguredAlways`] |
//! | 1 | the callee's media is to be protected otherwise than the offer's (`srtp`) | anchor | [`Rule::KeysDiffer`] |
//! | 2 | no SDP address to compare (late offer, hold, names) | anchor | [`Rule::NoSdp`] |
//! | 3 | both behind the same public address | anchor; direct with `same-nat: direct` | [`Rule::SameNat`] |
//! | 4 | SDP names an address nobody outside can reach, from a public source | anchor | [`Rule::UnreachableAddress`] |
//! | 5 | signalling source IP ≠ SDP IP | anchor | [`Rule::SourceDiffers`] |
//! | 6 | an earlier answer of this callee came from elsewhere than it said | anchor | [`Rule::DecidedTooLate`] |
//! | 7 | address families differ | anchor | [`Rule::FamiliesDiffer`] |
//! | 7 | one side's network has `hide-topology`, the other side is not in one | anchor | [`Rule::Hidden`] |
//! | 8 | private and matching ↔ public | anchor | [`Rule::PrivateToPublic`] |
//! | 9 | both private and matching in one configured network | direct | [`Rule::SameNetwork`] |
//! | 10 | both public and matching, no sign of a NAT | direct | [`Rule::BothPublic`] |
//! | 11 | ICE in the offer | anchor | [`Rule::Ice`] |
//! | 12 | Via sent-by or Contact show a NAT before a public side, or before a callee that has not spoken | anchor | [`Rule::SignsOfNat`] |
//! | 13 | anything else, or callee unknown | anchor | [`Rule::Unknown`] |
//!
//! Two rules stand before these and ask nothing: a dialog that is anchored stays so ([`Decision::STICKY`]), and a side
//! that a sibling has anchored is joined ([`Decision::OF_SIBLING`]).
//!
//! The order is what makes the rules tell the operator most: 3 stands before 4 and 5, because `same-nat: direct` is
//! for phones whose SDP is private; 11 stands after 9 and 10, because ICE between parties that reach one another
//! anyway passes untouched. Each side is compared once, by that side's first hop: a caller that a sibling found direct
//! is taken by its word ([`Party::vouched`]), and a callee that another proxy serves ([`Callee::OfSibling`]) is left to
//! that proxy, which sees the callee and, through its SDP, the caller. A callee that has not spoken is judged by how
//! it registered; a configured next hop is believed to send from where we send to.

use std::net::{IpAddr, SocketAddr};

use proto::event::{Event, MediaDecided, Name, Rule, Side, Sighting};
use proto::node::Flow;
use proto::sdp::{Reach, Sdp, reach};
use proto::tables::Anchor;

/// One party of a call as we see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Where its signalling comes from, or goes to: observed, NATs included.
    pub flow: Flow,
    /// Index of its network in the configuration.
    pub network: usize,
    /// The addresses its SDP names; empty: not known (a callee), or no SDP.
    pub sdp: Vec<IpAddr>,
    /// Its SDP has ICE lines.
    pub ice: bool,
    /// Via sent-by or Contact show a NAT: they differ from the source (over UDP the ports too).
    pub signs_of_nat: bool,
}

/// What is known of the callee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callee {
    /// Not looked for yet: decide on the caller alone if that suffices.
    NotYet,
    /// A sibling serves it and decides for its side.
    OfSibling,
    /// A binding of ours, or a next hop of configuration or DNS (then without SDP addresses).
    Known(Party),
    /// Nothing.
    Unknown,
}

/// Everything a decision looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What configuration asks for: the [`strictest`] word of user, trunk and listener.
    pub anchor: Anchor,
    /// The caller; `None`: a proven sibling decided for it (direct), and its SDP names no address.
    pub caller: Option<Party>,
    /// The callee.
    pub callee: Callee,
    /// [`crate::config::Config::same_nat_direct`].
    pub same_nat_direct: bool,
    /// An earlier call showed that the callee's media needs a relay.
    pub remembered: bool,
    /// The callee protects its media otherwise than the offer does: a relay has to stand between.
    pub keys_differ: bool,
    /// One side's network is not to see the other side's addresses.
    pub hides: bool,
}

/// What was decided, by which row of the table, and whose facts decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether media goes through a relay.
    pub anchored: bool,
    /// The rule.
    pub rule: Rule,
    /// Whose facts.
    pub side: Side,
}

/// Decides. `None` only with [`Callee::NotYet`], when the callee matters.
pub fn decide(seen: &Seen) -> Option<Decision> {
    let early = configured(seen)
        .or_else(|| keys_differ(seen))
        .or_else(|| nothing_to_compare(seen))
        .or_else(|| same_nat(seen))
        .or_else(|| mismatch(seen))
        .or_else(|| remembered(seen));
    match seen.callee {
        Callee::NotYet => early,
        _ => early
            .or_else(|| families_differ(seen))
            .or_else(|| hides(seen))
            .or_else(|| between(seen))
            .or_else(|| Some(otherwise(seen))),
    }
}

/// For the answer: whether its SDP shows that a call decided as direct needed a relay (rule and reason as for the offer).
pub fn reveals(callee: &Party) -> Option<Rule> {
    callee.mismatch()
}

/// One wish out of several (listener, route, user, target): always wins over never, never over auto.
pub fn strictest(wishes: impl IntoIterator<Item = Anchor>) -> Anchor {
    let rank = |anchor: &Anchor| match anchor {
        Anchor::Auto => 0,
        Anchor::Never => 1,
        Anchor::Always => 2,
    };
    wishes.into_iter().max_by_key(rank).unwrap_or_default()
}

impl Decision {
    /// The dialog is anchored, and stays so.
    pub const STICKY: Decision = anchor(Rule::Sticky, Side::Caller);
    /// A sibling has anchored the caller's side: its session is joined.
    pub const OF_SIBLING: Decision = anchor(Rule::SiblingDecided, Side::Caller);
    /// The answer told what the offer could not: this call is left as it is, the next one is anchored.
    pub const TOO_LATE: Decision = direct(Rule::DecidedTooLate, Side::Callee);

    /// The event that tells it, with what was seen of both sides; who forwards the request knows best what it has of
    /// the caller.
    pub fn event(&self, call: Name, seen: &Seen, caller: Sighting) -> Event {
        Event::MediaDecided(Box::new(MediaDecided {
            call,
            side: self.side,
            seen: [caller, seen.callee.sighting()],
            anchor: seen.anchor,
            rule: self.rule,
            anchored: self.anchored,
            session: None,
            relay: None,
        }))
    }
}

impl Callee {
    fn sighting(&self) -> Sighting {
        match self {
            Callee::OfSibling => Sighting::BySibling(None),
            Callee::Known(party) => party.sighting(),
            Callee::NotYet | Callee::Unknown => Sighting::Unknown,
        }
    }
}

impl Party {
    fn sighting(&self) -> Sighting {
        Sighting::Party { at: self.flow.remote, transport: self.flow.transport, sdp: self.sdp.clone() }
    }

    /// The caller as its sibling's message shows it, whose source is the sibling: the SDP of a side found direct names
    /// the address that side is seen from, so it stands for the source that the sibling saw. `None` when it names none.
    pub fn vouched(sibling: &Flow, sdp: &Sdp<'_>, network_of: impl Fn(IpAddr) -> usize) -> Option<Party> {
        let sdp_addresses = sdp.addresses();
        let ip = *sdp_addresses.first()?;
        let flow = Flow { remote: SocketAddr::new(ip, sibling.remote.port()), ..*sibling };
        Some(Party { flow, network: network_of(ip), sdp: vec![ip], ice: sdp.has_ice(), signs_of_nat: false })
    }

    fn ip(&self) -> IpAddr {
        self.flow.remote.ip().to_canonical()
    }

    fn is_public(&self) -> bool {
        reach(self.ip()) == Reach::Public
    }

    /// Loopback is a private network too: a laboratory of one host.
    fn is_private(&self) -> bool {
        matches!(reach(self.ip()), Reach::Private | Reach::Loopback)
    }

    /// Whether it is where it says, once [`Party::mismatch`] has found nothing: who has not spoken yet is judged by
    /// Via and Contact.
    fn matches(&self) -> bool {
        !self.sdp.is_empty() || !self.signs_of_nat
    }

    /// Public, and no other sign of a NAT. (That it matches was asked before.)
    fn reaches_anybody(&self) -> bool {
        self.is_public() && !self.signs_of_nat
    }

    fn mismatch(&self) -> Option<Rule> {
        let unreachable = |ip: &IpAddr| reach(*ip) != Reach::Public;
        if self.is_public() && self.sdp.iter().any(unreachable) {
            return Some(Rule::UnreachableAddress);
        }
        self.sdp.iter().any(|ip| ip.to_canonical() != self.ip()).then_some(Rule::SourceDiffers)
    }
}

impl Seen {
    /// What is known of one side.
    pub fn party(&self, side: Side) -> Option<&Party> {
        match (side, &self.callee) {
            (Side::Caller, _) => self.caller.as_ref(),
            (Side::Callee, Callee::Known(callee)) => Some(callee),
            (Side::Callee, _) => None,
        }
    }

    /// The first side of which something holds.
    fn side_where(&self, holds: impl Fn(&Party) -> bool) -> Option<Side> {
        [Side::Caller, Side::Callee].into_iter().find(|&side| self.party(side).is_some_and(&holds))
    }
}

const fn anchor(rule: Rule, side: Side) -> Decision {
    Decision { anchored: true, rule, side }
}

const fn direct(rule: Rule, side: Side) -> Decision {
    Decision { anchored: false, rule, side }
}

/// Rule 1: what is settled whatever the addresses are.
fn configured(seen: &Seen) -> Option<Decision> {
    match seen.anchor {
        Anchor::Never => Some(direct(Rule::ConfiguredNever, Side::Caller)),
        Anchor::Always => Some(anchor(Rule::ConfiguredAlways, Side::Caller)),
        Anchor::Auto => None,
    }
}

/// Rule 2. A caller its sibling vouches for without SDP was anchored there, so it does not come here as direct.
fn nothing_to_compare(seen: &Seen) -> Option<Decision> {
    let silent = seen.caller.as_ref().is_some_and(|caller| caller.sdp.is_empty());
    silent.then_some(anchor(Rule::NoSdp, Side::Caller))
}

/// Rule 3. Even where both match: a router that rewrites SIP makes everything match, and seldom carries media from
/// its inside to its inside by way of its outside.
fn same_nat(seen: &Seen) -> Option<Decision> {
    let (caller, callee) = (seen.party(Side::Caller)?, seen.party(Side::Callee)?);
    let same = caller.is_public() && caller.ip() == callee.ip();
    same.then_some(Decision { anchored: !seen.same_nat_direct, rule: Rule::SameNat, side: Side::Callee })
}

/// Rules 4 and 5: the comparison, once per side.
fn mismatch(seen: &Seen) -> Option<Decision> {
    let of = |side| Some(anchor(seen.party(side)?.mismatch()?, side));
    of(Side::Caller).or_else(|| of(Side::Callee))
}

/// Rule 1, where nothing is configured: keys have to be translated.
fn keys_differ(seen: &Seen) -> Option<Decision> {
    seen.keys_differ.then_some(anchor(Rule::KeysDiffer, Side::Callee))
}

/// Rule 6.
fn remembered(seen: &Seen) -> Option<Decision> {
    seen.remembered.then_some(anchor(Rule::DecidedTooLate, Side::Callee))
}

/// Rule 7.
fn families_differ(seen: &Seen) -> Option<Decision> {
    let (caller, callee) = (seen.party(Side::Caller)?, seen.party(Side::Callee)?);
    let differ = caller.ip().is_ipv4() != callee.ip().is_ipv4();
    differ.then_some(anchor(Rule::FamiliesDiffer, Side::Callee))
}

/// Rule 7, where both could reach one another: only by addresses that one of them is not to see.
fn hides(seen: &Seen) -> Option<Decision> {
    seen.hides.then_some(anchor(Rule::Hidden, Side::Callee))
}

/// Rules 8 to 10: neither side contradicts itself, and what matters is how they stand to one another.
fn between(seen: &Seen) -> Option<Decision> {
    match (&seen.caller, &seen.callee) {
        (Some(caller), Callee::Known(callee)) => between_two(caller, callee),
        (Some(caller), Callee::OfSibling) => {
            caller.reaches_anybody().then_some(direct(Rule::BothPublic, Side::Caller))
        }
        (None, Callee::Known(callee)) => {
            callee.reaches_anybody().then_some(direct(Rule::BothPublic, Side::Callee))
        }
        _ => None,
    }
}

fn between_two(caller: &Party, callee: &Party) -> Option<Decision> {
    match (caller.is_private(), callee.is_private()) {
        (true, false) if callee.is_public() => Some(anchor(Rule::PrivateToPublic, Side::Caller)),
        (false, true) if caller.is_public() => Some(anchor(Rule::PrivateToPublic, Side::Callee)),
        (true, true) if share_network(caller, callee) => Some(direct(Rule::SameNetwork, Side::Callee)),
        _ if caller.reaches_anybody() && callee.reaches_anybody() => {
            Some(direct(Rule::BothPublic, Side::Callee))
        }
        _ => None,
    }
}

fn share_network(caller: &Party, callee: &Party) -> bool {
    caller.network == callee.network && caller.matches() && callee.matches()
}

/// Rules 11 to 13.
fn otherwise(seen: &Seen) -> Decision {
    let hidden = seen.side_where(|party| party.signs_of_nat && (party.is_public() || !party.matches()));
    match hidden {
        _ if seen.caller.as_ref().is_some_and(|caller| caller.ice) => anchor(Rule::Ice, Side::Caller),
        Some(side) => anchor(Rule::SignsOfNat, side),
        None => anchor(Rule::Unknown, Side::Callee),
    }
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
