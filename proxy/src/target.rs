//! From a URI to paths: which flows a request may take, best first (RFC 3263, RFC 3261 §16.6 step 7).

use proto::node::{Flow, Question, Transport};
use proto::sip::Uri;
use std::net::SocketAddr;

use crate::config::{Config, NextHop};

/// Where a URI or next hop leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hops {
    /// These flows, best first; empty: no listener of ours can go there.
    Ready(Vec<Flow>),
    /// A name is involved; give the answer to [`resolved`].
    Ask(Question),
}

/// The next hop a URI names: of a Route (`maddr`, `transport`, port and host), or a request URI.
pub fn of_uri(uri: &Uri<'_>, config: &Config) -> Hops {
    let _ = (uri, config);
    Hops::Ready(Vec::new())
}

/// The next hop of a static route.
pub fn of_next_hop(next: &NextHop, config: &Config) -> Hops {
    let _ = (next, config);
    Hops::Ready(Vec::new())
}

/// The flows for what the resolver found, in its order; those no listener of ours can reach are left out.
pub fn resolved(targets: &[(Transport, SocketAddr)], config: &Config) -> Vec<Flow> {
    let _ = (targets, config);
    Vec::new()
}
