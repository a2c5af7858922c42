//! What a phone is to do, and when.

use serde::Deserialize;

/// A phone's instructions. Steps are taken in order; each waits for what it stands after.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Script {
    /// What to do with an incoming call.
    pub answer: Answer,
    /// What to do by itself.
    pub steps: Vec<Step>,
    /// When to give up: calls end, the remaining steps are dropped.
    pub until_ms: u64,
}

impl Default for Script {
    fn default() -> Self {
        Script { answer: Answer::default(), steps: Vec::new(), until_ms: 60_000 }
    }
}

/// How an incoming call is answered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Answer {
    /// How long it rings.
    pub after_ms: u64,
    /// Whether it says so (180).
    pub ring: bool,
    /// Whether it talks before it answers (183 with SDP).
    pub early_media: bool,
    /// Refuse with this status instead of answering.
    pub reject: Option<u16>,
}

impl Default for Answer {
    fn default() -> Self {
        Answer { after_ms: 1000, ring: true, early_media: false, reject: None }
    }
}

/// One thing to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Step {
    /// What.
    #[serde(rename = "do")]
    pub what: Act,
    /// After what.
    pub after: After,
    /// How long after it.
    pub at_ms: u64,
    /// Whom to call or transfer to, as a URI.
    pub to: Option<String>,
    /// The digits of [`Act::Dtmf`].
    pub digits: Option<String>,
    /// [`Act::Call`] without an offer in the INVITE.
    pub late_offer: bool,
}

impl Step {
    /// This, after that.
    pub fn new(what: Act, after: After, at_ms: u64) -> Step {
        Step { what, after, at_ms, ..Step::default() }
    }

    /// [`Act::Call`].
    pub fn call(to: &str, after: After, at_ms: u64) -> Step {
        Step { to: Some(to.to_string()), ..Step::new(Act::Call, after, at_ms) }
    }
}

/// What can be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Nothing: wait for what it stands after.
    #[default]
    Wait,
    /// Register, and stay registered.
    Register,
    /// Take the registration back.
    Unregister,
    /// Call `to`.
    Call,
    /// BYE, or CANCEL while it rings.
    HangUp,
    /// Put the other side on hold.
    Hold,
    /// Take it back.
    Resume,
    /// Go on with media on another port (re-INVITE).
    Move,
    /// Describe the session again with UPDATE (RFC 3311).
    Update,
    /// Blind transfer to `to` (RFC 3515).
    Transfer,
    /// Call `to` while the present call waits.
    Consult,
    /// Connect the party that waits with the one that was consulted (RFC 3891, RFC 5589).
    TransferConsulted,
    /// Send `digits` (RFC 4733).
    Dtmf,
}

/// What a step stands after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum After {
    /// The phone was switched on.
    #[default]
    Start,
    /// The step before it was taken.
    Previous,
    /// The first registration.
    Registered,
    /// A call rings, here or there.
    Ringing,
    /// A call is up.
    Answered,
    /// A call has ended, or failed.
    Ended,
}
