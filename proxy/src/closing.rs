//! Listeners that are being closed: what is under way at them goes on, nothing new begins, and whoever owns the sockets is
//! told what still needs them.

use std::net::SocketAddr;

use proto::node::{Flow, Transport};

use crate::Proxy;
use crate::config::Standing;

/// A listener that is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// How bytes travel there.
    pub transport: Transport,
    /// Its address.
    pub bind: SocketAddr,
    /// Calls, relay sessions and transactions that still need it.
    pub needed_by: usize,
}

impl Proxy {
    /// The listeners that are being closed.
    pub fn closing(&self) -> Vec<Closing> {
        let closing = self.config.listeners.iter().filter(|listener| listener.standing == Standing::Closing);
        closing.map(|listener| self.needs(listener.transport, listener.bind)).collect()
    }

    fn needs(&self, transport: Transport, bind: SocketAddr) -> Closing {
        let here = |flow: &Flow| (flow.transport, flow.local) == (transport, bind);
        let calls = self.calls.at(here);
        let sessions = self.relays.sessions.values().filter(|held| here(&held.dialog.flow)).count();
        Closing { transport, bind, needed_by: calls + sessions + self.transactions.at(transport, bind) }
    }

    /// Whether what comes by this path comes to a listener that takes nothing new.
    pub(crate) fn is_closing(&self, flow: &Flow) -> bool {
        let listener = self.config.listeners.get(self.listener_of(flow));
        listener.is_some_and(|listener| listener.standing != Standing::Open)
    }
}
