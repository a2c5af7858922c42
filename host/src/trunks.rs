//! Trunks for the operator: `postern trunks`, their part of `postern status`, and `postern route`.

use proxy::routing::dry_run::{Plan, PlannedWay};
use proxy::trunks::TrunkStatus;
use proxy::trunks::health::{ServerStatus, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admin::Answer;
use crate::lanes::seat::LaneReport;

/// How a trunk stands.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TrunkReport {
    /// Its name.
    pub name: String,
    /// Calls that are up on it; counted for trunks with a limit only.
    pub calls: u32,
    /// The most it may have.
    pub most: Option<u32>,
    /// Calls that found it full.
    pub full: u64,
    /// How our registration there stands, if there is one.
    pub registration: Option<Registration>,
    /// Its servers.
    pub servers: Vec<ServerReport>,
}

/// How a registration of ours stands.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Registration {
    /// Whether the registrar knows us.
    pub registered: bool,
    /// Why.
    pub why: String,
    /// For so many seconds.
    pub since: u64,
    /// When the registrar forgets us, in seconds from now.
    pub expires: u64,
}

/// How a server of a trunk stands.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ServerReport {
    /// Where it is.
    pub name: String,
    /// `up`, `down` or `unknown`.
    pub state: String,
    /// Why.
    pub why: String,
    /// For so many seconds.
    pub since: u64,
    /// Lower ones are tried first.
    pub priority: u16,
    /// Share of the calls.
    pub weight: u16,
}

impl TrunkReport {
    /// As a lane sees it.
    pub fn of(status: &TrunkStatus) -> TrunkReport {
        TrunkReport {
            name: status.name.to_string(),
            calls: status.calls,
            most: status.most,
            full: status.full,
            registration: status.standing.as_ref().map(|standing| Registration {
                registered: standing.registered,
                why: standing.why.to_string(),
                since: standing.since.as_secs(),
                expires: standing.expires.as_secs(),
            }),
            servers: status.servers.iter().map(ServerReport::of).collect(),
        }
    }

    /// What another lane adds.
    fn join(&mut self, other: &TrunkReport) {
        self.calls += other.calls;
        self.full += other.full;
        self.registration = self.registration.take().or_else(|| other.registration.clone());
        self.most = self.most.zip(other.most).map(|(a, b)| a + b);
        for (own, other) in self.servers.iter_mut().zip(&other.servers) {
            // Who has heard of a server last knows best.
            if other.state != "unknown" && (own.state == "unknown" || other.since < own.since) {
                own.clone_from(other);
            }
        }
    }
}

impl ServerReport {
    fn of(status: &ServerStatus) -> ServerReport {
        let state = match status.state {
            State::Unknown => "unknown",
            State::Up => "up",
            State::Down => "down",
        };
        ServerReport {
            name: status.name.to_string(),
            state: state.to_owned(),
            why: status.why.to_string(),
            since: status.since.as_secs(),
            priority: status.priority,
            weight: status.weight,
        }
    }
}

/// What all lanes say of the trunks.
pub fn together(lanes: &[LaneReport]) -> Vec<TrunkReport> {
    let mut all: Vec<TrunkReport> = Vec::new();
    for report in lanes.iter().flat_map(|lane| &lane.trunks) {
        match all.iter_mut().find(|known| known.name == report.name) {
            Some(known) => known.join(report),
            None => all.push(report.clone()),
        }
    }
    all
}

/// The answer to `postern trunks`.
pub fn answer(trunks: &[TrunkReport]) -> Answer {
    let lines = match trunks {
        [] => vec!["no trunks are configured".to_owned()],
        some => some.iter().flat_map(lines).collect(),
    };
    Answer { ok: true, lines, value: serde_json::to_value(trunks).unwrap_or_default() }
}

/// A trunk in words.
pub fn lines(trunk: &TrunkReport) -> Vec<String> {
    let load = match trunk.most {
        Some(most) => format!("  {} of {most} calls, {} found it full", trunk.calls, trunk.full),
        None => String::new(),
    };
    let server = |server: &ServerReport| {
        let ServerReport { name, state, why, since, priority, weight } = server;
        format!("  {state:<8} {name}  for {since} s: {why}  (priority {priority}, weight {weight})")
    };
    let registration = trunk.registration.iter().map(|own| match own.registered {
        true => format!("  registered for {} s, {} s left: {}", own.since, own.expires, own.why),
        false => format!("  not registered for {} s: {}", own.since, own.why),
    });
    let head = format!("trunk      {}{load}", trunk.name);
    std::iter::once(head).chain(registration).chain(trunk.servers.iter().map(server)).collect()
}

/// The answer to `postern route`.
pub fn plan(plan: Option<Result<Plan, String>>) -> Answer {
    let nothing = |words: &str| Answer { ok: false, lines: vec![words.to_owned()], value: Value::Null };
    match plan {
        None => nothing("this process is no proxy"),
        Some(Err(words)) => nothing(&words),
        Some(Ok(plan)) => {
            let refused = plan.refused.iter().map(|(status, why)| format!("refused: {status}, {why}"));
            let ways = plan.ways.iter().enumerate().map(way);
            let lines = plan.steps.iter().cloned().chain(ways).chain(refused).collect();
            Answer { ok: true, lines, value: value(&plan) }
        }
    }
}

fn way((index, way): (usize, &PlannedWay)) -> String {
    let then = if index == 0 { "goes to" } else { "   else" };
    let trunk = way.trunk.as_ref().map(|name| format!(" of trunk {name}")).unwrap_or_default();
    let down = if way.down { " (down)" } else { "" };
    format!("{then} {}{trunk}{down} as {}", way.to, way.uri)
}

fn value(plan: &Plan) -> Value {
    let way = |way: &PlannedWay| {
        let trunk = way.trunk.as_ref().map(|name| name.to_string());
        json!({ "trunk": trunk, "to": way.to, "uri": way.uri, "down": way.down })
    };
    let refused = plan.refused.as_ref().map(|(status, why)| json!({ "status": status, "why": why }));
    let ways: Vec<Value> = plan.ways.iter().map(way).collect();
    json!({ "steps": plan.steps, "ways": ways, "refused": refused })
}
