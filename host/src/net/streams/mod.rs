//! Connections: SIP over TCP and TLS (RFC 3261 §18), and over WebSocket and secure WebSocket (RFC 7118); many messages
//! in each, reused by listener and remote address.
//!
//! Lanes know a connection as a [`FlowId`]. [`accept`] brings up those that come in, [`dial`] those we make; from then on
//! one task carries each: [`bytes`] frames a stream of bytes, [`websocket`] takes one message per WebSocket message, [`ng`]
//! does both for the relay's control protocol at listeners of its own. A connection's queue is bounded; a peer that does not
//! read for [`STALL`] loses it.

mod accept;
mod bytes;
mod dial;
mod ng;
mod table;
mod websocket;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ::bytes::Bytes;
use proto::node::{Flow, Input, SendError, Ticket, Transport};
use proto::sip::{Message, Method, Name};
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

pub(crate) use self::table::MOST;
use self::table::{Asked, Parcel, Table};
use self::websocket::Spoken;
use crate::lanes::post::{Address, PostOffice};
use crate::tables::SharedTables;
use crate::tls::Keyroom;

/// The answer to a ping (RFC 5626 §4.4.1).
const PONG: Bytes = Bytes::from_static(b"\r\n");
/// How long a peer may take to read one message.
const STALL: Duration = Duration::from_secs(10);
/// How long TLS and the WebSocket handshake may take together.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a new connection may say nothing …
const FIRST_WORD: Duration = Duration::from_secs(30);
/// … one that has spoken …
const IDLE: Duration = Duration::from_secs(4000);
/// … and how long a message may be on its way, from its first byte to its last: a drop now and then keeps no connection.
const WHOLE: Duration = Duration::from_secs(30);

/// All connections of the process. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Streams {
    post: Arc<PostOffice>,
    table: Arc<Mutex<Table>>,
    keys: Keyroom,
    is_a_phones: bool,
    /// Whose shield says who may not come in at all.
    guard: Option<Arc<SharedTables>>,
}

impl Streams {
    /// None yet.
    pub fn new(post: Arc<PostOffice>, keys: Keyroom) -> Streams {
        Streams { post, table: Arc::default(), keys, is_a_phones: false, guard: None }
    }

    /// Behind the shield of these tables: who is banned is not let in.
    pub fn guarded_by(self, tables: Arc<SharedTables>) -> Streams {
        Streams { guard: Some(tables), ..self }
    }

    /// As a phone's, which connects to a WebSocket (a server is only connected to), and is told of pongs.
    pub fn of_a_phone(self) -> Streams {
        Streams { is_a_phones: true, ..self }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table().len()
    }

    /// Connections may have to prove this domain from now on.
    pub fn expect(&self, domain: &str) {
        self.table().remember(domain);
    }

    /// Sends on the connection `flow` names, or on one to its remote address, which is made if need be.
    pub fn send(&self, from: Address, flow: Flow, bytes: Bytes, ticket: Ticket) {
        let waits = ticket != Ticket(0) && is_request(&bytes);
        let asked = waits.then(|| Asked { at: Instant::now(), from, ticket });
        let known = self.table().find(flow);
        let queue = match known {
            Some(queue) => queue,
            None if flow.id.is_connection() => return self.failed(from, flow, ticket, SendError::Closed),
            None => self.connect(flow),
        };
        match queue.try_send(Parcel { bytes, from, ticket }) {
            Ok(()) => asked.into_iter().for_each(|asked| self.table().asks(&flow, asked)),
            Err(TrySendError::Full(_)) => self.failed(from, flow, ticket, SendError::Busy),
            Err(TrySendError::Closed(_)) => self.failed(from, flow, ticket, SendError::Closed),
        }
    }

    /// Closes a connection once what waits in its queue has left.
    pub fn close(&self, flow: Flow) {
        self.table().remove(flow.id);
    }

    /// Closes every connection of a listener.
    pub fn close_all(&self, transport: Transport, local: SocketAddr) {
        self.table().remove_all(transport, local);
    }

    fn failed(&self, to: Address, flow: Flow, ticket: Ticket, error: SendError) {
        let _ = self.post.post(to, Input::SendFailed { ticket, flow, error });
    }

    /// Begins a connection; what is sent meanwhile waits in its queue.
    fn connect(&self, wanted: Flow) -> Sender<Parcel> {
        let (flow, waiting) = self.table().add(wanted);
        let (streams, queue) = (self.clone(), self.table().find(flow));
        tokio::spawn(async move {
            match streams.dial(wanted).await {
                Ok(line) => streams.carry(line, flow, waiting).await,
                Err(error) => {
                    streams.table().remove(flow.id);
                    streams.give_up(waiting, wanted, error).await;
                }
            }
        });
        queue.unwrap_or_else(|| channel(1).0)
    }

    /// Tells everybody whose message waits that it did not leave.
    async fn give_up(&self, mut waiting: Receiver<Parcel>, flow: Flow, error: SendError) {
        waiting.close();
        while let Some(parcel) = waiting.recv().await {
            self.failed(parcel.from, flow, parcel.ticket, error);
        }
    }

    /// Carries a connection from its first byte to its last. Requests that went by it and have no answer yet may have
    /// got lost with it (RFC 3261 §18.4): their senders are told.
    async fn carry(&self, line: Line, flow: Flow, waiting: Receiver<Parcel>) {
        let mut asked = match line {
            Line::Plain(stream) => self.carry_bytes(stream, flow, waiting).await,
            Line::Tls(stream) => self.carry_bytes(stream, flow, waiting).await,
            Line::Ws(socket, spoken) => self.carry_websocket(*socket, spoken, flow, waiting).await,
            Line::Wss(socket) => self.carry_websocket(*socket, Spoken::Sip, flow, waiting).await,
        };
        asked.extend(self.table().remove(flow.id));
        self.tell(flow, &Input::Closed { flow });
        for Asked { from, ticket, .. } in asked {
            self.failed(from, flow, ticket, SendError::Closed);
        }
    }

    /// Tells every service behind a listener.
    fn tell(&self, flow: Flow, input: &Input) {
        for address in self.post.seats(flow.transport, flow.local).into_iter().flat_map(|seats| seats.iter())
        {
            let _ = self.post.post(*address, input.clone());
        }
    }

    /// Hands a message on to the service it is for.
    fn deliver(&self, flow: Flow, bytes: Bytes) {
        let Some(seats) = self.post.seats(flow.transport, flow.local) else { return };
        match Message::parse(bytes.clone()) {
            Ok(message) => {
                self.note_alias(flow, &message);
                let to = self.post.owner(seats, &message);
                if let Err((_, input)) = self.post.post(to, Input::Message { flow, message }) {
                    self.refuse(to, input);
                }
            }
            Err(_) => self.deliver_other(flow, bytes),
        }
    }

    /// Hands on what is no message.
    fn deliver_other(&self, flow: Flow, bytes: Bytes) {
        if let Some(seats) = self.post.seats(flow.transport, flow.local) {
            let _ = self.post.post(seats[0], Input::Other { flow, bytes });
        }
    }

    /// Who sends requests over TLS and says `alias` wants to be met by the same connection (RFC 5923 §7).
    fn note_alias(&self, flow: Flow, message: &Message) {
        if flow.transport != Transport::Tls || !message.is_request() {
            return;
        }
        let Ok(via) = message.via() else { return };
        if via.params.get("alias").is_some() {
            self.table().alias(flow.id, via.port.unwrap_or(flow.transport.default_port()));
        }
    }

    /// The lane is overrun: a new call is told to come back later.
    fn refuse(&self, from: Address, input: Input) {
        let Input::Message { flow, message } = input else { return };
        if message.is_request() && message.method() == Method::Invite {
            let response = proto::sip::reply(&message, 503, "overload").header(Name::RetryAfter, 5).finish();
            self.send(from, flow, response.bytes().clone(), Ticket(0));
        }
    }

    /// Answers a keep-alive.
    fn answer_ping(&self, flow: Flow) {
        if let Some(seats) = self.post.seats(flow.transport, flow.local) {
            self.send(seats[0], flow, PONG, Ticket(0));
        }
    }
}

/// Whether an answer is to be expected: anything but a response and a keep-alive.
fn is_request(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_alphabetic) && !bytes.starts_with(b"SIP/2.0 ")
}

/// A connection that is up.
enum Line {
    Plain(tokio::net::TcpStream),
    Tls(Box<Tls>),
    Ws(Box<websocket::Socket<tokio::net::TcpStream>>, Spoken),
    Wss(Box<websocket::Socket<Tls>>),
}

type Tls = tokio_rustls::TlsStream<tokio::net::TcpStream>;
