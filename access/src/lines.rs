//! Lines: whom UDP does not pass for calls plain phones and is called by them through a port of ours. What it says by its line
//! ([`proto::peer::channel`]) goes on from that port, to the proxies and relays of the configuration and to nobody else; what they
//! say there goes back to it, by the connection it is logged in by.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use proto::node::{Flow, Output, SocketId, Ticket, Transport};
use proto::peer::channel;

use crate::accounts::Number;
use crate::server::Access;

/// Where lines begin, and where they lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Their ports are at this address.
    pub local: IpAddr,
    /// Proxies and relays.
    pub to: Vec<IpAddr>,
}

/// Who has which port.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    ports: BTreeMap<Number, Port>,
    owners: BTreeMap<SocketId, Number>,
}

#[derive(Debug)]
enum Port {
    /// Asked for; what is to leave by it.
    Awaited(Vec<(SocketAddr, Bytes)>),
    Open(SocketId),
}

/// Words that wait for a port at most.
const WAITING: usize = 8;

impl Access {
    /// Whether there is anywhere for lines to lead.
    pub fn has_lines(&self) -> bool {
        self.config.outside.is_some()
    }

    fn leads_to(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.config.outside.as_ref().is_some_and(|outside| outside.to.contains(&ip))
    }

    /// Something said by a line. The first word opens its port.
    pub(crate) fn say_outside(&mut self, flow: Flow, said: &[u8]) {
        let Some((to, said)) = channel::read_line(said).filter(|(to, _)| self.leads_to(*to)) else { return };
        let Some(own) = self.online_by(flow).filter(|_| flow.transport != Transport::Udp) else { return };
        let bytes = Bytes::copy_from_slice(said);
        match self.lines.ports.get_mut(&own) {
            Some(Port::Open(socket)) => self.out.push_back(Output::SendMedia { socket: *socket, to, bytes }),
            Some(Port::Awaited(waiting)) if waiting.len() < WAITING => waiting.push((to, bytes)),
            Some(Port::Awaited(_)) => {}
            None => self.open_line(own, (to, bytes)),
        }
    }

    fn open_line(&mut self, own: Number, first: (SocketAddr, Bytes)) {
        let Some(outside) = &self.config.outside else { return };
        let local = SocketAddr::new(outside.local, 0);
        self.lines.ports.insert(own, Port::Awaited(vec![first]));
        self.out.push_back(Output::Bind { ticket: Ticket(u64::from(own)), local });
    }

    /// A port is open; `None`: there is none to be had, and the next word asks again.
    pub(crate) fn line_bound(&mut self, ticket: Ticket, socket: Option<SocketId>) {
        let own = Number::try_from(ticket.0).unwrap_or(Number::MAX);
        match (self.lines.ports.remove(&own), socket) {
            (Some(Port::Awaited(waiting)), Some(socket)) => {
                self.lines.ports.insert(own, Port::Open(socket));
                self.lines.owners.insert(socket, own);
                let send = |(to, bytes)| Output::SendMedia { socket, to, bytes };
                self.out.extend(waiting.into_iter().map(send));
            }
            (Some(port @ Port::Open(_)), other) => {
                self.lines.ports.insert(own, port);
                self.out.extend(other.map(|socket| Output::Release { socket }));
            }
            (_, socket) => self.out.extend(socket.map(|socket| Output::Release { socket })),
        }
    }

    /// What comes to a line's port.
    pub(crate) fn heard_outside(&mut self, socket: SocketId, from: SocketAddr, bytes: &[u8]) {
        let Some(own) = self.lines.owners.get(&socket).filter(|_| self.leads_to(from)) else { return };
        let flow = self.accounts.device_of(*own).map(|device| device.flow);
        if let Some(flow) = flow.filter(|flow| flow.transport != Transport::Udp) {
            self.send(flow, channel::wrap_line(from, bytes));
        }
    }

    /// Its owner is gone.
    pub(crate) fn close_line(&mut self, own: Number) {
        if let Some(Port::Open(socket)) = self.lines.ports.remove(&own) {
            self.lines.owners.remove(&socket);
            self.out.push_back(Output::Release { socket });
        }
    }
}
