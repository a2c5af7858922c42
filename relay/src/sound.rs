//! Whether the parties of a call can hear one another, now, and why not, most likely.
//!
//! What is judged are the facts a leg holds anyway: when it was heard, whether strangers knocked, what its payload types
//! are, what the other party's reports say, what ICMP says. A running stream is judged whenever its session is looked at (`silence`), once in
//! ten seconds; one that never began, ten seconds after both parties have said where they want media.

use std::time::{Duration, Instant};

use proto::control;
use proto::event::{Event, Live, OneWay, Side, Sound};
use proto::sdp::Kind;

use crate::leg::Leg;
use crate::relay::Relay;
use crate::session::{Session, index, sum};

impl Relay {
    /// How a session is at this moment; `None`: it is not here.
    pub fn live(&self, now: Instant, session: &str) -> Option<Live> {
        let session = self.sessions.get(&control::Session::from_name(session)?.0)?;
        let parties = [Side::Caller, Side::Callee].map(|side| self.sound(now, session, side));
        Some(Live { session: session.name.clone(), parties })
    }

    /// All streams of a party together: the trouble is that of the first that has one.
    fn sound(&self, now: Instant, session: &Session, side: Side) -> Sound {
        let mut sound = Sound { quality: session.ended()[index(side)], ..Sound::default() };
        for at in session.streams().map(|stream| stream.legs[index(side)]) {
            let Some(leg) = self.legs.get(at as usize) else { continue };
            let quiet = leg.media_heard.map(|heard| now.saturating_duration_since(heard));
            sound = Sound {
                quality: sum(sound.quality, leg.quality(session.born)),
                held: sound.held || leg.held,
                quiet: sound.quiet.into_iter().chain(quiet).min(),
                from: sound.from.or(leg.media.latched),
                to: sound.to.or(leg.media.target),
                trouble: sound.trouble.or(self.trouble(now, at).map(|(cause, _)| cause)),
            };
        }
        sound
    }

    /// Tells once of a leg that the other party can't hear, and forgets it when it can.
    pub(crate) fn judge_sound(&mut self, now: Instant, at: u32) {
        let trouble = self.trouble(now, at);
        let Some(leg) = self.legs.get(at as usize) else { return };
        let other_heard = self.legs.get(leg.other as usize).is_some_and(|other| self.is_heard(now, other));
        let (was_told, is_heard) = (leg.told_one_way, self.is_heard(now, leg));
        let Some((cause, since)) = trouble else {
            self.legs[at as usize].told_one_way = was_told && !is_heard;
            return;
        };
        self.legs[at as usize].told_one_way = true;
        // Two who have fallen silent together are told of as that, and by the end of the call.
        if !was_told && (other_heard || cause != OneWay::Stopped) {
            self.tell_leg(at, |session, silent| Event::OneWay { session, silent, since, cause, other_heard });
        }
    }

    /// When to see whether a leg that was never heard should have been by now.
    pub(crate) fn unheard_due(&self, at: u32) -> Option<Instant> {
        let leg = self.legs.get(at as usize).filter(|leg| !leg.told_one_way && leg.first_heard.is_none())?;
        let other = self.legs.get(leg.other as usize)?;
        let open = leg.kind == Kind::Rtp && !leg.held && !other.held;
        Some(leg.unheard_since(other).filter(|_| open)? + self.config.silence)
    }

    /// Why the other party can't hear a leg, and for how long now.
    fn trouble(&self, now: Instant, at: u32) -> Option<(OneWay, Duration)> {
        let leg = self.legs.get(at as usize)?;
        let other = self.legs.get(leg.other as usize)?;
        if leg.kind != Kind::Rtp || leg.held || other.held {
            return None;
        }
        let (cause, begun) = match self.is_heard(now, leg) {
            true => (leg.speaks_in_vain(now, other)?, leg.first_heard),
            false => (leg.silent_because(now), leg.unheard_since(other)),
        };
        let since = now.saturating_duration_since(begun?);
        (since >= self.config.silence).then_some((cause, since))
    }

    fn is_heard(&self, now: Instant, leg: &Leg) -> bool {
        leg.media_heard.is_some_and(|heard| now.saturating_duration_since(heard) < self.config.silence)
    }
}

impl Leg {
    /// Since when it should be heard and is not: since it was heard last, since the other party is heard, or since both have
    /// said where they want media. Hold does not count.
    fn unheard_since(&self, other: &Leg) -> Option<Instant> {
        let answered = self.described.zip(other.described).map(|(own, other)| own.max(other));
        let since =
            self.media_heard.max(other.first_heard.filter(|_| self.media_heard.is_none())).or(answered)?;
        Some([self.resumed, other.resumed].into_iter().flatten().fold(since, Instant::max))
    }

    /// Why it is not heard, most likely.
    fn silent_because(&self, now: Instant) -> OneWay {
        if let Some(why) = self.refused(now) {
            return OneWay::Gone(why);
        }
        match (self.first_heard, self.strangers, self.media.target) {
            (Some(_), ..) => OneWay::Stopped,
            (None, ..) if self.ambiguous > 0 => OneWay::Ambiguous,
            (None, 1.., _) => OneWay::Strangers,
            (None, 0, None) => OneWay::NowhereToSend,
            (None, 0, Some(_)) => OneWay::Nothing,
        }
    }

    /// Why the other party hears nothing of what comes, most likely; `None`: it does.
    fn speaks_in_vain(&self, now: Instant, other: &Leg) -> Option<OneWay> {
        // In a bundle the newest source may be another section's.
        let alone = !self.is_member() && !self.does_ice();
        let foreign = self.tracks.payload_type().filter(|sent| alone && !self.clocks.lists(*sent));
        if self.tracks.latest().is_some() && self.tracks.is_without_speech(&self.clocks) {
            Some(OneWay::DigitsOnly)
        } else if let Some(why) = other.refused(now) {
            Some(OneWay::Undelivered(why))
        } else if other.hears_nothing() {
            Some(OneWay::Unreceived)
        } else {
            foreign.map(OneWay::Codec)
        }
    }
}
