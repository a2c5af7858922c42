//! Where a request outside of dialogs may go (RFC 3261 §16.5): the Route it brings, our own bindings, static routes,
//! whoever the redirect servers name, and for foreign domains what DNS says.

use proto::event::Name;
use proto::node::{Flow, literal};
use proto::sip::{Message, Scheme, Uri};
use proto::tables::{Binding, Tables, User};

use crate::config::{Config, Goes, Route, Trunk};
use crate::dialogs::contact;
use crate::dialogs::tokens::binding_mark;
use crate::forwarding::contexts::{Device, Target};
use crate::gate::validate::Refusal;
use crate::moment::Moment;
use crate::registrar::aor::canonical;
use crate::registrar::gruu;
use crate::registrar::mid_registrar;
use crate::routing::lookups;
use crate::routing::numbers;
use crate::routing::paths::{self, WaysBack};
use crate::routing::preprocessing::{Edge, Routed};
use crate::routing::routes::Sender;
use crate::routing::target::{Hops, by_preference, of_next_hop, of_uri};
use crate::trunks::{Chosen, Trunks};

/// The targets of a request, in order of preference. Never empty when it is `Ok`.
pub(crate) fn find(
    now: Moment,
    request: &Message,
    routed: &Routed,
    from_sibling: bool,
    ways: &mut Ways<'_>,
    tables: &dyn Tables,
) -> Result<Vec<Target>, Refusal> {
    // Nobody's credentials are checked where a PBX keeps the accounts, so nobody chooses the way either.
    if ways.sender.trunk.is_none()
        && let Some(found) = ways.by_pbx(now, &routed.uri_read(request)?, tables)
    {
        return found;
    }
    if let Some(next) = routed.next(request) {
        return Ok(vec![Target::by(of_uri(&next.uri()?, ways.config))]);
    }
    match routed.edge {
        Edge::Flow(flow) => {
            return Ok(vec![Target { at_edge: true, ..Target::by(Hops::Ready(vec![flow])) }]);
        }
        Edge::Unknown => return Err(NO_SUCH_FLOW),
        Edge::None => {}
    }
    let uri = routed.uri_read(request)?;
    if let Some(named) = contact::target_of(now, &uri, ways.config, tables) {
        return Ok(vec![named]);
    }
    of_uri_named(now, &uri, from_sibling, ways, tables)
}

/// The targets of a request URI that no Route precedes.
pub(crate) fn of_uri_named(
    now: Moment,
    uri: &Uri<'_>,
    from_sibling: bool,
    ways: &mut Ways<'_>,
    tables: &dyn Tables,
) -> Result<Vec<Target>, Refusal> {
    let config = ways.config;
    if let Some(found) = ways.by_pbx(now, uri, tables) {
        return found;
    }
    let search = Search { now, uri, from_sibling, tables };
    match uri.scheme {
        Scheme::Tel => ways.after(&search, 0),
        _ if config.is_ours(uri.host, uri.port) => ours(&search, ways),
        _ if contact::is_siblings(uri, config) => Ok(vec![Target::by(of_uri(uri, config))]),
        _ => ways.after(&search, 0),
    }
}

/// Somebody elsewhere: at another of our proxies, if the redirect servers know the name; else where DNS says.
fn foreign(uri: &Uri<'_>, from_sibling: bool, config: &Config) -> Target {
    let by_name = literal(uri.host).is_none();
    Target { lookup: by_name && may_ask(uri, from_sibling, config), ..Target::by(of_uri(uri, config)) }
}

/// Whether the redirect servers are worth asking. A sibling sends us only what we serve: asking again would go round
/// in circles.
fn may_ask(uri: &Uri<'_>, from_sibling: bool, config: &Config) -> bool {
    !config.redirects.is_empty() && !from_sibling && !uri.user.is_empty()
}

/// Somebody at one of our domains.
fn ours(search: &Search<'_>, ways: &mut Ways<'_>) -> Result<Vec<Target>, Refusal> {
    let Search { now, uri, tables, .. } = *search;
    if let Some(meant) = gruu::meant(uri, ways.config) {
        return one_device(now, meant, ways.config, tables);
    }
    let registered = registered(now, uri, ways.config, tables);
    if registered.is_empty() { ways.after(search, 0) } else { Ok(registered) }
}

/// The devices of somebody at one of our domains.
pub(crate) fn registered(now: Moment, uri: &Uri<'_>, config: &Config, tables: &dyn Tables) -> Vec<Target> {
    let aor = canonical(uri, config).unwrap_or_default();
    let bindings = tables.bindings(&aor);
    let live = by_preference(&bindings, now.wall).into_iter();
    let owner = if bindings.is_empty() { None } else { tables.owner(&aor) };
    let mut found = by_device(&aor, live, owner.as_deref(), config);
    found.truncate(config.limits.branches);
    found
}

/// Somebody of ours who is not registered here and has no route.
fn elsewhere(
    uri: &Uri<'_>,
    from_sibling: bool,
    config: &Config,
    tables: &dyn Tables,
) -> Result<Vec<Target>, Refusal> {
    let aor = canonical(uri, config).unwrap_or_default();
    if may_ask(uri, from_sibling, config) {
        // An address of ours means nothing to another proxy: it is told the name it stands for.
        let by_address = literal(uri.host).is_some();
        let uri = by_address.then(|| format!("sip:{aor}"));
        return Ok(vec![Target { uri, lookup: true, ..Target::by(Hops::Ready(Vec::new())) }]);
    }
    Err(nobody(&aor, !tables.bindings(&aor).is_empty(), tables))
}

/// One target for each device, with its other flows for when the first is gone (RFC 5626 §7): of those of one instance,
/// the one that was registered last comes first.
fn by_device<'b>(
    aor: &str,
    bindings: impl Iterator<Item = &'b Binding>,
    owner: Option<&User>,
    config: &Config,
) -> Vec<Target> {
    let mut devices: Vec<Vec<&Binding>> = Vec::new();
    for binding in bindings {
        let has_flows = binding.instance.is_some() && binding.reg_id.is_some();
        let same = |flows: &&mut Vec<&Binding>| {
            has_flows && flows[0].reg_id.is_some() && flows[0].instance == binding.instance
        };
        match devices.iter_mut().find(same) {
            Some(flows) => flows.push(binding),
            None => devices.push(vec![binding]),
        }
    }
    let target = |mut flows: Vec<&Binding>| {
        flows.sort_by_key(|binding| std::cmp::Reverse(binding.expires));
        let mut flows = flows.into_iter().map(|binding| of_binding(aor, binding, owner, config));
        let first = flows.next()?;
        Some(Target { flows: flows.collect(), ..first })
    };
    devices.into_iter().filter_map(target).collect()
}

/// The device that a GRUU means, and no other (RFC 5627 §5.1).
fn one_device(
    now: Moment,
    meant: Result<(String, gruu::Device), gruu::NotOurs>,
    config: &Config,
    tables: &dyn Tables,
) -> Result<Vec<Target>, Refusal> {
    let (aor, device) = meant.map_err(|_| Refusal::new(404, "a GRUU that nobody was given here"))?;
    let bindings = tables.bindings(&aor);
    let its = by_preference(&bindings, now.wall).into_iter().filter(|binding| device.is_at(binding));
    let found = by_device(&aor, its, tables.owner(&aor).as_deref(), config);
    if found.is_empty() { Err(nobody(&aor, !bindings.is_empty(), tables)) } else { Ok(found) }
}

/// 480 for somebody we know, 404 for anybody else (RFC 3261 §21.4.18, §21.4.5).
fn nobody(aor: &str, was_here: bool, tables: &dyn Tables) -> Refusal {
    if was_here || tables.owner(aor).is_some() {
        Refusal::new(480, "the callee is not registered now")
    } else {
        Refusal::new(404, "nobody of that name, and no route leads there")
    }
}

/// What leads out of here: routes and trunks, and who asks.
pub(crate) struct Ways<'a> {
    pub(crate) sender: Sender<'a>,
    pub(crate) config: &'a Config,
    pub(crate) trunks: &'a mut Trunks,
    /// The caller's URI, as From says.
    pub(crate) from: &'a str,
}

/// What is looked for, and when.
pub(crate) struct Search<'a> {
    pub(crate) now: Moment,
    pub(crate) uri: &'a Uri<'a>,
    pub(crate) from_sibling: bool,
    pub(crate) tables: &'a dyn Tables,
}

const NO_ROUTE: Refusal = Refusal::new(404, "no route leads there");
/// Not to the Contact behind it: nobody may be met there but by that flow, and the next flow waits.
const NO_SUCH_FLOW: Refusal = Refusal::new(430, "its Route names a flow that is not known here (any more)");
const AWAY: Refusal = Refusal::new(480, "the device that registered is gone");
const BACK: Refusal = Refusal::new(404, "the only route leads back to the trunk it came from");

impl Ways<'_> {
    /// Where a PBX keeps the accounts: its own requests to the device they name, everybody else's to the PBX. `None`: the
    /// usual way.
    fn by_pbx(
        &mut self,
        now: Moment,
        uri: &Uri<'_>,
        tables: &dyn Tables,
    ) -> Option<Result<Vec<Target>, Refusal>> {
        let (mid, pbx) = self.config.pbx()?;
        match self.sender.trunk {
            Some(sender) if sender.name == pbx.name => {
                let named = mid_registrar::device(now, uri, self.config, tables)?;
                Some(named.map(|device| vec![device]).ok_or(AWAY))
            }
            Some(_) => None,
            None => Some(self.by_trunks(uri, &Route::plain(Goes::Trunks(vec![mid.trunk])), &[mid.trunk])),
        }
    }

    /// By the first route that fits, from this one on; `None`: there is none.
    fn by_route(&mut self, search: &Search<'_>, first: usize) -> Option<Result<Vec<Target>, Refusal>> {
        let (config, uri) = (self.config, search.uri);
        let (index, route) = config.route_from(first, uri, self.sender)?;
        Some(match &route.goes {
            Goes::Trunks(trunks) => self.by_trunks(uri, route, trunks),
            Goes::Enum(suffix, trunks) => self.by_number(uri, route, suffix, trunks),
            Goes::Http(lookup, _) => {
                let question = lookups::question(lookup, route, uri, self.sender, self.from);
                Ok(vec![Target { asked: Some(index), ..Target::by(Hops::Ask(question)) }])
            }
            Goes::User(user) => Uri::parse(user).map_err(Refusal::from).and_then(|user| {
                let registered = registered(search.now, &user, config, search.tables);
                match registered.is_empty() {
                    true => elsewhere_as(&user, search.from_sibling, config, search.tables),
                    false => Ok(registered),
                }
            }),
            Goes::Refuse(status) => Err(Refusal::new(*status, "a route refuses it")),
        })
    }

    /// Where a request goes that no device of ours and no route before this one answers for.
    pub(crate) fn after(&mut self, search: &Search<'_>, first: usize) -> Result<Vec<Target>, Refusal> {
        let (config, uri, from_sibling) = (self.config, search.uri, search.from_sibling);
        match self.by_route(search, first) {
            Some(found) => found,
            None if uri.scheme == Scheme::Tel => Err(NO_ROUTE),
            None if config.is_ours(uri.host, uri.port) => elsewhere(uri, from_sibling, config, search.tables),
            None => Ok(vec![foreign(uri, from_sibling, config)]),
        }
    }

    /// By trunks of these names; another number may be called there than the route's.
    pub(crate) fn by_names(
        &mut self,
        uri: &Uri<'_>,
        route: &Route,
        names: &[String],
        number: Option<&str>,
    ) -> Result<Vec<Target>, Refusal> {
        let place = |name: &String| self.config.trunks.iter().position(|trunk| *trunk.name == **name);
        let known: Vec<usize> = names.iter().filter_map(place).collect();
        if known.is_empty() {
            return Err(Refusal::new(500, "a route's HTTP server names trunks nobody knows"));
        }
        match number {
            Some(number) => {
                let other = Route { strip: usize::MAX, prefix: number.to_owned(), ..route.clone() };
                self.by_trunks(uri, &other, &known)
            }
            None => self.by_trunks(uri, route, &known),
        }
    }

    /// Whatever DNS says of the number, then these trunks.
    fn by_number(
        &mut self,
        uri: &Uri<'_>,
        route: &Route,
        suffix: &str,
        trunks: &[usize],
    ) -> Result<Vec<Target>, Refusal> {
        let Some(question) = numbers::question(&route.number(uri), suffix) else {
            return self.by_trunks(uri, route, trunks);
        };
        let others = match self.by_trunks(uri, route, trunks) {
            Ok(found) => found.into_iter().flat_map(|mut first| {
                let rest = std::mem::take(&mut first.others);
                std::iter::once(first).chain(rest)
            }),
            Err(_) => return Ok(vec![Target::by(Hops::Ask(question))]),
        };
        Ok(vec![Target { others: others.collect(), ..Target::by(Hops::Ask(question)) }])
    }

    /// Every server of these trunks, each the next one's stand-in.
    pub(crate) fn by_trunks(
        &mut self,
        uri: &Uri<'_>,
        route: &Route,
        trunks: &[usize],
    ) -> Result<Vec<Target>, Refusal> {
        let (config, sender) = (self.config, self.sender);
        let comes_from = |trunk: &Trunk| sender.trunk.is_some_and(|own| own.name == trunk.name);
        let named = trunks.iter().filter_map(|index| config.trunks.get(*index));
        let allowed = named.filter(|trunk| !comes_from(trunk) || route.may_return(trunk));
        let order = self.trunks.order(allowed);
        let mut targets = order.into_iter().map(|chosen| of_server(chosen, uri, route, config));
        let first = targets.next().ok_or(BACK)?;
        Ok(vec![Target { others: targets.collect(), ..first }])
    }
}

/// [`elsewhere`], with the user's own URI in the request line.
fn elsewhere_as(
    user: &Uri<'_>,
    from_sibling: bool,
    config: &Config,
    tables: &dyn Tables,
) -> Result<Vec<Target>, Refusal> {
    let mut found = elsewhere(user, from_sibling, config, tables)?;
    for target in found.iter_mut().filter(|target| target.uri.is_none()) {
        target.uri = Some(user.raw.to_owned());
    }
    Ok(found)
}

fn of_server(chosen: Chosen, uri: &Uri<'_>, route: &Route, config: &Config) -> Target {
    let (trunk, server) = (&chosen.trunk, chosen.server());
    Target {
        uri: route.uri_for(uri, trunk, &server.next.host),
        trusted: trunk.trusted,
        anchor: trunk.anchor,
        latch: trunk.latch,
        srtp: trunk.srtp,
        ..Target::by(of_next_hop(&server.next, config))
    }
    .of(chosen)
}

/// A registered device.
pub(crate) fn of_binding(aor: &str, binding: &Binding, owner: Option<&User>, config: &Config) -> Target {
    let WaysBack { hops, known } = paths::ways(binding, of_today(&binding.flow, config), config);
    Target {
        uri: Some(binding.contact.clone()),
        known,
        path: binding.path.clone(),
        q: binding.q,
        device: Some(Device { mark: binding_mark(binding), behind_nat: binding.behind_nat, aor: aor.into() }),
        anchor: owner.and_then(|user| user.anchor),
        latch: owner.and_then(|user| user.latch),
        srtp: owner.and_then(|user| user.srtp),
        ..Target::by(hops)
    }
}

/// A binding's path, from a listener of ours when the one it was made by is gone.
fn of_today(flow: &Flow, config: &Config) -> Flow {
    if config.listener_at(flow.transport, flow.local).is_some() {
        return *flow;
    }
    let listener = config.listener_towards(flow.transport, flow.remote);
    Flow { local: listener.map_or(flow.local, |index| config.listeners[index].bind), ..*flow }
}

/// The present path of the device a token's mark means, if it still has a binding. A device that is met by way of an edge
/// (RFC 3327) has none: its dialogs stay with the edge their INVITE took, which knows them.
pub(crate) fn present_path(
    now: Moment,
    aor: &str,
    mark: u32,
    config: &Config,
    tables: &dyn Tables,
) -> Option<Flow> {
    let binding = present_binding(now, aor, mark, config, tables)?;
    binding.path.is_empty().then_some(binding.flow)
}

/// The device a token's mark means, by its present path, if it still has a binding.
pub(crate) fn present_binding(
    now: Moment,
    aor: &str,
    mark: u32,
    config: &Config,
    tables: &dyn Tables,
) -> Option<Binding> {
    let bindings = tables.bindings(aor).into_iter();
    // Of several flows of a device, the one that was registered last (RFC 5626 §7).
    let its = bindings.filter(|b| binding_mark(b) == mark && b.is_live(now.wall));
    let found = its.max_by_key(|binding| (!binding.is_unreachable(), binding.expires))?;
    Some(Binding { flow: of_today(&found.flow, config), ..found })
}

/// The mark of the sender's own device: the binding that was made from where it sends now.
pub(crate) fn own_mark(aor: &str, flow: &Flow, tables: &dyn Tables) -> Option<u32> {
    let bindings = tables.bindings(aor);
    bindings.iter().find(|binding| binding.flow.remote == flow.remote).map(binding_mark)
}

/// The address of record in a From or To, as a name for events; what is written when it is none.
pub(crate) fn name_of(party: Option<proto::sip::NameAddr<'_>>) -> Name {
    let Some(party) = party else { return "".into() };
    let aor = party.uri().ok().and_then(|uri| uri.aor());
    aor.map_or_else(|| party.raw_uri.into(), Name::from)
}
