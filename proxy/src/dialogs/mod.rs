//! Calls that are up: how what belongs to them finds its way, also after a restart (DESIGN §4).

pub(crate) mod calls;
pub(crate) mod contact;
pub(crate) mod hearing;
pub(crate) mod revived;
pub(crate) mod session_timer;
pub(crate) mod tokens;
pub(crate) mod within;
