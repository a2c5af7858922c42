//! Asserted identities (RFC 3325) and the wish that they be kept (`Privacy: id`; the other wishes are [`crate::hiding::privacy`]): what a trunk or a sibling says of a party is
//! believed and passed on within the house, what anybody else says of itself is not.
//!
//! | from | to | P-Asserted-Identity |
//! |---|---|---|
//! | anybody unknown | anybody | taken off (§5); with `asserted-identity`, an account that logged in gets one of its own |
//! | trunk, sibling | trunk, sibling | as it came |
//! | trunk, sibling | a phone, a foreign domain | as it came, unless `Privacy: id` asks otherwise (§7) |
//!
//! What a party would like to be called (P-Preferred-Identity) is a hint for its first proxy, and ends there.

use proto::node::Flow;
use proto::sip::{Edit, Message, Name, Uri};
use proto::tables::User;

use crate::forwarding::contexts::Context;
use crate::proxy::Proxy;
use crate::registrar::aor::{self, canonical};

impl Proxy {
    /// The identities in a request on its way to a branch.
    pub(crate) fn identity_of_request<'m>(
        &self,
        edit: Edit<'m>,
        context: &'m Context,
        index: usize,
        to: &Flow,
    ) -> Edit<'m> {
        let (request, branch) = (&context.request, &context.branches[index]);
        let from_friend = context.word.is_some() || self.trunk_of(context).is_some();
        let to_friend = self.leads_to_friend(branch, to);
        let edit = between(edit, request, from_friend, to_friend);
        let user = context.user.as_deref().filter(|_| self.config.asserted_identity && !from_friend);
        match user.and_then(|user| self.name_of_account(user, request)) {
            Some(_) if !to_friend && wants_privacy(request) => edit,
            Some(aor) => edit.append(Name::PAssertedIdentity, &format!("<sip:{aor}>")),
            None => edit,
        }
    }

    /// The same in a response on its way back.
    pub(crate) fn identity_of_response<'m>(
        &self,
        edit: Edit<'m>,
        context: &Context,
        index: usize,
        response: &'m Message,
    ) -> Edit<'m> {
        let branch = &context.branches[index];
        let from_friend = branch.flow.is_some_and(|from| self.leads_to_friend(branch, &from));
        let to_friend = context.word.is_some() || self.trunk_of(context).is_some();
        between(edit, response, from_friend, to_friend)
    }

    pub(crate) fn is_trunk(&self, flow: &Flow) -> bool {
        self.config.trunk_from(flow.remote.ip()).is_some()
    }

    /// What an account is called: as it prefers, or as From says, if that is its own; else its first name.
    fn name_of_account(&self, user: &User, request: &Message) -> Option<String> {
        let preferred = request.name_addrs(Name::PPreferredIdentity).next().and_then(Result::ok);
        let wished = [preferred, request.from().ok()].into_iter().flatten();
        let mut own = wished
            .filter_map(|name| canonical(&name.uri().ok()?, &self.config))
            .filter(|name| aor::belongs(user, name, &self.config));
        own.next().or_else(|| {
            let (name, domain) = user.aors.first()?.split_once('@')?;
            let domain = if domain.is_empty() {
                self.config.domains.first().unwrap_or(&self.config.realm)
            } else {
                domain
            };
            canonical(&Uri::parse(&format!("sip:{name}@{domain}")).ok()?, &self.config)
        })
    }
}

fn between<'m>(edit: Edit<'m>, message: &'m Message, from_friend: bool, to_friend: bool) -> Edit<'m> {
    let has = |name| message.has(name);
    let hidden = !to_friend && wants_privacy(message);
    let edit = match has(Name::PAssertedIdentity) && (!from_friend || hidden) {
        true => edit.remove(Name::PAssertedIdentity),
        false => edit,
    };
    match has(Name::PPreferredIdentity) && !from_friend {
        true => edit.remove(Name::PPreferredIdentity),
        false => edit,
    }
}

/// `Privacy: id`, alone or among others (RFC 3325 §9.3).
fn wants_privacy(message: &Message) -> bool {
    let lines = message.headers().filter(|header| header.name == Name::Privacy);
    let lines = lines.filter_map(|header| std::str::from_utf8(header.value).ok());
    lines.flat_map(|line| line.split(';')).any(|wish| wish.trim().eq_ignore_ascii_case("id"))
}
