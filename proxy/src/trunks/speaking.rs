//! Messages from a trunk and to it, as its header rules want them.

use std::net::IpAddr;
use std::sync::Arc;

use proto::node::Flow;
use proto::sip::{Message, Name, NameAddr};

use super::Trunk;
use super::rules::{self, Act, Direction, Part};
use crate::forwarding::contexts::{Context, Target};
use crate::proxy::Proxy;

impl Proxy {
    /// A request as it came from a trunk, with the request URI as the trunk's rules want it: routes look at that. All
    /// else is changed when the request leaves, so that answers can go back as it was asked.
    pub(crate) fn as_routes_see_it(&self, flow: &Flow, request: Message) -> Message {
        match self.ruled(|trunk| trunk.sends_from(flow.remote.ip())) {
            Some(trunk) => {
                let of_uri =
                    |rule: &&rules::Rule| matches!(&rule.act, Act::Rewrite { part: Part::RequestUri, .. });
                let only: Vec<rules::Rule> = trunk.rules.iter().filter(of_uri).cloned().collect();
                rules::apply(&only, Direction::In, request)
            }
            None => request,
        }
    }

    /// A request on its way to a target, after the rules of the trunk it came from and of the one it goes to.
    pub(crate) fn as_trunks_want(
        &self,
        from: &Flow,
        to: &Flow,
        target: Option<&Target>,
        message: Message,
    ) -> Message {
        let message = self.of_trunk_at(from.remote.ip(), Direction::In, message);
        match target.and_then(|target| target.chosen.as_ref()) {
            Some(chosen) => rules::apply(&chosen.trunk.rules, Direction::Out, message),
            None => self.of_trunk_at(to.remote.ip(), Direction::Out, message),
        }
    }

    /// A response on its way back: first what its sender's trunk wants done, then From and To as the request had them,
    /// then what the receiver's trunk wants.
    pub(crate) fn answer_as_trunks_want(
        &self,
        context: &Context,
        from: Option<Flow>,
        response: Message,
    ) -> Message {
        if self.config.trunks.iter().all(|trunk| trunk.rules.is_empty()) {
            return response;
        }
        let response = match from {
            Some(flow) => self.of_trunk_at(flow.remote.ip(), Direction::In, response),
            None => response,
        };
        let response = with_own_parties(&context.request, response);
        self.of_trunk_at(context.flow.remote.ip(), Direction::Out, response)
    }

    fn of_trunk_at(&self, ip: IpAddr, on: Direction, message: Message) -> Message {
        match self.ruled(|trunk| trunk.is_at(ip)) {
            Some(trunk) => rules::apply(&trunk.rules, on, message),
            None => message,
        }
    }

    /// The first trunk with rules of which this is so.
    fn ruled(&self, is: impl Fn(&Trunk) -> bool) -> Option<&Arc<Trunk>> {
        self.config.trunks.iter().find(|trunk| !trunk.rules.is_empty() && is(trunk))
    }
}

/// RFC 3261 §8.2.6.2: From and To of a response are those of its request, but for the tag of To.
fn with_own_parties(request: &Message, response: Message) -> Message {
    let (from, to) = (request.text(Name::From), request.text(Name::To));
    let (Some(from), Some(to)) = (from, to) else { return response };
    let tag = response.to_tag();
    let to = match NameAddr::parse(to).map(|own| own.tag().is_empty()) {
        Ok(true) if !tag.is_empty() => format!("{to};tag={tag}"),
        _ => to.to_owned(),
    };
    if response.text(Name::From) == Some(from) && response.text(Name::To) == Some(&to) {
        return response;
    }
    response.edit().set(Name::From, from).set(Name::To, &to).finish()
}
