//! Phones on sockets: the machine of `endpoint-sim`, each on a lane of its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use endpoint_sim::{Backoff, Outbound, Phone, PhoneConfig, Report, Script};
use proto::node::{Birth, Lane as LaneNumber};
use serde::Deserialize;

use crate::bindings::Bindings;
use crate::config::values::SipAddress;
use crate::events::{self, Collector};
use crate::keys;
use crate::lanes::lane::{Lane, Listener};
use crate::lanes::mailbox::Mailbox;
use crate::lanes::post::{Address, PostOffice, Seats};
use crate::lanes::seat::{Seat, Service};
use crate::net::streams::Streams;
use crate::net::{Outside, outside};
use crate::server::{StartError, no_threads, open_udp};
use crate::tables::{LaneTables, SharedTables};
use crate::tls::{Credentials, Keyroom, believed, files};

/// Several phones that act at the same time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fleet {
    /// Each of them.
    pub phones: Vec<PhonePlan>,
}

/// One phone: who it is, and what it is to do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PhonePlan {
    /// User part of its address of record.
    pub user: String,
    /// Domain of its address of record; none: the proxy's address.
    #[serde(default)]
    pub domain: Option<String>,
    /// Digest password.
    #[serde(default)]
    pub password: Option<String>,
    /// Digest user name; none: the user part.
    #[serde(default)]
    pub auth_user: Option<String>,
    /// Where it sends everything.
    pub proxy: SipAddress,
    /// Authorities of the proxy's certificate (PEM), the same for all phones of a fleet; none: this machine's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Its own SIP address; none: the one this machine reaches the proxy from, any port.
    #[serde(default)]
    pub local: Option<SocketAddr>,
    /// Several flows at a time (RFC 5626): to `proxy`, and to more edge proxies.
    #[serde(default)]
    pub outbound: Option<OutboundPlan>,
    /// Its first media port.
    #[serde(default = "first_media_port")]
    pub media_port: u16,
    /// What it does.
    #[serde(default)]
    pub script: Script,
}

/// How a phone keeps several flows (RFC 5626).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct OutboundPlan {
    /// Its `+sip.instance`, a URN that is always the same; none: one for this run.
    pub instance: Option<String>,
    /// Edge proxies beside `proxy`; the same one over another transport is one, too.
    pub edges: Vec<SipAddress>,
    /// A failed flow is tried again after half to all of this, doubled with each failure, when none stands.
    pub all_failed_ms: u64,
    /// The same, when another one stands.
    pub some_failed_ms: u64,
    /// The longest wait.
    pub longest_ms: u64,
    /// How often a flow over UDP is probed by STUN, at most.
    pub stun_ms: u64,
    /// How often a connection is pinged, at most, when the registrar names no Flow-Timer.
    pub ping_ms: u64,
}

impl Default for OutboundPlan {
    fn default() -> Self {
        let Outbound { backoff, stun, ping, .. } = Outbound::new("", Vec::new());
        let ms = |time: Duration| time.as_millis() as u64;
        OutboundPlan {
            instance: None,
            edges: Vec::new(),
            all_failed_ms: ms(backoff.all_failed),
            some_failed_ms: ms(backoff.some_failed),
            longest_ms: ms(backoff.longest),
            stun_ms: ms(stun),
            ping_ms: ms(ping),
        }
    }
}

impl OutboundPlan {
    fn told(&self) -> Outbound {
        let ms = Duration::from_millis;
        Outbound {
            instance: self.instance.clone().unwrap_or_else(random_instance),
            edges: self.edges.iter().map(|edge| (edge.transport, edge.addr)).collect(),
            backoff: Backoff {
                all_failed: ms(self.all_failed_ms),
                some_failed: ms(self.some_failed_ms),
                longest: ms(self.longest_ms),
            },
            stun: ms(self.stun_ms),
            ping: ms(self.ping_ms),
        }
    }
}

/// A version 4 UUID as a URN (RFC 9562 §5.4).
fn random_instance() -> String {
    let random: [u8; 32] = keys::random();
    let mut bits = u128::from_be_bytes(*random.first_chunk().unwrap_or(&[0; 16]));
    bits = bits & !(0xf << 76 | 3 << 62) | 4 << 76 | 2 << 62;
    let hex = format!("{bits:032x}");
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Where media ports begin when nothing is said.
pub fn first_media_port() -> u16 {
    14_000
}

/// Lets them do what they are to do; gives their reports in the same order.
pub fn run(fleet: &Fleet) -> Result<Vec<Report>, StartError> {
    run_with(fleet, Box::new(|_| ()))
}

/// The same, for somebody who is told of what happens meanwhile.
pub fn run_with(fleet: &Fleet, listener: events::Listener) -> Result<Vec<Report>, StartError> {
    let (mut listeners, mut phones, mut served) = (Vec::new(), Vec::new(), HashMap::new());
    for (index, plan) in fleet.phones.iter().enumerate() {
        let (socket, local) = socket_for(plan)?;
        let seats: Seats = Arc::new([Address { lane: index, seat: 0 }]);
        let edges = plan.outbound.iter().flat_map(|outbound| &outbound.edges);
        for way in std::iter::once(&plan.proxy).chain(edges) {
            served.insert((way.transport, local), seats.clone());
        }
        listeners.push(Listener { socket, local, seats });
        phones.push(phone(plan, local));
    }
    let mailboxes: nix::Result<Vec<_>> = phones.iter().map(|_| Mailbox::new().map(Arc::new)).collect();
    let post = Arc::new(PostOffice::new(
        mailboxes.map_err(|error| no_threads(&error))?,
        served,
        crate::keys::random(),
    ));
    let collector = Collector::telling(phones.len(), listener).map_err(|error| no_threads(&error))?;
    let (outside, errands) = Outside::new();
    let tables = SharedTables::new(Bindings::default(), None);

    let mut lanes = Vec::new();
    for (index, (phone, listener)) in phones.into_iter().zip(listeners).enumerate() {
        let seat = Seat::new(Service::Phone(Box::new(phone)), LaneTables(tables.clone()));
        let (post, outside) = (post.clone(), outside.clone());
        let name = format!("phone-{index}");
        let lane =
            Lane::new(name.clone(), index, vec![seat], vec![listener], post, outside, collector.ring(index));
        let lane = lane.map_err(|error| no_threads(&error))?;
        let thread = std::thread::Builder::new().name(name).spawn(move || lane.run());
        lanes.push(thread.map_err(|error| no_threads(&error))?);
    }
    drop(outside);
    let authorities = fleet.phones.iter().find_map(|plan| plan.ca.as_deref());
    let connections = Streams::new(post.clone(), Keyroom::new(believes(authorities)?)).of_a_phone();
    fleet.phones.iter().filter_map(|plan| plan.domain.as_deref()).for_each(|name| connections.expect(name));
    let outside = outside::start(errands, post, connections, Vec::new(), None);
    let outside = outside.map_err(|error| no_threads(&error))?;
    let seats = lanes.into_iter().filter_map(|lane| lane.join().ok()).flatten();
    let reports = seats.filter_map(|seat| seat.phone().map(|phone| phone.report().clone())).collect();
    let _ = outside.join();
    Ok(reports)
}

fn socket_for(plan: &PhonePlan) -> Result<(UdpSocket, SocketAddr), StartError> {
    let local = match plan.local {
        Some(local) => local,
        None => SocketAddr::new(towards(plan.proxy.addr)?, 0),
    };
    let mut sockets = open_udp(SipAddress::udp(local), 1)?;
    Ok(sockets.remove(0))
}

/// The address this machine reaches another one from.
pub(crate) fn towards(remote: SocketAddr) -> Result<IpAddr, StartError> {
    let any: SocketAddr = if remote.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let ask = || {
        let socket = UdpSocket::bind(any)?;
        socket.connect(remote)?;
        socket.local_addr()
    };
    ask().map(|local| local.ip()).map_err(|error| StartError {
        what: format!("no way leads to {remote}: {error}"),
        remedy: "name a proxy this machine can reach".into(),
        at: None,
    })
}

fn phone(plan: &PhonePlan, local: SocketAddr) -> Phone {
    let domain = plan.domain.clone().unwrap_or_else(|| plan.proxy.addr.ip().to_string());
    let config = PhoneConfig {
        auth_user: plan.auth_user.clone(),
        password: plan.password.clone(),
        transport: plan.proxy.transport,
        media_port: plan.media_port,
        outbound: plan.outbound.as_ref().map(OutboundPlan::told),
        ..PhoneConfig::new(&plan.user, &domain, local, plan.proxy.addr)
    };
    let (now, wall) = (Instant::now(), SystemTime::now());
    Phone::new(
        Birth { now, wall, seed: keys::random(), lane: LaneNumber::default() },
        config,
        plan.script.clone(),
    )
}

/// Whether every phone that was in a call heard the other side and was heard, and at least one was.
pub fn audio_flowed(reports: &[Report]) -> bool {
    let mut in_calls = reports.iter().filter(|report| report.answered).peekable();
    in_calls.peek().is_some() && in_calls.all(|report| report.audio_both_ways)
}

/// Whom endpoints believe to be their server: what these authorities say, else this machine's.
pub(crate) fn believes(authorities: Option<&Path>) -> Result<Credentials, StartError> {
    let roots = match authorities.map(files::authorities).transpose() {
        Ok(roots) => roots.unwrap_or_else(files::system_authorities),
        Err(error) => {
            return Err(StartError { what: error.to_string(), remedy: error.remedy.into(), at: None });
        }
    };
    let client = believed::client(roots, None, false).map_err(|what| StartError {
        what,
        remedy: "name other authorities".into(),
        at: None,
    })?;
    Ok(Credentials { client: Some(Arc::new(client)), ..Credentials::default() })
}
