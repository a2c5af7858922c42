//! A peer: an endpoint that finds out what NAT it is behind, logs in at an access server, and then speaks to its
//! buddies directly wherever that can be.

pub mod opening;
