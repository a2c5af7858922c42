//! `make demo`: two simulated phones behind two NATs call each other through two proxies, a relay and a redirect
//! server, in simulated time. Prints the ladder, what `postern explain` says of the call, and whether there was audio.
#![allow(clippy::disallowed_methods, reason = "a program of floor 3 reads its arguments and the clock")]

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use conformance::cast::{Cast, Plot, SITES, Site};
use conformance::world::Entry;
use endpoint_sim::Report;
use host::events::Stamped;
use host::explain;
use host::history::History;

fn main() -> ExitCode {
    let mut names = std::env::args().skip(1);
    let mut site = |role: &str| site(role, &names.next().unwrap_or_else(|| "port".into()));
    let (Some(alice), Some(bob)) = (site("caller"), site("callee")) else { return ExitCode::from(64) };
    let cast = Plot { sites: [alice, bob], ..Plot::default() }.play();
    println!("{}", ladder(&cast));
    println!("What P1 says of it (`postern explain last`):\n");
    explanation(&cast).iter().for_each(|line| println!("{line}"));
    println!();
    let heard = [("alice", cast.report(cast.alice)), ("bob", cast.report(cast.bob))]
        .map(|(who, report)| verdict(who, report));
    ExitCode::from(u8::from(heard != [true, true]))
}

/// A site by its name in the table of reach.
fn site(role: &str, name: &str) -> Option<Site> {
    let found = SITES.iter().find(|(known, _)| *known == name).map(|(_, site)| *site);
    if found.is_none() {
        let known: Vec<&str> = SITES.iter().map(|(known, _)| *known).collect();
        eprintln!("demo: the {role} lives behind “{name}”, which is none of: {}", known.join(", "));
    }
    found
}

/// From the INVITE to the end; what was before is registrations.
fn ladder(cast: &Cast) -> String {
    let packets = cast.world.packets();
    let begins = |entry: &&Entry| entry.title().is_some_and(|title| title.starts_with("INVITE"));
    let ends = |entry: &&Entry| entry.title().is_some_and(|title| title.contains("BYE"));
    let begin = packets.iter().find(begins).map_or(Duration::ZERO, |entry| entry.at);
    let end = packets.iter().rfind(ends).map_or(begin, |entry| entry.at);
    cast.world.ladder_of(begin..=end)
}

/// The call as P1 and the relay told of it.
fn explanation(cast: &Cast) -> Vec<String> {
    let history = History::default();
    let start = SystemTime::now();
    for (at, node, event) in cast.world.events() {
        if [cast.p1, cast.relay].contains(node) {
            history.take(Stamped { at: start + *at, event: event.clone() });
        }
    }
    history.find("last").map(|call| explain::story(&call)).unwrap_or_default()
}

fn verdict(who: &str, report: &Report) -> bool {
    let word = if report.audio_both_ways { "audio both ways" } else { "NO AUDIO both ways" };
    println!("{who:5}  {word}: {} packets sent, {} received", report.sent, report.received);
    report.audio_both_ways
}
