//! Phones beside a trunk: behind one NAT with a PBX, or on one machine with it, they send from an address that is the
//! trunk's.
//!
//! Who sends from a trusted trunk's address is the trunk, but for
//!
//! - whoever registers: a trunk's calls come in without a login, nobody's registrations do;
//! - whoever proves an account;
//! - whoever From says it is, when that is registered by the very path the request takes.
//!
//! What comes from the port that the trunk's calls go to is the trunk's in any case: phones that register through it have
//! the same path as it has itself. The same holds for whom a message goes to.

use proto::node::Flow;
use proto::sip::NameAddr;
use proto::tables::Tables;

use crate::config::{Config, Trunk};
use crate::forwarding::contexts::{Branch, Context};
use crate::proxy::{Cx, Proxy};
use crate::registrar::aor;

/// Whether somebody else than a trunk may be there, though its address is a trunk's.
pub(crate) fn may_be(flow: &Flow, config: &Config) -> bool {
    let remote = flow.remote;
    let near = || config.trunks.iter().filter(|trunk| trunk.is_at(remote.ip()));
    near().next().is_some() && !near().any(|trunk| trunk.has_server_at(remote))
}

/// Whether this party (a From or To) is a phone beside a trunk: registered by this very path.
pub(crate) fn is_phone(
    party: Option<NameAddr<'_>>,
    flow: &Flow,
    config: &Config,
    tables: &dyn Tables,
) -> bool {
    if !may_be(flow, config) {
        return false;
    }
    let aor = party.and_then(|party| aor::canonical(&party.uri().ok()?, config));
    let made_here =
        |aor: String| tables.bindings(&aor).iter().any(|binding| binding.flow.remote == flow.remote);
    aor.is_some_and(made_here)
}

/// Whether it is the trunk that registers: what comes from one of its servers, and not from somebody beside it.
pub(crate) fn is_server(flow: &Flow, config: &Config) -> bool {
    config.trunk_from(flow.remote.ip()).is_some() && !may_be(flow, config)
}

impl Proxy {
    /// The trusted trunk that sent this request.
    pub(crate) fn trunk_of(&self, context: &Context) -> Option<&std::sync::Arc<Trunk>> {
        self.trunk_at(&context.flow).filter(|_| !context.from_phone)
    }

    /// Whether a party of a message is a phone beside a trunk, on this path.
    pub(crate) fn is_beside_trunk(&self, cx: &Cx<'_>, party: Option<NameAddr<'_>>, flow: &Flow) -> bool {
        is_phone(party, flow, &self.config, cx.tables)
    }

    /// Whether a branch leads to a trusted trunk by this path.
    pub(crate) fn leads_to_trunk(&self, branch: &Branch, to: &Flow) -> bool {
        let beside = branch.target.is_phone() && may_be(to, &self.config);
        branch.target.trusted || (!beside && self.is_trunk(to))
    }
}
