//! Messages from a trunk and to it, as its header rules want them.

use std::sync::Arc;

use proto::node::Flow;
use proto::sip::{Message, Name, NameAddr};

use super::Trunk;
use super::rules::{self, Act, Direction, Part};
use crate::forwarding::contexts::{Branch, Context, Target};
use crate::gate::beside;
use crate::media::relays::HeldAck;
use crate::proxy::{Cx, Proxy};

impl Proxy {
    /// A request as it came from a trunk, with the request URI as the trunk's rules want it: routes look at that. All
    /// else is changed when the request leaves, so that answers can go back as it was asked.
    pub(crate) fn as_routes_see_it(&self, cx: &Cx<'_>, flow: &Flow, request: Message) -> Message {
        match self.ruled(|trunk| trunk.sends_from(flow.remote.ip())) {
            Some(_) if self.is_beside_trunk(cx, request.from().ok(), flow) => request,
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
        context: &Context,
        to: &Flow,
        target: &Target,
        message: Message,
    ) -> Message {
        let message = self.of_trunk_at(&context.flow, context.from_phone, Direction::In, message);
        match &target.chosen {
            Some(chosen) => rules::apply(&chosen.trunk.rules, Direction::Out, message),
            None => self.of_trunk_at(to, target.is_phone(), Direction::Out, message),
        }
    }

    /// The same of an ACK, which has no target.
    pub(crate) fn ack_as_trunks_want(&self, cx: &Cx<'_>, held: &HeldAck, message: Message) -> Message {
        let from_phone = self.is_beside_trunk(cx, held.request.from().ok(), &held.flow);
        let to_phone = self.is_beside_trunk(cx, held.request.to().ok(), &held.to);
        let message = self.of_trunk_at(&held.flow, from_phone, Direction::In, message);
        self.of_trunk_at(&held.to, to_phone, Direction::Out, message)
    }

    /// A response on its way back: first what its sender's trunk wants done, then From and To as the request had them,
    /// then what the receiver's trunk wants.
    pub(crate) fn answer_as_trunks_want(
        &self,
        context: &Context,
        from: &Branch,
        response: Message,
    ) -> Message {
        if self.config.trunks.iter().all(|trunk| trunk.rules.is_empty()) {
            return response;
        }
        let response = match &from.flow {
            Some(flow) => self.of_trunk_at(flow, from.target.is_phone(), Direction::In, response),
            None => response,
        };
        let response = with_own_parties(&context.request, response);
        self.of_trunk_at(&context.flow, context.from_phone, Direction::Out, response)
    }

    fn of_trunk_at(&self, flow: &Flow, is_phone: bool, on: Direction, message: Message) -> Message {
        let beside = is_phone && beside::may_be(flow, &self.config);
        match self.ruled(|trunk| !beside && trunk.is_at(flow.remote.ip())) {
            Some(trunk) => rules::apply(&trunk.rules, on, message),
            None => message,
        }
    }

    /// Whether some trunk's rules may change what comes by this path.
    pub(crate) fn is_rewritten(&self, flow: &Flow) -> bool {
        self.ruled(|trunk| trunk.sends_from(flow.remote.ip())).is_some()
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
