//! Sockets: many datagrams per system call ([`batch`]), listeners ([`udp`]), connections ([`streams`], driven by the runtime in [`outside`]), and the few
//! packets that are answered before any service sees them ([`stun`]).

pub mod batch;
pub mod outside;
pub mod streams;
pub mod stun;
pub mod udp;

pub use outside::Outside;
