//! The kernel path: latched streams go on in the kernel, by an eBPF program on the interfaces' way in (tc, as a TCX link).
//!
//! `forward.bpf.c` is the program, `compile` makes the object beside it, `flows` is the table of streams as the program
//! reads it, `ways` the one of neighbours they leave through, kept true by what `netlink` hears. The relay says what is handed down ([`proto::offload`]); each lane keeps its own streams' keys in a
//! [`Handed`]. Links and table live as long as this process has them open: however it ends, nothing stays behind. Where
//! anything is missing (privileges, kernel 6.6, an Ethernet interface) the reason is told once and media goes its
//! ordinary way.
//!
//! What is carried here passes none of the host's firewall rules and connection tracking, in or out.

mod flows;
mod netlink;
mod ways;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use aya::maps::{Array, MapData};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions};
use aya::{Ebpf, EbpfLoader};
use proto::node::SocketId;
use proto::offload::{Carried, Offload, Rule};

use flows::{FLOW, Flow, GATE, KEY, Key, PORT};
use netlink::{Change, Watch};
use ways::{WAY, Ways};

/// The compiled program. Aligned, for it is read as an ELF file in place.
const OBJECT: &[u8] = aya::include_bytes_aligned!("forward.bpf.o");

/// ARP's number for Ethernet: what a frame must have in front for the program to read it.
const ETHERNET: u16 = 1;

/// The process's part: the program and its table.
#[derive(Debug)]
pub struct Kernel(Mutex<State>);

#[derive(Debug)]
struct State {
    wanted: bool,
    /// Why it is off.
    why: String,
    loaded: Option<Loaded>,
    /// Packets of streams that are not carried any more.
    carried: u64,
    /// What came to their ports besides, and was too much.
    dropped: u64,
}

#[derive(Debug)]
struct Loaded {
    flows: aya::maps::HashMap<MapData, [u8; KEY], [u8; FLOW]>,
    gates: aya::maps::HashMap<MapData, [u8; PORT], [u8; GATE]>,
    ways: Ways<Array<MapData, [u8; WAY]>>,
    /// Whoever hears of changes for it looks whether it is still there.
    alive: Arc<()>,
    /// Names of the interfaces it reads from.
    reads: Vec<String>,
    /// Numbers of those a packet may leave by.
    leaves: BTreeSet<u32>,
    streams: usize,
    // Closes the links.
    _program: Ebpf,
}

impl Kernel {
    /// Off.
    pub fn new() -> Arc<Kernel> {
        let why = "relay.kernel-path is off".to_owned();
        Arc::new(Kernel(Mutex::new(State { wanted: false, why, loaded: None, carried: 0, dropped: 0 })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Switches it on for ports at these addresses, or off.
    pub fn switch(self: &Arc<Kernel>, on: bool, binds: &[IpAddr]) {
        let mut state = self.state();
        state.wanted = on;
        if !on {
            state.why = "relay.kernel-path is off".to_owned();
            state.let_go();
        } else if state.loaded.is_none() {
            match self.load(binds) {
                Ok(loaded) => {
                    tracing::info!(
                        interfaces = loaded.reads.join(", "),
                        "latched media goes on in the kernel"
                    );
                    state.loaded = Some(loaded);
                }
                Err(why) => {
                    tracing::warn!(why, "the kernel path is off: media goes on in user space");
                    state.why = why;
                }
            }
        }
    }

    fn load(self: &Arc<Kernel>, binds: &[IpAddr]) -> Result<Loaded, String> {
        // What changes from here on is heard.
        let watch = Watch::new().map_err(|error| words(&error))?;
        let loaded = Loaded::new(binds)?;
        let (kernel, alive) = (Arc::downgrade(self), Arc::downgrade(&loaded.alive));
        let thread = std::thread::Builder::new().name("routes".to_owned());
        thread.spawn(move || listen(&watch, &kernel, &alive)).map_err(|error| words(&error))?;
        Ok(loaded)
    }

    fn hear(&self, heard: Option<Vec<Change>>) {
        let mut state = self.state();
        let Some(loaded) = state.loaded.as_mut() else { return };
        match heard {
            Some(changes) => changes.into_iter().for_each(|change| loaded.ways.hear(change)),
            None => loaded.ways.hear_no_more(),
        }
    }

    /// For `postern status`.
    pub fn report(&self) -> String {
        let state = self.state();
        let Some(loaded) = state.loaded.as_ref().filter(|_| state.wanted) else {
            return format!("off: {}", state.why);
        };
        let live = loaded.flows.iter().filter_map(Result::ok).map(|(_, flow)| Flow(flow).packets());
        let packets = state.carried + live.sum::<u64>();
        let live = loaded.gates.iter().filter_map(Result::ok).map(|(_, gate)| flows::dropped(&gate));
        let dropped = match state.dropped + live.sum::<u64>() {
            0 => String::new(),
            dropped => format!(", {dropped} others dropped"),
        };
        format!("on ({}): {} streams, {packets} packets{dropped}", loaded.reads.join(", "), loaded.streams)
    }

    fn begin(&self, rule: &Rule) -> Result<Key, String> {
        let mut state = self.state();
        let wanted = state.wanted;
        let loaded = state.loaded.as_mut().filter(|_| wanted).ok_or("it is off")?;
        let hop = netlink::hop(rule.via.ip(), rule.to.ip()).map_err(|error| error.to_string())?;
        let hop = hop.filter(|hop| loaded.leaves.contains(&hop.interface));
        let hop = hop.ok_or("it would not leave by an Ethernet interface")?;
        let key = Key::new(rule.from, rule.here);
        let way = loaded.ways.take(hop)?;
        let gate = loaded.gates.insert(flows::port(&key), [0; GATE], 0);
        if let Err(error) = gate.and_then(|()| loaded.flows.insert(key.0, Flow::new(rule, way).0, 0)) {
            let _ = loaded.gates.remove(&flows::port(&key));
            loaded.ways.give_back(way);
            return Err(error.to_string());
        }
        loaded.streams += 1;
        Ok(key)
    }

    fn count(&self, key: &Key) -> Option<Flow> {
        self.state().loaded.as_ref()?.flows.get(&key.0, 0).ok().map(Flow)
    }

    fn end(&self, key: &Key) -> Option<Flow> {
        let mut state = self.state();
        let loaded = state.loaded.as_mut()?;
        let last = loaded.flows.get(&key.0, 0).ok().map(Flow);
        let _ = loaded.flows.remove(&key.0);
        let port = flows::port(key);
        let dropped = loaded.gates.get(&port, 0).map_or(0, |gate| flows::dropped(&gate));
        let _ = loaded.gates.remove(&port);
        last.iter().for_each(|flow| loaded.ways.give_back(flow.way()));
        loaded.streams -= 1;
        state.dropped += dropped;
        state.carried += last.as_ref().map_or(0, Flow::packets);
        state.let_go();
        last
    }
}

/// Tells what changes, for as long as anything is loaded.
fn listen(watch: &Watch, kernel: &Weak<Kernel>, alive: &Weak<()>) {
    while alive.strong_count() > 0 {
        let heard = watch.next();
        let Some(kernel) = kernel.upgrade() else { return };
        match heard {
            Ok(changes) => kernel.hear(Some(changes)),
            Err(error) => {
                tracing::warn!(%error, "changes of routes are not heard of any more: the kernel path asks for every packet's");
                return kernel.hear(None);
            }
        }
    }
}

impl State {
    /// Takes the program off once nothing is carried any more.
    fn let_go(&mut self) {
        if !self.wanted && self.loaded.as_ref().is_some_and(|loaded| loaded.streams == 0) {
            self.loaded = None;
        }
    }
}

impl Loaded {
    fn new(binds: &[IpAddr]) -> Result<Loaded, String> {
        let (reads, leaves) = interfaces(binds)?;
        let mut program = EbpfLoader::new().load(OBJECT).map_err(|error| words(&error))?;
        let map = program.take_map("flows").ok_or("the object has no table")?;
        let flows = aya::maps::HashMap::try_from(map).map_err(|error| words(&error))?;
        let map = program.take_map("gates").ok_or("the object has no gates")?;
        let gates = aya::maps::HashMap::try_from(map).map_err(|error| words(&error))?;
        let map = program.take_map("ways").ok_or("the object has no ways out")?;
        let ways = Ways::new(Array::try_from(map).map_err(|error| words(&error))?);
        let forward = program.program_mut("forward").ok_or("the object has no program")?;
        let forward: &mut SchedClassifier = forward.try_into().map_err(|error| words(&error))?;
        forward.load().map_err(|error| words(&error))?;
        for name in &reads {
            // A link that ends with this process; older ways to attach would outlive it.
            let link = TcAttachOptions::TcxOrder(LinkOrder::default());
            forward
                .attach_with_options(name, TcAttachType::Ingress, link)
                .map_err(|error| format!("{name}: {} (Linux 6.6 or later is needed)", words(&error)))?;
        }
        Ok(Loaded { flows, gates, ways, alive: Arc::new(()), reads, leaves, streams: 0, _program: program })
    }
}

/// Ethernet interfaces: names of those with these addresses, numbers of all.
fn interfaces(binds: &[IpAddr]) -> Result<(Vec<String>, BTreeSet<u32>), String> {
    let all: Vec<_> = nix::ifaddrs::getifaddrs().map_err(|error| words(&error))?.collect();
    let ethernet: HashMap<&str, u32> = all
        .iter()
        .filter_map(|entry| Some((entry.interface_name.as_str(), entry.address.as_ref()?.as_link_addr()?)))
        .filter(|(_, link)| link.hatype() == ETHERNET)
        .map(|(name, link)| (name, link.ifindex() as u32))
        .collect();
    let holds = |entry: &&nix::ifaddrs::InterfaceAddress| {
        let address = entry.address.as_ref();
        let v4 = address.and_then(|address| address.as_sockaddr_in()).map(|v4| IpAddr::V4(v4.ip()));
        let v6 = address.and_then(|address| address.as_sockaddr_in6()).map(|v6| IpAddr::V6(v6.ip()));
        v4.or(v6).is_some_and(|ip| binds.contains(&ip))
    };
    let named: BTreeSet<&str> = all.iter().filter(holds).map(|entry| entry.interface_name.as_str()).collect();
    let reads: Vec<String> =
        named.into_iter().filter(|name| ethernet.contains_key(name)).map(str::to_owned).collect();
    match reads.is_empty() {
        true => Err("no Ethernet interface holds an address the relay lends ports at".into()),
        false => Ok((reads, ethernet.into_values().collect())),
    }
}

/// An error with what it is made of.
fn words(error: &dyn std::error::Error) -> String {
    let mut all = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        all = format!("{all}: {error}");
        next = error.source();
    }
    // The verifier's log has lines.
    all.lines().next().unwrap_or_default().to_owned()
}

/// What one lane has handed down.
#[derive(Debug)]
pub struct Handed {
    kernel: Arc<Kernel>,
    keys: HashMap<SocketId, Key>,
}

impl Handed {
    /// Nothing yet.
    pub fn new(kernel: Arc<Kernel>) -> Handed {
        Handed { kernel, keys: HashMap::new() }
    }

    /// Does what the relay asks.
    pub fn obey(&mut self, wish: &Offload) -> Vec<Carried> {
        match wish {
            Offload::Begin(rule) => match self.kernel.begin(rule) {
                Ok(key) => {
                    self.keys.insert(rule.socket, key);
                    Vec::new()
                }
                Err(why) => {
                    tracing::debug!(why, from = %rule.from, "a stream stays in user space");
                    vec![Carried::refused(rule.socket)]
                }
            },
            Offload::Count(sockets) => sockets.iter().filter_map(|socket| self.count(*socket)).collect(),
            Offload::End(socket) => vec![self.end(*socket)],
        }
    }

    fn count(&self, socket: SocketId) -> Option<Carried> {
        Some(self.kernel.count(self.keys.get(&socket)?)?.carried(socket, false))
    }

    fn end(&mut self, socket: SocketId) -> Carried {
        let last = self.keys.remove(&socket).and_then(|key| self.kernel.end(&key));
        last.map_or(Carried::refused(socket), |flow| flow.carried(socket, true))
    }
}

#[cfg(test)]
mod tests;
