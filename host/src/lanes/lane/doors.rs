//! Doors of media sockets that are flooded: what the relay asks for, done to the sockets (`net::door`).

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;

use proto::door::{Door, Dropped, Expected};
use proto::node::{Input, SocketId};

use super::Lane;
use crate::net::door;

/// Doors that are closed, and what the kernel has dropped at each.
#[derive(Debug, Default)]
pub(super) struct Doors(HashMap<SocketId, Drops>);

/// The kernel counts from a socket's birth, in 32 bits.
#[derive(Clone, Copy, Debug)]
struct Drops {
    last: u32,
    since_closed: u64,
}

impl Lane {
    pub(super) fn obey_door(&mut self, seat: usize, wish: &Door) {
        let mut dropped = Vec::new();
        let Some((_, path)) = &self.media else { return };
        match wish {
            Door::Close(socket, expected) => {
                if let Err(error) = self.doors.close(*socket, path.socket(*socket), expected) {
                    tracing::debug!(%error, "a flooded port stays open");
                    dropped.push(Dropped { socket: *socket, packets: 0, over: true });
                }
            }
            Door::Count(sockets) => {
                dropped = sockets.iter().map(|at| self.doors.count(*at, path.socket(*at))).collect();
            }
            Door::Open(socket) => self.doors.open(*socket, path.socket(*socket)),
        }
        if !dropped.is_empty() {
            self.inbox.push_back((seat, Input::Dropped(dropped)));
        }
    }
}

impl Doors {
    fn close(&mut self, at: SocketId, socket: Option<&UdpSocket>, expected: &Expected) -> io::Result<()> {
        let socket = socket.ok_or(io::ErrorKind::NotFound)?;
        door::close(socket.as_fd(), socket.local_addr()?.is_ipv4(), expected)?;
        let last = door::drops(socket.as_fd())?;
        self.0.entry(at).or_insert(Drops { last, since_closed: 0 });
        Ok(())
    }

    fn open(&mut self, at: SocketId, socket: Option<&UdpSocket>) {
        self.0.remove(&at);
        if let Some(Err(error)) = socket.map(|socket| door::open(socket.as_fd())) {
            tracing::error!(%error, "a media port stays closed to all but who was expected there");
        }
    }

    fn count(&mut self, at: SocketId, socket: Option<&UdpSocket>) -> Dropped {
        let now = socket.and_then(|socket| door::drops(socket.as_fd()).ok());
        let (Some(drops), Some(now)) = (self.0.get_mut(&at), now) else {
            return Dropped { socket: at, packets: 0, over: true };
        };
        drops.since_closed += u64::from(now.wrapping_sub(drops.last));
        drops.last = now;
        Dropped { socket: at, packets: drops.since_closed, over: false }
    }

    /// The socket is gone, and its number may be another's.
    pub(super) fn forget(&mut self, at: SocketId) {
        self.0.remove(&at);
    }
}
