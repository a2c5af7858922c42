//! Calls of a peer: a [`Phone`] inside it, whose requests and packets take the peer's paths.
//!
//! Where a SIP proxy is configured, calls go by it, so plain phones can be called and call; its relay stands ready, and
//! between buddies the media leaves it for the direct path as soon as there is one. Without a proxy buddies signal to one
//! another, under the pair's key, and talk on the path that is open between them; where none is, one is opened first, and where
//! none can be, there is no call.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::node::{Birth, Flow, Input, Output, SocketId, Ticket};
use proto::node_auth::NodeKey;
use proto::peer::reach::Path;
use proto::sip::{Message, Method};

use super::carrier::Carrier;
use super::config::{CallReport, PeerConfig};
use super::link::{Link, channel_at, stand_in, stands_for};
use super::media::{Knocking, Newest, Seeking};
use super::node::Peer;
use super::opening::Way;
use crate::{Act, After, Answer, Phone, PhoneConfig, Script, Step};

/// The phone, and how its media goes.
#[derive(Debug)]
pub(super) struct Voice {
    pub(super) phone: Phone,
    /// Media sockets that are the phone's.
    sockets: BTreeSet<SocketId>,
    /// The buddy it talks with.
    pub(super) buddy: Option<usize>,
    /// Its call is signalled under the pair's key; else by the proxy.
    pub(super) by_pair: bool,
    pub(super) carrier: Carrier,
    /// The direct path as it was last seen.
    pub(super) way: Option<Way>,
    /// The newest packet of the buddy's that came directly.
    pub(super) newest: Option<Newest>,
    /// When the server was asked last whether we have moved.
    pub(super) asked: Option<Instant>,
    /// When the server is asked again to have a path opened.
    pub(super) seeking: Option<Seeking>,
    /// A call waits for its path until then.
    patience: Option<Instant>,
    /// What is said again and again while the other side has its NAT opened for us.
    pub(super) knocking: Option<Knocking>,
    /// What was said last on the direct path, without a proxy.
    pub(super) last: Bytes,
    /// From which address, and to where, its media goes if not directly.
    pub(super) relay: Option<(SocketId, SocketAddr)>,
    /// The path of its media when the call was last up.
    pub(super) went: &'static str,
}

/// Media sockets of the phone; above all other tickets of a peer.
const PHONE_TICKET: u64 = 1 << 40;
/// Stands for the proxy where there is none.
const NOBODY: usize = u32::MAX as usize;
/// A phone ends by itself; a peer when it is told to.
const A_YEAR_MS: u64 = 365 * 24 * 3600 * 1000;
/// How long a call waits for its path to be opened: both are told of it, and a spray takes a second and a half.
const PATIENCE: Duration = Duration::from_secs(4);

impl Voice {
    pub(super) fn new(birth: Birth, config: &PeerConfig) -> Voice {
        let proxy = config.proxy.unwrap_or(stand_in(NOBODY));
        let mut phone = PhoneConfig::new(&config.user, &config.domain, config.local, proxy);
        phone.password = Some(config.password.clone());
        phone.rtcp_mux = true;
        let registers = config.proxy.map(|_| Step::new(Act::Register, After::Start, 0));
        let answer = Answer { after_ms: 200, ..Answer::default() };
        let script = Script { answer, steps: registers.into_iter().collect(), until_ms: A_YEAR_MS };
        Voice {
            phone: Phone::new(birth, phone, script),
            sockets: BTreeSet::new(),
            buddy: None,
            by_pair: false,
            carrier: Carrier::default(),
            way: None,
            newest: None,
            asked: None,
            seeking: None,
            patience: None,
            knocking: None,
            last: Bytes::new(),
            relay: None,
            went: "none",
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let knock = self.knocking.map(|knocking| knocking.next);
        let seek = self.seeking.map(|seeking| seeking.next);
        [self.phone.due(), self.carrier.deadline(), knock, seek, self.patience].into_iter().flatten().min()
    }

    /// Which way media goes.
    pub(super) fn path(&self) -> &'static str {
        match (self.carrier.is_direct() || self.by_pair, self.way) {
            (true, Some(way)) if channel_at(way.remote).is_some() => "tunnel",
            (true, Some(_)) => "direct",
            (true, None) => "none",
            (false, _) => "relay",
        }
    }

    pub(super) fn report(&self) -> CallReport {
        let Carrier { upgrades, falls, .. } = self.carrier;
        // Without a proxy there is no relay to come from and go back to.
        let (upgrades, falls) = if self.by_pair { (0, 0) } else { (upgrades, falls) };
        CallReport { path: self.went, upgrades, falls, phone: self.phone.report().clone() }
    }

    /// Where it hears its media.
    pub(super) fn socket(&self) -> Option<SocketId> {
        self.relay.map(|(socket, _)| socket).or_else(|| self.sockets.last().copied())
    }

    pub(super) fn has(&self, socket: SocketId) -> bool {
        self.sockets.contains(&socket)
    }
}

/// Whether a method belongs to calls.
pub(super) fn is_of_calls(method: Method<'_>) -> bool {
    use Method::{Ack, Bye, Cancel, Invite, Refer, Update};
    matches!(method, Invite | Ack | Bye | Cancel | Update | Refer)
}

impl Peer {
    /// Calls somebody: a buddy, or, by the proxy, anybody it knows.
    pub fn call(&mut self, now: Instant, whom: &str) {
        self.now = now;
        self.begin_call(whom);
        self.tick();
    }

    fn begin_call(&mut self, whom: &str) {
        let link = self.links.iter().position(|link| link.aor == whom);
        let open = link.is_some_and(|link| self.links[link].way.is_some());
        let by_pair = self.is_by_pair(link.map(|link| &self.links[link]));
        if by_pair && !open {
            return self.begin_later(whom, link);
        }
        let spray = |link: usize| matches!(self.links[link].reach.path, Path::Spray | Path::SprayBoth);
        if !open && link.is_some_and(spray) {
            self.wish_open(whom);
        }
        self.voice.by_pair = by_pair;
        self.voice.phone.call_now(self.now, &format!("sip:{whom}"));
    }

    /// Between two alone a call needs a path: what can be opened is, and the call waits for it a while.
    fn begin_later(&mut self, whom: &str, link: Option<usize>) {
        if !link.is_some_and(|link| self.links[link].may_open()) {
            return self.not_called(whom);
        }
        self.wish_open(whom);
        self.voice.patience = Some(self.now + PATIENCE);
        self.config.call = Some(whom.to_owned());
    }

    fn not_called(&mut self, whom: &str) {
        self.told.with = whom.to_owned();
        self.voice.phone.was_not_called(480);
    }

    /// The call it is to make by itself: to a buddy as soon as that one is there, to anybody else as soon as it is
    /// registered.
    pub(super) fn call_due(&mut self) {
        let Some(whom) = self.config.call.take() else { return };
        if self.voice.patience.is_some_and(|until| until <= self.now) {
            self.voice.patience = None;
            return self.not_called(&whom);
        }
        if self.report.logged_in && self.is_ready_to_call(&whom) {
            self.voice.patience = None;
            return self.begin_call(&whom);
        }
        self.config.call = Some(whom);
    }

    /// Whether a call has its way: to the proxy, or to a buddy. One that no path leads to is no reason to wait.
    fn is_ready_to_call(&self, whom: &str) -> bool {
        let link = self.links.iter().find(|link| link.aor == whom);
        let there = link.is_none_or(|link| link.online);
        there
            && match (self.is_by_pair(link), link) {
                (true, Some(link)) => link.way.is_some() || self.has_no_path(link),
                (true, None) => false,
                (false, _) => self.voice.phone.report().registered,
            }
    }

    /// Whether a call to whom this link leads is between the two alone: there is no proxy, or it can't help.
    fn is_by_pair(&self, link: Option<&Link>) -> bool {
        self.config.proxy.is_none() || link.is_some_and(Link::is_tunnelled)
    }

    /// Whether a buddy is met by no path of two alone, nor soon will be.
    fn has_no_path(&self, link: &Link) -> bool {
        self.voice.patience.is_none() && link.opening.is_none() && link.via(self.now).is_some()
    }

    /// Ends the call there is.
    pub fn hang_up(&mut self, now: Instant) {
        self.now = now;
        self.voice.phone.hang_up_now(now);
        self.tick();
    }

    /// A SIP message of a call, or of the proxy.
    pub(super) fn phone_hears(&mut self, flow: Flow, message: Message) {
        if message.is_request() && message.method() == Method::Invite && !self.voice.phone.has_begun() {
            self.voice.by_pair = stands_for(flow.remote).is_some();
        }
        self.voice.phone.take_in(self.now, Input::Message { flow, message });
    }

    /// A media socket is open, or could not be opened; `false`: it is none of the phone's.
    pub(super) fn phone_bound(&mut self, ticket: Ticket, bound: Option<(SocketId, SocketAddr)>) -> bool {
        let Some(own) = ticket.0.checked_sub(PHONE_TICKET).map(Ticket) else { return false };
        self.voice.sockets.extend(bound.map(|(socket, _)| socket));
        let input = match bound {
            Some((socket, local)) => Input::Bound { ticket: own, socket, local },
            None => Input::BindFailed { ticket: own, local: self.config.local, why: String::new() },
        };
        self.voice.phone.take_in(self.now, input);
        true
    }

    /// The path to a buddy has answered.
    pub(super) fn path_answered(&mut self, link: usize) {
        if self.voice.buddy == Some(link) {
            self.voice.carrier.proven();
        }
    }

    /// Everything that is due; what the phone wants is done in the peer's way.
    pub(super) fn voice_due(&mut self) {
        self.voice.phone.take_in(self.now, Input::Wake);
        self.follow_call();
        self.fall_back();
        self.knock_due();
        self.seek_due();
        self.beat_due();
        while let Some(output) = self.voice.phone.take_out() {
            match output.on_the_wire() {
                Output::Send { flow, bytes, ticket } => self.phone_sends(flow, bytes, ticket),
                Output::SendMedia { socket, to, bytes } => self.phone_talks(socket, to, bytes),
                Output::Bind { ticket, local } => {
                    self.out.push_back(Output::Bind { ticket: Ticket(PHONE_TICKET + ticket.0), local });
                }
                Output::Release { socket } => {
                    self.voice.sockets.remove(&socket);
                    self.out.push_back(Output::Release { socket });
                }
                // What is new of its calls the peer tells itself, with their paths.
                Output::Event(_) => {}
                other => self.out.push_back(other),
            }
        }
        if self.voice.phone.has_begun() {
            self.voice.went = self.voice.path();
        }
    }

    /// To a buddy under the pair's key, else to the proxy.
    fn phone_sends(&mut self, flow: Flow, bytes: Bytes, ticket: Ticket) {
        let to_buddy = stands_for(flow.remote).is_some_and(|link| link != NOBODY);
        let request = Message::parse(bytes.clone()).ok().filter(Message::is_request);
        let request = request.filter(|request| self.voice.by_pair && request.method() != Method::Register);
        let (false, Some(request)) = (to_buddy, request) else {
            return self.out.push_back(Output::Send { flow, bytes, ticket });
        };
        let to = request.to().ok().and_then(|to| to.uri().ok()?.aor());
        let Some(link) = to.and_then(|to| self.links.iter().position(|link| link.aor == to)) else { return };
        let signed = NodeKey(self.links[link].pair.key).sign(&request, self.birth.unix_at(self.now));
        let flow = Flow::udp(self.config.local, stand_in(link));
        self.out.push_back(Output::Send { flow, bytes: signed.bytes().clone(), ticket: Ticket(0) });
    }
}
