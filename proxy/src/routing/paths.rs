//! Where a request for a device goes that registered by way of others (RFC 3327 §5.4): the first URI of its Path is the first
//! Route, and so the next hop (RFC 3261 §16.6 step 7), found by RFC 3263.
//!
//! A Path is whatever the REGISTER says. So that nobody who may register can send our requests to an address of his
//! choice, its first URI is followed only where
//!
//! - it names a place that is trusted anyway: a sibling, an address or a server of a trusted trunk;
//! - a sibling brought the REGISTER, or a server of a trusted trunk: what they say of the way to them is believed;
//! - it names the very address the REGISTER came from, perhaps another port.
//!
//! Every other binding is met by the path its REGISTER came by, with its Path as Route all the same: that costs a
//! stranger's edge nothing, since it is there, and gives a stranger nothing. The connection that such a REGISTER came by is used
//! again as long as it is there, when it is one with the first URI's host.

use proto::node::{Flow, literal};
use proto::sip::{NameAddr, Uri};
use proto::tables::Binding;

use crate::config::Config;
use crate::gate::beside;
use crate::routing::target::{Hops, of_uri};

/// The ways to a binding, the first to be tried in front, and what is left when a name leads nowhere.
pub(crate) struct WaysBack {
    /// By the first URI of its Path, or as it registered.
    pub(crate) hops: Hops,
    /// For when a name is no help: as it registered.
    pub(crate) known: Vec<Flow>,
}

/// The ways to a binding. `registered` is the path it was made by, from a listener of today.
pub(crate) fn ways(binding: &Binding, registered: Flow, config: &Config) -> WaysBack {
    let only = |flow| WaysBack { hops: Hops::Ready(vec![flow]), known: Vec::new() };
    match by_path(binding, config) {
        None => only(registered),
        Some(Hops::Ask(question)) => WaysBack { hops: Hops::Ask(question), known: vec![registered] },
        Some(Hops::Ready(mut there)) => {
            let open = registered.id.is_connection();
            let same_place = |flow: &Flow| flow.remote.ip() == registered.remote.ip();
            if open && there.first().is_some_and(same_place) {
                there.insert(0, registered);
            } else if !there.contains(&registered) {
                there.push(registered);
            }
            WaysBack { hops: Hops::Ready(there), known: Vec::new() }
        }
    }
}

/// Whether a binding outlives the connection it was made by: its Path says where to go.
pub(crate) fn outlives_connection(binding: &Binding, config: &Config) -> bool {
    by_path(binding, config).is_some()
}

/// Where the first URI of its Path leads, if that may be followed.
fn by_path(binding: &Binding, config: &Config) -> Option<Hops> {
    let first = NameAddr::parse(binding.path.first()?).ok()?;
    let uri = first.uri().ok()?;
    if config.is_ours(uri.host, uri.port) || !may_follow(&uri, &binding.flow, config) {
        return None;
    }
    Some(of_uri(&uri, config)).filter(|hops| *hops != Hops::Ready(Vec::new()))
}

fn may_follow(uri: &Uri<'_>, brought_by: &Flow, config: &Config) -> bool {
    let host = uri.params.get("maddr").filter(|maddr| !maddr.is_empty()).unwrap_or(uri.host);
    let mut trusted = config.trunks.iter().filter(|trunk| trunk.trusted);
    let is_trusted_place = match literal(host) {
        Some(ip) => {
            ip == brought_by.remote.ip() || config.is_sibling(ip) || trusted.any(|trunk| trunk.is_at(ip))
        }
        None => trusted.any(|trunk| trunk.has_server_named(host)),
    };
    is_trusted_place || config.is_sibling(brought_by.remote.ip()) || beside::is_server(brought_by, config)
}
