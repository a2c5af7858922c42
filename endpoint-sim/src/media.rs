//! A phone's voice and ear: a packet every 20 ms, reports every few seconds, and what comes in.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::node::{Birth, Dice, Output, SocketId};
use proto::rtcp::{self, Block};
use proto::rtp::{self, Header, Packet, Rtp, Seen, Statistics};
use proto::sdp::Direction;

use crate::config::PhoneConfig;
use crate::keys::Keys;
use crate::marker::{self, FRAME, Marker};
use crate::offer::{EVENTS, Origin, PCMU, Remote};
use crate::report::Report;

/// A pair of open ports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sockets {
    pub(crate) rtp: SocketId,
    pub(crate) rtcp: SocketId,
    /// The RTP address, as SDP names it.
    pub(crate) local: SocketAddr,
}

/// The media of one call.
#[derive(Debug)]
pub(crate) struct Media {
    name: String,
    pub(crate) sockets: Option<Sockets>,
    pub(crate) remote: Option<Remote>,
    /// What our last description said.
    pub(crate) direction: Direction,
    pub(crate) origin: Origin,
    /// Whether we offer and take RTCP on the RTP port (RFC 5761).
    pub(crate) mux: bool,
    /// What protects it, in both directions; `None`: nothing.
    pub(crate) keys: Option<Keys>,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    number: u32,
    next_packet: Option<Instant>,
    next_report: Option<Instant>,
    statistics: Statistics,
    heard_at: Option<Instant>,
    hears: (String, u32),
    /// Digits to send, and how many packets of the first are out.
    digits: VecDeque<(u8, u8)>,
    /// Timestamp of the last digit heard, so that its repetitions count once.
    last_digit: Option<u32>,
    last_sender_report: Option<(u32, Instant)>,
}

const PACKET_TIME: Duration = Duration::from_millis(20);
const REPORT_TIME: Duration = Duration::from_secs(5);
/// Packets that carry a digit, and how many of them say that it ends (RFC 4733 §2.5.1.4).
const DIGIT_PACKETS: u8 = 8;
const DIGIT_ENDS: u8 = 3;

impl Media {
    pub(crate) fn new(config: &PhoneConfig, dice: &mut Dice) -> Media {
        Media {
            name: config.name(),
            mux: config.rtcp_mux,
            keys: config.srtp.then(|| Keys::new(dice)),
            sockets: None,
            remote: None,
            direction: Direction::SendRecv,
            origin: Origin { session: dice.u32() >> 1, version: 1 },
            ssrc: dice.u32(),
            sequence: dice.u32() as u16,
            timestamp: dice.u32(),
            number: 0,
            next_packet: None,
            next_report: None,
            statistics: Statistics::new(Some(8000)),
            heard_at: None,
            hears: (String::new(), 0),
            digits: VecDeque::new(),
            last_digit: None,
            last_sender_report: None,
        }
    }

    /// The other side's description: from now on, talk there.
    pub(crate) fn follow(&mut self, now: Instant, remote: Remote) {
        if let (Some(keys), Some(theirs)) = (&mut self.keys, &remote.crypto) {
            keys.follow(theirs);
        }
        self.remote = Some(remote);
        // Silence on hold is no gap.
        self.heard_at = None;
        match self.destination() {
            Some(_) => self.next_packet = self.next_packet.or(Some(now)),
            None => self.next_packet = None,
        }
        self.next_report = self.next_report.or(Some(now + Duration::from_secs(1)));
    }

    /// Where to talk to, while both sides want that.
    fn destination(&self) -> Option<(SocketId, SocketAddr)> {
        let remote = self.remote.as_ref()?;
        let wanted = matches!(remote.direction, Direction::SendRecv | Direction::RecvOnly);
        // A phone on hold plays no music.
        let willing = self.direction == Direction::SendRecv;
        (wanted && willing).then_some((self.sockets?.rtp, remote.rtp?))
    }

    pub(crate) fn dial(&mut self, digits: &str) {
        let codes = digits
            .bytes()
            .filter_map(|digit| b"0123456789*#ABCD".iter().position(|&d| d == digit.to_ascii_uppercase()));
        self.digits.extend(codes.map(|code| (code as u8, 0)));
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.next_packet, self.next_report].into_iter().flatten().min()
    }

    /// Sends what is due.
    pub(crate) fn wake(
        &mut self,
        now: Instant,
        birth: &Birth,
        out: &mut VecDeque<Output>,
        report: &mut Report,
    ) {
        while let Some(due) = self.next_packet.filter(|&due| due <= now) {
            let Some((socket, to)) = self.destination() else {
                self.next_packet = None;
                break;
            };
            // A long pause is not made good by a burst.
            let late = now.saturating_duration_since(due) > PACKET_TIME * 10;
            self.next_packet = Some(if late { now } else { due } + PACKET_TIME);
            let packet = self.packet();
            let Some(bytes) = self.protected(packet) else { continue };
            report.sent += 1;
            out.push_back(Output::SendMedia { socket, to, bytes });
        }
        if self.next_report.is_some_and(|due| due <= now) {
            self.next_report = Some(now + REPORT_TIME);
            self.send_report(now, birth, out, report);
        }
    }

    /// The next 20 ms: tone, or a digit.
    fn packet(&mut self) -> Vec<u8> {
        let events = self.remote.as_ref().and_then(|remote| remote.events);
        let digit = self.digits.front().copied().filter(|_| events.is_some());
        let header = Header {
            payload_type: if digit.is_some() { events.unwrap_or(EVENTS) } else { PCMU },
            marker: self.number == 0 || digit.is_some_and(|(_, sent)| sent == 0),
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        };
        self.sequence = self.sequence.wrapping_add(1);
        let Some((code, sent)) = digit else {
            self.timestamp = self.timestamp.wrapping_add(FRAME as u32);
            self.number += 1;
            return rtp::write(header, &marker::write(&self.marker()));
        };
        self.digit_packet(header, code, sent)
    }

    fn marker(&self) -> Marker {
        let (hears, heard) = self.hears.clone();
        Marker { name: self.name.clone(), number: self.number, hears, heard }
    }

    /// RFC 4733 §2.3: event, end bit and volume, duration. All packets of a digit have its first timestamp.
    fn digit_packet(&mut self, header: Header, code: u8, sent: u8) -> Vec<u8> {
        let lasting = (sent + 1).min(DIGIT_PACKETS - DIGIT_ENDS + 1);
        let duration = u16::from(lasting) * FRAME as u16;
        let ends = sent + DIGIT_ENDS >= DIGIT_PACKETS;
        let [high, low] = duration.to_be_bytes();
        if sent + 1 == DIGIT_PACKETS {
            self.digits.pop_front();
            self.timestamp = self.timestamp.wrapping_add(u32::from(DIGIT_PACKETS) * FRAME as u32);
        } else if let Some(first) = self.digits.front_mut() {
            first.1 += 1;
        }
        rtp::write(header, &[code, if ends { 0x8a } else { 0x0a }, high, low])
    }

    fn send_report(&mut self, now: Instant, birth: &Birth, out: &mut VecDeque<Output>, report: &mut Report) {
        let Some((socket, to)) = self.reports_to() else { return };
        let blocks: Vec<Block> = self.block(now).into_iter().collect();
        let sender = rtcp::Sender {
            ntp: rtcp::ntp(birth.wall_at(now)),
            timestamp: self.timestamp,
            packets: self.number,
            bytes: self.number.wrapping_mul(FRAME as u32),
        };
        let bytes = match self.next_packet {
            Some(_) => rtcp::sender_report(self.ssrc, sender, &blocks, &self.name),
            None => rtcp::receiver_report(self.ssrc, &blocks, &self.name),
        };
        let Some(bytes) = self.protected(bytes) else { return };
        report.rtcp_sent += 1;
        out.push_back(Output::SendMedia { socket, to, bytes });
    }

    /// Where reports go, and from which port.
    fn reports_to(&self) -> Option<(SocketId, SocketAddr)> {
        let (sockets, remote) = (self.sockets?, self.remote.as_ref()?);
        match self.mux && remote.mux {
            true => Some((sockets.rtp, remote.rtp?)),
            false => Some((sockets.rtcp, remote.rtcp?)),
        }
    }

    /// What we hear of the other side.
    fn block(&self, now: Instant) -> Option<Block> {
        let (ssrc, highest, jitter) = self.statistics.reported()?;
        let (last_report, delay) = self.last_sender_report.map_or((0, 0), |(middle, at)| {
            (middle, (now.saturating_duration_since(at).as_secs_f64() * 65_536.0) as u32)
        });
        let lost = self.statistics.summary().lost as i32;
        Some(Block { ssrc, fraction_lost: 0, lost, highest, jitter, last_report, delay })
    }

    /// Takes in a datagram of one of our sockets.
    pub(crate) fn receive(&mut self, now: Instant, from: SocketAddr, bytes: &[u8], report: &mut Report) {
        let opened = match &mut self.keys {
            Some(keys) => keys.open(bytes),
            None => Some(bytes.to_vec()),
        };
        let Some(bytes) = &opened else {
            report.unopened += 1;
            return;
        };
        match rtp::classify(bytes) {
            Packet::Rtp(packet) => self.hear(now, from, packet, report),
            Packet::Rtcp(bytes) => self.read_report(now, bytes, report),
            _ => {}
        }
        report.audio_both_ways = report.received > 0 && report.heard_of_us > 0;
    }

    /// As it leaves.
    fn protected(&mut self, packet: Vec<u8>) -> Option<Bytes> {
        match &mut self.keys {
            Some(keys) => keys.seal(packet).map(Bytes::from),
            None => Some(packet.into()),
        }
    }

    fn hear(&mut self, now: Instant, from: SocketAddr, packet: Rtp<'_>, report: &mut Report) {
        let seen = self.statistics.record(now, packet);
        let summary = self.statistics.summary();
        (report.received, report.lost, report.reordered) = (summary.packets, summary.lost, summary.reordered);
        report.sources.insert(from);
        if let Some(before) = self.heard_at.replace(now) {
            let gap = now.saturating_duration_since(before).as_millis() as u64;
            report.largest_gap_ms = report.largest_gap_ms.max(gap);
        }
        match marker::read(packet.payload()) {
            Some(marker) if seen != Seen::Duplicate => self.hear_marker(marker, report),
            None if Some(packet.payload_type()) == self.events_type() => self.hear_digit(packet, report),
            None => report.unmarked += 1,
            Some(_) => {}
        }
    }

    fn events_type(&self) -> Option<u8> {
        self.remote.as_ref().map_or(Some(EVENTS), |remote| remote.events)
    }

    fn hear_marker(&mut self, marker: Marker, report: &mut Report) {
        let heard = report.heard.entry(marker.name.clone()).or_default();
        *heard += 1;
        self.hears = (marker.name, *heard as u32);
        if marker.hears == self.name {
            report.heard_of_us = report.heard_of_us.max(u64::from(marker.heard));
        }
    }

    fn hear_digit(&mut self, packet: Rtp<'_>, report: &mut Report) {
        let code = packet.payload().first().copied().unwrap_or(u8::MAX);
        let digit = b"0123456789*#ABCD".get(usize::from(code));
        if let Some(&digit) = digit.filter(|_| self.last_digit != Some(packet.timestamp())) {
            self.last_digit = Some(packet.timestamp());
            report.digits.push(char::from(digit));
        }
    }

    fn read_report(&mut self, now: Instant, bytes: &[u8], report: &mut Report) {
        report.rtcp_received += 1;
        for part in rtcp::read(bytes) {
            let blocks = match part {
                rtcp::Report::Sender { sender, blocks, .. } => {
                    self.last_sender_report = Some((rtcp::middle(sender.ntp), now));
                    blocks
                }
                rtcp::Report::Receiver { blocks, .. } => blocks,
                _ => continue,
            };
            if blocks.iter().any(|block| block.ssrc == self.ssrc) {
                report.heard_of_us = report.heard_of_us.max(1);
            }
        }
    }

    /// Says goodbye and gives the ports back.
    pub(crate) fn end(&mut self, out: &mut VecDeque<Output>) {
        if let Some((socket, to)) = self.reports_to() {
            let bytes = self.protected(rtcp::bye(self.ssrc));
            out.extend(bytes.map(|bytes| Output::SendMedia { socket, to, bytes }));
        }
        let Some(sockets) = self.sockets.take() else { return };
        release(sockets, out);
        (self.next_packet, self.next_report) = (None, None);
    }
}

/// Gives a pair of ports back.
pub(crate) fn release(sockets: Sockets, out: &mut VecDeque<Output>) {
    out.extend([Output::Release { socket: sockets.rtp }, Output::Release { socket: sockets.rtcp }]);
}
