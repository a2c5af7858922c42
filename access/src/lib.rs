//! The access server of peers (US 8,000,325), as a machine: it knows who may talk to whom, who is online, and what NAT
//! each is behind; it tells an endpoint how to reach its buddies, and a buddy to open its NAT for a newcomer *before* the
//! newcomer learns of it. Everything after that is between the peers.
//!
//! - [`Access`] keeps the [`proto::node::Node`] contract. It takes REGISTER (login), MESSAGE and NOTIFY (wishes, and what
//!   is passed on or kept for somebody), and STUN; words in [`proto::peer::words`].
//! - A login is proven by digest SHA-256; later ones of the same device by the session's key. The device signs it, too.
//! - What is observed wins over what is said.
//! - [`StunServer`] is STUN alone, at up to four sockets (RFC 5780).
//!
//! What it leaves out: one device per account (a later login takes the place of an earlier one); permissions given at
//! run time and mail live as long as the process.

mod accounts;
mod channels;
mod config;
mod gate;
mod greeting;
mod lines;
mod login;
mod passing;
mod proving;
mod server;
mod stun;

pub use config::Config;
pub use lines::Outside;
pub use server::{Access, Status};
pub use stun::StunServer;
