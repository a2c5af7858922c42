//! The words of peers: what an endpoint knows of its NAT ([`nat`]), who can reach whom ([`reach`]), what peers and their
//! access server say to one another ([`words`]), what goes through that server for want of UDP ([`channel`]), a reflector's papers
//! ([`ticket`]), and what media between peers is known by ([`media`]).

pub mod channel;
pub mod media;
pub mod nat;
pub mod reach;
pub mod ticket;
pub mod words;
