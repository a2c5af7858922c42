//! SYSTEMS §1 step 1, and what becomes of it when the redirect server is slow, silent or unwilling.

use proto::node::Transport;
use proto::node_auth::{NodeKey, Proof};
use proto::tables::Binding;

use super::*;
use crate::tests::testing::{Clock, Maps, address, binding, config};

const ALICE: &str = "alice@example.com";

struct Scene {
    config: Config,
    clock: Clock,
    tables: Maps,
    part: Serving,
    sent: Vec<Sent>,
    warnings: usize,
    /// What the redirect server answers; `None`: nothing.
    answers: Option<u16>,
    extra: &'static str,
}

/// A REGISTER that left.
#[derive(Clone, Debug)]
struct Sent {
    at: f64,
    flow: Flow,
    message: Message,
}

impl Sent {
    fn aor(&self) -> String {
        self.message.to().unwrap().uri().unwrap().aor().unwrap()
    }
    fn expires(&self) -> u32 {
        self.message.expires().unwrap()
    }
}

fn scene() -> Scene {
    let clock = Clock::new();
    let mut config = config();
    config.redirects = vec![redirect("192.0.2.30:5060")];
    Scene {
        config,
        clock,
        tables: Maps::default(),
        part: Serving::new(clock.dice()),
        sent: vec![],
        warnings: 0,
        answers: Some(200),
        extra: "",
    }
}

fn redirect(at: &str) -> Redirect {
    Redirect { name: "redirect".into(), transport: Transport::Udp, address: address(at) }
}

impl Scene {
    fn bound(&self, seconds: u64) -> Binding {
        binding("sip:alice@192.0.2.50", self.clock.now().wall + Duration::from_secs(seconds))
    }

    fn bind(&mut self, aor: &str, seconds: u64) {
        let bindings = if seconds == 0 { vec![] } else { vec![self.bound(seconds)] };
        self.tables.edit_bindings(aor, &mut |list| list.clone_from(&bindings));
        self.part.changed(self.clock.now(), aor, &self.config, &self.tables);
        self.drain();
    }

    /// Sends what is wanted; the server answers at once, or 32 s later comes silence.
    fn drain(&mut self) {
        while let Some(want) = self.part.poll() {
            match want {
                Want::Event(_) => self.warnings += 1,
                Want::Probe { .. } | Want::Ping { .. } | Want::Ask { .. } => {}
                Want::Request { flow, message, id } => {
                    let at = self.clock.now().unix_ms() as f64 / 1000.0 - 1_767_225_600.0;
                    self.sent.push(Sent { at, flow, message: message.clone() });
                    let outcome = match self.answers {
                        Some(status) => Outcome::Final(response(&message, status, self.extra)),
                        None => Outcome::Silence,
                    };
                    self.part.outcome(self.clock.now(), id, outcome, &self.config, &mut self.tables);
                }
            }
        }
    }

    fn run(&mut self, seconds: f64) -> Vec<Sent> {
        let end = self.clock.now().at + Duration::from_secs_f64(seconds);
        let before = self.sent.len();
        while let Some(at) = self.part.deadline().filter(|&at| at <= end) {
            self.clock.until(at);
            self.part.wake(self.clock.now(), &self.config, &mut self.tables);
            self.drain();
        }
        self.clock.until(end);
        self.sent[before..].to_vec()
    }
}

fn response(request: &Message, status: u16, extra: &str) -> Message {
    let response = sip::reply(request, status, "redirect");
    match extra.split_once(": ") {
        Some((name, value)) => response.raw_header(name, value).finish(),
        None => response.finish(),
    }
}

#[test]
fn a_user_with_a_binding_is_registered_at_the_redirect_server() {
    let mut scene = scene();
    scene.bind(ALICE, 3600);
    let [sent] = &scene.sent[..] else { panic!("{:?}", scene.sent) };
    assert_eq!(sent.flow, Flow::udp(address("203.0.113.1:5060"), address("192.0.2.30:5060")));
    assert_eq!((sent.message.request_uri(), sent.aor()), ("sip:192.0.2.30:5060", ALICE.to_string()));
    let contact = sent.message.contacts().next().unwrap().unwrap();
    assert_eq!(contact.raw_uri, "sip:203.0.113.1:5060;transport=udp;lr", "our own next hop, not the phone's");
    assert_eq!(sent.expires(), LIFETIME);
}

#[test]
fn it_proves_itself() {
    let mut scene = scene();
    let key = NodeKey([3; 32]);
    scene.config.siblings.key = Some(key.clone());
    scene.bind(ALICE, 3600);
    let (unix, message) = (scene.clock.now().unix(), &scene.sent[0].message);
    assert_eq!(key.check(message, unix), Proof::Proven);
}

#[test]
fn a_refresh_by_the_phone_tells_nothing_new() {
    let mut scene = scene();
    scene.bind(ALICE, 3600);
    scene.bind(ALICE, 3600);
    assert_eq!(scene.sent.len(), 1);
}

#[test]
fn it_is_told_again_at_half_life_as_long_as_a_binding_lives() {
    let mut scene = scene();
    scene.bind(ALICE, 100_000);
    let again = scene.run(7_300.0);
    assert!((3..=5).contains(&again.len()), "{}", again.len());
    assert!((1_620.0..=1_980.0).contains(&again[0].at), "{}", again[0].at);
    let cseqs: Vec<u32> = scene.sent.iter().map(|sent| sent.message.cseq().unwrap().number).collect();
    assert!(cseqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{cseqs:?}");
    assert!(scene.sent.iter().all(|sent| sent.message.call_id() == scene.sent[0].message.call_id()));
}

#[test]
fn a_server_that_remembers_for_less_is_told_more_often() {
    let mut scene = scene();
    scene.extra = "Expires: 60";
    scene.bind(ALICE, 100_000);
    let again = scene.run(100.0);
    assert!((2..=4).contains(&again.len()), "{}", again.len());
}

#[test]
fn when_the_last_binding_goes_the_user_is_removed() {
    let mut scene = scene();
    scene.bind(ALICE, 3600);
    scene.bind(ALICE, 0);
    assert_eq!(scene.sent.last().map(|sent| (sent.aor(), sent.expires())), Some((ALICE.to_string(), 0)));
    assert!(scene.run(10_000.0).is_empty());
    assert_eq!(scene.part.deadline(), None);
}

#[test]
fn when_the_last_binding_runs_out_the_user_is_removed_then() {
    let mut scene = scene();
    scene.bind(ALICE, 300);
    assert!(scene.run(299.0).is_empty());
    let removed = scene.run(2.0);
    assert_eq!(removed.iter().map(Sent::expires).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_removal_before_we_remember_any_registration_is_told_all_the_same() {
    let mut scene = scene();
    scene.bind(ALICE, 0);
    assert_eq!(scene.sent.iter().map(Sent::expires).collect::<Vec<_>>(), [0]);
}

#[test]
fn every_redirect_server_is_told() {
    let mut scene = scene();
    scene.config.redirects.push(redirect("192.0.2.31:5060"));
    scene.bind(ALICE, 3600);
    let told: Vec<_> = scene.sent.iter().map(|sent| sent.flow.remote).collect();
    assert_eq!(told, [address("192.0.2.30:5060"), address("192.0.2.31:5060")]);
}

#[test]
fn without_a_redirect_server_nothing_is_told() {
    let mut scene = scene();
    scene.config.redirects.clear();
    scene.bind(ALICE, 3600);
    assert!(scene.sent.is_empty() && scene.part.deadline().is_none());
}

#[test]
fn a_silent_server_is_tried_ever_more_slowly_until_it_answers() {
    let mut scene = scene();
    scene.answers = None;
    scene.bind(ALICE, 100_000);
    let tries = scene.run(600.0);
    let gaps: Vec<f64> = tries.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!((12..25).contains(&tries.len()), "{}", tries.len());
    assert!(gaps[0] < 3.0 && gaps[gaps.len() - 1] > 45.0, "{gaps:?}");
    assert_eq!(scene.warnings, 1, "said once");
    scene.answers = Some(200);
    assert_eq!(scene.run(80.0).len(), 1, "then it knows");
}

#[test]
fn a_silent_server_is_asked_for_one_user_at_a_time() {
    let mut scene = scene();
    scene.answers = None;
    for n in 0..100 {
        scene.bind(&format!("u{n}@example.com"), 100_000);
    }
    scene.sent.clear();
    assert!(scene.run(120.0).len() < 15);
    scene.answers = Some(200);
    scene.run(80.0);
    let told: std::collections::BTreeSet<_> = scene.sent.iter().map(Sent::aor).collect();
    assert_eq!(told.len(), 100);
}

#[test]
fn an_unwilling_server_is_not_asked_in_a_loop() {
    for status in [400, 403, 404, 500, 503] {
        let mut scene = scene();
        scene.answers = Some(status);
        scene.bind(ALICE, 100_000);
        assert!((1..12).contains(&scene.run(300.0).len()), "{status}");
    }
}

#[test]
fn a_user_that_is_refused_does_not_hold_up_the_others() {
    let mut scene = scene();
    scene.answers = Some(404);
    scene.bind("refused@example.com", 100_000);
    scene.answers = Some(200);
    scene.bind(ALICE, 3600);
    assert_eq!(scene.sent.last().map(Sent::aor).as_deref(), Some(ALICE));
}

#[test]
fn a_server_that_wants_longer_registrations_gets_them() {
    let mut scene = scene();
    (scene.answers, scene.extra) = (Some(423), "Min-Expires: 7200");
    scene.bind(ALICE, 100_000);
    (scene.answers, scene.extra) = (Some(200), "");
    assert_eq!(scene.run(3.0).iter().map(Sent::expires).collect::<Vec<_>>(), [7200]);
}

#[test]
fn no_more_than_a_window_is_under_way_at_once() {
    let mut scene = scene();
    let mut ids = vec![];
    for n in 0..100 {
        let aor = format!("u{n}@example.com");
        let bound = scene.bound(3600);
        scene.tables.bindings.insert(aor.clone(), vec![bound]);
        scene.part.changed(scene.clock.now(), &aor, &scene.config, &scene.tables);
        while let Some(want) = scene.part.poll() {
            if let Want::Request { message, id, .. } = want {
                ids.push((message, id));
            }
        }
    }
    assert_eq!(ids.len(), WINDOW);
    let (message, id) = ids.remove(0);
    let outcome = Outcome::Final(response(&message, 200, ""));
    scene.part.outcome(scene.clock.now(), id, outcome, &scene.config, &mut scene.tables);
    assert!(matches!(scene.part.poll(), Some(Want::Request { .. })), "the next in line");
    assert!(scene.part.poll().is_none());
}

#[test]
fn after_a_restart_all_are_told_again_at_a_bounded_rate() {
    let mut scene = scene();
    for n in 0..1000 {
        let bound = scene.bound(3600);
        scene.tables.bindings.insert(format!("u{n:04}@example.com"), vec![bound]);
    }
    let over = scene.bound(0);
    scene.tables.bindings.insert("over@example.com".into(), vec![over]);
    scene.part.resume(scene.clock.now(), &scene.config, &scene.tables);
    assert_eq!(scene.run(0.1).len(), 51);
    scene.run(3.0);
    assert_eq!(scene.sent.len(), 1001);
    let removed: Vec<_> = scene.sent.iter().filter(|sent| sent.expires() == 0).map(Sent::aor).collect();
    assert_eq!(removed, ["over@example.com"], "its time ran out while we were away");
}

#[test]
fn a_redirect_server_at_a_new_address_is_told_from_the_beginning() {
    let mut scene = scene();
    scene.bind(ALICE, 100_000);
    scene.config.redirects = vec![redirect("192.0.2.40:5060")];
    scene.bind(ALICE, 100_000);
    assert_eq!(scene.sent.last().map(|sent| sent.flow.remote), Some(address("192.0.2.40:5060")));
}
