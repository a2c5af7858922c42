//! Who has fallen silent, what to do about it, and when to look again.
//!
//! No timer is set per packet. Every session has one moment at which it is looked at next; packets only move the facts
//! the look finds. A look tells strangers at a leg's door (2 s unlatched), closes windows, tells silent legs, reports a dead
//! call to the proxy, and frees a session whose refresh is overdue and whose media is gone.
//!
//! A call is dead when both parties have been heard, neither is held, and nothing came from either for the media
//! timeout. The relay does not end it: it says BYE in the relay dialog, with a Reason, and the proxy ends the call on
//! both sides. When the proxy doesn't know the call any more, the session lives on until its refresh is overdue.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use proto::control;
use proto::event::{Event, Release};
use proto::node::Output;

use crate::leg::Leg;
use crate::relay::Relay;
use crate::session::Session;

/// How long strangers may knock at a leg that waits for its party, before it is told.
const PATIENCE: Duration = Duration::from_secs(2);

impl Relay {
    /// Looks at every session whose moment has come.
    pub(crate) fn look(&mut self, now: Instant) {
        while let Some(&(at, session)) = self.watches.first()
            && at <= now
        {
            self.watches.pop_first();
            if let Some(found) = self.sessions.get_mut(&session) {
                found.watch = None;
                self.look_at(now, control::Session(session));
            }
        }
    }

    fn look_at(&mut self, now: Instant, id: control::Session) {
        let Some(session) = self.sessions.get(&id.0) else { return };
        let legs: Vec<u32> = session.legs().collect();
        for leg in legs {
            self.look_at_leg(now, leg);
        }
        let Some(session) = self.sessions.get(&id.0) else { return };
        if self.free_at(session) <= now {
            self.release(now, id, Release::Overdue);
        } else {
            if self.dead_at(session).is_some_and(|at| at <= now) {
                self.report_silence(now, id);
            }
            self.watch(id);
        }
    }

    fn look_at_leg(&mut self, now: Instant, at: u32) {
        let silence = self.config.silence;
        let Some(leg) = self.legs.get_mut(at as usize) else { return };
        if leg.window.is_some_and(|until| until <= now) {
            leg.close_window();
        }
        if leg.stranger_due().is_some_and(|due| due <= now) {
            leg.told_stranger = true;
            self.tell_stranger(at);
        }
        let Some(leg) = self.legs.get_mut(at as usize) else { return };
        if leg.silent_due(silence).is_some_and(|due| due <= now) {
            leg.told_silent = true;
            self.tell_silent(now, at);
        }
        self.judge_sound(now, at);
    }

    /// A leg whose silence was told is heard again.
    pub(crate) fn hears_again(&mut self, now: Instant, at: u32) {
        let Some(leg) = self.legs.get_mut(at as usize) else { return };
        if leg.told_silent && leg.media_heard == Some(now) {
            (leg.told_silent, leg.told_one_way) = (false, false);
            let since = leg.silent_since.take();
            let silent = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            self.tell_leg(at, |session, leg| Event::LegSilent { session, leg, silent });
        }
    }

    fn tell_silent(&mut self, now: Instant, at: u32) {
        let Some(leg) = self.legs.get_mut(at as usize) else { return };
        leg.silent_since = leg.media_heard;
        let silent = leg.media_heard.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard));
        self.tell_leg(at, |session, leg| Event::LegSilent { session, leg, silent });
    }

    fn tell_stranger(&mut self, at: u32) {
        let Some(leg) = self.legs.get(at as usize) else { return };
        let Some((_, from)) = leg.stranger.as_deref().copied() else { return };
        let expected = leg.rule.expected().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let latch = leg.rule.latch;
        self.tell_leg(at, |session, leg| Event::StrangerDropped { session, leg, from, expected, latch });
    }

    pub(crate) fn tell_leg(
        &mut self,
        at: u32,
        event: impl FnOnce(proto::event::Name, proto::event::Side) -> Event,
    ) {
        let Some(whose) = self.legs.get(at as usize).map(|leg| leg.whose) else { return };
        if let Some(session) = self.sessions.get(&whose.session.0) {
            self.outputs.push_back(Output::Event(event(session.name.clone(), whose.side)));
        }
    }

    /// Sets the moment a session is looked at next.
    pub(crate) fn watch(&mut self, id: control::Session) {
        let Some(session) = self.sessions.get(&id.0) else { return };
        let (before, next) = (session.watch, self.next_look(session));
        if before == Some(next) {
            return;
        }
        if let Some(before) = before {
            self.watches.remove(&(before, id.0));
        }
        self.watches.insert((next, id.0));
        if let Some(session) = self.sessions.get_mut(&id.0) {
            session.watch = Some(next);
        }
    }

    fn next_look(&self, session: &Session) -> Instant {
        let legs = session.legs().filter_map(|leg| self.legs.get(leg as usize));
        let due = legs.flat_map(|leg| [leg.window, leg.stranger_due(), leg.silent_due(self.config.silence)]);
        let one_way = session.legs().map(|leg| self.unheard_due(leg));
        let earliest = due.chain(one_way).flatten().chain(self.dead_at(session)).min();
        let free = self.free_at(session);
        earliest.map_or(free, |at| at.min(free))
    }

    /// When a session is freed without BYE: its refresh is overdue, and media has been silent for the media timeout.
    fn free_at(&self, session: &Session) -> Instant {
        let heard = self.last_heard(session).unwrap_or(session.born);
        session.overdue_at(self.config.refresh).max(heard + self.config.media_timeout)
    }

    /// When a call counts as dead; `None`: it can't, as things are.
    fn dead_at(&self, session: &Session) -> Option<Instant> {
        let legs = || session.legs().filter_map(|leg| self.legs.get(leg as usize));
        let met = |side: usize| session.streams().any(|stream| self.has_latched(stream.legs[side]));
        if session.bye.is_some() || legs().any(|leg| leg.held) || !met(0) || !met(1) {
            return None;
        }
        let resumed = legs().filter_map(|leg| leg.resumed).max();
        let at = self.last_heard(session).max(resumed)? + self.config.media_timeout;
        Some(session.quiet_until.map_or(at, |quiet| at.max(quiet)))
    }

    fn has_latched(&self, leg: u32) -> bool {
        self.legs.get(leg as usize).is_some_and(|leg| leg.media.latched.is_some())
    }

    fn last_heard(&self, session: &Session) -> Option<Instant> {
        session.legs().filter_map(|leg| self.legs.get(leg as usize)?.heard).max()
    }
}

impl Leg {
    /// When to tell of strangers at its door.
    fn stranger_due(&self) -> Option<Instant> {
        let first =
            self.stranger.as_deref().filter(|_| self.media.latched.is_none() && !self.told_stranger)?;
        Some(first.0 + PATIENCE)
    }

    /// When to tell of its silence.
    fn silent_due(&self, silence: Duration) -> Option<Instant> {
        let heard = self.media_heard.filter(|_| !self.told_silent && !self.held)?;
        Some(self.resumed.map_or(heard, |resumed| resumed.max(heard)) + silence)
    }
}
