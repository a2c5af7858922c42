//! The ground packets travel on: realms (networks in which an address means one host), hosts in them, and gateways
//! between them. Two sites behind NATs are two realms, so their private addresses may be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use proto::node::Dice;

use super::nat::{Firewall, Gateway, Nat, Passing, Protocol, Rules};
use super::streams::ConnId;

/// A network in which an address means one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Realm(usize);

/// The realm every world begins with.
pub const INTERNET: Realm = Realm(0);

/// A machine with one address or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(usize);

/// A middlebox between two realms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewayId(usize);

/// The line by which a host or a gateway is connected. It acts on every packet that passes, either way.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Time to pass it.
    pub latency: Duration,
    /// Up to so much is added at random: packets overtake one another when it exceeds their distance.
    pub jitter: Duration,
    /// Packets lost, of a thousand.
    pub loss: u32,
    /// Packets that arrive twice, of a thousand.
    pub duplication: u32,
}

impl Default for Link {
    fn default() -> Self {
        Link { latency: Duration::from_millis(5), jitter: Duration::ZERO, loss: 0, duplication: 0 }
    }
}

/// One packet under way.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    /// Its entry in the record.
    pub(super) entry: usize,
    pub(super) protocol: Protocol,
    pub(super) src: SocketAddr,
    pub(super) dst: SocketAddr,
    pub(super) bytes: Bytes,
    /// Set when it opens a connection instead of carrying a datagram.
    pub(super) opens: Option<ConnId>,
    pub(super) passed: Vec<GatewayId>,
    /// Routers it may still pass.
    pub(super) hops: u8,
}

/// Where a packet is after one step.
#[derive(Debug)]
pub(super) enum Step {
    /// At the line of this host.
    AtHost(HostId),
    /// In another realm, having passed a gateway.
    Onward(Realm),
    /// Nowhere, and why.
    Dropped(String),
}

#[derive(Debug, Default)]
pub(super) struct Net {
    realms: Vec<Network>,
    hosts: Vec<Host>,
    gateways: Vec<Middlebox>,
    /// Directions of the internet that nothing passes in.
    cut: BTreeSet<(IpAddr, IpAddr)>,
}

#[derive(Debug, Default)]
struct Network {
    /// The way out for addresses not found here.
    out: Option<GatewayId>,
    at: BTreeMap<IpAddr, At>,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Host(HostId),
    /// An address that a gateway to a realm further in answers for.
    Gateway(GatewayId),
}

#[derive(Debug)]
struct Host {
    addresses: BTreeMap<IpAddr, Realm>,
    link: Link,
}

#[derive(Debug)]
struct Middlebox {
    name: String,
    inner: Realm,
    outer: Realm,
    gateway: Gateway,
    link: Link,
}

/// Gateways on a way, at most: a loop of them ends here.
const MAX_HOPS: usize = 8;
/// Routers between any two places of the internet; a gateway is one more.
const CORE_HOPS: u8 = 8;

impl Net {
    pub(super) fn new() -> Net {
        Net { realms: vec![Network::default()], ..Net::default() }
    }

    pub(super) fn add_realm(&mut self) -> Realm {
        self.realms.push(Network::default());
        Realm(self.realms.len() - 1)
    }

    pub(super) fn add_host(&mut self, realm: Realm, ip: IpAddr) -> HostId {
        self.hosts.push(Host { addresses: BTreeMap::new(), link: Link::default() });
        let host = HostId(self.hosts.len() - 1);
        self.add_address(host, realm, ip);
        host
    }

    pub(super) fn add_address(&mut self, host: HostId, realm: Realm, ip: IpAddr) {
        self.hosts[host.0].addresses.insert(ip, realm);
        self.realms[realm.0].at.insert(ip, At::Host(host));
        // A firewall translates nothing: what is reachable inside is reachable by the same address outside it.
        if let Some(id) = self.realms[realm.0].out
            && matches!(self.gateways[id.0].gateway, Gateway::Firewall(_))
        {
            let outer = self.gateways[id.0].outer;
            self.realms[outer.0].at.insert(ip, At::Gateway(id));
        }
    }

    pub(super) fn add_nat(&mut self, name: &str, outer: Realm, external: IpAddr, rules: Rules) -> GatewayId {
        let id = self.add_gateway(name, outer, Gateway::Nat(Nat::new(external, rules)));
        self.realms[outer.0].at.insert(external, At::Gateway(id));
        id
    }

    pub(super) fn add_firewall(&mut self, name: &str, outer: Realm, timeout: Duration) -> GatewayId {
        self.add_gateway(name, outer, Gateway::Firewall(Firewall::new(timeout)))
    }

    pub(super) fn add_one_to_one(
        &mut self,
        name: &str,
        outer: Realm,
        pairs: &[(IpAddr, IpAddr)],
    ) -> GatewayId {
        let id = self.add_gateway(name, outer, Gateway::OneToOne(pairs.iter().copied().collect()));
        for (_, outside) in pairs {
            self.realms[outer.0].at.insert(*outside, At::Gateway(id));
        }
        id
    }

    fn add_gateway(&mut self, name: &str, outer: Realm, gateway: Gateway) -> GatewayId {
        let id = GatewayId(self.gateways.len());
        self.realms.push(Network { out: Some(id), at: BTreeMap::new() });
        let inner = Realm(self.realms.len() - 1);
        self.gateways.push(Middlebox { name: name.to_owned(), inner, outer, gateway, link: Link::default() });
        id
    }

    pub(super) fn inside(&self, gateway: GatewayId) -> Realm {
        self.gateways[gateway.0].inner
    }

    pub(super) fn host_link(&mut self, host: HostId) -> &mut Link {
        &mut self.hosts[host.0].link
    }

    pub(super) fn gateway_link(&mut self, gateway: GatewayId) -> &mut Link {
        &mut self.gateways[gateway.0].link
    }

    /// Forgets a NAT's mappings; from now on it has this external address.
    pub(super) fn rebind(&mut self, id: GatewayId, external: Option<IpAddr>) {
        let outer = self.gateways[id.0].outer;
        let Gateway::Nat(nat) = &mut self.gateways[id.0].gateway else { return };
        let external = external.unwrap_or(nat.external);
        self.realms[outer.0].at.remove(&nat.external);
        self.realms[outer.0].at.insert(external, At::Gateway(id));
        nat.rebind(external);
    }

    pub(super) fn cut(&mut self, from: IpAddr, to: IpAddr, is_cut: bool) {
        match is_cut {
            true => self.cut.insert((from, to)),
            false => self.cut.remove(&(from, to)),
        };
    }

    /// The realm a host's address is in.
    pub(super) fn realm_of(&self, host: HostId, ip: IpAddr) -> Option<Realm> {
        self.hosts[host.0].addresses.get(&ip).copied()
    }

    /// The realm of a host's lowest address.
    pub(super) fn first_realm(&self, host: HostId) -> Option<Realm> {
        self.hosts[host.0].addresses.values().next().copied()
    }

    /// One step on a packet's way, from `realm`.
    pub(super) fn step(&mut self, now: Duration, realm: Realm, packet: &mut Packet, dice: &mut Dice) -> Step {
        if packet.passed.len() >= MAX_HOPS {
            return Step::Dropped("too many gateways".to_owned());
        }
        if realm == INTERNET && self.cut.contains(&(packet.src.ip(), packet.dst.ip())) {
            return Step::Dropped("cut".to_owned());
        }
        let routers = if realm == INTERNET { CORE_HOPS } else { 1 };
        match packet.hops.checked_sub(routers) {
            None | Some(0) if realm == INTERNET => return Step::Dropped("hop limit".to_owned()),
            left => packet.hops = left.unwrap_or(0),
        }
        let network = &self.realms[realm.0];
        match (network.at.get(&packet.dst.ip()), network.out) {
            (Some(At::Host(host)), _) => Step::AtHost(*host),
            (Some(At::Gateway(id)), _) => self.pass_in(now, *id, packet),
            (None, Some(id)) => self.pass_out(now, id, packet, dice),
            (None, None) => Step::Dropped("no route".to_owned()),
        }
    }

    fn pass_out(&mut self, now: Duration, id: GatewayId, packet: &mut Packet, dice: &mut Dice) -> Step {
        let middlebox = &mut self.gateways[id.0];
        let turns_back = middlebox.gateway.owns(packet.dst.ip());
        if turns_back && !middlebox.gateway.hairpins() {
            return Step::Dropped(format!("{}: no hairpin", middlebox.name));
        }
        match middlebox.gateway.outbound(passing(now, packet), dice) {
            Ok(src) => packet.src = src,
            Err(why) => return Step::Dropped(format!("{}: {why}", middlebox.name)),
        }
        packet.passed.push(id);
        let outer = middlebox.outer;
        if turns_back { self.pass_in(now, id, packet) } else { Step::Onward(outer) }
    }

    fn pass_in(&mut self, now: Duration, id: GatewayId, packet: &mut Packet) -> Step {
        let middlebox = &mut self.gateways[id.0];
        match middlebox.gateway.inbound(passing(now, packet)) {
            Ok(dst) => packet.dst = dst,
            Err(why) => return Step::Dropped(format!("{}: {why}", middlebox.name)),
        }
        packet.passed.push(id);
        Step::Onward(middlebox.inner)
    }
}

fn passing(now: Duration, packet: &Packet) -> Passing {
    Passing { now, protocol: packet.protocol, src: packet.src, dst: packet.dst }
}
