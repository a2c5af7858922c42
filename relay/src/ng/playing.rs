//! What is said to a party instead of what the other one sends: `play DTMF`, `play media` and `stop media`.
//!
//! Who says a digit is named, and the other party hears it; who hears media is named. Media is in the command, or in a file, which
//! is read elsewhere ([`Files`]): the command waits for it, and a repetition of it waits along.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::control::Session;
use proto::event::Side;
use proto::g711::{Law, RATE};
use proto::node::{Answer as Told, Flow, Job, Output, Question, Ticket, Work};

use super::calls::Said;
use super::codecs::Key;
use super::command::{Command, Envelope, Play, Sound, Target};
use super::cookies::Asker;
use super::value::Value;
use super::{Answer, Ng, Refused, ok};
use crate::insert::{Digit, NO_MEDIA};
use crate::play::{Playing, Voice};
use crate::relay::Relay;
use crate::tune::Tune;

/// Where files that may be played are.
pub trait Files: Debug + Send + Sync {
    /// All of a file, by the name a command gives it; else why not. It may take its time.
    fn read(&self, name: &str) -> Result<Vec<u8>, &'static str>;
}

/// A command that waits for a file.
#[derive(Debug)]
pub(super) struct Reading {
    ticket: Ticket,
    flow: Flow,
    asker: Asker,
    bytes: Bytes,
    until: Instant,
}

/// A file on its way.
#[derive(Debug)]
struct Loading {
    files: Arc<dyn Files>,
    name: String,
    tune: Result<Tune, &'static str>,
}

impl Job for Loading {
    fn run(&mut self) {
        self.tune = self.files.read(&self.name).and_then(|file| Tune::read(&file));
    }
}

impl Ng {
    /// Whether a command waits for this answer.
    pub(crate) fn awaits(&self, ticket: Ticket) -> bool {
        self.reading.iter().any(|reading| reading.ticket == ticket)
    }
}

impl Relay {
    /// Whether a command waits for a file from now on, or does already.
    pub(super) fn reads_first(
        &mut self,
        now: Instant,
        flow: Flow,
        asker: &Asker,
        envelope: &Envelope<'_>,
        bytes: &Bytes,
    ) -> bool {
        let dict = envelope.body.as_ref().and_then(Value::as_dict);
        let Some(dict) = dict.filter(|dict| dict.text("file").is_some()) else { return false };
        let is_same = |reading: &&mut Reading| reading.asker == *asker && reading.bytes == *bytes;
        if let Some(reading) = self.ng.reading.iter_mut().find(is_same) {
            reading.flow = flow;
            return true;
        }
        let Ok(command) = Command::read(dict) else { return false };
        let number = command.number();
        let Command::PlayMedia(play) = command else { return false };
        let files = self.config.ng.as_ref().and_then(|ng| ng.media.clone());
        let (Some(files), Sound::File(name)) = (files, play.sound) else { return false };
        self.ng.reading.retain(|reading| now < reading.until);
        if self.ng.reading.len() >= READING || self.hearers(&play.target).is_err() {
            return false;
        }
        self.ng.by_command[number] += 1;
        self.turns += 1;
        let ticket = Ticket(self.turns);
        let loading = Loading { files, name, tune: Err(UNREAD) };
        self.outputs
            .push_back(Output::Ask { ticket, question: Question::Work(Work::new(Box::new(loading))) });
        let (asker, bytes, until) = (asker.clone(), bytes.clone(), now + PATIENCE);
        self.ng.reading.push(Reading { ticket, flow, asker, bytes, until });
        true
    }

    /// A file is here, or is not.
    pub(crate) fn has_read(&mut self, now: Instant, ticket: Ticket, answer: &Told) {
        let Some(at) = self.ng.reading.iter().position(|reading| reading.ticket == ticket) else { return };
        let Reading { flow, asker, bytes, .. } = self.ng.reading.swap_remove(at);
        let loading = match answer {
            Told::Done(work) => work.unpack::<Loading>(),
            _ => None,
        };
        let Some(envelope) = Envelope::read(&bytes) else { return };
        let command = envelope.body.as_ref().and_then(Value::as_dict).map(Command::read);
        let Some(Ok(Command::PlayMedia(play))) = command else { return };
        let tune = loading.map_or(Err(UNREAD), |loading| loading.tune).map_err(Refused::Error);
        let answer = tune.and_then(|tune| self.play_tune(now, &play, &tune));
        self.give(now, flow, asker, &envelope, answer);
    }

    /// Media in the command; one in a file is here only when that can't be.
    pub(super) fn play_media(&mut self, now: Instant, play: &Play) -> Answer {
        match &play.sound {
            Sound::Blob(blob) => {
                let tune = Tune::read(blob).map_err(Refused::Error)?;
                self.play_tune(now, play, &tune)
            }
            Sound::File(_) => {
                self.hearers(&play.target)?;
                let has_files = self.config.ng.as_ref().is_some_and(|ng| ng.media.is_some());
                Err(Refused::Error(if has_files { BUSY } else { NO_FILES }))
            }
        }
    }

    fn play_tune(&mut self, now: Instant, play: &Play, tune: &Tune) -> Answer {
        for (leg, voice) in self.hearers(&play.target)? {
            let playing =
                Playing::new(tune.clone(), voice, play.span).ok_or(Refused::Error(BEHIND_ITS_END))?;
            self.play(now, leg, playing).map_err(Refused::Error)?;
        }
        let duration = tune.duration().as_millis() as i64;
        Ok(ok().with("duration", Value::Int(duration)))
    }

    /// Nothing need be played any more: it may have ended just now.
    pub(super) fn stop_media(&mut self, target: &Target) -> Answer {
        let legs = self.named(target)?.into_iter().filter_map(|(id, side)| self.audio_leg(id, side).ok());
        let legs: Vec<u32> = legs.map(|(_, leg)| leg).collect();
        let stopped: Vec<u64> = legs.into_iter().filter_map(|leg| self.stop_playing(leg)).collect();
        let last = stopped.first().copied().unwrap_or(0);
        Ok(ok().with("last-frame-pos", Value::Int(i64::try_from(last).unwrap_or(i64::MAX))))
    }

    /// Digits in a party's place, to whoever hears it.
    pub(super) fn play_dtmf(&mut self, now: Instant, target: &Target, digit: Digit) -> Answer {
        for (session, speaker) in self.named(target)? {
            let (_, leg) = self.audio_leg(session, speaker.other()).map_err(Refused::Error)?;
            self.say(now, leg, digit).map_err(Refused::Error)?;
        }
        Ok(ok())
    }

    /// The parties a command names: one by its tag, label or address, or all of them.
    fn named(&self, target: &Target) -> Result<Vec<(Session, Side)>, Refused> {
        let is_named = target.from.is_some() || target.label.is_some() || target.address.is_some();
        if !is_named && !target.all {
            return Err(Refused::Error("No participant party specified"));
        }
        let sides = |side: Option<Side>| side.map_or(vec![Side::Caller, Side::Callee], |side| vec![side]);
        let parties = self.parties(target)?.into_iter();
        Ok(parties.flat_map(|(id, side)| sides(side).into_iter().map(move |side| (id, side))).collect())
    }

    /// Whom media is to be played to, and as what.
    fn hearers(&self, target: &Target) -> Result<Vec<(u32, Voice)>, Refused> {
        let hearer = |(id, side): (Session, Side)| {
            let (at, leg) = self.audio_leg(id, side)?;
            let source = self.source_of(leg).ok_or(NO_MEDIA)?;
            let voices = self.voices(id, side, at);
            let clocks = &self.legs[source as usize].clocks;
            let found = voices.into_iter().find_map(|(name, law)| {
                let payload_type = clocks.number(name, RATE)?;
                Some(Voice { payload_type, law })
            });
            Ok((leg, found.ok_or(NO_G711)?))
        };
        self.named(target)?.into_iter().map(hearer).collect::<Result<_, _>>().map_err(Refused::Error)
    }

    /// Forms of G.711, in the order in which a party wants them: first those that both list.
    fn voices(&self, id: Session, side: Side, at: usize) -> Vec<(&'static str, Law)> {
        let listed = |side: Side| -> &[Key] {
            let said = self.ng.calls.said(id, side).and_then(|said| said.get(at));
            said.map_or(&[], |said| &said.codecs)
        };
        let (own, others) = (listed(side), listed(side.other()));
        let mut voices: Vec<(&Key, (&'static str, Law))> = own
            .iter()
            .filter_map(|codec| {
                LAWS.iter().find(|(key, ..)| *key == &**codec).map(|(_, name, law)| (codec, (*name, *law)))
            })
            .collect();
        voices.sort_by_key(|(codec, _)| !others.contains(codec));
        voices.into_iter().map(|(_, voice)| voice).collect()
    }

    /// The first of a party's audio streams: which one, and its leg.
    fn audio_leg(&self, id: Session, side: Side) -> Result<(usize, u32), &'static str> {
        let audio = |said: &Said| &*said.media == "audio";
        let said = self.ng.calls.said(id, side).unwrap_or_default();
        let at = said.iter().position(audio).ok_or(NO_MEDIA)?;
        let encrypted = said[at].protocol.contains("SAVP");
        let stream = self.sessions.get(&id.0).and_then(|session| session.streams.get(at).copied().flatten());
        let leg = stream.ok_or(NO_MEDIA)?.legs[crate::session::index(side)];
        if encrypted && self.keys_of(leg).is_none() {
            return Err("Media passes under the parties' own keys: nothing can be said in between");
        }
        Ok((at, leg))
    }
}

/// What can be played, by the keys and the names of codecs.
const LAWS: [(&str, &str, Law); 2] = [("pcmu/8000", "PCMU", Law::Mu), ("pcma/8000", "PCMA", Law::A)];

/// Commands that may wait for files, and for how long.
const READING: usize = 64;
const PATIENCE: Duration = Duration::from_secs(30);

const NO_G711: &str = "The receiving party takes no G.711 (PCMU or PCMA), and this relay plays nothing else";
const NO_FILES: &str = "This relay plays no files: name a folder in `relay.ng.media`, or use \"blob\"";
const BUSY: &str = "Too many files are being read already";
const UNREAD: &str = "The media file could not be read";
const BEHIND_ITS_END: &str = "'start-pos' is behind the end of the media";
