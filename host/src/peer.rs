//! A peer on sockets: the machine of `endpoint-sim`, on a lane of its own.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use endpoint_sim::peer::{Peer, PeerConfig, PeerReport};
use proto::node::{Birth, Input, Lane as LaneNumber, Transport};
use proto::peer::nat::Verdict;

use crate::bindings::Bindings;
use crate::config::values::SipAddress;
use crate::endpoint::{believes, towards};
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
use crate::tls::{Credentials, Keyroom};

/// One peer: who it is, and what it is to do.
#[derive(Clone, Debug)]
pub struct PeerPlan {
    /// User part of its address of record.
    pub user: String,
    /// Its domain; none: the server's address.
    pub domain: Option<String>,
    /// Digest password.
    pub password: String,
    /// The access server.
    pub server: SocketAddr,
    /// Where that listens for TLS, for when UDP does not pass.
    pub tls: Option<SocketAddr>,
    /// Authorities of its certificate (PEM); none: this machine's.
    pub ca: Option<PathBuf>,
    /// The STUN server; none: the access server.
    pub stun: Option<SocketAddr>,
    /// The reflector, if there is one.
    pub reflector: Option<SocketAddr>,
    /// The SIP proxy its calls go by, if there is one.
    pub proxy: Option<SocketAddr>,
    /// Whom it calls.
    pub call: Option<String>,
    /// Its own address.
    pub local: Option<SocketAddr>,
    /// How long it stays.
    pub stay: Duration,
    /// Messages it sends once it sees a buddy: to whom, and what.
    pub say: Vec<(String, String)>,
    /// Whether others may learn its address.
    pub direct: bool,
    /// What it knows of its NAT from before; none: it finds out before it logs in.
    pub nat: Option<Verdict>,
    /// Whether it keeps its NAT's mapping towards the access server alive.
    pub keeps_alive: bool,
}

/// Lets it be online for its time; gives what it saw just before it left.
pub fn run(plan: &PeerPlan) -> Result<PeerReport, StartError> {
    run_with(plan, |_| (), Box::new(|_| ()))
}

/// What has a peer leave before its time.
#[derive(Clone, Debug)]
pub struct Leave(Arc<PostOffice>);

impl Leave {
    /// It tells its buddies, logs out and ends.
    pub fn now(&self) {
        let _ = self.0.post(Address { lane: 0, seat: 0 }, Input::Drain);
    }
}

/// The same, for somebody who may have it leave earlier, and who is told of what happens meanwhile.
pub fn run_with(
    plan: &PeerPlan,
    give: impl FnOnce(Leave),
    listener: events::Listener,
) -> Result<PeerReport, StartError> {
    let local = match plan.local {
        Some(local) => local,
        None => SocketAddr::new(towards(plan.server)?, 0),
    };
    let (socket, local) = open_udp(SipAddress::udp(local), 1)?.remove(0);
    let packets = HashSet::from([(Transport::Tls, local)]);
    let keys = Keyroom::new(Credentials { packets, ..believes(plan.ca.as_deref())? });
    let seats: Seats = Arc::new([Address { lane: 0, seat: 0 }]);
    let doors = [Transport::Udp, Transport::Tls].map(|transport| (transport, local));
    let served = doors.into_iter().map(|door| (door, seats.clone())).collect();
    let mailbox = Mailbox::new().map_err(|error| no_threads(&error))?;
    let post = Arc::new(PostOffice::new(vec![Arc::new(mailbox)], served, crate::keys::random()));
    let collector = Collector::telling(1, listener).map_err(|error| no_threads(&error))?;
    let (outside, errands) = Outside::new();
    let tables = SharedTables::new(Bindings::default(), None);

    let seat = Seat::new(Service::Peer(Box::new(peer(plan, local))), LaneTables(tables));
    let listeners = vec![Listener { socket, local, seats }];
    let lane = Lane::new(
        "peer".to_owned(),
        0,
        vec![seat],
        listeners,
        post.clone(),
        outside.clone(),
        collector.ring(0),
    );
    let lane = lane.map_err(|error| no_threads(&error))?;
    let thread = std::thread::Builder::new().name("peer".to_owned()).spawn(move || lane.run());
    let thread = thread.map_err(|error| no_threads(&error))?;
    drop(outside);
    give(Leave(post.clone()));
    let connections = Streams::new(post.clone(), keys);
    let outside =
        outside::start(errands, post, connections, Vec::new(), None).map_err(|error| no_threads(&error))?;
    let seats = thread.join().unwrap_or_default();
    let _ = outside.join();
    let report = seats.iter().find_map(Seat::peer).map(Peer::last_report);
    Ok(report.unwrap_or_default())
}

fn peer(plan: &PeerPlan, local: SocketAddr) -> Peer {
    let domain = plan.domain.clone().unwrap_or_else(|| plan.server.ip().to_string());
    let stun = plan.stun.unwrap_or(plan.server);
    let mut config = PeerConfig::new(&plan.user, &domain, local, plan.server, stun);
    config.password.clone_from(&plan.password);
    config.tls = plan.tls;
    config.reflector = plan.reflector;
    config.proxy = plan.proxy;
    config.call.clone_from(&plan.call);
    config.secret = keys::random();
    config.allows.direct = plan.direct;
    config.remembered = plan.nat;
    config.keeps_alive = plan.keeps_alive;
    config.measures_life = plan.keeps_alive;
    config.stay = Some(plan.stay);
    config.say.clone_from(&plan.say);
    let (now, wall) = (Instant::now(), SystemTime::now());
    Peer::new(Birth { now, wall, seed: keys::random(), lane: LaneNumber::default() }, config)
}
