//! The words of peers: what an endpoint knows of its NAT ([`nat`]), who can reach whom ([`reach`]), what peers and their
//! access server say to one another ([`words`]), and a reflector's papers ([`ticket`]).

pub mod nat;
pub mod reach;
pub mod ticket;
pub mod words;
