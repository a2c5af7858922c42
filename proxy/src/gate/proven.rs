//! Trunks that are known by their certificate (RFC 5922 §7.4), whatever address they come from.
//!
//! A trunk that has [`Trunk::certificates`] is known by nothing else: its address alone proves nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::node::{Flow, FlowId};

use crate::config::{Config, Trunk};
use crate::proxy::Proxy;

/// What the far ends of connections have proved to be.
#[derive(Debug, Default)]
pub(crate) struct Proven {
    domains: BTreeMap<FlowId, Arc<[String]>>,
}

impl Proven {
    /// A connection came up with a certificate for these domains.
    pub(crate) fn opened(&mut self, flow: &Flow, domains: Arc<[String]>) {
        self.domains.insert(flow.id, domains);
    }

    /// It is gone.
    pub(crate) fn closed(&mut self, flow: &Flow) {
        self.domains.remove(&flow.id);
    }

    fn trunk<'c>(&self, flow: &Flow, config: &'c Config) -> Option<&'c Arc<Trunk>> {
        let domains = self.domains.get(&flow.id)?;
        config.trunks.iter().find(|trunk| trunk.trusted && trunk.is_proven_by(domains))
    }
}

impl Proxy {
    /// The trusted trunk that sends by this path: known by its certificate, or by its address.
    pub(crate) fn trunk_at(&self, flow: &Flow) -> Option<&Arc<Trunk>> {
        self.proven.trunk(flow, &self.config).or_else(|| self.config.trunk_from(flow.remote.ip()))
    }

    /// Whether its certificate says that it is a trunk of ours.
    pub(crate) fn is_proven_trunk(&self, flow: &Flow) -> bool {
        self.proven.trunk(flow, &self.config).is_some()
    }
}
