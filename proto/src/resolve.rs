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
mod tests;
