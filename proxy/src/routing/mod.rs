//! Where a request goes: its Route, our own bindings, routes, trunks, ENUM, the redirect servers; and by which flows (RFC 3261 §16.4, §16.5; RFC 3263).

pub mod dry_run;
pub(crate) mod hops;
pub(crate) mod lookups;
pub mod numbers;
pub(crate) mod paths;
pub(crate) mod preprocessing;
pub(crate) mod redirecting;
pub mod routes;
pub mod target;
pub(crate) mod targets;
