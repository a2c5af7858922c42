//! From a name to addresses: §§ 4.1, 4.2, and RFC 2782. Asked of the resolution that every name goes through, with a zone
//! made up; with a real name server it is in `lab_names`.

use proto::node::Transport::{self, *};
use proto::node::{Birth, Dice, Lane};
use proto::resolve::{Found, Lookup, Naptr, Resolution, Srv, Step, by_weight};

const ALL: [Transport; 3] = [Udp, Tcp, Tls];

fn dice() -> Dice {
    let (now, wall) = (std::time::Instant::now(), std::time::SystemTime::UNIX_EPOCH);
    Birth { now, wall, seed: [7; 32], lane: Lane::default() }.dice(0)
}

fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> Naptr {
    Naptr { order, preference, flags: "s".into(), service: service.into(), replacement: replacement.into() }
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
    Srv { priority, weight, port, target: target.into() }
}

/// A zone: everything not in it is answered with nothing.
struct Zone(Vec<(Lookup, Found)>);

impl Zone {
    fn new() -> Zone {
        Zone(vec![])
    }
    fn naptr(mut self, name: &str, records: Vec<Naptr>) -> Zone {
        self.0.push((Lookup::Naptr(name.into()), Found::Naptr(records)));
        self
    }
    fn srv(mut self, name: &str, records: Vec<Srv>) -> Zone {
        self.0.push((Lookup::Srv(name.into()), Found::Srv(records)));
        self
    }
    fn host(mut self, name: &str, ips: &[&str]) -> Zone {
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        self.0.push((Lookup::Addresses(name.into()), Found::Addresses(ips)));
        self
    }
    /// Runs a resolution; tells what was asked and where it leads.
    fn run(&self, mut resolution: Resolution) -> (Vec<Lookup>, Vec<String>) {
        let (mut asked, mut dice) = (vec![], dice());
        for _ in 0..4 {
            match resolution.step(&mut dice) {
                Step::Done(targets) => {
                    return (asked, targets.iter().map(|(t, a)| format!("{t} {a}")).collect());
                }
                Step::Ask(lookups) => lookups.into_iter().for_each(|lookup| {
                    let found = self.0.iter().find(|(l, _)| *l == lookup).map(|(_, f)| f.clone());
                    asked.push(lookup.clone());
                    resolution.answer(lookup, found.unwrap_or(Found::Nothing));
                }),
            }
        }
        panic!("more than three rounds");
    }
}

fn plain(host: &str) -> Resolution {
    Resolution::new(host, None, None, false, &ALL)
}

/// §4.1: NAPTR records choose the transport, in their order; the SRV records they name choose the host and port.
#[test]
fn naptr_chooses_the_transport_and_srv_the_host() {
    let zone = Zone::new()
        .naptr(
            "example.com",
            vec![
                naptr(90, 50, "SIP+D2T", "_sip._tcp.example.com."),
                naptr(50, 50, "SIPS+D2T", "_sips._tcp.example.com."),
                naptr(100, 50, "SIP+D2U", "_sip._udp.example.com."),
            ],
        )
        .srv("_sips._tcp.example.com", vec![srv(0, 1, 5061, "s1.example.com.")])
        .srv("_sip._tcp.example.com", vec![srv(0, 1, 5060, "s2.example.com.")])
        .srv("_sip._udp.example.com", vec![srv(0, 1, 5080, "s3.example.com.")])
        .host("s1.example.com", &["192.0.2.1"])
        .host("s2.example.com", &["192.0.2.2", "2001:db8::2"])
        .host("s3.example.com", &["192.0.2.3"]);
    let (_, targets) = zone.run(plain("example.com"));
    assert_eq!(
        targets,
        ["tls 192.0.2.1:5061", "tcp 192.0.2.2:5060", "tcp [2001:db8::2]:5060", "udp 192.0.2.3:5080"]
    );
}

/// §4.1: records of services and transports that the client lacks are discarded.
#[test]
fn naptr_of_transports_we_lack_and_of_other_services_is_passed_over() {
    let mut enum_rule = naptr(1, 1, "E2U+sip", "elsewhere.example.com");
    enum_rule.flags = "u".into();
    let zone = Zone::new()
        .naptr(
            "example.com",
            vec![enum_rule, naptr(2, 1, "SIP+D2S", "_sip._sctp.example.com"), naptr(3, 1, "sip+d2u", "x")],
        )
        .srv("x", vec![srv(0, 0, 5070, "h")])
        .host("h", &["192.0.2.9"]);
    assert_eq!(zone.run(plain("example.com")).1, ["udp 192.0.2.9:5070"]);
}

/// §4.1: without NAPTR the client asks for SRV of every transport it has.
#[test]
fn without_naptr_each_transport_of_ours_is_asked_for_by_srv() {
    let zone = Zone::new().srv("_sip._tcp.example.com", vec![srv(0, 0, 5090, "h")]).host("h", &["192.0.2.9"]);
    let (asked, targets) = zone.run(plain("example.com"));
    assert_eq!(targets, ["tcp 192.0.2.9:5090"]);
    let srv_asked: Vec<_> = asked.into_iter().filter(|l| matches!(l, Lookup::Srv(_))).collect();
    assert_eq!(srv_asked.len(), 3);
}

/// §4.1, §4.2: without any SRV it is UDP, at the addresses of the name itself, and the default port.
#[test]
fn without_naptr_and_srv_the_name_itself_is_tried_over_udp() {
    let zone = Zone::new().host("example.com", &["2001:db8::1", "192.0.2.1"]);
    let (_, targets) = zone.run(plain("Example.com."));
    assert_eq!(targets, ["udp [2001:db8::1]:5060", "udp 192.0.2.1:5060"]);
}

/// §4.1, §4.2: a port in the URI leaves no SRV to ask for; UDP unless the URI says otherwise.
#[test]
fn a_port_in_the_uri_leaves_only_addresses_to_ask() {
    let zone = Zone::new().host("example.com", &["192.0.2.1"]);
    let (asked, targets) = zone.run(Resolution::new("example.com", Some(5070), None, false, &ALL));
    assert_eq!(asked, [Lookup::Addresses("example.com".into())]);
    assert_eq!(targets, ["udp 192.0.2.1:5070"]);
    let (_, targets) = zone.run(Resolution::new("example.com", Some(5070), Some(Tcp), false, &ALL));
    assert_eq!(targets, ["tcp 192.0.2.1:5070"]);
}

/// §4.1: a transport in the URI is used, and no NAPTR asked for.
#[test]
fn a_transport_in_the_uri_skips_naptr() {
    let zone = Zone::new().srv("_sip._tcp.example.com", vec![srv(0, 0, 5090, "h")]).host("h", &["192.0.2.9"]);
    let (asked, targets) = zone.run(Resolution::new("example.com", None, Some(Tcp), false, &ALL));
    assert_eq!(asked[0], Lookup::Srv("_sip._tcp.example.com".into()));
    assert_eq!(targets, ["tcp 192.0.2.9:5090"]);
}

/// §4.1: for `sips` records of other services than SIPS are discarded, and the transport is TLS whatever else is said.
#[test]
fn sips_never_leaves_in_the_clear() {
    let zone = Zone::new()
        .naptr(
            "example.com",
            vec![naptr(1, 1, "SIP+D2U", "_sip._udp.example.com"), naptr(2, 1, "SIPS+D2T", "t")],
        )
        .srv("t", vec![srv(0, 0, 5061, "h")])
        .host("h", &["192.0.2.9"])
        .host("example.com", &["192.0.2.1"]);
    assert_eq!(zone.run(Resolution::new("example.com", None, None, true, &ALL)).1, ["tls 192.0.2.9:5061"]);
    let over_tcp = Resolution::new("example.com", None, Some(Tcp), true, &ALL);
    assert_eq!(zone.run(over_tcp).1, ["tls 192.0.2.1:5061"]);
    let with_port = Resolution::new("example.com", Some(5099), None, true, &ALL);
    assert_eq!(zone.run(with_port).1, ["tls 192.0.2.1:5099"]);
    let websocket = Resolution::new("example.com", None, Some(Ws), true, &[Wss]);
    assert_eq!(zone.run(websocket).1, ["wss 192.0.2.1:443"]);
}

/// §4.2, RFC 2782: an SRV target of `.` means that the service is not there.
#[test]
fn an_srv_target_of_a_dot_means_no() {
    let zone =
        Zone::new().srv("_sip._udp.example.com", vec![srv(0, 0, 0, ".")]).host("example.com", &["192.0.2.1"]);
    let udp_only = Resolution::new("example.com", None, None, false, &[Udp]);
    assert_eq!(zone.run(udp_only).1, Vec::<String>::new());
}

/// §4.2: a name nobody knows is an empty list.
#[test]
fn nothing_at_all_is_an_empty_list_after_three_rounds() {
    assert_eq!(Zone::new().run(plain("nowhere.example")).1, Vec::<String>::new());
}

/// §4.3: an address is tried once, behind however many names it is.
#[test]
fn one_address_behind_two_names_is_tried_once() {
    let zone = Zone::new()
        .srv("_sip._udp.example.com", vec![srv(0, 0, 5060, "a"), srv(1, 0, 5060, "b")])
        .host("a", &["192.0.2.1"])
        .host("b", &["192.0.2.1"]);
    assert_eq!(
        zone.run(Resolution::new("example.com", None, Some(Udp), false, &ALL)).1,
        ["udp 192.0.2.1:5060"]
    );
}

/// §4.2, RFC 2782: lower priorities come first, whatever the weights.
#[test]
fn lower_priority_values_come_first_whatever_the_weights() {
    let records = [srv(20, 65535, 1, "b"), srv(10, 0, 1, "a"), srv(30, 100, 1, "c")];
    let order: Vec<_> = by_weight(&records, &mut dice()).into_iter().map(|r| r.target).collect();
    assert_eq!(order, ["a", "b", "c"]);
}

/// §4.2, RFC 2782: within a priority, weights share the first place in proportion.
#[test]
fn weights_share_first_place_in_proportion() {
    let records = [srv(0, 75, 1, "big"), srv(0, 25, 1, "small")];
    let mut dice = dice();
    let first = (0..4000).filter(|_| by_weight(&records, &mut dice)[0].target == "big").count();
    assert!((2850..3150).contains(&first), "{first} of 4000");
}

/// §4.2, RFC 2782: a weight of 0 is rarely first, and never lost.
#[test]
fn a_weight_of_zero_is_rarely_first_beside_a_heavy_one_and_never_lost() {
    let records = [srv(0, 99, 1, "heavy"), srv(0, 0, 1, "light")];
    let mut dice = dice();
    let mut first = 0;
    for _ in 0..4000 {
        let order = by_weight(&records, &mut dice);
        assert_eq!(order.len(), 2);
        first += usize::from(order[0].target == "light");
    }
    assert!((10..90).contains(&first), "{first} of 4000");
}

/// §4.2, RFC 2782: weights of 0 alone keep everybody.
#[test]
fn equal_weights_of_zero_keep_everybody() {
    let records: Vec<_> = (0..5).map(|n| srv(0, 0, n, "h")).collect();
    let mut ports: Vec<_> = by_weight(&records, &mut dice()).into_iter().map(|r| r.port).collect();
    ports.sort_unstable();
    assert_eq!(ports, [0, 1, 2, 3, 4]);
}
