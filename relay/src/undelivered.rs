//! What ICMP says of packets for a party: that its port is closed, its host gone, or a firewall in between.
//!
//! It is a hint and no more: anybody can forge ICMP (RFC 5927). So it moves nothing: no leg, latch, target or session
//! changes by it, however many come. It is believed only when what it quotes is what was sent: from the leg's own port to
//! where its party is met now, an RTP packet of the stream that goes there and near its newest sequence number, or a report of
//! its sender. One that quotes less (RFC 792 asks for eight bytes, which tell nothing) is not, nor is one about a port for RTCP
//! alone, which many a phone leaves closed. A run of them is told as an Event, and is then why a party can't be heard
//! ([`crate::sound`]).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::event::Event;
use proto::icmp::{Undelivered, Unreachable};
use proto::rtp::{Packet, classify};

use crate::forward::Use;
use crate::leg::{Leg, Part};
use crate::relay::Relay;

/// How often, and for how long, before it is more than a phone that hangs up.
const TIMES: u32 = 3;
const LASTING: Duration = Duration::from_secs(2);
/// A run is over when nothing came for so long: hosts send one a second, some fewer.
const RUN: Duration = Duration::from_secs(10);
/// How often a leg's is told of.
const AGAIN: Duration = Duration::from_secs(60);
/// How far from the newest packet a quoted one may be: a second of any stream.
const NEAR: u16 = 2048;

/// What was said of one leg.
#[derive(Clone, Debug)]
pub(crate) struct Refusals {
    /// In all.
    pub(crate) times: u32,
    to: SocketAddr,
    why: Unreachable,
    /// Of the present run: how many, the first, and the last.
    run: u32,
    first: Instant,
    last: Instant,
    told: Option<Instant>,
}

impl Refusals {
    fn hear(&mut self, now: Instant, said: &Undelivered) {
        if self.to != said.to || self.is_over(now) {
            (self.run, self.first) = (0, now);
        }
        self.times = self.times.saturating_add(1);
        self.run = self.run.saturating_add(1);
        (self.to, self.why, self.last) = (said.to, said.why, now);
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) > RUN
    }

    fn is_lasting(&self) -> bool {
        self.run >= TIMES && self.last.saturating_duration_since(self.first) >= LASTING
    }

    /// Whether it is time to tell of it (again).
    fn is_news(&mut self, now: Instant) -> bool {
        let is_news = self.is_lasting() && self.told.is_none_or(|told| now >= told + AGAIN);
        if is_news {
            self.told = Some(now);
        }
        is_news
    }
}

impl Relay {
    /// Takes in what somebody says of a packet we are to have sent.
    pub(crate) fn undelivered(&mut self, now: Instant, said: &Undelivered) {
        let Some(at) = self.sent_for(said) else { return };
        let leg = &mut self.legs[at as usize];
        let (to, why) = (said.to, said.why);
        let first = || Refusals { times: 0, to, why, run: 0, first: now, last: now, told: None };
        let refusals = leg.refusals.get_or_insert_with(|| Box::new(first()));
        refusals.hear(now, said);
        let (is_news, times, other) = (refusals.is_news(now), refusals.times, leg.other);
        if is_news {
            self.tell_leg(at, |session, leg| Event::Undelivered { session, leg, to, why, times });
            self.judge_sound(now, other);
        }
    }

    /// The leg that a packet was sent for, if it was.
    fn sent_for(&self, said: &Undelivered) -> Option<u32> {
        let ip = said.from.ip().to_canonical();
        let is_here = |at: &usize| {
            let network = &self.config.networks[*at];
            network.bind.is_unspecified() || network.bind == ip || network.advertise == ip
        };
        let networks = (0..self.config.networks.len()).filter(is_here);
        networks.filter_map(|network| self.pool.leased(network, said.from.port())).find_map(|socket| {
            match self.sockets.get(socket.0 as usize)? {
                Use::Leg(leg, Part::Media) => Some(*leg).filter(|leg| self.is_true_of(*leg, said)),
                Use::Shared(legs, Part::Media) => {
                    legs.iter().copied().find(|leg| self.is_true_of(*leg, said))
                }
                Use::Many => self.crowd.met_at(socket, said.to).find(|leg| self.is_true_of(*leg, said)),
                Use::Leg(..) | Use::Shared(..) | Use::Closed | Use::Idle => None,
            }
        })
    }

    /// Whether what is quoted is what this leg sends, where it sends it.
    fn is_true_of(&self, at: u32, said: &Undelivered) -> bool {
        let Some(leg) = self.legs.get(at as usize) else { return false };
        let Some(other) = self.legs.get(leg.other as usize) else { return false };
        let goes_there = leg.media.target == Some(said.to);
        let packet = classify(&said.head);
        goes_there
            && match packet {
                Packet::Rtp(rtp) => {
                    let newest = other.tracks.find(rtp.ssrc()).and_then(|track| track.newest());
                    newest.is_some_and(|(sequence, _)| {
                        let ahead = rtp.sequence().wrapping_sub(sequence);
                        ahead.min(ahead.wrapping_neg()) <= NEAR
                    })
                }
                Packet::Rtcp(_) => other.is_its_rtcp(&packet),
                _ => false,
            }
    }
}

impl Leg {
    /// Why what is sent to its party does not arrive, as far as ICMP has said so for a while and still does.
    pub(crate) fn refused(&self, now: Instant) -> Option<Unreachable> {
        let refusals = self.refusals.as_ref().filter(|refusals| self.media.target == Some(refusals.to))?;
        (refusals.is_lasting() && !refusals.is_over(now)).then_some(refusals.why)
    }
}
