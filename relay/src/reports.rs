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
    /// Reports in a row that show nothing new of what was sent to it, and what they are judged by: the newest it knows of,
    /// and how many packets of the other party there were at the last one.
    deaf: u8,
    highest: Option<(u32, u32)>,
    sent_before: u64,
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
                    own.reports.get_or_insert_default().sent = Some((middle(sender.ntp), now));
                    own.note_arrival(other, &blocks);
                    blocks.iter().for_each(|block| own.note_block(now, other, block));
                }
                Report::Receiver { blocks, .. } => {
                    own.note_arrival(other, &blocks);
                    blocks.iter().for_each(|block| own.note_block(now, other, block));
                }
                Report::Bye { .. } | Report::Other { .. } => {}
            }
        }
    }
}

impl Leg {
    /// Whether what is sent to this party arrives, as far as its reports show. One without blocks says that nothing did since
    /// the last one (RFC 3550 §6.4.2); blocks about nobody's source say nothing.
    fn note_arrival(&mut self, other: &Leg, blocks: &[Block]) {
        let known = blocks.iter().find(|block| other.tracks.find(block.ssrc).is_some());
        if known.is_none() && !blocks.is_empty() {
            return;
        }
        let newest = known.map(|block| (block.ssrc, block.highest));
        let sent = other.packets - other.rtcp_packets;
        let reports = self.reports.get_or_insert_default();
        if newest.is_some() && newest != reports.highest {
            (reports.deaf, reports.sent_before) = (0, sent);
        } else if sent >= reports.sent_before + ENOUGH {
            reports.deaf = reports.deaf.saturating_add(1);
            reports.sent_before = sent;
        }
        reports.highest = newest.or(reports.highest);
    }

    /// What is noted of its reports.
    pub(crate) fn reports(&self) -> Reports {
        self.reports.as_deref().copied().unwrap_or_default()
    }

    /// Whether this party says again and again that nothing arrives, while the other one sends.
    pub(crate) fn hears_nothing(&self) -> bool {
        self.reports().deaf >= DEAF
    }

    /// What this party says of how it hears the other. A block about a source nobody sent is passed over, so that SRTCP,
    /// whose blocks can't be read, says nothing.
    fn note_block(&mut self, now: Instant, other: &Leg, block: &Block) {
        let Some(track) = other.tracks.find(block.ssrc) else { return };
        let reports = self.reports.get_or_insert_default();
        reports.lost = u32::try_from(block.lost).unwrap_or(0);
        reports.jitter_us = track.in_microseconds(block.jitter);
        let Some((_, passed)) = other.reports().sent.filter(|&(name, _)| name == block.last_report) else {
            return;
        };
        let held = Duration::from_secs_f64(f64::from(block.delay) / 65536.0);
        let trip = now.saturating_duration_since(passed).checked_sub(held);
        reports.round_trip = trip.filter(|trip| *trip < LONGEST).or(reports.round_trip);
    }
}

/// Packets (a second of speech) between two reports for the second to mean anything, and how many such reports are believed.
const ENOUGH: u64 = 50;
const DEAF: u8 = 2;
/// A longer round trip is a report that makes no sense.
const LONGEST: Duration = Duration::from_secs(10);
