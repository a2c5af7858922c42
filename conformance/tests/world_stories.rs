//! Odd phones, odd networks and ill will, each told once in the simulated world.

use std::time::Duration;

use conformance::cast::{Cast, P1, P2, Plot, SITES, add_phone, add_users, alice_calls, proxy_config, script};
use conformance::world::{Entry, INTERNET, Mute, NodeId, Rules, Tongue, World};
use endpoint_sim::{Act, After, Phone, Script, Step};
use proto::control::Mode;
use proto::node::Transport;
use proto::sdp::Sdp;

const SECOND: Duration = Duration::from_secs(1);
const HONEST: Tongue = Tongue { says: str::to_owned, hears: str::to_owned };

/// Plays a story in which alice and bob describe their media in their own ways.
fn play_with_tongues(plot: Plot, alice: Tongue, bob: Tongue) -> Cast {
    let mut cast = plot.begin();
    cast.world.give_tongue(cast.alice, alice);
    cast.world.give_tongue(cast.bob, bob);
    cast.until_alice_is_done();
    cast.assert_clean();
    cast
}

/// Session descriptions that a node received.
fn described(cast: &Cast, to: NodeId) -> Vec<String> {
    let received = cast.world.packets().iter().filter(|entry| entry.receiver() == Some(to));
    let sdp = |entry: &Entry| Some(String::from_utf8_lossy(entry.sip()?.sdp()?.1).into_owned());
    received.filter_map(sdp).collect()
}

/// `mode: one-port`: two parties behind NATs of any kind, on one port of the relay.
#[test]
fn through_one_port_of_the_relay_every_pair_of_nats_is_heard_both_ways() {
    for (a, b) in SITES.iter().flat_map(|(_, a)| SITES.iter().map(move |(_, b)| (*a, *b))) {
        let cast = Plot { one_port: Some(40_000), sites: [a, b], ..Plot::default() }.play();
        cast.assert_audio_both_ways();
        assert!(cast.relay_ports().iter().all(|port| port.port() == 40_000), "{}", cast.world.ladder());
    }
}

fn received_anything(world: &World, node: NodeId) -> bool {
    !world.node::<Mute>(node).heard.is_empty()
}

/// Acceptance 1h, before anybody has latched: packets from elsewhere on every port of the session, from its birth on.
#[test]
fn rtp_sprayed_on_a_fresh_port_latches_nothing() {
    let mut plot = Plot { alice: alice_calls(5000), ..Plot::default() };
    plot.bob.answer.after_ms = 3000;
    let mut cast = plot.begin();
    let host = cast.world.host(INTERNET, "192.0.2.66");
    let sprayer = cast.world.attach(host, "sprayer", &["udp 192.0.2.66:4000"], |_| Mute::default());
    for n in 0..900_u16 {
        let ports: Vec<String> = described(&cast, cast.bob)
            .iter()
            .chain(&described(&cast, cast.alice))
            .flat_map(|sdp| Sdp::parse(sdp.as_bytes()).unwrap().media[0].address())
            .map(|port| port.to_string())
            .collect();
        let [high, low] = n.to_be_bytes();
        for port in &ports {
            let rtp = [0x80, 0, high, low, 0, 0, high, low, 6, 6, 6, 6, 1, 2, 3, 4];
            cast.world.inject(sprayer, "192.0.2.66:4000", port, &rtp);
        }
        cast.world.run_for(SECOND / 100);
    }
    cast.until_alice_is_done();
    cast.assert_clean();
    cast.assert_audio_both_ways();
    assert!(!received_anything(&cast.world, sprayer));
    let forged = |entry: &Entry| entry.from == cast.relay && entry.bytes.get(8..12) == Some(&[6, 6, 6, 6]);
    assert!(!cast.world.packets().iter().any(forged), "the relay passed sprayed media on");
    let strangers = |entry: &&Entry| entry.from == sprayer;
    assert!(cast.world.packets().iter().filter(strangers).count() > 500);
}

/// Media that names the relay itself would go in a circle: the offer is refused, an answer ends the call.
#[test]
fn an_sdp_that_names_the_relay_makes_no_loop() {
    let liar =
        Tongue { says: |sdp| sdp.replace("10.0.0.2", "203.0.113.50").replace("40000", "30000"), ..HONEST };
    for (alice, bob) in [(liar, HONEST), (HONEST, liar)] {
        let cast = play_with_tongues(Plot::default(), alice, bob);
        assert_eq!(cast.report(cast.alice).call_status, Some(488), "{}", cast.world.ladder());
        let circles = |entry: &Entry| entry.from == cast.relay && entry.transport.is_none();
        assert!(!cast.world.packets().iter().any(circles), "{}", cast.world.ladder());
    }
}

/// A party that names somebody else's address gets that host no packet of ours: not before it is heard, nor after.
#[test]
fn an_sdp_that_names_a_victim_sends_it_nothing() {
    let liar = Tongue { says: |sdp| sdp.replace("10.0.0.2", "192.0.2.99"), ..HONEST };
    for (alice, bob) in [(liar, HONEST), (HONEST, liar)] {
        let mut cast = Plot::default().begin();
        let host = cast.world.host(INTERNET, "192.0.2.99");
        let listeners = ["udp 192.0.2.99:40000", "udp 192.0.2.99:40001"];
        let victim = cast.world.attach(host, "victim", &listeners, |_| Mute::default());
        cast.world.give_tongue(cast.alice, alice);
        cast.world.give_tongue(cast.bob, bob);
        cast.until_alice_is_done();
        cast.assert_clean();
        assert!(!received_anything(&cast.world, victim), "{}", cast.world.ladder());
        let aimed = |entry: &Entry| entry.sent.1.ip() == "192.0.2.99".parse::<std::net::IpAddr>().unwrap();
        assert!(!cast.world.packets().iter().any(aimed), "{}", cast.world.ladder());
        cast.assert_audio_both_ways();
    }
}

/// `o=`'s second version: the fax.
fn is_second(sdp: &str) -> bool {
    sdp.lines().next_back().is_some() && sdp.lines().any(|l| l.starts_with("o=") && l.contains(" 2 IN "))
}

fn to_fax(sdp: &str) -> String {
    if !is_second(sdp) {
        return sdp.to_owned();
    }
    let line = |line: &str| match line.strip_prefix("m=audio ").and_then(|rest| rest.split(' ').next()) {
        Some(port) => Some(format!("m=image {port} udptl t38\r\na=T38FaxVersion:0\r\n")),
        None => (!line.starts_with("a=")).then(|| format!("{line}\r\n")),
    };
    sdp.lines().filter_map(line).collect()
}

fn from_fax(sdp: &str) -> String {
    sdp.replace("m=image", "m=audio").replace("udptl t38", "RTP/AVP 0")
}

/// T.38 by re-INVITE: datagrams of another kind on the same session, at the relay's address.
#[test]
fn a_fax_takes_over_in_the_middle_of_a_call() {
    let mut plot = Plot { alice: alice_calls(8000), ..Plot::default() };
    plot.alice.steps.insert(2, Step::new(Act::Move, After::Answered, 3000));
    let fax = Tongue { says: to_fax, hears: from_fax };
    let mut cast = plot.begin();
    cast.world.give_tongue(cast.alice, fax);
    cast.world.give_tongue(cast.bob, fax);
    cast.until_answered();
    cast.world.run_for(4 * SECOND);
    let before = [cast.alice, cast.bob].map(|phone| cast.report(phone).received);
    cast.world.run_for(2 * SECOND);
    let after = [cast.alice, cast.bob].map(|phone| cast.report(phone).received);
    assert!(
        after[0] >= before[0] + 90 && after[1] >= before[1] + 90,
        "{before:?} {after:?}\n{}",
        cast.world.ladder()
    );
    for phone in [cast.alice, cast.bob] {
        let last = described(&cast, phone).pop().unwrap();
        assert!(last.contains("m=image 3") && last.contains("IN IP4 203.0.113.50"), "{last}");
        assert!(last.contains("a=T38FaxVersion:0") && !last.contains("10.0.0.2"), "{last}");
    }
    cast.until_alice_is_done();
    cast.assert_clean();
    cast.assert_no_media_to_strangers();
}

/// Video before and after audio, refused by the callee (RFC 3264 §6): it stays refused, in its place, and the rest talks.
#[test]
fn a_refused_stream_among_several_leaves_the_others_alone() {
    let after: fn(&str) -> String = |sdp| format!("{sdp}m=video 50000 RTP/AVP 96\r\n");
    let before: fn(&str) -> String = |sdp| sdp.replace("m=audio", "m=video 50000 RTP/AVP 96\r\nm=audio");
    for says in [after, before] {
        let cast = play_with_tongues(Plot::default(), Tongue { says, ..HONEST }, HONEST);
        cast.assert_audio_both_ways();
        let (told, answered) = (described(&cast, cast.bob), described(&cast, cast.alice));
        assert!(told[0].contains("m=video 3") && !told[0].contains("m=video 50000"), "{}", told[0]);
        assert!(answered[0].contains("m=video 0 "), "{}", answered[0]);
        let kinds = |sdp: &String| {
            sdp.lines().filter_map(|l| Some(l.strip_prefix("m=")?[..5].to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&told[0]), kinds(&answered[0]));
    }
}

/// The letter of the claim: one port for both parties.
#[test]
fn one_port_serves_both_parties_in_shared_mode() {
    for rules in [Rules::FULL_CONE, Rules::PORT_RESTRICTED, Rules::SYMMETRIC] {
        let cast = Plot { mode: Mode::Shared, sites: [Some(rules); 2], ..Plot::default() }.play();
        cast.assert_audio_both_ways();
        cast.assert_no_media_to_strangers();
        let ports: Vec<_> = cast.relay_ports().into_iter().filter(|at| at.port() % 2 == 0).collect();
        assert_eq!(ports.len(), 1, "{ports:?}\n{}", cast.world.ladder());
    }
}

#[test]
fn phones_that_speak_tcp_talk_through_their_nats() {
    for sites in [[Some(Rules::PORT_RESTRICTED); 2], [None, Some(Rules::SYMMETRIC)], [None, None]] {
        let cast = Plot { transport: Transport::Tcp, sites, ..Plot::default() }.play();
        cast.assert_audio_both_ways();
        let over_udp = |entry: &Entry| entry.from == cast.alice && entry.transport == Some(Transport::Udp);
        assert!(!cast.world.packets().iter().any(over_udp));
    }
}

/// A home router behind a carrier's NAT (RFC 6888), on both sides, and the same carrier for both.
#[test]
fn two_levels_of_nat_are_passed_on_both_sides() {
    for one_carrier in [false, true] {
        let mut cast = Plot { sites: [None, None], alice: script(vec![]), ..Plot::default() }.begin();
        let world = &mut cast.world;
        let a = world.nat("carrier-a", INTERNET, "198.51.100.11", Rules::SYMMETRIC);
        let b = world.nat("carrier-b", INTERNET, "198.51.100.12", Rules::PORT_RESTRICTED);
        let [home_a, home_b] =
            [("home-a", a, "100.64.0.2"), ("home-b", if one_carrier { a } else { b }, "100.64.0.3")].map(
                |(name, carrier, external)| {
                    let home = world.nat(name, world.inside(carrier), external, Rules::PORT_RESTRICTED);
                    world.inside(home)
                },
            );
        let calls = Script {
            steps: with_target(alice_calls(3000).steps, "sip:carol@example.com"),
            ..alice_calls(3000)
        };
        for (proxy, user) in [(cast.p1, "dave"), (cast.p2, "carol")] {
            add_user(world, proxy, user);
        }
        let (_, carol) = add_phone(world, (home_b, "192.168.1.2"), "carol", P2, script(vec![]));
        let (_, dave) = add_phone(world, (home_a, "192.168.1.2"), "dave", P1, calls);
        let over = |w: &World| w.node::<Phone>(dave).report().ended_by.is_some();
        assert!(world.run_until(over, 300 * SECOND), "{}", world.ladder());
        let [dave, carol] = [dave, carol].map(|phone| cast.report(phone).clone());
        assert!(
            dave.audio_both_ways && carol.audio_both_ways,
            "{dave:#?}{carol:#?}\n{}",
            cast.world.ladder()
        );
        assert!(dave.heard_only("carol@example.com") && carol.heard_only("dave@example.com"));
        cast.assert_clean();
    }
}

fn with_target(mut steps: Vec<Step>, to: &str) -> Vec<Step> {
    steps[1].to = Some(to.to_owned());
    steps
}

fn add_user(world: &mut World, proxy: NodeId, name: &str) {
    world.tables(proxy).add_user(proto::tables::User {
        name: name.to_owned(),
        secret: proto::tables::Secret::Password(format!("{name}'s secret")),
        aors: vec![format!("{name}@example.com")],
        anchor: None,
        srtp: None,
        latch: None,
        algorithms: Vec::new(),
    });
}

const POSTERN_4: &str = "203.0.113.9:5060";
const POSTERN_6: &str = "[2001:db8::9]:5060";
const RELAY_4: &str = "203.0.113.9:5070";

/// One proxy and relay with a leg in IPv4 and one in IPv6.
fn bridge(world: &mut World) -> (NodeId, NodeId) {
    let host = world.host(INTERNET, "203.0.113.9");
    world.address(host, INTERNET, "2001:db8::9");
    let mut config = proxy_config(POSTERN_4);
    config.redirects.clear();
    config.listeners.truncate(1);
    let mut six = config.listeners[0].clone();
    (six.bind, six.advertise) = (POSTERN_6.parse().unwrap(), POSTERN_6.parse().unwrap());
    config.listeners.push(six);
    config.relays[0].address = RELAY_4.parse().unwrap();
    let range = |ip: &str| proxy::config::MediaRange { ip: ip.parse().unwrap(), ports: 30_000..=39_999 };
    config.relays[0].media = vec![range("203.0.113.9"), range("2001:db8::9")];
    let key = config.siblings.key.clone();
    let config = std::sync::Arc::new(config);
    let listeners = [format!("udp {POSTERN_4}"), format!("udp {POSTERN_6}")];
    let birth = move |birth| proxy::Proxy::new(config.clone(), birth);
    let proxy = world.attach(host, "postern", &listeners.each_ref().map(String::as_str), birth);
    add_users(world, proxy);
    let network = |ip: &str| {
        let ip = ip.parse().unwrap();
        relay::Network { name: "default".to_owned(), bind: ip, advertise: ip }
    };
    let networks = vec![network("203.0.113.9"), network("2001:db8::9")];
    let config = relay::Config { networks, reserve: 4, key, ..relay::Config::default() };
    let birth = move |birth| relay::Relay::new(birth, config.clone());
    (proxy, world.attach(host, "relay", &[&format!("udp {RELAY_4}")], birth))
}

/// Different address families: the relay bridges (DESIGN §5), and each party sees its own family only.
#[test]
fn an_ipv4_phone_and_an_ipv6_phone_talk() {
    for alice_has_6 in [false, true] {
        let mut world = World::new(1);
        let (_, relay) = bridge(&mut world);
        let four = ("192.0.2.10", POSTERN_4);
        let six = ("2001:db8:1::20", POSTERN_6);
        let (a, b) = if alice_has_6 { (six, four) } else { (four, six) };
        let (_, alice) = add_phone(&mut world, (INTERNET, a.0), "alice", a.1, alice_calls(3000));
        let (_, bob) = add_phone(&mut world, (INTERNET, b.0), "bob", b.1, script(vec![]));
        let over = |w: &World| w.node::<Phone>(alice).report().ended_by.is_some();
        assert!(world.run_until(over, 300 * SECOND), "{}", world.ladder());
        world.run_for(40 * SECOND);
        let [alice, bob] = [alice, bob].map(|phone| world.node::<Phone>(phone).report());
        assert!(alice.audio_both_ways && bob.audio_both_ways, "{alice:#?}{bob:#?}\n{}", world.ladder());
        assert_eq!(world.node::<relay::Relay>(relay).status().sessions, 0, "{}", world.ladder());
    }
}
