//! What would become of a call: the very search that a request goes through, told step by step, and nothing sent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use proto::event::Name;
use proto::node::{Question, Transport};
use proto::sip::{Scheme, Uri};
use proto::tables::Tables;

use crate::config::{Config, Goes, Route};
use crate::forwarding::contexts::Target;
use crate::moment::Moment;
use crate::proxy::Proxy;
use crate::registrar::aor::canonical;
use crate::routing::routes::Sender;
use crate::routing::target::{Hops, by_preference};
use crate::routing::targets::{self, Search, Ways};
use crate::trunks::Trunk;

/// What would become of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What was looked at, in order, the last of it being what decided.
    pub steps: Vec<String>,
    /// Where it would go, in the order of trying; empty: it would be refused.
    pub ways: Vec<PlannedWay>,
    /// The refusal: status and words.
    pub refused: Option<(u16, String)>,
}

/// One place a call may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedWay {
    /// The trunk, if it is one's server.
    pub trunk: Option<Name>,
    /// Where: a server, or the path to a device.
    pub to: String,
    /// What the request line would say.
    pub uri: String,
    /// Whether the server is known to be down.
    pub down: bool,
}

impl Proxy {
    /// What would become of an INVITE for `uri` from somebody: `user`, a trunk's name, an address, or a listener such as
    /// `udp:192.0.2.1:5060`. The words of an error are for the operator.
    pub fn plan(&mut self, at: Instant, uri: &str, from: &str, tables: &dyn Tables) -> Result<Plan, String> {
        let now = Moment::new(&self.birth, at);
        let text = spelled_out(uri, &self.config);
        let uri = Uri::parse(&text).map_err(|wrong| format!("`{text}` is no URI: {}", wrong.why))?;
        let sender = sender(from, &self.config)?;
        let steps = steps(now, &uri, sender, &self.config, tables);
        let mut ways = Ways { sender, config: &self.config, trunks: &mut self.trunks, from: "" };
        let found = targets::of_uri_named(now, &uri, false, &mut ways, tables);
        let found = found.map(|found| with_what_follows(found, &mut ways, now, &uri, tables));
        Ok(match found {
            Ok(targets) => {
                let all = targets.iter().flat_map(|target| std::iter::once(target).chain(&target.others));
                let ways = all.map(|target| self.planned(&uri, target)).collect();
                Plan { steps, ways, refused: None }
            }
            Err(refusal) => {
                Plan { steps, ways: Vec::new(), refused: Some((refusal.status, refusal.why.to_owned())) }
            }
        })
    }

    fn planned(&self, uri: &Uri<'_>, target: &Target) -> PlannedWay {
        let trunk = target.chosen.as_ref();
        let to = match (trunk, &target.hops) {
            (Some(chosen), _) => chosen.server().name.to_string(),
            (None, _) if target.lookup => "whoever the redirect servers name".to_owned(),
            (None, Hops::Ready(flows)) => {
                flows.first().map_or("nowhere".to_owned(), |f| format!("{}:{}", f.transport, f.remote))
            }
            (None, Hops::Ask(Question::Enum { domain, .. })) => format!("whatever ENUM says of {domain}"),
            (None, Hops::Ask(Question::Http { url, .. })) => format!("whatever {url} says"),
            (None, Hops::Ask(_)) => format!("whatever DNS says of {}", uri.host),
        };
        PlannedWay {
            trunk: trunk.map(|chosen| chosen.trunk.name.clone()),
            to,
            uri: target.uri.clone().unwrap_or_else(|| uri.raw.to_owned()),
            down: trunk.is_some_and(|c| self.trunks.health.is_down(&c.trunk.name, &c.server().name)),
        }
    }
}

/// Whether the next routes are asked when this one's server says nothing.
fn asks_on(route: &Route) -> bool {
    matches!(&route.goes, Goes::Http(_, trunks) if trunks.is_empty())
}

/// Where a call goes whose route asks by HTTP, and behind it where it goes when that says nothing.
fn with_what_follows(
    mut found: Vec<Target>,
    ways: &mut Ways<'_>,
    now: Moment,
    uri: &Uri<'_>,
    tables: &dyn Tables,
) -> Vec<Target> {
    while let Some(route) = found.last().and_then(|last| last.asked) {
        let search = Search { now, uri, from_sibling: false, tables };
        let own = ways.config.routes.get(route);
        let follow = match own.map(|own| (own, &own.goes)) {
            Some((own, Goes::Http(_, trunks))) if !trunks.is_empty() => ways.by_trunks(uri, own, trunks),
            _ => ways.after(&search, route + 1),
        };
        let Ok(follow) = follow else { break };
        found.extend(follow);
    }
    found
}

/// A number or a user alone is at our first domain.
fn spelled_out(uri: &str, config: &Config) -> String {
    let home = config.domains.first().unwrap_or(&config.realm);
    match uri {
        _ if ["sip:", "sips:", "tel:"].iter().any(|scheme| uri.starts_with(scheme)) => uri.to_owned(),
        _ if uri.contains('@') => format!("sip:{uri}"),
        _ => format!("sip:{uri}@{home}"),
    }
}

fn sender<'c>(from: &str, config: &'c Config) -> Result<Sender<'c>, String> {
    let of_trunk = |trunk: &'c Trunk| Sender { trunk: Some(trunk), listener: 0, ip: NOBODY };
    if from.is_empty() || from == "user" || from == "users" {
        return Ok(Sender { trunk: None, listener: 0, ip: NOBODY });
    }
    if let Some(trunk) = config.trunks.iter().find(|trunk| *trunk.name == *from) {
        return Ok(of_trunk(trunk));
    }
    if let Ok(ip) = from.parse::<IpAddr>() {
        let trunk = config.trunk_from(ip).map(|trunk| &**trunk);
        return Ok(Sender { trunk, listener: 0, ip });
    }
    let listener = from.split_once(':').and_then(|(transport, at)| {
        config.listener_at(Transport::from_name(transport)?, at.parse::<SocketAddr>().ok()?)
    });
    match listener {
        Some(listener) => Ok(Sender { trunk: None, listener, ip: NOBODY }),
        None => {
            let known: Vec<&str> = config.trunks.iter().map(|trunk| &*trunk.name).collect();
            let known = known.join(", ");
            Err(format!("`{from}` is nobody: expected `user`, an address, a listener, or a trunk ({known})"))
        }
    }
}

/// Stands for an address that no network names.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn steps(
    now: Moment,
    uri: &Uri<'_>,
    sender: Sender<'_>,
    config: &Config,
    tables: &dyn Tables,
) -> Vec<String> {
    let who = sender.trunk.map_or("no trunk".to_owned(), |trunk| format!("trunk {}", trunk.name));
    let mut steps = vec![format!("the caller is {who}")];
    let ours = uri.scheme != Scheme::Tel && config.is_ours(uri.host, uri.port);
    if ours {
        let aor = canonical(uri, config).unwrap_or_default();
        let bindings = tables.bindings(&aor);
        let devices = by_preference(&bindings, now.wall).len();
        if devices > 0 {
            steps.push(format!("{aor} is registered here with {devices} device(s): that decides"));
            return steps;
        }
        steps
            .push(format!("{aor} is not registered here: the routes are asked, the first that fits decides"));
    } else {
        steps.push(format!("`{}` is at no domain of ours: the routes are asked", uri.raw));
    }
    for (index, route) in config.routes.iter().enumerate() {
        let (number, name) = (index + 1, &route.name);
        match route.fits(uri, sender) {
            Err(unfit) => steps.push(format!("route {number} ({name}) {unfit}")),
            Ok(()) if asks_on(route) => steps.push(format!(
                "route {number} ({name}) asks by HTTP: what is said there decides; if nothing is, the routes below do"
            )),
            Ok(()) => {
                steps.push(format!("route {number} ({name}) decides"));
                return steps;
            }
        }
    }
    steps.push(match (ours, config.redirects.is_empty()) {
        (_, false) => "no route fits: the redirect servers are asked".to_owned(),
        (true, true) => "no route fits, and nobody else knows our domains".to_owned(),
        (false, true) => "no route fits: DNS decides".to_owned(),
    });
    steps
}

#[cfg(test)]
mod tests {
    use crate::config::{Origin, Pattern, Server, Trunk};
    use crate::tests::bench::{Bench, everything_by, next, open};

    fn bench() -> Bench {
        let mut config = open();
        let servers = vec![Server::new(next("198.51.100.1", 5060)), Server::new(next("198.51.100.2", 5060))];
        let servers = servers.into_iter().zip(0..).map(|(server, priority)| Server { priority, ..server });
        everything_by(&mut config, Trunk { servers: servers.collect(), ..Trunk::named("carrier") });
        let first = config.routes[0].clone();
        let only_trunks = crate::config::Route { from: vec![Origin::Trunks], ..first.clone() };
        let one = crate::config::Route { user: Pattern::Prefix("+1".into()), ..first.clone() };
        config.routes = vec![one, only_trunks, first];
        Bench::new(config)
    }

    #[test]
    fn it_tells_which_route_decides_and_why_the_others_do_not() {
        let mut bench = bench();
        let plan = bench.proxy.plan(bench.now(), "+4930", "user", &bench.tables).unwrap();
        let ends: Vec<&str> =
            plan.steps.iter().map(|s| s.rsplit_once(") ").map_or("", |(_, end)| end)).collect();
        assert_eq!(ends[2..], ["is for another number or user", "is for other senders", "decides"]);
        let ways: Vec<_> = plan.ways.iter().map(|way| (way.to.as_str(), way.uri.as_str())).collect();
        let uri = "sip:+4930@example.com";
        assert_eq!(ways, [("198.51.100.1:5060", uri), ("198.51.100.2:5060", uri)]);
    }

    #[test]
    fn it_tells_a_refusal_as_a_call_would_hear_it() {
        let mut bench = bench();
        let plan = bench.proxy.plan(bench.now(), "+4930", "carrier", &bench.tables).unwrap();
        assert_eq!(plan.refused.map(|(status, _)| status), Some(404));
        assert!(bench.proxy.plan(bench.now(), "+4930", "nobody", &bench.tables).is_err());
    }
}
