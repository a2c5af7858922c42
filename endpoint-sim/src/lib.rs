//! A phone without a speaker, as a machine: it registers, calls, answers, sends and checks RTP, holds, moves, transfers
//! and hangs up, by a [`Script`], and tells what it saw in a [`Report`].
//!
//! [`Phone`] keeps the [`proto::node::Node`] contract, so the same phone lives in the simulated world and on sockets
//! (`postern endpoint`). It sends everything to one outbound proxy, as phones do, and never looks behind its NAT: its
//! SDP, Via and Contact name the addresses it is given.
//!
//! Every RTP packet is 20 ms of a G.711 tone that begins with a marker: who sent it, its number, whom the sender
//! hears and how much of it. So each end proves *which* media it got, and that the other end hears it as well.
//!
//! A script as `host` reads it; the callee waits for its call to end, the caller makes it:
//!
//! ```yaml
//! answer: {after-ms: 1000, ring: true}
//! steps:
//!   - {do: register}
//!   - {do: call, to: "sip:bob@example.com", after: registered, at-ms: 500}     # the caller
//!   - {do: hold, after: answered, at-ms: 2000}
//!   - {do: hang-up, after: answered, at-ms: 5000}
//!   - {do: wait, after: ended}                                                 # the callee needs only this one
//!   - {do: unregister, after: ended}
//! until-ms: 30000
//! ```
//!
//! What it leaves out: one call at a time beside one that waits (another gets 486), one audio stream, no 100rel, no ICE, no SRTP.

mod call;
mod callee;
mod caller;
mod changes;
mod config;
mod dialog;
mod keys;
mod marker;
mod media;
mod news;
mod offer;
mod outbound;
pub mod peer;
mod phone;
mod ports;
mod registration;
mod report;
mod script;
mod transfer;

pub use config::PhoneConfig;
pub use outbound::{Backoff, Outbound};
pub use phone::Phone;
pub use report::{EndedBy, Report};
pub use script::{Act, After, Answer, Script, Step};
