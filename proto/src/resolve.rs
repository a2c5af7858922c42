//! Where to send a request (RFC 3263 §4), as a machine that asks for DNS records and orders what it is given.
//!
//! Nothing here touches the network. The shell keeps asking until there are targets:
//!
//! ```
//! # use proto::resolve::{Resolution, Found, Step};
//! # use proto::node::{Birth, Lane, Transport};
//! # let birth = Birth { now: std::time::Instant::now(), wall: std::time::SystemTime::now(), seed: [1; 32],
//! #     lane: Lane::default() };
//! # let ask = |_lookup: &proto::resolve::Lookup| Found::Addresses(vec!["192.0.2.1".parse().unwrap()]);
//! let mut dice = birth.dice(0);
//! let mut resolution = Resolution::new("example.com", None, None, false, &[Transport::Udp, Transport::Tcp]);
//! let targets = loop {
//!     match resolution.step(&mut dice) {
//!         Step::Ask(lookups) => lookups.into_iter().for_each(|lookup| {
//!             let found = ask(&lookup); // in parallel, cached; a failed look-up is `Found::Nothing`
//!             resolution.answer(lookup, found);
//!         }),
//!         Step::Done(targets) => break targets, // empty: nobody to send to
//!     }
//! };
//! # assert_eq!(targets, vec![(Transport::Udp, "192.0.2.1:5060".parse().unwrap())]);
//! ```
//!
//! There are at most three rounds: NAPTR, SRV, addresses. Answers may be cached by the shell between resolutions;
//! the weights of RFC 2782 are thrown anew each time, which is what spreads the load.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::node::{Dice, Transport};

/// No more targets than this come out, however many records go in.
const MAX_TARGETS: usize = 32;
/// No more services of one name are followed than this.
const MAX_SERVICES: usize = 8;

/// One DNS question. Names are as they are asked, without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lookup {
    /// NAPTR records of a domain.
    Naptr(String),
    /// SRV records of a service (`_sip._udp.example.com`).
    Srv(String),
    /// A and AAAA records of a host.
    Addresses(String),
}

/// What a [`Lookup`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// To [`Lookup::Naptr`].
    Naptr(Vec<Naptr>),
    /// To [`Lookup::Srv`].
    Srv(Vec<Srv>),
    /// To [`Lookup::Addresses`], in the order in which they shall be tried.
    Addresses(Vec<IpAddr>),
    /// The name does not exist, has no such record, or nobody answered.
    Nothing,
}

/// A NAPTR record (RFC 3403), as far as RFC 3263 uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naptr {
    /// Lower first.
    pub order: u16,
    /// Lower first, within one order.
    pub preference: u16,
    /// `s` for SIP.
    pub flags: String,
    /// `SIP+D2U`, `SIP+D2T`, `SIPS+D2T`, `SIP+D2W`, `SIPS+D2W`.
    pub service: String,
    /// The SRV name to ask for.
    pub replacement: String,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// Lower first.
    pub priority: u16,
    /// Share within one priority.
    pub weight: u16,
    /// Port there.
    pub port: u16,
    /// Host; `.` or nothing: the service is decidedly not offered.
    pub target: String,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Find these out and call [`Resolution::answer`] for each.
    Ask(Vec<Lookup>),
    /// Where to send, best first.
    Done(Vec<(Transport, SocketAddr)>),
}

/// One name being resolved. See the module.
#[derive(Clone, Debug)]
pub struct Resolution {
    host: String,
    port: Option<u16>,
    transport: Option<Transport>,
    secure: bool,
    supported: Vec<Transport>,
    found: BTreeMap<Lookup, Found>,
}

/// A host to find the addresses of, and how to send there.
type Host = (Transport, String, u16);

impl Resolution {
    /// The fields of [`crate::node::Question::Resolve`], and the transports we can send by, the preferred one first.
    pub fn new(
        host: &str,
        port: Option<u16>,
        transport: Option<Transport>,
        secure: bool,
        supported: &[Transport],
    ) -> Resolution {
        let host = bare(host);
        Resolution { host, port, transport, secure, supported: supported.to_vec(), found: BTreeMap::new() }
    }

    /// What to ask, or the result. The dice decide between equals (RFC 2782 weights).
    pub fn step(&self, dice: &mut Dice) -> Step {
        match self.hosts(dice) {
            Err(missing) => Step::Ask(missing),
            Ok(hosts) => self.addresses(&hosts),
        }
    }

    /// Takes an answer in. An answer of another kind than the question counts as nothing.
    pub fn answer(&mut self, lookup: Lookup, found: Found) {
        self.found.insert(lookup, found);
    }

    /// RFC 3263 §4.1 and §4.2: which hosts, by which transport, in which order; or what must be known first.
    fn hosts(&self, dice: &mut Dice) -> Result<Vec<Host>, Vec<Lookup>> {
        if let (Some(port), transport) = (self.port, self.fixed_or_default()) {
            return Ok(vec![(transport, self.host.clone(), port)]);
        }
        let services = match self.transport {
            Some(_) => srv_name(self.fixed_or_default(), &self.host).into_iter().collect(),
            None => self.services()?,
        };
        let hosts = self.srv_hosts(&services, dice)?;
        if !hosts.is_empty() {
            return Ok(hosts);
        }
        let refused = services.iter().any(|(_, name)| self.is_refused(name));
        let transport = self.fixed_or_default();
        let plain = (transport, self.host.clone(), transport.default_port());
        Ok(if refused { vec![] } else { vec![plain] })
    }

    /// The transport the URI fixes, raised to its secure form by `sips:`; else UDP, or TLS for `sips:` (§4.1).
    fn fixed_or_default(&self) -> Transport {
        match (self.transport, self.secure) {
            (None | Some(Transport::Udp | Transport::Tcp), true) => Transport::Tls,
            (Some(Transport::Ws), true) => Transport::Wss,
            (Some(fixed), _) => fixed,
            (None, false) => Transport::Udp,
        }
    }

    /// §4.1, transport not fixed: the services NAPTR names; without NAPTR, an SRV name for each transport of ours.
    fn services(&self) -> Result<Vec<(Transport, String)>, Vec<Lookup>> {
        let lookup = Lookup::Naptr(self.host.clone());
        let Some(found) = self.found.get(&lookup) else { return Err(vec![lookup]) };
        let mut records: Vec<(&Naptr, Transport)> = match found {
            Found::Naptr(records) => records.iter().filter_map(|r| Some((r, self.usable(r)?))).collect(),
            _ => vec![],
        };
        if records.is_empty() {
            return Ok(self.guessed_services());
        }
        records.sort_by_key(|(r, _)| (r.order, r.preference));
        records.truncate(MAX_SERVICES);
        Ok(records.into_iter().map(|(r, transport)| (transport, bare(&r.replacement))).collect())
    }

    /// The transport of a NAPTR record we can follow: a terminal `s` rule, a transport of ours, secure when asked.
    fn usable(&self, record: &Naptr) -> Option<Transport> {
        let transport = naptr_transport(&record.service)?;
        let fits = record.flags.eq_ignore_ascii_case("s") && self.permits(transport);
        fits.then_some(transport)
    }

    fn permits(&self, transport: Transport) -> bool {
        self.supported.contains(&transport) && (!self.secure || transport.is_secure())
    }

    fn guessed_services(&self) -> Vec<(Transport, String)> {
        let permitted = self.supported.iter().filter(|&&t| self.permits(t));
        permitted.filter_map(|&t| srv_name(t, &self.host)).collect()
    }

    /// The hosts of all services, in the services' order; within one service by RFC 2782.
    fn srv_hosts(&self, services: &[(Transport, String)], dice: &mut Dice) -> Result<Vec<Host>, Vec<Lookup>> {
        let lookups = services.iter().map(|(_, name)| Lookup::Srv(name.clone()));
        let missing: Vec<Lookup> = lookups.filter(|lookup| !self.found.contains_key(lookup)).collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let mut hosts = vec![];
        for (transport, name) in services {
            let records = by_weight(self.srv(name), dice).into_iter().filter(|r| !bare(&r.target).is_empty());
            hosts.extend(records.map(|r| (*transport, bare(&r.target), r.port)));
        }
        hosts.truncate(MAX_TARGETS);
        Ok(hosts)
    }

    fn srv(&self, name: &str) -> &[Srv] {
        match self.found.get(&Lookup::Srv(name.to_string())) {
            Some(Found::Srv(records)) => records,
            _ => &[],
        }
    }

    /// RFC 2782: a single record whose target is `.` says that there is no such service, so no guess is made.
    fn is_refused(&self, name: &str) -> bool {
        matches!(self.srv(name), [only] if bare(&only.target).is_empty())
    }

    /// The addresses of the hosts, in order, without repeats.
    fn addresses(&self, hosts: &[Host]) -> Step {
        let mut targets = vec![];
        let mut missing = vec![];
        for (transport, host, port) in hosts {
            let lookup = Lookup::Addresses(host.clone());
            match (crate::node::literal(host), self.found.get(&lookup)) {
                (Some(ip), _) => push_new(&mut targets, (*transport, SocketAddr::new(ip, *port))),
                (None, None) => push_new(&mut missing, lookup),
                (None, Some(Found::Addresses(ips))) => ips
                    .iter()
                    .for_each(|&ip| push_new(&mut targets, (*transport, SocketAddr::new(ip, *port)))),
                (None, Some(_)) => {}
            }
        }
        targets.truncate(MAX_TARGETS);
        if missing.is_empty() { Step::Done(targets) } else { Step::Ask(missing) }
    }
}

/// The order of RFC 2782: priorities ascending; within one, drawn by weight, records of weight 0 first in line.
pub fn by_weight(records: &[Srv], dice: &mut Dice) -> Vec<Srv> {
    let mut waiting = records.to_vec();
    waiting.sort_by_key(|r| (r.priority, r.weight != 0));
    let mut ordered = Vec::with_capacity(waiting.len());
    while let Some(first) = waiting.first() {
        let same = waiting.iter().take_while(|r| r.priority == first.priority).count();
        let drawn = draw(&waiting[..same], dice);
        ordered.push(waiting.remove(drawn));
    }
    ordered
}

/// Which of several records of one priority comes next: the first whose running sum reaches a throw of 0..=sum.
fn draw(records: &[Srv], dice: &mut Dice) -> usize {
    let sum: u64 = records.iter().map(|r| u64::from(r.weight)).sum();
    let throw = dice.below(sum + 1);
    let running = records.iter().scan(0, |sum, r| {
        *sum += u64::from(r.weight);
        Some(*sum)
    });
    running.into_iter().position(|sum| sum >= throw).unwrap_or(0)
}

/// RFC 3263 §4.1 and RFC 7118 §9: the transport a NAPTR service stands for.
fn naptr_transport(service: &str) -> Option<Transport> {
    match service.to_ascii_uppercase().as_str() {
        "SIP+D2U" => Some(Transport::Udp),
        "SIP+D2T" => Some(Transport::Tcp),
        "SIPS+D2T" => Some(Transport::Tls),
        "SIP+D2W" => Some(Transport::Ws),
        "SIPS+D2W" => Some(Transport::Wss),
        _ => None,
    }
}

/// The SRV name of a transport; WebSocket has none but what NAPTR says.
fn srv_name(transport: Transport, host: &str) -> Option<(Transport, String)> {
    let service = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
        Transport::Ws | Transport::Wss => return None,
    };
    Some((transport, format!("{service}.{host}")))
}

/// A name without its trailing dot, in lower case.
fn bare(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Birth, Lane};
    use Transport::*;

    const ALL: [Transport; 3] = [Udp, Tcp, Tls];

    fn dice() -> Dice {
        seeded(7)
    }

    #[allow(clippy::disallowed_methods)]
    fn seeded(seed: u8) -> Dice {
        let (now, wall) = (std::time::Instant::now(), std::time::SystemTime::UNIX_EPOCH);
        Birth { now, wall, seed: [seed; 32], lane: Lane::default() }.dice(0)
    }

    fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> Naptr {
        Naptr {
            order,
            preference,
            flags: "s".into(),
            service: service.into(),
            replacement: replacement.into(),
        }
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

    #[test]
    fn naptr_of_transports_we_lack_and_of_other_services_is_passed_over() {
        let mut enum_rule = naptr(1, 1, "E2U+sip", "elsewhere.example.com");
        enum_rule.flags = "u".into();
        let zone = Zone::new()
            .naptr(
                "example.com",
                vec![
                    enum_rule,
                    naptr(2, 1, "SIP+D2S", "_sip._sctp.example.com"),
                    naptr(3, 1, "sip+d2u", "x"),
                ],
            )
            .srv("x", vec![srv(0, 0, 5070, "h")])
            .host("h", &["192.0.2.9"]);
        assert_eq!(zone.run(plain("example.com")).1, ["udp 192.0.2.9:5070"]);
    }

    #[test]
    fn without_naptr_each_transport_of_ours_is_asked_for_by_srv() {
        let zone =
            Zone::new().srv("_sip._tcp.example.com", vec![srv(0, 0, 5090, "h")]).host("h", &["192.0.2.9"]);
        let (asked, targets) = zone.run(plain("example.com"));
        assert_eq!(targets, ["tcp 192.0.2.9:5090"]);
        let srv_asked: Vec<_> = asked.into_iter().filter(|l| matches!(l, Lookup::Srv(_))).collect();
        assert_eq!(srv_asked.len(), 3);
    }

    #[test]
    fn without_naptr_and_srv_the_name_itself_is_tried_over_udp() {
        let zone = Zone::new().host("example.com", &["2001:db8::1", "192.0.2.1"]);
        let (_, targets) = zone.run(plain("Example.com."));
        assert_eq!(targets, ["udp [2001:db8::1]:5060", "udp 192.0.2.1:5060"]);
    }

    #[test]
    fn a_port_in_the_uri_leaves_only_addresses_to_ask() {
        let zone = Zone::new().host("example.com", &["192.0.2.1"]);
        let (asked, targets) = zone.run(Resolution::new("example.com", Some(5070), None, false, &ALL));
        assert_eq!(asked, [Lookup::Addresses("example.com".into())]);
        assert_eq!(targets, ["udp 192.0.2.1:5070"]);
        let (_, targets) = zone.run(Resolution::new("example.com", Some(5070), Some(Tcp), false, &ALL));
        assert_eq!(targets, ["tcp 192.0.2.1:5070"]);
    }

    #[test]
    fn a_transport_in_the_uri_skips_naptr() {
        let zone =
            Zone::new().srv("_sip._tcp.example.com", vec![srv(0, 0, 5090, "h")]).host("h", &["192.0.2.9"]);
        let (asked, targets) = zone.run(Resolution::new("example.com", None, Some(Tcp), false, &ALL));
        assert_eq!(asked[0], Lookup::Srv("_sip._tcp.example.com".into()));
        assert_eq!(targets, ["tcp 192.0.2.9:5090"]);
    }

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
        assert_eq!(
            zone.run(Resolution::new("example.com", None, None, true, &ALL)).1,
            ["tls 192.0.2.9:5061"]
        );
        let over_tcp = Resolution::new("example.com", None, Some(Tcp), true, &ALL);
        assert_eq!(zone.run(over_tcp).1, ["tls 192.0.2.1:5061"]);
        let with_port = Resolution::new("example.com", Some(5099), None, true, &ALL);
        assert_eq!(zone.run(with_port).1, ["tls 192.0.2.1:5099"]);
        let websocket = Resolution::new("example.com", None, Some(Ws), true, &[Wss]);
        assert_eq!(zone.run(websocket).1, ["wss 192.0.2.1:443"]);
    }

    #[test]
    fn an_srv_target_of_a_dot_means_no() {
        let zone = Zone::new()
            .srv("_sip._udp.example.com", vec![srv(0, 0, 0, ".")])
            .host("example.com", &["192.0.2.1"]);
        let udp_only = Resolution::new("example.com", None, None, false, &[Udp]);
        assert_eq!(zone.run(udp_only).1, Vec::<String>::new());
    }

    #[test]
    fn nothing_at_all_is_an_empty_list_after_three_rounds() {
        assert_eq!(Zone::new().run(plain("nowhere.example")).1, Vec::<String>::new());
    }

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

    #[test]
    fn a_thousand_records_make_a_bounded_list() {
        let many = (0..1000).map(|n| srv(n, 0, 5060, &format!("192.0.2.{}", n % 250))).collect();
        let zone = Zone::new().srv("_sip._udp.example.com", many);
        let (_, targets) = zone.run(Resolution::new("example.com", None, Some(Udp), false, &ALL));
        assert_eq!(targets.len(), MAX_TARGETS);
        assert_eq!(targets[0], "udp 192.0.2.0:5060");
    }

    #[test]
    fn lower_priority_values_come_first_whatever_the_weights() {
        let records = [srv(20, 65535, 1, "b"), srv(10, 0, 1, "a"), srv(30, 100, 1, "c")];
        let order: Vec<_> = by_weight(&records, &mut dice()).into_iter().map(|r| r.target).collect();
        assert_eq!(order, ["a", "b", "c"]);
    }

    #[test]
    fn weights_share_first_place_in_proportion() {
        let records = [srv(0, 75, 1, "big"), srv(0, 25, 1, "small")];
        let mut dice = dice();
        let first = (0..4000).filter(|_| by_weight(&records, &mut dice)[0].target == "big").count();
        assert!((2850..3150).contains(&first), "{first} of 4000");
    }

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

    #[test]
    fn equal_weights_of_zero_keep_everybody() {
        let records: Vec<_> = (0..5).map(|n| srv(0, 0, n, "h")).collect();
        let mut ports: Vec<_> = by_weight(&records, &mut dice()).into_iter().map(|r| r.port).collect();
        ports.sort_unstable();
        assert_eq!(ports, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn the_same_seed_gives_the_same_order() {
        let records: Vec<_> = (1..20).map(|n| srv(0, n, n, "h")).collect();
        assert_eq!(by_weight(&records, &mut seeded(1)), by_weight(&records, &mut seeded(1)));
        assert_ne!(by_weight(&records, &mut seeded(1)), by_weight(&records, &mut seeded(2)));
    }
}
