//! Everything put together: a checked configuration becomes sockets, lanes and threads; nothing starts unless all can.

mod reloading;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use proto::node::{Birth, Lane as LaneNumber, Transport};
use proxy::dry_run;
use serde::{Deserialize, Serialize};

use crate::accounts::Accounts;
use crate::bindings::Bindings;
use crate::capture::{Recorder, View};
use crate::config::schema::File;
use crate::config::values::SipAddress;
use crate::config::{Settings, lower, peers, shield, tls};
use crate::events::Collector;
use crate::history::{Counts, History};
use crate::kernel::{Handed, Kernel};
use crate::keys::{self, Keyring};
use crate::lanes::lane::{Lane, Listener};
use crate::lanes::mailbox::Mailbox;
use crate::lanes::post::{Address, PostOffice, Seats};
use crate::lanes::seat::{CaptureOrder, Command, LaneReport, Seat, Service};
use crate::net::streams::Streams;
use crate::net::{Outside, outside, udp};
use crate::shield::Report;
use crate::store::Store;
use crate::tables::{LaneTables, SharedTables};
use crate::tls::Keyroom;
use crate::trunks::{self, TrunkReport};

/// How long lanes may take to answer a report.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a process did not start.
#[derive(Debug)]
pub struct StartError {
    /// What was tried, and the operating system's words.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.what, self.remedy)
    }
}

impl std::error::Error for StartError {}

/// A running process.
#[derive(Debug)]
pub struct Server {
    lanes: Vec<JoinHandle<()>>,
    outside: JoinHandle<()>,
    handle: Arc<Handle>,
    // Ends after the lanes, so that their last events are read; the store after everybody who writes to it.
    recordings: Option<JoinHandle<()>>,
    _collector: Collector,
    _store: Option<Store>,
}

/// What others may ask of a running process, from any thread.
#[derive(Debug)]
pub struct Handle {
    post: Arc<PostOffice>,
    history: Arc<History>,
    tables: HashMap<&'static str, Arc<SharedTables>>,
    keys: Keyring,
    keyroom: Keyroom,
    /// The configuration it runs by; read again at a reload.
    file: PathBuf,
    /// What that said last, with the values it really runs by.
    running: Mutex<File>,
    /// The same as it was read, with certificates and without accounts: those are in the tables.
    settings: Mutex<Settings>,
    /// The proxy's.
    seats: Option<Seats>,
    outside: Weak<Outside>,
    /// Whether somebody looks after listeners that are closing.
    is_closing: AtomicBool,
    own: Weak<Handle>,
    started: Instant,
    recordings: Option<View>,
    kernel: Arc<Kernel>,
}

/// What became of recordings.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Recordings {
    /// Where they are.
    pub folder: String,
    /// Packets written.
    pub written: u64,
    /// Packets that were to be written and were not.
    pub lost: u64,
}

/// How things stand: what `postern status` prints.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StatusReport {
    /// Version of the program.
    pub version: String,
    /// Seconds since the start.
    pub uptime: u64,
    /// Addresses it listens on.
    pub listening: Vec<String>,
    /// Addresses of record with a binding, by service.
    pub registered: BTreeMap<String, usize>,
    /// Every lane that answered.
    pub lanes: Vec<LaneReport>,
    /// Trunks, all lanes together.
    pub trunks: Vec<TrunkReport>,
    /// Totals since the start.
    pub totals: Counts,
    /// What the proxy's shield does.
    pub shield: Report,
    /// What became of recordings, where a relay runs.
    #[serde(default)]
    pub recordings: Option<Recordings>,
    /// What the kernel carries of a relay's media, or why it does not.
    #[serde(default)]
    pub kernel_path: Option<String>,
}

/// One group of lanes that share the work of a service, and the addresses in front of it.
struct Plan {
    name: &'static str,
    count: usize,
    addresses: Vec<SipAddress>,
    /// It sits on the first lane, beside the service there.
    shares: bool,
}

impl Server {
    /// Opens every socket, then starts every thread.
    pub fn start(settings: &Settings) -> Result<Server, StartError> {
        raise_file_limit();
        let store = settings.file.store.as_deref().map(open_store).transpose()?;
        let secret = match &store {
            Some(store) => store.secret().map_err(|error| store_error(settings, &error))?,
            None => keys::random(),
        };
        let keys = Keyring::from_secret(&secret, settings.file.node_key.as_deref());
        Starting { settings, keys, store }.start()
    }

    /// What others may ask of it.
    pub fn handle(&self) -> Arc<Handle> {
        self.handle.clone()
    }

    /// Ends every thread, then closes the store.
    pub fn stop(self) {
        self.handle.post.mailboxes().for_each(|mailbox| mailbox.command(Command::Stop));
        for lane in self.lanes {
            let _ = lane.join();
        }
        // They held the way to the recordings, too.
        self.recordings.into_iter().for_each(|writer| drop(writer.join()));
        // The lanes held the last errands; without them the runtime ends.
        let _ = self.outside.join();
    }
}

impl Handle {
    /// Where it listens.
    pub fn listening(&self) -> Vec<SipAddress> {
        self.running().addresses()
    }

    /// The proxy's tables (empty ones, where there is no proxy).
    pub fn tables(&self) -> &SharedTables {
        &self.tables["proxy"]
    }

    /// What it remembers of calls.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// No new work; what is under way may end.
    pub fn drain(&self) {
        self.post.mailboxes().for_each(|mailbox| mailbox.command(Command::Drain));
    }

    /// Recordings, when a relay runs here.
    pub fn recordings(&self) -> Option<&View> {
        self.recordings.as_ref()
    }

    /// Has sessions recorded; how many it is about.
    pub fn capture(&self, order: &CaptureOrder) -> usize {
        let (to, counts) = channel();
        self.post
            .mailboxes()
            .for_each(|mailbox| mailbox.command(Command::Capture(order.clone(), to.clone())));
        drop(to);
        let until = Instant::now() + PATIENCE;
        let next = || counts.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
        std::iter::from_fn(next).sum()
    }

    /// How every lane stands.
    pub fn lanes(&self) -> Vec<LaneReport> {
        let (to, reports) = channel();
        self.post.mailboxes().for_each(|mailbox| mailbox.command(Command::Report(to.clone())));
        drop(to);
        let until = Instant::now() + PATIENCE;
        let next = || reports.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
        let mut lanes: Vec<LaneReport> = std::iter::from_fn(next).collect();
        lanes.sort_by(|a, b| a.lane.cmp(&b.lane));
        lanes
    }

    /// What would become of a call, as the first proxy lane sees it; `None`: there is no proxy here.
    pub fn plan(&self, uri: &str, from: &str) -> Option<Result<dry_run::Plan, String>> {
        let (to, plans) = channel();
        let command = Command::Plan(uri.to_owned(), from.to_owned(), to);
        self.post.mailboxes().next()?.command(command);
        plans.recv_timeout(PATIENCE).ok()
    }

    /// How everything stands.
    pub fn status(&self) -> StatusReport {
        let lanes = self.lanes();
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.started.elapsed().as_secs(),
            listening: self.listening().iter().map(SipAddress::to_string).collect(),
            registered: self
                .tables
                .iter()
                .map(|(name, tables)| ((*name).to_owned(), tables.registered()))
                .collect(),
            trunks: trunks::together(&lanes),
            lanes,
            totals: self.history.counts(),
            shield: self.tables().shield_report(),
            recordings: self.recordings.as_ref().map(|view| {
                let (written, lost) = view.counts();
                Recordings { folder: view.folder().display().to_string(), written, lost }
            }),
            kernel_path: self.recordings.as_ref().map(|_| self.kernel.report()),
        }
    }
}

/// What a start has at hand.
struct Starting<'a> {
    settings: &'a Settings,
    keys: Keyring,
    store: Option<Store>,
}

impl Starting<'_> {
    fn start(self) -> Result<Server, StartError> {
        let plans = plans(self.settings);
        let count = lane_count(&plans);
        let tables = self.tables()?;
        let (mut listeners, streams, served, listening) = self.listen(&plans, count)?;
        let mailboxes: nix::Result<Vec<_>> = (0..count).map(|_| Mailbox::new().map(Arc::new)).collect();
        let post = Arc::new(PostOffice::new(
            mailboxes.map_err(|error| no_threads(&error))?,
            served,
            self.keys.spread,
        ));
        let collector = Collector::start(count).map_err(|error| no_threads(&error))?;
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
        let outside = outside::start(errands, post.clone(), connections, streams);
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
        });
        Ok(Server { lanes, outside, handle, recordings: writer, _collector: collector, _store: self.store })
    }

    /// Who writes recordings, where a relay runs.
    #[allow(clippy::type_complexity)]
    fn recorder(&self) -> Result<(Option<Recorder>, Option<View>, Option<JoinHandle<()>>), StartError> {
        let Some(limits) = lower::recordings(self.settings) else { return Ok((None, None, None)) };
        let (recorder, view, writer) = Recorder::start(limits).map_err(|error| no_threads(&error))?;
        Ok((Some(recorder), Some(view), Some(writer)))
    }

    /// Tables for each service, with what the store remembers.
    fn tables(&self) -> Result<HashMap<&'static str, Arc<SharedTables>>, StartError> {
        let mut all = HashMap::new();
        let accounts = Arc::new(Accounts::new(lower::users(self.settings)));
        for name in ["proxy", "relay", "redirect", "access", "reflector"] {
            let kept = match &self.store {
                Some(store) => store.bindings(name).map_err(|error| store_error(self.settings, &error))?,
                None => Bindings::default(),
            };
            let sessions = match self.store.as_ref().filter(|_| name == "relay") {
                Some(store) => store.sessions().map_err(|error| store_error(self.settings, &error))?,
                None => Vec::new(),
            };
            let writer = self.store.as_ref().map(|store| store.writer(name));
            let tables = SharedTables::with_sessions(kept, sessions, writer);
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

/// As configured; addresses are those of the networks the relay lends ports in.
fn switch_kernel(kernel: &Kernel, settings: &Settings) {
    let Some(relay) = &settings.file.relay else { return };
    let binds: Vec<_> = lower::relay_networks(settings, relay).map(|(_, network)| network.bind).collect();
    kernel.switch(relay.kernel_path, &binds);
}

/// Which services run, on how many lanes, behind which addresses; in the order of [`Settings::addresses`].
fn plans(settings: &Settings) -> Vec<Plan> {
    let file = &settings.file;
    let proxy = file.proxy.iter().map(|proxy| Plan {
        name: "proxy",
        count: usize::from(proxy.lanes.max(1)),
        addresses: file.listeners.iter().map(|listener| listener.address).collect(),
        shares: false,
    });
    let relay = file.relay.iter().map(|relay| Plan {
        name: "relay",
        count: usize::from(relay.threads.max(1)),
        addresses: relay.addresses().collect(),
        shares: relay.threads == 0 && file.proxy.is_some(),
    });
    let redirect = file.redirect.iter().map(|redirect| Plan {
        name: "redirect",
        count: 1,
        addresses: vec![redirect.address],
        shares: false,
    });
    let access = file.access.iter().map(|access| Plan {
        name: "access",
        count: 1,
        addresses: access.addresses(),
        shares: false,
    });
    let reflector = file.reflector.iter().map(|reflector| Plan {
        name: "reflector",
        count: usize::from(reflector.threads),
        addresses: vec![reflector.address],
        shares: false,
    });
    proxy.chain(relay).chain(redirect).chain(access).chain(reflector).collect()
}

/// Every service has lanes of its own, but one that shares the first lane.
fn seats_of(plans: &[Plan]) -> impl Iterator<Item = Seats> + '_ {
    let mut first = 0;
    plans.iter().map(move |plan| {
        if plan.shares {
            return Seats::from([Address { lane: 0, seat: 1 }]);
        }
        let lanes = first..first + plan.count;
        first += plan.count;
        lanes.map(|lane| Address { lane, seat: 0 }).collect()
    })
}

fn lane_count(plans: &[Plan]) -> usize {
    plans.iter().filter(|plan| !plan.shares).map(|plan| plan.count).sum()
}

/// With fewer cores than this a pinned thread would mostly wait for whoever else runs on its core.
const CORES_TO_PIN: usize = 4;

/// The core of a lane that carries media: counted from the last one this process may use, away from interrupts.
fn core_for(lane: usize) -> Option<nix::sched::CpuSet> {
    let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).ok()?;
    let cores: Vec<usize> =
        (0..nix::sched::CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true)).collect();
    if cores.len() < CORES_TO_PIN {
        return None;
    }
    let mut one = nix::sched::CpuSet::new();
    one.set(cores[cores.len() - 1 - lane % cores.len()]).ok()?;
    Some(one)
}

/// Keeps the calling thread on a core.
fn pin(core: &nix::sched::CpuSet) {
    if let Err(error) = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), core) {
        tracing::debug!(%error, "a media thread could not be pinned");
    }
}

fn birth(index: usize, count: usize) -> Birth {
    let lane = LaneNumber { index: index as u16, count: count as u16 };
    Birth { now: Instant::now(), wall: SystemTime::now(), seed: keys::random(), lane }
}

/// One socket for each lane. Several share the address; that another process has it is found out first.
pub(crate) fn open_udp(
    address: SipAddress,
    count: usize,
) -> Result<Vec<(UdpSocket, SocketAddr)>, StartError> {
    let mut local = address.addr;
    if count > 1 && local.port() != 0 {
        udp::listen(local, false).map_err(|error| cannot_listen(address, &error))?;
    }
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = udp::listen(local, count > 1).map_err(|error| cannot_listen(address, &error))?;
        local = socket.local_addr().map_err(|error| cannot_listen(address, &error))?;
        sockets.push((socket, local));
    }
    Ok(sockets)
}

fn open_tcp(address: SipAddress) -> Result<TcpListener, StartError> {
    let open = || {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(address.addr), socket2::Type::STREAM, None)?;
        if address.addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.addr.into())?;
        socket.listen(1024)?;
        Ok(socket.into())
    };
    open().map_err(|error| cannot_listen(address, &error))
}

fn cannot_listen(address: SipAddress, error: &std::io::Error) -> StartError {
    let remedy = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another process has it (`ss -lnp` names it): stop that one, or choose another port"
        }
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one"
        }
        _ => "choose an address that `ip address` shows",
    };
    StartError { what: format!("cannot listen on {address}: {error}"), remedy: remedy.into() }
}

fn open_store(path: &Path) -> Result<Store, StartError> {
    Store::open(path).map_err(|error| StartError {
        what: format!("cannot open the store {}: {error}", path.display()),
        remedy: "make its folder, let this user write there, and stop any other process that has it open"
            .into(),
    })
}

fn store_error(settings: &Settings, error: &redb::Error) -> StartError {
    let path = settings.file.store.as_deref().unwrap_or(Path::new(""));
    StartError {
        what: format!("cannot read the store {}: {error}", path.display()),
        remedy: "restore it from a backup, or move it away: phones register anew within minutes".into(),
    }
}

pub(crate) fn no_threads(error: &dyn fmt::Display) -> StartError {
    let what = format!("cannot start a thread: {error}");
    StartError { what, remedy: "raise the limits of this user (ulimit -u, ulimit -n)".into() }
}

/// As many open files as this process may have: each media port is one.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
