//! A peer: an endpoint that finds out what NAT it is behind, logs in at an access server, and then speaks to its
//! buddies directly wherever that can be.
//!
//! [`classifier`] and [`life`] find out about the NAT, [`Surveyor`] is a node that does only that; [`opening`] opens a
//! path to one other peer.

pub mod classifier;
pub mod life;
pub mod opening;
mod surveyor;

pub use surveyor::Surveyor;
