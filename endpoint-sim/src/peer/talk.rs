//! Requests between peers, and from the access server: who may send them, and what they mean.
//!
//! Between buddies every request is signed under the pair's key, whatever path it takes; whoever has no such key is a
//! stranger and is refused.

use std::net::SocketAddr;

use proto::node::{Flow, Output, SocketId, Ticket};
use proto::node_auth::{NodeKey, Proof};
use proto::peer::reach::Path;
use proto::peer::words::{self, NOTICE, Notice, PIDF};
use proto::sip::transaction::ServerId;
use proto::sip::{Builder, Message, Method, Name, reply};

use super::link::{stand_in, stands_for};
use super::node::{Peer, Purpose};
use super::opening::{Part, Way};
use super::voice::is_of_calls;

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Direct(Way),
    Reflector,
    Server,
}

impl Source {
    pub(super) fn direct(socket: Option<SocketId>, remote: SocketAddr) -> Source {
        Source::Direct(Way { socket, remote })
    }
}

impl Peer {
    /// A SIP message came in.
    pub(super) fn sip(&mut self, source: Source, message: Message) {
        let flow = match source {
            Source::Direct(way) => Flow::udp(self.config.local, way.remote),
            Source::Reflector | Source::Server => self.server_flow(),
        };
        if !message.is_request() {
            if is_of_calls(message.method()) {
                return self.phone_hears(flow, message);
            }
            let received = self.transactions.receive(self.now, flow, message);
            return self.received(received);
        }
        let flow = match self.sender(&message) {
            Some(link) => {
                self.learn(link, source);
                match source {
                    // It goes back the way it came, through the server.
                    Source::Server => flow,
                    _ => Flow::udp(self.config.local, stand_in(link)),
                }
            }
            None if source == Source::Server && self.is_from_server(&message) => flow,
            None => return self.refuse_stranger(flow, &message),
        };
        if is_of_calls(message.method()) && stands_for(flow.remote).is_some() {
            return self.phone_hears(flow, message);
        }
        let received = self.transactions.receive(self.now, flow, message);
        self.received(received);
    }

    /// The buddy whose pair key signed this.
    fn sender(&self, message: &Message) -> Option<usize> {
        let aor = message.from().ok()?.uri().ok()?.aor()?;
        let link = self.links.iter().position(|link| link.aor == aor)?;
        let unix = self.birth.unix_at(self.now);
        (NodeKey(self.links[link].pair.key).check(message, unix) == Proof::Proven).then_some(link)
    }

    fn is_from_server(&self, message: &Message) -> bool {
        let unix = self.birth.unix_at(self.now);
        let key = self.session.as_ref().map(|session| NodeKey(*session.sealing.key));
        key.is_some_and(|key| key.check(message, unix) == Proof::Proven)
    }

    /// Its sealed words came by this path, so that ours may go back by it.
    fn learn(&mut self, link: usize, source: Source) {
        if source == Source::Reflector && self.links[link].has_no_way_back() {
            self.log_in_again();
        }
        let link = &mut self.links[link];
        let Source::Direct(way) = source else { return };
        link.hear(way);
        if link.opening.is_none() || link.way.is_none() {
            link.way = Some(way);
        }
    }

    /// A stranger learns only that it is one; nothing is kept for it.
    fn refuse_stranger(&mut self, flow: Flow, message: &Message) {
        self.report.strangers += 1;
        if message.method() != Method::Ack {
            let bytes = reply(message, 403, &self.dice.word(8)).finish().bytes().clone();
            self.out.push_back(Output::Send { flow, bytes, ticket: Ticket(0) });
        }
    }

    /// A request of a buddy, or of the server.
    pub(super) fn asked(&mut self, id: ServerId, flow: Flow, message: &Message) {
        let buddy = stands_for(flow.remote).or_else(|| self.sender(message));
        let status = match (message.method(), buddy) {
            (Method::Notify, Some(link)) => self.presence(link, message),
            (Method::Message, None) if message.text(Name::ContentType) == Some(NOTICE) => {
                match words::read::<Notice>(message.body()) {
                    Some(notice) => self.heed(&notice),
                    None => 400,
                }
            }
            (Method::Message, _) => self.heard(message),
            _ => 405,
        };
        let response = reply(message, status, &self.dice.word(8)).finish();
        self.transactions.respond(self.now, id, response);
    }

    fn heard(&mut self, message: &Message) -> u16 {
        let from = message.from().ok().and_then(|from| from.uri().ok()?.aor()).unwrap_or_default();
        let text = String::from_utf8_lossy(message.body()).into_owned();
        if self.report.messages.len() < MAX_MESSAGES {
            self.report.messages.push((from, text));
        }
        200
    }

    /// "I am here", or "I leave".
    fn presence(&mut self, link: usize, message: &Message) -> u16 {
        match words::read_pidf(message.body()) {
            Some(open) => {
                self.set_online(link, open);
                200
            }
            None => 400,
        }
    }

    pub(super) fn set_online(&mut self, link: usize, online: bool) {
        self.links[link].online = online;
        if online {
            self.watch(link);
        } else {
            self.links[link].announce = None;
            self.links[link].close(&mut self.out);
        }
    }

    /// What the server says.
    fn heed(&mut self, notice: &Notice) -> u16 {
        match notice {
            Notice::Punch(buddy, route) => {
                let (link, _) = self.link_for(buddy, route);
                self.report.punches += u32::from(self.links[link].reach.needs_punch());
                // A spray is not for every buddy at every login: until one is asked for, words take the reflector.
                let on_demand = matches!(self.links[link].reach.path, Path::Spray | Path::SprayBoth);
                if !on_demand || self.links[link].online {
                    self.open_link(link, Part::Responder);
                }
            }
            Notice::Met(buddy, route) => {
                let (link, _) = self.link_for(buddy, route);
                if buddy.online {
                    self.open_link(link, Part::Initiator);
                    self.links[link].announce = Some(true);
                }
            }
            Notice::Gone(aor) => {
                if let Some(link) = self.links.iter().position(|link| link.aor == *aor) {
                    self.set_online(link, false);
                }
            }
        }
        200
    }

    /// Begins a request to a buddy.
    pub(super) fn request_for(&mut self, link: usize, method: &str) -> Builder {
        let aor = self.links[link].aor.clone();
        self.begin(method, &aor)
    }

    /// Signs it and sends it, by whatever path there is each time it is repeated.
    pub(super) fn send_to_buddy(&mut self, link: usize, request: Builder, purpose: Purpose) {
        let key = NodeKey(self.links[link].pair.key);
        let request = key.sign(&request.finish(), self.birth.unix_at(self.now));
        let flow = Flow::udp(self.config.local, stand_in(link));
        let id = self.transactions.request(self.now, flow, request);
        self.pending.insert(id, purpose);
    }

    /// Tells those buddies that are to be told, as soon as there is a path.
    pub(super) fn announce_all(&mut self) {
        for link in 0..self.links.len() {
            let Some(open) = self.links[link].announce else { continue };
            if self.links[link].via(self.now).is_none() {
                continue;
            }
            self.links[link].announce = None;
            let presence = words::pidf(&self.config.aor(), open);
            let state = if open { "active;expires=3600" } else { "terminated;reason=deactivated" };
            let request = self
                .request_for(link, "NOTIFY")
                .header(Name::Event, "presence")
                .header(Name::SubscriptionState, state)
                .body(PIDF, presence.as_bytes());
            self.send_to_buddy(link, request, Purpose::Presence { link, open });
        }
    }

    /// A buddy has answered, or not: that it answered says that it is there.
    pub(super) fn told(&mut self, link: usize, open: bool, status: u16) {
        if open {
            self.set_online(link, status == 200);
        }
    }
}

/// Messages kept for the report.
const MAX_MESSAGES: usize = 1000;
