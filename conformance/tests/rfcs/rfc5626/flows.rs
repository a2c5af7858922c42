//! RFC 5626 from end to end, in simulated time: a phone behind a NAT with a flow to each of two edge proxies, a registrar
//! behind them that knows the flows by their Paths, and somebody in public who calls the phone.
//!
//! ```text
//!   alice 10.0.0.2 ── NAT ──┬── E1 203.0.113.3 ──┬── R 203.0.113.1 ── bob 192.0.2.20
//!                           └── E2 203.0.113.4 ──┘
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use conformance::cast::{P1, add_phone_with, add_proxy_with, add_relay, proxy_config, script};
use conformance::world::{GatewayId, INTERNET, NodeId, Rules, World};
use endpoint_sim::{Act, After, Outbound, Phone, Report, Script, Step};
use proto::node::Transport;
use proto::tables::Anchor;
use proxy::config::{Goes, Listener, NextHop, Pattern, Route, Server, Siblings, Trunk};

const EDGES: [&str; 2] = ["203.0.113.3:5060", "203.0.113.4:5060"];

struct Stage {
    world: World,
    nat: GatewayId,
    edges: [NodeId; 2],
    alice: NodeId,
    bob: NodeId,
}

/// An edge proxy keeps no accounts: what is for example.com goes to the registrar.
fn edge(at: &str) -> proxy::Config {
    let base = proxy_config(at);
    let open = |own: Listener| Listener { authenticate: false, ..own };
    let next = NextHop { host: "203.0.113.1".into(), port: Some(5060), transport: None };
    let registrar = Trunk { servers: vec![Server::new(next)], trusted: true, ..Trunk::named("registrar") };
    let domain = Pattern::Exact("example.com".into());
    proxy::Config {
        listeners: base.listeners.into_iter().map(open).collect(),
        domains: vec!["edge.example".into()],
        realm: "edge.example".into(),
        siblings: Siblings { cidrs: Vec::new(), ..base.siblings },
        redirects: Vec::new(),
        trunks: vec![Arc::new(registrar)],
        routes: vec![Route { domain, ..Route::plain(Goes::Trunks(vec![0])) }],
        ..proxy_config(at)
    }
}

/// The registrar leaves media to the edges.
fn registrar() -> proxy::Config {
    let base = proxy_config(P1);
    let siblings = Siblings { cidrs: Vec::new(), ..base.siblings };
    proxy::Config {
        siblings,
        redirects: Vec::new(),
        relays: Vec::new(),
        anchor: Anchor::Never,
        ..proxy_config(P1)
    }
}

/// Alice's first flow by one transport, her second by another. She takes every call and never hangs up; bob follows his script.
fn stage(seed: u64, [first, second]: [Transport; 2], bob: Script) -> Stage {
    let mut world = World::new(seed);
    add_proxy_with(&mut world, "R", P1, registrar());
    let edges =
        [("E1", EDGES[0]), ("E2", EDGES[1])].map(|(name, at)| add_proxy_with(&mut world, name, at, edge(at)));
    add_relay(&mut world, 100);
    let nat = world.nat("nat", INTERNET, "198.51.100.1", Rules::PORT_RESTRICTED);
    let inside = world.inside(nat);
    let addr = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let outbound =
        Outbound::new("urn:uuid:00000000-0000-4000-8000-00000000000a", vec![(second, addr(EDGES[1]))]);
    let by_both = |config: &mut endpoint_sim::PhoneConfig| {
        config.transport = first;
        config.outbound = Some(outbound.clone());
    };
    let (_, alice) =
        add_phone_with(&mut world, (inside, "10.0.0.2"), "alice", EDGES[0], script(vec![]), by_both);
    let (_, bob) = add_phone_with(&mut world, (INTERNET, "192.0.2.20"), "bob", P1, bob, |_| ());
    Stage { world, nat, edges, alice, bob }
}

/// Bob calls alice so many seconds after he has registered, again and again, and talks for two.
fn calls_at(times: &[u64]) -> Script {
    let mut steps = Vec::new();
    let mut before = 0;
    for at in times {
        let after = if before == 0 { After::Registered } else { After::Ended };
        steps.push(Step::call("sip:alice@example.com", after, (at - before) * 1000));
        steps.push(Step::new(Act::HangUp, After::Answered, 2000));
        before = *at;
    }
    script(steps)
}

impl Stage {
    fn report(&self, phone: NodeId) -> &Report {
        self.world.node::<Phone>(phone).report()
    }

    fn run(&mut self, seconds: u64) {
        self.world.run_for(Duration::from_secs(seconds));
    }

    /// Runs until alice has so many flows; how many seconds that took.
    fn until_flows(&mut self, flows: usize) -> f64 {
        let (alice, began) = (self.alice, self.world.now());
        let so = self
            .world
            .run_until(|w| w.node::<Phone>(alice).report().flows == flows, Duration::from_secs(4000));
        assert!(so, "never {flows} flows: {:#?}", self.report(alice));
        (self.world.now() - began).as_secs_f64()
    }

    /// Bob's call that begins now is heard at both ends.
    fn hears(&mut self) {
        let bob = self.bob;
        let calls = self.world.run_until(|w| w.node::<Phone>(bob).report().answered, Duration::from_secs(60));
        assert!(calls, "{:#?}\n{}", self.report(bob), self.world.ladder());
        let over = self
            .world
            .run_until(|w| w.node::<Phone>(bob).report().ended_by.is_some(), Duration::from_secs(60));
        let (alice, bob) = (self.report(self.alice), self.report(self.bob));
        assert!(
            over && alice.audio_both_ways && bob.audio_both_ways,
            "{alice:#?}\n{bob:#?}\n{}",
            self.world.ladder()
        );
    }
}

const BOTH: [[Transport; 2]; 3] =
    [[Transport::Udp, Transport::Udp], [Transport::Tcp, Transport::Tls], [Transport::Udp, Transport::Tcp]];

/// §4.2, §4.4: both flows are registered, and kept for an hour without a REGISTER too many or a failure.
#[test]
fn two_flows_stand_and_are_kept_alive() {
    for transports in BOTH {
        let mut stage = stage(1, transports, calls_at(&[3000]));
        stage.until_flows(2);
        stage.run(2990);
        stage.hears();
        let alice = stage.report(stage.alice);
        assert_eq!((alice.flows, alice.flow_failures), (2, 0), "{transports:?}");
    }
}

/// §4.5, §7: an edge dies. Calls come by the other flow at once, alice notices within her keep-alives, waits 45–90 s between
/// her attempts at first, then twice as long, and has both flows again when the edge is back.
#[test]
fn the_other_flow_carries_calls_until_a_dead_edge_is_back() {
    for transports in BOTH {
        for (seed, dead) in [(2, 0), (3, 1)] {
            let mut stage = stage(seed, transports, calls_at(&[20, 200]));
            stage.until_flows(2);
            let killed = stage.edges[dead];
            stage.world.kill(killed);
            stage.hears();
            // STUN gives up after 29 + 39.5 s, a connection by its end.
            assert!(stage.until_flows(1) < 75.0, "{transports:?}");
            stage.hears();
            assert_eq!(stage.report(stage.alice).flow_failures, 1);
            stage.world.restart(killed);
            let back = stage.until_flows(2);
            assert!(back < 1800.0, "{back} s, {transports:?}");
        }
    }
}

/// §4.5: no flow stands: 15–30 s, not 45–90.
#[test]
fn with_every_flow_gone_the_first_attempt_comes_sooner() {
    let mut stage = stage(4, [Transport::Tcp, Transport::Tcp], script(vec![]));
    stage.until_flows(2);
    for edge in stage.edges {
        stage.world.restart(edge);
    }
    stage.until_flows(0);
    let again = stage.until_flows(1);
    assert!((15.0..91.0).contains(&again), "{again}");
    assert!(stage.until_flows(2) < 91.0);
}

/// §4.4.2: the NAT forgets its mappings. A flow over UDP is found out by where its probe is seen, one over TCP by its end.
#[test]
fn flows_whose_mapping_is_lost_are_made_anew() {
    for transports in BOTH {
        let mut stage = stage(5, transports, calls_at(&[400]));
        stage.until_flows(2);
        stage.run(100);
        stage.world.rebind(stage.nat, Some("198.51.100.9"));
        stage.run(295);
        assert!(
            stage.report(stage.alice).flow_failures >= 2,
            "{transports:?}: {:#?}",
            stage.report(stage.alice)
        );
        assert_eq!(stage.report(stage.alice).flows, 2, "{transports:?}");
        stage.hears();
    }
}

/// §4.3: alice calls. Her edge dies while she is idle: the call goes by the other one.
#[test]
fn a_call_of_hers_takes_a_flow_that_stands() {
    for transports in [[Transport::Tcp, Transport::Udp], [Transport::Tcp, Transport::Tcp]] {
        let mut stage = stage(6, transports, script(vec![]));
        stage.until_flows(2);
        stage.world.kill(stage.edges[0]);
        let alice = stage.alice;
        stage.run(1);
        stage.world.with(alice, |phone: &mut Phone, now| phone.call_now(now, "sip:bob@example.com"));
        stage.run(5);
        let (alice, bob) = (stage.report(stage.alice), stage.report(stage.bob));
        assert!(alice.audio_both_ways && bob.audio_both_ways, "{alice:#?}\n{}", stage.world.ladder());
    }
}
