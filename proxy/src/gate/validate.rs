//! Whether a request may be served at all (RFC 3261 §16.3), before anything is allocated for it.

use proto::sip::{Malformed, Message, Method, Name, Scheme};

use crate::config::Config;
use crate::forwarding::breadth;
use crate::forwarding::faces::Faces;

/// A refusal: what to answer, and what to tell the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Status; 0: silence.
    pub(crate) status: u16,
    /// For the operator, and for a Warning.
    pub(crate) why: &'static str,
    /// A header the status asks for.
    pub(crate) header: Option<(Name, String)>,
    /// Whether the answer is kept for retransmissions: not for those who proved nothing (RFC 3261 §26.3.2.4).
    pub(crate) kept: bool,
}

impl Refusal {
    /// Without a header.
    pub(crate) const fn new(status: u16, why: &'static str) -> Refusal {
        Refusal { status, why, header: None, kept: false }
    }

    /// 503, to be tried again.
    pub(crate) fn later(why: &'static str, seconds: u32) -> Refusal {
        Refusal { header: Some((Name::RetryAfter, seconds.to_string())), ..Refusal::new(503, why) }
    }

    /// By a listener that is no longer in the configuration.
    pub(crate) const fn being_given_up() -> Refusal {
        Refusal::new(503, "this address is being given up: use another one")
    }

    /// To somebody who has passed the gate, or speaks in a dialog of ours.
    pub(crate) fn of_somebody_known(self) -> Refusal {
        Refusal { kept: true, ..self }
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Refusal {
        Refusal::new(if malformed.status == 0 { 400 } else { malformed.status }, malformed.why)
    }
}

/// The checks of §16.3 in their order. `mark` is the request's loop mark, worked out only when needed.
pub(crate) fn check(
    request: &Message,
    config: &Config,
    faces: &Faces,
    mark: impl FnOnce() -> u32,
) -> Result<(), Refusal> {
    reasonable_syntax(request)?;
    uri_scheme(request)?;
    max_forwards(request, config)?;
    if breadth::stated(request) == Some(0) {
        return Err(Refusal::new(440, "Max-Breadth is used up"));
    }
    if faces.has_looped(request, mark) {
        return Err(Refusal::new(482, "the request has been here before, unchanged"));
    }
    proxy_require(request)
}

/// Step 1: what we look at must be readable, which nearly all of it was when the request was read ([`Message::parse`]); the rest
/// may say anything.
fn reasonable_syntax(request: &Message) -> Result<(), Refusal> {
    match request.from_tag() {
        "" => Err(Refusal::new(400, "From has no tag")),
        _ => Ok(()),
    }
}

/// Step 2: only what can be routed.
fn uri_scheme(request: &Message) -> Result<(), Refusal> {
    match request.uri()?.scheme {
        Scheme::Sip | Scheme::Sips | Scheme::Tel => Ok(()),
        Scheme::Other => Err(Refusal::new(416, "neither sip:, sips: nor tel:")),
    }
}

/// Step 3. OPTIONS that ends here may still be answered by us.
fn max_forwards(request: &Message, config: &Config) -> Result<(), Refusal> {
    match request.max_forwards()? {
        Some(0) if request.method() == Method::Options && is_for_us(request, config) => Ok(()),
        Some(0) => Err(Refusal::new(483, "Max-Forwards is used up")),
        _ => Ok(()),
    }
}

/// Step 5: we support no extension that a proxy must understand.
fn proxy_require(request: &Message) -> Result<(), Refusal> {
    let demands: Vec<&str> = request.values(Name::ProxyRequire).collect();
    if demands.is_empty() {
        return Ok(());
    }
    let header = Some((Name::Unsupported, demands.join(", ")));
    Err(Refusal { header, ..Refusal::new(420, "Proxy-Require asks for an extension we don't have") })
}

/// Whether a request names us and no user of ours.
pub(crate) fn is_for_us(request: &Message, config: &Config) -> bool {
    request.uri().is_ok_and(|uri| {
        uri.user.is_empty()
            && matches!(uri.scheme, Scheme::Sip | Scheme::Sips)
            && config.is_ours(uri.host, uri.port)
    })
}
