//! Routes that ask a server of the operator's by HTTP where a call goes ([`proto::lookup`]).
//!
//! What it says decides: URIs, trunks by name, or a refusal. When it says nothing (404, too slow, not understood), the route's own
//! trunks are tried if it names any; else the search goes on with the next route that fits, as if this one were not there.

use std::sync::Arc;

use proto::event::Event;
use proto::lookup::{Advice, Lookup};
use proto::node::Question;
use proto::sip::Uri;
use proto::sip::transaction::ServerId;

use crate::config::{Goes, Route};
use crate::forwarding::contexts::{Context, Final, Stage, Target};
use crate::proxy::{Cx, Proxy};
use crate::routing::routes::Sender;
use crate::routing::targets::{Search, Ways};

/// So many URIs of one answer are tried at most.
const MOST: usize = 8;

/// What is asked about a call.
pub(crate) fn question(
    lookup: &Arc<Lookup>,
    route: &Route,
    uri: &Uri<'_>,
    sender: Sender<'_>,
    from: &str,
) -> Question {
    let (number, source) = (route.number(uri), sender.ip.to_canonical().to_string());
    let trunk = sender.trunk.map_or("", |trunk| &*trunk.name);
    let url = lookup.filled(|part| match part {
        "number" => &number,
        "to" => uri.raw,
        "user" => uri.user,
        "host" => uri.host,
        "from" => from,
        "source" => &source,
        "trunk" => trunk,
        _ => "",
    });
    Question::Http { lookup: lookup.clone(), url }
}

impl Proxy {
    /// The route whose server a branch has asked, if it waits for one.
    pub(crate) fn route_asked(&self, server: ServerId, index: usize) -> Option<usize> {
        let branch = self.contexts.get(&server)?.branches.get(index)?;
        branch.target.asked.filter(|_| matches!(branch.stage, Stage::Resolving(_)))
    }

    /// The server of a route has said where a call goes, or nothing.
    pub(crate) fn advised(
        &mut self,
        cx: &mut Cx<'_>,
        (server, index): (ServerId, usize),
        route: usize,
        advice: Option<&Advice>,
    ) {
        self.with(cx, server, |proxy, cx, context| {
            context.branches[index].stage = Stage::Done;
            if advice.is_none() {
                let about = context.request.call_id().into();
                let why = "a route's HTTP server said nothing of this call: the next one decides";
                proxy.tell(Event::Warning { about, why });
            }
            match proxy.by_advice(cx, context, route, advice) {
                Ok(found) => proxy.try_by_preference(cx, context, found),
                Err(end) => proxy.branch_ended(cx, context, index, end),
            }
        });
    }

    fn by_advice(
        &mut self,
        cx: &Cx<'_>,
        context: &Context,
        route: usize,
        advice: Option<&Advice>,
    ) -> Result<Vec<Target>, Final> {
        let trunk = self.trunk_of(context).cloned();
        let sender = Sender { trunk: trunk.as_deref(), ..Sender::of(&context.flow, &self.config) };
        let uri = context.routed.uri(&context.request).to_owned();
        let Ok(uri) = Uri::parse(&uri) else { return Err(Final::own(404)) };
        let reached =
            |uris: &[String]| uris.iter().take(MOST).flat_map(|uri| self.reached_by(cx, uri)).collect();
        match advice {
            Some(Advice::Refuse { code, reason }) => {
                return Err(Final { words: reason.as_deref().map(printable), ..Final::own(*code) });
            }
            Some(Advice::Targets(uris)) => return in_turn(reached(uris)).ok_or(Final::own(404)),
            _ => {}
        }
        let from = context.request.from().ok().map_or("", |from| from.raw_uri).to_owned();
        let mut ways = Ways { sender, config: &self.config, trunks: &mut self.trunks, from: &from };
        let from_sibling = context.word.is_some();
        let found = match (advice, self.config.routes.get(route)) {
            (Some(Advice::Trunks { names, number }), Some(own)) => {
                ways.by_names(&uri, own, names, number.as_deref())
            }
            (_, Some(Route { goes: Goes::Http(_, trunks), .. })) if !trunks.is_empty() => {
                ways.by_trunks(&uri, &self.config.routes[route], trunks)
            }
            _ => ways.after(&Search { now: cx.now, uri: &uri, from_sibling, tables: &*cx.tables }, route + 1),
        };
        found.map_err(|refusal| Final::own(refusal.status))
    }
}

/// As it may stand in a quoted string (RFC 3261 §25.1), and no longer than a display is wide.
fn printable(reason: &str) -> Box<str> {
    let fits = |letter: &char| !letter.is_control() && !matches!(letter, '"' | '\\');
    reason.chars().filter(fits).take(LONGEST_REASON).collect::<String>().into()
}

const LONGEST_REASON: usize = 100;

/// Each the next one's stand-in.
fn in_turn(targets: Vec<Target>) -> Option<Vec<Target>> {
    let mut targets = targets.into_iter();
    let first = targets.next()?;
    Some(vec![Target { others: targets.collect(), ..first }])
}
