//! Connections: SIP over TCP (RFC 3261 §18), many messages in each, reused by listener and remote address.
//!
//! Lanes know a connection as a [`FlowId`]. Its queue is bounded; a peer that does not read for [`STALL`] loses it. Two
//! line breaks are answered with one (RFC 5626 §3.5.1), whatever else is unreadable goes to the service once, and then
//! the connection is closed: a stream that lost its framing can't be trusted again.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proto::node::{Flow, FlowId, Input, SendError, Ticket, Transport};
use proto::sip::{Frame, Framer};
use proto::sip::{Message, Method, Name};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};
use tokio::time::{Instant, timeout, timeout_at};

use crate::lanes::post::{Address, PostOffice};

/// Messages that may wait for a slow reader.
const QUEUE: usize = 256;
/// How long a peer may take to read one message.
const STALL: Duration = Duration::from_secs(10);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a new connection may say nothing …
const FIRST_WORD: Duration = Duration::from_secs(30);
/// … one that has spoken …
const IDLE: Duration = Duration::from_secs(4000);
/// … and how long a message may be on its way, from its first byte to its last: a drop now and then keeps no connection.
const WHOLE: Duration = Duration::from_secs(30);
/// Connections at once, and those of one address.
const MOST: usize = 20_000;
const MOST_FROM_ONE: usize = 1_000;

/// A message on its way out.
#[derive(Debug)]
struct Parcel {
    bytes: Bytes,
    from: Address,
    ticket: Ticket,
}

#[derive(Debug)]
struct Connection {
    flow: Flow,
    queue: Sender<Parcel>,
}

#[derive(Debug, Default)]
struct Table {
    connections: HashMap<FlowId, Connection>,
    by_remote: HashMap<(Transport, SocketAddr, SocketAddr), FlowId>,
    next: u64,
}

/// All connections of the process. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Streams {
    post: Arc<PostOffice>,
    table: Arc<Mutex<Table>>,
}

impl Streams {
    /// None yet.
    pub fn new(post: Arc<PostOffice>) -> Streams {
        // Identities go on from the clock, so that no later process gives one out again.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let table = Table { next: (since.as_millis() as u64) << 20, ..Table::default() };
        Streams { post, table: Arc::new(Mutex::new(table)) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table().connections.len()
    }

    /// Takes in connections at a listener until the runtime ends.
    pub async fn serve(self, listener: TcpListener, local: SocketAddr) {
        loop {
            match listener.accept().await {
                Ok((stream, remote)) => self.accepted(stream, local, remote),
                // Out of files, mostly: give the others time to end.
                Err(error) => {
                    tracing::warn!(%error, %local, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn accepted(&self, stream: TcpStream, local: SocketAddr, remote: SocketAddr) {
        if !self.table().has_room(remote.ip()) {
            tracing::debug!(%remote, "too many connections; this one is closed");
            return;
        }
        let (flow, queue) = self.register(Transport::Tcp, local, remote);
        tokio::spawn(self.clone().carry(stream, flow, queue));
    }

    fn register(
        &self,
        transport: Transport,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> (Flow, Receiver<Parcel>) {
        let (queue, waiting) = channel(QUEUE);
        let mut table = self.table();
        table.next += 1;
        let flow = Flow { transport, local, remote, id: FlowId(table.next) };
        table.by_remote.insert((transport, local, remote), flow.id);
        table.connections.insert(flow.id, Connection { flow, queue });
        (flow, waiting)
    }

    /// Sends on the connection `flow` names, or on one to its remote address, which is made if need be.
    pub fn send(&self, from: Address, flow: Flow, bytes: Bytes, ticket: Ticket) {
        let known = self.table().find(flow);
        let queue = match known {
            Some(queue) => queue,
            None if flow.id != FlowId(0) => return self.failed(from, flow, ticket, SendError::Closed),
            None => self.connect(flow),
        };
        match queue.try_send(Parcel { bytes, from, ticket }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.failed(from, flow, ticket, SendError::Busy),
            Err(TrySendError::Closed(_)) => self.failed(from, flow, ticket, SendError::Closed),
        }
    }

    /// Closes a connection once what waits in its queue has left.
    pub fn close(&self, flow: Flow) {
        self.table().remove(flow.id);
    }

    fn failed(&self, to: Address, flow: Flow, ticket: Ticket, error: SendError) {
        let _ = self.post.post(to, Input::SendFailed { ticket, flow, error });
    }

    /// Begins a connection; what is sent meanwhile waits in its queue.
    fn connect(&self, wanted: Flow) -> Sender<Parcel> {
        let (flow, mut waiting) = self.register(wanted.transport, wanted.local, wanted.remote);
        let (streams, queue) = (self.clone(), self.table().find(flow));
        tokio::spawn(async move {
            match open(flow).await {
                Ok(stream) => streams.carry(stream, flow, waiting).await,
                Err(error) => {
                    streams.table().remove(flow.id);
                    waiting.close();
                    while let Some(parcel) = waiting.recv().await {
                        streams.failed(parcel.from, wanted, parcel.ticket, error);
                    }
                }
            }
        });
        queue.unwrap_or_else(|| channel(1).0)
    }

    /// Carries a connection from its first byte to its last.
    async fn carry(self, stream: TcpStream, flow: Flow, waiting: Receiver<Parcel>) {
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        let writing = tokio::spawn(self.clone().write(write, flow, waiting));
        tokio::pin!(writing);
        tokio::select! {
            () = self.read(read, flow) => {}
            _ = &mut writing => {}
        }
        self.table().remove(flow.id);
        // The last answer still leaves; the writer ends when its queue does.
        let _ = timeout(STALL, &mut writing).await;
        self.tell_closed(flow);
    }

    fn tell_closed(&self, flow: Flow) {
        for address in self.post.seats(flow.transport, flow.local).into_iter().flat_map(|seats| seats.iter())
        {
            let _ = self.post.post(*address, Input::Closed { flow });
        }
    }

    async fn read(&self, mut stream: OwnedReadHalf, flow: Flow) {
        let mut framer = Framer::default();
        let mut buffer = vec![0; 16 * 1024];
        let mut due = Instant::now() + FIRST_WORD;
        while let Ok(Ok(count @ 1..)) = timeout_at(due, stream.read(&mut buffer)).await {
            let mut begins = framer.is_empty();
            framer.push(&buffer[..count]);
            while let Some(frame) = framer.poll() {
                begins = true;
                if !self.take(flow, frame) {
                    return;
                }
            }
            due = patience(framer.is_empty(), begins).map_or(due, |patience| Instant::now() + patience);
        }
    }

    /// Hands a frame on; `false`: it was the last one.
    fn take(&self, flow: Flow, frame: Frame) -> bool {
        let Some(seats) = self.post.seats(flow.transport, flow.local) else { return false };
        match frame {
            Frame::Message(bytes) => match Message::parse(bytes.clone()) {
                Ok(message) => {
                    let to = self.post.owner(seats, &message);
                    if let Err((_, input)) = self.post.post(to, Input::Message { flow, message }) {
                        self.refuse(to, input);
                    }
                }
                Err(_) => drop(self.post.post(seats[0], Input::Other { flow, bytes })),
            },
            Frame::Ping => self.send(seats[0], flow, Bytes::from_static(b"\r\n"), Ticket(0)),
            Frame::Pong => {}
            Frame::Broken { bytes, .. } => {
                let _ = self.post.post(seats[0], Input::Other { flow, bytes });
                return false;
            }
        }
        true
    }

    /// The lane is overrun: a new call is told to come back later.
    fn refuse(&self, from: Address, input: Input) {
        let Input::Message { flow, message } = input else { return };
        if message.is_request() && message.method() == Method::Invite {
            let response = proto::sip::reply(&message, 503, "overload").header(Name::RetryAfter, 5).finish();
            self.send(from, flow, response.bytes().clone(), Ticket(0));
        }
    }

    async fn write(self, mut stream: OwnedWriteHalf, flow: Flow, mut waiting: Receiver<Parcel>) {
        while let Some(parcel) = waiting.recv().await {
            let error = match timeout(STALL, stream.write_all(&parcel.bytes)).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => SendError::Closed,
                Err(_) => SendError::TimedOut,
            };
            self.failed(parcel.from, flow, parcel.ticket, error);
            waiting.close();
            while let Some(parcel) = waiting.recv().await {
                self.failed(parcel.from, flow, parcel.ticket, SendError::Closed);
            }
        }
    }
}

impl Table {
    fn find(&self, flow: Flow) -> Option<Sender<Parcel>> {
        let id = match flow.id {
            FlowId(0) => *self.by_remote.get(&(flow.transport, flow.local, flow.remote))?,
            id => id,
        };
        self.connections.get(&id).map(|connection| connection.queue.clone())
    }

    fn remove(&mut self, id: FlowId) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let flow = connection.flow;
        let key = (flow.transport, flow.local, flow.remote);
        if self.by_remote.get(&key) == Some(&id) {
            self.by_remote.remove(&key);
        }
    }

    fn has_room(&self, source: IpAddr) -> bool {
        let from_one =
            || self.connections.values().filter(|connection| connection.flow.remote.ip() == source).count();
        self.connections.len() < MOST
            && (self.connections.len() < MOST_FROM_ONE || from_one() < MOST_FROM_ONE)
    }
}

/// How long a connection may take to say the next thing after a piece was read: `None`, as long as it had before.
fn patience(nothing_waits: bool, a_message_begins: bool) -> Option<Duration> {
    match (nothing_waits, a_message_begins) {
        (true, _) => Some(IDLE),
        (false, true) => Some(WHOLE),
        (false, false) => None,
    }
}

/// Connects from the listener's own address.
async fn open(flow: Flow) -> Result<TcpStream, SendError> {
    if flow.transport != Transport::Tcp {
        return Err(SendError::Unreachable);
    }
    let connect = async {
        let socket = if flow.local.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(flow.local.ip(), 0))?;
        socket.connect(flow.remote).await
    };
    match timeout(CONNECT, connect).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(SendError::Refused),
        Ok(Err(_)) => Err(SendError::Unreachable),
        Err(_) => Err(SendError::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_has_begun_gets_no_more_time_however_often_a_byte_of_it_comes() {
        assert_eq!(patience(false, true), Some(WHOLE), "from its first byte on");
        assert_eq!(patience(false, false), None, "another byte of it");
        assert_eq!(patience(true, true), Some(IDLE), "its last");
    }
}
