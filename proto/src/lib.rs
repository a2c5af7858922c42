//! The words every part of Postern speaks, and the contract every service keeps.
//!
//! Nothing here does I/O: no clock, no dice, no sockets, no files. What a service is told comes in through
//! [`node::Input`], what it wants leaves through [`node::Output`].
//!
//! - [`node`]: the [`node::Node`] contract; [`tables`]: what must be known at once; [`event`]: what happened and why.
//! - [`sip`]: one buffer and one index of it; edits are splices, never reprints. Transactions (RFC 3261 §17).
//! - [`sdp`], [`rtp`], [`rtcp`]: line editor for session descriptions; demultiplexing, reports and statistics of media;
//!   [`quality`]: how it sounds.
//! - [`srtp`]: RTP and RTCP under keys, and how SDP carries those.
//! - [`stun`]: Binding requests, NAT behaviour, checks between peers.
//! - [`peer`]: what peers, their access server and their reflectors say to one another.
//! - [`cidr`]: address ranges.
//! - [`lobby`]: where new work waits when there is too much of it; [`shield`]: limits and bans that stand before everything else.
//! - [`hashing`]: hashes of many pieces, and of numbers.
//! - [`timers`]: one queue of timers for a whole node.
//! - [`token`], [`digest`], [`node_auth`]: what proves who sent what; [`hidden`]: names that tell nobody what they stand for.

pub mod cidr;
pub mod control;
pub mod digest;
pub mod door;
pub mod event;
pub mod g711;
pub mod hashing;
pub mod hidden;
pub mod icmp;
pub mod lobby;
pub mod lookup;
pub mod node;
pub mod node_auth;
pub mod offload;
pub mod peer;
pub mod quality;
pub mod resolve;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
pub mod shield;
pub mod sip;
pub mod srtp;
pub mod stun;
pub mod tables;
pub mod timers;
pub mod token;
