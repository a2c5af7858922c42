//! `postern check`: reads a configuration and says what it would do.

use std::path::Path;

use super::exit;
use crate::config::schema::{Anchor, RelayMode};
use crate::config::{ConfigError, Settings, lower};
use crate::limits;

/// Prints what the file means, or what is wrong with it.
pub fn check(file: &Path, json: bool) -> u8 {
    match Settings::load(file) {
        Ok(settings) if json => {
            println!(
                "{}",
                serde_json::json!({
                    "ok": true, "config": redacted(&settings), "warnings": limits::warnings(&settings)
                })
            );
            exit::OK
        }
        Ok(settings) => {
            describe(&settings).iter().for_each(|line| println!("{line}"));
            exit::OK
        }
        Err(error) => refuse(&error, json),
    }
}

/// Says what is wrong, and gives the exit code for it.
pub fn refuse(error: &ConfigError, json: bool) -> u8 {
    if json {
        let place = error.place.map(|place| [place.line, place.column]);
        let file = error.file.display().to_string();
        let words = serde_json::json!({
            "ok": false, "file": file, "place": place, "what": error.what, "remedy": error.remedy
        });
        println!("{words}");
    } else {
        eprintln!("{error}");
    }
    exit::CONFIG
}

/// The file without its secrets.
fn redacted(settings: &Settings) -> serde_json::Value {
    let mut value = serde_json::to_value(&settings.file).unwrap_or_default();
    for user in value["users"].as_array_mut().into_iter().flatten() {
        user["password"] = serde_json::Value::Null;
        user["ha1"] = serde_json::Value::Null;
    }
    value["node-key"] = serde_json::Value::Null;
    value
}

/// What the configuration would do, line by line.
pub fn describe(settings: &Settings) -> Vec<String> {
    let file = &settings.file;
    let mut lines = vec![format!("{} is right.", settings.path.display())];
    if let Some(proxy) = &file.proxy {
        for listener in &file.listeners {
            lines.push(format!("proxy      listens on {}", listener.address));
        }
        let anchor = match proxy.anchor {
            Anchor::Never => "never",
            Anchor::Auto => "when the parties can't reach each other",
            Anchor::Always => "always",
        };
        lines.push(format!("           media goes through a relay: {anchor}"));
        lines.push(format!(
            "           {} account(s), realm `{}`",
            settings.users.len(),
            lower::realm(settings)
        ));
        if !file.auth.required {
            lines.push("           anybody may call and register (auth.required: false)".into());
        }
        for (name, trunk) in &file.trunks {
            let servers: Vec<&str> = trunk.servers.0.iter().map(|server| &*server.to).collect();
            lines.push(format!("           trunk {name}: {}", servers.join(", ")));
        }
        for route in &proxy.routes {
            let from = match route.from.0.is_empty() {
                true => String::new(),
                false => format!(" from {}", route.from.0.join(" or ")),
            };
            lines.push(format!("           calls to {}{from} go to {}", route.to, route.goal()));
        }
    }
    if let Some(relay) = &file.relay {
        let (at, ports) = (&relay.address, &relay.ports);
        lines.push(match relay.mode {
            RelayMode::OnePort => {
                format!("relay      listens on {at}, every call on the same media ports {ports}")
            }
            _ => format!("relay      listens on {at}, lends media ports {ports}"),
        });
        if let Some(ng) = &relay.ng {
            let listens: Vec<String> = ng.listen.iter().map(ToString::to_string).collect();
            lines.push(format!("           obeys rtpengine's commands (ng) at {}", listens.join(", ")));
        }
    }
    if let Some(redirect) = &file.redirect {
        lines.push(format!("redirect   listens on {}", redirect.address));
    }
    lines.extend(crate::config::peers::describe(settings));
    lines.extend(crate::config::shield::describe(settings));
    lines.push(match &file.store {
        Some(store) => format!("store      {}", store.display()),
        None => "store      none: registrations are forgotten at a restart (set `store`)".into(),
    });
    lines.extend(limits::warnings(settings).iter().map(|words| format!("warning    {words}")));
    lines
}
