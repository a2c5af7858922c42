//! The proxy: call signalling (RFC 3261 §16), the media decision, and the registrar for the phones it serves.
//!
//! A machine under [`proto::node::Node`]: told of messages and time, asked for what to send.

mod alarms;
mod closing;
pub mod config;
pub mod date;
mod dialogs;
mod forwarding;
pub mod gate;
mod hashing;
mod hiding;
pub mod media;
pub mod moment;
mod nat;
pub mod part;
pub mod proxy;
pub mod registrar;
pub mod routing;
#[cfg(test)]
mod tests;
pub mod trunks;

pub use closing::Closing;
pub use config::Config;
pub use proxy::{Proxy, Status};
