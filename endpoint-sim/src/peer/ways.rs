//! What reaches a peer beside SIP from its server, and by which way its own words leave.

use std::net::SocketAddr;

use bytes::Bytes;
use proto::node::{Flow, Output, SocketId, Ticket};
use proto::peer::channel;
use proto::peer::ticket::read_reflected;
use proto::sip::Message;
use proto::sip::transaction::{Happened, Received};
use proto::stun;

use super::classifier::SCRATCH_TICKET;
use super::link::Via;
use super::node::Peer;
use super::opening::SPRAY_TICKET;
use super::talk::Source;

impl Peer {
    /// A datagram that is no SIP.
    pub(super) fn other(&mut self, by: Option<SocketId>, from: SocketAddr, bytes: &[u8]) {
        if let Some((_, inside)) = read_reflected(bytes) {
            if Some(from) == self.config.reflector
                && let Ok(message) = Message::parse(Bytes::copy_from_slice(inside))
            {
                self.sip(Source::Reflector, message);
            }
            return;
        }
        if by.is_none()
            && let Some((channel, said)) = channel::unwrap(bytes)
        {
            return self.said_by_channel(from, channel, said);
        }
        if self.media_directly(by, from, bytes) {
            return;
        }
        if self.classifier.receive(by, bytes) {
            return;
        }
        if let Some(message) = stun::Message::parse(bytes) {
            self.stun(by, from, &message, bytes);
        }
    }

    pub(super) fn happened(&mut self) {
        while let Some(happened) = self.transactions.happened() {
            match happened {
                Happened::TimedOut(id) => self.finished(id, 408, None),
                Happened::Failed(id, _) => self.finished(id, 503, None),
                Happened::NotAcknowledged(_) => {}
            }
        }
    }

    pub(super) fn received(&mut self, received: Received) {
        match received {
            Received::Request { id, flow, message } => self.asked(id, flow, &message),
            Received::Response { id, message, .. } if message.status().unwrap_or(0) >= 200 => {
                self.finished(id, message.status().unwrap_or(0), Some(&message));
            }
            _ => {}
        }
    }

    pub(super) fn bound(&mut self, ticket: Ticket, socket: SocketId, local: SocketAddr) {
        if self.phone_bound(ticket, Some((socket, local))) {
            return;
        }
        if ticket.0 >= SPRAY_TICKET {
            let waiting = self.links.iter_mut().filter_map(|link| link.opening.as_mut());
            match waiting.max_by_key(|opening| opening.awaited()) {
                Some(opening) => opening.bound(socket, &mut self.dice, &mut self.out),
                None => self.out.push_back(Output::Release { socket }),
            }
        } else if ticket.0 >= SCRATCH_TICKET {
            self.classifier.bound(ticket, Some((socket, local)), &mut self.out);
        } else if let Some(life) = &mut self.life {
            life.bound(self.now, ticket, socket);
        }
    }

    pub(super) fn bind_failed(&mut self, ticket: Ticket) {
        if !self.phone_bound(ticket, None) {
            self.classifier.bound(ticket, None, &mut self.out);
        }
    }

    /// What transactions send to a stand-in leaves by the path there is now: a message that is repeated follows it.
    pub(super) fn leave_by(&mut self, link: usize, bytes: Bytes) -> Option<Output> {
        let local = self.config.local;
        let send = |remote, bytes| Output::Send { flow: Flow::udp(local, remote), bytes, ticket: Ticket(0) };
        match self.links.get(link)?.via(self.now)? {
            Via::Direct(way) => Some(match way.socket {
                Some(socket) => Output::SendMedia { socket, to: way.remote, bytes },
                None => send(way.remote, bytes),
            }),
            Via::Reflector(token) => {
                self.report.reflected += 1;
                Some(send(self.config.reflector?, [&token[..], &bytes].concat().into()))
            }
            Via::Server => Some(Output::Send { flow: self.server_flow(), bytes, ticket: Ticket(0) }),
        }
    }
}
