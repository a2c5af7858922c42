//! From the file to the services' own configurations.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proto::control::Mode;
use proto::digest::Algorithm;
use proto::node::Transport;
use proto::tables::{Anchor, Latch, Secret, Srtp, User};
use proxy::config::MediaRange;

use super::trunks::lower as trunks;
use super::values::SipAddress;
use super::{Settings, schema};
use crate::keys::Keyring;
use crate::media_folder::MediaFolder;

/// The accounts, as tables hold them: hashed once, here, and not at every request.
pub fn users(settings: &Settings) -> impl Iterator<Item = User> {
    let realm = realm(settings);
    let listeners = settings.file.listeners.iter().flat_map(|listener| &listener.algorithms);
    let offered = settings.file.auth.algorithms.iter().chain(listeners).copied().map(algorithm);
    // Peers log in by SHA-256, whatever phones are offered.
    let peers = settings.file.access.iter().map(|_| Algorithm::Sha256);
    let offered: Vec<Algorithm> = offered.chain(peers).collect();
    settings.users.iter().map(move |account| user(account, &realm, &offered))
}

fn user(user: &schema::User, realm: &str, offered: &[Algorithm]) -> User {
    let own = algorithms(&user.algorithms);
    let hash = |password: &String, algorithm| {
        let wanted = offered.contains(&algorithm) || own.contains(&algorithm);
        wanted.then(|| proto::digest::hashed(algorithm, &user.name, realm, password))
    };
    let secret = match (&user.password, &user.ha1) {
        (Some(password), _) => {
            Secret::Hashed { md5: hash(password, Algorithm::Md5), sha256: hash(password, Algorithm::Sha256) }
        }
        (None, Some(ha1)) => Secret::Hashed { md5: ha1.md5.clone(), sha256: ha1.sha_256.clone() },
        (None, None) => Secret::Hashed { md5: None, sha256: None },
    };
    let aors = match user.aors.is_empty() {
        true => vec![format!("{}@", user.name)],
        false => user.aors.clone(),
    };
    User {
        name: user.name.clone(),
        secret,
        aors,
        anchor: user.anchor.map(anchor),
        latch: user.latch.map(latch),
        srtp: user.srtp.map(srtp),
        algorithms: algorithms(&user.algorithms),
    }
}

/// The proxy's configuration; `None` when this process is no proxy.
pub fn proxy(settings: &Settings, keys: &Keyring) -> Option<proxy::Config> {
    let file = &settings.file;
    let own = file.proxy.as_ref()?;
    Some(proxy::Config {
        networks: file.networks.iter().map(|(name, network)| proxy_network(name, network)).collect(),
        listeners: file.listeners.iter().map(|listener| proxy_listener(settings, listener)).collect(),
        domains: file.domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
        realm: realm(settings),
        algorithms: algorithms(&file.auth.algorithms),
        anchor: anchor(own.anchor),
        latch: latch(own.latch),
        srtp: srtp(own.srtp),
        same_nat_direct: own.same_nat == schema::SameNat::Direct,
        relays: relays(settings, own),
        relay_mode: file.relay.as_ref().map_or(Mode::Split, |relay| mode(relay.mode)),
        redirects: redirects(settings, own),
        siblings: siblings(own, keys),
        trunks: trunks::trunks(settings, own),
        mid_registrar: trunks::mid_registrar(settings, own),
        routes: trunks::routes(settings, own),
        keep_alive: own.keep_alive.0,
        timer_c: own.timers.ringing.0,
        lookup_timeout: own.timers.lookup.0,
        limits: proxy::config::Limits {
            calls: own.max_calls as usize,
            call_life: own.timers.call_life.0,
            ..proxy::config::Limits::default()
        },
        scanners: scanners(&file.shield),
        expiries: expiries(&own.registrations),
        session_timer: own.session_timer.map(super::session_timer::lower),
        asserted_identity: own.asserted_identity,
        token_keys: keys.token_keys(),
        nonce_key: keys.nonce,
        ..proxy::Config::default()
    })
}

fn scanners(shield: &super::shield::Shield) -> Vec<String> {
    let named = shield.scanners.iter().filter(|word| shield.enabled && !word.is_empty());
    named.map(|word| word.to_ascii_lowercase()).collect()
}

fn proxy_network(name: &str, network: &schema::Network) -> proxy::config::Network {
    let cidrs = network.cidr.iter().map(|cidr| cidr.0).collect();
    proxy::config::Network { name: name.to_owned(), cidrs, hides: network.hide_topology }
}

/// Name, place in the list and definition of the network with this address; the first when none has it.
pub fn network_at<'a>(
    settings: &'a Settings,
    named: Option<&str>,
    ip: IpAddr,
) -> (usize, &'a str, &'a schema::Network) {
    let all = || {
        settings
            .file
            .networks
            .iter()
            .enumerate()
            .map(|(index, (name, network))| (index, name.as_str(), network))
    };
    all()
        .find(|(_, name, network)| named.map_or(network.bind == ip, |wanted| wanted == *name))
        .or_else(|| all().next())
        .expect("a checked configuration has at least one network")
}

fn proxy_listener(settings: &Settings, listener: &schema::Listener) -> proxy::config::Listener {
    let bind = listener.address.addr;
    let (network, _, there) = network_at(settings, listener.network.as_deref(), bind.ip());
    let seen_as = there.advertise.filter(|_| there.bind == bind.ip()).unwrap_or(bind.ip());
    proxy::config::Listener {
        network,
        transport: listener.address.transport,
        bind,
        advertise: SocketAddr::new(seen_as, bind.port()),
        authenticate: settings.file.auth.required && !settings.has_pbx(),
        anchor: listener.anchor.map(anchor),
        srtp: listener.srtp.map(srtp).or(browsers(listener.address.transport)),
        algorithms: algorithms(&listener.algorithms),
        standing: listener.standing,
    }
}

/// The realm of challenges: as configured, else the first domain, else where we are seen.
pub fn realm(settings: &Settings) -> String {
    let file = &settings.file;
    let named = file.auth.realm.clone().or_else(|| file.domains.first().cloned());
    let seen = || {
        file.listeners.first().map(|listener| proxy_listener(settings, listener).advertise.ip().to_string())
    };
    named.or_else(seen).unwrap_or_else(|| "postern".into())
}

/// The relays that are named, or the one in this file.
fn relays(settings: &Settings, own: &schema::Proxy) -> Vec<proxy::config::Relay> {
    let here = settings.file.relay.as_ref();
    let named: Vec<SipAddress> = match own.relays.is_empty() {
        true => here.iter().map(|relay| relay.address).collect(),
        false => own.relays.clone(),
    };
    let lower = |at: &SipAddress| proxy::config::Relay {
        name: at.to_string(),
        transport: at.transport,
        address: at.addr,
        weight: 1,
        media: here
            .filter(|relay| relay.address == *at)
            .map(|relay| media(settings, relay))
            .unwrap_or_default(),
    };
    named.iter().map(lower).collect()
}

/// Where media of the relay in this file comes from, as others see it.
fn media(settings: &Settings, relay: &schema::Relay) -> Vec<MediaRange> {
    let ports = relay.ports.first..=relay.ports.last;
    let seen = |(_, network): (&str, &schema::Network)| MediaRange {
        ip: network.advertise.unwrap_or(network.bind),
        ports: ports.clone(),
    };
    relay_networks(settings, relay).map(seen).collect()
}

/// The networks the relay lends ports in.
pub fn relay_networks<'a>(
    settings: &'a Settings,
    relay: &'a schema::Relay,
) -> impl Iterator<Item = (&'a str, &'a schema::Network)> {
    let lends = |name: &str| relay.networks.is_empty() || relay.networks.iter().any(|named| named == name);
    settings
        .file
        .networks
        .iter()
        .map(|(name, network)| (name.as_str(), network))
        .filter(move |(name, network)| lends(name) && !network.closing)
}

/// Sessions at once where ports don't limit them.
const SESSIONS_ON_ONE_PORT: u32 = 10_000;

/// The configuration of each lane of the relay: the ports are shared out among them.
pub fn relay(settings: &Settings, keys: &Keyring) -> Vec<relay::Config> {
    let Some(own) = &settings.file.relay else { return Vec::new() };
    let lanes = u32::from(own.threads.max(1));
    let one_port = own.mode == schema::RelayMode::OnePort;
    // Even, so that pairs stay together.
    let slice = if one_port { own.ports.count() / lanes } else { (own.ports.count() / lanes) & !1 };
    let network = |(name, network): (&str, &schema::Network)| relay::Network {
        name: name.to_owned(),
        bind: network.bind,
        advertise: network.advertise.unwrap_or(network.bind),
    };
    let as_many_as_fit = if one_port { SESSIONS_ON_ONE_PORT } else { own.ports.count() };
    let sessions = if own.max_sessions == 0 { as_many_as_fit } else { own.max_sessions };
    let lane = |index: u32| {
        let first = own.ports.first + (index * slice) as u16;
        relay::Config {
            networks: relay_networks(settings, own).map(network).collect(),
            ports: first..=first + (slice - 1) as u16,
            all_ports: own.ports.first..=own.ports.last,
            one_port,
            sessions: sessions.div_ceil(lanes) as usize,
            media_timeout: own.media_timeout.0,
            open_at_start: own.open_at_start as usize,
            offload: own.kernel_path,
            dtls: keys.dtls.clone(),
            ng: own.ng.as_ref().map(ng),
            key: Some(keys.node.clone()),
            ..relay::Config::default()
        }
    };
    (0..lanes).map(lane).collect()
}

fn ng(own: &schema::Ng) -> relay::ng::Config {
    relay::ng::Config {
        listen: own.listen.iter().map(|address| (address.transport, address.addr)).collect(),
        allow: own.allow.iter().map(|range| range.0).collect(),
        latch: latch(own.latch),
        media: own
            .media
            .as_ref()
            .map(|folder| Arc::new(MediaFolder::at(folder)) as Arc<dyn relay::ng::Files>),
    }
}

/// Where recordings go, where a relay runs.
pub fn recordings(settings: &Settings) -> Option<crate::capture::Limits> {
    let own = &settings.file.relay.as_ref()?.record;
    let beside = settings.file.store.as_ref().and_then(|store| Some(store.parent()?.join("recordings")));
    let folder =
        own.folder.clone().or(beside).unwrap_or_else(|| std::env::temp_dir().join("postern-recordings"));
    let (file_size, files) = (u64::from(own.megabytes) << 20, own.files as usize);
    Some(crate::capture::Limits { folder, file_size, files })
}

/// Which calls are recorded without being asked for.
pub fn record_rules(settings: &Settings) -> Vec<crate::capture::rules::Rule> {
    let own = settings.file.relay.iter().flat_map(|relay| &relay.record.rules);
    let rule = |own: &schema::RecordRule| crate::capture::rules::Rule {
        user: own.user.clone(),
        domain: own.domain.clone(),
        source: own.source.iter().map(|range| range.0).collect(),
        calls: own.calls,
        share: own.percent.unwrap_or(100),
    };
    own.map(rule).collect()
}

/// The redirect server's configuration.
pub fn redirect(keys: &Keyring) -> redirect::Config {
    redirect::Config { key: Some(keys.node.clone()), ..redirect::Config::default() }
}

fn redirects(settings: &Settings, own: &schema::Proxy) -> Vec<proxy::config::Redirect> {
    let here = settings.file.redirect.as_ref().map(|redirect| redirect.address);
    let lower = |at: SipAddress| proxy::config::Redirect {
        name: at.to_string(),
        transport: at.transport,
        address: at.addr,
    };
    own.redirect.or(here).map(lower).into_iter().collect()
}

/// The proxies that are named as such. Not ourselves: where everything runs on one host, phones and next hops share our
/// address, and are none.
fn siblings(own: &schema::Proxy, keys: &Keyring) -> proxy::config::Siblings {
    let cidrs = own.siblings.iter().map(|ip| proto::cidr::Cidr::new(*ip, 128)).collect();
    proxy::config::Siblings { cidrs, key: Some(keys.node.clone()) }
}

fn expiries(registrations: &schema::Registrations) -> proxy::config::Expiries {
    let seconds =
        |span: super::values::Span| u32::try_from(span.0.max(Duration::ZERO).as_secs()).unwrap_or(u32::MAX);
    proxy::config::Expiries {
        min: seconds(registrations.min),
        default: seconds(registrations.default),
        max: seconds(registrations.max),
    }
}

/// As the services have it.
pub(super) fn anchor(anchor: schema::Anchor) -> Anchor {
    match anchor {
        schema::Anchor::Never => Anchor::Never,
        schema::Anchor::Auto => Anchor::Auto,
        schema::Anchor::Always => Anchor::Always,
    }
}

/// As the services have it.
pub(super) fn latch(latch: schema::Latch) -> Latch {
    match latch {
        schema::Latch::Strict => Latch::Strict,
        schema::Latch::Prefix => Latch::Prefix,
        schema::Latch::Any => Latch::Any,
    }
}

/// Who comes by WebSocket is a browser, which speaks nothing else.
fn browsers(transport: Transport) -> Option<Srtp> {
    matches!(transport, Transport::Ws | Transport::Wss).then_some(Srtp::Dtls)
}

/// As the services have it.
pub(super) fn srtp(srtp: schema::Srtp) -> Srtp {
    match srtp {
        schema::Srtp::Pass => Srtp::Pass,
        schema::Srtp::Plain => Srtp::Plain,
        schema::Srtp::Sdes => Srtp::Sdes,
        schema::Srtp::Dtls => Srtp::Dtls,
    }
}

fn algorithms(listed: &[schema::Algorithm]) -> Vec<Algorithm> {
    listed.iter().copied().map(algorithm).collect()
}

fn algorithm(algorithm: schema::Algorithm) -> Algorithm {
    match algorithm {
        schema::Algorithm::Sha256 => Algorithm::Sha256,
        schema::Algorithm::Md5 => Algorithm::Md5,
    }
}

fn mode(mode: schema::RelayMode) -> Mode {
    match mode {
        // Who shares what is the relay's own affair then.
        schema::RelayMode::Split | schema::RelayMode::OnePort => Mode::Split,
        schema::RelayMode::Shared => Mode::Shared,
    }
}

/// As the services have it.
pub(super) fn transport(transport: schema::Transport) -> Transport {
    match transport {
        schema::Transport::Udp => Transport::Udp,
        schema::Transport::Tcp => Transport::Tcp,
        schema::Transport::Tls => Transport::Tls,
    }
}
