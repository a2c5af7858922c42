//! How ports go round: opened, lent, rested; and what a changed range does to them.

use proptest::prelude::*;
use proto::node::{Birth, Lane};

use super::*;

const QUARANTINE: Duration = Duration::from_secs(5);

#[allow(clippy::disallowed_methods, reason = "a test needs one Instant to count from")]
fn start() -> Instant {
    Instant::now()
}

/// A pool and the operating system it asks for sockets.
struct Bench {
    pool: Pool,
    out: VecDeque<Output>,
    sockets: u32,
    now: Instant,
}

fn bench(range: RangeInclusive<u16>, reserve: usize, seed: u8) -> Bench {
    let now = start();
    let wall = std::time::SystemTime::UNIX_EPOCH;
    let dice = Birth { now, wall, seed: [seed; 32], lane: Lane::default() }.dice(0);
    let pool = Pool::new(["192.0.2.1".parse().unwrap()].into_iter(), range, reserve, QUARANTINE, dice);
    let mut bench = Bench { pool, out: VecDeque::new(), sockets: 0, now };
    bench.refill();
    bench
}

impl Bench {
    fn refill(&mut self) {
        self.pool.refill(0, &mut self.out);
        while let Some(output) = self.out.pop_front() {
            if let Output::Bind { ticket, .. } = output {
                self.pool.bound(ticket, SocketId(self.sockets)).unwrap();
                self.sockets += 1;
            }
        }
    }

    fn lease(&mut self, wants: &[Want]) -> Result<Vec<Lease>, Shortage> {
        let wants: Vec<_> = wants.iter().map(|&want| (0, want)).collect();
        self.pool.lease(&wants, &mut self.out)
    }

    fn give_back(&mut self, lease: &Lease) {
        for port in [Some(lease.rtp), lease.rtcp].into_iter().flatten() {
            self.pool.give_back(self.now, port, &mut self.out);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.pool.wake(self.now, &mut self.out);
    }
}

#[test]
fn a_pair_is_even_and_the_odd_port_above_it() {
    let lease = bench(30_001..=30_020, 4, 1).lease(&[Want::Pair]).unwrap()[0];
    assert_eq!(lease.rtp.number % 2, 0);
    assert_eq!(lease.rtcp.unwrap().number, lease.rtp.number + 1);
    assert!((30_002..=30_019).contains(&lease.rtp.number));
}

#[test]
fn keeps_its_reserve_ahead_of_demand() {
    let mut bench = bench(30_000..=30_099, 8, 1);
    assert_eq!(bench.pool.count(), Ports { reserved: 16, free: 84, ..Ports::default() });
    bench.lease(&[Want::Pair, Want::Pair]).unwrap();
    bench.refill();
    assert_eq!(bench.pool.count(), Ports { leased: 4, reserved: 16, free: 80, ..Ports::default() });
}

#[test]
fn what_is_to_be_open_at_the_start_is_and_as_many_again_are_not() {
    let mut bench = bench(30_000..=30_099, 8, 1);
    bench.pool.open_at_start(20, &mut bench.out);
    bench.refill();
    assert_eq!(bench.pool.count(), Ports { reserved: 40, free: 60, ..Ports::default() });
    bench.lease(&[Want::Pair; 12]).unwrap();
    bench.refill();
    assert_eq!(bench.pool.count(), Ports { leased: 24, reserved: 16, free: 60, ..Ports::default() });
}

#[test]
fn lends_all_or_nothing() {
    let mut bench = bench(30_000..=30_005, 3, 1);
    assert_eq!(bench.lease(&[Want::Pair; 4]), Err(Shortage::Exhausted));
    assert_eq!(bench.pool.count().leased, 0);
    assert!(bench.lease(&[Want::Pair; 3]).is_ok());
}

#[test]
fn a_short_reserve_is_no_exhaustion() {
    let mut bench = bench(30_000..=30_009, 1, 1);
    assert_eq!(bench.lease(&[Want::Pair; 2]), Err(Shortage::Opening));
    bench.lease(&[Want::Pair]).unwrap();
}

#[test]
fn a_port_beside_another_is_its_other_half_or_any() {
    let mut bench = bench(30_000..=30_007, 4, 1);
    let [first, second] = [(); 2].map(|()| bench.lease(&[Want::Single]).unwrap()[0].rtp);
    assert_eq!(first.number + 1, second.number, "the other half is the first to be lent singly");
    let third = bench.lease(&[Want::Single]).unwrap()[0].rtp;
    let beside = |bench: &mut Bench| bench.lease(&[Want::Beside(third.id)]).unwrap()[0].rtp.number;
    assert_eq!(beside(&mut bench), third.number + 1);
    assert_ne!(beside(&mut bench), third.number + 1, "it is lent");
}

#[test]
fn two_single_ports_are_the_halves_of_one_pair() {
    let mut bench = bench(30_000..=30_001, 1, 1);
    let leases = bench.lease(&[Want::Single, Want::Single]).unwrap();
    let numbers: BTreeSet<u16> = leases.iter().map(|lease| lease.rtp.number).collect();
    assert_eq!(numbers, BTreeSet::from([30_000, 30_001]));
    assert_eq!(bench.lease(&[Want::Single]), Err(Shortage::Exhausted));
}

#[test]
fn a_port_rests_until_its_quarantine_is_over_and_not_a_millisecond_longer() {
    let mut bench = bench(30_000..=30_001, 1, 1);
    let lease = bench.lease(&[Want::Pair]).unwrap()[0];
    bench.give_back(&lease);
    bench.pass(QUARANTINE - Duration::from_millis(1));
    assert_eq!(bench.lease(&[Want::Pair]), Err(Shortage::Exhausted));
    assert_eq!(bench.pool.deadline(), Some(bench.now + Duration::from_millis(1) + SLACK));
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.lease(&[Want::Pair]).unwrap()[0], lease);
}

#[test]
fn a_port_is_emptied_before_it_is_lent() {
    let mut bench = bench(30_000..=30_001, 1, 1);
    let lease = bench.lease(&[Want::Pair]).unwrap()[0];
    let emptied = bench.out.iter().filter_map(|output| match output {
        Output::Empty { socket } => Some(*socket),
        _ => None,
    });
    assert_eq!(emptied.collect::<Vec<_>>(), [lease.rtp.socket, lease.rtcp.unwrap().socket]);
}

#[test]
fn a_port_that_cannot_be_opened_is_left_alone_for_a_while() {
    let mut bench = bench(30_000..=30_001, 0, 1);
    bench.pool.refill(1, &mut bench.out);
    let bind = |output| match output {
        Output::Bind { ticket, .. } => Some(ticket),
        _ => None,
    };
    let tickets: Vec<_> = bench.out.drain(..).filter_map(bind).collect();
    bench.pool.bind_failed(bench.now, tickets[0]);
    bench.pool.bound(tickets[1], SocketId(0)).unwrap();
    assert_eq!(bench.lease(&[Want::Pair]), Err(Shortage::Exhausted));
    bench.pass(RETRY - Duration::from_millis(1));
    assert_eq!(bench.pool.count().failed, 1);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.pool.count().opening, 1);
    bench.pool.bound(tickets[0], SocketId(1)).unwrap();
    assert!(bench.lease(&[Want::Pair]).is_ok());
}

#[test]
fn nobody_can_tell_which_port_comes_next() {
    let draw = |seed| bench(30_000..=30_999, 100, seed).lease(&[Want::Pair]).unwrap()[0].rtp.number;
    let drawn: BTreeSet<u16> = (0..20).map(draw).collect();
    assert!(drawn.len() > 15, "{drawn:?}");
}

#[test]
fn answers_nobody_asked_for_change_nothing() {
    let mut bench = bench(30_000..=30_009, 1, 1);
    let before = bench.pool.count();
    assert!(bench.pool.bound(Ticket(u64::MAX), SocketId(9)).is_none());
    assert!(bench.pool.bound(Ticket(0), SocketId(9)).is_none() || before.opening > 0);
    bench.pool.bind_failed(bench.now, Ticket(7 << 32));
    assert_eq!(bench.pool.count(), before);
}

/// The numbers of the sockets that are closed.
fn released(out: &mut VecDeque<Output>) -> Vec<u32> {
    let number = |output| match output {
        Output::Release { socket } => Some(socket.0),
        _ => None,
    };
    out.drain(..).filter_map(number).collect()
}

#[test]
fn a_range_that_is_taken_out_closes_at_once_but_for_what_is_lent() {
    let mut bench = bench(30_000..=30_007, 4, 1);
    let held = bench.lease(&[Want::Pair]).unwrap().remove(0);
    let rests = bench.lease(&[Want::Pair]).unwrap().remove(0);
    bench.give_back(&rests);
    bench.out.clear();
    bench.pool.lend_within(0, Some(31_000..=31_003), &mut bench.out);
    assert_eq!(released(&mut bench.out).len(), 6, "all but the two that are lent");
    assert_eq!(bench.pool.lingering(), 2);
    bench.refill();
    for lease in [bench.lease(&[Want::Pair]), bench.lease(&[Want::Pair])] {
        assert!((31_000..=31_003).contains(&lease.unwrap()[0].rtp.number), "the new ones are lent");
    }
    bench.give_back(&held);
    assert_eq!(released(&mut bench.out).len(), 2);
    assert_eq!((bench.pool.lingering(), bench.pool.count().leased), (0, 4));
    bench.pass(QUARANTINE);
    assert_eq!(bench.pool.count().free, 0, "nothing of the former range is left to be opened");
}

#[test]
fn what_two_ranges_share_stays_open_and_lent() {
    let mut bench = bench(30_000..=30_003, 2, 1);
    let held = bench.lease(&[Want::Pair]).unwrap().remove(0);
    bench.out.clear();
    bench.pool.lend_within(0, Some(30_000..=30_007), &mut bench.out);
    assert_eq!((released(&mut bench.out), bench.pool.lingering()), (vec![], 0));
    bench.pool.lend_within(0, None, &mut bench.out);
    assert_eq!((released(&mut bench.out).len(), bench.pool.lingering()), (2, 2));
    assert_eq!(
        bench.lease(&[Want::Single]),
        Err(Shortage::Exhausted),
        "a network that is gone lends nothing"
    );
    bench.pool.lend_within(0, Some(30_000..=30_003), &mut bench.out);
    bench.give_back(&held);
    assert_eq!(bench.pool.count().quarantined, 2, "it came back before they were given back");
}

#[test]
fn a_socket_that_opens_after_its_range_was_taken_out_is_not_wanted() {
    let mut bench = bench(30_000..=30_001, 1, 1);
    bench.pool.lend_within(0, Some(30_002..=30_003), &mut bench.out);
    bench.out.clear();
    bench.pool.refill(0, &mut bench.out);
    let Some(Output::Bind { ticket, local }) = bench.out.pop_front() else { panic!("a port is opened") };
    assert!((30_002..=30_003).contains(&local.port()), "{local}");
    bench.pool.lend_within(0, None, &mut bench.out);
    assert_eq!(bench.pool.bound(ticket, SocketId(9)), None);
    assert_eq!(bench.pool.count().opening, 1, "the other half's answer is still to come");
}

proptest! {
    #[test]
    fn no_port_is_lent_twice_and_none_is_lost(steps in proptest::collection::vec(0u8..6, 1..200)) {
        let mut bench = bench(30_000..=30_019, 2, 7);
        let mut held: Vec<Lease> = Vec::new();
        for step in steps {
            match step {
                0 | 1 => held.extend(bench.lease(&[Want::Pair]).unwrap_or_default()),
                2 => held.extend(bench.lease(&[Want::Single, Want::Pair]).unwrap_or_default()),
                3 if !held.is_empty() => {
                    let lease = held.remove(held.len() / 2);
                    bench.give_back(&lease);
                }
                4 => bench.pass(Duration::from_secs(1)),
                _ => bench.refill(),
            }
            let ports: Vec<u16> =
                held.iter().flat_map(|l| [Some(l.rtp), l.rtcp]).flatten().map(|port| port.number).collect();
            let count = bench.pool.count();
            prop_assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
            prop_assert_eq!(count.leased, ports.len());
            prop_assert_eq!(count.leased + count.reserved + count.quarantined + count.free, 20);
        }
        held.iter().for_each(|lease| bench.give_back(lease));
        bench.pass(QUARANTINE);
        prop_assert_eq!(bench.pool.available(), 20);
    }
}
