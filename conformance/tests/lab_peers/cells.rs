//! The table of who can reach whom, cell by cell: the path that is taken is the one [`reach`] names, and audio goes both ways.

use std::net::IpAddr;
use std::time::Duration;

use conformance::lab::peers::{Addresses, FOUR, Hub, Online, SIX, ip_of, told};
use conformance::lab::wire::{Packet, Transport, Wire};
use proto::peer::nat::{Dependence, Verdict};
use proto::peer::reach::{Path, Policy, Reach, Side, reach};
use serde_json::Value;

/// The laboratory's types, by their short names.
const TYPES: [(&str, &str, Verdict); 5] = [
    ("none", "none", Verdict::OPEN),
    ("full", "full-cone", Verdict::nat(Dependence::Endpoint, Dependence::Endpoint)),
    ("addr", "address-restricted", Verdict::nat(Dependence::Endpoint, Dependence::Address)),
    ("port", "port-restricted", Verdict::nat(Dependence::Endpoint, Dependence::AddressAndPort)),
    ("sym", "symmetric", Verdict::nat(Dependence::AddressAndPort, Dependence::AddressAndPort)),
];

/// How long the parties talk: 150 packets each, of which a loaded machine may be late with most.
const TALK: Duration = Duration::from_secs(3);
const HEARD: u64 = 50;

/// One cell: `a` opens to `b`.
struct Cell {
    a: String,
    b: String,
    reach: Reach,
}

/// What both ends of a cell saw.
struct Seen {
    a: Value,
    b: Value,
}

fn side(verdict: Verdict, ip: &str) -> Side {
    Side { verdict, ip: ip.parse().unwrap(), policy: Policy::default() }
}

/// Every cell of the table for which `wanted` holds, and the sites that make them: each type twice, each party in a host of
/// its own.
fn table(wanted: impl Fn(&Reach) -> bool) -> (Vec<Cell>, String) {
    let mut cells = Vec::new();
    for (from, _, verdict) in TYPES {
        for (to, _, other) in TYPES {
            let reach = reach(&side(verdict, "203.0.113.100"), &side(other, "203.0.113.105"));
            let names = [format!("a-{from}-{to}"), format!("b-{from}-{to}")];
            let [a, b] = names;
            cells.push(Cell { a, b, reach });
        }
    }
    cells.retain(|cell| wanted(&cell.reach));
    let hosts = |wanted: &dyn Fn(&Cell) -> Option<String>| {
        cells.iter().filter_map(wanted).collect::<Vec<_>>().join(",")
    };
    let mut sites = String::new();
    for (name, kind, _) in TYPES {
        let (starts, ends) = (format!("a-{name}-"), format!("-{name}"));
        let from = hosts(&|cell| cell.a.starts_with(&starts).then(|| cell.a.clone()));
        let to = hosts(&|cell| cell.b.ends_with(&ends).then(|| cell.b.clone()));
        for (side, hosts) in [("from", from), ("to", to)] {
            if !hosts.is_empty() {
                sites += &format!("-s {side}-{name}:{kind}:{hosts} ");
            }
        }
    }
    (cells, sites)
}

/// Has every `b` come online, then every `a`, which calls it; gives what they saw, and what the hub's host saw.
fn play(cells: &[Cell], sites: &str, at: Addresses, more: &[&str]) -> Option<(Hub, Vec<Seen>, Wire)> {
    let buddies: Vec<(&str, &str)> = cells.iter().map(|cell| (&*cell.a, &*cell.b)).collect();
    let hub = Hub::with(sites, &buddies, "", at)?;
    let recorder = hub.lab.capture(&["hub"]);
    let come = |name: &str, call: &[&str]| hub.peer(name, name, 90, &[call, more].concat());
    let mut bs: Vec<Online> = cells.iter().map(|cell| come(&cell.b, &[])).collect();
    hub.until_online(cells.len() as u64);
    let mut callers: Vec<Online> = cells.iter().map(|cell| come(&cell.a, &["--call", &cell.b])).collect();
    hub.until_online(2 * cells.len() as u64);
    std::thread::sleep(Duration::from_secs(1) + TALK);
    callers.iter_mut().for_each(Online::leave);
    let callers: Vec<Value> = callers.into_iter().map(Online::report).collect();
    bs.iter_mut().for_each(Online::leave);
    let bs = bs.into_iter().map(Online::report);
    let seen = callers.into_iter().zip(bs).map(|(a, b)| Seen { a, b }).collect();
    Some((hub, seen, recorder.stop()))
}

fn is_media(packet: &Packet) -> bool {
    packet.payload.first() == Some(&0x80) && packet.payload.len() > 100
}

impl Seen {
    /// Both heard one another, and nobody else.
    fn talked(&self, cell: &Cell) {
        for (report, other) in [(&self.a, &cell.b), (&self.b, &cell.a)] {
            let phone = &report["call"]["phone"];
            let marked = phone["heard"][format!("{other}@peers.test")].as_u64().unwrap_or(0);
            let fine = marked > 0 && phone["received"].as_u64().unwrap_or(0) >= HEARD;
            assert!(fine && phone["audio-both-ways"] == true, "{other} is not heard: {report:#}");
        }
    }

    /// Without a server, and with a punch where the table has one.
    fn went_directly(&self, cell: &Cell) {
        let name = format!("{} → {}", cell.a, cell.b);
        assert_eq!(self.path(cell), "direct", "{name}: {:#}", self.a);
        let punches = self.b["punches"].as_u64().unwrap();
        assert_eq!(punches > 0, cell.reach.needs_punch(), "{name}: {:#}", self.b);
        self.talked(cell);
        assert_eq!(self.a["call"]["path"], "direct", "{name}: {:#}", self.a);
    }

    /// The path to the buddy, as `a` sees it.
    fn path<'a>(&'a self, cell: &Cell) -> &'a Value {
        &self.a["buddies"][format!("{}@peers.test", cell.b)]["path"]
    }
}

/// 22 of 25: whoever can be reached without a guess is, and calls need no server.
#[test]
fn where_a_port_is_known_the_path_is_direct_punched_where_the_table_says_so() {
    let (cells, sites) = table(|reach| reach.path <= Path::Punch);
    assert_eq!(cells.len(), 22);
    let Some((_hub, seen, wire)) = play(&cells, &sites, FOUR, &[]) else { return };
    for (cell, seen) in cells.iter().zip(&seen) {
        seen.went_directly(cell);
    }
    no_media(&wire);
}

fn no_media(wire: &Wire) {
    let media = wire.filter(is_media);
    assert!(media.is_empty(), "media came by a server\n{}", told(&media));
}

/// The other three: by a spray when there is a call, and never where two ports are unknown.
#[test]
fn where_a_port_must_be_guessed_first_words_are_reflected_and_media_leaves_the_relay_by_a_spray() {
    let (cells, sites) = table(|reach| reach.path > Path::Punch);
    assert_eq!(cells.len(), 3);
    let Some((_hub, seen, wire)) = play(&cells, &sites, FOUR, &["--proxy", FOUR.proxy]) else { return };
    let relay = ip_of(FOUR.proxy);
    assert!(wire.packets.iter().any(|packet| is_media(packet) && packet.from.ip() == relay));
    for (cell, seen) in cells.iter().zip(&seen) {
        let (name, call) = (format!("{} → {}", cell.a, cell.b), &seen.a["call"]);
        seen.talked(cell);
        assert!(seen.a["reflected"].as_u64().unwrap() > 0, "{name}: {:#}", seen.a);
        if cell.reach.path == Path::Spray {
            assert!(call["upgrades"].as_u64().unwrap() > 0, "{name}: {:#}", seen.a);
        } else {
            assert_eq!((&call["path"], &call["upgrades"]), (&"relay".into(), &0.into()), "{name}: {call:#}");
            assert_eq!(seen.path(cell), "reflector", "{name}");
        }
    }
}

/// Parties behind one outside address. Where the NAT leads back what is sent to that (hairpin), they meet there; where not, a
/// LAN they share will do.
#[test]
fn neighbours_meet_in_their_lan_or_at_their_nat() {
    let port = TYPES[3].2;
    let cell = |name: &str, hairpin: bool| {
        let both = side(Verdict { hairpin, ..port }, "203.0.113.100");
        Cell { a: format!("a-{name}"), b: format!("b-{name}"), reach: reach(&both, &both) }
    };
    let cells = [cell("lan", false), cell("pin", true)];
    let sites = "-s lan:port-restricted:a-lan,b-lan -s pin:port-restricted:a-pin,b-pin:hairpin=1";
    assert!(cells.iter().all(|cell| cell.reach.neighbours));
    let Some((_hub, seen, wire)) = play(&cells, sites, FOUR, &[]) else { return };
    for (cell, seen) in cells.iter().zip(&seen) {
        seen.talked(cell);
        assert_eq!(seen.path(cell), "direct", "{}: {:#}", cell.a, seen.a);
    }
    no_media(&wire);
}

/// Two homes behind one carrier's NAT share no LAN, and their private addresses are even the same.
#[test]
fn two_homes_of_a_carrier_meet_at_its_nat_if_that_hairpins_else_by_the_relay() {
    let port = TYPES[3].2;
    let cell = |name: &str, hairpin: bool| {
        let both = side(Verdict { hairpin, ..port }, "203.0.113.100");
        Cell { a: format!("a-{name}"), b: format!("b-{name}"), reach: reach(&both, &both) }
    };
    let cells = [cell("pin", true), cell("far", false)];
    let sites = "-s one:port-restricted::hairpin=1,lan=100.64.0 -s pin1:port-restricted:a-pin:behind=one \
        -s pin2:port-restricted:b-pin:behind=one -s two:port-restricted::lan=100.65.0 \
        -s far1:port-restricted:a-far:behind=two -s far2:port-restricted:b-far:behind=two";
    let more = ["--proxy", FOUR.proxy, "--local", "192.168.1.10:5060"];
    let Some((_hub, seen, _)) = play(&cells, sites, FOUR, &more) else { return };
    for (cell, seen) in cells.iter().zip(&seen) {
        seen.talked(cell);
        let expected = if cell.reach.path == Path::Punch { "direct" } else { "reflector" };
        assert_eq!(seen.path(cell), expected, "{}: {:#}", cell.a, seen.a);
        let upgraded = seen.a["call"]["upgrades"].as_u64().unwrap() > 0;
        assert_eq!(upgraded, cell.reach.path == Path::Punch, "{}: {:#}", cell.a, seen.a);
    }
}

/// A firewall translates nothing and lets in what was asked for: a punch opens it.
#[test]
fn two_ipv6_firewalls_are_opened_by_a_punch() {
    let wall = Verdict { translated: false, ..TYPES[3].2 };
    let reach = reach(&side(wall, "2001:db8:a00::10"), &side(wall, "2001:db8:a01::10"));
    assert_eq!(reach.path, Path::Punch);
    let cells = [Cell { a: "alice".into(), b: "bob".into(), reach }];
    let sites = "-s home:port-restricted:alice:ipv6=stateful -s office:port-restricted:bob:ipv6=stateful";
    let Some((_hub, seen, wire)) = play(&cells, sites, SIX, &[]) else { return };
    seen[0].went_directly(&cells[0]);
    assert_eq!(seen[0].a["nat"], "a firewall");
    no_media(&wire);
}

/// A firewall that lets out TCP to ports 443 and 5061 alone: login, words and media go by TLS, through the access server.
#[test]
fn whoever_has_no_udp_is_relayed_by_tls() {
    let cell = |a: &str, b: &str, from: Verdict, to: Verdict| Cell {
        a: a.into(),
        b: b.into(),
        reach: reach(&side(from, "203.0.113.100"), &side(to, "203.0.113.101")),
    };
    let cells = [
        cell("a-shut", "b-port", Verdict::BLOCKED, TYPES[3].2),
        cell("a-sym", "b-shut", TYPES[4].2, Verdict::BLOCKED),
        cell("a-wall", "b-wall", Verdict::BLOCKED, Verdict::BLOCKED),
    ];
    assert!(cells.iter().all(|cell| cell.reach.path == Path::Tunnel));
    let sites = "-s one:udp-blocked:a-shut,b-shut,a-wall -s two:udp-blocked:b-wall -s home:port-restricted:b-port \
        -s office:symmetric:a-sym";
    let Some((_hub, seen, wire)) = play(&cells, sites, FOUR, &[]) else { return };
    for (cell, seen) in cells.iter().zip(&seen) {
        let name = format!("{} → {}", cell.a, cell.b);
        seen.talked(cell);
        assert_eq!(seen.path(cell), "tunnel", "{name}: {:#}", seen.a);
        assert_eq!(seen.a["call"]["path"], "tunnel", "{name}: {:#}", seen.a);
    }
    let blocked = ["203.0.113.100", "203.0.113.101"].map(|ip| ip.parse::<IpAddr>().unwrap());
    let leaked = wire.filter(|p| p.transport == Transport::Udp && blocked.contains(&p.from.ip()));
    assert!(leaked.is_empty(), "UDP has passed\n{}", told(&leaked));
    no_media(&wire);
}
