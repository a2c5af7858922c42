//! Who waits, who is refused, and in what order those who wait are served.

use super::*;

fn message(method: &str, call: u32, to_tag: &str) -> Message {
    let text = format!(
        "{method} sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK{call}\r\nFrom: <sip:a@x>;tag=1\r\n\
         To: <sip:b@x>{to_tag}\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    );
    Message::parse(Bytes::from(text)).unwrap()
}

fn arrival(method: &str, call: u32, to_tag: &str) -> Arrival {
    let flow = Flow::udp("192.0.2.1:5060".parse().unwrap(), "192.0.2.2:5060".parse().unwrap());
    Arrival { flow, message: message(method, call, to_tag) }
}

/// What became of a message: the call it goes on with, or what was done.
#[derive(Debug, PartialEq)]
enum Done {
    Now(u32),
    Waits,
    Refused,
    Dropped,
}

struct Scene {
    lobby: Lobby,
    now: Instant,
    answers: Vec<Message>,
}

fn call_of(arrival: &Arrival) -> u32 {
    arrival.message.call_id().parse().unwrap()
}

impl Scene {
    #[allow(clippy::disallowed_methods)]
    fn new() -> Scene {
        Scene { lobby: Lobby::new(7, Before::Proxy), now: Instant::now(), answers: Vec::new() }
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    fn arrive(&mut self, method: &str, call: u32) -> Done {
        self.arrive_in(method, call, "")
    }

    fn arrive_in(&mut self, method: &str, call: u32, to_tag: &str) -> Done {
        match self.lobby.arrive(self.now, arrival(method, call, to_tag)) {
            Entry::Now(item) => Done::Now(call_of(&item)),
            Entry::Waits => Done::Waits,
            Entry::Dropped => Done::Dropped,
            Entry::Refused(bytes) => {
                self.answers.push(Message::parse(bytes).unwrap());
                Done::Refused
            }
        }
    }

    fn glance(&mut self, message: &Message, belongs_here: impl FnOnce(&str) -> bool) -> Option<Entry> {
        self.lobby.glance(self.now, arrival("INVITE", 0, "").flow.remote, message.bytes(), belongs_here)
    }

    fn next(&mut self) -> Option<u32> {
        self.lobby.next(self.now).as_ref().map(call_of)
    }
}

#[test]
fn what_belongs_to_a_dialog_never_waits() {
    let mut scene = Scene::new();
    scene.arrive("INVITE", 1);
    scene.pass(10_000);
    for method in ["INVITE", "BYE", "ACK", "PRACK", "UPDATE", "INFO"] {
        assert_eq!(scene.arrive_in(method, 9, ";tag=2"), Done::Now(9), "{method}");
    }
}

#[test]
fn a_newcomer_is_refused_when_the_oldest_has_waited_a_quarter_of_a_second() {
    let mut scene = Scene::new();
    assert_eq!(scene.arrive("INVITE", 1), Done::Waits);
    scene.pass(250);
    assert_eq!(scene.arrive("INVITE", 2), Done::Waits);
    scene.pass(1);
    assert_eq!(scene.arrive("INVITE", 3), Done::Refused);
    let response = &scene.answers[0];
    assert_eq!(response.status(), Some(503));
    assert!(matches!(response.text(Name::RetryAfter), Some("1" | "2" | "3" | "4")));
    assert_eq!((scene.next(), scene.next(), scene.next()), (Some(1), Some(2), None));
    assert_eq!(scene.arrive("INVITE", 4), Done::Waits, "the oldest are gone");
}

#[test]
fn who_is_refused_learns_where_its_request_came_from() {
    let mut scene = Scene::new();
    for (method, call) in [("INVITE", 1), ("REGISTER", 4)] {
        scene.arrive(method, call);
        scene.pass(500);
        assert_eq!(scene.arrive(method, call + 1), Done::Refused);
        let seen = scene.glance(&message(method, call + 2, ""), |_| true);
        let Some(Entry::Refused(bytes)) = seen else { panic!("{seen:?}") };
        scene.answers.push(Message::parse(bytes).unwrap());
    }
    for answer in &scene.answers {
        assert_eq!(answer.via().unwrap().params.get("received"), Some("192.0.2.2"), "{answer:?}");
    }
    assert_eq!(scene.answers.len(), 4);
}

#[test]
fn calls_and_registrations_are_served_by_turns_and_refused_apart() {
    let mut scene = Scene::new();
    for call in 0..3 {
        scene.arrive("INVITE", call);
        scene.arrive("REGISTER", 10 + call);
    }
    scene.pass(300);
    assert_eq!(scene.arrive("INVITE", 5), Done::Refused);
    assert_eq!(scene.arrive("REGISTER", 15), Done::Waits);
    let served: Vec<u32> = std::iter::from_fn(|| scene.next()).collect();
    assert_eq!(served, [10, 0, 11, 1, 12, 2, 15]);
}

#[test]
fn a_retransmission_is_dropped_while_it_waits_and_goes_in_once_it_was_let_in() {
    let mut scene = Scene::new();
    scene.arrive("INVITE", 1);
    assert_eq!(scene.arrive("INVITE", 1), Done::Dropped);
    scene.next();
    scene.arrive("INVITE", 2);
    scene.pass(1000);
    assert_eq!(scene.arrive("INVITE", 1), Done::Now(1), "never refused after it was let in");
    assert_eq!(scene.arrive("INVITE", 3), Done::Refused);
    assert_eq!(scene.arrive("REGISTER", 4), Done::Waits);
    assert_eq!(scene.arrive("REGISTER", 4), Done::Dropped, "and a registration's, too");
}

#[test]
fn a_cancel_waits_behind_its_invite_alone() {
    let mut scene = Scene::new();
    scene.arrive("INVITE", 1);
    assert_eq!(scene.arrive("CANCEL", 1), Done::Waits);
    assert_eq!(scene.arrive("CANCEL", 2), Done::Now(2));
    assert_eq!((scene.next(), scene.next()), (Some(1), Some(1)));
    assert_eq!(scene.arrive("CANCEL", 1), Done::Now(1));
}

#[test]
fn the_ack_of_a_refusal_goes_no_further() {
    let mut scene = Scene::new();
    assert_eq!(scene.arrive_in("ACK", 1, ";tag=overload"), Done::Dropped);
}

#[test]
fn the_ack_of_a_refusal_from_further_on_goes_in_where_its_invite_went_in() {
    let mut scene = Scene::new();
    for call in [1, 2] {
        scene.arrive("INVITE", call);
    }
    assert_eq!(scene.next(), Some(1));
    scene.pass(300);
    assert_eq!(scene.arrive("INVITE", 3), Done::Refused);
    for (call, done) in [(1, Done::Now(1)), (2, Done::Dropped), (3, Done::Dropped)] {
        let seen = scene.glance(&message("ACK", call, ";tag=overload"), |_| true);
        assert_eq!(seen.is_none(), call == 1, "{seen:?}");
        assert_eq!(scene.arrive_in("ACK", call, ";tag=overload"), done);
    }
}

#[test]
fn nothing_is_refused_after_it_was_taken_however_many_were_taken_since() {
    let mut scene = Scene::new();
    for call in 0..8000 {
        assert_eq!(scene.arrive("INVITE", call), Done::Waits);
        assert_eq!(scene.next(), Some(call));
    }
    scene.arrive("INVITE", 8000);
    scene.pass(300);
    assert_eq!(scene.arrive("INVITE", 8001), Done::Refused);
    let known = (0..8000).filter(|call| scene.arrive("INVITE", *call) == Done::Now(*call));
    assert_eq!(known.count(), 8000);
}

#[test]
fn what_was_refused_is_refused_when_it_comes_again_though_there_is_room() {
    let mut scene = Scene::new();
    scene.arrive("INVITE", 1);
    scene.pass(300);
    assert_eq!(scene.arrive("INVITE", 2), Done::Refused);
    assert_eq!(scene.next(), Some(1));
    assert_eq!(scene.arrive("INVITE", 2), Done::Refused);
    assert_eq!(scene.answers[0].bytes(), scene.answers[1].bytes());
    let seen = scene.glance(&message("INVITE", 2, ""), |_| true);
    assert!(matches!(&seen, Some(Entry::Refused(bytes)) if bytes == scene.answers[0].bytes()), "{seen:?}");
    assert_eq!(scene.arrive("INVITE", 3), Done::Waits);
    scene.pass(2000);
    assert_eq!(scene.lobby.turn(scene.now).map(|turn| turn.begins), Some(true));
    assert_eq!(scene.lobby.turn(scene.now), Some(Turn { begins: false, refused: 1 }));
    assert_eq!(scene.arrive("INVITE", 2), Done::Refused);
    assert!(!scene.lobby.is_overloaded(), "that is nothing new");
}

#[test]
fn whoever_has_no_branches_of_its_own_is_let_in_when_it_comes_back() {
    let mut scene = Scene::new();
    scene.arrive("INVITE", 1);
    scene.pass(300);
    let mut old = || {
        let Arrival { flow, message } = arrival("INVITE", 2, "");
        let text = String::from_utf8(message.bytes().to_vec()).unwrap().replace("z9hG4bK2", "2");
        let message = Message::parse(Bytes::from(text)).unwrap();
        let entry = scene.lobby.arrive(scene.now, Arrival { flow, message });
        while scene.lobby.next(scene.now).is_some() {}
        entry
    };
    assert!(matches!(old(), Entry::Refused(_)));
    assert!(matches!(old(), Entry::Waits));
}

#[test]
fn whoever_waits_is_known_however_many_do() {
    let mut scene = Scene::new();
    for call in 0..ROOM as u32 {
        assert_eq!(scene.arrive("INVITE", call), Done::Waits);
    }
    let known = (0..ROOM as u32).filter(|call| scene.arrive("INVITE", *call) == Done::Dropped);
    assert_eq!(known.count(), ROOM);
}

#[test]
fn overload_begins_with_a_refusal_and_ends_two_seconds_after_the_last() {
    let mut scene = Scene::new();
    scene.arrive("INVITE", 1);
    scene.pass(300);
    for call in 2..5 {
        scene.arrive("INVITE", call);
    }
    assert_eq!(scene.lobby.turn(scene.now), Some(Turn { begins: true, refused: 0 }));
    scene.pass(1999);
    assert_eq!(scene.lobby.turn(scene.now), None);
    assert!(scene.lobby.is_overloaded());
    assert_eq!(scene.lobby.deadline(), Some(scene.now + Duration::from_millis(1)));
    scene.pass(1);
    assert_eq!(scene.lobby.turn(scene.now), Some(Turn { begins: false, refused: 3 }));
    assert!(!scene.lobby.is_overloaded());
}

/// A REGISTER with this header besides.
fn login(lobby: &mut Lobby, now: Instant, call: u32, header: &str) -> Done {
    let Arrival { flow, message } = arrival("REGISTER", call, "");
    let text = String::from_utf8(message.bytes().to_vec()).unwrap();
    let message = Message::parse(Bytes::from(text.replace("CSeq:", &format!("{header}CSeq:")))).unwrap();
    match lobby.arrive(now, Arrival { flow, message }) {
        Entry::Now(item) => Done::Now(call_of(&item)),
        Entry::Waits => Done::Waits,
        Entry::Dropped => Done::Dropped,
        Entry::Refused(_) => Done::Refused,
    }
}

const PROOF: &str = "Authorization: Digest x\r\n";
const SESSION: &str = "Node-Auth: x\r\n";

#[test]
fn at_an_access_server_logins_wait_and_whoever_is_logged_in_does_not() {
    let mut scene = Scene { lobby: Lobby::new(7, Before::Access), ..Scene::new() };
    assert_eq!(login(&mut scene.lobby, scene.now, 1, ""), Done::Waits);
    assert_eq!(login(&mut scene.lobby, scene.now, 2, PROOF), Done::Waits);
    assert_eq!(login(&mut scene.lobby, scene.now, 2, PROOF), Done::Dropped, "it waits already");
    scene.pass(401);
    assert_eq!(login(&mut scene.lobby, scene.now, 3, ""), Done::Refused);
    assert_eq!(login(&mut scene.lobby, scene.now, 4, PROOF), Done::Refused);
    assert_eq!(login(&mut scene.lobby, scene.now, 5, SESSION), Done::Now(5));
    assert_eq!(scene.arrive("MESSAGE", 6), Done::Now(6));
    assert_eq!(scene.arrive("NOTIFY", 7), Done::Now(7));
}

#[test]
fn of_four_turns_three_are_for_logins_that_bring_their_proof() {
    let mut scene = Scene { lobby: Lobby::new(7, Before::Access), ..Scene::new() };
    for call in 0..3 {
        login(&mut scene.lobby, scene.now, call, "");
    }
    for call in 10..14 {
        login(&mut scene.lobby, scene.now, call, PROOF);
    }
    let served: Vec<u32> = std::iter::from_fn(|| scene.next()).collect();
    assert_eq!(served, [0, 10, 11, 12, 1, 13, 2]);
}

#[test]
fn no_more_wait_than_there_is_room_for() {
    let mut scene = Scene::new();
    let refused = (0..ROOM as u32 + 10).filter(|call| scene.arrive("INVITE", *call) == Done::Refused).count();
    assert_eq!((refused, scene.lobby.len()), (10, ROOM));
}

/// Somebody waits for half a second on end, and one is served every 10 ms.
fn half_a_second(scene: &mut Scene) {
    (0..5).for_each(|call| assert_eq!(scene.arrive("INVITE", call), Done::Waits));
    for call in 0..51 {
        scene.pass(10);
        assert_eq!(scene.next(), Some(call));
        assert_eq!(scene.arrive("INVITE", call + 5), Done::Waits);
    }
}

#[test]
fn who_would_wait_too_long_is_refused_before_anybody_has_waited_so_long() {
    let mut scene = Scene::new();
    half_a_second(&mut scene);
    let crowd: Vec<Done> = (100..122).map(|call| scene.arrive("INVITE", call)).collect();
    assert!(crowd[..21].iter().all(|done| *done == Done::Waits), "{crowd:?}");
    assert_eq!(crowd[21], Done::Refused, "it would wait 260 ms");
    assert_eq!(scene.arrive("REGISTER", 200), Done::Waits, "it may wait longer");
}

#[test]
fn how_fast_anybody_was_served_is_believed_for_two_seconds_after_a_line_was_empty() {
    for (ms, refused) in [(1980, 174), (1990, 0)] {
        let mut scene = Scene::new();
        half_a_second(&mut scene);
        while scene.next().is_some() {}
        scene.pass(ms);
        let crowd = (100..300).filter(|call| scene.arrive("INVITE", *call) == Done::Refused);
        assert_eq!(crowd.count(), refused, "after {ms} ms");
    }
}

#[test]
fn at_a_steady_twice_what_can_be_served_nobody_waits_much_longer_than_a_quarter_of_a_second() {
    let mut scene = Scene::new();
    let (mut begun, mut longest) = (Vec::new(), Duration::ZERO);
    for call in 0..4000u32 {
        begun.push(scene.now);
        scene.arrive("INVITE", call);
        scene.pass(5);
        if call % 2 == 1 {
            let served = scene.next().expect("there is always somebody");
            let waited = scene.now - begun[served as usize];
            longest = longest.max(if call > 1000 { waited } else { Duration::ZERO });
        }
    }
    assert!(longest > Duration::from_millis(200) && longest < Duration::from_millis(300), "{longest:?}");
}

/// What becomes of a datagram, with the answer, when a glance may decide.
fn by_glance(lobby: &mut Lobby, now: Instant, arrival: Arrival) -> (String, Option<Bytes>) {
    let seen = lobby.glance(now, arrival.flow.remote, arrival.message.bytes(), |_| true);
    by(seen.unwrap_or_else(|| lobby.arrive(now, arrival)))
}

fn by(entry: Entry) -> (String, Option<Bytes>) {
    match entry {
        Entry::Refused(bytes) => ("refused".into(), Some(bytes)),
        Entry::Now(item) => (format!("now {}", call_of(&item)), None),
        other => (format!("{other:?}"), None),
    }
}

#[test]
fn a_glance_decides_as_reading_does() {
    for before in [Before::Proxy, Before::Access] {
        let mut scene = Scene { lobby: Lobby::new(7, before), ..Scene::new() };
        let mut glancing = Lobby::new(7, before);
        let methods = ["INVITE", "ACK", "REGISTER", "BYE", "CANCEL", "INFO", "INVITE", "REGISTER"];
        let mut refused = 0;
        for n in 0..2000u32 {
            let method = methods[(n * 7 / 3) as usize % methods.len()];
            let to_tag = ["", "", "", ";tag=2", ";tag=overload"][n as usize % 5];
            let arrival = arrival(method, n / 2 % 700, to_tag);
            let read = by(scene.lobby.arrive(scene.now, arrival.clone()));
            refused += u32::from(read.1.is_some());
            assert_eq!(by_glance(&mut glancing, scene.now, arrival), read, "{n}: {method}{to_tag}");
            scene.pass(3);
            if n % 16 == 0 {
                assert_eq!(glancing.next(scene.now).as_ref().map(call_of), scene.next());
            }
        }
        assert!(refused > 20, "{before:?}: {refused} refused");
        assert_eq!(glancing.refused(), scene.lobby.refused());
    }
}

#[test]
fn a_glance_is_taken_only_while_newcomers_are_refused_and_only_at_what_belongs_here() {
    let mut scene = Scene::new();
    let echo = message("ACK", 1, ";tag=overload");
    assert!(scene.glance(&echo, |_| true).is_none());
    scene.arrive("INVITE", 1);
    scene.pass(300);
    assert_eq!(scene.arrive("INVITE", 2), Done::Refused);
    assert!(matches!(scene.glance(&echo, |_| true), Some(Entry::Dropped)));
    let newcomer = message("INVITE", 3, "");
    assert!(scene.glance(&newcomer, |call| call != "3").is_none());
    let entry = scene.glance(&newcomer, |call| call == "3");
    assert!(matches!(entry, Some(Entry::Refused(_))));
}
