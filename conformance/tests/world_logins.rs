//! More logins than an access server has time for: it goes on letting in nearly as many as it can, tells the rest when to come
//! back, and whoever is logged in never notices. Without the lobby the same server drowns.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use conformance::company::{ACCESS, Company, Guest};
use conformance::crowd;
use conformance::world::{INTERNET, NodeId, Pace, Rules};
use endpoint_sim::peer::Peer;
use proto::lobby::Before;
use proto::node::{Flow, Input, Node, Output, Ticket};
use proto::sip::{Message, Name};
use proto::tables::Tables;
use proto::timers::Queue;

const NEWCOMERS: &str = "192.0.2.99:5060";
const SECOND: Duration = Duration::from_secs(1);
const T1: Duration = Duration::from_millis(500);
/// What a newcomer waits for its profile before it counts the login as lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// 5 % of the work on a message is to read it: for the real server that share is about the same.
const PACE: Pace = Pace {
    reading: Duration::from_micros(200),
    handling: Duration::from_millis(4),
    lobby: Some(Before::Access),
    quota: None,
};
/// A login is two messages at the server: one that is asked for a proof, one that brings it.
const CAPACITY: u32 = 119;
const LASTS: Duration = Duration::from_secs(20);
/// How long it takes until as many are let in as come.
const WARM: Duration = Duration::from_secs(3);

/// Somebody on the way in.
struct Login {
    begun: Instant,
    request: Message,
    tries: u32,
}

/// Many who log in: one every `gap`, for as long as it lasts.
struct Newcomers {
    gap: Duration,
    next: Instant,
    until: Instant,
    so_far: usize,
    logins: BTreeMap<usize, Login>,
    alarms: Queue<(usize, String)>,
    out: VecDeque<Output>,
    /// When each was let in, of those who were in time.
    good: Vec<Instant>,
    late: u32,
    refused: u32,
}

impl Newcomers {
    fn new(now: Instant, per_second: u32) -> Newcomers {
        Newcomers {
            gap: SECOND / per_second,
            next: now + SECOND,
            until: now + SECOND + LASTS,
            so_far: 0,
            logins: BTreeMap::new(),
            alarms: Queue::default(),
            out: VecDeque::new(),
            good: Vec::new(),
            late: 0,
            refused: 0,
        }
    }

    fn begin(&mut self, now: Instant) {
        let request = crowd::request(self.so_far);
        self.logins.insert(self.so_far, Login { begun: now, request, tries: 0 });
        self.repeat(now, self.so_far);
        self.so_far += 1;
    }

    /// Sends what a login waits for an answer to, and plans to do so again (timer E).
    fn repeat(&mut self, now: Instant, number: usize) {
        let Some(login) = self.logins.get_mut(&number) else { return };
        login.tries += 1;
        if now - login.begun > 4 * PATIENCE {
            self.logins.remove(&number);
            self.late += 1;
            return;
        }
        let branch = login.request.via().expect("it has one").branch().to_owned();
        self.alarms.set(now + T1 * 2u32.pow(login.tries - 1), (number, branch));
        let bytes: Bytes = login.request.bytes().clone();
        let flow = Flow::udp(address(NEWCOMERS), address(ACCESS));
        self.out.push_back(Output::Send { flow, bytes, ticket: Ticket(0) });
    }

    fn answered(&mut self, now: Instant, response: &Message) {
        let number = response.call_id().rsplit('-').next().and_then(|digits| digits.parse().ok());
        let Some(number) = number.filter(|number| self.logins.contains_key(number)) else { return };
        let login = &self.logins[&number];
        match response.status() {
            Some(401) if login.request.text(Name::Authorization).is_none() => {
                let challenge = response.text(Name::WwwAuthenticate).expect("a challenge").to_owned();
                let request = crowd::proven(&login.request, number, &challenge, 1);
                self.logins.insert(number, Login { request, tries: 0, ..*login });
                self.repeat(now, number);
            }
            Some(200) => {
                let login = self.logins.remove(&number).expect("it is there");
                if now - login.begun < PATIENCE { self.good.push(now) } else { self.late += 1 }
            }
            Some(503) => {
                assert!(response.text(Name::RetryAfter).is_some(), "it says when to come back");
                self.logins.remove(&number);
                self.refused += 1;
            }
            _ => {}
        }
    }
}

impl Node for Newcomers {
    fn handle(&mut self, now: Instant, input: Input, _: &mut dyn Tables) {
        if let Input::Message { message, .. } = &input {
            self.answered(now, message);
        }
        while self.next <= now && now < self.until {
            self.next += self.gap;
            self.begin(now);
        }
        while let Some((number, branch)) = self.alarms.pop(now) {
            let waits = |login: &Login| login.request.via().is_ok_and(|via| via.branch() == branch);
            if self.logins.get(&number).is_some_and(waits) {
                self.repeat(now, number);
            }
        }
    }

    fn poll(&mut self, _: &mut dyn Tables) -> Option<Output> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        let next = (self.next < self.until).then_some(self.next);
        self.alarms.deadline().into_iter().chain(next).min()
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

struct Outcome {
    /// Logins a second that were let in in time, of those while the crowd was there.
    good: f64,
    refused: u32,
    late: u32,
    /// How long each message between two who are logged in took.
    said: Vec<Duration>,
}

/// Two who hide their addresses, so that the server passes on what they say.
fn hidden(company: &mut Company) -> [Guest; 2] {
    let guests = ["e1", "e2"].map(|name| {
        company.add_with(name, Some(Rules::PORT_RESTRICTED), |config| config.allows.direct = false)
    });
    guests.into_iter().for_each(|guest| company.until_logged_in(guest));
    company.until_sees(guests[0], "e2", true, 10 * SECOND);
    guests
}

fn add_newcomers(company: &mut Company, per_second: u32) -> NodeId {
    for number in 0..(per_second * LASTS.as_secs() as u32 + 1) as usize {
        company.world.tables(company.access).add_user(crowd::user(number));
    }
    let host = company.world.host(INTERNET, &address(NEWCOMERS).ip().to_string());
    let udp = format!("udp {NEWCOMERS}");
    company.world.attach(host, "newcomers", &[&udp], move |birth| Newcomers::new(birth.now, per_second))
}

fn play(per_second: u32, pace: Pace) -> Outcome {
    let mut company = Company::new(1, &[("e1", "e2")]);
    let guests = hidden(&mut company);
    company.world.stop_recording();
    company.world.slow_down(company.access, pace);
    let newcomers = add_newcomers(&mut company, per_second);
    company.world.run_for(SECOND + WARM);
    let mut said = Vec::new();
    for n in 0..(LASTS - WARM).as_secs() as usize {
        let (begun, text) = (company.world.now(), format!("message {n}"));
        company.world.with(guests[0].node, |peer: &mut Peer, now| peer.message(now, "e2@example.com", &text));
        let to = guests[1].node;
        let hears = move |world: &conformance::world::World| {
            world.node::<Peer>(to).report().messages.iter().any(|(_, heard)| *heard == text)
        };
        company.world.run_until(hears, SECOND);
        said.push(company.world.now() - begun);
        company.world.run_for(SECOND - (company.world.now() - begun).min(SECOND));
    }
    company.world.run_for(20 * SECOND);
    let it = company.world.node::<Newcomers>(newcomers);
    let steady = it.until - LASTS + WARM..it.until;
    let good = it.good.iter().filter(|at| steady.contains(at)).count();
    let good = good as f64 / (LASTS - WARM).as_secs_f64();
    Outcome { good, refused: it.refused, late: it.late, said }
}

#[test]
fn at_three_times_its_capacity_an_access_server_lets_in_nine_tenths_of_its_peak() {
    let below = play(CAPACITY / 2, PACE);
    assert_eq!((below.refused, below.late), (0, 0), "half the load is no overload");

    let peak = [90, 100].map(|percent| play(CAPACITY * percent / 100, PACE).good);
    let peak = peak.into_iter().fold(0.0, f64::max);
    assert!(peak > 0.85 * f64::from(CAPACITY), "the peak is {peak} logins a second");
    for times in [2, 3] {
        let over = play(CAPACITY * times, PACE);
        println!("{times} times: {:.1} of {peak:.1} logins a second, {} refused", over.good, over.refused);
        assert!(over.refused > 0);
        assert_eq!(over.late, 0, "who is let in is served in time");
        let slowest = over.said.iter().max().expect("something was said");
        assert!(*slowest < T1, "who is logged in does not notice: {slowest:?}");
        assert!(over.good >= 0.9 * peak, "{} of {peak} logins a second at {times} times", over.good);
    }
}

#[test]
fn without_a_lobby_the_same_server_drowns() {
    let over = play(CAPACITY * 2, Pace { lobby: None, ..PACE });
    assert!(over.good < 0.5 * f64::from(CAPACITY), "{} logins a second", over.good);
    assert!(over.said.iter().any(|took| *took >= T1), "and its peers notice");
}
