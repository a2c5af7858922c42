//! The connections of the process: found by identity, or by listener and remote address; counted by source.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use proto::node::{Flow, FlowId, Ticket, Transport};
use proto::shield::counted_as;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::lanes::post::Address;

/// Messages that may wait for a slow reader.
const QUEUE: usize = 256;
/// Connections at once, and those of one address.
pub(crate) const MOST: usize = 50_000;
const MOST_FROM_ONE: usize = 1_000;
/// Other paths one connection may be found by.
const ALIASES: usize = 16;
/// Domains that are remembered for being connected to.
const DOMAINS: usize = 10_000;

/// How long a request on a connection waits for an answer at most (RFC 3261 §17.1: timers B and F), and how many are
/// remembered.
const UNANSWERED: Duration = Duration::from_secs(32);
const ASKED: usize = 256;

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) bytes: Bytes,
    pub(super) from: Address,
    pub(super) ticket: Ticket,
}

/// A request that went by a connection: who sent it, and what it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) at: Instant,
    pub(super) from: Address,
    pub(super) ticket: Ticket,
}

#[derive(Debug)]
struct Connection {
    flow: Flow,
    /// What its far end has to prove, if anything.
    proving: FlowId,
    /// What who connected to us proved by a certificate, and by which other paths it may be found for that.
    proved: Arc<[String]>,
    aliases: Vec<Path>,
    queue: Sender<Parcel>,
    asked: VecDeque<Asked>,
}

type Path = (Transport, SocketAddr, SocketAddr, FlowId);

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    connections: HashMap<FlowId, Connection>,
    by_path: HashMap<Path, FlowId>,
    by_source: HashMap<IpAddr, usize>,
    domains: HashMap<FlowId, String>,
    proven: HashMap<(Transport, SocketAddr), FlowId>,
    next: u64,
}

impl Default for Table {
    /// Identities go on from the clock, so that no later process gives one out again.
    fn default() -> Table {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Table {
            connections: HashMap::new(),
            by_path: HashMap::new(),
            by_source: HashMap::new(),
            domains: HashMap::new(),
            proven: HashMap::new(),
            next: (since.as_millis() as u64) << 20,
        }
    }
}

impl Table {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether one more may come from there.
    pub(super) fn has_room(&self, source: IpAddr) -> bool {
        let from_there = self.by_source.get(&counted_as(source)).copied().unwrap_or(0);
        self.connections.len() < MOST && from_there < MOST_FROM_ONE
    }

    /// How many came in at a listener.
    pub(super) fn count_at(&self, transport: Transport, local: SocketAddr) -> usize {
        let here = |it: &&Connection| (it.flow.transport, it.flow.local) == (transport, local);
        self.connections.values().filter(here).count()
    }

    /// A new connection, and what is to be sent on it. `wanted.id` says what its far end has to prove.
    pub(super) fn add(&mut self, wanted: Flow) -> (Flow, Receiver<Parcel>) {
        let (queue, waiting) = channel(QUEUE);
        self.next += 1;
        let flow = Flow { id: FlowId(self.next), ..wanted };
        self.by_path.insert(path(&flow, wanted.id), flow.id);
        if wanted.id != FlowId(0) {
            // Who asks for nobody in particular is served by this one, too.
            self.by_path.entry(path(&flow, FlowId(0))).or_insert(flow.id);
        }
        *self.by_source.entry(counted_as(flow.remote.ip())).or_default() += 1;
        self.connections.insert(
            flow.id,
            Connection {
                flow,
                proving: wanted.id,
                proved: Arc::default(),
                aliases: Vec::new(),
                queue,
                asked: VecDeque::new(),
            },
        );
        (flow, waiting)
    }

    /// The queue of the connection a flow means.
    pub(super) fn find(&self, flow: Flow) -> Option<Sender<Parcel>> {
        self.connections.get(&self.id_of(&flow)?).map(|connection| connection.queue.clone())
    }

    fn id_of(&self, flow: &Flow) -> Option<FlowId> {
        match flow.id.is_connection() {
            true => Some(flow.id),
            false => self.by_path.get(&path(flow, flow.id)).copied(),
        }
    }

    /// A request goes by the connection a flow means: should it end before the answer has come, the sender is told.
    pub(super) fn asks(&mut self, flow: &Flow, asked: Asked) {
        let Some(connection) = self.id_of(flow).and_then(|id| self.connections.get_mut(&id)) else { return };
        let asks = &mut connection.asked;
        while asks.front().is_some_and(|first| asks.len() >= ASKED || asked.at - first.at >= UNANSWERED) {
            asks.pop_front();
        }
        asks.push_back(asked);
    }

    /// Forgets a connection. Its queue ends once what waits there has left. Gives the requests that went by it and may
    /// still be unanswered.
    pub(super) fn remove(&mut self, id: FlowId) -> VecDeque<Asked> {
        let Some(connection) = self.connections.remove(&id) else { return VecDeque::new() };
        let own = [connection.proving, FlowId(0)].map(|proving| path(&connection.flow, proving));
        for key in own.into_iter().chain(connection.aliases) {
            if self.by_path.get(&key) == Some(&id) {
                self.by_path.remove(&key);
            }
        }
        let source = counted_as(connection.flow.remote.ip());
        if let Some(count) = self.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
        connection.asked
    }

    /// Forgets every connection of a listener.
    pub(super) fn remove_all(&mut self, transport: Transport, local: SocketAddr) {
        let here = |flow: &Flow| (flow.transport, flow.local) == (transport, local);
        let flows = self.connections.values().map(|connection| connection.flow);
        for id in flows.filter(here).map(|flow| flow.id).collect::<Vec<_>>() {
            self.remove(id);
        }
    }

    /// Who connected to us proved to be these domains.
    pub(super) fn proved(&mut self, id: FlowId, domains: Arc<[String]>) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.proved = domains;
        }
    }

    /// Who connected to us listens at this port of its address, and may be met there by this connection (RFC 5923 §8):
    /// for the domains its certificate proved, and nothing else. One that proved nothing gets no alias.
    pub(super) fn alias(&mut self, id: FlowId, port: u16) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let listens_at =
            Flow { remote: SocketAddr::new(connection.flow.remote.ip(), port), ..connection.flow };
        for domain in connection.proved.iter() {
            let alias = path(&listens_at, FlowId::proving(domain));
            if !connection.aliases.contains(&alias) && connection.aliases.len() < ALIASES {
                connection.aliases.push(alias);
                self.by_path.insert(alias, id);
            }
        }
    }

    /// A domain that connections may have to prove.
    pub(super) fn remember(&mut self, domain: &str) {
        if self.domains.len() >= DOMAINS {
            self.domains.clear();
        }
        self.domains.insert(FlowId::proving(domain), domain.to_owned());
    }

    /// The domain `wanted` has to prove: as asked, else what was proven there last, for requests inside a dialog know
    /// only the address; `None`: its address.
    pub(super) fn domain(&self, wanted: &Flow) -> Option<String> {
        let last = || self.proven.get(&(wanted.transport, wanted.remote));
        let asked = if wanted.id == FlowId(0) { last() } else { Some(&wanted.id) };
        self.domains.get(asked?).cloned()
    }

    /// The far end proved what was asked of it.
    pub(super) fn proven(&mut self, wanted: &Flow) {
        if self.proven.len() >= DOMAINS {
            self.proven.clear();
        }
        if wanted.id != FlowId(0) {
            self.proven.insert((wanted.transport, wanted.remote), wanted.id);
        }
    }
}

fn path(flow: &Flow, proving: FlowId) -> Path {
    (flow.transport, flow.local, flow.remote, proving)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(remote: &str, id: FlowId) -> Flow {
        let local = "192.0.2.1:5061".parse().unwrap();
        Flow { transport: Transport::Tls, local, remote: remote.parse().unwrap(), id }
    }

    #[test]
    fn a_connection_that_proved_one_domain_is_not_reused_for_another() {
        let mut table = Table::default();
        let wanted = flow("198.51.100.1:5061", FlowId::proving("a.example"));
        let (made, _waiting) = table.add(wanted);
        assert!(table.find(made).is_some() && table.find(wanted).is_some());
        assert!(table.find(Flow { id: FlowId::proving("b.example"), ..wanted }).is_none());
        assert!(table.find(Flow { id: FlowId(0), ..wanted }).is_some(), "nobody in particular");
        table.remove(made.id);
        assert!(table.find(made).is_none() && table.find(wanted).is_none());
    }

    #[test]
    fn who_proved_a_domain_is_met_by_its_own_connection_where_it_listens() {
        let mut table = Table::default();
        let (made, _waiting) = table.add(flow("198.51.100.1:40000", FlowId(0)));
        let listens = |domain: &str| flow("198.51.100.1:5061", FlowId::proving(domain));
        table.alias(made.id, 5061);
        assert!(table.find(listens("a.example")).is_none(), "it proved nothing yet");
        table.proved(made.id, vec!["a.example".to_owned()].into());
        table.alias(made.id, 5061);
        assert!(table.find(listens("a.example")).is_some() && table.find(listens("b.example")).is_none());
        assert!(table.find(flow("198.51.100.1:5061", FlowId(0))).is_none(), "an address is no domain");
        table.remove(made.id);
        assert!(table.find(listens("a.example")).is_none());
    }

    #[test]
    fn a_connection_that_ends_leaves_the_requests_of_the_last_32_seconds() {
        let mut table = Table::default();
        let (made, _waiting) = table.add(flow("198.51.100.1:5061", FlowId(0)));
        let (from, start) = (Address { lane: 0, seat: 0 }, Instant::now());
        let asked = |seconds, ticket| Asked {
            at: start + Duration::from_secs(seconds),
            from,
            ticket: Ticket(ticket),
        };
        table.asks(&made, asked(0, 1));
        table.asks(&flow("198.51.100.1:5061", FlowId(0)), asked(31, 2));
        table.asks(&made, asked(32, 3));
        assert_eq!(table.remove(made.id), [asked(31, 2), asked(32, 3)]);
        assert!(table.remove(made.id).is_empty());
    }

    #[test]
    fn one_source_gets_so_many_connections_and_no_more() {
        let mut table = Table::default();
        let source: IpAddr = "198.51.100.1".parse().unwrap();
        let made: Vec<_> = (0..MOST_FROM_ONE)
            .map(|n| table.add(flow(&format!("198.51.100.1:{}", 1000 + n), FlowId(0))).0)
            .collect();
        assert!(!table.has_room(source) && table.has_room("198.51.100.2".parse().unwrap()));
        table.remove(made[7].id);
        assert!(table.has_room(source));
    }
}
