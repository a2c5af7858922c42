//! From the file to the proxy's trunks and routes.

use std::sync::Arc;

use proto::cidr::Cidr;
use proto::node::{Transport, literal};
use proxy::config::{Caps, Goes, NextHop, Origin, Pattern, Server};
use proxy::trunks::login::Credentials;
use proxy::trunks::trunk::Registering;

use super::headers::header_rule;
use super::{Register, Route, Trunk};
use crate::config::lower::{anchor, latch, realm, srtp, transport};
use crate::config::values::SipAddress;
use crate::config::{Settings, schema, values};

/// The trunks that are named, in their order, and behind them one for each route with `via`.
pub fn trunks(settings: &Settings, own: &schema::Proxy) -> Vec<Arc<proxy::config::Trunk>> {
    let named = settings.file.trunks.iter().map(|(name, own)| trunk(name, own));
    let unnamed = own.routes.iter().filter(|route| route.via.is_some()).map(via);
    named.chain(unnamed).map(Arc::new).collect()
}

/// The PBX that keeps the accounts.
pub fn mid_registrar(settings: &Settings, own: &schema::Proxy) -> Option<proxy::config::MidRegistrar> {
    let mid = own.mid_registrar.as_ref()?;
    let seconds = |span: values::Span| u32::try_from(span.0.as_secs()).unwrap_or(u32::MAX);
    Some(proxy::config::MidRegistrar {
        trunk: settings.file.trunks.keys().position(|name| *name == mid.trunk)?,
        towards_pbx: seconds(mid.expires),
        towards_nat: seconds(mid.behind_nat),
    })
}

/// Where requests of all trusted trunks come from.
pub fn trusted_sources(settings: &Settings) -> Vec<Cidr> {
    let all = settings.file.proxy.iter().flat_map(|own| trunks(settings, own));
    all.filter(|trunk| trunk.trusted && trunk.certificates.is_empty())
        .flat_map(|trunk| trunk.sources.clone())
        .collect()
}

/// The routes in their order.
pub fn routes(settings: &Settings, own: &schema::Proxy) -> Vec<proxy::config::Route> {
    let mut unnamed = settings.file.trunks.len();
    let mut goes = |route: &Route| {
        if route.via.is_some() {
            unnamed += 1;
            return Goes::Trunks(vec![unnamed - 1]);
        }
        goal(settings, route)
    };
    own.routes.iter().map(|own| route(settings, own, goes(own))).collect()
}

fn route(settings: &Settings, route: &Route, goes: Goes) -> proxy::config::Route {
    let (user, domain) = patterns(&route.to);
    proxy::config::Route {
        name: format!("{} → {}", route.to, route.goal()),
        user,
        domain,
        from: route.from.0.iter().map(|from| origin(settings, from)).collect(),
        strip: route.strip,
        prefix: route.prefix.clone(),
        goes,
    }
}

fn goal(settings: &Settings, route: &Route) -> Goes {
    let place = |name: &String| settings.file.trunks.keys().position(|known| known == name);
    let trunks = || route.trunks.0.iter().filter_map(place).collect();
    if let Some(suffix) = &route.enum_suffix {
        return Goes::Enum(suffix.trim_matches('.').to_owned(), trunks());
    }
    if let Some(http) = &route.http {
        return Goes::Http(Arc::new(http.lookup()), trunks());
    }
    match (&route.user, route.refuse) {
        (Some(user), _) => Goes::User(user_uri(settings, user)),
        (None, Some(status)) => Goes::Refuse(status),
        (None, None) => Goes::Trunks(trunks()),
    }
}

/// `alice` is a user at our first domain.
fn user_uri(settings: &Settings, user: &str) -> String {
    match () {
        () if user.starts_with("sip:") || user.starts_with("sips:") => user.to_owned(),
        () if user.contains('@') => format!("sip:{user}"),
        () => format!("sip:{user}@{}", realm_or_domain(settings)),
    }
}

fn realm_or_domain(settings: &Settings) -> String {
    settings.file.domains.first().cloned().unwrap_or_else(|| realm(settings))
}

fn origin(settings: &Settings, from: &str) -> Origin {
    if let Ok(cidr) = from.parse::<values::Cidr>() {
        return Origin::Network(cidr.0);
    }
    let listener = from.parse::<SipAddress>().ok();
    let place = |at| settings.file.listeners.iter().position(|listener| listener.address == at);
    match (from, listener.and_then(place)) {
        ("users", _) => Origin::Users,
        ("trunks", _) => Origin::Trunks,
        (_, Some(place)) => Origin::Listener(place),
        (name, None) => Origin::Trunk(name.into()),
    }
}

fn trunk(name: &str, trunk: &Trunk) -> proxy::config::Trunk {
    let fixed = trunk.transport.map(transport);
    let server = |server: &super::Server| Server {
        priority: server.priority,
        weight: server.weight,
        ..Server::new(next_hop(&server.to, fixed).unwrap_or(NextHop {
            host: server.to.clone(),
            port: None,
            transport: fixed,
        }))
    };
    let servers: Vec<Server> = trunk.servers.0.iter().map(server).collect();
    let limit = |most: u32| (most > 0).then_some(most);
    proxy::config::Trunk {
        trusted: trunk.trusted,
        sources: sources(&trunk.sources, &servers),
        certificates: trunk.certificate_names.iter().map(|name| name.to_ascii_lowercase()).collect(),
        anchor: trunk.anchor.map(anchor),
        latch: trunk.latch.map(latch),
        srtp: trunk.srtp.map(srtp),
        probe: trunk.probe.0,
        try_timeout: trunk.try_timeout.0,
        caps: Caps { calls: limit(trunk.max_calls), per_second: limit(trunk.calls_per_second) },
        domain: trunk.domain.clone(),
        credentials: trunk.credentials.as_ref().map(credentials),
        register: trunk.register.as_ref().and_then(|own| registering(trunk, own, &servers)),
        rules: trunk.headers.iter().filter_map(|own| header_rule(own).ok()).collect(),
        servers,
        ..proxy::config::Trunk::named(name)
    }
}

fn credentials(own: &super::Credentials) -> Credentials {
    Credentials { user: own.user.clone(), password: own.password.clone(), realm: own.realm.clone() }
}

/// `None`: nobody to register, or nowhere; the check has refused that.
fn registering(trunk: &Trunk, own: &Register, servers: &[Server]) -> Option<Registering> {
    let user = own.user.clone().or_else(|| Some(trunk.credentials.as_ref()?.user.clone()))?;
    let fixed = trunk.transport.map(transport);
    let registrar = match &own.registrar {
        Some(registrar) => next_hop(registrar, fixed)?,
        None => servers.first()?.next.clone(),
    };
    let domain = own.domain.clone().or(trunk.domain.clone()).unwrap_or_else(|| registrar.host.clone());
    let expires = u32::try_from(own.expires.0.as_secs()).unwrap_or(u32::MAX);
    let contact = own.contact.clone().unwrap_or_else(|| user.clone());
    Some(Registering { user, domain, registrar, expires, contact })
}

/// A route's own next hop, as a trunk that nobody else goes by.
fn via(route: &Route) -> proxy::config::Trunk {
    let via = route.via.as_deref().unwrap_or_default();
    let fixed = route.transport.map(transport);
    let next = next_hop(via, fixed).unwrap_or(NextHop { host: via.to_owned(), port: None, transport: fixed });
    let servers = vec![Server::new(next)];
    proxy::config::Trunk {
        trusted: route.trusted,
        sources: sources(&route.sources, &servers),
        anchor: route.anchor.map(anchor),
        latch: route.latch.map(latch),
        srtp: route.srtp.map(srtp),
        servers,
        ..proxy::config::Trunk::named(&format!("{} → {via}", route.to))
    }
}

/// As written, else the servers that are addresses.
fn sources(written: &[values::Cidr], servers: &[Server]) -> Vec<Cidr> {
    let at = |server: &Server| literal(&server.next.host).map(|ip| Cidr::new(ip, 128));
    match written.is_empty() {
        true => servers.iter().filter_map(at).collect(),
        false => written.iter().map(|cidr| cidr.0).collect(),
    }
}

/// `*`, `user@domain`, `+49*`, a number, or a domain.
fn patterns(to: &str) -> (Pattern, Pattern) {
    let pattern = |word: &str| match word.strip_suffix('*') {
        Some("") => Pattern::Any,
        Some(start) => Pattern::Prefix(start.to_owned()),
        None => Pattern::Exact(word.to_owned()),
    };
    let is_number = !to.is_empty() && to.trim_start_matches('+').bytes().all(|b| b.is_ascii_digit());
    match to.split_once('@') {
        Some((user, domain)) => (pattern(user), pattern(domain)),
        None if to.ends_with('*') || is_number => (pattern(to), Pattern::Any),
        None => (Pattern::Any, pattern(to)),
    }
}

/// `192.0.2.1:5060`, `[2001:db8::1]`, `sip.example.org`, `tcp:sip.example.org:5080`; `None`: no port is that large.
pub fn next_hop(text: &str, fixed: Option<Transport>) -> Option<NextHop> {
    let (named, rest) = match text.split_once(':') {
        Some((name, rest)) if Transport::from_name(name).is_some() => (Transport::from_name(name), rest),
        _ => (None, text),
    };
    if let Ok(address) = text.parse::<SipAddress>() {
        let transport = named.or(fixed).unwrap_or(address.transport);
        let port = match rest.parse::<std::net::SocketAddr>() {
            Ok(whole) => whole.port(),
            Err(_) => transport.default_port(),
        };
        return Some(NextHop {
            host: address.addr.ip().to_string(),
            port: Some(port),
            transport: Some(transport),
        });
    }
    let transport = named.or(fixed);
    match rest.rsplit_once(':') {
        Some((host, port)) => {
            Some(NextHop { host: host.to_owned(), port: Some(port.parse().ok()?), transport })
        }
        None => Some(NextHop { host: rest.to_owned(), port: None, transport }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(text: &str, fixed: Option<Transport>) -> String {
        next_hop(text, fixed).map_or("none".into(), |hop| hop.to_string())
    }

    #[test]
    fn a_next_hop_is_an_address_or_a_name_with_or_without_transport_and_port() {
        assert_eq!(hop("192.0.2.1", None), "udp:192.0.2.1:5060");
        assert_eq!(hop("tls:[2001:db8::1]", None), "tls:[2001:db8::1]:5061");
        assert_eq!(hop("192.0.2.1", Some(Transport::Tls)), "tls:192.0.2.1:5061");
        assert_eq!(hop("udp:sip.example.org", None), "udp:sip.example.org");
        assert_eq!(hop("sip.example.org:5080", Some(Transport::Tcp)), "tcp:sip.example.org:5080");
        assert_eq!(hop("sip.example.org:99999", None), "none");
    }

    #[test]
    fn a_number_is_no_domain() {
        assert_eq!(patterns("+4930123"), (Pattern::Exact("+4930123".into()), Pattern::Any));
        assert_eq!(patterns("b.example"), (Pattern::Any, Pattern::Exact("b.example".into())));
        assert_eq!(patterns("*@b.example"), (Pattern::Any, Pattern::Exact("b.example".into())));
    }
}
