//! Connections: opened through the gateways on their way, their bytes cut at random places and put together again by
//! the framer that production uses. TLS and WebSocket are connections too; here they only differ in name, and
//! WebSocket keeps its frames whole.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use proto::node::{Flow, FlowId, Input, SendError, Ticket, Transport};
use proto::sip::{Frame, Framer};

use super::nat::Protocol;
use super::net::{GatewayId, HostId, Packet};
use super::record::Fate;
use super::{Happening, NodeId, World, sip_input};

/// A connection's place in the world's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnId(usize);

#[derive(Debug)]
pub(super) struct Conn {
    state: State,
    /// Who connected, and who was connected to (known once the opening packet has arrived).
    ends: [Option<End>; 2],
    /// The source the caller's host uses, a port of its own.
    source: SocketAddr,
    latency: Duration,
    waiting: Vec<(usize, Bytes, Ticket)>,
    passed: Vec<GatewayId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening { since: Duration },
    Open,
    Closed,
}

#[derive(Debug)]
struct End {
    node: NodeId,
    flow: Flow,
    framer: Framer,
    /// Entries of the record whose bytes are on the way to this end.
    coming: VecDeque<usize>,
    /// Requests that left here.
    asked: Vec<Ticket>,
    last_arrival: Duration,
}

/// When an opening packet is sent again; after the last wait the attempt is given up.
const RETRY: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// What a lost segment costs: the sender's retransmission timeout.
const RETRANSMISSION: Duration = Duration::from_millis(200);

impl World {
    /// Sends a message on a connection, as [`Flow`] says: that very one, or any to that place.
    pub(super) fn send_on_stream(&mut self, node: NodeId, flow: Flow, bytes: Bytes, ticket: Ticket) {
        let entry = self.note(node, Some(flow.transport), (flow.local, flow.remote), &bytes);
        match self.conn_for(node, &flow) {
            Some((conn, end)) if self.conns[conn.0].state == State::Open => {
                self.asks(conn, end, ticket, &bytes);
                self.transmit(conn, end, entry, &bytes)
            }
            Some((conn, _)) => self.conns[conn.0].waiting.push((entry, bytes, ticket)),
            None if flow.id.is_connection() => {
                self.record[entry].fate = Fate::Dropped("closed".to_owned());
                self.tell_failure(node, ticket, flow, SendError::Closed);
            }
            None => self.dial(node, flow, (entry, bytes, ticket)),
        }
    }

    /// Closes one end; the other hears of it.
    pub(super) fn close_flow(&mut self, node: NodeId, flow: &Flow) {
        if let Some((conn, end)) = self.conn_for(node, flow).filter(|_| flow.id.is_connection()) {
            self.close_conn(conn, Some(end));
        }
    }

    /// Closes every connection a node has, as the end of its process does.
    pub(super) fn close_all_of(&mut self, node: NodeId) {
        for n in 0..self.conns.len() {
            if let Some(end) = self.conns[n].end_of(node) {
                self.close_conn(ConnId(n), Some(end));
            }
        }
    }

    /// Breaks every connection through a gateway; both ends hear of it.
    pub(super) fn break_conns_through(&mut self, gateway: GatewayId) {
        for n in 0..self.conns.len() {
            if self.conns[n].passed.contains(&gateway) {
                self.close_conn(ConnId(n), None);
            }
        }
    }

    fn conn_for(&self, node: NodeId, flow: &Flow) -> Option<(ConnId, usize)> {
        let is_it = |end: &End| {
            let own = &end.flow;
            let same =
                own.transport == flow.transport && own.local == flow.local && own.remote == flow.remote;
            end.node == node && if flow.id.is_connection() { own.id == flow.id } else { same }
        };
        self.conns.iter().enumerate().filter(|(_, conn)| conn.state != State::Closed).find_map(|(n, conn)| {
            let end = (0..2).find(|end| conn.ends[*end].as_ref().is_some_and(is_it))?;
            Some((ConnId(n), end))
        })
    }

    fn dial(&mut self, node: NodeId, flow: Flow, first: (usize, Bytes, Ticket)) {
        let conn = ConnId(self.conns.len());
        let flow = Flow { id: self.new_flow_id(), ..flow };
        let source = SocketAddr::new(flow.local.ip(), 40_000 + (conn.0 % 20_000) as u16);
        self.conns.push(Conn {
            state: State::Opening { since: self.now },
            ends: [Some(End::new(node, flow)), None],
            source,
            latency: Duration::ZERO,
            waiting: vec![first],
            passed: Vec::new(),
        });
        self.knock(conn, 0);
    }

    /// Sends the opening packet, for the `attempt`th time.
    pub(super) fn knock(&mut self, id: ConnId, attempt: usize) {
        let conn = &mut self.conns[id.0];
        let (State::Opening { .. }, Some(end)) = (conn.state, &conn.ends[0]) else { return };
        let Some(wait) = RETRY.get(attempt) else { return self.fail_opening(id, SendError::TimedOut) };
        conn.state = State::Opening { since: self.now };
        let (node, source, target) = (end.node, conn.source, end.flow.remote);
        let bytes = Bytes::new();
        let entry = usize::MAX;
        let packet = Packet {
            entry,
            protocol: Protocol::Tcp,
            src: source,
            dst: target,
            bytes,
            opens: Some(id),
            passed: vec![],
            hops: super::HOPS,
        };
        self.launch(self.nodes[node.0].host, packet);
        self.schedule(self.now + *wait, Happening::Knock { conn: id, attempt: attempt + 1 });
    }

    /// The opening packet is at its host: somebody listens, or not.
    pub(super) fn opening_arrived(&mut self, host: HostId, packet: &Packet, id: ConnId) {
        let conn = &self.conns[id.0];
        let (State::Opening { since }, Some(caller), None) = (conn.state, &conn.ends[0], &conn.ends[1])
        else {
            return;
        };
        let (transport, latency) = (caller.flow.transport, self.now - since);
        let Some(node) = self.listener(host, transport, packet.dst) else {
            return self.schedule(self.now + latency, Happening::Refused { conn: id });
        };
        let flow = Flow { transport, local: packet.dst, remote: packet.src, id: self.new_flow_id() };
        let conn = &mut self.conns[id.0];
        conn.ends[1] = Some(End::new(node, flow));
        conn.latency = latency;
        conn.passed.clone_from(&packet.passed);
        self.schedule(self.now + latency, Happening::Opened { conn: id });
    }

    pub(super) fn opened(&mut self, id: ConnId) {
        if !matches!(self.conns[id.0].state, State::Opening { .. }) {
            return;
        }
        self.conns[id.0].state = State::Open;
        for (entry, bytes, ticket) in std::mem::take(&mut self.conns[id.0].waiting) {
            self.asks(id, 0, ticket, &bytes);
            self.transmit(id, 0, entry, &bytes);
        }
    }

    pub(super) fn fail_opening(&mut self, id: ConnId, error: SendError) {
        let conn = &mut self.conns[id.0];
        let (State::Opening { .. }, Some(end)) = (conn.state, &conn.ends[0]) else { return };
        conn.state = State::Closed;
        let (node, flow) = (end.node, Flow { id: FlowId(0), ..end.flow });
        for (entry, _, ticket) in std::mem::take(&mut conn.waiting) {
            self.record[entry].fate = Fate::Dropped(format!("{error:?}"));
            self.tell_failure(node, ticket, flow, error);
        }
    }

    /// A request is remembered: should the connection end, its sender is told.
    fn asks(&mut self, id: ConnId, from: usize, ticket: Ticket, bytes: &Bytes) {
        if ticket != Ticket(0) && !bytes.starts_with(b"SIP/2.0 ") {
            self.conns[id.0].ends[from].iter_mut().for_each(|end| end.asked.push(ticket));
        }
    }

    /// Cuts a message at random places and puts the pieces on their way, in order.
    fn transmit(&mut self, id: ConnId, from: usize, entry: usize, bytes: &Bytes) {
        let latency = self.conns[id.0].latency;
        let Some(end) = self.conns[id.0].ends[1 - from].as_mut() else { return };
        end.coming.push_back(entry);
        let whole = matches!(end.flow.transport, Transport::Ws | Transport::Wss);
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let length =
                if whole { rest.len() } else { 1 + self.dice.below(rest.len().min(1400) as u64) as usize };
            let piece = rest.split_to(length);
            let lost = self.dice.below(1000) < u64::from(self.stream_loss);
            let delay = latency + if lost { RETRANSMISSION } else { Duration::ZERO };
            let at = (self.now + delay).max(end.last_arrival);
            end.last_arrival = at;
            let happening = Happening::Piece { conn: id, end: 1 - from, bytes: piece };
            Self::schedule_in(&mut self.queue, &mut self.order, at, happening);
        }
    }

    pub(super) fn piece_arrived(&mut self, id: ConnId, to: usize, bytes: &Bytes) {
        let conn = &mut self.conns[id.0];
        let (State::Open, Some(end)) = (conn.state, conn.ends[to].as_mut()) else { return };
        end.framer.push(bytes);
        let frames: Vec<Frame> = std::iter::from_fn(|| end.framer.poll()).collect();
        let (node, flow) = (end.node, end.flow);
        for frame in frames {
            self.frame_arrived(id, to, node, flow, frame);
        }
    }

    fn frame_arrived(&mut self, id: ConnId, to: usize, node: NodeId, flow: Flow, frame: Frame) {
        match frame {
            Frame::Message(bytes) | Frame::Packet(bytes) | Frame::Broken { bytes, .. } => {
                let coming = self.conns[id.0].ends[to].as_mut().and_then(|end| end.coming.pop_front());
                if let Some(entry) = coming {
                    let seen = (flow.remote, flow.local);
                    self.record[entry].fate = Fate::Arrived { at: self.now, to: node, seen };
                }
                self.tell(node, sip_input(flow, bytes));
            }
            Frame::Ping => {
                let pong = Bytes::from_static(b"\r\n");
                let entry = self.note(node, Some(flow.transport), (flow.local, flow.remote), &pong);
                self.transmit(id, to, entry, &pong);
                self.tell(node, Input::Other { flow, bytes: pong });
            }
            Frame::Pong => self.tell(node, Input::Other { flow, bytes: Bytes::from_static(b"\r\n") }),
        }
    }

    /// `by`: the end that closes and needn't be told; `None`: the path broke.
    fn close_conn(&mut self, id: ConnId, by: Option<usize>) {
        let conn = &mut self.conns[id.0];
        if conn.state == State::Closed {
            return;
        }
        conn.state = State::Closed;
        let at = self.now + conn.latency;
        let told: Vec<(NodeId, Flow, Vec<Ticket>)> = (0..2)
            .filter(|n| by != Some(*n))
            .filter_map(|n| {
                conn.ends[n].as_mut().map(|end| (end.node, end.flow, std::mem::take(&mut end.asked)))
            })
            .collect();
        let lost: Vec<usize> = conn.ends.iter_mut().flatten().flat_map(|end| end.coming.drain(..)).collect();
        for entry in lost {
            self.record[entry].fate = Fate::Dropped("connection closed".to_owned());
        }
        for (node, flow, asked) in told {
            self.tell_later(at, node, Input::Closed { flow });
            for ticket in asked {
                let error = SendError::Closed;
                self.tell_later(at, node, Input::SendFailed { ticket, flow, error });
            }
        }
    }
}

impl Conn {
    fn end_of(&self, node: NodeId) -> Option<usize> {
        (0..2).find(|n| self.ends[*n].as_ref().is_some_and(|end| end.node == node))
    }
}

impl End {
    fn new(node: NodeId, flow: Flow) -> End {
        End {
            node,
            flow,
            framer: Framer::default(),
            coming: VecDeque::new(),
            asked: Vec::new(),
            last_arrival: Duration::ZERO,
        }
    }
}
