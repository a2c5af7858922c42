//! The redirect server: who is served where. Our proxies register whom they serve; an INVITE is answered with the next
//! hop (RFC 3261 §8.3, §10.3).
//!
//! ```text
//!  P2                            redirect                            P1
//!   | REGISTER                      |                                |
//!   |   To: <sip:bob@example.com>   |                                |
//!   |   Contact: <sip:P2;lr>        |                                |
//!   |   Node-Auth                   |                                |
//!   |------------------------------>|                                |
//!   | 200, Contact, what is left    |   INVITE sip:bob@example.com   |
//!   |<------------------------------|<-------------------------------|
//!   |                               |   302, Contact: <sip:P2;lr>    |
//!   |                               |------------------------------->|
//! ```
//!
//! The Contact of a 302 is the *next hop* only: the asker keeps bob's address of record as the request URI. Several
//! proxies may serve one address; they are named by preference (q), among equals by how long they said to serve it.
//!
//! **Who is believed.** [`Config::key`] proves our own nodes (`proto::node_auth`); without proof only who comes by
//! loopback or TLS from a range in [`Config::trusted`]. Anybody else may ask for OPTIONS; REGISTER is refused to all
//! others, INVITE too unless [`Config::require_proof`] is off, and always with the same answer, whoever is asked for.
//!
//! **What is said.** 302: served there. 480: known, but nobody serves it now (RFC 3261 §21.4.18 gives a redirect server
//! this very case): it expired, was removed, or only the asker itself was named. 404: never heard of, or not for
//! [`Config::memory`].
//!
//! **Assumptions.** Bindings live in [`proto::tables::Tables`], which the host keeps on disk, so that a restarted server
//! forgets nobody. One node owns its tables. Clocks of our nodes agree within 60 s.
//!
//! **Left out.** Path: a proxy registers itself, so there is nothing behind it to be reached through. Domains are not
//! checked: our proxies know theirs.

mod config;
mod expiry;
mod lookup;
mod redirect;
mod refusal;
mod register;

pub use config::{Config, Expiries};
pub use redirect::Redirect;
