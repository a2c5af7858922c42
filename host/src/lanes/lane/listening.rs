//! Listeners that come and go while a lane runs.

use std::net::SocketAddr;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{Lane, Listener};

impl Lane {
    /// A listener more.
    pub(super) fn listen(&mut self, listener: Listener) {
        let number = self.listeners.len() as u64;
        if let Err(error) = self.epoll.add(&listener.socket, EpollEvent::new(EpollFlags::EPOLLIN, number)) {
            let local = listener.local;
            tracing::error!(%error, %local, "a new listener can't be waited for: restart to be heard there");
            return;
        }
        self.listeners.push(listener);
        self.outgoing.push(Vec::new());
    }

    /// A listener less, once what waits there has left. The last one takes its number.
    pub(super) fn leave(&mut self, local: SocketAddr) {
        let Some(number) = self.listeners.iter().position(|listener| listener.local == local) else { return };
        self.flush_listener(number);
        // Closing takes it out of the epoll set.
        self.listeners.swap_remove(number);
        self.outgoing.swap_remove(number);
        if let Some(moved) = self.listeners.get(number) {
            let mut event = EpollEvent::new(EpollFlags::EPOLLIN, number as u64);
            if let Err(error) = self.epoll.modify(&moved.socket, &mut event) {
                tracing::error!(%error, local = %moved.local, "a listener is lost: restart to be heard there");
            }
        }
    }
}
