//! Stories of a proxy, or of two, told message by message in simulated time; and the benches they stand on.

mod anchored;
pub(crate) mod bench;
mod beside;
mod call_names;
mod contact;
mod extensions;
mod forking;
mod hostile;
mod local;
mod login;
mod lookups;
mod mid_registrar;
pub(crate) mod net;
mod outbound;
mod plain;
mod privacy;
mod registering;
mod siblings;
mod stories;
pub(crate) mod testing;
mod trunks;
mod veil;
