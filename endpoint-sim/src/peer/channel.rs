//! What is kept open: the first channel, to the access server; the mapping at the reflector; the paths to buddies.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use proto::node::{Dice, Flow, Output, SocketId, Ticket};
use proto::stun::{self, Class, TransactionId, Writer, attribute};

use super::life::{FOR_KEEP_ALIVES, Life};
use super::link::Via;
use super::node::{Bind, Peer};
use super::opening::{Part, Way, answer};

/// How often a path to a buddy is asked about, ± 10 %, at least.
const CONSENT: Duration = Duration::from_secs(20);
/// How soon again when there was no answer.
const AGAIN: Duration = Duration::from_millis(250);
/// Questions without an answer that end a path.
const UNANSWERED: u8 = 3;
/// A bind ticket is renewed so often, which also keeps the mapping at the reflector open.
const REBIND: Duration = Duration::from_secs(20);

/// Hellos that nobody has signed are heeded so often, at most.
const GREETED_EVERY: Duration = Duration::from_secs(10);
/// Those who missed the server come back over so long, for they notice all at once that it is there again.
const RETURN: Duration = Duration::from_secs(10);
/// Those who didn't come back within this.
const SOON: Duration = Duration::from_millis(300);

/// A keep-alive comes a fifth to a twentieth before it must, so that those of many don't come together.
pub(super) fn spread(every: Duration, dice: &mut Dice) -> Duration {
    every * 4 / 5 + Duration::from_millis(dice.below(every.as_millis() as u64 * 15 / 100 + 1))
}

impl Bind {
    /// Whether a first answer may still come.
    pub(super) fn is_awaited(&self) -> bool {
        self.next.is_some() && self.proven.is_none() && self.tries < UNANSWERED
    }
}

impl Peer {
    fn send_stun(&mut self, way: Way, bytes: Vec<u8>) {
        self.send_directly(way, bytes.into());
    }

    pub(super) fn send_directly(&mut self, way: Way, bytes: Bytes) {
        let flow = Flow::udp(self.config.local, way.remote);
        self.out.push_back(match way.socket {
            Some(socket) => Output::SendMedia { socket, to: way.remote, bytes },
            None => Output::Send { flow, bytes, ticket: Ticket(0) },
        });
    }

    /// A number that only grows, and chance: the access server takes no keep-alive twice.
    fn keep_alive_number(&mut self) -> TransactionId {
        let wall = self.birth.wall_at(self.now).duration_since(std::time::SystemTime::UNIX_EPOCH);
        let millis = wall.map_or(0, |wall| wall.as_millis() as u64);
        let mut id = [0; 12];
        id[..8].copy_from_slice(&millis.to_be_bytes());
        id[8..].copy_from_slice(&self.dice.bytes::<4>());
        id
    }

    pub(super) fn keep_alive_due(&mut self) {
        let due = self.session.as_ref().is_some_and(|s| s.keep_alive_at.is_some_and(|at| at <= self.now));
        if due {
            self.ask_server();
        }
    }

    /// Says to the access server that we are here, and learns from where it sees us.
    pub(super) fn ask_server(&mut self) {
        let id = self.keep_alive_number();
        let now = self.now;
        let Some(session) = &mut self.session else { return };
        session.unanswered = session.unanswered.saturating_add(1);
        session.asked = Some(id);
        let wait = session.keep_alive.unwrap_or(CONSENT);
        let wait = if session.unanswered > 1 { wait.min(AGAIN * 4) } else { spread(wait, &mut self.dice) };
        session.keep_alive_at = Some(now + wait);
        let label = session.sealing.label.clone();
        let bytes =
            Writer::request(id).attribute(attribute::USERNAME, label.as_bytes()).seal(&*session.sealing.key);
        self.tell_server(bytes);
    }

    /// The server says hello, or somebody does: perhaps it has been restarted, and knows us no more. It is asked.
    fn greeted(&mut self) {
        let Some(session) = &mut self.session else { return };
        if session.greeted.is_none_or(|at| self.now >= at + GREETED_EVERY) {
            session.greeted = Some(self.now);
            self.ask_server();
        }
    }

    /// How long mappings live is not known yet, and keep-alives depend on it.
    pub(super) fn measure_life(&mut self) {
        let unknown = self.findings.is_some_and(|findings| findings.verdict.life_ms.is_none());
        if self.config.measures_life && unknown && self.life.is_none() && !self.measured {
            let (local, server) = (self.config.local, self.config.stun);
            let life = Life::new(local, server, FOR_KEEP_ALIVES, &mut self.dice, &mut self.out);
            (self.life, self.measured) = (Some(life), true);
        }
    }

    /// It goes on; what it brings goes into a login when keep-alives are to come more often.
    pub(super) fn life_due(&mut self) {
        let Some(life) = &mut self.life else { return };
        life.wake(self.now, &mut self.out);
        let (Some(known), Some(findings)) = (life.result(), &mut self.findings) else { return };
        self.life = None;
        let before = findings.verdict.keep_alive();
        findings.verdict.life_ms = known.map(|life| life.as_millis() as u32);
        if findings.verdict.keep_alive() != before {
            self.log_in_again();
        }
    }

    pub(super) fn life_owns(&self, socket: SocketId) -> bool {
        self.life.as_ref().is_some_and(|life| life.owns(socket))
    }

    pub(super) fn life_hears(&mut self, socket: SocketId, bytes: &[u8]) {
        if let Some(life) = &mut self.life {
            life.receive(self.now, socket, bytes, &mut self.dice);
        }
    }

    /// The reflector is asked where it sees us, and for a bind ticket.
    pub(super) fn bind_due(&mut self) {
        let (Some(remote), true) = (self.config.reflector, self.bind.next.is_some_and(|at| at <= self.now))
        else {
            return;
        };
        // Asked again under the same number (RFC 8489 §6.2.1), so that a late answer counts.
        let again = self.bind.asked.filter(|_| (1..UNANSWERED).contains(&self.bind.tries));
        let id: TransactionId = again.unwrap_or_else(|| self.dice.bytes());
        self.bind.asked = Some(id);
        self.bind.tries = self.bind.tries.saturating_add(1);
        let first = self.bind.proven.is_none() && self.bind.tries < UNANSWERED;
        self.bind.next = Some(self.now + if first { AGAIN } else { REBIND });
        self.send_stun(Way { socket: None, remote }, Writer::request(id).finish());
    }

    /// A STUN message that is not of the classifier.
    pub(super) fn stun(
        &mut self,
        by: Option<SocketId>,
        from: SocketAddr,
        message: &stun::Message<'_>,
        bytes: &[u8],
    ) {
        match message.class() {
            Class::Success => self.stun_answered(by, from, message, bytes),
            Class::Request => self.stun_asked(by, from, message, bytes),
            Class::Indication if by.is_none() && from == self.config.server => self.greeted(),
            Class::Error | Class::Indication => {}
        }
    }

    /// A check of a buddy's.
    fn stun_asked(
        &mut self,
        by: Option<SocketId>,
        from: SocketAddr,
        message: &stun::Message<'_>,
        bytes: &[u8],
    ) {
        let label = message.username().unwrap_or_default();
        let Some(place) = self.links.iter().position(|link| link.pair.label == label) else { return };
        let (link, way) = (&mut self.links[place], Way { socket: by, remote: from });
        if !message.is_sealed_with(&link.pair.key) {
            return;
        }
        link.hear(way);
        if let Some(opening) = &mut link.opening {
            opening.receive(by, from, bytes, &mut self.dice, &mut self.out);
            return;
        }
        let (lacks_a_path, bytes) = (link.way.is_none(), answer(message, from, &link.pair));
        self.send_stun(way, bytes);
        // Who has given up the path of a call while the other has not asks back (RFC 8445 §7.3.1.4). Words find their own way.
        if lacks_a_path && self.voice.buddy == Some(place) {
            self.ask_whether_moved(place, way);
        }
    }

    fn stun_answered(
        &mut self,
        by: Option<SocketId>,
        from: SocketAddr,
        message: &stun::Message<'_>,
        bytes: &[u8],
    ) {
        let id = message.transaction();
        if self.bind.asked == Some(id) {
            return self.bound_at_reflector(message);
        }
        if self.door.has_asked(id) {
            return self.let_in(message);
        }
        if self.session.as_ref().is_some_and(|session| session.asked == Some(id)) {
            return self.server_answered(message);
        }
        for (place, link) in self.links.iter_mut().enumerate() {
            if link.moved.is_some_and(|(asked, way, _)| asked == id && way.remote == from && way.socket == by)
                && message.is_sealed_with(&link.pair.key)
            {
                return link.follow(&mut self.out);
            }
            if link.consent.asked == Some(id) && message.is_sealed_with(&link.pair.key) {
                (link.consent.asked, link.consent.unanswered) = (None, 0);
                let wait = self.dice.jitter(CONSENT, 10);
                link.consent.next = Some(self.now + wait);
                return self.path_answered(place);
            }
            if link.opening.as_ref().is_some_and(|opening| opening.has_asked(&id))
                && let Some(opening) = &mut link.opening
            {
                opening.receive(by, from, bytes, &mut self.dice, &mut self.out);
                return;
            }
        }
    }

    fn bound_at_reflector(&mut self, message: &stun::Message<'_>) {
        self.bind.asked = None;
        let ticket = message.attribute(attribute::BIND_TICKET).and_then(|value| value.try_into().ok());
        if let Some(proven) = message.mapped().zip(ticket) {
            self.bind.proven = Some(proven);
            self.bind.next = Some(self.now + REBIND);
        }
    }

    /// Seen from elsewhere than so far: our NAT has bound anew. The server knows by now, and has told our buddies.
    fn server_answered(&mut self, message: &stun::Message<'_>) {
        let Some(session) = &mut self.session else { return };
        let missed = session.unanswered > 1;
        (session.asked, session.unanswered) = (None, 0);
        if !message.is_sealed_with(&*session.sealing.key) {
            // It answers, and does not know us: it has been restarted, and everybody else finds out, too.
            session.keep_alive_at = None;
            self.registration.anew = true;
            let wait = self.dice.below(if missed { RETURN } else { SOON }.as_millis() as u64);
            return self.log_in_at(self.now + Duration::from_millis(wait));
        }
        session.keep_alive_at = session.keep_alive.map(|every| self.now + spread(every, &mut self.dice));
        let Some(seen) = message.mapped().filter(|seen| *seen != session.you) else { return };
        session.you = seen;
        self.report.external = Some(seen);
        for link in 0..self.links.len() {
            if self.links[link].online {
                self.open_link(link, Part::Initiator);
                self.links[link].announce = Some(true);
            }
        }
    }

    /// From now on the path to a buddy is asked about.
    pub(super) fn watch(&mut self, link: usize) {
        if self.links[link].consent.next.is_none() {
            let wait = self.dice.jitter(CONSENT, 10);
            self.links[link].consent.next = Some(self.now + wait);
        }
    }

    /// Asks about paths; one that no longer answers is given up, and the server is asked.
    pub(super) fn consents_due(&mut self) {
        for link in 0..self.links.len() {
            if self.links[link].consent.next.is_none_or(|at| at > self.now) {
                continue;
            }
            match self.links[link].via(self.now) {
                Some(Via::Direct(_)) if self.links[link].consent.unanswered >= UNANSWERED => self.lost(link),
                Some(Via::Direct(way)) if self.config.keeps_alive => self.ask_consent(link, way),
                _ => self.links[link].consent.next = Some(self.now + CONSENT),
            }
        }
    }

    pub(super) fn ask_consent(&mut self, link: usize, way: Way) {
        let link = &mut self.links[link];
        // Asked again under the same number (RFC 8489 §6.2.1): a round trip may take longer than we wait.
        let id = link.consent.asked.unwrap_or_else(|| self.dice.bytes());
        link.consent.asked = Some(id);
        link.consent.unanswered += 1;
        link.consent.next = Some(self.now + AGAIN);
        let second = link.consent.unanswered == 2;
        let bytes = Writer::request(id)
            .attribute(attribute::USERNAME, link.pair.label.as_bytes())
            .seal(&link.pair.key);
        self.send_stun(way, bytes);
        // Perhaps it is we who have moved.
        if second {
            self.ask_server();
        }
    }

    /// A buddy's packet came from elsewhere, or where there is no path: is it the buddy that is there?
    pub(super) fn ask_whether_moved(&mut self, link: usize, way: Way) {
        let link = &mut self.links[link];
        let before = link.moved.filter(|(_, asked, _)| *asked == way);
        if before.is_some_and(|(_, _, at)| self.now < at + AGAIN) {
            return;
        }
        // As above.
        let id = before.map_or_else(|| self.dice.bytes(), |(id, ..)| id);
        link.moved = Some((id, way, self.now));
        let bytes = Writer::request(id)
            .attribute(attribute::USERNAME, link.pair.label.as_bytes())
            .seal(&link.pair.key);
        self.send_stun(way, bytes);
    }

    fn lost(&mut self, link: usize) {
        self.set_online(link, false);
        self.log_in_again();
    }
}
