//! Branches that stand apart (DESIGN §5: each branch has its own relay session). When a sibling has anchored the caller's
//! side and this proxy forks, the INVITE names one port of one session. The first branch takes that; every other gets a
//! session of its own, made here between the caller, as the sibling describes it, and that branch's callee.
//!
//! ```text
//!            ┌── session of P1 ── bob's desk phone      P1 passes the answers of P2's sessions on as they are: they name
//! alice ── P1                                           the relay already. It knows them by the verdict they carry,
//!            └── session of P2 ── bob's mobile          and has no part in their dialogs' media.
//! ```
//!
//! Where the caller's keys end in P1's session (a browser's), that can't be left out: P2's session comes behind it, with
//! P1's port for a party (`chained`), and P2's answers name P1's session.
//!
//! P1's own session ends when no callee has answered in it by the time repetitions of a 2xx are over.

use std::net::SocketAddr;

use bytes::Bytes;
use proto::control::Session;
use proto::sdp::{Kind, Media as Section, Rewrite, Sdp};
use proto::sip::Message;
use proto::tables::Srtp;

use crate::forwarding::contexts::{Context, Media};
use crate::media::relays::Met;
use crate::media::siblings::{self, Word};
use crate::proxy::{Cx, Proxy};

impl Proxy {
    /// Whether a branch needs a session of its own: another one has the session that the sibling made, or its callee is
    /// not of the address family which that names, or protects its media otherwise than that offers.
    pub(crate) fn stands_apart(&self, context: &Context, index: usize) -> bool {
        let mut others = context.branches.iter().enumerate().filter(|(other, _)| *other != index);
        let taken = others.any(|(_, branch)| branch.media == Media::Direct);
        let described = context.request.sdp().is_none() || !siblings::media_of(&context.request).is_empty();
        let unfit = || {
            let named = match context.request.sdp() {
                Some((_, sdp)) => Sdp::parse(sdp).ok().and_then(|sdp| sdp.addresses().first().copied()),
                // A late offer: the sibling's session meets the callee by the family by which it met us.
                None => Some(context.flow.remote.ip().to_canonical()),
            };
            let hop = context.branches[index].hops.front();
            named
                .zip(hop)
                .is_some_and(|(named, hop)| named.is_ipv4() != hop.remote.ip().to_canonical().is_ipv4())
        };
        (taken || unfit() || self.keys_differ(context, index)) && described && !self.config.relays.is_empty()
    }

    /// The caller as a relay must see it: its network, and its SDP with its own addresses.
    pub(crate) fn caller_at_relay(&self, context: &Context) -> (Met, Option<Bytes>) {
        let sdp = context.request.sdp().map(|(_, sdp)| sdp);
        let Some(word) = context.word.filter(|word| word.session.is_some()) else {
            return (self.met_at(&context.flow), sdp.map(Bytes::copy_from_slice));
        };
        let media = siblings::media_of(&context.request);
        if word.chained {
            // It is met at the sibling's session: the description names that.
            let parsed = sdp.and_then(|sdp| Sdp::parse(sdp).ok());
            let at = parsed.and_then(|sdp| sdp.addresses().first().copied());
            let met = at.map_or(self.met_at(&context.flow), |ip| self.met_from(ip));
            return (met, sdp.map(Bytes::copy_from_slice));
        }
        let seen = word.peer.or(media.iter().flatten().next().map(SocketAddr::ip));
        let network = seen.map_or(self.met_at(&context.flow), |ip| self.met_from(ip));
        (network, sdp.map(|sdp| with_addresses(sdp, &media)))
    }

    /// Whether a sibling can't leave this session out: the party's keys end in it, or it is one of several behind one another.
    pub(crate) fn is_chained(&self, context: &Context, session: Option<Session>) -> bool {
        let held = session.and_then(|session| self.relays.sessions.get(&session));
        session.is_some() && context.word.map_or(context.srtp == Srtp::Dtls, |word| word.chained)
            || held.is_some_and(|held| held.chained)
    }

    /// The session a response to a sibling names: where that one's session has to be gone through, it, and whether ours is
    /// behind it.
    pub(crate) fn session_for_sibling(&self, context: &Context, index: usize) -> (Option<Session>, bool) {
        let own = context.branches[index].session();
        match context.word.filter(|word| word.chained) {
            Some(word) if own.or(context.session).is_some() => (word.session, true),
            _ => (own.map(|(_, session)| session), false),
        }
    }

    /// Where the caller wants its media, section by section, for a sibling that may have to ask a relay itself.
    pub(crate) fn callers_media(&self, context: &Context) -> Vec<Option<SocketAddr>> {
        if context.word.is_some_and(|word| word.session.is_some()) {
            return siblings::media_of(&context.request);
        }
        let sdp = context.request.sdp().and_then(|(_, sdp)| Sdp::parse(sdp).ok());
        sdp.map(|sdp| sdp.media.iter().map(Section::address).collect()).unwrap_or_default()
    }

    /// The session that the dialog of a branch's response has with us: none when a sibling made one for it.
    pub(crate) fn session_with(
        &self,
        cx: &Cx<'_>,
        context: &Context,
        index: usize,
        response: &Message,
    ) -> Option<(u8, Session)> {
        let branch = &context.branches[index];
        let session = branch.session()?;
        let word = branch.flow.and_then(|flow| Word::read(response, &flow, &self.config, cx.now.unix()));
        ours(Some(session), word)
    }

    /// Whether a sibling made a session for this response's dialog, where we have one too.
    pub(crate) fn is_apart(&self, cx: &Cx<'_>, context: &Context, index: usize, response: &Message) -> bool {
        context.branches[index].session().is_some()
            && self.session_with(cx, context, index, response).is_none()
    }

    /// Sessions of an answered INVITE in which nobody has answered.
    pub(crate) fn free_unanswered(&mut self, cx: &mut Cx<'_>, context: &mut Context) {
        for index in 0..context.branches.len() {
            if !context.branches[index].taken {
                self.free_branch(cx, context, index);
            }
        }
    }
}

/// A dialog's session as our token names it, unless a sibling says that it has made another one, and not behind it.
pub(crate) fn ours(session: Option<(u8, Session)>, word: Option<Word>) -> Option<(u8, Session)> {
    let named = word.and_then(|word| word.session);
    let chained = word.is_some_and(|word| word.chained);
    session.filter(|(_, session)| chained || named.is_none_or(|named| named == *session))
}

/// A description that names these addresses again.
fn with_addresses(sdp: &[u8], media: &[Option<SocketAddr>]) -> Bytes {
    let Ok(parsed) = Sdp::parse(sdp) else { return Bytes::copy_from_slice(sdp) };
    let sections = parsed.media.iter().zip(media).map(|(section, at)| {
        let rtcp = |at: SocketAddr| SocketAddr::new(at.ip(), at.port().saturating_add(1));
        let apart = section.kind == Kind::Rtp && !section.rtcp_mux;
        at.map(|at| Rewrite { rtp: at, rtcp: apart.then(|| rtcp(at)) })
    });
    parsed.rewrite(&sections.collect::<Vec<_>>()).into()
}
