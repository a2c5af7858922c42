//! Streams that a path below carries: what is handed down, what takes it back, and that every number stays true.

mod rig;

use std::time::Duration;

use proto::event::{Event, Side};
use proto::node::{Input, SocketId};
use proto::offload::{Carried, Offload, Rule};
use proto::rtp::Progress;
use relay::{Config, Why};
use rig::*;

const A: &str = "203.0.113.100:4000";
const B: &str = "203.0.113.200:7000";
const FORGER: &str = "198.51.100.66:666";
const STEP: Duration = Duration::from_millis(20);

/// A call in which A sends a packet every 20 ms, and a path below that does what it is told.
struct Below {
    rig: Rig,
    call: Call,
    /// What it carries, and how much of it.
    rule: Option<Rule>,
    packets: u64,
    highest: u64,
    heard: Option<std::time::Instant>,
    n: u16,
}

fn below() -> Below {
    let mut rig = Rig::new(Config { offload: true, ..config() });
    let call = rig.call(1, &public(A), &public(B));
    rig.packet(A, call.for_a, &rtp(0xa, 0));
    rig.packet(B, call.for_b, &rtp(0xb, 0));
    Below { rig, call, rule: None, packets: 0, highest: 0, heard: None, n: 1 }
}

impl Below {
    /// A's next packet: carried below if there is a rule, else by the relay.
    fn a_sends(&mut self) {
        let (n, before) = (self.n, self.rig.sent.len());
        self.n += 1;
        self.pass(STEP);
        match self.rule {
            Some(_) => {
                self.packets += 1;
                self.highest += u64::from(n.wrapping_sub(self.highest as u16));
                self.heard = Some(self.rig.now);
            }
            None => {
                self.rig.packet(A, self.call.for_a, &rtp(0xa, n));
                assert_eq!(self.rig.sent.len(), before + 1, "packet {n} goes on");
            }
        }
    }

    fn a_talks(&mut self, time: Duration) {
        (0..time.as_millis() / STEP.as_millis()).for_each(|_| self.a_sends());
    }

    fn pass(&mut self, time: Duration) {
        let until = self.rig.now + time;
        while self.rig.now < until {
            self.rig.pass(STEP.min(until - self.rig.now));
            self.obey();
        }
    }

    fn obey(&mut self) {
        while !self.rig.offloads.is_empty() {
            let counts: Vec<Carried> = std::mem::take(&mut self.rig.offloads)
                .into_iter()
                .flat_map(|wish| self.answer(wish))
                .collect();
            if !counts.is_empty() {
                self.rig.tell(Input::Carried(counts));
            }
        }
    }

    fn answer(&mut self, wish: Offload) -> Vec<Carried> {
        match wish {
            Offload::Begin(rule) => {
                assert!(self.rule.is_none());
                (self.packets, self.highest, self.heard) = (0, rule.progress.highest, None);
                self.rule = Some(rule);
                Vec::new()
            }
            Offload::Count(sockets) => {
                sockets.iter().filter_map(|socket| self.count(*socket, false)).collect()
            }
            Offload::End(socket) => {
                let count = self.count(socket, true).into_iter().collect();
                self.rule = None;
                count
            }
        }
    }

    fn count(&self, socket: SocketId, over: bool) -> Option<Carried> {
        let rule = self.rule.filter(|rule| rule.socket == socket)?;
        let progress = Progress {
            highest: self.highest,
            timestamp: u32::from(self.highest as u16) * 160,
            jitter: rule.progress.jitter,
        };
        let bytes = self.packets * rtp(0, 0).len() as u64;
        Some(Carried { socket, packets: self.packets, bytes, heard: self.heard, progress, burst: 0, over })
    }

    /// A's numbers in the record of the call, which has ended now.
    fn bye(&mut self) -> proto::event::LegQuality {
        self.rig.bye(self.call.session);
        self.obey();
        let released = |event: &Event| match event {
            Event::RelayReleased { legs, .. } => Some(legs[0]),
            _ => None,
        };
        let all: Vec<_> = self.rig.events.iter().filter_map(released).collect();
        assert_eq!(all.len(), 1, "told once");
        all[0]
    }
}

#[test]
fn a_latched_busy_stream_is_handed_down_as_what_it_is() {
    let mut below = below();
    below.a_talks(2 * SECOND);
    let rule = below.rule.expect("handed down");
    assert_eq!((rule.here, rule.from, rule.to), (below.call.for_a, address(A), address(B)));
    assert_eq!((rule.via, rule.ssrc), (below.call.for_b, 0xa));
}

#[test]
fn nothing_is_handed_down_unless_it_is_configured() {
    let mut below = below();
    let config = Config { offload: false, ..below.rig.config.clone() };
    below.rig.relay.reconfigure(&config);
    below.a_talks(5 * SECOND);
    assert!(below.rule.is_none());
}

#[test]
fn a_reload_takes_every_stream_back() {
    let mut below = below();
    below.a_talks(3 * SECOND);
    assert!(below.rule.is_some());
    let config = Config { offload: false, ..below.rig.config.clone() };
    below.rig.relay.reconfigure(&config);
    below.a_talks(2 * SECOND);
    assert!(below.rule.is_none());
}

#[test]
fn a_stream_that_is_slow_stays() {
    let mut below = below();
    for _ in 0..20 {
        below.pass(200 * MS);
        below.a_sends();
    }
    assert!(below.rule.is_none());
}

#[test]
fn what_is_not_handed_down_is_counted_by_what_keeps_it_here() {
    const SIX: &str = "[2001:db8:a::1]:4000";
    let mut rig = Rig::new(Config { offload: true, ..config() });
    let six = Phone { network: "six", ..public(SIX) };
    let four = Phone { other_network: "six", ..public(B) };
    let between = rig.call(1, &six, &four);
    let within = rig.call(2, &public(A), &public("203.0.113.201:7000"));
    assert!(rig.relay.kept_above().is_empty(), "nobody has spoken");
    for n in 0..100 {
        rig.packet(SIX, between.for_a, &rtp(0xa, n));
        rig.packet(B, between.for_b, &rtp(0xb, n));
        rig.packet(A, within.for_a, &rtp(0xc, n));
        rig.packet("203.0.113.201:7000", within.for_b, &rtp(0xd, n));
        rig.pass(STEP);
    }
    assert_eq!(rig.relay.kept_above(), [("between IPv4 and IPv6", 2)].into());
    let begun = |wish: &Offload| matches!(wish, Offload::Begin(rule) if [0xc, 0xd].contains(&rule.ssrc));
    assert!(rig.offloads.iter().filter(|wish| matches!(wish, Offload::Begin(_))).all(begun));
    assert!(rig.relay.capture(&within.session.to_string(), true));
    let counted = [("between IPv4 and IPv6", 2), ("recorded or switched", 2)];
    assert_eq!(rig.relay.kept_above(), counted.into());
    rig.relay.reconfigure(&config());
    assert!(rig.relay.kept_above().is_empty(), "none is to be handed down at all");
}

#[test]
fn the_record_of_a_call_counts_every_packet_whoever_carried_it() {
    let mut below = below();
    below.a_talks(10 * SECOND);
    assert!(below.packets > 300, "most went below");
    let sent = u64::from(below.n);
    let quality = below.bye();
    assert_eq!((quality.packets, quality.bytes), (sent, sent * rtp(0, 0).len() as u64));
    assert_eq!((quality.lost, quality.reordered), (0, 0));
}

#[test]
fn what_was_lost_on_a_carried_stream_is_counted_as_lost() {
    let mut below = below();
    below.a_talks(3 * SECOND);
    below.n += 7;
    below.a_talks(3 * SECOND);
    assert_eq!(below.bye().lost, 7);
}

#[test]
fn a_bye_takes_the_rule_away_and_nothing_of_it_is_left() {
    let mut below = below();
    below.a_talks(3 * SECOND);
    below.bye();
    assert!(below.rule.is_none());
    below.pass(60 * SECOND);
    assert!(below.rig.offloads.is_empty());
}

#[test]
fn a_new_description_takes_the_rule_away() {
    let mut below = below();
    below.a_talks(3 * SECOND);
    assert!(below.rule.is_some());
    let moved = Phone { reset: true, ..public("203.0.113.100:4444") };
    let ask = moved.ask(below.call.session, Side::Caller);
    below.rig.invite(&ask, &moved.sdp(), true);
    below.obey();
    assert!(below.rule.is_none());
}

#[test]
fn a_recording_takes_the_rule_away() {
    let mut below = below();
    below.a_talks(3 * SECOND);
    assert!(below.rig.relay.capture(&below.call.session.to_string(), true));
    below.rig.drain();
    below.obey();
    assert!(below.rule.is_none());
    below.a_talks(3 * SECOND);
    assert!(below.rule.is_none(), "nor is it handed down while it is recorded");
}

#[test]
fn a_carried_leg_is_not_silent_and_one_that_falls_silent_is_told_to_the_packet() {
    let mut below = below();
    below.a_talks(30 * SECOND);
    let silent = |rig: &Rig| {
        let of_a = |event: &&Event| matches!(event, Event::LegSilent { leg: Side::Caller, .. });
        rig.events.iter().filter(of_a).count()
    };
    assert_eq!(silent(&below.rig), 0);
    below.pass(10 * SECOND - MS);
    assert_eq!(silent(&below.rig), 0);
    below.pass(MS);
    assert_eq!(silent(&below.rig), 1);
    assert!(below.rule.is_none(), "who pauses is met by the relay when he is back");
    below.a_sends();
    assert_eq!(silent(&below.rig), 2, "and told as heard again");
}

#[test]
fn a_stranger_is_dropped_while_the_stream_is_carried() {
    let mut below = below();
    below.a_talks(3 * SECOND);
    let before = below.rig.dropped(Why::Stranger);
    for n in 0..50u16 {
        assert_eq!(below.rig.packet(FORGER, below.call.for_a, &rtp(0xa, below.n + n)), None);
        below.obey();
        below.a_sends();
    }
    assert_eq!(below.rig.dropped(Why::Stranger), before + 50);
    assert!(below.rule.is_some(), "and the party is still carried");
}

#[test]
fn a_party_whose_nat_binds_anew_is_known_by_where_its_stream_stands_below() {
    let mut below = below();
    below.a_talks(3 * SECOND + 700 * MS);
    assert!(below.rule.is_some());
    let mut silent = 0;
    loop {
        below.pass(STEP);
        let sent = below.rig.packet("203.0.113.100:4001", below.call.for_a, &rtp(0xa, below.n));
        below.obey();
        below.n += 1;
        if sent.is_some() {
            break;
        }
        silent += 1;
        assert!(silent < 12, "back within a quarter of a second");
    }
    assert!(below.rule.is_none());
}

#[test]
fn a_leg_the_path_refuses_is_left_alone_for_a_while() {
    let mut below = below();
    let mut asked = 0;
    for _ in 0..500 {
        below.rig.pass(STEP);
        below.rig.packet(A, below.call.for_a, &rtp(0xa, below.n));
        below.n += 1;
        for wish in std::mem::take(&mut below.rig.offloads) {
            let Offload::Begin(rule) = wish else { panic!("nothing is carried") };
            asked += 1;
            below.rig.tell(Input::Carried(vec![Carried::refused(rule.socket)]));
        }
    }
    assert_eq!(asked, 1);
}
