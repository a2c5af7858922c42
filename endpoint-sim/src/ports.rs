//! Media ports: asked for in pairs, RTP even, RTCP the next.

use std::net::SocketAddr;

use proto::node::{Output, SocketId, Ticket};

use crate::call::Stage;
use crate::media::{self, Sockets};
use crate::phone::Phone;
use crate::report::EndedBy;
use crate::script::Act;

/// Ports being opened.
#[derive(Debug)]
pub(crate) struct Opening {
    tickets: [Ticket; 2],
    sockets: [Option<(SocketId, SocketAddr)>; 2],
    failed: bool,
}

/// Ports of media are looked for in this span above [`PhoneConfig::media_port`].
const PORT_SPAN: u16 = 2000;
/// Pairs of ports that are tried for one call.
const MAX_UNOPENED: u8 = 50;

impl Phone {
    /// Asks for a pair of media ports.
    pub(crate) fn open_ports(&mut self) {
        let tickets = [Ticket(self.next_ticket), Ticket(self.next_ticket + 1)];
        self.next_ticket += 2;
        let port = self.config.media_port.saturating_add(self.ports_used % PORT_SPAN);
        self.ports_used = self.ports_used.wrapping_add(2);
        for (ticket, port) in tickets.into_iter().zip([port, port.saturating_add(1)]) {
            let local = SocketAddr::new(self.config.media_ip, port);
            self.out.push_back(Output::Bind { ticket, local });
        }
        self.opening = Some(Opening { tickets, sockets: [None; 2], failed: false });
    }

    /// One port of a pair is open, or could not be opened.
    pub(crate) fn opened(&mut self, ticket: Ticket, socket: Option<(SocketId, SocketAddr)>) {
        let known =
            self.opening.as_mut().and_then(|o| Some((o.tickets.iter().position(|t| *t == ticket)?, o)));
        let Some((place, opening)) = known else {
            self.out.extend(socket.map(|(socket, _)| Output::Release { socket }));
            return;
        };
        opening.sockets[place] = socket;
        opening.failed |= socket.is_none();
        opening.tickets[place] = Ticket(0);
        if opening.tickets != [Ticket(0); 2] {
            return;
        }
        let Some(Opening { sockets, failed, .. }) = self.opening.take() else { return };
        match sockets {
            [Some((rtp, local)), Some((rtcp, _))] if !failed => {
                let local = SocketAddr::new(self.config.media_ip, local.port());
                self.unopened = 0;
                self.ports_are_open(Sockets { rtp, rtcp, local });
            }
            _ => {
                self.out.extend(sockets.into_iter().flatten().map(|(socket, _)| Output::Release { socket }));
                self.unopened += 1;
                self.no_ports();
            }
        }
    }

    /// A pair could not be opened: try the next, for a while.
    fn no_ports(&mut self) {
        if self.unopened < MAX_UNOPENED {
            return self.open_ports();
        }
        self.unopened = 0;
        match self.call.as_ref().map(|call| call.stage) {
            Some(Stage::Opening) => self.end_call(EndedBy::Failure),
            Some(Stage::Ringing) => self.refuse_call(503, EndedBy::Failure),
            _ => {}
        }
    }

    fn ports_are_open(&mut self, sockets: Sockets) {
        let Some(call) = &mut self.call else { return media::release(sockets, &mut self.out) };
        match (call.stage, call.media.sockets) {
            (Stage::Opening, _) => {
                call.media.sockets = Some(sockets);
                self.invite();
            }
            (Stage::Ringing, _) => {
                call.media.sockets = Some(sockets);
                self.ring();
            }
            (Stage::Up, Some(old)) => {
                call.moved_from = Some(old);
                call.media.sockets = Some(sockets);
                self.change(Act::Move);
            }
            _ => media::release(sockets, &mut self.out),
        }
    }
}
