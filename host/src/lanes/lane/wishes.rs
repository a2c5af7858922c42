//! What services want, one arm for each kind of output.

use std::net::SocketAddr;
use std::time::Instant;

use proto::node::{Input, Output, Ticket};
use proto::offload::{Carried, Offload};

use super::Lane;
use crate::lanes::media::MediaPath;
use crate::lanes::post::Address;

impl Lane {
    pub(super) fn perform_all(&mut self, now: Instant, seat: usize) {
        let mut wanted = std::mem::take(&mut self.wanted);
        for output in wanted.drain(..) {
            self.perform(now, seat, output);
        }
        self.wanted = wanted;
    }

    fn perform(&mut self, now: Instant, seat: usize, output: Output) {
        match output {
            Output::Message { flow, message, ticket } => {
                if let Some(own) = self.post.seats(flow.transport, flow.local) {
                    self.post.sent(Address { lane: self.index, seat }, own, &message, now);
                }
                match self.ours(flow) {
                    Some(seats) => self.send_within(seat, &seats, flow, message, ticket),
                    None => self.send(seat, flow, message.into_bytes(), ticket),
                }
            }
            Output::Send { flow, bytes, ticket } => match self.ours(flow) {
                Some(seats) => self.send_bytes_within(seat, &seats, flow, bytes, ticket),
                None => self.send(seat, flow, bytes, ticket),
            },
            Output::Probe { flow, bytes, hops } => self.probe(flow, &bytes, hops),
            Output::Close { flow } => self.outside.close(flow),
            Output::Ask { ticket, question } => {
                self.outside.ask(Address { lane: self.index, seat }, ticket, question)
            }
            Output::Pass { lane, flow, bytes, gathered } => {
                self.pass_to_sibling(lane, flow, Input::Passed { flow, bytes, gathered });
            }
            Output::Event(event) => self.ring.raise(event),
            Output::Capture(captured) => {
                if let Some(recorder) = &self.recorder {
                    recorder.keep(captured);
                }
            }
            Output::Offload(wish) => self.hand_down(seat, &wish),
            Output::Door(wish) => self.obey_door(seat, &wish),
            Output::Bind { ticket, local } => self.bind(seat, ticket, local),
            Output::SendMedia { socket, to, bytes } => self.on_media(|path| path.send(socket, to, &bytes)),
            Output::Release { socket } => {
                self.doors.forget(socket);
                self.on_media(|path| path.release(socket));
            }
            Output::Empty { socket } => self.on_media(|path| path.empty(socket)),
        }
    }

    fn on_media(&mut self, act: impl FnOnce(&mut dyn MediaPath)) {
        if let Some((_, path)) = &mut self.media {
            act(&mut **path);
        }
    }

    fn hand_down(&mut self, seat: usize, wish: &Offload) {
        let carried = match (&mut self.handed, wish) {
            (Some(handed), wish) => handed.obey(wish),
            (None, Offload::Begin(rule)) => vec![Carried::refused(rule.socket)],
            (None, _) => Vec::new(),
        };
        if !carried.is_empty() {
            self.inbox.push_back((seat, Input::Carried(carried)));
        }
    }

    fn bind(&mut self, seat: usize, ticket: Ticket, local: SocketAddr) {
        let opened = match &mut self.media {
            Some((_, path)) => path.bind(local).map_err(|error| error.to_string()),
            None => Err("this lane carries no media".to_owned()),
        };
        let input = match opened {
            Ok((socket, local)) => Input::Bound { ticket, socket, local },
            Err(why) => Input::BindFailed { ticket, local, why },
        };
        self.inbox.push_back((seat, input));
    }
}
