//! The shield in words: what `postern shield`, `postern explain ADDRESS` and `status` print.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use proto::event::Event;
use proto::shield::{Ban, Counts, Measure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admin::Answer;
use crate::events::Stamped;
use crate::server::Handle;

/// What the operator wants of it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Who is banned, and why.
    List,
    /// Let a range pass until the next start, and lift its bans.
    Allow(String),
    /// Shut a source out for so many seconds.
    Ban(IpAddr, u64),
}

/// How it stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Report {
    /// Bans that hold.
    pub banned: usize,
    /// Bans since the start.
    pub bans: u64,
    /// Requests that got no answer.
    pub silenced: u64,
    /// Of those, scanners' requests.
    pub scanners: u64,
    /// Wrong passwords that counted.
    pub failures: u64,
}

impl Report {
    /// From the shield's own words.
    pub fn new(banned: usize, counts: Counts) -> Report {
        let Counts { silenced, scanners, failures, bans } = counts;
        Report { banned, bans, silenced, scanners, failures }
    }

    /// A line of `status`.
    pub fn line(&self) -> String {
        format!(
            "shield     {} banned ({} so far); {} requests not answered ({} of scanners), {} wrong passwords",
            self.banned, self.bans, self.silenced, self.scanners, self.failures
        )
    }
}

/// Does what the operator wants.
pub fn perform(order: &Order, handle: &Handle) -> Answer {
    match order {
        Order::List => list(handle),
        Order::Allow(range) => match range.parse() {
            Ok(cidr) => allow(handle, cidr),
            Err(why) => no(format!(
                "`{range}` is not an address or a range ({why}); expected 192.0.2.1 or 192.0.2.0/24"
            )),
        },
        Order::Ban(source, seconds) => match handle.tables().ban(*source, Duration::from_secs(*seconds)) {
            Some(ban) => yes(vec![line(&ban)], value(&ban)),
            None => {
                no(format!("{source} is allowed, or is this machine; take it out of `shield.allow` first"))
            }
        },
    }
}

fn list(handle: &Handle) -> Answer {
    let (bans, allowed) = handle.tables().banned();
    let mut lines: Vec<String> = bans.iter().map(line).collect();
    if lines.is_empty() {
        lines.push("nobody is banned".into());
    }
    let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    if !allowed.is_empty() {
        lines.push(format!("allowed until the next start: {}", allowed.join(", ")));
    }
    let bans: Vec<Value> = bans.iter().map(value).collect();
    yes(lines, json!({ "bans": bans, "allowed": allowed }))
}

fn allow(handle: &Handle, range: proto::cidr::Cidr) -> Answer {
    match handle.tables().allow(range) {
        Some(lifted) => {
            let words = format!(
                "{range} is allowed until the next start, {lifted} ban(s) lifted; to keep it, write it under `shield.allow`"
            );
            yes(vec![words], json!({ "allowed": range.to_string(), "lifted": lifted }))
        }
        None => no("too many ranges are allowed already; write them under `shield.allow` and reload".into()),
    }
}

/// What is known of a source: its bans, and what was done about it lately.
pub fn story(source: IpAddr, handle: &Handle) -> Answer {
    let (bans, _) = handle.tables().banned();
    let bans: Vec<&Ban> = bans.iter().filter(|ban| covers(ban.source, source)).collect();
    let events = handle.history().about_source(source);
    let mut lines = vec![format!("source {source}")];
    lines.extend(bans.iter().map(|ban| format!("  {}", line(ban))));
    lines.extend(events.iter().filter_map(happened));
    if lines.len() == 1 {
        lines.push("  the shield has done nothing about it".into());
    }
    let bans: Vec<Value> = bans.iter().map(|ban| value(ban)).collect();
    let told: Vec<String> = events.iter().filter_map(happened).map(|line| line.trim().to_owned()).collect();
    yes(lines, json!({ "source": source, "bans": bans, "events": told }))
}

/// A ban is of an IPv4 address or of an IPv6 /64.
fn covers(banned: IpAddr, source: IpAddr) -> bool {
    proto::cidr::Cidr::new(banned, if banned.is_ipv4() { 32 } else { 64 }).contains(source)
}

fn happened(stamped: &Stamped) -> Option<String> {
    let Event::Shielded { account, measure, why, .. } = &stamped.event else { return None };
    let ago = SystemTime::now().duration_since(stamped.at).unwrap_or_default().as_secs();
    Some(format!("  {ago} s ago: {} ({})", done(measure, account), short(why)))
}

/// What was done, in words.
pub fn done(measure: &Measure, account: &str) -> String {
    match measure {
        Measure::BannedAccount(lasts) => {
            format!("account `{account}` is banned from there for {} s", lasts.as_secs())
        }
        Measure::BannedSource(lasts) => format!("the source is banned for {} s", lasts.as_secs()),
        Measure::Limited => "requests over the limit are not answered".into(),
        Measure::Ignored => "a scanner is not answered".into(),
    }
}

/// The same without names and addresses, for the log.
pub fn logged(measure: &Measure) -> &'static str {
    match measure {
        Measure::BannedAccount(_) => "shield: an account is banned from one source",
        Measure::BannedSource(_) => "shield: a source is banned",
        Measure::Limited => "shield: requests over a limit are not answered",
        Measure::Ignored => "shield: a scanner is not answered",
    }
}

/// One ban, for people.
fn line(ban: &Ban) -> String {
    let source = if ban.source.is_ipv4() { ban.source.to_string() } else { format!("{}/64", ban.source) };
    let whom = if ban.account.is_empty() { String::new() } else { format!(" account `{}`", ban.account) };
    let again = if ban.strikes > 1 { format!(", ban number {}", ban.strikes) } else { String::new() };
    format!("{source}{whom} banned for {} s more: {}{again}", ban.left.as_secs(), short(ban.why))
}

fn short(why: &str) -> &str {
    why.strip_prefix("shield: ").unwrap_or(why)
}

/// One ban, for programs.
fn value(ban: &Ban) -> Value {
    json!({
        "source": ban.source,
        "account": (!ban.account.is_empty()).then_some(&ban.account),
        "why": short(ban.why),
        "left_s": ban.left.as_secs(),
        "strikes": ban.strikes,
        "by_operator": ban.by_operator,
    })
}

fn yes(lines: Vec<String>, value: Value) -> Answer {
    Answer { ok: true, lines, value }
}

fn no(words: String) -> Answer {
    Answer { ok: false, value: json!({ "what": words }), lines: vec![words] }
}
