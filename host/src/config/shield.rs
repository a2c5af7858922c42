//! `shield:`: what one source, one account and all together may do. As written, as checked, and as the tables want it.

use std::time::Duration;

use proto::shield::Policy;
use serde::{Deserialize, Serialize};

use super::Settings;
use super::check::Context;
use super::errors::ConfigError;
use super::values::{Cidr, Span};

/// See [`Policy`]; of the rates, 0 means no limit.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Shield {
    /// Whether there is one.
    pub enabled: bool,
    /// Addresses that are never limited or banned. Trusted trunks, siblings and this machine never are.
    pub allow: Vec<Cidr>,
    /// Addresses that are never served.
    pub deny: Vec<Cidr>,
    /// Words in a User-Agent that get no answer.
    pub scanners: Vec<String>,
    /// Requests outside dialogs per second from one source.
    pub requests: u32,
    /// Of those, requests without credentials.
    pub strangers: u32,
    /// Requests without credentials per second from all sources together.
    pub everybody: u32,
    /// Requests per second of one account.
    pub account: u32,
    /// Unreadable packets per second from one source.
    pub garbage: u32,
    /// Wrong passwords of one account from one source, before it is banned from there.
    pub failures: u32,
    /// Wrong passwords from one source, before it is banned.
    pub source_failures: u32,
    /// Names that one source may fail with, before it is banned.
    pub names: u32,
    /// How long wrong passwords count.
    pub window: Span,
    /// The first ban; each one after it lasts twice as long …
    pub ban: Span,
    /// … up to this.
    pub longest_ban: Span,
}

impl Default for Shield {
    fn default() -> Shield {
        let policy = Policy::default();
        Shield {
            enabled: policy.enabled,
            allow: Vec::new(),
            deny: Vec::new(),
            scanners: proxy::config::SCANNERS.map(str::to_owned).to_vec(),
            requests: policy.requests,
            strangers: policy.strangers,
            everybody: policy.everybody,
            account: policy.account,
            garbage: policy.garbage,
            failures: policy.failures,
            source_failures: policy.source_failures,
            names: policy.names,
            window: Span(policy.window),
            ban: Span(policy.ban),
            longest_ban: Span(policy.longest_ban),
        }
    }
}

/// What can't work.
pub(super) fn check(shield: &Shield, context: &Context<'_>) -> Result<(), ConfigError> {
    let counts = [
        ("failures", shield.failures, u32::MAX),
        ("source-failures", shield.source_failures, u32::MAX),
        ("names", shield.names, MOST_NAMES),
    ];
    for (key, value, most) in counts {
        if value == 0 || value > most {
            let what = match value {
                0 => format!("`shield.{key}: 0` would ban at the first mistake"),
                _ => format!("`shield.{key}: {value}`: expected at most {most}, more are not told apart"),
            };
            let remedy = "write a number, or `shield: { enabled: false }` to have no shield";
            return Err(context.error(&format!("shield.{key}"), what, remedy));
        }
    }
    let spans = [("window", shield.window), ("ban", shield.ban), ("longest-ban", shield.longest_ban)];
    if let Some((key, span)) = spans.into_iter().find(|(_, span)| span.0 < Duration::from_secs(1)) {
        let what = format!("`shield.{key}: {span}`: expected at least 1s");
        return Err(context.error(&format!("shield.{key}"), what, "write a length of time such as `60s`"));
    }
    if shield.longest_ban.0 < shield.ban.0 {
        let what = format!(
            "`shield.longest-ban: {}` is shorter than `shield.ban: {}`",
            shield.longest_ban, shield.ban
        );
        return Err(context.error("shield.longest-ban", what, "make it at least as long"));
    }
    Ok(())
}

/// Names are told apart by six bits of a hash.
const MOST_NAMES: u32 = 60;

/// What the tables are told.
pub fn policy(settings: &Settings) -> Policy {
    let (file, shield) = (&settings.file, &settings.file.shield);
    let trunks = super::trunks::lower::trusted_sources(settings);
    let siblings = file.proxy.iter().flat_map(|proxy| &proxy.siblings);
    let siblings = siblings.map(|ip| proto::cidr::Cidr::new(*ip, 128));
    Policy {
        enabled: shield.enabled,
        allow: shield.allow.iter().map(|cidr| cidr.0).chain(trunks).chain(siblings).collect(),
        deny: shield.deny.iter().map(|cidr| cidr.0).collect(),
        requests: shield.requests,
        strangers: shield.strangers,
        everybody: shield.everybody,
        account: shield.account,
        garbage: shield.garbage,
        failures: shield.failures,
        source_failures: shield.source_failures,
        names: shield.names,
        window: shield.window.0,
        ban: shield.ban.0,
        longest_ban: shield.longest_ban.0,
    }
}

/// What `postern check` says of it.
pub fn describe(settings: &Settings) -> Vec<String> {
    let shield = &settings.file.shield;
    if !shield.enabled {
        return vec!["shield     none: anybody may ask and guess without end (shield.enabled: false)".into()];
    }
    let mut lines = vec![format!(
        "shield     from one source {} requests/s, {} of them without credentials; {} without credentials from all; {} of one account",
        rate(shield.requests),
        rate(shield.strangers),
        rate(shield.everybody),
        rate(shield.account)
    )];
    lines.push(format!(
        "           {} wrong passwords of one account, {} in all or {} names within {} ban it or its source for {}, up to {}",
        shield.failures, shield.source_failures, shield.names, shield.window, shield.ban, shield.longest_ban
    ));
    let exempt: Vec<String> = policy(settings).allow.iter().map(ToString::to_string).collect();
    if !exempt.is_empty() {
        lines.push(format!("           never limited: {}", exempt.join(", ")));
    }
    if !shield.deny.is_empty() {
        let denied: Vec<String> = shield.deny.iter().map(ToString::to_string).collect();
        lines.push(format!("           never served: {}", denied.join(", ")));
    }
    lines
}

fn rate(rate: u32) -> String {
    if rate == 0 { "any number of".into() } else { rate.to_string() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<Settings, ConfigError> {
        Settings::from_text(Path::new("test.yaml"), text)
    }

    #[test]
    fn one_that_would_bite_everybody_is_refused_at_its_place() {
        for (lines, words) in [
            ("  failures: 0\n", "at the first mistake"),
            ("  names: 100\n", "at most 60"),
            ("  ban: 0\n", "at least 1s"),
            ("  ban: 2h\n  longest-ban: 1h\n", "shorter than"),
            ("  allow: [many]\n", "10.0.0.0/8"),
        ] {
            let text = format!(
                "proxy: {{}}\nlisteners: [{{ address: \"127.0.0.1:5060\" }}]\nrelay: {{}}\nshield:\n{lines}"
            );
            let Err(error) = read(&text) else { panic!("accepted: {lines}") };
            assert!(error.what.contains(words) && error.place.is_some(), "{lines}{error}");
        }
    }

    #[test]
    fn trunks_and_siblings_are_never_limited() {
        let text = "listeners: [{ address: \"127.0.0.1:5060\" }]\nnode-key: 0123456789abcdef0123\nrelay: {}\n\
                    proxy:\n  siblings: [192.0.2.9]\n  routes:\n    - { to: \"+*\", via: \"udp:192.0.2.50\", trusted: true }\n    \
                    - { to: \"*\", via: \"udp:192.0.2.60\" }\nshield: { allow: [198.51.100.0/24] }\n";
        let settings = read(text).unwrap_or_else(|error| panic!("{error}"));
        let exempt: Vec<String> = policy(&settings).allow.iter().map(ToString::to_string).collect();
        assert_eq!(exempt, ["198.51.100.0/24", "192.0.2.50/32", "192.0.2.9/32"]);
    }
}
