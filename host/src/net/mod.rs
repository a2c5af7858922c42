//! Sockets: many datagrams per system call ([`batch`]), listeners ([`udp`]), connections ([`streams`], driven by the runtime in [`outside`]).

pub mod batch;
pub mod outside;
pub mod probe;
pub mod streams;
pub mod udp;

pub use outside::Outside;
