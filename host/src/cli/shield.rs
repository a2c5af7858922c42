//! `postern shield`: who is banned and why; whom to let pass, whom to shut out.

use std::net::IpAddr;

use super::ask::{Target, ask};
use super::exit;
use crate::admin::Ask;
use crate::config::values::Span;
use crate::shield::Order;

/// What is wanted of the shield.
#[derive(Debug, clap::Subcommand)]
pub enum Shield {
    /// Who is banned, why, and for how long
    List(Target),
    /// Lift the bans of an address or range, and never limit it until the next start
    Allow {
        /// Such as 192.0.2.1 or 192.0.2.0/24
        range: String,
        /// Which process is asked
        #[command(flatten)]
        target: Target,
    },
    /// Hear nothing from an address (IPv6: its /64) for a while
    Ban {
        /// Such as 192.0.2.1
        source: IpAddr,
        /// For how long, such as 30m or 24h
        #[arg(long = "for", default_value = "1h", value_name = "TIME")]
        lasts: String,
        /// Which process is asked
        #[command(flatten)]
        target: Target,
    },
}

/// Asks the running process.
pub fn shield(shield: &Shield, json: bool) -> u8 {
    let (target, order) = match shield {
        Shield::List(target) => (target, Order::List),
        Shield::Allow { range, target } => (target, Order::Allow(range.clone())),
        Shield::Ban { source, lasts, target } => match lasts.parse::<Span>() {
            Ok(lasts) => (target, Order::Ban(*source, lasts.0.as_secs())),
            Err(words) => {
                eprintln!("{words}");
                return exit::USAGE;
            }
        },
    };
    ask(target, &Ask::Shield { order }, json)
}
