//! SIP: one buffer and one index of it ([`message`]), typed reads of what a proxy looks at ([`uri`], [`headers`]),
//! edits as splices ([`edit`]), messages of our own ([`build`]), and the transaction layer ([`transaction`]).

mod build;
mod edit;
mod headers;
mod message;
pub mod transaction;
mod uri;

pub use build::{Builder, reason_phrase, reply};
pub use edit::Edit;
pub use headers::{Auth, CSeq, NameAddr, Params, Via};
pub use message::{Header, Malformed, Message, Method, Name};
pub use uri::{Scheme, Uri};
