//! The reflector of peers (US 8,139,578): it passes on first messages between two whose NATs would keep one another out.
//!
//! It remembers nothing of any flow. Everything a packet needs is in its own token ([`proto::peer::ticket`]): where it
//! may go, until when, and a MAC over that and over where it came from. So any instance serves any packet, a restart
//! loses nothing but what was in flight, and memory does not grow. What goes out is always shorter than what came in.
//!
//! Checks come in the order of their cost: length, magic, hops, expiry, MAC, destination, rate. The rate is counted in a
//! table of fixed size, by destination. A packet that fails any of them is counted and nothing is sent.
//!
//! STUN requests are answered with a *bind ticket*: whoever shows it has heard the answer at that address, so tokens
//! towards it are no way to aim at a third party.
//!
//! What it leaves out: media. A class of service for it would be a relay without a conscience.

mod rate;
mod reflector;

pub use reflector::{Config, Counts, Reflected, Reflector};
