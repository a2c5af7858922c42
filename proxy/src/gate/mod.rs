//! What comes in: whether it may be served at all (RFC 3261 §16.3), and who sent it (§22), before anything is allocated for it.

pub mod auth;
pub(crate) mod beside;
pub(crate) mod identity;
pub(crate) mod proven;
mod scanners;
pub(crate) mod validate;
