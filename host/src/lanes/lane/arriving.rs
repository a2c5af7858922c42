//! What comes: the mailbox's commands and letters, the listeners' datagrams, each on its way to the seat it is for.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use bytes::Bytes;
use proto::lobby::{Arrival, Entry};
use proto::node::{Flow, Input, Ticket};
use proto::sip::{Message, Name, Reply};
use proto::stun;

use super::leaving::Outgoing;
use super::{Lane, Listener, ROUNDS};
use crate::lanes::post::{Address, Seats};
use crate::lanes::seat::Seat;
use crate::net::batch::take_error;
use crate::net::udp::send_error;

impl Lane {
    pub(super) fn read_mailbox(&mut self, now: Instant) {
        self.mailbox.silence();
        while let Some(command) = self.mailbox.take_command() {
            self.obey(now, command);
        }
        while let Some((seat, input)) = self.mailbox.take() {
            self.report.received += u64::from(is_by_connection(&input));
            self.admit(now, seat, input);
        }
    }

    /// What has come from outside: new work waits until everything else is done.
    pub(super) fn admit(&mut self, now: Instant, seat: usize, input: Input) {
        match (&mut self.lobby, input) {
            (Some((proxy, lobby)), Input::Message { flow, message }) if *proxy == seat => {
                match lobby.arrive(now, Arrival { flow, message }) {
                    Entry::Now(Arrival { flow, message }) => {
                        self.deliver(now, seat, Input::Message { flow, message })
                    }
                    Entry::Refused(bytes) => self.send(seat, flow, bytes, Ticket(0)),
                    Entry::Waits | Entry::Dropped => {}
                }
            }
            (_, input) => self.deliver(now, seat, input),
        }
    }

    /// Packets for a reflector take the short way.
    fn reflect(&mut self, now: Instant, number: usize) -> bool {
        let Some((seat, mirror)) = &mut self.mirror else { return false };
        let turn = self.seats[*seat].reflect(now, mirror, &self.listeners[number]);
        self.pace.took(now, turn.received as usize);
        self.report.received += turn.received;
        self.report.sent += turn.sent;
        self.report.dropped += turn.dropped;
        turn.received > 0
    }

    /// Reads what waits there, up to a limit; `false`: nothing did.
    pub(super) fn read_listener(&mut self, now: Instant, number: usize) -> bool {
        if self.mirror.is_some() {
            return self.reflect(now, number);
        }
        let mut found = false;
        for _ in 0..ROUNDS {
            let taken = match self.receiver.receive(self.listeners[number].socket.as_fd()) {
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return found,
                // What the network reported about something sent earlier; the next read works again.
                Err(_) => {
                    self.read_errors(now, number);
                    return true;
                }
            };
            found |= taken > 0;
            self.report.received += taken as u64;
            self.pace.took(now, taken);
            for index in 0..taken {
                self.read_datagram(now, number, index);
            }
            if !self.receiver.may_have_more() {
                return found;
            }
        }
        self.behind = true;
        found
    }

    fn read_errors(&mut self, now: Instant, number: usize) {
        while let Some((error, remote)) = take_error(self.listeners[number].socket.as_fd()) {
            let Some(error) = send_error(error) else { continue };
            let flow = Flow::udp(self.listeners[number].local, remote);
            let seats = self.listeners[number].seats.clone();
            for address in seats.iter() {
                self.hand_over(now, *address, Input::SendFailed { ticket: Ticket(0), flow, error });
            }
        }
    }

    /// Whether the service behind a listener deals with STUN itself.
    fn speaks_stun(&self, number: usize) -> bool {
        let first = self.listeners[number].seats[0];
        first.lane == self.index && self.seats[first.seat].speaks_stun()
    }

    fn read_datagram(&mut self, now: Instant, number: usize, index: usize) {
        let passes_stun = self.speaks_stun(number);
        let Some((from, bytes)) = self.receiver.datagram(index) else {
            self.report.dropped += 1;
            return;
        };
        if is_keep_alive(bytes) || is_shut_out(&self.seats, self.index, &self.listeners[number], now, from) {
            return;
        }
        if stun::is_stun(bytes) && !passes_stun {
            let local = self.listeners[number].local;
            if let Some(answer) = stun::Server::single().answer(bytes, from, local) {
                let outgoing =
                    Outgoing { to: answer.to, bytes: answer.bytes.into(), ticket: Ticket(0), seat: 0 };
                self.outgoing[number].push(outgoing);
            }
            return;
        }
        let flow = Flow::udp(self.listeners[number].local, from);
        let seats = &self.listeners[number].seats;
        if let Some((seat, lobby)) = &mut self.lobby {
            let (here, post) = (Address { lane: self.index, seat: *seat }, &self.post);
            match lobby.glance(now, from, bytes, |call| post.owner_of_call(seats, call) == here) {
                Some(Entry::Refused(bytes)) => return self.send(here.seat, flow, bytes, Ticket(0)),
                Some(_) => return,
                None => {}
            }
        }
        let (bytes, seats) = (Bytes::copy_from_slice(bytes), seats.clone());
        self.receive(now, &seats, flow, bytes);
    }

    /// Indexes a message and hands it to the seat it belongs to.
    fn receive(&mut self, now: Instant, seats: &Seats, flow: Flow, bytes: Bytes) {
        match Message::parse(bytes.clone()) {
            Ok(message) => {
                let to = self.if_done_here(seats, &message);
                let to = to.unwrap_or_else(|| self.post.owner(seats, &message));
                self.hand_over(now, to, Input::Message { flow, message });
            }
            Err(_) => {
                let to = self.post.owner_of_other(seats, &bytes);
                self.hand_over(now, to, Input::Other { flow, bytes });
            }
        }
    }

    /// This lane's own seat, for what any of them may do: a REGISTER at our registrar belongs to no call, and bindings are
    /// everybody's. Handing it to another lane would cost as much as serving it. The kernel gives what comes by one path to
    /// one lane, so its retransmissions are met here, too.
    fn if_done_here(&self, seats: &Seats, message: &Message) -> Option<Address> {
        let here = *seats.iter().find(|address| address.lane == self.index)?;
        self.seats[here.seat].does_alone(message).then_some(here)
    }

    fn hand_over(&mut self, now: Instant, to: Address, input: Input) {
        if to.lane == self.index {
            return self.admit(now, to.seat, input);
        }
        if let Err((_, input)) = self.post.post(to, input) {
            self.refuse(input);
        }
    }

    /// A lane is overrun: a new call is told to come back later, anything else is left to retransmissions.
    fn refuse(&mut self, input: Input) {
        let Input::Message { flow, message } = input else { return };
        if message.is_request() && message.method() == proto::sip::Method::Invite {
            let reply = Reply { to_tag: "overload", source: Some(flow.remote) };
            let response = reply.to(&message, 503);
            self.send(0, flow, response.header(Name::RetryAfter, 5).into_bytes(), Ticket(0));
        }
    }
}

/// Whether a connection brought it: datagrams are counted where they are read.
fn is_by_connection(input: &Input) -> bool {
    matches!(input, Input::Message { flow, .. } | Input::Other { flow, .. } if flow.transport.is_reliable())
}

/// What is banned is not even parsed.
fn is_shut_out(seats: &[Seat], lane: usize, listener: &Listener, now: Instant, from: SocketAddr) -> bool {
    let here = listener.seats.iter().find(|address| address.lane == lane);
    here.is_some_and(|address| seats[address.seat].shuts_out(now, from.ip()))
}

/// Keep-alives over UDP are swallowed: blank lines (RFC 5626 §3.5.1), a lone zero byte, nothing at all.
fn is_keep_alive(bytes: &[u8]) -> bool {
    bytes.len() <= 4 && bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0))
}
