//! What the parties' own RTCP reports say as they pass: how well each hears the other, and how far away it is.
//!
//! The relay writes no reports of its own. It notes when a sender report passes, and when the other party's receiver
//! report that answers it comes back: what lies between, less the time that party says it took, is the round trip
//! between it and the relay (RFC 3550 §6.4.1, measured from half-way).

use std::time::{Duration, Instant};

use proto::rtcp::{Block, Report, middle, read};

use crate::leg::Leg;
use crate::relay::Relay;

/// What is noted of one party's reports.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reports {
    /// Its last sender report: as the other party will name it, and when it passed.
    sent: Option<(u32, Instant)>,
    /// Between it and the relay and back.
    pub(crate) round_trip: Option<Duration>,
    /// Packets it has missed of what is sent to it, as it says.
    pub(crate) lost: u32,
    /// The jitter it says it hears.
    pub(crate) jitter_us: u32,
}

impl Relay {
    /// RTCP of one party passes.
    #[cold]
    pub(crate) fn hear_report(&mut self, now: Instant, at: u32, other: u32, bytes: &[u8]) {
        let pair = (at as usize, other as usize);
        if pair.0 == pair.1 {
            return;
        }
        let Ok([own, other]) = self.legs.get_disjoint_mut([pair.0, pair.1]) else { return };
        for report in read(bytes) {
            match report {
                Report::Sender { sender, blocks, .. } => {
                    own.reports.sent = Some((middle(sender.ntp), now));
                    blocks.iter().for_each(|block| own.note_block(now, other, block));
                }
                Report::Receiver { blocks, .. } => {
                    blocks.iter().for_each(|block| own.note_block(now, other, block));
                }
                Report::Bye { .. } | Report::Other { .. } => {}
            }
        }
    }
}

impl Leg {
    /// What this party says of how it hears the other. A block about a source nobody sent is passed over, so that SRTCP,
    /// whose blocks can't be read, says nothing.
    fn note_block(&mut self, now: Instant, other: &Leg, block: &Block) {
        let Some(track) = other.tracks.find(block.ssrc) else { return };
        self.reports.lost = u32::try_from(block.lost).unwrap_or(0);
        self.reports.jitter_us = track.in_microseconds(block.jitter);
        let Some((_, passed)) = other.reports.sent.filter(|&(name, _)| name == block.last_report) else {
            return;
        };
        let held = Duration::from_secs_f64(f64::from(block.delay) / 65536.0);
        let trip = now.saturating_duration_since(passed).checked_sub(held);
        self.reports.round_trip = trip.filter(|trip| *trip < LONGEST).or(self.reports.round_trip);
    }
}

/// A longer round trip is a report that makes no sense.
const LONGEST: Duration = Duration::from_secs(10);
