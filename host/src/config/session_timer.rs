//! `session-timer:` of the proxy (RFC 4028): how long a call may go without a refresh.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{Checked, Context};
use super::values::Span;

/// Session timers we ask for.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SessionTimer {
    /// The longest a call may go without a refresh.
    pub expires: Span,
    /// The shortest anybody may ask for; less is refused with 422.
    pub min: Span,
}

impl Default for SessionTimer {
    fn default() -> SessionTimer {
        SessionTimer { expires: Span(Duration::from_secs(1800)), min: Span(LEAST) }
    }
}

/// RFC 4028 §4: no session timer is shorter.
const LEAST: Duration = Duration::from_secs(90);

/// Refuses what the RFC does not allow.
pub fn check(timer: Option<&SessionTimer>, context: &Context<'_>) -> Checked {
    let Some(timer) = timer else { return Ok(()) };
    let wrong = |key: &str, what: String, remedy: &str| {
        Err(context.error(&format!("proxy.session-timer.{key}"), what, remedy))
    };
    if timer.min.0 < LEAST {
        let what =
            format!("a session timer of {} s: expected at least 90 s (RFC 4028 §4)", timer.min.0.as_secs());
        return wrong("min", what, "make it 90s or more");
    }
    if timer.expires.0 < timer.min.0 {
        let (expires, min) = (timer.expires.0.as_secs(), timer.min.0.as_secs());
        let what = format!("calls would have to be refreshed every {expires} s, but {min} s is the least");
        return wrong("expires", what, "make `expires` longer than `min`; 30m is usual");
    }
    Ok(())
}

/// As the proxy knows it.
pub fn lower(timer: SessionTimer) -> proxy::config::SessionTimer {
    proxy::config::SessionTimer { expires: timer.expires.0, min: timer.min.0 }
}
