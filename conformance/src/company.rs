//! The cast of systems 2 and 3 in the simulated world: peers behind their NATs, an access server, a STUN server and a
//! reflector.
//!
//! ```text
//!  e1 10.0.0.2 ─ NAT 198.51.100.1 ─┐   access 203.0.113.20   reflector .30   ┌─ NAT 198.51.100.2 ─ 10.0.0.2 e2
//!  e1 192.0.2.10 (public) ─────────┴── stun .10 and .11 ─────────────────────┴──────── (public) 192.0.2.20 e2
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use access::{Access, StunServer};
use endpoint_sim::peer::{Peer, PeerConfig, PeerReport};
use proto::peer::nat::{self, Allocation, Verdict};
use proto::peer::ticket::Keys;
use proto::stun::Server;
use proto::tables::{Anchor, Secret, User};
use reflector::Reflector;

use crate::cast::{P1, RELAY, Site, add_proxy_with, add_relay, proxy_config};
use crate::world::{Dependence, Entry, GatewayId, HostId, INTERNET, NodeId, Ports, Realm, World};

/// The STUN server's two addresses.
pub const STUN: [&str; 2] = ["203.0.113.10:3478", "203.0.113.11:3479"];
/// The access server.
pub const ACCESS: &str = "203.0.113.20:5060";
/// Where it listens for TLS.
pub const ACCESS_TLS: &str = "203.0.113.20:443";
/// The reflector, where there is one.
pub const REFLECTOR: &str = "203.0.113.30:3479";
/// The domain of all.
pub const DOMAIN: &str = "example.com";

/// Servers in place; peers come as the story goes.
pub struct Company {
    /// The world.
    pub world: World,
    /// The access server.
    pub access: NodeId,
    /// The STUN server.
    pub stun: NodeId,
    /// The reflector.
    pub reflector: Option<NodeId>,
    /// The SIP proxy and its relay.
    pub proxy: Option<[NodeId; 2]>,
    /// How many peers there are.
    count: u8,
}

/// A peer in its place.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// The peer.
    pub node: NodeId,
    /// Its host.
    pub host: HostId,
    /// Its NAT.
    pub nat: Option<GatewayId>,
}

impl Company {
    /// With these pairs of buddies, and no reflector.
    pub fn new(seed: u64, buddies: &[(&str, &str)]) -> Company {
        Company::build(seed, buddies, false)
    }

    /// With these pairs of buddies, and a reflector.
    pub fn with_reflector(seed: u64, buddies: &[(&str, &str)]) -> Company {
        Company::build(seed, buddies, true)
    }

    /// With these pairs of buddies, a reflector, and a SIP proxy with a relay that calls go by.
    pub fn with_proxy(seed: u64, buddies: &[(&str, &str)]) -> Company {
        let mut company = Company::build(seed, buddies, true);
        let mut config = proxy::Config { redirects: Vec::new(), ..proxy_config(P1) };
        // The access server is in that range, and lends ports to peers.
        config.siblings.cidrs.clear();
        // A relay is to stand ready for two in public, too.
        config.listeners.iter_mut().for_each(|listener| listener.anchor = Some(Anchor::Always));
        let proxy = add_proxy_with(&mut company.world, "P1", P1, config);
        company.proxy = Some([proxy, add_relay(&mut company.world, 100)]);
        company
    }

    fn build(seed: u64, buddies: &[(&str, &str)], reflects: bool) -> Company {
        let mut world = World::new(seed);
        let stun = add_stun(&mut world);
        let reflector = reflects.then(|| add_reflector(&mut world));
        let mut config = access::Config::new(DOMAIN, [3; 32], [4; 32]);
        config.reflector = reflects.then(|| (addr(REFLECTOR), keys()));
        let at = |name: &str| format!("{name}@{DOMAIN}");
        config.buddies = buddies.iter().map(|(one, other)| (at(one), at(other))).collect();
        let to = [P1, RELAY].map(|at| addr(at).ip()).to_vec();
        config.outside = Some(access::Outside { local: addr(ACCESS).ip(), to });
        let host = world.host(INTERNET, &addr(ACCESS).ip().to_string());
        let listeners = [format!("udp {ACCESS}"), format!("tls {ACCESS_TLS}")];
        let listeners = listeners.each_ref().map(String::as_str);
        let access =
            world.attach(host, "access", &listeners, move |birth| Access::new(config.clone(), birth));
        Company { world, access, stun, reflector, proxy: None, count: 0 }
    }

    /// A peer comes online.
    pub fn add(&mut self, name: &str, site: Site) -> Guest {
        self.add_with(name, site, |_| ())
    }

    /// A peer behind the NAT of another.
    pub fn add_beside(&mut self, name: &str, neighbour: Guest) -> Guest {
        let nat = neighbour.nat.expect("it is behind a NAT");
        let (realm, ip) = (self.world.inside(nat), format!("10.0.0.{}", self.count + 2));
        self.add_at(name, Some(nat), realm, &ip, |_| ())
    }

    /// A peer with something else in its settings.
    pub fn add_with(&mut self, name: &str, site: Site, set: impl Fn(&mut PeerConfig)) -> Guest {
        let n = self.count + 1;
        let nat = site
            .map(|rules| self.world.nat(&format!("nat-{name}"), INTERNET, &format!("198.51.100.{n}"), rules));
        let (realm, ip) = match nat {
            Some(nat) => (self.world.inside(nat), "10.0.0.2".to_owned()),
            None => (INTERNET, format!("192.0.2.{n}0")),
        };
        self.add_at(name, nat, realm, &ip, set)
    }

    fn add_at(
        &mut self,
        name: &str,
        nat: Option<GatewayId>,
        realm: Realm,
        ip: &str,
        set: impl Fn(&mut PeerConfig),
    ) -> Guest {
        self.count += 1;
        let n = self.count;
        let user = User {
            name: name.to_owned(),
            secret: Secret::Password(format!("{name}'s secret")),
            aors: vec![format!("{name}@{DOMAIN}")],
            anchor: None,
            srtp: None,
            latch: None,
            algorithms: Vec::new(),
        };
        self.world.tables(self.access).add_user(user.clone());
        if let Some([proxy, _]) = self.proxy {
            self.world.tables(proxy).add_user(user);
        }
        let host = self.world.host(realm, ip);
        let local = SocketAddr::new(ip.parse().expect("an address"), 5060);
        let mut config = PeerConfig::new(name, DOMAIN, local, addr(ACCESS), addr(STUN[0]));
        config.password = format!("{name}'s secret");
        config.secret = [n; 32];
        config.tls = Some(addr(ACCESS_TLS));
        config.reflector = self.reflector.map(|_| addr(REFLECTOR));
        config.proxy = self.proxy.map(|_| addr(P1));
        set(&mut config);
        let birth = move |birth| Peer::new(birth, config.clone());
        let node = self.world.attach(host, name, &[&format!("udp {local}"), &format!("tls {local}")], birth);
        Guest { node, host, nat }
    }

    /// The reflector's keys.
    pub fn keys(&self) -> Keys {
        keys()
    }

    /// What a peer knows and has seen.
    pub fn report(&self, guest: Guest) -> PeerReport {
        self.world.node::<Peer>(guest.node).report()
    }

    /// Runs until a peer sees a buddy online, or not; panics when that does not come within the limit.
    pub fn until_sees(&mut self, guest: Guest, buddy: &str, online: bool, limit: Duration) {
        let aor = format!("{buddy}@{DOMAIN}");
        let sees = |world: &World| {
            let report = world.node::<Peer>(guest.node).report();
            report.buddies.get(&aor).is_some_and(|buddy| buddy.online == online)
        };
        let seen = self.world.run_until(sees, limit);
        assert!(seen, "{buddy} online: {online}, is not seen\n{}", self.world.ladder());
    }

    /// Runs until a peer is logged in.
    pub fn until_logged_in(&mut self, guest: Guest) {
        let done = |world: &World| world.node::<Peer>(guest.node).report().logged_in;
        assert!(self.world.run_until(done, Duration::from_secs(20)), "no login\n{}", self.world.ladder());
    }

    /// The place in the record of the first packet since `from` that fits; panics when there is none.
    pub fn place(&self, from: usize, what: &str, fits: impl Fn(&Entry) -> bool) -> usize {
        let found = self.world.packets()[from..].iter().position(fits);
        from + found.unwrap_or_else(|| panic!("no {what}\n{}", self.world.ladder()))
    }
}

/// What the classifier would say of such a NAT.
pub fn verdict(site: Site) -> Verdict {
    let Some(rules) = site else { return Verdict::OPEN };
    let dependence = |d| match d {
        Dependence::Endpoint => nat::Dependence::Endpoint,
        Dependence::Address => nat::Dependence::Address,
        Dependence::AddressAndPort => nat::Dependence::AddressAndPort,
    };
    let allocation = match rules.ports {
        Ports::Preserve => Allocation::Preserving,
        Ports::Random => Allocation::Random,
        Ports::Sequential => Allocation::Sequential,
        Ports::Block(_) => Allocation::Block,
    };
    let (hairpin, poisons, udp) = (rules.hairpin, rules.poisons, rules.udp);
    let nat = Verdict::nat(dependence(rules.mapping), dependence(rules.filtering));
    Verdict { allocation, hairpin, poisons, udp, ..nat }
}

fn keys() -> Keys {
    Keys::new(1, [9; 32])
}

fn add_reflector(world: &mut World) -> NodeId {
    let host = world.host(INTERNET, &addr(REFLECTOR).ip().to_string());
    let config = reflector::Config { own: vec![addr(REFLECTOR).ip()], ..reflector::Config::new(keys()) };
    let birth = move |birth| Reflector::new(config.clone(), birth);
    world.attach(host, "reflector", &[&format!("udp {REFLECTOR}")], birth)
}

/// A STUN server with two addresses and two ports.
pub fn add_stun(world: &mut World) -> NodeId {
    let server = Server::pair(addr(STUN[0]), addr(STUN[1]));
    let host = world.host(INTERNET, &addr(STUN[0]).ip().to_string());
    world.address(host, INTERNET, &addr(STUN[1]).ip().to_string());
    let listeners: Vec<String> = server.sockets().iter().map(|at| format!("udp {at}")).collect();
    let listeners: Vec<&str> = listeners.iter().map(String::as_str).collect();
    world.attach(host, "stun", &listeners, move |_| StunServer::new(server))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("not an address and port: {text}"))
}
