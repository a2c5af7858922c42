//! What may be said of the servers of peers: `access` and `reflector`.

use std::net::{IpAddr, SocketAddr};

use access::Outside;
use proto::peer::ticket;
use proto::stun::Server;
use serde::{Deserialize, Serialize};

use super::Settings;
use super::check::{Checked, Context};
use super::lower::realm;
use super::schema::File;
use super::values::{Cidr, SipAddress};
use crate::keys::Keyring;

/// The access server: who may talk to whom, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Access {
    /// Where peers log in.
    pub address: SipAddress,
    /// Where those log in for whom UDP does not pass, by TLS; none: nowhere.
    pub tls: Option<SipAddress>,
    /// Two addresses that differ in host and port, for STUN: with them peers find out what NAT they are behind. None: they
    /// are taken for closed.
    pub stun: Vec<SocketAddr>,
    /// Pairs of accounts that permit one another; others do so from their endpoints.
    pub buddies: Vec<(String, String)>,
    /// The reflector; none: that of this file.
    pub reflector: Option<SocketAddr>,
    /// Proxies and relays that those reach through us, by a port of ours, who log in by TLS; none: those of this file.
    pub calls: Vec<IpAddr>,
}

impl Default for Access {
    fn default() -> Access {
        let address = SipAddress::udp(([127, 0, 0, 1], 5070).into());
        Access {
            address,
            tls: None,
            stun: Vec::new(),
            buddies: Vec::new(),
            reflector: None,
            calls: Vec::new(),
        }
    }
}

/// The reflector: passes on first messages of peers that keep one another out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Reflector {
    /// Where it listens.
    pub address: SipAddress,
    /// Packets a second to one destination, at most, from each thread.
    pub rate: u32,
    /// Private ranges it passes on to.
    pub allow: Vec<Cidr>,
    /// How many threads share the work. Any of them serves any packet.
    pub threads: u16,
}

impl Default for Reflector {
    fn default() -> Reflector {
        let address = SipAddress::udp(([127, 0, 0, 1], 3479).into());
        Reflector { address, rate: 100, allow: Vec::new(), threads: 1 }
    }
}

impl Access {
    /// Every address it listens on.
    pub fn addresses(&self) -> Vec<SipAddress> {
        let stun = self.server().sockets().into_iter().map(SipAddress::udp);
        std::iter::once(self.address).chain(stun).chain(self.tls).collect()
    }

    /// Where those call for whom UDP does not pass.
    fn outside(&self, file: &File) -> Option<Outside> {
        let networks = file.networks.values().flat_map(|network| [Some(network.bind), network.advertise]);
        let listeners = file.listeners.iter().map(|listener| listener.address.addr.ip());
        let relay = file.relay.as_ref().map(|relay| relay.address.addr.ip());
        let here = networks.flatten().chain(listeners).chain(relay).filter(|ip| !ip.is_unspecified());
        let mut to: Vec<IpAddr> = match self.calls.is_empty() {
            true => here.collect(),
            false => self.calls.clone(),
        };
        to.sort_unstable();
        to.dedup();
        let local = self.address.addr.ip();
        (self.tls.is_some() && !to.is_empty()).then_some(Outside { local, to })
    }

    fn server(&self) -> Server {
        match self.stun[..] {
            [one, other] if one.ip() != other.ip() && one.port() != other.port() => Server::pair(one, other),
            _ => Server::single(),
        }
    }
}

/// Threads of one reflector, at most.
const MAX_THREADS: u16 = 64;

/// Their addresses, with the keys they stand under.
pub(super) fn addresses(file: &File) -> Vec<(String, SipAddress)> {
    let key = |own: &Access, n, at: SipAddress| match n {
        0 => "access.address",
        _ if Some(at) == own.tls => "access.tls",
        _ => "access.stun",
    };
    let named = |own: &Access| {
        let all = own.addresses().into_iter().enumerate();
        all.map(|(n, at)| (key(own, n, at).to_owned(), at)).collect::<Vec<_>>()
    };
    let access = file.access.iter().flat_map(named);
    let reflector = file.reflector.iter().map(|own| ("reflector.address".to_owned(), own.address));
    access.chain(reflector).collect()
}

/// What no single value can tell.
pub(super) fn check(file: &File, context: &Context<'_>) -> Checked {
    for (key, address) in addresses(file) {
        if key == "access.tls" {
            if address.transport != proto::node::Transport::Tls || address.addr.port() == 0 {
                let what = format!("`access.tls` is {address}; expected TLS at a port");
                return Err(context.error(
                    &key,
                    what,
                    "write `tls:ADDRESS:443`: it is for when UDP does not pass",
                ));
            }
        } else if address.transport != proto::node::Transport::Udp {
            let what = format!("`{key}` is {address}; expected UDP");
            return Err(context.error(&key, what, "write `udp:ADDRESS:PORT`: it is about NATs"));
        }
    }
    if let Some(own) = &file.reflector
        && !(1..=MAX_THREADS).contains(&own.threads)
    {
        let what = format!("`reflector.threads` is {}; expected 1 to {MAX_THREADS}", own.threads);
        return Err(context.error(
            "reflector.threads",
            what,
            "write at most as many as this machine has cores",
        ));
    }
    let Some(access) = &file.access else { return Ok(()) };
    if !access.calls.is_empty() && access.tls.is_none() {
        let what = "`access.calls` says where those may call who log in by TLS, and nobody can";
        return Err(context.error(
            "access.calls",
            what,
            "add `tls: \"tls:ADDRESS:443\"`, or leave `calls` out",
        ));
    }
    let fits = match access.stun[..] {
        [] => true,
        [a, b] => a.ip() != b.ip() && a.port() != b.port() && a.is_ipv4() == b.is_ipv4(),
        _ => false,
    };
    if !fits {
        let what = "`access.stun` does not name two addresses that differ in host and port";
        let remedy = "write for example `stun: [192.0.2.1:3478, 192.0.2.2:3479]`, both of this machine, or leave it out";
        return Err(context.error("access.stun", what, remedy));
    }
    let elsewhere =
        access.reflector.is_some_and(|at| file.reflector.as_ref().is_none_or(|r| r.address.addr != at));
    if elsewhere && file.node_key.is_none() {
        let what =
            "`node-key` is missing: the access server mints what the reflector in another process takes";
        return Err(context.error("", what, "add `node-key: SOME-LONG-RANDOM-WORDS`, the same on both"));
    }
    Ok(())
}

/// What `postern check` says of them.
pub fn describe(settings: &Settings) -> Vec<String> {
    let (file, mut lines) = (&settings.file, Vec::new());
    if let Some(access) = &file.access {
        lines.push(format!(
            "access     peers log in at {}, domain `{}`",
            access.address,
            domain(settings, access)
        ));
        if let Some(tls) = access.tls {
            lines.push(format!("           where UDP does not pass, at {tls}"));
            if let Some(outside) = access.outside(file) {
                let to: Vec<String> = outside.to.iter().map(ToString::to_string).collect();
                lines.push(format!("           calls from there go on to {}", to.join(", ")));
            }
        }
        let stun: Vec<String> = access.stun.iter().map(ToString::to_string).collect();
        lines.push(match stun.is_empty() {
            true => "           no second address for STUN: every NAT is taken for a closed one".to_owned(),
            false => format!("           STUN at {}", stun.join(" and ")),
        });
    }
    if let Some(reflector) = &file.reflector {
        lines.push(format!(
            "reflector  listens on {}, {} packets a second to one destination",
            reflector.address, reflector.rate
        ));
    }
    lines
}

/// The access server's configuration.
pub fn access(settings: &Settings, keys: &Keyring) -> Option<access::Config> {
    let own = settings.file.access.as_ref()?;
    let domain = domain(settings, own);
    let account = |name: &String| match name.contains('@') {
        true => name.clone(),
        false => format!("{name}@{domain}"),
    };
    let here = settings.file.reflector.as_ref().map(|reflector| reflector.address.addr);
    let reflector = own.reflector.or(here).map(|at| (at, ticket_keys(keys)));
    Some(access::Config {
        realm: realm(settings),
        stun: own.server(),
        reflector,
        outside: own.outside(&settings.file),
        buddies: own.buddies.iter().map(|(one, other)| (account(one), account(other))).collect(),
        ..access::Config::new(&domain, keys.pair, keys.nonce)
    })
}

/// What stands behind the names of its accounts: the first of `domains`, else the address.
fn domain(settings: &Settings, own: &Access) -> String {
    settings.file.domains.first().cloned().unwrap_or_else(|| own.address.addr.ip().to_string())
}

/// The reflector's configuration.
pub fn reflector(settings: &Settings, keys: &Keyring) -> Option<reflector::Config> {
    let own = settings.file.reflector.as_ref()?;
    Some(reflector::Config {
        own: vec![own.address.addr.ip()],
        allowed: own.allow.iter().map(|range| range.0).collect(),
        per_second: own.rate,
        ..reflector::Config::new(ticket_keys(keys))
    })
}

fn ticket_keys(keys: &Keyring) -> ticket::Keys {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    ticket::Keys::from_secret(keys.ticket, since.map_or(0, |since| since.as_secs() as u32))
}
