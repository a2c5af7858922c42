//! Acceptance 1j: Postern between a LAN and the internet, with a one-to-one NAT outside. The media addresses each side
//! is shown are those of its own network. (Record-Route names both networks to both sides: RFC 5658 §3 wants it so.)

use std::time::Duration;

use conformance::cast::{add_phone, add_users, alice_calls, proxy_config, script, without_chance};
use conformance::world::{Entry, INTERNET, NodeId, Rules, World};
use endpoint_sim::{Phone, Script};
use proto::cidr::Cidr;
use proxy::config::{MediaRange, Network};

const INSIDE: &str = "192.168.5.1:5060";
const OUTSIDE: &str = "10.1.0.1:5060";
const ADVERTISED: &str = "198.51.100.10:5060";
const RELAY: &str = "192.168.5.1:5070";

struct Town {
    world: World,
    alice: NodeId,
    bob: NodeId,
    relay: NodeId,
}

/// Alice in the LAN, bob behind a NAT of his own; whoever calls has the script.
fn town(alice: Script, bob: Script) -> Town {
    town_where(alice, bob, false)
}

/// As [`town`]; with `hides`, the outside is to see nothing of the LAN.
fn town_where(alice: Script, bob: Script, hides: bool) -> Town {
    let mut world = World::new(1);
    let lan = world.lan();
    let edge = world.one_to_one_nat("edge", INTERNET, &[("10.1.0.1", "198.51.100.10")]);
    let host = world.host(lan, "192.168.5.1");
    let dmz = world.inside(edge);
    world.address(host, dmz, "10.1.0.1");

    let (_, alice) = add_phone(&mut world, (lan, "192.168.5.20"), "alice", INSIDE, alice);
    let mut proxy_config = proxy_in_two_networks();
    proxy_config.networks[1].hides = hides;
    let proxy_config = std::sync::Arc::new(proxy_config);
    let birth = move |birth| proxy::Proxy::new(proxy_config.clone(), birth);
    let listeners = [format!("udp {INSIDE}"), format!("udp {OUTSIDE}")];
    let proxy = world.attach(host, "postern", &listeners.each_ref().map(String::as_str), birth);
    add_users(&mut world, proxy);
    let config = relay_in_two_networks(proto::node_auth::NodeKey([7; 32]));
    let birth = move |birth| relay::Relay::new(birth, config.clone());
    let relay = world.attach(host, "relay", &[&format!("udp {RELAY}")], birth);
    let nat = world.nat("nat-b", INTERNET, "198.51.100.2", Rules::PORT_RESTRICTED);
    let home = world.inside(nat);
    let (_, bob) = add_phone(&mut world, (home, "10.0.0.2"), "bob", ADVERTISED, bob);
    Town { world, alice, bob, relay }
}

fn proxy_in_two_networks() -> proxy::Config {
    let mut config = proxy_config(INSIDE);
    config.networks = vec![network("inside", "192.168.5.0/24"), network("outside", "0.0.0.0/0")];
    config.listeners.truncate(1);
    let mut outside = config.listeners[0].clone();
    outside.network = 1;
    outside.bind = OUTSIDE.parse().unwrap();
    outside.advertise = ADVERTISED.parse().unwrap();
    config.listeners.push(outside);
    config.redirects.clear();
    config.relays[0].address = RELAY.parse().unwrap();
    config.relays[0].media = ["192.168.5.1", "198.51.100.10"]
        .map(|ip| MediaRange { ip: ip.parse().unwrap(), ports: 30_000..=39_999 })
        .into();
    config
}

fn network(name: &str, cidr: &str) -> Network {
    Network { name: name.to_owned(), cidrs: vec![cidr.parse::<Cidr>().unwrap()], hides: false }
}

fn relay_in_two_networks(key: proto::node_auth::NodeKey) -> relay::Config {
    let network = |name: &str, bind: &str, advertise: &str| relay::Network {
        name: name.to_owned(),
        bind: bind.parse().unwrap(),
        advertise: advertise.parse().unwrap(),
    };
    let networks = vec![
        network("inside", "192.168.5.1", "192.168.5.1"),
        network("outside", "10.1.0.1", "198.51.100.10"),
    ];
    relay::Config { networks, reserve: 4, key: Some(key), ..relay::Config::default() }
}

impl Town {
    fn play(&mut self, caller: NodeId) {
        let is_over = |w: &World| w.node::<Phone>(caller).report().ended_by.is_some();
        assert!(self.world.run_until(is_over, Duration::from_secs(300)), "{}", self.world.ladder());
        self.world.run_for(Duration::from_secs(40));
        let relay = self.world.node::<relay::Relay>(self.relay).status();
        assert_eq!((relay.sessions, relay.ports.leased), (0, 0), "{}", self.world.ladder());
    }

    fn assert_audio_and_own_addresses_only(&self) {
        let report = |phone| self.world.node::<Phone>(phone).report();
        let (alice, bob) = (report(self.alice), report(self.bob));
        let fine = alice.audio_both_ways && bob.audio_both_ways;
        assert!(fine, "{alice:#?}\n{bob:#?}\n{}", self.world.ladder());
        for (phone, foreign) in
            [(self.alice, ["10.1.0.1", "198.51.100.10"]), (self.bob, ["10.1.0.1", "192.168.5.1"])]
        {
            for word in foreign {
                assert!(!self.is_offered(phone, word), "{word} was shown\n{}", self.world.ladder());
            }
        }
    }

    /// Whether an address stands in any session description a phone received.
    fn is_offered(&self, phone: NodeId, address: &str) -> bool {
        let received = self.world.packets().iter().filter(|entry| entry.receiver() == Some(phone));
        let bodies = received.filter_map(Entry::sip).map(|message| message.body().to_vec());
        bodies.into_iter().any(|body| String::from_utf8_lossy(&body).contains(address))
    }
}

#[test]
fn a_phone_on_the_lan_calls_one_outside() {
    let mut town = town(alice_calls(3000), script(vec![]));
    town.play(town.alice);
    town.assert_audio_and_own_addresses_only();
    let ladder = town.world.ladder_of(Duration::from_secs(1)..=Duration::from_secs(9));
    insta::assert_snapshot!(without_chance(&ladder));
}

#[test]
fn a_phone_outside_calls_one_on_the_lan() {
    let mut bob = alice_calls(3000);
    bob.steps[1].to = Some("sip:alice@example.com".to_owned());
    let mut town = town(script(vec![]), bob);
    town.play(town.bob);
    town.assert_audio_and_own_addresses_only();
}

/// Bob's phone is told nothing of the LAN, in no message and no name: Via, Record-Route and Contact are ours alone.
#[test]
fn a_phone_outside_sees_nothing_of_the_lan_where_topology_is_hidden() {
    for lan_calls in [true, false] {
        let mut to_alice = alice_calls(3000);
        to_alice.steps[1].to = Some("sip:alice@example.com".to_owned());
        let scripts =
            if lan_calls { (alice_calls(3000), script(vec![])) } else { (script(vec![]), to_alice) };
        let mut town = town_where(scripts.0, scripts.1, true);
        town.play(if lan_calls { town.alice } else { town.bob });
        town.assert_audio_and_own_addresses_only();
        let received = town.world.packets().iter().filter(|entry| entry.receiver() == Some(town.bob));
        for message in received.filter_map(Entry::sip) {
            let text = String::from_utf8_lossy(message.bytes()).into_owned();
            assert!(!text.contains("192.168.5."), "{text}");
            assert!(message.vias().count() == 1, "{text}");
        }
        let ladder = town.world.ladder_of(Duration::from_secs(1)..=Duration::from_secs(9));
        insta::assert_snapshot!(
            format!("hidden_{}", if lan_calls { "outward" } else { "inward" }),
            without_chance(&ladder)
        );
    }
}
