//! A node whose work takes time: one worker, who serves in the order the shell's lanes do.
//!
//! Everything that has come is read first; what belongs to a dialog is handled at once, new work waits in the
//! [`Lobby`]. Without a lobby everything is handled in the order it came: what a server without overload control does.

use std::collections::VecDeque;
use std::time::Duration;

use proto::lobby::{Arrival, Before, Entry, Lobby};
use proto::node::{Flow, Input, Ticket};

use super::{Happening, NodeId, World};

/// How long a node's work takes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// To read a message, and to refuse it if need be.
    pub reading: Duration,
    /// To handle it.
    pub handling: Duration,
    /// The kind of lobby that new work waits in.
    pub lobby: Option<Before>,
    /// It may work for the first of these times in each of the second, as a CPU quota has it; then it sleeps until the next.
    pub quota: Option<(Duration, Duration)>,
}

/// Messages that the kernel keeps for a socket at most.
const SOCKET: usize = 4096;

#[derive(Debug)]
pub(super) struct Toil {
    pace: Pace,
    socket: VecDeque<Input>,
    lobby: Option<Lobby>,
    busy: bool,
    /// The period of its quota it last worked in, and what it has used of that.
    used: (u128, Duration),
}

impl Toil {
    /// When work that begins now is done, and the next can begin.
    fn done(&mut self, now: Duration, spent: Duration) -> Duration {
        let Some((runs, period)) = self.pace.quota else { return now + spent };
        let this = now.as_nanos() / period.as_nanos();
        if self.used.0 != this {
            // What was taken beyond the quota of one period is missing in the next.
            self.used = (this, self.used.1.saturating_sub(runs));
        }
        self.used.1 += spent;
        match self.used.1 < runs {
            true => now + spent,
            false => (now + spent).max(period * (this as u32 + 1)),
        }
    }
}

impl World {
    /// From now on this node's work takes time.
    pub fn slow_down(&mut self, node: NodeId, pace: Pace) {
        let lobby = pace.lobby.map(|before| Lobby::new(7, before));
        self.nodes[node.0].toil =
            Some(Toil { pace, socket: VecDeque::new(), lobby, busy: false, used: (0, Duration::ZERO) });
    }

    /// How many were turned away at a slow node's lobby.
    pub fn turned_away(&self, node: NodeId) -> u64 {
        let lobby = self.nodes[node.0].toil.as_ref().and_then(|toil| toil.lobby.as_ref());
        lobby.map_or(0, Lobby::refused)
    }

    /// What has come to a slow node waits in its socket; to any other it is told at once.
    pub(super) fn come_to(&mut self, node: NodeId, input: Input) {
        let life = self.nodes[node.0].life;
        let Some(toil) = &mut self.nodes[node.0].toil else { return self.tell(node, input) };
        if toil.socket.len() < SOCKET {
            toil.socket.push_back(input);
        }
        if !std::mem::replace(&mut toil.busy, true) {
            self.schedule(self.now, Happening::Toil { node, life });
        }
    }

    /// One step of work; the next one when it is done.
    pub(super) fn toil(&mut self, node: NodeId) {
        let now = self.start + self.now;
        let Some(toil) = &mut self.nodes[node.0].toil else { return };
        let Pace { reading, handling, .. } = toil.pace;
        let spent = match (toil.socket.pop_front(), &mut toil.lobby) {
            (Some(Input::Message { flow, message }), Some(lobby)) => {
                let seen = lobby.glance(now, flow.remote, message.bytes(), |_| true);
                match seen.unwrap_or_else(|| lobby.arrive(now, Arrival { flow, message })) {
                    Entry::Now(arrival) => {
                        self.handle_arrival(node, arrival);
                        reading + handling
                    }
                    Entry::Refused(bytes) => {
                        self.answer(node, flow, bytes);
                        reading
                    }
                    Entry::Waits | Entry::Dropped => reading,
                }
            }
            (Some(input), _) => {
                self.tell(node, input);
                reading + handling
            }
            (None, lobby) => match lobby.as_mut().and_then(|lobby| lobby.next(now)) {
                Some(arrival) => {
                    self.handle_arrival(node, arrival);
                    handling
                }
                None => {
                    toil.busy = false;
                    return;
                }
            },
        };
        let (now, life) = (self.now, self.nodes[node.0].life);
        let Some(toil) = &mut self.nodes[node.0].toil else { return };
        let done = toil.done(now, spent);
        self.schedule(done, Happening::Toil { node, life });
    }

    fn handle_arrival(&mut self, node: NodeId, Arrival { flow, message }: Arrival) {
        self.tell(node, Input::Message { flow, message });
    }

    fn answer(&mut self, node: NodeId, flow: Flow, bytes: bytes::Bytes) {
        self.perform(node, proto::node::Output::Send { flow, bytes, ticket: Ticket(0) });
    }
}
