//! `list` and `statistics` of a relay with several lanes, which share nothing.
//!
//! ```text
//! client ──▶ any lane ──▶ lane n ──▶ … ──▶ lane 1 ──▶ lane 0 ──▶ client
//! ```
//!
//! Such a command goes from the last lane to the first ([`Output::Pass`]), each adds what is its own, and lane 0 gives the
//! answer. Nobody waits for anybody: a lane that is overrun loses the command as the network may, and the client repeats
//! it. Lane 0 remembers the answer, so a repetition gets it again.

use std::time::Instant;

use bytes::Bytes;
use proto::node::{Flow, Output, Ticket};

use super::bencode;
use super::command::{Command, Envelope};
use super::cookies::Asker;
use super::value::{Dict, Value};
use crate::relay::Relay;

impl Relay {
    /// Whether a command is about more than this lane knows.
    pub(crate) fn asks_all_lanes(&self, envelope: &Envelope<'_>) -> bool {
        self.birth.lane.count > 1 && asked(envelope).is_some()
    }

    /// A command from outside sets out.
    pub(crate) fn begin_round(&mut self, flow: Flow, bytes: Bytes) {
        let lane = self.birth.lane.count - 1;
        self.outputs.push_back(Output::Pass { lane, flow, bytes, gathered: Bytes::new() });
    }

    /// A command on its way: what this lane knows is added.
    pub(crate) fn passed(&mut self, now: Instant, flow: Flow, bytes: Bytes, gathered: &[u8]) {
        let Some(envelope) = Envelope::read(&bytes) else { return };
        let Some(command) = asked(&envelope) else { return };
        let asker = Asker::of(flow, &envelope, &bytes);
        if let Some(answer) = self.ng.cookies.known(now, &asker) {
            self.ng.counts.repeated += 1;
            return self.outputs.push_back(Output::Send { flow, bytes: answer, ticket: Ticket(0) });
        }
        let lane = self.birth.lane.index;
        if lane == 0 {
            self.ng.by_command[command.number()] += 1;
        }
        let (mut own, limit) = match command {
            Command::List(limit) => (self.list(limit), limit),
            _ => (self.statistics(now), 0),
        };
        if let Some(Value::Dict(others)) = bencode::read_ours(gathered) {
            add(&mut own, &others, limit);
        }
        if lane == 0 {
            return self.give(now, flow, asker, &envelope, Ok(own));
        }
        let mut gathered = Vec::new();
        bencode::write(&Value::Dict(own), &mut gathered);
        self.outputs.push_back(Output::Pass { lane: lane - 1, flow, bytes, gathered: gathered.into() });
    }
}

/// The command, if it is about all lanes.
fn asked(envelope: &Envelope<'_>) -> Option<Command> {
    let command = Command::read(envelope.body.as_ref()?.as_dict()?).ok()?;
    matches!(command, Command::List(_) | Command::Statistics).then_some(command)
}

/// Adds what another lane counted; of calls there are at most `limit`. Words (`uptime`, names) are the same on all lanes.
fn add(sum: &mut Dict<'static>, more: &Dict<'_>, limit: usize) {
    for (key, value) in &more.0 {
        let known = sum.0.iter_mut().find(|(known, _)| known == key);
        match (known.map(|(_, known)| known), value) {
            (None, value) => sum.0.push((key.to_vec().into(), value.owned())),
            (Some(Value::Int(known)), Value::Int(value)) => *known = joined(key, *known, *value),
            (Some(Value::Dict(known)), Value::Dict(value)) => add(known, value, limit),
            (Some(Value::List(known)), Value::List(values)) if **key == *b"interfaces" => {
                values.iter().filter_map(Value::as_dict).for_each(|value| add_interface(known, value));
            }
            (Some(Value::List(known)), Value::List(values)) => {
                let room = limit.saturating_sub(known.len());
                known.extend(values.iter().take(room).map(Value::owned));
            }
            _ => {}
        }
    }
}

/// Ports lent by several lanes lie between the lowest and the highest of them.
fn joined(key: &[u8], one: i64, other: i64) -> i64 {
    match key {
        b"min" => one.min(other),
        b"max" => one.max(other),
        _ => one.saturating_add(other),
    }
}

/// Every lane lends its own slice of an interface's ports.
fn add_interface(known: &mut Vec<Value<'static>>, more: &Dict<'_>) {
    let is_same = |dict: &Dict<'_>| {
        ["name", "address"]
            .into_iter()
            .all(|key| dict.text(key).is_some() && dict.text(key) == more.text(key))
    };
    let same = known.iter_mut().find_map(|value| match value {
        Value::Dict(dict) if is_same(dict) => Some(dict),
        _ => None,
    });
    match same {
        Some(dict) => add(dict, more, 0),
        None => known.push(Value::Dict(more.owned())),
    }
}
