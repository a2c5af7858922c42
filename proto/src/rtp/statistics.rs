//! What one direction of one leg shows: loss, reordering and jitter (RFC 3550 §6.4.1, appendices A.1, A.3, A.8).
//!
//! Made for the relay's fast path: [`Statistics::record`] allocates nothing and takes a constant number of steps. It
//! judges nobody: a packet it finds odd is still forwarded.
//!
//! ```text
//!               in order or ahead by < 3000           two in a row there
//!   record ───► step = sequence − highest ───┬──► count (window shifts)
//!               behind by ≤ 100              ├──► late or duplicate, by the window of the newest 64
//!               anything else                └──► jump: counted apart; a second packet in a row makes a new stretch
//!   another SSRC: a new stretch; what the old one lost stays counted
//! ```

use std::time::Instant;

use super::Rtp;

/// The running numbers of one stream of packets. Starts empty, with [`Statistics::new`].
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    clock_rate: u32,
    stretch: Option<Stretch>,
    packets: u64,
    bytes: u64,
    /// Lost in stretches that have ended, and most in a row there.
    lost: u64,
    burst: u16,
    reordered: u64,
    duplicates: u64,
    /// Sixteenths of a microsecond (A.8 keeps the fraction too).
    jitter: u64,
}

/// What one packet turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The first of a stream: a new SSRC, or a sequence that starts anew.
    First,
    /// The next in order, or ahead of it.
    InOrder,
    /// Behind one that came earlier.
    Late,
    /// Here already.
    Duplicate,
    /// Far from where the stream was. The next in order after it begins a new stretch.
    Jump,
}

/// The numbers of a stream at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// All packets recorded.
    pub packets: u64,
    /// Their bytes, headers included (UDP payload).
    pub bytes: u64,
    /// Packets that never came, by sequence numbers.
    pub lost: u64,
    /// Packets that came behind a later one.
    pub reordered: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Interarrival jitter in microseconds.
    pub jitter_us: u32,
    /// Most packets missing in a row, as they were missed: some may have come late.
    pub burst: u16,
}

impl Summary {
    /// Share of packets that never came, 0.0–1.0.
    pub fn loss(&self) -> f64 {
        let unique = self.packets.saturating_sub(self.duplicates);
        let expected = unique + self.lost;
        if expected == 0 { 0.0 } else { self.lost as f64 / expected as f64 }
    }
}

/// Where a stream stands, so that somebody else can count on (see [`crate::offload`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Highest sequence number, with its wraps.
    pub highest: u64,
    /// Timestamp of the newest packet.
    pub timestamp: u32,
    /// Jitter in sixteenths of a microsecond.
    pub jitter: u64,
}

/// One source, from its first sequence number on.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    ssrc: u32,
    base: u64,
    /// Highest sequence number, extended by the count of wraps (A.1).
    highest: u64,
    received: u64,
    /// Most packets missing in a row.
    burst: u16,
    /// Bit n: `highest − n` has come.
    window: u64,
    /// The sequence number that would confirm a jump.
    after_jump: Option<u16>,
    last_arrival: Instant,
    last_timestamp: u32,
}

impl Statistics {
    /// For payloads with this clock, in Hz (RFC 3551: 8000 for G.711); without a known one jitter stays 0.
    pub fn new(clock_rate: Option<u32>) -> Statistics {
        Statistics {
            clock_rate: clock_rate.unwrap_or(0),
            stretch: None,
            packets: 0,
            bytes: 0,
            lost: 0,
            burst: 0,
            reordered: 0,
            duplicates: 0,
            jitter: 0,
        }
    }

    /// Another codec was agreed on: another clock. What was counted stays.
    pub fn set_clock_rate(&mut self, clock_rate: Option<u32>) {
        self.clock_rate = clock_rate.unwrap_or(0);
    }

    /// Takes in one packet that arrived at `now`.
    pub fn record(&mut self, now: Instant, rtp: Rtp<'_>) -> Seen {
        self.packets += 1;
        self.bytes += rtp.0.len() as u64;
        let (sequence, ssrc) = (rtp.sequence(), rtp.ssrc());
        let Some(stretch) = self.stretch.as_mut().filter(|s| s.ssrc == ssrc) else {
            return self.begin(now, rtp);
        };
        let seen = stretch.place(sequence);
        match seen {
            Seen::InOrder => self.measure_jitter(now, rtp.timestamp()),
            Seen::Late => self.reordered += 1,
            Seen::Duplicate => self.duplicates += 1,
            Seen::First => return self.begin(now, rtp),
            Seen::Jump => {}
        }
        seen
    }

    /// The numbers so far.
    pub fn summary(&self) -> Summary {
        Summary {
            packets: self.packets,
            bytes: self.bytes,
            lost: self.lost + self.stretch.map_or(0, |s| s.lost()),
            reordered: self.reordered,
            duplicates: self.duplicates,
            jitter_us: u32::try_from(self.jitter / 16).unwrap_or(u32::MAX),
            burst: self.burst.max(self.stretch.map_or(0, |s| s.burst)),
        }
    }

    /// The stream's source, highest extended sequence number (32 bits) and jitter in its own clock: what a report
    /// block says of it ([`crate::rtcp::Block`]). `None` before the first packet.
    pub fn reported(&self) -> Option<(u32, u32, u32)> {
        let stretch = self.stretch?;
        let jitter = self.jitter / 16 * u64::from(self.clock_rate) / 1_000_000;
        Some((stretch.ssrc, stretch.highest as u32, jitter as u32))
    }

    /// The highest sequence number, its SSRC and the timestamp of the newest packet in order.
    pub fn newest(&self) -> Option<(u32, u16, u32)> {
        self.stretch.map(|s| (s.ssrc, s.highest as u16, s.last_timestamp))
    }

    /// Where the stream stands; `None` before the first packet.
    pub fn progress(&self) -> Option<Progress> {
        let stretch = self.stretch?;
        Some(Progress { highest: stretch.highest, timestamp: stretch.last_timestamp, jitter: self.jitter })
    }

    /// Packets that went another way, each ahead of the one before, up to `progress`, the last at `heard`.
    pub fn carried(&mut self, packets: u64, bytes: u64, burst: u16, heard: Instant, progress: Progress) {
        self.packets += packets;
        self.bytes += bytes;
        let Some(stretch) = self.stretch.as_mut() else { return };
        stretch.received += packets;
        stretch.burst = stretch.burst.max(burst);
        if progress.highest > stretch.highest {
            stretch.highest = progress.highest;
            // Of those behind it nobody knows which have come: one that comes now counts as late.
            stretch.window = 1;
            stretch.after_jump = None;
            (stretch.last_timestamp, stretch.last_arrival) = (progress.timestamp, heard);
            self.jitter = progress.jitter;
        }
    }

    fn begin(&mut self, now: Instant, rtp: Rtp<'_>) -> Seen {
        self.lost += self.stretch.map_or(0, |s| s.lost());
        self.burst = self.burst.max(self.stretch.map_or(0, |s| s.burst));
        let first = u64::from(rtp.sequence()) + CYCLE;
        self.stretch = Some(Stretch {
            ssrc: rtp.ssrc(),
            base: first,
            highest: first,
            received: 1,
            burst: 0,
            window: 1,
            after_jump: None,
            last_arrival: now,
            last_timestamp: rtp.timestamp(),
        });
        Seen::First
    }

    /// A.8: `J += (|D| − J) / 16`, D being by how much two packets' spacing changed on the way. Packets of one frame
    /// share a timestamp (video) and count only once.
    fn measure_jitter(&mut self, now: Instant, timestamp: u32) {
        let Some(stretch) = self.stretch.as_mut() else { return };
        let ticks = timestamp.wrapping_sub(stretch.last_timestamp) as i32;
        if ticks == 0 {
            return;
        }
        let arrived = now.saturating_duration_since(stretch.last_arrival).as_micros() as i64;
        stretch.last_arrival = now;
        stretch.last_timestamp = timestamp;
        if self.clock_rate == 0 {
            return;
        }
        let sent = i64::from(ticks) * 1_000_000 / i64::from(self.clock_rate);
        let change = arrived.saturating_sub(sent).unsigned_abs();
        if change < IMPLAUSIBLE_US {
            self.jitter = self.jitter - (self.jitter + 8) / 16 + change;
        }
    }
}

impl Stretch {
    fn place(&mut self, sequence: u16) -> Seen {
        let ahead = sequence.wrapping_sub(self.highest as u16);
        let behind = ahead.wrapping_neg();
        if ahead != 0 && ahead < MAX_DROPOUT {
            self.advance(ahead)
        } else if behind <= MAX_MISORDER {
            self.fill(behind)
        } else if self.after_jump == Some(sequence) {
            Seen::First
        } else {
            self.after_jump = Some(sequence.wrapping_add(1));
            Seen::Jump
        }
    }

    fn advance(&mut self, ahead: u16) -> Seen {
        self.after_jump = None;
        self.highest += u64::from(ahead);
        self.burst = self.burst.max(ahead - 1);
        self.window = self.window.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
        self.received += 1;
        Seen::InOrder
    }

    /// A packet at or behind the highest: late, or here already. Behind the window nobody knows; it counts as late.
    /// One from before the stretch's first packet moves the base, so that it can't make up for a lost one.
    fn fill(&mut self, behind: u16) -> Seen {
        let bit = 1u64.checked_shl(u32::from(behind)).unwrap_or(0);
        if self.window & bit != 0 {
            return Seen::Duplicate;
        }
        self.window |= bit;
        self.received += 1;
        self.base = self.base.min(self.highest - u64::from(behind));
        Seen::Late
    }

    fn lost(&self) -> u64 {
        (self.highest + 1 - self.base).saturating_sub(self.received)
    }
}

/// Appendix A.1: how far ahead a sequence number may be, and how far behind.
const MAX_DROPOUT: u16 = 3000;
const MAX_MISORDER: u16 = 100;
/// Sequence numbers start one cycle up, so that a late packet never goes below zero.
const CYCLE: u64 = 1 << 16;
/// A change of spacing beyond this is a pause (silence suppression with a bad clock, a move), not jitter.
const IMPLAUSIBLE_US: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::super::{Header, write};
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    /// A stream of 20 ms G.711 packets, sent by number.
    struct Stream {
        birth: Instant,
        statistics: Statistics,
    }

    #[allow(clippy::disallowed_methods, reason = "a test needs one Instant to count from")]
    fn stream() -> Stream {
        Stream { birth: Instant::now(), statistics: Statistics::new(Some(8000)) }
    }

    impl Stream {
        /// Packet `n` arrives `late` after its due time.
        fn arrives(&mut self, n: u32, late: Duration) -> Seen {
            self.from(0xcafe, n, late)
        }

        fn from(&mut self, ssrc: u32, n: u32, late: Duration) -> Seen {
            let header =
                Header { sequence: n as u16, timestamp: n.wrapping_mul(160), ssrc, ..Header::default() };
            let due = self.birth + Duration::from_millis(20) * n;
            self.statistics.record(due + late, Rtp(&write(header, &[0; 160])))
        }

        fn sees(&mut self, numbers: impl IntoIterator<Item = u32>) -> Summary {
            for n in numbers {
                self.arrives(n, Duration::ZERO);
            }
            self.statistics.summary()
        }
    }

    #[test]
    fn a_perfect_stream_shows_no_loss_and_no_jitter() {
        let summary = stream().sees(0..1000);
        assert_eq!(summary, Summary { packets: 1000, bytes: 172_000, ..Summary::default() });
    }

    #[test]
    fn counts_what_never_came_across_a_wrap() {
        let summary = stream().sees((65_000..66_000).filter(|n| n % 10 != 5));
        assert_eq!((summary.packets, summary.lost, summary.reordered), (900, 100, 0));
        assert!((summary.loss() - 0.1).abs() < 1e-9);
    }

    #[test]
    fn a_late_packet_is_not_lost() {
        let mut stream = stream();
        let summary = stream.sees([1, 2, 4, 3, 5]);
        assert_eq!((summary.lost, summary.reordered), (0, 1));
        assert_eq!(stream.arrives(4, Duration::ZERO), Seen::Duplicate);
        assert_eq!(stream.statistics.summary().duplicates, 1);
    }

    #[test]
    fn a_duplicate_does_not_hide_a_loss() {
        let summary = stream().sees([1, 2, 2, 2, 4]);
        assert_eq!((summary.lost, summary.duplicates), (1, 2));
    }

    #[test]
    fn a_packet_from_before_the_first_is_late_and_hides_no_loss() {
        let summary = stream().sees([10, 9, 12]);
        assert_eq!((summary.lost, summary.reordered), (1, 1));
    }

    #[test]
    fn a_lone_jump_changes_nothing_and_a_confirmed_one_begins_anew() {
        let mut stream = stream();
        stream.sees(0..10);
        assert_eq!(stream.arrives(20_000, Duration::ZERO), Seen::Jump);
        assert_eq!(stream.arrives(10, Duration::ZERO), Seen::InOrder);
        assert_eq!(stream.statistics.summary().lost, 0);
        assert_eq!(
            stream.arrives(20_001, Duration::ZERO),
            Seen::Jump,
            "what came between takes the first jump back"
        );
        assert_eq!(stream.arrives(30_000, Duration::ZERO), Seen::Jump);
        assert_eq!(stream.arrives(30_001, Duration::ZERO), Seen::First);
        assert_eq!(stream.statistics.summary().lost, 0);
    }

    #[test]
    fn the_edges_of_dropout_and_misorder_are_those_of_appendix_a1() {
        let mut ahead = stream();
        ahead.sees([5000]);
        assert_eq!(ahead.arrives(5000 + 2999, Duration::ZERO), Seen::InOrder);
        let mut jump = stream();
        jump.sees([5000]);
        assert_eq!(jump.arrives(5000 + 3000, Duration::ZERO), Seen::Jump);
        let mut behind = stream();
        behind.sees([5000]);
        assert_eq!(behind.arrives(4900, Duration::ZERO), Seen::Late);
        assert_eq!(behind.arrives(4899, Duration::ZERO), Seen::Jump);
    }

    #[test]
    fn another_source_begins_anew_and_keeps_what_was_lost() {
        let mut stream = stream();
        stream.sees([1, 2, 5]);
        assert_eq!(stream.from(0xbeef, 40_000, Duration::ZERO), Seen::First);
        assert_eq!(stream.statistics.summary().lost, 2);
        assert_eq!(stream.statistics.newest(), Some((0xbeef, 40_000, 40_000 * 160)));
    }

    #[test]
    fn jitter_settles_at_the_mean_change_of_spacing() {
        let mut stream = stream();
        for n in 0..2000 {
            stream.arrives(n, Duration::from_millis(u64::from(n % 2) * 8));
        }
        let jitter = stream.statistics.summary().jitter_us;
        assert!((7900..=8100).contains(&jitter), "{jitter}");
        let (_, _, ticks) = stream.statistics.reported().unwrap();
        assert_eq!(ticks, 63);
    }

    #[test]
    fn silence_between_talkspurts_is_not_jitter() {
        let mut stream = stream();
        for n in 0..50 {
            stream.arrives(n, Duration::ZERO);
        }
        // DTX: the timestamp goes on though nothing is sent, and the sequence does not.
        let header = Header { sequence: 50, timestamp: 500 * 160, ssrc: 0xcafe, ..Header::default() };
        let due = stream.birth + Duration::from_millis(20) * 500;
        assert_eq!(stream.statistics.record(due, Rtp(&write(header, &[]))), Seen::InOrder);
        assert_eq!(stream.statistics.summary().jitter_us, 0);
    }

    proptest! {
        #[test]
        fn any_order_of_any_packets_keeps_the_sums(numbers in proptest::collection::vec(0u32..70_000, 1..200)) {
            let count = numbers.len() as u64;
            let summary = stream().sees(numbers);
            prop_assert_eq!(summary.packets, count);
            prop_assert!(summary.reordered + summary.duplicates < count);
            prop_assert!(summary.loss() >= 0.0 && summary.loss() < 1.0);
        }

        #[test]
        fn a_shuffle_within_the_window_loses_nothing(seed in proptest::collection::vec(0usize..30, 300)) {
            let mut numbers: Vec<u32> = (1000..1300).collect();
            for (at, swap) in seed.iter().enumerate() {
                let with = (at / 30 * 30 + swap).min(299);
                numbers.swap(at, with);
            }
            let summary = stream().sees(numbers);
            prop_assert_eq!((summary.lost, summary.duplicates), (0, 0));
        }
    }
}
