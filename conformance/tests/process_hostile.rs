//! A storm on every port of real processes while a call is up: nothing dies, the call doesn't notice, memory stays flat,
//! and nothing is held for those who proved nothing.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use conformance::lab::apart::{Apart, HOME, OFFICE, STRANGER, Service, udp};
use conformance::lab::choir::Choir;
use conformance::lab::domains::{Call, P1, REDIRECT, RELAY, told};
use conformance::lab::phone::Phone;
use conformance::lab::storm::{Dice, Loris, messages, pester, request, spray};

/// What one process may grow by once it is warm, in KiB: an allocator's moods, and no leak worth the name.
const GROWTH: u64 = 8 * 1024;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn sip(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), 5060)
}

/// Three processes, and an anchored call with media that began before the storm.
struct Scene {
    p1: Service,
    relay: Service,
    redirect: Service,
    alice: Phone,
    bob: Phone,
    call: Call,
    choir: Choir,
}

impl Scene {
    fn on(stage: &Apart) -> Scene {
        let (redirect, relay) = (stage.redirect(), stage.relay());
        let p1 = stage.p1(&["alice", "bob"]);
        let mut alice = stage.phone("alice", &format!("{HOME}:5060"));
        let mut bob = stage.phone("bob", &format!("{OFFICE}:5060"));
        let choir = Choir::new(Duration::from_millis(20));
        let (a, b) = (
            choir.join(udp(&format!("{HOME}:4000")), 1, 2),
            choir.join(udp(&format!("{OFFICE}:4000")), 2, 1),
        );
        let call =
            Call::place(&mut alice, &mut bob, address("192.168.1.10:4000"), address("192.168.1.10:4000"));
        choir.speak_to(a, Some(told(&call.ok)));
        choir.speak_to(b, Some(told(&call.invite)));
        choir.all_hear([a, b].into_iter(), 10, Duration::from_secs(5));
        Scene { p1, relay, redirect, alice, bob, call, choir }
    }

    fn services(&self) -> [&Service; 3] {
        [&self.p1, &self.relay, &self.redirect]
    }

    fn memory(&self) -> [u64; 3] {
        self.services().map(Service::memory)
    }

    fn grew_little_since(&self, warm: [u64; 3]) {
        let now = self.memory();
        let grown: Vec<_> = now.iter().zip(warm).map(|(now, warm)| now.saturating_sub(warm)).collect();
        assert!(
            grown.iter().all(|grown| *grown < GROWTH),
            "proxy, relay, redirect grew by {grown:?} KiB to {now:?}"
        );
    }

    /// Another call, from the first word to the last.
    fn carries_another_call(&mut self) {
        let began = Instant::now();
        let media = address("192.168.1.10:4100");
        Call::place(&mut self.alice, &mut self.bob, media, media).hang_up(&mut self.alice, &mut self.bob);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(4), "a call took {took:?}");
    }

    /// Nobody died or panicked, the call is as it was, and only it holds anything.
    fn only_the_call_is_there(&self) {
        for service in self.services() {
            assert_eq!(service.count("panics"), 0, "{}", service.said());
        }
        self.relay.comes_to("sessions", 1, Duration::from_secs(5));
        self.relay.comes_to("ports", 4, Duration::from_secs(5));
        self.p1.comes_to("calls", 1, Duration::from_secs(5));
        let registered = self.redirect.status()["registered"]["redirect"].as_u64();
        assert_eq!(registered, Some(2), "whom the redirect server knows: {}", self.redirect.status());
    }

    /// The call's parties fall silent, hang up, and have missed nothing.
    fn ends_in_peace(mut self) {
        self.choir.all_hear(0..2, 10, Duration::from_secs(5));
        self.call.hang_up(&mut self.alice, &mut self.bob);
        assert_eq!([0, 1].map(|voice| (self.choir.missed(voice), self.choir.strange(voice))), [(0, 0); 2]);
        self.relay.comes_to("ports", 0, Duration::from_secs(10));
        self.p1.comes_to("calls", 0, Duration::from_secs(5));
    }
}

/// One gust: junk at every UDP port, leased and free ones too, connections that misbehave, noise at the control sockets.
fn gust(scene: &Scene, dice: &mut Dice, loris: &mut Loris, number: usize) {
    let stranger = udp(&format!("{STRANGER}:0"));
    let own = stranger.local_addr().unwrap();
    for target in [P1, RELAY, REDIRECT].map(sip) {
        let known = messages(target, own);
        spray(&stranger, known.len(), |at| (known[at].clone(), target));
        spray(&stranger, 250, |_| {
            let message = &known[dice.below(known.len())];
            (dice.mutated(message), target)
        });
        spray(&stranger, 200, |_| (dice.foreign(), target));
    }
    let leased = [told(&scene.call.ok), told(&scene.call.invite)];
    let next = |port: SocketAddr| SocketAddr::new(port.ip(), port.port() + 1);
    let leased = [leased[0], next(leased[0]), leased[1], next(leased[1])];
    spray(&stranger, 400, |at| (dice.foreign(), leased[at % 4]));
    spray(&stranger, 400, |_| {
        (dice.foreign(), SocketAddr::new(leased[0].ip(), 20_000 + dice.below(1000) as u16))
    });
    drop(Loris::new(sip(P1), 3, dice));
    loris.drip(number);
}

#[test]
fn a_storm_on_every_port_disturbs_no_call_and_leaves_nothing_behind() {
    let Some(stage) = Apart::inside("a_storm_on_every_port_disturbs_no_call_and_leaves_nothing_behind")
    else {
        return;
    };
    let mut scene = Scene::on(&stage);
    let mut dice = Dice::new(0x5eed);
    let mut loris = Loris::new(sip(P1), 60, &mut dice);
    let quiet: Vec<_> = scene.services().iter().map(|service| pester(&service.control, &mut dice)).collect();
    let mut warm = [0; 3];
    for number in 0..7 {
        if number == 3 {
            warm = scene.memory();
        }
        gust(&scene, &mut dice, &mut loris, number);
        scene.carries_another_call();
    }
    scene.grew_little_since(warm);
    scene.only_the_call_is_there();
    drop((loris, quiet));
    scene.ends_in_peace();
}

#[test]
fn a_flood_of_invites_without_credentials_allocates_nothing_and_disturbs_nobody() {
    let Some(stage) =
        Apart::inside("a_flood_of_invites_without_credentials_allocates_nothing_and_disturbs_nobody")
    else {
        return;
    };
    let mut scene = Scene::on(&stage);
    let stranger = udp(&format!("{STRANGER}:0"));
    let own = stranger.local_addr().unwrap();
    let targets = [P1, P1, RELAY, REDIRECT].map(sip);
    let mut warm = [0; 3];
    for wave in 0..8 {
        if wave == 3 {
            warm = scene.memory();
        }
        spray(&stranger, 1200, |at| {
            let target = targets[at % targets.len()];
            let method = ["INVITE", "INVITE", "REGISTER"][at % 3];
            (request(method, &format!("{wave}-{at}"), target, own).into_bytes(), target)
        });
        scene.carries_another_call();
    }
    let held = scene.services().map(|service| service.count("transactions"));
    assert!(held.iter().all(|held| *held < 200), "{held:?} transactions, of 9 calls and 9,600 strangers");
    scene.grew_little_since(warm);
    scene.only_the_call_is_there();
    scene.ends_in_peace();
}
