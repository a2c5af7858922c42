//! Response contexts (RFC 3261 §16): a request under way, its branches, and what came back so far.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::control::Session;
use proto::event::{Name, Side};
use proto::node::{Flow, Ticket};
use proto::sip::Message;
use proto::sip::transaction::{ClientId, ServerId};
use proto::tables::{Anchor, Latch, Srtp, User};
use proto::timers::Timer;

use crate::config::Config;
use crate::hiding::privacy::Wish;
use crate::media::decision::Party;
use crate::media::siblings::Word;
use crate::nat;
use crate::routing::preprocessing::Routed;
use crate::routing::target::Hops;
use crate::trunks::Chosen;

/// One request that is being forwarded.
#[derive(Debug)]
pub(crate) struct Context {
    /// Its server transaction; also this context's name.
    pub(crate) server: ServerId,
    /// Where it came from.
    pub(crate) flow: Flow,
    /// As it came.
    pub(crate) request: Message,
    /// What its Routes came to.
    pub(crate) routed: Routed,
    /// What a loop of it would carry in our Via.
    pub(crate) mark: u32,
    /// INVITE has rules of its own.
    pub(crate) is_invite: bool,
    /// By how much its CSeq is raised, as all the caller's are in this dialog (see `trunks::login`).
    pub(crate) shift: u32,
    /// Which party of the call sent it.
    pub(crate) sender: Side,
    /// The sender's account.
    pub(crate) user: Option<Arc<User>>,
    /// Whether the sender is a phone, though it may send from a trunk's address.
    pub(crate) from_phone: bool,
    /// What a sibling says of the sender.
    pub(crate) word: Option<Word>,
    /// The sender's relay leg: whether it is trusted, and whom it accepts first.
    pub(crate) trusted: bool,
    /// See `trusted`.
    pub(crate) latch: Latch,
    /// How the sender's media is protected.
    pub(crate) srtp: Srtp,
    /// The call this request began, or takes part in.
    pub(crate) call: Option<Name>,
    /// What its sender wants kept from the other side.
    pub(crate) privacy: Wish,
    /// What it is to the call.
    pub(crate) role: Role,
    /// How old its call is, when that was recorded by a former life of ours, which is forgotten.
    pub(crate) former: Option<Duration>,
    /// The relay session of the dialog it belongs to.
    pub(crate) session: Option<(u8, Session)>,
    /// Under way, or done with.
    pub(crate) branches: Vec<Branch>,
    /// Targets of lower preference, for when these fail (RFC 3261 §16.6: serial by q).
    pub(crate) later: VecDeque<Target>,
    /// The best final response so far.
    pub(crate) best: Option<Final>,
    /// Challenges of all 401 and 407 so far (§16.7 step 7).
    pub(crate) challenges: Vec<(proto::sip::Name, String)>,
    /// Whether a final response went back.
    pub(crate) answered: Answered,
    /// Responses whose SDP is at a relay.
    pub(crate) at_relay: u32,
    /// CANCEL came.
    pub(crate) cancelled: bool,
    /// Timer C, or the wait for repetitions of a 2xx.
    pub(crate) timer: Option<Timer>,
}

/// What a request is to its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The INVITE that began it.
    Begins,
    /// BYE.
    Ends,
    /// Anything else.
    Other,
}

/// What went back upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// No final response yet.
    No,
    /// A 2xx.
    Success,
    /// Another final response.
    Failure,
}

/// A final response that may be chosen.
#[derive(Clone, Debug)]
pub(crate) struct Final {
    /// Its status.
    pub(crate) status: u16,
    /// By which branch it came, and as it came; `None`: ours to make.
    pub(crate) response: Option<(usize, Box<Message>)>,
    /// For one of ours: seconds until trying again makes sense.
    pub(crate) retry_after: Option<u32>,
    /// For one of ours: why, in the operator's words.
    pub(crate) words: Option<Box<str>>,
}

impl Final {
    /// One of ours.
    pub(crate) fn own(status: u16) -> Final {
        Final { status, response: None, retry_after: None, words: None }
    }
}

/// Where a request may go (RFC 3261 §16.5).
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The request URI to write; `None`: it stays.
    pub(crate) uri: Option<String>,
    /// The way there.
    pub(crate) hops: Hops,
    /// Paths known otherwise, for when those fail.
    pub(crate) known: Vec<Flow>,
    /// Routes to push (RFC 3327 §5.4), topmost first.
    pub(crate) path: Vec<String>,
    /// Preference, in thousandths.
    pub(crate) q: u16,
    /// Whether the redirect servers are to be asked who serves it.
    pub(crate) lookup: bool,
    /// The device as it registered.
    pub(crate) device: Option<Device>,
    /// Whether it is a trusted trunk.
    pub(crate) trusted: bool,
    /// Whether it is a phone in a dialog, at an address that is a trunk's.
    pub(crate) beside_trunk: bool,
    /// Its media rule.
    pub(crate) anchor: Option<Anchor>,
    /// Its latch rule.
    pub(crate) latch: Option<Latch>,
    /// How its media is protected.
    pub(crate) srtp: Option<Srtp>,
    /// A flow that ends here, of a device that is registered elsewhere (RFC 5626 §5).
    pub(crate) at_edge: bool,
    /// Other flows to the same device (RFC 5626 §7), for when this one is gone.
    pub(crate) flows: VecDeque<Target>,
    /// The trunk it is of, and which of its servers.
    pub(crate) chosen: Option<Chosen>,
    /// What is tried when this one is down, silent or full.
    pub(crate) others: VecDeque<Target>,
    /// The route whose HTTP server says where this goes, by its place.
    pub(crate) asked: Option<usize>,
}

/// A registered device as the media decision and the token want it.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// See [`crate::dialogs::tokens::binding_mark`].
    pub(crate) mark: u32,
    /// Whether it showed signs of a NAT.
    pub(crate) behind_nat: bool,
    /// Whose it is.
    pub(crate) aor: Box<str>,
}

impl Target {
    /// By these paths, the request URI as it is.
    pub(crate) fn by(hops: Hops) -> Target {
        Target {
            uri: None,
            hops,
            known: Vec::new(),
            path: Vec::new(),
            q: 1000,
            lookup: false,
            device: None,
            trusted: false,
            beside_trunk: false,
            anchor: None,
            srtp: None,
            latch: None,
            at_edge: false,
            flows: VecDeque::new(),
            chosen: None,
            others: VecDeque::new(),
            asked: None,
        }
    }

    /// Whether it is a phone, though its address may be a trunk's.
    pub(crate) fn is_phone(&self) -> bool {
        self.device.is_some() || self.beside_trunk
    }

    /// Its paths, when no name has to be resolved for them.
    pub(crate) fn ready_hops(&mut self) -> Vec<Flow> {
        match &mut self.hops {
            Hops::Ready(flows) => std::mem::take(flows),
            Hops::Ask(_) => Vec::new(),
        }
    }

    /// This, as a server of a trunk.
    pub(crate) fn of(self, chosen: Chosen) -> Target {
        Target { chosen: Some(chosen), ..self }
    }
}

/// One attempt at one target.
#[derive(Debug)]
pub(crate) struct Branch {
    /// Where it goes.
    pub(crate) target: Target,
    /// Paths not tried yet, best first.
    pub(crate) hops: VecDeque<Flow>,
    /// They were found by RFC 3263, and nothing fixed the transport.
    pub(crate) found_by_name: bool,
    /// How far it is.
    pub(crate) stage: Stage,
    /// The path it took.
    pub(crate) flow: Option<Flow>,
    /// Its client transaction, as long as responses may come.
    pub(crate) client: Option<ClientId>,
    /// Timer C (RFC 3261 §16.6 step 11): until when a final response may take, put off by each provisional one.
    pub(crate) patience: Option<Instant>,
    /// A provisional response came, 100 too.
    pub(crate) provisional: bool,
    /// One from the callee came: 101–199.
    pub(crate) rang: bool,
    /// Media is decided.
    pub(crate) media: Media,
    /// A callee has answered in the relay session that `media` names.
    pub(crate) taken: bool,
    /// Whether the redirect servers have answered, and which of them is asked.
    pub(crate) lookups: usize,
    /// How far it may be forked, when we fork (RFC 5393 §5).
    pub(crate) breadth: Option<u32>,
    /// The SDP to send instead of the caller's.
    pub(crate) sdp: Option<Bytes>,
    /// Challenges answered for it.
    pub(crate) logins: u8,
    /// By how much its CSeq is raised beyond [`Context::shift`].
    pub(crate) shift: u32,
}

/// How far a branch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not begun.
    New,
    /// The name is being resolved.
    Resolving(Ticket),
    /// A relay is asked.
    AtRelay,
    /// A redirect server is asked.
    AtRedirect,
    /// Forwarded.
    Sent,
    /// Done with.
    Done,
}

/// What is settled about a branch's media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// Nothing yet.
    Open,
    /// No relay of ours.
    Direct,
    /// This relay session.
    Anchored(u8, Session),
}

impl Branch {
    pub(crate) fn new(target: Target) -> Branch {
        Branch {
            target,
            hops: VecDeque::new(),
            found_by_name: false,
            stage: Stage::New,
            flow: None,
            client: None,
            patience: None,
            provisional: false,
            rang: false,
            media: Media::Open,
            taken: false,
            lookups: 0,
            breadth: None,
            sdp: None,
            logins: 0,
            shift: 0,
        }
    }

    /// Whether this path of it leads to a proxy of ours. A device that registered is none, wherever it is.
    pub(crate) fn leads_to_sibling(&self, path: &Flow, config: &Config) -> bool {
        self.target.device.is_none() && config.is_sibling(path.remote.ip())
    }

    /// Its relay session.
    pub(crate) fn session(&self) -> Option<(u8, Session)> {
        match self.media {
            Media::Anchored(relay, session) => Some((relay, session)),
            _ => None,
        }
    }
}

impl Context {
    /// Whether nothing is under way any more.
    pub(crate) fn is_idle(&self) -> bool {
        self.branches.iter().all(|branch| branch.stage == Stage::Done)
    }

    /// Whether a failure of this branch, whose path is taken, is the answer to the INVITE: nobody else is asked, or will be, and
    /// nothing in it is for us to act on.
    pub(crate) fn is_last_hope(&self, index: usize) -> bool {
        let Branch { target, hops, shift, .. } = &self.branches[index];
        let alone =
            self.branches.iter().enumerate().all(|(at, other)| at == index || other.stage == Stage::Done);
        let last =
            hops.is_empty() && target.flows.is_empty() && target.others.is_empty() && self.later.is_empty();
        self.is_invite && alone && last && !target.lookup && self.shift + shift == 0
    }

    /// Nobody else will be tried: what only new attempts need is dropped, since an answered INVITE lingers.
    pub(crate) fn no_more_attempts(&mut self) {
        self.later = VecDeque::new();
        self.branches.iter_mut().for_each(|branch| branch.sdp = None);
    }

    /// Whether it may be forgotten: an answered INVITE stays for repetitions of its 2xx until its timer says so, any other
    /// request until the relay has given its answer back.
    pub(crate) fn is_over(&self) -> bool {
        match self.answered {
            Answered::No => false,
            Answered::Failure => self.is_idle(),
            Answered::Success => self.is_idle() && !self.is_invite && self.at_relay == 0,
        }
    }

    /// The sender as the media decision sees it, at its first hop.
    pub(crate) fn party(&self, network: usize) -> Party {
        let sdp = self.request.sdp().and_then(|(_, bytes)| proto::sdp::Sdp::parse(bytes).ok());
        Party {
            flow: self.flow,
            network,
            ice: sdp.as_ref().is_some_and(|sdp| sdp.has_ice()),
            sdp: sdp.map(|sdp| sdp.addresses()).unwrap_or_default(),
            signs_of_nat: nat::shows(&self.request, &self.flow),
        }
    }
}
