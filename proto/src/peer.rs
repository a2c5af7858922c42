//! The words of peers: what an endpoint knows of its NAT ([`nat`]), who can reach whom ([`reach`]), what peers and their
//! access server say to one another ([`words`]), what goes through that server for want of UDP ([`channel`]), and a reflector's
//! papers ([`ticket`]).

pub mod channel;
pub mod nat;
pub mod reach;
pub mod ticket;
pub mod words;
