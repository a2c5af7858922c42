//! Proof, from cheap to dear: the simulated [`world`], in which whole calls run in milliseconds and the same seed tells
//! the same story; a [`crowd`] before an access server; what memory it takes ([`allocations`]); the NAT laboratory ([`lab`]) with real programs, and what reads their story from the wire.
//!
//! The stories are tests of this crate, in `tests/`.

#![allow(clippy::disallowed_methods, reason = "floor 3 may touch the real world")]

pub mod allocations;
pub mod cast;
pub mod company;
pub mod crowd;
pub mod lab;
pub mod world;
