//! Building a world: hosts, networks, NATs, firewalls, lines, and what DNS and HTTP servers know.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::lookup::Advice;
use proto::resolve::{Found, Lookup};

use super::{GatewayId, HostId, Link, Realm, Rules, World, ip};

impl World {
    /// A NAT in `outer` with this external address. Its inside ([`World::inside`]) is a realm of its own.
    pub fn nat(&mut self, name: &str, outer: Realm, external: &str, rules: Rules) -> GatewayId {
        self.net.add_nat(name, outer, ip(external), rules)
    }

    /// A firewall that lets in only what answers, and translates nothing.
    pub fn firewall(&mut self, name: &str, outer: Realm, timeout: Duration) -> GatewayId {
        self.net.add_firewall(name, outer, timeout)
    }

    /// A NAT that gives each inside address an outside address of its own: `(inside, outside)`.
    pub fn one_to_one_nat(&mut self, name: &str, outer: Realm, pairs: &[(&str, &str)]) -> GatewayId {
        let pairs: Vec<_> = pairs.iter().map(|(inside, outside)| (ip(inside), ip(outside))).collect();
        self.net.add_one_to_one(name, outer, &pairs)
    }

    /// A network of its own, without a way out.
    pub fn lan(&mut self) -> Realm {
        self.net.add_realm()
    }

    /// The realm behind a gateway.
    pub fn inside(&self, gateway: GatewayId) -> Realm {
        self.net.inside(gateway)
    }

    /// A host with an address in a realm.
    pub fn host(&mut self, realm: Realm, address: &str) -> HostId {
        self.net.add_host(realm, ip(address))
    }

    /// Another address of a host, in the same realm or another.
    pub fn address(&mut self, host: HostId, realm: Realm, address: &str) {
        self.net.add_address(host, realm, ip(address));
    }

    /// The line by which a host is connected.
    pub fn link(&mut self, host: HostId) -> &mut Link {
        self.net.host_link(host)
    }

    /// The line of a node's host.
    pub fn link_of(&mut self, node: super::NodeId) -> &mut Link {
        self.net.host_link(self.nodes[node.0].host)
    }

    /// The line by which a gateway is connected.
    pub fn gateway_link(&mut self, gateway: GatewayId) -> &mut Link {
        self.net.gateway_link(gateway)
    }

    /// Segments of connections lost, of a thousand: what is lost comes late.
    pub fn lose_segments(&mut self, of_a_thousand: u32) {
        self.stream_loss = of_a_thousand;
    }

    /// From now on nothing passes from one address of the internet to another, or it does again.
    pub fn cut(&mut self, from: &str, to: &str, is_cut: bool) {
        self.net.cut(ip(from), ip(to), is_cut);
    }

    /// The router reboots: a NAT forgets its mappings, connections through it break, and its external address may be
    /// another from now on.
    pub fn rebind(&mut self, gateway: GatewayId, external: Option<&str>) {
        self.net.rebind(gateway, external.map(ip));
        self.break_conns_through(gateway);
    }

    /// The DNS: what it knows is what is put in here.
    pub fn dns(&mut self) -> &mut BTreeMap<Lookup, Found> {
        &mut self.dns
    }

    /// What ENUM says: the URIs of a number's domain.
    pub fn numbers(&mut self) -> &mut BTreeMap<String, Vec<String>> {
        &mut self.numbers
    }

    /// What HTTP servers say of calls, by URL.
    pub fn pages(&mut self) -> &mut BTreeMap<String, Advice> {
        &mut self.pages
    }
}
