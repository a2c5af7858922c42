//! Latching between address families: the same rules hold from IPv4 to IPv4, 4 to 6, 6 to 4 and 6 to 6, each on both sides
//! of its bound. And a million bad packets, which a call does not notice.
#![allow(clippy::disallowed_methods)]

mod rig;

use std::time::{Instant, UNIX_EPOCH};

use proto::event::Side;
use proto::node::{Birth, Input, Lane};
use proto::tables::Latch;
use relay::Why;
use rig::*;

/// A party and those around it, in one family.
#[derive(Clone, Copy, Debug)]
struct Party {
    network: &'static str,
    /// Where its SDP wants media, and where it signals from.
    media: &'static str,
    signals: &'static str,
    /// Its NAT's mapping, and one of another port and of another address.
    seen: &'static str,
    new_port: &'static str,
    new_address: &'static str,
    /// The last address `strict` lets in and the first it does not.
    strict: [&'static str; 2],
    /// The same of `prefix`.
    prefix: [&'static str; 2],
}

const A4: Party = Party {
    network: "outside",
    media: "192.168.1.10:4000",
    signals: "198.51.100.77:5060",
    seen: "198.51.100.77:61000",
    new_port: "198.51.100.77:61999",
    new_address: "192.0.2.200:333",
    strict: ["198.51.100.77:1", "198.51.100.78:61000"],
    prefix: ["198.51.100.255:1", "198.51.101.0:61000"],
};
const B4: Party = Party {
    media: "192.168.2.20:4000",
    signals: "203.0.113.77:5060",
    seen: "203.0.113.77:62000",
    new_port: "203.0.113.77:62999",
    new_address: "192.0.2.100:333",
    strict: ["203.0.113.77:1", "203.0.113.76:62000"],
    prefix: ["203.0.113.0:1", "203.0.112.255:62000"],
    ..A4
};
const A6: Party = Party {
    network: "six",
    media: "[fd00:1::10]:4000",
    signals: "[2001:db8:a:1::77]:5060",
    seen: "[2001:db8:a:1::77]:61000",
    new_port: "[2001:db8:a:1::77]:61999",
    new_address: "[2001:db8:a:1:9999::1]:61000",
    strict: ["[2001:db8:a:1:ffff:ffff:ffff:ffff]:1", "[2001:db8:a:2::]:61000"],
    prefix: ["[2001:db8:a:ffff:ffff:ffff:ffff:ffff]:1", "[2001:db8:b::]:61000"],
};
const B6: Party = Party {
    media: "[fd00:2::20]:4000",
    signals: "[2001:db8:f:1::77]:5060",
    seen: "[2001:db8:f:1::77]:62000",
    new_port: "[2001:db8:f:1::77]:62999",
    new_address: "[2001:db8:e::1]:62000",
    strict: ["[2001:db8:f:1::]:1", "[2001:db8:f:0:ffff:ffff:ffff:ffff]:62000"],
    prefix: ["[2001:db8:f::]:1", "[2001:db8:e:ffff:ffff:ffff:ffff:ffff]:62000"],
    ..A6
};
const PAIRS: [(Party, Party); 4] = [(A4, B4), (A4, B6), (A6, B4), (A6, B6)];

/// One party of a call that is there, and the other.
struct Line {
    rig: Rig,
    /// The port this party was told, and the one the other was.
    own: std::net::SocketAddr,
    other: std::net::SocketAddr,
    party: Party,
    far: Party,
}

impl Line {
    /// As one side of a call between these two sees it.
    fn of(pair: (Party, Party), side: Side, latch: Latch) -> Line {
        let phone = |party: Party, far: Party| Phone {
            network: party.network,
            other_network: far.network,
            latch,
            ..natted(party.media, party.signals)
        };
        let (mut rig, (a, b)) = (Rig::new(config()), pair);
        let call = rig.call(1, &phone(a, b), &phone(b, a));
        match side {
            Side::Caller => Line { rig, own: call.for_a, other: call.for_b, party: a, far: b },
            Side::Callee => Line { rig, own: call.for_b, other: call.for_a, party: b, far: a },
        }
    }

    /// Both have been heard; this party has sent packets 0 to 100, one every 20 ms.
    fn talking(pair: (Party, Party), side: Side) -> Line {
        let mut line = Line::of(pair, side, Latch::Strict);
        line.rig.packet(line.far.seen, line.other, &rtp(0xf, 0));
        for n in 0..=100 {
            line.rig.pass(20 * MS);
            assert!(line.hears(line.party.seen, n), "packet {n} of {:?}", line.party);
        }
        line
    }

    /// Packet `n` of the party's stream, from this address; whether it went on, and to whom it should.
    fn hears(&mut self, from: &str, n: u16) -> bool {
        let sent = self.rig.packet(from, self.own, &rtp(0xa, n));
        let to = address(self.far.seen);
        assert!(sent.iter().all(|sent| (sent.from, sent.to) == (self.other, to)), "{sent:?}");
        sent.is_some()
    }

    /// Where the other party's packets go.
    fn goes_to(&mut self) -> Option<String> {
        let sent = self.rig.packet(self.far.seen, self.other, &rtp(0xf, 1))?;
        assert_eq!(sent.from, self.own);
        Some(sent.to.to_string())
    }
}

/// Every pair of families, seen from either side.
fn each(mut story: impl FnMut((Party, Party), Side, &str)) {
    for (pair, name) in PAIRS.into_iter().zip(["4 to 4", "4 to 6", "6 to 4", "6 to 6"]) {
        for side in [Side::Caller, Side::Callee] {
            story(pair, side, &format!("{name}, {side:?}"));
        }
    }
}

/// Whether a first packet from this address latches.
fn lets_in(pair: (Party, Party), side: Side, latch: Latch, from: &str) -> bool {
    let mut line = Line::of(pair, side, latch);
    line.rig.packet(line.far.seen, line.other, &rtp(0xf, 0));
    let went_on = line.hears(from, 0);
    assert_eq!(line.goes_to().as_deref(), went_on.then_some(from), "both ways or not at all");
    went_on
}

#[test]
fn a_first_packet_is_heard_up_to_the_bound_of_its_rule_and_no_further() {
    each(|pair, side, name| {
        let party = if side == Side::Caller { pair.0 } else { pair.1 };
        let strict = party.strict.map(|from| lets_in(pair, side, Latch::Strict, from));
        assert_eq!(strict, [true, false], "strict, {name}");
        let prefix = party.prefix.map(|from| lets_in(pair, side, Latch::Prefix, from));
        assert_eq!(prefix, [true, false], "prefix, {name}");
        assert!(lets_in(pair, side, Latch::Any, party.prefix[1]), "any, {name}");
    });
}

#[test]
fn nothing_is_sent_to_a_party_behind_a_nat_before_it_is_heard() {
    each(|pair, side, name| {
        let mut line = Line::of(pair, side, Latch::Strict);
        assert_eq!(line.goes_to(), None, "{name}");
        assert_eq!(line.rig.dropped(Why::Held), 1, "{name}");
    });
}

#[test]
fn after_the_latch_every_other_source_is_a_stranger() {
    each(|pair, side, name| {
        let mut line = Line::talking(pair, side);
        for from in [line.party.new_port, line.party.new_address, line.party.strict[0]] {
            let guess = rtp(0x666, 101);
            assert_eq!(line.rig.packet(from, line.own, &guess), None, "{from}, {name}");
        }
        let still = line.goes_to();
        assert_eq!(still.as_deref(), Some(line.party.seen), "{name}");
    });
}

#[test]
fn a_party_that_moves_is_believed_100_ms_after_its_old_place_fell_silent_and_not_before() {
    each(|pair, side, name| {
        for new in [|party: Party| party.new_port, |party: Party| party.new_address] {
            let mut line = Line::talking(pair, side);
            let new = new(line.party);
            line.rig.pass(79 * MS);
            assert_eq!([101, 102, 103].map(|n| line.hears(new, n)), [false; 3], "{name}");
            line.rig.pass(20 * MS);
            assert!(!line.hears(new, 104), "99 ms, {name}");
            line.rig.pass(MS);
            assert!(line.hears(new, 105), "100 ms, {name}");
            assert_eq!(line.goes_to().as_deref(), Some(new), "{name}");
        }
    });
}

#[test]
fn three_packets_within_fifty_of_each_other_prove_a_party_two_and_fifty_one_do_not() {
    each(|pair, side, name| {
        for (steps, proven) in [([150, 200, 250], true), ([151, 202, 253], false)] {
            let mut line = Line::talking(pair, side);
            line.rig.pass(SECOND * 3);
            let new = line.party.new_port;
            let heard = steps.map(|n| line.hears(new, n));
            assert_eq!(heard, [false, false, proven], "{steps:?}, {name}");
        }
    });
}

#[test]
fn rtcp_goes_between_families_and_a_strangers_does_not() {
    each(|pair, side, name| {
        let mut line = Line::talking(pair, side);
        let next = |place: &str| rtcp(address(place)).to_string();
        let (near, far) = (next(line.party.seen), next(line.far.seen));
        let (own, other) = (rtcp(line.own), rtcp(line.other));
        assert_eq!(line.rig.packet(line.party.strict[1], own, &rtcp_report(0xa)), None, "{name}");
        assert_eq!(
            line.rig.packet(&near, own, &rtcp_report(0xa)),
            None,
            "held: nobody knows where to, {name}"
        );
        let back = line.rig.packet(&far, other, &rtcp_report(0xf)).map(|sent| (sent.from, sent.to));
        assert_eq!(back, Some((own, address(&near))), "{name}");
        let there = line.rig.packet(&near, own, &rtcp_report(0xa)).map(|sent| (sent.from, sent.to));
        assert_eq!(there, Some((other, address(&far))), "{name}");
    });
}

/// Every kind: noise, other families of packets, the party's own stream from elsewhere, its address with wrong words.
#[test]
fn a_million_bad_packets_bring_nothing_out_and_no_call_to_harm() {
    const BAD: u64 = 1_000_000;
    let mut line = Line::talking(PAIRS[1], Side::Caller);
    let birth = Birth { now: Instant::now(), wall: UNIX_EPOCH, seed: [9; 32], lane: Lane::default() };
    let mut dice = birth.dice(1);
    let strangers = ["192.0.2.66:9", line.party.strict[1], line.party.new_port, line.party.new_address];
    let before = line.rig.relay.status();
    let kinds = [rtp(0x666, 5), rtcp_report(0x666), stun(), vec![22; 60], vec![0xff; 200], Vec::new()];
    for number in 0..BAD {
        let mut bytes = kinds[dice.below(6) as usize].clone();
        if let Some(byte) = bytes.get_mut(dice.below(12) as usize) {
            *byte ^= dice.u32() as u8 & 0x3f;
        }
        let from = strangers[dice.below(4) as usize];
        let socket = line.rig.sockets[&line.own];
        let bytes = bytes.into();
        line.rig.tell(Input::Media { socket, from: address(from), bytes });
        if number % 5000 == 0 {
            line.rig.pass(20 * MS);
            assert!(line.hears(line.party.seen, 101 + (number / 5000) as u16), "after {number}");
        }
    }
    let after = line.rig.relay.status();
    let all = |status: relay::Status| status.traffic.dropped.iter().sum::<u64>();
    assert_eq!(all(after) - all(before), BAD, "each is counted");
    assert_eq!(after.traffic.forwarded - before.traffic.forwarded, BAD / 5000, "none went on");
    assert_eq!((after.sessions, after.ports), (before.sessions, before.ports));
    assert!(line.rig.events.len() < 20, "nor is each told of: {}", line.rig.events.len());
    let still = line.goes_to();
    assert_eq!(still.as_deref(), Some(line.party.seen));
}
