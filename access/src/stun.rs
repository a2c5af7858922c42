//! STUN as a service of its own.

use std::collections::VecDeque;
use std::time::Instant;

use proto::node::{Flow, Input, Node, Output, Ticket, Transport};
use proto::stun::Server;
use proto::tables::{Limit, Tables};

/// Answers Binding requests at one socket, or at the four of a [`Server::pair`]. It remembers nobody.
#[derive(Debug)]
pub struct StunServer {
    server: Server,
    out: VecDeque<Output>,
}

impl StunServer {
    /// With these addresses.
    pub fn new(server: Server) -> StunServer {
        StunServer { server, out: VecDeque::new() }
    }
}

impl Node for StunServer {
    fn handle(&mut self, now: Instant, input: Input, tables: &mut dyn Tables) {
        let Input::Other { flow, bytes } = input else { return };
        if flow.transport != Transport::Udp || !tables.admit(now, Limit::Garbage, flow.remote.ip()) {
            return;
        }
        if let Some(answer) = self.server.answer(&bytes, flow.remote, flow.local) {
            let flow = Flow::udp(answer.from, answer.to);
            self.out.push_back(Output::Send { flow, bytes: answer.bytes.into(), ticket: Ticket(0) });
        }
    }

    fn poll(&mut self, _: &mut dyn Tables) -> Option<Output> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}
