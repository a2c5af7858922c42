//! The access server of peers, as a machine.
//!
//! [`StunServer`] tells endpoints where they are seen from, at up to four sockets (RFC 5780), so that they learn what
//! NAT they are behind before they log in.

mod stun;

pub use stun::StunServer;
