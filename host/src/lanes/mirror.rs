//! A reflector's short way: a batch is read, each packet is decided on where it lies, and what goes on leaves from the very
//! buffer it came in. One `recvmmsg`, one `sendmmsg`; nothing is allocated or copied for a packet.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use proto::peer::ticket::Why;
use proto::stun;
use reflector::{Reflected, Reflector};

use super::lane::Listener;
use super::media::Turn;
use crate::net::batch::{Receiver, Sender, take_error};

/// Datagrams per system call.
const BATCH: usize = 64;
/// Longer ones are cut off, and with that dropped: no first message needs more than a packet.
const DATAGRAM: usize = 2048;
/// Batches in a row, before timers and mailbox get their turn.
const ROUNDS: usize = 64;

/// The buffers of one lane's reflector.
#[derive(Debug)]
pub struct Mirror {
    receiver: Receiver,
    sender: Sender,
    /// Of the batch in hand: which buffers go on, where to, and which bytes of them.
    onward: Vec<(usize, SocketAddr, Range<usize>)>,
    /// Packets at which the reflector panicked; the others go on.
    panics: u64,
}

impl Mirror {
    /// With empty buffers.
    pub fn new() -> Mirror {
        Mirror {
            receiver: Receiver::new(BATCH, DATAGRAM),
            sender: Sender::new(BATCH),
            onward: Vec::with_capacity(BATCH),
            panics: 0,
        }
    }

    /// Panics that were survived.
    pub fn panics(&self) -> u64 {
        self.panics
    }

    /// Takes what waits at a listener, and has it reflected or answered, but for what comes from who is shut out.
    pub fn turn(
        &mut self,
        now: Instant,
        listener: &Listener,
        reflector: &mut Reflector,
        shuts_out: &dyn Fn(IpAddr) -> bool,
    ) -> Turn {
        let mut turn = Turn::default();
        let unix_now = reflector.unix_at(now);
        reflector.keep_time(unix_now);
        for _ in 0..ROUNDS {
            let taken = match self.receiver.receive(listener.socket.as_fd()) {
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What the network says about something that was passed on concerns nobody here; the next read works.
                Err(_) => {
                    while take_error(listener.socket.as_fd()).is_some() {}
                    continue;
                }
            };
            turn.received += taken as u64;
            for index in 0..taken {
                turn.dropped += u64::from(!self.take(index, unix_now, listener, reflector, shuts_out));
            }
            self.send_onward(listener, &mut turn);
            if taken < BATCH {
                break;
            }
        }
        turn
    }

    /// Decides on one datagram; `false`: it was cut off.
    fn take(
        &mut self,
        index: usize,
        unix_now: u32,
        listener: &Listener,
        reflector: &mut Reflector,
        shuts_out: &dyn Fn(IpAddr) -> bool,
    ) -> bool {
        let Some((from, packet)) = self.receiver.datagram(index) else { return false };
        if shuts_out(from.ip()) {
            return true;
        }
        let end = packet.len();
        let decide = AssertUnwindSafe(|| match stun::is_stun(packet) {
            true => {
                let answer = reflector.bind(unix_now, from, listener.local, packet);
                // Lost, as datagrams may be: whoever asks asks again.
                answer.into_iter().for_each(|answer| drop(listener.socket.send_to(&answer, from)));
                Reflected::Drop(Why::Magic)
            }
            false => reflector.reflect(unix_now, from, packet),
        });
        match catch_unwind(decide) {
            Ok(Reflected::Send { to, start }) => self.onward.push((index, to, start..end)),
            Ok(Reflected::Drop(_)) => {}
            Err(_) => {
                self.panics += 1;
                tracing::error!("a reflector panicked at a packet; others go on");
            }
        }
        true
    }

    /// Sends what goes on. An error the network reported earlier is given to the next call, whoever it is for: one retry.
    fn send_onward(&mut self, listener: &Listener, turn: &mut Turn) {
        let (mut at, mut retried) = (0, false);
        while at < self.onward.len() {
            let receiver = &self.receiver;
            let waiting = self.onward[at..].iter();
            let datagrams =
                waiting.map(|(index, to, part)| (*to, &receiver.bytes(*index, part.end)[part.start..]));
            match self.sender.send(listener.socket.as_fd(), datagrams) {
                Ok(sent) => {
                    turn.sent += sent as u64;
                    (at, retried) = (at + sent, false);
                }
                Err(_) if !retried => retried = true,
                Err(_) => {
                    turn.dropped += 1;
                    (at, retried) = (at + 1, false);
                }
            }
        }
        self.onward.clear();
    }
}

impl Default for Mirror {
    fn default() -> Self {
        Mirror::new()
    }
}
