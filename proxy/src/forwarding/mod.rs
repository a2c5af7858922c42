//! A request on its way, and its answers: contexts, branches, the copy that leaves, the best response, CANCEL (RFC 3261 §16.6–§16.10).

pub(crate) mod best;
pub(crate) mod branches;
pub(crate) mod breadth;
pub(crate) mod cancel;
pub(crate) mod contexts;
pub(crate) mod faces;
pub(crate) mod forward;
pub(crate) mod hanging_up;
pub(crate) mod requests;
pub(crate) mod responses;
