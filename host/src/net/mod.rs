//! Sockets: many datagrams per system call ([`batch`]), listeners ([`udp`]), doors of flooded media ports ([`door`]), the network's complaints ([`icmp`]), connections ([`streams`], driven by the runtime in [`outside`]).

pub mod batch;
pub mod door;
pub mod icmp;
pub mod outside;
pub mod probe;
pub mod streams;
pub mod udp;

pub use outside::Outside;
