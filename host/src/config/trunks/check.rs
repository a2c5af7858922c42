//! What can't work in trunks and routes.

use super::headers::header_rule;
use super::lower::next_hop;
use super::{MidRegistrar, Route, Trunk, http};
use crate::config::Settings;
use crate::config::check::{Checked, Context};
use crate::config::errors::nearest;
use crate::config::schema::{ClientCertificates, Listener};
use crate::config::values::{Cidr, SipAddress};
use proto::node::Transport;

/// Checks all of them.
pub fn check(settings: &Settings, context: &Context<'_>) -> Checked {
    for (name, own) in &settings.file.trunks {
        trunk(name, own, context)?;
        certificate_names(name, own, settings, context)?;
    }
    if let Some(mid) = settings.file.proxy.as_ref().and_then(|proxy| proxy.mid_registrar.as_ref()) {
        mid_registrar(mid, settings, context)?;
    }
    let routes = settings.file.proxy.iter().flat_map(|proxy| &proxy.routes);
    for (index, own) in routes.enumerate() {
        route(&format!("proxy.routes.{index}"), own, settings, context)?;
    }
    Ok(())
}

fn trunk(name: &str, trunk: &Trunk, context: &Context<'_>) -> Checked {
    let at = format!("trunks.{name}");
    if ["users", "trunks"].contains(&name) || name.contains(':') || name.parse::<Cidr>().is_ok() {
        let what = format!("a trunk may not be named `{name}`: routes have another meaning for it");
        return Err(context.error(&at, what, "choose another name"));
    }
    if trunk.servers.0.is_empty() {
        let what = format!("trunk `{name}` has no servers");
        return Err(context.error(&at, what, "name one: servers: [udp:192.0.2.1:5060]"));
    }
    for (index, server) in trunk.servers.0.iter().enumerate() {
        if !next_hop(&server.to, None).is_some_and(|hop| is_host(&hop.host)) {
            let what = format!("`{}` is no server", server.to);
            let remedy = "expected an address or a host name: `udp:192.0.2.1:5060`, `tcp:sip.example.org`";
            return Err(context.error(&format!("{at}.servers.{index}"), what, remedy));
        }
    }
    for (index, rule) in trunk.headers.iter().enumerate() {
        let at = format!("{at}.headers.{index}");
        header_rule(rule)
            .map_err(|wrong| context.error(&format!("{at}.{}", wrong.key), wrong.what, wrong.remedy))?;
    }
    if let Some(register) = &trunk.register {
        let at = format!("{at}.register");
        if trunk.credentials.is_none() && register.user.is_none() {
            let what = format!("trunk `{name}` registers, but nobody says as whom");
            return Err(context.error(&at, what, "add `credentials: { user: NAME, password: SECRET }`"));
        }
        if !(60..=86_400).contains(&register.expires.0.as_secs()) {
            let what = format!("`expires: {}` of trunk `{name}`", register.expires);
            return Err(context.error(&format!("{at}.expires"), what, "expected 60s to 24h, such as 1h"));
        }
    }
    let millis = trunk.try_timeout.0.as_millis();
    if !(500..=32_000).contains(&millis) {
        let what = format!("`try-timeout: {}` of trunk `{name}`", trunk.try_timeout);
        return Err(context.error(&format!("{at}.try-timeout"), what, "expected 500ms to 32s, such as 4s"));
    }
    Ok(())
}

/// A trunk that is known by its certificate needs a listener that asks for one.
fn certificate_names(name: &str, trunk: &Trunk, settings: &Settings, context: &Context<'_>) -> Checked {
    let file = &settings.file;
    let asks = |listener: &Listener| {
        let wanted = listener.tls.client_certificates.unwrap_or(file.tls.client_certificates);
        listener.address.transport == Transport::Tls && wanted != ClientCertificates::None
    };
    if trunk.certificate_names.is_empty() || file.listeners.iter().any(asks) {
        return Ok(());
    }
    let what = format!("trunk `{name}` is known by its certificate, but no TLS listener asks for one");
    let remedy = "add `tls: { client-certificates: optional, client-authorities: FILE }`";
    Err(context.error(&format!("trunks.{name}.certificate-names"), what, remedy))
}

fn mid_registrar(mid: &MidRegistrar, settings: &Settings, context: &Context<'_>) -> Checked {
    let at = "proxy.mid-registrar";
    known_trunk(at, &mid.trunk, settings, context)?;
    if !settings.file.trunks[&mid.trunk].trusted {
        let what = format!("trunk `{}` keeps the accounts, but is not trusted", mid.trunk);
        return Err(context.error(at, what, "take `trusted: false` away from it"));
    }
    let (long, short) = (mid.expires.0.as_secs(), mid.behind_nat.0.as_secs());
    if !(30..=long / 2).contains(&short) || long > 86_400 {
        let what =
            format!("`expires: {}` and `behind-nat: {}` don't go together", mid.expires, mid.behind_nat);
        return Err(context.error(at, what, "expected 30s to half of `expires`, and that up to 24h"));
    }
    Ok(())
}

fn is_host(host: &str) -> bool {
    let names = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    proto::node::literal(host).is_some() || (!host.is_empty() && host.bytes().all(names))
}

fn route(at: &str, route: &Route, settings: &Settings, context: &Context<'_>) -> Checked {
    let star = route.to.find('*');
    let ways = [
        route.via.is_some(),
        route.http.is_some() || !route.trunks.0.is_empty() || route.enum_suffix.is_some(),
        route.user.is_some(),
        route.refuse.is_some(),
    ];
    let count = ways.iter().filter(|way| **way).count();
    let via_is_empty = route.via.as_ref().is_some_and(|via| via.is_empty());
    if via_is_empty
        || count == 0
        || star.is_some_and(|at| at + 1 != route.to.len() && !route.to[at..].starts_with("*@"))
    {
        let what = format!("a route from `{}` to `{}` says too little", route.to, route.goal());
        let remedy = "`to` is `*`, a number, a domain, user@domain or a prefix such as `+49*`; say where it leads with \
                      one of `trunks`, `enum`, `http`, `user`, `via` and `refuse`";
        return Err(context.error(at, what, remedy));
    }
    if count > 1 || (route.http.is_some() && route.enum_suffix.is_some()) {
        let what = format!("the route for `{}` leads to several ends", route.to);
        return Err(context.error(
            at,
            what,
            "keep one of `trunks`, `enum`, `http`, `user`, `via` and `refuse`",
        ));
    }
    if route.refuse.is_some_and(|status| !(400..=699).contains(&status)) {
        return Err(context.error(
            &format!("{at}.refuse"),
            "not a status that refuses",
            "expected 400 to 699",
        ));
    }
    if let Some(own) = &route.http {
        http::check(&format!("{at}.http"), own, context)?;
    }
    for name in &route.trunks.0 {
        known_trunk(&format!("{at}.trunks"), name, settings, context)?;
    }
    route.from.0.iter().try_for_each(|from| origin(&format!("{at}.from"), from, settings, context))
}

fn origin(at: &str, from: &str, settings: &Settings, context: &Context<'_>) -> Checked {
    if ["users", "trunks"].contains(&from) || from.parse::<Cidr>().is_ok() {
        return Ok(());
    }
    match from.parse::<SipAddress>() {
        Ok(address) if settings.file.listeners.iter().any(|listener| listener.address == address) => Ok(()),
        Ok(address) => {
            let what = format!("{address} is no listener of this file");
            Err(context.error(at, what, "name one of `listeners`, with its transport and port"))
        }
        Err(_) => known_trunk(at, from, settings, context),
    }
}

fn known_trunk(at: &str, name: &str, settings: &Settings, context: &Context<'_>) -> Checked {
    let known: Vec<&str> = settings.file.trunks.keys().map(String::as_str).collect();
    if known.contains(&name) {
        return Ok(());
    }
    let what = format!("trunk `{name}` is not defined; expected one of: {}", known.join(", "));
    let remedy = match nearest(name, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("define it: trunks: {{ {name}: {{ servers: [ADDRESS] }} }}"),
    };
    Err(context.error(at, what, remedy))
}
