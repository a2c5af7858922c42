//! Which of a branch's paths may be taken: none that is not encrypted for `sips:`, and for a large request one that does
//! not lose it.

use proto::node::{Flow, FlowId, Transport};
use proto::sip::Message;

use crate::forwarding::contexts::{Branch, Context, Target};
use crate::proxy::Proxy;
use crate::routing::target::path_to;

/// A request larger than this goes by a transport that is congestion controlled (RFC 3261 §18.1.1): with headers of the
/// path below it fits the smallest usual MTU.
const LARGE: usize = 1300;

/// Whether every hop must be encrypted (RFC 3261 §16.6 step 7, RFC 5630 §5.3): the URI that came, or the one that leaves,
/// is `sips:`.
pub(crate) fn must_be_secure(context: &Context, index: usize) -> bool {
    let leaves = context.branches.get(index).and_then(|branch| branch.target.uri.as_deref());
    is_sips(context.routed.uri(&context.request)) || leaves.is_some_and(is_sips)
}

/// Whether a URI, as written, is `sips:`.
pub(crate) fn is_sips(uri: &str) -> bool {
    uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("sips:"))
}

impl Target {
    /// The next flow of the same device, with those that are left (RFC 5626 §7).
    pub(crate) fn next_flow(&mut self) -> Option<Target> {
        let next = self.flows.pop_front()?;
        Some(Target { flows: std::mem::take(&mut self.flows), ..next })
    }
}

impl Branch {
    /// Its next path, taken off the list.
    pub(crate) fn take_hop(&mut self, secure: bool) -> Option<Flow> {
        let fits = |hop: &Flow| !secure || hop.transport.is_secure();
        self.flow = std::iter::from_fn(|| self.hops.pop_front()).find(fits);
        self.flow
    }

    /// Another way to the same party, when the paths so far led nowhere: the next flow of its device (RFC 5626 §7).
    pub(crate) fn turn_to_next_flow(&mut self) {
        if !self.hops.is_empty() {
            return;
        }
        let Some(mut next) = self.target.next_flow() else { return };
        self.hops = next.ready_hops().into();
        self.target = next;
    }
}

impl Proxy {
    /// The path a request of this size takes instead (RFC 3261 §18.1.1): TCP to the same place, if the place was found by
    /// RFC 3263 and nothing fixed the transport; the path it would have taken stays for when nobody takes TCP there. A
    /// registered flow is never left, nor an address that an operator wrote.
    pub(crate) fn path_by_size(&self, branch: &mut Branch, flow: Flow, message: &Message) -> Flow {
        let is_small = message.bytes().len() <= LARGE;
        if is_small || flow.transport != Transport::Udp || !branch.found_by_name {
            return flow;
        }
        let Some(by_tcp) = path_to(Transport::Tcp, flow.remote, &self.config) else { return flow };
        branch.found_by_name = false;
        branch.hops.push_front(flow);
        branch.flow = Some(by_tcp);
        by_tcp
    }
}

/// The paths that were found for a name: over TLS, whoever is there has to prove it (RFC 5922 §7.3).
pub(crate) fn proving(mut paths: Vec<Flow>, domain: FlowId) -> Vec<Flow> {
    paths.iter_mut().filter(|path| path.transport.is_secure()).for_each(|path| path.id = domain);
    paths
}
