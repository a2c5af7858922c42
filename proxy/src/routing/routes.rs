//! Where requests go that no registration answers for: routes, the first that fits decides.
//!
//! A route looks at who is called (user and domain of the request URI) and at who calls ([`Origin`]). What it does is
//! its [`Goes`]: trunks in order, a user of ours (a DID), or a refusal. A call is never sent back to the trunk it came
//! from, unless the route names that trunk as its origin.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use proto::cidr::Cidr;
use proto::event::Name;
use proto::lookup::Lookup;
use proto::node::Flow;
use proto::sip::{Scheme, Uri};

use crate::config::{Config, Pattern};
use crate::trunks::Trunk;

/// One rule.
#[derive(Clone, Debug)]
pub struct Route {
    /// For the operator.
    pub name: String,
    /// Which request URI users it is for.
    pub user: Pattern,
    /// Which request URI domains it is for.
    pub domain: Pattern,
    /// Whose requests it is for.
    pub from: Vec<Origin>,
    /// So many characters are taken off the front of the user part …
    pub strip: usize,
    /// … and this is put there.
    pub prefix: String,
    /// What it does.
    pub goes: Goes,
}

/// Whose requests a route is for. An empty list means everybody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Whoever is no trunk: users, proven or let in without proof, and our other proxies.
    Users,
    /// Any trunk.
    Trunks,
    /// This trunk.
    Trunk(Name),
    /// Whoever came in by the listener with this index.
    Listener(usize),
    /// Whoever sends from there.
    Network(Cidr),
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goes {
    /// To these trunks, indices into [`Config::trunks`], the first that works.
    Trunks(Vec<usize>),
    /// By what DNS says of the number under this suffix (RFC 6116); failing that, to these trunks.
    Enum(String, Vec<usize>),
    /// By what a server says of the call over HTTP; when it says nothing, to these trunks, or on with the next route.
    Http(Arc<Lookup>, Vec<usize>),
    /// To a user of ours: a SIP URI.
    User(String),
    /// Nowhere.
    Refuse(u16),
}

/// Who sends a request, as routes look at it.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The trunk it is.
    pub trunk: Option<&'a Trunk>,
    /// The listener it came in by.
    pub listener: usize,
    /// Its address.
    pub ip: IpAddr,
}

/// Why a route is not for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The user part is another.
    User,
    /// The domain is another.
    Domain,
    /// It is for other senders.
    Sender,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unfit::User => "is for another number or user",
            Unfit::Domain => "is for another domain",
            Unfit::Sender => "is for other senders",
        })
    }
}

impl<'a> Sender<'a> {
    /// Whoever sends by this path.
    pub fn of(flow: &Flow, config: &'a Config) -> Sender<'a> {
        let listener = config.listener_at(flow.transport, flow.local).unwrap_or(0);
        let ip = flow.remote.ip();
        Sender { trunk: config.trunk_from(ip).map(|trunk| &**trunk), listener, ip }
    }
}

impl Route {
    /// A route for everything, that changes nothing.
    pub fn plain(goes: Goes) -> Route {
        let (name, prefix) = (String::new(), String::new());
        Route { name, user: Pattern::Any, domain: Pattern::Any, from: Vec::new(), strip: 0, prefix, goes }
    }

    /// Whether it is for this callee and sender; if not, why not.
    pub fn fits(&self, uri: &Uri<'_>, sender: Sender<'_>) -> Result<(), Unfit> {
        match () {
            () if !self.user.fits(number(uri), false) => Err(Unfit::User),
            () if !self.domain.fits(uri.host, true) => Err(Unfit::Domain),
            () if !self.is_for(sender) => Err(Unfit::Sender),
            () => Ok(()),
        }
    }

    fn is_for(&self, sender: Sender<'_>) -> bool {
        self.from.is_empty() || self.from.iter().any(|origin| origin.is(sender))
    }

    /// Whether it may send a request back to the trunk that sent it.
    pub fn may_return(&self, trunk: &Trunk) -> bool {
        self.from.iter().any(|origin| *origin == Origin::Trunk(trunk.name.clone()))
    }

    /// The user part as it leaves.
    pub fn number(&self, uri: &Uri<'_>) -> String {
        let rest: String = number(uri).chars().skip(self.strip).collect();
        format!("{}{rest}", self.prefix)
    }

    /// The request URI for a server of this trunk; `None`: it stays. A `tel:` URI that changes becomes a `sip:` one.
    pub fn uri_for(&self, uri: &Uri<'_>, trunk: &Trunk, server: &str) -> Option<String> {
        let number = self.number(uri);
        let same_user = self.strip == 0 && self.prefix.is_empty();
        if same_user && trunk.domain.is_none() {
            return None;
        }
        let host = trunk.domain.as_deref();
        Some(match uri.scheme {
            Scheme::Tel => format!("sip:{number}@{};user=phone", host.unwrap_or(server)),
            _ => {
                let scheme = if uri.scheme == Scheme::Sips { "sips" } else { "sip" };
                let rest = uri.raw.split_once('@').map_or(uri.host, |(_, rest)| rest);
                let params = rest.find([';', '?']).map_or("", |at| &rest[at..]);
                match host {
                    Some(host) => format!("{scheme}:{number}@{host}{params}"),
                    None => format!("{scheme}:{number}@{rest}"),
                }
            }
        })
    }
}

impl Origin {
    fn is(&self, sender: Sender<'_>) -> bool {
        match self {
            Origin::Users => sender.trunk.is_none(),
            Origin::Trunks => sender.trunk.is_some(),
            Origin::Trunk(name) => sender.trunk.is_some_and(|trunk| trunk.name == *name),
            Origin::Listener(index) => sender.listener == *index,
            Origin::Network(range) => range.contains(sender.ip),
        }
    }
}

/// The user part; of a `tel:` URI the number without its visual separators (RFC 3966 §5.1.1).
fn number<'u>(uri: &Uri<'u>) -> &'u str {
    uri.user
}

impl Config {
    /// The first route that is for this callee and sender.
    pub fn route_for(&self, uri: &Uri<'_>, sender: Sender<'_>) -> Option<&Route> {
        self.route_from(0, uri, sender).map(|(_, route)| route)
    }

    /// The first such route from this one on, and its place.
    pub fn route_from(&self, first: usize, uri: &Uri<'_>, sender: Sender<'_>) -> Option<(usize, &Route)> {
        self.routes.iter().enumerate().skip(first).find(|(_, route)| route.fits(uri, sender).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::testing::config;

    fn route(user: Pattern, from: Vec<Origin>) -> Route {
        Route {
            name: "route".into(),
            user,
            domain: Pattern::Any,
            from,
            strip: 0,
            prefix: String::new(),
            goes: Goes::Trunks(vec![]),
        }
    }

    fn sender(trunk: Option<&Trunk>) -> Sender<'_> {
        Sender { trunk, listener: 0, ip: "192.0.2.1".parse().unwrap() }
    }

    fn prefix(start: &str) -> Pattern {
        Pattern::Prefix(start.into())
    }

    #[test]
    fn the_first_that_fits_decides() {
        let mut config = config();
        config.routes = vec![
            route(prefix("+49"), vec![Origin::Trunks]),
            route(prefix("+49"), vec![]),
            route(Pattern::Any, vec![]),
        ];
        let chosen = |uri: &str, trunk: Option<&Trunk>| {
            let route = config.route_for(&Uri::parse(uri).unwrap(), sender(trunk)).unwrap();
            config.routes.iter().position(|other| std::ptr::eq(other, route)).unwrap()
        };
        let carrier = Trunk::named("carrier");
        assert_eq!(chosen("sip:+4930@example.com", Some(&carrier)), 0);
        assert_eq!(chosen("sip:+4930@example.com", None), 1);
        assert_eq!(chosen("sip:+4330@example.com", Some(&carrier)), 2);
    }

    #[test]
    fn it_says_why_a_route_is_not_for_a_call() {
        let uri = Uri::parse("sip:+4930@example.com").unwrap();
        let fits = |route: &Route| route.fits(&uri, sender(None));
        assert_eq!(fits(&route(prefix("+1"), vec![])), Err(Unfit::User));
        assert_eq!(fits(&route(prefix("+49"), vec![Origin::Trunk("a".into())])), Err(Unfit::Sender));
        let elsewhere = Route { domain: Pattern::Exact("b.example".into()), ..route(Pattern::Any, vec![]) };
        assert_eq!(fits(&elsewhere), Err(Unfit::Domain));
    }

    #[test]
    fn digits_are_taken_off_and_put_before() {
        let route = Route { strip: 1, prefix: "00".into(), ..route(Pattern::Any, vec![]) };
        let trunk = Trunk::named("carrier");
        let out = |uri: &str, trunk: &Trunk| route.uri_for(&Uri::parse(uri).unwrap(), trunk, "192.0.2.9");
        assert_eq!(out("sip:+4930@x:5070;user=phone", &trunk).unwrap(), "sip:004930@x:5070;user=phone");
        let there = Trunk { domain: Some("carrier.example".into()), ..trunk.clone() };
        assert_eq!(
            out("sip:+4930@x:5070;user=phone", &there).unwrap(),
            "sip:004930@carrier.example;user=phone"
        );
        assert_eq!(out("tel:+4930", &trunk).unwrap(), "sip:004930@192.0.2.9;user=phone");
    }
}
