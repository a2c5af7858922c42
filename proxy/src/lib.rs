//! The proxy: call signalling (RFC 3261 §16), the media decision, and the registrar for the phones it serves.
//!
//! A machine under [`proto::node::Node`]: told of messages and time, asked for what to send.

mod alarms;
#[cfg(test)]
mod anchored_tests;
mod anchoring;
pub mod aor;
mod apart;
pub mod auth;
#[cfg(test)]
mod bench;
mod branches;
mod breadth;
mod call_names;
#[cfg(test)]
mod call_names_tests;
mod calls;
mod cancel;
mod closing;
pub mod config;
mod contact;
#[cfg(test)]
mod contact_tests;
mod contexts;
pub mod date;
pub mod decision;
mod dialogs;
pub mod dry_run;
#[cfg(test)]
mod extension_tests;
mod faces;
#[cfg(test)]
mod forking_tests;
mod forward;
mod gruu;
mod hanging_up;
mod hashing;
mod hops;
#[cfg(test)]
mod hostile_tests;
mod identity;
pub mod keepalive;
mod keying;
#[cfg(test)]
mod local_tests;
#[cfg(test)]
mod login_tests;
#[cfg(test)]
mod lookup_tests;
mod lookups;
mod media;
pub mod mid_registrar;
#[cfg(test)]
mod mid_registrar_tests;
pub mod moment;
mod nat;
#[cfg(test)]
mod net;
pub mod numbers;
mod outbound;
#[cfg(test)]
mod outbound_tests;
pub mod part;
mod pings;
#[cfg(test)]
mod plain_tests;
mod privacy;
#[cfg(test)]
mod privacy_tests;
mod proven;
pub mod proxy;
mod redirecting;
mod registering;
pub mod registrar;
mod relay_dialog;
mod relays;
mod requests;
mod responses;
mod revived;
pub mod routes;
mod routing;
pub mod serving;
mod session_timer;
mod siblings;
#[cfg(test)]
mod siblings_tests;
#[cfg(test)]
mod story_tests;
pub mod target;
mod targets;
#[cfg(test)]
mod testing;
mod tokens;
#[cfg(test)]
mod trunk_tests;
pub mod trunks;
mod validate;
mod veil;
#[cfg(test)]
mod veil_tests;

pub use closing::Closing;
pub use config::Config;
pub use proxy::{Proxy, Status};
