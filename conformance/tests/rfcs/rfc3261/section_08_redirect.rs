//! §8.3: the redirect server, asked by itself over loopback, where our nodes need no proof.

use std::time::{Duration, Instant, SystemTime};

use conformance::world::WorldTables;
use proto::node::{Birth, Flow, Input, Lane, Node, Output};
use proto::sip::{Message, Name};
use redirect::{Config, Redirect};

use crate::desk::{Draft, at, register, request};

const SERVER: &str = "127.0.0.1:5070";
/// Two proxies.
const P1: &str = "127.0.0.1:5060";
const P2: &str = "127.0.0.1:5080";

struct Server {
    node: Redirect,
    tables: WorldTables,
    now: Instant,
}

impl Server {
    /// One that knows that P2 serves bob.
    fn serving_bob() -> Server {
        let now = Instant::now();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let birth = Birth { now, wall, seed: [5; 32], lane: Lane::default() };
        let node = Redirect::new(Config::default(), birth);
        let mut server = Server { node, tables: WorldTables::default(), now };
        let bound = server.hear(P2, register("bob").with("Contact", &format!("<sip:{P2};lr>")));
        assert_eq!(bound.status(), Some(200), "{bound:?}");
        server
    }

    /// What it says to this; it says one thing.
    fn hear(&mut self, from: &str, draft: Draft) -> Message {
        let mut sent = self.hear_all(from, draft);
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    fn hear_all(&mut self, from: &str, draft: Draft) -> Vec<Message> {
        let message = Message::parse(draft.text().into()).expect("a SIP message");
        let flow = Flow::udp(at(SERVER), at(from));
        self.node.handle(self.now, Input::Message { flow, message }, &mut self.tables);
        self.sent()
    }

    fn pass(&mut self, time: Duration) -> Vec<Message> {
        let (until, mut sent) = (self.now + time, Vec::new());
        while let Some(due) = self.node.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.node.handle(self.now, Input::Wake, &mut self.tables);
            sent.extend(self.sent());
        }
        self.now = until;
        sent
    }

    fn sent(&mut self) -> Vec<Message> {
        let outputs = std::iter::from_fn(|| self.node.poll(&mut self.tables));
        let sent = outputs.filter_map(|output| match output.on_the_wire() {
            Output::Send { bytes, .. } => Some(Message::parse(bytes).expect("a SIP message")),
            _ => None,
        });
        sent.collect()
    }
}

/// An INVITE for bob as P1 asks.
fn who_serves_bob() -> Draft {
    request("INVITE", "sip:bob@example.com").with("Via", &format!("SIP/2.0/UDP {P1};branch=z9hG4bKask"))
}

/// §8.3: where somebody serves the address, the answer is a 3xx with the places to try in Contact.
#[test]
fn the_answer_says_where_to_try() {
    let answer = Server::serving_bob().hear(P1, who_serves_bob());
    assert_eq!((answer.status(), answer.text(Name::Contact)), (Some(302), Some("<sip:127.0.0.1:5080;lr>")));
}

/// §8.3: several places are named in the order of their preference, as q says it.
#[test]
fn places_have_an_order() {
    let mut server = Server::serving_bob();
    let more = register("bob").with("Contact", "<sip:127.0.0.1:5090;lr>;q=0.9").with("Call-ID", "another");
    server.hear("127.0.0.1:5090", more.branch("z9hG4bKmore"));
    let answer = server.hear(P1, who_serves_bob());
    let places: Vec<&str> = answer.values(Name::Contact).collect();
    assert_eq!(places, ["<sip:127.0.0.1:5080;lr>;q=1.000", "<sip:127.0.0.1:5090;lr>;q=0.900"]);
}

/// §8.3: nobody is redirected to the URI that was asked for, nor the asker to itself.
#[test]
fn nobody_is_sent_round_in_a_circle() {
    let mut server = Server::serving_bob();
    let itself = register("bob").with("Contact", "<sip:bob@EXAMPLE.com>").with("CSeq", "2 REGISTER");
    assert_eq!(server.hear(P2, itself.branch("z9hG4bKself")).status(), Some(400));
    let asked_by_p2 = who_serves_bob().with("Via", &format!("SIP/2.0/UDP {P2};branch=z9hG4bKp2"));
    assert_eq!(server.hear(P2, asked_by_p2).status(), Some(480));
}

/// §8.3: a redirect server sends no request of its own, and keeps a transaction as long as its answer is not acknowledged.
#[test]
fn it_answers_and_does_nothing_else() {
    let mut server = Server::serving_bob();
    let answer = server.hear(P1, who_serves_bob());
    let again = server.pass(Duration::from_millis(500));
    assert_eq!(again.iter().map(Message::bytes).collect::<Vec<_>>(), [answer.bytes()]);
    let ack = who_serves_bob().method("ACK").with("CSeq", "1 ACK").with("To", answer.text(Name::To).unwrap());
    assert!(server.hear_all(P1, ack).is_empty());
    assert!(server.pass(Duration::from_secs(64)).is_empty());
}

/// §8.3: a CANCEL is answered 2xx, though its INVITE was answered before.
#[test]
fn a_cancel_comes_too_late() {
    let mut server = Server::serving_bob();
    server.hear(P1, who_serves_bob());
    assert_eq!(server.hear(P1, who_serves_bob().cancel()).status(), Some(200));
}

/// §8.3: a header or method it does not know is passed over or refused; what is required and unknown is 420.
#[test]
fn what_it_does_not_know_harms_nobody() {
    let mut server = Server::serving_bob();
    let strange = who_serves_bob().adding("X-Strange", "yes").adding("Supported", "x-thing");
    assert_eq!(server.hear(P1, strange).status(), Some(302));
    let required = who_serves_bob().adding("Require", "x-thing").branch("z9hG4bKrequired");
    let refused = server.hear(P1, required);
    assert_eq!((refused.status(), refused.text(Name::Unsupported)), (Some(420), Some("x-thing")));
    let method = request("PUBLISH", "sip:bob@example.com").branch("z9hG4bKmethod");
    assert_eq!(server.hear(P1, method).status(), Some(405));
}
