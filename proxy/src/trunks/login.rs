//! Credentials towards a trunk: its challenges (401, 407) are answered in the caller's stead (RFC 3261 §22).
//!
//! Credentials want a new request with a higher CSeq, and the caller knows nothing of it. So every request of the caller
//! in that dialog leaves with its CSeq raised by as much ([`shifted`]), and every answer goes back with the CSeq of the
//! request it answers. By how much stands in the dialog's token, so that a restarted proxy goes on.

use proto::digest::{self, Request};
use proto::event::Side;
use proto::node::Flow;
use proto::sip::{Auth, Edit, Message, Name};

use crate::forwarding::contexts::{Answered, Context, Stage};
use crate::proxy::{Cx, Owner, Proxy};

/// Who we are to a trunk.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Digest user name.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The realm it is for; `None`: whichever asks.
    pub realm: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}, …)", self.user)
    }
}

/// A challenge and the header that answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    header: Name,
    value: String,
}

impl Challenge {
    /// The first one in a response that these credentials can answer.
    pub(crate) fn of(response: &Message, credentials: &Credentials) -> Option<Challenge> {
        let pairs = [
            (Name::WwwAuthenticate, Name::Authorization),
            (Name::ProxyAuthenticate, Name::ProxyAuthorization),
        ];
        pairs.into_iter().find_map(|(asks, answers)| {
            let lines = response.headers().filter(|header| header.name == asks);
            let values = lines.filter_map(|header| std::str::from_utf8(header.value).ok());
            let ours = |value: &&str| {
                credentials.realm.as_deref().is_none_or(|realm| Auth(value).get("realm") == Some(realm))
            };
            let value = digest::choose(values.filter(ours))?.to_owned();
            Some(Challenge { header: answers, value })
        })
    }

    /// Whether only the nonce was too old.
    pub(crate) fn is_stale(&self) -> bool {
        Auth(&self.value).get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true"))
    }

    /// The request with credentials; `count` is how often this nonce was used, from 1.
    pub(crate) fn answered(
        &self,
        credentials: &Credentials,
        message: &Message,
        count: u32,
        cnonce: &str,
    ) -> Message {
        let method = message.method();
        let request = Request { method: method.as_str(), body: message.body() };
        let (user, password, uri) = (&credentials.user, &credentials.password, message.request_uri());
        match digest::answer(&self.value, user, password, uri, request, count, cnonce) {
            Some(value) => message.edit().append(self.header, &value).finish(),
            None => message.clone(),
        }
    }
}

impl Proxy {
    /// A trunk asks who we are. `false`: we have nothing to say to that, or have said it before.
    pub(crate) fn log_in(
        &mut self,
        cx: &mut Cx<'_>,
        context: &mut Context,
        index: usize,
        response: &Message,
    ) -> bool {
        let branch = &context.branches[index];
        let Some(flow) = branch.flow else { return false };
        let too_late =
            context.cancelled || context.answered != Answered::No || context.sender != Side::Caller;
        let Some(credentials) = self.credentials_for(context, index, &flow).filter(|_| !too_late) else {
            return false;
        };
        let Some(challenge) = Challenge::of(response, &credentials) else { return false };
        if branch.logins > 1 || (branch.logins == 1 && !challenge.is_stale()) {
            return false;
        }
        self.raise(context, index);
        let message = self.copy(cx, context, index, flow);
        let message = challenge.answered(&credentials, &message, 1, &self.dice.word(16));
        let client = self.send(cx, flow, message, Owner::Branch(context.server, index));
        let branch = &mut context.branches[index];
        (branch.client, branch.stage) = (Some(client), Stage::Sent);
        true
    }

    /// What a trunk's challenge is answered with.
    pub(crate) fn credentials_for(
        &self,
        context: &Context,
        index: usize,
        flow: &Flow,
    ) -> Option<Credentials> {
        let of_branch = context.branches[index].target.chosen.as_ref().map(|chosen| &chosen.trunk);
        let at = || self.config.trunks.iter().find(|t| t.credentials.is_some() && t.is_at(flow.remote.ip()));
        of_branch.or_else(at)?.credentials.clone()
    }

    /// The CSeq of this request and of all that follow it goes up by one.
    fn raise(&mut self, context: &mut Context, index: usize) {
        let branch = &mut context.branches[index];
        branch.logins += 1;
        branch.shift += 1;
        let shift = context.shift + branch.shift;
        if let Some(call) = context.call.as_ref().and_then(|call| self.calls.find(call)) {
            call.shift = call.shift.max(shift);
        }
    }
}

/// The caller's CSeq, and the one its RAck names (RFC 3262 §7.2), raised by so many.
pub(crate) fn shifted<'m>(edit: Edit<'m>, request: &'m Message, by: u32) -> Edit<'m> {
    let Ok(cseq) = request.cseq() else { return edit };
    if by == 0 {
        return edit;
    }
    let edit = edit.set(Name::CSeq, &format!("{} {}", cseq.number.saturating_add(by), cseq.method.as_str()));
    match request.text(Name::RAck).and_then(|rack| raised_rack(rack, by)) {
        Some(rack) => edit.set(Name::RAck, &rack),
        None => edit,
    }
}

fn raised_rack(rack: &str, by: u32) -> Option<String> {
    let mut words = rack.split_whitespace();
    let (response, number, method) = (words.next()?, words.next()?.parse::<u32>().ok()?, words.next()?);
    Some(format!("{response} {} {method}", number.saturating_add(by)))
}

/// An answer's CSeq is its request's.
pub(crate) fn unshifted<'m>(edit: Edit<'m>, request: &Message, response: &'m Message) -> Edit<'m> {
    match request.text(Name::CSeq) {
        Some(own) if response.text(Name::CSeq) != Some(own) => edit.set(Name::CSeq, own),
        _ => edit,
    }
}
