//! The phones we serve: their bindings (RFC 3261 §10), connections and names, and how they are kept reachable.

pub mod aor;
pub mod bindings;
pub(crate) mod gruu;
pub mod keepalive;
pub mod mid_registrar;
pub(crate) mod outbound;
pub(crate) mod pings;
pub(crate) mod registering;
pub mod serving;
