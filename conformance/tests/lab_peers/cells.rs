//! The table of who can reach whom, cell by cell: the path that is taken is the one [`reach`] names, and audio goes both ways.

use std::net::IpAddr;
use std::time::Duration;

use conformance::lab::peers::{Addresses, FOUR, Hub, Online, SIX, ip_of, told};
use conformance::lab::wire::{Packet, Transport, Wire};
use proto::peer::nat::{Class, Verdict};
use proto::peer::reach::{Path, Policy, Reach, Side, reach};
use serde_json::Value;

/// A type's name within a host's.
fn short(class: Class) -> &'static str {
    &class.word()[..4]
}

/// How long the parties talk: 150 packets each, of which a loaded machine may be late with most.
const TALK: Duration = Duration::from_secs(3);
const HEARD: u64 = 50;

/// One cell: `a` opens to `b`.
struct Cell {
    a: String,
    b: String,
    reach: Reach,
    /// What both are told besides.
    more: Vec<&'static str>,
}

impl Cell {
    fn new(name: &str, from: Side, to: Side, more: &[&'static str]) -> Cell {
        let [a, b] = ["a", "b"].map(|side| format!("{side}-{name}"));
        Cell { a, b, reach: reach(&from, &to), more: more.to_vec() }
    }
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
    for from in Class::ALL {
        for to in Class::ALL {
            let sides = (side(from.verdict(), "203.0.113.100"), side(to.verdict(), "203.0.113.105"));
            cells.push(Cell::new(&format!("{}-{}", short(from), short(to)), sides.0, sides.1, &[]));
        }
    }
    cells.retain(|cell| wanted(&cell.reach));
    let hosts = |wanted: &dyn Fn(&Cell) -> Option<String>| {
        cells.iter().filter_map(wanted).collect::<Vec<_>>().join(",")
    };
    let mut sites = String::new();
    for class in Class::ALL {
        let (name, kind) = (short(class), class.word());
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
fn play(cells: &[Cell], sites: &str, at: Addresses) -> Option<(Hub, Vec<Seen>, Wire)> {
    let buddies: Vec<(&str, &str)> = cells.iter().map(|cell| (&*cell.a, &*cell.b)).collect();
    let hub = Hub::with(sites, &buddies, "", at)?;
    let recorder = hub.lab.capture(&["hub"]);
    let mut bs: Vec<Online> = cells.iter().map(|cell| hub.peer(&cell.b, &cell.b, 90, &cell.more)).collect();
    hub.until_online(cells.len() as u64);
    let calls = |cell: &Cell| {
        let call = [&cell.more[..], &["--call", &cell.b]].concat();
        hub.peer(&cell.a, &cell.a, 90, &call)
    };
    let mut callers: Vec<Online> = cells.iter().map(calls).collect();
    hub.until_online(2 * cells.len() as u64);
    for (cell, caller) in cells.iter().zip(&mut callers) {
        match cell.reach.path <= Path::Spray || cell.a == "a-lan" {
            true => caller.talks_directly(),
            false => caller.has_called(),
        }
    }
    std::thread::sleep(Duration::from_secs(1) + TALK);
    callers.iter_mut().for_each(Online::leave);
    let callers: Vec<Value> = callers.into_iter().map(Online::report).collect();
    bs.iter_mut().for_each(Online::leave);
    let bs = bs.into_iter().map(Online::report);
    let seen = callers.into_iter().zip(bs).map(|(a, b)| Seen { a, b }).collect();
    Some((hub, seen, recorder.stop()))
}

pub(crate) fn is_media(packet: &Packet) -> bool {
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
    let Some((_hub, seen, wire)) = play(&cells, &sites, FOUR) else { return };
    for (cell, seen) in cells.iter().zip(&seen) {
        seen.went_directly(cell);
    }
    no_media(&wire);
}

fn no_media(wire: &Wire) {
    let media = wire.filter(is_media);
    assert!(media.is_empty(), "media came by a server\n{}", told(&media));
}

/// Ports to be guessed, neighbours, two NATs in a row, no UDP: what the cells are, and the sites that make them.
fn beyond_the_table() -> (Vec<Cell>, String) {
    const BY_PROXY: [&str; 2] = ["--proxy", FOUR.proxy];
    let (mut cells, sites) = table(|reach| reach.path > Path::Punch);
    assert_eq!(cells.len(), 3, "two sprays, and two symmetric ones");
    cells.iter_mut().for_each(|cell| cell.more.extend(BY_PROXY));
    let (one, other) = ("203.0.113.110", "203.0.113.111");
    let port = |hairpin: bool| side(Verdict { hairpin, ..Class::Port.verdict() }, one);
    // Two homes of one carrier share no LAN, and their private addresses are even the same.
    let overlapping = ["--proxy", FOUR.proxy, "--local", "192.168.1.10:5060"];
    for (name, both, more) in [
        ("lan", port(false), &BY_PROXY[..]),
        ("pin", port(true), &BY_PROXY),
        ("carried", port(true), &overlapping),
        ("far", port(false), &overlapping),
    ] {
        cells.push(Cell::new(name, both, both, more));
        assert!(cells.last().is_some_and(|cell| cell.reach.neighbours));
    }
    let shut = |ip: &str| side(Verdict::BLOCKED, ip);
    cells.push(Cell::new("shut-port", shut(one), side(Class::Port.verdict(), other), &[]));
    cells.push(Cell::new("sym-shut", side(Class::Symmetric.verdict(), one), shut(other), &BY_PROXY));
    cells.push(Cell::new("shut-shut", shut(one), shut(other), &[]));
    let more = "-s lan:port-restricted:a-lan,b-lan -s pin:port-restricted:a-pin,b-pin:hairpin=1 \
        -s near:port-restricted::hairpin=1,lan=100.64.0 -s near1:port-restricted:a-carried:behind=near \
        -s near2:port-restricted:b-carried:behind=near -s wide:port-restricted::lan=100.65.0 \
        -s wide1:port-restricted:a-far:behind=wide -s wide2:port-restricted:b-far:behind=wide \
        -s wall1:udp-blocked:a-shut-port,a-shut-shut:addr=203.0.113.201 \
        -s wall2:udp-blocked:b-sym-shut,b-shut-shut:addr=203.0.113.202 -s home:port-restricted:b-shut-port \
        -s office:symmetric:a-sym-shut";
    (cells, format!("{sites} {more}"))
}

/// By a spray when there is a call, in the LAN, at a NAT that leads back what is sent to its outside (hairpin), by the relay, or
/// by TLS: as the table says.
#[test]
fn where_nothing_is_known_to_both_it_is_a_spray_a_neighbours_path_the_relay_or_tls() {
    let (cells, sites) = beyond_the_table();
    let Some((_hub, seen, wire)) = play(&cells, &sites, FOUR) else { return };
    for (cell, seen) in cells.iter().zip(&seen) {
        let (name, call) = (format!("{} → {}", cell.a, cell.b), &seen.a["call"]);
        seen.talked(cell);
        let upgraded = call["upgrades"].as_u64().unwrap() > 0;
        let reflected = seen.a["reflected"].as_u64().unwrap() > 0;
        match cell.reach.path {
            Path::Spray => assert!(upgraded && reflected, "{name}: first words are reflected: {:#}", seen.a),
            Path::Punch => assert!(upgraded && seen.path(cell) == "direct", "{name}: {:#}", seen.a),
            // In their own network, though their NAT would not lead them there.
            _ if cell.a == "a-lan" => {
                assert!(upgraded && seen.path(cell) == "direct", "{name}: {:#}", seen.a)
            }
            Path::Tunnel => {
                assert!(seen.path(cell) == "tunnel" && call["path"] == "tunnel", "{name}: {:#}", seen.a);
            }
            _ => {
                assert!(!upgraded && call["path"] == "relay", "{name}: {:#}", seen.a);
                assert!(reflected && seen.path(cell) == "reflector", "{name}: {:#}", seen.a);
            }
        }
    }
    let walls = ["203.0.113.201", "203.0.113.202"].map(|ip| ip.parse::<IpAddr>().unwrap());
    let leaked = wire.filter(|p| p.transport == Transport::Udp && walls.contains(&p.from.ip()));
    assert!(leaked.is_empty(), "UDP has passed\n{}", told(&leaked));
    let relay = ip_of(FOUR.proxy);
    assert!(wire.packets.iter().any(|packet| is_media(packet) && packet.from.ip() == relay));
}

/// A firewall translates nothing and lets in what was asked for: a punch opens it.
#[test]
fn two_ipv6_firewalls_are_opened_by_a_punch() {
    let wall = Verdict { translated: false, ..Class::Port.verdict() };
    let sides = (side(wall, "2001:db8:a00::10"), side(wall, "2001:db8:a01::10"));
    let cells = [Cell::new("six", sides.0, sides.1, &[])];
    assert_eq!(cells[0].reach.path, Path::Punch);
    let sites = "-s home:port-restricted:a-six:ipv6=stateful -s office:port-restricted:b-six:ipv6=stateful";
    let Some((_hub, seen, wire)) = play(&cells, sites, SIX) else { return };
    seen[0].went_directly(&cells[0]);
    assert_eq!(seen[0].a["nat"], "a firewall");
    no_media(&wire);
}
