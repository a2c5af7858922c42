//! The shell around the machines: everything that touches the world.
//!
//! Services are machines ([`proto::node::Node`]); this crate gives them sockets, time, randomness, names, files and
//! threads, and the operator a command. Floors below it do no I/O, so what is decided is decided there.
//!
//! - [`config`]: one strict YAML file, lowered to the services' configurations;
//! - [`lanes`]: threads that own services; [`net`]: sockets and connections; [`tls`]: certificates;
//!   [`dns`]: names;
//! - [`tables`], [`bindings`], [`store`], [`keys`]: what services must know at once, and what outlives the process;
//! - [`limits`]: what the machine gives;
//! - [`events`], [`history`], [`journal`]: what happened, for logs and for [`explain`], over the [`admin`] socket;
//! - [`server`]: all of it put together; [`reload`]: what a changed file can't change; [`succession`]: a new process takes over; [`endpoint`]: phones on sockets; [`peer`]: peers; [`cli`]: the `postern` command.
//!
//! It assumes Linux (epoll, `recvmmsg`, eventfd).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod accounts;
pub mod admin;
pub mod allocator;
pub mod bindings;
pub mod capture;
pub mod cli;
pub mod config;
pub mod dns;
pub mod dtls;
pub mod endpoint;
pub mod events;
pub mod explain;
pub mod history;
pub mod journal;
pub mod kernel;
pub mod keys;
pub mod lanes;
pub mod limits;
pub mod lookups;
mod media_folder;
mod memory;
pub mod net;
mod nonces;
pub mod peer;
pub mod registrations;
pub mod reload;
pub mod sealed;
pub mod server;
pub mod shield;
pub mod store;
pub mod succession;
pub mod tables;
pub mod tls;
pub mod trunks;
mod workshop;
