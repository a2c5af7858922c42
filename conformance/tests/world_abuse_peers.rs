//! Who would abuse a reflector, line by line (SYSTEMS §3): what it gets is dropped, counted, and nothing is sent to anybody. And who would
//! be somebody else at the access server, or somewhere else.

use std::net::SocketAddr;
use std::time::Duration;

use access::Access;
use conformance::company::{ACCESS, Company, Guest, REFLECTOR};
use conformance::crowd;
use conformance::world::{INTERNET, Mute, NodeId, Rules};
use proto::node::Input;
use proto::peer::ticket::{Class, HOPS, REFLECTED, TOKEN, TOKEN_LIFE_S, Why};
use proto::peer::words::{Login, Notice, Profile, Route, read, write};
use proto::sip::{Message, Name};
use reflector::{Counts, Reflector};

const SECOND: Duration = Duration::from_secs(1);
const VICTIM: &str = "192.0.2.99:53";
const MALLORY: &str = "192.0.2.66:5060";

/// Two symmetric peers that hear one another by the reflector, a packet of theirs, and somebody else.
struct Scene {
    company: Company,
    e1: Guest,
    mallory: NodeId,
    victim: NodeId,
    /// What e1 sent to the reflector.
    packet: Vec<u8>,
    /// From where the reflector sees e1.
    seen: SocketAddr,
}

impl Scene {
    fn new() -> Scene {
        let mut company = Company::with_reflector(1, &[("e1", "e2")]);
        let e2 = company.add("e2", Some(Rules::SYMMETRIC));
        company.until_logged_in(e2);
        let begun = company.world.packets().len();
        let e1 = company.add("e1", Some(Rules::SYMMETRIC));
        company.until_sees(e2, "e1", true, 10 * SECOND);
        let at: SocketAddr = REFLECTOR.parse().unwrap();
        let is_reflected = |bytes: &[u8]| bytes.len() > TOKEN && bytes[TOKEN..].starts_with(b"NOTIFY");
        let place = company.place(begun, "a packet for the reflector", |entry| {
            entry.from == e1.node && entry.sent.1 == at && is_reflected(&entry.bytes)
        });
        let entry = &company.world.packets()[place];
        let conformance::world::Fate::Arrived { seen, .. } = &entry.fate else { panic!("it arrived") };
        let (packet, seen) = (entry.bytes.to_vec(), seen.0);
        let mut party = |name: &str, at: &str| {
            let host = company.world.host(INTERNET, at.split_once(':').unwrap().0);
            company.world.attach(host, name, &[&format!("udp {at}")], |_| Mute::default())
        };
        let (mallory, victim) = (party("mallory", MALLORY), party("victim", VICTIM));
        company.world.run_for(SECOND);
        Scene { company, e1, mallory, victim, packet, seen }
    }

    fn unix(&self) -> u32 {
        1_767_225_600 + self.company.world.now().as_secs() as u32
    }

    fn counts(&self) -> Counts {
        self.company.world.node::<Reflector>(self.company.reflector.unwrap()).counts()
    }

    /// From e1's own socket, through its NAT: what it sends has the source its tokens are for.
    fn by_e1(&mut self, bytes: &[u8]) {
        self.company.world.inject(self.e1.node, "10.0.0.2:5060", REFLECTOR, bytes);
    }

    fn by_mallory(&mut self, bytes: &[u8]) {
        self.company.world.inject(self.mallory, MALLORY, REFLECTOR, bytes);
    }

    /// A packet with a token of the true keys.
    fn minted(&self, from: SocketAddr, to: &str, unix: u32, said: &[u8]) -> Vec<u8> {
        let token = self.company.keys().mint(from, to.parse().unwrap(), Class::Message, unix).unwrap();
        [&token[..], said].concat()
    }

    /// Lets it come to that; what was dropped by each check since, and how many packets left the reflector.
    fn settle(&mut self, before: Counts, from: usize) -> ([u64; Why::ALL.len()], usize) {
        self.company.world.run_for(SECOND / 10);
        let after = self.counts();
        let dropped = Why::ALL.map(|why| after.dropped_by(why) - before.dropped_by(why));
        let reflector = self.company.reflector.unwrap();
        let packets = &self.company.world.packets()[from..];
        let asked = |bytes: &[u8]| proto::stun::is_stun(bytes);
        let sent = packets.iter().filter(|entry| entry.from == reflector && !asked(&entry.bytes)).count();
        assert!(self.company.world.node::<Mute>(self.victim).heard.is_empty(), "the victim heard something");
        (dropped, sent)
    }

    fn mark(&self) -> (Counts, usize) {
        (self.counts(), self.company.world.packets().len())
    }
}

fn dropped(why: Why, count: u64) -> [u64; Why::ALL.len()] {
    Why::ALL.map(|other| if other == why { count } else { 0 })
}

#[test]
fn a_forged_token_passes_nowhere_whichever_byte_of_it_was_changed() {
    let mut scene = Scene::new();
    let (before, from) = scene.mark();
    for byte in 0..TOKEN {
        let mut forged = scene.packet.clone();
        forged[byte] ^= 1;
        scene.by_e1(&forged);
    }
    let (dropped, sent) = scene.settle(before, from);
    assert_eq!((dropped.iter().sum::<u64>(), sent), (TOKEN as u64, 0), "{dropped:?}");
}

#[test]
fn a_replay_from_elsewhere_is_forged() {
    let mut scene = Scene::new();
    let ((before, from), packet) = (scene.mark(), scene.packet.clone());
    scene.by_mallory(&packet);
    assert_eq!(scene.settle(before, from), (dropped(Why::Forged, 1), 0));
}

/// Whoever may send may send again, but a destination gets no more than its rate.
#[test]
fn a_replay_by_the_sender_itself_is_bounded_by_the_rate() {
    let mut scene = Scene::new();
    let ((before, from), packet) = (scene.mark(), scene.packet.clone());
    (0..1000).for_each(|_| scene.by_e1(&packet));
    let (dropped, sent) = scene.settle(before, from);
    let by_rate = dropped[Why::Rate as usize];
    assert!(sent as u64 + by_rate >= 1000 && sent <= 200, "{sent} sent, {by_rate} dropped");
}

#[test]
fn an_expired_token_is_dropped() {
    let mut scene = Scene::new();
    let ((before, from), unix) = (scene.mark(), scene.unix());
    let old = scene.minted(scene.seen, VICTIM, unix - TOKEN_LIFE_S - 1, b"too late");
    scene.by_e1(&old);
    assert_eq!(scene.settle(before, from), (dropped(Why::Expired, 1), 0));
}

#[test]
fn its_own_address_and_private_ones_are_no_destination() {
    let mut scene = Scene::new();
    let ((before, from), unix) = (scene.mark(), scene.unix());
    let nowhere = [REFLECTOR, "10.0.0.2:5060", "127.0.0.1:5060", "224.0.0.1:5060", "169.254.1.1:1"];
    for to in nowhere {
        let packet = scene.minted(scene.seen, to, unix, b"back to where it came from");
        scene.by_e1(&packet);
    }
    assert_eq!(scene.settle(before, from), (dropped(Why::Destination, nowhere.len() as u64), 0));
}

#[test]
fn what_leaves_is_shorter_than_what_came_whatever_its_length() {
    let mut scene = Scene::new();
    let unix = scene.unix();
    for length in [1, 2, 20, 500, 1456] {
        let (before, from) = scene.mark();
        let packet = scene.minted(scene.seen, MALLORY, unix, &vec![b'x'; length]);
        scene.by_e1(&packet);
        assert_eq!(scene.settle(before, from), ([0; Why::ALL.len()], 1), "{length}");
        let heard = &scene.company.world.node::<Mute>(scene.mallory).heard;
        assert_eq!(heard.len(), 1 + [1, 2, 20, 500, 1456].iter().position(|n| *n == length).unwrap());
        let reflector = scene.company.reflector.unwrap();
        let sent = scene.company.world.packets()[from..].iter().find(|entry| entry.from == reflector);
        assert_eq!(sent.unwrap().bytes.len(), packet.len() + REFLECTED - TOKEN);
    }
    let (before, from) = scene.mark();
    for bad in
        [scene.minted(scene.seen, MALLORY, unix, b""), scene.minted(scene.seen, MALLORY, unix, &[0; 1457])]
    {
        scene.by_e1(&bad);
    }
    assert_eq!(scene.settle(before, from), (dropped(Why::Length, 2), 0), "nothing in it, or too much");
}

/// A reflector does not pass on what a reflector has passed on, and no token allows two.
#[test]
fn there_are_no_loops() {
    let mut scene = Scene::new();
    let unix = scene.unix();
    // What comes out, sent in again by who got it.
    let packet = scene.minted(scene.seen, MALLORY, unix, b"round and round");
    let (_, from) = scene.mark();
    scene.by_e1(&packet);
    scene.company.world.run_for(SECOND / 10);
    let reflector = scene.company.reflector.unwrap();
    let came = scene.company.world.packets()[from..].iter().find(|entry| entry.from == reflector);
    let came = came.expect("it was passed on").bytes.to_vec();
    let (before, from) = scene.mark();
    let longer = [&came[..], &[0; TOKEN]].concat();
    scene.by_mallory(&came);
    scene.by_mallory(&longer);
    let (lost, sent) = scene.settle(before, from);
    assert_eq!((lost.iter().sum::<u64>(), sent), (2, 0), "{lost:?}");
    // More hops than one reflector, or none left.
    let (before, from) = scene.mark();
    for hops in [0, HOPS + 1, 255] {
        let mut packet = packet.clone();
        packet[27] = hops;
        scene.by_e1(&packet);
    }
    assert_eq!(scene.settle(before, from), (dropped(Why::Hops, 3), 0));
}

/// What the access server answers to a request from here.
fn answer(company: &mut Company, from: NodeId, request: &Message) -> Message {
    let heard = company.world.node::<Mute>(from).heard.len();
    company.world.inject(from, MALLORY, ACCESS, request.bytes());
    company.world.run_for(SECOND);
    let heard = &company.world.node::<Mute>(from).heard[heard..];
    let answer = heard.iter().find_map(|input| match input {
        Input::Message { message, .. } if !message.is_request() => Some(message.clone()),
        _ => None,
    });
    answer.expect("an answer")
}

/// The server's challenge to a login from here.
fn challenge(company: &mut Company, from: NodeId, request: &Message) -> String {
    let challenged = answer(company, from, request);
    challenged.text(Name::WwwAuthenticate).expect("a challenge").to_owned()
}

/// Logs one in from here; gives its profile. The server asks for a proof first.
fn log_in(company: &mut Company, from: NodeId, bind: Option<(SocketAddr, [u8; 24])>) -> Profile {
    let bind = bind.map(|(seen, ticket)| (seen, ticket.into()));
    let request = crowd::request_of(0, Login { bind, ..crowd::login(0) });
    let challenge = challenge(company, from, &request);
    let response = answer(company, from, &crowd::proven(&request, 0, &challenge, 1));
    assert_eq!(response.status(), Some(200));
    read(response.body()).expect("a profile")
}

/// A company with the account that mallory logs in to, and mallory.
fn with_mallory(pair: (&str, &str)) -> (Company, NodeId) {
    let mut company = Company::with_reflector(1, &[pair]);
    company.world.tables(company.access).add_user(crowd::user(0));
    let host = company.world.host(INTERNET, "192.0.2.66");
    let mallory = company.world.attach(host, "mallory", &[&format!("udp {MALLORY}")], |_| Mute::default());
    (company, mallory)
}

/// SHA-256 and nothing weaker, and the signature of the device over what it says, as this account and in this registration.
#[test]
fn what_account_and_device_have_not_proven_is_no_login() {
    let (mut company, mallory) = with_mallory(("e1", &crowd::name(0)));
    let request = crowd::request(0);
    let asked = challenge(&mut company, mallory, &request);
    assert!(asked.contains("algorithm=SHA-256"), "{asked}");
    let weaker = asked.replace("SHA-256", "MD5");
    let others = crowd::proven(&request, 1, &asked, 1);
    let others_proof = others.text(Name::Authorization).expect("a proof");
    let in_its_name = others_proof.replace(&crowd::name(1), &crowd::name(0));
    let wrong = others.edit().set(Name::Authorization, &in_its_name).finish();
    for (case, login) in [("MD5", crowd::proven(&request, 0, &weaker, 1)), ("another's password", wrong)] {
        assert_eq!(answer(&mut company, mallory, &login).status(), Some(401), "{case}");
    }
    let unsigned = request.edit().body(&write(&crowd::login(0))).finish();
    let asked = challenge(&mut company, mallory, &unsigned);
    let answered = answer(&mut company, mallory, &crowd::proven(&unsigned, 0, &asked, 2));
    assert_eq!(answered.status(), Some(403), "the device has not signed");
    assert_eq!(company.world.node::<Access>(company.access).status().online, 0);
}

/// It says that it is elsewhere: neither it nor its buddies are told so.
#[test]
fn where_a_login_comes_from_counts_and_not_what_it_says() {
    let (mut company, mallory) = with_mallory(("e1", &crowd::name(0)));
    let e1 = company.add("e1", Some(Rules::PORT_RESTRICTED));
    company.until_logged_in(e1);
    let (begun, seen) = (company.world.packets().len(), MALLORY.parse().unwrap());
    assert_ne!(crowd::login(0).external, Some(seen));
    assert_eq!(log_in(&mut company, mallory, None).you, seen);
    let told = company.world.packets()[begun..].iter().filter_map(|entry| match read(entry.sip()?.body())? {
        Notice::Punch(buddy, _) => Some(buddy.external),
        _ => None,
    });
    let told: Vec<Option<SocketAddr>> = told.collect();
    assert!(!told.is_empty() && told.iter().all(|external| *external == Some(seen)), "{told:?}");
}

/// Whoever logs in says where the reflector sees it, and shows the reflector's ticket for that. With a false one nobody is given a
/// token: neither it for its buddies, nor they for where it says it is.
#[test]
fn a_login_with_a_false_ticket_brings_nobody_a_token() {
    let mallory_at: SocketAddr = MALLORY.parse().unwrap();
    for (case, is_true) in
        [("true", true), ("of another address", false), ("made up", false), ("none", false)]
    {
        let (mut company, mallory) = with_mallory(("e1", &crowd::name(0)));
        let e1 = company.add("e1", Some(Rules::SYMMETRIC));
        company.until_logged_in(e1);
        let request = proto::stun::Writer::request([1; 12]).finish();
        company.world.inject(mallory, MALLORY, REFLECTOR, &request);
        company.world.run_for(SECOND);
        let heard = &company.world.node::<Mute>(mallory).heard;
        let ticket = heard.iter().find_map(|input| {
            let Input::Other { bytes, .. } = input else { return None };
            let answer = proto::stun::Message::parse(bytes)?;
            answer.attribute(proto::stun::attribute::BIND_TICKET)?.try_into().ok()
        });
        let ticket: [u8; 24] = ticket.expect("the reflector answers with a ticket");
        let bind = match case {
            "true" => Some((mallory_at, ticket)),
            "of another address" => Some((VICTIM.parse().unwrap(), ticket)),
            "made up" => Some((mallory_at, [7; 24])),
            _ => None,
        };
        let begun = company.world.packets().len();
        let profile = log_in(&mut company, mallory, bind);
        assert_eq!(profile.routes[0].token.is_some(), is_true, "its own, {case}");
        let told =
            company.world.packets()[begun..].iter().filter_map(|entry| match read(entry.sip()?.body())? {
                Notice::Punch(_, route) => Some(route),
                _ => None,
            });
        let told: Vec<Route> = told.collect();
        assert!(told.iter().all(|route| route.token.is_some() == is_true), "e1's, {case}");
        assert!(!is_true || !told.is_empty(), "where the ticket is true e1 is told");
    }
}
