//! Proof, from outside: the NAT laboratory with real programs, and what reads their story from the wire.

pub mod lab;
