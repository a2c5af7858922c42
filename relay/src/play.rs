//! A tune in a party's place: G.711 in packets of 20 ms, in the stream that is heard already; see `insert`. Digits that are said
//! meanwhile go first, and it waits for them.

use std::time::{Duration, Instant};

use proto::g711::{Law, RATE};
use proto::rtp::{Header, write};

use crate::insert::{BEAT, BEATS, Insert};
use crate::relay::Relay;
use crate::tune::Tune;

/// Samples in a packet.
const FRAME: usize = (RATE / BEATS) as usize;
/// A lane that comes later than this leaves out what it missed: a burst would help nobody.
const LATEST: Duration = Duration::from_millis(200);

/// How a party is to hear a tune.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Voice {
    pub(crate) payload_type: u8,
    pub(crate) law: Law,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The sample it begins with, the first time.
    pub start: u64,
    /// How often it is heard; `None`: without end.
    pub times: Option<u64>,
    /// For how long at most.
    pub time: Option<Duration>,
}

/// What is played, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Playing {
    tune: Tune,
    voice: Voice,
    /// The next sample, and the first one of the packet before.
    at: usize,
    last: usize,
    /// How often it is yet to end, and samples that are yet to be heard.
    times: u64,
    left: u64,
    /// Packets of the source are dropped from now on.
    begun: bool,
    /// The next packet is the first after something else.
    fresh: bool,
}

impl Playing {
    /// `None`: it has no such sample to begin with.
    pub(crate) fn new(tune: Tune, voice: Voice, span: Span) -> Option<Playing> {
        let at = usize::try_from(span.start).ok().filter(|at| *at < tune.samples().len())?;
        let samples = |time: Duration| (time.as_millis() as u64).saturating_mul(u64::from(RATE) / 1000);
        let (times, left) = (span.times.unwrap_or(u64::MAX), span.time.map_or(u64::MAX, samples));
        Some(Playing { tune, voice, at, last: at, times, left, begun: false, fresh: true })
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.begun
    }

    /// Something else is said before its next packet.
    pub(crate) fn pause(&mut self) {
        self.fresh = true;
    }

    fn is_over(&self) -> bool {
        self.times == 0 || self.left == 0
    }

    /// What the next packet says; silence behind its end.
    fn frame(&mut self) -> Vec<u8> {
        let law = self.voice.law;
        let mut payload = Vec::with_capacity(FRAME);
        self.last = self.at;
        while payload.len() < FRAME && !self.is_over() {
            let samples = self.tune.samples();
            let room = (FRAME - payload.len()).min(usize::try_from(self.left).unwrap_or(FRAME));
            let piece = &samples[self.at..samples.len().min(self.at + room)];
            payload.extend(piece.iter().map(|sample| law.encode(*sample)));
            self.at += piece.len();
            self.left -= piece.len() as u64;
            if self.at == samples.len() {
                (self.at, self.times) = (0, self.times - 1);
            }
        }
        payload.resize(FRAME, law.encode(0));
        payload
    }
}

impl Relay {
    /// Plays something to the party of a leg, instead of what was played before.
    pub(crate) fn play(&mut self, now: Instant, at: u32, mut playing: Playing) -> Result<(), &'static str> {
        let insert = self.insert_for(now, at)?;
        playing.begun = insert.playing.as_ref().is_some_and(|before| before.begun);
        insert.playing = Some(Box::new(playing));
        self.inserts_into(at);
        Ok(())
    }

    /// Ends what is played to the party of a leg: which sample the last packet began with.
    pub(crate) fn stop_playing(&mut self, at: u32) -> Option<u64> {
        let insert = self.inserts.get_mut(&at)?;
        let playing = insert.playing.take()?;
        if playing.begun {
            insert.lets_join();
        }
        if insert.is_unused() {
            self.stop_saying(at);
        }
        Some(playing.last as u64)
    }

    pub(crate) fn play_next(&mut self, now: Instant, at: u32) {
        if let Some(packet) = self.inserts.get_mut(&at).and_then(|insert| insert.played(now)) {
            self.send_own(now, at, packet);
        }
    }
}

impl Insert {
    /// The next packet of what is played; `None`: not yet.
    fn played(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (stream, playing) = (self.stream.as_mut()?, self.playing.as_mut()?);
        playing.begun = true;
        if now > self.next + LATEST {
            self.next = now;
        }
        // In step with the source, whose packets are dropped from now on.
        self.next = self.next.max(stream.at + BEAT);
        if now < self.next {
            return None;
        }
        stream.rate = RATE;
        let timestamp = stream.clock(self.next);
        (stream.sequence, stream.timestamp, stream.at) =
            (stream.sequence.wrapping_add(1), timestamp, self.next);
        let header = Header {
            payload_type: playing.voice.payload_type,
            marker: std::mem::take(&mut playing.fresh),
            sequence: stream.sequence,
            timestamp,
            ssrc: stream.ssrc,
        };
        let packet = write(header, &playing.frame());
        self.next += BEAT;
        if playing.is_over() {
            self.playing = None;
            self.lets_join();
        }
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn playing(samples: usize, span: Span) -> Option<Playing> {
        let mut file =
            b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x07\0\x01\0\x40\x1f\0\0\0\0\0\0\x01\0\x08\0data".to_vec();
        file.extend((samples as u32).to_le_bytes());
        file.extend((0..samples).map(|at| 0x80 | (at / 10) as u8));
        Playing::new(Tune::read(&file).unwrap(), Voice { payload_type: 0, law: Law::Mu }, span)
    }

    fn frames(span: Span) -> Vec<Vec<u8>> {
        let mut playing = playing(200, span).unwrap();
        std::iter::from_fn(|| (!playing.is_over()).then(|| playing.frame())).take(100).collect()
    }

    const ONCE: Span = Span { start: 0, times: Some(1), time: None };

    #[test]
    fn the_last_packet_is_filled_with_silence_and_a_repetition_follows_at_once() {
        let once = frames(ONCE);
        assert_eq!(once.len(), 2);
        assert_eq!((once[1][39], once[1][40], once[1][159]), (0x80 | 19, 0xff, 0xff));
        let twice = frames(Span { times: Some(2), ..ONCE });
        assert_eq!((twice.len(), twice[1][40]), (3, 0x80), "200 and 200 samples in packets of 160");
        assert_eq!(twice[2][79..81], [0x80 | 19, 0xff]);
    }

    #[test]
    fn the_first_pass_alone_begins_where_it_is_told_to() {
        let late = frames(Span { start: 190, times: Some(2), ..ONCE });
        assert_eq!((late.len(), late[0][0], late[0][10]), (2, 0x80 | 19, 0x80));
        assert!(playing(200, Span { start: 200, ..ONCE }).is_none(), "there is no such sample");
        assert!(playing(200, Span { start: u64::MAX, ..ONCE }).is_none());
    }

    #[test]
    fn a_time_ends_it_before_or_after_its_end() {
        let ms = |time| Span { time: Some(Duration::from_millis(time)), times: None, ..ONCE };
        assert_eq!(frames(ms(100)).len(), 5, "25 ms, four times");
        assert_eq!(frames(ms(10)), [[vec![0x80; 10], frames(ms(10))[0][10..].to_vec()].concat()]);
        assert_eq!(frames(ms(10))[0][79..81], [0x87, 0xff]);
        assert_eq!(frames(Span { times: Some(2), ..ms(1000) }).len(), 3, "the number ends it first");
    }
}
