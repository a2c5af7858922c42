//! DESIGN §4, "NAT signalling": a sentence each.

use std::time::Duration;

use proto::event::Registration;
use proto::node::{Input, Transport};
use proto::sip::{Message, Method};

use super::*;
use crate::tests::bench::{self, Bench, Sent};
use crate::tests::testing::{Clock, Maps, binding, config, udp};

const ALICE: &str = "alice@example.com";

struct Scene {
    config: Config,
    clock: Clock,
    tables: Maps,
    part: KeepAlive,
    seen: BTreeSet<String>,
}

fn scene() -> Scene {
    let clock = Clock::new();
    Scene { config: config(), clock, tables: Maps::default(), part: part(&clock), seen: BTreeSet::new() }
}

fn part(clock: &Clock) -> KeepAlive {
    KeepAlive::new(clock.dice(), Keyed::new(&mut clock.dice()))
}

/// A ping that left for the first time: when, where to, its branch.
type Ping = (f64, Flow, String);

impl Scene {
    fn bind(&mut self, aor: &str, bindings: Vec<Binding>) {
        self.tables.edit_bindings(aor, &mut |list| *list = bindings.clone());
        self.part.changed(self.clock.now(), aor, &self.config, &self.tables);
    }

    /// A phone of `aor` behind a NAT, bound for `seconds`.
    fn phone(&self, seconds: u64) -> Binding {
        let expires = self.clock.now().wall + Duration::from_secs(seconds);
        Binding { behind_nat: true, ..binding("sip:alice@192.168.1.10", expires) }
    }

    /// The phone at a port of its own.
    fn phone_of(&self, n: u16) -> Binding {
        Binding { flow: udp(&format!("192.0.2.50:{}", 10_000 + n)), ..self.phone(3600) }
    }

    /// Lets time pass, deadline by deadline; tells what was wanted.
    fn run(&mut self, seconds: f64) -> Vec<(f64, Want)> {
        let start = self.clock.now().at;
        let end = start + Duration::from_secs_f64(seconds);
        let mut wanted = vec![];
        while let Some(at) = self.part.deadline().filter(|&at| at <= end) {
            self.clock.until(at);
            self.part.wake(self.clock.now(), &self.config, &mut self.tables);
            let passed = (self.clock.now().at - start).as_secs_f64();
            wanted.extend(std::iter::from_fn(|| self.part.poll()).map(|want| (passed, want)));
        }
        self.clock.until(end);
        wanted
    }

    /// Each once, however often it is sent.
    fn pings(&mut self, seconds: f64) -> Vec<Ping> {
        let wanted = self.run(seconds);
        let ping = |(at, want)| match want {
            Want::Ping { flow, branch, .. } => Some((at, flow, branch)),
            _ => None,
        };
        let mut sent: Vec<Ping> = wanted.into_iter().filter_map(ping).collect();
        sent.retain(|ping| self.seen.insert(ping.2.clone()));
        sent
    }

    /// Runs until the next one leaves.
    fn ping(&mut self) -> Ping {
        (0..400).find_map(|_| self.pings(0.1).pop()).expect("a ping within 40 s")
    }

    fn options(&mut self, seconds: f64) -> Vec<Message> {
        let wanted = self.run(seconds);
        let message = |(_, want)| match want {
            Want::Ping { message, .. } => Some(message),
            _ => None,
        };
        wanted.into_iter().filter_map(message).collect()
    }

    /// What is told of whether it is reachable.
    fn told(&mut self, seconds: f64) -> Vec<bool> {
        self.run(seconds).into_iter().filter_map(|(_, want)| reachable(want)).collect()
    }

    fn answer(&mut self, ping: &Ping) -> Vec<bool> {
        assert_eq!(self.part.answered(&ping.2, &mut self.tables), None);
        std::iter::from_fn(|| self.part.poll()).filter_map(reachable).collect()
    }

    fn unanswered(&self) -> u8 {
        self.tables.bindings(ALICE)[0].unanswered
    }
}

fn reachable(want: Want) -> Option<bool> {
    match want {
        Want::Event(Event::Reachable { reachable, .. }) => Some(reachable),
        _ => None,
    }
}

#[test]
fn a_udp_binding_behind_a_nat_is_pinged_every_25_seconds_give_or_take_a_tenth() {
    let mut scene = scene();
    let phone = scene.phone(3600);
    scene.bind(ALICE, vec![phone]);
    let pings = scene.pings(3000.0);
    assert!((110..=130).contains(&pings.len()), "{}", pings.len());
    let gaps: Vec<f64> = pings.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.iter().all(|gap| (22.49..=27.51).contains(gap)), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap < 24.5) && gaps.iter().any(|gap| *gap > 25.5), "jitter");
}

#[test]
fn it_is_an_options_to_the_contact_by_the_way_the_register_came() {
    let mut scene = scene();
    let phone = Binding { flow: udp("198.51.100.7:61000"), ..scene.phone(3600) };
    scene.bind(ALICE, vec![phone]);
    let options = scene.options(40.0).remove(0);
    assert_eq!((options.method(), options.request_uri()), (Method::Options, "sip:alice@192.168.1.10"));
    assert_eq!(options.from().unwrap().raw_uri, "sip:203.0.113.1:5060");
    assert_eq!(scene.pings(40.0)[0].1, udp("198.51.100.7:61000"));
}

#[test]
fn only_udp_bindings_behind_a_nat_without_a_path_are_pinged() {
    let mut scene = scene();
    let phone = scene.phone(3600);
    let tcp = Flow { transport: Transport::Tcp, id: FlowId(7), ..phone.flow };
    scene.bind("public@example.com", vec![Binding { behind_nat: false, ..phone.clone() }]);
    scene.bind("tcp@example.com", vec![Binding { flow: tcp, ..phone.clone() }]);
    scene.bind("path@example.com", vec![Binding { path: vec!["<sip:edge>".into()], ..phone.clone() }]);
    assert!(scene.pings(100.0).is_empty());
    scene.bind(ALICE, vec![phone]);
    assert!(!scene.pings(100.0).is_empty());
}

#[test]
fn an_interval_of_zero_means_none() {
    let mut scene = scene();
    scene.config.keep_alive = Duration::ZERO;
    let phone = scene.phone(3600);
    scene.bind(ALICE, vec![phone]);
    assert!(scene.pings(100.0).is_empty());
}

#[test]
fn three_unanswered_make_it_unreachable_and_two_do_not() {
    let mut scene = scene();
    let phone = scene.phone(3600);
    scene.bind(ALICE, vec![phone]);
    for unanswered in 1..=2 {
        scene.ping();
        assert!(scene.told(16.1).is_empty());
        assert_eq!(scene.unanswered(), unanswered);
    }
    assert!(!scene.tables.bindings(ALICE)[0].is_unreachable());
    scene.ping();
    assert!(scene.told(15.8).is_empty());
    assert_eq!(scene.told(0.3), [false]);
    assert!(scene.tables.bindings(ALICE)[0].is_unreachable());
}

#[test]
fn one_answer_in_between_counts_from_the_beginning() {
    let mut scene = scene();
    let phone = scene.phone(3600);
    scene.bind(ALICE, vec![phone]);
    scene.ping();
    scene.ping();
    let third = scene.ping();
    assert_eq!(scene.unanswered(), 2);
    assert!(scene.answer(&third).is_empty(), "it was never unreachable");
    scene.ping();
    assert!(scene.told(16.1).is_empty());
    assert_eq!(scene.unanswered(), 1);
}

#[test]
fn an_unreachable_device_is_still_pinged_once_and_its_answer_brings_it_back() {
    let mut scene = scene();
    let phone = Binding { unanswered: 3, ..scene.phone(3600) };
    scene.bind(ALICE, vec![phone]);
    scene.ping();
    let later = scene.run(16.1);
    assert!(later.is_empty(), "neither sent again nor told again: {later:?}");
    let second = scene.ping();
    assert_eq!(scene.answer(&second), [true]);
    assert_eq!(scene.unanswered(), 0);
}

#[test]
fn one_without_an_answer_is_sent_again_the_same() {
    let mut scene = scene();
    let phone = scene.phone(3600);
    scene.bind(ALICE, vec![phone]);
    let first = scene.ping();
    let again = scene.run(16.1);
    let same = |(_, want): &(f64, Want)| matches!(want, Want::Ping { branch, .. } if *branch == first.2);
    assert!(again.len() == 4 && again.iter().all(same), "{again:?}");
    let second = scene.ping();
    scene.answer(&second);
    assert!(scene.run(16.1).is_empty(), "one that has its answer is not");
}

#[test]
fn nobody_who_has_not_seen_a_ping_answers_it() {
    let mut scene = scene();
    let phone = Binding { unanswered: 3, ..scene.phone(3600) };
    scene.bind(ALICE, vec![phone]);
    let (at, flow, branch) = scene.ping();
    let (rest, _) = branch.rsplit_once('-').unwrap();
    assert!(scene.answer(&(at, flow, format!("{rest}-0123456789abcdef"))).is_empty());
    assert_eq!(scene.answer(&(at, flow, branch)), [true]);
}

#[test]
fn an_answer_that_another_lane_waits_for_is_that_lanes() {
    let mut scene = scene();
    scene.part = part(&scene.clock).of_lane(Lane { index: 1, count: 3 });
    let answered = |scene: &mut Scene, branch| scene.part.answered(branch, &mut scene.tables);
    assert_eq!(answered(&mut scene, "z9hG4bK-ping-2-1-0123456789abcdef"), Some(2));
    for none in ["z9hG4bK-ping-1-1-0123456789abcdef", "z9hG4bK-ping-3-1-0123456789abcdef", "z9hG4bKother"] {
        assert_eq!(answered(&mut scene, none), None);
    }
}

#[test]
fn an_answer_that_changes_nothing_is_not_written() {
    let mut scene = scene();
    let phone = scene.phone(3600);
    scene.bind(ALICE, vec![phone]);
    let (ping, edits) = (scene.ping(), scene.tables.edits);
    scene.answer(&ping);
    assert_eq!(scene.tables.edits, edits);
}

#[test]
fn silence_on_the_old_path_says_nothing_of_the_new_one() {
    let mut scene = scene();
    let phone = scene.phone(3600);
    scene.bind(ALICE, vec![phone.clone()]);
    scene.ping();
    scene.bind(ALICE, vec![Binding { flow: udp("198.51.100.7:61001"), cseq: 2, ..phone }]);
    assert!(scene.run(16.1).is_empty(), "nor is it sent again");
    assert_eq!(scene.unanswered(), 0);
}

#[test]
fn a_refresh_puts_the_next_ping_off() {
    let mut scene = scene();
    let phone = scene.phone(3600);
    scene.bind(ALICE, vec![phone.clone()]);
    for cseq in 2..20 {
        assert!(scene.pings(15.0).is_empty());
        scene.bind(ALICE, vec![Binding { cseq, ..phone.clone() }]);
    }
}

#[test]
fn another_device_of_the_same_user_does_not_put_it_off() {
    let mut scene = scene();
    let phone = scene.phone(3600);
    scene.bind(ALICE, vec![phone.clone()]);
    let mut pings = 0;
    for cseq in 2..22 {
        let second = Binding { cseq, behind_nat: false, ..binding("sip:b@h", phone.expires) };
        scene.bind(ALICE, vec![phone.clone(), second]);
        pings += scene.pings(5.0).len();
    }
    assert!((3..=5).contains(&pings), "{pings} in 100 s");
}

#[test]
fn a_removed_binding_is_not_pinged() {
    let mut scene = scene();
    let phone = scene.phone(3600);
    scene.bind(ALICE, vec![phone]);
    scene.bind(ALICE, vec![]);
    assert!(scene.pings(4000.0).is_empty());
    assert_eq!((scene.part.deadline(), scene.part.watched.len()), (None, 0), "nothing is left of it");
}

#[test]
fn a_refresh_costs_no_timer_and_an_earlier_end_is_met_in_time() {
    let mut scene = scene();
    let ends = |seconds| Binding { behind_nat: false, ..scene.phone(seconds) };
    let (long, longer, short) = (ends(3600), ends(7200), ends(60));
    for bindings in [long.clone(), longer, long].map(|binding| vec![binding]) {
        scene.bind(ALICE, bindings);
    }
    assert_eq!(scene.part.expiries.len(), 1);
    scene.bind(ALICE, vec![short]);
    assert!(scene.run(59.9).is_empty());
    assert!(matches!(
        scene.run(0.2)[..],
        [(_, Want::Event(Event::Registered { change: Registration::Lost, .. }))]
    ));
    scene.run(3600.0);
    assert_eq!((scene.part.deadline(), scene.part.watched.len()), (None, 0));
}

#[test]
fn a_binding_another_lane_refreshed_is_left_to_that_lane() {
    let mut scene = scene();
    let phone = scene.phone(3600);
    scene.bind(ALICE, vec![phone]);
    scene.tables.edit_bindings(ALICE, &mut |list| list[0].call_id = "of another lane".into());
    assert!(scene.pings(100.0).is_empty());
}

#[test]
fn a_binding_whose_time_is_over_is_taken_away_and_told() {
    let mut scene = scene();
    let (short, long) = (scene.phone(60), Binding { behind_nat: false, ..scene.phone(90) });
    scene.bind(ALICE, vec![short, Binding { contact: "sip:b@h".into(), ..long }]);
    let lost = |wanted: Vec<(f64, Want)>| {
        wanted.into_iter().filter(|(_, want)| matches!(want, Want::Event(Event::Registered { .. }))).count()
    };
    assert_eq!(lost(scene.run(59.0)), 0);
    assert_eq!((lost(scene.run(2.0)), scene.tables.bindings(ALICE).len()), (1, 1));
    assert_eq!((lost(scene.run(30.0)), scene.tables.aors().len()), (1, 0));
    assert_eq!(scene.part.deadline(), None);
}

#[test]
fn after_a_restart_everybody_is_pinged_within_one_interval_and_not_all_at_once() {
    let mut scene = scene();
    for n in 0..200 {
        let phone = scene.phone_of(n);
        scene.tables.bindings.insert(format!("u{n}@example.com"), vec![phone]);
    }
    scene.part.resume(scene.clock.now(), &scene.config, &scene.tables);
    let pings = scene.pings(25.0);
    let met: BTreeSet<_> = pings.iter().map(|ping| ping.1.remote.port()).collect();
    assert_eq!(met.len(), 200);
    for second in 0..25 {
        let in_it = pings.iter().filter(|ping| ping.0 as u32 == second).count();
        assert!(in_it < 30, "{in_it} in one second");
    }
}

#[test]
fn lanes_share_what_a_former_life_left() {
    let mut all = vec![];
    for index in 0..3 {
        let mut scene = scene();
        scene.part = part(&scene.clock).of_lane(Lane { index, count: 3 });
        for n in 0..60 {
            let phone = scene.phone_of(n);
            scene.tables.bindings.insert(format!("u{n}@example.com"), vec![phone]);
        }
        scene.part.resume(scene.clock.now(), &scene.config, &scene.tables);
        let pings = scene.pings(25.0);
        let mine: BTreeSet<_> = pings.iter().map(|ping| ping.1.remote.port()).collect();
        assert!(mine.len() > 8, "{}", mine.len());
        all.extend(mine);
    }
    all.sort();
    let count = all.len();
    all.dedup();
    assert_eq!((count, all.len()), (60, 60));
}

/// Through the whole proxy: a phone registers from behind a NAT, and its first ping leaves.
fn pinged_by_a_proxy() -> (Bench, Sent) {
    let mut bench = Bench::new(bench::open());
    let register = "REGISTER sip:example.com SIP/2.0
         Via: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bKr;rport
         From: <sip:alice@example.com>;tag=1
         To: <sip:alice@example.com>
         Call-ID: r
         CSeq: 1 REGISTER
         Contact: <sip:alice@10.0.0.9:5060>
         Max-Forwards: 70";
    assert_eq!(bench.from("198.51.100.7:61000", register)[0].message.status(), Some(200));
    let mut sent = bench.pass(Duration::from_millis(27_600));
    (bench, sent.remove(0))
}

#[test]
fn any_answer_ends_a_ping_whichever_lane_read_it() {
    for passed_on in [false, true] {
        let (mut bench, ping) = pinged_by_a_proxy();
        assert_eq!(ping.message.method(), Method::Options);
        let via = ping.message.via().unwrap();
        assert!(via.wants_rport() && via.sent_by() == bench::PROXY, "{via:?}");
        let answer = sip::reply(&ping.message, 404, "t").finish();
        match passed_on {
            true => {
                let (bytes, gathered) = (answer.into_bytes(), bytes::Bytes::new());
                bench.input(Input::Passed { flow: ping.flow, bytes, gathered });
            }
            false => drop(bench.by(ping.flow, answer)),
        }
        assert_eq!(bench.pass(Duration::from_secs(16)).len(), 0, "passed on: {passed_on}");
        assert_eq!(bench.tables.bindings("alice@example.com")[0].unanswered, 0);
    }
}

#[test]
fn a_proxy_holds_no_transaction_for_a_ping() {
    let (mut bench, ping) = pinged_by_a_proxy();
    assert_eq!(bench.status().transactions, 0);
    let again = bench.pass(Duration::from_secs(16));
    assert!(!again.is_empty() && again.iter().all(|sent| sent.message.bytes() == ping.message.bytes()));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.tables.bindings("alice@example.com")[0].unanswered, 1);
}

#[test]
fn a_connection_knows_who_registered_by_it() {
    let mut scene = scene();
    let flow = Flow { transport: Transport::Tcp, id: FlowId(7), ..udp("192.0.2.50:5060") };
    let phone = Binding { flow, ..scene.phone(3600) };
    scene.bind(ALICE, vec![phone]);
    assert!(scene.part.closed(&Flow { id: FlowId(8), ..flow }).is_empty());
    assert_eq!(scene.part.closed(&flow), [ALICE]);
    assert!(scene.part.closed(&flow).is_empty());
}
