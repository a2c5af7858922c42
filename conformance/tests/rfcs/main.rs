//! Requirements of the RFCs, a test each: a module for every RFC, a file for every section of the large one. The
//! paragraph a test is for stands above it, and `conformance/RFCS.md` is made of these words ([`table`]).
//!
//! Everything is asked of the node that runs in production, by messages alone: a proxy on a desk ([`desk::Desk`]), the
//! device in front of it ([`handset::Handset`]), and where the transport itself is meant, a process with sockets ([`wire`]).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod desk;
mod handset;
mod rfc3261;
mod rfc3262;
mod rfc3263;
mod rfc3311;
mod rfc3323;
mod rfc3325;
mod rfc3326;
mod rfc3327;
mod rfc3428;
mod rfc3515;
mod rfc3581;
mod rfc3608;
mod rfc3891;
mod rfc3903;
mod rfc4028;
mod rfc4320;
mod rfc5393;
mod rfc5621;
mod rfc5626;
mod rfc5627;
mod rfc5658;
mod rfc5923;
mod rfc6026;
mod rfc6086;
mod rfc6665;
mod rfc7118;
mod rfc8760;
mod table;
mod wire;
