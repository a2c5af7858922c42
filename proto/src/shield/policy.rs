//! What an operator may say about the shield. Every value has a default that bites no good phone.

use std::time::Duration;

use crate::cidr::Cidr;

/// See the fields. Of the rates, 0 means no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Whether there is a shield at all.
    pub enabled: bool,
    /// Who is never limited: trunks, siblings, and whom the operator names.
    pub allow: Vec<Cidr>,
    /// Who is never served.
    pub deny: Vec<Cidr>,
    /// Requests outside dialogs per second from one source.
    pub requests: u32,
    /// Of those, requests without credentials that could be right; eight times as many may come at once.
    pub strangers: u32,
    /// Requests without such credentials per second from all sources together.
    pub everybody: u32,
    /// Requests per second of one account, wherever it is; five times as many may come at once.
    pub account: u32,
    /// Unreadable packets per second from one source.
    pub garbage: u32,
    /// Wrong passwords of one account from one source within [`Policy::window`].
    pub failures: u32,
    /// Wrong passwords from one source within the window.
    pub source_failures: u32,
    /// Names that one source may fail with within the window.
    pub names: u32,
    /// How long failures count.
    pub window: Duration,
    /// The first ban of a source or account; each one after it lasts twice as long …
    pub ban: Duration,
    /// … up to this.
    pub longest_ban: Duration,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            enabled: true,
            allow: Vec::new(),
            deny: Vec::new(),
            requests: 5000,
            strangers: 250,
            everybody: 20_000,
            account: 200,
            garbage: 20,
            failures: 6,
            source_failures: 30,
            names: 12,
            window: Duration::from_secs(300),
            ban: Duration::from_secs(60),
            longest_ban: Duration::from_secs(3600),
        }
    }
}
