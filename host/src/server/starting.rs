//! A start, step by step: sockets first, then what they serve, threads last.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use proto::node::{Birth, Lane as LaneNumber, Transport};

use super::cores::{core_for, pin};
use super::handing::Belongings;
use super::handle::switch_kernel;
use super::plan::{Plan, lane_count, plans, seats_of};
use super::sockets::{cannot_listen, media_ports, open_tcp, open_udp};
use super::{From, Handle, Server, StartError, no_threads, store_error};
use crate::accounts::Accounts;
use crate::bindings::Bindings;
use crate::capture::{Recorder, View};
use crate::config::values::SipAddress;
use crate::config::{Settings, lower, peers, shield, tls};
use crate::dtls::Identity;
use crate::events::Collector;
use crate::kernel::{Handed, Kernel};
use crate::keys::{self, Keyring};
use crate::lanes::lane::{Lane, Listener};
use crate::lanes::mailbox::Mailbox;
use crate::lanes::post::{PostOffice, Seats};
use crate::lanes::seat::{Seat, Service};
use crate::limits;
use crate::net::icmp::Icmp;
use crate::net::streams::Streams;
use crate::net::{Outside, outside};
use crate::store::Store;
use crate::tables::{LaneTables, SharedTables};
use crate::tls::Keyroom;

/// What a start has at hand.
pub(super) struct Starting<'a> {
    pub(super) settings: &'a Settings,
    pub(super) keys: Keyring,
    pub(super) secret: [u8; 32],
    pub(super) identity: Option<Identity>,
    pub(super) store: Option<Store>,
    pub(super) from: From<'a>,
}

impl Starting<'_> {
    pub(super) fn start(mut self) -> Result<Server, StartError> {
        let plans = plans(self.settings);
        let count = lane_count(&plans);
        let noted = self.note()?;
        let tables = self.tables()?;
        let (mut listeners, streams, served, listening) = self.listen(&plans, count)?;
        let belongings = self.belongings(&streams);
        let mailboxes: nix::Result<Vec<_>> = (0..count).map(|_| Mailbox::new().map(Arc::new)).collect();
        let mailboxes = mailboxes.map_err(|error| no_threads(&error))?;
        let post = PostOffice::new(mailboxes, served, self.keys.spread).unsealing(self.keys.token_keys());
        let post = Arc::new(post);
        let collector = Collector::start(count).map_err(|error| no_threads(&error))?;
        collector.history().rules().order_from(post.clone());
        collector.history().rules().swap(lower::record_rules(self.settings));
        let (outside, errands) = Outside::new();

        let (recorder, view, writer) = self.recorder()?;
        let kernel = Kernel::new();
        switch_kernel(&kernel, self.settings);
        let mut lanes = Vec::new();
        let mut settings = self.settings.listening_on(&listening);
        settings.forget_users();
        let seats = self.seats(&settings, &plans, count, &tables);
        for (index, (name, seats)) in seats.into_iter().enumerate() {
            let own = std::mem::take(&mut listeners[index]);
            let ring = collector.ring(index);
            let lane = Lane::new(name.clone(), index, seats, own, post.clone(), outside.clone(), ring);
            let lane = lane.map_err(|error| no_threads(&error))?.recording(recorder.clone());
            let lane = lane.handing_down(Handed::new(kernel.clone()));
            let carries = name.starts_with("relay-") || name.starts_with("reflector-");
            let core = carries.then(|| core_for(index)).flatten();
            let body = move || {
                core.iter().for_each(pin);
                drop(lane.run());
            };
            let thread = std::thread::Builder::new().name(name).spawn(body);
            lanes.push(thread.map_err(|error| no_threads(&error))?);
        }
        let way_outside = Arc::downgrade(&outside);
        drop((outside, recorder));
        let keyroom = Keyroom::new(tls::lower(&settings));
        let connections = Streams::new(post.clone(), keyroom.clone()).guarded_by(tables["proxy"].clone());
        let relays = plans.iter().zip(seats_of(&plans)).find(|(plan, _)| plan.name == "relay");
        let (icmp, ears) = relays.map(|(_, seats)| Icmp::open(seats)).unzip();
        let outside = outside::start(errands, post.clone(), connections, streams, ears);
        let outside = outside.map_err(|error| no_threads(&error))?;
        let history = collector.history();
        let (file, started) = (self.settings.path.clone(), Instant::now());
        let own_seats = plans.iter().zip(seats_of(&plans)).find(|(plan, _)| plan.name == "proxy");
        let seats = own_seats.map(|(_, seats)| seats);
        let (keys, running) = (self.keys, Mutex::new(settings.file.clone()));
        let handle = Arc::new_cyclic(|own| Handle {
            post,
            history,
            tables,
            keys,
            keyroom,
            file,
            running,
            settings: Mutex::new(settings),
            seats,
            outside: way_outside,
            is_closing: AtomicBool::new(false),
            own: own.clone(),
            started,
            recordings: view,
            kernel,
            icmp,
            noted,
            clocks: limits::Clocks::now(),
            belongings,
        });
        Ok(Server { lanes, outside, handle, recordings: writer, _collector: collector, _store: self.store })
    }

    /// Looks at what this machine gives, says what is not as it should be, and keeps what only a start can see.
    fn note(&self) -> Result<Vec<String>, StartError> {
        // A predecessor's ports are about to be ours.
        let taken = match self.from {
            From::Nothing => media_ports(self.settings)?,
            From::Predecessor(_) | From::Itself(..) => None,
        };
        for words in taken.iter().chain(&limits::warnings(self.settings)) {
            tracing::warn!(words, "start");
        }
        Ok(taken.into_iter().collect())
    }

    /// Who writes recordings, where a relay runs.
    #[allow(clippy::type_complexity)]
    fn recorder(&self) -> Result<(Option<Recorder>, Option<View>, Option<JoinHandle<()>>), StartError> {
        let Some(limits) = lower::recordings(self.settings) else { return Ok((None, None, None)) };
        let (recorder, view, writer) = Recorder::start(limits).map_err(|error| no_threads(&error))?;
        Ok((Some(recorder), Some(view), Some(writer)))
    }

    /// What a successor of this process will ask for.
    fn belongings(&self, streams: &[(Transport, SocketAddr, TcpListener)]) -> Belongings {
        let lender = self.store.as_ref().map(Store::lender);
        let identity = self.identity.clone();
        let belongings = Belongings { secret: self.secret, identity, lender, ..Belongings::default() };
        streams.iter().for_each(|(transport, at, door)| belongings.doors.keep((*transport, *at), door));
        belongings
    }

    /// Relay sessions that go on: what a process before this one handed over, else what it left in the store.
    fn sessions(&mut self) -> Result<Vec<(u64, Vec<u8>)>, StartError> {
        let stored = match &self.store {
            Some(store) => store.sessions().map_err(|error| store_error(self.settings, &error))?,
            None => Vec::new(),
        };
        let handed = match std::mem::replace(&mut self.from, From::Nothing) {
            From::Nothing => return Ok(stored),
            From::Itself(_, sessions) => sessions,
            From::Predecessor(predecessor) => predecessor.take().map_err(|error| StartError {
                what: format!("process {} handed nothing over: {error}", predecessor.pid()),
                remedy: "it goes on, if it still runs: look at its log, and try again".to_owned(),
                at: None,
            })?,
        };
        if let Some(writer) = self.store.as_ref().map(|store| store.writer("relay")) {
            stored.iter().for_each(|(id, _)| writer.session(*id, None));
            handed.iter().for_each(|(id, record)| writer.session(*id, Some(record)));
        }
        Ok(handed)
    }

    /// Tables for each service, with what the store remembers. Sessions are asked for last: until then a predecessor carries
    /// their media.
    fn tables(&mut self) -> Result<HashMap<&'static str, Arc<SharedTables>>, StartError> {
        let mut all = HashMap::new();
        let accounts = Arc::new(Accounts::new(lower::users(self.settings)));
        let mut kept = Vec::new();
        for name in ["proxy", "redirect", "access", "reflector", "relay"] {
            let bindings = match &self.store {
                Some(store) => store.bindings(name).map_err(|error| store_error(self.settings, &error))?,
                None => self.from.remains().map_or_else(Bindings::default, |remains| remains.bindings(name)),
            };
            kept.push((name, bindings));
        }
        let mut sessions = self.sessions()?;
        for (name, bindings) in kept {
            let sessions = if name == "relay" { std::mem::take(&mut sessions) } else { Vec::new() };
            let writer = self.store.as_ref().map(|store| store.writer(name));
            let tables = SharedTables::with_sessions(bindings, sessions, writer);
            tables.reconfigure(&accounts, shield::policy(self.settings));
            all.insert(name, tables);
        }
        Ok(all)
    }

    /// Opens the sockets of every lane.
    #[allow(clippy::type_complexity)]
    fn listen(
        &self,
        plans: &[Plan],
        lanes: usize,
    ) -> Result<
        (
            Vec<Vec<Listener>>,
            Vec<(Transport, SocketAddr, TcpListener)>,
            HashMap<(Transport, SocketAddr), Seats>,
            Vec<SipAddress>,
        ),
        StartError,
    > {
        let mut listeners: Vec<Vec<Listener>> = (0..lanes).map(|_| Vec::new()).collect();
        let (mut streams, mut served, mut listening) = (Vec::new(), HashMap::new(), Vec::new());
        for (plan, seats) in plans.iter().zip(seats_of(plans)) {
            for address in &plan.addresses {
                let local = match address.transport {
                    Transport::Udp => {
                        let sockets = open_udp(*address, plan.count)?;
                        let local = sockets[0].1;
                        for (seat, (socket, local)) in seats.iter().zip(sockets) {
                            listeners[seat.lane].push(Listener { socket, local, seats: seats.clone() });
                        }
                        local
                    }
                    _ => {
                        let listener = open_tcp(*address)?;
                        let local = listener.local_addr().map_err(|error| cannot_listen(*address, &error))?;
                        streams.push((address.transport, local, listener));
                        local
                    }
                };
                served.insert((address.transport, local), seats.clone());
                listening.push(SipAddress { addr: local, ..*address });
            }
        }
        Ok((listeners, streams, served, listening))
    }

    /// The services of each lane, and the lane's name.
    fn seats(
        &self,
        settings: &Settings,
        plans: &[Plan],
        lanes: usize,
        tables: &HashMap<&'static str, Arc<SharedTables>>,
    ) -> Vec<(String, Vec<Seat>)> {
        let mut all: Vec<(String, Vec<Seat>)> = (0..lanes).map(|_| (String::new(), Vec::new())).collect();
        for (plan, seats) in plans.iter().zip(seats_of(plans)) {
            for (address, service) in seats.iter().zip(self.services(settings, plan)) {
                let (name, there) = &mut all[address.lane];
                if name.is_empty() {
                    *name = format!("{}-{}", plan.name, address.lane);
                }
                there.push(Seat::new(service, LaneTables(tables[plan.name].clone())));
            }
        }
        all
    }

    /// The nodes of one service, one for each of its lanes.
    fn services(&self, settings: &Settings, plan: &Plan) -> Vec<Service> {
        let births = (0..plan.count).map(|number| birth(number, plan.count));
        let proxy = lower::proxy(settings, &self.keys).map(Arc::new);
        match (plan.name, proxy) {
            ("proxy", Some(config)) => births
                .map(|birth| Service::Proxy(Box::new(proxy::Proxy::new(config.clone(), birth))))
                .collect(),
            ("relay", _) => births
                .zip(lower::relay(settings, &self.keys))
                .map(|(birth, config)| Service::Relay(Box::new(relay::Relay::new(birth, config))))
                .collect(),
            ("access", _) => births
                .zip(peers::access(settings, &self.keys))
                .map(|(birth, config)| Service::Access(Box::new(access::Access::new(config, birth))))
                .collect(),
            ("reflector", _) => births
                .zip(std::iter::repeat_n(peers::reflector(settings, &self.keys), plan.count).flatten())
                .map(|(birth, config)| Service::Reflector(Box::new(reflector::Reflector::new(config, birth))))
                .collect(),
            _ => births
                .map(|birth| {
                    Service::Redirect(Box::new(redirect::Redirect::new(lower::redirect(&self.keys), birth)))
                })
                .collect(),
        }
    }
}

fn birth(index: usize, count: usize) -> Birth {
    let lane = LaneNumber { index: index as u16, count: count as u16 };
    Birth { now: Instant::now(), wall: SystemTime::now(), seed: keys::random(), lane }
}
