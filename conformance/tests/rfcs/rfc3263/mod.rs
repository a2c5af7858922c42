//! RFC 3263: from a name to servers. [`names`] asks where a name leads, [`servers`] what becomes of a request to it.

mod names;
mod servers;
