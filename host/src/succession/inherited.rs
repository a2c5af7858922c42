//! Sockets that came from a predecessor and wait for whoever would open them anew. Of the whole process, since sockets are
//! asked for in many places; empty but for the moment of a start that takes over.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{LazyLock, Mutex, MutexGuard};

use super::{Heirloom, Purpose};

type Waiting = HashMap<(Purpose, SocketAddr), Vec<OwnedFd>>;

static WAITING: LazyLock<Mutex<Waiting>> = LazyLock::new(Mutex::default);

fn waiting() -> MutexGuard<'static, Waiting> {
    WAITING.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// These may be asked for.
pub(super) fn leave(sockets: Vec<Heirloom>) {
    let mut waiting = waiting();
    for Heirloom { purpose, local, socket } in sockets {
        waiting.entry((purpose, local)).or_default().push(socket);
    }
}

/// The sockets of a UDP listener, if there are as many as lanes; others are closed, for the kernel would go on giving them
/// packets that nobody reads.
pub fn datagrams(local: SocketAddr, lanes: usize) -> Option<Vec<UdpSocket>> {
    let there = waiting().remove(&(Purpose::Datagrams, local))?;
    if there.len() != lanes {
        let before = there.len();
        tracing::warn!(%local, before, lanes, "other lanes than before: what waits at this listener is lost");
        return None;
    }
    Some(there.into_iter().map(UdpSocket::from).collect())
}

/// The socket of a listener for connections.
pub fn streams(local: SocketAddr) -> Option<TcpListener> {
    waiting().remove(&(Purpose::Streams, local))?.pop().map(TcpListener::from)
}

/// A media port's.
pub fn media(local: SocketAddr) -> Option<UdpSocket> {
    waiting().remove(&(Purpose::Media, local))?.pop().map(UdpSocket::from)
}

/// Closes what nobody has asked for; how many that were.
pub fn close_rest() -> usize {
    std::mem::take(&mut *waiting()).len()
}
