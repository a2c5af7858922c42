//! Direct paths that die in a call, come back, carry one way only, carry unevenly, or lose packets: what the two hear, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use conformance::company::{Company, Guest};
use conformance::world::{Fate, Rules};
use proto::rtp::{Packet, classify};

use super::{NAMES, SECOND, assert_no_gap, call, calls, cut, is_media, meet, talking};

const CLOSED: [Option<Rules>; 2] = [Some(Rules::PORT_RESTRICTED); 2];
/// What a phone usually holds back, to play evenly.
const BUFFER: Duration = Duration::from_millis(60);
/// From the last packet until the next one is late, where packets come evenly: 20 ms, and one.
const DUE: Duration = Duration::from_millis(21);
/// From the last packet that got through until the other side, which hears nothing either, finds what it has to hear late: a packet,
/// and a beat (20/3 ms) and one.
const DUE_THERE: Duration = Duration::from_millis(28);
/// Two packets that are not there.
const TWO: Duration = Duration::from_millis(60);

/// Soon, and also when it was gone for so long that it had been given up.
#[test]
fn a_path_that_comes_back_is_taken_again() {
    for gone in [250, 2000, 20_000].map(Duration::from_millis) {
        for which in [&[[0, 1]][..], &[[1, 0]], &[[0, 1], [1, 0]]] {
            let what = format!("{which:?} cut for {gone:?}");
            let (mut company, guests) = meet(Company::with_proxy(1, &[("e1", "e2")]), CLOSED);
            call(&mut company, guests[0], NAMES[1]);
            company.world.run_for(4 * SECOND);
            which.iter().for_each(|direction| cut_one_way(&mut company, guests, *direction, true));
            company.world.run_for(gone);
            assert_eq!(calls(&company, guests).map(|call| call.path), ["relay"; 2], "{what}");
            which.iter().for_each(|direction| cut_one_way(&mut company, guests, *direction, false));
            company.world.run_for(30 * SECOND);
            for call in calls(&company, guests) {
                assert_eq!((call.path, call.upgrades, call.falls), ("direct", 2, 1), "{what}: {call:#?}");
                assert_eq!(call.phone.lost, 0, "{what}: {call:#?}");
            }
            if which.len() == 2 {
                assert_no_gap(&company, guests, &what);
            }
        }
    }
}

/// So much is lost for a while that an opening may succeed for one of the two alone: who has no path takes the other's.
#[test]
fn a_path_that_only_one_of_the_two_has_is_taken_by_both() {
    let mut alone = 0;
    for seed in 16..36 {
        let (mut company, guests) = meet(Company::with_proxy(seed, &[("e1", "e2")]), CLOSED);
        call(&mut company, guests[0], NAMES[1]);
        company.world.run_for(4 * SECOND);
        guests.iter().for_each(|guest| company.world.link(guest.host).loss = 600);
        company.world.run_for(6 * SECOND);
        guests.iter().for_each(|guest| company.world.link(guest.host).loss = 0);
        company.world.run_for(SECOND);
        let have = [0, 1].map(|n| company.report(guests[n]).buddies[NAMES[1 - n]].path == "direct");
        alone += u32::from(have[0] != have[1]);
        company.world.run_for(59 * SECOND);
        let paths = calls(&company, guests).map(|call| call.path);
        assert_eq!(paths, ["direct"; 2], "seed {seed}");
    }
    assert!(alone > 0, "the story is not told");
    println!("one alone had a path {alone} times of 20");
}

/// Nothing passes from one to the other any more, or again.
fn cut_one_way(company: &mut Company, guests: [Guest; 2], [from, to]: [usize; 2], is_cut: bool) {
    let outside = guests.map(|guest| company.report(guest).external.expect("logged in").ip().to_string());
    company.world.cut(&outside[from], &outside[to], is_cut);
}

/// For each packet of one's since a moment, by its number, but what may still be under way: how long after it was said the other heard it first. `None`: never.
fn delays(company: &Company, [from, to]: [Guest; 2], since: usize) -> BTreeMap<u16, Option<Duration>> {
    let (mut said, mut heard) = (BTreeMap::new(), BTreeMap::new());
    for entry in company.world.packets()[since..].iter().filter(|entry| is_media(entry)) {
        let Packet::Rtp(rtp) = classify(&entry.bytes) else { continue };
        if entry.from == from.node && entry.at + SECOND < company.world.now() {
            said.entry((rtp.ssrc(), rtp.sequence())).or_insert(entry.at);
        }
        if let Fate::Arrived { at, to: hearer, .. } = entry.fate
            && hearer == to.node
        {
            let first = heard.entry((rtp.ssrc(), rtp.sequence())).or_insert(at);
            *first = at.min(*first);
        }
    }
    let delay = |(of, at): (&(u32, u16), &Duration)| (of.1, heard.get(of).map(|heard| *heard - *at));
    said.iter().map(delay).collect()
}

/// The most packets in a row that are not there when a phone with a buffer has come to play them.
fn gap(delays: &BTreeMap<u16, Option<Duration>>, usual: Duration) -> usize {
    let (mut most, mut row) = (0, 0);
    for delay in delays.values() {
        row = if delay.is_some_and(|delay| delay <= usual + BUFFER) { 0 } else { row + 1 };
        most = most.max(row);
    }
    most
}

/// How a direct path that is cut is heard, whenever between two packets it happens: the longest silence, and the packets
/// that come too late for a phone's buffer.
fn dies(rtt: Duration, one_way: bool, direction: [usize; 2]) -> (Duration, usize) {
    let (mut silence, mut late) = (Duration::ZERO, 0);
    for phase in [0, 5, 10, 15] {
        let (mut company, guests) = talking(Company::with_proxy(1, &[("e1", "e2")]), CLOSED, rtt);
        assert_eq!(
            calls(&company, guests).map(|call| (call.path, call.falls)),
            [("direct", 0); 2],
            "{rtt:?}"
        );
        company.world.run_for(Duration::from_millis(phase));
        let since = company.world.packets().len();
        match one_way {
            true => cut_one_way(&mut company, guests, direction, true),
            false => cut(&mut company, guests, true),
        }
        company.world.run_for(3 * SECOND);
        assert_eq!(calls(&company, guests).map(|call| call.path), ["relay"; 2]);
        for (n, call) in calls(&company, guests).iter().enumerate() {
            assert_eq!(call.phone.lost, 0, "{rtt:?}, {phase} ms: {call:#?}");
            assert_eq!((call.upgrades, call.falls), (1, 1), "{call:#?}");
            silence = silence.max(Duration::from_millis(call.phone.largest_gap_ms));
            late = late.max(gap(&delays(&company, [guests[1 - n], guests[n]], since), rtt / 2));
        }
    }
    (silence, late)
}

/// In [`talking`] the direct way takes half of the round trip, the relay's way the whole of it.
#[test]
fn a_path_that_dies_costs_no_packet_and_a_silence_of_the_relays_way_and_28_ms() {
    for rtt in [24, 100, 400].map(Duration::from_millis) {
        let (silence, late) = dies(rtt, false, [0, 1]);
        println!("{rtt:?}, both ways: {silence:?} of silence, {late} packets too late for the buffer");
        let most = DUE_THERE + rtt;
        assert!(rtt <= silence && silence <= most, "{rtt:?}: {silence:?}");
        assert!(late == 0 || most > TWO, "{rtt:?}: {late}");
    }
}

/// The way of the hearer's word comes on top: half of the round trip, unless one of the packets that keep the relay ready comes between.
#[test]
fn a_path_that_dies_one_way_only_costs_no_packet_and_the_way_of_the_hearers_word_more() {
    for rtt in [24, 100, 400].map(Duration::from_millis) {
        for direction in [[0, 1], [1, 0]] {
            let (silence, late) = dies(rtt, true, direction);
            println!("{rtt:?}, one way: {silence:?} of silence, {late} packets too late for the buffer");
            let most = DUE + rtt / 2 + rtt;
            assert!(rtt <= silence && silence <= most, "{rtt:?}: {silence:?}");
            assert!(late == 0 || most > TWO, "{rtt:?}: {late}");
        }
    }
}

/// The hearer's word goes by both ways: one of them is enough.
#[test]
fn the_hearers_word_is_heard_by_the_relay_too() {
    let (mut company, guests) = meet(Company::with_proxy(1, &[("e1", "e2")]), CLOSED);
    call(&mut company, guests[0], NAMES[1]);
    company.world.run_for(4 * SECOND);
    let since = company.world.packets().len();
    cut_one_way(&mut company, guests, [0, 1], true);
    company.world.run_for(SECOND);
    let words = company.world.packets()[since..]
        .iter()
        .filter(|entry| entry.from == guests[1].node && entry.bytes.starts_with(&[0x81, 205]));
    let relay = company.proxy.map(|[_, relay]| relay);
    let (by_relay, directly): (Vec<_>, Vec<_>) = words.partition(|entry| entry.receiver() == relay);
    assert_eq!((by_relay.len(), directly.len()), (1, 1), "{}", company.world.ladder());
    let [e1, e2] = calls(&company, guests);
    assert_eq!((e1.phone.lost, e2.phone.lost), (0, 0));
    // Directly 12 ms, by the relay 30.
    assert!(e2.phone.largest_gap_ms <= 21 + 12 + 30 + 1, "{} ms", e2.phone.largest_gap_ms);
    assert!(e1.phone.largest_gap_ms <= 60, "{} ms", e1.phone.largest_gap_ms);
}

/// Of what one says, how much goes by the relay, too.
fn share_by_relay(company: &Company, guests: [Guest; 2], since: usize) -> f64 {
    let relay = company.proxy.map(|[_, relay]| relay);
    let said = company.world.packets()[since..].iter().filter(|entry| is_media(entry));
    let said = said.filter(|entry| guests.iter().any(|guest| guest.node == entry.from));
    let (by_relay, directly): (Vec<_>, Vec<_>) =
        said.partition(|entry| entry.sent.1.port() != 5060 && { entry.receiver() == relay });
    by_relay.len() as f64 / directly.len() as f64
}

/// A call on a line that is as uneven, or loses as many of a thousand, from when it has found its way.
fn on_a_line(jitter: Duration, loss: u32) -> (Company, [Guest; 2], f64) {
    let (mut company, guests) = meet(Company::with_proxy(7, &[("e1", "e2")]), CLOSED);
    call(&mut company, guests[0], NAMES[1]);
    company.world.run_for(4 * SECOND);
    for guest in guests {
        let line = company.world.link(guest.host);
        (line.jitter, line.loss) = (jitter, loss);
    }
    let since = company.world.packets().len();
    company.world.run_for(60 * SECOND);
    let share = share_by_relay(&company, guests, since);
    (company, guests, share)
}

#[test]
fn uneven_packets_move_nobody_from_the_direct_path_and_cost_none() {
    for jitter in [0, 2, 5, 10, 20].map(Duration::from_millis) {
        let (company, guests, share) = on_a_line(jitter, 0);
        println!("{jitter:?} on either line: {share:.3} by the relay as well");
        for call in calls(&company, guests) {
            assert_eq!((call.path, call.upgrades, call.falls), ("direct", 1, 0), "{jitter:?}: {call:#?}");
            assert_eq!(call.phone.lost, 0, "{jitter:?}: {call:#?}");
        }
    }
}

/// What the direct path loses is said again by the relay: two lines, each with that loss, would lose twice as much.
#[test]
fn a_path_that_loses_some_is_kept_and_what_it_loses_comes_by_the_relay() {
    for loss in [10, 50] {
        let (company, guests, share) = on_a_line(Duration::ZERO, loss);
        for call in calls(&company, guests) {
            let (lost, of) = (call.phone.lost, call.phone.lost + call.phone.received);
            println!(
                "{loss} of a thousand on either line: {lost} of {of} lost, {share:.2} by the relay as well"
            );
            assert_eq!((call.path, call.falls), ("direct", 0), "{call:#?}");
            assert!(lost * 1000 <= u64::from(loss) * of, "half at most: {call:#?}");
        }
    }
}
