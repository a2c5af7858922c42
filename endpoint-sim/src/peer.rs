//! A peer: an endpoint that finds out what NAT it is behind, logs in at an access server, and then speaks to its
//! buddies directly wherever that can be.
//!
//! [`classifier`] and [`life`] find out about the NAT, [`Surveyor`] is a node that does only that; [`opening`] opens a
//! path to one other peer. [`Peer`] puts them together.

mod carrier;
mod channel;
pub mod classifier;
mod config;
mod door;
pub mod life;
mod link;
mod login;
mod media;
mod news;
mod node;
pub mod opening;
mod surveyor;
mod talk;
mod voice;
mod ways;
pub mod wording;

pub use config::{BuddyReport, CallReport, PeerConfig, PeerReport};
pub use node::Peer;
pub use surveyor::Surveyor;
