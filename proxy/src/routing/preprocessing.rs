//! Route information preprocessing (RFC 3261 §16.4): what a request says about its way, and which of it is ours.

use proto::node::Flow;
use proto::sip::{Edit, Malformed, Message, Name, NameAddr, Uri};

use crate::config::{Config, Listener, Standing};
use crate::dialogs::tokens::{Seal, Token};
use crate::hiding::privacy::Wish;
use crate::registrar::outbound;

/// What a Path of ours that comes back as a Route leads to (RFC 5626 §5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Edge {
    /// It is no such Path.
    #[default]
    None,
    /// This flow.
    Flow(Flow),
    /// It names a flow, but none that can be read: it was made under keys we had before, or by somebody else.
    Unknown,
}

/// What the Routes of a request come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routed {
    /// The token in our topmost Route, completed by a second one that follows it.
    pub(crate) token: Option<Token>,
    /// How many topmost Routes are ours and are taken off.
    pub(crate) ours: usize,
    /// A strict router before us put our URI in the request line: the last Route is the real one, and is taken off
    /// too.
    pub(crate) unstrict: Option<String>,
    /// What our topmost Route, which was our Path in a registration elsewhere, says of the flow to go by.
    pub(crate) edge: Edge,
    /// What the dialog's caller, who sends this, once asked to have hidden.
    pub(crate) privacy: Wish,
}

impl Routed {
    /// Reads the Routes.
    pub(crate) fn read(request: &Message, config: &Config, unix: u64) -> Routed {
        let mut routed = Routed::default();
        let seal = Seal::of(request, &config.token_keys, unix);
        if let Some(token) = request.uri().ok().and_then(|uri| token_in(&uri, seal)) {
            // §16.4: the request URI is a value we once put in a Record-Route.
            routed.token = Some(token);
            routed.unstrict = request.routes().flatten().last().map(|last| last.raw_uri.to_owned());
        }
        for route in routed.routes_left(request).map_while(|route| NameAddr::parse(route).ok()) {
            let Ok(uri) = route.uri() else { break };
            let token = Token::open(seal, uri.user);
            // A request that comes to us carries our Route on top, at an address that may have been another proxy's
            // with our key; below it only what stands at our address is ours, or we would skip a sibling.
            let known = token.is_some() && routed.ours == 0;
            if !known && !config.is_ours(uri.host, uri.port) {
                break;
            }
            if routed.ours == 0 && token.is_none() {
                routed.edge = edge_in(&uri, config, unix);
            }
            if routed.ours == 0 {
                routed.privacy = Wish::in_route(&uri.params);
            }
            routed.ours += 1;
            routed.token = match routed.token.take() {
                Some(first) => Some(first.join(token)),
                None => token,
            };
        }
        routed
    }

    /// The same for a request that came by this flow: who names its own is on its way out (RFC 5626 §5.3.2).
    pub(crate) fn sent_by(self, flow: &Flow) -> Routed {
        let is_it = |named: Flow| named == *flow || (named.id.is_connection() && named.id == flow.id);
        match self.edge {
            Edge::Flow(named) if is_it(named) => Routed { edge: Edge::None, ..self },
            _ => self,
        }
    }

    /// The Route the request leaves us with, topmost first.
    pub(crate) fn next<'m>(&self, request: &'m Message) -> Option<NameAddr<'m>> {
        self.routes_left(request).nth(self.ours).and_then(|route| NameAddr::parse(route).ok())
    }

    /// The Route ahead when it is a strict router's (§16.6 step 6): it takes the request line, and what stood there
    /// goes to the end of the Route.
    fn strict_ahead<'m>(&self, request: &'m Message) -> Option<&'m str> {
        let next = self.next(request)?;
        (!next.uri().ok()?.has_lr()).then_some(next.raw_uri)
    }

    /// What the request line is to say, when it is not what it said.
    pub(crate) fn request_line<'a>(&'a self, request: &'a Message) -> Option<&'a str> {
        self.strict_ahead(request).or(self.unstrict.as_deref())
    }

    /// The request URI it leaves us with, unless a target replaces it.
    pub(crate) fn uri<'a>(&'a self, request: &'a Message) -> &'a str {
        self.unstrict.as_deref().unwrap_or(request.request_uri())
    }

    /// The same, read.
    pub(crate) fn uri_read<'a>(&'a self, request: &'a Message) -> Result<Uri<'a>, Malformed> {
        self.unstrict.as_deref().map_or_else(|| request.uri(), Uri::parse)
    }

    /// Takes off what is ours.
    pub(crate) fn apply<'m>(&self, edit: Edit<'m>, request: &Message, push: &[String]) -> Edit<'m> {
        let plain = push.is_empty() && self.unstrict.is_none() && self.strict_ahead(request).is_none();
        match self.ours {
            0 if plain => return edit,
            1 if plain => return edit.pop_front(Name::Route),
            _ => {}
        }
        let strict = self.strict_ahead(request).map(|_| format!("<{}>", self.uri(request)));
        let kept = self.routes_left(request).skip(self.ours + usize::from(strict.is_some()));
        let routes: Vec<&str> =
            push.iter().map(String::as_str).chain(kept).chain(strict.as_deref()).collect();
        let edit = edit.remove(Name::Route);
        if routes.is_empty() { edit } else { edit.push_front(Name::Route, &routes.join(", ")) }
    }

    fn routes_left<'m>(&self, request: &'m Message) -> impl Iterator<Item = &'m str> + use<'m> {
        let all = || request.values(Name::Route);
        let left = if self.unstrict.is_some() { all().count().saturating_sub(1) } else { usize::MAX };
        all().take(left)
    }
}

/// Our Paths are told from other addresses of ours by their `ob` (§5.1).
fn edge_in(uri: &Uri<'_>, config: &Config, unix: u64) -> Edge {
    match outbound::open(uri.user, config, unix) {
        Some(flow) => Edge::Flow(flow),
        None if uri.params.get("ob").is_some() && !uri.user.is_empty() => Edge::Unknown,
        None => Edge::None,
    }
}

fn token_in(uri: &Uri<'_>, seal: Seal<'_>) -> Option<Token> {
    // A token has a length no user name of ours has by chance; don't try keys on every request.
    if uri.user.len() < 20 { None } else { Token::open(seal, uri.user) }
}

/// The path a token names, in today's configuration. Connections are found by their far end.
pub(crate) fn flow_of(token: &Token, config: &Config) -> Option<Flow> {
    let (listener, remote) = token.path?;
    let serves = |l: &Listener| l.bind.is_ipv4() == remote.is_ipv4() && l.standing != Standing::Closed;
    let listener = config
        .listeners
        .get(usize::from(listener))
        .filter(|l| serves(l))
        .or_else(|| config.listeners.iter().find(|l| serves(l)))?;
    let (transport, local) = (listener.transport, listener.bind);
    Some(Flow { transport, local, remote, id: proto::node::FlowId(0) })
}
