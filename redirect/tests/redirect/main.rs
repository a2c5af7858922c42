//! A redirect server as its askers see it.

use std::time::Duration;

use proto::event::{Event, Registration};
use proto::node::{Flow, FlowId, Input, Transport};
use proto::node_auth::Proof;
use proto::sip::{Message, Name};
use proto::tables::Tables;

#[path = "../scene/mod.rs"]
mod scene;

mod lookups;
mod proofs;
mod registrations;
mod requests;

use scene::*;

const MINUTE: Duration = Duration::from_secs(60);
const P2_LR: &str = "<sip:203.0.113.2:5060;transport=udp;lr>";

fn status(message: &Message) -> u16 {
    message.status().expect("a response")
}

fn changes(scene: &Scene) -> Vec<Registration> {
    let change = |event: &Event| match event {
        Event::Registered { change, .. } => Some(*change),
        _ => None,
    };
    scene.events.iter().filter_map(change).collect()
}

// Who serves whom.

// Registrations.

// Restarts.

// Who is believed.

// SIP (RFC 3261 §8.2, §17).
