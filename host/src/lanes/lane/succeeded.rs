//! A lane whose process hands over: it stops reading, then gives away what it has (see [`crate::succession`]).

use std::time::Instant;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::Lane;
use crate::succession::Gift;

/// Turns for those who wait in the lobby; who has not been served by then asks again.
const ROUNDS: usize = 1_000;

impl Lane {
    /// Reads no listener any more. Media, mailbox and timers go on.
    pub(super) fn freeze(&mut self) {
        self.frozen = true;
        for listener in &self.listeners {
            if let Err(error) = self.epoll.delete(&listener.socket) {
                tracing::warn!(%error, local = %listener.local, "a listener is read on");
            }
        }
    }

    /// Reads them again.
    pub(super) fn thaw(&mut self) {
        self.frozen = false;
        for (number, listener) in self.listeners.iter().enumerate() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number as u64);
            if let Err(error) = self.epoll.add(&listener.socket, event) {
                tracing::error!(%error, local = %listener.local, "a listener is lost: restart to be heard there");
            }
        }
    }

    /// Finishes what is in hand, gives every socket and session away, and ends.
    pub(super) fn surrender(&mut self) -> Gift {
        while let Some((seat, input)) = self.mailbox.take() {
            self.admit(Instant::now(), seat, input);
        }
        let mut rounds = 0..ROUNDS;
        while self.lobby.as_ref().is_some_and(|(_, lobby)| !lobby.is_empty()) && rounds.next().is_some() {
            self.serve_waiting();
        }
        self.flush();
        self.running = false;
        let mut gift = Gift::default();
        if let Some((seat, path)) = &mut self.media {
            self.seats[*seat].surrender(&mut **path, &mut gift);
        }
        self.outgoing.clear();
        gift.listeners = std::mem::take(&mut self.listeners).into_iter().map(|there| there.socket).collect();
        gift
    }
}
