//! Systems 2 and 3 on real NATs and sockets: a real `postern` as access server, STUN server, reflector, proxy and relay, real
//! `postern endpoint peer` processes behind the laboratory's NATs.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod calls;
mod cells;
mod moving;
mod phones;
mod reflecting;
mod scenarios;
mod steps;
mod types;

use std::time::Duration;

/// What a machine with other work may add to a time that is measured here. The world holds the same times to the millisecond.
const BUSY: Duration = Duration::from_secs(1);
