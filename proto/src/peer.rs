//! The words of peers: what an endpoint knows of its NAT ([`nat`]) and who can reach whom ([`reach`]).

pub mod nat;
pub mod reach;
