//! Every timer at its bound: one nanosecond before its time nothing happens, at its time it does.

use super::*;

const TICK: Duration = Duration::from_nanos(1);

fn ack() -> Message {
    request("ACK", VIA, "<sip:bob@example.com>;tag=b")
}

fn asked(bench: &mut Bench, message: &Message) -> ClientId {
    let id = bench.request(0, message);
    bench.sent();
    id
}

fn asks(bench: &mut Bench, message: &Message) {
    asked(bench, message);
}

fn accepted(bench: &mut Bench) {
    bench.accept(0, &invite());
}

/// A request of ours, and how it is answered after a second.
fn answered(bench: &mut Bench, request: &Message, status: u16) {
    asked(bench, request);
    bench.receive(1000, &answer(request, status));
    bench.sent();
}

/// A request of theirs, and how we answer it after a second.
fn served(bench: &mut Bench, request: &Message, status: u16) {
    let id = bench.accept(0, request);
    bench.respond(1000, id, &answer(request, status));
    bench.sent();
}

fn acknowledged(bench: &mut Bench) {
    served(bench, &invite(), 404);
    bench.receive(1100, &ack());
}

fn cancelled(bench: &mut Bench) {
    let id = asked(bench, &invite());
    bench.receive(100, &answer(&invite(), 180));
    bench.layer.cancel(bench.at(1000), id, None);
    bench.sent();
}

/// Everything that is to be seen since the last look.
fn seen(bench: &mut Bench) -> Vec<String> {
    let first_two = |line: String| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let mut seen: Vec<String> = bench.sent().into_iter().map(first_two).collect();
    seen.extend(bench.happened().iter().map(|happened| match happened {
        Happened::TimedOut(_) => "timed out".to_owned(),
        Happened::Failed(..) => "failed".to_owned(),
        Happened::NotAcknowledged(_) => "not acknowledged".to_owned(),
    }));
    if bench.layer.is_empty() {
        seen.push("over".to_owned());
    }
    seen
}

/// Lives up to the last moment before `ms`, then goes on to it.
fn at_its_bound(bench: &mut Bench, ms: u32) -> [Vec<String>; 2] {
    let bound = bench.at(ms);
    while let Some(earlier) = bench.layer.deadline().filter(|deadline| *deadline < bound) {
        bench.layer.wake(earlier);
        bench.sent();
    }
    [bound - TICK, bound].map(|now| {
        bench.layer.wake(now);
        seen(bench)
    })
}

type Story = fn(&mut Bench);

/// Timer, what came before, when it fires, and what it does then.
#[rustfmt::skip]
const UDP: [(&str, Story, u32, &[&str]); 19] = [
    ("A",             |b| asks(b, &invite()), 500,    &["INVITE sip:bob@example.com"]),
    ("A, once more",  |b| asks(b, &invite()), 1_500,  &["INVITE sip:bob@example.com"]),
    ("A, the last",   |b| asks(b, &invite()), 31_500, &["INVITE sip:bob@example.com"]),
    ("B",             |b| asks(b, &invite()), 32_000, &["timed out", "over"]),
    ("D",             |b| answered(b, &invite(), 486),  33_000, &["over"]),
    ("E",             |b| asks(b, &options()), 500,    &["OPTIONS sip:bob@example.com"]),
    ("E, at T2",      |b| asks(b, &options()), 7_500,  &["OPTIONS sip:bob@example.com"]),
    ("E, told to wait", |b| answered(b, &options(), 183), 4_500, &["OPTIONS sip:bob@example.com"]),
    ("F",             |b| asks(b, &options()), 32_000, &["timed out", "over"]),
    ("G",             |b| served(b, &invite(), 404),    1_500,  &["SIP/2.0 404"]),
    ("G, at T2",      |b| served(b, &invite(), 404),    8_500,  &["SIP/2.0 404"]),
    ("H",             |b| served(b, &invite(), 404),    33_000, &["not acknowledged", "over"]),
    ("I",             acknowledged,                     6_100,  &["over"]),
    ("J",             |b| served(b, &options(), 200),   33_000, &["over"]),
    ("K",             |b| answered(b, &options(), 200), 6_000,  &["over"]),
    ("L",             |b| served(b, &invite(), 200),    33_000, &["over"]),
    ("M",             |b| answered(b, &invite(), 200),  33_000, &["over"]),
    ("100 (§17.2.1)", accepted,                      200,    &["SIP/2.0 100"]),
    ("given up (§9.1)", cancelled,                      33_000, &["timed out", "over"]),
];

/// The same where nothing is lost: what only waits for repetitions does not wait.
#[rustfmt::skip]
const TCP: [(&str, Story, u32, &[&str]); 7] = [
    ("B",             |b| asks(b, &invite()), 32_000, &["timed out", "over"]),
    ("F",             |b| asks(b, &options()), 32_000, &["timed out", "over"]),
    ("H",             |b| served(b, &invite(), 404),    33_000, &["not acknowledged", "over"]),
    ("L",             |b| served(b, &invite(), 200),    33_000, &["over"]),
    ("M",             |b| answered(b, &invite(), 200),  33_000, &["over"]),
    ("100 (§17.2.1)", accepted,                      200,    &["SIP/2.0 100"]),
    ("given up (§9.1)", cancelled,                      33_000, &["timed out", "over"]),
];

#[test]
fn every_timer_fires_at_its_time_and_not_a_nanosecond_before() {
    let udp = UDP.iter().map(|row| (Bench::udp(), row));
    for (mut bench, (timer, story, ms, does)) in udp.chain(TCP.iter().map(|row| (Bench::tcp(), row))) {
        story(&mut bench);
        bench.happened();
        let [before, then] = at_its_bound(&mut bench, *ms);
        assert_eq!(before, [""; 0], "{timer} before {ms} ms, {:?}", bench.flow.transport);
        assert_eq!(then, *does, "{timer} at {ms} ms, {:?}", bench.flow.transport);
    }
}

#[test]
fn timers_d_i_j_and_k_are_zero_where_nothing_is_lost() {
    let stories: [(&str, Story); 4] = [
        ("D", |b| answered(b, &invite(), 486)),
        ("I", acknowledged),
        ("J", |b| served(b, &options(), 200)),
        ("K", |b| answered(b, &options(), 200)),
    ];
    for (timer, story) in stories {
        let mut bench = Bench::tcp();
        story(&mut bench);
        assert_eq!((bench.layer.len(), bench.layer.deadline()), (0, None), "{timer}");
    }
}
