//! Middleboxes as machines: NATs that behave as RFC 4787 classifies them, a stateful firewall, and one-to-one NAT.
//!
//! A gateway sees a packet on its way out ([`Gateway::outbound`]) or in ([`Gateway::inbound`]) and says what becomes of
//! its addresses. It has no clock and sends nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::node::Dice;

/// Which connections share an external port, or may come in (RFC 4787 §4.1, §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependence {
    /// On the inside endpoint alone.
    Endpoint,
    /// On the remote address too.
    Address,
    /// On the remote address and port.
    AddressAndPort,
}

/// How external ports are chosen (RFC 4787 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// The inside port if it is free, else the next free one.
    Preserve,
    /// Any free one.
    Random,
    /// The one after the last.
    Sequential,
    /// Any free one of a block that begins at a multiple of its size and belongs to this NAT's subscriber.
    Block(u16),
}

/// How a NAT behaves.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// What a mapping depends on.
    pub mapping: Dependence,
    /// What may come in by it.
    pub filtering: Dependence,
    /// Which external port it gets.
    pub ports: Ports,
    /// How long it lives without an outbound packet.
    pub timeout: Duration,
    /// Whether inbound packets keep it alive too.
    pub inbound_refreshes: bool,
    /// Whether two inside hosts reach one another by their external addresses (RFC 4787 §6).
    pub hairpin: bool,
    /// Whether a packet that may not come in spoils the mapping its answer would use: that one gets another port, as
    /// where a router takes the early packet for its own.
    pub poisons: bool,
    /// Whether UDP passes at all.
    pub udp: bool,
}

impl Rules {
    const fn new(mapping: Dependence, filtering: Dependence, ports: Ports) -> Rules {
        let timeout = Duration::from_secs(120);
        let (inbound_refreshes, hairpin, poisons, udp) = (false, false, false, true);
        Rules { mapping, filtering, ports, timeout, inbound_refreshes, hairpin, poisons, udp }
    }

    /// Anybody may answer to a mapping.
    pub const FULL_CONE: Rules = Rules::new(Dependence::Endpoint, Dependence::Endpoint, Ports::Preserve);
    /// Whom the inside has sent to, from any port.
    pub const ADDRESS_RESTRICTED: Rules =
        Rules::new(Dependence::Endpoint, Dependence::Address, Ports::Preserve);
    /// Whom the inside has sent to, from that port.
    pub const PORT_RESTRICTED: Rules =
        Rules::new(Dependence::Endpoint, Dependence::AddressAndPort, Ports::Preserve);
    /// Another external port for every remote endpoint.
    pub const SYMMETRIC: Rules =
        Rules::new(Dependence::AddressAndPort, Dependence::AddressAndPort, Ports::Random);

    /// With another life of mappings.
    pub const fn timeout(self, timeout: Duration) -> Rules {
        Rules { timeout, ..self }
    }

    /// With hairpinning.
    pub const fn hairpin(self) -> Rules {
        Rules { hairpin: true, ..self }
    }

    /// Spoilt by what comes too early.
    pub const fn poisoned(self) -> Rules {
        Rules { poisons: true, ..self }
    }

    /// With other external ports.
    pub const fn ports(self, ports: Ports) -> Rules {
        Rules { ports, ..self }
    }

    /// Without UDP.
    pub const fn without_udp(self) -> Rules {
        Rules { udp: false, ..self }
    }
}

/// UDP and TCP ports are different ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Udp,
    Tcp,
}

/// One middlebox.
#[derive(Debug)]
pub(super) enum Gateway {
    Nat(Nat),
    Firewall(Firewall),
    OneToOne(BTreeMap<IpAddr, IpAddr>),
}

/// The two ends of a packet and when it passes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing {
    pub(super) now: Duration,
    pub(super) protocol: Protocol,
    pub(super) src: SocketAddr,
    pub(super) dst: SocketAddr,
}

impl Gateway {
    /// The source a packet from inside goes on with.
    pub(super) fn outbound(&mut self, packet: Passing, dice: &mut Dice) -> Result<SocketAddr, &'static str> {
        match self {
            Gateway::Nat(nat) => nat.outbound(packet, dice),
            Gateway::Firewall(firewall) => {
                firewall.seen.insert((packet.protocol, packet.src, packet.dst), packet.now);
                Ok(packet.src)
            }
            Gateway::OneToOne(pairs) => match pairs.get(&packet.src.ip()) {
                Some(outside) => Ok(SocketAddr::new(*outside, packet.src.port())),
                None => Err("no outside address"),
            },
        }
    }

    /// The destination a packet from outside goes on with.
    pub(super) fn inbound(&mut self, packet: Passing) -> Result<SocketAddr, &'static str> {
        match self {
            Gateway::Nat(nat) => nat.inbound(packet),
            Gateway::Firewall(firewall) => firewall.inbound(packet),
            Gateway::OneToOne(pairs) => {
                let inside =
                    pairs.iter().find(|(_, outside)| **outside == packet.dst.ip()).map(|(inside, _)| *inside);
                inside.map(|inside| SocketAddr::new(inside, packet.dst.port())).ok_or("no inside address")
            }
        }
    }

    /// Whether the address is the gateway's own towards the outside.
    pub(super) fn owns(&self, ip: IpAddr) -> bool {
        match self {
            Gateway::Nat(nat) => nat.external == ip,
            Gateway::Firewall(_) => false,
            Gateway::OneToOne(pairs) => pairs.values().any(|outside| *outside == ip),
        }
    }

    /// Whether inside hosts reach one another by outside addresses.
    pub(super) fn hairpins(&self) -> bool {
        match self {
            Gateway::Nat(nat) => nat.rules.hairpin,
            Gateway::Firewall(_) | Gateway::OneToOne(_) => true,
        }
    }
}

/// A NAT with one external address.
#[derive(Debug)]
pub(super) struct Nat {
    rules: Rules,
    pub(super) external: IpAddr,
    mappings: BTreeMap<MappingKey, Mapping>,
    /// The mapping of each external port.
    ports: BTreeMap<(Protocol, u16), MappingKey>,
    /// Remote endpoints whose early packets spoilt a port, and until when.
    spoilt: BTreeMap<(u16, SocketAddr), Duration>,
    /// Nothing runs out before.
    next_expiry: Duration,
    last_port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MappingKey {
    protocol: Protocol,
    inside: SocketAddr,
    towards: (Option<IpAddr>, Option<u16>),
}

#[derive(Debug)]
struct Mapping {
    port: u16,
    used: Duration,
    /// Whom the inside has sent to by it, and when last.
    sent_to: BTreeMap<SocketAddr, Duration>,
}

impl Nat {
    pub(super) fn new(external: IpAddr, rules: Rules) -> Nat {
        Nat {
            rules,
            external,
            mappings: BTreeMap::new(),
            ports: BTreeMap::new(),
            spoilt: BTreeMap::new(),
            next_expiry: Duration::MAX,
            last_port: 0,
        }
    }

    /// Forgets every mapping, as a rebooting router does; perhaps with another external address from now on.
    pub(super) fn rebind(&mut self, external: IpAddr) {
        *self = Nat { last_port: self.last_port, ..Nat::new(external, self.rules) };
    }

    fn outbound(&mut self, packet: Passing, dice: &mut Dice) -> Result<SocketAddr, &'static str> {
        if packet.protocol == Protocol::Udp && !self.rules.udp {
            return Err("no UDP");
        }
        self.expire(packet.now);
        let key = self.key_for(packet);
        if !self.mappings.contains_key(&key) {
            let port = self.choose_port(packet, dice).ok_or("no free port")?;
            self.ports.insert((packet.protocol, port), key);
            self.mappings.insert(key, Mapping { port, used: packet.now, sent_to: BTreeMap::new() });
        }
        self.next_expiry = self.next_expiry.min(packet.now + self.rules.timeout);
        let mapping = self.mappings.get_mut(&key).ok_or("no mapping")?;
        mapping.used = packet.now;
        mapping.sent_to.insert(packet.dst, packet.now);
        Ok(SocketAddr::new(self.external, mapping.port))
    }

    fn inbound(&mut self, packet: Passing) -> Result<SocketAddr, &'static str> {
        if packet.protocol == Protocol::Udp && !self.rules.udp {
            return Err("no UDP");
        }
        self.expire(packet.now);
        let passed = self.let_in(packet);
        if passed.is_err() && self.rules.poisons {
            let until = packet.now + self.rules.timeout;
            self.spoilt.insert((packet.dst.port(), packet.src), until);
            self.next_expiry = self.next_expiry.min(until);
        }
        passed
    }

    fn let_in(&mut self, packet: Passing) -> Result<SocketAddr, &'static str> {
        let rules = self.rules;
        let key = *self.ports.get(&(packet.protocol, packet.dst.port())).ok_or("no mapping")?;
        let mapping = self.mappings.get_mut(&key).ok_or("no mapping")?;
        let passes = match rules.filtering {
            Dependence::Endpoint => true,
            Dependence::Address => mapping.sent_to.keys().any(|remote| remote.ip() == packet.src.ip()),
            Dependence::AddressAndPort => mapping.sent_to.contains_key(&packet.src),
        };
        if passes && rules.inbound_refreshes {
            mapping.used = packet.now;
        }
        if passes { Ok(key.inside) } else { Err("filtered") }
    }

    /// The mapping a packet uses: that of the rules, unless that one's port is spoilt towards its destination.
    fn key_for(&self, packet: Passing) -> MappingKey {
        let key = self.key(packet, self.rules.mapping);
        let port = match self.mappings.get(&key) {
            Some(mapping) => mapping.port,
            None if self.rules.ports == Ports::Preserve => packet.src.port(),
            None => return key,
        };
        match self.spoilt.contains_key(&(port, packet.dst)) {
            true => self.key(packet, Dependence::AddressAndPort),
            false => key,
        }
    }

    fn key(&self, packet: Passing, mapping: Dependence) -> MappingKey {
        let towards = match mapping {
            Dependence::Endpoint => (None, None),
            Dependence::Address => (Some(packet.dst.ip()), None),
            Dependence::AddressAndPort => (Some(packet.dst.ip()), Some(packet.dst.port())),
        };
        MappingKey { protocol: packet.protocol, inside: packet.src, towards }
    }

    fn choose_port(&mut self, packet: Passing, dice: &mut Dice) -> Option<u16> {
        let any = |dice: &mut Dice| 1024 + dice.below(64512) as u16;
        if self.last_port == 0 {
            self.last_port = any(dice);
        }
        let free = |port: &u16| {
            !self.ports.contains_key(&(packet.protocol, *port))
                && !self.spoilt.contains_key(&(*port, packet.dst))
        };
        let (first, range) = match self.rules.ports {
            Ports::Preserve => (packet.src.port(), 1024..=u16::MAX),
            Ports::Random => (any(dice), 1024..=u16::MAX),
            Ports::Sequential => (self.last_port.checked_add(1).unwrap_or(1024), 1024..=u16::MAX),
            Ports::Block(size) => {
                let start = (self.last_port / size * size).max(1024);
                let end = start.saturating_add(size - 1);
                (start + dice.below(u64::from(end - start) + 1) as u16, start..=end)
            }
        };
        let port = (first..=*range.end()).chain(*range.start()..first).find(free)?;
        self.last_port = port;
        Some(port)
    }

    /// TCP mappings last: RFC 5382 asks for two hours and more.
    fn expire(&mut self, now: Duration) {
        if now < self.next_expiry {
            return;
        }
        let life = self.rules.timeout;
        let mut next = Duration::MAX;
        self.mappings.retain(|key, mapping| {
            if key.protocol == Protocol::Tcp {
                return true;
            }
            mapping.sent_to.retain(|_, at| *at + life > now);
            let first = mapping.sent_to.values().min().copied().unwrap_or(mapping.used);
            next = next.min(first.min(mapping.used) + life);
            mapping.used + life > now
        });
        self.ports.retain(|_, key| self.mappings.contains_key(key));
        self.spoilt.retain(|_, until| *until > now);
        self.next_expiry = self.spoilt.values().copied().fold(next, Duration::min);
    }
}

/// Lets in what answers to something that went out; translates nothing.
#[derive(Debug)]
pub(super) struct Firewall {
    timeout: Duration,
    seen: BTreeMap<(Protocol, SocketAddr, SocketAddr), Duration>,
}

impl Firewall {
    pub(super) fn new(timeout: Duration) -> Firewall {
        Firewall { timeout, seen: BTreeMap::new() }
    }

    fn inbound(&mut self, packet: Passing) -> Result<SocketAddr, &'static str> {
        let seen = self.seen.get(&(packet.protocol, packet.dst, packet.src)).copied();
        let answers =
            seen.is_some_and(|at| packet.protocol == Protocol::Tcp || at + self.timeout > packet.now);
        if answers { Ok(packet.dst) } else { Err("filtered") }
    }
}

#[cfg(test)]
mod tests;
