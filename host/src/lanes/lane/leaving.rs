//! What leaves: to a service of this process in memory, to anyone else by the listener or the connection of its flow.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use bytes::Bytes;
use proto::node::{Flow, Input, SendError, Ticket, Transport};
use proto::sip::Message;

use super::{BATCH, Lane};
use crate::lanes::post::{Address, Seats, turned};
use crate::net::udp::send_error;

/// A datagram that waits for the end of the round.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) to: SocketAddr,
    pub(super) bytes: Bytes,
    pub(super) ticket: Ticket,
    pub(super) seat: usize,
}

impl Lane {
    /// The seats of this process that a flow leads to.
    pub(super) fn ours(&self, flow: Flow) -> Option<Seats> {
        let here = (flow.transport == Transport::Udp).then(|| self.post.seats(flow.transport, flow.remote));
        here.flatten().cloned()
    }

    /// To a service of this process: in memory, as it is.
    pub(super) fn send_within(
        &mut self,
        from: usize,
        seats: &Seats,
        flow: Flow,
        message: Message,
        ticket: Ticket,
    ) {
        let to = self.post.owner(seats, &message);
        self.pass_on(from, to, (flow, ticket), Input::Message { flow: turned(flow), message });
    }

    /// The same for what is repeated, or is no SIP.
    pub(super) fn send_bytes_within(
        &mut self,
        from: usize,
        seats: &Seats,
        flow: Flow,
        bytes: Bytes,
        ticket: Ticket,
    ) {
        match Message::parse(bytes.clone()) {
            Ok(message) => self.send_within(from, seats, flow, message, ticket),
            Err(_) => {
                self.pass_on(from, seats[0], (flow, ticket), Input::Other { flow: turned(flow), bytes })
            }
        }
    }

    fn pass_on(&mut self, from: usize, to: Address, (flow, ticket): (Flow, Ticket), input: Input) {
        if to.lane == self.index {
            self.inbox.push_back((to.seat, input));
        } else if self.post.post(to, input).is_err() {
            self.inbox.push_back((from, Input::SendFailed { ticket, flow, error: SendError::Busy }));
        }
    }

    /// To another lane of the service behind the address this came to; one that is overrun misses it.
    pub(super) fn pass_to_sibling(&mut self, lane: u16, flow: Flow, input: Input) {
        let seats = self.post.seats(flow.transport, flow.local);
        let Some(to) = seats.and_then(|seats| seats.get(usize::from(lane)).copied()) else { return };
        if to.lane == self.index {
            self.inbox.push_back((to.seat, input));
        } else if self.post.post(to, input).is_err() {
            self.report.dropped += 1;
        }
    }

    fn listener_at(&self, flow: Flow) -> Option<usize> {
        let udp = flow.transport == Transport::Udp;
        udp.then(|| self.listeners.iter().position(|listener| listener.local == flow.local)).flatten()
    }

    pub(super) fn send(&mut self, seat: usize, flow: Flow, bytes: Bytes, ticket: Ticket) {
        if flow.transport != Transport::Udp {
            self.report.sent += 1;
            return self.outside.send(Address { lane: self.index, seat }, flow, bytes, ticket);
        }
        let Some(number) = self.listener_at(flow) else {
            self.report.dropped += 1;
            return self
                .inbox
                .push_back((seat, Input::SendFailed { ticket, flow, error: SendError::Unreachable }));
        };
        self.outgoing[number].push(Outgoing { to: flow.remote, bytes, ticket, seat });
        if self.outgoing[number].len() >= BATCH {
            self.flush_listener(number);
        }
    }

    /// Sends what waits. What failed is told to its sender, whose wishes may bring more to send.
    pub(super) fn flush(&mut self) {
        loop {
            for number in 0..self.listeners.len() {
                self.flush_listener(number);
            }
            let Some((seat, input)) = self.inbox.pop_front() else { return };
            self.deliver(Instant::now(), seat, input);
        }
    }

    /// What waits goes first, so that order is kept.
    pub(super) fn probe(&mut self, flow: Flow, bytes: &[u8], hops: u8) {
        let Some(number) = self.listener_at(flow) else { return };
        self.flush_listener(number);
        let socket = self.listeners[number].socket.as_fd();
        match crate::net::probe::send(socket, flow.remote, bytes, hops) {
            Ok(()) => self.report.sent += 1,
            Err(_) => self.report.dropped += 1,
        }
    }

    pub(super) fn flush_listener(&mut self, number: usize) {
        let mut waiting = std::mem::take(&mut self.outgoing[number]);
        let mut done = 0;
        // An error the network reported earlier (`IP_RECVERR`) is given to the next call, whoever it is for: one retry.
        let mut retried = false;
        while done < waiting.len() {
            let datagrams = waiting[done..].iter().map(|outgoing| (outgoing.to, &*outgoing.bytes));
            match self.sender.send(self.listeners[number].socket.as_fd(), datagrams) {
                Ok(sent) => {
                    self.report.sent += sent as u64;
                    (done, retried) = (done + sent, false);
                }
                Err(_) if !retried => retried = true,
                Err(error) => {
                    self.failed(number, &waiting[done], &error);
                    (done, retried) = (done + 1, false);
                }
            }
        }
        waiting.clear();
        self.outgoing[number] = waiting;
    }

    fn failed(&mut self, number: usize, outgoing: &Outgoing, error: &io::Error) {
        self.report.dropped += 1;
        let error = error.raw_os_error().and_then(send_error).unwrap_or(SendError::Busy);
        let flow = Flow::udp(self.listeners[number].local, outgoing.to);
        self.inbox.push_back((outgoing.seat, Input::SendFailed { ticket: outgoing.ticket, flow, error }));
    }
}
