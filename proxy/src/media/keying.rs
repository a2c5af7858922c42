//! How the parties of a call protect their media (`srtp`): what is known of each, and whether a relay has to stand between.

use proto::node::Flow;
use proto::sdp::{Kind, Media as Section, Protection, Sdp};
use proto::tables::Srtp;

use crate::forwarding::contexts::Context;
use crate::proxy::Proxy;

impl Proxy {
    /// Whether the callee protects its media otherwise than the offer does, as far as either is known.
    pub(crate) fn keys_differ(&self, context: &Context, index: usize) -> bool {
        let parties = self.srtp_of(context, index);
        let offer = context.request.sdp().and_then(|(_, sdp)| Sdp::parse(sdp).ok());
        let theirs = Protection::wanted(parties[1]);
        let differs = |media: &Section<'_>| {
            let own = Protection::of(media);
            media.port != 0 && media.kind == Kind::Rtp && (own != theirs || own == Protection::Dtls)
        };
        // Before a late offer there are only the parties' own words.
        let expected = || Protection::wanted(parties[0]) != theirs;
        parties != [Srtp::Pass; 2] && offer.map_or_else(expected, |sdp| sdp.media.iter().any(differs))
    }

    /// How media of parties met here is protected, where nothing else is known of them.
    pub(crate) fn srtp_at(&self, flow: &Flow) -> Srtp {
        let listener = self.config.listeners.get(self.listener_of(flow));
        listener.and_then(|listener| listener.srtp).unwrap_or(self.config.srtp)
    }

    /// How caller and callee of a branch protect their media. What another proxy serves is that one's to translate, which
    /// knows both; but what only the caller's own first hop can end is plain RTP beyond it.
    pub(crate) fn srtp_of(&self, context: &Context, index: usize) -> [Srtp; 2] {
        let branch = &context.branches[index];
        let elsewhere = branch
            .hops
            .front()
            .map_or(branch.target.lookup, |hop| branch.leads_to_sibling(hop, &self.config));
        if elsewhere {
            let beyond = self.srtp_beyond(context);
            return if beyond == context.srtp { [Srtp::Pass; 2] } else { [context.srtp, beyond] };
        }
        let met = || branch.hops.front().map_or(self.config.srtp, |hop| self.srtp_at(hop));
        [context.srtp, branch.target.srtp.unwrap_or_else(met)]
    }

    /// How a caller's media is protected for whoever is behind another proxy of ours.
    pub(crate) fn srtp_beyond(&self, context: &Context) -> Srtp {
        if context.srtp == Srtp::Dtls { Srtp::Plain } else { context.srtp }
    }
}
