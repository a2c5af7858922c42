//! The proxy: call signalling (RFC 3261 §16), the media decision, and the registrar for the phones it serves.
//!
//! A machine under [`proto::node::Node`]: told of messages and time, asked for what to send.

pub mod aor;
pub mod auth;
pub mod config;
pub mod date;
pub mod decision;
pub mod keepalive;
pub mod moment;
pub mod part;
pub mod proxy;
pub mod registrar;
pub mod serving;
pub mod target;
#[cfg(test)]
mod testing;

pub use config::Config;
pub use proxy::{Proxy, Status};
