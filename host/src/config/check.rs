//! What no single value can tell: clashes between values, and what this machine can give.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

use proto::node::Transport;

use super::Settings;
use super::errors::{ConfigError, nearest};
use super::places::Places;
use super::schema::{Listener, Network, RecordRule, Relay, RelayMode};
use super::tls;
use super::values::SipAddress;

/// Where errors point to.
#[derive(Debug)]
pub struct Context<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its values' places.
    pub places: &'a Places,
}

impl Context<'_> {
    /// An error at the value with this path.
    pub fn error(&self, at: &str, what: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
        ConfigError {
            file: self.path.to_owned(),
            place: self.places.find(at),
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// Right, or what is wrong.
pub type Checked = Result<(), ConfigError>;

/// Fills in what depends on other values and refuses what can't work.
pub fn check(settings: &mut Settings, context: &Context<'_>) -> Checked {
    roles(settings, context)?;
    settings.tls = tls::read(settings, context)?;
    expand_listeners(settings, context);
    default_network(settings);
    addresses(settings, context)?;
    networks(settings, context)?;
    users(settings, context)?;
    super::trunks::check::check(settings, context)?;
    node_key(settings, context)?;
    let timer = settings.file.proxy.as_ref().and_then(|proxy| proxy.session_timer.as_ref());
    super::session_timer::check(timer, context)?;
    super::shield::check(&settings.file.shield, context)?;
    super::peers::check(&settings.file, context)?;
    settings.file.relay.as_ref().map_or(Ok(()), |there| relay(there, context))?;
    files(settings, context)
}

fn roles(settings: &Settings, context: &Context<'_>) -> Checked {
    let file = &settings.file;
    let calls = file.proxy.is_some() || file.relay.is_some() || file.redirect.is_some();
    if calls || file.access.is_some() || file.reflector.is_some() {
        return Ok(());
    }
    let what = "nothing to run: expected at least one of `proxy`, `relay`, `redirect`, `access`, `reflector`";
    Err(context.error("", what, "add `proxy: {}` to serve calls, or start from `postern init`"))
}

/// A proxy without listeners listens everywhere; `0.0.0.0` and `[::]` become this machine's addresses, so that every
/// socket knows which of them a packet came to.
fn expand_listeners(settings: &mut Settings, context: &Context<'_>) {
    let file = &mut settings.file;
    let written = file.listeners.len();
    if file.listeners.is_empty() && file.proxy.is_some() {
        for transport in [Transport::Udp, Transport::Tcp] {
            let address = SipAddress { transport, addr: ([0, 0, 0, 0], 5060).into() };
            file.listeners.push(Listener::at(address));
        }
    }
    let mut expanded = Vec::new();
    for (index, listener) in file.listeners.iter().enumerate() {
        let key = format!("listeners.{index}.address");
        let place = context.places.find(&key).filter(|_| index < written);
        for ip in concrete(listener.address.addr.ip()) {
            let addr = SocketAddr::new(ip, listener.address.addr.port());
            let (address, as_written) = (SipAddress { addr, ..listener.address }, Some(listener.address));
            settings.placed.extend(place.map(|place| (address, place)));
            expanded.push(Listener { address, written: as_written, ..listener.clone() });
        }
    }
    file.listeners = expanded;
    let others = [
        ("relay.address", file.relay.as_ref().map(|relay| relay.address)),
        ("redirect.address", file.redirect.as_ref().map(|redirect| redirect.address)),
        ("access.address", file.access.as_ref().map(|access| access.address)),
        ("reflector.address", file.reflector.as_ref().map(|reflector| reflector.address)),
    ];
    let others = others.into_iter().filter_map(|(key, address)| Some((address?, context.places.find(key)?)));
    settings.placed.extend(others);
}

/// The address itself, or for a wildcard every address of its family that this machine has.
fn concrete(ip: IpAddr) -> Vec<IpAddr> {
    if !ip.is_unspecified() {
        return vec![ip];
    }
    let ours = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|interface| {
        let storage = interface.address?;
        let v4 = storage.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    let usable = |found: &IpAddr| found.is_ipv4() == ip.is_ipv4() && !is_link_local(*found);
    ours.filter(usable).collect::<BTreeSet<_>>().into_iter().collect()
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Without `networks:` there is one for each address we listen on or lend ports at: the first is `default`.
fn default_network(settings: &mut Settings) {
    let file = &mut settings.file;
    if !file.networks.is_empty() {
        return;
    }
    let mut ips: Vec<IpAddr> = file.listeners.iter().map(|l| l.address.addr.ip()).collect();
    ips.extend(file.relay.as_ref().map(|relay| relay.address.addr.ip()));
    ips.extend(file.redirect.as_ref().map(|redirect| redirect.address.addr.ip()));
    let mut seen = BTreeSet::new();
    ips.retain(|ip| seen.insert(*ip));
    for (index, bind) in ips.into_iter().enumerate() {
        let name = if index == 0 { "default".to_owned() } else { bind.to_string() };
        file.networks.insert(
            name,
            Network { bind, advertise: None, cidr: Vec::new(), hide_topology: false, closing: false },
        );
    }
}

fn networks(settings: &Settings, context: &Context<'_>) -> Checked {
    let file = &settings.file;
    for (name, network) in &file.networks {
        is_local(network.bind, &format!("networks.{name}.bind"), context)?;
    }
    for (index, listener) in file.listeners.iter().enumerate() {
        let named = listener.network.iter();
        known_networks(named, &file.networks, &format!("listeners.{index}.network"), context)?;
    }
    let relay = file.relay.iter().flat_map(|relay| &relay.networks);
    known_networks(relay, &file.networks, "relay.networks", context)
}

fn known_networks<'a>(
    names: impl Iterator<Item = &'a String>,
    networks: &BTreeMap<String, Network>,
    at: &str,
    context: &Context<'_>,
) -> Checked {
    let known: Vec<&str> = networks.keys().map(String::as_str).collect();
    for name in names {
        if !networks.contains_key(name) {
            let what = format!("network `{name}` is not defined; expected one of: {}", known.join(", "));
            let remedy = match nearest(name, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("define it: networks: {{ {name}: {{ bind: ADDRESS }} }}"),
            };
            return Err(context.error(at, what, remedy));
        }
    }
    Ok(())
}

/// Every SIP address is this machine's, and none is asked for twice.
fn addresses(settings: &Settings, context: &Context<'_>) -> Checked {
    let mut taken: BTreeMap<(bool, SocketAddr), String> = BTreeMap::new();
    for (at, address) in own_addresses(settings) {
        is_local(address.addr.ip(), &at, context)?;
        let key = (address.transport == Transport::Udp, address.addr);
        if address.addr.port() == 0 {
            continue;
        }
        if let Some(other) = taken.insert(key, at.clone()) {
            let what = format!("{address} is asked for twice: here and at `{other}`");
            return Err(context.error(&at, what, "give one of them another port"));
        }
        if let Some(relay) = &settings.file.relay
            && address.transport == Transport::Udp
            && relay.ports.contains(address.addr.port())
        {
            let what = format!("{address} lies within the relay's media ports {}", relay.ports);
            return Err(context.error(&at, what, "move it out of `relay.ports`"));
        }
    }
    Ok(())
}

fn own_addresses(settings: &Settings) -> Vec<(String, SipAddress)> {
    let file = &settings.file;
    let listeners =
        file.listeners.iter().enumerate().map(|(i, l)| (format!("listeners.{i}.address"), l.address));
    let relay = file.relay.iter().map(|relay| ("relay.address".to_owned(), relay.address));
    let ng = file.relay.iter().flat_map(|relay| &relay.ng).flat_map(|ng| &ng.listen);
    let relay = relay.chain(ng.map(|address| ("relay.ng".to_owned(), *address)));
    let redirect = file.redirect.iter().map(|redirect| ("redirect.address".to_owned(), redirect.address));
    listeners.chain(relay).chain(redirect).chain(super::peers::addresses(file)).collect()
}

/// An address is ours when a socket can be bound to it.
fn is_local(ip: IpAddr, at: &str, context: &Context<'_>) -> Checked {
    match UdpSocket::bind((ip, 0)) {
        Ok(_) => Ok(()),
        Err(error) => {
            let what = format!("{ip} is not an address of this machine ({error})");
            Err(context.error(at, what, "use one that `ip address` shows, or 0.0.0.0 for all"))
        }
    }
}

fn users(settings: &Settings, context: &Context<'_>) -> Checked {
    let mut names = BTreeSet::new();
    for (index, user) in settings.users.iter().enumerate() {
        let at = format!("users.{index}");
        let hashes = user.ha1.as_ref().is_some_and(|ha1| ha1.md5.is_some() || ha1.sha_256.is_some());
        if user.password.is_some() == hashes {
            let what = format!(
                "user `{}` has {}",
                user.name,
                if hashes { "both `password` and `ha1`" } else { "no secret" }
            );
            return Err(context.error(&at, what, "give it either `password` or `ha1`"));
        }
        if !names.insert(&user.name) {
            return Err(context.error(
                &at,
                format!("user `{}` is there twice", user.name),
                "keep one of them",
            ));
        }
    }
    Ok(())
}

/// Nodes in different processes prove themselves to one another with a key they share.
fn node_key(settings: &Settings, context: &Context<'_>) -> Checked {
    let file = &settings.file;
    if file.node_key.as_ref().is_some_and(|key| key.len() < 16) {
        let what = "`node-key` is shorter than 16 characters";
        return Err(context.error("node-key", what, "write a long random one, the same on all nodes"));
    }
    // A relay that only ng clients command proves itself to nobody.
    let alone = file.redirect.is_none() && file.relay.as_ref().is_some_and(|relay| relay.ng.is_some());
    let apart = match &file.proxy {
        None => !alone && (file.relay.is_some() || file.redirect.is_some()),
        Some(proxy) => {
            let ours = |address: &SipAddress| own_addresses(settings).iter().any(|(_, own)| own == address);
            !proxy.relays.iter().chain(&proxy.redirect).all(ours) || !proxy.siblings.is_empty()
        }
    };
    if apart && file.node_key.is_none() {
        let what = "`node-key` is missing: proxy, relay and redirect in different processes prove themselves with it";
        return Err(context.error(
            "",
            what,
            "add `node-key: SOME-LONG-RANDOM-WORDS`, the same on all of them",
        ));
    }
    Ok(())
}

fn relay(relay: &Relay, context: &Context<'_>) -> Checked {
    if relay.address.transport != Transport::Udp {
        return Err(context.error(
            "relay.address",
            "a relay is reached over UDP",
            "write `udp:ADDRESS:PORT`",
        ));
    }
    ng(relay, context)?;
    ports(relay, context)?;
    if relay.record.megabytes == 0 || relay.record.files == 0 {
        let what = "`relay.record` leaves no room for any recording";
        return Err(context.error("relay.record", what, "give `megabytes` and `files` at least 1"));
    }
    for (index, rule) in relay.record.rules.iter().enumerate() {
        record_rule(rule)
            .map_err(|(what, remedy)| context.error(&format!("relay.record.rules.{index}"), what, remedy))?;
    }
    Ok(())
}

/// Whether every thread gets what it needs of them.
fn ports(relay: &Relay, context: &Context<'_>) -> Checked {
    let (count, threads) = (relay.ports.count(), u32::from(relay.threads.max(1)));
    let one_port = relay.mode == RelayMode::OnePort;
    let needed = if one_port { threads } else { 2 * threads };
    if count < needed {
        let what = format!(
            "{count} media port(s) ({}) for {threads} thread(s): expected at least {needed}",
            relay.ports
        );
        let remedy = "give a range such as `20000-29999`, or one port for each thread and `mode: one-port`";
        return Err(context.error("relay.ports", what, remedy));
    }
    if one_port && relay.kernel_path {
        let what =
            "`kernel-path` tells calls apart by their ports, and with `mode: one-port` they share them";
        return Err(context.error("relay.kernel-path", what, "leave one of the two out"));
    }
    Ok(())
}

/// Whether this process may have as many open files as that takes.
fn files(settings: &Settings, context: &Context<'_>) -> Checked {
    let at = if settings.file.relay.is_some() { "relay.ports" } else { "listeners" };
    crate::limits::files(settings).map_err(|(what, remedy)| context.error(at, what, remedy))
}

fn record_rule(rule: &RecordRule) -> Result<(), (String, &'static str)> {
    let says_nothing = *rule == RecordRule::default();
    let empty = |word: &Option<String>| word.as_ref().is_some_and(String::is_empty);
    if says_nothing {
        let what = "a rule that says nothing would record every call".to_owned();
        return Err((
            what,
            "name a `user`, a `domain`, a `source`, `calls` or a `percent`; `percent: 100` is every call",
        ));
    }
    if empty(&rule.user) || empty(&rule.domain) {
        return Err(("`user` or `domain` is empty".into(), "name one, or leave it out: then any is meant"));
    }
    match (rule.calls, rule.percent) {
        (Some(0), _) => {
            Err(("`calls: 0` records nothing".into(), "write how many, or leave it out: then all are meant"))
        }
        (_, Some(percent @ (0 | 101..))) => {
            Err((format!("`percent: {percent}` is not from 1 to 100"), "write how many of a hundred calls"))
        }
        _ => Ok(()),
    }
}

/// Commands come where no SIP does, and only from whom they may.
fn ng(relay: &Relay, context: &Context<'_>) -> Checked {
    let Some(ng) = &relay.ng else { return Ok(()) };
    let served = [Transport::Udp, Transport::Tcp, Transport::Ws];
    if let Some(address) = ng.listen.iter().find(|address| !served.contains(&address.transport)) {
        let what = format!("ng commands over {} are not served; expected udp, tcp or ws", address.transport);
        return Err(context.error(
            "relay.ng",
            what,
            "write `tcp:ADDRESS:PORT`, behind a tunnel if it has to be encrypted",
        ));
    }
    if ng.listen.is_empty() || ng.allow.is_empty() {
        let what = "nobody could command this relay: `listen` or `allow` is empty";
        return Err(context.error("relay.ng", what, "name an address and who may use it, or leave `ng` out"));
    }
    if let Some(folder) = ng.media.as_ref().filter(|folder| !folder.is_dir()) {
        let what = format!("there is no folder `{}`", folder.display());
        let remedy = "name the folder of the WAV files that may be played, or leave `media` out";
        return Err(context.error("relay.ng.media", what, remedy));
    }
    match ng.listen.iter().find(|address| address.addr.ip().is_unspecified()) {
        Some(address) => {
            let what = format!("{address} is every address of this machine");
            Err(context.error("relay.ng", what, "name the one address that your SIP server reaches"))
        }
        None => Ok(()),
    }
}
