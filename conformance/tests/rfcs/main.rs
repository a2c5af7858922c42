//! Requirements of the RFCs, a test each: a module for every RFC, a file for every section of the large one. The
//! paragraph a test is for stands above it, and `conformance/RFCS.md` is made of these words ([`table`]).
//!
//! Everything is asked of the node that runs in production, by messages alone: see [`desk::Desk`].
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod desk;
mod rfc3261;
mod table;
