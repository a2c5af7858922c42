//! What leaves without telling of the inside: topology hiding, names of calls, privacy (RFC 3323).

mod addresses;
pub(crate) mod call_names;
mod dialog_info;
pub(crate) mod privacy;
pub(crate) mod veil;
