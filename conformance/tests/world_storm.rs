//! A restart storm in the simulated world: an access server that was away comes back, and everybody logs in again.
//!
//! The server takes its time for each message: 50,000 a second for the hundred thousand of the goal, as one core does it
//! (`conformance/bench/PEERS.md`), and as much less for the smaller crowd that runs with the other tests. `POSTERN_LONG=1` plays the
//! goal itself; it takes a minute and 2 GB in a release build.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use access::{Access, Config};
use conformance::company::{ACCESS, DOMAIN, STUN, add_stun};
use conformance::world::{INTERNET, NodeId, Pace, Rules, World};
use endpoint_sim::peer::{Peer, PeerConfig};
use proto::event::{Event, Registration};
use proto::lobby::Before;
use proto::tables::{Secret, User};

const SECOND: Duration = Duration::from_secs(1);
/// The goal, and what runs with the other tests.
const ALL: u32 = 100_000;
const SOME: u32 = 1_000;
/// What the server takes for one message of each.
const MESSAGE_OF_EACH: Duration = Duration::from_secs(2);

/// Peers in a ring: the two beside it are a peer's buddies.
struct Crowd {
    world: World,
    access: NodeId,
    peers: Vec<NodeId>,
}

fn name(n: u32) -> String {
    format!("e{n:06}")
}

impl Crowd {
    /// All are online, and have been for a while.
    fn online(count: u32) -> Crowd {
        let mut world = World::new(7);
        world.stop_recording();
        add_stun(&mut world);
        let aor = |n: u32| format!("{}@{DOMAIN}", name(n % count));
        let mut config = Config::new(DOMAIN, [3; 32], [4; 32]);
        config.buddies = (0..count).map(|n| (aor(n), aor(n + 1))).collect();
        let host = world.host(INTERNET, "203.0.113.20");
        let birth = move |birth| Access::new(config.clone(), birth);
        let access = world.attach(host, "access", &[&format!("udp {ACCESS}")], birth);
        let peers = (0..count).map(|n| add(&mut world, access, n, count)).collect();
        let mut crowd = Crowd { world, access, peers };
        crowd.world.run_for(60 * SECOND);
        assert_eq!(crowd.count_online(), count as usize);
        crowd
    }

    fn count_online(&self) -> usize {
        self.world.node::<Access>(self.access).status().online
    }

    /// When each login came that made somebody known, counted from `since`.
    fn logins(&self, since: Duration) -> Vec<Duration> {
        let is_new = |event: &Event| matches!(event, Event::Registered { change: Registration::New, .. });
        let events = self.world.events().iter().filter(|(at, _, event)| *at >= since && is_new(event));
        events.map(|(at, ..)| *at - since).collect()
    }
}

/// One more peer. Its address stands for a NAT's outside: nothing else of a NAT matters here.
fn add(world: &mut World, access: NodeId, n: u32, count: u32) -> NodeId {
    world.tables(access).add_user(User {
        name: name(n),
        secret: Secret::Password("secret".to_owned()),
        aors: vec![format!("{}@{DOMAIN}", name(n))],
        anchor: None,
        srtp: None,
        latch: None,
        algorithms: Vec::new(),
    });
    let local = SocketAddr::from((Ipv4Addr::from(0xc612_0000 + n), 5060));
    let host = world.host(INTERNET, &local.ip().to_string());
    let address = |text: &str| text.parse().expect("an address");
    let mut config = PeerConfig::new(&name(n), DOMAIN, local, address(ACCESS), address(STUN[0]));
    config.password = "secret".to_owned();
    config.secret[..4].copy_from_slice(&n.to_be_bytes());
    config.remembered = Some(conformance::company::verdict(Some(Rules::PORT_RESTRICTED)));
    let node = world
        .attach(host, &name(n), &[&format!("udp {local}")], move |birth| Peer::new(birth, config.clone()));
    // They did not all come at one moment.
    world.run_for(20 * SECOND / count);
    node
}

/// Those who missed the server, and those who did not, because it was back at once.
#[test]
fn after_a_restart_all_are_logged_in_again_within_twenty_seconds_and_come_evenly() {
    let count = if std::env::var_os("POSTERN_LONG").is_some() { ALL } else { SOME };
    for away in [Duration::ZERO, 40 * SECOND] {
        let mut crowd = Crowd::online(count);
        let handling = MESSAGE_OF_EACH / count;
        crowd.world.slow_down(
            crowd.access,
            Pace { reading: Duration::ZERO, handling, lobby: Some(Before::Access), quota: None },
        );
        crowd.world.kill(crowd.access);
        crowd.world.run_for(away);
        let back = crowd.world.now();
        crowd.world.restart(crowd.access);
        crowd.world.run_for(20 * SECOND);
        assert_eq!(crowd.count_online(), count as usize, "away for {away:?}");
        crowd.world.run_for(SECOND);
        let logins = crowd.logins(back);
        assert_eq!(logins.len(), count as usize, "each of them once, away for {away:?}");
        let knows = |node: &NodeId| crowd.world.node::<Peer>(*node).report().logged_in;
        assert!(crowd.peers.iter().all(knows), "away for {away:?}");
        let within = |n: u32| logins.iter().filter(|at| (n * SECOND..(n + 1) * SECOND).contains(at)).count();
        let seconds: Vec<usize> = (0..20).map(within).collect();
        println!("away for {away:?}, logins in each second: {seconds:?}");
        // A tenth in each of ten seconds, and as much again for chance.
        assert!(seconds.iter().all(|came| *came <= count as usize / 5), "away for {away:?}: {seconds:?}");
    }
}
