//! A crowd before an access server: endpoints of which each has 20 buddies, who log in one after the other. For what is
//! counted or measured, not for what is told: they say what a peer says, and answer what they are told.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use access::{Access, Config};
use minicbor::bytes::ByteArray;
use proto::digest;
use proto::node::{Birth, Flow, Input, Lane, Node, Output};
use proto::peer::nat::{Dependence, Verdict};
use proto::peer::words::{self, Allows, LOGIN, Login};
use proto::sip::{Builder, Message, Name, reply};
use proto::tables::{Secret, Tables, User};

/// The access server.
pub const SERVER: &str = "203.0.113.20:5060";
/// Its domain.
pub const DOMAIN: &str = "example.com";
/// Buddies on either side, in a ring.
const NEIGHBOURS: usize = 10;
/// One in so many is behind a NAT that needs a punch: 5 of 20 buddies.
const CLOSED: usize = 4;
/// From one message to the next.
const APART: Duration = Duration::from_micros(100);
/// So long a login may wait for others.
const TOGETHER: Duration = Duration::from_millis(1);

/// An access server, and how many may log in there.
pub struct Crowd {
    /// The server.
    pub access: Access,
    now: Instant,
    count: usize,
    /// Time spent in the server, where somebody looks at a clock.
    clock: fn() -> Instant,
    /// How much of it so far.
    pub spent: Duration,
    /// Requests of the server's own so far.
    pub told: usize,
}

/// The account with this number.
pub fn name(number: usize) -> String {
    format!("e{number:06}")
}

/// Its password.
pub fn password(number: usize) -> String {
    format!("secret of {number}")
}

/// Who may see whom among so many, by name.
pub fn buddies(count: usize) -> impl Iterator<Item = (String, String)> {
    let pair = move |number: usize, step: usize| (name(number), name((number + step) % count));
    (0..count).flat_map(move |number| (1..=NEIGHBOURS).map(move |step| pair(number, step)))
}

impl Crowd {
    /// So many accounts; nobody is logged in. Time in the server is read from `clock`.
    pub fn new(count: usize, now: Instant, clock: fn() -> Instant) -> Crowd {
        Crowd::born(count, now, SystemTime::UNIX_EPOCH, clock)
    }

    fn born(count: usize, now: Instant, wall: SystemTime, clock: fn() -> Instant) -> Crowd {
        let at = |name: String| format!("{name}@{DOMAIN}");
        let buddies = buddies(count).map(|(one, other)| (at(one), at(other))).collect();
        let birth = Birth { now, wall, seed: [7; 32], lane: Lane::default() };
        let config = Config { buddies, ..Config::new(DOMAIN, [3; 32], [4; 32]) };
        let access = Access::new(config, birth);
        Crowd { access, now, count, clock, spent: Duration::ZERO, told: 0 }
    }

    /// The server is another process from now on: it knows nobody.
    pub fn restart(&mut self) {
        // What was asked and answered before is not asked again: a nonce has its time in it.
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(3600);
        let fresh = Crowd::born(self.count, self.now, wall, self.clock);
        *self = Crowd { spent: self.spent, told: self.told, ..fresh };
    }

    /// One logs in with its password, and whoever is told of it answers. Panics when it is not let in.
    pub fn log_in(&mut self, number: usize, tables: &mut dyn Tables) {
        self.log_in_together(number..number + 1, tables);
    }

    /// Some log in, each before those before it have been let in.
    pub fn log_in_together(&mut self, numbers: Range<usize>, tables: &mut dyn Tables) {
        let mut proofs = Vec::new();
        for number in numbers.clone() {
            proofs.push(self.challenged(number, tables));
        }
        let mut answers = Vec::new();
        for (number, proof) in numbers.clone().zip(proofs) {
            answers.extend(self.say(number, proof, tables));
        }
        self.now += TOGETHER;
        answers.extend(self.hand(Input::Wake, tables));
        let let_in = answers.iter().filter(|answer| answer.status() == Some(200)).count();
        assert_eq!(let_in, numbers.len(), "not all are let in from {} on", name(numbers.start));
    }

    /// One is challenged; what it answers.
    fn challenged(&mut self, number: usize, tables: &mut dyn Tables) -> Message {
        let request = request(number);
        let challenged = self.say(number, request.clone(), tables);
        let challenge = challenged[0].text(Name::WwwAuthenticate).expect("a challenge");
        proven(&request, number, challenge, 1)
    }

    /// Hands the server a request; gives its responses, to whomever.
    fn say(&mut self, number: usize, message: Message, tables: &mut dyn Tables) -> Vec<Message> {
        self.now += APART;
        self.hand(Input::Message { flow: flow(number), message }, tables)
    }

    /// Hands the server something, and answers what it asks others; gives its responses.
    fn hand(&mut self, input: Input, tables: &mut dyn Tables) -> Vec<Message> {
        let (mut waiting, mut responses) = (vec![input], Vec::new());
        while let Some(input) = waiting.pop() {
            for (flow, message) in self.handle(input, tables) {
                match message.is_request() {
                    true => {
                        self.told += 1;
                        let message = reply(&message, 200, "told").finish();
                        waiting.push(Input::Message { flow, message });
                    }
                    false => responses.push(message),
                }
            }
        }
        responses
    }

    fn handle(&mut self, input: Input, tables: &mut dyn Tables) -> Vec<(Flow, Message)> {
        let begun = (self.clock)();
        self.access.handle(self.now, input, tables);
        let outputs: Vec<Output> = std::iter::from_fn(|| self.access.poll(tables)).collect();
        self.spent += (self.clock)().saturating_duration_since(begun);
        let sent = outputs.into_iter().filter_map(|output| match output.on_the_wire() {
            Output::Send { flow, bytes, .. } => Some((flow, Message::parse(bytes).ok()?)),
            _ => None,
        });
        sent.collect()
    }

    /// Time passes; what is due is done.
    pub fn wait(&mut self, time: Duration, tables: &mut dyn Tables) {
        self.now += time;
        self.access.handle(self.now, Input::Wake, tables);
        while self.access.poll(tables).is_some() {}
    }
}

/// The outside of its NAT.
fn own(number: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0xc612_0000 + number as u32), 5060))
}

fn flow(number: usize) -> Flow {
    Flow::udp(SERVER.parse().expect("an address"), own(number))
}

/// A login that was challenged, with what its account answers for the so many-th time (RFC 3261 §22.2).
pub fn proven(request: &Message, number: usize, challenge: &str, count: u32) -> Message {
    let covered = digest::Request { method: "REGISTER", body: request.body() };
    let (user, secret, uri) = (name(number), password(number), request.request_uri());
    let proof = digest::answer(challenge, &user, &secret, uri, covered, count, "0123").expect("an answer");
    let via = format!("SIP/2.0/UDP {};branch=z9hG4bKp{number}-{count};rport", own(number));
    request.edit().set_first(Name::Via, &via).append(Name::Authorization, &proof).finish()
}

/// The account of one, as the server's tables have it.
pub fn user(number: usize) -> User {
    User {
        name: name(number),
        secret: Secret::Password(password(number)),
        aors: vec![format!("{}@{DOMAIN}", name(number))],
        anchor: None,
        srtp: None,
        latch: None,
        algorithms: Vec::new(),
    }
}

/// Its REGISTER, as a peer writes it, before it is challenged.
pub fn request(number: usize) -> Message {
    request_of(number, login(number))
}

/// What it says of itself, not signed yet.
pub fn login(number: usize) -> Login {
    let filtering =
        if number.is_multiple_of(CLOSED) { Dependence::AddressAndPort } else { Dependence::Endpoint };
    Login {
        external: Some(own(number)),
        verdict: Verdict::nat(Dependence::Endpoint, filtering),
        hosts: vec![SocketAddr::from(([10, 0, 0, 2], 5060))],
        device: ByteArray::from([0; 32]),
        allows: Allows::default(),
        bind: None,
        proof: ByteArray::from([0; 64]),
    }
}

/// A REGISTER that says this, signed by its device.
pub fn request_of(number: usize, login: Login) -> Message {
    let (aor, call_id) = (format!("{}@{DOMAIN}", name(number)), format!("login-of-{number:06}"));
    let mut secret = [1; 32];
    secret[..8].copy_from_slice(&number.to_be_bytes());
    Builder::request("REGISTER", &format!("sip:{DOMAIN}"))
        .header(Name::Via, format_args!("SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKr{number};rport"))
        .header(Name::MaxForwards, 70)
        .header(Name::From, format_args!("<sip:{aor}>;tag=t{number}"))
        .header(Name::To, format_args!("<sip:{aor}>"))
        .header(Name::CallId, &call_id)
        .header(Name::CSeq, "1 REGISTER")
        .header(Name::Contact, format_args!("<sip:{}@10.0.0.2:5060>", name(number)))
        .header(Name::Expires, 300)
        .body(LOGIN, &words::write(&login.sign(&secret, &aor, &call_id)))
        .finish()
}
