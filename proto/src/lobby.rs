//! Where new work waits while a lane has more to do than time: overload control by how long it has waited.
//!
//! ```text
//!  responses, ACK, and requests in dialogs ─────────────────────────► at once
//!  INVITE of a new call ──► [ waits, oldest first ] ──┐
//!  REGISTER, OPTIONS …  ──► [ waits, oldest first ] ──┴─ by turns ──► when nothing is to be done at once
//!                              │ who comes would have to wait longer than its kind may
//!                              └► it is told to come back later: 503, Retry-After
//! ```
//!
//! The lane first reads all that has come, which is cheap, and only then serves who waits. So calls that are up never
//! notice, and what is left of the lane's time goes to new calls to the last bit: as long as there is more to do than
//! time, somebody waits. Nothing is configured for it. What is measured is how many were served in half a second in which
//! somebody always waited: that tells how long a newcomer would have to wait (`line`). Until it is known, the time the oldest
//! has waited stands for it. Nearly all who are let in are served within the half second after which a client repeats itself (T1), so
//! overload does not feed on retransmissions.
//!
//! Who is refused costs as little as can be: while there is overload a datagram is looked at before it is read
//! ([`Lobby::glance`]), and a refusal, its ACK and a retransmission of what waits are done with there.
//!
//! A retransmission of what waits is dropped, one of what was let in goes in, too, to be absorbed there, and one of what was
//! refused is refused again, though there may be room by now: who has been told to come back later is gone, and nobody would
//! talk to whoever is called for it ([`marks`]). A CANCEL waits behind its INVITE. The ACK of a refusal that came from somebody further on, with a lobby
//! of its own, goes in as well.
//!
//! Before an access server ([`Before::Access`]) new work is logins. One that brings its proof takes the place of an INVITE,
//! one that has yet to be asked for it that of the others. Of four turns three are for those with proof, for work was spent on
//! them already: no more are asked for it than can be let in. Who is logged in (its requests are signed under its session's key) never waits.

mod line;
mod marks;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::line::{Guest, Line};
use self::marks::{Mark, Marks, Stage};
use crate::node::Flow;
use crate::sip::{Glance, Message, Method, Name, Reply};

/// What a refusal says in To, so that its ACK is known by itself.
const TAG: &str = "overload";
/// How long an INVITE may have to wait: more than two periods of a CPU quota, and half of T1, for nobody knows the future.
const CALLS: Duration = Duration::from_millis(250);
/// The same for anything else that is new: a phone that is refused a registration is gone for its Retry-After.
const OTHERS: Duration = Duration::from_millis(400);
/// How long nobody must have been refused for the overload to be over.
const CALM: Duration = Duration::from_secs(2);
/// The most that may wait of each kind, however fast it is served.
const ROOM: usize = 8192;
/// Seconds in Retry-After: one of these, by Call-ID, so that not everybody comes back at once.
const RETRY_AFTER: u64 = 4;

/// A message, and the path it came by.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The path.
    pub flow: Flow,
    /// The message.
    pub message: Message,
}

/// What is to become of a message.
#[derive(Debug)]
pub enum Entry {
    /// Handle it at once.
    Now(Arrival),
    /// It waits; [`Lobby::next`] will give it back.
    Waits,
    /// It is to be answered so, and forgotten.
    Refused(Bytes),
    /// Nothing is to be done about it.
    Dropped,
}

/// Overload begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// It begins.
    pub begins: bool,
    /// How many have been refused, when it ends.
    pub refused: u64,
}

/// Whose lobby it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// A proxy's: calls wait, and registrations.
    Proxy,
    /// An access server's: logins wait.
    Access,
}

impl Before {
    /// Of so many turns one is for `others`, as long as anybody else waits.
    fn turns(self) -> u8 {
        match self {
            Before::Proxy => 2,
            Before::Access => 4,
        }
    }

    fn kind(self, method: Method<'_>, to_tag: &str, has: impl Fn(Name) -> bool) -> Kind {
        match (self, method, to_tag) {
            (Before::Access, Method::Register, _) if has(Name::Authorization) => Kind::Call,
            (Before::Access, Method::Register, _) if !has(Name::NodeAuth) => Kind::Other,
            (Before::Access, ..) => Kind::Belongs,
            (_, Method::Ack, TAG) => Kind::Echo,
            (_, Method::Invite, "") => Kind::Call,
            (_, Method::Cancel, _) => Kind::Cancel,
            (_, Method::Ack, _) => Kind::Belongs,
            (_, _, "") => Kind::Other,
            _ => Kind::Belongs,
        }
    }
}

/// What a request is to a lobby.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Belongs to what is up.
    Belongs,
    /// The ACK of a refusal of a lobby's.
    Echo,
    /// A new call, or a login that brings its proof.
    Call,
    Cancel,
    /// Other new work.
    Other,
}

/// See the module.
#[derive(Debug)]
pub struct Lobby {
    before: Before,
    /// What costs most, once it is let in: calls, and logins that bring their proof.
    calls: Line,
    others: Line,
    turn: u8,
    /// What became of whom.
    marks: Marks,
    refused: u64,
    /// Refusals so far when the present overload began, and when the last one was.
    overload: Option<(u64, Instant)>,
    turns: VecDeque<Turn>,
}

impl Lobby {
    /// An empty one; the secret keys its hashes.
    pub fn new(secret: u64, before: Before) -> Lobby {
        Lobby {
            before,
            calls: Line::new(CALLS),
            others: Line::new(OTHERS),
            turn: 0,
            marks: Marks::new(secret),
            refused: 0,
            overload: None,
            turns: VecDeque::new(),
        }
    }

    /// A message has come.
    pub fn arrive(&mut self, now: Instant, item: Arrival) -> Entry {
        let message = &item.message;
        if !message.is_request() {
            return Entry::Now(item);
        }
        match self.before.kind(message.method(), message.to_tag(), |name| message.has(name)) {
            Kind::Belongs => Entry::Now(item),
            Kind::Echo if self.marks.stage(self.mark_of(message)) == Some(Stage::LetIn) => Entry::Now(item),
            Kind::Echo => Entry::Dropped,
            Kind::Cancel => self.cancel(now, item),
            Kind::Call => self.wait(now, item, |lobby| &mut lobby.calls),
            Kind::Other => self.wait(now, item, |lobby| &mut lobby.others),
        }
    }

    /// The same of a datagram that nobody has read yet, when there is nothing to do about it but to refuse or to drop it;
    /// `None`: it is to be read. Does so only while newcomers are refused: then reading them would be most of the work there
    /// is with them. Where it came from and whether a Call-ID belongs here the caller says.
    pub fn glance(
        &mut self,
        now: Instant,
        source: SocketAddr,
        bytes: &[u8],
        belongs_here: impl FnOnce(&str) -> bool,
    ) -> Option<Entry> {
        // INVITE, ACK and REGISTER: of what else comes most belongs to a call.
        if self.overload.is_none() || !matches!(bytes.first(), Some(b'I' | b'A' | b'R')) {
            return None;
        }
        let glance = Glance::of(bytes).filter(|glance| belongs_here(glance.call_id()))?;
        let kind = self.before.kind(glance.method(), glance.to_tag(), |name| glance.has(name));
        let line = match kind {
            Kind::Belongs | Kind::Cancel => return None,
            Kind::Echo => None,
            Kind::Call => Some(&self.calls),
            Kind::Other => Some(&self.others),
        };
        let mark = self.marks.of(glance.call_id(), glance.branch());
        match (self.marks.stage(mark), line) {
            (Some(Stage::LetIn), _) => None,
            (Some(Stage::Waits), _) | (_, None) => Some(Entry::Dropped),
            (None, Some(line)) if !line.is_late(now) => None,
            (Some(Stage::Refused) | None, Some(_)) => {
                Some(self.refuse(now, mark, |seconds| glance.refusal(source, 503, TAG, seconds)))
            }
        }
    }

    fn wait(&mut self, now: Instant, item: Arrival, line: impl Fn(&mut Lobby) -> &mut Line) -> Entry {
        let mark = self.mark_of(&item.message);
        let stage = self.marks.stage(mark);
        match stage {
            Some(Stage::LetIn) => return Entry::Now(item),
            Some(Stage::Waits) => return Entry::Dropped,
            Some(Stage::Refused) | None => {}
        }
        if stage.is_some() || line(self).is_late(now) {
            let Arrival { flow, message } = &item;
            let refusal = Reply { to_tag: TAG, source: Some(flow.remote) }.to(message, 503);
            return self.refuse(now, mark, |seconds| refusal.header(Name::RetryAfter, seconds).into_bytes());
        }
        self.marks.waits(mark);
        line(self).push(Guest { since: now, mark, item });
        Entry::Waits
    }

    fn cancel(&mut self, now: Instant, item: Arrival) -> Entry {
        let mark = self.mark_of(&item.message);
        let behind = self.marks.stage(mark) == Some(Stage::Waits) && self.calls.len() < 2 * ROOM;
        match behind {
            true => self.calls.push(Guest { since: now, mark, item }),
            false => return Entry::Now(item),
        }
        Entry::Waits
    }

    /// Writes a refusal that says when to come back. One that is said again is no sign of overload.
    fn refuse(&mut self, now: Instant, mark: Mark, write: impl FnOnce(u64) -> Bytes) -> Entry {
        if self.marks.refused(mark) {
            if self.overload.is_none() {
                self.turns.push_back(Turn { begins: true, refused: 0 });
            }
            let before = self.overload.map_or(self.refused, |(before, _)| before);
            self.overload = Some((before, now));
            self.refused += 1;
        }
        Entry::Refused(write(1 + mark.share_of(RETRY_AFTER)))
    }

    /// Who is next, when there is nothing to do at once.
    pub fn next(&mut self, now: Instant) -> Option<Arrival> {
        self.settle(now);
        self.turn = (self.turn + 1) % self.before.turns();
        let other = if self.turn == 1 { self.others.pop(now) } else { None };
        let guest = other.or_else(|| self.calls.pop(now)).or_else(|| self.others.pop(now))?;
        self.marks.let_in(guest.mark);
        Some(guest.item)
    }

    /// Whether the overload is over.
    fn settle(&mut self, now: Instant) {
        if let Some((before, last)) = self.overload
            && now.saturating_duration_since(last) >= CALM
        {
            self.overload = None;
            self.turns.push_back(Turn { begins: false, refused: self.refused - before });
        }
    }

    /// What is to be told of.
    pub fn turn(&mut self, now: Instant) -> Option<Turn> {
        self.settle(now);
        self.turns.pop_front()
    }

    /// When to ask for [`Lobby::turn`] again.
    pub fn deadline(&self) -> Option<Instant> {
        self.overload.map(|(_, last)| last + CALM)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.calls.len() + self.others.len()
    }

    /// How many have been refused so far.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether somebody has been refused lately.
    pub fn is_overloaded(&self) -> bool {
        self.overload.is_some()
    }

    fn mark_of(&self, message: &Message) -> Mark {
        self.marks.of(message.call_id(), message.via().map_or("", |via| via.branch()))
    }
}

#[cfg(test)]
mod tests;
