//! The privacy service (RFC 3323 §5): what a party wants kept from the other side is taken off where a message leaves the house,
//! towards phones and foreign domains. Siblings and trunks get it as it is, wish included: the last of us, or the carrier, does it.
//!
//! | `Privacy:` | what leaves |
//! |---|---|
//! | `header` | one Via, ours; Record-Route, Path and Contact under sealed names ([`crate::hiding::veil`]) |
//! | `user` | `From: "Anonymous" <sip:anonymous@anonymous.invalid>` (put back in answers); Contact under a sealed name; no header that is about the person or its device, no asserted identity |
//! | `session` | the media by a relay, the description without names ([`proto::sdp::anonymous`]) |
//! | `id` | see [`crate::gate::identity`] |
//!
//! A wish counts for the message it stands in. The caller's counts for its dialog, too: it comes back to us in the Route of its
//! requests (`;priv=hsu`), so nothing is stored. Who takes it out of there tells on itself only. What was done is taken off the
//! Privacy header (§5). Call-ID and tags stay: a proxy can't change them.

use proto::node::Flow;
use proto::sdp::anonymous;
use proto::sip::{Message, Method, Name, Params};

use crate::forwarding::contexts::{Branch, Context};
use crate::gate::validate::Refusal;
use crate::proxy::{Cx, Proxy};

/// What a party wants hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) header: bool,
    pub(crate) session: bool,
    pub(crate) user: bool,
    /// Better no call than one without it.
    pub(crate) critical: bool,
}

/// From, when `user` is asked for (RFC 3323 §4.1.1.3); its tag follows.
const ANONYMOUS: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";

/// What tells of a person or its device (RFC 3323 §4.1, §5.3), and is not needed for the call.
const PERSONAL: [Name; 6] = [
    Name::Subject,
    Name::UserAgent,
    Name::Server,
    Name::PAssertedIdentity,
    Name::PPreferredIdentity,
    Name::HistoryInfo,
];
const PERSONAL_OTHERS: [&str; 5] =
    ["Call-Info", "Organization", "Reply-To", "In-Reply-To", "Remote-Party-ID"];

impl Wish {
    /// What a message asks for. A registrar must know who registers.
    pub(crate) fn of(message: &Message) -> Wish {
        if message.text(Name::Privacy).is_none() || message.method() == Method::Register {
            return Wish::default();
        }
        let says = |word: &str| words(message).any(|said| said.eq_ignore_ascii_case(word));
        match says("none") {
            true => Wish::default(),
            false => Wish {
                header: says("header"),
                session: says("session"),
                user: says("user"),
                critical: says("critical"),
            },
        }
    }

    /// What the caller of a dialog asked for once, by the Route it was given.
    pub(crate) fn in_route(params: &Params<'_>) -> Wish {
        let said = params.get(PARAM).unwrap_or_default();
        let has = |letter| said.contains(letter);
        Wish { header: has('h'), session: has('s'), user: has('u'), critical: false }
    }

    /// A Record-Route for the caller, which brings its wish back.
    pub(crate) fn onto(self, route: String) -> String {
        let letters = [(self.header, 'h'), (self.session, 's'), (self.user, 'u')];
        let said: String = letters.into_iter().filter(|(is, _)| *is).map(|(_, letter)| letter).collect();
        match route.strip_suffix('>').filter(|_| !said.is_empty()) {
            Some(open) => format!("{open};{PARAM}={said}>"),
            None => route,
        }
    }

    pub(crate) fn and(self, other: Wish) -> Wish {
        Wish {
            header: self.header || other.header,
            session: self.session || other.session,
            user: self.user || other.user,
            critical: self.critical || other.critical,
        }
    }

    pub(crate) fn is_any(self) -> bool {
        self.header || self.session || self.user
    }

    /// This for strangers; for friends nothing.
    fn unless(self, friend: bool) -> Wish {
        if friend { Wish::default() } else { self }
    }
}

impl Proxy {
    /// Whether a branch leads to somebody who is to know everything.
    pub(crate) fn leads_to_friend(&self, branch: &Branch, to: &Flow) -> bool {
        branch.leads_to_sibling(to, &self.config) || self.leads_to_trunk(branch, to)
    }

    /// What is hidden from whom a branch leads to.
    pub(crate) fn hidden_from_callee(&self, context: &Context, index: usize, to: Option<&Flow>) -> Wish {
        let branch = &context.branches[index];
        context.privacy.unless(to.is_none_or(|to| self.leads_to_friend(branch, to)))
    }

    /// What is hidden from whoever gets this ACK, which has no branch.
    pub(crate) fn hidden_by_ack(&self, cx: &Cx<'_>, ack: &Message, of_dialog: Wish, to: &Flow) -> Wish {
        let trunk = || self.is_trunk(to) && !self.is_beside_trunk(cx, ack.to().ok(), to);
        let friend = self.config.is_sibling(to.remote.ip()) || trunk();
        Wish::of(ack).and(of_dialog).unless(friend)
    }

    /// What a callee wants hidden from whom its answer goes to.
    pub(crate) fn hidden_from_caller(&self, context: &Context, response: &Message) -> Wish {
        Wish::of(response).unless(context.word.is_some() || self.trunk_of(context).is_some())
    }

    /// §5: who would rather not call at all than be seen is told when nobody here can hide it.
    pub(crate) fn refuse_what_cant_be_hidden(&self, context: &Context) -> Result<(), Refusal> {
        let wish = context.privacy;
        match wish.critical && wish.session && context.word.is_none() && self.config.relays.is_empty() {
            true => Err(Refusal::new(500, "Privacy: session;critical, and there is no relay to hide media")),
            false => Ok(()),
        }
    }
}

/// A message without what its sender wants hidden, apart from what [`crate::hiding::veil`] hides.
pub(crate) fn without_person(message: Message, wish: Wish) -> Message {
    if !wish.is_any() {
        return message;
    }
    let anonymous_from = format!("{ANONYMOUS};tag={}", message.from_tag());
    let described = message.sdp().filter(|_| wish.session).map(|(_, sdp)| anonymous(sdp));
    let mut edit = message.edit();
    if wish.user {
        edit = PERSONAL.into_iter().fold(edit, |edit, name| edit.remove(name));
        edit = PERSONAL_OTHERS.into_iter().fold(edit, |edit, name| edit.rewrite_named(name, |_| Some(None)));
        if message.is_request() {
            edit = edit.set(Name::From, &anonymous_from);
        }
    }
    if let Some(sdp) = &described {
        edit = edit.sdp(sdp);
    }
    if message.text(Name::Privacy).is_some() {
        let left = words(&message).filter(|word| !is_done(word, wish)).collect::<Vec<_>>();
        edit = edit.remove(Name::Privacy);
        if left.iter().any(|word| !word.eq_ignore_ascii_case("critical")) {
            edit = edit.append(Name::Privacy, &left.join(";"));
        }
    }
    edit.finish()
}

fn is_done(word: &str, wish: Wish) -> bool {
    let done = [(wish.header, "header"), (wish.session, "session"), (wish.user, "user")];
    done.into_iter().any(|(done, name)| done && word.eq_ignore_ascii_case(name))
}

fn words(message: &Message) -> impl Iterator<Item = &str> {
    let lines = message.headers().filter(|header| header.name == Name::Privacy);
    let lines = lines.filter_map(|header| std::str::from_utf8(header.value).ok());
    lines.flat_map(|line| line.split([';', ','])).map(str::trim).filter(|word| !word.is_empty())
}

const PARAM: &str = "priv";
