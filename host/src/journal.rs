//! Events as log lines: calls begin and end at `info`, small turns at `debug`. Users' names and addresses stand only in
//! lines at `debug` and below.

use std::sync::OnceLock;

use proto::event::{CallEnded, EndedBy, Event};
use tracing::level_filters::LevelFilter;
use tracing::{debug, info, warn};
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;

use crate::config::schema::Log;

/// How much is shown, of a process that has a log.
type Shown = Box<dyn Fn(LevelFilter) + Send + Sync>;
static SHOWN: OnceLock<Shown> = OnceLock::new();

/// Log lines go to standard error from now on.
pub fn start(log: Log, json: bool) {
    let colours = !json && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
    let (filter, handle) = reload::Layer::new(level(log));
    // Fails only when a test set one up already.
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok() {
        let _ = SHOWN.set(Box::new(move |level| drop(handle.reload(level))));
    }
}

/// Shows more or less than before.
pub fn show(log: Log) {
    if let Some(shown) = SHOWN.get() {
        shown(level(log));
    }
}

fn level(log: Log) -> LevelFilter {
    match log {
        Log::Error => LevelFilter::ERROR,
        Log::Warn => LevelFilter::WARN,
        Log::Info => LevelFilter::INFO,
        Log::Debug => LevelFilter::DEBUG,
        Log::Trace => LevelFilter::TRACE,
    }
}

/// Writes one event to the log.
pub fn log(event: &Event) {
    match event {
        Event::CallBegun { call, from, to, flow } => {
            info!(%call, transport = %flow.transport, "call begins");
            debug!(%call, %from, %to, source = %flow.remote, "call begins between");
        }
        Event::CallAnswered { call, setup } => {
            info!(%call, setup_ms = setup.as_millis() as u64, "call answered")
        }
        Event::CallEnded(ended) => call_ended(ended),
        Event::MediaDecided(decided) => {
            debug!(call = %decided.call, side = ?decided.side, rule = ?decided.rule, anchored = decided.anchored, "media decided");
        }
        Event::Refused { call, method, status, why, .. } => debug!(%call, %method, status, why, "refused"),
        Event::RelayExhausted { session, limit } => {
            warn!(%session, limit, "relay is full: raise relay.ports or add a relay")
        }
        Event::StrangerDropped { session, leg, from, expected, latch } => {
            warn!(%session, ?leg, ?latch, "media from an unexpected source is dropped");
            debug!(%session, %from, %expected, "the unexpected source");
        }
        Event::Shielded { source, account, measure, why } => {
            info!(why, "{}", crate::shield::logged(measure));
            debug!(%source, %account, ?measure, "what the shield is about");
        }
        Event::TrunkServer { trunk, server, up: true, why } => {
            info!(%trunk, %server, %why, "trunk server is up")
        }
        Event::TrunkServer { trunk, server, why, .. } => warn!(%trunk, %server, %why, "trunk server is down"),
        Event::OneWay { session, silent, since, cause, other_heard } => {
            warn!(%session, ?silent, ?cause, other_heard, for_s = since.as_secs(), "a party can't be heard")
        }
        Event::Undelivered { session, leg, to, why, times } => {
            info!(%session, ?leg, ?why, times, "media is not delivered");
            debug!(%session, %to, "where it was sent");
        }
        Event::Flood { session, leg, over: true, dropped, .. } => {
            warn!(%session, ?leg, dropped, "the flood at a media port is over");
        }
        Event::Flood { session, leg, from, .. } => {
            warn!(%session, ?leg, "a media port is flooded: what is not its party's is dropped in the kernel");
            debug!(%session, %from, "one of the sources");
        }
        Event::Overload { begins: true, .. } => {
            warn!("overload: new calls are told to come back later; those that are up go on")
        }
        Event::Overload { refused, .. } => warn!(refused, "overload is over"),
        Event::TrunkRegistered { trunk, registered: true, why } => info!(%trunk, %why, "registered at trunk"),
        Event::TrunkRegistered { trunk, why, .. } => warn!(%trunk, %why, "not registered at trunk"),
        Event::Warning { about, why } => warn!(%about, why),
        other => debug!(event = ?other),
    }
}

fn call_ended(ended: &CallEnded) {
    let by = match ended.by {
        EndedBy::Caller => "caller",
        EndedBy::Callee => "callee",
        EndedBy::Silence => "silence",
        EndedBy::Timeout => "timeout",
        EndedBy::Us => "us",
    };
    let (ms, anchored) = (ended.duration.as_millis() as u64, ended.anchored);
    info!(call = %ended.call, status = ended.status, ms, by, anchored, "call ends");
}
