//! What happens as it happens, a line each, with the seconds since it began: for whoever sits before an endpoint that runs.

use std::io::Write;
use std::time::SystemTime;

use proto::event::Event;

use super::terminal::harmless;
use crate::events::Listener;

/// Writes what has words: to standard output, or to standard error where the other is to be JSON and nothing else.
pub fn live(json: bool, mut words: impl FnMut(&Event) -> Option<String> + Send + 'static) -> Listener {
    let begun = SystemTime::now();
    Box::new(move |stamped| {
        let Some(words) = words(&stamped.event) else { return };
        let since = stamped.at.duration_since(begun).unwrap_or_default().as_secs_f64();
        let line = format!("{since:7.2} s  {}", harmless(&words));
        // Whoever does not read it any more still gets his calls.
        let _ = match json {
            true => writeln!(std::io::stderr(), "{line}"),
            false => writeln!(std::io::stdout(), "{line}"),
        };
    })
}
