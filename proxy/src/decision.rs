//! The media decision (DESIGN §5): a pure function from what was seen to whether media goes through a relay.

use std::net::IpAddr;

use proto::event::Rule;
use proto::node::Flow;
use proto::tables::Anchor;

/// One party of a call as we see it.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub struct Seen {
    /// What configuration asks for: the strictest word of user, trunk and listener.
    pub anchor: Anchor,
    /// The caller; `None`: a proven sibling decided for it (direct).
    pub caller: Option<Party>,
    /// The callee.
    pub callee: Callee,
    /// [`crate::config::Config::same_nat_direct`].
    pub same_nat_direct: bool,
    /// An earlier call showed that the callee's media needs a relay.
    pub remembered: bool,
}

/// What was decided, and by which row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether media goes through a relay.
    pub anchored: bool,
    /// The rule.
    pub rule: Rule,
}

/// Decides. `None` only with [`Callee::NotYet`], when the callee matters.
pub fn decide(seen: &Seen) -> Option<Decision> {
    let _ = seen;
    Some(Decision { anchored: false, rule: Rule::Unknown })
}

/// For the answer: whether its SDP shows that a call decided as direct needed a relay (rule and reason as for the offer).
pub fn reveals(callee: &Party) -> Option<Rule> {
    let _ = callee;
    None
}
