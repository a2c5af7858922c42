//! SIP: one buffer and one index of it ([`message`]), typed reads of what a proxy looks at ([`uri`], [`headers`]),
//! edits as splices ([`edit`]), messages of our own ([`build`]), messages out of streams ([`framing`]), a request
//! that is about to be refused ([`glance`]), and the transaction layer ([`transaction`]).

mod build;
mod check;
mod edit;
mod escape;
mod framing;
mod glance;
mod headers;
mod index;
mod lex;
mod message;
mod multipart;
mod name;
mod reads;
mod reason;
mod reindex;
mod short;
pub mod transaction;
mod uri;
mod within;

pub use build::{Builder, Reply, reply};
pub use edit::Edit;
pub use escape::{escaped, unescaped};
pub use framing::{Frame, Framer};
pub use glance::Glance;
pub use headers::{Auth, CSeq, NameAddr, Params, Via};
pub use message::{Header, Malformed, Message};
pub use name::{Method, Name};
pub use reason::reason_phrase;
pub use short::Short;
pub use uri::{Scheme, Uri};
