//! A seat: one service on a lane, with its tables, behind a boundary that survives a panic.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use access::Access;
use bytes::Bytes;
use endpoint_sim::Phone;
use endpoint_sim::peer::Peer;
use proto::event::Live;
use proto::lobby::Before;
use proto::node::{Input, Node, Output};
use proto::peer::ticket::Why;
use proto::sip::Message;
use proxy::Proxy;
use proxy::routing::dry_run::Plan;
use redirect::Redirect;
use reflector::Reflector;
use relay::{Forward, Relay};
use serde::{Deserialize, Serialize};

use super::lane::Listener;
use super::media::{MediaPath, Turn, Wait};
use super::mirror::Mirror;
use crate::config::values::SipAddress;
use crate::succession::Gift;
use crate::tables::LaneTables;
use crate::trunks::TrunkReport;

/// A service of a SIP lane.
#[derive(Debug)]
pub enum Service {
    /// Call signalling.
    Proxy(Box<Proxy>),
    /// Media sessions.
    Relay(Box<Relay>),
    /// Who is served where.
    Redirect(Box<Redirect>),
    /// A phone without a speaker.
    Phone(Box<Phone>),
    /// Where peers log in.
    Access(Box<Access>),
    /// Passes on first messages of peers.
    Reflector(Box<Reflector>),
    /// A peer.
    Peer(Box<Peer>),
}

impl Service {
    fn node(&mut self) -> &mut dyn Node {
        match self {
            Service::Proxy(proxy) => &mut **proxy,
            Service::Relay(relay) => &mut **relay,
            Service::Redirect(redirect) => &mut **redirect,
            Service::Phone(phone) => &mut **phone,
            Service::Access(access) => &mut **access,
            Service::Reflector(reflector) => &mut **reflector,
            Service::Peer(peer) => &mut **peer,
        }
    }
}

/// Other configurations for the services of a process, after a reload.
#[derive(Clone, Debug, Default)]
pub struct Configs {
    /// For proxies.
    pub proxy: Option<Arc<proxy::Config>>,
    /// For relays, one for each lane.
    pub relay: Vec<relay::Config>,
}

/// What the process tells a lane.
#[derive(Debug)]
pub enum Command {
    /// From now on, these configurations.
    Reconfigure(Configs),
    /// Listen here, too.
    Listen(Listener),
    /// Listen there no more.
    Leave(SocketAddr),
    /// Take no new work.
    Drain,
    /// Record; how many sessions here it is about.
    Capture(CaptureOrder, Sender<usize>),
    /// Say how these relay sessions are at this moment.
    Live(Arc<[String]>, Sender<Vec<Live>>),
    /// Say how things stand.
    Report(Sender<LaneReport>),
    /// Say what would become of a call for this URI, from this sender.
    Plan(String, String, Sender<Result<Plan, String>>),
    /// Read listeners no more: what comes waits in them.
    Freeze,
    /// Read them again.
    Thaw,
    /// Give everything away, and end.
    Surrender(Sender<Gift>),
    /// End.
    Stop,
}

/// What is to be recorded.
#[derive(Clone, Debug)]
pub enum CaptureOrder {
    /// These sessions, from now on or no more.
    Sessions(Vec<String>, bool),
    /// The next ones that begin.
    Next(usize),
}

/// How things stand on one lane.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct LaneReport {
    /// Its name.
    pub lane: String,
    /// How it waits and moves bytes.
    pub path: String,
    /// Calls in progress.
    pub calls: usize,
    /// Transactions.
    pub transactions: usize,
    /// Relay sessions its proxy holds, or its relay lends.
    pub sessions: usize,
    /// Media ports lent.
    pub ports: usize,
    /// Packets in, and messages that came by connections.
    pub received: u64,
    /// Packets out, and messages that left by connections.
    pub sent: u64,
    /// Packets that could not be sent, or were cut off.
    pub dropped: u64,
    /// Inputs that found no room in the mailbox.
    pub refused: u64,
    /// New requests that wait for their turn.
    pub waiting: usize,
    /// Whether new calls are being turned away, for they would wait too long.
    pub overloaded: bool,
    /// New requests that were turned away.
    pub turned_away: u64,
    /// Panics that were survived.
    pub panics: u64,
    /// Peers that are logged in at its access server.
    #[serde(default)]
    pub online: usize,
    /// What its reflector did with each packet, by the check that failed, `passed` or `bound`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reflected: BTreeMap<String, u64>,
    /// Trunks, as this lane sees them.
    pub trunks: Vec<TrunkReport>,
    /// Listeners that are gone from the file, and how much still needs each.
    #[serde(default)]
    pub closing: Vec<(SipAddress, usize)>,
    /// Media ports that are gone from the file, and still in use.
    #[serde(default)]
    pub lingering: usize,
    /// Media ports that are flooded: what nobody expects there is dropped in the kernel.
    #[serde(default)]
    pub flooded: usize,
    /// Media packets that its relay turned away, by the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub media_dropped: BTreeMap<String, u64>,
    /// Its relay's streams that the kernel path can't take, by what keeps them here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept_above: BTreeMap<String, usize>,
}

/// One service on a lane.
#[derive(Debug)]
pub struct Seat {
    service: Service,
    tables: LaneTables,
    panics: u64,
}

impl Seat {
    /// A service with its tables.
    pub fn new(service: Service, tables: LaneTables) -> Seat {
        Seat { service, tables, panics: 0 }
    }

    /// One `handle`, then `poll` until `None`, as the contract says. A panic costs what this input was about, not the
    /// other calls.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        let about = bytes_of(&input);
        let (service, tables) = (&mut self.service, &mut self.tables);
        let survived = catch_unwind(AssertUnwindSafe(|| {
            let node = service.node();
            node.handle(now, input, tables);
            while let Some(output) = node.poll(tables) {
                out.push(output);
            }
        }));
        if survived.is_err() {
            self.panics += 1;
            let line = about.as_deref().map(first_line).unwrap_or_default();
            tracing::error!(about = %line, "a service panicked at this input; other calls go on");
        }
    }

    /// Carries media; what the service wants afterwards comes out, too.
    pub fn carry(
        &mut self,
        path: &mut dyn MediaPath,
        wait: Wait,
        out: &mut Vec<Output>,
    ) -> std::io::Result<Turn> {
        match &mut self.service {
            Service::Relay(_) => self.forward(path, wait, out),
            _ => self.listen(path, wait, out),
        }
    }

    /// A relay is asked for each packet, and for what it wants (events, mostly) once a turn.
    fn forward(
        &mut self,
        path: &mut dyn MediaPath,
        wait: Wait,
        out: &mut Vec<Output>,
    ) -> std::io::Result<Turn> {
        let Service::Relay(relay) = &mut self.service else { return Ok(Turn::default()) };
        let mut panics = 0;
        let turn = path.turn(wait, &mut |now, socket, from, slot, len| {
            let decide = AssertUnwindSafe(|| relay.forward(now, socket, from, slot, len));
            catch_unwind(decide).unwrap_or_else(|_| {
                panics += 1;
                Forward::Drop(relay::Why::Idle)
            })
        })?;
        if panics > 0 {
            self.panics += panics;
            tracing::error!(panics, "a relay panicked at media packets; other sessions go on");
        }
        if turn.received > 0 {
            while let Some(output) = relay.poll(&mut self.tables) {
                out.push(output);
            }
        }
        Ok(turn)
    }

    /// A relay's ports and sessions, for whoever goes on with them.
    pub fn surrender(&mut self, path: &mut dyn MediaPath, gift: &mut Gift) {
        let Service::Relay(relay) = &mut self.service else { return };
        gift.media = path.surrender(&mut |now, socket, from, slot, len| {
            let decide = AssertUnwindSafe(|| relay.forward(now, socket, from, slot, len));
            catch_unwind(decide).unwrap_or(Forward::Drop(relay::Why::Idle))
        });
        gift.sessions = relay.leave_behind();
    }

    /// Any other service is told of each packet.
    fn listen(
        &mut self,
        path: &mut dyn MediaPath,
        wait: Wait,
        out: &mut Vec<Output>,
    ) -> std::io::Result<Turn> {
        path.turn(wait, &mut |now, socket, from, slot, len| {
            let bytes = Bytes::copy_from_slice(&slot[..len]);
            self.handle(now, Input::Media { socket, from, bytes }, out);
            Forward::Drop(relay::Why::Idle)
        })
    }

    /// Whether packets at its listeners are to be reflected.
    pub fn reflects(&self) -> bool {
        matches!(self.service, Service::Reflector(_))
    }

    /// Has what waits at a listener reflected.
    pub fn reflect(&mut self, now: Instant, mirror: &mut Mirror, listener: &Listener) -> Turn {
        let Service::Reflector(reflector) = &mut self.service else { return Turn::default() };
        let tables = &self.tables.0;
        mirror.turn(now, listener, reflector, &|source| tables.shuts_out(now, source))
    }

    /// Whether nothing from there is even to be read.
    pub fn shuts_out(&self, now: Instant, source: IpAddr) -> bool {
        self.tables.0.shuts_out(now, source)
    }

    /// Whether it needs media ports.
    pub fn has_media(&self) -> bool {
        match &self.service {
            Service::Relay(_) | Service::Phone(_) | Service::Peer(_) => true,
            Service::Access(access) => access.has_lines(),
            _ => false,
        }
    }

    /// Whether, and in what kind of lobby, new work waits before it when there is too much. A relay and a redirect server
    /// are asked for calls that were let in already.
    pub fn lobby(&self) -> Option<Before> {
        match self.service {
            Service::Proxy(_) => Some(Before::Proxy),
            Service::Access(_) => Some(Before::Access),
            _ => None,
        }
    }

    /// The phone, if it is one.
    pub fn phone(&self) -> Option<&Phone> {
        match &self.service {
            Service::Phone(phone) => Some(phone),
            _ => None,
        }
    }

    /// The peer, if it is one.
    pub fn peer(&self) -> Option<&Peer> {
        match &self.service {
            Service::Peer(peer) => Some(peer),
            _ => None,
        }
    }

    /// Whether an endpoint has done what it was to do.
    pub fn is_done(&self) -> bool {
        self.phone().is_some_and(Phone::is_done) || self.peer().is_some_and(Peer::is_done)
    }

    /// Whether it answers STUN itself, or asks: others have it answered before they see it.
    pub fn speaks_stun(&self) -> bool {
        use Service::{Access, Peer, Phone, Reflector};
        matches!(self.service, Access(_) | Reflector(_) | Peer(_) | Phone(_))
    }

    /// Whether this needs nothing that another lane of the service may know.
    pub fn does_alone(&self, message: &Message) -> bool {
        matches!(&self.service, Service::Proxy(proxy) if proxy.registers_here(message))
    }

    /// When it wants to be woken.
    pub fn deadline(&mut self) -> Option<Instant> {
        self.service.node().deadline()
    }

    /// What would become of a call; `None`: this is no proxy.
    pub fn plan(&mut self, now: Instant, uri: &str, from: &str) -> Option<Result<Plan, String>> {
        match &mut self.service {
            Service::Proxy(proxy) => Some(proxy.plan(now, uri, from, &self.tables)),
            _ => None,
        }
    }

    /// Another configuration.
    pub fn reconfigure(&mut self, configs: &Configs) {
        match &mut self.service {
            Service::Proxy(proxy) => {
                configs.proxy.iter().for_each(|config| proxy.reconfigure(config.clone()))
            }
            Service::Relay(relay) => {
                configs.relay.get(relay.lane()).into_iter().for_each(|config| relay.reconfigure(config))
            }
            _ => {}
        }
    }

    /// Records; how many sessions here it is about.
    pub fn capture(&mut self, order: &CaptureOrder) -> usize {
        let Service::Relay(relay) = &mut self.service else { return 0 };
        match order {
            CaptureOrder::Sessions(names, on) => names.iter().filter(|name| relay.capture(name, *on)).count(),
            CaptureOrder::Next(sessions) => {
                relay.capture_next(*sessions);
                *sessions
            }
        }
    }

    /// How those of these sessions are that are here.
    pub fn live(&self, now: Instant, sessions: &[String]) -> Vec<Live> {
        match &self.service {
            Service::Relay(relay) => sessions.iter().filter_map(|name| relay.live(now, name)).collect(),
            _ => Vec::new(),
        }
    }

    /// Adds what it holds.
    pub fn report(&self, report: &mut LaneReport) {
        report.panics += self.panics;
        match &self.service {
            Service::Proxy(proxy) => {
                let status = proxy.status();
                report.calls += status.calls;
                report.transactions += status.transactions;
                report.sessions += status.relay_sessions;
                let needs = |it: proxy::Closing| {
                    (SipAddress { transport: it.transport, addr: it.bind }, it.needed_by)
                };
                report.closing.extend(proxy.closing().into_iter().map(needs));
                report.trunks.extend(proxy.trunks(Instant::now()).iter().map(TrunkReport::of));
            }
            Service::Relay(relay) => {
                let status = relay.status();
                report.sessions += status.sessions;
                report.ports += status.ports.leased;
                report.lingering += relay.lingering();
                report.flooded += status.flooded;
                let dropped =
                    relay::Why::ALL.iter().zip(status.traffic.dropped).filter(|(_, count)| *count > 0);
                report.media_dropped = dropped.map(|(why, count)| (why.as_str().to_owned(), count)).collect();
                let kept = relay.kept_above().into_iter();
                report.kept_above = kept.map(|(why, count)| (why.to_owned(), count)).collect();
            }
            Service::Access(access) => {
                let status = access.status();
                report.transactions += status.transactions;
                report.online += status.online;
            }
            Service::Reflector(reflector) => {
                let counts = reflector.counts();
                let dropped = Why::ALL.map(|why| (why.word(), counts.dropped_by(why)));
                let all = [("passed", counts.passed), ("bound", counts.bound)].into_iter().chain(dropped);
                report.reflected = all.map(|(word, count)| (word.to_owned(), count)).collect();
            }
            _ => {}
        }
    }
}

/// What an input that may bring a service down is known by afterwards. Cheap: bytes are shared, not copied.
fn bytes_of(input: &Input) -> Option<Bytes> {
    match input {
        Input::Message { message, .. } => Some(message.bytes().clone()),
        Input::Other { bytes, .. } => Some(bytes.clone()),
        _ => None,
    }
}

/// What a log says about it.
fn first_line(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    let end = bytes.iter().take(200).position(|&byte| byte == b'\r').unwrap_or(bytes.len().min(200));
    String::from_utf8_lossy(&bytes[..end])
}
