//! The world before it is trusted: do its NATs, lines, connections, DNS and restarts behave as the real ones?

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use conformance::world::{Fate, GatewayId, HostId, INTERNET, Link, Mute, NodeId, Realm, Rules, World};
use proto::node::{Flow, FlowId, Input, Node, Output, SendError, Ticket, Transport};
use proto::resolve::{Found, Lookup};
use proto::sip::{Builder, Name};
use proto::tables::Tables;

/// Answers requests, and datagrams that begin with a question mark, to where they came from.
#[derive(Default)]
struct Echo {
    heard: Vec<Input>,
    out: VecDeque<Output>,
}

impl Node for Echo {
    fn handle(&mut self, _now: Instant, input: Input, _tables: &mut dyn Tables) {
        match &input {
            Input::Message { flow, message } if message.is_request() => {
                let bytes = proto::sip::reply(message, 200, "echo").finish().bytes().clone();
                self.out.push_back(Output::Send { flow: *flow, bytes, ticket: Ticket(1) });
            }
            Input::Other { flow, bytes } if bytes.starts_with(b"?") => {
                let bytes = Bytes::from_static(b"!");
                self.out.push_back(Output::Send { flow: *flow, bytes, ticket: Ticket(1) });
            }
            _ => {}
        }
        if !matches!(input, Input::Wake) {
            self.heard.push(input);
        }
    }

    fn poll(&mut self, _tables: &mut dyn Tables) -> Option<Output> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

impl Echo {
    fn says(world: &mut World, node: NodeId, output: Output) {
        world.with::<Echo, _>(node, |echo, _| echo.out.push_back(output));
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn options(n: usize) -> Bytes {
    Builder::request("OPTIONS", "sip:203.0.113.1")
        .header(Name::Via, format_args!("SIP/2.0/TCP 10.0.0.2;branch=z9hG4bK{n}"))
        .header(Name::From, "<sip:a@example.com>;tag=a")
        .header(Name::To, "<sip:b@example.com>")
        .header(Name::CallId, format_args!("call-{n}"))
        .header(Name::CSeq, "1 OPTIONS")
        .body("text/plain", "x".repeat(n % 700).as_bytes())
        .finish()
        .bytes()
        .clone()
}

/// A site behind a NAT with a host in it, and a server on the internet with two addresses and two ports.
struct Site {
    world: World,
    nat: GatewayId,
    inside: NodeId,
    /// The inside host's own address.
    own: &'static str,
    server: NodeId,
}

fn site(rules: Rules) -> Site {
    let mut world = World::new(1);
    let nat = world.nat("nat", INTERNET, "198.51.100.1", rules);
    let realm = world.inside(nat);
    let host = world.host(realm, "10.0.0.2");
    let inside =
        world.attach(host, "inside", &["udp 10.0.0.2:5060", "tcp 10.0.0.2:5060"], |_| Echo::default());
    let server = server(&mut world);
    Site { world, nat, inside, own: "10.0.0.2:5060", server }
}

fn server(world: &mut World) -> NodeId {
    let host = world.host(INTERNET, "203.0.113.1");
    world.address(host, INTERNET, "203.0.113.2");
    let listeners =
        ["udp 203.0.113.1:1000", "udp 203.0.113.1:2000", "udp 203.0.113.2:1000", "tcp 203.0.113.1:1000"];
    world.attach(host, "server", &listeners, |_| Echo::default())
}

impl Site {
    /// Whether a datagram of the server's from `from` to `to` comes in.
    fn comes_in(&mut self, from: &str, to: &str) -> bool {
        let before = self.world.node::<Echo>(self.inside).heard.len();
        self.world.inject(self.server, from, to, b"\0in");
        self.world.run_for(SECOND);
        self.world.node::<Echo>(self.inside).heard.len() > before
    }

    /// Sends from the inside, and returns the source the server saw.
    fn goes_out(&mut self, to: &str) -> String {
        self.world.inject(self.inside, self.own, to, b"\0out");
        let sent = self.world.packets().len() - 1;
        self.world.run_for(SECOND);
        match &self.world.packets()[sent].fate {
            Fate::Arrived { seen, .. } => seen.0.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn each_nat_type_filters_as_rfc_4787_says() {
    for (rules, passes) in [
        (Rules::FULL_CONE, [true, true, true]),
        (Rules::ADDRESS_RESTRICTED, [true, true, false]),
        (Rules::PORT_RESTRICTED, [true, false, false]),
        (Rules::SYMMETRIC, [true, false, false]),
    ] {
        let mut site = site(rules);
        let external = site.goes_out("203.0.113.1:1000");
        let tried =
            ["203.0.113.1:1000", "203.0.113.1:2000", "203.0.113.2:1000"].map(|f| site.comes_in(f, &external));
        assert_eq!(tried, passes, "{rules:?}");
    }
}

#[test]
fn nothing_comes_in_that_nobody_asked_for() {
    let mut site = site(Rules::FULL_CONE);
    assert!(!site.comes_in("203.0.113.1:1000", "198.51.100.1:5060"));
    assert!(!site.comes_in("203.0.113.1:1000", "10.0.0.2:5060"));
    let fates: Vec<_> = site.world.packets().iter().map(|p| p.fate.clone()).collect();
    let dropped = |why: &str| Fate::Dropped(why.to_owned());
    assert_eq!(fates, [dropped("nat: no mapping"), dropped("no route")]);
}

#[test]
fn a_symmetric_nat_shows_each_destination_another_port() {
    let mut cone = site(Rules::PORT_RESTRICTED);
    assert_eq!(cone.goes_out("203.0.113.1:1000"), cone.goes_out("203.0.113.2:1000"));
    let mut symmetric = site(Rules::SYMMETRIC);
    assert_ne!(symmetric.goes_out("203.0.113.1:1000"), symmetric.goes_out("203.0.113.1:2000"));
}

#[test]
fn an_idle_mapping_is_forgotten_at_its_timeout() {
    for (idle, alive) in [(28, true), (31, false)] {
        let mut site = site(Rules::PORT_RESTRICTED.timeout(30 * SECOND));
        let external = site.goes_out("203.0.113.1:1000");
        site.world.run_for((idle - 1) * SECOND);
        assert_eq!(site.comes_in("203.0.113.1:1000", &external), alive, "idle for {idle} s");
    }
}

#[test]
fn rebinding_forgets_mappings_and_may_change_the_address() {
    let mut site = site(Rules::PORT_RESTRICTED);
    let before = site.goes_out("203.0.113.1:1000");
    site.world.rebind(site.nat, Some("198.51.100.99"));
    assert!(!site.comes_in("203.0.113.1:1000", &before));
    assert_eq!(site.goes_out("203.0.113.1:1000"), "198.51.100.99:5060");
}

#[test]
fn hairpinning_depends_on_the_nat_and_shows_the_external_source() {
    for (rules, works) in [(Rules::FULL_CONE, false), (Rules::FULL_CONE.hairpin(), true)] {
        let mut site = site(rules);
        let realm = site.world.inside(site.nat);
        let host = site.world.host(realm, "10.0.0.3");
        let neighbour = site.world.attach(host, "neighbour", &["udp 10.0.0.3:7000"], |_| Mute::default());
        let external = site.goes_out("203.0.113.1:1000");
        site.world.inject(neighbour, "10.0.0.3:7000", &external, b"\0hairpin");
        let sent = site.world.packets().len() - 1;
        site.world.run_for(SECOND);
        match &site.world.packets()[sent].fate {
            Fate::Arrived { seen, to, .. } => {
                assert_eq!(
                    (works, *to, seen.0.to_string().as_str()),
                    (true, site.inside, "198.51.100.1:7000")
                );
            }
            Fate::Dropped(why) => assert_eq!((works, why.as_str()), (false, "nat: no hairpin")),
            Fate::UnderWay => panic!(),
        }
    }
}

#[test]
fn two_levels_of_nat_translate_twice() {
    let mut world = World::new(1);
    let carrier = world.nat("carrier", INTERNET, "198.51.100.1", Rules::SYMMETRIC);
    let middle = world.inside(carrier);
    let home = world.nat("home", middle, "100.64.0.7", Rules::FULL_CONE);
    let realm = world.inside(home);
    let inside = echo_at(&mut world, realm, "192.168.1.2");
    let server = server(&mut world);
    world.inject(inside, "192.168.1.2:5060", "203.0.113.1:1000", b"?there and back");
    world.run_for(SECOND);
    let seen: Vec<_> = world.packets().iter().take(2).map(|p| p.fate.clone()).collect();
    let [Fate::Arrived { to: there, seen: out, .. }, Fate::Arrived { to: back, seen: home, .. }] = &seen[..]
    else {
        panic!("{seen:?}")
    };
    assert_eq!((*there, *back), (server, inside));
    assert_eq!(out.0.ip().to_string(), "198.51.100.1");
    assert_eq!(home.1.to_string(), "192.168.1.2:5060");
}

fn echo_at(world: &mut World, realm: Realm, ip: &str) -> NodeId {
    let host: HostId = world.host(realm, ip);
    let listeners = [format!("udp {ip}:5060"), format!("tcp {ip}:5060")];
    world.attach(host, ip, &listeners.each_ref().map(String::as_str), |_| Mute::default())
}

#[test]
fn private_addresses_of_two_sites_may_overlap() {
    let mut world = World::new(1);
    let server = server(&mut world);
    let sites = ["198.51.100.1", "198.51.100.2"].map(|external| {
        let nat = world.nat(external, INTERNET, external, Rules::PORT_RESTRICTED);
        let realm = world.inside(nat);
        echo_at(&mut world, realm, "10.0.0.2")
    });
    for site in sites {
        world.inject(site, "10.0.0.2:5060", "203.0.113.1:1000", b"?hello");
    }
    world.run_for(SECOND);
    assert_eq!(world.node::<Echo>(server).heard.len(), 2);
    assert!(sites.iter().all(|site| world.node::<Mute>(*site).heard.len() == 1));
}

#[test]
fn a_firewall_lets_in_answers_only_and_changes_no_address() {
    let mut world = World::new(1);
    let firewall = world.firewall("firewall", INTERNET, 30 * SECOND);
    let realm = world.inside(firewall);
    let host = world.host(realm, "203.0.113.50");
    let inside = world.attach(host, "inside", &["udp 203.0.113.50:5060"], |_| Echo::default());
    let server = server(&mut world);
    let mut site = Site { world, nat: firewall, inside, own: "203.0.113.50:5060", server };
    assert!(!site.comes_in("203.0.113.1:2000", "203.0.113.50:5060"));
    assert_eq!(site.goes_out("203.0.113.1:2000"), "203.0.113.50:5060");
    assert!(site.comes_in("203.0.113.1:2000", "203.0.113.50:5060"));
    assert!(!site.comes_in("203.0.113.1:1000", "203.0.113.50:5060"));
}

#[test]
fn one_to_one_nat_gives_a_host_a_second_address() {
    let mut world = World::new(1);
    let gateway = world.one_to_one_nat("gateway", INTERNET, &[("10.0.0.2", "198.51.100.20")]);
    let realm = world.inside(gateway);
    let host = world.host(realm, "10.0.0.2");
    let inside = world.attach(host, "inside", &["udp 10.0.0.2:5060"], |_| Echo::default());
    let server = server(&mut world);
    let mut site = Site { world, nat: gateway, inside, own: "10.0.0.2:5060", server };
    assert!(site.comes_in("203.0.113.1:1000", "198.51.100.20:5060"));
    assert_eq!(site.goes_out("203.0.113.1:1000"), "198.51.100.20:5060");
}

#[test]
fn a_lossy_line_loses_its_share_and_a_jittery_one_reorders() {
    let mut site = site(Rules::FULL_CONE);
    let host = site.world.host(INTERNET, "192.0.2.1");
    let sender = site.world.attach(host, "sender", &[], |_| Mute::default());
    *site.world.link(host) =
        Link { loss: 300, jitter: Duration::from_millis(30), duplication: 100, ..Link::default() };
    for n in 0..1000_u16 {
        site.world.inject(sender, "192.0.2.1:9", "203.0.113.1:1000", &[0, (n >> 8) as u8, n as u8]);
        site.world.run_for(Duration::from_millis(1));
    }
    site.world.run_for(SECOND);
    let heard: Vec<Bytes> = site.world.node::<Echo>(site.server).heard.iter().filter_map(datagram).collect();
    assert!((700..850).contains(&heard.len()), "{} of 1000 with 30 % loss and 10 % doubled", heard.len());
    assert!(!heard.is_sorted());
}

fn datagram(input: &Input) -> Option<Bytes> {
    match input {
        Input::Other { bytes, .. } => Some(bytes.clone()),
        _ => None,
    }
}

#[test]
fn the_same_seed_tells_the_same_story_and_another_another() {
    let story = |seed| {
        let mut world = World::new(seed);
        let server = server(&mut world);
        let host = world.host(INTERNET, "192.0.2.1");
        let sender = world.attach(host, "sender", &["udp 192.0.2.1:5060"], |_| Mute::default());
        *world.link(host) = Link { loss: 200, jitter: Duration::from_millis(30), ..Link::default() };
        for n in 0..30 {
            world.inject(sender, "192.0.2.1:5060", "203.0.113.1:1000", &options(n));
        }
        world.run_for(SECOND);
        assert!(world.node::<Echo>(server).heard.len() > 10);
        world.ladder()
    };
    assert_eq!(story(5), story(5));
    assert_ne!(story(5), story(6));
}

#[test]
fn messages_cut_at_random_places_arrive_whole_and_in_order() {
    let mut site = site(Rules::SYMMETRIC);
    site.world.lose_segments(200);
    let flow = tcp("10.0.0.2:5060", "203.0.113.1:1000");
    for n in 0..200 {
        Echo::says(&mut site.world, site.inside, Output::Send { flow, bytes: options(n), ticket: Ticket(7) });
    }
    site.world.run_for(60 * SECOND);
    let call_ids = |node| -> Vec<String> {
        let heard = &site.world.node::<Echo>(node).heard;
        heard
            .iter()
            .filter_map(|input| match input {
                Input::Message { message, .. } => Some(message.call_id().to_owned()),
                _ => None,
            })
            .collect()
    };
    let sent: Vec<String> = (0..200).map(|n| format!("call-{n}")).collect();
    assert_eq!(call_ids(site.server), sent);
    assert_eq!(call_ids(site.inside), sent, "answers by the same connection");
}

fn tcp(local: &str, remote: &str) -> Flow {
    let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
    Flow { transport: Transport::Tcp, local, remote, id: FlowId(0) }
}

fn failures(world: &World, node: NodeId) -> Vec<SendError> {
    let failure = |input: &Input| match input {
        Input::SendFailed { error, .. } => Some(*error),
        _ => None,
    };
    world.node::<Echo>(node).heard.iter().filter_map(failure).collect()
}

#[test]
fn connections_are_refused_where_nobody_listens_and_time_out_where_nobody_is() {
    for (to, error) in [("203.0.113.1:9", SendError::Refused), ("192.0.2.99:1000", SendError::TimedOut)] {
        let mut site = site(Rules::PORT_RESTRICTED);
        let send = Output::Send { flow: tcp("10.0.0.2:5060", to), bytes: options(1), ticket: Ticket(7) };
        Echo::says(&mut site.world, site.inside, send);
        site.world.run_for(60 * SECOND);
        assert_eq!(failures(&site.world, site.inside), [error], "{to}");
    }
}

#[test]
fn nobody_connects_into_a_nat() {
    let mut site = site(Rules::FULL_CONE);
    let send = Output::Send {
        flow: tcp("203.0.113.1:1000", "198.51.100.1:5060"),
        bytes: options(1),
        ticket: Ticket(7),
    };
    Echo::says(&mut site.world, site.server, send);
    site.world.run_for(60 * SECOND);
    assert_eq!(failures(&site.world, site.server), [SendError::TimedOut]);
}

#[test]
fn the_other_end_hears_of_a_close_a_death_and_a_broken_path() {
    for end in ["close", "kill", "rebind"] {
        let mut site = site(Rules::FULL_CONE);
        let flow = tcp("10.0.0.2:5060", "203.0.113.1:1000");
        Echo::says(&mut site.world, site.inside, Output::Send { flow, bytes: options(1), ticket: Ticket(7) });
        site.world.run_for(SECOND);
        let Some(Input::Message { flow, .. }) = site.world.node::<Echo>(site.server).heard.first().cloned()
        else {
            panic!("not connected")
        };
        match end {
            "close" => Echo::says(&mut site.world, site.server, Output::Close { flow }),
            "kill" => site.world.kill(site.server),
            _ => site.world.rebind(site.nat, None),
        }
        site.world.run_for(SECOND);
        let heard = &site.world.node::<Echo>(site.inside).heard;
        let (closed, failed) = (heard.iter().rev().nth(1), heard.last());
        assert!(matches!(closed, Some(Input::Closed { .. })), "{end}: {heard:?}");
        // Answered or not: the shell does not read along.
        assert!(matches!(failed, Some(Input::SendFailed { ticket: Ticket(7), .. })), "{end}: {heard:?}");
    }
}

#[test]
fn a_restarted_node_has_its_bindings_and_nothing_else() {
    let mut site = site(Rules::FULL_CONE);
    site.goes_out("203.0.113.1:1000");
    site.world.tables(site.server).remember(proto::tables::Fact::NeedsRelay, "x");
    site.world.kill(site.server);
    site.world.inject(site.inside, "10.0.0.2:5060", "203.0.113.1:1000", b"\0dead");
    site.world.run_for(SECOND);
    assert_eq!(site.world.packets().last().unwrap().fate, Fate::Dropped("nobody there".to_owned()));
    site.world.restart(site.server);
    assert_eq!(site.world.node::<Echo>(site.server).heard.len(), 0);
    assert!(!site.world.tables(site.server).remembers(proto::tables::Fact::NeedsRelay, "x"));
    site.goes_out("203.0.113.1:1000");
    assert_eq!(site.world.node::<Echo>(site.server).heard.len(), 1);
}

#[test]
fn media_ports_are_opened_once_and_closed_again() {
    let mut site = site(Rules::FULL_CONE);
    let bind = |local: &str| Output::Bind { ticket: Ticket(1), local: local.parse().unwrap() };
    for local in ["203.0.113.1:4000", "203.0.113.1:4000", "203.0.113.77:4000"] {
        Echo::says(&mut site.world, site.server, bind(local));
    }
    site.world.run_for(SECOND);
    let heard = site.world.node::<Echo>(site.server).heard.clone();
    let [Input::Bound { socket, .. }, Input::BindFailed { .. }, Input::BindFailed { .. }] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!(site.world.media_sockets(site.server), 1);
    Echo::says(&mut site.world, site.server, Output::Release { socket: *socket });
    assert_eq!(site.world.media_sockets(site.server), 0);
}

#[test]
fn names_are_found_as_the_dns_of_the_world_says() {
    use proto::node::{Answer, Question};
    let mut site = site(Rules::FULL_CONE);
    let found = Found::Addresses(vec!["203.0.113.1".parse().unwrap()]);
    site.world.dns().insert(Lookup::Addresses("sip.example".to_owned()), found);
    for host in ["sip.example", "nowhere.example"] {
        let question = Question::Resolve {
            host: host.to_owned(),
            port: None,
            transport: Some(Transport::Udp),
            secure: false,
        };
        Echo::says(&mut site.world, site.inside, Output::Ask { ticket: Ticket(3), question });
    }
    site.world.run_for(SECOND);
    let heard = &site.world.node::<Echo>(site.inside).heard;
    let [
        Input::Answer { answer: Answer::Targets(targets), .. },
        Input::Answer { answer: Answer::Nothing(_), .. },
    ] = &heard[..]
    else {
        panic!("{heard:?}")
    };
    assert_eq!(targets[..], [(Transport::Udp, "203.0.113.1:5060".parse().unwrap())]);
}
