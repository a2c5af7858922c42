//! What others may ask of a running process: how it stands, what it would do, and to change.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime};

use proto::event::Live;
use proto::sip::Uri;
use proto::tables::Tables;
use proxy::registrar::aor;
use proxy::routing::dry_run;
use serde::{Deserialize, Serialize};

use super::handing::Belongings;
use crate::capture::View;
use crate::config::schema::File;
use crate::config::values::SipAddress;
use crate::config::{Settings, lower};
use crate::history::{Counts, History};
use crate::kernel::Kernel;
use crate::keys::Keyring;
use crate::lanes::post::{PostOffice, Seats};
use crate::lanes::seat::{CaptureOrder, Command, LaneReport};
use crate::limits::{self, Clocks};
use crate::net::Outside;
use crate::net::icmp::Icmp;
use crate::shield::Report;
use crate::tables::{LaneTables, SharedTables};
use crate::tls::Keyroom;
use crate::trunks::{self, TrunkReport};

/// How long lanes may take to answer a report.
const PATIENCE: Duration = Duration::from_secs(2);

/// What others may ask of a running process, from any thread.
#[derive(Debug)]
pub struct Handle {
    pub(super) post: Arc<PostOffice>,
    pub(super) history: Arc<History>,
    pub(super) tables: HashMap<&'static str, Arc<SharedTables>>,
    pub(super) keys: Keyring,
    pub(super) keyroom: Keyroom,
    /// The configuration it runs by; read again at a reload.
    pub(super) file: PathBuf,
    /// What that said last, with the values it really runs by.
    pub(super) running: Mutex<File>,
    /// The same as it was read, with certificates and without accounts: those are in the tables.
    pub(super) settings: Mutex<Settings>,
    /// The proxy's.
    pub(super) seats: Option<Seats>,
    pub(super) outside: Weak<Outside>,
    /// Whether somebody looks after listeners that are closing.
    pub(super) is_closing: AtomicBool,
    pub(super) own: Weak<Handle>,
    pub(super) started: Instant,
    pub(super) recordings: Option<View>,
    pub(super) kernel: Arc<Kernel>,
    /// Where a relay runs.
    pub(super) icmp: Option<Arc<Icmp>>,
    /// What the start found that is not as it should be.
    pub(super) noted: Vec<String>,
    pub(super) clocks: Clocks,
    pub(super) belongings: Belongings,
}

/// How phones are served.
#[derive(Debug)]
pub(crate) struct Serving {
    /// Where they register.
    pub(crate) listeners: Vec<SipAddress>,
    /// Whether those behind a NAT are sent keep-alives.
    pub(crate) keep_alives: bool,
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
    /// Addresses of record with a binding whose time is not over, by service.
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
    /// Whether the network's complaints about a relay's media are heard, or why not.
    #[serde(default)]
    pub icmp: Option<String>,
    /// What works until this machine is busy, and what to do about it.
    #[serde(default)]
    pub warnings: Vec<String>,
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

    /// How those of these relay sessions are, at this moment, that are here.
    pub fn live(&self, sessions: Vec<String>) -> Vec<Live> {
        if sessions.is_empty() || self.recordings.is_none() {
            return Vec::new();
        }
        let (to, reports) = channel();
        let sessions: Arc<[String]> = sessions.into();
        self.post
            .mailboxes()
            .for_each(|mailbox| mailbox.command(Command::Live(sessions.clone(), to.clone())));
        drop(to);
        let until = Instant::now() + PATIENCE;
        let next = || reports.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
        std::iter::from_fn(next).flatten().collect()
    }

    /// The wall's time as the services count it.
    pub(crate) fn wall(&self) -> SystemTime {
        self.clocks.wall()
    }

    /// Where and how phones are served; `None`: there is no proxy here.
    pub(crate) fn serving(&self) -> Option<Serving> {
        let file = self.running();
        let keep_alives = !file.proxy.as_ref()?.keep_alive.0.is_zero();
        Some(Serving {
            listeners: file.listeners.iter().map(|listener| listener.address).collect(),
            keep_alives,
        })
    }

    /// The services of this process.
    pub(crate) fn services(&self) -> Vec<&'static str> {
        let file = self.running();
        let there = [
            (file.proxy.is_some(), "proxy"),
            (file.relay.is_some(), "relay"),
            (file.redirect.is_some(), "redirect server"),
            (file.access.is_some(), "access server"),
            (file.reflector.is_some(), "reflector"),
        ];
        there.into_iter().filter(|(runs, _)| *runs).map(|(_, name)| name).collect()
    }

    /// The address of record a URI means here, as the registrar writes it.
    pub(crate) fn address_of_record(&self, uri: &str) -> Option<String> {
        let settings = self.settings.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let config = lower::proxy(&settings, &self.keys)?;
        aor::canonical(&Uri::parse(uri).ok()?, &config)
    }

    /// Whether an account may register this address of record; `user@`: whether one is called so.
    pub(crate) fn has_account(&self, aor: &str) -> bool {
        let tables = LaneTables(self.tables["proxy"].clone());
        let named = || tables.user(aor.strip_suffix('@')?);
        tables.owner(aor).or_else(named).is_some()
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

    fn warnings(&self) -> Vec<String> {
        let settings = self.settings.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = self.clocks.stepped().into_iter().chain(limits::warnings(&settings));
        self.noted.iter().cloned().chain(now).collect()
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
                .map(|(name, tables)| ((*name).to_owned(), tables.registered(self.wall())))
                .collect(),
            trunks: trunks::together(&lanes),
            kernel_path: self.recordings.as_ref().map(|_| kernel_path(self.kernel.report(), &lanes)),
            lanes,
            totals: self.history.counts(),
            shield: self.tables().shield_report(),
            recordings: self.recordings.as_ref().map(|view| {
                let (written, lost) = view.counts();
                Recordings { folder: view.folder().display().to_string(), written, lost }
            }),
            warnings: self.warnings(),
            icmp: self.icmp.as_ref().map(|icmp| icmp.report()),
        }
    }
}

/// What the kernel carries, and what it can't and why.
fn kernel_path(report: String, lanes: &[LaneReport]) -> String {
    let mut kept = BTreeMap::new();
    for (why, count) in lanes.iter().flat_map(|lane| &lane.kept_above) {
        *kept.entry(why).or_insert(0) += count;
    }
    let kept: Vec<String> = kept.into_iter().map(|(why, count)| format!("{count} {why}")).collect();
    if kept.is_empty() { report } else { format!("{report}; in user space: {}", kept.join(", ")) }
}

/// As configured; addresses are those of the networks the relay lends ports in.
pub(super) fn switch_kernel(kernel: &Arc<Kernel>, settings: &Settings) {
    let Some(relay) = &settings.file.relay else { return };
    let binds: Vec<_> = lower::relay_networks(settings, relay).map(|(_, network)| network.bind).collect();
    kernel.switch(relay.kernel_path, &binds);
}
