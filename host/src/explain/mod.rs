//! A call in plain words: what was seen, which rule decided, what was chosen, and what to do if that is not wanted.

mod decision;
mod sound;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use proto::event::{CallEnded, EndedBy, Event, Side};
use serde_json::{Value, json};

use crate::history::CallRecord;

/// The story of a call, line by line.
pub fn story(call: &CallRecord) -> Vec<String> {
    let mut lines = vec![format!("call {}", call.call)];
    if let Some((from, to)) = &call.parties {
        lines.push(format!("  from {from} to {to}"));
    }
    lines.extend(call.turns.iter().filter_map(turn));
    for decided in &call.decisions {
        lines.extend(decision::story(decided));
    }
    if call.decisions.is_empty() {
        lines.push("  media: nothing was decided: no session description passed".into());
    }
    lines.extend(call.setup.map(|setup| format!("  answered after {}", seconds(setup))));
    lines.extend(call.heard.iter().flat_map(sound::heard));
    lines.extend(call.now.iter().flat_map(sound::now));
    lines.push(call.ended.as_ref().map_or("  still going on".into(), end));
    lines
}

/// One line for `postern calls`.
pub fn line(call: &CallRecord) -> String {
    let (from, to) = call.parties.as_ref().map_or(("?", "?"), |(from, to)| (from, to));
    let anchored = if call.decisions.iter().any(|decided| decided.anchored) { "relayed" } else { "direct" };
    let state = match (&call.ended, call.setup) {
        (Some(ended), _) if ended.status < 300 => format!("ended after {}", seconds(ended.duration)),
        (Some(ended), _) => format!("failed with {}", ended.status),
        (None, Some(_)) => "talking".into(),
        (None, None) => "ringing".into(),
    };
    format!("{}  {from} → {to}  {anchored}  {state}{}", call.call, sound::in_short(call))
}

fn turn(event: &Event) -> Option<String> {
    match event {
        Event::Refused { method, status, why, .. } => {
            Some(format!("  {method} was refused with {status}: {why}"))
        }
        Event::Redirected { target: Some(target), .. } => {
            Some(format!("  the redirect server says that {target} serves the callee"))
        }
        Event::Redirected { status, .. } => Some(format!("  the redirect server knows nobody ({status})")),
        _ => None,
    }
}

fn name(side: Side) -> &'static str {
    match side {
        Side::Caller => "caller",
        Side::Callee => "callee",
    }
}

fn end(ended: &CallEnded) -> String {
    let by = match ended.by {
        EndedBy::Caller => "the caller",
        EndedBy::Callee => "the callee",
        EndedBy::Silence => "us: no media came from either side",
        EndedBy::Timeout => "us: it took too long",
        EndedBy::Us => "us",
    };
    match ended.status {
        ..300 => format!("  ended by {by} after {}", seconds(ended.duration)),
        status => format!("  failed with {status}, ended by {by}"),
    }
}

fn seconds(length: Duration) -> String {
    format!("{:.1} s", length.as_secs_f32())
}

/// The same for programs.
pub fn value(call: &CallRecord) -> Value {
    let decisions: Vec<Value> = call.decisions.iter().map(decision::value).collect();
    let begun = call.begun.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    json!({
        "call": &*call.call,
        "from": call.parties.as_ref().map(|(from, _)| from.to_string()),
        "to": call.parties.as_ref().map(|(_, to)| to.to_string()),
        "begun_ms": begun,
        "setup_ms": call.setup.map(|setup| setup.as_millis() as u64),
        "decisions": decisions,
        "heard": call.heard.iter().flat_map(sound::heard).map(|line| line.trim().to_owned()).collect::<Vec<_>>(),
        "now": call.now.iter().map(sound::now_value).collect::<Vec<_>>(),
        "quality": sound::qualities(call),
        "ended": call.ended.as_ref().map(|ended| json!({
            "status": ended.status,
            "duration_ms": ended.duration.as_millis() as u64,
            "by": format!("{:?}", ended.by).to_lowercase(),
            "anchored": ended.anchored,
        })),
    })
}
