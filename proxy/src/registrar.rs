//! REGISTER (RFC 3261 §10): bindings with the source they were observed at.

use proto::event::Event;
use proto::node::Flow;
use proto::sip::{Message, reply};
use proto::tables::{Tables, User};

use crate::config::Config;
use crate::moment::Moment;

/// What a REGISTER did.
#[derive(Debug)]
pub struct Registered {
    /// The answer.
    pub response: Message,
    /// What to tell.
    pub events: Vec<Event>,
    /// Addresses of record whose bindings changed, so that keep-alives and the redirect server hear of it.
    pub changed: Vec<String>,
}

/// Serves one REGISTER that passed the gate.
pub fn register(
    now: Moment,
    flow: &Flow,
    request: &Message,
    user: Option<&User>,
    to_tag: &str,
    config: &Config,
    tables: &mut dyn Tables,
) -> Registered {
    let _ = (now, flow, user, config, tables);
    Registered { response: reply(request, 501, to_tag).finish(), events: Vec::new(), changed: Vec::new() }
}

/// A connection is gone: its bindings with it (DESIGN §4).
pub fn closed(now: Moment, flow: &Flow, tables: &mut dyn Tables) -> Lost {
    let _ = (now, flow, tables);
    Lost::default()
}

/// What the loss of a connection did.
#[derive(Debug, Default)]
pub struct Lost {
    /// What to tell.
    pub events: Vec<Event>,
    /// Addresses of record whose bindings changed.
    pub changed: Vec<String>,
}
